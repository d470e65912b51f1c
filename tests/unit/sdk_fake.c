#include "sdk_fake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/stored.h"

enum {
    TOPICS = 8,
    PARTITIONS = 16,
    GROUPS = 16,
    ROWS = 64,
    SESSIONS = 64,
    LANES = 64,
    RESULTS = 4096,
    SLOTS = 60,
    PEERS = 32,
    AWAIT_S = 20,
    TICK_MS = 10 /* the clock of those that wait */
};

struct batch {
    struct list_node node;
    uint64_t base;
    uint32_t count;
    struct buf entry; /* header, batch, padding */
    struct batch_reader reader;
};

struct partition {
    uint32_t id, index;
    struct list batches;
    uint64_t start, end;
};

struct topic {
    char name[64];
    uint32_t id, partitions_n;
    struct partition partitions[PARTITIONS];
};

struct message {
    struct list_node node;
    uint64_t offset;
    char *key, *value; /* key NULL: none */
    bool damaged;
};

/* A state row. */
struct row {
    uint32_t group;
    char key[64];
    uint64_t version; /* 0: it was removed */
    char value[256];
    size_t size;
};

struct group {
    struct topic *topic;
    char name[64];
    uint32_t id;
    struct list ready; /* messages */
    uint64_t given;
};

struct lane {
    uint32_t id;
    uint64_t base;      /* the lowest number not done */
    bool done[RESULTS]; /* of lane 0, by number */
    struct wire_produced results[RESULTS];
};

struct session {
    struct id128 id;
    uint32_t pipe;
    uint64_t counters[SLOTS];
    struct lane *lanes[LANES];
    size_t lanes_n;
};

/* A request that is kept: held by the script, or waiting. */
struct kept {
    struct list_node node;
    uint32_t pipe, tag;
    uint8_t *bytes; /* the frame */
    struct arena arena;
    struct wire_request r;
    uint64_t deadline_ms; /* of one that waits */
};

#ifdef __SANITIZE_THREAD__
/* nng is not instrumented: its atomics, and what they order, are not seen. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libnng.so\n";
}
#endif

/* A connection: what came and was not taken yet. */
struct peer {
    int fd;
    uint32_t pipe;
    bool greeted;
    struct buf in;
};

struct fake {
    char url[128];
    bool inproc, ipc;
    nng_socket socket; /* inproc */
    int listener;      /* else; -1 when deaf */
    int reserved;      /* tcp: has the port, also when deaf: nobody else gets it, and no client meets itself there */
    int kick[2];       /* a pipe that ends the thread's poll */
    struct peer peers[PEERS];
    uint32_t pipes;
    struct wire_limits limits;
    const char *http;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    fake_script *script;
    void *user;
    bool closing;
    struct topic topics[TOPICS];
    size_t topics_n;
    uint32_t next_id;
    struct group groups[GROUPS];
    size_t groups_n;
    struct session sessions[SESSIONS];
    size_t sessions_n;
    struct list held, waiting;
    struct row rows[ROWS];
    size_t rows_n;
    uint64_t versions;
    uint64_t token;
    struct fake_seen *seen;
    size_t seen_n;
};

/* ---------------------------------------------------------------- answering */

static void kept_free(struct kept *k)
{
    mem_free(k->bytes);
    arena_free(&k->arena);
    mem_free(k);
}

static struct peer *peer_of(struct fake *f, uint32_t pipe)
{
    for (size_t i = 0; i < PEERS; i++) {
        if (f->peers[i].fd >= 0 && f->peers[i].pipe == pipe)
            return &f->peers[i];
    }
    return NULL;
}

static void close_pipe(struct fake *f, uint32_t pipe)
{
    if (f->inproc) {
        nng_pipe_close((nng_pipe){.id = pipe});
        return;
    }
    struct peer *p = peer_of(f, pipe);
    if (p == NULL)
        return;
    close(p->fd);
    p->fd = -1;
    buf_free(&p->in);
}

/* A client that is gone does not matter. */
static void write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static void send_inproc(struct fake *f, const struct kept *k, const uint8_t *frame, size_t size)
{
    nng_msg *m;
    assert_int_equal(nng_msg_alloc(&m, size), 0);
    memcpy(nng_msg_body(m), frame, size);
    nng_msg_header_append_u32(m, k->pipe);
    nng_msg_header_append_u32(m, k->tag);
    if (nng_sendmsg(f->socket, m, 0) != 0)
        nng_msg_free(m);
}

static void send_plain(struct fake *f, const struct kept *k, const uint8_t *frame, size_t size)
{
    struct peer *p = peer_of(f, k->pipe);
    if (p == NULL)
        return;
    struct buf out = {0};
    if (f->ipc)
        buf_put_u8(&out, 1);
    buf_put_u64be(&out, size + 4);
    buf_put_u32be(&out, k->tag);
    buf_append(&out, frame, size);
    write_all(p->fd, out.data, out.size);
    buf_free(&out);
}

static void answer(struct fake *f, struct kept *k, const struct wire_reply *reply, bool garble)
{
    size_t bound = codec_reply_bound(reply) + 16;
    uint8_t *memory = mem_alloc(16 + bound);
    struct codec_space space = {.data = memory + 16, .cap = bound};
    assert_int_equal(codec_reply_encode(reply, &space), 0);
    uint8_t *head = space.data + space.at - FRAME_SIZE;
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)k->r.verb, .flags = FRAME_REPLY},
              head + FRAME_SIZE, space.size);
    head[FRAME_SIZE + space.size / 2] ^= garble;
    (f->inproc ? send_inproc : send_plain)(f, k, head, FRAME_SIZE + space.size);
    mem_free(memory);
}

