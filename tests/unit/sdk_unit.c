/* Units: what a client promises of an atomic commit, whatever its broker answers. */
#include "sdk_fake.h"

#include <stdatomic.h>

#include "base/macros.h"
#include "schemas/errors.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

static void open_with(struct sluice_options o)
{
    o.size = sizeof o;
    o.broker = fake_url(fake);
    if (o.request_timeout_ms == 0)
        o.request_timeout_ms = 20000;
    assert_int_equal(sluice_open(&client, &o, &err), 0);
}

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    fake_topic(fake, "out", 4);
    fake_group(fake, "t", "g");
    fake_group(fake, "t", "h");
    client = NULL;
    open_with((struct sluice_options){0});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL);
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

static struct sluice_batch *receive(const char *group, uint32_t messages)
{
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = messages};
    struct sluice_batch *b = NULL;
    assert_int_equal(sluice_receive(client, "t", group, &o, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), messages);
    return b;
}

static struct sluice_unit *begin(void)
{
    struct sluice_unit *u;
    assert_int_equal(sluice_unit_begin(client, &u, &err), 0);
    return u;
}

static struct sluice_message message(const char *key, const char *value)
{
    return (struct sluice_message){.size = sizeof(struct sluice_message),
                                   .topic = "out",
                                   .key = sluice_str(key),
                                   .value = sluice_str(value)};
}

static void publish(struct sluice_unit *u, const char *key, const char *value)
{
    struct sluice_message m = message(key, value);
    assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
}

static size_t stored(void)
{
    size_t n = 0;
    for (uint32_t i = 0; i < 4; i++)
        n += fake_stored(fake, "out", i);
    return n;
}

/* Waits until the client has no more to say. */
static void settle_down(void)
{
    struct sluice_health h = {.size = sizeof h};
    assert_int_equal(sluice_health(client, 10000, &h, &err), 0);
}

/* Items that were released, over all settles that were seen. */
static uint32_t released(void)
{
    uint32_t n = 0;
    for (size_t i = 0; i < fake_count(fake, VERB_SETTLE); i++)
        n += fake_seen(fake, VERB_SETTLE, i).settle.verbs[SETTLE_RELEASE];
    return n;
}

/* A script that refuses units with a code, or does something else to the first settles. */
struct trouble {
    atomic_int times;
    enum fake_action action;
    uint16_t code;      /* of the units */
    uint16_t whole;     /* of the request */
    uint16_t codes[16]; /* of singles and units, made by the script */
};

static enum fake_action make_trouble(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    struct trouble *t = user;
    if (r->verb != VERB_SETTLE || r->settle.units_n == 0 || atomic_fetch_sub(&t->times, 1) <= 0)
        return FAKE_DO;
    reply->code = t->whole;
    if (t->action == FAKE_ANSWER && t->whole == 0) {
        reply->body = BODY_SETTLE;
        reply->settle.codes_n = r->settle.singles_n + r->settle.units_n;
        assert_true(reply->settle.codes_n <= ARRAY_LEN(t->codes));
        for (uint32_t i = 0; i < reply->settle.codes_n; i++)
            t->codes[i] = i >= r->settle.singles_n ? t->code : 0;
        reply->settle.codes = t->codes;
    }
    return t->action;
}

/* ---- what a unit carries */

static void a_unit_is_one_request_with_all_that_was_put_into_it(void **state)
{
    (void)state;
    fake_give(fake, "g", "one", false);
    fake_give(fake, "g", "two", false);
    fake_give(fake, "g", "three", false);
    struct sluice_batch *b = receive("g", 3);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    assert_int_equal(sluice_unit_nack(u, b, 1, 500, "later", &err), 0);
    assert_int_equal(sluice_unit_park(u, b, 2, "odd", NULL, &err), 0);
    publish(u, "k1", "a");
    publish(u, "k1", "b");
    publish(u, "k2", "c");
    assert_int_equal(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k1"), 0, SLUICE_STR("seen"), &err), 0);
    assert_int_equal(sluice_unit_published(u), 3);
    struct sluice_receipt receipts[3];
    assert_int_equal(sluice_unit_commit(u, receipts, &err), 0);

    assert_int_equal(fake_count(fake, VERB_SETTLE), 1);
    struct fake_seen s = fake_seen(fake, VERB_SETTLE, 0);
    assert_int_equal(s.settle.units, 1);
    assert_int_equal(s.settle.items, 0);
    assert_int_equal(s.settle.unit_items, 3);
    assert_int_equal(s.settle.state, 1);
    assert_int_equal(receipts[0].partition, receipts[1].partition);
    assert_int_equal(receipts[1].offset, receipts[0].offset + 1);
    assert_int_equal(receipts[0].durability, SLUICE_DISK);
    for (size_t i = 0; i < 3; i++) {
        struct record r = fake_record(fake, "out", receipts[i].partition, receipts[i].offset);
        assert_true(view_eq(r.value, view_of_str((const char *[]){"a", "b", "c"}[i])));
    }
    char value[16];
    assert_true(fake_state(fake, "g", "k1", value, sizeof value) != 0);
    assert_string_equal(value, "seen");
    sluice_batch_free(b);
    settle_down();
    assert_int_equal(released(), 0);
}

static void a_unit_without_messages_is_a_producers_transaction(void **state)
{
    (void)state;
    struct sluice_unit *u = begin();
    for (int i = 0; i < 100; i++)
        publish(u, i % 2 == 0 ? "even" : "odd", "x");
    assert_int_equal(stored(), 0); /* not before it is committed */
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    assert_int_equal(stored(), 100);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 0);
}

