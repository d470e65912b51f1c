#include "workerd/text.h"

#include <stddef.h>

#include "base/mem.h"
#include "base/text.h"

char *text_clean(struct view v)
{
    if (v.size == 0)
        return NULL;
    char *text = mem_strndup((const char *)v.data, v.size);
    for (size_t i = 0, size; i < v.size; i += size) {
        size = utf8_size(v.data + i, v.size - i);
        if (size == 0 || (size == 1 && (v.data[i] < 0x20 || v.data[i] == 0x7f))) {
            text[i] = v.data[i] == '\n' || v.data[i] == '\t' ? ' ' : '?';
            size = 1;
        }
    }
    return text;
}
