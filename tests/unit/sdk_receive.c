#include "sdk_fake.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/macros.h"
#include "schemas/errors.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    fake_group(fake, "t", "g");
    fake_group(fake, "t", "h");
    client = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL); /* what it uses is gone with the test */
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

static void open_with(struct sluice_options o)
{
    o.size = sizeof o;
    o.broker = fake_url(fake);
    if (o.request_timeout_ms == 0)
        o.request_timeout_ms = 20000;
    assert_int_equal(sluice_open(&client, &o, &err), 0);
}

static struct sluice_receive_options wanting(uint32_t messages, uint32_t wait_ms)
{
    return (struct sluice_receive_options){
        .size = sizeof(struct sluice_receive_options), .max_messages = messages, .wait_ms = wait_ms};
}

static struct sluice_batch *receive(const char *group, uint32_t messages, uint32_t wait_ms)
{
    struct sluice_receive_options o = wanting(messages, wait_ms);
    struct sluice_batch *b = NULL;
    assert_int_equal(sluice_receive(client, "t", group, &o, &b, &err), 0);
    assert_non_null(b);
    return b;
}

static bool value_is(const struct sluice_batch *b, size_t i, const char *value)
{
    const struct sluice_delivery *d = sluice_batch_message(b, i);
    return d->value.size == strlen(value) && memcmp(d->value.data, value, d->value.size) == 0;
}

/* Waits until the client has no more to say: what was handed over before it is with the broker. */
static void settle_down(void)
{
    struct sluice_health h = {.size = sizeof h};
    assert_int_equal(sluice_health(client, 10000, &h, &err), 0);
}

/* A call of sluice_receive in a thread of its own. */
struct call {
    pthread_t thread;
    const char *group;
    struct sluice_receive_options options;
    int code;
    struct sluice_batch *batch;
};

static void *run_call(void *arg)
{
    struct call *c = arg;
    c->code = sluice_receive(client, "t", c->group, &c->options, &c->batch, NULL);
    return NULL;
}

static void start(struct call *c, const char *group, uint32_t messages, uint32_t wait_ms)
{
    *c = (struct call){.group = group, .options = wanting(messages, wait_ms)};
    assert_int_equal(pthread_create(&c->thread, NULL, run_call, c), 0);
}

static void finish(struct call *c)
{
    pthread_join(c->thread, NULL);
    assert_int_equal(c->code, 0);
}

/* A script that does something to the first `times` requests of a verb. */
struct trouble {
    enum wire_verb verb;
    atomic_int times;
    enum fake_action action;
    int code;
    uint32_t retry_after_ms;
};

static enum fake_action make_trouble(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    struct trouble *t = user;
    if (r->verb != t->verb || atomic_fetch_sub(&t->times, 1) <= 0)
        return FAKE_DO;
    reply->code = (uint16_t)t->code;
    reply->retry_after_ms = t->retry_after_ms;
    return t->action;
}

/* ---- receiving */

static void messages_come_with_what_is_known_of_them(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "one", false);
    fake_give(fake, "g", "two", false);
    struct sluice_batch *b = receive("g", 10, 0);
    assert_int_equal(sluice_batch_count(b), 2);
    assert_true(value_is(b, 0, "one") && value_is(b, 1, "two"));
    const struct sluice_delivery *d = sluice_batch_message(b, 1);
    assert_string_equal(d->topic, "t");
    assert_int_equal(d->partition, 0);
    assert_int_equal(d->offset, 1);
    assert_int_equal(d->attempt, 1);
    assert_null(d->key.data);
    assert_null(sluice_batch_message(b, 2));
    sluice_batch_free(b);
}

static void without_messages_a_call_that_does_not_wait_returns_an_empty_batch(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_batch *b = receive("g", 10, 0);
    assert_int_equal(sluice_batch_count(b), 0);
    sluice_batch_free(b);
    assert_int_equal(fake_seen(fake, VERB_RECEIVE, 0).receive.wait_ms, 0);
}

static void a_waiting_call_gets_what_comes_and_else_returns_at_its_time(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct call c;
    start(&c, "g", 1, 10000);
    fake_await(fake, VERB_RECEIVE, 1);
    fake_give(fake, "g", "x", false);
    finish(&c);
    assert_int_equal(sluice_batch_count(c.batch), 1);
    sluice_batch_free(c.batch);
    struct sluice_batch *b = receive("g", 1, 30);
    assert_int_equal(sluice_batch_count(b), 0);
    sluice_batch_free(b);
}

