/*
 * Processes that come and go with what there is to do: the loop with real handler processes, and a source made here
 * that knows how far it is behind.
 */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/pool.h"
#include "workerd/run.h"
#include "workerd_gate.h"

enum { MESSAGES_MAX = 256, PATIENCE_MS = 30000 };

/* ---- the source ---- */

struct message {
    const char *value; /* lent */
    bool leased, over;
    unsigned grants, acked, released;
};

struct owned {
    struct task task;
    struct message *message;
};

static struct {
    struct source source;
    struct inbox inbox;
    struct message messages[MESSAGES_MAX];
    size_t count;
    uint32_t asked; /* places; 0: no ask is under way */
    struct fetched answer;
    struct lagged lag;
    unsigned lags; /* questions for it */
    bool mute;     /* they get no answer */
    bool stopped;
    size_t tasks; /* not freed */
    struct event connected;
} fake;

static void answer_ask(void)
{
    struct fetched *f = &fake.answer;
    uint32_t places = fake.asked;
    for (size_t i = 0; i < fake.count && places > 0 && !fake.stopped; i++) {
        struct message *m = &fake.messages[i];
        if (m->leased || m->over)
            continue;
        struct owned *o = mem_zalloc(sizeof *o);
        o->message = m;
        o->task = (struct task){
            .attempt = 1, .offset = i, .value = view_of_str(m->value), .leased_ms = clock_mono_ms()};
        m->leased = true;
        m->grants++;
        places--;
        fake.tasks++;
        list_push_back(&f->tasks, &o->task.place);
    }
    if (!fake.stopped && list_empty(&f->tasks))
        return;
    fake.asked = 0;
    inbox_push(&fake.inbox, &f->event.node, 0);
}

static void fake_ask(struct source *s, uint32_t handler, uint32_t places)
{
    (void)s;
    assert_int_equal(handler, 0);
    assert_true(fake.asked == 0 && places > 0 && !fake.stopped);
    fake.asked = places;
    answer_ask();
}

