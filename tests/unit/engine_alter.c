/* Settings that change while everything goes on, groups that rest, and what cannot be altered. */
#include "engine_kit.h"

static const struct wire_reply *alter_topic(struct kit *k, const char *name, struct wire_topic_config config, uint64_t mask)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_ALTER);
    r.topic = (struct wire_topic_set){.name = view_of_str(name), .config = config, .mask = mask};
    return kit_ask_numbered(k, r, A);
}

static const struct wire_topic_config *config_of(struct kit *k, const char *topic)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_LIST);
    r.list.name = view_of_str(topic);
    return &kit_ask(k, r, A)->topics.topics[0].config;
}

static const struct wire_group *group_of(struct kit *k, const char *topic, const char *group)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_LIST);
    r.list = (struct wire_list){.topic = view_of_str(topic), .name = view_of_str(group)};
    return &kit_ask(k, r, A)->groups.groups[0];
}

static void a_topics_settings_change_and_survive_a_restart_and_the_others_stay(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 2, .retention_ms = 1000, .message_bytes_max = 500});
    const struct wire_topic_config to = {.partitions = 9, .retention_ms = 2000, .retention_bytes = 3000, .hard_cap_ms = 4000,
                                         .durability = DURABILITY_OS, .message_bytes_max = 600, .backlog_bytes_max = 7000,
                                         .backlog_age_max_ms = 8000, .dedup_ms = 9000, .ttl_ms = 10000};
    const struct wire_reply *r = alter_topic(k, "t", to, TOPIC_SET_RETENTION_MS | TOPIC_SET_TTL_MS);
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->topics.topics_n, 1);
    assert_int_equal(r->topics.topics[0].config.retention_ms, 2000);
    const struct wire_topic_config *c = config_of(k, "t");
    assert_true(c->retention_ms == 2000 && c->ttl_ms == 10000);
    assert_true(c->partitions == 2 && c->message_bytes_max == 500 && c->durability == DURABILITY_DISK && c->dedup_ms == 600000);
    assert_int_equal(alter_topic(k, "t", to, TOPIC_SET_RETENTION_BYTES | TOPIC_SET_HARD_CAP_MS | TOPIC_SET_MESSAGE_BYTES_MAX |
                                                 TOPIC_SET_BACKLOG_BYTES_MAX | TOPIC_SET_BACKLOG_AGE_MAX_MS | TOPIC_SET_DEDUP_MS)->code, E_OK);
    kit_restart(k);
    c = config_of(k, "t");
    assert_true(c->retention_ms == 2000 && c->retention_bytes == 3000 && c->hard_cap_ms == 4000 && c->message_bytes_max == 600);
    assert_true(c->backlog_bytes_max == 7000 && c->backlog_age_max_ms == 8000 && c->dedup_ms == 9000 && c->ttl_ms == 10000);
    assert_int_equal(c->partitions, 2);
    /* 0 is the default, as it is when a topic is made */
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){0}, TOPIC_SET_RETENTION_MS | TOPIC_SET_DEDUP_MS)->code, E_OK);
    assert_true(config_of(k, "t")->retention_ms == 7 * UINT64_C(86400000) && config_of(k, "t")->dedup_ms == 600000);
    kit_free(k);
}

static void what_a_topic_is_made_of_cannot_be_altered_and_the_answer_says_what_to_do(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 2);
    static const struct { struct wire_topic_config to; uint64_t mask; const char *name; } cases[] = {
        {{.durability = DURABILITY_OS}, TOPIC_SET_DURABILITY, "durability"},
        {{.compacted = true}, TOPIC_SET_COMPACTED, "compacted"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wire_topic_config to = cases[i].to;
        to.ttl_ms = 5;
        const struct wire_reply *r = alter_topic(k, "t", to, cases[i].mask | TOPIC_SET_TTL_MS);
        assert_int_equal(r->code, E_UNSUPPORTED);
        assert_has((const char *)r->detail.data, cases[i].name);
        assert_has((const char *)r->detail.data, "make a topic");
        assert_int_equal(config_of(k, "t")->ttl_ms, 0); /* all or nothing */
    }
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){.partitions = 2}, TOPIC_SET_PARTITIONS)->code, E_OK); /* it is so */
    kit_free(k);
}

