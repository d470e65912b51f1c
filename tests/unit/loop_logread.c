/* Reading the logs: the tail cache and the store answer the same, and what is damaged is said and never shown. */
#include "loop_kit.h"

#include "broker/logread.h"

static void damage(struct kit *k, uint64_t offset)
{
    struct key row = kit_log_row(k->slow.mem, k->partition[DISK], offset);
    assert_true(store_mem_damage(k->slow.mem, FAM_LOG_DAYS, key_view(&row)));
}

/* Changes a byte of a stored row, so that the store finds nothing wrong and we do. */
static void flip(struct kit *k, uint64_t offset, size_t at)
{
    struct key row = kit_log_row(k->slow.mem, k->partition[DISK], offset);
    struct buf value = {0};
    bool found;
    struct err e = {0};
    assert_int_equal(store_get(k->slow.mem, FAM_LOG_DAYS, key_view(&row), &value, &found, &e), E_OK);
    assert_true(found && at < value.size);
    value.data[at] ^= 1;
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_LOG_DAYS, key_view(&row), buf_view(&value));
    assert_int_equal(store_write(k->slow.mem, &l, &e), E_OK);
    puts_free(&l);
    buf_free(&value);
}

static void remove_row(struct kit *k, uint64_t offset)
{
    struct key row = kit_log_row(k->slow.mem, k->partition[DISK], offset);
    struct puts l;
    struct err e = {0};
    puts_init(&l);
    puts_remove(&l, FAM_LOG_DAYS, key_view(&row));
    assert_int_equal(store_write(k->slow.mem, &l, &e), E_OK);
    puts_free(&l);
}

static const struct wire_reply *fetch(struct kit *k, uint64_t offset) { return kit_ask(k, kit_fetch(k, k->partition[DISK], offset, 0)); }

static void tail_and_store_give_the_same_bytes(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    for (int i = 0; i < 50; i++) {
        if (i % 3 == 0)
            kit_send(k, kit_produce(k, DISK, "aa b"));
        kit_ask(k, kit_produce(k, DISK, i % 2 == 0 ? "one two three" : "a-longer-value-than-the-others"));
    }
    struct call *calls[140];
    for (uint64_t o = 0; o < 140; o++)
        kit_ask(k, calls[o] = kit_fetch(k, k->partition[DISK], o, 0)); /* from memory */
    kit_reopen(k);
    for (uint64_t o = 0; o < 140; o++) {
        const struct wire_fetch_part *part = fetch(k, o)->fetch.parts, *before = calls[o]->op.reply.fetch.parts;
        assert_int_equal(part->code, before->code);
        assert_true(view_eq(part->data, before->data));
        assert_true(part->data.size > 0 || o >= 134);
    }
    kit_free(k);
}

static void a_small_tail_cache_changes_no_answer(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 700});
    for (int i = 0; i < 20; i++)
        kit_ask(k, kit_produce(k, DISK, "x"));
    char expected[256] = "";
    for (int i = 0; i < 20; i++)
        sprintf(expected + strlen(expected), "%s%d=x", i > 0 ? " " : "", i);
    assert_string_equal(kit_values(fetch(k, 0)), expected);
    for (int i = 0; i < 20; i += 5) {
        char one[64];
        snprintf(one, sizeof one, "%d=x %d=x %d=x", i, i + 1, i + 2);
        assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 3, 1000))), one);
        kit_ask(k, kit_receive(k, DISK, 2, 1000));
    }
    kit_free(k);
}

static void a_fetch_stops_at_its_bound_and_gives_one_batch_at_least(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    for (int i = 0; i < 5; i++)
        kit_ask(k, kit_produce(k, DISK, "one two"));
    struct call *c = kit_fetch(k, k->partition[DISK], 3, 0);
    c->op.request.fetch.max_bytes = 1;
    assert_string_equal(kit_values(kit_ask(k, c)), "2=one 3=two"); /* batches are never cut */
    kit_free(k);
}

