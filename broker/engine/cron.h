/* Times of the form "minute hour day month weekday", in UTC: which minutes they name, and the next of them. Pure functions. */
#ifndef ENGINE_CRON_H
#define ENGINE_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Bit n: the field names n. Days of the week from Sunday = 0. A day matches when both day fields do; if both are restricted (neither begins
 * with a '*'), when one of them does. */
struct cron { uint64_t minutes; uint32_t hours, days, months, weekdays; bool either_day; };

/* Five fields between blanks, each a list of: *, n, n-m, and steps of the first and the last ("*" "/15", "8-18/2"). Months are 1-12 or JAN-DEC,
 * weekdays 0-7 or SUN-SAT, 0 and 7 Sunday. Or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. Letters of either
 * case. Errors: INVALID_ARGUMENT, the text names the field. */
int cron_parse(struct view text, struct cron *out, struct err *e);
/* The first minute behind `after_ms` (since 1970) that matches; 0: none in the next eight years, the longest from one 29th of February to
 * the next. */
uint64_t cron_next(const struct cron *c, uint64_t after_ms);

#endif
