/* Times of the form "minute hour day month weekday": see cron.h. */
#include "engine/cron.h"

#include "base/mem.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- reading */

static const struct field { const char *name, *names; uint32_t low, high; } fields[] = {
    {"minute", "", 0, 59},
    {"hour", "", 0, 23},
    {"day", "", 1, 31},
    {"month", "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", 1, 12},
    {"weekday", "SUNMONTUEWEDTHUFRISAT", 0, 7},
};
enum { FIELDS = ARRAY_LEN(fields) };

static bool blank(uint8_t c) { return c == ' ' || c == '\t'; }
static uint8_t upper(uint8_t c) { return c >= 'a' && c <= 'z' ? (uint8_t)(c - 'a' + 'A') : c; }

static bool same(struct view text, const char *word)
{
    size_t i = 0;
    for (; i < text.size && word[i] != '\0'; i++)
        if (upper(text.data[i]) != upper((uint8_t)word[i]))
            return false;
    return i == text.size && word[i] == '\0';
}

/* Takes a number, or a name where the field has some, from the front of `text`. */
static bool take_value(struct view *text, const struct field *f, uint32_t *out)
{
    for (uint32_t i = 0; f->names[3 * i] != '\0' && text->size >= 3; i++)
        if (upper(text->data[0]) == (uint8_t)f->names[3 * i] && upper(text->data[1]) == (uint8_t)f->names[3 * i + 1] &&
            upper(text->data[2]) == (uint8_t)f->names[3 * i + 2]) {
            *out = f->low + i;
            *text = view_of(text->data + 3, text->size - 3);
            return true;
        }
    size_t n = 0;
    *out = 0;
    for (; n < text->size && n < 4 && text->data[n] >= '0' && text->data[n] <= '9'; n++)
        *out = *out * 10 + (text->data[n] - '0');
    *text = view_of(text->data + n, text->size - n);
    return n > 0;
}

static bool take(struct view *text, char c)
{
    if (text->size == 0 || text->data[0] != (uint8_t)c)
        return false;
    *text = view_of(text->data + 1, text->size - 1);
    return true;
}

/* One of a list: a star, a number or a range, and how far it steps. */
static bool read_part(struct view part, const struct field *f, uint64_t *bits)
{
    uint32_t low = f->low, high = f->high, step = 1;
    static const struct field plain = {.names = ""};
    bool range = take(&part, '*');
    if (range && f->high == 7)
        high = 6; /* each day once */
    if (!range) {
        if (!take_value(&part, f, &low))
            return false;
        high = low;
        if (take(&part, '-')) {
            range = true;
            if (!take_value(&part, f, &high))
                return false;
            if (f->high == 7 && high == 0 && low > 0) /* FRI-SUN */
                high = 7;
        }
    }
    if (take(&part, '/') && (!range || !take_value(&part, &plain, &step) || step == 0))
        return false;
    if (part.size > 0 || low < f->low || high > f->high || low > high)
        return false;
    for (uint32_t v = low; v <= high; v += step)
        *bits |= UINT64_C(1) << v;
    return true;
}

static bool read_field(struct view text, const struct field *f, uint64_t *bits)
{
    *bits = 0;
    while (true) {
        size_t n = 0;
        while (n < text.size && text.data[n] != ',')
            n++;
        if (!read_part(view_of(text.data, n), f, bits))
            return false;
        if (n == text.size)
            return true;
        text = view_of(text.data + n + 1, text.size - n - 1);
    }
}

static struct view take_word(struct view *text)
{
    size_t from = 0, to;
    while (from < text->size && blank(text->data[from]))
        from++;
    for (to = from; to < text->size && !blank(text->data[to]);)
        to++;
    struct view word = view_of(text->data + from, to - from);
    *text = view_of(text->data + to, text->size - to);
    return word;
}

