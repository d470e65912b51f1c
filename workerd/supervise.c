#include "workerd/supervise.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/units.h"
#include "schemas/errors.h"
#include "workerd/family.h"

enum {
    FILLS_MAX = 16, /* reads of the pipe in one step, so that no child holds up the others */
    ALLOWANCE_MS_MAX = 1000,
    HANG_UP_MS_MAX = 1000,
    LOOK_MS = 250,
    /* What can lie in a pipe when its writer has ended; more is of somebody who outlived it. */
    REST_READS_MAX = 16,
    REST_FILLS_MAX = 256,
    ARENA_BYTES_MAX = 1 << 20,
    CALLS_AHEAD = 2, /* batches of one thread: one runs, the next is there when it is over */
};

void child_init(struct child *c, const struct handler_config *config, const char *exe,
                const struct child_events *events, void *user)
{
    *c = (struct child){.config = config,
                        .exe = exe,
                        .events = events,
                        .user = user,
                        .file = -1,
                        .state = CHILD_DOWN,
                        .threads = config->threads > 0 ? config->threads : 1,
                        .kill_ms = UINT64_MAX};
    c->runs = mem_array(c->threads, sizeof *c->runs);
    c->restart_ms = c->look_ms = c->share_ms = UINT64_MAX;
    list_init(&c->tasks);
    pipe_init(&c->pipe, -1, false);
    c->process = (struct process){.pidfd = -1, .pipe = -1, .output = -1};
}

/* ---- how it stands beside others ---- */

static void stand(struct child *c, enum process_rank rank)
{
    if (c->rank != rank && process_stand(&c->process, rank))
        c->rank = rank;
}

/* Who is behind stands last, if that can be taken back, until `share_ms`; not who is to end, for that others wait. */
static void stand_last(struct child *c, uint64_t share_ms)
{
    c->share_ms = UINT64_MAX;
    if (c->state == CHILD_STOPPING || c->killed_for[0] != '\0')
        return;
    if (c->rank == PROCESS_BEHIND && c->may_raise)
        stand(c, PROCESS_LAST);
    if (c->rank == PROCESS_LAST)
        c->share_ms = share_ms;
}

/* It waits for a processor, or works, for long. */
static void take_share(struct child *c)
{
    c->share_ms = UINT64_MAX;
    if (c->rank == PROCESS_LAST)
        stand(c, PROCESS_BEHIND);
}

static bool lived_long(const struct child *c, uint64_t now_ms)
{
    return now_ms - c->started_ms >= CHILD_TROUBLE_MS;
}

/* It goes well again. Who may not say so to the system leaves it where it is until it is started anew. */
static void step_forward(struct child *c)
{
    c->rank = PROCESS_EQUAL;
    c->share_ms = UINT64_MAX;
    if (process_stand(&c->process, PROCESS_EQUAL))
        log_info("child runs as the others do handler=%s pid=%d", c->config->name, (int)c->process.pid);
}

/* ---- time ---- */

/* A handler that looks at its deadline gets this long to return by itself before it is killed. */
static uint32_t allowance_ms(const struct child *c)
{
    uint32_t tenth = c->config->timeout_ms / 10;
    return tenth < ALLOWANCE_MS_MAX ? tenth : ALLOWANCE_MS_MAX;
}

static bool same_call(const struct child *c, const struct list_node *n, uint32_t call)
{
    return n != &c->tasks.head && container_of(n, struct task, place)->call == call;
}

static void kill_for(struct child *c, const char *why);

/* When the first of the calls that run has taken too long. */
static void reckon_kill_ms(struct child *c)
{
    if (c->hung_up || c->killed_for[0] != '\0')
        return;
    c->kill_ms = UINT64_MAX;
    for (size_t i = 0; i < c->runs_n; i++) {
        if (c->runs[i].kill_ms < c->kill_ms)
            c->kill_ms = c->runs[i].kill_ms;
    }
}

static uint64_t share_ms(const struct child *c, uint64_t began_ms)
{
    uint32_t tenth = c->config->timeout_ms / 10;
    return began_ms + (tenth < CHILD_LAST_MS_MAX ? tenth : CHILD_LAST_MS_MAX);
}

