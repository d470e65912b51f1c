/* Held messages looked at by their bytes: filters of tasks and of lists, by the readers that a broker has. */
#include "loop_kit.h"

#include "broker/readers.h"

static struct call *next(struct kit *k, enum wire_verb verb)
{
    struct call *c = kit_new_call(k, verb);
    c->op.request.seq = ++k->seq[0];
    c->op.request.replies_seen = k->seq[0] - 1;
    return c;
}

static void park_all(struct kit *k)
{
    for (;;) {
        const struct wire_reply *r = kit_ask(k, kit_receive(k, DISK, 8, 0));
        if (r->receive.deliveries_n == 0)
            return;
        const struct wire_delivery *d = &r->receive.deliveries[0];
        struct call *c = next(k, VERB_SETTLE);
        for (uint32_t i = 0; i < d->records_n; i++)
            c->items[i] = (struct wire_settle_item){.token = d->token, .offset = d->records[i].offset, .partition = d->records[i].partition,
                                                    .group = k->group[DISK], .verb = SETTLE_PARK};
        c->op.request.settle = (struct wire_settle){.singles = c->items, .singles_n = d->records_n};
        assert_int_equal(kit_ask(k, c)->settle.codes_n, 0);
    }
}

/* Produces and parks them all. */
static struct kit *begin(const struct kit *options, const char *words)
{
    struct kit *k = kit_new(options);
    assert_int_equal(kit_ask(k, kit_produce_as(k, words))->code, E_OK);
    park_all(k);
    return k;
}

static const struct wire_held_reply *page(struct kit *k, struct wire_held_list l)
{
    struct call *c = kit_new_call(k, VERB_HELD_LIST);
    c->op.request.held = l;
    c->op.request.held.topic = VIEW_LIT("t");
    c->op.request.held.group = VIEW_LIT("g");
    const struct wire_reply *r = kit_ask(k, c);
    assert_int_equal(r->code, E_OK);
    return &r->held;
}

static const char *offsets(const struct wire_held_reply *r)
{
    static char texts[4][4096];
    static unsigned turn;
    char *text = texts[turn++ % 4], *at = text;
    *at = '\0';
    for (uint32_t i = 0; i < r->rows_n; i++)
        at += snprintf(at, 32, "%s%llu", i > 0 ? " " : "", (unsigned long long)r->rows[i].offset);
    return text;
}

static const char *listed(struct kit *k, const struct wire_held_filter *f) { return offsets(page(k, (struct wire_held_list){.filter = f})); }

static struct wire_task_row change_of(struct kit *k, struct wire_held_change w)
{
    struct call *c = next(k, VERB_HELD_CHANGE);
    w.topic = VIEW_LIT("t");
    w.group = VIEW_LIT("g");
    c->op.request.held_change = w;
    uint64_t id = kit_ask(k, c)->tasks.tasks[0].id;
    for (int i = 0; i < 100; i++) {
        kit_pass(k, 5);
        c = kit_new_call(k, VERB_TASK_LIST);
        c->op.request.task.id = id;
        struct wire_task_row t = kit_ask(k, c)->tasks.tasks[0];
        if (t.state != TASK_RUNNING)
            return t;
    }
    fail_msg("the task does not end");
    return (struct wire_task_row){0};
}

static struct wire_task_row change(struct kit *k, enum task_act act, const struct wire_held_filter *f)
{
    return change_of(k, (struct wire_held_change){.act = (uint8_t)act, .filter = f});
}

static const struct wire_held_filter red_1 = {.header = {(const uint8_t *)"red", 3}, .has_header_value = true,
                                              .header_value = {(const uint8_t *)"1", 1}};
static const char *const some = "a:red=1:zero b:red=2:one a:blue=1:two -:red=1:three c:-=-:four ab:redder=1:five";

