/* What one connection may have out, and what happens at the bound. */
#include "talk.h"

#include <unistd.h>

enum { MIB = 1 << 20 };

static struct broker_proc b;

static void start(const char *const *args)
{
    broker_start(&b, args);
}

static void stop(void)
{
    assert_true(broker_runs(&b));
    EVENTUALLY(60000, talker_is_served(b.url));
    broker_end(&b);
}

/* A long poll on a group that has nothing. */
static struct wire_request poll_for(const uint32_t *group, uint32_t slot)
{
    return (struct wire_request){
        .verb = VERB_RECEIVE,
        .receive = {
            .slot = slot, .counter = 1, .groups = group, .groups_n = 1, .max_messages = 1, .wait_ms = 60000}};
}

/* ---- requests */

static void the_sixty_first_unanswered_request_closes_the_connection(void **state)
{
    (void)state;
    start((const char *const[]){"--set", "limits.waiting_per_session_max=60", NULL});
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    talker_topic(&t, "t", 1, DURABILITY_OS);
    const uint32_t group = talker_group(&t, "t", "g");
    for (uint32_t slot = 0; slot < 60; slot++) {
        struct wire_request r = poll_for(&group, slot);
        talker_send(&t, &r);
    }
    struct heard h;
    assert_false(talker_hear(&t, 300, &h)); /* sixty wait */
    struct wire_request r = {.verb = VERB_HEALTH};
    talker_send(&t, &r);
    assert_true(talker_is_lost_by(&t, 10000));
    assert_int_equal((int)broker_metric(&b, "sluice_wire_closed_flood_total"), 1);
    talker_close(&t);
    stop();
}

static void the_thirteenth_waiting_request_ends_the_oldest(void **state)
{
    (void)state;
    start(NULL);
    struct talker t;
    struct heard h;
    talker_open(&t, b.url);
    talker_hello(&t);
    talker_topic(&t, "t", 1, DURABILITY_OS);
    const uint32_t group = talker_group(&t, "t", "g");
    uint32_t first = 0;
    for (uint32_t slot = 0; slot < 13; slot++) {
        struct wire_request r = poll_for(&group, slot);
        uint32_t id = talker_send(&t, &r);
        first = slot == 0 ? id : first;
    }
    assert_true(talker_hear(&t, 30000, &h));
    assert_int_equal(h.id, first);
    assert_int_equal(h.reply.code, E_AGAIN);
    heard_free(&h);
    assert_false(talker_hear(&t, 200, &h));
    talker_close(&t);
    stop();
}

/* ---- connections without hello */

static void only_so_many_may_stay_without_hello_and_not_for_long(void **state)
{
    (void)state;
    start((const char *const[]){"--set", "limits.hello_ms=5s", NULL});
    int fds[64];
    for (size_t i = 0; i < 64; i++)
        fds[i] = sp_connect(b.url);
    EVENTUALLY(60000, (int)broker_metric(&b, "sluice_unauthenticated_pipes") == 64);
    int one_more = sp_connect(b.url);
    assert_true(tcp_closed_by(one_more, 3000)); /* refused at once */
    close(one_more);
    for (size_t i = 0; i < 64; i++) {
        assert_true(tcp_closed_by(fds[i], 30000));
        close(fds[i]);
    }
    assert_int_equal((int)broker_metric(&b, "sluice_wire_closed_no_hello_total"), 64);
    stop();
}

static void who_said_hello_may_stay(void **state)
{
    (void)state;
    start((const char *const[]){"--set", "limits.hello_ms=1500ms", NULL});
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    int silent = sp_connect(b.url);
    assert_true(tcp_closed_by(silent, 10000));
    close(silent);
    struct wire_request r = {.verb = VERB_HEALTH};
    assert_int_equal(talker_call(&t, &r, NULL), E_OK);
    talker_close(&t);
    stop();
}

/* ---- replies that are not read */

/* A client that was let in, on a bare connection. */
static int let_in(struct talker *t)
{
    int fd = sp_connect(b.url);
    struct wire_request r = {.verb = VERB_HELLO, .hello = {.version_min = 1, .version_max = 1}};
    size_t size;
    uint32_t id;
    uint8_t *frame = talker_frame(t, &r, &size);
    assert_true(sp_send(fd, 1, frame, size, 10000));
    free(frame);
    uint8_t *reply = sp_hear(fd, &id, &size, 10000);
    assert_non_null(reply);
    free(reply);
    return fd;
}

/* 32 MiB to read, in messages of 1 MiB less a little. */
static uint32_t fill(struct talker *t)
{
    uint32_t partition = talker_topic(t, "big", 1, DURABILITY_OS);
    for (uint64_t seq = 1; seq <= 32; seq++)
        assert_int_equal(talker_produce(t, partition, seq, 1, MIB - 100), E_OK);
    return partition;
}

