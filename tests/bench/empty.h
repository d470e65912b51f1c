/* What the handlers that do nothing do all the same: they count, so that it is known how often one was called, and see whether the
   order of each key was kept. They say so at their end. */
#ifndef BENCH_EMPTY_H
#define BENCH_EMPTY_H

#include <inttypes.h>
#include <stdio.h>

#include <sluice/handler.h>

enum { EMPTY_PLACES = 1 << 18 };

static struct {
    uint64_t handled, disordered;
    struct {
        uint64_t key;  /* its hash, and partition */
        uint64_t next; /* offset */
    } places[EMPTY_PLACES];
} empty;

/* Of two keys with one place the later is watched from then on. */
static inline void empty_count(const struct sluice_task *t)
{
    uint64_t hash = t->partition + UINT64_C(0xcbf29ce484222325);
    empty.handled++;
    if (t->key.data == NULL)
        return;
    for (size_t i = 0; i < t->key.size; i++)
        hash = (hash ^ ((const uint8_t *)t->key.data)[i]) * UINT64_C(0x100000001b3);
    size_t at = (hash >> 40) % EMPTY_PLACES;
    if (empty.places[at].key == hash && t->offset < empty.places[at].next)
        empty.disordered++;
    empty.places[at].key = hash;
    empty.places[at].next = t->offset + 1;
}

static inline void empty_fini(const struct sluice_host *host, void *process)
{
    char text[96];
    (void)process;
    snprintf(text, sizeof text, "handled=%" PRIu64 " disordered=%" PRIu64, empty.handled, empty.disordered);
    ((sluice_log_fn *)host->function(host, "log"))(host, SLUICE_LOG_INFO, text);
}

#endif
