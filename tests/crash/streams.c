#include "streams.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/rng.h"
#include "blame.h"
#include "crash.h"

enum {
    MEMBERS = 2,
    PARTITIONS_MAX = 16,
    WAIT_MS = 100,
    COMMIT_EVERY = 4,  /* polls */
    LEAVE_EVERY = 200, /* polls of the second member */
    TIMEOUT_MS = 20000, /* not heard of for so long: longer than a restart */
    CLOSE_MS = 20000,
    LOOK_MS = 20,
};

#define GROUP "audit"

struct streams {
    const char *url, *topic;
    uint32_t partitions;
    uint64_t seed;
    struct sluice *admin;
    struct blame wrong;
    pthread_t threads[MEMBERS];
    bool runs;
    atomic_int members; /* that were started */
    atomic_bool quit;

    pthread_mutex_t lock;
    struct { uint64_t next, committed; } parts[PARTITIONS_MAX]; /* next: behind the highest that was handed out */
    struct streams_totals totals;
};

static void complain(struct streams *x, const char *what, const struct sluice_error *err)
{
    blame(&x->wrong, "stream group of %s: %s: %s: %s", x->topic, what, sluice_code_name(err->code), err->text);
}

/* `next`: by partition, behind what this member was given last. */
static void handed_out(struct streams *x, const struct sluice_delivery *d, uint64_t *next)
{
    pthread_mutex_lock(&x->lock);
    if (d->offset < x->parts[d->partition].committed)
        blame(&x->wrong, "stream group of %s: message %" PRIu32 ":%" PRIu64 " was handed out, and all before %" PRIu64 " was committed", x->topic,
              d->partition, d->offset, x->parts[d->partition].committed);
    if (d->offset > x->parts[d->partition].next)
        blame(&x->wrong, "stream group of %s: lost: message %" PRIu32 ":%" PRIu64 " was handed out when %" PRIu64 " was next", x->topic, d->partition,
              d->offset, x->parts[d->partition].next);
    x->totals.handed_out++;
    x->totals.again += d->offset < x->parts[d->partition].next;
    if (d->offset == x->parts[d->partition].next)
        x->parts[d->partition].next++;
    next[d->partition] = d->offset + 1;
    pthread_mutex_unlock(&x->lock);
}

/* Commits what this member was given of each partition that it owns. */
static void commit(struct streams *x, struct sluice_stream *st, const uint64_t *next)
{
    struct sluice_position owned[PARTITIONS_MAX];
    struct sluice_error err;
    size_t n = sluice_stream_partitions(st, owned, PARTITIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct sluice_position p = {.partition = owned[i].partition, .offset = next[owned[i].partition]};
        int code = p.offset > 0 ? sluice_stream_commit(st, &p, 1, &err) : SLUICE_STALE_GENERATION;
        if (code == SLUICE_STALE_GENERATION)
            continue; /* whoever has it now reads it again */
        if (code != 0) {
            complain(x, "commit", &err);
            return;
        }
        pthread_mutex_lock(&x->lock);
        if (p.offset > x->parts[p.partition].committed)
            x->parts[p.partition].committed = p.offset;
        x->totals.commits++;
        pthread_mutex_unlock(&x->lock);
    }
}

static struct sluice_stream *join_group(struct streams *x, struct sluice *s)
{
    struct sluice_stream_options o = {.size = sizeof o, .session_timeout_ms = TIMEOUT_MS, .auto_commit_ms = UINT32_MAX};
    struct sluice_stream *st = NULL;
    struct sluice_error err;
    if (sluice_stream_open(s, x->topic, GROUP, &o, &st, &err) != 0)
        complain(x, "join", &err);
    pthread_mutex_lock(&x->lock);
    x->totals.joins++;
    pthread_mutex_unlock(&x->lock);
    return st;
}