static void refuse(struct wire_reply *reply, int code, const char *detail)
{
    *reply = (struct wire_reply){.code = (uint16_t)code, .detail = view_of_str(detail)};
}

/* ---------------------------------------------------------------- topics and the log */

static struct topic *find_topic(struct fake *f, struct view name)
{
    for (size_t i = 0; i < f->topics_n; i++) {
        if (view_eq(view_of_str(f->topics[i].name), name))
            return &f->topics[i];
    }
    return NULL;
}

static struct partition *find_partition(struct fake *f, uint32_t id)
{
    for (size_t i = 0; i < f->topics_n; i++) {
        for (uint32_t k = 0; k < f->topics[i].partitions_n; k++) {
            if (f->topics[i].partitions[k].id == id && f->topics[i].name[0] != '\0')
                return &f->topics[i].partitions[k];
        }
    }
    return NULL;
}

static void append(struct partition *p, const struct wire_produce *w)
{
    struct batch *b = mem_zalloc(sizeof *b);
    uint8_t header[STORED_HEADER_SIZE];
    b->base = p->end;
    b->count = w->count;
    stored_header_put(header, &(struct stored_header){.level = DURABILITY_DISK,
                                                      .epoch = 1,
                                                      .count = w->count,
                                                      .size = (uint32_t)w->batch.size,
                                                      .turn = 1,
                                                      .base_offset = b->base,
                                                      .append_time_ms = 1000 + b->base,
                                                      .batch_hash = w->batch_hash});
    buf_append(&b->entry, header, sizeof header);
    buf_append(&b->entry, w->batch.data, w->batch.size);
    while (b->entry.size % STORED_ALIGN != 0)
        buf_put_u8(&b->entry, 0);
    assert_int_equal(
        batch_reader_open(&b->reader, view_of(b->entry.data + STORED_HEADER_SIZE, w->batch.size), NULL), 0);
    p->end += w->count;
    list_push_back(&p->batches, &b->node);
}

/* Appends, or says under which name it waits; which then is all that becomes of it. */
static void produced(struct partition *p, const struct wire_produce *w, struct wire_produced *out)
{
    *out = (struct wire_produced){.partition = p->id, .count = w->count, .base_offset = p->end};
    if (w->delay_ms != 0 || w->at_ms != 0 || w->cron.size > 0) {
        out->base_offset = 0;
        out->due_ms = w->at_ms != 0 ? w->at_ms : 5000 + w->delay_ms;
        out->name = w->name.size > 0 ? w->name : VIEW_LIT("made-up");
    } else {
        append(p, w);
    }
}

static void do_topic_list(struct fake *f, const struct wire_list *w, struct wire_reply *reply,
                          struct arena *a)
{
    struct topic *t = find_topic(f, w->name);
    if (t == NULL) {
        refuse(reply, E_TOPIC_NOT_FOUND, "?");
        return;
    }
    struct wire_partition *parts = arena_take(a, t->partitions_n * sizeof *parts);
    for (uint32_t i = 0; i < t->partitions_n; i++) {
        struct partition *p = &t->partitions[i];
        parts[i] = (struct wire_partition){
            .id = p->id, .index = i, .start = p->start, .end = p->end, .visible = p->end};
    }
    struct wire_topic *row = arena_take(a, sizeof *row);
    *row = (struct wire_topic){.name = view_of_str(t->name),
                               .id = t->id,
                               .partitions_n = t->partitions_n,
                               .partitions = parts,
                               .config = {.partitions = t->partitions_n, .message_bytes_max = 1 << 20}};
    reply->body = BODY_TOPICS;
    reply->topics = (struct wire_topic_reply){.topics = row, .topics_n = 1};
}

static void do_group_list(struct fake *f, const struct wire_list *w, struct wire_reply *reply,
                          struct arena *a)
{
    for (size_t i = 0; i < f->groups_n; i++) {
        struct group *g = &f->groups[i];
        if (!view_eq(view_of_str(g->name), w->name) || !view_eq(view_of_str(g->topic->name), w->topic))
            continue;
        struct wire_group *row = arena_take(a, sizeof *row);
        *row = (struct wire_group){.topic = w->topic,
                                   .name = w->name,
                                   .id = g->id,
                                   .topic_id = g->topic->id,
                                   .config = {.mode = MODE_QUEUE}};
        reply->body = BODY_GROUPS;
        reply->groups = (struct wire_group_reply){.groups = row, .groups_n = 1};
        return;
    }
    refuse(reply, E_GROUP_NOT_FOUND, "?");
}

/* False: it waits. */
static bool do_fetch(struct fake *f, const struct wire_fetch *w, struct wire_reply *reply, struct arena *a,
                     bool wait)
{
    struct wire_fetch_part *part = arena_take(a, sizeof *part);
    struct partition *p = find_partition(f, w->from[0].partition);
    uint64_t from = w->from[0].offset;
    reply->body = BODY_FETCH;
    reply->fetch.parts = part;
    reply->fetch.parts_n = 1;
    part->partition = w->from[0].partition;
    if (p == NULL) {
        part->code = E_PARTITION_NOT_FOUND;
        return true;
    }
    part->start = p->start;
    part->end = p->end;
    if (from > p->end)
        part->code = E_OFFSET_OUT_OF_RANGE;
    if (from < p->start) {
        part->has_gap = true;
        part->gap = (struct wire_gap){.from = from, .to = p->start, .from_time_ms = 1000, .to_time_ms = 2000, .why = GAP_RETENTION};
        from = p->start;
    }
    struct buf data = {0};
    LIST_EACH (n, &p->batches) {
        struct batch *b = container_of(n, struct batch, node);
        if (b->base + b->count > from && (data.size == 0 || data.size + b->entry.size <= w->max_bytes))
            buf_append(&data, b->entry.data, b->entry.size);
    }
    if (data.size > 0) {
        uint8_t *copy = arena_take(a, data.size);
        memcpy(copy, data.data, data.size);
        part->data = view_of(copy, data.size);
    }
    bool something = data.size > 0 || part->has_gap || part->code != 0;
    buf_free(&data);
    return something || !wait;
}

