/* What a broker says to frames, good and bad, and to hello. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "talk.h"

static struct broker_proc b;

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(broker_runs(&b)); /* whatever was said to it */
    assert_true(talker_is_served(b.url));
    broker_end(&b);
    return 0;
}

static struct wire_request health(void)
{
    return (struct wire_request){.verb = VERB_HEALTH};
}

/* ---- hello */

static void every_address_serves(void **state)
{
    (void)state;
    assert_true(talker_is_served(b.url));
    assert_true(talker_is_served(b.ipc));
}

static void before_hello_there_is_no_session(void **state)
{
    (void)state;
    struct talker t;
    talker_open(&t, b.url);
    struct wire_request r = health();
    struct heard h;
    assert_int_equal(talker_call(&t, &r, &h), E_NO_SESSION);
    heard_free(&h);
    talker_hello(&t); /* and then there is */
    assert_int_equal(talker_call(&t, &r, NULL), E_OK);
    talker_close(&t);
}

static void hello_tells_where_else_to_listen_and_the_limits(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    struct wire_request r = {.verb = VERB_HELLO,
                             .hello = {.version_min = 1, .version_max = 5, .name = VIEW_LIT("me")}};
    assert_int_equal(talker_call(&t, &r, &h), E_OK);
    const struct wire_hello_reply *hello = &h.reply.hello;
    assert_int_equal(hello->version, 1);
    assert_false(hello->resumed);
    assert_int_equal(hello->publish_n, 1);
    assert_true(view_eq(hello->publish[0], view_of_str(b.publish)));
    assert_true(view_eq(hello->http, view_of_str(b.http)));
    assert_int_equal(hello->epoch, 1);
    assert_int_equal(hello->limits.requests_in_flight_max, 60);
    assert_int_equal(hello->limits.requests_waiting_max, 12);
    assert_int_equal(hello->limits.request_bytes_max, 16 << 20);
    assert_true(hello->limits.message_bytes_max >= 1 << 20);
    assert_int_equal(hello->limits.session_grace_ms, 10000);
    heard_free(&h);
    talker_close(&t);
}

static void a_client_of_another_version_is_told_so(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    struct wire_request r = {.verb = VERB_HELLO, .hello = {.version_min = 2, .version_max = 3}};
    assert_int_equal(talker_call(&t, &r, &h), E_BAD_VERSION);
    assert_has((const char *)h.reply.detail.data, "2 to 3");
    heard_free(&h);

    uint8_t frame[FRAME_SIZE + 4] = {0};
    frame_put(frame, (struct frame){.version = 7, .verb = VERB_HELLO}, frame + FRAME_SIZE, 4);
    talker_send_bytes(&t, frame, sizeof frame);
    assert_true(talker_hear(&t, 30000, &h));
    assert_int_equal(h.reply.code, E_BAD_VERSION);
    heard_free(&h);
    talker_close(&t);
}

static void a_session_that_nobody_knows_cannot_be_resumed(void **state)
{
    (void)state;
    struct talker t;
    talker_open(&t, b.url);
    struct wire_request r = {.verb = VERB_HELLO,
                             .hello = {.version_min = 1, .version_max = 1, .resume = true}};
    assert_int_equal(talker_call(&t, &r, NULL), E_SESSION_EXPIRED);
    talker_close(&t);
}

static void a_session_on_a_new_connection_closes_the_old_one(void **state)
{
    (void)state;
    struct talker old, new;
    struct heard h;
    talker_open(&old, b.url);
    talker_hello(&old);
    talker_open(&new, b.url);
    new.session = old.session;
    struct wire_request r = {.verb = VERB_HELLO,
                             .hello = {.version_min = 1, .version_max = 1, .resume = true}};
    assert_int_equal(talker_call(&new, &r, &h), E_OK);
    assert_true(h.reply.hello.resumed);
    heard_free(&h);
    assert_true(talker_is_lost_by(&old, 5000));
    r = health();
    assert_int_equal(talker_call(&new, &r, NULL), E_OK);
    talker_close(&old);
    talker_close(&new);
}

/* ---- frames */

static void a_wrong_checksum_is_answered_and_nothing_is_done(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    talker_hello(&t);
    struct wire_request r = {.verb = VERB_TOPIC_CREATE, .seq = 1, .topic = {.name = VIEW_LIT("never")}};
    size_t size;
    uint8_t *frame = talker_frame(&t, &r, &size);
    for (size_t i = 1; i < size; i++) {
        if (i == 1 || i == 3) /* version and flags have answers of their own */
            continue;
        frame[i] ^= 0x20;
        talker_send_bytes(&t, frame, size);
        assert_true(talker_hear(&t, 30000, &h));
        assert_int_equal(h.reply.code, E_BAD_FRAME);
        heard_free(&h);
        frame[i] ^= 0x20;
    }
    free(frame);
    r = (struct wire_request){.verb = VERB_TOPIC_LIST, .list = {.name = VIEW_LIT("never")}};
    assert_int_equal(talker_call(&t, &r, NULL), E_TOPIC_NOT_FOUND);
    talker_close(&t);
}