static void messages_without_a_key_stay_in_order_in_a_unit(void **state)
{
    (void)state;
    struct sluice_unit *u = begin();
    for (int i = 0; i < 50; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        publish(u, NULL, value);
    }
    struct sluice_receipt receipts[50];
    assert_int_equal(sluice_unit_commit(u, receipts, &err), 0);
    for (int i = 1; i < 50; i++) {
        assert_int_equal(receipts[i].partition, receipts[0].partition);
        assert_int_equal(receipts[i].offset, receipts[0].offset + (uint64_t)i);
    }
    u = begin(); /* and the next unit goes on to the next partition */
    publish(u, NULL, "next");
    struct sluice_receipt next;
    assert_int_equal(sluice_unit_commit(u, &next, &err), 0);
    assert_int_equal(next.partition, (receipts[0].partition + 1) % 4);
}

static void a_message_of_a_unit_may_wait_for_its_time(void **state)
{
    (void)state;
    struct sluice_unit *u = begin();
    struct sluice_message m = message("k", "later");
    m.delay_ms = 1000;
    m.schedule = "remind-4711";
    publish(u, "k", "now");
    assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
    publish(u, "k", "now too");
    struct sluice_receipt receipts[3];
    assert_int_equal(sluice_unit_commit(u, receipts, &err), 0);
    assert_string_equal(receipts[1].schedule, "remind-4711");
    assert_int_equal(receipts[1].due_ms, 6000);
    assert_true(receipts[1].offset == UINT64_MAX);
    assert_string_equal(receipts[2].schedule, "");
    assert_int_equal(receipts[2].offset, receipts[0].offset + 1);
    assert_int_equal(stored(), 2);
}

static atomic_int told, conflicts;

static void tell(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts,
                 size_t count)
{
    (void)user;
    (void)receipts;
    (void)count;
    if (error != NULL && error->code == SLUICE_CONFLICT)
        atomic_fetch_add(&conflicts, 1);
    atomic_fetch_add(&told, 1);
}

static void units_share_requests_and_each_has_its_own_result(void **state)
{
    (void)state;
    enum { UNITS = 40 };
    atomic_store(&told, 0);
    atomic_store(&conflicts, 0);
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    for (int i = 0; i < UNITS; i++) {
        struct sluice_unit *u = begin();
        /* all write the same row as if it were not there: one of them is right */
        assert_int_equal(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k"), 0, SLUICE_STR("v"), &err), 0);
        assert_int_equal(sluice_unit_commit_async(u, tell, NULL, &err), 0);
    }
    fake_await(fake, VERB_SETTLE, 1);
    settle_down();
    fake_release(fake);
    while (atomic_load(&told) < UNITS)
        settle_down();
    assert_int_equal(atomic_load(&conflicts), UNITS - 1);
    assert_true(fake_count(fake, VERB_SETTLE) <= 3);
}

static struct sluice_receipt receipt_of[4][2];

static void keep_receipts(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts,
                          size_t count)
{
    assert_null(error);
    memcpy(receipt_of[(uintptr_t)user], receipts, count * sizeof *receipts);
    atomic_fetch_add(&told, 1);
}

static void each_of_the_units_of_a_request_is_told_where_its_own_messages_are(void **state)
{
    (void)state;
    atomic_store(&told, 0);
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    for (uintptr_t i = 0; i < 4; i++) {
        static const char *const values[] = {"a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"};
        struct sluice_unit *u = begin();
        publish(u, "k1", values[2 * i]);
        publish(u, "k2", values[2 * i + 1]);
        assert_int_equal(sluice_unit_commit_async(u, keep_receipts, (void *)i, &err), 0);
        if (i == 0)
            fake_await(fake, VERB_SETTLE, 1);
    }
    settle_down();
    fake_release(fake);
    while (atomic_load(&told) < 4)
        settle_down();
    assert_int_equal(fake_count(fake, VERB_SETTLE), 2);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            const struct sluice_receipt *at = &receipt_of[i][k];
            struct view value = fake_record(fake, "out", at->partition, at->offset).value;
            assert_true(value.data[0] == 'a' + i && value.data[1] == '0' + k);
        }
    }
}

