#include "wire/stream.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

enum {
    GREETING_SIZE = 8,
    LENGTH_SIZE_MAX = 9,
    IN_SIZE =
        4096, /* small requests are read as many at a time as fit; larger ones into memory of their own */
    MESSAGE_SIZE_MIN = 4 /* the id */
};

struct stream {
    const struct stream_kind *kind;
    struct bytes *bytes;
    atomic_uint refs;
    void *owner;
    uint64_t since_ms;
    struct stream_link link;
    atomic_size_t receive_bytes_max;

    pthread_mutex_t lock;
    bool greeted, refused, closing, ended; /* under lock */
    bool receiving;                        /* one is outstanding; under lock */
    bool sending;                          /* one is outstanding, or what was written is being told of; under lock */
    struct packet **queue;                 /* a ring; under lock */
    size_t queue_cap, queue_first, queue_n;
    size_t first_sent; /* bytes of the first packet that are written; under lock */

    /* of the thread that received */
    struct ref *large; /* a message that did not fit `in`, being filled */
    size_t large_got;
    size_t in_size;
    _Alignas(8) uint8_t in[IN_SIZE];
};

/* ---------------------------------------------------------------- small questions */

struct stream *stream_take(struct stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

bool stream_try_take(struct stream *s)
{
    unsigned refs = atomic_load(&s->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&s->refs, &refs, refs + 1))
            return true;
    return false;
}

void stream_drop(struct stream *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        s->kind->hooks->done(s->kind->user, s);
}

void stream_trust(struct stream *s)
{
    atomic_store(&s->receive_bytes_max, s->kind->trusted_bytes_max);
}

void stream_set_owner(struct stream *s, void *owner)
{
    s->owner = owner;
}

void *stream_owner(const struct stream *s)
{
    return s->owner;
}

uint64_t stream_since_ms(const struct stream *s)
{
    return s->since_ms;
}

bool stream_polled(const struct stream *s)
{
    return s->bytes->polled;
}

bool stream_greeted(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool greeted = s->greeted;
    pthread_mutex_unlock(&s->lock);
    return greeted;
}

struct stream_link *stream_link(struct stream *s)
{
    return &s->link;
}

struct stream *stream_of_link(struct stream_link *l)
{
    return container_of(l, struct stream, link);
}

/* ---------------------------------------------------------------- the end, under lock */

static void queue_clear(struct stream *s)
{
    size_t keep = s->sending ? STREAM_SEND_AT_ONCE : 0; /* they may be being read */
    while (s->queue_n > keep) {
        s->queue_n--;
        packet_drop(s->queue[(s->queue_first + s->queue_n) % s->queue_cap]);
    }
}

static void close_locked(struct stream *s)
{
    if (s->closing)
        return;
    s->closing = true;
    s->bytes->ops->close(s->bytes); /* what is outstanding comes back now */
    queue_clear(s);
}

/* Nothing is outstanding and nothing will be: to be told by whoever saw it first. */
static bool ends_now(struct stream *s)
{
    if (!s->closing || s->receiving || s->sending || s->ended)
        return false;
    s->ended = true;
    queue_clear(s);
    return true;
}

/* Without the lock; the last that anybody hears of it but `done`. */
static void end(struct stream *s)
{
    if (s->greeted && !s->refused)
        s->kind->hooks->closed(s->kind->user, s);
    stream_drop(s);
}

void stream_close(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    close_locked(s);
    bool ends = ends_now(s);
    pthread_mutex_unlock(&s->lock);
    if (ends)
        end(s);
}

/* ---------------------------------------------------------------- sending */

/* What of a packet goes out: its data, and before it the length as this kind of connection wants it. */
static struct iovec bytes_of(const struct stream *s, const struct packet *p)
{
    size_t before = p->bare ? 0 : PACKET_LENGTH_SIZE + s->kind->length_after_1;
    return (struct iovec){.iov_base = p->data - before, .iov_len = p->size + before};
}

/* How many bytes of what waits the system took; 0: none yet; -1: it is broken. */
static ssize_t give(struct stream *s)
{
    struct iovec pieces[STREAM_SEND_AT_ONCE];
    unsigned n = 0;
    for (; n < STREAM_SEND_AT_ONCE && n < s->queue_n; n++)
        pieces[n] = bytes_of(s, s->queue[(s->queue_first + n) % s->queue_cap]);
    pieces[0].iov_base = (uint8_t *)pieces[0].iov_base + s->first_sent;
    pieces[0].iov_len -= s->first_sent;
    return s->bytes->ops->send(s->bytes, pieces, n);
}

/* Packets that were written whole. */
struct written {
    struct packet *packet[STREAM_SEND_AT_ONCE];
    size_t n;
    size_t messages, bytes; /* without the greeting */
};

