#include "wire/pipes.h"

#include <assert.h>
#include <pthread.h>

#include "base/map.h"
#include "base/mem.h"

const struct wire_bounds wire_bounds_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "wire/limits.def"
#undef X
};

/* Replies that a client which keeps to the rules can have open at once: what nng's queue of 64 holds without dropping. */
enum { OPEN_REPLIES_MAX = 60 };

struct pipe {
    uint64_t number;
    uint32_t nng_id;
    uint32_t requests; /* not answered */
    bool measured;
    bool greeted; /* hello was sent */
    bool open;    /* hello was accepted */
    bool closing; /* nng was told, or is about to be */
    bool gone;    /* nng said so */
    uint64_t since_ms;
    struct {
        uint64_t replies, bytes;
    } given, taken; /* to nng; by nng to the kernel */
};

struct pipes {
    const struct wire_bounds *bounds;
    pthread_mutex_t lock;
    struct map by_nng;    /* of those that are not gone */
    struct map by_number; /* the same */
    uint64_t last_number;
    uint32_t greeting;    /* not open, not gone */
    uint32_t requests;    /* of all */
    uint64_t unread;      /* bytes given and not taken, of all */
    bool door_closed;
};

struct pipes *pipes_new(const struct wire_bounds *bounds)
{
    struct pipes *p = mem_zalloc(sizeof *p);
    p->bounds = bounds;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void pipes_free(struct pipes *p)
{
    assert(p->requests == 0);
    for (struct map_it it = map_iter(&p->by_nng); map_next(&it);)
        mem_free(it.value);
    map_free(&p->by_nng);
    map_free(&p->by_number);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

/* ---------------------------------------------------------------- under lock */

static uint64_t unread(const struct pipe *pipe)
{
    return pipe->measured && !pipe->gone ? pipe->given.bytes - pipe->taken.bytes : 0;
}

static uint64_t open_replies(const struct pipe *pipe)
{
    return pipe->measured ? pipe->given.replies - pipe->taken.replies : 0;
}

static bool usable(const struct pipe *pipe)
{
    return pipe != NULL && !pipe->closing && !pipe->gone;
}

static void set_closing(struct pipes *p, struct pipe *pipe)
{
    assert(usable(pipe));
    pipe->closing = true;
    p->unread -= unread(pipe);
    pipe->measured = false; /* its bytes are nng's to free: they count no more */
}

static void free_if_done(struct pipe *pipe)
{
    if (pipe->gone && pipe->requests == 0)
        mem_free(pipe);
}

/* `pipe` is not held by this request any more. */
static void answered(struct pipes *p, struct pipe *pipe)
{
    assert(pipe->requests > 0);
    pipe->requests--;
    p->requests--;
    free_if_done(pipe);
}

static void mark(struct pipes *p, struct pipe *pipe, struct buf *out)
{
    set_closing(p, pipe);
    buf_append(out, &pipe->nng_id, sizeof pipe->nng_id);
}

/* ---------------------------------------------------------------- coming and going */

bool pipes_add(struct pipes *p, uint32_t nng_id, bool measured, uint64_t now_ms)
{
    pthread_mutex_lock(&p->lock);
    bool room = !p->door_closed && map_count(&p->by_nng) < p->bounds->pipes_max &&
                p->greeting < p->bounds->unauthenticated_pipes_max && map_get(&p->by_nng, nng_id) == NULL;
    if (room) {
        struct pipe *pipe = mem_zalloc(sizeof *pipe);
        pipe->number = ++p->last_number;
        pipe->nng_id = nng_id;
        pipe->measured = measured;
        pipe->since_ms = now_ms;
        map_put(&p->by_nng, nng_id, pipe);
        map_put(&p->by_number, pipe->number, pipe);
        p->greeting++;
    }
    pthread_mutex_unlock(&p->lock);
    return room;
}

uint64_t pipes_remove(struct pipes *p, uint32_t nng_id)
{
    uint64_t number = 0;
    pthread_mutex_lock(&p->lock);
    struct pipe *pipe = map_del(&p->by_nng, nng_id);
    if (pipe != NULL) {
        number = pipe->number;
        map_del(&p->by_number, number);
        p->greeting -= !pipe->open;
        p->unread -= unread(pipe);
        pipe->gone = true;
        free_if_done(pipe);
    }
    pthread_mutex_unlock(&p->lock);
    return number;
}

void pipes_close_door(struct pipes *p)
{
    pthread_mutex_lock(&p->lock);
    p->door_closed = true;
    pthread_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------- requests and replies */

enum pipe_verdict pipes_request(struct pipes *p, uint32_t nng_id, bool is_hello, struct pipe **out, uint64_t *number)
{
    enum pipe_verdict verdict = PIPE_OK;
    pthread_mutex_lock(&p->lock);
    struct pipe *pipe = map_get(&p->by_nng, nng_id);
    if (!usable(pipe)) {
        verdict = PIPE_GONE;
    } else if (pipe->requests >= p->bounds->requests_in_flight_max) {
        set_closing(p, pipe);
        verdict = PIPE_CLOSE;
    } else {
        verdict = is_hello || pipe->greeted ? PIPE_OK : PIPE_NO_HELLO;
        pipe->greeted |= is_hello;
        pipe->requests++;
        p->requests++;
        *out = pipe;
        *number = pipe->number;
    }
    pthread_mutex_unlock(&p->lock);
    return verdict;
}

void pipes_hello(struct pipes *p, struct pipe *pipe)
{
    pthread_mutex_lock(&p->lock);
    if (!pipe->open && !pipe->gone)
        p->greeting--;
    pipe->open = true;
    pthread_mutex_unlock(&p->lock);
}

/* Whether `bytes` more may be unread, for all that is known. */
static bool fits(const struct pipes *p, const struct pipe *pipe, size_t bytes)
{
    return !pipe->measured || (unread(pipe) + bytes <= p->bounds->pipe_unread_bytes_max &&
                               p->unread + bytes <= p->bounds->unread_bytes_max);
}

enum pipe_verdict pipes_answer(struct pipes *p, struct pipe *pipe, size_t bytes, bool sure, uint32_t *nng_id)
{
    pthread_mutex_lock(&p->lock);
    enum pipe_verdict verdict = PIPE_GONE;
    *nng_id = pipe->nng_id;
    if (usable(pipe)) {
        bool good = fits(p, pipe, bytes);
        verdict = good ? PIPE_OK : sure ? PIPE_CLOSE : PIPE_UNSURE;
    }
    if (verdict == PIPE_OK) {
        pipe->given.replies++;
        pipe->given.bytes += bytes;
        p->unread += pipe->measured ? bytes : 0;
    } else if (verdict == PIPE_CLOSE) {
        set_closing(p, pipe);
    }
    if (verdict != PIPE_UNSURE)
        answered(p, pipe);
    pthread_mutex_unlock(&p->lock);
    return verdict;
}

bool pipes_drop(struct pipes *p, struct pipe *pipe, uint32_t *nng_id)
{
    pthread_mutex_lock(&p->lock);
    bool tell = usable(pipe);
    *nng_id = pipe->nng_id;
    if (tell)
        set_closing(p, pipe);
    answered(p, pipe);
    pthread_mutex_unlock(&p->lock);
    return tell;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void pipes_taken(struct pipes *p, uint32_t nng_id, uint64_t replies, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    struct pipe *pipe = map_get(&p->by_nng, nng_id);
    if (usable(pipe) && pipe->measured) {
        p->unread -= unread(pipe);
        pipe->taken.replies = least(replies, pipe->given.replies);
        pipe->taken.bytes = least(bytes, pipe->given.bytes);
        p->unread += unread(pipe);
    }
    pthread_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------- who has to go */

/* Marks all that `test` names. */
static size_t mark_all(struct pipes *p, bool (*test)(const struct pipes *p, const struct pipe *pipe, uint64_t arg), uint64_t arg,
                       struct buf *out)
{
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    for (struct map_it it = map_iter(&p->by_nng); map_next(&it);) {
        struct pipe *pipe = it.value;
        if (usable(pipe) && test(p, pipe, arg)) {
            mark(p, pipe, out);
            n++;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return n;
}

static bool is_overdue(const struct pipes *p, const struct pipe *pipe, uint64_t now_ms)
{
    return !pipe->open && now_ms - pipe->since_ms >= p->bounds->hello_ms;
}

size_t pipes_overdue(struct pipes *p, uint64_t now_ms, struct buf *out)
{
    return mark_all(p, is_overdue, now_ms, out);
}

static bool is_slow(const struct pipes *p, const struct pipe *pipe, uint64_t arg)
{
    (void)p;
    (void)arg;
    return open_replies(pipe) > OPEN_REPLIES_MAX;
}

size_t pipes_slow(struct pipes *p, struct buf *out)
{
    return mark_all(p, is_slow, 0, out);
}

size_t pipes_fat(struct pipes *p, size_t more, struct buf *out)
{
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    while (p->unread > 0 && p->unread + more > p->bounds->unread_bytes_max) {
        struct pipe *most = NULL;
        for (struct map_it it = map_iter(&p->by_nng); map_next(&it);) {
            struct pipe *pipe = it.value;
            if (usable(pipe) && (most == NULL || unread(pipe) > unread(most)))
                most = pipe;
        }
        assert(most != NULL);
        mark(p, most, out);
        n++;
    }
    pthread_mutex_unlock(&p->lock);
    return n;
}

bool pipes_close(struct pipes *p, uint64_t number, uint32_t *nng_id)
{
    pthread_mutex_lock(&p->lock);
    struct pipe *pipe = map_get(&p->by_number, number);
    bool there = usable(pipe);
    if (there) {
        set_closing(p, pipe);
        *nng_id = pipe->nng_id;
    }
    pthread_mutex_unlock(&p->lock);
    return there;
}

bool pipes_want_taken(struct pipes *p)
{
    pthread_mutex_lock(&p->lock);
    bool want = p->unread > p->bounds->unread_bytes_max / 2;
    for (struct map_it it = map_iter(&p->by_nng); !want && map_next(&it);)
        want = open_replies(it.value) > OPEN_REPLIES_MAX || unread(it.value) > p->bounds->pipe_unread_bytes_max / 2;
    pthread_mutex_unlock(&p->lock);
    return want;
}

void pipes_totals(struct pipes *p, struct pipes_totals *out)
{
    pthread_mutex_lock(&p->lock);
    *out = (struct pipes_totals){.pipes = (uint32_t)map_count(&p->by_nng), .greeting = p->greeting, .requests = p->requests,
                                 .unread_bytes = p->unread};
    pthread_mutex_unlock(&p->lock);
}
