/*
 * One topic at a broker with what was published to it, for one run: made, loaded, looked at, verified, deleted.
 */
#ifndef BENCH_STAGE_H
#define BENCH_STAGE_H

#include "broker.h"
#include "rival.h"
#include "verify.h"

struct stage {
    struct broker *broker;
    struct sluice *client;
    char topic[64];
    uint32_t partitions, streams;
    uint64_t keys;
    uint64_t *numbers;            /* by stream: how many were acknowledged */
    uint64_t taken;               /* leased and acknowledged */
};

enum { STAGE_NO_GROUP = 0 };      /* else an enum sluice_order: a queue group "bench" */

/* `streams`: at least as many as any work has connections; with keys it is their number. */
int stage_open(struct stage *s, struct broker *b, int durability, uint32_t partitions, uint64_t keys, uint32_t streams, int group,
               struct err *e);
void stage_close(struct stage *s); /* deletes the topic; fine after a failed open */
void stage_leave(struct stage *s); /* without deleting anything: for a client that was made before its broker was killed */

uint64_t stage_count(const struct stage *s); /* messages acknowledged */
int stage_publish(struct stage *s, const struct work *w, bool timed, struct outcome *out, struct err *e);
/* Takes what is there, until the work's end, or all was taken that the stage has now. `verify` may be NULL. */
int stage_lease(struct stage *s, const struct work *w, struct verify *verify, uint32_t handler_us, struct outcome *out, struct err *e);

/* Expects all that was acknowledged; in order where the stage has one, or of a queue group if `queue`. */
struct verify *stage_verify(const struct stage *s, bool ordered);
bool stage_ordered(const struct stage *s); /* its log has one order per stream */
/* Reads all of the log back. BENCH_VOID when something is wrong. */
int stage_check_log(struct stage *s, struct verdict *d, struct err *e);
/* What the group handed out is in `v`, which expects nothing; what it still has is purged: together it must be all. BENCH_VOID else. */
int stage_check_group(struct stage *s, const struct verify *v, struct verdict *d, struct err *e);

#endif