/* ---------------------------------------------------------------- sessions and lanes */

static struct session *find_session(struct fake *f, struct id128 id)
{
    for (size_t i = 0; i < f->sessions_n; i++) {
        if (id128_eq(f->sessions[i].id, id))
            return &f->sessions[i];
    }
    return NULL;
}

static void do_hello(struct fake *f, const struct wire_request *r, uint32_t pipe, struct wire_reply *reply)
{
    struct session *s = find_session(f, r->session);
    if (r->hello.resume && s == NULL) {
        refuse(reply, E_SESSION_EXPIRED, NULL);
        return;
    }
    if (s == NULL) {
        assert_true(f->sessions_n < SESSIONS);
        s = &f->sessions[f->sessions_n++];
        *s = (struct session){.id = r->session};
    }
    s->pipe = pipe;
    reply->body = BODY_HELLO;
    reply->hello = (struct wire_hello_reply){
        .version = WIRE_VERSION, .resumed = r->hello.resume, .limits = f->limits, .http = view_of_str(f->http), .epoch = 1};
}

static void drop_session(struct fake *f, struct session *s)
{
    for (size_t k = 0; k < s->lanes_n; k++)
        mem_free(s->lanes[k]);
    *s = f->sessions[--f->sessions_n];
}

static struct lane *lane_of(struct session *s, uint32_t id)
{
    for (size_t i = 0; i < s->lanes_n; i++) {
        if (s->lanes[i]->id == id)
            return s->lanes[i];
    }
    assert_true(s->lanes_n < LANES);
    struct lane *l = mem_zalloc(sizeof *l);
    l->id = id;
    l->base = 1;
    return s->lanes[s->lanes_n++] = l;
}

static void do_produce(struct fake *f, struct session *s, const struct wire_request *r,
                       struct wire_reply *reply)
{
    struct lane *l = lane_of(s, r->lane);
    assert_int_equal(r->lane, r->produce.partition);
    assert_true(r->seq < RESULTS);
    reply->body = BODY_PRODUCE;
    reply->durability = DURABILITY_DISK;
    if (r->seq < l->base) {
        assert_true(r->seq > r->replies_seen); /* a result that the client has seen is not kept */
        reply->produce = l->results[r->seq];
        return;
    }
    if (r->seq > l->base) {
        refuse(reply, E_OUT_OF_ORDER, "an earlier one is missing");
        return;
    }
    struct partition *p = find_partition(f, r->produce.partition);
    if (p == NULL) {
        refuse(reply, E_PARTITION_NOT_FOUND, "partition");
        return;
    }
    assert_int_equal(batch_hash(r->produce.batch), r->produce.batch_hash);
    produced(p, &r->produce, &reply->produce);
    l->results[l->base++] = reply->produce;
}

static struct row *find_row(struct fake *f, uint32_t group, struct view key)
{
    for (size_t i = 0; i < f->rows_n; i++) {
        if (f->rows[i].group == group && view_eq(view_of_str(f->rows[i].key), key))
            return &f->rows[i];
    }
    return NULL;
}

static void put_row(struct fake *f, const struct wire_state_put *w)
{
    struct row *row = find_row(f, w->group, w->key);
    if (row == NULL) {
        assert_true(f->rows_n < ROWS && w->key.size < sizeof row->key && w->value.size <= sizeof row->value);
        row = &f->rows[f->rows_n++];
        *row = (struct row){.group = w->group};
        memcpy(row->key, w->key.data, w->key.size);
    }
    row->version = w->remove ? 0 : ++f->versions;
    row->size = w->value.size;
    if (w->value.size > 0)
        memcpy(row->value, w->value.data, w->value.size);
}

/* Whole, or refused. */
static int do_unit(struct fake *f, const struct wire_unit *u, struct wire_produced *outputs)
{
    for (uint32_t i = 0; i < u->state_n; i++) {
        const struct row *row = find_row(f, u->state[i].group, u->state[i].key);
        if ((row != NULL ? row->version : 0) != u->state[i].version)
            return E_CONFLICT;
    }
    for (uint32_t i = 0; i < u->produces_n; i++) {
        struct partition *p = find_partition(f, u->produces[i].partition);
        if (p == NULL)
            return E_PARTITION_NOT_FOUND;
        assert_int_equal(batch_hash(u->produces[i].batch), u->produces[i].batch_hash);
        produced(p, &u->produces[i], &outputs[i]);
    }
    for (uint32_t i = 0; i < u->state_n; i++)
        put_row(f, &u->state[i]);
    return 0;
}

