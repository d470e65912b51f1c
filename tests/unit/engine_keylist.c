/* What waits behind the head of a key: in order, however long the list, whenever the broker restarts. */
#include "engine_kit.h"

/* Takes and acks `n` messages one by one; each must be the next of the key. */
static void take_in_order(struct kit_world w, uint64_t from, uint64_t n)
{
    for (uint64_t o = from; o < from + n; o++) {
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)o);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), text);
        assert_string_equal(kit_ack(w.k, A, w.g, text), "");
    }
}

static void the_messages_of_a_key_come_one_at_a_time_in_order(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a b a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2 behind 2");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
    kit_ack(w.k, A, w.g, "0");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "1");
    kit_ack(w.k, B, w.g, "1");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "3");
    kit_free(w.k);
}

static void a_list_longer_than_several_chunks_stays_in_order(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "a", 900);
    kit_produce(w.k, w.p, "b");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "900"); /* no look-ahead that one key can fill */
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2 behind 899");
    assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 1 + 4);
    kit_ack(w.k, A, w.g, "0");
    take_in_order(w, 1, 899);
    assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 0);
    kit_free(w.k);
}

static void a_list_of_exactly_one_chunk_rolls_over_with_the_next_message(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "a", 1 + 256);
    kit_receive(w.k, A, w.g, 1);
    kit_receive(w.k, B, w.g, 8); /* asks for more, so that all is scanned */
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 behind 256");
    assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 1 + 1);
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, B, w.g, 8);
    assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 1 + 2);
    kit_ack(w.k, A, w.g, "0");
    take_in_order(w, 1, 257);
    kit_free(w.k);
}

static void a_list_that_ran_empty_begins_anew(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    for (uint64_t round = 0; round < 3; round++) {
        kit_produce(w.k, w.p, "a a a");
        take_in_order(w, 3 * round, 3);
        assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 0);
        assert_int_equal(map_count(&((struct group *)map_get(&w.k->engine->groups, w.g))->keys), 0);
    }
    kit_free(w.k);
}

/* A history that crosses chunks and empties the list, with a restart at every place in turn. */
static void a_restart_anywhere_loses_no_place_in_the_list(void **state)
{
    (void)state;
    for (int at = 0; at < 40; at++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        w.k->watch = false;
        uint64_t next = 0;
        kit_produce_many(w.k, w.p, "a", 250);
        for (int step = 0; step < 40; step++) {
            if (step % 4 == 0)
                kit_produce_many(w.k, w.p, "a", 7); /* appended late: to a list of an earlier life */
            if (step == at)
                kit_restart(w.k);
            char text[24];
            snprintf(text, sizeof text, "%llu", (unsigned long long)next);
            assert_string_equal(kit_receive(w.k, A, w.g, 4), text);
            if (step == at + 3)
                kit_restart(w.k); /* the head is leased */
            assert_string_equal(kit_ack(w.k, A, w.g, text), "");
            if (step == at + 5)
                kit_restart(w.k); /* the head stands in its list only */
            next++;
        }
        take_in_order(w, next, 320 - next);
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 320");
        kit_free(w.k);
    }
}

static void late_messages_follow_a_list_whose_last_chunk_was_full_before_the_restart(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "a", 1 + 512);
    kit_receive(w.k, A, w.g, 1);
    kit_receive(w.k, B, w.g, 8);
    kit_restart(w.k);
    kit_produce_many(w.k, w.p, "a", 3);
    kit_receive(w.k, B, w.g, 8);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 behind 515");
    kit_ack(w.k, A, w.g, "0");
    take_in_order(w, 1, 515);
    kit_free(w.k);
}

static void a_head_that_was_ready_when_the_broker_died_goes_before_its_list(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "x a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0"); /* a is read ahead: ready, two behind it */
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 1 behind 2");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "1");
    kit_ack(w.k, B, w.g, "1");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "2");
    kit_ack(w.k, B, w.g, "2");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "3");
    kit_free(w.k);
}

static void a_head_that_is_retried_holds_its_list_back_over_a_restart(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 5000);
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    kit_pass(w.k, 5000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
    kit_free(w.k);
}

static void a_chunk_that_is_gone_stops_the_engine_and_is_named(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 2);
    struct store_iter *it = store_iter(w.k->store, FAM_KEYS);
    store_iter_seek(it, VIEW_LIT("")); /* chunks stand before headers */
    struct buf key = {0};
    buf_append(&key, store_iter_key(it).data, store_iter_key(it).size);
    store_iter_close(it);
    assert_true(store_mem_damage(w.k->store, FAM_KEYS, buf_view(&key)));
    buf_free(&key);
    w.k->watch = false;
    kit_restart(w.k); /* only the header is read */
    struct wire_settle_item item = kit_item(w.k, w.g, SETTLE_ACK, "0");
    struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
    r.seq = 100;
    r.replies_seen = 99;
    r.settle = (struct wire_settle){.singles = &item, .singles_n = 1};
    kit_begin(w.k);
    kit_call(w.k, r, A);
    engine_turn_end(w.k->engine);
    assert_non_null(engine_failed(w.k->engine));
    assert_int_equal(engine_failed(w.k->engine)->code, E_DAMAGED);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_messages_of_a_key_come_one_at_a_time_in_order),
        cmocka_unit_test(a_list_longer_than_several_chunks_stays_in_order),
        cmocka_unit_test(a_list_of_exactly_one_chunk_rolls_over_with_the_next_message),
        cmocka_unit_test(a_list_that_ran_empty_begins_anew),
        cmocka_unit_test(a_restart_anywhere_loses_no_place_in_the_list),
        cmocka_unit_test(late_messages_follow_a_list_whose_last_chunk_was_full_before_the_restart),
        cmocka_unit_test(a_head_that_was_ready_when_the_broker_died_goes_before_its_list),
        cmocka_unit_test(a_head_that_is_retried_holds_its_list_back_over_a_restart),
        cmocka_unit_test(a_chunk_that_is_gone_stops_the_engine_and_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
