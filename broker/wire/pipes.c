#include "wire/pipes.h"

#include <assert.h>
#include <pthread.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/planted.h"

const struct wire_bounds wire_bounds_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "wire/limits.def"
#undef X
};

struct pipe {
    const struct pipe_ops *ops;
    void *conn;
    uint64_t number;
    uint64_t since_ms;

    /* under lock */
    uint32_t holds;
    uint32_t unanswered, untaken; /* requests; the second counts the first too */
    uint64_t unread;              /* bytes of replies given and not taken */
    bool greeted;                 /* hello was sent */
    bool open;                    /* hello was accepted */
    bool closing;                 /* it was told to close, or is about to be */
    bool gone;
};

struct pipes {
    const struct wire_bounds *bounds;
    pthread_mutex_t lock;
    struct map by_number; /* those that are not gone */
    uint64_t last_number;
    uint32_t not_open;   /* of those */
    uint32_t unanswered; /* requests of all */
    uint64_t unread;     /* bytes of all */
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
    assert(p->unanswered == 0 && map_count(&p->by_number) == 0);
    map_free(&p->by_number);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

uint64_t pipe_number(const struct pipe *pipe)
{
    return pipe->number;
}

void pipe_send(struct pipe *pipe, struct packet *packet)
{
    pipe->ops->send(pipe->conn, packet);
}

void pipe_close(struct pipe *pipe)
{
    pipe->ops->close(pipe->conn);
}

/* ---------------------------------------------------------------- under lock */

static bool usable(const struct pipe *pipe)
{
    return !pipe->closing && !pipe->gone;
}

static bool may_ask(const struct pipes *p, const struct pipe *pipe)
{
    uint64_t max = p->bounds->requests_in_flight_max;
    return PLANTED(pipe_unbounded) || (pipe->unanswered < max && pipe->untaken < max + pipe->ops->lag);
}

static void forget_unread(struct pipes *p, struct pipe *pipe)
{
    p->unread -= pipe->unread;
    pipe->unread = 0;
}

static void set_closing(struct pipes *p, struct pipe *pipe)
{
    assert(usable(pipe));
    pipe->closing = true;
    forget_unread(p, pipe);
}

static void mark(struct pipes *p, struct pipe *pipe, struct buf *out)
{
    set_closing(p, pipe);
    pipe->holds++;
    buf_append(out, &pipe, sizeof(struct pipe *));
}

/* Whether it was the last hold: then release_now, without the lock. */
static bool let_go(struct pipe *pipe)
{
    assert(pipe->holds > 0);
    return --pipe->holds == 0;
}

static void release_now(struct pipe *pipe)
{
    assert(pipe->gone);
    pipe->ops->release(pipe->conn);
    mem_free(pipe);
}

/* ---------------------------------------------------------------- coming and going */

struct pipe *pipes_add(struct pipes *p, const struct pipe_ops *ops, void *conn, uint64_t now_ms)
{
    struct pipe *pipe = NULL;
    pthread_mutex_lock(&p->lock);
    if (!p->door_closed && map_count(&p->by_number) < p->bounds->pipes_max &&
        p->not_open < p->bounds->unauthenticated_pipes_max) {
        pipe = mem_zalloc(sizeof *pipe);
        *pipe = (struct pipe){
            .ops = ops, .conn = conn, .number = ++p->last_number, .since_ms = now_ms, .holds = 1};
        map_put(&p->by_number, pipe->number, pipe);
        p->not_open++;
    }
    pthread_mutex_unlock(&p->lock);
    return pipe;
}

uint64_t pipes_gone(struct pipes *p, struct pipe *pipe)
{
    uint64_t number = pipe->number;
    pthread_mutex_lock(&p->lock);
    map_del(&p->by_number, number);
    p->not_open -= !pipe->open;
    forget_unread(p, pipe);
    pipe->gone = true;
    bool last = let_go(pipe);
    pthread_mutex_unlock(&p->lock);
    if (last)
        release_now(pipe);
    return number;
}

void pipes_release(struct pipes *p, struct pipe *pipe)
{
    pthread_mutex_lock(&p->lock);
    bool last = let_go(pipe);
    pthread_mutex_unlock(&p->lock);
    if (last)
        release_now(pipe);
}

void pipes_close_door(struct pipes *p)
{
    pthread_mutex_lock(&p->lock);
    p->door_closed = true;
    pthread_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------- requests and replies */

enum pipe_verdict pipes_request(struct pipes *p, struct pipe *pipe, bool is_hello)
{
    enum pipe_verdict verdict = PIPE_OK;
    pthread_mutex_lock(&p->lock);
    if (!usable(pipe)) {
        verdict = PIPE_GONE;
    } else if (!may_ask(p, pipe)) {
        set_closing(p, pipe);
        verdict = PIPE_CLOSE;
    } else {
        verdict = is_hello || pipe->greeted || PLANTED(stranger_served) ? PIPE_OK : PIPE_NO_HELLO;
        pipe->greeted |= is_hello;
        pipe->unanswered++;
        pipe->untaken++;
        pipe->holds++;
        p->unanswered++;
    }
    pthread_mutex_unlock(&p->lock);
    return verdict;
}

void pipes_hello(struct pipes *p, struct pipe *pipe)
{
    pthread_mutex_lock(&p->lock);
    if (!pipe->open && !pipe->gone)
        p->not_open--;
    pipe->open = true;
    pthread_mutex_unlock(&p->lock);
    pipe->ops->trust(pipe->conn);
}

static void answered(struct pipes *p, struct pipe *pipe)
{
    assert(pipe->unanswered > 0);
    pipe->unanswered--;
    p->unanswered--;
}

static void written(struct pipes *p, struct pipe *pipe, size_t replies, size_t bytes)
{
    assert(pipe->untaken - pipe->unanswered >= replies);
    pipe->untaken -= (uint32_t)replies;
    if (usable(pipe)) {
        pipe->unread -= bytes;
        p->unread -= bytes;
    }
}

enum pipe_verdict pipes_answer(struct pipes *p, struct pipe *pipe, size_t bytes)
{
    enum pipe_verdict verdict = PIPE_GONE;
    pthread_mutex_lock(&p->lock);
    answered(p, pipe);
    if (usable(pipe) && pipe->unread + bytes > p->bounds->pipe_unread_bytes_max) {
        set_closing(p, pipe);
        verdict = PIPE_CLOSE;
    } else if (usable(pipe)) {
        pipe->unread += bytes;
        p->unread += bytes;
        if (!pipe->ops->measured)
            written(p, pipe, 1, bytes);
        verdict = PIPE_OK;
    }
    pthread_mutex_unlock(&p->lock);
    return verdict;
}

bool pipes_drop(struct pipes *p, struct pipe *pipe)
{
    pthread_mutex_lock(&p->lock);
    answered(p, pipe);
    bool tell = usable(pipe);
    if (tell)
        set_closing(p, pipe);
    pthread_mutex_unlock(&p->lock);
    return tell;
}

void pipes_written(struct pipes *p, struct pipe *pipe, size_t replies, size_t bytes)
{
    pthread_mutex_lock(&p->lock);
    written(p, pipe, replies, bytes);
    pthread_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------- who has to go */

size_t pipes_overdue(struct pipes *p, uint64_t now_ms, struct buf *out)
{
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    for (struct map_it it = map_iter(&p->by_number); map_next(&it);) {
        struct pipe *pipe = it.value;
        if (!usable(pipe) || pipe->open || now_ms < pipe->since_ms + p->bounds->hello_ms)
            continue;
        mark(p, pipe, out);
        n++;
    }
    pthread_mutex_unlock(&p->lock);
    return n;
}

static struct pipe *fattest(struct pipes *p)
{
    struct pipe *most = NULL;
    for (struct map_it it = map_iter(&p->by_number); map_next(&it);) {
        struct pipe *pipe = it.value;
        if (usable(pipe) && (most == NULL || pipe->unread > most->unread))
            most = pipe;
    }
    assert(most != NULL);
    return most;
}

size_t pipes_fat(struct pipes *p, struct buf *out)
{
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    for (; p->unread > p->bounds->unread_bytes_max; n++)
        mark(p, fattest(p), out);
    pthread_mutex_unlock(&p->lock);
    return n;
}

struct pipe *pipes_take_over(struct pipes *p, uint64_t number)
{
    pthread_mutex_lock(&p->lock);
    struct pipe *pipe = map_get(&p->by_number, number);
    if (pipe != NULL && usable(pipe)) {
        set_closing(p, pipe);
        pipe->holds++;
    } else {
        pipe = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    return pipe;
}

void pipes_totals(struct pipes *p, struct pipes_totals *out)
{
    pthread_mutex_lock(&p->lock);
    *out = (struct pipes_totals){.pipes = (uint32_t)map_count(&p->by_number),
                                 .not_open = p->not_open,
                                 .requests = p->unanswered,
                                 .unread_bytes = p->unread};
    pthread_mutex_unlock(&p->lock);
}
