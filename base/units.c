#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Input as error texts quote it: printable, and not longer than a line can bear. */
struct shown {
    char text[48];
};

static const char *show(struct shown *s, struct view input)
{
    static const char cut[] = "...";
    size_t room = sizeof s->text - sizeof cut;
    size_t size = input.size < room ? input.size : room;
    for (size_t i = 0; i < size; i++)
        s->text[i] = input.data[i] >= 0x20 && input.data[i] < 0x7f ? (char)input.data[i] : '?';
    memcpy(s->text + size, input.size > room ? cut : "", input.size > room ? sizeof cut : 1);
    return s->text;
}

#define SHOW(text) show(&(struct shown){{0}}, view_of_str(text))

/* ---- numbers and units ---- */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, as formatting looks for the first that divides. */
static const struct unit durations[] = {
    {"w", 604800000}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

static const struct unit sizes[] = {
    {"TiB", UINT64_C(1) << 40},
    {"TB", UINT64_C(1000000000000)},
    {"GiB", 1 << 30},
    {"GB", 1000000000},
    {"MiB", 1 << 20},
    {"MB", 1000000},
    {"KiB", 1 << 10},
    {"kB", 1000},
    {"B", 1},
    {"", 1},
    {NULL, 0},
};

enum digits { DIGITS_NONE, DIGITS_TOO_MANY, DIGITS_OK };

/* Reads digits and steps over them. */
static enum digits read_digits(const char **at, uint64_t *out)
{
    const char *start = *at;
    bool overflow = false;
    uint64_t n = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        overflow |= __builtin_mul_overflow(n, 10, &n);
        overflow |= __builtin_add_overflow(n, (uint64_t)(**at - '0'), &n);
    }
    *out = n;
    return *at == start ? DIGITS_NONE : overflow ? DIGITS_TOO_MANY : DIGITS_OK;
}

static const struct unit *find_unit(const struct unit *units, const char *name)
{
    while (units->name != NULL && strcmp(units->name, name) != 0)
        units++;
    return units->name != NULL ? units : NULL;
}

/* A number and one of `units`; `noun` and `accepted` are for the error. */
static int parse_quantity(const char *text, const struct unit *units, const char *noun, const char *accepted,
                          uint64_t *out, struct err *e)
{
    const char *at = text;
    uint64_t n;
    enum digits digits = read_digits(&at, &n);
    if (digits == DIGITS_NONE)
        return err_set(e, EINVAL, "'%s' is not a %s: write a whole number and %s", SHOW(text), noun,
                       accepted);
    const struct unit *unit = find_unit(units, at);
    if (unit == NULL)
        return err_set(e, EINVAL,
                       *at == '\0' ? "'%s' has no unit: a %s is a whole number and %s"
                                   : "'%s' has an unknown unit: a %s is a whole number and %s",
                       SHOW(text), noun, accepted);
    if (digits == DIGITS_TOO_MANY || __builtin_mul_overflow(n, unit->factor, &n))
        return err_set(e, EINVAL, "'%s' is too large for a %s", SHOW(text), noun);
    *out = n;
    return 0;
}

int duration_parse(const char *text, uint64_t *out_ms, struct err *e)
{
    return parse_quantity(text, durations, "duration", "ms, s, m, h, d or w", out_ms, e);
}

int size_parse(const char *text, uint64_t *out_bytes, struct err *e)
{
    return parse_quantity(text, sizes, "size", "nothing or B, kB, MB, GB, TB, KiB, MiB, GiB or TiB",
                          out_bytes, e);
}

char *duration_format(char out[UNITS_TEXT_MAX], uint64_t ms)
{
    const struct unit *unit = durations;
    while (unit->factor > 1 && (ms == 0 || ms % unit->factor != 0))
        unit++;
    snprintf(out, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms / unit->factor, unit->name);
    return out;
}

char *size_format(char out[UNITS_TEXT_MAX], uint64_t bytes)
{
    static const char *const binary[] = {"", "KiB", "MiB", "GiB", "TiB"};
    unsigned power = 0;
    for (; bytes != 0 && bytes % 1024 == 0 && power < ARRAY_LEN(binary) - 1; power++)
        bytes /= 1024;
    snprintf(out, UNITS_TEXT_MAX, "%" PRIu64 "%s", bytes, binary[power]);
    return out;
}

int count_parse(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *e)
{
    const char *at = text;
    uint64_t n;
    enum digits digits = read_digits(&at, &n);
    if (digits == DIGITS_NONE || *at != '\0')
        return err_set(e, EINVAL, "'%s' is not a whole number", SHOW(text));
    if (digits == DIGITS_TOO_MANY || n < min || n > max)
        return err_set(e, EINVAL, "'%s' is out of range: %" PRIu64 " to %" PRIu64, SHOW(text), min, max);
    *out = n;
    return 0;
}

