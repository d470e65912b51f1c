/* Settling: units are whole or absent, and every refusal has its own code. */
#include "engine_kit.h"

static struct kit_world begin(const char *keys)
{
    struct kit_world w = kit_world((struct wire_group_config){.order = ORDER_NONE});
    kit_produce(w.k, w.p, keys);
    kit_receive(w.k, A, w.g, 10);
    return w;
}

static void a_unit_with_one_lost_lease_does_nothing_at_all(void **state)
{
    (void)state;
    struct kit_world w = begin("a b c");
    struct wire_settle_item items[] = {kit_item(w.k, w.g, SETTLE_ACK, "0"), kit_item(w.k, w.g, SETTLE_NACK, "1"), kit_item(w.k, w.g, SETTLE_ACK, "2")};
    items[2].token++;
    assert_int_equal(kit_unit(w.k, A, items, 3), E_LEASE_LOST);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 3");
    items[2].token--;
    assert_int_equal(kit_unit(w.k, A, items, 3), E_OK);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 done 1 retrying 1");
    kit_free(w.k);
}

static void a_unit_that_names_a_message_twice_is_refused_whole(void **state)
{
    (void)state;
    struct kit_world w = begin("a b");
    struct wire_settle_item items[] = {kit_item(w.k, w.g, SETTLE_ACK, "0"), kit_item(w.k, w.g, SETTLE_ACK, "1"), kit_item(w.k, w.g, SETTLE_NACK, "0")};
    assert_int_equal(kit_unit(w.k, A, items, 3), E_INVALID_ARGUMENT);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2");
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OK); /* the mark of the first attempt does not stick */
    kit_free(w.k);
}

static void units_and_singles_of_one_settle_stand_and_fall_alone(void **state)
{
    (void)state;
    struct kit_world w = begin("a b c d");
    struct wire_settle_item singles[] = {kit_item(w.k, w.g, SETTLE_ACK, "0"), kit_item(w.k, w.g, SETTLE_ACK, "0")};
    struct wire_settle_item good[] = {kit_item(w.k, w.g, SETTLE_ACK, "1")}, bad[] = {kit_item(w.k, w.g, SETTLE_ACK, "2"), kit_item(w.k, w.g, SETTLE_ACK, "0")};
    struct wire_unit units[] = {{.items = bad, .items_n = 2}, {.items = good, .items_n = 1}};
    struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
    r.settle = (struct wire_settle){.singles = singles, .singles_n = 2, .units = units, .units_n = 2};
    const struct wire_reply *reply = kit_ask_numbered(w.k, r, A);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->settle.codes_n, 4);
    assert_int_equal(reply->settle.codes[0], E_OK);
    assert_int_equal(reply->settle.codes[1], E_LEASE_LOST);
    assert_int_equal(reply->settle.codes[2], E_LEASE_LOST);
    assert_int_equal(reply->settle.codes[3], E_OK);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 leased 2");
    kit_free(w.k);
}

static void a_repeated_settle_is_answered_with_the_same_codes_after_a_restart(void **state)
{
    (void)state;
    struct kit_world w = begin("a b");
    struct wire_settle_item items[] = {kit_item(w.k, w.g, SETTLE_ACK, "0"), kit_item(w.k, w.g, SETTLE_ACK, "1")};
    items[1].token = 5;
    struct wire_request r = kit_request(w.k, B, VERB_SETTLE);
    r.seq = 1;
    r.settle = (struct wire_settle){.singles = items, .singles_n = 2};
    for (int i = 0; i < 3; i++) {
        const struct wire_reply *reply = kit_ask(w.k, r, B);
        assert_int_equal(reply->settle.codes_n, 2);
        assert_int_equal(reply->settle.codes[0], E_OK);
        assert_int_equal(reply->settle.codes[1], E_LEASE_LOST);
        if (i == 1)
            kit_restart(w.k);
    }
    kit_free(w.k);
}

static void hostile_items_are_refused_and_touch_nothing(void **state)
{
    (void)state;
    struct kit_world w = begin("a");
    const struct wire_settle_item good = kit_item(w.k, w.g, SETTLE_ACK, "0");
    struct { struct wire_settle_item item; int code; } cases[9];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cases[i].item = good;
    cases[0].item.token = 0, cases[0].code = E_LEASE_LOST;
    cases[1].item.token = UINT64_MAX, cases[1].code = E_LEASE_LOST;
    cases[2].item.offset = UINT64_MAX, cases[2].code = E_LEASE_LOST;
    cases[3].item.group = UINT32_MAX, cases[3].code = E_GROUP_NOT_FOUND;
    cases[4].item.partition = UINT32_MAX, cases[4].code = E_GROUP_NOT_FOUND;
    cases[5].item.verb = 0, cases[5].code = E_INVALID_ARGUMENT;
    cases[6].item.verb = 255, cases[6].code = E_INVALID_ARGUMENT;
    cases[7].item.note = 1, cases[7].code = E_INVALID_ARGUMENT;
    cases[8].item.group = 0, cases[8].code = E_GROUP_NOT_FOUND;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(kit_unit(w.k, A, &cases[i].item, 1), cases[i].code);
    uint32_t elsewhere = kit_topic(w.k, "other", 1); /* a partition of another topic, with the same offset */
    struct wire_settle_item item = good;
    item.partition = elsewhere;
    assert_int_equal(kit_unit(w.k, A, &item, 1), E_GROUP_NOT_FOUND);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1");
    kit_free(w.k);
}

