#include "web/path.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool path_decode(const char *raw, char *out, size_t size)
{
    size_t n = 0;
    for (; *raw != '\0' && n + 1 < size; n++) {
        if (*raw != '%') {
            out[n] = *raw++;
            continue;
        }
        int high = hex(raw[1]), low = high >= 0 ? hex(raw[2]) : -1;
        if (low < 0 || (high | low) == 0)
            return false;
        out[n] = (char)(16 * high + low);
        raw += 3;
    }
    out[n] = '\0';
    return *raw == '\0';
}