/* ---- times ---- */

/* Reads exactly `count` digits as a number from `min` to `max`. */
static bool read_field(const char **at, int count, int min, int max, int *out)
{
    int n = 0;
    for (int i = 0; i < count; i++, ++*at) {
        if (**at < '0' || **at > '9')
            return false;
        n = 10 * n + (**at - '0');
    }
    *out = n;
    return n >= min && n <= max;
}

static bool read_char(const char **at, const char *any_of)
{
    if (**at == '\0' || strchr(any_of, **at) == NULL)
        return false;
    ++*at;
    return true;
}

/* ".123456": at least one digit; what lies below the millisecond is read over. */
static bool read_fraction(const char **at, int *out_ms)
{
    const char *start = *at;
    int ms = 0, factor = 100;
    for (; **at >= '0' && **at <= '9'; ++*at, factor /= 10)
        ms += factor * (**at - '0');
    *out_ms = ms;
    return *at != start;
}

/* "Z", "+01:00", "-05:30": seconds that local time is ahead of UTC. */
static bool read_offset(const char **at, int *out_s)
{
    *out_s = 0;
    if (read_char(at, "Zz"))
        return true;
    bool behind = **at == '-';
    int h, m;
    if (!read_char(at, "+-") || !read_field(at, 2, 0, 23, &h) || !read_char(at, ":") ||
        !read_field(at, 2, 0, 59, &m))
        return false;
    *out_s = (behind ? -60 : 60) * (60 * h + m);
    return true;
}

/* The date and time of RFC 3339; false if it is not one, or no such day exists. */
static bool read_rfc3339(const char *text, int64_t *out_ms)
{
    const char *at = text;
    struct tm tm = {0};
    int ms = 0, offset_s;
    if (!read_field(&at, 4, 0, 9999, &tm.tm_year) || !read_char(&at, "-") ||
        !read_field(&at, 2, 1, 12, &tm.tm_mon) || !read_char(&at, "-") ||
        !read_field(&at, 2, 1, 31, &tm.tm_mday) || !read_char(&at, "Tt") ||
        !read_field(&at, 2, 0, 23, &tm.tm_hour) || !read_char(&at, ":") ||
        !read_field(&at, 2, 0, 59, &tm.tm_min) || !read_char(&at, ":") ||
        !read_field(&at, 2, 0, 59, &tm.tm_sec))
        return false;
    if (read_char(&at, ".") && !read_fraction(&at, &ms))
        return false;
    if (!read_offset(&at, &offset_s) || *at != '\0')
        return false;

    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int day = tm.tm_mday;
    time_t s = timegm(&tm); /* makes 1 March of 30 February */
    *out_ms = ((int64_t)s - offset_s) * 1000 + ms;
    return tm.tm_mday == day;
}

int time_parse(const char *text, uint64_t now_ms, uint64_t *out_ms, struct err *e)
{
    int64_t ms;
    uint64_t back_ms;
    if (text[0] == '-' && duration_parse(text + 1, &back_ms, NULL) == 0) {
        if (back_ms > now_ms)
            return err_set(e, EINVAL, "'%s' is before 1970", SHOW(text));
        *out_ms = now_ms - back_ms;
        return 0;
    }
    if (!read_rfc3339(text, &ms))
        return err_set(e, EINVAL,
                       "'%s' is not a time: write one as 2026-11-22T04:32:39Z, or -15m for 15 minutes ago",
                       SHOW(text));
    if (ms < 0)
        return err_set(e, EINVAL, "'%s' is before 1970", SHOW(text));
    *out_ms = (uint64_t)ms;
    return 0;
}

char *time_format(char out[UNITS_TEXT_MAX], uint64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm); /* every uint64_t of milliseconds is a year that fits an int */
    snprintf(out, UNITS_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000));
    return out;
}

/* ---- names ---- */

static bool is_name_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

int name_check(const char *what, struct view name, struct err *e)
{
    struct shown shown;
    if (name.size == 0)
        return err_set(e, EINVAL, "the name of a %s must not be empty", what);
    if (name.size > NAME_MAX_BYTES)
        return err_set(e, EINVAL, "the name '%s' of a %s is longer than %d bytes", show(&shown, name), what,
                       NAME_MAX_BYTES);
    for (size_t i = 0; i < name.size; i++) {
        if (!is_name_char(name.data[i]))
            return err_set(e, EINVAL, "the name '%s' of a %s may hold only A-Z a-z 0-9 . _ -",
                           show(&shown, name), what);
    }
    return 0;
}
