/* Replays of the log, by the readers that a broker has: keys and headers by their bytes, times, what is damaged. */
#include "loop_kit.h"

static struct call *numbered(struct kit *k, enum wire_verb verb)
{
    struct call *c = kit_new_call(k, verb);
    c->op.request.seq = ++k->seq[0];
    c->op.request.replies_seen = k->seq[0] - 1;
    return c;
}

static struct call *change(struct kit *k, struct wire_held_change w)
{
    struct call *c = numbered(k, VERB_HELD_CHANGE);
    w.topic = VIEW_LIT("t");
    w.group = VIEW_LIT("g");
    w.act = TASK_REPLAY;
    if (w.source == 0)
        w.source = REPLAY_LOG;
    c->op.request.held_change = w;
    return c;
}

static struct wire_task_row task(struct kit *k, uint64_t id)
{
    struct call *c = kit_new_call(k, VERB_TASK_LIST);
    c->op.request.task.id = id;
    return kit_ask(k, c)->tasks.tasks[0];
}

static uint32_t group_id(struct kit *k, const char *name)
{
    struct call *c = kit_new_call(k, VERB_GROUP_LIST);
    c->op.request.list = (struct wire_list){.topic = VIEW_LIT("t"), .name = view_of_str(name)};
    return kit_ask(k, c)->groups.groups[0].id;
}

/* Receives and acknowledges all that a group has; the values, a word each. */
static const char *drain(struct kit *k, uint32_t group)
{
    static char text[1 << 20];
    size_t n = 0;
    text[0] = '\0';
    for (int empty = 0; empty < 4;) {
        struct call *c = kit_receive(k, DISK, 8, 0);
        c->group = group;
        kit_pass(k, 20);
        kit_send(k, c);
        kit_pass(k, 60);
        const struct wire_reply *r = &c->op.reply;
        if (r->receive.deliveries_n == 0) {
            empty++;
            continue;
        }
        empty = 0;
        const struct wire_delivery *d = &r->receive.deliveries[0];
        struct call *s = numbered(k, VERB_SETTLE);
        const uint8_t *at = d->data.data;
        for (uint32_t i = 0; i < d->records_n; i++) {
            const struct wire_record *m = &d->records[i];
            at += (m->key_size > 0 ? m->key_size - 1 : 0) + m->headers_size;
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s", n > 0 ? " " : "", (int)m->value_size - 1, (const char *)at);
            at += m->value_size - 1;
            s->items[i] = (struct wire_settle_item){.token = d->token, .offset = d->records[i].offset, .partition = d->records[i].partition,
                                                    .group = group, .verb = SETTLE_ACK};
        }
        s->op.request.settle = (struct wire_settle){.singles = s->items, .singles_n = d->records_n};
        assert_int_equal(kit_ask(k, s)->settle.codes_n, 0);
    }
    return text;
}

/* What a replay brings to a group made by it. */
static const char *brought(struct kit *k, struct wire_held_change w, struct wire_task_row *out)
{
    static char names[32][16];
    static int n;
    char *name = names[n++ % 32];
    snprintf(name, sizeof names[0], "n%d", n);
    w.into = view_of_str(name);
    const struct wire_reply *r = kit_ask(k, change(k, w));
    assert_int_equal(r->code, E_OK);
    uint64_t id = r->tasks.tasks[0].id;
    const char *values = drain(k, group_id(k, name));
    struct wire_task_row row = task(k, id);
    assert_int_equal(row.state, TASK_DONE);
    if (out != NULL)
        *out = row;
    return values;
}

