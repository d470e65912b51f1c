/* Worker daemons: who runs which handlers, as they say themselves each second, and what people asked of them meanwhile.
 *
 *                     report                             no report for worker_ttl_ms
 *     (unknown) ---------------> LIVE ------------------------------------------------> GONE --- worker_gone_ms ---> (forgotten)
 *                                 |  ^                      report                       |
 *                                 |  +---------------------------------------------------+
 *                                 +--- a report that says it leaves ---> (forgotten)
 *
 *     worker_control ---> asked of each handler that fits ---> in the answer to its daemon's report ---> confirmed by its next one
 *
 * All of it is in memory only: a broker that starts knows of nobody, and of everybody a second later. What was asked and not confirmed
 * before that is lost, and who asked can tell: numbers begin with the broker's epoch, so a daemon that is back shows a lower one.
 *
 * A daemon is a session: two of one name are two rows. One whose session was lost comes under another one, and is known by name,
 * host, process and start to be the same.
 *
 * Of a handler the last scale and the last pause or resume are kept, so what waits for a daemon is bounded. Asking again replaces.
 *
 * Thread: the loop's.
 */
#ifndef BROKER_WORKERS_H
#define BROKER_WORKERS_H

#include "engine/op.h"

struct workers_bounds {
#define X(name, unit, def, min, max, help) uint64_t name;
#include "broker/workers.def"
#undef X
};
extern const struct workers_bounds workers_bounds_default;

struct workers;

/* `bounds` outlive it. `epoch`: the broker's, at least 1. */
struct workers *workers_new(const struct workers_bounds *bounds, uint32_t epoch);
void workers_free(struct workers *w); /* NULL is fine */

/* Answers worker_report, worker_list or worker_control: fills op->reply, in whose arena everything is. `now_ms`: monotonic.
 * LIMIT: too many daemons, handlers or bytes; nothing of the report is kept. WORKER_NOT_FOUND: a control that reaches nobody. */
void workers_take(struct workers *w, struct op *op, uint64_t now_ms);

struct workers_counts { uint64_t live, gone, bytes; };
void workers_counts(struct workers *w, uint64_t now_ms, struct workers_counts *out);

/* Whether a text fits a pattern: '*' stands for any bytes or none, '?' for one. An absent pattern fits everything. */
bool workers_fits(struct view pattern, struct view text);

#endif
