/* Topics and groups: made once, named uniquely, gone with all that was theirs. */
#include "engine_kit.h"

static const struct wire_reply *create_topic(struct kit *k, const char *name, struct wire_topic_config config)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_CREATE);
    r.topic = (struct wire_topic_set){.name = view_of_str(name), .config = config};
    return kit_ask_numbered(k, r, A);
}

static const struct wire_reply *create_group(struct kit *k, const char *topic, const char *name, struct wire_group_config config)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_CREATE);
    r.group = (struct wire_group_set){.topic = view_of_str(topic), .name = view_of_str(name), .config = config};
    return kit_ask_numbered(k, r, A);
}

static const struct wire_reply *list(struct kit *k, enum wire_verb verb, struct wire_list l)
{
    struct wire_request r = kit_request(k, A, verb);
    r.list = l;
    return kit_ask(k, r, A);
}

static void detail_has(const struct wire_reply *r, const char *part)
{
    char text[512];
    snprintf(text, sizeof text, "%.*s", (int)r->detail.size, (const char *)r->detail.data);
    assert_has(text, part);
}

static void creating_the_identical_thing_again_is_fine_and_a_different_one_names_the_difference(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    assert_true(create_topic(k, "t", (struct wire_topic_config){.partitions = 2})->topics.created);
    const struct wire_reply *r = create_topic(k, "t", (struct wire_topic_config){.partitions = 2, .durability = DURABILITY_DISK});
    assert_int_equal(r->code, E_OK); /* defaults said or unsaid are the same */
    assert_false(r->topics.created);
    assert_int_equal(r->topics.topics[0].partitions_n, 2);
    r = create_topic(k, "t", (struct wire_topic_config){.partitions = 3});
    assert_int_equal(r->code, E_EXISTS);
    detail_has(r, "partitions");
    r = create_topic(k, "t", (struct wire_topic_config){.partitions = 2, .durability = DURABILITY_OS});
    detail_has(r, "durability");
    assert_true(create_group(k, "t", "g", (struct wire_group_config){.lease_ms = 30000})->groups.created);
    assert_false(create_group(k, "t", "g", (struct wire_group_config){0})->groups.created);
    r = create_group(k, "t", "g", (struct wire_group_config){.max_deliveries = 9});
    assert_int_equal(r->code, E_EXISTS);
    detail_has(r, "max-deliveries");
    kit_free(k);
}

static void an_unknown_name_is_answered_with_the_command_that_makes_it(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    const struct wire_reply *r = create_group(k, "nope", "g", (struct wire_group_config){0});
    assert_int_equal(r->code, E_TOPIC_NOT_FOUND);
    detail_has(r, "sluice topic create nope");
    kit_topic(k, "t", 1);
    r = list(k, VERB_GROUP_LAG, (struct wire_list){.topic = VIEW_LIT("t"), .name = VIEW_LIT("nope")});
    assert_int_equal(r->code, E_GROUP_NOT_FOUND);
    detail_has(r, "sluice group create nope --topic t");
    assert_int_equal(kit_delete_topic(k, "nope"), E_TOPIC_NOT_FOUND);
    assert_int_equal(kit_delete_group(k, "t", "nope"), E_GROUP_NOT_FOUND);
    kit_free(k);
}

static void ids_are_never_used_again(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t partition = 0, group = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL);
        assert_true(p > partition && g > group);
        partition = p + 1;
        group = g;
        assert_int_equal(i % 2 == 0 ? kit_delete_topic(k, "t") : kit_delete_group(k, "t", "g"), E_OK);
        if (i % 2 == 1)
            assert_int_equal(kit_delete_topic(k, "t"), E_OK);
        if (i == 1)
            kit_restart(k);
    }
    kit_free(k);
}

/* Was a bug: after four billion partitions the first id would have come again. */
static void when_every_id_was_used_there_are_no_more(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    k->engine->next.partition = UINT32_MAX - 1;
    assert_int_equal(create_topic(k, "t", (struct wire_topic_config){.partitions = 2})->code, E_LIMIT);
    assert_int_equal(create_topic(k, "t", (struct wire_topic_config){.partitions = 1})->code, E_OK);
    assert_int_equal(create_topic(k, "u", (struct wire_topic_config){.partitions = 1})->code, E_LIMIT);
    kit_free(k);
}