static void waiting_receives_of_one_client_share_one_long_poll(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct call long_one;
    start(&long_one, "g", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 1);
    for (int i = 0; i < 3; i++) { /* these came and went without a request of their own */
        struct sluice_batch *b = receive("g", 1, 20);
        assert_int_equal(sluice_batch_count(b), 0);
        sluice_batch_free(b);
    }
    assert_int_equal(fake_count(fake, VERB_RECEIVE), 1);
    fake_give(fake, "g", "x", false);
    finish(&long_one);
    sluice_batch_free(long_one.batch);
}

static void another_group_has_a_slot_of_its_own_while_a_poll_is_out(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct call g, h;
    start(&g, "g", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 1);
    start(&h, "h", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 2);
    assert_int_not_equal(fake_seen(fake, VERB_RECEIVE, 0).receive.slot,
                         fake_seen(fake, VERB_RECEIVE, 1).receive.slot);
    fake_give(fake, "h", "for h", false);
    finish(&h);
    fake_give(fake, "g", "for g", false);
    finish(&g);
    assert_true(value_is(g.batch, 0, "for g") && value_is(h.batch, 0, "for h"));
    sluice_batch_free(g.batch);
    sluice_batch_free(h.batch);
}

static void a_slots_counter_rises_with_each_request_and_not_with_its_repeat(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble lose = {.verb = VERB_RECEIVE, .times = 1, .action = FAKE_LOSE};
    fake_set_script(fake, make_trouble, &lose);
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    assert_int_equal(sluice_batch_count(b), 1);
    sluice_batch_free(b);
    settle_down(); /* or its release might take the next receive along */
    sluice_batch_free(receive("g", 1, 0));
    struct fake_seen first = fake_seen(fake, VERB_RECEIVE, 0), again = fake_seen(fake, VERB_RECEIVE, 1),
                     next = fake_seen(fake, VERB_RECEIVE, 2);
    assert_int_equal(first.receive.slot, again.receive.slot);
    assert_int_equal(first.receive.counter, again.receive.counter);
    assert_int_equal(next.receive.slot, first.receive.slot);
    assert_int_equal(next.receive.counter, first.receive.counter + 1);
}

static void messages_go_to_the_callers_in_the_order_of_their_calls(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct call first, second;
    start(&first, "g", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 1);
    start(&second, "g", 1, 60000);
    fake_give(fake, "g", "1", false);
    finish(&first);
    fake_give(fake, "g", "2", false);
    finish(&second);
    assert_true(value_is(first.batch, 0, "1") && value_is(second.batch, 0, "2"));
    sluice_batch_free(first.batch);
    sluice_batch_free(second.batch);
}

static enum fake_action two_for_one(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    static struct wire_record records[2];
    static struct wire_delivery delivery;
    (void)user;
    if (r->verb != VERB_RECEIVE)
        return FAKE_DO;
    for (uint32_t i = 0; i < 2; i++)
        records[i] = (struct wire_record){
            .offset = i, .partition = 1, .value_size = 1, .sum = record_sum(0, 0, 1, NULL, NULL, NULL)};
    delivery = (struct wire_delivery){
        .group = r->receive.groups[0], .token = 9, .records = records, .records_n = 2, .data = VIEW_LIT("")};
    reply->body = BODY_RECEIVE;
    reply->receive = (struct wire_receive_reply){
        .deliveries = &delivery, .deliveries_n = 1, .counter = r->receive.counter};
    return FAKE_ANSWER;
}

static void what_came_for_nobody_is_released(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_set_script(fake, two_for_one, NULL);
    struct sluice_batch *b = receive("g", 1, 0);
    assert_int_equal(sluice_batch_count(b), 1);
    fake_await(fake, VERB_SETTLE, 1);
    assert_int_equal(fake_seen(fake, VERB_SETTLE, 0).settle.verbs[SETTLE_RELEASE], 1);
    sluice_batch_free(b);
}