/* Was a bug: an iterator at a damaged row was asked for its next one, and the broker aborted. */
static void several_messages_of_a_damaged_row_are_parked_and_never_delivered(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    kit_ask(k, kit_produce(k, DISK, "one two three"));
    kit_ask(k, kit_produce(k, DISK, "four"));
    kit_ask(k, kit_receive(k, DISK, 1, 1000)); /* reads ahead while all is well */
    damage(k, 0);
    struct call *c = kit_receive(k, DISK, 10, 0);
    assert_string_equal(kit_values(kit_ask(k, c)), "3=four");
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("t"), VIEW_LIT("g"), &census));
    assert_int_equal(census.parked, 2);
    assert_int_equal(atomic_load(&k->fatals), 0);
    kit_free(k);
}

static void damaged_bytes_are_found_by_their_sums(void **state)
{
    (void)state;
    for (size_t at = 0; at < 400; at += 13) {
        struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
        kit_ask(k, kit_produce(k, DISK, "one two"));
        kit_ask(k, kit_produce(k, DISK, "three"));
        struct key row = kit_log_row(k->slow.mem, k->partition[DISK], 0);
        struct buf value = {0};
        bool found;
        struct err e = {0};
        store_get(k->slow.mem, FAM_LOG_DAYS, key_view(&row), &value, &found, &e);
        bool within = at < value.size, padding = within && at >= STORED_HEADER_SIZE + get_u32(value.data + 48);
        buf_free(&value);
        if (within && !padding) {
            flip(k, 0, at);
            const struct wire_fetch_part *part = fetch(k, 0)->fetch.parts;
            assert_int_equal(part->code, E_DAMAGED);
            assert_int_equal(part->data.size, 0);
            assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 10, 0))), "2=three");
        }
        kit_free(k);
    }
}

/* Was a bug: where the store itself refuses a row, nothing said where the damage ends, so the group read it for ever. */
static void a_damaged_row_is_passed_by_groups_and_answered_as_a_gap_to_readers(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    kit_ask(k, kit_produce(k, DISK, "one two"));
    kit_ask(k, kit_produce(k, DISK, "three four five six seven"));
    kit_ask(k, kit_produce(k, DISK, "eight"));
    damage(k, 3);
    assert_string_equal(kit_values(fetch(k, 0)), "0=one 1=two");
    const struct wire_fetch_part *part = fetch(k, 2)->fetch.parts;
    assert_int_equal(part->code, E_DAMAGED);
    assert_true(part->has_gap);
    assert_int_equal(part->gap.from, 2);
    assert_int_equal(part->gap.to, 7);
    assert_int_equal(part->gap.why, GAP_DAMAGED);
    assert_string_equal(kit_values(fetch(k, 7)), "7=eight");
    assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 10, 0))), "0=one 1=two");
    assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 10, 0))), "7=eight");
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("t"), VIEW_LIT("g"), &census));
    assert_int_equal(census.parked, 5);
    kit_free(k);
}

static void damage_at_either_end_of_a_log_is_passed(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    for (int i = 0; i < 4; i++)
        kit_ask(k, kit_produce(k, DISK, "x y"));
    damage(k, 0);
    damage(k, 6);
    const struct wire_fetch_part *part = fetch(k, 0)->fetch.parts;
    assert_int_equal(part->gap.to, 2);
    part = fetch(k, 7)->fetch.parts;
    assert_int_equal(part->code, E_DAMAGED);
    assert_int_equal(part->gap.from, 7);
    assert_int_equal(part->gap.to, 8);
    for (int i = 0; i < 3; i++)
        kit_ask(k, kit_receive(k, DISK, 10, 0));
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("t"), VIEW_LIT("g"), &census));
    assert_int_equal(census.parked, 4);
    assert_int_equal(census.leased, 4);
    assert_int_equal(census.unscanned, 0);
    kit_free(k);
}

