/* What is published: where it is heard, how it comes off a connection, and what is let through. */
#include "unit.h"

#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "schemas/errors.h"
#include "sdk/address.h"
#include "sdk/framing.h"
#include "sdk/publication.h"

/* ---- where ---- */

static void a_publisher_is_heard_where_the_session_goes(void **state)
{
    (void)state;
    static const struct {
        const char *session, *told[3], *heard;
    } cases[] = {
        {"tcp://127.0.0.1:7400", {"tcp://127.0.0.1:7401"}, "tcp://127.0.0.1:7401"},
        {"tcp://localhost:7400", {"tcp://127.0.0.1:7401"}, "tcp://127.0.0.1:7401"},
        {"tcp://mq.example:7400", {"tcp://0.0.0.0:7401"}, "tcp://mq.example:7401"},
        {"tcp://mq.example:7400", {"tcp://*:7401"}, "tcp://mq.example:7401"},
        {"tcp4://10.0.0.7:7400", {"tcp6://[::]:7401"}, "tcp://10.0.0.7:7401"},
        {"tcp://[2001:db8::1]:7400", {"tcp://0.0.0.0:7401"}, "tcp://[2001:db8::1]:7401"},
        {"tcp://mq.example:7400", {"tcp://pub.example:7401"}, "tcp://pub.example:7401"},
        {"TCP://mq.example:7400", {"ipc:///run/pub", "tcp://0.0.0.0:1", "tcp://0.0.0.0:2"}, "tcp://mq.example:1"},
        {"tls+tcp://mq.example:7400", {"tcp://0.0.0.0:7401", "tls+tcp://0.0.0.0:7402"}, "tls+tcp://mq.example:7402"},
        {"tls+tcp://localhost:7400", {"tls+tcp://127.0.0.1:7402"}, "tls+tcp://localhost:7402"},
        {"tls+tcp://mq.example:7400", {"tls+tcp://10.0.0.7:7402"}, "tls+tcp://mq.example:7402"},
        {"ipc:///run/mq", {"tcp://0.0.0.0:7401", "ipc:///run/pub"}, "ipc:///run/pub"},
        {"ipc:///run/mq", {"tcp://0.0.0.0:7401"}, "tcp://127.0.0.1:7401"},
        {"ipc:///run/mq", {"tcp6://[::]:7401"}, "tcp://[::1]:7401"},
        {"inproc://mq", {"tcp://127.0.0.1:7401", "inproc://pub"}, "inproc://pub"},
        /* another machine's loopback, or nobody's; no way without TLS from one with it; no way into another process */
        {"tcp://mq.example:7400", {"tcp://127.0.0.1:7401"}, ""},
        {"tcp://10.0.0.7:7400", {"tcp://localhost:7401", "tcp6://[::1]:7401"}, ""},
        {"tls+tcp://mq.example:7400", {"tcp://mq.example:7401"}, ""},
        {"tls+tcp://mq.example:7400", {"tls+tcp://127.0.0.1:7401"}, ""},
        {"tcp://mq.example:7400", {"inproc://pub", "ipc:///run/pub", "tls+tcp://mq.example:7401"}, ""},
        {"tcp://mq.example:7400", {"", "7401", "ws://mq.example:7401"}, ""},
        {"tcp://mq.example:7400", {"tcp://mq.example"}, ""},
        {"tcp://mq.example:7400", {NULL}, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct view told[3];
        uint32_t n = 0;
        char out[64] = "?";
        for (; n < 3 && cases[i].told[n] != NULL; n++)
            told[n] = view_of_str(cases[i].told[n]);
        assert_int_equal(address_published(cases[i].session, told, n, out, sizeof out), cases[i].heard[0] != '\0');
        assert_string_equal(out, cases[i].heard);
    }
}

static void an_address_that_does_not_fit_is_none(void **state)
{
    (void)state;
    char out[64], url[2000];
    for (size_t size = 20; size < sizeof url; size += 11) {
        memset(url, 'a', sizeof url);
        memcpy(url, "tcp://", 6);
        memcpy(url + size - 6, ":7401", 5);
        struct view told = view_of(url, size - 1);
        assert_int_equal(address_published("tcp://mq.example:7400", &told, 1, out, sizeof out), size <= sizeof out);
    }
    struct view split = view_of("tcp://a:1\0:7401", 15);
    assert_false(address_published("tcp://mq.example:7400", &split, 1, out, sizeof out));
}

/* ---- publications ---- */

static const struct wire_lag lag_rows[] = {
    {.topic = {(const uint8_t *)"orders", 6}, .group = {(const uint8_t *)"email", 5}, .group_id = 7, .lag_messages = 40, .lag_bytes = 4000,
     .in_flight = 3, .delayed = 2, .parked = 1, .oldest_age_ms = 1500, .ack_rate_milli = 2500, .drain_eta_ms = UINT64_MAX, .status = LAG_WARN,
     .scale_value = 38, .lost = 9},
    {.topic = {(const uint8_t *)"orders", 6}, .group = {(const uint8_t *)"audit", 5}, .group_id = 8},
};

/* A publication with this reply, from the start of a frame on. */
static struct buf published(const struct wire_reply *reply, enum pub_kind kind, const char *channel)
{
    struct buf out = {0};
    size_t cap = codec_reply_bound(reply);
    uint8_t *room = mem_alloc(cap);
    struct codec_space space = {.data = room, .cap = cap};
    assert_int_equal(codec_reply_encode(reply, &space), E_OK);
    uint8_t head[PUB_FRAME_SIZE];
    pub_frame_put(head, kind, view_of_str(channel), room + space.at, space.size);
    buf_append(&out, head, sizeof head);
    buf_append(&out, room + space.at, space.size);
    mem_free(room);
    return out;
}

static struct buf good(void)
{
    return published(&(struct wire_reply){.body = BODY_LAG, .lag = {.rows = lag_rows, .rows_n = ARRAY_LEN(lag_rows)}}, PUB_LAG, "lag");
}

static int take(struct view frame, struct arena *memory, const struct sluice_lag **rows, size_t *n)
{
    struct err e;
    arena_init(memory, SIZE_MAX);
    return publication_lag(frame, memory, rows, n, &e);
}

/* The code for a frame that brings nothing. */
static int refused(struct view frame)
{
    struct arena memory;
    const struct sluice_lag *rows = NULL;
    size_t n = 0;
    int code = take(frame, &memory, &rows, &n);
    assert_null(rows);
    assert_int_equal(n, 0);
    arena_free(&memory);
    return code;
}

static int refused_and_freed(struct buf b)
{
    int code = refused(buf_view(&b));
    buf_free(&b);
    return code;
}

static void rows_come_as_they_were_published(void **state)
{
    (void)state;
    struct buf b = good();
    for (size_t shift = 0; shift < 16; shift++) { /* wherever it lies */
        uint8_t *room = mem_alloc(b.size + shift);
        memcpy(room + shift, b.data, b.size);
        struct arena memory;
        const struct sluice_lag *rows;
        size_t n;
        assert_int_equal(take(view_of(room + shift, b.size), &memory, &rows, &n), E_OK);
        mem_free(room); /* nothing of it is lent */
        assert_int_equal(n, 2);
        assert_string_equal(rows[0].topic, "orders");
        assert_string_equal(rows[0].group, "email");
        assert_int_equal(rows[0].lag_messages, 40);
        assert_int_equal(rows[0].lag_bytes, 4000);
        assert_int_equal(rows[0].in_flight, 3);
        assert_int_equal(rows[0].delayed, 2);
        assert_int_equal(rows[0].parked, 1);
        assert_true(rows[0].oldest_age_seconds == 1.5 && rows[0].ack_rate == 2.5 && rows[0].drain_eta_seconds == -1);
        assert_int_equal(rows[0].status, SLUICE_LAG_WARN);
        assert_int_equal(rows[0].scale_value, 38);
        assert_int_equal(rows[0].lost, 9);
        assert_string_equal(rows[1].group, "audit");
        assert_int_equal(rows[1].lag_messages, 0);
        arena_free(&memory);
    }
    buf_free(&b);
}

static void no_flipped_bit_gets_through(void **state)
{
    (void)state;
    struct buf b = good();
    for (size_t bit = 0; bit < 8 * b.size; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int code = refused(buf_view(&b));
        assert_int_equal(code, bit < 8 * PUBLICATION_TOPIC_SIZE ? E_UNSUPPORTED : E_BAD_FRAME);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_free(&b);
}

static void nothing_cut_or_longer_gets_through(void **state)
{
    (void)state;
    struct buf b = good();
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(refused(view_of(b.data, size)), E_BAD_FRAME);
    for (int i = 0; i < 40; i++) {
        buf_put_u8(&b, (uint8_t)i);
        assert_int_equal(refused(buf_view(&b)), E_BAD_FRAME);
    }
    buf_free(&b);
}

/* Each with the right hashes: what is wrong is what it says. */
static void what_is_no_page_of_lag_is_dropped(void **state)
{
    (void)state;
    const struct wire_reply page = {.body = BODY_LAG, .lag = {.rows = lag_rows, .rows_n = 1}};
    const struct wire_reply refusal = {.code = E_OVERLOADED, .body = BODY_LAG, .lag = {.rows = lag_rows, .rows_n = 1}};
    const struct wire_reply bare = {.body = BODY_NONE}, other = {.body = BODY_GROUPS};
    const struct wire_lag no_topic = {.group = {(const uint8_t *)"g", 1}}, no_group = {.topic = {(const uint8_t *)"t", 1}};
    assert_int_equal(refused_and_freed(published(&page, PUB_AVAIL, "lag")), E_UNSUPPORTED);
    assert_int_equal(refused_and_freed(published(&page, PUB_LIVE, "lag")), E_UNSUPPORTED);
    assert_int_equal(refused_and_freed(published(&page, PUB_LAG, "orders/email")), E_UNSUPPORTED);
    assert_int_equal(refused_and_freed(published(&refusal, PUB_LAG, "lag")), E_BAD_FRAME);
    assert_int_equal(refused_and_freed(published(&bare, PUB_LAG, "lag")), E_BAD_FRAME);
    assert_int_equal(refused_and_freed(published(&other, PUB_LAG, "lag")), E_BAD_FRAME);
    assert_int_equal(refused_and_freed(published(&(struct wire_reply){.body = BODY_LAG, .lag = {.rows = &no_topic, .rows_n = 1}}, PUB_LAG, "lag")),
                     E_BAD_FRAME);
    assert_int_equal(refused_and_freed(published(&(struct wire_reply){.body = BODY_LAG, .lag = {.rows = &no_group, .rows_n = 1}}, PUB_LAG, "lag")),
                     E_BAD_FRAME);
    uint8_t noise[300];
    struct rng rng;
    rng_seed(&rng, 11);
    for (int i = 0; i < 20000; i++) { /* well hashed nonsense */
        size_t size = PUB_FRAME_SIZE + rng_below(&rng, sizeof noise - PUB_FRAME_SIZE);
        rng_fill(&rng, noise, sizeof noise);
        pub_frame_put(noise, PUB_LAG, VIEW_LIT("lag"), noise + PUB_FRAME_SIZE, size - PUB_FRAME_SIZE);
        assert_int_equal(refused(view_of(noise, size)), E_BAD_FRAME);
    }
}

/* ---- off a connection ---- */

static const uint8_t pub_greeting[] = {0, 'S', 'P', 0, 0, 0x20, 0, 0}, rep_greeting[] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};

static void message(struct buf *b, bool ipc, size_t size, uint8_t fill)
{
    uint8_t length[8];
    put_u64be(length, size);
    if (ipc)
        buf_put_u8(b, 1);
    buf_append(b, length, sizeof length);
    memset(buf_reserve(b, size), fill, size);
    b->size += size;
}

/* Feeds bytes in pieces of up to `most`; appends the sizes of frames, and checks that each is of one byte repeated. */
static bool feed(struct inlet *in, struct view bytes, size_t most, struct buf *sizes)
{
    for (size_t at = 0; at < bytes.size;) {
        struct iovec pieces[2];
        size_t n = inlet_room(in, pieces), left = bytes.size - at < most ? bytes.size - at : most, came = 0;
        for (size_t i = 0; i < n && left > 0; i++) {
            size_t part = pieces[i].iov_len < left ? pieces[i].iov_len : left;
            memcpy(pieces[i].iov_base, bytes.data + at, part);
            at += part;
            came += part;
            left -= part;
        }
        inlet_came(in, came);
        struct inbound *frame;
        for (enum inlet_got got; (got = inlet_take(in, &frame)) != INLET_NOTHING;) {
            if (got == INLET_NONSENSE)
                return false;
            if (got == INLET_GREETING)
                continue;
            assert_int_equal((uintptr_t)(frame->frame + PUB_FRAME_SIZE) % 16, 0);
            assert_int_equal(frame->tag, 0);
            for (size_t i = 1; i < frame->size; i++)
                assert_int_equal(frame->frame[i], frame->frame[0]);
            uint64_t size = frame->size;
            buf_append(sizes, &size, sizeof size);
            mem_free(frame);
        }
    }
    return true;
}

static void what_is_too_large_is_passed_over_and_the_rest_comes_whole(void **state)
{
    (void)state;
    static const uint64_t expected[] = {10, 0, HEARD_BYTES_MAX, 300, 7};
    static const size_t most[] = {1000 * 1000, 65536, 4099, 17};
    for (int ipc = 0; ipc < 2; ipc++) {
        struct buf b = {0};
        buf_append(&b, pub_greeting, sizeof pub_greeting);
        message(&b, ipc, 10, 1);
        message(&b, ipc, HEARD_BYTES_MAX + 1, 2);
        message(&b, ipc, 0, 3);
        message(&b, ipc, HEARD_BYTES_MAX, 4);
        message(&b, ipc, 3 * HEARD_BYTES_MAX, 5);
        message(&b, ipc, HEARD_BYTES_MAX + 77, 6);
        message(&b, ipc, 300, 7);
        message(&b, ipc, 7, 8);
        for (size_t i = 0; i < ARRAY_LEN(most); i++) {
            struct inlet in = {.ahead = NULL};
            struct buf sizes = {0};
            inlet_init(&in, ipc, true);
            assert_true(feed(&in, buf_view(&b), most[i], &sizes));
            assert_int_equal(sizes.size, sizeof expected);
            assert_memory_equal(sizes.data, expected, sizeof expected);
            buf_free(&sizes);
            inlet_free(&in);
        }
        buf_free(&b);
    }
}

static bool makes_sense(const uint8_t *greeting, uint64_t length)
{
    uint8_t bytes[16];
    struct inlet in = {.ahead = NULL};
    struct buf sizes = {0};
    memcpy(bytes, greeting, 8);
    put_u64be(bytes + 8, length);
    inlet_init(&in, false, true);
    bool sense = feed(&in, view_of(bytes, sizeof bytes), sizeof bytes, &sizes);
    assert_true(in.in == NULL || in.in->size <= HEARD_BYTES_MAX);
    inlet_free(&in);
    buf_free(&sizes);
    return sense;
}

static void nonsense_ends_a_connection_and_takes_no_memory(void **state)
{
    (void)state;
    assert_true(makes_sense(pub_greeting, 5));
    assert_true(makes_sense(pub_greeting, HEARD_BYTES_MAX + 1));
    assert_false(makes_sense(rep_greeting, 5));
    assert_false(makes_sense(pub_greeting, UINT64_MAX));
    assert_false(makes_sense(pub_greeting, UINT64_C(1) << 40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_publisher_is_heard_where_the_session_goes),
        cmocka_unit_test(an_address_that_does_not_fit_is_none),
        cmocka_unit_test(rows_come_as_they_were_published),
        cmocka_unit_test(no_flipped_bit_gets_through),
        cmocka_unit_test(nothing_cut_or_longer_gets_through),
        cmocka_unit_test(what_is_no_page_of_lag_is_dropped),
        cmocka_unit_test(what_is_too_large_is_passed_over_and_the_rest_comes_whole),
        cmocka_unit_test(nonsense_ends_a_connection_and_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