static void a_message_whose_sum_does_not_fit_is_parked_and_not_delivered(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "good", false);
    fake_give(fake, "g", "bad", true);
    fake_give(fake, "g", "good too", false);
    struct sluice_batch *b = receive("g", 10, 0);
    assert_int_equal(sluice_batch_count(b), 2);
    assert_true(value_is(b, 0, "good") && value_is(b, 1, "good too"));
    fake_await(fake, VERB_SETTLE, 1);
    struct fake_seen s = fake_seen(fake, VERB_SETTLE, 0);
    assert_int_equal(s.settle.verbs[SETTLE_PARK], 1);
    assert_string_equal(s.settle.reason, "damaged");
    sluice_batch_free(b);
}

static void an_unknown_group_is_named_with_the_command_that_makes_it(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_batch *b;
    assert_int_equal(sluice_receive(client, "t", "nobody", NULL, &b, &err), SLUICE_GROUP_NOT_FOUND);
    assert_string_equal(err.text, "no such group: 'nobody' of topic 't'; create it with: "
                                  "sluice group create nobody --topic t --mode queue");
    assert_int_equal(sluice_receive(client, "nowhere", "g", NULL, &b, &err), SLUICE_TOPIC_NOT_FOUND);
    assert_null(b);
}

static void a_group_made_anew_under_its_name_is_found_again(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    sluice_batch_free(receive("g", 1, 0));
    fake_forget_topic(fake, "t");
    fake_forget_group(fake, "g");
    struct sluice_batch *b;
    struct sluice_receive_options o = wanting(1, 0);
    assert_int_equal(sluice_receive(client, "t", "g", &o, &b, &err), SLUICE_TOPIC_NOT_FOUND);
    fake_topic(fake, "t", 1);
    fake_group(fake, "t", "g");
    fake_give(fake, "g", "new", false);
    b = receive("g", 1, 0);
    assert_true(value_is(b, 0, "new"));
    sluice_batch_free(b);
}

static void a_poll_ended_for_others_is_made_again_while_its_caller_waits(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble again = {.verb = VERB_RECEIVE, .times = 2, .action = FAKE_ANSWER, .code = E_AGAIN};
    fake_set_script(fake, make_trouble, &again);
    struct call c;
    start(&c, "g", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 3);
    fake_give(fake, "g", "x", false);
    finish(&c);
    assert_int_equal(sluice_batch_count(c.batch), 1);
    sluice_batch_free(c.batch);
}

static void a_refused_poll_fails_only_the_callers_of_the_group_that_was_refused(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble refuse = {
        .verb = VERB_RECEIVE, .times = 1, .action = FAKE_ANSWER, .code = E_WRONG_MODE};
    fake_set_script(fake, make_trouble, &refuse);
    struct sluice_batch *b;
    struct sluice_receive_options o = wanting(1, 0);
    assert_int_equal(sluice_receive(client, "t", "g", &o, &b, &err), SLUICE_WRONG_MODE);
    sluice_batch_free(receive("h", 1, 0));
}

/* ---- several groups */

static struct sluice_batch *receive_both(uint32_t messages, uint32_t wait_ms)
{
    struct sluice_receive_options o = wanting(messages, wait_ms);
    struct sluice_batch *b = NULL;
    assert_int_equal(sluice_receive_from(client, (struct sluice_source[]){{"t", "g"}, {"t", "h"}}, 2, &o, &b, &err), 0);
    return b;
}

static void one_call_receives_from_several_groups_with_one_poll(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "for g", false);
    fake_give(fake, "h", "for h", false);
    fake_give(fake, "h", "more for h", false);
    struct sluice_batch *b = receive_both(10, 1000);
    assert_int_equal(sluice_batch_count(b), 3);
    assert_string_equal(sluice_batch_message(b, 0)->group, "g");
    assert_string_equal(sluice_batch_message(b, 2)->group, "h");
    assert_true(value_is(b, 0, "for g") && value_is(b, 2, "more for h"));
    assert_int_equal(fake_count(fake, VERB_RECEIVE), 1);
    assert_int_equal(fake_seen(fake, VERB_RECEIVE, 0).receive.groups_n, 2);
    assert_int_equal(fake_seen(fake, VERB_RECEIVE, 0).receive.max_messages, 10);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(sluice_ack(b, i, &err), 0);
    sluice_batch_free(b);
}