static void a_mask_of_nothing_or_of_what_is_not_known_and_settings_that_contradict_are_refused(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){0}, 0)->code, E_INVALID_ARGUMENT);
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){.ttl_ms = 1}, TOPIC_SET_TTL_MS | UINT64_C(1) << 11)->code, E_INVALID_ARGUMENT);
    assert_int_equal(kit_alter_group(k, "t", "g", (struct wire_group_config){0}, 0)->code, E_INVALID_ARGUMENT);
    assert_int_equal(kit_alter_group(k, "t", "g", (struct wire_group_config){0}, UINT64_C(1) << 63)->code, E_INVALID_ARGUMENT);
    assert_int_equal(config_of(k, "t")->ttl_ms, 0);
    const uint64_t day = 86400000;
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){.hard_cap_ms = day}, TOPIC_SET_HARD_CAP_MS)->code, E_INVALID_ARGUMENT);
    assert_int_equal(alter_topic(k, "t", (struct wire_topic_config){.retention_ms = 60 * day}, TOPIC_SET_RETENTION_MS)->code, E_OK);
    assert_int_equal(config_of(k, "t")->hard_cap_ms, 60 * day); /* as when a topic is made */
    assert_int_equal(kit_alter_group(k, "t", "g", (struct wire_group_config){.backoff_max_ms = 999}, GROUP_SET_BACKOFF_MAX_MS)->code,
                     E_INVALID_ARGUMENT);
    assert_int_equal(alter_topic(k, "u", (struct wire_topic_config){0}, 1)->code, E_TOPIC_NOT_FOUND);
    assert_int_equal(kit_alter_group(k, "t", "h", (struct wire_group_config){0}, 1)->code, E_GROUP_NOT_FOUND);
    kit_free(k);
}

/* Its client may not have heard of it. */
static void what_was_done_is_no_refusal_when_the_bound_on_messages_was_lowered_since(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .message_bytes_max = 100});
    k->checked_largest = 90;
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    struct wire_request r = kit_request(k, A, VERB_TOPIC_ALTER);
    r.topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = {.message_bytes_max = 77}, .mask = TOPIC_SET_MESSAGE_BYTES_MAX};
    assert_int_equal(kit_ask_numbered(k, r, A)->code, E_OK);
    k->seq[A][p]--; /* once more */
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    assert_int_equal(((struct partition *)table_get(&k->engine->partitions, p))->row.end, 1);
    assert_int_equal(kit_produce(k, p, "a"), E_TOO_LARGE);
    k->checked_largest = 77;
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    kit_free(k);
}

static void a_unit_whose_output_is_over_the_bound_is_refused_alone(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .message_bytes_max = 100});
    struct wire_produce out = {.partition = p, .count = 1};
    k->checked_largest = 101;
    assert_int_equal(kit_unit_code(kit_unit_of(k, A, (struct wire_unit){.produces = &out, .produces_n = 1})), E_TOO_LARGE);
    assert_int_equal(((struct partition *)table_get(&k->engine->partitions, p))->row.end, 0);
    k->checked_largest = 100;
    assert_int_equal(kit_unit_code(kit_unit_of(k, A, (struct wire_unit){.produces = &out, .produces_n = 1})), E_OK);
    kit_free(k);
}

static void a_shorter_window_of_ids_holds_at_once(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x");
    kit_pass(k, 5000);
    assert_true(kit_produce_ids(k, A, p, "x")->produce.duplicate);
    alter_topic(k, "t", (struct wire_topic_config){.dedup_ms = 5000}, TOPIC_SET_DEDUP_MS);
    assert_false(kit_produce_ids(k, A, p, "x")->produce.duplicate);
    alter_topic(k, "t", (struct wire_topic_config){.dedup_ms = UINT64_MAX}, TOPIC_SET_DEDUP_MS);
    assert_false(kit_produce_ids(k, A, p, "x")->produce.duplicate);
    kit_free(k);
}

static void a_topics_backlog_limit_can_be_raised_while_it_is_full(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_bytes_max = 10});
    kit_produce(k, p, "a");
    assert_int_equal(kit_produce(k, p, "a"), E_OVERLOADED);
    alter_topic(k, "t", (struct wire_topic_config){.backlog_bytes_max = 10000}, TOPIC_SET_BACKLOG_BYTES_MAX);
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    alter_topic(k, "t", (struct wire_topic_config){.backlog_age_max_ms = 1000}, TOPIC_SET_BACKLOG_AGE_MAX_MS);
    kit_group(k, "t", "g", NULL);
    kit_pass(k, 1001);
    assert_int_equal(kit_produce(k, p, "a"), E_OVERLOADED);
    alter_topic(k, "t", (struct wire_topic_config){.backlog_age_max_ms = 5000}, TOPIC_SET_BACKLOG_AGE_MAX_MS);
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    kit_free(k);
}