static void a_row_that_is_missing_is_damage_and_not_a_silent_jump(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    for (int i = 0; i < 3; i++)
        kit_ask(k, kit_produce(k, DISK, "x y"));
    remove_row(k, 2);
    remove_row(k, 4);
    const struct wire_fetch_part *part = fetch(k, 2)->fetch.parts;
    assert_int_equal(part->code, E_DAMAGED);
    assert_int_equal(part->gap.from, 2);
    assert_int_equal(part->gap.to, 6);
    assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 10, 0))), "0=x 1=y");
    kit_ask(k, kit_receive(k, DISK, 10, 0));
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("t"), VIEW_LIT("g"), &census));
    assert_int_equal(census.parked, 4);
    kit_free(k);
}

static void what_is_parked_and_damaged_is_listed_and_marked(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    kit_ask(k, kit_produce(k, DISK, "one two"));
    kit_ask(k, kit_produce(k, DISK, "three"));
    damage(k, 0);
    kit_ask(k, kit_receive(k, DISK, 10, 0));
    kit_ask(k, kit_receive(k, DISK, 10, 0));
    struct call *c = kit_new_call(k, VERB_HELD_LIST);
    c->op.request.held = (struct wire_held_list){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .payload = true};
    const struct wire_reply *r = kit_ask(k, c);
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->held.rows_n, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(view_eq(r->held.rows[i].reason, VIEW_LIT("damaged")));
        assert_int_equal(r->held.delivery.records[i].flags & RECORD_DAMAGED, RECORD_DAMAGED);
    }
    assert_int_equal(r->held.delivery.data.size, 0);
    kit_free(k);
}

static void an_offset_for_a_time_is_the_first_appended_then_or_later(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    uint64_t times[5];
    for (int i = 0; i < 5; i++) {
        times[i] = k->now.wall_ms;
        kit_ask(k, kit_produce(k, DISK, "x y z"));
        kit_pass(k, 1000);
    }
    for (int i = 0; i < 5; i++) {
        const struct { uint64_t time, offset; } asks[] = {{times[i], 3 * (uint64_t)i}, {times[i] + 1, 3 * (uint64_t)i + 3}};
        for (size_t a = 0; a < ARRAY_LEN(asks); a++) {
            struct call *c = kit_new_call(k, VERB_OFFSET_FOR);
            c->op.request.offset_for = (struct wire_offset_for){.partition = k->partition[DISK], .time_ms = asks[a].time};
            assert_int_equal(kit_ask(k, c)->offset.offset, asks[a].offset);
        }
    }
    struct call *c = kit_new_call(k, VERB_OFFSET_FOR);
    c->op.request.offset_for = (struct wire_offset_for){.partition = k->partition[DISK], .time_ms = UINT64_MAX};
    assert_int_equal(kit_ask(k, c)->offset.offset, 15);
    kit_free(k);
}

/* ---------------------------------------------------------------- a store that fails otherwise */

struct failing_iter { struct store_iter base; };
static void fail_seek(struct store_iter *it, struct view key) { (void)it, (void)key; }
static void fail_next(struct store_iter *it) { (void)it; }
static bool fail_valid(const struct store_iter *it) { (void)it; return false; }
static struct view fail_key(const struct store_iter *it) { (void)it; return (struct view){0}; }
static struct view fail_value(struct store_iter *it) { (void)it; return (struct view){0}; }
static int fail_status(const struct store_iter *it, struct err *e) { (void)it; return err_set(e, E_STORE_FAILED, "input/output error"); }
static void fail_close(struct store_iter *it) { mem_free(container_of(it, struct failing_iter, base)); }
static const struct store_iter_ops fail_iter_ops = {fail_seek, fail_next, fail_valid, fail_key, fail_value, fail_status, fail_close};
static struct store_iter *fail_iter(struct store *s, enum store_family f)
{
    (void)s, (void)f;
    struct failing_iter *it = mem_zalloc(sizeof *it);
    it->base.ops = &fail_iter_ops;
    return &it->base;
}
static const struct store_ops fail_ops = {.iter = fail_iter};

static void note_unreadable(void *user, const struct log_unreadable *u) { *(struct log_unreadable *)user = *u; }