static void *member(void *arg)
{
    struct streams *x = arg;
    int me = atomic_fetch_add(&x->members, 1);
    uint64_t next[PARTITIONS_MAX] = {0};
    struct sluice_options o = {.size = sizeof o, .broker = x->url};
    struct sluice_error err;
    struct sluice *s;
    struct rng rng;
    rng_seed(&rng, x->seed + (uint64_t)me);
    if (sluice_open(&s, &o, &err) != 0) {
        complain(x, "open", &err);
        return NULL;
    }
    struct sluice_stream *st = join_group(x, s);
    while (st != NULL && !atomic_load(&x->quit) && blamed(&x->wrong) == NULL) {
        struct sluice_batch *b;
        if (sluice_stream_poll(st, WAIT_MS, &b, &err) != 0) {
            complain(x, "poll", &err);
            break;
        }
        bool nothing = sluice_batch_count(b) == 0;
        for (size_t i = 0; i < sluice_batch_count(b); i++)
            handed_out(x, sluice_batch_message(b, i), next);
        sluice_batch_free(b);
        if (nothing || rng_chance(&rng, 1, COMMIT_EVERY))
            commit(x, st, next);
        if (me == 1 && rng_chance(&rng, 1, LEAVE_EVERY)) {
            if (sluice_stream_close(st, &err) != 0)
                complain(x, "leave", &err);
            memset(next, 0, sizeof next);
            st = join_group(x, s);
        }
    }
    if (st != NULL && sluice_stream_close(st, &err) != 0)
        complain(x, "leave", &err);
    if (sluice_close(s, CLOSE_MS, NULL, &err) != 0)
        complain(x, "close", &err);
    return NULL;
}

/* ---------------------------------------------------------------- life */

struct streams *streams_start(const char *url, const char *topic, uint32_t partitions, uint64_t seed)
{
    struct streams *x = calloc(1, sizeof *x);
    struct sluice_group_options g = {.size = sizeof g, .mode = SLUICE_STREAM};
    struct sluice_error err;
    pthread_mutex_init(&x->lock, NULL);
    x->url = url;
    x->topic = topic;
    x->partitions = partitions;
    x->seed = seed;
    x->admin = crash_open(url);
    crash_ok(sluice_group_create(x->admin, topic, GROUP, &g, NULL, &err), &err);
    for (int i = 0; i < MEMBERS; i++)
        assert_int_equal(pthread_create(&x->threads[i], NULL, member, x), 0);
    x->runs = true;
    return x;
}

static void join(struct streams *x)
{
    atomic_store(&x->quit, true);
    for (int i = 0; x->runs && i < MEMBERS; i++)
        pthread_join(x->threads[i], NULL);
    x->runs = false;
}

/* Where the log ends is committed. */
static bool all_done(struct streams *x)
{
    struct sluice_topic_list *topics;
    struct sluice_error err;
    bool all = true;
    crash_ok(sluice_topics(x->admin, x->topic, &topics, &err), &err);
    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->partitions; i++)
        all &= x->parts[i].committed == topics->topics[0].partitions[i].end;
    pthread_mutex_unlock(&x->lock);
    sluice_topics_free(topics);
    return all;
}

void streams_finish(struct streams *x, uint32_t timeout_ms)
{
    for (uint64_t until = clock_mono_ms() + timeout_ms; blamed(&x->wrong) == NULL && !all_done(x); poll(NULL, 0, LOOK_MS))
        if (clock_mono_ms() > until)
            blame(&x->wrong, "stream group of %s: lost: not everything was handed out and committed", x->topic);
    join(x);
}

const char *streams_wrong(struct streams *x) { return blamed(&x->wrong); }
struct streams_totals streams_totals(const struct streams *x) { return x->totals; }

void streams_free(struct streams *x)
{
    if (x == NULL)
        return;
    join(x);
    sluice_close(x->admin, 0, NULL, NULL);
    pthread_mutex_destroy(&x->lock);
    free(x);
}