static void do_settle(struct fake *f, struct session *s, const struct wire_request *r, struct wire_reply *reply,
                      struct arena *a)
{
    struct lane *l = lane_of(s, 0);
    assert_true(r->seq >= 1 && r->seq < RESULTS && r->seq < l->base + 60);
    reply->body = BODY_SETTLE;
    if (l->done[r->seq] || r->seq < l->base)
        return; /* the fake keeps no results of these */
    l->done[r->seq] = true;
    while (l->done[l->base])
        l->base++;
    const struct wire_settle *w = &r->settle;
    uint16_t *codes = arena_take(a, (w->singles_n + w->units_n) * sizeof *codes);
    uint32_t outputs_n = 0;
    for (uint32_t i = 0; i < w->units_n; i++)
        outputs_n += w->units[i].produces_n;
    struct wire_produced *outputs = arena_take(a, outputs_n * sizeof *outputs);
    for (uint32_t i = 0, at = 0; i < w->units_n; at += w->units[i++].produces_n)
        codes[w->singles_n + i] = (uint16_t)do_unit(f, &w->units[i], outputs + at);
    reply->durability = DURABILITY_DISK;
    reply->settle = (struct wire_settle_reply){
        .codes = codes, .codes_n = w->singles_n + w->units_n, .outputs = outputs, .outputs_n = outputs_n};
}

/* ---------------------------------------------------------------- queue groups */

static struct group *group_by_id(struct fake *f, uint32_t id)
{
    for (size_t i = 0; i < f->groups_n; i++) {
        if (f->groups[i].id == id)
            return &f->groups[i];
    }
    return NULL;
}

static void grant(struct fake *f, struct group *g, uint32_t most, uint32_t lease_ms, struct wire_delivery *d, struct arena *a)
{
    struct wire_record *records = arena_take(a, most * sizeof *records);
    uint8_t *data = arena_take(a, 1 << 20), *end = data;
    struct wire_state_row *state = arena_take(a, most * sizeof *state);
    struct list_node *n;
    *d = (struct wire_delivery){.group = g->id, .token = ++f->token, .lease_ms = lease_ms != 0 ? lease_ms : 30000, .records = records};
    while (d->records_n < most && (n = list_pop_front(&g->ready)) != NULL) {
        struct message *m = container_of(n, struct message, node);
        size_t size = strlen(m->value), key = m->key != NULL ? strlen(m->key) : 0;
        const struct row *row = m->key != NULL ? find_row(f, g->id, view_of_str(m->key)) : NULL;
        if (row != NULL && row->version != 0)
            state[d->state_n++] = (struct wire_state_row){
                .index = d->records_n, .version = row->version, .value = view_of(row->value, row->size)};
        struct wire_record *r = &records[d->records_n++];
        *r = (struct wire_record){.offset = m->offset,
                                  .partition = g->topic->partitions[0].id,
                                  .grants = 1,
                                  .value_size = (uint32_t)size + 1};
        if (m->key != NULL) {
            r->key_size = (uint32_t)key + 1;
            memcpy(end, m->key, key);
        }
        memcpy(end + key, m->value, size);
        r->sum = record_sum(r->key_size, 0, r->value_size, end, NULL, end + key) ^ (m->damaged ? 1 : 0);
        end += key + size;
        mem_free(m->key);
        mem_free(m->value);
        mem_free(m);
    }
    d->data = view_of(data, (size_t)(end - data));
    d->state = state;
}

/* Grants what there is. Returns how many deliveries, or -1: a group is not there. */
static int do_grant(struct fake *f, struct session *s, const struct wire_receive *w,
                    struct wire_receive_reply *reply, struct arena *a, bool again)
{
    assert_true(w->slot < SLOTS);
    assert_true(again || w->counter >= s->counters[w->slot]);
    s->counters[w->slot] = w->counter;
    struct wire_delivery *d = arena_take(a, w->groups_n * sizeof *d);
    uint32_t n = 0, left = w->max_messages;
    for (uint32_t i = 0; i < w->groups_n; i++) {
        struct group *g = group_by_id(f, w->groups[i]);
        if (g == NULL)
            return -1;
        if (list_empty(&g->ready) || left == 0)
            continue;
        grant(f, g, left, w->lease_ms, &d[n], a);
        left -= d[n++].records_n;
    }
    *reply = (struct wire_receive_reply){.deliveries = d, .deliveries_n = n, .counter = w->counter};
    return (int)n;
}

/* False: it waits. */
static bool do_receive(struct fake *f, struct session *s, const struct wire_receive *w,
                       struct wire_reply *reply, struct arena *a, bool wait, bool again)
{
    struct wire_receive_reply granted = {0};
    int n = do_grant(f, s, w, &granted, a, again);
    if (n < 0) {
        refuse(reply, E_GROUP_NOT_FOUND, "group id");
        return true;
    }
    reply->body = BODY_RECEIVE;
    reply->receive = granted;
    return n > 0 || !wait;
}

/* ---------------------------------------------------------------- the way of a request */