static void a_groups_settings_change_and_survive_a_restart_and_the_others_stay(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    const struct wire_group_config to = {.park = PARK_KEY, .lease_ms = 1, .max_deliveries = 2, .backoff_min_ms = 3, .backoff_max_ms = 4,
                                         .run_max = 5, .in_flight_max = 6, .expired = EXPIRED_PARK, .rate_milli = 7, .key_rate_milli = 8,
                                         .key_in_flight_max = 1, .idle_expiry_ms = 1000000, .order = ORDER_NONE};
    const struct wire_reply *r = kit_alter_group(k, "t", "g", to, GROUP_SET_LEASE_MS);
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->groups.groups[0].config.lease_ms, 1);
    const struct wire_group_config *c = &group_of(k, "t", "g")->config;
    assert_true(c->lease_ms == 1 && c->max_deliveries == 5 && c->order == ORDER_KEY && c->park == PARK_MESSAGE && c->rate_milli == 0);
    assert_int_equal(kit_alter_group(k, "t", "g", to, 0x7fff & ~(uint64_t)(GROUP_SET_MODE | GROUP_SET_ORDER | GROUP_SET_FROM))->code, E_OK);
    kit_restart(k);
    c = &group_of(k, "t", "g")->config;
    assert_true(c->park == PARK_KEY && c->lease_ms == 1 && c->max_deliveries == 2 && c->backoff_min_ms == 3 && c->backoff_max_ms == 4);
    assert_true(c->run_max == 5 && c->in_flight_max == 6 && c->expired == EXPIRED_PARK && c->rate_milli == 7 && c->key_rate_milli == 8);
    assert_true(c->key_in_flight_max == 1 && c->idle_expiry_ms == 1000000);
    assert_true(c->mode == MODE_QUEUE && c->order == ORDER_KEY && c->from == FROM_START);
    kit_free(k);
}

static void what_decides_what_a_group_has_done_cannot_be_altered(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    static const struct { struct wire_group_config to; uint64_t mask; const char *name; } cases[] = {
        {{.mode = MODE_STREAM}, GROUP_SET_MODE, "mode"},
        {{.order = ORDER_NONE}, GROUP_SET_ORDER, "order"},
        {{.from = FROM_END}, GROUP_SET_FROM, "from"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct wire_reply *r = kit_alter_group(k, "t", "g", cases[i].to, cases[i].mask);
        assert_int_equal(r->code, E_UNSUPPORTED);
        assert_has((const char *)r->detail.data, cases[i].name);
        assert_has((const char *)r->detail.data, "make another group");
    }
    kit_free(k);
}

static void a_limit_that_a_group_of_that_order_cannot_keep_is_refused_and_the_group_stays_as_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    uint32_t g = kit_group(k, "t", "g", NULL);
    struct wire_group_config to = {.key_in_flight_max = 2, .lease_ms = 1234};
    const struct wire_reply *r = kit_alter_group(k, "t", "g", to, GROUP_SET_KEY_IN_FLIGHT_MAX | GROUP_SET_LEASE_MS);
    assert_int_equal(r->code, E_UNSUPPORTED);
    assert_has((const char *)r->detail.data, "key-in-flight-max is 2; in a group of order key it is 1");
    const struct wire_group_config *c = &((const struct group *)map_get(&k->engine->groups, g))->config;
    assert_true(c->key_in_flight_max != 2 && c->lease_ms != 1234);
    kit_free(k);
}

static void altered_limits_of_a_group_hold_for_what_is_handed_out_next(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.in_flight_max = 1});
    kit_produce(k, p, "a b c");
    assert_string_equal(kit_receive(k, A, g, 3), "0");
    struct call *c = kit_receive_wait(k, B, 1, g, 1, 30000);
    assert_false(c->answered);
    kit_alter_group(k, "t", "g", (struct wire_group_config){.in_flight_max = 2, .lease_ms = 1000}, GROUP_SET_IN_FLIGHT_MAX | GROUP_SET_LEASE_MS);
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "1"); /* who waits is told at once */
    kit_pass(k, 1000); /* its lease is the new one, the other goes on with the old */
    assert_string_equal(kit_where(k, "t", "g"), "leased 1 ready 2");
    kit_alter_group(k, "t", "g", (struct wire_group_config){.max_deliveries = 1}, GROUP_SET_MAX_DELIVERIES);
    kit_settle(k, A, g, SETTLE_NACK, "0");
    assert_string_equal(kit_held(k, "t", "g", HELD_PARKED), "0 parked(max_deliveries)");
    kit_free(k);
}