static void a_call_for_several_groups_is_woken_by_any_of_them(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct call g; /* somebody else waits at one of them */
    start(&g, "g", 1, 60000);
    fake_await(fake, VERB_RECEIVE, 1);
    fake_give(fake, "h", "x", false);
    struct sluice_batch *b = receive_both(10, 60000);
    assert_int_equal(sluice_batch_count(b), 1);
    assert_string_equal(sluice_batch_message(b, 0)->group, "h");
    sluice_batch_free(b);
    fake_give(fake, "g", "y", false);
    finish(&g);
    assert_int_equal(sluice_batch_count(g.batch), 1);
    sluice_batch_free(g.batch);
}

static void a_group_of_several_that_is_not_there_is_named(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_batch *b;
    struct sluice_source two[] = {{"t", "g"}, {"t", "nobody"}}, same[] = {{"t", "g"}, {"t", "g"}};
    assert_int_equal(sluice_receive_from(client, two, 2, NULL, &b, &err), SLUICE_GROUP_NOT_FOUND);
    assert_has(err.text, "nobody");
    assert_int_equal(sluice_receive_from(client, same, 2, NULL, &b, &err), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(sluice_receive_from(client, two, 0, NULL, &b, &err), SLUICE_INVALID_ARGUMENT);
    sluice_batch_free(receive_both(1, 0)); /* both are known now */
    fake_forget_group(fake, "h");
    two[1].group = "h";
    assert_int_equal(sluice_receive_from(client, two, 2, NULL, &b, &err), SLUICE_GROUP_NOT_FOUND);
    assert_has(err.text, "'h'");
    assert_null(b);
    sluice_batch_free(receive("g", 1, 0));
}

static void a_message_has_a_name_that_is_the_same_in_every_attempt(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    const struct sluice_delivery *d = sluice_batch_message(b, 0);
    char key[64], small[4];
    assert_int_equal(sluice_idempotency_key(d, key, sizeof key), strlen("t/0/0/g"));
    assert_string_equal(key, "t/0/0/g");
    assert_int_equal(sluice_idempotency_key(d, small, sizeof small), strlen("t/0/0/g"));
    assert_string_equal(small, "t/0");
    assert_int_equal(d->grants, 1);
    assert_false(d->redelivered);
    sluice_batch_free(b);
}

/* ---- memory */

static void a_topic_whose_messages_do_not_fit_into_the_memory_is_refused_by_name(void **state)
{
    (void)state;
    open_with((struct sluice_options){.memory_max = 1 << 20}); /* the topic allows as much, and the client holds more than that */
    fake_give(fake, "g", "small", false);
    struct sluice_batch *b;
    struct sluice_receive_options o = wanting(1, 0);
    assert_int_equal(sluice_receive(client, "t", "g", &o, &b, &err), SLUICE_LIMIT);
    assert_has(err.text, "topic 't'");
    assert_has(err.text, "memory_max");
    assert_int_equal(fake_count(fake, VERB_RECEIVE), 0);
}

static void a_receive_asks_for_what_fits_and_says_so_when_nothing_does(void **state)
{
    (void)state;
    enum { CAP = 4 << 20 };
    open_with((struct sluice_options){.memory_max = CAP});
    static char value[60000];
    memset(value, 'x', sizeof value - 1);
    struct sluice_batch *held[64];
    size_t n = 0;
    struct sluice_receive_options o = wanting(1, 0);
    int code = 0;
    while (code == 0) {
        assert_true(n < ARRAY_LEN(held));
        fake_give(fake, "g", value, false);
        code = sluice_receive(client, "t", "g", &o, &held[n], &err);
        n += code == 0;
        assert_true(fake_seen(fake, VERB_RECEIVE, fake_count(fake, VERB_RECEIVE) - 1).receive.max_bytes <=
                    CAP);
    }
    assert_int_equal(code, SLUICE_QUEUE_FULL);
    assert_has(err.text, "memory_max");
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_true(stats.memory_bytes <= CAP);
    assert_true(n >= 10);
    struct call c; /* one that waits gets its turn when there is room */
    start(&c, "g", 1, 60000);
    for (size_t i = 0; i < n; i++)
        sluice_batch_free(held[i]);
    finish(&c);
    assert_int_equal(sluice_batch_count(c.batch), 1);
    sluice_batch_free(c.batch);
}

static void a_client_full_of_messages_can_still_settle_them(void **state)
{
    (void)state;
    open_with((struct sluice_options){.memory_max = 4 << 20});
    static char value[60000];
    memset(value, 'x', sizeof value - 1);
    struct sluice_batch *held[64], *b;
    size_t n = 0;
    struct sluice_receive_options o = wanting(1, 0);
    fake_give(fake, "g", value, false);
    while (n < ARRAY_LEN(held) && sluice_receive(client, "t", "g", &o, &b, &err) == 0) {
        held[n++] = b;
        fake_give(fake, "g", value, false);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sluice_ack(held[i], 0, &err), 0);
        sluice_batch_free(held[i]);
    }
}

