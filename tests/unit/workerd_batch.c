/* Batches: which tasks go together, and how the one is found that ends its process. First the rules alone,
   then with real processes. */
#include "unit.h"

#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/batch.h"
#include "workerd/command.h"
#include "workerd/order.h"
#include "workerd/pipe.h"
#include "workerd/pool.h"
#include "workerd/run.h"
#include "workerd_gate.h"

/* ---- the rules alone ---- */

enum { TASKS_MAX = 130 };

static struct task tasks[TASKS_MAX];
static struct list waiting;
static struct order order;
static struct task *call[TASKS_MAX];
static struct batch batch;
static char child_a, child_b; /* only their addresses count */
static struct child *const a = (struct child *)&child_a, *const b = (struct child *)&child_b;

/* `n` tasks of 10 bytes wait. */
static void begin(size_t n)
{
    memset(tasks, 0, sizeof tasks);
    list_init(&waiting);
    for (size_t i = 0; i < n; i++) {
        tasks[i].offset = i;
        tasks[i].value = VIEW_LIT("0123456789");
        tasks[i].came_ms = 1000 + i;
        list_push_back(&waiting, &tasks[i].place);
    }
    batch = (struct batch){.tasks = call};
}

static void pick(uint32_t max, uint64_t bytes, uint32_t window_ms, const struct child *to)
{
    batch_pick(&waiting, &(struct batch_limits){max, bytes, window_ms}, to, &batch);
}

/* The offsets of the call, as text. */
static const char *picked(void)
{
    static char text[1024];
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < batch.n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", i > 0 ? " " : "",
                              (int)batch.tasks[i]->offset);
    return text;
}

static void keyed(size_t i, const char *key)
{
    tasks[i].key = view_of_str(key);
    tasks[i].ordered = true;
    order_add(&order, &tasks[i]);
}

static void unkey(size_t n)
{
    for (size_t i = 0; i < n; i++)
        order_remove(&order, &tasks[i]);
    order_free(&order);
}

static void a_call_has_no_more_than_its_limits_allow(void **state)
{
    (void)state;
    begin(5);
    pick(3, 1000, 0, a);
    assert_string_equal(picked(), "0 1 2");
    assert_true(batch.full);
    pick(10, 25, 0, a);
    assert_string_equal(picked(), "0 1");
    assert_true(batch.full);
    pick(10, 5, 0, a); /* one always fits */
    assert_string_equal(picked(), "0");
    assert_true(batch.full);
    tasks[0].state = VIEW_LIT("what is remembered of its key");
    pick(10, 50, 0, a);
    assert_string_equal(picked(), "0 1");
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "0 1 2 3 4");
    assert_false(batch.full);
    begin(0);
    pick(10, 1000, 0, a);
    assert_int_equal(batch.n, 0);
}

static void a_call_that_may_grow_goes_when_its_first_has_waited_for_the_window(void **state)
{
    (void)state;
    begin(2);
    pick(3, 1000, 50, a);
    assert_false(batch.full);
    assert_int_equal(batch.due_ms, 1050);
    pick(2, 1000, 50, a);
    assert_true(batch.full);
}

static void suspects_go_all_together_and_with_no_others(void **state)
{
    (void)state;
    begin(6);
    tasks[1].suspects = tasks[2].suspects = 7;
    tasks[3].suspects = 8;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "0 4 5");
    list_remove(&tasks[0].place);
    pick(1, 1, 60000, a); /* whatever the limits are now */
    assert_string_equal(picked(), "1 2");
    assert_true(batch.full);
    list_remove(&tasks[1].place);
    list_remove(&tasks[2].place);
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "3");
}

static bool is_odd(const void *of, const struct task *t)
{
    return of == &order && t->offset % 2 == 1;
}

static void who_is_for_another_version_is_left_out(void **state)
{
    (void)state;
    begin(6);
    batch.is_for = is_odd;
    batch.of = &order;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "1 3 5");
    tasks[2].suspects = tasks[3].suspects = 7;
    for (int i = 0; i < 2; i++)
        list_remove(&tasks[i].place);
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "3");
    batch.is_for = NULL;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "2 3");
}

static void a_task_goes_only_with_or_behind_the_one_before_it_of_its_key(void **state)
{
    (void)state;
    begin(5);
    keyed(0, "k");
    keyed(2, "k");
    keyed(3, "k");
    keyed(4, "l");
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "0 1 2 3 4");
    list_remove(&tasks[0].place); /* it is with child a */
    tasks[0].child = a;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "1 2 3 4");
    pick(10, 1000, 0, b);
    assert_string_equal(picked(), "1 4");
    order_remove(&order, &tasks[0]); /* it has its verdict */
    pick(10, 1000, 0, b);
    assert_string_equal(picked(), "1 2 3 4");
    unkey(5);
}

static void suspects_wait_for_those_before_them_of_their_keys(void **state)
{
    (void)state;
    begin(5);
    keyed(0, "k");
    keyed(3, "k");
    tasks[0].suspects = tasks[1].suspects = 1;
    tasks[2].suspects = tasks[3].suspects = 2;
    for (int i = 0; i < 2; i++) {
        list_remove(&tasks[i].place);
        tasks[i].child = a;
    }
    pick(10, 1000, 0, b);
    assert_string_equal(picked(), "4"); /* others pass them */
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "2 3");
    unkey(5);
}