/* What one call waits for is not put off by those that begin beside it, nor taken away again. */
static void stand_as_calls_want(struct child *c, uint64_t now_ms)
{
    uint64_t due_ms = c->runs_n > 0 ? share_ms(c, c->runs[0].began_ms) : UINT64_MAX;
    if (due_ms > now_ms)
        stand_last(c, due_ms);
    else
        take_share(c);
}

/* Calls begin in the order in which they were sent, as soon as a thread is free. */
static void begin_calls(struct child *c, uint64_t now_ms)
{
    struct child_call *last = NULL;
    if (c->runs_n == 0)
        words_forget(&c->words);
    LIST_EACH (n, &c->tasks) {
        struct task *t = container_of(n, struct task, place);
        if (t->runs)
            continue;
        if (last == NULL || last->number != t->call) {
            if (c->runs_n == c->threads)
                break;
            last = &c->runs[c->runs_n++];
            *last = (struct child_call){.number = t->call,
                                        .began_ms = now_ms,
                                        .kill_ms = now_ms + c->config->timeout_ms + allowance_ms(c)};
        }
        t->runs = true;
        t->began_ms = now_ms;
    }
    reckon_kill_ms(c);
    stand_as_calls_want(c, now_ms);
}

/* NULL: it does not run. */
static struct child_call *call_of(const struct child *c, const struct task *t)
{
    for (size_t i = 0; i < c->runs_n && child_runs(c, t); i++) {
        if (c->runs[i].number == t->call)
            return &c->runs[i];
    }
    return NULL;
}

static void end_call(struct child *c, const struct child_call *call)
{
    size_t i = (size_t)(call - c->runs);
    memmove(&c->runs[i], &c->runs[i + 1], (--c->runs_n - i) * sizeof *c->runs);
}

uint64_t child_due_ms(const struct child *c)
{
    if (c->state == CHILD_DOWN)
        return c->restart_ms;
    uint64_t due = c->kill_ms < c->look_ms ? c->kill_ms : c->look_ms;
    due = c->share_ms < due ? c->share_ms : due;
    uint64_t of_words = words_due_ms(&c->words);
    return of_words < due ? of_words : due;
}

/* ---- what it and all below it take ---- */

static bool is_limited(const struct child *c)
{
    return c->config->jail.tasks != 0 || c->config->jail.memory_bytes != 0;
}

static void look_on(struct child *c, uint64_t now_ms)
{
    c->look_ms = is_limited(c) ? now_ms + LOOK_MS : UINT64_MAX;
}

/* Looks go on while it works, or something that it started does. */
static void look(struct child *c, uint64_t now_ms)
{
    const struct jail *j = &c->config->jail;
    struct family_size size = family_size(c->process.pid);
    char why[sizeof c->killed_for], text[UNITS_TEXT_MAX];
    c->look_ms = UINT64_MAX;
    if (j->tasks != 0 && size.tasks > j->tasks) {
        snprintf(why, sizeof why, "more than %" PRIu32 " processes and threads: processes_limit", j->tasks);
        kill_for(c, why);
    } else if (j->memory_bytes != 0 && size.memory_bytes > j->memory_bytes) {
        snprintf(why, sizeof why, "more than %s of memory", size_format(text, j->memory_bytes));
        kill_for(c, why);
    } else if (c->state == CHILD_STARTING || c->tasks_n > 0 || size.processes > 0) {
        look_on(c, now_ms);
    }
}

/* ---- the process ---- */

static void send_start(struct child *c)
{
    const struct handler_config *h = c->config;
    struct err e;
    if (pipe_put(&c->pipe,
                 &(struct plugin_packet){.kind = PLUGIN_START,
                                         .start = {.path = view_of_str(h->file),
                                                   .exec = view_of(h->exec, h->exec_size),
                                                   .dir = view_of_str(h->dir),
                                                   .name = view_of_str(h->name),
                                                   .config = view_of_str(h->config),
                                                   .threads = c->threads,
                                                   .timeout_ms = h->timeout_ms,
                                                   .memory_bytes = h->jail.memory_bytes,
                                                   .file_bytes = h->jail.file_bytes,
                                                   .cpu_ms = h->jail.cpu_ms,
                                                   .open_files = h->jail.open_files,
                                                   .tasks = h->jail.tasks,
                                                   .user = view_of_str(h->jail.user),
                                                   .seccomp = (uint8_t)h->jail.profile}},
                 &e) != 0)
        child_kill(c, e.text);
}