/* ---- settling */

static void each_way_of_settling_says_what_it_is(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 5; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 5, 0);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    assert_int_equal(sluice_nack(b, 1, 0, "no luck", &err), 0);
    assert_int_equal(sluice_park(b, 2, "poison", NULL, &err), 0);
    assert_int_equal(sluice_release(b, 3, &err), 0);
    assert_int_equal(sluice_extend(b, 4, 1000, &err), 0);
    assert_int_equal(sluice_extend(b, 4, 1000, &err), 0); /* it is still ours */
    assert_int_equal(sluice_ack(b, 4, &err), 0);
    sluice_batch_free(b);
    enum settle_verb expected[] = {SETTLE_ACK,    SETTLE_NACK,   SETTLE_PARK, SETTLE_RELEASE,
                                   SETTLE_EXTEND, SETTLE_EXTEND, SETTLE_ACK};
    assert_int_equal(fake_count(fake, VERB_SETTLE), ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct fake_seen s = fake_seen(fake, VERB_SETTLE, i);
        assert_int_equal(s.settle.items, 1);
        assert_int_equal(s.settle.verbs[expected[i]], 1);
        assert_int_equal(s.lane, 0);
        assert_int_equal(s.seq, i + 1);
    }
    assert_string_equal(fake_seen(fake, VERB_SETTLE, 2).settle.reason, "poison");
}

static void a_message_is_settled_once(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "offset 0");
    assert_int_equal(sluice_extend(b, 0, 0, &err), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(sluice_ack(b, 1, &err), SLUICE_INVALID_ARGUMENT);
    sluice_batch_free(b);
    assert_int_equal(fake_count(fake, VERB_SETTLE), 1);
}

static void unsettled_messages_are_released_when_their_batch_is_freed(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 3; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 3, 0);
    assert_int_equal(sluice_ack(b, 1, &err), 0);
    sluice_batch_free(b);
    fake_await(fake, VERB_SETTLE, 2);
    struct fake_seen s = fake_seen(fake, VERB_SETTLE, 1);
    assert_int_equal(s.settle.items, 2);
    assert_int_equal(s.settle.verbs[SETTLE_RELEASE], 2);
}

static enum fake_action lost_lease(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    static uint16_t codes[8];
    (void)user;
    if (r->verb != VERB_SETTLE)
        return FAKE_DO;
    uint32_t n = r->settle.singles_n + r->settle.units_n;
    for (uint32_t i = 0; i < n; i++)
        codes[i] = i % 2 == 0 ? E_LEASE_LOST : 0;
    reply->body = BODY_SETTLE;
    reply->settle = (struct wire_settle_reply){.codes = codes, .codes_n = n};
    return FAKE_ANSWER;
}

static void a_lost_lease_is_told_with_the_message_it_was(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    fake_set_script(fake, lost_lease, NULL);
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_LEASE_LOST);
    assert_has(err.text, "topic 't', group 'g', partition 0, offset 0");
    sluice_batch_free(b);
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n;
    int codes[64];
    size_t index[64];
} settled = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void tell_settled(void *user, size_t index, const struct sluice_error *error)
{
    (void)user;
    pthread_mutex_lock(&settled.lock);
    settled.index[settled.n] = index;
    settled.codes[settled.n++] = error != NULL ? error->code : 0;
    pthread_cond_broadcast(&settled.changed);
    pthread_mutex_unlock(&settled.lock);
}