/* How many calls of more than one end their process before the culprit is alone. */
static unsigned steps(size_t n, size_t culprit)
{
    unsigned count = 0;
    uint32_t last = 0;
    begin(n);
    for (;;) {
        pick(TASKS_MAX, 1 << 20, 0, a);
        bool has_it = false;
        for (size_t i = 0; i < batch.n; i++)
            has_it |= batch.tasks[i] == &tasks[culprit];
        assert_true(batch.n > 0);
        if (has_it && batch.n == 1)
            return count;
        if (has_it) {
            count++;
            batch_halve(batch.tasks, batch.n, &last);
            continue;
        }
        for (size_t i = 0; i < batch.n; i++)
            list_remove(&batch.tasks[i]->place);
    }
}

static void the_culprit_among_n_is_alone_after_log2_steps(void **state)
{
    (void)state;
    static const unsigned most[][2] = {{2, 1}, {3, 2},  {4, 2},  {5, 3},  {8, 3},
                                       {9, 4}, {64, 6}, {65, 7}, {128, 7}};
    for (size_t i = 0; i < ARRAY_LEN(most); i++) {
        for (size_t culprit = 0; culprit < most[i][0]; culprit++)
            assert_true(steps(most[i][0], culprit) <= most[i][1]);
    }
    assert_int_equal(steps(64, 63), 6);
}

/* ---- the rules alone, for a process with threads ---- */

static void beside_one_of_a_key_that_runs_another_of_it_does_not(void **state)
{
    (void)state;
    begin(4);
    keyed(0, "k");
    keyed(1, "k");
    keyed(2, "k");
    list_remove(&tasks[0].place);
    tasks[0].child = a;
    batch.several = true;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "3");
    order_remove(&order, &tasks[0]); /* it has its verdict */
    pick(1, 1000, 0, a);
    assert_string_equal(picked(), "1");
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "1 2 3"); /* one call, which takes them in their order */
    unkey(4);
}

static void suspects_have_such_a_process_to_themselves_before_all_others(void **state)
{
    (void)state;
    begin(5);
    tasks[2].suspects = tasks[4].suspects = 7;
    batch.several = true;
    pick(10, 1000, 0, a);
    assert_int_equal(batch.n, 0);
    assert_true(batch.alone);
    batch.others = true; /* they wait for another one */
    pick(10, 1000, 0, b);
    assert_string_equal(picked(), "0 1 3");
    assert_false(batch.alone);
    batch.others = false;
    batch.idle = true;
    pick(10, 1000, 0, a);
    assert_string_equal(picked(), "2 4");
}

static void in_call(size_t i, uint32_t number)
{
    tasks[i].call = number;
    tasks[i].suspects = 1;
}

static void calls_that_ran_at_once_are_tried_as_they_were(void **state)
{
    (void)state;
    uint32_t last = 1;
    begin(7);
    /* In the order in which they were sent: 0 2 3, 5, 1 4, 6. */
    static const size_t order_sent[] = {0, 2, 3, 5, 1, 4, 6};
    static const uint32_t numbers[] = {1, 1, 1, 2, 3, 3, 4};
    struct task *blamed[7];
    for (size_t i = 0; i < 7; i++) {
        in_call(order_sent[i], numbers[i]);
        blamed[i] = &tasks[order_sent[i]];
    }
    batch_halve(blamed, 7, &last);
    batch.several = batch.idle = true;
    pick(1, 1000, 0, a);
    assert_string_equal(picked(), "0 2 3 5");
    assert_int_equal(batch_call(batch.tasks, batch.n, false), 3);
    assert_string_equal(picked(), "0 2 3 5");
    for (size_t i = 0; i < batch.n; i++)
        list_remove(&batch.tasks[i]->place);
    pick(1, 1000, 0, a);
    assert_string_equal(picked(), "1 4 6");
    tasks[6].call = 3;
    tasks[4].call = 4;
    assert_int_equal(batch_call(batch.tasks, batch.n, false), 2);
    assert_string_equal(picked(), "1 6 4");
    assert_int_equal(batch_call(batch.tasks, batch.n, true), 1);
    batch_halve(blamed, 4, &last); /* one by itself */
    assert_true(blamed[0]->suspects == blamed[2]->suspects && blamed[3]->suspects != blamed[0]->suspects);
    batch_halve(blamed, 3, &last); /* and of one call its tasks */
    assert_true(blamed[0]->suspects == blamed[1]->suspects && blamed[2]->suspects != blamed[0]->suspects);
}

static void who_takes_single_tasks_gets_one_of_each_call_that_there_was(void **state)
{
    (void)state;
    begin(4);
    in_call(0, 1);
    in_call(1, 1);
    in_call(2, 2);
    in_call(3, 2);
    batch.several = batch.idle = batch.singles = true;
    pick(1, 1000, 0, a);
    assert_string_equal(picked(), "0 2");
}