static void a_key_or_a_header_is_told_by_its_bytes(void **state)
{
    (void)state;
    for (size_t tail = 1; tail <= 100000; tail += 99999) { /* from the store, and from memory */
        struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = tail});
        kit_ask(k, kit_produce_as(k, "a:red=1:zero b:red=2:one a:blue=1:two -:red=1:three"));
        kit_ask(k, kit_produce_as(k, "c:-=-:four ab:redder=1:five a:-=-:six"));
        struct wire_task_row t;
        assert_string_equal(brought(k, (struct wire_held_change){0}, &t), "zero one three four five two six");
        assert_int_equal(t.matched, 7);
        struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("a")};
        assert_string_equal(brought(k, (struct wire_held_change){.filter = &f}, &t), "zero two six");
        assert_true(t.seen == 7 && t.matched == 3);
        f = (struct wire_held_filter){.header = VIEW_LIT("red")};
        assert_string_equal(brought(k, (struct wire_held_change){.filter = &f}, NULL), "zero one three");
        f = (struct wire_held_filter){.header = VIEW_LIT("red"), .has_header_value = true, .header_value = VIEW_LIT("2")};
        assert_string_equal(brought(k, (struct wire_held_change){.filter = &f}, NULL), "one");
        assert_string_equal(brought(k, (struct wire_held_change){.from_offset = 2, .to_offset = 5}, NULL), "two three four");
        kit_free(k);
    }
}

static void a_time_is_that_of_appending(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    uint64_t at[20];
    for (int i = 0; i < 20; i++) {
        char words[64];
        kit_pass(k, 1000);
        at[i] = k->now.wall_ms;
        snprintf(words, sizeof words, "a:-=-:v%d b:-=-:w%d", i, i);
        kit_ask(k, kit_produce_as(k, words));
    }
    struct wire_task_row t;
    assert_string_equal(brought(k, (struct wire_held_change){.from_ms = at[17], .to_ms = at[19]}, &t), "v17 w17 v18 w18");
    assert_in_range(t.seen, 4, 8); /* it did not look through all that is older */
    assert_string_equal(brought(k, (struct wire_held_change){.to_ms = at[1]}, &t), "v0 w0");
    assert_in_range(t.seen, 2, 4);
    assert_string_equal(brought(k, (struct wire_held_change){.from_ms = at[19] + 1}, NULL), "");
    assert_string_equal(brought(k, (struct wire_held_change){.from_ms = at[3], .to_ms = at[5], .from_offset = 7}, NULL), "w3 v4 w4");
    kit_free(k);
}

static void one_key_of_very_many_messages_comes_whole_and_in_order(void **state)
{
    (void)state;
    enum { BATCHES = 250, EACH = 100 };
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    char expected[BATCHES * 16] = "";
    struct buf words = {0};
    for (int i = 0; i < BATCHES; i++) {
        buf_clear(&words);
        for (int n = 0; n < EACH; n++)
            buf_putf(&words, "%sk%d:-=-:%d", n > 0 ? " " : "", n, i * EACH + n);
        kit_ask(k, kit_produce_as(k, buf_str(&words)));
        sprintf(expected + strlen(expected), "%s%d", i > 0 ? " " : "", i * EACH + 42);
    }
    buf_free(&words);
    struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("k42")};
    struct wire_task_row t;
    assert_string_equal(brought(k, (struct wire_held_change){.filter = &f}, &t), expected);
    assert_true(t.seen == BATCHES * EACH && t.changed == BATCHES);
    kit_free(k);
}

static void what_is_damaged_is_counted_as_lost_and_what_is_whole_comes(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    kit_ask(k, kit_produce_as(k, "a:-=-:zero b:-=-:one"));
    kit_ask(k, kit_produce_as(k, "a:-=-:two b:-=-:three a:-=-:four"));
    kit_ask(k, kit_produce_as(k, "a:-=-:five"));
    struct key row = kit_log_row(k->store, k->partition[DISK], 2);
    struct puts puts;
    struct err e = {0};
    puts_init(&puts);
    puts_row(&puts, FAM_LOG_DAYS, key_view(&row), VIEW_LIT("this was a batch once, and is not any more, however long one looks at it"));
    assert_int_equal(store_write(k->store, &puts, &e), E_OK);
    puts_free(&puts);
    struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("a")};
    struct wire_task_row t;
    assert_string_equal(brought(k, (struct wire_held_change){.filter = &f}, &t), "zero five");
    assert_true(t.lost == 3 && t.matched == 2);
    assert_int_equal(k->fatals, 0);
    kit_free(k);
}

