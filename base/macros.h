/* The few macros that every file may use. */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stddef.h>

/* The struct of `type` whose field `member` is what `ptr` points at. */
/* clang-format off */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
/* clang-format on */

/* The number of elements of an array; never of a pointer. */
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The compiler checks arguments as it does printf's: `fmt` and `args` count parameters from 1. */
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define MUST_USE __attribute__((warn_unused_result))

#ifdef __cplusplus
#define BASE_BEGIN extern "C" {
#define BASE_END }
#else
#define BASE_BEGIN
#define BASE_END
#endif

#endif
