/* Units: acks, outputs and state of one piece of work, whole or absent. */
#include "engine_kit.h"

struct world { struct kit *k; uint32_t p, g, out; };

/* Four messages of keys a b a c in "t", read by "g"; "out" is where work goes. */
static struct world begin(void)
{
    struct kit *k = kit_new();
    struct world w = {.k = k, .p = kit_topic(k, "t", 1)};
    w.g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 5000, .max_deliveries = 3});
    w.out = kit_topic(k, "out", 2);
    kit_produce(k, w.p, "a b a c");
    return w;
}

static struct wire_produce output(uint32_t partition, uint32_t count)
{
    return (struct wire_produce){.partition = partition, .count = count, .batch = VIEW_LIT("work")};
}

static struct wire_state_put put(struct world w, const char *key, uint64_t version, const char *value)
{
    return (struct wire_state_put){.group = w.g, .key = view_of_str(key), .version = version, .value = view_of_str(value)};
}

static uint64_t end_of(struct world w, uint32_t partition)
{
    const struct partition *p = table_get(&w.k->engine->partitions, partition);
    return p->row.end;
}

static struct wire_state_reply state_of(struct world w, const char *key)
{
    struct wire_request r = kit_request(w.k, A, VERB_STATE_GET);
    r.state_get = (struct wire_state_get){.group = w.g, .key = view_of_str(key)};
    const struct wire_reply *reply = kit_ask(w.k, r, A);
    assert_int_equal(reply->code, E_OK);
    return reply->state;
}

static void assert_state(struct world w, const char *key, const char *value)
{
    struct wire_state_reply s = state_of(w, key);
    assert_int_equal(s.found, value != NULL);
    if (value != NULL)
        assert_true(view_eq(s.value, view_of_str(value)));
}

static void a_unit_acks_appends_and_keeps_state_in_one_turn(void **state)
{
    (void)state;
    struct world w = begin();
    kit_receive(w.k, A, w.g, 1);
    struct wire_settle_item ack = kit_item(w.k, w.g, SETTLE_ACK, "0");
    struct wire_produce produces[] = {output(w.out, 2), output(w.out + 1, 1), output(w.out, 3)};
    struct wire_state_put s = put(w, "a", 0, "one");
    uint64_t turn = engine_turn(w.k->engine);
    const struct wire_reply *r = kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, &s, 1, 3, 1});
    assert_int_equal(kit_unit_code(r), E_OK);
    assert_int_equal(r->durability, DURABILITY_DISK);
    assert_int_equal(r->settle.outputs_n, 3);
    assert_int_equal(r->settle.outputs[0].base_offset, 0);
    assert_int_equal(r->settle.outputs[1].partition, w.out + 1);
    assert_int_equal(r->settle.outputs[2].base_offset, 2);
    assert_int_equal(r->settle.outputs[2].count, 3);
    assert_int_equal(end_of(w, w.out), 5);
    assert_int_equal(end_of(w, w.out + 1), 1);
    assert_state(w, "a", "one");
    const struct call *c = container_of(r, struct call, op.reply);
    assert_int_equal(c->op.turn, turn + 1); /* nothing of it stands in another turn */
    kit_restart(w.k);
    assert_int_equal(end_of(w, w.out), 5);
    assert_state(w, "a", "one");
    kit_free(w.k);
}

static void a_late_unit_is_refused_alone_and_nothing_of_it_is_done(void **state)
{
    (void)state;
    struct world w = begin();
    kit_receive(w.k, A, w.g, 2); /* 0 and 1 */
    struct wire_settle_item late = kit_item(w.k, w.g, SETTLE_ACK, "0"), good;
    kit_pass(w.k, 5000);
    kit_receive(w.k, B, w.g, 2); /* granted again */
    good = kit_item(w.k, w.g, SETTLE_ACK, "1");
    struct wire_produce one = output(w.out, 1), two = output(w.out + 1, 1);
    struct wire_state_put s = put(w, "a", 0, "late"), t = put(w, "b", 0, "good");
    struct wire_unit units[] = {{&late, &one, &s, 1, 1, 1}, {&good, &two, &t, 1, 1, 1}};
    struct wire_request r = kit_request(w.k, B, VERB_SETTLE);
    r.settle = (struct wire_settle){.units = units, .units_n = 2};
    const struct wire_reply *reply = kit_ask_numbered(w.k, r, B);
    assert_int_equal(reply->settle.codes[0], E_LEASE_LOST);
    assert_int_equal(reply->settle.codes[1], E_OK);
    assert_int_equal(reply->settle.outputs_n, 2);
    assert_int_equal(reply->settle.outputs[0].count, 0);
    assert_int_equal(reply->settle.outputs[1].count, 1);
    assert_int_equal(end_of(w, w.out), 0);
    assert_int_equal(end_of(w, w.out + 1), 1);
    assert_state(w, "a", NULL);
    assert_state(w, "b", "good");
    assert_int_equal(engine_counters(w.k->engine)->late_units, 1);
    kit_free(w.k);
}

