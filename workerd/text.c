#include "workerd/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/mem.h"

/* The length of the UTF-8 character that begins at `at`, or 0 if none does. */
static size_t character(const uint8_t *at, size_t left)
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

char *text_clean(struct view v)
{
    if (v.size == 0)
        return NULL;
    char *text = mem_strndup((const char *)v.data, v.size);
    for (size_t i = 0, size; i < v.size; i += size) {
        size = character(v.data + i, v.size - i);
        if (size == 0 || (size == 1 && (v.data[i] < 0x20 || v.data[i] == 0x7f))) {
            text[i] = v.data[i] == '\n' || v.data[i] == '\t' ? ' ' : '?';
            size = 1;
        }
    }
    return text;
}