static void who_was_found_is_known_for_a_while(void **state)
{
    (void)state;
    static struct batch_found found;
    struct task t = {.partition = 1, .offset = 5}, other = {.partition = 2, .offset = 5};
    batch_found_add(&found, &t);
    batch_found_add(&found, &t);
    assert_true(batch_found_has(&found, &t));
    assert_false(batch_found_has(&found, &other));
    for (uint64_t i = 1; i < BATCH_FOUND_MAX; i++)
        batch_found_add(&found, &(struct task){.partition = 3, .offset = i});
    assert_true(batch_found_has(&found, &t));
    batch_found_add(&found, &other);
    assert_false(batch_found_has(&found, &t));
    assert_true(batch_found_has(&found, &other));
}

/* ---- a source that is made here ---- */

enum { MESSAGES_MAX = 256, PATIENCE_MS = 30000 };

struct message {
    char value[128], key[8];
    bool leased, over;
    unsigned grants, acked, nacked, parked, released;
    size_t acked_as; /* the how many-th of all */
    int extend_code;
    size_t size; /* of the value, if it is not that of the text */
    char error[256], published[64];
};

struct owned {
    struct task task;
    struct message *message;
};

static struct {
    struct source source;
    struct inbox inbox;
    struct message messages[MESSAGES_MAX];
    size_t count, tasks, settles, acks;
    uint32_t asked, deliveries_max;
    bool ordered, stopped, mute;
    struct fetched answer;
    struct event connected;
} fake;

static bool key_is_out(const struct message *m)
{
    for (size_t i = 0; m->key[0] != '\0' && i < fake.count; i++) {
        const struct message *other = &fake.messages[i];
        if (other != m && other->leased && strcmp(other->key, m->key) == 0)
            return true;
    }
    return false;
}

static void answer_ask(void)
{
    uint32_t places = fake.asked;
    for (size_t i = 0; i < fake.count && places > 0 && !fake.stopped; i++) {
        struct message *m = &fake.messages[i];
        if (m->leased || m->over || (!fake.ordered && key_is_out(m)))
            continue;
        struct owned *o = mem_zalloc(sizeof *o);
        o->message = m;
        o->task = (struct task){
            .attempt = 1 + m->nacked,
            .offset = i,
            .key = view_of_str(m->key[0] != '\0' ? m->key : NULL),
            .value = view_of(m->value, m->size > 0 ? m->size : strlen(m->value)),
            .ordered = fake.ordered,
            .leased_ms = clock_mono_ms(),
        };
        m->leased = true;
        m->grants++;
        places--;
        fake.tasks++;
        list_push_back(&fake.answer.tasks, &o->task.place);
    }
    if (!fake.stopped && list_empty(&fake.answer.tasks))
        return;
    fake.asked = 0;
    inbox_push(&fake.inbox, &fake.answer.event.node, 0);
}

static void fake_ask(struct source *s, uint32_t handler, uint32_t places)
{
    (void)s, (void)handler;
    assert_int_equal(fake.asked, 0);
    fake.asked = places;
    answer_ask();
}

static void take_outcome(struct outcome *o)
{
    struct message *m = container_of(o->task, struct owned, task)->message;
    o->code = o->verb == OUTCOME_EXTEND ? m->extend_code : 0;
    if (o->verb == OUTCOME_EXTEND)
        return;
    if (o->verb == OUTCOME_ACK)
        m->acked_as = ++fake.acks;
    m->acked += o->verb == OUTCOME_ACK;
    m->nacked += o->verb == OUTCOME_NACK;
    m->parked += o->verb == OUTCOME_PARK;
    m->released += o->verb == OUTCOME_RELEASE;
    m->over = m->acked + m->parked > 0 || m->nacked == fake.deliveries_max;
    m->leased = false;
    snprintf(m->error, sizeof m->error, "%s", o->task->error != NULL ? o->task->error : "");
    const struct effects *x = o->task->effects;
    for (uint32_t i = 0; x != NULL && i < x->outputs_n; i++) {
        const struct view v = x->outputs[i].value;
        snprintf(m->published, sizeof m->published, "%.*s", (int)v.size, (const char *)v.data);
    }
}

static void fake_settle(struct source *s, struct outcome *const *outcomes, size_t count)
{
    (void)s;
    fake.settles++;
    for (size_t i = 0; i < count; i++) {
        take_outcome(outcomes[i]);
        inbox_push(&fake.inbox, &outcomes[i]->event.node, 0);
    }
    if (fake.asked > 0)
        answer_ask();
}

static void fake_task_free(struct source *s, struct task *t)
{
    (void)s;
    mem_free(container_of(t, struct owned, task));
    fake.tasks--;
}

static void fake_stop(struct source *s)
{
    (void)s;
    fake.stopped = true;
    if (fake.asked > 0)
        answer_ask();
}

static struct message *add(const char *key, const char *value)
{
    struct message *m = &fake.messages[fake.count++];
    assert_true(fake.count <= MESSAGES_MAX);
    *m = (struct message){0};
    snprintf(m->key, sizeof m->key, "%s", key);
    snprintf(m->value, sizeof m->value, "%s", value);
    if (fake.asked > 0 && !fake.mute)
        answer_ask();
    return m;
}

/* ---- the loop ---- */

