#include "wire/publish.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/map.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "wire/frame.h"
#include "wire/local.h"

enum {
    PUB_PROTOCOL = 0x20,
    SUB_PROTOCOL = 0x21,
    QUEUE_MAX = 16,            /* publications that wait for one subscriber */
    HINTS_BYTES_MAX = 4 << 20, /* waiting for the thread */
    ROWS_MAX = 1000,           /* of one publication, which is then well below what a subscriber hears */
    ALL_ROWS_MS = 60000
};

/* What comes to the thread: a hint, or the page of lag that it asked for. */
struct note {
    struct inbox_node node;
    bool page;
    uint32_t group;
    char channel[]; /* of a hint: "topic/group" */
};

struct publisher {
    const struct wire_bounds *bounds;
    struct wire_counters *counters;
    struct inbox inbox;
    pthread_t thread;
    pthread_mutex_t lock;
    struct map streams; /* subscribers, by their address; under lock */
    struct local_pub
        *local; /* those within the process; NULL: no such address. Set before the first of them comes */
    atomic_uint subscribers;
    atomic_bool newcomer; /* since the last round */
    atomic_bool stop;

    /* of the thread */
    struct lag_walk walk;
    struct note page;
    bool walking;
    uint64_t all_rows_ms; /* when all are to be published again */
    struct map published; /* group -> hash of its last row */
};

/* ---------------------------------------------------------------- sending */

/* To every subscriber, without waiting for any. */
static void send_all(struct publisher *p, struct packet *packet)
{
    if (packet == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    for (struct map_it it = map_iter(&p->streams); map_next(&it);)
        stream_send(it.value, packet_take(packet), QUEUE_MAX);
    if (p->local != NULL)
        local_pub_send(p->local, packet);
    pthread_mutex_unlock(&p->lock);
    packet_drop(packet);
}

static void publish_hint(struct publisher *p, const struct note *hint)
{
    send_all(p, frame_hint(hint->group, view_of_str(hint->channel)));
    COUNT(p->counters, hints);
}

/* What a subscriber acts on; the age of the oldest message is left out, as it changes all the time. */
static uint64_t row_hash(const struct wire_lag *row)
{
    const uint64_t facts[] = {row->lag_messages, row->lag_bytes,      row->in_flight,   row->delayed,
                              row->parked,       row->ack_rate_milli, row->scale_value, row->status};
    return key_hash(view_of(facts, sizeof facts)) | 1;
}

static void publish_rows(struct publisher *p, const struct wire_lag_reply *lag)
{
    struct wire_lag *changed = mem_array(lag->rows_n, sizeof *changed);
    uint32_t changed_n = 0;
    for (uint32_t i = 0; i < lag->rows_n; i++) {
        void *hash = (void *)(uintptr_t)row_hash(&lag->rows[i]);
        if (map_put(&p->published, lag->rows[i].group_id, hash) != hash)
            changed[changed_n++] = lag->rows[i];
    }
    for (uint32_t at = 0; at < changed_n; at += ROWS_MAX) {
        uint32_t n = changed_n - at < ROWS_MAX ? changed_n - at : ROWS_MAX;
        struct wire_reply reply = {.body = BODY_LAG,
                                   .lag = {.rows = changed + at, .rows_n = n, .more = lag->more || at + n < changed_n}};
        send_all(p, frame_publish(&reply, PUB_LAG, VIEW_LIT("lag")));
    }
    if (changed_n > 0)
        COUNT_BY(p->counters, lag_rows, changed_n);
    mem_free(changed);
}

/* ---------------------------------------------------------------- the thread */

static void page_came(struct lag_walk *w)
{
    struct publisher *p = container_of(w, struct publisher, walk);
    inbox_push(&p->inbox, &p->page.node, 0);
}

static void round_begin(struct publisher *p)
{
    if (p->walking || atomic_load(&p->subscribers) == 0 || atomic_load(&p->stop))
        return;
    uint64_t now_ms = clock_mono_ms();
    p->walk.changes = !atomic_exchange(&p->newcomer, false) && now_ms < p->all_rows_ms;
    if (!p->walk.changes) {
        p->all_rows_ms = now_ms + ALL_ROWS_MS;
        map_free(&p->published);
    }
    p->walking = true;
    api_lag_next(&p->walk);
}

static void page_take(struct publisher *p)
{
    const struct wire_reply *r = &p->walk.op.reply;
    if (r->code == E_OK && r->body == BODY_LAG)
        publish_rows(p, &r->lag);
    if (api_lag_more(&p->walk) && !atomic_load(&p->stop)) {
        api_lag_next(&p->walk);
        return;
    }
    api_lag_end(&p->walk);
    p->walking = false;
}

static void take_all(struct publisher *p)
{
    for (struct inbox_node *n = inbox_drain(&p->inbox), *next; n != NULL; n = next) {
        next = n->next;
        struct note *note = container_of(n, struct note, node);
        if (note->page) {
            page_take(p);
            continue;
        }
        publish_hint(p, note);
        mem_free(note);
    }
}

static void *run(void *arg)
{
    struct publisher *p = arg;
    uint64_t next_ms = clock_mono_ms() + p->bounds->lag_publish_ms;
    while (!atomic_load(&p->stop) || p->walking) {
        inbox_wait(&p->inbox, next_ms * 1000000);
        take_all(p);
        if (clock_mono_ms() < next_ms)
            continue;
        next_ms = clock_mono_ms() + p->bounds->lag_publish_ms;
        round_begin(p);
    }
    take_all(p);
    return NULL;
}

/* ---------------------------------------------------------------- subscribers */

static uint64_t key_of(const struct stream *s)
{
    return (uint64_t)(uintptr_t)s;
}

static bool on_opened(void *user, struct stream *s)
{
    struct publisher *p = user;
    bool room = atomic_fetch_add(&p->subscribers, 1) < p->bounds->subscribers_max;
    if (!room) {
        atomic_fetch_sub(&p->subscribers, 1);
        return false;
    }
    pthread_mutex_lock(&p->lock);
    map_put(&p->streams, key_of(s), s);
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->newcomer, true);
    return true;
}