static void remember(struct fake *f, const struct wire_request *r, uint32_t pipe)
{
    f->seen = mem_resize(f->seen, f->seen_n + 1, sizeof *f->seen);
    struct fake_seen *s = &f->seen[f->seen_n++];
    *s = (struct fake_seen){.verb = r->verb,
                            .pipe = pipe,
                            .session = r->session,
                            .lane = r->lane,
                            .seq = r->seq,
                            .replies_seen = r->replies_seen};
    switch (r->verb) {
    case VERB_HELLO:
        s->hello.resume = r->hello.resume;
        break;
    case VERB_PRODUCE:
        s->produce.partition = r->produce.partition;
        s->produce.count = r->produce.count;
        s->produce.hash = r->produce.batch_hash;
        s->produce.size = r->produce.batch.size;
        s->produce.delay_ms = r->produce.delay_ms;
        s->produce.at_ms = r->produce.at_ms;
        if (r->produce.cron.size > 0 && r->produce.cron.size < sizeof s->produce.cron)
            memcpy(s->produce.cron, r->produce.cron.data, r->produce.cron.size);
        if (r->produce.name.size > 0 && r->produce.name.size < sizeof s->produce.name)
            memcpy(s->produce.name, r->produce.name.data, r->produce.name.size);
        break;
    case VERB_RECEIVE:
        s->receive.slot = r->receive.slot;
        s->receive.groups_n = r->receive.groups_n;
        s->receive.max_messages = r->receive.max_messages;
        s->receive.max_bytes = r->receive.max_bytes;
        s->receive.wait_ms = r->receive.wait_ms;
        s->receive.counter = r->receive.counter;
        break;
    case VERB_SETTLE:
        s->settle.items = r->settle.singles_n;
        s->settle.units = r->settle.units_n;
        s->settle.carries = r->settle.receive != NULL;
        if (s->settle.carries) {
            s->settle.max_messages = r->settle.receive->max_messages;
            s->settle.slot = r->settle.receive->slot;
            s->settle.counter = r->settle.receive->counter;
        }
        for (uint32_t i = 0; i < r->settle.singles_n; i++)
            s->settle.verbs[r->settle.singles[i].verb]++;
        for (uint32_t i = 0; i < r->settle.units_n; i++) {
            s->settle.unit_items += r->settle.units[i].items_n;
            s->settle.produces += r->settle.units[i].produces_n;
            s->settle.state += r->settle.units[i].state_n;
        }
        if (r->settle.notes_n > 0 && r->settle.notes[0].reason.size < sizeof s->settle.reason &&
            r->settle.notes[0].reason.size > 0)
            memcpy(s->settle.reason, r->settle.notes[0].reason.data, r->settle.notes[0].reason.size);
        break;
    default:
        break;
    }
    pthread_cond_broadcast(&f->changed);
}

/* What a broker does; false: the request waits. */
static bool perform(struct fake *f, struct kept *k, struct wire_reply *reply, bool again)
{
    const struct wire_request *r = &k->r;
    uint32_t pipe = k->pipe;
    struct session *s = find_session(f, r->session);
    bool wait = clock_mono_ms() < k->deadline_ms;
    if (r->verb == VERB_HELLO) {
        do_hello(f, r, pipe, reply);
        return true;
    }
    if (s == NULL || s->pipe != pipe) {
        refuse(reply, E_NO_SESSION, NULL);
        return true;
    }
    switch (r->verb) {
    case VERB_PRODUCE:
        do_produce(f, s, r, reply);
        return true;
    case VERB_FETCH:
        return do_fetch(f, &r->fetch, reply, &k->arena, wait);
    case VERB_RECEIVE:
        return do_receive(f, s, &r->receive, reply, &k->arena, wait, again);
    case VERB_SETTLE:
        do_settle(f, s, r, reply, &k->arena);
        reply->settle.has_receive =
            r->settle.receive != NULL &&
            do_grant(f, s, r->settle.receive, &reply->settle.receive, &k->arena, again) >= 0;
        return true;
    case VERB_TOPIC_LIST:
        do_topic_list(f, &r->list, reply, &k->arena);
        return true;
    case VERB_GROUP_LIST:
        do_group_list(f, &r->list, reply, &k->arena);
        return true;
    case VERB_OFFSET_FOR: {
        struct partition *p = find_partition(f, r->offset_for.partition);
        if (p == NULL) {
            refuse(reply, E_PARTITION_NOT_FOUND, "partition");
            return true;
        }
        reply->body = BODY_OFFSET;
        reply->offset = (struct wire_offset_reply){.start = p->start, .end = p->end, .offset = p->end};
        return true;
    }
    case VERB_STATE_GET: {
        const struct row *row = find_row(f, r->state_get.group, r->state_get.key);
        reply->body = BODY_STATE;
        if (row != NULL && row->version != 0)
            reply->state = (struct wire_state_reply){
                .found = true, .version = row->version, .value = view_of(row->value, row->size)};
        return true;
    }
    case VERB_BYE:
        drop_session(f, s);
        return true;
    case VERB_HEALTH:
        reply->body = BODY_HEALTH;
        reply->health = (struct wire_health_reply){.status = VIEW_LIT("ok"), .version = VIEW_LIT("fake")};
        return true;
    default:
        return true;
    }
}

/* Under lock. Keeps or frees `k`. `again`: it was seen before. */
static void handle(struct fake *f, struct kept *k, bool again)
{
    struct wire_reply reply = {0};
    enum fake_action action = f->script != NULL ? f->script(f->user, &k->r, &reply) : FAKE_DO;
    if (action == FAKE_HOLD) {
        list_push_back(&f->held, &k->node);
        return;
    }
    bool does = action == FAKE_DO || action == FAKE_DO_LOSE || action == FAKE_GARBLE;
    if (does && !perform(f, k, &reply, again)) {
        list_push_back(&f->waiting, &k->node);
        return;
    }
    if (action == FAKE_DO || action == FAKE_ANSWER || action == FAKE_GARBLE)
        answer(f, k, &reply, action == FAKE_GARBLE);
    else
        close_pipe(f, k->pipe);
    kept_free(k);
}

/* Those that wait may have something now, or their time is up. */
static void retry_waiting(struct fake *f)
{
    struct list again;
    list_init(&again);
    list_splice(&again, &f->waiting);
    struct list_node *n;
    while ((n = list_pop_front(&again)) != NULL)
        handle(f, container_of(n, struct kept, node), true);
}