void child_again(struct child *c)
{
    if (c->state != CHILD_DOWN)
        return;
    c->restart_ms = 0;
    c->backoff_ms = c->backoff_before_ms;
}

/* After a failure to start, or an end: the next try. */
static void back_off(struct child *c, uint64_t now_ms)
{
    bool steady = c->was_useful || (c->started_ms != 0 && now_ms - c->started_ms >= CHILD_STEADY_MS);
    uint32_t doubled = 2 * c->backoff_ms;
    c->backoff_before_ms = c->backoff_ms;
    if (steady || c->backoff_ms == 0)
        c->backoff_ms = CHILD_BACKOFF_MS_MIN;
    else
        c->backoff_ms = doubled < CHILD_BACKOFF_MS_MAX ? doubled : CHILD_BACKOFF_MS_MAX;
    c->restart_ms = now_ms + c->backoff_ms;
    c->state = CHILD_DOWN;
}

void child_start(struct child *c, uint64_t now_ms)
{
    assert(c->state == CHILD_DOWN);
    struct err e;
    c->killed_for[0] = '\0';
    c->hung_up = c->was_up = c->was_useful = false;
    c->rank = PROCESS_EQUAL;
    c->version[0] = '\0';
    c->started_ms = now_ms;
    if (process_start(&c->process, c->exe, c->config->name, c->file, &e) != 0) {
        log_error("cannot start a process handler=%s error=%s", c->config->name, LOG_STR(e.text));
        back_off(c, now_ms);
        return;
    }
    if (c->falls > 1) {
        c->may_raise = process_may_raise(c->config->jail.user != NULL && c->config->jail.user[0] != '\0');
        stand(c, PROCESS_BEHIND);
    }
    if (c->rank == PROCESS_BEHIND && c->falls == 2)
        log_warn("child runs behind the others handler=%s pid=%d why=\"it ended twice within a minute\"",
                 c->config->name, (int)c->process.pid);
    pipe_init(&c->pipe, c->process.pipe, false);
    c->state = CHILD_STARTING;
    c->kill_ms = now_ms + CHILD_START_MS_MAX;
    stand_last(c, share_ms(c, now_ms));
    look_on(c, now_ms);
    words_begin(&c->words, c->config->name, c->process.pid, now_ms);
    send_start(c);
}

void child_kill(struct child *c, const char *why)
{
    if (c->process.pid == 0 || c->killed_for[0] != '\0')
        return;
    snprintf(c->killed_for, sizeof c->killed_for, "%s", why);
    c->blame_each = false;
    take_share(c); /* to end is work too */
    process_kill(&c->process);
    c->kill_ms = UINT64_MAX;
}

/* As child_kill, and what runs now is to blame. */
static void kill_for(struct child *c, const char *why)
{
    if (c->killed_for[0] != '\0')
        return;
    child_kill(c, why);
    for (size_t i = 0; i < c->runs_n; i++)
        c->runs[i].blamed = true;
}

/* As child_kill, and each call that has taken too long is to blame, and no other. */
static void kill_for_time(struct child *c, const char *why, uint64_t now_ms)
{
    if (c->killed_for[0] != '\0')
        return;
    child_kill(c, why);
    c->blame_each = true;
    for (size_t i = 0; i < c->runs_n; i++)
        c->runs[i].blamed = c->runs[i].kill_ms <= now_ms;
}

static void close_process(struct child *c)
{
    pipe_free(&c->pipe);
    if (c->process.output >= 0)
        close(c->process.output);
    if (c->process.pidfd >= 0)
        close(c->process.pidfd);
    c->process = (struct process){.pidfd = -1, .pipe = -1, .output = -1};
}