static void whatever_of_a_unit_can_not_be_done_leaves_all_of_it_undone(void **state)
{
    (void)state;
    struct world w = begin();
    kit_receive(w.k, A, w.g, 1);
    struct wire_settle_item ack = kit_item(w.k, w.g, SETTLE_ACK, "0");
    struct wire_produce produces[] = {output(w.out, 1), output(999, 1)};
    struct wire_state_put good = put(w, "a", 0, "x"), bad = put(w, "b", 7, "x"), nowhere = {.group = 999, .key = VIEW_LIT("a")};
    struct wire_state_put twice[] = {good, good};
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, &good, 1, 2, 1})), E_PARTITION_NOT_FOUND);
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, &bad, 1, 1, 1})), E_CONFLICT);
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, &nowhere, 1, 1, 1})), E_GROUP_NOT_FOUND);
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, twice, 1, 1, 2})), E_INVALID_ARGUMENT);
    w.k->limits.disk_reserve_bytes = 1000;
    kit_begin(w.k);
    engine_disk(w.k->engine, 999);
    kit_end(w.k);
    const struct wire_reply *full = kit_unit_of(w.k, A, (struct wire_unit){&ack, produces, &good, 1, 1, 1});
    assert_int_equal(kit_unit_code(full), E_DISK_FULL);
    assert_true(full->retry_after_ms > 0);
    assert_int_equal(end_of(w, w.out), 0);
    assert_state(w, "a", NULL);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 2 behind 1");
    assert_int_equal(kit_unit(w.k, A, &ack, 1), E_OK); /* an ack alone is taken on a full disk */
    kit_free(w.k);
}

static void a_unit_without_messages_is_a_transaction_of_a_producer(void **state)
{
    (void)state;
    struct world w = begin();
    struct wire_produce produces[] = {output(w.out, 1), output(w.out + 1, 1)};
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, C, (struct wire_unit){.produces = produces, .produces_n = 2})), E_OK);
    produces[1].partition = 999;
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, C, (struct wire_unit){.produces = produces, .produces_n = 2})),
                     E_PARTITION_NOT_FOUND);
    assert_int_equal(end_of(w, w.out), 1);
    assert_int_equal(end_of(w, w.out + 1), 1);
    kit_free(w.k);
}

static void what_a_unit_produces_is_received_like_anything_else(void **state)
{
    (void)state;
    struct world w = begin();
    uint32_t reader = kit_group(w.k, "out", "r", NULL);
    struct wire_produce p = output(w.out, 2);
    struct call *waits = kit_receive_wait(w.k, B, 1, reader, 5, 10000);
    kit_logged(w.k, w.out, "x y");
    kit_unit_of(w.k, A, (struct wire_unit){.produces = &p, .produces_n = 1});
    assert_string_equal(kit_deliveries(w.k, &kit_reply(waits)->receive), "0 1");
    kit_free(w.k);
}

static void a_repeated_unit_has_its_effect_once_and_the_same_reply(void **state)
{
    (void)state;
    struct world w = begin();
    kit_receive(w.k, A, w.g, 1);
    struct wire_settle_item ack = kit_item(w.k, w.g, SETTLE_ACK, "0");
    struct wire_produce p = output(w.out, 2);
    struct wire_state_put s = put(w, "a", 0, "one");
    struct wire_unit units[] = {{&ack, &p, &s, 1, 1, 1}, {&ack, &p, NULL, 1, 1, 0}};
    struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
    r.settle = (struct wire_settle){.units = units, .units_n = 2};
    kit_ask_numbered(w.k, r, A);
    r.seq = w.k->seq[A][0]; /* the same number again */
    for (int i = 0; i < 3; i++) {
        const struct wire_reply *again = kit_ask(w.k, r, A);
        assert_int_equal(again->code, E_OK);
        assert_int_equal(again->settle.codes[0], E_OK);
        assert_int_equal(again->settle.codes[1], E_LEASE_LOST);
        assert_int_equal(again->settle.outputs_n, 2);
        assert_int_equal(again->settle.outputs[0].partition, w.out);
        assert_int_equal(again->settle.outputs[0].count, 2);
        assert_int_equal(again->settle.outputs[1].count, 0);
        if (i == 1)
            kit_restart(w.k);
    }
    assert_int_equal(end_of(w, w.out), 2);
    kit_free(w.k);
}