/* What a group orders and times by stands in the columns of a batch. */
static void priority_and_ttl_of_a_record_decide_when_and_whether_it_is_delivered(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    const struct record records[] = {
        {.value = VIEW_LIT("low")},  {.value = VIEW_LIT("short"), .ttl_ms = 20}, {.value = VIEW_LIT("high"), .priority = 7},
        {.value = VIEW_LIT("long"), .ttl_ms = 600000}, {.value = VIEW_LIT("higher"), .priority = 8},
    };
    struct call *c = kit_produce(k, DISK, "a b c d e");
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        assert_int_equal(batch_builder_add(b, &records[i], &e), E_OK);
    assert_int_equal(batch_builder_finish(b, BATCH_NONE, &bytes, &c->op.request.produce.batch_hash, &e), E_OK);
    batch_builder_free(b);
    ref_drop(c->op.hold);
    c->op.hold = ref_new_copy(bytes.data, bytes.size);
    c->op.request.produce.batch = ref_view(c->op.hold);
    buf_free(&bytes);
    kit_ask(k, c);
    kit_pass(k, 20);
    assert_string_equal(kit_values(kit_ask(k, kit_receive(k, DISK, 10, 1000))), "4=higher 2=high 0=low 3=long");
    kit_free(k);
}

/* Were bugs: an input/output error was answered as a damaged gap, which a reader would skip, and parked as damaged. */
static void a_store_that_fails_is_no_damage(void **state)
{
    (void)state;
    struct store failing = {.ops = &fail_ops};
    struct tail *tail = tail_new(1 << 20);
    tail_partition(tail, &(struct effect_partition){.partition = 1, .family = FAM_LOG_DAYS});
    struct log_source src = {.store = &failing, .tail = tail};

    struct wire_fetch_from from = {.partition = 1, .offset = 5};
    struct wire_fetch_part part = {.partition = 1, .end = 10};
    struct op op = {.read = READ_FETCH, .wants = &from, .fetch_bytes = 1000};
    op.reply.body = BODY_FETCH;
    op.reply.fetch.parts = &part;
    op.reply.fetch.parts_n = 1;
    log_fill(&src, &op, NULL, NULL);
    assert_int_equal(part.code, E_STORE_FAILED);
    assert_false(part.has_gap);

    struct wire_record record = {.offset = 5, .partition = 1};
    struct wire_delivery delivery = {.group = 1, .token = 9, .records = &record, .records_n = 1};
    struct log_unreadable seen = {0};
    op = (struct op){.read = READ_RECORDS};
    op.reply.body = BODY_RECEIVE;
    op.reply.receive = (struct wire_receive_reply){.deliveries = &delivery, .deliveries_n = 1};
    log_fill(&src, &op, note_unreadable, &seen);
    assert_int_equal(seen.code, E_STORE_FAILED);
    assert_int_equal(delivery.records_n, 0);

    struct loaded loaded;
    struct buf records = {0};
    struct err e = {0};
    assert_int_equal(log_load(&src, &(struct effect_load){.group = 1, .partition = 1, .end = 10, .records = 5}, &loaded, &records, &e), E_STORE_FAILED);
    buf_free(&records);
    buf_free(&op.payload);
    tail_free(tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tail_and_store_give_the_same_bytes),
        cmocka_unit_test(a_small_tail_cache_changes_no_answer),
        cmocka_unit_test(a_fetch_stops_at_its_bound_and_gives_one_batch_at_least),
        cmocka_unit_test(several_messages_of_a_damaged_row_are_parked_and_never_delivered),
        cmocka_unit_test(damaged_bytes_are_found_by_their_sums),
        cmocka_unit_test(a_damaged_row_is_passed_by_groups_and_answered_as_a_gap_to_readers),
        cmocka_unit_test(damage_at_either_end_of_a_log_is_passed),
        cmocka_unit_test(a_row_that_is_missing_is_damage_and_not_a_silent_jump),
        cmocka_unit_test(what_is_parked_and_damaged_is_listed_and_marked),
        cmocka_unit_test(an_offset_for_a_time_is_the_first_appended_then_or_later),
        cmocka_unit_test(priority_and_ttl_of_a_record_decide_when_and_whether_it_is_delivered),
        cmocka_unit_test(a_store_that_fails_is_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
