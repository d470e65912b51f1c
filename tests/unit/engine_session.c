/* Sessions: who is there, on which pipe, and what happens when a pipe is lost. */
#include "engine_kit.h"

static int ask_topics(struct kit *k, int who) { return kit_ask(k, kit_request(k, who, VERB_TOPIC_LIST), who)->code; }

static int hello(struct kit *k, struct wire_hello h, struct id128 id, uint64_t pipe)
{
    struct wire_request r = {.session = id, .verb = VERB_HELLO, .hello = h};
    k->pipe[0] = pipe;
    return kit_ask(k, r, 0)->code;
}

static const struct wire_hello ordinary = {.version_min = 1, .version_max = 1};

static void anything_before_hello_has_no_session(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->pipe[0] = 77;
    assert_int_equal(ask_topics(w.k, 0), E_NO_SESSION);
    w.k->pipe[0] = w.k->pipe[A]; /* a session is not the pipe's to choose */
    assert_int_equal(ask_topics(w.k, 0), E_NO_SESSION);
    kit_free(w.k);
}

static void a_version_that_is_not_spoken_and_a_session_of_zeros_are_refused(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(hello(w.k, (struct wire_hello){.version_min = 2, .version_max = 9}, (struct id128){1, 9}, 50), E_BAD_VERSION);
    assert_int_equal(hello(w.k, ordinary, (struct id128){0, 0}, 50), E_INVALID_ARGUMENT);
    kit_free(w.k);
}

static void sessions_that_share_half_an_id_are_different(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    size_t before = w.k->engine->sessions_n;
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(hello(w.k, ordinary, (struct id128){55, i}, 50 + i), E_OK);
    assert_int_equal(w.k->engine->sessions_n, before + 3);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(session_find(w.k->engine, (struct id128){55, i})->pipe, 50 + i);
    w.k->pipe[0] = 52; /* the one in the middle goes */
    kit_ask(w.k, (struct wire_request){.session = {55, 2}, .verb = VERB_BYE}, 0);
    assert_null(session_find(w.k->engine, (struct id128){55, 2}));
    assert_non_null(session_find(w.k->engine, (struct id128){55, 1}));
    assert_non_null(session_find(w.k->engine, (struct id128){55, 3}));
    kit_free(w.k);
}

static void a_session_that_is_not_known_cannot_be_resumed(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(hello(w.k, (struct wire_hello){.version_min = 1, .version_max = 1, .resume = true}, (struct id128){3, 99}, 50),
                     E_SESSION_EXPIRED);
    kit_free(w.k);
}

static void a_second_pipe_takes_the_session_over_and_the_older_is_dropped(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 1);
    struct call *waiting = kit_receive_wait(w.k, B, 3, w.g, 1, 10000);
    uint64_t older = w.k->pipe[B];
    assert_int_equal(kit_hello(w.k, B, true), E_OK);
    assert_int_equal(w.k->drops, 1);
    assert_int_equal(w.k->dropped_pipe, older);
    assert_int_equal(kit_reply(waiting)->code, E_CLOSED);
    kit_pass(w.k, w.k->limits.session_grace_ms + 1); /* its leases are not given back: it is there */
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1");
    uint64_t newer = w.k->pipe[B];
    w.k->pipe[B] = older;
    assert_int_equal(ask_topics(w.k, B), E_NO_SESSION);
    kit_lose_pipe(w.k, B); /* the older pipe's end means nothing any more */
    w.k->pipe[B] = newer;
    assert_int_equal(ask_topics(w.k, B), E_OK);
    kit_free(w.k);
}

static void leases_stay_for_the_grace_and_return_after_it_without_a_failure(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 1);
    kit_lose_pipe(w.k, B);
    kit_pass(w.k, w.k->limits.session_grace_ms - 1);
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "");
    kit_pass(w.k, 1);
    struct call *c = kit_receive_wait(w.k, C, 1, w.g, 1, 0);
    const struct wire_record *r = kit_record(kit_reply(c), 0);
    assert_int_equal(r->failures, 0);
    assert_int_equal(r->grants, 2);
    kit_free(w.k);
}