static void a_deleted_topic_answers_those_who_wait_and_leaves_no_row(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    size_t before[FAM_COUNT];
    uint32_t keep = kit_topic(k, "keep", 1);
    uint32_t kept = kit_group(k, "keep", "g", NULL);
    kit_produce(k, keep, "a a b");
    kit_receive(k, B, kept, 1);
    kit_settle_delay(k, B, kept, SETTLE_NACK, "0", 60000);
    for (int f = 0; f < FAM_COUNT; f++)
        before[f] = kit_rows(k, f, NULL);

    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", &(struct wire_group_config){.park = PARK_KEY}), h = kit_group(k, "t", "h", NULL);
    kit_produce(k, p, "a a b c d e f"); /* done, parked, blocked, leased, retrying, ready, behind */
    kit_receive(k, B, g, 5);
    kit_settle(k, B, g, SETTLE_PARK, "0");
    kit_ack(k, B, g, "3");
    kit_settle_delay(k, B, g, SETTLE_NACK, "2", 5000);
    kit_receive_wait(k, B, 3, h, 1, 1000);
    struct call *receiving = kit_receive_wait(k, B, 1, g, 1, 50000);
    struct wire_fetch_from from[] = {{.partition = p + 1}, {.partition = keep, .offset = 3}};
    struct wire_request fetch = kit_request(k, C, VERB_FETCH);
    fetch.fetch = (struct wire_fetch){.from = from, .from_n = 2, .wait_ms = 50000};
    struct call *fetching = kit_call(k, fetch, C);
    while (receiving->answered) /* it got one of those that were ready: the next waits */
        receiving = kit_receive_wait(k, B, 1, g, 1, 50000);
    assert_false(fetching->answered);

    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_int_equal(kit_reply(receiving)->code, E_TOPIC_DELETED);
    assert_int_equal(kit_reply(fetching)->code, E_TOPIC_DELETED);
    assert_int_equal(k->gone_partitions, 2);
    for (int f = 0; f < FAM_COUNT; f++)
        if (f != FAM_SESSIONS) /* numbers of the session that produced stay */
            assert_int_equal(kit_rows(k, f, NULL), before[f]);
    assert_int_equal(k->engine->ready, 1); /* b of the other topic */
    assert_string_equal(kit_receive(k, B, kept, 5), "2");
    kit_pass(k, 100000); /* no timer of what is gone fires */
    kit_free(k);
}

static void a_deleted_group_answers_those_who_wait_and_its_topic_stays(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    struct call *waiting = kit_receive_wait(k, B, 0, g, 1, 10000);
    assert_int_equal(kit_delete_group(k, "t", "g"), E_OK);
    assert_int_equal(kit_reply(waiting)->code, E_GROUP_NOT_FOUND);
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    assert_int_equal(kit_reply(kit_receive_wait(k, B, 0, g, 1, 0))->code, E_GROUP_NOT_FOUND);
    kit_free(k);
}

static void what_was_leased_of_a_deleted_group_can_be_forgotten_by_its_session(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, B, g, 2);
    struct wire_settle_item item = kit_item(k, g, SETTLE_ACK, "0");
    kit_delete_group(k, "t", "g");
    assert_int_equal(kit_unit(k, B, &item, 1), E_GROUP_NOT_FOUND);
    kit_ask(k, kit_request(k, B, VERB_BYE), B);
    kit_pass(k, 100000);
    kit_free(k);
}

