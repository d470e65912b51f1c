/*
 * The loop with real handler processes and a source that is made here: a stock of messages and a list of
 * what became of each.
 */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/command.h"
#include "workerd/figures.h"
#include "workerd/pool.h"
#include "workerd/run.h"
#include "workerd_gate.h"

enum { MESSAGES_MAX = 256, HANDLERS_MAX = 2, PATIENCE_MS = 30000 };

/* ---- the source ---- */

/* A message of the stock, and what it went through. */
struct message {
    uint32_t handler;
    char *value;
    size_t size;
    bool leased, over;
    unsigned grants, acked, nacked, parked, released, extended;
    uint32_t delay_ms; /* of the last nack */
    int extend_code;   /* answer to an EXTEND */
    int ack_code;      /* answer to the next `refusals` acks, with the text `why` */
    unsigned refusals;
    const char *why;
    unsigned outputs; /* that came with acks */
    char output[64];  /* TOPIC=VALUE of the last */
    char reason[128], error[512];
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
    uint32_t asked[HANDLERS_MAX]; /* places; 0: no ask is under way */
    struct fetched answers[HANDLERS_MAX];
    uint32_t leased[HANDLERS_MAX], leased_most[HANDLERS_MAX];
    size_t tasks;    /* not freed */
    unsigned refuse; /* so many settles have no room */
    bool stopped;
    bool again;   /* what is nacked comes again at once */
    bool keyless; /* messages have no key */
    bool endless; /* what is acknowledged comes again */
    uint32_t in_flight_max;
    struct event connected;
    /* The state of the one key that all messages have; version 0: none. */
    uint64_t state_version;
    char state[64];
} fake;

static void answer_ask(uint32_t handler)
{
    struct fetched *f = &fake.answers[handler];
    uint32_t places = fake.asked[handler];
    for (size_t i = 0; i < fake.count && places > 0 && !fake.stopped; i++) {
        struct message *m = &fake.messages[i];
        if (m->handler != handler || m->leased || m->over)
            continue;
        struct owned *o = mem_zalloc(sizeof *o);
        o->message = m;
        o->task = (struct task){
            .handler = handler,
            .attempt = 1 + m->nacked,
            .offset = i,
            .key = fake.keyless ? (struct view){0} : VIEW_LIT("k"),
            .state_version = fake.state_version,
            .state = fake.state_version != 0 ? view_of_str(mem_strdup(fake.state)) : view_of(NULL, 0),
            .value = view_of(m->value, m->size),
            .leased_ms = clock_mono_ms(),
        };
        m->leased = true;
        m->grants++;
        places--;
        fake.tasks++;
        if (++fake.leased[handler] > fake.leased_most[handler])
            fake.leased_most[handler] = fake.leased[handler];
        list_push_back(&f->tasks, &o->task.place);
    }
    if (!fake.stopped && list_empty(&f->tasks))
        return;
    fake.asked[handler] = 0;
    f->in_flight_max = fake.in_flight_max;
    inbox_push(&fake.inbox, &f->event.node, 0);
}

static void fake_ask(struct source *s, uint32_t handler, uint32_t places)
{
    (void)s;
    assert_int_equal(fake.asked[handler], 0);
    assert_true(places > 0 && !fake.stopped);
    fake.asked[handler] = places;
    answer_ask(handler);
}

/* Whole or absent: the outputs and the state of an ack. Returns its answer. */
static int take_effects(struct message *m, const struct effects *x)
{
    if (x == NULL)
        return 0;
    if (x->has_state && x->state_version != fake.state_version)
        return E_CONFLICT;
    for (uint32_t i = 0; i < x->outputs_n; i++, m->outputs++) {
        const struct plugin_output *out = &x->outputs[i];
        snprintf(m->output, sizeof m->output, "%.*s=%.*s", (int)out->topic.size,
                 (const char *)out->topic.data, (int)out->value.size, (const char *)out->value.data);
    }
    if (x->has_state) {
        fake.state_version = x->state_remove ? 0 : fake.state_version + 1000;
        snprintf(fake.state, sizeof fake.state, "%.*s", (int)x->state.size,
                 x->state.data != NULL ? (const char *)x->state.data : "");
    }
    return 0;
}

static void take_outcome(struct outcome *o)
{
    struct message *m = container_of(o->task, struct owned, task)->message;
    const struct task *t = o->task;
    o->code = 0;
    if (o->verb == OUTCOME_ACK) {
        bool refused = m->refusals > 0 && m->refusals--;
        o->code = refused ? m->ack_code : take_effects(m, t->effects);
        o->text = refused && m->why != NULL ? mem_strdup(m->why) : NULL;
        if (o->code != 0)
            return;
    } else if (o->verb != OUTCOME_EXTEND) {
        assert_null(t->effects);
    }
    switch (o->verb) {
    case OUTCOME_ACK:
        m->acked++;
        break;
    case OUTCOME_NACK:
        m->nacked++;
        m->delay_ms = t->delay_ms;
        break;
    case OUTCOME_PARK:
        m->parked++;
        break;
    case OUTCOME_RELEASE:
        m->released++;
        break;
    case OUTCOME_EXTEND:
        m->extended++;
        o->code = m->extend_code;
        return;
    }
    snprintf(m->reason, sizeof m->reason, "%s", t->reason != NULL ? t->reason : "");
    snprintf(m->error, sizeof m->error, "%s", t->error != NULL ? t->error : "");
    m->leased = false;
    m->over = (o->verb == OUTCOME_ACK && !fake.endless) || o->verb == OUTCOME_PARK || (o->verb == OUTCOME_NACK && !fake.again);
    fake.leased[m->handler]--;
}

static void fake_settle(struct source *s, struct outcome *const *outcomes, size_t count)
{
    (void)s;
    bool refused = fake.refuse > 0 && fake.refuse--;
    for (size_t i = 0; i < count; i++) {
        if (refused)
            outcomes[i]->code = E_QUEUE_FULL;
        else
            take_outcome(outcomes[i]);
        inbox_push(&fake.inbox, &outcomes[i]->event.node, 0);
    }
    for (uint32_t h = 0; h < HANDLERS_MAX; h++) {
        if (fake.asked[h] > 0)
            answer_ask(h);
    }
}

static void fake_task_free(struct source *s, struct task *t)
{
    (void)s;
    mem_free((void *)t->state.data);
    mem_free(container_of(t, struct owned, task));
    fake.tasks--;
}

static void fake_stop(struct source *s)
{
    (void)s;
    fake.stopped = true;
    for (uint32_t h = 0; h < HANDLERS_MAX; h++) {
        if (fake.asked[h] > 0)
            answer_ask(h);
    }
}

