#include "unit.h"

#include "schemas/errors.h"
#include "wire/frame.h"

enum { ID = 0x80000007 };

/* A message as a stream hands it over: id, then a frame. */
struct message {
    size_t size;
    _Alignas(16) uint8_t bytes[256];
};

static struct message message(uint8_t verb, const char *body)
{
    struct message m = {.size = FRAME_ID_SIZE + FRAME_SIZE + strlen(body)};
    uint8_t *head = m.bytes + FRAME_ID_SIZE;
    put_u32be(m.bytes, ID);
    memcpy(head + FRAME_SIZE, body, strlen(body));
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = verb}, head + FRAME_SIZE, strlen(body));
    return m;
}

static void reseal(struct message *m, struct frame f)
{
    uint8_t *head = m->bytes + FRAME_ID_SIZE;
    frame_put(head, f, head + FRAME_SIZE, m->size - FRAME_ID_SIZE - FRAME_SIZE);
}

static int open_message(const struct message *m, struct frame_request *f, struct err *e)
{
    return frame_open(view_of(m->bytes, m->size), f, e);
}

static void a_good_frame_is_lent_without_a_copy_and_aligned(void **state)
{
    (void)state;
    struct message m = message(VERB_FETCH, "0123456789abcdef");
    struct frame_request f;
    struct err e;
    assert_int_equal(open_message(&m, &f, &e), E_OK);
    assert_int_equal(f.head.verb, VERB_FETCH);
    assert_int_equal(f.id, ID);
    assert_ptr_equal(f.body.data, m.bytes + FRAME_ID_SIZE + FRAME_SIZE);
    assert_int_equal((uintptr_t)f.body.data % 16, 0);
    assert_int_equal(f.body.size, 16);
}

static void what_begins_like_a_frame_can_be_answered(void **state)
{
    (void)state;
    struct message m = message(VERB_PRODUCE, "body");
    struct frame_request f;
    struct err e;
    m.bytes[m.size - 1] ^= 1;
    assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
    assert_true(f.answerable);
    assert_int_equal(f.head.verb, VERB_PRODUCE);
    assert_int_equal(f.id, ID);
}

static void what_does_not_is_not(void **state)
{
    (void)state;
    struct frame_request f;
    struct err e;
    struct message m = message(VERB_PRODUCE, "body");
    m.bytes[FRAME_ID_SIZE] = 'X';
    assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
    assert_false(f.answerable);

    for (size_t size = 0; size < FRAME_ID_SIZE + FRAME_SIZE; size++) {
        m = message(VERB_PRODUCE, "body");
        m.size = size;
        assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
        assert_false(f.answerable);
    }

    m = message(VERB_PRODUCE, "body"); /* a reply where a request belongs */
    reseal(&m, (struct frame){.version = WIRE_VERSION, .verb = VERB_PRODUCE, .flags = FRAME_REPLY});
    assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
    assert_false(f.answerable);

    m = message(VERB_PRODUCE, "body"); /* the hop of a device where the id belongs */
    m.bytes[0] &= 0x7f;
    assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
    assert_false(f.answerable);
}

static void flags_that_are_not_known_are_refused(void **state)
{
    (void)state;
    struct message m = message(VERB_PRODUCE, "body");
    struct frame_request f;
    struct err e;
    reseal(&m, (struct frame){.version = WIRE_VERSION, .verb = VERB_PRODUCE, .flags = 0x40});
    assert_int_equal(open_message(&m, &f, &e), E_BAD_FRAME);
    assert_has(e.text, "0x40");
    assert_true(f.answerable);
}

static void another_version_is_told_so(void **state)
{
    (void)state;
    struct message m = message(VERB_HELLO, "body");
    struct frame_request f;
    struct err e;
    reseal(&m, (struct frame){.version = 9, .verb = VERB_HELLO});
    assert_int_equal(open_message(&m, &f, &e), E_BAD_VERSION);
    assert_true(f.answerable);
}

static void a_reply_reads_back_and_wastes_no_bytes(void **state)
{
    (void)state;
    uint8_t data[5000];
    memset(data, 7, sizeof data);
    const struct wire_fetch_part part = {.partition = 3, .start = 1, .end = 2, .data = {data, sizeof data}};
    const struct wire_reply reply = {.body = BODY_FETCH, .fetch = {.parts = &part, .parts_n = 1}};
    struct packet *p = frame_reply(&reply, VERB_FETCH, ID);
    assert_in_range(p->size, sizeof data, sizeof data + 200);
    assert_int_equal(get_u64be(p->data - 8),
                     p->size); /* what SP puts before it, on TCP and on Unix sockets */
    assert_int_equal(p->data[-9], 1);
    assert_int_equal(get_u32be(p->data), ID);

    struct frame f;
    struct err e;
    const uint8_t *bytes = p->data + FRAME_ID_SIZE;
    size_t size = p->size - FRAME_ID_SIZE;
    assert_int_equal(frame_check(bytes, size, &f, &e), E_OK);
    assert_int_equal(f.verb, VERB_FETCH);
    assert_int_equal(f.flags, FRAME_REPLY);
    struct wire_reply back;
    struct arena arena;
    struct buf copy = {0};
    arena_init(&arena, 1 << 20);
    struct view body = codec_aligned(view_of(bytes + FRAME_SIZE, size - FRAME_SIZE), &copy);
    assert_int_equal(codec_reply_decode(body, &back, &arena, &e), E_OK);
    assert_int_equal(back.fetch.parts[0].partition, 3);
    assert_true(view_eq(back.fetch.parts[0].data, part.data));
    buf_free(&copy);
    arena_free(&arena);
    packet_drop(p);
}

static void a_hint_can_be_told_by_its_first_bytes(void **state)
{
    (void)state;
    struct packet *p = frame_hint(77, VIEW_LIT("photos/thumbnail"));
    enum pub_kind kind;
    uint32_t channel;
    struct err e;
    assert_int_equal(pub_frame_check(p->data, p->size, &kind, &channel, &e), E_OK);
    assert_int_equal(kind, PUB_AVAIL);
    assert_int_equal(channel, pub_channel_hash(VIEW_LIT("photos/thumbnail")));
    assert_int_equal(get_u32(p->data + PUB_FRAME_SIZE), 77);
    assert_int_equal(get_u64be(p->data - 8), p->size);
    packet_drop(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_frame_is_lent_without_a_copy_and_aligned),
        cmocka_unit_test(what_begins_like_a_frame_can_be_answered),
        cmocka_unit_test(what_does_not_is_not),
        cmocka_unit_test(flags_that_are_not_known_are_refused),
        cmocka_unit_test(another_version_is_told_so),
        cmocka_unit_test(a_reply_reads_back_and_wastes_no_bytes),
        cmocka_unit_test(a_hint_can_be_told_by_its_first_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