static void a_session_that_comes_back_within_the_grace_keeps_its_leases(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 1);
    kit_lose_pipe(w.k, B);
    kit_pass(w.k, w.k->limits.session_grace_ms - 1);
    assert_int_equal(kit_hello(w.k, B, true), E_OK);
    kit_pass(w.k, w.k->limits.session_grace_ms);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1");
    assert_string_equal(kit_ack(w.k, B, w.g, "0"), "");
    kit_free(w.k);
}

static void a_session_without_a_pipe_is_forgotten_after_its_ttl(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce_by(w.k, B, w.p, "a");
    kit_lose_pipe(w.k, B);
    kit_pass(w.k, w.k->limits.session_ttl_ms - 1);
    assert_int_equal(w.k->engine->sessions_n, 3);
    kit_pass(w.k, 1);
    assert_int_equal(w.k->engine->sessions_n, 2);
    assert_int_equal(kit_hello(w.k, B, true), E_SESSION_EXPIRED);
    struct key prefix = key_lane_prefix((struct id128){B, 1});
    struct store_iter *it = store_iter(w.k->store, FAM_SESSIONS);
    store_iter_seek(it, key_view(&prefix));
    assert_false(store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix));
    store_iter_close(it);
    kit_free(w.k);
}

static void a_restart_begins_grace_and_ttl_anew(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 1);
    kit_lose_pipe(w.k, B);
    kit_pass(w.k, w.k->limits.session_grace_ms - 1);
    kit_restart_alone(w.k);
    kit_pass(w.k, w.k->limits.session_grace_ms - 1);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1");
    assert_int_equal(kit_hello(w.k, B, true), E_OK);
    assert_string_equal(kit_ack(w.k, B, w.g, "0"), "");
    kit_restart_alone(w.k);
    kit_pass(w.k, w.k->limits.session_ttl_ms);
    assert_int_equal(w.k->engine->sessions_n, 0);
    kit_free(w.k);
}

static void bye_gives_the_leases_back_at_once_and_answers_what_waits(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 1);
    struct call *waiting = kit_receive_wait(w.k, B, 2, w.g, 1, 10000);
    assert_int_equal(kit_ask(w.k, kit_request(w.k, B, VERB_BYE), B)->code, E_OK);
    assert_int_equal(kit_reply(waiting)->code, E_CLOSED);
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "0");
    assert_int_equal(ask_topics(w.k, B), E_NO_SESSION);
    assert_int_equal(kit_hello(w.k, B, true), E_SESSION_EXPIRED);
    kit_free(w.k);
}

/* A session that holds 10,000 messages, none of them with a key. */
static uint32_t hold_many(struct kit *k)
{
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 3600000});
    k->watch = false;
    kit_produce_many(k, p, "-", 10000);
    struct group *of = map_get(&k->engine->groups, g);
    for (int i = 0; i < 10 && of->leased < 10000; i++) {
        kit_receive_wait(k, A, 0, g, 10000, 0);
        kit_pass(k, 50);
    }
    assert_int_equal(of->leased, 10000);
    return g;
}

static uint64_t leased(struct kit *k, uint32_t g) { return ((struct group *)map_get(&k->engine->groups, g))->leased; }

static void very_many_leases_return_over_several_turns_and_the_session_is_there_until_they_did(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) { /* bye; bye and a restart in the middle; the grace is over */
        struct kit *k = kit_new();
        uint32_t g = hold_many(k);
        if (how < 2) {
            kit_ask(k, kit_request(k, A, VERB_BYE), A);
        } else {
            kit_lose_pipe(k, A);
            k->now.mono_ms += k->limits.session_grace_ms;
            kit_begin(k);
            kit_end(k);
        }
        assert_in_range(leased(k, g), 5000, 6000);
        k->watch = true;
        if (how == 0) {
            assert_int_equal(kit_hello(k, A, true), E_SESSION_EXPIRED);
            assert_int_equal(kit_hello(k, A, false), E_AGAIN);
        }
        if (how == 1) {
            uint64_t before = leased(k, g);
            kit_restart_alone(k);
            assert_int_equal(leased(k, g), before);
            k->watch = false;
            kit_pass(k, k->limits.session_grace_ms);
        }
        kit_pass(k, 10);
        assert_int_equal(leased(k, g), 0);
        struct engine_census c;
        engine_census(k->engine, VIEW_LIT("t"), VIEW_LIT("g"), &c);
        assert_int_equal(c.ready, 10000);
        if (how == 0)
            assert_int_equal(kit_hello(k, A, true), E_SESSION_EXPIRED);
        kit_free(k);
    }
}