static void a_list_by_key_or_header_holds_the_messages_whose_bytes_fit(void **state)
{
    (void)state;
    struct kit *k = begin(NULL, some);
    assert_string_equal(listed(k, NULL), "0 1 2 3 4 5");
    assert_string_equal(listed(k, &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")}), "0 2");
    assert_string_equal(listed(k, &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("")}), "");
    assert_string_equal(listed(k, &(struct wire_held_filter){.header = VIEW_LIT("red")}), "0 1 3");
    assert_string_equal(listed(k, &red_1), "0 3");
    assert_string_equal(listed(k, &(struct wire_held_filter){.header = VIEW_LIT("red"), .has_key = true, .key = VIEW_LIT("a")}), "0");
    assert_string_equal(listed(k, &(struct wire_held_filter){.header = VIEW_LIT("red"), .has_header_value = true}), "");
    kit_free(k);
}

static void a_filtered_page_brings_the_bytes_of_what_it_holds(void **state)
{
    (void)state;
    struct kit *k = begin(NULL, some);
    const struct wire_held_filter f = {.header = VIEW_LIT("red")};
    const struct wire_held_reply *r = page(k, (struct wire_held_list){.filter = &f, .payload = true, .limit = 2});
    assert_string_equal(offsets(r), "0 1");
    assert_true(r->more);
    assert_int_equal(r->delivery.records_n, 2);
    assert_non_null(memmem(r->delivery.data.data, r->delivery.data.size, "zero", 4));
    assert_non_null(memmem(r->delivery.data.data, r->delivery.data.size, "one", 3));
    assert_null(memmem(r->delivery.data.data, r->delivery.data.size, "three", 5));
    r = page(k, (struct wire_held_list){.filter = &f, .limit = 2, .has_after = true, .after_partition = r->next_partition,
                                        .after_offset = r->next_offset});
    assert_string_equal(offsets(r), "3");
    assert_false(r->more);
    kit_free(k);
}

static void pages_of_a_filter_that_fits_little_end_and_go_on(void **state)
{
    (void)state;
    enum { N = 2500 };
    struct kit *k = kit_new(NULL);
    struct puts puts;
    struct err e = {0};
    struct buf row = {0};
    puts_init(&puts);
    for (uint64_t o = 0; o < N; o++) { /* none of them is in the log: nothing fits */
        struct key key = key_held(k->group[DISK], k->partition[DISK], o);
        buf_clear(&row);
        held_row_put(&row, &(struct held_row){.state = HELD_PARKED, .has_key = true, .key_hash = key_hash(VIEW_LIT("a"))});
        puts_row(&puts, FAM_HELD, key_view(&key), buf_view(&row));
    }
    assert_int_equal(store_write(k->store, &puts, &e), E_OK);
    puts_free(&puts);
    buf_free(&row);
    const struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("a")};
    struct wire_held_list l = {.filter = &f};
    int pages = 0;
    for (bool more = true; more; pages++) {
        const struct wire_held_reply *r = page(k, l);
        assert_int_equal(r->rows_n, 0);
        more = r->more;
        assert_true(!more || !l.has_after || r->next_offset > l.after_offset);
        l.has_after = true;
        l.after_partition = r->next_partition;
        l.after_offset = r->next_offset;
    }
    assert_in_range(pages, 3, 4);
    kit_free(k);
}