/* Takes them off the queue. */
static void take_written(struct stream *s, size_t bytes, struct written *w)
{
    s->first_sent += bytes;
    while (s->queue_n > 0) {
        struct packet *p = s->queue[s->queue_first];
        size_t size = bytes_of(s, p).iov_len;
        if (s->first_sent < size)
            break;
        s->first_sent -= size;
        s->queue_first = (s->queue_first + 1) % s->queue_cap;
        s->queue_n--;
        w->messages += !p->bare;
        w->bytes += p->bare ? 0 : p->size;
        w->packet[w->n++] = p;
    }
}

/* Takes `bytes` that were written off the queue and tells of them. Under lock, which it leaves meanwhile: nobody else sends then. */
static void tell_written(struct stream *s, size_t bytes)
{
    struct written w = {.n = 0};
    take_written(s, bytes, &w);
    pthread_mutex_unlock(&s->lock);
    if (w.messages > 0)
        s->kind->hooks->written(s->kind->user, s, w.messages, w.bytes);
    for (size_t i = 0; i < w.n; i++)
        packet_drop(w.packet[i]);
    pthread_mutex_lock(&s->lock);
}

/* Sends what waits until the system takes no more; what others add meanwhile goes too. Under lock. */
static void send_waiting(struct stream *s)
{
    while (!s->sending && !s->closing && s->queue_n > 0) {
        s->sending = true;
        ssize_t n = give(s);
        if (n == 0)
            return; /* on_sent comes */
        if (n > 0)
            tell_written(s, (size_t)n);
        s->sending = false;
        if (n < 0)
            close_locked(s);
    }
}

static void queue_grow(struct stream *s)
{
    size_t cap = s->queue_cap > 0 ? 2 * s->queue_cap : 4;
    struct packet **queue = mem_array(cap, sizeof(struct packet *));
    for (size_t i = 0; i < s->queue_n; i++)
        queue[i] = s->queue[(s->queue_first + i) % s->queue_cap];
    mem_free(s->queue);
    s->queue = queue;
    s->queue_cap = cap;
    s->queue_first = 0;
}

bool stream_send(struct stream *s, struct packet *p, size_t queued_max)
{
    pthread_mutex_lock(&s->lock);
    bool takes = !s->closing && s->queue_n < queued_max;
    if (takes) {
        if (s->queue_n == s->queue_cap)
            queue_grow(s);
        s->queue[(s->queue_first + s->queue_n++) % s->queue_cap] = p;
        send_waiting(s);
    }
    pthread_mutex_unlock(&s->lock); /* should it have been the last that was outstanding, `over` is asked */
    if (!takes)
        packet_drop(p);
    return takes;
}

static void on_sent(void *arg, bool failed, size_t n)
{
    struct stream *s = arg;
    pthread_mutex_lock(&s->lock);
    if (!failed)
        tell_written(s, n);
    s->sending = false;
    if (failed)
        close_locked(s);
    send_waiting(s);
    bool ends = ends_now(s);
    pthread_mutex_unlock(&s->lock);
    if (ends)
        end(s);
}

/* Nothing is outstanding any more, unless a thread is still telling what it wrote. */
static bool is_over(void *arg)
{
    struct stream *s = arg;
    pthread_mutex_lock(&s->lock);
    bool ends = ends_now(s), over = s->ended;
    pthread_mutex_unlock(&s->lock);
    if (ends)
        end(s);
    return over;
}

/* ---------------------------------------------------------------- receiving */

static void receive_locked(struct stream *s)
{
    uint8_t *at = s->in + s->in_size;
    size_t size = IN_SIZE - s->in_size;
    if (s->large != NULL) {
        at = (uint8_t *)(uintptr_t)s->large->data + s->large_got;
        size = s->large->size - s->large_got;
    }
    s->receiving = s->bytes->ops->receive(s->bytes, at, size);
    if (!s->receiving)
        close_locked(s);
}

static void large_free(struct ref *r)
{
    mem_free(r->owner);
}

/* A message that is larger than what is read at a time gets memory of its own, once its length is known and allowed. */
static bool large_begin(struct stream *s, const uint8_t *bytes, size_t got, size_t size)
{
    void *room = mem_try(size);
    if (room == NULL)
        return false;
    memcpy(room, bytes, got);
    s->large = ref_wrap(room, size, large_free, room);
    s->large_got = got;
    return true;
}

static bool hear(struct stream *s, struct ref *message)
{
    if (!s->kind->hears) {
        ref_drop(message);
        return false;
    }
    s->kind->hooks->message(s->kind->user, s, message);
    return true;
}