static struct message *add_bytes(uint32_t handler, const void *value, size_t size)
{
    struct message *m = &fake.messages[fake.count++];
    assert_true(fake.count <= MESSAGES_MAX);
    *m = (struct message){.handler = handler, .value = mem_strndup(value, size), .size = size};
    if (fake.asked[handler] > 0)
        answer_ask(handler);
    return m;
}

static struct message *add(const char *value)
{
    return add_bytes(0, value, strlen(value));
}

/* ---- the loop ---- */

static struct gate gate;
static char hold[80], needed[64];
static char exe[512], obedient[512];
static char names[HANDLERS_MAX][8] = {"first", "second"}, topic[] = "t", group[] = "g", no_config[] = "{}";
static struct config config;
static struct handler_config handlers[HANDLERS_MAX];
static struct run *run;
static uint64_t turn_ms_max;
static const char *config_path;

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
    fake.source = (struct source){
        .ask = fake_ask, .settle = fake_settle, .task_free = fake_task_free, .stop = fake_stop};
    fake.connected.kind = EVENT_CONNECTED;
    for (uint32_t h = 0; h < HANDLERS_MAX; h++) {
        fake.answers[h] = (struct fetched){.event.kind = EVENT_FETCHED, .handler = h};
        list_init(&fake.answers[h].tasks);
        handlers[h] = (struct handler_config){
            .name = names[h],
            .file = obedient,
            .topic = topic,
            .group = group,
            .processes = 1,
            .pipeline = 4,
            .batch = {.max = 100, .bytes = 1 << 20},
            .timeout_ms = 60000,
            .lease_ms = 60000,
            .config = no_config,
        };
    }
    gate_reset(&gate);
    unlink(needed);
    config = (struct config){
        .grace_ms = 60000, .memory_bytes_max = 256 << 20, .handlers = handlers, .handlers_n = 1};
    run = NULL;
    turn_ms_max = 0;
    config_path = NULL;
    if (inbox_init(&fake.inbox, 0, NULL) != 0)
        return -1;
    atomic_store(&ticking, true);
    return pthread_create(&ticker, NULL, tick, NULL);
}

static void start(void)
{
    run = run_new(&(struct run_options){
        .config = &config,
        .config_path = config_path,
        .exe = exe,
        .source = &fake.source,
        .inbox = &fake.inbox,
        .signals = -1,
        .turn_ms_max = turn_ms_max,
    });
    inbox_push(&fake.inbox, &fake.connected.node, 0);
}

/* Lets the loop turn until something is true. */
#define UNTIL(condition)                                       \
    do {                                                       \
        uint64_t deadline = clock_mono_ms() + PATIENCE_MS;     \
        while (!(condition)) {                                 \
            run_turn(run);                                     \
            if (clock_mono_ms() > deadline)                    \
                fail_msg("waited in vain for %s", #condition); \
        }                                                      \
    } while (0)

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
    if (run != NULL && run_state(run) < RUN_DONE)
        drain();
    atomic_store(&ticking, false);
    pthread_join(ticker, NULL);
    if (run != NULL)
        run_free(run);
    for (size_t i = 0; i < fake.count; i++)
        mem_free(fake.messages[i].value);
    inbox_drain(&fake.inbox);
    inbox_free(&fake.inbox);
    return 0;
}

/* ---- verdicts ---- */

static void what_a_handler_says_of_a_task_reaches_the_broker(void **state)
{
    (void)state;
    struct message *a = add("ack"), *b = add("retry"), *c = add("retry 1500"), *d = add("park too-blue");
    start();
    UNTIL(a->over && b->over && c->over && d->over);
    assert_int_equal(a->acked, 1);
    assert_int_equal(b->nacked, 1);
    assert_int_equal(b->delay_ms, OUTCOME_BACKOFF);
    assert_string_equal(b->error, "because the message says so");
    assert_int_equal(c->delay_ms, 1500);
    assert_int_equal(d->parked, 1);
    assert_string_equal(d->reason, "too-blue");
    assert_string_equal(d->error, "because the message says so");
    drain();
    const struct run_counts *n = run_counts(run, 0);
    assert_int_equal(n->done, 1);
    assert_int_equal(n->retried, 2);
    assert_int_equal(n->parked, 1);
    assert_int_equal(n->crashed + n->given_back + n->lost, 0);
}

static void texts_of_handlers_are_made_fit_to_be_stored(void **state)
{
    (void)state;
    struct message *m = add("park \x1b[1m caf\xc3\xa9 \xe2\x82 \xff \xed\xa0\x80");
    start();
    UNTIL(m->over);
    assert_string_equal(m->reason, "?[1m caf\xc3\xa9 ?? ? ???");
}

static void a_message_of_any_size_reaches_its_handler(void **state)
{
    (void)state;
    size_t size = 20 << 20;
    char *value = mem_zalloc(size);
    memcpy(value, "ack", 3);
    struct message *large = add_bytes(0, value, size), *small = add("ack");
    start();
    UNTIL(large->over && small->over);
    assert_int_equal(large->acked, 1);
    mem_free(value);
}

/* What two of them do in the time that counts is less than they have places for. */
static void of_slow_tasks_no_more_is_leased_than_the_children_have_places_for(void **state)
{
    (void)state;
    enum { N = 40 };
    handlers[0].processes = 2;
    handlers[0].pipeline = 3;
    for (int i = 0; i < N; i++)
        add("nap 20");
    start();
    for (int i = 0; i < N; i++)
        UNTIL(fake.messages[i].over);
    drain();
    assert_int_equal(run_counts(run, 0)->done, N);
    assert_in_range(fake.leased_most[0], 3, 6);
    for (int i = 0; i < N; i++)
        assert_int_equal(fake.messages[i].grants, 1);
}

/* ---- fetched ahead ---- */

enum { ENDLESS = 200 };

/* A process that is given one at a time, and tasks without end that take next to nothing. The first message is for later. */
static struct message *start_fast(const char *value)
{
    fake.endless = fake.again = fake.keyless = true;
    handlers[0].pipeline = 1;
    struct message *later = add(hold);
    later->over = true;
    for (int i = 0; i < ENDLESS; i++)
        add(value);
    start();
    return later;
}

static unsigned nacks(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake.count; i++)
        n += fake.messages[i].nacked;
    return n;
}

static unsigned releases(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake.count; i++)
        n += fake.messages[i].released;
    return n;
}

static void of_fast_tasks_some_are_fetched_ahead_of_the_places(void **state)
{
    (void)state;
    start_fast("ack");
    UNTIL(fake.leased_most[0] >= 4);
    fake.in_flight_max = 4; /* of which a quarter is one */
    uint64_t done = run_counts(run, 0)->done;
    UNTIL(run_counts(run, 0)->done > done + ENDLESS);
    fake.leased_most[0] = 0;
    done = run_counts(run, 0)->done;
    UNTIL(run_counts(run, 0)->done > done + ENDLESS);
    assert_int_equal(fake.leased_most[0], 1);
    drain();
    assert_int_equal(nacks(), 0);
}

