/*
 * Handlers that do harm (workerd_rogue.c), all side by side in one loop with good messages behind each: it
 * costs them their message, with the reason, and nothing else.
 */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/family.h"
#include "workerd/run.h"
#include "workerd/supervise.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { HANDLERS_MAX = 64, MESSAGES_MAX = 512, PATIENCE_MS = 25000, MIB = 1 << 20 };

/* ---- the source: a stock of messages, each delivered until there is an outcome but "give back" ---- */

struct message {
    uint32_t handler;
    char value[160];
    bool leased, over;
    unsigned acked, nacked, parked;
    char error[512];
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
    uint32_t asked[HANDLERS_MAX];
    struct fetched answers[HANDLERS_MAX];
    bool stopped;
    struct event connected;
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
        o->task = (struct task){.handler = handler,
                                .attempt = 1,
                                .offset = i,
                                .value = view_of(m->value, strlen(m->value)),
                                .leased_ms = clock_mono_ms()};
        m->leased = true;
        places--;
        list_push_back(&f->tasks, &o->task.place);
    }
    if (!fake.stopped && list_empty(&f->tasks))
        return;
    fake.asked[handler] = 0;
    inbox_push(&fake.inbox, &f->event.node, 0);
}

static void fake_ask(struct source *s, uint32_t handler, uint32_t places)
{
    (void)s;
    fake.asked[handler] = places;
    answer_ask(handler);
}

static void take_outcome(struct outcome *o)
{
    struct message *m = container_of(o->task, struct owned, task)->message;
    o->code = 0;
    if (o->verb == OUTCOME_EXTEND)
        return;
    m->acked += o->verb == OUTCOME_ACK;
    m->nacked += o->verb == OUTCOME_NACK;
    m->parked += o->verb == OUTCOME_PARK;
    snprintf(m->error, sizeof m->error, "%s", o->task->error != NULL ? o->task->error : "");
    m->leased = false;
    m->over = o->verb != OUTCOME_RELEASE;
}

static void fake_settle(struct source *s, struct outcome *const *outcomes, size_t count)
{
    (void)s;
    for (size_t i = 0; i < count; i++) {
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
    mem_free(container_of(t, struct owned, task));
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

static struct message *add(uint32_t handler, const char *value)
{
    struct message *m = &fake.messages[fake.count++];
    assert_true(fake.count <= MESSAGES_MAX);
    *m = (struct message){.handler = handler};
    snprintf(m->value, sizeof m->value, "%s", value);
    if (fake.asked[handler] > 0)
        answer_ask(handler);
    return m;
}

/* ---- the loop ---- */

static char dir[] = "/tmp/sluice-unit-XXXXXX";
static char exe[512], rogue[512];
static char topic[] = "t", group[] = "g", no_config[] = "{}";
static char names[HANDLERS_MAX][16];
static struct config config;
static struct handler_config handlers[HANDLERS_MAX];
static struct run *run;

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
        snprintf(names[h], sizeof names[h], "h%u", h);
        handlers[h] = (struct handler_config){.name = names[h],
                                              .file = rogue,
                                              .topic = topic,
                                              .group = group,
                                              .processes = 1,
                                              .pipeline = 4,
                                              .timeout_ms = 60000,
                                              .lease_ms = 60000,
                                              .jail.profile = JAIL_DEFAULT,
                                              .config = no_config};
    }
    config = (struct config){.grace_ms = 10000, .handlers = handlers};
    run = NULL;
    return inbox_init(&fake.inbox, 0, NULL);
}

static void start(size_t count)
{
    config.handlers_n = count;
    run = run_new(&(struct run_options){
        .config = &config, .exe = exe, .source = &fake.source, .inbox = &fake.inbox, .signals = -1});
    inbox_push(&fake.inbox, &fake.connected.node, 0);
}