static struct view macro(struct view word)
{
    static const struct { const char *name, *means; } macros[] = {
        {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
        {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}};
    for (size_t i = 0; i < ARRAY_LEN(macros); i++)
        if (same(word, macros[i].name))
            return view_of_str(macros[i].means);
    return view_of(NULL, 0);
}

int cron_parse(struct view text, struct cron *out, struct err *e)
{
    struct view rest = text, first = take_word(&rest);
    int size = (int)text.size;
    const char *shown = (const char *)text.data;
    if (first.size > 0 && first.data[0] == '@') {
        struct view means = macro(first);
        if (means.size == 0 || take_word(&rest).size > 0)
            return err_set(e, E_INVALID_ARGUMENT, "cron '%.*s': not one of @hourly, @daily, @weekly, @monthly, @yearly", size, shown);
        rest = means;
    } else {
        rest = text;
    }
    uint64_t bits[FIELDS];
    bool star[FIELDS];
    for (size_t i = 0; i < FIELDS; i++) {
        struct view word = take_word(&rest);
        if (word.size == 0)
            return err_set(e, E_INVALID_ARGUMENT, "cron '%.*s' has %zu fields, not minute hour day month weekday", size, shown, i);
        if (!read_field(word, &fields[i], &bits[i]))
            return err_set(e, E_INVALID_ARGUMENT, "cron '%.*s': '%.*s' is no %s", size, shown, (int)word.size, (const char *)word.data,
                           fields[i].name);
        star[i] = word.data[0] == '*';
    }
    if (take_word(&rest).size > 0)
        return err_set(e, E_INVALID_ARGUMENT, "cron '%.*s' has more than five fields", size, shown);
    *out = (struct cron){.minutes = bits[0], .hours = (uint32_t)bits[1], .days = (uint32_t)bits[2], .months = (uint32_t)bits[3],
                         .weekdays = (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f), .either_day = !star[2] && !star[4]};
    return E_OK;
}

/* ---------------------------------------------------------------- the next time */

struct date { uint32_t year, month, day; };

static bool leap(uint32_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static uint32_t month_days(const struct date *d)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return d->month == 2 && leap(d->year) ? 29 : days[d->month - 1];
}

/* The date of a day since 1970-01-01. Years are counted from March, so that the leap day is their last, in eras of 400 of them. */
static struct date date_of(uint64_t day)
{
    uint64_t z = day + 719468, era = z / 146097, doe = z - era * 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t march = (5 * doy + 2) / 153;
    struct date d = {.day = (uint32_t)(doy - (153 * march + 2) / 5 + 1), .month = (uint32_t)(march < 10 ? march + 3 : march - 9)};
    d.year = (uint32_t)(yoe + era * 400 + (d.month <= 2));
    return d;
}

static bool day_matches(const struct cron *c, const struct date *d, uint64_t day)
{
    bool by_date = (c->days >> d->day & 1) != 0, by_week = (c->weekdays >> (day + 4) % 7 & 1) != 0; /* 1970 began on a Thursday */
    return (c->months >> d->month & 1) != 0 && (c->either_day ? by_date || by_week : by_date && by_week);
}

/* The first minute of a day at or behind `from` that matches; -1: none. */
static int minute_in_day(const struct cron *c, uint32_t from)
{
    for (uint32_t m = from; m < 24 * 60; m = (m / 60 + 1) * 60) {
        if ((c->hours >> m / 60 & 1) == 0)
            continue;
        uint64_t left = c->minutes >> m % 60;
        if (left != 0)
            return (int)m + __builtin_ctzll(left);
    }
    return -1;
}

uint64_t cron_next(const struct cron *c, uint64_t after_ms)
{
    const uint64_t minute_ms = 60000, day_minutes = 24 * 60, days_max = 8 * 366;
    uint64_t from = after_ms / minute_ms + 1, first = from / day_minutes;
    struct date d = date_of(first);
    for (uint64_t day = first; day <= first + days_max; day++) {
        int minute = day_matches(c, &d, day) ? minute_in_day(c, day == first ? (uint32_t)(from % day_minutes) : 0) : -1;
        if (minute >= 0)
            return (day * day_minutes + (uint64_t)minute) * minute_ms;
        if (++d.day > month_days(&d)) {
            d.day = 1;
            d.year += d.month == 12;
            d.month = d.month % 12 + 1;
        }
    }
    return 0;
}
