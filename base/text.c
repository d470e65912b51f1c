#include "base/text.h"

#include "base/mem.h"

size_t utf8_size(const uint8_t *at, size_t left)
{
    static const struct {
        uint8_t mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t size = 1; size <= ARRAY_LEN(forms); size++) {
        if ((at[0] & forms[size - 1].mask) != forms[size - 1].lead)
            continue;
        if (size > left)
            return 0;
        uint32_t code = at[0] & (uint8_t)~forms[size - 1].mask;
        for (size_t i = 1; i < size; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (at[i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code < 0xe000;
        return code >= forms[size - 1].least && code <= 0x10ffff && !surrogate ? size : 0;
    }
    return 0;
}

char *utf8_text(const void *data, size_t size)
{
    char *text = mem_strndup(data, size);
    for (size_t i = 0, character; i < size; i += character) {
        character = utf8_size((const uint8_t *)text + i, size - i);
        if (character == 0 || text[i] == '\0') {
            text[i] = '?';
            character = 1;
        }
    }
    return text;
}

void put_base64(struct buf *to, const void *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = data;
    uint8_t *at = buf_reserve(to, (size + 2) / 3 * 4);
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        *at++ = (uint8_t)digits[three >> 18];
        *at++ = (uint8_t)digits[three >> 12 & 63];
        *at++ = left > 1 ? (uint8_t)digits[three >> 6 & 63] : '=';
        *at++ = left > 2 ? (uint8_t)digits[three & 63] : '=';
    }
    to->size += (size + 2) / 3 * 4;
}