void child_free(struct child *c)
{
    if (c->process.pid != 0)
        process_drop(&c->process);
    close_process(c);
    words_free(&c->words);
    buf_free(&c->idempotency);
    mem_free(c->runs);
}

void child_stop(struct child *c)
{
    struct err e;
    switch (c->state) {
    case CHILD_DOWN:
        c->state = CHILD_GONE;
        c->restart_ms = UINT64_MAX;
        return;
    case CHILD_STARTING: /* it has nothing to finish */
    case CHILD_UP:
        if (c->state == CHILD_STARTING ||
            pipe_put(&c->pipe, &(struct plugin_packet){.kind = PLUGIN_STOP}, &e) != 0)
            child_kill(c, "stopped");
        take_share(c); /* its end, which others wait for, is not the handler's */
        c->state = CHILD_STOPPING;
        return;
    case CHILD_STOPPING:
    case CHILD_GONE:
        return;
    }
}

/* ---- packets ---- */

static void take_ready(struct child *c, const struct plugin_packet *p)
{
    char *text = packet_string(p->ready.code == 0 ? p->ready.version : p->ready.error);
    if (p->ready.code == 0) {
        log_info("child up handler=%s pid=%d version=%s", c->config->name, (int)c->process.pid,
                 LOG_STR(text));
        c->kill_ms = c->share_ms = UINT64_MAX;
        c->was_up = true;
        snprintf(c->version, sizeof c->version, "%s", text);
        c->batches = p->ready.batches && c->config->batch.max > 1;
        if (c->state == CHILD_STARTING)
            c->state = CHILD_UP;
    } else {
        log_error("child cannot start handler=%s pid=%d error=%s", c->config->name, (int)c->process.pid,
                  LOG_STR(text));
    }
    c->events->started(c, p->ready.code, text);
    mem_free(text);
}

static struct task *find_task(const struct child *c, uint64_t id)
{
    LIST_EACH (n, &c->tasks) {
        struct task *t = container_of(n, struct task, place);
        if (t->id == id)
            return t;
    }
    return NULL;
}

/* Takes it out of the list; true: it was the last of its call. */
static bool take_out(struct child *c, struct task *t)
{
    bool last = !same_call(c, t->place.prev, t->call) && !same_call(c, t->place.next, t->call);
    c->calls_n -= last;
    list_remove(&t->place);
    t->child = NULL;
    c->tasks_n--;
    c->alone = c->alone && c->tasks_n > 0;
    return last;
}

static void take_verdict(struct child *c, const struct plugin_packet *p, uint64_t now_ms)
{
    struct task *t = find_task(c, p->verdict.id);
    if (t == NULL)
        return;
    const struct child_call *call = call_of(c, t);
    bool last = take_out(c, t);
    c->was_useful |= p->verdict.verdict != PLUGIN_BACK;
    if (c->rank != PROCESS_EQUAL && lived_long(c, now_ms))
        step_forward(c);
    if (last && call != NULL) {
        end_call(c, call);
        begin_calls(c, now_ms);
    }
    c->events->verdict(c, t, p);
}

static void take_extend(struct child *c, const struct plugin_packet *p, uint64_t now_ms)
{
    const struct task *t = find_task(c, p->extend.id);
    struct child_call *call = t != NULL ? call_of(c, t) : NULL;
    uint64_t wanted = now_ms + p->extend.ms + allowance_ms(c);
    if (call == NULL || wanted <= call->kill_ms)
        return;
    call->kill_ms = wanted;
    reckon_kill_ms(c);
}

static void take_log(struct child *c, const struct plugin_packet *p)
{
    char *text = packet_string(p->log.text);
    enum log_level level = p->log.level <= LOG_ERROR ? (enum log_level)p->log.level : LOG_INFO;
    words_log(&c->words, level, text);
    mem_free(text);
}