static void a_verb_that_is_not_known_is_unsupported(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    talker_hello(&t);
    uint8_t frame[FRAME_SIZE + 8] = {0};
    frame_put(frame, (struct frame){.version = WIRE_VERSION, .verb = 200}, frame + FRAME_SIZE, 8);
    talker_send_bytes(&t, frame, sizeof frame);
    assert_true(talker_hear(&t, 30000, &h));
    assert_int_equal(h.reply.code, E_UNSUPPORTED);
    assert_int_equal(h.frame.verb, 200);
    heard_free(&h);
    talker_close(&t);
}

static void a_body_of_another_verb_is_a_bad_frame(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    talker_hello(&t);
    struct wire_request r = health();
    size_t size;
    uint8_t *frame = talker_frame(&t, &r, &size);
    frame_put(frame, (struct frame){.version = WIRE_VERSION, .verb = VERB_BYE}, frame + FRAME_SIZE,
              size - FRAME_SIZE);
    talker_send_bytes(&t, frame, size);
    assert_true(talker_hear(&t, 30000, &h));
    assert_int_equal(h.reply.code, E_BAD_FRAME);
    heard_free(&h);
    assert_int_equal(talker_call(&t, &r, NULL), E_OK); /* the session goes on */
    free(frame);
    talker_close(&t);
}

static void closes(const void *bytes, size_t size)
{
    struct talker t;
    talker_open(&t, b.url);
    talker_send_bytes(&t, bytes, size);
    assert_true(talker_is_lost_by(&t, 10000));
    talker_close(&t);
}

static void what_is_no_frame_closes_its_connection(void **state)
{
    (void)state;
    closes("", 0);
    closes("S", 1);
    closes("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    uint8_t reply[FRAME_SIZE + 4] = {0};
    frame_put(reply, (struct frame){.version = WIRE_VERSION, .verb = VERB_HELLO, .flags = FRAME_REPLY},
              reply + FRAME_SIZE, 4);
    closes(reply, sizeof reply);
}

static void a_request_over_the_limit_closes_its_connection(void **state)
{
    (void)state;
    size_t size = (16 << 20) + 1;
    char *bytes = calloc(1, size);
    closes(bytes, size);
    free(bytes);
}

static void requests_of_one_connection_are_answered_in_their_order(void **state)
{
    (void)state;
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    talker_hello(&t);
    for (int round = 0; round < 50; round++) {
        uint32_t first = 0;
        for (int i = 0; i < 50; i++) {
            struct wire_request r = health();
            uint32_t id = talker_send(&t, &r);
            first = i == 0 ? id : first;
        }
        for (uint32_t i = 0; i < 50; i++) {
            assert_true(talker_hear(&t, 30000, &h));
            assert_int_equal(h.id, first + i);
            heard_free(&h);
        }
    }
    talker_close(&t);
}

/* Was a bug: connections that the broker accepts gathered small replies (Nagle), so the second of two waited until the client's kernel
 * acknowledged the first, for 40 ms where the client has nothing else to say. */
static void a_reply_does_not_wait_for_the_one_before_to_be_acknowledged(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    struct talker t;
    unsigned late = 0;
    const int on = 1;
    talker_open(&t, b.url);
    /* or our second request would wait for, and acknowledge, the first reply */
    assert_int_equal(setsockopt(t.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    talker_hello(&t);
    talker_topic(&t, "replies", 1, DURABILITY_OS);
    uint32_t group = talker_group(&t, "replies", "g");
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        struct wire_request now = health(), later = {.verb = VERB_RECEIVE};
        later.receive = (struct wire_receive){
            .counter = i, .groups = &group, .groups_n = 1, .max_messages = 1, .wait_ms = 4};
        uint64_t began = clock_mono_ms();
        talker_send(&t, &now);
        talker_send(&t, &later);
        for (int k = 0; k < 2; k++) {
            struct heard h;
            assert_true(talker_hear(&t, 30000, &h));
            assert_int_equal(h.reply.code, E_OK);
            heard_free(&h);
        }
        late += clock_mono_ms() - began >= 40;
    }
    if (late > ROUNDS / 2)
        fail_msg("%u of %d times the second of two replies took 40 ms", late, ROUNDS);
    talker_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_address_serves),
        cmocka_unit_test(before_hello_there_is_no_session),
        cmocka_unit_test(hello_tells_where_else_to_listen_and_the_limits),
        cmocka_unit_test(a_client_of_another_version_is_told_so),
        cmocka_unit_test(a_session_that_nobody_knows_cannot_be_resumed),
        cmocka_unit_test(a_session_on_a_new_connection_closes_the_old_one),
        cmocka_unit_test(a_wrong_checksum_is_answered_and_nothing_is_done),
        cmocka_unit_test(a_verb_that_is_not_known_is_unsupported),
        cmocka_unit_test(a_body_of_another_verb_is_a_bad_frame),
        cmocka_unit_test(what_is_no_frame_closes_its_connection),
        cmocka_unit_test(a_request_over_the_limit_closes_its_connection),
        cmocka_unit_test(requests_of_one_connection_are_answered_in_their_order),
        cmocka_unit_test(a_reply_does_not_wait_for_the_one_before_to_be_acknowledged),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
