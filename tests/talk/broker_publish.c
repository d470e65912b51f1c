/* Hints and lag, as a subscriber sees them. */
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>

#include "base/clock.h"
#include "talk.h"

struct ear {
    nng_socket socket;
};

static void ear_open(struct ear *e, const char *url, const void *topic, size_t size)
{
    assert_int_equal(nng_sub0_open(&e->socket), 0);
    assert_int_equal(nng_socket_set(e->socket, NNG_OPT_SUB_SUBSCRIBE, topic, size), 0);
    assert_int_equal(nng_dial(e->socket, url, NULL, 0), 0);
}

/* The next publication of this kind, within `ms`. */
static bool ear_hear(struct ear *e, enum pub_kind kind, int ms, nng_msg **out)
{
    uint64_t until = clock_mono_ms() + (uint64_t)ms, now;
    while ((now = clock_mono_ms()) < until) {
        enum pub_kind got;
        uint32_t channel;
        struct err err;
        assert_int_equal(nng_socket_set_ms(e->socket, NNG_OPT_RECVTIMEO, (int)(until - now)), 0);
        if (nng_recvmsg(e->socket, out, 0) != 0)
            return false;
        assert_int_equal(pub_frame_check(nng_msg_body(*out), nng_msg_len(*out), &got, &channel, &err), E_OK);
        if (got == kind)
            return true;
        nng_msg_free(*out);
    }
    return false;
}

static struct broker_proc b;
static struct talker t;

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    talker_open(&t, b.url);
    talker_hello(&t);
    return 0;
}

static int end(void **state)
{
    (void)state;
    talker_close(&t);
    broker_end(&b);
    return 0;
}

static int receive(uint32_t group, uint64_t counter, uint32_t *messages)
{
    struct wire_request r = {
        .verb = VERB_RECEIVE,
        .receive = {.counter = counter, .groups = &group, .groups_n = 1, .max_messages = 100}};
    struct heard h;
    int code = talker_call(&t, &r, &h);
    *messages = 0;
    for (uint32_t i = 0; code == E_OK && i < h.reply.receive.deliveries_n; i++)
        *messages += h.reply.receive.deliveries[i].records_n;
    heard_free(&h);
    return code;
}

static void a_group_that_had_nothing_is_hinted_when_it_has_something(void **state)
{
    (void)state;
    uint32_t partition = talker_topic(&t, "photos", 1, DURABILITY_OS), got;
    uint32_t group = talker_group(&t, "photos", "thumbnail");
    assert_int_equal(receive(group, 1, &got), E_OK);
    assert_int_equal(got, 0);
    uint8_t channel[8] = {PUB_AVAIL, WIRE_VERSION, 0, 0};
    put_u32(channel + 4, pub_channel_hash(VIEW_LIT("photos/thumbnail")));
    struct ear e;
    ear_open(&e, b.publish, channel, sizeof channel);
    EVENTUALLY(60000, broker_metric(&b, "sluice_subscribers") >= 1);
    assert_int_equal(talker_produce(&t, partition, 1, 3, 100), E_OK);
    nng_msg *m;
    assert_true(ear_hear(&e, PUB_AVAIL, 10000, &m));
    assert_int_equal(nng_msg_len(m), PUB_FRAME_SIZE + 4);
    assert_int_equal(get_u32((uint8_t *)nng_msg_body(m) + PUB_FRAME_SIZE), group);
    nng_msg_free(m);
    nng_close(e.socket);
}

/* The lag of one group as a page says it; -1 if it is not in the page. */
static long lag_in(nng_msg *m, const char *group)
{
    struct wire_reply reply;
    struct arena arena;
    struct err e;
    long lag = -1;
    arena_init(&arena, 1 << 20);
    struct view body = view_of((uint8_t *)nng_msg_body(m) + PUB_FRAME_SIZE, nng_msg_len(m) - PUB_FRAME_SIZE);
    assert_int_equal(codec_reply_decode(body, &reply, &arena, &e), E_OK);
    assert_int_equal(reply.body, BODY_LAG);
    for (uint32_t i = 0; i < reply.lag.rows_n; i++)
        if (view_eq(reply.lag.rows[i].group, view_of_str(group)))
            lag = (long)reply.lag.rows[i].lag_messages;
    arena_free(&arena);
    return lag;
}

static void a_newcomer_hears_the_lag_of_all_and_then_of_those_that_change(void **state)
{
    (void)state;
    uint32_t partition = talker_topic(&t, "lagging", 1, DURABILITY_OS);
    talker_group(&t, "lagging", "changes");
    talker_topic(&t, "quiet", 1, DURABILITY_OS);
    talker_group(&t, "quiet", "rests");
    struct ear e;
    const uint8_t kind = PUB_LAG;
    nng_msg *m;
    ear_open(&e, b.publish, &kind, 1);
    bool all = false;
    for (int pages = 0; pages < 5 && !all; pages++) {
        assert_true(ear_hear(&e, PUB_LAG, 10000, &m));
        all = lag_in(m, "rests") == 0 && lag_in(m, "changes") == 0;
        nng_msg_free(m);
    }
    assert_true(all);
    for (uint64_t seq = 1; seq <= 2; seq++) { /* the first change may come with a page of all */
        long lag = -1, rests = -1;
        assert_int_equal(talker_produce(&t, partition, seq, 4, 100), E_OK);
        while (lag != 4 * (long)seq) {
            assert_true(ear_hear(&e, PUB_LAG, 10000, &m));
            lag = lag_in(m, "changes");
            rests = lag_in(m, "rests");
            nng_msg_free(m);
        }
        assert_true(seq == 1 || rests == -1);
    }
    nng_close(e.socket);
}

static void without_subscribers_nothing_is_asked_or_sent(void **state)
{
    (void)state;
    EVENTUALLY(60000, broker_metric(&b, "sluice_subscribers") == 0);
    double hints = broker_metric(&b, "sluice_wire_hints_total"), got = 0;
    uint32_t partition = talker_topic(&t, "unheard", 1, DURABILITY_OS), messages;
    uint32_t group = talker_group(&t, "unheard", "g");
    assert_int_equal(receive(group, 1, &messages), E_OK);
    assert_int_equal(talker_produce(&t, partition, 1, 1, 10), E_OK);
    EVENTUALLY(60000, (receive(group, 2 + (uint64_t)got++, &messages), messages == 1));
    assert_true(broker_metric(&b, "sluice_wire_hints_total") == hints);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_had_nothing_is_hinted_when_it_has_something),
        cmocka_unit_test(a_newcomer_hears_the_lag_of_all_and_then_of_those_that_change),
        cmocka_unit_test(without_subscribers_nothing_is_asked_or_sent),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