static void a_task_does_what_it_does_to_the_messages_whose_bytes_fit(void **state)
{
    (void)state;
    struct kit *k = begin(NULL, some);
    struct wire_task_row t = change(k, TASK_DROP, &red_1);
    assert_int_equal(t.state, TASK_DONE);
    assert_int_equal(t.seen, 6);
    assert_int_equal(t.changed, 2);
    assert_string_equal(listed(k, NULL), "1 2 4 5");
    t = change(k, TASK_REDRIVE, &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")});
    assert_int_equal(t.changed, 1);
    const struct wire_reply *r = kit_ask(k, kit_receive(k, DISK, 8, 0));
    assert_int_equal(r->receive.deliveries_n, 1);
    assert_int_equal(r->receive.deliveries[0].records_n, 1);
    assert_int_equal(r->receive.deliveries[0].records[0].offset, 2);
    kit_free(k);
}

static void a_damaged_message_fits_no_filter_of_bytes_and_every_other(void **state)
{
    (void)state;
    struct kit *k = begin(&(struct kit){.tail_cache_bytes = 1}, some);
    assert_int_equal(kit_ask(k, kit_produce_as(k, "a:red=1:six"))->code, E_OK);
    struct key row = kit_log_row(k->store, k->partition[DISK], 0);
    struct puts puts;
    struct err e = {0};
    puts_init(&puts);
    puts_row(&puts, FAM_LOG_DAYS, key_view(&row), VIEW_LIT("these were batches once, and are not any more, however long one looks at them"));
    assert_int_equal(store_write(k->store, &puts, &e), E_OK);
    puts_free(&puts);
    assert_string_equal(listed(k, &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")}), "");
    assert_int_equal(change(k, TASK_DROP, &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")}).changed, 0);
    assert_string_equal(listed(k, &(struct wire_held_filter){.reason = VIEW_LIT("parked")}), "0 1 2 3 4 5");
    assert_int_equal(change(k, TASK_DROP, NULL).changed, 6);
    assert_int_equal(k->fatals, 0);
    kit_free(k);
}

/* Retention took its row of the log. */
static void only_the_copy_is_left(struct kit *k, uint64_t offset)
{
    struct key row = kit_log_row(k->slow.mem, k->partition[DISK], offset), copy = key_copy(k->group[DISK], k->partition[DISK], offset);
    struct buf value = {0};
    struct puts l;
    struct err e = {0};
    bool found;
    assert_int_equal(store_get(k->slow.mem, FAM_LOG_DAYS, key_view(&row), &value, &found, &e), E_OK);
    assert_true(found);
    puts_init(&l);
    puts_remove(&l, FAM_LOG_DAYS, key_view(&row));
    puts_row(&l, FAM_SCHED, key_view(&copy), buf_view(&value));
    assert_int_equal(store_write(k->slow.mem, &l, &e), E_OK);
    puts_free(&l);
    buf_free(&value);
}

static void a_replay_by_time_goes_by_when_the_message_was_appended_also_when_only_its_copy_is_left(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    uint64_t at[4];
    for (int i = 0; i < 4; i++) {
        kit_pass(k, 1000);
        at[i] = k->now.wall_ms;
        kit_ask(k, kit_produce_as(k, "a:-=-:v"));
    }
    park_all(k);
    only_the_copy_is_left(k, 2);
    struct wire_task_row t = change_of(k, (struct wire_held_change){.act = TASK_REPLAY, .source = REPLAY_PARKED, .from_ms = at[1], .to_ms = at[2]});
    assert_int_equal(t.changed, 1);
    assert_string_equal(listed(k, &(struct wire_held_filter){.reason = VIEW_LIT("parked")}), "0 2 3");
    t = change_of(k, (struct wire_held_change){.act = TASK_REPLAY, .source = REPLAY_PARKED, .from_ms = at[2], .to_ms = at[3]});
    assert_int_equal(t.changed, 1);
    assert_string_equal(listed(k, &(struct wire_held_filter){.reason = VIEW_LIT("parked")}), "0 3");
    kit_free(k);
}

static void a_task_by_bytes_goes_on_after_the_broker_was_closed_in_the_midst_of_it(void **state)
{
    (void)state;
    struct kit *k = begin(NULL, some);
    struct call *c = next(k, VERB_HELD_CHANGE);
    const struct wire_held_filter f = {.header = VIEW_LIT("red")};
    c->op.request.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_DROP, .filter = &f};
    kit_send(k, c);
    kit_turn(k);
    loop_sync(k->loop);
    k->now.mono_ms += 5;
    k->now.wall_ms += 5;
    kit_turn(k); /* readers have answered; the engine has not heard it */
    kit_reopen(k);
    kit_pass(k, 10);
    kit_pass(k, 10);
    assert_string_equal(listed(k, NULL), "2 4 5");
    kit_free(k);
}

static void with_threads_too_every_task_and_list_comes_to_its_end(void **state)
{
    (void)state;
    struct kit *k = begin(NULL, "-:-=-:x");
    struct err e = {0};
    k->reader_threads = 2;
    kit_reopen(k);
    while (clock_mono_ms() < k->now.mono_ms) /* from here on time is real */
        usleep(1000);
    assert_int_equal(loop_start(k->loop, &e), E_OK);
    struct call *calls[40];
    static const struct wire_held_filter f = {.header = VIEW_LIT("red")};
    for (int i = 0; i < 40; i++) {
        calls[i] = kit_new_call(k, VERB_HELD_LIST);
        calls[i]->op.request.held = (struct wire_held_list){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .filter = i % 2 == 0 ? &f : NULL};
        kit_send(k, calls[i]);
    }
    for (int i = 0; i < 40; i++) {
        assert_true(kit_wait(calls[i], 10000));
        assert_int_equal(calls[i]->op.reply.held.rows_n, i % 2);
    }
    struct call *c = next(k, VERB_HELD_CHANGE);
    c->op.request.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_DROP, .filter = &f};
    assert_true(kit_wait(kit_send(k, c), 10000));
    uint64_t id = c->op.reply.tasks.tasks[0].id;
    for (int i = 0; i < 1000; i++) {
        c = kit_new_call(k, VERB_TASK_LIST);
        c->op.request.task.id = id;
        assert_true(kit_wait(kit_send(k, c), 10000));
        if (c->op.reply.tasks.tasks[0].state == TASK_DONE)
            break;
        usleep(1000);
    }
    assert_int_equal(c->op.reply.tasks.tasks[0].state, TASK_DONE);
    assert_int_equal(c->op.reply.tasks.tasks[0].seen, 1);
    loop_stop(k->loop, 1000);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_by_key_or_header_holds_the_messages_whose_bytes_fit),
        cmocka_unit_test(a_filtered_page_brings_the_bytes_of_what_it_holds),
        cmocka_unit_test(pages_of_a_filter_that_fits_little_end_and_go_on),
        cmocka_unit_test(a_task_does_what_it_does_to_the_messages_whose_bytes_fit),
        cmocka_unit_test(a_damaged_message_fits_no_filter_of_bytes_and_every_other),
        cmocka_unit_test(a_replay_by_time_goes_by_when_the_message_was_appended_also_when_only_its_copy_is_left),
        cmocka_unit_test(a_task_by_bytes_goes_on_after_the_broker_was_closed_in_the_midst_of_it),
        cmocka_unit_test(with_threads_too_every_task_and_list_comes_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