static void what_is_done_can_not_be_settled_again(void **state)
{
    (void)state;
    struct kit_world w = begin("a b c");
    kit_ack(w.k, A, w.g, "0");
    kit_settle(w.k, A, w.g, SETTLE_PARK, "1");
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "2"); /* its token went with its grant */
    for (int verb = SETTLE_ACK; verb <= SETTLE_EXTEND; verb++)
        assert_string_equal(kit_settle(w.k, A, w.g, verb, "0 1 2"), "LEASE_LOST LEASE_LOST LEASE_LOST");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 ready 1 parked 1");
    kit_free(w.k);
}

static void a_release_takes_its_grant_back(void **state)
{
    (void)state;
    struct kit_world w = begin("a");
    for (int i = 0; i < 30; i++) { /* many more than four times max_deliveries */
        kit_settle(w.k, A, w.g, SETTLE_RELEASE, "0");
        struct call *c = kit_receive_wait(w.k, A, 1, w.g, 1, 0);
        assert_int_equal(kit_record(kit_reply(c), 0)->grants, 1);
        assert_int_equal(kit_record(kit_reply(c), 0)->failures, 0);
        kit_deliveries(w.k, &kit_reply(c)->receive);
    }
    kit_free(w.k);
}

static void a_note_is_kept_with_the_parked_message(void **state)
{
    (void)state;
    struct kit_world w = begin("a");
    struct wire_note notes[] = {{.reason = VIEW_LIT("no"), .error = VIEW_LIT("x")}, {.reason = VIEW_LIT("not a picture"), .error = VIEW_LIT("bad magic")}};
    struct wire_settle_item item = kit_item(w.k, w.g, SETTLE_PARK, "0");
    item.note = 2;
    struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
    r.settle = (struct wire_settle){.singles = &item, .singles_n = 1, .notes = notes, .notes_n = 2};
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    kit_restart(w.k);
    r = kit_request(w.k, A, VERB_HELD_LIST);
    r.held = (struct wire_held_list){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g")};
    const struct wire_reply *reply = kit_ask(w.k, r, A);
    assert_int_equal(reply->held.rows_n, 1);
    assert_true(view_eq(reply->held.rows[0].reason, VIEW_LIT("not a picture")));
    assert_true(view_eq(reply->held.rows[0].error, VIEW_LIT("bad magic")));
    assert_int_equal(reply->held.rows[0].at_ms, w.k->now.wall_ms);
    kit_free(w.k);
}

static enum durability level_of_settle(struct kit *k, struct wire_settle s)
{
    struct wire_request r = kit_request(k, A, VERB_SETTLE);
    r.settle = s;
    return kit_ask_numbered(k, r, A)->durability;
}

static void a_settle_stands_on_the_disk_if_anything_in_it_does(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t disk = kit_topic(k, "d", 1), os = kit_topic_of(k, "o", (struct wire_topic_config){.durability = DURABILITY_OS});
    uint32_t gd = kit_group(k, "d", "g", NULL), go = kit_group(k, "o", "g", NULL);
    kit_produce(k, disk, "- -");
    kit_produce(k, os, "- - - - -");
    kit_receive(k, A, gd, 5);
    kit_receive(k, A, go, 5);
    struct wire_settle_item items[] = {kit_item(k, go, SETTLE_ACK, "0"), kit_item(k, gd, SETTLE_ACK, "0"), kit_item(k, go, SETTLE_ACK, "1")};
    assert_int_equal(level_of_settle(k, (struct wire_settle){.singles = items, .singles_n = 1}), DURABILITY_OS);
    assert_int_equal(level_of_settle(k, (struct wire_settle){.singles = items + 1, .singles_n = 2}), DURABILITY_DISK);
    /* a receive that it carries stands on what it is given */
    struct wire_settle_item more[] = {kit_item(k, go, SETTLE_ACK, "2"), kit_item(k, go, SETTLE_ACK, "3"), kit_item(k, go, SETTLE_ACK, "4")};
    struct wire_receive carried = {.counter = 9, .slot = 1, .groups = &gd, .groups_n = 1};
    assert_int_equal(level_of_settle(k, (struct wire_settle){.singles = &more[0], .singles_n = 1, .receive = &carried}), DURABILITY_OS);
    kit_produce(k, disk, "-");
    kit_produce(k, os, "-");
    kit_quiet(k);
    carried.counter++;
    assert_int_equal(level_of_settle(k, (struct wire_settle){.singles = &more[1], .singles_n = 1, .receive = &carried}), DURABILITY_DISK);
    carried.groups = &go;
    carried.counter++;
    assert_int_equal(level_of_settle(k, (struct wire_settle){.singles = &more[2], .singles_n = 1, .receive = &carried}), DURABILITY_OS);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_with_one_lost_lease_does_nothing_at_all),
        cmocka_unit_test(a_unit_that_names_a_message_twice_is_refused_whole),
        cmocka_unit_test(units_and_singles_of_one_settle_stand_and_fall_alone),
        cmocka_unit_test(a_repeated_settle_is_answered_with_the_same_codes_after_a_restart),
        cmocka_unit_test(hostile_items_are_refused_and_touch_nothing),
        cmocka_unit_test(what_is_done_can_not_be_settled_again),
        cmocka_unit_test(a_release_takes_its_grant_back),
        cmocka_unit_test(a_note_is_kept_with_the_parked_message),
        cmocka_unit_test(a_settle_stands_on_the_disk_if_anything_in_it_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
