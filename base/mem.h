/*
 * Memory that is there, or the process is not.
 *
 * What was acknowledged is on disk, so a process that cannot get memory for its own bookkeeping
 * stops at once and recovers as after any crash; no caller needs an error path for it. Sizes that a
 * peer announces are another matter: those are asked for with mem_try, which may say no.
 *
 * Any thread may call anything here. Everything returned is freed with mem_free. A size of 0 is
 * good and gives a pointer that may be compared and freed, and is not NULL.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#include "base/macros.h"

BASE_BEGIN

/* `size` bytes, not cleared. Never NULL. */
void *mem_alloc(size_t size) MUST_USE;

/* `size` bytes, all zero. Never NULL. */
void *mem_zalloc(size_t size) MUST_USE;

/* `count` elements of `size` bytes, all zero; a product that overflows counts as memory that is not there. */
void *mem_array(size_t count, size_t size) MUST_USE;

/* Grows or shrinks `p` (NULL is good) to `size` bytes. Never NULL; the old pointer is gone. */
void *mem_realloc(void *p, size_t size) MUST_USE;

/* As mem_realloc, for `count` elements of `size` bytes. New elements are not cleared. */
void *mem_resize(void *p, size_t count, size_t size) MUST_USE;

/* A copy of `size` bytes. Never NULL, also for size 0, when `data` may be NULL. */
void *mem_dup(const void *data, size_t size) MUST_USE;

/* A copy of a string. `text` NULL gives NULL: the one case in which these return it. */
char *mem_strdup(const char *text) MUST_USE;

/* The first `size` bytes as a string with its closing zero. */
char *mem_strndup(const char *text, size_t size) MUST_USE;

/* `size` bytes, not cleared, or NULL: for sizes that somebody else chose. */
void *mem_try(size_t size) MUST_USE;

/* Grows or shrinks `p`, or NULL, and then `p` is as it was. */
void *mem_try_realloc(void *p, size_t size) MUST_USE;

/* NULL is good. */
void mem_free(void *p);

/* For tests: the n-th request for memory from now on (1 is the next) finds none, once; 0 calls it off. Returns how many requests were left
   of the call before. */
unsigned long mem_fail_at(unsigned long n);

/*
 * For tests: called in place of the message and abort when a request that must not fail does. If it
 * returns, the process aborts all the same, so it leaves by longjmp. NULL restores the default.
 */
void mem_on_exhausted(void (*fn)(size_t size));

BASE_END

#endif