static struct gate gate;
static char hold[80], log_path[80], exe[512], file[512], obedient[512];
static char name[] = "batcher", topic[] = "t", group[] = "g", no_config[] = "{}";
static struct config config;
static struct handler_config handler;
static struct run *run;
static uint64_t turn_ms_max;

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.source = (struct source){
        .ask = fake_ask, .settle = fake_settle, .task_free = fake_task_free, .stop = fake_stop};
    fake.connected.kind = EVENT_CONNECTED;
    fake.answer.event.kind = EVENT_FETCHED;
    fake.deliveries_max = 1;
    list_init(&fake.answer.tasks);
    handler = (struct handler_config){
        .name = name,
        .file = file,
        .topic = topic,
        .group = group,
        .processes = 1,
        .pipeline = 8,
        .timeout_ms = 60000,
        .lease_ms = 60000,
        .batch = {.max = 64, .bytes = 1 << 20},
        .config = no_config,
    };
    config = (struct config){.grace_ms = 60000, .handlers = &handler, .handlers_n = 1};
    gate_reset(&gate);
    unlink(log_path);
    run = NULL;
    turn_ms_max = 0;
    return inbox_init(&fake.inbox, 0, NULL);
}

static void start(void)
{
    run = run_new(&(struct run_options){
        .config = &config,
        .exe = exe,
        .source = &fake.source,
        .inbox = &fake.inbox,
        .signals = -1,
        .turn_ms_max = turn_ms_max});
    inbox_push(&fake.inbox, &fake.connected.node, 0);
}