static void what_was_fetched_ahead_of_a_task_that_takes_long_goes_to_others(void **state)
{
    (void)state;
    handlers[0].lease_ms = 300;
    struct message *slow = start_fast("ack");
    UNTIL(fake.leased_most[0] >= 4);
    slow->over = false;
    UNTIL(gate_reached(&gate));
    UNTIL(fake.leased[0] == 1); /* the one that runs */
    UNTIL(slow->extended >= 2);
    assert_int_equal(fake.leased[0], 1);
    assert_int_equal(fake.asked[0], 0);
    fake.endless = false;
    gate_pass(&gate);
    for (size_t i = 0; i < fake.count; i++)
        UNTIL(fake.messages[i].over);
    assert_int_equal(slow->acked, 1);
    assert_int_equal(nacks(), 0);
    drain();
    assert_int_equal(run_counts(run, 0)->given_back, releases());
    assert_int_equal(run_counts(run, 0)->lost + run_counts(run, 0)->crashed, 0);
}

static void of_what_was_fetched_ahead_an_outage_burns_no_delivery(void **state)
{
    (void)state;
    enum { WINDOW = 10 };
    char value[80];
    snprintf(value, sizeof value, "needs %s", needed);
    close(open(needed, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    handlers[0].breaker = (struct breaker_config){
        .on = true, .window = WINDOW, .percent = 80, .pause_ms = 20, .pause_ms_max = 80};
    start_fast(value);
    UNTIL(fake.leased_most[0] >= 4);
    unlink(needed);
    UNTIL(run_breaker(run, 0)->opened >= 1 && fake.leased[0] == 0);
    fake.leased_most[0] = 0;
    UNTIL(run_breaker(run, 0)->opened >= 4);
    assert_int_equal(fake.leased_most[0], 1); /* a probe at a time */
    assert_in_range(nacks(), 1, WINDOW + 1 + run_breaker(run, 0)->opened);
    close(open(needed, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    UNTIL(run_breaker(run, 0)->state == BREAKER_CLOSED);
    drain();
}


static void outcomes_that_find_no_room_are_given_again(void **state)
{
    (void)state;
    fake.refuse = 2;
    struct message *a = add("ack"), *b = add("retry");
    start();
    UNTIL(a->over && b->over);
    assert_int_equal(a->acked, 1);
    assert_int_equal(b->nacked, 1);
    drain();
}

/* ---- outputs and state ---- */

static void outputs_and_state_reach_the_broker_with_the_ack(void **state)
{
    (void)state;
    struct message *a = add("publish out ack"), *b = add("count");
    start();
    UNTIL(a->over && b->over);
    assert_int_equal(a->outputs, 1);
    assert_string_equal(a->output, "out=ack");
    assert_string_equal(fake.state, "1");
    struct message *c = add("publish sum count");
    UNTIL(c->over);
    assert_string_equal(c->output, "sum=count");
    assert_string_equal(fake.state, "2");
    struct message *d = add("forget");
    UNTIL(d->over);
    assert_int_equal(fake.state_version, 0);
    drain();
    assert_int_equal(run_counts(run, 0)->done, 4);
}

static void what_is_not_acknowledged_publishes_nothing(void **state)
{
    (void)state;
    static const char *const values[] = {"publish out retry", "publish out park x", "publish out segv",
                                         "publish out bad 9"};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        add(values[i]);
    start();
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        UNTIL(fake.messages[i].over); /* the source has seen to it that no outcome but an ack has any */
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        assert_int_equal(fake.messages[i].outputs, 0);
}

static void a_state_that_another_changed_has_the_task_run_again_uncounted(void **state)
{
    (void)state;
    char value[90];
    snprintf(value, sizeof value, "publish out count %s", gate.path);
    struct message *m = add(value);
    start();
    UNTIL(gate_reached(&gate)); /* it has read that there is none */
    fake.state_version = 5;
    snprintf(fake.state, sizeof fake.state, "10");
    gate_pass(&gate);
    gate_pass(&gate);
    UNTIL(m->over);
    assert_int_equal(m->acked, 1);
    assert_int_equal(m->nacked, 0);
    assert_int_equal(m->released, 1);
    assert_int_equal(m->outputs, 1);
    assert_string_equal(fake.state, "11");
    drain();
    assert_int_equal(run_counts(run, 0)->conflicts, 1);
    assert_int_equal(run_counts(run, 0)->done, 1);
    assert_int_equal(run_counts(run, 0)->lost, 0);
}

static void a_task_does_not_spin_on_a_state_that_always_changes(void **state)
{
    (void)state;
    struct message *m = add("count");
    m->ack_code = E_CONFLICT;
    m->refusals = 1000;
    start();
    UNTIL(m->over);
    assert_int_equal(m->nacked, 1);
    assert_int_equal(m->released, 15);
    assert_string_equal(m->error, "the state of its key was changed by others 16 times in a row");
    assert_int_equal(m->delay_ms, OUTCOME_BACKOFF);
}

static void an_output_that_cannot_be_is_a_failure_that_says_why(void **state)
{
    (void)state;
    struct message *m = add("publish nowhere ack"), *n = add("publish out ack");
    m->ack_code = E_TOPIC_NOT_FOUND;
    m->refusals = 1;
    m->why = "output to 'nowhere': no such topic";
    n->ack_code = E_TOO_LARGE;
    n->refusals = 1;
    start();
    UNTIL(m->over && n->over);
    assert_int_equal(m->nacked, 1);
    assert_string_equal(m->error, "output to 'nowhere': no such topic");
    assert_int_equal(m->delay_ms, OUTCOME_BACKOFF);
    assert_string_equal(n->error, "larger than the limit");
    drain();
    assert_int_equal(run_counts(run, 0)->retried, 2);
    assert_int_equal(run_counts(run, 0)->lost, 0);
}

static void what_is_refused_for_load_is_given_again_and_its_lease_kept(void **state)
{
    (void)state;
    handlers[0].lease_ms = 300;
    struct message *m = add("publish out ack"), *plain = add("ack");
    m->ack_code = plain->ack_code = E_OVERLOADED;
    m->refusals = plain->refusals = 1000;
    start();
    UNTIL(m->extended >= 3 && plain->extended >= 3);
    assert_false(m->over);
    m->refusals = plain->refusals = 0;
    UNTIL(m->over && plain->over);
    assert_int_equal(m->acked, 1);
    assert_int_equal(m->outputs, 1);
    assert_int_equal(m->grants, 1);
    assert_int_equal(m->nacked + m->released + plain->nacked + plain->released, 0);
    drain();
}

static void a_unit_whose_lease_is_lost_is_counted_and_left_to_who_has_it(void **state)
{
    (void)state;
    struct message *m = add("publish out ack"), *n = add("ack");
    m->ack_code = E_LEASE_LOST;
    m->refusals = 1;
    start();
    UNTIL(n->over && run_counts(run, 0)->lost == 1);
    assert_int_equal(m->outputs, 0);
    assert_int_equal(m->nacked + m->released, 0);
    drain();
}

/* ---- crashes ---- */

static void a_crash_costs_its_task_one_delivery_and_the_others_none(void **state)
{
    (void)state;
    handlers[0].processes = 2;
    static const char *const values[] = {"ack", "segv", "ack", "ack", "exit 3", "ack", "abort it", "ack"};
    static const char *const hows[] = {"killed by SIGSEGV", "exited with 3", "killed by SIGABRT"};
    for (int i = 0; i < 16; i++)
        add(values[i % 8]);
    start();
    for (int i = 0; i < 16; i++)
        UNTIL(fake.messages[i].over);
    for (int i = 0; i < 16; i++) {
        const struct message *m = &fake.messages[i];
        const char *value = values[i % 8];
        bool good = strcmp(value, "ack") == 0;
        assert_int_equal(m->acked, good);
        assert_int_equal(m->nacked, !good);
        assert_int_equal(m->parked, 0);
        assert_int_equal(m->grants,
                         m->acked + m->nacked + m->released); /* what was not begun is given back */
        if (!good)
            assert_has(m->error, hows[value[0] == 's' ? 0 : value[0] == 'e' ? 1 : 2]);
    }
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 6);
    assert_int_equal(run_counts(run, 0)->done, 10);
}

/* With a backoff that doubled from one to the next, the pauses alone would take more than twenty seconds. */
static void processes_that_work_between_crashes_are_replaced_without_delay(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        add(i % 2 == 0 ? "ack" : "segv");
    handlers[0].processes = 1;
    uint64_t began = clock_mono_ms();
    start();
    for (int i = 0; i < 16; i++)
        UNTIL(fake.messages[i].over);
    assert_in_range(clock_mono_ms() - began, 0, 15000);
    drain();
}

static void a_crash_tells_its_last_words(void **state)
{
    (void)state;
    struct message *m = add("abort x > 0");
    start();
    UNTIL(m->over);
    assert_string_equal(m->error, "killed by SIGABRT (version 1.2.3): something is rotten | assertion failed: x > 0");
    assert_int_equal(m->delay_ms, OUTCOME_BACKOFF);
}

static void what_another_child_can_take_is_not_given_back(void **state)
{
    (void)state;
    handlers[0].processes = 2;
    start();
    UNTIL(run_state(run) == RUN_READY);
    /* One child waits at the gate with others behind it, until the other has crashed with others behind
       it. */
    add(hold);
    add("segv");
    struct message *behind = NULL;
    for (int i = 0; i < 4; i++)
        behind = add("ack");
    UNTIL(fake.messages[1].over);
    gate_pass(&gate);
    UNTIL(behind->over && fake.messages[0].over);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(fake.messages[i].released, 0);
        assert_int_equal(fake.messages[i].grants, 1);
    }
}

static void a_crash_in_one_handler_does_not_touch_another(void **state)
{
    (void)state;
    config.handlers_n = 2;
    struct message *bad = add("segv"), *good = add_bytes(1, hold, strlen(hold));
    start();
    UNTIL(bad->over);
    assert_false(good->over);
    gate_pass(&gate);
    UNTIL(good->over);
    assert_int_equal(good->acked, 1);
    assert_int_equal(good->grants, 1);
}

/* ---- time ---- */

static void a_handler_that_hangs_is_killed_after_its_timeout(void **state)
{
    (void)state;
    handlers[0].timeout_ms = 200;
    struct message *hangs = add("hang"), *behind = add("ack");
    uint64_t began = clock_mono_ms();
    start();
    UNTIL(hangs->over && behind->over);
    assert_true(clock_mono_ms() - began >= 200);
    assert_int_equal(hangs->nacked, 1);
    assert_string_equal(hangs->error, "timeout after 200ms (version 1.2.3)");
    assert_int_equal(behind->acked, 1);
    assert_int_equal(behind->nacked, 0);
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 1);
}

static void a_handler_that_closes_its_pipe_is_killed_and_charged(void **state)
{
    (void)state;
    struct message *deaf = add("deaf"), *behind = add("ack");
    start();
    UNTIL(deaf->over && behind->over);
    assert_int_equal(deaf->nacked, 1);
    assert_string_equal(deaf->error, "it closed its pipe (version 1.2.3)");
    assert_int_equal(behind->nacked, 0);
}

static void a_handler_sees_its_deadline_before_it_is_killed(void **state)
{
    (void)state;
    handlers[0].timeout_ms = 3000; /* and a tenth more before it is killed */
    struct message *m = add("patient");
    start();
    UNTIL(m->over);
    assert_string_equal(m->error, "because the message says so");
    assert_int_equal(run_counts(run, 0)->crashed, 0);
}

static void a_handler_may_ask_for_more_time(void **state)
{
    (void)state;
    char extend[80];
    config.handlers_n = 2;
    handlers[0].timeout_ms = 1000;
    handlers[1].timeout_ms = 2000; /* the clock of this test */
    snprintf(extend, sizeof extend, "extend %s", gate.path);
    start();
    UNTIL(run_state(run) == RUN_READY);
    struct message *asks = add(extend), *clock = add_bytes(1, "hang", 4);
    UNTIL(clock->over);
    assert_false(asks->over);
    gate_pass(&gate);
    UNTIL(asks->over);
    assert_int_equal(asks->acked, 1);
}

/* ---- leases ---- */

static void leases_are_extended_while_a_child_works(void **state)
{
    (void)state;
    handlers[0].lease_ms = 300;
    struct message *runs = add(hold), *waits = add("ack");
    start();
    UNTIL(runs->extended >= 5 && waits->extended >= 5);
    assert_false(runs->over);
    gate_pass(&gate);
    UNTIL(runs->over && waits->over);
    assert_int_equal(runs->acked, 1);
    assert_int_equal(waits->acked, 1);
    assert_int_equal(runs->grants + waits->grants, 2);
    drain();
}

static void a_task_whose_lease_is_lost_is_cancelled(void **state)
{
    (void)state;
    handlers[0].lease_ms = 300;
    struct message *runs = add("patient"), *waits = add(hold);
    waits->extend_code = E_LEASE_LOST;
    start();
    UNTIL(waits->released > 0); /* without having begun: nobody opens the gate */
    assert_false(runs->over);
    runs->extend_code = E_LEASE_LOST;
    UNTIL(runs->over); /* it comes back as it is told */
    assert_int_equal(runs->nacked, 1);
}

static void a_program_whose_lease_is_lost_is_told_to_end_and_then_killed(void **state)
{
    (void)state;
    char line[512];
    struct buf words = {0};
    snprintf(line, sizeof line,
             "read -r what; trap \": >%s; [ $what = stays ] || exit 1\" TERM; : >%s; while :; do sleep 0.05; done", needed,
             needed);
    buf_putf(&words, "/bin/sh%c-c%c%s%c", 0, 0, line, 0);
    handlers[0].file = NULL;
    handlers[0].exec = (char *)words.data;
    handlers[0].exec_size = words.size;
    handlers[0].dir = gate.dir;
    handlers[0].lease_ms = 300;
    start();
    for (int i = 0; i < 2; i++) {
        struct message *m = add(i == 0 ? "goes\n" : "stays\n");
        UNTIL(access(needed, F_OK) == 0); /* it runs, and listens */
        unlink(needed);
        assert_false(m->over);
        m->extend_code = E_LEASE_LOST;
        UNTIL(m->over);
        assert_int_equal(strncmp(m->error, "cancelled", 9), 0);
        assert_int_equal(unlink(needed), 0); /* it was told */
    }
    assert_int_equal(run_counts(run, 0)->crashed, 0); /* only the program ended */
    drain();
    run_free(run);
    run = NULL;
    buf_free(&words);
}

/* ---- the breaker ---- */

enum { OUTAGE_MESSAGES = 60 };

static char needs[80];

/* Messages whose handler needs something that is not there. */
static void configure_outage(uint32_t window)
{
    fake.again = true;
    handlers[0].breaker = (struct breaker_config){
        .on = true, .window = window, .percent = 80, .pause_ms = 20, .pause_ms_max = 80};
    snprintf(needs, sizeof needs, "needs %s", needed);
}

static void begin_outage(uint32_t window)
{
    configure_outage(window);
    for (int i = 0; i < OUTAGE_MESSAGES; i++)
        add(needs);
}

static unsigned deliveries_burnt(void)
{
    unsigned n = 0;
    for (int i = 0; i < OUTAGE_MESSAGES; i++)
        n += fake.messages[i].nacked;
    return n;
}

static void an_outage_burns_a_bounded_number_of_deliveries_and_then_all_is_done(void **state)
{
    (void)state;
    enum { WINDOW = 10, PLACES = 2 * 4 };
    begin_outage(WINDOW);
    handlers[0].processes = 2;
    start();
    UNTIL(run_breaker(run, 0)->opened >= 6);
    /* What opened it, what the processes held then, and a probe for each time after the first. */
    assert_in_range(deliveries_burnt(), WINDOW / 2, WINDOW / 2 + PLACES + run_breaker(run, 0)->opened - 1);
    close(open(needed, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    for (int i = 0; i < OUTAGE_MESSAGES; i++)
        UNTIL(fake.messages[i].over);
    for (int i = 0; i < OUTAGE_MESSAGES; i++)
        assert_int_equal(fake.messages[i].acked, 1);
    assert_int_equal(run_breaker(run, 0)->state, BREAKER_CLOSED);
    drain();
    assert_int_equal(run_counts(run, 0)->done, OUTAGE_MESSAGES);
    assert_int_equal(run_counts(run, 0)->retried, deliveries_burnt());
}

/* One process stands at the gate while the other one fails. */
static void when_the_breaker_opens_what_runs_goes_on(void **state)
{
    (void)state;
    struct message *runs = add(hold);
    begin_outage(10);
    handlers[0].processes = 2;
    start();
    UNTIL(run_breaker(run, 0)->opened >= 2); /* the pause is over, a probe failed */
    assert_int_equal(runs->released, 0);
    assert_false(runs->over);
    gate_pass(&gate);
    UNTIL(runs->over);
    assert_int_equal(runs->acked, 1);
    close(open(needed, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    drain();
}

static void what_runs_when_a_breaker_opens_goes_on_and_what_waits_is_given_back(void **state)
{
    (void)state;
    configure_outage(2); /* one failure opens it */
    struct message *fails = add(needs), *runs = add(hold), *waits = add(needs), *too = add(needs);
    start();
    UNTIL(waits->released > 0 && too->released > 0); /* nobody opens the gate before them */
    assert_true(fails->nacked > 0);
    assert_int_equal(waits->nacked + too->nacked, 0);
    assert_int_equal(runs->nacked + runs->released, 0);
    close(open(needed, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    gate_pass(&gate);
    UNTIL(fails->over && runs->over && waits->over && too->over);
    assert_int_equal(runs->grants, 1);
    assert_int_equal(waits->nacked + too->nacked, 0); /* not one delivery of theirs was burnt */
}

static void a_handler_whose_downstream_is_out_does_not_stop_another(void **state)
{
    (void)state;
    begin_outage(10);
    config.handlers_n = 2;
    handlers[1].breaker = handlers[0].breaker;
    start();
    UNTIL(run_breaker(run, 0)->opened >= 3);
    struct message *good = add_bytes(1, "ack", 3);
    UNTIL(good->over);
    assert_int_equal(run_breaker(run, 1)->state, BREAKER_CLOSED);
    assert_int_equal(run_breaker(run, 1)->opened, 0);
}

static void a_handler_that_does_not_start_opens_its_breaker(void **state)
{
    (void)state;
    char json[128];
    snprintf(json, sizeof json, "{\"fail_unless\":\"%s/good\"}", gate.dir);
    begin_outage(2);
    handlers[0].config = json; /* fails once */
    start();
    UNTIL(run_breaker(run, 0)->opened == 1);
    assert_int_equal(deliveries_burnt(), 0);
    for (int i = 0; i < OUTAGE_MESSAGES; i++)
        UNTIL(fake.messages[i].over); /* the first of them as a probe */
}

/* ---- start ---- */

static void a_handler_that_cannot_be_loaded_ends_the_daemon_with_its_name(void **state)
{
    (void)state;
    char missing[600];
    snprintf(missing, sizeof missing, "%s.not", obedient);
    config.handlers_n = 2;
    handlers[1].file = missing;
    start();
    UNTIL(run_state(run) == RUN_FAILED);
    assert_has(run_error(run), "handler 'second': ");
    assert_has(run_error(run), "obedient.so.not: cannot open shared object file");
}

static void a_handler_that_cannot_start_is_tried_again(void **state)
{
    (void)state;
    char json[128];
    snprintf(json, sizeof json, "{\"fail_unless\":\"%s/good\"}", gate.dir);
    handlers[0].config = json;
    struct message *m = add("ack");
    start();
    UNTIL(m->over);
    assert_int_equal(run_state(run), RUN_READY);
}

/* ---- seen from outside ---- */

static struct figures seen;

static void look_until_seen(void)
{
    const struct figures *f;
    run_turn(run);
    UNTIL((f = run_figures(run)) != NULL);
    figures_copy(&seen, f);
}

#define UNTIL_SEEN(condition)                                  \
    do {                                                       \
        uint64_t end = clock_mono_ms() + PATIENCE_MS;          \
        for (look_until_seen(); !(condition); look_until_seen()) { \
            if (clock_mono_ms() > end)                         \
                fail_msg("waited in vain for %s", #condition); \
        }                                                      \
    } while (0)

static void the_figures_say_what_goes_on(void **state)
{
    (void)state;
    config.handlers_n = 2;
    handlers[0].processes = 2;
    handlers[0].pipeline = 1;
    start();
    UNTIL_SEEN(seen.state == RUN_READY);
    assert_true(seen.reachable);
    assert_string_equal(seen.text, "ready");
    const struct figures_handler *h = &seen.handlers[0];
    assert_string_equal(h->name, "first");
    assert_string_equal(h->version, "1.2.3");
    assert_int_equal(h->wanted, 2);
    assert_int_equal(h->up, 2);
    assert_int_equal(h->busy, 0);
    struct message *held = add(hold);
    add("nap 60");
    add("segv");
    UNTIL(gate_reached(&gate));
    UNTIL(fake.messages[1].over && fake.messages[2].over);
    UNTIL_SEEN(seen.handlers[0].up == 2);
    h = &seen.handlers[0];
    assert_int_equal(h->busy, 1);
    assert_int_equal(h->held, 1);
    assert_int_equal(h->restarts, 1);
    assert_int_equal(h->counts.done, 1);
    assert_int_equal(h->counts.crashed, 1);
    assert_int_equal(h->times.n, 1);
    assert_true(h->times.sum_ms >= 60 && h->times.counts[0] == 0);
    assert_int_equal(seen.handlers[1].counts.done, 0);
    atomic_store(&fake.source.away, true);
    UNTIL_SEEN(!seen.reachable);
    assert_string_equal(seen.text, "the broker is not reached");
    gate_pass(&gate);
    UNTIL(held->over);
    run_drain(run);
    UNTIL_SEEN(seen.state >= RUN_DRAINING);
    figures_free(&seen);
}

static void a_loop_that_is_watched_turns_in_time(void **state)
{
    (void)state;
    atomic_store(&ticking, false); /* nothing happens by itself */
    pthread_join(ticker, NULL);
    turn_ms_max = 50;
    start();
    UNTIL(run_state(run) == RUN_READY);
    uint64_t began = clock_mono_ms();
    for (int i = 0; i < 5; i++)
        run_turn(run); /* would sleep for ever */
    assert_true(clock_mono_ms() - began < PATIENCE_MS);
    atomic_store(&ticking, true);
    assert_int_equal(pthread_create(&ticker, NULL, tick, NULL), 0);
}

/* ---- new versions ---- */

static char installed[64], arriving[64], yaml[64];

/* As `install` does: another file takes the name, so that who has the old one open keeps it. */
static void install(const char *kind)
{
    char from[512], bytes[65536];
    snprintf(from, sizeof from, "%s/%s.so", getenv("TEST_HANDLERS"), kind);
    FILE *in = fopen(from, "r"), *out = fopen(arriving, "w");
    assert_true(in != NULL && out != NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(rename(arriving, installed), 0);
}

static void write_yaml(const char *more)
{
    FILE *f = fopen(yaml, "w");
    assert_non_null(f);
    fprintf(f,
            "%shandlers:\n  - name: first\n    file: %s\n    topic: t\n    group: g\n    lease: 60s\n    timeout: 1m\n"
            "    breaker: off\n%s",
            config.reload_on_change ? "reload_on_change: on\n" : "", installed, more);
    fclose(f);
}

static void start_installed(void)
{
    snprintf(installed, sizeof installed, "%s/installed.so", gate.dir);
    snprintf(arriving, sizeof arriving, "%s/arriving.so", gate.dir);
    snprintf(yaml, sizeof yaml, "%s/workerd.yaml", gate.dir);
    install("obedient");
    handlers[0].file = installed;
    config.memory_bytes_max = 256 << 20; /* as the file will say */
    config.log_level = LOG_INFO;
    config_path = yaml;
    start();
    UNTIL(run_state(run) == RUN_READY);
}

static void assert_version(const char *version)
{
    struct message *m = add("version");
    UNTIL(m->over);
    assert_string_equal(m->reason, version);
}

static void a_new_version_takes_over_and_the_old_one_finishes(void **state)
{
    (void)state;
    start_installed();
    assert_version("1.2.3");
    struct message *held = add(hold);
    UNTIL(gate_reached(&gate));
    install("newer");
    write_yaml("    processes: 2\n    pipeline: 3\n");
    run_reload(run);
    UNTIL_SEEN(strcmp(seen.handlers[0].version, "2.0.0") == 0);
    for (int i = 0; i < 5; i++)
        assert_version("2.0.0");
    assert_false(held->over);
    gate_pass(&gate);
    UNTIL(held->over);
    assert_int_equal(held->acked, 1);
    assert_int_equal(held->grants, 1);
    UNTIL_SEEN(seen.handlers[0].up == 2 && seen.handlers[0].wanted == 2);
    run_reload(run); /* what was there first is freed */
    UNTIL_SEEN(seen.handlers[0].up == 2);
    drain();
    assert_int_equal(run_counts(run, 0)->crashed, 0);
    figures_free(&seen);
}

static void what_is_wrong_with_a_new_version_leaves_the_old_one_in_force(void **state)
{
    (void)state;
    start_installed();
    write_yaml("    proceses: 2\n");
    run_reload(run);
    UNTIL_SEEN(seen.reloads == 1);
    assert_version("1.2.3");
    install("no-symbol");
    write_yaml("");
    run_reload(run);
    UNTIL_SEEN(seen.handlers[0].versions_dropped == 1);
    assert_version("1.2.3");
    install("newer"); /* and the next one may be better */
    run_reload(run);
    UNTIL_SEEN(strcmp(seen.handlers[0].version, "2.0.0") == 0);
    assert_version("2.0.0");
    drain();
    figures_free(&seen);
}

static void a_process_that_starts_later_is_of_the_version_in_force(void **state)
{
    (void)state;
    char nobody[] = "nobody"; /* who may not look into the directory, either */
    handlers[0].jail.user = geteuid() == 0 ? nobody : NULL;
    handlers[0].jail.profile = JAIL_DEFAULT;
    start_installed();
    install("newer"); /* nobody said that it is to be tried */
    add("segv");
    UNTIL_SEEN(seen.handlers[0].counts.crashed == 1 && seen.handlers[0].up == 1);
    assert_version("1.2.3");
    unlink(installed);
    add("segv");
    UNTIL_SEEN(seen.handlers[0].counts.crashed == 2 && seen.handlers[0].up == 1);
    assert_version("1.2.3");
    install("no-symbol");
    write_yaml("");
    run_reload(run);
    UNTIL_SEEN(seen.handlers[0].versions_dropped == 1);
    add("segv");
    UNTIL_SEEN(seen.handlers[0].counts.crashed == 3 && seen.handlers[0].up == 1);
    assert_version("1.2.3");
    drain();
    figures_free(&seen);
}

static void what_people_said_outlives_a_reload(void **state)
{
    (void)state;
    start_installed();
    pool_limits(run_pool(run, 0), 3, 3);
    pool_pause(run_pool(run, 0), true);
    install("newer");
    write_yaml("    processes: 2\n");
    run_reload(run);
    UNTIL_SEEN(strcmp(seen.handlers[0].version, "2.0.0") == 0);
    assert_true(seen.handlers[0].paused && seen.handlers[0].least == 3 && seen.handlers[0].most == 3);
    struct message *m = add("version");
    pool_pause(run_pool(run, 0), false);
    UNTIL(m->over);
    assert_string_equal(m->reason, "2.0.0");
    UNTIL_SEEN(seen.handlers[0].up == 3);
    drain();
    figures_free(&seen);
}

/* Of a version that fails on them. */
static void fail_as_canary(const char *value)
{
    fake.again = true;
    fake.keyless = true;
    start_installed();
    install("worse");
    write_yaml("    canary: 50\n    canary_time: 1h\n");
    run_reload(run);
    UNTIL_SEEN(seen.handlers[0].canary_percent == 50);
    assert_string_equal(seen.handlers[0].version, "1.2.3");
    assert_string_equal(seen.handlers[0].canary_version, "3.0.0");
    size_t first = fake.count;
    for (int i = 0; i < 100; i++)
        add(value);
    UNTIL_SEEN(seen.handlers[0].versions_dropped == 1);
    unsigned failed = 0;
    for (size_t i = first; i < fake.count; i++) {
        UNTIL(fake.messages[i].over);
        failed += fake.messages[i].nacked + fake.messages[i].parked;
    }
    assert_in_range(failed, 5, 40); /* few, though half of all were its */
    assert_version("1.2.3");
    fake.again = false;
    uint64_t crashed = run_counts(run, 0)->crashed;
    add("segv"); /* nor does who starts later have it */
    UNTIL_SEEN(seen.handlers[0].counts.crashed > crashed && seen.handlers[0].up == 1);
    assert_version("1.2.3");
    drain();
    figures_free(&seen);
}

static void a_canary_that_fails_is_rolled_back(void **state)
{
    (void)state;
    fail_as_canary("say something");
}

static void a_canary_that_parks_is_rolled_back(void **state)
{
    (void)state;
    fail_as_canary("ack");
}

static void a_canary_that_crashes_is_rolled_back(void **state)
{
    (void)state;
    fail_as_canary("nap 1");
}

static void a_canary_whose_processes_end_by_themselves_is_rolled_back(void **state)
{
    (void)state;
    fake.keyless = true;
    start_installed();
    install("newer");
    write_yaml("    canary: 1\n    canary_time: 1h\n");
    run_reload(run);
    UNTIL_SEEN(seen.handlers[0].canary_percent == 1);
    assert_string_equal(seen.handlers[0].versions, "1.2.3 (1% 2.0.0)");
    for (int i = 0; i < 50; i++)
        add("ack");
    UNTIL(fake.messages[49].over);
    struct pool *p = run_pool(run, 0);
    pid_t killed = 0;
    uint64_t deadline = clock_mono_ms() + PATIENCE_MS;
    while (p->dropped == 0 && clock_mono_ms() < deadline) {
        run_turn(run);
        for (size_t i = 0; i < p->n; i++) {
            const struct child *c = p->children[i];
            if (!c->trial || c->state != CHILD_UP || c->process.pid == killed)
                continue;
            killed = c->process.pid;
            kill(killed, SIGKILL);
        }
    }
    assert_int_equal(p->dropped, 1);
    drain();
    figures_free(&seen);
}

static void a_canary_that_does_well_is_promoted(void **state)
{
    (void)state;
    fake.keyless = true;
    start_installed();
    install("newer");
    write_yaml("    canary: 50\n    canary_time: 100ms\n");
    run_reload(run);
    UNTIL_SEEN(seen.handlers[0].canary_percent == 50);
    size_t first = fake.count, by_new = 0;
    for (int i = 0; i < 100; i++)
        add("version");
    for (size_t i = first; i < fake.count; i++) {
        UNTIL(fake.messages[i].over);
        by_new += strcmp(fake.messages[i].reason, "2.0.0") == 0;
    }
    assert_in_range(by_new, 20, 100);
    UNTIL_SEEN(strcmp(seen.handlers[0].version, "2.0.0") == 0 && seen.handlers[0].canary_percent == 0);
    for (int i = 0; i < 5; i++)
        assert_version("2.0.0");
    drain();
    figures_free(&seen);
}

static void a_file_that_changed_is_tried_without_a_word(void **state)
{
    (void)state;
    config.reload_on_change = true;
    start_installed();
    install("newer");
    UNTIL_SEEN(strcmp(seen.handlers[0].version, "2.0.0") == 0);
    assert_version("2.0.0");
    write_yaml("    processes: 2\n"); /* the configuration is such a file too */
    UNTIL_SEEN(seen.reloads == 1 && seen.handlers[0].up == 2);
    drain();
    figures_free(&seen);
}

/* ---- the drain ---- */

static void a_drain_finishes_what_runs_and_gives_back_what_did_not_start(void **state)
{
    (void)state;
    struct message *runs = add(hold), *waits = add("ack"), *too = add("ack");
    start();
    UNTIL(gate_reached(&gate));
    run_drain(run);
    UNTIL(waits->released == 1 && too->released == 1);
    assert_int_equal(run_state(run), RUN_DRAINING);
    assert_false(runs->over);
    gate_pass(&gate);
    drain();
    assert_int_equal(runs->acked, 1);
    assert_int_equal(waits->acked + too->acked, 0);
    assert_int_equal(run_counts(run, 0)->done, 1);
    assert_int_equal(run_counts(run, 0)->given_back, 2);
}

static void a_drain_ends_with_its_grace(void **state)
{
    (void)state;
    config.grace_ms = 300;
    config.handlers_n = 2;
    struct message *hangs = add("hang"), *listens = add_bytes(1, "patient", 7);
    start();
    UNTIL(hangs->leased && listens->leased && run_state(run) == RUN_READY);
    drain();
    assert_int_equal(hangs->released, 1); /* it is not the handler's fault */
    assert_int_equal(hangs->nacked, 0);
    assert_int_equal(listens->nacked + listens->released, 1);
}

/* ---- what people ask ---- */

static void give(enum command_act act, uint64_t number)
{
    struct command *c = mem_zalloc(sizeof *c);
    *c = (struct command){.event.kind = EVENT_COMMAND, .number = number, .act = act};
    snprintf(c->handler, sizeof c->handler, "%s", names[0]);
    inbox_push(&fake.inbox, &c->event.node, 0);
}

static bool took(uint64_t number, bool paused)
{
    const struct figures *f = run_figures(run);
    return f != NULL && f->handlers[0].taken.number == number && f->handlers[0].paused == paused;
}

static void a_paused_handler_finishes_what_it_has_and_gives_back_what_still_comes(void **state)
{
    (void)state;
    struct message *runs = add(hold), *next = add("ack");
    start();
    UNTIL(gate_reached(&gate)); /* said once */
    UNTIL(fake.asked[0] > 0);
    give(COMMAND_PAUSE, 5);
    UNTIL(took(5, true));
    struct message *late = add("ack"); /* the answer to what was asked before */
    UNTIL(late->released == 1);
    gate_pass(&gate);
    UNTIL(runs->over && next->over);
    UNTIL(took(5, true)); /* turns later */
    assert_int_equal(fake.asked[0], 0);
    assert_int_equal(late->grants, 1);
    assert_true(runs->acked == 1 && next->acked == 1 && run_state(run) == RUN_READY);
    give(COMMAND_RESUME, 6);
    UNTIL(late->over);
    assert_true(late->acked == 1 && late->nacked == 0);
    UNTIL(took(6, false));
}

static void what_was_fetched_ahead_goes_back_when_its_handler_is_paused(void **state)
{
    (void)state;
    start_fast("ack");
    UNTIL(fake.leased_most[0] >= 4);
    give(COMMAND_PAUSE, 5);
    UNTIL(took(5, true));
    UNTIL(fake.leased[0] == 0);
    assert_int_equal(fake.asked[0], 0);
    assert_int_equal(nacks(), 0);
    uint64_t done = run_counts(run, 0)->done;
    give(COMMAND_RESUME, 6);
    UNTIL(run_counts(run, 0)->done > done + ENDLESS);
}

static void a_drain_with_nothing_to_do_is_short(void **state)
{
    (void)state;
    start();
    UNTIL(run_state(run) == RUN_READY);
    drain();
    assert_int_equal(run_counts(run, 0)->done, 0);
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
    snprintf(needed, sizeof needed, "%s/good", gate.dir);
    return 0;
}

static int remove_gate(void **state)
{
    (void)state;
    unlink(needed);
    unlink(installed);
    unlink(yaml);
    return gate_remove(&gate);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(what_a_handler_says_of_a_task_reaches_the_broker),
        RUN(texts_of_handlers_are_made_fit_to_be_stored),
        RUN(a_message_of_any_size_reaches_its_handler),
        RUN(of_slow_tasks_no_more_is_leased_than_the_children_have_places_for),
        RUN(of_fast_tasks_some_are_fetched_ahead_of_the_places),
        RUN(what_was_fetched_ahead_of_a_task_that_takes_long_goes_to_others),
        RUN(of_what_was_fetched_ahead_an_outage_burns_no_delivery),
        RUN(outcomes_that_find_no_room_are_given_again),
        RUN(outputs_and_state_reach_the_broker_with_the_ack),
        RUN(what_is_not_acknowledged_publishes_nothing),
        RUN(a_state_that_another_changed_has_the_task_run_again_uncounted),
        RUN(a_task_does_not_spin_on_a_state_that_always_changes),
        RUN(an_output_that_cannot_be_is_a_failure_that_says_why),
        RUN(what_is_refused_for_load_is_given_again_and_its_lease_kept),
        RUN(a_unit_whose_lease_is_lost_is_counted_and_left_to_who_has_it),
        RUN(a_crash_costs_its_task_one_delivery_and_the_others_none),
        RUN(processes_that_work_between_crashes_are_replaced_without_delay),
        RUN(a_crash_tells_its_last_words),
        RUN(what_another_child_can_take_is_not_given_back),
        RUN(a_crash_in_one_handler_does_not_touch_another),
        RUN(a_handler_that_hangs_is_killed_after_its_timeout),
        RUN(a_handler_that_closes_its_pipe_is_killed_and_charged),
        RUN(a_handler_sees_its_deadline_before_it_is_killed),
        RUN(a_handler_may_ask_for_more_time),
        RUN(leases_are_extended_while_a_child_works),
        RUN(a_task_whose_lease_is_lost_is_cancelled),
        RUN(a_program_whose_lease_is_lost_is_told_to_end_and_then_killed),
        RUN(an_outage_burns_a_bounded_number_of_deliveries_and_then_all_is_done),
        RUN(when_the_breaker_opens_what_runs_goes_on),
        RUN(what_runs_when_a_breaker_opens_goes_on_and_what_waits_is_given_back),
        RUN(a_handler_whose_downstream_is_out_does_not_stop_another),
        RUN(a_handler_that_does_not_start_opens_its_breaker),
        RUN(a_handler_that_cannot_be_loaded_ends_the_daemon_with_its_name),
        RUN(a_handler_that_cannot_start_is_tried_again),
        RUN(the_figures_say_what_goes_on),
        RUN(a_loop_that_is_watched_turns_in_time),
        RUN(a_paused_handler_finishes_what_it_has_and_gives_back_what_still_comes),
        RUN(a_new_version_takes_over_and_the_old_one_finishes),
        RUN(what_is_wrong_with_a_new_version_leaves_the_old_one_in_force),
        RUN(a_process_that_starts_later_is_of_the_version_in_force),
        RUN(what_people_said_outlives_a_reload),
        RUN(a_canary_that_fails_is_rolled_back),
        RUN(a_canary_that_parks_is_rolled_back),
        RUN(a_canary_that_crashes_is_rolled_back),
        RUN(a_canary_whose_processes_end_by_themselves_is_rolled_back),
        RUN(a_canary_that_does_well_is_promoted),
        RUN(a_file_that_changed_is_tried_without_a_word),
        RUN(a_drain_finishes_what_runs_and_gives_back_what_did_not_start),
        RUN(a_drain_ends_with_its_grace),
        RUN(what_was_fetched_ahead_goes_back_when_its_handler_is_paused),
        RUN(a_drain_with_nothing_to_do_is_short),
    };
    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}