static void await_settled(size_t n)
{
    pthread_mutex_lock(&settled.lock);
    while (settled.n < n)
        pthread_cond_wait(&settled.changed, &settled.lock);
    pthread_mutex_unlock(&settled.lock);
}

static void each_item_of_many_is_told_its_own_code(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 4; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 4, 0);
    struct sluice_settle items[4];
    for (size_t i = 0; i < 4; i++)
        items[i] = (struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK};
    fake_set_script(fake, lost_lease, NULL);
    settled.n = 0;
    assert_int_equal(sluice_settle_async(client, items, 4, false, tell_settled, NULL, &err), 0);
    sluice_batch_free(b); /* what is named counts as settled */
    await_settled(4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(settled.index[i], i);
        assert_int_equal(settled.codes[i], i % 2 == 0 ? SLUICE_LEASE_LOST : 0);
    }
    settle_down();
    assert_int_equal(fake_count(fake, VERB_SETTLE), 1);
}

static void atomic_items_are_one_unit(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 3; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 3, 0);
    struct sluice_settle items[3];
    for (size_t i = 0; i < 3; i++)
        items[i] = (struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK};
    fake_set_script(fake, lost_lease, NULL);
    settled.n = 0;
    assert_int_equal(sluice_settle_async(client, items, 3, true, tell_settled, NULL, &err), 0);
    await_settled(3);
    struct fake_seen s = fake_seen(fake, VERB_SETTLE, 0);
    assert_int_equal(s.settle.items, 0);
    assert_int_equal(s.settle.units, 1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(settled.codes[i], SLUICE_LEASE_LOST);
    sluice_batch_free(b);
}

static void a_bad_item_is_named_and_nothing_of_its_call_is_taken(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "x", false);
    fake_give(fake, "g", "y", false);
    struct sluice_batch *b = receive("g", 2, 0);
    struct sluice_settle items[] = {{.batch = b, .index = 0, .verb = SLUICE_ACK},
                                    {.batch = b, .index = 0, .verb = SLUICE_ACK}};
    assert_int_equal(sluice_settle_async(client, items, 2, false, tell_settled, NULL, &err),
                     SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "item 1");
    items[1].index = 2;
    assert_int_equal(sluice_settle_async(client, items, 2, false, tell_settled, NULL, &err),
                     SLUICE_INVALID_ARGUMENT);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    sluice_batch_free(b);
}

static void what_is_settled_while_a_request_is_out_goes_in_the_next_one(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 20; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 20, 0);
    static struct trouble hold = {.verb = VERB_SETTLE, .times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    settled.n = 0;
    for (size_t i = 0; i < 20; i++) {
        struct sluice_settle item = {.batch = b, .index = i, .verb = SLUICE_ACK};
        assert_int_equal(sluice_settle_async(client, &item, 1, false, tell_settled, NULL, &err), 0);
        if (i == 0)
            fake_await(fake, VERB_SETTLE, 1);
    }
    settle_down();
    fake_release(fake);
    await_settled(20);
    assert_int_equal(fake_count(fake, VERB_SETTLE), 2);
    assert_int_equal(fake_seen(fake, VERB_SETTLE, 1).settle.items, 19);
    sluice_batch_free(b);
}

static void a_settle_refused_for_load_is_repeated_with_the_same_number(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    static struct trouble refuse = {
        .verb = VERB_SETTLE, .times = 2, .action = FAKE_ANSWER, .code = E_OVERLOADED};
    fake_set_script(fake, make_trouble, &refuse);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    assert_int_equal(fake_count(fake, VERB_SETTLE), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(fake_seen(fake, VERB_SETTLE, i).seq, 1);
    sluice_batch_free(b);
}

static void a_settle_refused_until_its_time_is_up_may_be_tried_again(void **state)
{
    (void)state;
    open_with((struct sluice_options){.request_timeout_ms = 1000});
    fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 1, 0);
    static struct trouble refuse = {
        .verb = VERB_SETTLE, .times = 1, .action = FAKE_ANSWER, .code = E_DISK_FULL, .retry_after_ms = 4000};
    fake_set_script(fake, make_trouble, &refuse);
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_DISK_FULL);
    fake_set_script(fake, NULL, NULL);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    assert_int_equal(fake_seen(fake, VERB_SETTLE, fake_count(fake, VERB_SETTLE) - 1).seq, 1);
    sluice_batch_free(b);
}

