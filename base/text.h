/*
 * Bytes where text is wanted: what of them is UTF-8, and what stands for the rest.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/buf.h"

BASE_BEGIN

/* The length of the UTF-8 character that begins at `at`, of which `left` (1 or more) bytes are there; 0 if none does. */
size_t utf8_size(const uint8_t *at, size_t left);

/* The bytes as a string that is UTF-8: each byte that is no part of a character becomes '?', and so does a zero. Freed with mem_free. */
char *utf8_text(const void *data, size_t size);

/* Appends the bytes in base64, padded. */
void put_base64(struct buf *to, const void *data, size_t size);

BASE_END

#endif