/* ---- what becomes of one that is refused */

static void a_late_unit_is_refused_alone(void **state)
{
    (void)state;
    fake_give(fake, "g", "one", false);
    fake_give(fake, "g", "two", false);
    struct sluice_batch *b = receive("g", 2);
    static struct trouble late = {.times = 1, .action = FAKE_ANSWER, .code = E_LEASE_LOST};
    fake_set_script(fake, make_trouble, &late);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    publish(u, "k", "effect");
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_LEASE_LOST);
    assert_has(err.text, "topic 't', group 'g'");
    assert_has(err.text, "offset 0");
    assert_int_equal(stored(), 0);
    assert_int_equal(sluice_ack(b, 1, &err), 0);
    sluice_batch_free(b);
}

static void messages_of_a_refused_unit_can_be_settled_otherwise(void **state)
{
    (void)state;
    fake_give_key(fake, "g", "k", "one");
    struct sluice_batch *b = receive("g", 1);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_INVALID_ARGUMENT); /* it is the unit's */
    assert_int_equal(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k"), 77, SLUICE_STR("v"), &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_CONFLICT);
    assert_true(sluice_code_retriable(err.code));
    assert_int_equal(sluice_release(b, 0, &err), 0);
    sluice_batch_free(b);
}

static void messages_of_a_refused_unit_go_back_if_their_batch_was_freed(void **state)
{
    (void)state;
    fake_give(fake, "g", "one", false);
    fake_give(fake, "g", "two", false);
    struct sluice_batch *b = receive("g", 2);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    sluice_batch_free(b);
    fake_await(fake, VERB_SETTLE, 1);
    assert_int_equal(released(), 1); /* the other one, at once */
    assert_int_equal(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k"), 77, SLUICE_STR("v"), &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_CONFLICT);
    fake_await(fake, VERB_SETTLE, 3);
    assert_int_equal(released(), 2);
}

static void an_abandoned_unit_leaves_everything_as_it_was(void **state)
{
    (void)state;
    fake_give(fake, "g", "one", false);
    struct sluice_batch *b = receive("g", 1);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    publish(u, "k", "x");
    sluice_unit_free(u);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    sluice_batch_free(b);
    assert_int_equal(stored(), 0);
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_int_equal(stats.failed, 0);
}

static void a_unit_that_the_broker_cannot_take_does_not_take_others_along(void **state)
{
    (void)state;
    atomic_store(&told, 0);
    atomic_store(&conflicts, 0);
    fake_give(fake, "g", "one", false);
    struct sluice_batch *b = receive("g", 1);
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    for (int i = 0; i < 3; i++) {
        struct sluice_unit *u = begin();
        publish(u, "k", "x");
        assert_int_equal(sluice_unit_commit_async(u, tell, NULL, &err), 0);
        if (i == 0)
            fake_await(fake, VERB_SETTLE, 1);
    }
    settle_down();
    static struct trouble refuse = {.times = 1, .action = FAKE_ANSWER, .whole = E_INVALID_ARGUMENT};
    fake_set_script(fake, NULL, NULL);
    fake_release(fake);
    fake_set_script(fake, make_trouble, &refuse);
    while (atomic_load(&told) < 3)
        settle_down();
    assert_int_equal(stored(), 3);
    sluice_batch_free(b);
}

/* ---- what is not known */

static void a_unit_is_repeated_under_its_number_and_done_once(void **state)
{
    (void)state;
    static struct trouble lose = {.times = 1, .action = FAKE_DO_LOSE};
    fake_set_script(fake, make_trouble, &lose);
    struct sluice_unit *u = begin();
    publish(u, "k", "x");
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    assert_int_equal(stored(), 1);
    assert_int_equal(fake_count(fake, VERB_SETTLE), 2);
    assert_int_equal(fake_seen(fake, VERB_SETTLE, 0).seq, fake_seen(fake, VERB_SETTLE, 1).seq);
}

static void messages_of_a_unit_with_an_unknown_end_stay_settled(void **state)
{
    (void)state;
    sluice_close(client, 0, NULL, NULL);
    open_with((struct sluice_options){.request_timeout_ms = 1000});
    fake_give(fake, "g", "one", false);
    struct sluice_batch *b = receive("g", 1);
    static struct trouble hold = {.times = 100, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 0, &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_TIMEOUT);
    assert_has(err.text, "outcome is unknown");
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_INVALID_ARGUMENT);
    sluice_batch_free(b);
    assert_int_equal(released(), 0);
}