/* Lets the loop turn until something is true that it will be woken for. */
#define UNTIL(condition)                                       \
    do {                                                       \
        uint64_t deadline = clock_mono_ms() + PATIENCE_MS;     \
        while (!(condition)) {                                 \
            run_turn(run);                                     \
            if (clock_mono_ms() > deadline)                    \
                fail_msg("waited in vain for %s", #condition); \
        }                                                      \
    } while (0)

static bool all_over(void)
{
    for (size_t i = 0; i < fake.count; i++) {
        if (!fake.messages[i].over)
            return false;
    }
    return true;
}

static void drain(void)
{
    run_drain(run);
    UNTIL(run_state(run) >= RUN_DONE);
    assert_int_equal(run_state(run), RUN_DONE);
    assert_true(run_clean(run));
    assert_int_equal(fake.tasks, 0);
}

static int tear_down(void **state)
{
    (void)state;
    config.grace_ms = 100;
    if (run_state(run) < RUN_DONE)
        drain();
    run_free(run);
    inbox_drain(&fake.inbox);
    inbox_free(&fake.inbox);
    return 0;
}

/* ---- with real processes ---- */

static void what_waits_goes_as_one_call(void **state)
{
    (void)state;
    start();
    UNTIL(run_state(run) == RUN_READY);
    add("", hold);
    run_turn(run);
    struct pollfd p = {.fd = gate.in_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    for (int i = 0; i < 5; i++)
        add("", "place");
    UNTIL(fake.messages[4 + 1].leased);
    run_turn(run); /* they are fetched, and wait for more, as the process works */
    gate_pass(&gate);
    UNTIL(all_over());
    for (int i = 1; i <= 5; i++) {
        char place[32];
        snprintf(place, sizeof place, "%d of 5", i);
        assert_string_equal(fake.messages[i].error, place);
    }
}

static void a_call_waits_for_more_as_long_as_the_window_says(void **state)
{
    (void)state;
    handler.batch.window_ms = 300;
    handler.batch.max = 3;
    start();
    UNTIL(run_state(run) == RUN_READY);
    uint64_t began = clock_mono_ms();
    add("", "place");
    add("", "place");
    UNTIL(all_over());
    assert_true(clock_mono_ms() - began >= 290);
    assert_string_equal(fake.messages[0].error, "1 of 2");
    assert_string_equal(fake.messages[1].error, "2 of 2");
    handler.batch.window_ms = 60000; /* what is full does not wait for it */
    for (int i = 0; i < 3; i++)
        add("", "place");
    UNTIL(all_over());
    assert_string_equal(fake.messages[4].error, "3 of 3");
}

static void each_of_a_call_has_its_own_verdict(void **state)
{
    (void)state;
    fake.deliveries_max = 1;
    add("", "ack");
    add("", "retry");
    add("", "park too-blue");
    add("", "place");
    start();
    UNTIL(all_over());
    assert_int_equal(fake.messages[0].acked, 1);
    assert_int_equal(fake.messages[1].nacked, 1);
    assert_int_equal(fake.messages[2].parked, 1);
    assert_string_equal(fake.messages[3].error, "4 of 4");
    assert_true(fake.settles <= 2); /* told together */
}

static void a_handler_for_single_tasks_gets_them_one_by_one(void **state)
{
    (void)state;
    handler.file = obedient;
    for (int i = 0; i < 20; i++)
        add("", i == 11 ? "segv" : "place");
    start();
    UNTIL(all_over());
    for (int i = 0; i < 20; i++)
        assert_string_equal(fake.messages[i].error, i == 11 ? "killed by SIGSEGV (version 1.2.3)" : "1 of 1");
    assert_int_equal(run_counts(run, 0)->halved, 0);
}

static void what_one_of_a_call_publishes_goes_with_its_own_verdict(void **state)
{
    (void)state;
    add("", "publish out ack one");
    add("", "publish out retry two");
    add("", "ack");
    add("", "publish out ack four");
    start();
    UNTIL(all_over());
    assert_string_equal(fake.messages[0].published, "ack one");
    assert_int_equal(fake.messages[1].nacked, 1);
    assert_string_equal(fake.messages[1].published, ""); /* as if it had never been */
    assert_string_equal(fake.messages[2].published, "");
    assert_string_equal(fake.messages[3].published, "ack four");
}

static void one_that_is_too_large_for_the_pipe_costs_the_others_nothing(void **state)
{
    (void)state;
    handler.batch.bytes = UINT64_MAX / 4;
    for (int i = 0; i < 5; i++)
        add("", "place");
    fake.messages[2].size = PIPE_PACKET_MAX; /* none of it is looked at */
    start();
    UNTIL(all_over());
    assert_int_equal(fake.messages[2].nacked, 1);
    assert_non_null(strstr(fake.messages[2].error, "a packet of up to"));
    for (int i = 0, place = 1; i < 5; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d of 4", place);
        if (i == 2)
            continue;
        assert_string_equal(fake.messages[i].error, text);
        assert_int_equal(fake.messages[i].grants, 1);
        place++;
    }
    drain();
    assert_int_equal(run_counts(run, 0)->crashed + run_counts(run, 0)->halved, 0);
}

static void no_more_is_held_than_the_next_calls_have_room_for(void **state)
{
    (void)state;
    handler.batch.bytes = 250;
    start();
    UNTIL(run_state(run) == RUN_READY);
    UNTIL(fake.asked > 0);
    add("", hold);
    run_turn(run);
    for (int i = 0; i < 20 && fake.asked > 0; i++) {
        char value[101] = "park ";
        memset(value + 5, 'x', 95);
        add("", value);
        run_turn(run);
    }
    /* Two calls of 250 bytes have room for five, and the pipeline for eight; of those the last few are not worth a request. */
    assert_in_range(fake.tasks, 6, handler.pipeline);
    gate_pass(&gate);
    UNTIL(all_over());
}

/* Each but the culprits was granted once and acknowledged. */
static void assert_others_are_done(const char *culprit)
{
    for (size_t i = 0; i < fake.count; i++) {
        const struct message *m = &fake.messages[i];
        bool bad = strcmp(m->value, culprit) == 0;
        assert_int_equal(m->acked, !bad);
        assert_int_equal(m->nacked, bad ? fake.deliveries_max : 0);
        assert_int_equal(m->grants, m->acked + m->nacked + m->released);
    }
}

static void one_among_64_that_crashes_is_found_in_six_steps_and_only_it_pays(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++)
        add("", i == 41 ? "segv" : "ack");
    start();
    UNTIL(all_over());
    assert_others_are_done("segv");
    for (int i = 0; i < 64; i++)
        assert_int_equal(fake.messages[i].grants, 1); /* none was given back meanwhile */
    assert_string_equal(fake.messages[41].error, "killed by SIGSEGV (version 1.2.3)");
    drain();
    assert_int_equal(run_counts(run, 0)->halved, 6);
    assert_int_equal(run_counts(run, 0)->crashed, 1);
    assert_int_equal(run_counts(run, 0)->done, 63);
}

static void one_that_was_found_delays_nothing_and_comes_alone_when_it_comes_again(void **state)
{
    (void)state;
    fake.deliveries_max = 2;
    for (int i = 0; i < 64; i++)
        add("", i == 0 ? "segv" : "ack");
    start();
    UNTIL(run_counts(run, 0)->crashed == 1); /* and no process has done anything else yet */
    assert_int_equal(run_counts(run, 0)->halved, 6);
    assert_int_equal(run_counts(run, 0)->done, 0);
    assert_int_equal(run_pool(run, 0)->children[0]->backoff_ms, CHILD_BACKOFF_MS_MIN);
    for (int i = 0; i < 64; i++)
        add("", "ack"); /* which its second delivery could come with */
    UNTIL(all_over());
    assert_int_equal(run_counts(run, 0)->halved, 6);
    assert_others_are_done("segv");
}

static void several_that_crash_are_all_found_and_come_alone_when_they_come_again(void **state)
{
    (void)state;
    handler.processes = 2;
    fake.deliveries_max = 2;
    for (int i = 0; i < 192; i++)
        add("", i == 3 || i == 4 || i == 60 || i == 100 ? "segv" : "ack");
    start();
    UNTIL(all_over());
    assert_others_are_done("segv");
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 8);
    assert_in_range(run_counts(run, 0)->halved, 6, 24); /* none of it at a second delivery */
}

static void one_that_hangs_in_a_batch_is_found_too(void **state)
{
    (void)state;
    handler.timeout_ms = 500;
    for (int i = 0; i < 4; i++)
        add("", i == 2 ? "hang" : "ack");
    start();
    UNTIL(all_over());
    assert_others_are_done("hang");
    assert_string_equal(fake.messages[2].error, "timeout after 500ms (version 1.2.3)");
    assert_int_equal(run_counts(run, 0)->halved, 2);
}

static void one_of_a_running_batch_can_be_cancelled(void **state)
{
    (void)state;
    handler.lease_ms = 300;
    add("", "ack");
    struct message *m = add("", "patient");
    add("", "place");
    m->extend_code = E_LEASE_LOST;
    start();
    UNTIL(all_over());
    assert_int_equal(m->nacked, 1); /* it came back as it was told */
    assert_int_equal(fake.messages[0].acked, 1);
    assert_string_equal(fake.messages[2].error, "3 of 3");
}