static void fake_settle(struct source *s, struct outcome *const *outcomes, size_t count)
{
    (void)s;
    for (size_t i = 0; i < count; i++) {
        struct outcome *o = outcomes[i];
        struct message *m = container_of(o->task, struct owned, task)->message;
        o->code = 0;
        if (o->verb != OUTCOME_EXTEND) {
            m->acked += o->verb == OUTCOME_ACK;
            m->released += o->verb == OUTCOME_RELEASE;
            m->leased = false;
            m->over = o->verb != OUTCOME_RELEASE;
        }
        inbox_push(&fake.inbox, &o->event.node, 0);
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

static void answer_lag(void)
{
    struct lag *l = &fake.lag.lag;
    *l = (struct lag){0};
    for (size_t i = 0; i < fake.count; i++) {
        l->backlog += !fake.messages[i].over;
        l->in_flight += fake.messages[i].leased;
    }
    fake.lag.known = true;
    inbox_push(&fake.inbox, &fake.lag.event.node, 0);
}

static void fake_lag(struct source *s, uint32_t handler)
{
    (void)s;
    assert_int_equal(handler, 0);
    fake.lags++;
    if (!fake.mute)
        answer_lag();
}

static struct message *add(const char *value)
{
    struct message *m = &fake.messages[fake.count++];
    assert_true(fake.count <= MESSAGES_MAX);
    *m = (struct message){.value = value};
    if (fake.asked > 0)
        answer_ask();
    return m;
}

/* ---- the loop ---- */

static struct gate gate;
static char hold[80], exe[512], obedient[512];
static char name[] = "h", topic[] = "t", group[] = "g", no_config[] = "{}";
static struct handler_config handler;
static struct config config;
static struct run *run;
static struct pool_figures now;

/* Lets the loop turn now and then, as tests wait for what it cannot know of. */
static pthread_t ticker;
static atomic_bool ticking;

static void *tick(void *unused)
{
    (void)unused;
    while (atomic_load(&ticking)) {
        inbox_wake(&fake.inbox);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.source = (struct source){.ask = fake_ask,
                                  .settle = fake_settle,
                                  .task_free = fake_task_free,
                                  .stop = fake_stop,
                                  .lag = fake_lag};
    fake.connected.kind = EVENT_CONNECTED;
    fake.answer.event.kind = EVENT_FETCHED;
    fake.lag.event.kind = EVENT_LAGGED;
    list_init(&fake.answer.tasks);
    handler = (struct handler_config){.name = name,
                                      .file = obedient,
                                      .topic = topic,
                                      .group = group,
                                      .processes_min = 1,
                                      .processes_max = 4,
                                      .target_drain_ms = 100,
                                      .scale_down_after_ms = 300,
                                      .pipeline = 4,
                                      .timeout_ms = 60000,
                                      .lease_ms = 60000,
                                      .config = no_config};
    config = (struct config){.grace_ms = 60000, .handlers = &handler, .handlers_n = 1};
    gate_reset(&gate);
    run = NULL;
    if (inbox_init(&fake.inbox, 0, NULL) != 0)
        return -1;
    atomic_store(&ticking, true);
    return pthread_create(&ticker, NULL, tick, NULL);
}

static void start(void)
{
    run = run_new(&(struct run_options){
        .config = &config, .exe = exe, .source = &fake.source, .inbox = &fake.inbox, .signals = -1});
    inbox_push(&fake.inbox, &fake.connected.node, 0);
}

static void turn(void)
{
    run_turn(run);
    pool_figures(run_pool(run, 0), &now);
}

/* Lets the loop turn until something is true. */
#define UNTIL(condition)                                       \
    do {                                                       \
        uint64_t deadline = clock_mono_ms() + PATIENCE_MS;     \
        turn();                                                \
        while (!(condition)) {                                 \
            turn();                                            \
            if (clock_mono_ms() > deadline)                    \
                fail_msg("waited in vain for %s", #condition); \
        }                                                      \
    } while (0)

/* As many processes as that, none of them coming or going. */
#define UNTIL_THERE_ARE(n) UNTIL(now.up == (n) && now.starting + now.leaving == 0)

static void drain(void)
{
    if (fake.mute)
        answer_lag();
    run_drain(run);
    while (run_state(run) < RUN_DONE)
        run_turn(run);
    assert_int_equal(run_state(run), RUN_DONE);
    assert_true(run_clean(run));
    assert_int_equal(fake.tasks, 0);
}

static int tear_down(void **state)
{
    (void)state;
    config.grace_ms = 100;
    if (run != NULL && run_state(run) < RUN_DONE)
        drain();
    atomic_store(&ticking, false);
    pthread_join(ticker, NULL);
    if (run != NULL)
        run_free(run);
    inbox_drain(&fake.inbox);
    inbox_free(&fake.inbox);
    return 0;
}

static void assert_each_was_done_at_once(void)
{
    for (size_t i = 0; i < fake.count; i++) {
        assert_int_equal(fake.messages[i].acked, 1);
        assert_int_equal(fake.messages[i].grants, 1);
    }
}

static bool all_over(void)
{
    for (size_t i = 0; i < fake.count; i++) {
        if (!fake.messages[i].over)
            return false;
    }
    return true;
}

/* ---- */

static void with_no_process_a_message_starts_one_and_waits_for_it(void **state)
{
    (void)state;
    handler.processes_min = 0;
    start();
    UNTIL(run_state(run) == RUN_READY); /* with one, so that a bad file would be found */
    assert_int_equal(now.up, 1);
    UNTIL_THERE_ARE(0);
    assert_int_equal(now.moved, SCALE_IDLE);
    assert_true(fake.asked > 0); /* all the same */
    unsigned lags = fake.lags;
    uint64_t began = clock_mono_ms();
    const struct message *m = add("ack");
    UNTIL(m->over);
    print_message("from zero to the end of a task: %u ms\n", (unsigned)(clock_mono_ms() - began));
    assert_int_equal(m->acked, 1);
    assert_int_equal(m->grants, 1);
    assert_in_range(fake.lags - lags, 0, 1 + (clock_mono_ms() - began) / 250);
    UNTIL_THERE_ARE(0);
    lags = fake.lags;
    for (int i = 0; i < 200; i++)
        turn();                        /* longer than a sample: a turn is 2 ms */
    assert_int_equal(fake.lags, lags); /* who has nothing to do asks nothing */
    drain();
}

static void how_many_the_first_message_is_one_of_is_asked_at_once(void **state)
{
    (void)state;
    handler.processes_min = 0;
    start();
    for (int i = 0; i < 3; i++) {
        UNTIL(now.wanted == 0);
        unsigned lags = fake.lags;
        add("ack");
        UNTIL(now.wanted == 1);
        assert_int_equal(fake.lags, lags + 1);
    }
}

static void processes_come_with_a_backlog_and_go_when_it_is_gone(void **state)
{
    (void)state;
    unsigned changes = 0;
    int direction = 0;
    start();
    UNTIL_THERE_ARE(1);
    for (int i = 0; i < 80; i++)
        add("nap 25");
    uint32_t before = 1, most = 1;
    uint64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!all_over() || now.wanted > 1) {
        turn();
        int moved = now.wanted > before ? 1 : now.wanted < before ? -1 : 0;
        changes += moved != 0 && moved == -direction;
        direction = moved != 0 ? moved : direction;
        before = now.wanted;
        most = now.up > most ? now.up : most;
        assert_true(clock_mono_ms() < until_ms);
    }
    assert_int_equal(most, 4);
    assert_int_equal(changes, 1);
    UNTIL_THERE_ARE(1);
    assert_each_was_done_at_once();
    drain();
    assert_int_equal(run_counts(run, 0)->given_back, 0);
}

static void nobody_is_stopped_while_it_works(void **state)
{
    (void)state;
    handler.processes_max = 0;
    handler.processes = 3;
    start();
    UNTIL_THERE_ARE(3);
    const struct message *runs = add(hold);
    UNTIL(gate_reached(&gate));
    pool_limits(run_pool(run, 0), 1, 1);
    UNTIL_THERE_ARE(1); /* the idle ones went */
    assert_int_equal(now.busy, 1);
    assert_false(runs->over);
    /* What works leaves when it is through, even if all have to go. */
    add("ack");
    add("ack");
    pool_limits(run_pool(run, 0), 0, 1);
    gate_pass(&gate);
    UNTIL(all_over());
    assert_each_was_done_at_once();
    UNTIL_THERE_ARE(0);
}

static void who_is_to_go_while_it_works_keeps_what_it_holds_and_may_stay_after_all(void **state)
{
    (void)state;
    handler.processes_max = 0;
    handler.processes = 2;
    start();
    UNTIL_THERE_ARE(2);
    const struct pool *p = run_pool(run, 0);
    const pid_t pids = p->children[0]->process.pid ^ p->children[1]->process.pid;
    for (int i = 0; i < 8; i++)
        add(i < 2 ? hold : "ack");
    UNTIL(now.busy == 2);
    pool_limits(run_pool(run, 0), 1, 1);
    UNTIL(now.leaving == 1);
    pool_limits(run_pool(run, 0), 2, 2);
    UNTIL_THERE_ARE(2);
    assert_int_equal(p->n, 2);
    assert_int_equal(p->children[0]->process.pid ^ p->children[1]->process.pid, pids);
    pool_limits(run_pool(run, 0), 1, 1);
    UNTIL(now.leaving == 1);
    gate_pass(&gate);
    gate_pass(&gate);
    UNTIL(all_over());
    assert_each_was_done_at_once();
    UNTIL_THERE_ARE(1);
}

static void limits_are_followed_at_once(void **state)
{
    (void)state;
    start();
    UNTIL_THERE_ARE(1);
    pool_limits(run_pool(run, 0), 3, 8);
    UNTIL_THERE_ARE(3);
    assert_int_equal(now.moved, SCALE_LIMITS);
    assert_int_equal(now.had, 1);
    assert_int_equal(now.min, 3);
    assert_int_equal(now.max, 8);
    pool_limits(run_pool(run, 0), 2, 2);
    UNTIL_THERE_ARE(2);
}

static void who_is_paused_takes_nothing_and_goes_on_afterwards(void **state)
{
    (void)state;
    handler.processes_min = 0;
    start();
    UNTIL_THERE_ARE(1);
    const struct message *last = add("ack");
    UNTIL(last->over);
    pool_pause(run_pool(run, 0), true);
    /* what was asked for before may still come, and goes back */
    const struct message *late = fake.asked > 0 ? add("ack") : NULL;
    UNTIL(fake.asked == 0);
    const struct message *m = add("ack");
    UNTIL_THERE_ARE(0);
    assert_true(now.paused);
    assert_false(m->leased);
    if (late != NULL)
        assert_int_equal(late->released, 1);
    pool_pause(run_pool(run, 0), false);
    UNTIL(all_over());
    assert_int_equal(m->acked, 1);
    assert_true(late == NULL || late->acked == 1);
}

static void without_an_answer_for_the_lag_no_more_are_started(void **state)
{
    (void)state;
    fake.mute = true;
    start();
    UNTIL_THERE_ARE(1);
    for (int i = 0; i < 60; i++)
        add("nap 30");
    UNTIL(now.why == SCALE_UNKNOWN);
    UNTIL(all_over());
    assert_int_equal(now.up + now.starting, 1);
    assert_int_equal(fake.lags, 1);
}

/* ---- */

static int make_gate(void **state)
{
    (void)state;
    snprintf(exe, sizeof exe, "%s/sluice-workerd", getenv("SLUICE_BIN"));
    snprintf(obedient, sizeof obedient, "%s/obedient.so", getenv("TEST_HANDLERS"));
    if (gate_make(&gate) != 0)
        return -1;
    snprintf(hold, sizeof hold, "hold %s", gate.path);
    return 0;
}

static int remove_gate(void **state)
{
    (void)state;
    return gate_remove(&gate);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(with_no_process_a_message_starts_one_and_waits_for_it),
        RUN(how_many_the_first_message_is_one_of_is_asked_at_once),
        RUN(processes_come_with_a_backlog_and_go_when_it_is_gone),
        RUN(nobody_is_stopped_while_it_works),
        RUN(who_is_to_go_while_it_works_keeps_what_it_holds_and_may_stay_after_all),
        RUN(limits_are_followed_at_once),
        RUN(who_is_paused_takes_nothing_and_goes_on_afterwards),
        RUN(without_an_answer_for_the_lag_no_more_are_started),
    };
    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}
