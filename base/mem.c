#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_ulong fail_at; /* requests until the one that fails, which is 1; 0: none does */
static _Atomic(void (*)(size_t)) on_exhausted;

unsigned long mem_fail_at(unsigned long n)
{
    return atomic_exchange(&fail_at, n);
}

void mem_on_exhausted(void (*fn)(size_t size))
{
    atomic_store(&on_exhausted, fn);
}

/* Counts a request; true if it is the one to fail. */
static bool told_to_fail(void)
{
    unsigned long n = atomic_load_explicit(&fail_at, memory_order_relaxed);
    while (n != 0) {
        if (atomic_compare_exchange_weak(&fail_at, &n, n - 1))
            return n == 1;
    }
    return false;
}

static _Noreturn void exhausted(size_t size)
{
    void (*fn)(size_t) = atomic_load(&on_exhausted);
    if (fn != NULL) {
        fn(size);
    } else {
        char text[64];
        int length = snprintf(text, sizeof text, "out of memory: %zu bytes\n", size);
        ssize_t ignored = write(STDERR_FILENO, text, (size_t)length);
        (void)ignored;
    }
    abort();
}

/* malloc(0) may give NULL, which here would mean failure. */
static size_t at_least_one(size_t size)
{
    return size != 0 ? size : 1;
}

static size_t product(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        exhausted(SIZE_MAX);
    return total;
}

void *mem_try(size_t size)
{
    return told_to_fail() ? NULL : malloc(at_least_one(size));
}

void *mem_try_realloc(void *p, size_t size)
{
    return told_to_fail() ? NULL : realloc(p, at_least_one(size));
}

void *mem_alloc(size_t size)
{
    void *p = mem_try(size);
    if (p == NULL)
        exhausted(size);
    return p;
}

void *mem_zalloc(size_t size)
{
    void *p = told_to_fail() ? NULL : calloc(1, at_least_one(size));
    if (p == NULL)
        exhausted(size);
    return p;
}

void *mem_array(size_t count, size_t size)
{
    return mem_zalloc(product(count, size));
}

void *mem_realloc(void *p, size_t size)
{
    void *moved = mem_try_realloc(p, size);
    if (moved == NULL)
        exhausted(size);
    return moved;
}

void *mem_resize(void *p, size_t count, size_t size)
{
    return mem_realloc(p, product(count, size));
}

void *mem_dup(const void *data, size_t size)
{
    void *copy = mem_alloc(size);
    if (size != 0)
        memcpy(copy, data, size);
    return copy;
}

char *mem_strdup(const char *text)
{
    return text != NULL ? mem_dup(text, strlen(text) + 1) : NULL;
}

char *mem_strndup(const char *text, size_t size)
{
    if (size == SIZE_MAX)
        exhausted(size);
    char *copy = mem_alloc(size + 1);
    if (size != 0)
        memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

void mem_free(void *p)
{
    free(p);
}