static enum fake_action refuse_together(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    atomic_int *alone = user;
    if (r->verb != VERB_SETTLE)
        return FAKE_DO;
    if (r->settle.singles_n == 1 && atomic_fetch_add(alone, 1) == 0)
        return FAKE_HOLD; /* so that the others gather */
    if (r->settle.singles_n == 1)
        return FAKE_DO;
    reply->code = E_INVALID_ARGUMENT;
    return FAKE_ANSWER;
}

static void a_settle_refused_for_one_of_its_calls_does_not_fail_the_others(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 5; i++)
        fake_give(fake, "g", "x", false);
    struct sluice_batch *b = receive("g", 5, 0);
    static atomic_int alone = 0;
    fake_set_script(fake, refuse_together, &alone);
    settled.n = 0;
    for (size_t i = 0; i < 5; i++) {
        struct sluice_settle item = {.batch = b, .index = i, .verb = SLUICE_ACK};
        assert_int_equal(sluice_settle_async(client, &item, 1, false, tell_settled, NULL, &err), 0);
        if (i == 0)
            fake_await(fake, VERB_SETTLE, 1);
    }
    settle_down();
    fake_release(fake);
    await_settled(5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(settled.codes[i], 0);
    sluice_batch_free(b);
}

static void a_batch_outlives_its_client(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_give(fake, "g", "still here", false);
    struct sluice_batch *b = receive("g", 1, 0);
    assert_int_equal(sluice_close(client, 1000, NULL, &err), 0);
    client = NULL;
    assert_true(value_is(b, 0, "still here"));
    sluice_batch_free(b);
    assert_int_equal(fake_count(fake, VERB_SETTLE), 0); /* bye gave it back */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_come_with_what_is_known_of_them),
        TEST(without_messages_a_call_that_does_not_wait_returns_an_empty_batch),
        TEST(a_waiting_call_gets_what_comes_and_else_returns_at_its_time),
        TEST(waiting_receives_of_one_client_share_one_long_poll),
        TEST(another_group_has_a_slot_of_its_own_while_a_poll_is_out),
        TEST(one_call_receives_from_several_groups_with_one_poll),
        TEST(a_call_for_several_groups_is_woken_by_any_of_them),
        TEST(a_group_of_several_that_is_not_there_is_named),
        TEST(a_message_has_a_name_that_is_the_same_in_every_attempt),
        TEST(a_topic_whose_messages_do_not_fit_into_the_memory_is_refused_by_name),
        TEST(a_slots_counter_rises_with_each_request_and_not_with_its_repeat),
        TEST(messages_go_to_the_callers_in_the_order_of_their_calls),
        TEST(what_came_for_nobody_is_released),
        TEST(a_message_whose_sum_does_not_fit_is_parked_and_not_delivered),
        TEST(an_unknown_group_is_named_with_the_command_that_makes_it),
        TEST(a_group_made_anew_under_its_name_is_found_again),
        TEST(a_poll_ended_for_others_is_made_again_while_its_caller_waits),
        TEST(a_refused_poll_fails_only_the_callers_of_the_group_that_was_refused),
        TEST(a_receive_asks_for_what_fits_and_says_so_when_nothing_does),
        TEST(a_client_full_of_messages_can_still_settle_them),
        TEST(each_way_of_settling_says_what_it_is),
        TEST(a_message_is_settled_once),
        TEST(unsettled_messages_are_released_when_their_batch_is_freed),
        TEST(a_lost_lease_is_told_with_the_message_it_was),
        TEST(each_item_of_many_is_told_its_own_code),
        TEST(atomic_items_are_one_unit),
        TEST(a_bad_item_is_named_and_nothing_of_its_call_is_taken),
        TEST(what_is_settled_while_a_request_is_out_goes_in_the_next_one),
        TEST(a_settle_refused_for_load_is_repeated_with_the_same_number),
        TEST(a_settle_refused_until_its_time_is_up_may_be_tried_again),
        TEST(a_settle_refused_for_one_of_its_calls_does_not_fail_the_others),
        TEST(a_batch_outlives_its_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