/* The greeting of the other side; how many bytes it took, 0 when it is not whole yet. False: not one of those we speak with. */
static bool take_greeting(struct stream *s, size_t *took)
{
    const uint8_t want[GREETING_SIZE] = {
        0, 'S', 'P', 0, (uint8_t)(s->kind->peer >> 8), (uint8_t)s->kind->peer, 0, 0};
    size_t n = s->in_size < GREETING_SIZE ? s->in_size : GREETING_SIZE;
    if (memcmp(s->in, want, n) != 0)
        return false;
    *took = n < GREETING_SIZE ? 0 : GREETING_SIZE;
    if (*took == 0)
        return true;
    bool opened = s->kind->hooks->opened(s->kind->user, s);
    pthread_mutex_lock(&s->lock);
    s->greeted = true;
    s->refused = !opened;
    pthread_mutex_unlock(&s->lock);
    return opened;
}

/* The next message in `in` from *at on. False: its length is not one. *more: there may be another. */
static bool take_message(struct stream *s, size_t *at, bool *more)
{
    size_t head = PACKET_LENGTH_SIZE + s->kind->length_after_1, left = s->in_size - *at;
    const uint8_t *bytes = s->in + *at;
    *more = false;
    if (left < head)
        return true;
    uint64_t size = get_u64be(bytes + head - PACKET_LENGTH_SIZE);
    if ((s->kind->length_after_1 && bytes[0] != 1) || size < MESSAGE_SIZE_MIN ||
        size > atomic_load(&s->receive_bytes_max))
        return false;
    if (size <= left - head) {
        *at += head + size;
        *more = true;
        return hear(s, ref_new_copy(bytes + head, size));
    }
    if (size <= IN_SIZE - head)
        return true; /* the rest will fit */
    *at = s->in_size;
    return large_begin(s, bytes + head, left - head, size);
}

/* What came is in its place. False: the connection has to go. */
static bool take(struct stream *s, size_t count)
{
    if (s->large != NULL) {
        s->large_got += count;
        if (s->large_got < s->large->size)
            return true;
        struct ref *message = s->large;
        s->large = NULL;
        return hear(s, message);
    }
    s->in_size += count;
    size_t at = 0;
    bool good = true, more = true;
    if (!s->greeted) {
        good = take_greeting(s, &at);
        more = at > 0;
    }
    while (good && more)
        good = take_message(s, &at, &more);
    s->in_size -= at;
    memmove(s->in, s->in + at, s->in_size);
    return good;
}

static void on_received(void *arg, bool failed, size_t n)
{
    struct stream *s = arg;
    bool good = !failed && take(s, n);
    pthread_mutex_lock(&s->lock);
    s->receiving = false;
    if (!good)
        close_locked(s);
    if (!s->closing)
        receive_locked(s);
    bool ends = ends_now(s);
    pthread_mutex_unlock(&s->lock);
    if (ends)
        end(s);
}

/* ---------------------------------------------------------------- the beginning */

static struct packet *greeting(const struct stream_kind *kind)
{
    struct packet *p = packet_new(GREETING_SIZE);
    assert(p != NULL); /* memory of this size is bookkeeping (base/mem.h) */
    p->bare = true;
    p->data = p->room + PACKET_HEADROOM;
    p->size = GREETING_SIZE;
    memcpy(p->data, (const uint8_t[]){0, 'S', 'P', 0, (uint8_t)(kind->self >> 8), (uint8_t)kind->self, 0, 0},
           GREETING_SIZE);
    return p;
}

static void on_freed(void *arg)
{
    struct stream *s = arg;
    ref_drop(s->large);
    mem_free(s->queue);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

void stream_free(struct stream *s)
{
    s->bytes->ops->free(s->bytes); /* and then itself, when nobody asks it anything any more */
}

struct stream *stream_new(struct bytes *bytes, const struct stream_kind *kind, uint64_t now_ms)
{
    struct stream *s = mem_zalloc(sizeof *s);
    s->kind = kind;
    s->bytes = bytes;
    s->since_ms = now_ms;
    atomic_init(&s->refs, 1);
    atomic_init(&s->receive_bytes_max, kind->receive_bytes_max);
    pthread_mutex_init(&s->lock, NULL);
    bytes->owner = s;
    bytes->received = on_received;
    bytes->sent = on_sent;
    bytes->over = is_over;
    bytes->freed = on_freed;
    return s;
}

void stream_begin(struct stream *s)
{
    stream_take(s);
    stream_send(s, greeting(s->kind), 1);
    pthread_mutex_lock(&s->lock);
    if (!s->closing)
        receive_locked(s);
    bool ends = ends_now(s);
    pthread_mutex_unlock(&s->lock);
    if (ends)
        end(s);
    stream_drop(s);
}