static void on_message(void *user, struct stream *s, struct ref *bytes)
{
    (void)user;
    (void)s;
    ref_drop(bytes); /* does not come: who sends is closed */
}

static void on_written(void *user, struct stream *s, size_t packets, size_t bytes)
{
    (void)user;
    (void)s;
    (void)packets;
    (void)bytes;
}

static void on_closed(void *user, struct stream *s)
{
    struct publisher *p = user;
    pthread_mutex_lock(&p->lock);
    map_del(&p->streams, key_of(s));
    pthread_mutex_unlock(&p->lock);
    atomic_fetch_sub(&p->subscribers, 1);
}

static const struct stream_hooks hooks = {
    .opened = on_opened, .message = on_message, .written = on_written, .closed = on_closed};

struct listener_options publisher_listening(struct publisher *p)
{
    return (struct listener_options){.hooks = &hooks,
                                     .user = p,
                                     .self = PUB_PROTOCOL,
                                     .peer = SUB_PROTOCOL,
                                     .hears = false,
                                     .receive_bytes_max = p->bounds->hello_bytes_max,
                                     .greeting_max = p->bounds->greeting_pipes_max,
                                     .greeting_ms = p->bounds->hello_ms};
}

static void on_local(void *user, int change)
{
    struct publisher *p = user;
    atomic_fetch_add(&p->subscribers, (unsigned)change);
    if (change > 0)
        atomic_store(&p->newcomer, true);
}

int publisher_listen_local(struct publisher *p, const char *url, struct err *e)
{
    struct local_pub *local = NULL;
    if (p->local == NULL) {
        if (local_pub_open(&local, on_local, p, e) != E_OK)
            return e->code;
        pthread_mutex_lock(&p->lock);
        p->local = local;
        pthread_mutex_unlock(&p->lock);
    }
    return local_pub_listen(p->local, url, e);
}

/* ---------------------------------------------------------------- life */

int publisher_open(struct publisher **out, const struct publisher_options *o, struct err *e)
{
    struct publisher *p = mem_zalloc(sizeof *p);
    p->bounds = o->bounds;
    p->counters = o->counters;
    p->page.page = true;
    if (inbox_init(&p->inbox, HINTS_BYTES_MAX, e) != 0) {
        mem_free(p);
        return err_set(e, E_INTERNAL, "publisher: %s", e->text);
    }
    pthread_mutex_init(&p->lock, NULL);
    api_lag_begin(o->api, &p->walk, page_came);
    int failed = pthread_create(&p->thread, NULL, run, p);
    assert(failed == 0);
    (void)failed;
    pthread_setname_np(p->thread, "publish");
    *out = p;
    return E_OK;
}

void publisher_close(struct publisher *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->stop, true);
    inbox_wake(&p->inbox);
    pthread_join(p->thread, NULL);
    local_pub_close(p->local);
    api_lag_end(&p->walk);
    inbox_free(&p->inbox);
    map_free(&p->streams);
    map_free(&p->published);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

uint32_t publisher_subscribers(struct publisher *p)
{
    return atomic_load(&p->subscribers);
}

void publisher_hint(struct publisher *p, uint32_t group, const char *topic, const char *name)
{
    if (atomic_load_explicit(&p->subscribers, memory_order_relaxed) == 0)
        return;
    size_t size = strlen(topic) + 1 + strlen(name) + 1;
    struct note *note = mem_alloc(sizeof *note + size);
    note->page = false;
    note->group = group;
    snprintf(note->channel, size, "%s/%s", topic, name);
    if (!inbox_offer(&p->inbox, &note->node, sizeof *note + size)) {
        COUNT(p->counters, hints_dropped);
        mem_free(note);
    }
}
