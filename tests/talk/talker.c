#include "talker.h"

#include <unistd.h>

#include "base/buf.h"
#include "base/entropy.h"
#include "schemas/records.h"
#include "talk.h"

enum { ARENA_BYTES = 64 << 20, REPLY_MS = 30000 };

void talker_open(struct talker *t, const char *url)
{
    *t = (struct talker){.fd = sp_connect(url)};
    entropy_fill(&t->session, sizeof t->session);
}

void talker_close(struct talker *t)
{
    close(t->fd);
}

bool talker_is_lost_by(struct talker *t, int ms)
{
    return tcp_closed_by(t->fd, ms);
}

/* ---------------------------------------------------------------- sending */

uint8_t *talker_frame(const struct talker *t, struct wire_request *r, size_t *size)
{
    r->session = t->session;
    size_t cap = codec_request_bound(r);
    uint8_t *room = malloc(FRAME_SIZE + 4 + cap);
    if (room == NULL)
        fail_msg("no memory");
    struct codec_space space = {.data = room + FRAME_SIZE + 4, .cap = cap};
    assert_int_equal(codec_request_encode(r, &space), E_OK);
    uint8_t *body = space.data + space.at, *head = body - FRAME_SIZE;
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)r->verb}, body, space.size);
    *size = FRAME_SIZE + space.size;
    memmove(room, head, *size);
    return room;
}

uint32_t talker_send_bytes(struct talker *t, const void *bytes, size_t size)
{
    sp_send(t->fd, ++t->id, bytes, size, REPLY_MS);
    return t->id;
}

uint32_t talker_send(struct talker *t, struct wire_request *r)
{
    size_t size;
    uint8_t *frame = talker_frame(t, r, &size);
    uint32_t id = talker_send_bytes(t, frame, size);
    free(frame);
    return id;
}

/* ---------------------------------------------------------------- hearing */

bool talker_hear(struct talker *t, int ms, struct heard *out)
{
    size_t size;
    struct err e;
    *out = (struct heard){.id = 0};
    uint8_t *bytes = sp_hear(t->fd, &out->id, &size, ms);
    if (bytes == NULL)
        return false;
    out->id &= 0x7fffffff;
    arena_init(&out->arena, ARENA_BYTES);
    int code = frame_check(bytes, size, &out->frame, &e);
    if (code == E_OK) { /* decoders want the FlatBuffer aligned */
        memmove(bytes, bytes + FRAME_SIZE, size - FRAME_SIZE);
        code = codec_reply_decode(view_of(bytes, size - FRAME_SIZE), &out->reply, &out->arena, &e);
    }
    if (code != E_OK)
        fail_msg("a reply that does not decode: %s", e.text);
    assert_int_equal(out->frame.flags, FRAME_REPLY);
    out->bytes = bytes;
    return true;
}

void heard_free(struct heard *h)
{
    free(h->bytes);
    arena_free(&h->arena);
}

int talker_call(struct talker *t, struct wire_request *r, struct heard *out)
{
    struct heard here, *h = out != NULL ? out : &here;
    uint32_t id = talker_send(t, r);
    if (!talker_hear(t, REPLY_MS, h))
        fail_msg("no reply to verb %d", (int)r->verb);
    assert_int_equal(h->id, id);
    assert_int_equal(h->frame.verb, r->verb);
    int code = h->reply.code;
    if (out == NULL)
        heard_free(h);
    return code;
}

/* ---------------------------------------------------------------- whole requests */

static struct wire_request hello(void)
{
    return (struct wire_request){.verb = VERB_HELLO,
                                 .hello = {.version_min = 1, .version_max = 1, .name = VIEW_LIT("talker")}};
}

void talker_hello(struct talker *t)
{
    struct wire_request r = hello();
    assert_int_equal(talker_call(t, &r, NULL), E_OK);
}

bool talker_is_served(const char *url)
{
    struct talker t;
    struct heard h;
    struct wire_request r = hello();
    t = (struct talker){.fd = sp_try(url)};
    if (t.fd < 0)
        return false;
    entropy_fill(&t.session, sizeof t.session);
    talker_send(&t, &r);
    bool served = talker_hear(&t, 5000, &h);
    if (served) {
        served = h.reply.code == E_OK;
        heard_free(&h);
    }
    talker_close(&t);
    return served;
}

uint32_t talker_topic(struct talker *t, const char *name, uint32_t partitions, enum durability durability)
{
    struct wire_request r = {
        .verb = VERB_TOPIC_CREATE,
        .seq = ++t->seq,
        .replies_seen = t->seq - 1,
        .topic = {.name = view_of_str(name),
                  .config = {.partitions = partitions, .durability = (uint8_t)durability}}};
    struct heard h;
    if (talker_call(t, &r, &h) != E_OK)
        fail_msg("topic %s: %s", name, error_name(h.reply.code));
    assert_int_equal(h.reply.body, BODY_TOPICS);
    uint32_t id = h.reply.topics.topics[0].partitions[0].id;
    heard_free(&h);
    return id;
}

uint32_t talker_group(struct talker *t, const char *topic, const char *name)
{
    struct wire_request r = {
        .verb = VERB_GROUP_CREATE,
        .seq = ++t->seq,
        .replies_seen = t->seq - 1,
        .group = {.topic = view_of_str(topic), .name = view_of_str(name), .config = {.mode = MODE_QUEUE}}};
    struct heard h;
    if (talker_call(t, &r, &h) != E_OK)
        fail_msg("group %s: %s", name, error_name(h.reply.code));
    uint32_t id = h.reply.groups.groups[0].id;
    heard_free(&h);
    return id;
}

int talker_produce(struct talker *t, uint32_t partition, uint64_t seq, uint32_t count, size_t size)
{
    uint8_t *value = calloc(1, size > 0 ? size : 1);
    struct batch_builder *b = batch_builder_new();
    struct buf batch = {0};
    struct err e;
    uint64_t hash;
    for (uint32_t i = 0; i < count; i++) {
        entropy_fill(value, size);
        const struct record r = {.value = view_of(value, size), .timestamp_ms = 1};
        assert_int_equal(batch_builder_add(b, &r, &e), E_OK);
    }
    assert_int_equal(batch_builder_finish(b, BATCH_NONE, &batch, &hash, &e), E_OK);
    struct wire_request r = {
        .verb = VERB_PRODUCE,
        .lane = partition,
        .seq = seq,
        .replies_seen = seq - 1,
        .produce = {.partition = partition, .count = count, .batch_hash = hash, .batch = buf_view(&batch)}};
    int code = talker_call(t, &r, NULL);
    buf_free(&batch);
    batch_builder_free(b);
    free(value);
    return code;
}