static void a_client_that_reads_nothing_is_closed_and_costs_no_more_than_its_bound(void **state)
{
    (void)state;
    start(NULL);
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    const struct wire_fetch_from from = {.partition = fill(&t)};
    size_t before = broker_resident(&b), size, most = 0;

    struct talker rude = {.session = {77, 1}};
    int fd = let_in(&rude);
    struct wire_request r = {.verb = VERB_FETCH, .fetch = {.from = &from, .from_n = 1, .max_bytes = 8 * MIB}};
    uint8_t *frame = talker_frame(&rude, &r, &size);
    for (uint32_t i = 0; i < 60; i++)
        if (!sp_send(fd, 2 + i, frame, size, 10000))
            break;
    EVENTUALLY(60000, (most = broker_resident(&b) > most ? broker_resident(&b) : most,
                       broker_metric(&b, "sluice_wire_closed_unread_total") >= 1));
    assert_true(tcp_closed_by(fd, 10000));
    assert_in_range(most, 0, before + 200 * (size_t)MIB);
    EVENTUALLY(60000, broker_metric(&b, "sluice_unread_bytes") == 0);
    free(frame);
    close(fd);

    struct wire_request ask = {.verb = VERB_HEALTH};
    assert_int_equal(talker_call(&t, &ask, NULL), E_OK);
    talker_close(&t);
    stop();
}

static void a_client_that_only_asks_is_closed_too(void **state)
{
    (void)state;
    start(NULL);
    size_t before = broker_resident(&b), size;
    struct talker rude = {.session = {77, 2}};
    int fd = let_in(&rude);
    struct wire_request r = {.verb = VERB_HEALTH};
    uint8_t *frame = talker_frame(&rude, &r, &size);
    bool open = true;
    for (uint32_t i = 0; i < 2000000 && open; i++)
        open = sp_send(fd, 2 + i, frame, size, 20000);
    assert_false(open);
    assert_in_range(broker_resident(&b), 0, before + 100 * (size_t)MIB);
    double closed = broker_metric(&b, "sluice_wire_closed_unread_total") +
                    broker_metric(&b, "sluice_wire_closed_flood_total");
    assert_true(closed >= 1);
    free(frame);
    close(fd);
    stop();
}

static void many_that_read_nothing_cost_no_more_than_the_bound_of_all(void **state)
{
    (void)state;
    start(NULL);
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    const struct wire_fetch_from from = {.partition = fill(&t)};
    size_t before = broker_resident(&b), size, most = 0;
    struct wire_request r = {.verb = VERB_FETCH, .fetch = {.from = &from, .from_n = 1, .max_bytes = 8 * MIB}};
    int fds[16];
    for (size_t k = 0; k < 16; k++) {
        struct talker rude = {.session = {78, k}};
        fds[k] = let_in(&rude);
        uint8_t *frame = talker_frame(&rude, &r, &size);
        for (uint32_t i = 0; i < 6; i++) /* 48 MiB: no one of them is over its own bound */
            assert_true(sp_send(fds[k], 2 + i, frame, size, 10000));
        free(frame);
    }
    EVENTUALLY(60000, (most = broker_resident(&b) > most ? broker_resident(&b) : most,
                       broker_metric(&b, "sluice_requests_in_flight") == 0));
    assert_true(broker_metric(&b, "sluice_wire_closed_unread_total") >= 1);
    assert_in_range((size_t)broker_metric(&b, "sluice_unread_bytes"), 0, 256 * (size_t)MIB);
    assert_in_range(most, 0, before + 450 * (size_t)MIB);
    for (size_t k = 0; k < 16; k++)
        close(fds[k]);
    talker_close(&t);
    stop();
}

static void a_client_that_reads_slowly_but_keeps_to_sixty_gets_everything(void **state)
{
    (void)state;
    start(NULL);
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    const struct wire_fetch_from from = {.partition = fill(&t)};
    struct talker slow = {.session = {79, 1}};
    int fd = let_in(&slow);
    struct wire_request r = {.verb = VERB_FETCH, .fetch = {.from = &from, .from_n = 1, .max_bytes = MIB / 2}};
    size_t size;
    uint8_t *frame = talker_frame(&slow, &r, &size);
    for (uint32_t i = 0; i < 60; i++)
        assert_true(sp_send(fd, 2 + i, frame, size, 10000));
    EVENTUALLY(60000, broker_metric(&b, "sluice_requests_in_flight") == 0);
    for (uint32_t i = 0, id; i < 60; i++) { /* all of it lay in the broker, and is there */
        uint8_t *reply = sp_hear(fd, &id, &size, 10000);
        assert_non_null(reply);
        assert_true(size > MIB / 2);
        free(reply);
    }
    free(frame);
    close(fd);
    talker_close(&t);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sixty_first_unanswered_request_closes_the_connection),
        cmocka_unit_test(the_thirteenth_waiting_request_ends_the_oldest),
        cmocka_unit_test(only_so_many_may_stay_without_hello_and_not_for_long),
        cmocka_unit_test(who_said_hello_may_stay),
        cmocka_unit_test(a_client_that_reads_nothing_is_closed_and_costs_no_more_than_its_bound),
        cmocka_unit_test(a_client_that_only_asks_is_closed_too),
        cmocka_unit_test(many_that_read_nothing_cost_no_more_than_the_bound_of_all),
        cmocka_unit_test(a_client_that_reads_slowly_but_keeps_to_sixty_gets_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