static void take_progress(struct child *c, const struct plugin_packet *p)
{
    const struct task *t = find_task(c, p->progress.id);
    struct log_text note;
    if (t == NULL)
        return;
    struct child_call *call = call_of(c, t);
    if (call != NULL)
        snprintf(call->progress, sizeof call->progress, "%" PRIu32 " %% %.*s", p->progress.percent,
                 (int)p->progress.note.size, (const char *)p->progress.note.data);
    if (words_may_say(&c->words))
        log_info("progress handler=%s pid=%d partition=%" PRIu32 " offset=%" PRIu64 " percent=%" PRIu32
                 " note=%s",
                 c->config->name, (int)c->process.pid, t->partition, t->offset, p->progress.percent,
                 log_value(&note, p->progress.note.data, p->progress.note.size));
}

static int take_packet(struct child *c, struct view bytes, uint64_t now_ms, struct err *e)
{
    struct plugin_packet p;
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    int code = codec_plugin_decode(bytes, &p, &arena, e);
    if (code == 0) {
        switch (p.kind) {
        case PLUGIN_READY:
            take_ready(c, &p);
            break;
        case PLUGIN_VERDICT:
            take_verdict(c, &p, now_ms);
            break;
        case PLUGIN_EXTEND:
            take_extend(c, &p, now_ms);
            break;
        case PLUGIN_LOG:
            take_log(c, &p);
            break;
        case PLUGIN_PROGRESS:
            take_progress(c, &p);
            break;
        default:
            code = err_set(e, E_BAD_FRAME, "a packet of kind %d", (int)p.kind);
        }
    }
    arena_free(&arena);
    return code;
}

/* Nobody is at the other end of the pipe: the process is ending, or is of no more use. */
static void hang_up(struct child *c, uint64_t now_ms)
{
    c->hung_up = true;
    if (c->kill_ms > now_ms + HANG_UP_MS_MAX)
        c->kill_ms = now_ms + HANG_UP_MS_MAX;
}

/* Reads what has come, at most `fills` times; false: there is nothing more now. */
static bool read_packets(struct child *c, unsigned fills, uint64_t now_ms)
{
    struct view packet;
    struct err e;
    for (unsigned i = 0; i < fills; i++) {
        int code = pipe_fill(&c->pipe, &e);
        if (code == E_CLOSED)
            hang_up(c, now_ms);
        if (code != 0)
            return false;
        code = pipe_next(&c->pipe, &packet, &e);
        while (code == 0 && packet.data != NULL) {
            code = take_packet(c, packet, now_ms, &e);
            if (code == 0)
                code = pipe_next(&c->pipe, &packet, &e);
        }
        if (code != 0) {
            if (c->killed_for[0] == '\0') /* else it was said, or does not matter */
                log_error("child does not keep to the protocol handler=%s pid=%d error=%s", c->config->name,
                          (int)c->process.pid, LOG_STR(e.text));
            kill_for(c, "it sent damaged packets");
            return false;
        }
    }
    return true;
}

/* ---- one step ---- */

/* Marks the tasks that the end of the process is laid to. If we killed it, those are of the calls that it was killed for, unless their
   verdicts came at the last moment; else of all that ran. Returns the progress of the one call that it is; "": there are several, or
   none. */
static const char *blame(struct child *c, bool expected)
{
    bool ours = c->killed_for[0] != '\0';
    const char *progress = c->runs_n == 1 ? c->runs[0].progress : "";
    size_t blamed = 0;
    for (size_t i = 0; i < c->runs_n; i++) {
        struct child_call *call = &c->runs[i];
        call->blamed = !expected && (!ours || call->blamed);
        blamed += call->blamed;
        if (call->blamed)
            progress = blamed == 1 ? call->progress : "";
    }
    LIST_EACH (n, &c->tasks) {
        struct task *t = container_of(n, struct task, place);
        const struct child_call *call = call_of(c, t);
        t->blamed = call != NULL && call->blamed;
    }
    return progress;
}

/* What stands with the message: what ended the process, what that has to do with its limits, the
   handler's version, its last words. */
static void describe_end(const struct child *c, const struct process_end *end, const char *progress, struct buf *how)
{
    if (c->killed_for[0] != '\0') {
        buf_putf(how, "%s", c->killed_for);
    } else {
        buf_putf(how, "%s", end->text);
        jail_explain(&c->config->jail, end, how);
    }
    if (c->version[0] != '\0')
        buf_putf(how, " (version %s%s%s)", c->version, progress[0] != '\0' ? ", at " : "", progress);
}