static void of_two_that_read_the_same_state_the_second_to_write_is_refused(void **state)
{
    (void)state;
    struct world w = begin();
    struct wire_state_put first = put(w, "n", 0, "1");
    kit_unit_of(w.k, A, (struct wire_unit){.state = &first, .state_n = 1});
    uint64_t read = state_of(w, "n").version;
    assert_true(read > 0);
    struct wire_state_put a = put(w, "n", read, "2"), b = put(w, "n", read, "2, too");
    kit_begin(w.k); /* in one turn, as it may be */
    struct wire_unit ua = {.state = &a, .state_n = 1}, ub = {.state = &b, .state_n = 1};
    struct wire_request ra = kit_request(w.k, A, VERB_SETTLE), rb = kit_request(w.k, B, VERB_SETTLE);
    ra.settle = (struct wire_settle){.units = &ua, .units_n = 1};
    rb.settle = (struct wire_settle){.units = &ub, .units_n = 1};
    ra.seq = ++w.k->seq[A][0];
    rb.seq = ++w.k->seq[B][0];
    struct call *ca = kit_call(w.k, ra, A), *cb = kit_call(w.k, rb, B);
    kit_end(w.k);
    kit_quiet(w.k);
    assert_int_equal(kit_unit_code(kit_reply(ca)), E_OK);
    assert_int_equal(kit_unit_code(kit_reply(cb)), E_CONFLICT);
    assert_state(w, "n", "2");
    assert_int_equal(engine_counters(w.k->engine)->conflicts, 1);
    kit_free(w.k);
}

static void a_row_that_was_removed_and_made_again_is_another_one(void **state)
{
    (void)state;
    struct world w = begin();
    struct wire_state_put s = put(w, "n", 0, "1");
    kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1});
    uint64_t old = s.version = state_of(w, "n").version;
    s.remove = true;
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1})), E_OK);
    assert_state(w, "n", NULL);
    s = put(w, "n", 0, "1");
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1})), E_OK);
    s = put(w, "n", old, "2");
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1})), E_CONFLICT);
    kit_restart(w.k); /* nor after one */
    s = put(w, "n", state_of(w, "n").version, "2");
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1})), E_OK);
    assert_true(state_of(w, "n").version > old);
    kit_free(w.k);
}

static void state_is_of_one_group_and_goes_with_it(void **state)
{
    (void)state;
    struct world w = begin();
    uint32_t other = kit_group(w.k, "t", "other", NULL);
    struct wire_state_put s = put(w, "n", 0, "of g"), t = s;
    t.group = other;
    kit_unit_of(w.k, A, (struct wire_unit){.state = &s, .state_n = 1});
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = &t, .state_n = 1})), E_OK);
    assert_int_equal(kit_delete_group(w.k, "t", "other"), E_OK);
    assert_state(w, "n", "of g");
    struct key k = key_state(other, (struct id128){0});
    struct store_iter *it = store_iter(w.k->store, FAM_STATE);
    store_iter_seek(it, key_view(&k));
    assert_false(store_iter_valid(it));
    store_iter_close(it);
    kit_free(w.k);
}

static void a_key_of_any_bytes_and_an_empty_value_are_kept(void **state)
{
    (void)state;
    struct world w = begin();
    uint8_t bytes[WIRE_KEY_MAX];
    memset(bytes, 0xff, sizeof bytes);
    struct wire_state_put puts[] = {{.group = w.g, .key = view_of(bytes, sizeof bytes), .value = VIEW_LIT("")},
                                    {.group = w.g, .key = view_of(bytes, sizeof bytes - 1), .value = VIEW_LIT("other")},
                                    {.group = w.g, .key = VIEW_LIT(""), .value = VIEW_LIT("empty key")}};
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.state = puts, .state_n = 3})), E_OK);
    struct wire_request r = kit_request(w.k, A, VERB_STATE_GET);
    r.state_get = (struct wire_state_get){.group = w.g, .key = view_of(bytes, sizeof bytes)};
    const struct wire_reply *reply = kit_ask(w.k, r, A);
    assert_true(reply->state.found);
    assert_int_equal(reply->state.value.size, 0);
    assert_state(w, "", "empty key");
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_acks_appends_and_keeps_state_in_one_turn),
        cmocka_unit_test(a_late_unit_is_refused_alone_and_nothing_of_it_is_done),
        cmocka_unit_test(whatever_of_a_unit_can_not_be_done_leaves_all_of_it_undone),
        cmocka_unit_test(a_unit_without_messages_is_a_transaction_of_a_producer),
        cmocka_unit_test(what_a_unit_produces_is_received_like_anything_else),
        cmocka_unit_test(a_repeated_unit_has_its_effect_once_and_the_same_reply),
        cmocka_unit_test(of_two_that_read_the_same_state_the_second_to_write_is_refused),
        cmocka_unit_test(a_row_that_was_removed_and_made_again_is_another_one),
        cmocka_unit_test(state_is_of_one_group_and_goes_with_it),
        cmocka_unit_test(a_key_of_any_bytes_and_an_empty_value_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