/* ---- bounds and misuse */

static void an_empty_unit_is_refused(void **state)
{
    (void)state;
    assert_int_equal(sluice_unit_commit(begin(), NULL, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "empty");
    assert_int_equal(fake_count(fake, VERB_SETTLE), 0);
}

static void a_unit_that_no_request_can_carry_is_refused_here(void **state)
{
    (void)state;
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    fake = fake_open(&(struct fake_options){.limits = {.request_bytes_max = 8192}});
    fake_topic(fake, "out", 4);
    open_with((struct sluice_options){.compression = SLUICE_COMPRESSION_NONE});
    static char value[4000];
    memset(value, 'x', sizeof value - 1);
    struct sluice_unit *u = begin();
    for (int i = 0; i < 3; i++)
        publish(u, "k", value);
    assert_int_equal(sluice_unit_commit_async(u, NULL, NULL, &err), SLUICE_TOO_LARGE);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_TOO_LARGE); /* it is still ours */
    assert_int_equal(fake_count(fake, VERB_SETTLE), 0);
}

static void a_unit_holds_no_more_than_the_memory_allows(void **state)
{
    (void)state;
    sluice_close(client, 0, NULL, NULL);
    open_with((struct sluice_options){.memory_max = 4 << 20});
    static char value[100000];
    memset(value, 'x', sizeof value - 1);
    struct sluice_unit *u = begin();
    struct sluice_message m = message("k", value);
    int code = 0, n = 0;
    while (code == 0 && n++ < 1000)
        code = sluice_unit_publish(u, &m, &err);
    assert_int_equal(code, SLUICE_QUEUE_FULL);
    sluice_unit_free(u);
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_true(stats.memory_bytes < 100000); /* all of it was given back */
}

/* ---- state */

static void the_state_of_a_key_comes_with_its_message_and_can_be_asked_for(void **state)
{
    (void)state;
    struct sluice_state *row;
    assert_int_equal(sluice_state_get(client, "t", "g", SLUICE_STR("k"), &row, &err), 0);
    assert_true(row->version == 0 && row->value.size == 0);
    sluice_state_free(row);

    struct sluice_unit *u = begin();
    assert_int_equal(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k"), 0, SLUICE_STR("one"), &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    fake_give_key(fake, "g", "other", "x");
    fake_give_key(fake, "g", "k", "y");
    struct sluice_batch *b = receive("g", 2);
    const struct sluice_delivery *d = sluice_batch_message(b, 1);
    assert_true(d->state_version != 0);
    assert_int_equal(d->state.size, 3);
    assert_memory_equal(d->state.data, "one", 3);
    assert_true(sluice_batch_message(b, 0)->state_version == 0);

    u = begin();
    assert_int_equal(sluice_unit_ack(u, b, 1, &err), 0);
    assert_int_equal(sluice_unit_state_put(u, "t", "g", d->key, d->state_version, SLUICE_STR("two"), &err),
                     0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    assert_int_equal(sluice_state_get(client, "t", "g", SLUICE_STR("k"), &row, &err), 0);
    assert_true(row->version > d->state_version);
    assert_memory_equal(row->value.data, "two", 3);

    u = begin();
    assert_int_equal(sluice_unit_state_remove(u, "t", "g", SLUICE_STR("k"), row->version, &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    sluice_state_free(row);
    char value[16];
    assert_true(fake_state(fake, "g", "k", value, sizeof value) == 0);
    sluice_batch_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_unit_is_one_request_with_all_that_was_put_into_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unit_without_messages_is_a_producers_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_without_a_key_stay_in_order_in_a_unit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_of_a_unit_may_wait_for_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(units_share_requests_and_each_has_its_own_result, setup, teardown),
        cmocka_unit_test_setup_teardown(each_of_the_units_of_a_request_is_told_where_its_own_messages_are,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_unit_is_refused_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_of_a_refused_unit_can_be_settled_otherwise, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_of_a_refused_unit_go_back_if_their_batch_was_freed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_abandoned_unit_leaves_everything_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unit_that_the_broker_cannot_take_does_not_take_others_along, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_unit_is_repeated_under_its_number_and_done_once, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_of_a_unit_with_an_unknown_end_stay_settled, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_unit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unit_that_no_request_can_carry_is_refused_here, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unit_holds_no_more_than_the_memory_allows, setup, teardown),
        cmocka_unit_test_setup_teardown(the_state_of_a_key_comes_with_its_message_and_can_be_asked_for, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