/* Receives all that g has and parks it. */
static void park(struct kit *k)
{
    for (;;) {
        const struct wire_receive_reply *r = &kit_ask(k, kit_receive(k, DISK, 8, 0))->receive;
        if (r->deliveries_n == 0)
            return;
        const struct wire_delivery *d = &r->deliveries[0];
        struct call *c = numbered(k, VERB_SETTLE);
        for (uint32_t i = 0; i < d->records_n; i++)
            c->items[i] = (struct wire_settle_item){.token = d->token, .offset = d->records[i].offset, .partition = d->records[i].partition,
                                                    .group = k->group[DISK], .verb = SETTLE_PARK};
        c->op.request.settle = (struct wire_settle){.singles = c->items, .singles_n = d->records_n};
        assert_int_equal(kit_ask(k, c)->settle.codes_n, 0);
    }
}

static void dead_letters_that_the_log_has_no_more_are_replayed_elsewhere_whole(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.tail_cache_bytes = 1});
    struct call *c = numbered(k, VERB_TOPIC_ALTER);
    c->op.request.topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .mask = TOPIC_SET_RETENTION_MS, .config = {.retention_ms = 3600000}};
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    uint64_t began = k->now.wall_ms;
    kit_ask(k, kit_produce_as(k, "a:red=1:zero b:red=2:one a:blue=1:two -:red=1:three"));
    park(k);
    for (int i = 0; i < 10; i++)
        kit_pass(k, 720000);
    kit_ask(k, kit_produce_as(k, "a:red=1:four"));
    c = kit_fetch(k, k->partition[DISK], 0, 0);
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    assert_int_equal(c->op.reply.fetch.parts[0].start, 4);
    park(k);
    struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("a")};
    struct wire_held_change w = {.source = REPLAY_PARKED, .filter = &f};
    struct wire_task_row t;
    assert_string_equal(brought(k, w, &t), "zero two four");
    assert_int_equal(t.lost, 0);
    f = (struct wire_held_filter){.header = VIEW_LIT("red")};
    assert_string_equal(brought(k, w, NULL), "zero one three four");
    w = (struct wire_held_change){.source = REPLAY_PARKED, .to_ms = began + 720000};
    assert_string_equal(brought(k, w, NULL), "zero one three two");
    w = (struct wire_held_change){.source = REPLAY_PARKED};
    assert_string_equal(brought(k, w, NULL), "zero one three two four"); /* two waits for zero, whose key it has */
    kit_free(k);
}

static void a_replay_goes_on_after_the_broker_was_closed_in_the_midst_of_it(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce_as(k, "a:-=-:zero b:-=-:one a:-=-:two"));
    struct wire_held_filter f = {.has_key = true, .key = VIEW_LIT("a")};
    kit_send(k, change(k, (struct wire_held_change){.filter = &f, .into = VIEW_LIT("n")}));
    kit_turn(k);
    loop_sync(k->loop);
    k->now.mono_ms += 5;
    k->now.wall_ms += 5;
    kit_turn(k); /* readers have answered; the engine has not heard it */
    kit_reopen(k);
    assert_string_equal(drain(k, group_id(k, "n")), "zero two");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_or_a_header_is_told_by_its_bytes),
        cmocka_unit_test(a_time_is_that_of_appending),
        cmocka_unit_test(one_key_of_very_many_messages_comes_whole_and_in_order),
        cmocka_unit_test(what_is_damaged_is_counted_as_lost_and_what_is_whole_comes),
        cmocka_unit_test(dead_letters_that_the_log_has_no_more_are_replayed_elsewhere_whole),
        cmocka_unit_test(a_replay_goes_on_after_the_broker_was_closed_in_the_midst_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