/* A frame came; takes the bytes over. Under lock. */
static void frame_came(struct fake *f, uint32_t pipe, uint32_t tag, uint8_t *bytes, size_t size)
{
    struct kept *k = mem_zalloc(sizeof *k);
    struct frame frame;
    *k = (struct kept){.pipe = pipe, .tag = tag, .bytes = bytes};
    arena_init(&k->arena, SIZE_MAX);
    assert_int_equal(frame_check(bytes, size, &frame, NULL), 0);
    uint8_t *body = arena_take(&k->arena, size); /* aligned */
    memcpy(body, bytes + FRAME_SIZE, size - FRAME_SIZE);
    assert_int_equal(codec_request_decode(view_of(body, size - FRAME_SIZE), &k->r, &k->arena, NULL), 0);
    uint32_t wait_ms = k->r.verb == VERB_FETCH     ? k->r.fetch.wait_ms
                       : k->r.verb == VERB_RECEIVE ? k->r.receive.wait_ms
                                                   : 0;
    k->deadline_ms = clock_mono_ms() + wait_ms;
    remember(f, &k->r, pipe);
    handle(f, k, false);
}

/* Waits for the next message, for a tick at most. */
static void listen_inproc(struct fake *f)
{
    nng_msg *m;
    if (nng_recvmsg(f->socket, &m, 0) != 0)
        return;
    pthread_mutex_lock(&f->lock);
    size_t size = nng_msg_len(m);
    const uint8_t *header = nng_msg_header(m);
    frame_came(f, get_u32be(header), get_u32be(header + 4), mem_dup(nng_msg_body(m), size), size);
    pthread_mutex_unlock(&f->lock);
    nng_msg_free(m);
}

static void accept_peer(struct fake *f)
{
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    int fd = accept(f->listener, NULL, NULL);
    if (fd < 0)
        return;
    struct peer *p = NULL;
    for (size_t i = 0; i < PEERS && p == NULL; i++)
        p = f->peers[i].fd < 0 ? &f->peers[i] : NULL;
    assert_non_null(p);
    *p = (struct peer){.fd = fd, .pipe = ++f->pipes};
    write_all(fd, greeting, sizeof greeting);
}

/* Takes whole frames off what came. What a script does may end the connection. */
static void take_frames(struct fake *f, uint32_t pipe)
{
    size_t head = f->ipc ? 1 : 0;
    struct peer *p;
    while ((p = peer_of(f, pipe)) != NULL) {
        size_t used = 0;
        if (!p->greeted && p->in.size >= 8) {
            assert_memory_equal(p->in.data, ((uint8_t[]){0, 'S', 'P', 0, 0, 0x30, 0, 0}), 8);
            p->greeted = true;
            used = 8;
        } else if (p->greeted && p->in.size >= head + 12 &&
                   p->in.size >= head + 8 + get_u64be(p->in.data + head)) {
            used = head + 8 + (size_t)get_u64be(p->in.data + head);
        }
        if (used == 0)
            return;
        uint8_t *bytes = used > 8 ? mem_dup(p->in.data + head + 12, used - head - 12) : NULL;
        uint32_t tag = used > 8 ? get_u32be(p->in.data + head + 8) : 0;
        memmove(p->in.data, p->in.data + used, p->in.size - used);
        p->in.size -= used;
        if (bytes != NULL)
            frame_came(f, pipe, tag, bytes, used - head - 12);
    }
}

static void read_peer(struct fake *f, uint32_t pipe)
{
    struct peer *p = peer_of(f, pipe);
    if (p == NULL)
        return;
    ssize_t n = recv(p->fd, buf_reserve(&p->in, 65536), 65536, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close_pipe(f, pipe);
        return;
    }
    p->in.size += (size_t)n;
    take_frames(f, pipe);
}

/* Waits for something on any socket, for a tick at most. */
static void listen_plain(struct fake *f)
{
    struct pollfd fds[PEERS + 2];
    uint32_t pipes[PEERS + 2];
    nfds_t n = 0;
    pthread_mutex_lock(&f->lock);
    fds[n++] = (struct pollfd){.fd = f->kick[0], .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = f->listener, .events = POLLIN}; /* -1 is skipped */
    for (size_t i = 0; i < PEERS; i++) {
        if (f->peers[i].fd >= 0) {
            pipes[n] = f->peers[i].pipe;
            fds[n++] = (struct pollfd){.fd = f->peers[i].fd, .events = POLLIN};
        }
    }
    pthread_mutex_unlock(&f->lock);
    poll(fds, n, TICK_MS);
    pthread_mutex_lock(&f->lock);
    char kicks[16];
    if (fds[0].revents != 0 && read(f->kick[0], kicks, sizeof kicks) < 0)
        fail_msg("read");
    for (nfds_t i = 2; i < n; i++) {
        if (fds[i].revents != 0)
            read_peer(f, pipes[i]);
    }
    if (fds[1].revents != 0 && f->listener == fds[1].fd)
        accept_peer(f);
    pthread_mutex_unlock(&f->lock);
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    bool closing = false;
    while (!closing) {
        (f->inproc ? listen_inproc : listen_plain)(f);
        pthread_mutex_lock(&f->lock);
        retry_waiting(f);
        closing = f->closing;
        pthread_mutex_unlock(&f->lock);
    }
    return NULL;
}

/* ---------------------------------------------------------------- what tests call */