static void a_drain_in_the_middle_gives_everything_back(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++)
        add("", i == 41 ? "segv" : "ack");
    start();
    UNTIL(run_counts(run, 0)->halved == 2);
    drain();
    for (int i = 0; i < 64; i++) {
        const struct message *m = &fake.messages[i];
        assert_int_equal(m->nacked, 0);
        assert_int_equal(m->acked + m->released, 1);
    }
}

static struct command *command(enum command_act act)
{
    struct command *c = mem_zalloc(sizeof *c);
    *c = (struct command){.event.kind = EVENT_COMMAND, .act = act};
    snprintf(c->handler, sizeof c->handler, "%s", name);
    return c;
}

static size_t leased(void)
{
    size_t n = 0;
    for (size_t i = 0; i < fake.count; i++)
        n += fake.messages[i].leased;
    return n;
}

static void a_pause_in_the_middle_gives_everything_back_too(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++)
        add("", i == 41 ? "segv" : "ack");
    start();
    UNTIL(run_counts(run, 0)->halved == 2);
    size_t held = leased(), released = 0;
    inbox_push(&fake.inbox, &command(COMMAND_PAUSE)->event.node, 0);
    UNTIL(run_pool(run, 0)->paused);
    for (size_t i = 0; i < fake.count; i++)
        released += fake.messages[i].released;
    assert_int_equal(released, held); /* no process was up that could have had some */
    inbox_push(&fake.inbox, &command(COMMAND_RESUME)->event.node, 0);
    UNTIL(all_over());
    assert_others_are_done("segv");
}

static void a_handler_that_ends_with_every_batch_opens_its_breaker(void **state)
{
    (void)state;
    enum { WINDOW = 8 };
    handler.breaker = (struct breaker_config){
        .on = true, .window = WINDOW, .percent = 100, .pause_ms = 600000, .pause_ms_max = 600000};
    for (int i = 0; i < 64; i++)
        add("", "segv");
    start();
    UNTIL(run_breaker(run, 0)->state == BREAKER_OPEN);
    UNTIL(leased() == 0);
    size_t nacked = 0;
    for (size_t i = 0; i < fake.count; i++) {
        nacked += fake.messages[i].nacked;
        assert_int_equal(fake.messages[i].nacked > 0, fake.messages[i].released == 0);
    }
    assert_in_range(nacked, 1, WINDOW);
}

/* ---- with threads ---- */

static const struct child *child(void)
{
    return run_pool(run, 0)->children[0];
}

static void with_threads(uint32_t n)
{
    handler.file = obedient;
    handler.threads = n;
    turn_ms_max = 2; /* whoever comes to the gate does not wake the loop */
}

/* Lets through whoever has come to the gate. */
static bool all_over_behind_the_gate(void)
{
    while (gate_reached(&gate))
        gate_pass(&gate);
    return all_over();
}

static unsigned reached; /* how many came to the gate, if the test begins with 0 */

static bool come(unsigned n)
{
    reached += gate_reached(&gate);
    return reached == n;
}

static void threads_work_on_as_many_at_once_and_are_counted(void **state)
{
    (void)state;
    struct pool_figures now;
    with_threads(4);
    handler.pipeline = 2;
    for (int i = 0; i < 10; i++)
        add("", hold);
    start();
    reached = 0;
    UNTIL(come(4));
    pool_figures(run_pool(run, 0), &now);
    assert_int_equal(now.running, 4);
    assert_int_equal(now.busy, 1);
    assert_int_equal(fake.tasks, 8); /* a pipeline for each */
    assert_false(gate_reached(&gate));
    for (int i = 0; i < 4; i++)
        gate_pass(&gate);
    UNTIL(all_over_behind_the_gate());
    assert_others_are_done("");
}

static void a_crash_among_threads_costs_only_the_one_that_did_it(void **state)
{
    (void)state;
    fake.deliveries_max = 2;
    with_threads(4);
    for (int i = 0; i < 4; i++)
        add("", i == 2 ? "segv" : hold);
    for (int i = 0; i < 8; i++)
        add("", "ack");
    start();
    UNTIL(run_counts(run, 0)->halved == 1); /* the four that ran */
    assert_int_equal(run_counts(run, 0)->crashed + run_counts(run, 0)->done, 0);
    UNTIL(all_over_behind_the_gate());
    assert_others_are_done("segv");
    for (size_t i = 0; i < fake.count; i++)
        assert_int_equal(fake.messages[i].grants, i == 2 ? 2 : 1); /* none went back meanwhile */
    assert_string_equal(fake.messages[2].error, "killed by SIGSEGV (version 1.2.3)");
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 2);
    assert_in_range(run_counts(run, 0)->halved, 1, 2); /* none of it at a second delivery */
}

static void suspects_among_threads_have_their_process_to_themselves(void **state)
{
    (void)state;
    with_threads(2);
    add("", hold);
    add("", "segv");
    for (int i = 0; i < 4; i++)
        add("", "ack");
    start();
    UNTIL(run_counts(run, 0)->halved == 1 && child()->state == CHILD_UP && child()->tasks_n > 0);
    assert_int_equal(child()->tasks_n, 1);
    assert_ptr_equal(container_of(list_first(&child()->tasks), struct owned, task.place)->message, &fake.messages[0]);
    UNTIL(all_over_behind_the_gate());
    assert_others_are_done("segv");
    assert_int_equal(run_counts(run, 0)->halved, 1); /* the other one was known to be it then */
}