static void clear_away(struct child *c, const struct process_end *end, uint64_t now_ms)
{
    bool expected = c->state == CHILD_STOPPING && end->clean;
    struct buf how = {0};
    describe_end(c, end, blame(c, expected), &how);
    log_line(expected ? LOG_INFO : LOG_WARN, "child down handler=%s pid=%d end=%s lived_ms=%" PRIu64,
             c->config->name, (int)c->process.pid, LOG_STR(buf_str(&how)), now_ms - c->started_ms);
    if (c->words.last.size > 0)
        buf_putf(&how, ": %s", buf_str(&c->words.last));
    c->falls = lived_long(c, now_ms) ? 1 : c->falls + 1;
    words_tally(&c->words, now_ms);
    close_process(c);
    family_sweep();
    c->look_ms = UINT64_MAX;
    c->kill_ms = c->share_ms = UINT64_MAX;
    if (c->state == CHILD_STOPPING)
        c->state = CHILD_GONE;
    else
        back_off(c, now_ms);
    LIST_EACH (n, &c->tasks)
        container_of(n, struct task, place)->child = NULL;
    c->events->ended(c, c->killed_for[0] != '\0' && c->blame_each, buf_str(&how));
    assert(list_empty(&c->tasks));
    c->tasks_n = c->calls_n = c->runs_n = 0;
    c->alone = false;
    buf_free(&how);
}

static void reap(struct child *c, uint64_t now_ms)
{
    struct process_end end;
    if (!process_ended(&c->process))
        return;
    process_kill(&c->process); /* what is left of its group might go on talking */
    /* What it sent before it ended counts: a verdict that is in the pipe was given. */
    read_packets(c, REST_FILLS_MAX, now_ms);
    for (int i = 0; i < REST_READS_MAX && c->process.output >= 0 && words_read(&c->words, &c->process.output); i++)
        continue;
    words_end(&c->words);
    if (process_reap(&c->process, &end))
        clear_away(c, &end, now_ms);
}

static void on_time(struct child *c, uint64_t now_ms)
{
    if (c->state == CHILD_DOWN) {
        child_start(c, now_ms);
        return;
    }
    char why[sizeof c->killed_for], limit[UNITS_TEXT_MAX];
    if (c->look_ms <= now_ms)
        look(c, now_ms);
    if (c->share_ms <= now_ms)
        take_share(c);
    if (c->kill_ms > now_ms)
        return;
    if (c->hung_up)
        snprintf(why, sizeof why, "it closed its pipe");
    else if (c->state == CHILD_STARTING)
        snprintf(why, sizeof why, "did not start within %s", duration_format(limit, CHILD_START_MS_MAX));
    else
        snprintf(why, sizeof why, "timeout after %s", duration_format(limit, c->config->timeout_ms));
    if (c->hung_up)
        kill_for(c, why);
    else
        kill_for_time(c, why, now_ms);
}

void child_poll(const struct child *c, struct pollfd fds[CHILD_FDS])
{
    short writes = pipe_pending(&c->pipe) ? POLLOUT : 0;
    fds[0] = (struct pollfd){.fd = c->process.pidfd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = c->hung_up ? -1 : c->pipe.fd, .events = (short)(POLLIN | writes)};
    fds[2] = (struct pollfd){.fd = words_too_much(&c->words) ? -1 : c->process.output, .events = POLLIN};
}

void child_step(struct child *c, const struct pollfd fds[CHILD_FDS], uint64_t now_ms)
{
    if (c->words.tally_ms <= now_ms)
        words_tally(&c->words, now_ms);
    if (fds[1].revents & ~POLLOUT)
        read_packets(c, FILLS_MAX, now_ms);
    if (fds[2].revents != 0)
        words_read(&c->words, &c->process.output);
    if (fds[0].revents != 0)
        reap(c, now_ms);
    if (child_due_ms(c) <= now_ms)
        on_time(c, now_ms);
}