static void who_comes_back_while_leases_return_keeps_the_rest(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t g = hold_many(k);
    kit_lose_pipe(k, A);
    k->now.mono_ms += k->limits.session_grace_ms;
    kit_begin(k);
    kit_end(k);
    uint64_t rest = leased(k, g);
    assert_in_range(rest, 5000, 6000);
    assert_int_equal(kit_hello(k, A, true), E_OK);
    kit_pass(k, 1000);
    assert_int_equal(leased(k, g), rest);
    kit_free(k);
}

static void a_hello_for_another_session_on_a_pipe_leaves_the_first_without_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(hello(w.k, ordinary, (struct id128){70, 1}, w.k->pipe[B]), E_OK);
    assert_int_equal(session_find(w.k->engine, (struct id128){B, 1})->pipe, 0);
    assert_int_equal(ask_topics(w.k, B), E_NO_SESSION);
    kit_pass(w.k, w.k->limits.session_ttl_ms);
    assert_null(session_find(w.k->engine, (struct id128){B, 1}));
    assert_non_null(session_find(w.k->engine, (struct id128){70, 1}));
    kit_free(w.k);
}

static void sessions_are_limited_and_those_that_are_there_go_on(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->limits.sessions_max = 4;
    assert_int_equal(hello(w.k, ordinary, (struct id128){80, 1}, 60), E_OK);
    assert_int_equal(hello(w.k, ordinary, (struct id128){80, 2}, 61), E_OVERLOADED);
    assert_int_equal(hello(w.k, ordinary, (struct id128){80, 1}, 62), E_OK);
    assert_int_equal(ask_topics(w.k, A), E_OK);
    kit_free(w.k);
}

static void a_stopping_broker_lets_settle_and_reads_through_and_ends_what_waits(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, B, w.g, 1);
    struct call *waiting = kit_receive_wait(w.k, B, 2, w.g, 1, 10000);
    kit_begin(w.k);
    engine_stop(w.k->engine);
    kit_end(w.k);
    assert_int_equal(kit_reply(waiting)->code, E_SHUTTING_DOWN);
    assert_int_equal(kit_produce(w.k, w.p, "a"), E_SHUTTING_DOWN);
    assert_string_equal(kit_ack(w.k, B, w.g, "0"), "");
    assert_int_equal(ask_topics(w.k, B), E_OK);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "SHUTTING_DOWN");
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_before_hello_has_no_session),
        cmocka_unit_test(a_version_that_is_not_spoken_and_a_session_of_zeros_are_refused),
        cmocka_unit_test(sessions_that_share_half_an_id_are_different),
        cmocka_unit_test(a_session_that_is_not_known_cannot_be_resumed),
        cmocka_unit_test(a_second_pipe_takes_the_session_over_and_the_older_is_dropped),
        cmocka_unit_test(leases_stay_for_the_grace_and_return_after_it_without_a_failure),
        cmocka_unit_test(a_session_that_comes_back_within_the_grace_keeps_its_leases),
        cmocka_unit_test(a_session_without_a_pipe_is_forgotten_after_its_ttl),
        cmocka_unit_test(a_restart_begins_grace_and_ttl_anew),
        cmocka_unit_test(bye_gives_the_leases_back_at_once_and_answers_what_waits),
        cmocka_unit_test(very_many_leases_return_over_several_turns_and_the_session_is_there_until_they_did),
        cmocka_unit_test(who_comes_back_while_leases_return_keeps_the_rest),
        cmocka_unit_test(a_hello_for_another_session_on_a_pipe_leaves_the_first_without_one),
        cmocka_unit_test(sessions_are_limited_and_those_that_are_there_go_on),
        cmocka_unit_test(a_stopping_broker_lets_settle_and_reads_through_and_ends_what_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