struct fake *fake_open(const struct fake_options *o)
{
    struct fake *f = mem_zalloc(sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    list_init(&f->held);
    list_init(&f->waiting);
    f->next_id = 100;
    if (o != NULL) {
        f->limits = o->limits;
        f->http = o->http;
    }
    snprintf(f->url, sizeof f->url, "%s", o != NULL && o->url != NULL ? o->url : "tcp://127.0.0.1:0");
    f->inproc = strncmp(f->url, "inproc:", 7) == 0;
    f->ipc = strncmp(f->url, "ipc:", 4) == 0;
    f->listener = f->reserved = -1;
    for (size_t i = 0; i < PEERS; i++)
        f->peers[i].fd = -1;
    assert_int_equal(pipe(f->kick), 0);
    if (f->inproc) {
        assert_int_equal(nng_rep0_open_raw(&f->socket), 0);
        nng_socket_set_ms(f->socket, NNG_OPT_RECVTIMEO, TICK_MS);
        assert_int_equal(nng_listen(f->socket, f->url, NULL, 0), 0);
    } else {
        fake_hear(f);
    }
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
    return f;
}

/* Ends the thread's poll, which then looks anew. */
static void kick(struct fake *f)
{
    if (write(f->kick[1], "", 1) != 1)
        fail_msg("write");
}

static void topic_clear(struct topic *t)
{
    for (uint32_t i = 0; i < t->partitions_n; i++) {
        struct list_node *n;
        while ((n = list_pop_front(&t->partitions[i].batches)) != NULL) {
            struct batch *b = container_of(n, struct batch, node);
            batch_reader_close(&b->reader);
            buf_free(&b->entry);
            mem_free(b);
        }
    }
}

static void free_kept(struct list *l)
{
    struct list_node *n;
    while ((n = list_pop_front(l)) != NULL)
        kept_free(container_of(n, struct kept, node));
}

void fake_close(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_mutex_unlock(&f->lock);
    kick(f);
    pthread_join(f->thread, NULL);
    if (f->inproc)
        nng_close(f->socket);
    if (f->listener >= 0)
        close(f->listener);
    if (f->reserved >= 0)
        close(f->reserved);
    for (size_t i = 0; i < PEERS; i++)
        close_pipe(f, f->peers[i].fd >= 0 ? f->peers[i].pipe : 0);
    if (f->ipc)
        unlink(f->url + 6);
    close(f->kick[0]);
    close(f->kick[1]);
    free_kept(&f->held);
    free_kept(&f->waiting);
    fake_forget_sessions(f);
    for (size_t i = 0; i < f->topics_n; i++)
        topic_clear(&f->topics[i]);
    for (size_t i = 0; i < f->groups_n; i++) {
        struct list_node *n;
        while ((n = list_pop_front(&f->groups[i].ready)) != NULL) {
            struct message *m = container_of(n, struct message, node);
            mem_free(m->key);
            mem_free(m->value);
            mem_free(m);
        }
    }
    mem_free(f->seen);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

const char *fake_url(struct fake *f)
{
    return f->url;
}

void fake_set_script(struct fake *f, fake_script *script, void *user)
{
    pthread_mutex_lock(&f->lock);
    f->script = script;
    f->user = user;
    pthread_mutex_unlock(&f->lock);
}

void fake_release(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    struct list again;
    list_init(&again);
    list_splice(&again, &f->held);
    struct list_node *n;
    while ((n = list_pop_front(&again)) != NULL)
        handle(f, container_of(n, struct kept, node), true);
    pthread_mutex_unlock(&f->lock);
}

void fake_cut(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < PEERS; i++) {
        if (f->peers[i].fd >= 0)
            close_pipe(f, f->peers[i].pipe);
    }
    free_kept(&f->held);
    free_kept(&f->waiting);
    pthread_mutex_unlock(&f->lock);
    kick(f);
}

void fake_close_pipe(struct fake *f, uint32_t pipe)
{
    pthread_mutex_lock(&f->lock);
    close_pipe(f, pipe);
    pthread_mutex_unlock(&f->lock);
    kick(f);
}

void fake_forget_sessions(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    while (f->sessions_n > 0)
        drop_session(f, &f->sessions[0]);
    pthread_mutex_unlock(&f->lock);
}

void fake_deaf(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    close(f->listener);
    f->listener = -1;
    pthread_mutex_unlock(&f->lock);
    fake_cut(f);
}

static int listen_ipc(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Several may have a port as long as none of them listens. */
static int bound_tcp(uint16_t *port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(*port)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    /* the one before listens as long as our thread still polls it, closed or not */
    for (int tries = 0; bind(fd, (struct sockaddr *)&a, sizeof a) != 0; tries++) {
        assert_true(errno == EADDRINUSE && tries < 10000);
        poll(NULL, 0, 1);
    }
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int listen_tcp(struct fake *f)
{
    uint16_t port = (uint16_t)atoi(strrchr(f->url, ':') + 1);
    if (f->reserved < 0) {
        f->reserved = bound_tcp(&port);
        snprintf(f->url, sizeof f->url, "tcp://127.0.0.1:%d", port);
    }
    return bound_tcp(&port);
}

void fake_hear(struct fake *f)
{
    int fd = f->ipc ? listen_ipc(f->url + 6) : listen_tcp(f);
    assert_int_equal(listen(fd, PEERS), 0);
    pthread_mutex_lock(&f->lock);
    f->listener = fd;
    pthread_mutex_unlock(&f->lock);
    kick(f);
}

void fake_topic(struct fake *f, const char *name, uint32_t partitions)
{
    pthread_mutex_lock(&f->lock);
    assert_true(f->topics_n < TOPICS && partitions <= PARTITIONS);
    struct topic *t = &f->topics[f->topics_n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->id = ++f->next_id;
    t->partitions_n = partitions;
    for (uint32_t i = 0; i < partitions; i++) {
        t->partitions[i] = (struct partition){.id = ++f->next_id, .index = i};
        list_init(&t->partitions[i].batches);
    }
    pthread_mutex_unlock(&f->lock);
}

void fake_forget_topic(struct fake *f, const char *name)
{
    pthread_mutex_lock(&f->lock);
    find_topic(f, view_of_str(name))->name[0] = '\0';
    pthread_mutex_unlock(&f->lock);
}

void fake_group(struct fake *f, const char *topic, const char *name)
{
    pthread_mutex_lock(&f->lock);
    assert_true(f->groups_n < GROUPS);
    struct group *g = &f->groups[f->groups_n++];
    g->topic = find_topic(f, view_of_str(topic));
    snprintf(g->name, sizeof g->name, "%s", name);
    g->id = ++f->next_id;
    list_init(&g->ready);
    pthread_mutex_unlock(&f->lock);
}

void fake_forget_group(struct fake *f, const char *name)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->groups_n; i++) {
        if (strcmp(f->groups[i].name, name) == 0) {
            f->groups[i].name[0] = '\0';
            f->groups[i].id = 0;
        }
    }
    pthread_mutex_unlock(&f->lock);
}

static void give(struct fake *f, const char *group, const char *key, const char *value, bool damaged)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->groups_n; i++) {
        struct group *g = &f->groups[i];
        if (strcmp(g->name, group) != 0)
            continue;
        struct message *m = mem_zalloc(sizeof *m);
        m->key = key != NULL ? mem_strdup(key) : NULL;
        m->value = mem_strdup(value);
        m->offset = g->given++;
        m->damaged = damaged;
        list_push_back(&g->ready, &m->node);
    }
    retry_waiting(f);
    pthread_mutex_unlock(&f->lock);
}