static void a_task_that_hangs_beside_others_is_the_only_one_to_pay(void **state)
{
    (void)state;
    char value[100];
    with_threads(3);
    handler.timeout_ms = 1000;
    snprintf(value, sizeof value, "extend %s", gate.path);
    for (int i = 0; i < 2; i++)
        add("", value);
    start();
    UNTIL(run_state(run) == RUN_READY && child()->runs_n == 2 && child()->kill_ms > clock_mono_ms() + 10000);
    add("", "hang");
    UNTIL(run_counts(run, 0)->crashed == 1);
    UNTIL(all_over_behind_the_gate());
    assert_others_are_done("hang");
    assert_string_equal(fake.messages[2].error, "timeout after 1s (version 1.2.3)");
    assert_int_equal(run_counts(run, 0)->halved, 0); /* it was known at once */
}

static void two_that_hang_are_both_known(void **state)
{
    (void)state;
    with_threads(2);
    handler.timeout_ms = 100;
    for (int i = 0; i < 2; i++)
        add("", "hang");
    start();
    UNTIL(all_over());
    assert_int_equal(run_counts(run, 0)->halved, 0);
    assert_others_are_done("hang");
}

static void of_several_that_run_the_one_whose_lease_is_lost_is_told(void **state)
{
    (void)state;
    with_threads(3);
    handler.lease_ms = 300;
    for (int i = 0; i < 3; i++)
        add("", "patient");
    fake.messages[1].extend_code = E_LEASE_LOST;
    start();
    UNTIL(fake.messages[1].nacked == 1);
    assert_int_equal(fake.messages[0].nacked + fake.messages[2].nacked, 0);
    fake.messages[0].extend_code = fake.messages[2].extend_code = E_LEASE_LOST;
    UNTIL(all_over());
}

static void a_drain_waits_for_all_threads(void **state)
{
    (void)state;
    with_threads(2);
    for (int i = 0; i < 3; i++)
        add("", hold);
    start();
    reached = 0;
    UNTIL(come(2));
    run_drain(run);
    UNTIL(fake.messages[2].released == 1);
    for (int i = 0; i < 2; i++)
        gate_pass(&gate);
    drain();
    assert_int_equal(fake.messages[0].acked + fake.messages[1].acked, 2);
}

static void one_of_several_batches_at_once_that_crashes_is_found_and_only_it_pays(void **state)
{
    (void)state;
    handler.threads = 4;
    handler.batch.max = 8;
    fake.deliveries_max = 2;
    for (int i = 0; i < 64; i++)
        add("", i == 11 ? "segv" : "ack");
    start();
    UNTIL(all_over());
    assert_others_are_done("segv");
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 2);
    assert_in_range(run_counts(run, 0)->halved, 3, 5); /* of 4 calls that one, of its 8 tasks that one */
}

static void a_task_waits_for_the_one_of_its_key_that_runs_in_another_thread(void **state)
{
    (void)state;
    with_threads(4);
    fake.ordered = true;
    add("k", hold);
    add("k", "ack");
    add("l", "ack");
    add("l", "ack");
    start();
    UNTIL(fake.messages[3].over);
    assert_int_equal(child()->tasks_n, 1); /* and is not handed over before */
    assert_false(fake.messages[1].over);
    UNTIL(all_over_behind_the_gate());
    assert_true(fake.messages[0].acked_as < fake.messages[1].acked_as);
}

/* ---- keys ---- */

/* "key number" of each run that was logged. */
static size_t read_log(char runs[][16], size_t most)
{
    FILE *f = fopen(log_path, "r");
    size_t n = 0;
    while (f != NULL && n < most && fscanf(f, "%15s", runs[n]) == 1)
        n++;
    if (f != NULL)
        fclose(f);
    return n;
}

/* Of each key the runs are 1 2 3 .., again from somewhere before after a crash, and none was run before
   the one in front of it was. */
static void assert_in_order(unsigned each)
{
    static char runs[2048][16];
    size_t n = read_log(runs, ARRAY_LEN(runs));
    for (char key = 'a'; key <= 'd'; key++) {
        unsigned most = 0, before = 0;
        for (size_t i = 0; i < n; i++) {
            unsigned number = (unsigned)atoi(runs[i] + 1);
            if (runs[i][0] != key)
                continue;
            assert_true(number == before + 1 || number <= before); /* none is left out */
            before = number;
            most = number > most ? number : most;
        }
        assert_int_equal(most, each);
        assert_int_equal(before, each); /* the last that ran */
    }
}

static void keys_keep_their_order(void)
{
    fake.ordered = true;
    for (unsigned n = 0; n < 60; n++) {
        char key[2] = {(char)('a' + n % 4), '\0'}, value[120];
        if (n == 30)
            add("x", "segv");
        snprintf(value, sizeof value, "log %s %s%u", log_path, key, n / 4 + 1);
        add(key, value);
    }
    start();
    UNTIL(all_over());
    assert_others_are_done("segv");
    assert_in_order(15);
    for (size_t n = 0; n < fake.count; n++) {
        for (size_t later = n + 1; later < fake.count; later++)
            assert_true(strcmp(fake.messages[n].key, fake.messages[later].key) != 0 ||
                        fake.messages[n].acked_as < fake.messages[later].acked_as);
    }
}