void child_flush(struct child *c)
{
    /* If nobody listens any more the process is ending, and that will be seen. */
    if (pipe_pending(&c->pipe))
        pipe_flush(&c->pipe, NULL);
}

/* ---- tasks ---- */

uint32_t child_places(const struct child *c, uint64_t bytes)
{
    const struct batch_limits *b = &c->config->batch;
    uint32_t ahead = CALLS_AHEAD * c->threads, pipeline = c->config->pipeline * c->threads;
    uint32_t calls = c->batches && bytes < ahead * b->bytes ? ahead * b->max : 0;
    return calls > pipeline ? calls : pipeline;
}

bool child_takes(const struct child *c)
{
    return c->state == CHILD_UP && c->killed_for[0] == '\0' && !c->alone &&
           (c->tasks_n < c->config->pipeline * c->threads || (c->batches && c->calls_n < CALLS_AHEAD * c->threads));
}

/* One of a call, of which so many follow. */
static int put_task(struct child *c, const struct task *t, size_t follow, struct err *e)
{
    const struct handler_config *h = c->config;
    buf_clear(&c->idempotency);
    buf_putf(&c->idempotency, "%s/%" PRIu32 "/%" PRIu64 "/%s", h->topic, t->partition, t->offset, h->group);
    return pipe_put(&c->pipe,
                        &(struct plugin_packet){.kind = PLUGIN_TASK,
                                                .task = {.id = t->id,
                                                         .topic = view_of_str(h->topic),
                                                         .group = view_of_str(h->group),
                                                         .partition = t->partition,
                                                         .offset = t->offset,
                                                         .attempt = t->attempt,
                                                         .timestamp_ms = t->timestamp_ms,
                                                         .append_time_ms = t->append_time_ms,
                                                         .key = t->key,
                                                         .value = t->value,
                                                         .headers = t->headers,
                                                         .state_version = t->state_version,
                                                         .state = t->state,
                                                         .idempotency_key = buf_view(&c->idempotency),
                                                         .batch = (uint32_t)follow}},
                        e);
}

int child_send(struct child *c, struct task *const *tasks, size_t n, uint64_t now_ms, size_t *failed,
               struct err *e)
{
    assert(c->state == CHILD_UP && n > 0 && (n == 1 || c->batches));
    size_t mark = pipe_mark(&c->pipe);
    for (*failed = 0; *failed < n; ++*failed) {
        int code = put_task(c, tasks[*failed], n - 1 - *failed, e);
        if (code == 0)
            continue;
        pipe_rewind(&c->pipe, mark);
        return code;
    }
    c->last_call++;
    c->calls_n++;
    c->tasks_n += n;
    for (size_t i = 0; i < n; i++) {
        assert(!list_linked(&tasks[i]->place));
        tasks[i]->child = c;
        tasks[i]->call = c->last_call;
        tasks[i]->runs = false;
        list_push_back(&c->tasks, &tasks[i]->place);
    }
    c->alone = c->threads > 1 && tasks[0]->suspects != 0;
    if (c->runs_n < c->threads)
        begin_calls(c, now_ms);
    if (c->look_ms == UINT64_MAX)
        look_on(c, now_ms);
    return 0;
}

void child_cancel(struct child *c, const struct task *t)
{
    struct err e;
    if (t->child != c)
        return;
    if (pipe_put(&c->pipe, &(struct plugin_packet){.kind = PLUGIN_CANCEL, .cancel = {.id = t->id}}, &e) != 0)
        log_warn("cannot cancel a task handler=%s error=%s", c->config->name, LOG_STR(e.text));
}

/* The last first: one that begins meanwhile does so before those behind it, not without those in front. */
void child_recall(struct child *c)
{
    for (struct list_node *n = c->tasks.head.prev; n != &c->tasks.head; n = n->prev) {
        const struct task *t = container_of(n, struct task, place);
        if (!child_runs(c, t))
            child_cancel(c, t);
    }
}

void child_cancel_running(struct child *c)
{
    LIST_EACH (n, &c->tasks) {
        if (child_runs(c, container_of(n, struct task, place)))
            child_cancel(c, container_of(n, struct task, place));
    }
}