void fake_give(struct fake *f, const char *group, const char *value, bool damaged)
{
    give(f, group, NULL, value, damaged);
}

void fake_give_key(struct fake *f, const char *group, const char *key, const char *value)
{
    give(f, group, key, value, false);
}

uint64_t fake_state(struct fake *f, const char *group, const char *key, char *value, size_t size)
{
    uint64_t version = 0;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->groups_n; i++) {
        const struct row *row = find_row(f, f->groups[i].id, view_of_str(key));
        if (strcmp(f->groups[i].name, group) != 0 || row == NULL)
            continue;
        version = row->version;
        assert_true(row->size < size);
        memcpy(value, row->value, row->size);
        value[row->size] = '\0';
    }
    pthread_mutex_unlock(&f->lock);
    return version;
}

static const struct fake_seen *nth(struct fake *f, enum wire_verb verb, size_t i)
{
    for (size_t k = 0; k < f->seen_n; k++) {
        if ((verb == VERB_NONE || f->seen[k].verb == verb) && i-- == 0)
            return &f->seen[k];
    }
    return NULL;
}

size_t fake_count(struct fake *f, enum wire_verb verb)
{
    size_t n = 0;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->seen_n; i++)
        n += verb == VERB_NONE || f->seen[i].verb == verb;
    pthread_mutex_unlock(&f->lock);
    return n;
}

void fake_await(struct fake *f, enum wire_verb verb, size_t n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += AWAIT_S;
    bool late = false;
    pthread_mutex_lock(&f->lock);
    while (nth(f, verb, n - 1) == NULL && !late)
        late = pthread_cond_timedwait(&f->changed, &f->lock, &until) == ETIMEDOUT;
    pthread_mutex_unlock(&f->lock);
    if (late)
        fail_msg("request %zu of verb %d did not come", n, (int)verb);
}

struct fake_seen fake_seen(struct fake *f, enum wire_verb verb, size_t i)
{
    pthread_mutex_lock(&f->lock);
    const struct fake_seen *s = nth(f, verb, i);
    struct fake_seen copy = s != NULL ? *s : (struct fake_seen){.verb = VERB_NONE};
    pthread_mutex_unlock(&f->lock);
    assert_true(copy.verb != VERB_NONE);
    return copy;
}

static struct partition *partition_of(struct fake *f, const char *topic, uint32_t partition)
{
    struct topic *t = find_topic(f, view_of_str(topic));
    assert_non_null(t);
    assert_true(partition < t->partitions_n);
    return &t->partitions[partition];
}

size_t fake_stored(struct fake *f, const char *topic, uint32_t partition)
{
    pthread_mutex_lock(&f->lock);
    size_t n = partition_of(f, topic, partition)->end;
    pthread_mutex_unlock(&f->lock);
    return n;
}

struct record fake_record(struct fake *f, const char *topic, uint32_t partition, size_t i)
{
    struct record record = {.ttl_ms = 0};
    pthread_mutex_lock(&f->lock);
    LIST_EACH (n, &partition_of(f, topic, partition)->batches) {
        struct batch *b = container_of(n, struct batch, node);
        if (i >= b->base && i < b->base + b->count)
            assert_int_equal(batch_reader_get(&b->reader, (uint32_t)(i - b->base), &record, NULL), 0);
    }
    pthread_mutex_unlock(&f->lock);
    return record;
}

void fake_damage(struct fake *f, const char *topic, uint32_t partition, size_t batch, size_t at)
{
    pthread_mutex_lock(&f->lock);
    LIST_EACH (n, &partition_of(f, topic, partition)->batches) {
        if (batch-- == 0)
            container_of(n, struct batch, node)->entry.data[at] ^= 1;
    }
    pthread_mutex_unlock(&f->lock);
}

void fake_trim(struct fake *f, const char *topic, uint32_t partition, uint64_t start)
{
    pthread_mutex_lock(&f->lock);
    partition_of(f, topic, partition)->start = start;
    pthread_mutex_unlock(&f->lock);
}
