#include "sdk/ahead.h"

#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "schemas/stored.h"

/* A fetch that is out. */
struct flight {
    struct ahead *ahead;
    uint64_t from, due_ns; /* due: when it is answered if nothing comes */
};

/* What a fetch brought. */
struct landing {
    bool is;
    uint64_t from, due_ns;
    struct answer *answer; /* NULL: `error` says why */
    struct sluice_error error;
};

struct ahead {
    atomic_uint refs; /* the reader's, and one of each flight */
    struct sluice *client;
    const char *topic;
    uint32_t index, partition, max_bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on the monotonic clock */
    /* under lock */
    struct flight *out;        /* that counts; NULL: none */
    struct landing landings[2]; /* in order; the second while the first is about to be taken */
    bool waiting;               /* a call waits for what is out ... */
    uint32_t wait_ms;           /* ... and waits so long at a time */
};

static void ahead_drop(struct ahead *a)
{
    if (atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

struct ahead *ahead_new(struct sluice *s, const char *topic, uint32_t index, uint32_t partition, uint32_t max_bytes)
{
    struct ahead *a = mem_zalloc(sizeof *a);
    atomic_init(&a->refs, 1);
    a->client = s;
    a->topic = topic;
    a->index = index;
    a->partition = partition;
    a->max_bytes = max_bytes;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return a;
}

static void landing_drop(struct landing *l)
{
    if (l->is)
        answer_drop(l->answer);
    l->is = false;
}

/* The first goes, the second takes its place. Under lock. */
static void shift(struct ahead *a)
{
    a->landings[0] = a->landings[1];
    a->landings[1].is = false;
}

void ahead_close(struct ahead *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->out = NULL;
    landing_drop(&a->landings[0]);
    landing_drop(&a->landings[1]);
    pthread_mutex_unlock(&a->lock);
    ahead_drop(a);
}

/* ---------------------------------------------------------------- flights */

static void fetch_before(struct request *r, bool may_wait)
{
    if (!may_wait)
        r->wait_ms = r->wire.fetch.wait_ms = 0;
}

static void landed(struct request *r, struct answer *answer, const struct sluice_error *error);

/* It is out from now on; `charged` of the budget goes with it. Under lock; the caller submits it. */
static struct request *flight_new(struct ahead *a, uint64_t from_offset, uint32_t wait_ms)
{
    struct request *q =
        client_request(a->client, VERB_FETCH, LANE_READS, "topic '%s', partition %u", a->topic, a->index);
    struct wire_fetch_from *from = arena_take(&q->memory, sizeof *from);
    *from = (struct wire_fetch_from){.partition = a->partition, .offset = from_offset, .max_bytes = a->max_bytes};
    q->wire.fetch = (struct wire_fetch){.from = from, .from_n = 1, .max_bytes = a->max_bytes, .wait_ms = wait_ms};
    q->wait_ms = wait_ms;
    q->before = fetch_before;
    q->deadline_ns = deadline_in((uint64_t)wait_ms + a->client->options.request_timeout_ms);
    q->done = landed;
    q->charged = a->max_bytes;
    struct flight *f = arena_take(&q->memory, sizeof *f);
    *f = (struct flight){.ahead = a, .from = from_offset, .due_ns = deadline_in(wait_ms)};
    q->owner = f;
    atomic_fetch_add(&a->refs, 1);
    a->out = f;
    return q;
}

static const struct wire_fetch_part *part_of(const struct answer *a)
{
    return a->reply.body == BODY_FETCH && a->reply.fetch.parts_n == 1 ? a->reply.fetch.parts : NULL;
}

/* Where a reader stands that has read all of an answer. False: it brought nothing, or not only messages. */
static bool ends_at(const struct answer *a, uint64_t *offset)
{
    const struct wire_fetch_part *part = part_of(a);
    if (part == NULL || part->code != 0 || part->has_gap || part->data.size == 0)
        return false;
    struct view rest = part->data, batch;
    while (rest.size > 0) {
        struct stored_header h;
        if (stored_next(&rest, &h, &batch, NULL) != 0)
            return false;
        *offset = h.base_offset + h.count;
    }
    return true;
}

/* The next leaves before it is asked for, if there is room. Under lock. NULL: it does not. */
static struct request *next_flight(struct ahead *a, const struct answer *answer, uint32_t wait_ms)
{
    uint64_t offset;
    if (wait_ms == 0 || a->out != NULL || !ends_at(answer, &offset) || !budget_take(&a->client->budget, a->max_bytes))
        return NULL;
    return flight_new(a, offset, wait_ms);
}

/* In the loop's thread. What nobody waits for and is no messages is as if it had not been asked. */
static void landed(struct request *r, struct answer *answer, const struct sluice_error *error)
{
    struct flight *f = r->owner;
    struct ahead *a = f->ahead;
    struct request *next = NULL;
    uint64_t end;
    pthread_mutex_lock(&a->lock);
    bool counts = a->out == f;
    if (counts)
        a->out = NULL;
    if (counts && (a->waiting || (error == NULL && ends_at(answer, &end)))) {
        struct landing *l = &a->landings[a->landings[0].is];
        *l = (struct landing){.is = true, .from = f->from, .due_ns = f->due_ns};
        if (error != NULL)
            l->error = *error;
        else
            l->answer = answer_take(answer);
        if (error == NULL && a->waiting)
            next = next_flight(a, answer, a->wait_ms);
        if (a->waiting)
            pthread_cond_signal(&a->changed);
        a->waiting = false;
    }
    struct sluice *s = a->client;
    pthread_mutex_unlock(&a->lock);
    ahead_drop(a);
    if (next != NULL)
        session_submit(&s->session, next);
}

/* ---------------------------------------------------------------- the call */

/* A flight of this call lands, or says why not. One that a longer call left behind may be due later than this one ends. */
static void await(struct ahead *a, bool own, uint64_t until_ns)
{
    bool lands = own || a->out->due_ns <= until_ns;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    int rv = 0;
    while (a->waiting && rv == 0)
        rv = lands ? pthread_cond_wait(&a->changed, &a->lock) : pthread_cond_timedwait(&a->changed, &a->lock, &until);
    a->waiting = false;
}

/* What landed and is of no use to a reader that stands at `offset` goes. */
static void tidy(struct ahead *a, uint64_t offset, uint32_t wait_ms)
{
    while (a->landings[0].is && a->landings[0].from != offset) {
        landing_drop(&a->landings[0]);
        shift(a);
    }
    if (a->out != NULL && (a->out->from != offset || wait_ms == 0)) /* who does not wait wants to know how it is now */
        a->out = NULL;
}

int ahead_fetch(struct ahead *a, uint64_t offset, uint32_t wait_ms, size_t *room, struct answer **out, bool *denied,
                struct sluice_error *err)
{
    struct sluice *s = a->client;
    struct request *next = NULL;
    uint64_t until_ns = deadline_in(wait_ms);
    int code = 0;
    *out = NULL;
    *denied = false;
    pthread_mutex_lock(&a->lock);
    tidy(a, offset, wait_ms);
    if (!a->landings[0].is) {
        bool own = a->out == NULL;
        if (own) {
            *room -= a->max_bytes;
            session_post(&s->session, flight_new(a, offset, wait_ms));
        }
        a->waiting = true;
        a->wait_ms = wait_ms;
        await(a, own, until_ns);
    }
    struct landing *l = &a->landings[0];
    if (l->is && l->answer != NULL) {
        *out = l->answer;
        if (!a->landings[1].is)
            next = next_flight(a, l->answer, wait_ms);
        *denied = part_of(l->answer) != NULL && part_of(l->answer)->data.size == 0 && clock_mono_ns() + NS_PER_MS < l->due_ns;
    } else if (l->is && l->error.code == E_AGAIN) { /* ended early, for others that wait */
        *denied = true;
    } else if (l->is) {
        code = fail_same(err, &l->error);
    }
    if (l->is)
        shift(a);
    pthread_mutex_unlock(&a->lock);
    if (next != NULL)
        session_post(&s->session, next);
    return code;
}