static void dead_letters_after_parking_was_altered_do_as_it_says_and_those_before_stay(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a a b b");
    kit_receive(k, A, g, 2); /* 0 3 */
    kit_settle(k, A, g, SETTLE_PARK, "0");
    kit_alter_group(k, "t", "g", (struct wire_group_config){.park = PARK_KEY}, GROUP_SET_PARK);
    assert_string_equal(kit_receive(k, A, g, 2), "1");
    kit_settle(k, A, g, SETTLE_PARK, "1 3");
    assert_string_equal(kit_receive(k, A, g, 2), "");
    kit_alter_group(k, "t", "g", (struct wire_group_config){.park = PARK_MESSAGE}, GROUP_SET_PARK);
    assert_string_equal(kit_receive(k, A, g, 2), "");
    kit_restart(k);
    assert_string_equal(kit_receive(k, A, g, 2), "");
    kit_drop_parked(k, g, p, 1);
    assert_string_equal(kit_receive(k, A, g, 2), "2");
    kit_free(k);
}

/* ---------------------------------------------------------------- resting */

static void a_paused_group_hands_nothing_out_and_what_is_leased_goes_on(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL), other = kit_group(k, "t", "other", NULL);
    kit_produce(k, p, "a b c");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    struct call *waiting = kit_receive_wait(k, B, 1, g, 5, 60000);
    kit_deliveries(k, &kit_reply(waiting)->receive); /* gets 2 */
    const struct wire_reply *r = kit_control(k, "t", "g", GROUP_PAUSE);
    assert_int_equal(r->code, E_OK);
    assert_true(r->groups.groups[0].paused);
    waiting = kit_receive_wait(k, B, 1, g, 5, 60000);
    kit_produce(k, p, "d");
    assert_false(waiting->answered);
    assert_string_equal(kit_receive(k, A, g, 2), "");
    assert_string_equal(kit_receive(k, A, other, 9), "0 1 2 3");
    assert_string_equal(kit_settle(k, A, g, SETTLE_EXTEND, "0"), "");
    assert_string_equal(kit_ack(k, A, g, "0"), "");
    assert_string_equal(kit_settle(k, A, g, SETTLE_NACK, "1"), "");
    kit_restart(k);
    assert_true(group_of(k, "t", "g")->paused);
    assert_string_equal(kit_receive(k, A, g, 2), "");
    kit_pass(k, 40000); /* leases run out, retries fall due, and nothing is handed out */
    waiting = kit_receive_wait(k, B, 1, g, 5, 60000);
    assert_false(waiting->answered);
    kit_control(k, "t", "g", GROUP_RESUME);
    assert_string_equal(kit_deliveries(k, &kit_reply(waiting)->receive), "1 2");
    assert_string_equal(kit_receive(k, A, g, 2), "3");
    assert_false(group_of(k, "t", "g")->paused);
    kit_free(k);
}

static void pausing_twice_is_pausing_once_and_a_repeat_is_answered_alike(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    assert_int_equal(kit_control(k, "t", "h", GROUP_PAUSE)->code, E_GROUP_NOT_FOUND);
    assert_int_equal(kit_control(k, "t", "g", GROUP_PAUSE)->code, E_OK);
    assert_int_equal(kit_control(k, "t", "g", GROUP_PAUSE)->code, E_OK);
    assert_true(group_of(k, "t", "g")->paused);
    struct wire_request r = kit_request(k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = GROUP_RESUME};
    r.seq = k->seq[A][0]; /* the number of the pause: it was done */
    r.replies_seen = r.seq - 1;
    assert_int_equal(kit_ask(k, r, A)->code, E_OK);
    assert_true(group_of(k, "t", "g")->paused);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topics_settings_change_and_survive_a_restart_and_the_others_stay),
        cmocka_unit_test(what_a_topic_is_made_of_cannot_be_altered_and_the_answer_says_what_to_do),
        cmocka_unit_test(a_mask_of_nothing_or_of_what_is_not_known_and_settings_that_contradict_are_refused),
        cmocka_unit_test(what_was_done_is_no_refusal_when_the_bound_on_messages_was_lowered_since),
        cmocka_unit_test(a_unit_whose_output_is_over_the_bound_is_refused_alone),
        cmocka_unit_test(a_shorter_window_of_ids_holds_at_once),
        cmocka_unit_test(a_topics_backlog_limit_can_be_raised_while_it_is_full),
        cmocka_unit_test(a_groups_settings_change_and_survive_a_restart_and_the_others_stay),
        cmocka_unit_test(what_decides_what_a_group_has_done_cannot_be_altered),
        cmocka_unit_test(a_limit_that_a_group_of_that_order_cannot_keep_is_refused_and_the_group_stays_as_it_is),
        cmocka_unit_test(altered_limits_of_a_group_hold_for_what_is_handed_out_next),
        cmocka_unit_test(dead_letters_after_parking_was_altered_do_as_it_says_and_those_before_stay),
        cmocka_unit_test(a_paused_group_hands_nothing_out_and_what_is_leased_goes_on),
        cmocka_unit_test(pausing_twice_is_pausing_once_and_a_repeat_is_answered_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