/* Lets the loop turn until something is true; it turns once a second at least. */
#define UNTIL_OF(what, condition)                                          \
    do {                                                                   \
        uint64_t deadline = clock_mono_ms() + PATIENCE_MS;                 \
        while (!(condition)) {                                             \
            run_turn(run);                                                 \
            if (clock_mono_ms() > deadline)                                \
                fail_msg("%s: waited in vain for %s", (what), #condition); \
        }                                                                  \
    } while (0)
#define UNTIL(condition) UNTIL_OF("all", condition)

static int tear_down(void **state)
{
    (void)state;
    if (run != NULL) {
        if (run_state(run) < RUN_DONE) {
            run_drain(run);
            UNTIL(run_state(run) >= RUN_DONE);
        }
        run_free(run);
    }
    inbox_drain(&fake.inbox);
    inbox_free(&fake.inbox);
    return 0;
}

/* ---- every harm there is ---- */

static const struct row {
    const char *value; /* PATH: a FIFO of its own */
    const char *error; /* is in the text that stands with the message */
    enum outcome_verb outcome;
    uint32_t timeout_ms; /* 0: long */
    struct jail jail;
} rows[] = { /* 4 s: a process that has something to say first gets there also on a slow machine, where all these start at once */
    {"segv", "killed by SIGSEGV (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"overflow", "killed by SIGSEGV (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"abort", "killed by SIGABRT (version 6.6.6): assertion failed", OUTCOME_NACK, 0, {0}},
    {"exit 0", "exited with 0 (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"exit 3", "exited with 3 (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"kill 9", "killed by SIGKILL (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"leave", "timeout after 4s (version 6.6.6, ", OUTCOME_NACK, 4000, {0}},
    {"hang", "timeout after 4s (version 6.6.6, at 40 % halfway)", OUTCOME_NACK, 4000, {0}},
    {"freeze", "timeout after 4s (version 6.6.6)", OUTCOME_NACK, 4000, {0}},
    {"burn", "killed by SIGXCPU (its cpu_time of 1s was over)", OUTCOME_NACK, 0, {.cpu_ms = 1000}},
    {"leak",
     SANITIZED ? "more than 64MiB of memory" : " MiB of its memory limit, 64MiB) (version 6.6.6): no memory",
     OUTCOME_NACK,
     0,
     {.memory_bytes = 64 * MIB}},
    {"crowd", "more than 64MiB of memory (version 6.6.6)", OUTCOME_NACK, 0, {.memory_bytes = 64 * MIB}},
    {"bomb PATH", "more than 40 processes and threads: processes_limit", OUTCOME_NACK, 0, {.tasks = 40}},
    {"scatter PATH", "killed by SIGSEGV (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"hide PATH", "killed by SIGSEGV (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"orphan PATH", "exited with 4 (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"close", "exited with 2 (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"garbage", "it sent damaged packets (version 6.6.6)", OUTCOME_NACK, 0, {0}},
    {"babble", "timeout after 4s (version 6.6.6): ", OUTCOME_NACK, 4000, {0}},
    {"line", "killed by SIGABRT (version 6.6.6): ", OUTCOME_NACK, 0, {0}},
    {"brim", "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", OUTCOME_NACK, 0, {0}},
    {"shout", "", OUTCOME_ACK, 0, {0}},
    {"files", "Too many open files after 63", OUTCOME_PARK, 0, {.open_files = 64}},
    {"grow PATH.file",
     "killed by SIGXFSZ (a file became larger than file_size, 1MiB)",
     OUTCOME_NACK,
     0,
     {.file_bytes = MIB}},
    {"socket", "", OUTCOME_ACK, 0, {0}},
    {"spawn", "", OUTCOME_ACK, 0, {0}},
    {"thread", "", OUTCOME_ACK, 0, {.profile = JAIL_STRICT}},
    {"socket",
     "killed by SIGSYS (a system call that the seccomp profile strict refuses) (version 6.6.6): "
     "the seccomp profile strict refuses socket",
     OUTCOME_NACK,
     0,
     {.profile = JAIL_STRICT}},
    {"spawn",
     SANITIZED ? "" : "killed by SIGSYS (a system call that the seccomp profile strict refuses) (version 6.6.6)",
     OUTCOME_NACK,
     0,
     {.profile = JAIL_STRICT}},
    {"try ptrace", SANITIZED ? "ptrace: " : "ptrace: EPERM", OUTCOME_PARK, 0, {0}},
    {"try unshare", "unshare: EPERM", OUTCOME_PARK, 0, {0}},
    {"try kill", "kill: EPERM", OUTCOME_PARK, 0, {0}},
    {"try device", "device: EPERM", OUTCOME_PARK, 0, {0}},
    {"try fifo", "fifo: ENOTDIR", OUTCOME_PARK, 0, {0}},
};

enum { ROWS = ARRAY_LEN(rows), GOOD = 20 };

static struct message *harm[ROWS], *behind[ROWS];
static char fifos[ROWS][64];
static int ends[ROWS]; /* where it is read; -1: not in this row */

static void add_row(uint32_t i)
{
    const struct row *r = &rows[i];
    const char *path = strstr(r->value, "PATH");
    char value[160];
    snprintf(value, sizeof value, "%s", r->value);
    ends[i] = -1;
    if (path != NULL) {
        snprintf(fifos[i], sizeof fifos[i], "%s/%u", dir, i);
        snprintf(value, sizeof value, "%.*s%s%s", (int)(path - r->value), r->value, fifos[i], path + 4);
        assert_int_equal(mkfifo(fifos[i], 0600), 0);
        if (path[4] == '\0')
            ends[i] = open(fifos[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    }
    handlers[i].jail = r->jail;
    if (r->jail.profile == JAIL_OFF)
        handlers[i].jail.profile = JAIL_DEFAULT;
    handlers[i].timeout_ms = r->timeout_ms != 0 ? r->timeout_ms : 60000;
    harm[i] = add(i, value);
    behind[i] = add(i, "ack");
}

/* Nobody that the row started lives any more. */
static bool all_dead(int end)
{
    char byte;
    ssize_t n;
    while ((n = read(end, &byte, 1)) > 0)
        continue;
    return n == 0;
}

static size_t children_of_ours(void)
{
    size_t n = 0;
    FILE *f = fopen("/proc/thread-self/children", "r");
    for (int pid; f != NULL && fscanf(f, "%d", &pid) == 1;)
        n++;
    fclose(f);
    return n;
}

static void whatever_a_handler_does_costs_its_message_one_delivery_and_nothing_else(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++)
        add_row(i);
    for (int i = 0; i < GOOD; i++)
        add(ROWS, "ack");
    start(ROWS + 1);
    unsigned wrong = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        UNTIL_OF(rows[i].value, harm[i]->over);
        UNTIL_OF(rows[i].value, behind[i]->over);
        bool as_expected = strstr(harm[i]->error, rows[i].error) != NULL &&
                           harm[i]->acked == (rows[i].outcome == OUTCOME_ACK) &&
                           harm[i]->nacked == (rows[i].outcome == OUTCOME_NACK) &&
                           harm[i]->parked == (rows[i].outcome == OUTCOME_PARK) && behind[i]->acked == 1 &&
                           behind[i]->nacked + behind[i]->parked == 0;
        wrong += !as_expected;
        if (!as_expected)
            print_error("%s: %u acked, %u nacked, %u parked; behind it %u acked, %u nacked; '%s', not '%s'\n",
                        rows[i].value, harm[i]->acked, harm[i]->nacked, harm[i]->parked, behind[i]->acked,
                        behind[i]->nacked, harm[i]->error, rows[i].error);
        if (ends[i] >= 0)
            UNTIL_OF(rows[i].value, all_dead(ends[i]));
    }
    assert_int_equal(wrong, 0);
    for (size_t i = 2 * ROWS; i < fake.count; i++) {
        assert_int_equal(fake.messages[i].acked, 1);
        assert_int_equal(fake.messages[i].nacked, 0);
    }
    UNTIL(children_of_ours() == ROWS + 1); /* of all that they started only they are left */
    uint64_t drain_ms = clock_mono_ms();
    run_drain(run);
    UNTIL(run_state(run) >= RUN_DONE);
    assert_true(clock_mono_ms() - drain_ms < config.grace_ms); /* nobody had to be killed */
    for (uint32_t i = 0; i < ROWS; i++) {
        char file[80];
        snprintf(file, sizeof file, "%.63s.file", fifos[i]);
        if (ends[i] >= 0)
            close(ends[i]);
        if (fifos[i][0] != '\0') {
            unlink(file);
            unlink(fifos[i]);
        }
    }
}

/* Its end is not told before its tracer, which is us, let go of it. */
static void a_handler_without_a_profile_that_has_itself_traced_is_seen_to_end(void **state)
{
    (void)state;
    handlers[0].jail.profile = JAIL_OFF;
    struct message *m = add(0, "try ptrace"), *ends_it = add(0, "exit 3"), *after = add(0, "ack");
    start(1);
    UNTIL(m->over && ends_it->over && after->over);
    assert_string_equal(m->error, "ptrace: done");
    assert_int_equal(ends_it->nacked, 1);
    assert_int_equal(after->acked, 1);
}

/* ---- and leaves nothing behind in us ---- */

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void two_hundred_crashes_leave_no_descriptor_process_or_memory_behind(void **state)
{
    (void)state;
    enum { COUNT = 50, CRASHES = 4 };
    size_t descriptors = 0, processes = 0, memory = 0;
    start(COUNT);
    for (int round = 0; round <= CRASHES; round++) {
        size_t first = fake.count;
        for (uint32_t h = 0; h < COUNT; h++) {
            if (round > 0)
                add(h, "segv");
            add(h, "ack");
        }
        for (size_t i = first; i < fake.count; i++)
            UNTIL(fake.messages[i].over);
        if (round == 1) { /* buffers have grown to what they need */
            descriptors = open_descriptors();
            UNTIL(children_of_ours() == COUNT);
            processes = COUNT;
            memory = mallinfo2().uordblks;
        }
    }
    unsigned nacked = 0;
    for (size_t i = 0; i < fake.count; i++)
        nacked += fake.messages[i].nacked;
    assert_int_equal(nacked, COUNT * CRASHES);
    assert_int_equal(open_descriptors(), descriptors);
    UNTIL(children_of_ours() == processes);
    assert_true(mallinfo2().uordblks <= memory + 64 * 1024);
}

/* ---- and costs its neighbours no time ---- */

static char said[64];
static uint64_t answered[2]; /* the ids of the last two, the last one first */

static void never_mind_start(struct child *c, int code, const char *text)
{
    (void)c, (void)code, (void)text;
}

static void hear_verdict(struct child *c, struct task *t, const struct plugin_packet *p)
{
    (void)c;
    answered[1] = answered[0];
    answered[0] = t->id;
    snprintf(said, sizeof said, "%.*s", (int)p->verdict.error.size, (const char *)p->verdict.error.data);
}

static void hear_end(struct child *c, bool each, const char *how)
{
    (void)each, (void)how;
    snprintf(said, sizeof said, "ended");
    while (list_pop_front(&c->tasks) != NULL)
        continue;
}

/* Starts it if it is down; what it says to a message, or "ended". The child's time is `now_ms` all the while. */
static const char *ask_child(struct child *c, const char *value, uint64_t now_ms)
{
    static uint64_t id;
    struct task t = {.id = ++id, .attempt = 1, .value = view_of(value, strlen(value))}, *tasks[] = {&t};
    struct err e;
    size_t failed;
    said[0] = '\0';
    if (c->state == CHILD_DOWN)
        child_start(c, now_ms);
    for (bool sent = false; said[0] == '\0';) {
        struct pollfd fds[CHILD_FDS];
        if (c->state == CHILD_UP && !sent)
            assert_int_equal(child_send(c, tasks, 1, now_ms, &failed, &e), 0);
        sent |= c->state == CHILD_UP;
        child_flush(c);
        child_poll(c, fds);
        assert_true(poll(fds, CHILD_FDS, PATIENCE_MS) > 0);
        child_step(c, fds, now_ms);
    }
    return said;
}

static int nice_behind(void)
{
    int more = getpriority(PRIO_PROCESS, 0) + PROCESS_NICE;
    return more < 19 ? more : 19;
}

/* A minute is what it takes to be believed, so time is the test's. */
static void a_handler_that_falls_again_and_again_runs_behind_the_others_until_it_goes_well(void **state)
{
    (void)state;
    static const struct child_events events = {.started = never_mind_start, .verdict = hear_verdict, .ended = hear_end};
    struct child c;
    char as_we[64], behind_us[64];
    int ours = getpriority(PRIO_PROCESS, 0), more = nice_behind();
    snprintf(as_we, sizeof as_we, "%d to %d, none last", ours, ours);
    snprintf(behind_us, sizeof behind_us, "%d to %d, %s last", more, more, process_may_raise(false) ? "all" : "none");
    child_init(&c, &handlers[0], exe, &events, NULL);
    uint64_t now = 1000;
    assert_string_equal(ask_child(&c, "nice", now), as_we);
    assert_string_equal(ask_child(&c, "segv", now += CHILD_TROUBLE_MS), "ended");
    assert_string_equal(ask_child(&c, "nice", now += 100), as_we); /* once is no habit */
    assert_string_equal(ask_child(&c, "segv", now += CHILD_TROUBLE_MS - 1), "ended");
    assert_string_equal(ask_child(&c, "nice", now += 100), behind_us);
    assert_string_equal(ask_child(&c, "nice", now += CHILD_TROUBLE_MS - 1), behind_us);
    ask_child(&c, "nice", now += 1);
    if (process_may_raise(false))
        assert_string_equal(ask_child(&c, "nice", now), as_we);
    else
        print_message("this is not root: not seen is that a process runs as the others again, which takes privilege\n");
    assert_string_equal(ask_child(&c, "segv", now), "ended");
    assert_string_equal(ask_child(&c, "nice", now), as_we);
    child_free(&c);
}

struct stand {
    unsigned n, last;
    int least_nice;
};

static void look_how_it_stands(pid_t pid, void *user)
{
    struct stand *s = user;
    int nice = getpriority(PRIO_PROCESS, (id_t)pid);
    s->n++;
    s->last += sched_getscheduler(pid) == SCHED_IDLE;
    s->least_nice = nice < s->least_nice ? nice : s->least_nice;
}

static struct stand how_it_stands(const struct child *c)
{
    struct stand s = {.least_nice = 19};
    family_each(c->process.pid, look_how_it_stands, &s);
    return s;
}

/* As on a machine on which nobody else leaves it a processor: what it takes for a step there is not seen, time goes on. */
static void who_stands_last_and_comes_to_nothing_gets_its_share_with_all_that_it_started(void **state)
{
    (void)state;
    static const struct child_events events = {.started = never_mind_start, .verdict = hear_verdict, .ended = hear_end};
    static const struct pollfd nothing[CHILD_FDS];
    struct child c;
    struct err e;
    size_t failed;
    struct task t = {.id = UINT64_MAX, .attempt = 1, .value = VIEW_LIT("pair")}, *tasks[] = {&t};
    if (!process_may_raise(false)) {
        print_message("this is not root: not seen is that a process that stands last gets its share, which takes privilege\n");
        return;
    }
    child_init(&c, &handlers[0], exe, &events, NULL);
    uint64_t now = 1000;
    ask_child(&c, "segv", now);
    ask_child(&c, "segv", now += 1);
    child_start(&c, now += 1);
    assert_int_equal(how_it_stands(&c).last, 1);
    child_step(&c, nothing, now += CHILD_LAST_MS_MAX - 1);
    assert_int_equal(how_it_stands(&c).last, 1);
    assert_int_equal(child_due_ms(&c), now + 1);
    child_step(&c, nothing, now += 1); /* it does not come to its start */
    assert_int_equal(how_it_stands(&c).last, 0);
    assert_non_null(strstr(ask_child(&c, "nice", now), "all last")); /* a call is another chance */
    assert_int_equal(child_send(&c, tasks, 1, now, &failed, &e), 0);
    child_flush(&c);
    for (uint64_t deadline = clock_mono_ms() + PATIENCE_MS; how_it_stands(&c).n < 2;)
        assert_true(clock_mono_ms() < deadline);
    assert_int_equal(how_it_stands(&c).last, 2);
    child_step(&c, nothing, now += CHILD_LAST_MS_MAX);
    struct stand s = how_it_stands(&c);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.last, 0);
    assert_int_equal(s.least_nice, nice_behind()); /* but still behind */
    list_remove(&t.place);
    child_free(&c);
    family_end();
}

/* Two that fell, and the third one: with one call of a handler that hangs. */
static void start_behind(struct child *c, struct task *t, uint64_t now_ms)
{
    static const struct child_events events = {.started = never_mind_start, .verdict = hear_verdict, .ended = hear_end};
    struct err e;
    size_t failed;
    child_init(c, &handlers[0], exe, &events, NULL);
    ask_child(c, "segv", now_ms);
    ask_child(c, "segv", now_ms);
    ask_child(c, "nice", now_ms);
    *t = (struct task){.id = UINT64_MAX, .attempt = 1, .value = VIEW_LIT("hang")};
    assert_int_equal(child_send(c, &t, 1, now_ms, &failed, &e), 0);
}

static void step_until_answered(struct child *c, uint64_t id, uint64_t now_ms)
{
    while (answered[0] != id) {
        struct pollfd fds[CHILD_FDS];
        child_flush(c);
        child_poll(c, fds);
        assert_true(poll(fds, CHILD_FDS, PATIENCE_MS) > 0);
        fds[0].revents = 0; /* its end is not looked at */
        child_step(c, fds, now_ms);
    }
}

static void the_share_of_a_call_is_not_put_off_by_those_that_begin_beside_it(void **state)
{
    (void)state;
    struct child c;
    struct task t;
    uint64_t now = 1000;
    if (!process_may_raise(false))
        return;
    handlers[0].threads = 2;
    start_behind(&c, &t, now);
    assert_int_equal(c.rank, PROCESS_LAST);
    assert_int_equal(child_due_ms(&c), now + CHILD_LAST_MS_MAX);
    ask_child(&c, "nice", now + CHILD_LAST_MS_MAX - 1);
    assert_int_equal(child_due_ms(&c), now + CHILD_LAST_MS_MAX);
    child_step(&c, (struct pollfd[CHILD_FDS]){0}, now += CHILD_LAST_MS_MAX);
    assert_int_equal(c.rank, PROCESS_BEHIND);
    ask_child(&c, "nice", now);
    assert_int_equal(c.rank, PROCESS_BEHIND);
    list_remove(&t.place);
    child_free(&c);
}

static void who_is_to_end_does_not_stand_last_when_its_call_is_over(void **state)
{
    (void)state;
    struct child c;
    struct task t, last = {.id = UINT64_MAX - 1, .attempt = 1, .value = VIEW_LIT("ack")}, *tasks[] = {&last};
    struct err e;
    size_t failed;
    if (!process_may_raise(false))
        return;
    handlers[0].threads = 2;
    start_behind(&c, &t, 1000);
    assert_int_equal(child_send(&c, tasks, 1, 1000, &failed, &e), 0);
    child_stop(&c);
    step_until_answered(&c, last.id, 1000);
    assert_int_equal(c.rank, PROCESS_BEHIND);
    list_remove(&t.place);
    child_free(&c);
}

/* Whoever begins between two of them begins behind those that are in front of it. */
static void what_is_called_back_comes_from_the_end(void **state)
{
    (void)state;
    struct child c;
    struct task t, more[2] = {{.id = 1, .value = VIEW_LIT("ack")}, {.id = 2, .value = VIEW_LIT("ack")}};
    struct err e;
    size_t failed;
    start_behind(&c, &t, 1000);
    for (int i = 0; i < 2; i++)
        assert_int_equal(child_send(&c, (struct task *[]){&more[i]}, 1, 1000, &failed, &e), 0);
    child_recall(&c);
    step_until_answered(&c, 1, 1000);
    assert_int_equal(answered[1], 2);
    list_remove(&t.place);
    child_free(&c);
}

/* There root has privileges, but not that of raising a rank. */
static void in_a_namespace_of_users_no_rank_is_lowered_that_cannot_be_raised(void **state)
{
    (void)state;
    static const struct rlimit none = {0};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_NICE, &none);
        _exit(unshare(CLONE_NEWUSER) == 0 && process_may_raise(false));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- and does nothing to who is not its own ---- */

/* A process without a mark that the end of its parent makes a child of ours. */
static pid_t start_stranger(void)
{
    int way[2];
    pid_t stranger = 0;
    assert_int_equal(pipe(way), 0);
    pid_t parent = fork();
    if (parent == 0) {
        pid_t pid = fork();
        if (pid != 0)
            _exit(write(way[1], &pid, sizeof pid) != sizeof pid);
        alarm(600); /* should nobody end it */
        for (int fd = 0; fd < 3; fd++)
            close(fd); /* nobody waits for what it might say */
        for (;;)
            pause();
    }
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_int_equal(read(way[0], &stranger, sizeof stranger), sizeof stranger);
    close(way[0]);
    close(way[1]);
    return stranger;
}

static void a_process_of_somebody_else_that_comes_to_us_is_left_alone_and_reaped_when_it_ends(void **state)
{
    (void)state;
    enum { CRASHES = 3 }; /* with a sweep each; who is without a mark twice would be killed */
    struct message *m = add(0, "ack");
    start(1);
    UNTIL(m->over && children_of_ours() == 1); /* those of before have left the table */
    pid_t stranger = start_stranger();
    size_t n = children_of_ours();
    for (int i = 0; i < CRASHES; i++) {
        m = add(0, "segv");
        struct message *after = add(0, "ack");
        UNTIL(m->over && after->over);
    }
    assert_int_equal(kill(stranger, 0), 0);
    UNTIL(children_of_ours() == n);
    kill(stranger, SIGKILL);
    UNTIL(kill(stranger, 0) != 0);
}

/* ---- a user of its own ---- */

static void copy_rogue(char *to, size_t size)
{
    static char bytes[MIB];
    snprintf(to, size, "%s/rogue.so", dir);
    int in = open(rogue, O_RDONLY), out = open(to, O_CREAT | O_WRONLY, 0644);
    for (ssize_t n; (n = read(in, bytes, sizeof bytes)) > 0;)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

static void a_handler_of_its_own_user_has_nothing_of_the_daemons(void **state)
{
    (void)state;
    char file[80], nobody[] = "nobody", expected[200];
    struct err e;
    if (geteuid() != 0) {
        print_message("this is not root: seen is that 'user' is refused, not what a handler of another user has\n");
        assert_int_equal(jail_user_check(nobody, &e), E_CONFIG);
        assert_has(e.text, "only root can run handlers as another user");
        return;
    }
    assert_int_equal(jail_user_check("no-such-user", &e), E_CONFIG);
    assert_string_equal(e.text, "'no-such-user': there is no such user");
    chmod(dir, 0755);
    copy_rogue(file, sizeof file);
    handlers[0].file = file;
    handlers[0].jail = (struct jail){.user = nobody, .tasks = 100, .profile = JAIL_DEFAULT};
    struct message *m = add(0, "who");
    struct message *crash = add(0, "segv"), *again = add(0, "who");
    start(1);
    UNTIL(m->over && crash->over && again->over);
    snprintf(expected, sizeof expected, "uid %u gid %u groups 1 home %s core 0 nproc limited",
             (unsigned)getpwnam(nobody)->pw_uid, (unsigned)getpwnam(nobody)->pw_gid, getpwnam(nobody)->pw_dir);
    assert_string_equal(m->error, expected);
    assert_string_equal(again->error, expected);
    assert_has(crash->error, "killed by SIGSEGV");
    unlink(file);
}

/* ---- */

static int make_dir(void **state)
{
    (void)state;
    snprintf(exe, sizeof exe, "%s/sluice-workerd", getenv("SLUICE_BIN"));
    snprintf(rogue, sizeof rogue, "%s/rogue.so", getenv("TEST_HANDLERS"));
    log_setup("unit", LOG_ERROR); /* some say much */
    if (SANITIZED)
        print_message("with AddressSanitizer there is no RLIMIT_DATA, and ptrace and fork are not refused: seen are the look at memory, and exec\n");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(whatever_a_handler_does_costs_its_message_one_delivery_and_nothing_else),
        RUN(a_handler_without_a_profile_that_has_itself_traced_is_seen_to_end),
        RUN(two_hundred_crashes_leave_no_descriptor_process_or_memory_behind),
        RUN(a_handler_that_falls_again_and_again_runs_behind_the_others_until_it_goes_well),
        RUN(who_stands_last_and_comes_to_nothing_gets_its_share_with_all_that_it_started),
        RUN(the_share_of_a_call_is_not_put_off_by_those_that_begin_beside_it),
        RUN(who_is_to_end_does_not_stand_last_when_its_call_is_over),
        RUN(what_is_called_back_comes_from_the_end),
        RUN(in_a_namespace_of_users_no_rank_is_lowered_that_cannot_be_raised),
        RUN(a_process_of_somebody_else_that_comes_to_us_is_left_alone_and_reaped_when_it_ends),
        RUN(a_handler_of_its_own_user_has_nothing_of_the_daemons),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