static void a_topic_made_used_and_deleted_in_one_turn_leaves_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    size_t before = kit_rows(k, FAM_META, NULL), groups = kit_rows(k, FAM_GROUPS, NULL), logs = kit_rows(k, FAM_LOG_DAYS, NULL);
    struct wire_request topic = kit_request(k, A, VERB_TOPIC_CREATE), group = kit_request(k, A, VERB_GROUP_CREATE),
                        produce = kit_request(k, A, VERB_PRODUCE), receive = kit_request(k, A, VERB_RECEIVE), drop = kit_request(k, A, VERB_TOPIC_DELETE);
    uint32_t p = k->engine->next.partition, g = k->engine->next.group;
    topic.topic = drop.topic = (struct wire_topic_set){.name = VIEW_LIT("t")};
    group.group = (struct wire_group_set){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g")};
    produce.lane = p;
    produce.produce = (struct wire_produce){.partition = p, .count = 1, .batch = VIEW_LIT("x")};
    receive.receive = (struct wire_receive){.counter = 1, .groups = &g, .groups_n = 1, .wait_ms = 1000};
    topic.seq = produce.seq = 1;
    group.seq = 2;
    drop.seq = 3;
    k->group_topic_first[g] = p;
    kit_begin(k);
    struct call *calls[] = {kit_call(k, topic, A), kit_call(k, group, A), kit_call(k, produce, A), kit_call(k, receive, A), kit_call(k, drop, A)};
    kit_end(k);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        assert_int_equal(kit_reply(calls[i])->code, i == 3 ? E_TOPIC_DELETED : E_OK);
    assert_int_equal(kit_rows(k, FAM_META, NULL), before + 1); /* the next ids */
    assert_int_equal(kit_rows(k, FAM_GROUPS, NULL), groups);
    assert_int_equal(kit_rows(k, FAM_LOG_DAYS, NULL), logs);
    kit_free(k);
}

static void lists_are_sorted_and_paged(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    static const char *const names[] = {"delta", "alpha", "charlie", "bravo", "alpha2"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        kit_topic(k, names[i], 1);
        kit_group(k, names[i], "z", NULL);
        kit_group(k, names[i], "a", NULL);
    }
    char text[256] = "", after[64] = "";
    const struct wire_reply *r;
    do {
        r = list(k, VERB_TOPIC_LIST, (struct wire_list){.limit = 2, .after = after[0] != '\0' ? view_of_str(after) : (struct view){0}});
        for (uint32_t i = 0; i < r->topics.topics_n; i++) {
            snprintf(after, sizeof after, "%.*s", (int)r->topics.topics[i].name.size, (const char *)r->topics.topics[i].name.data);
            strcat(strcat(text, after), " ");
        }
        strcat(text, "| ");
    } while (r->topics.more);
    assert_string_equal(text, "alpha alpha2 | bravo charlie | delta | ");
    text[0] = after[0] = '\0';
    do {
        r = list(k, VERB_GROUP_LIST, (struct wire_list){.limit = 4, .after = after[0] != '\0' ? view_of_str(after) : (struct view){0}});
        for (uint32_t i = 0; i < r->groups.groups_n; i++) {
            const struct wire_group *g = &r->groups.groups[i];
            snprintf(after, sizeof after, "%.*s/%.*s", (int)g->topic.size, (const char *)g->topic.data, (int)g->name.size, (const char *)g->name.data);
            strcat(strcat(text, after), " ");
        }
        strcat(text, "| ");
    } while (r->groups.more);
    assert_string_equal(text, "alpha/a alpha/z alpha2/a alpha2/z | bravo/a bravo/z charlie/a charlie/z | delta/a delta/z | ");
    r = list(k, VERB_TOPIC_LIST, (struct wire_list){.name = VIEW_LIT("bravo")});
    assert_int_equal(r->topics.topics_n, 1);
    assert_int_equal(list(k, VERB_TOPIC_LIST, (struct wire_list){.after = VIEW_LIT("zzz")})->topics.topics_n, 0);
    assert_int_equal(list(k, VERB_GROUP_LIST, (struct wire_list){.topic = VIEW_LIT("delta")})->groups.groups_n, 2);
    kit_free(k);
}

