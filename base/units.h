/*
 * Quantities as people write them, in configuration, on the command line and in answers.
 *
 *     durations  250ms 30s 5m 1h 7d 2w      a unit is required: "30" could be anything
 *     sizes      512 64MiB 1GB              a bare number is bytes; kB MB GB TB are 10^3, KiB MiB GiB TiB 2^10
 *     times      2026-11-22T04:32:39.5+01:00   RFC 3339 with Z or an offset; or -15m: that long before now
 *     counts     10000
 *     names      photos.small-2             of topics, groups and the like
 *
 * Numbers are whole; what does not fit, or is followed by anything else, is refused, never rounded
 * or cut. A parser returns 0 and sets *out, or returns EINVAL with a text that quotes the input and
 * says what is accepted, and leaves *out alone. What a formatter prints its parser reads back to
 * the same number. Any thread; nothing is allocated.
 */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    UNITS_TEXT_MAX = 48, /* room that every formatter here is content with */
    NAME_MAX_BYTES = 200,
};

/* Milliseconds. */
int duration_parse(const char *text, uint64_t *out_ms, struct err *e);

/* In the largest unit that needs no fraction: 90000 is "90s", 0 is "0ms". Returns `out`. */
char *duration_format(char out[UNITS_TEXT_MAX], uint64_t ms);

/* Bytes. */
int size_parse(const char *text, uint64_t *out_bytes, struct err *e);

/* In the largest binary unit that needs no fraction, else as bare bytes: 67108864 is "64MiB".
   Returns `out`. */
char *size_format(char out[UNITS_TEXT_MAX], uint64_t bytes);

/* Milliseconds since 1970; `now_ms` is what "-15m" counts from. Digits below the millisecond are
   dropped, the one exception to the rule above. Times before 1970 are refused. */
int time_parse(const char *text, uint64_t now_ms, uint64_t *out_ms, struct err *e);

/* 2026-11-22T04:32:39.123Z. Returns `out`. */
char *time_format(char out[UNITS_TEXT_MAX], uint64_t ms);

/* A whole number from `min` to `max`, both included. */
int count_parse(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *e);

/* 0 if `name` is 1 to NAME_MAX_BYTES of A-Z a-z 0-9 . _ -, else EINVAL; `what` is the noun of the
   text ("topic"). */
int name_check(const char *what, struct view name, struct err *e);

#endif
