/* The path of a URL with its %xx taken apart. */
#ifndef WEB_PATH_H
#define WEB_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Writes at most `size` bytes with the closing zero. False: too long, a % without two hex digits, or %00. */
bool path_decode(const char *raw, char *out, size_t size);

#endif