static void the_numbers_of_topics_partitions_and_groups_are_limited(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.topics_max = 3;
    k->limits.partitions_max = 5;
    k->limits.topic_partitions_max = 3;
    k->limits.groups_max = 1;
    kit_topic(k, "a", 3);
    assert_int_equal(create_topic(k, "b", (struct wire_topic_config){.partitions = 4})->code, E_LIMIT);
    assert_int_equal(create_topic(k, "b", (struct wire_topic_config){.partitions = UINT32_MAX})->code, E_LIMIT);
    assert_int_equal(create_topic(k, "b", (struct wire_topic_config){.partitions = 3})->code, E_LIMIT);
    kit_topic(k, "b", 1);
    kit_topic(k, "c", 1);
    assert_int_equal(create_topic(k, "d", (struct wire_topic_config){0})->code, E_LIMIT);
    kit_group(k, "a", "g", NULL);
    assert_int_equal(create_group(k, "b", "g", (struct wire_group_config){0})->code, E_LIMIT);
    kit_delete_group(k, "a", "g");
    assert_int_equal(create_group(k, "b", "g", (struct wire_group_config){0})->code, E_OK);
    kit_free(k);
}

/* Every row of every family damaged in turn: a broker that opens refuses it by name, or does not need it yet; it never goes on with less. */
static void a_damaged_row_is_refused_when_opening_and_never_ignored(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a b c d e");
    kit_receive(k, B, g, 4);
    kit_ack(k, B, g, "3");
    kit_settle_delay(k, B, g, SETTLE_NACK, "2", 60000); /* it is away: a start does not look at it */
    kit_settle_delay(k, B, g, SETTLE_NACK, "4", 5000);
    static const enum store_family families[] = {FAM_META, FAM_GROUPS, FAM_LEASES, FAM_KEYS, FAM_HELD, FAM_SCHED, FAM_SESSIONS};
    size_t tried = 0;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct store_iter *it = store_iter(k->store, families[f]);
        for (store_iter_seek(it, VIEW_LIT("")); store_iter_valid(it); store_iter_next(it)) {
            struct puts l;
            puts_init(&l);
            puts_row(&l, families[f], store_iter_key(it), store_iter_value(it));
            assert_true(store_mem_damage(k->store, families[f], store_iter_key(it)));
            struct engine *other = NULL;
            struct err e = {0};
            int code = engine_open(&other, k->store, &k->limits, k->now, 1, &e);
            uint32_t group, chunk;
            uint64_t hash, due;
            struct id128 id;
            struct key held = key_held(g, p, 2);
            bool away = key_read_away(store_iter_key(it), &group, &hash) ||
                        (families[f] == FAM_SCHED && key_read_sched_kind(store_iter_key(it), &due) == SCHED_KIND_AWAY) ||
                        (families[f] == FAM_HELD && view_eq(store_iter_key(it), key_view(&held)));
            bool later = away || (families[f] == FAM_KEYS && key_read_list(store_iter_key(it), &group, &hash, &chunk) && chunk > 0) ||
                         (families[f] == FAM_SESSIONS && key_read_lane(store_iter_key(it), &id, &chunk));
            if (later && code == E_OK)
                engine_close(other);
            else
                assert_int_equal(code, E_DAMAGED);
            assert_int_equal(store_write(k->store, &l, &e), E_OK); /* whole again */
            puts_free(&l);
            tried++;
        }
        store_iter_close(it);
    }
    assert_true(tried > 12);
    kit_restart(k);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creating_the_identical_thing_again_is_fine_and_a_different_one_names_the_difference),
        cmocka_unit_test(an_unknown_name_is_answered_with_the_command_that_makes_it),
        cmocka_unit_test(ids_are_never_used_again),
        cmocka_unit_test(when_every_id_was_used_there_are_no_more),
        cmocka_unit_test(a_deleted_topic_answers_those_who_wait_and_leaves_no_row),
        cmocka_unit_test(a_deleted_group_answers_those_who_wait_and_its_topic_stays),
        cmocka_unit_test(what_was_leased_of_a_deleted_group_can_be_forgotten_by_its_session),
        cmocka_unit_test(a_topic_made_used_and_deleted_in_one_turn_leaves_nothing),
        cmocka_unit_test(lists_are_sorted_and_paged),
        cmocka_unit_test(the_numbers_of_topics_partitions_and_groups_are_limited),
        cmocka_unit_test(a_damaged_row_is_refused_when_opening_and_never_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