static void keys_keep_their_order_while_halves_are_tried(void **state)
{
    (void)state;
    handler.processes = 3;
    keys_keep_their_order();
    assert_true(run_counts(run, 0)->halved >= 5);
}

static void keys_keep_their_order_in_threads_that_crash(void **state)
{
    (void)state;
    handler.processes = 2;
    handler.threads = 3;
    handler.batch.max = 4;
    keys_keep_their_order();
}

static void those_behind_one_that_failed_go_back_with_it(void **state)
{
    (void)state;
    fake.ordered = true;
    fake.deliveries_max = 2;
    handler.processes = 2;
    handler.batch.max = 1;
    start();
    UNTIL(run_state(run) == RUN_READY);
    fake.mute = true;
    struct message *first = add("a", "retry"), *second = add("a", "ack");
    answer_ask(); /* both at once, and both processes have nothing to do */
    UNTIL(all_over());
    assert_int_equal(first->nacked, 2);
    assert_int_equal(second->acked, 1);
    assert_int_equal(second->released, 2); /* not run before the one in front of it was done with */
}

/* ---- */

static int make_gate(void **state)
{
    (void)state;
    snprintf(exe, sizeof exe, "%s/sluice-workerd", getenv("SLUICE_BIN"));
    snprintf(file, sizeof file, "%s/batches.so", getenv("TEST_HANDLERS"));
    snprintf(obedient, sizeof obedient, "%s/obedient.so", getenv("TEST_HANDLERS"));
    if (gate_make(&gate) != 0)
        return -1;
    snprintf(hold, sizeof hold, "hold %s", gate.path);
    snprintf(log_path, sizeof log_path, "%s/log", gate.dir);
    return 0;
}

static int remove_gate(void **state)
{
    (void)state;
    unlink(log_path);
    return gate_remove(&gate);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests_[] = {
        cmocka_unit_test(a_call_has_no_more_than_its_limits_allow),
        cmocka_unit_test(a_call_that_may_grow_goes_when_its_first_has_waited_for_the_window),
        cmocka_unit_test(suspects_go_all_together_and_with_no_others),
        cmocka_unit_test(who_is_for_another_version_is_left_out),
        cmocka_unit_test(a_task_goes_only_with_or_behind_the_one_before_it_of_its_key),
        cmocka_unit_test(suspects_wait_for_those_before_them_of_their_keys),
        cmocka_unit_test(the_culprit_among_n_is_alone_after_log2_steps),
        cmocka_unit_test(beside_one_of_a_key_that_runs_another_of_it_does_not),
        cmocka_unit_test(suspects_have_such_a_process_to_themselves_before_all_others),
        cmocka_unit_test(calls_that_ran_at_once_are_tried_as_they_were),
        cmocka_unit_test(who_takes_single_tasks_gets_one_of_each_call_that_there_was),
        cmocka_unit_test(who_was_found_is_known_for_a_while),
        RUN(what_waits_goes_as_one_call),
        RUN(a_call_waits_for_more_as_long_as_the_window_says),
        RUN(each_of_a_call_has_its_own_verdict),
        RUN(what_one_of_a_call_publishes_goes_with_its_own_verdict),
        RUN(one_that_is_too_large_for_the_pipe_costs_the_others_nothing),
        RUN(no_more_is_held_than_the_next_calls_have_room_for),
        RUN(a_handler_for_single_tasks_gets_them_one_by_one),
        RUN(one_among_64_that_crashes_is_found_in_six_steps_and_only_it_pays),
        RUN(one_that_was_found_delays_nothing_and_comes_alone_when_it_comes_again),
        RUN(several_that_crash_are_all_found_and_come_alone_when_they_come_again),
        RUN(one_that_hangs_in_a_batch_is_found_too),
        RUN(one_of_a_running_batch_can_be_cancelled),
        RUN(a_drain_in_the_middle_gives_everything_back),
        RUN(a_pause_in_the_middle_gives_everything_back_too),
        RUN(a_handler_that_ends_with_every_batch_opens_its_breaker),
        RUN(threads_work_on_as_many_at_once_and_are_counted),
        RUN(a_crash_among_threads_costs_only_the_one_that_did_it),
        RUN(suspects_among_threads_have_their_process_to_themselves),
        RUN(a_task_that_hangs_beside_others_is_the_only_one_to_pay),
        RUN(two_that_hang_are_both_known),
        RUN(of_several_that_run_the_one_whose_lease_is_lost_is_told),
        RUN(a_drain_waits_for_all_threads),
        RUN(one_of_several_batches_at_once_that_crashes_is_found_and_only_it_pays),
        RUN(a_task_waits_for_the_one_of_its_key_that_runs_in_another_thread),
        RUN(keys_keep_their_order_while_halves_are_tried),
        RUN(keys_keep_their_order_in_threads_that_crash),
        RUN(those_behind_one_that_failed_go_back_with_it),
    };
    return cmocka_run_group_tests(tests_, make_gate, remove_gate);
}
