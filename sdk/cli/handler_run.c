/*
 * sluice handler run FILE: what a handler makes of lines, without a broker.
 *
 *     a line --> TASK --> a child of the worker daemon's kind (workerd/child.h), which is this program again
 *     printed <-- VERDICT, or how the process ended; then it is started again for the next line
 *
 * One line at a time, so that what is printed while a message is worked on belongs to it.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "cli/handler.h"
#include "cli/help.h"
#include "cli/lines.h"
#include "cli/out.h"
#include "schemas/records.h"
#include "workerd/family.h"
#include "workerd/pipe.h"
#include "workerd/process.h"

enum {
    TASK_MS = 30000, /* as long as in the daemon */
    START_MS = 60000,
    ALLOWANCE_MS_MAX = 1000, /* from "your time is up" to the end of it */
    DECODED_BYTES_MAX = 1 << 20,
};

struct trial {
    const struct args *args;
    char path[PATH_MAX];
    const char *config;
    uint32_t task_ms;
    struct buf headers;
    struct lines lines;
    uint64_t line; /* from 1 */
    bool all_acked;

    struct process process; /* pid 0: none */
    struct pipe pipe;
    struct arena arena; /* of the packet at hand */
    uint64_t deadline_ms;
    struct process_end end; /* how the process ended */
};

/* ---- the process ---- */

/* What it prints goes where our talk goes. */
static void pass_output(struct trial *t)
{
    char bytes[4096];
    ssize_t n = read(t->process.output, bytes, sizeof bytes);
    if (n > 0) {
        fwrite(bytes, 1, (size_t)n, stderr);
    } else if (n == 0) {
        close(t->process.output);
        t->process.output = -1;
    }
}

static void forget_process(struct trial *t)
{
    pipe_free(&t->pipe);
    arena_free(&t->arena);
    if (t->process.output >= 0)
        close(t->process.output);
    close(t->process.pidfd);
    t->process = (struct process){.pidfd = -1, .pipe = -1, .output = -1};
}

enum heard { HEARD_PACKET, HEARD_END, HEARD_LATE };

static bool take_end(struct trial *t)
{
    if (!process_reap(&t->process, &t->end))
        return false;
    if (t->process.output >= 0)
        pass_output(t);
    forget_process(t);
    return true;
}

/* Ends it at once. */
static void drop_process(struct trial *t)
{
    process_kill(&t->process);
    while (poll(&(struct pollfd){.fd = t->process.pidfd, .events = POLLIN}, 1, -1) < 0)
        continue;
    take_end(t);
}

/* Waits for the next packet. At the end of the process, or when it is late, there is none any more. */
static enum heard hear(struct trial *t, struct plugin_packet *p)
{
    for (bool open = true;;) {
        struct view bytes;
        struct err e;
        arena_free(&t->arena);
        arena_init(&t->arena, DECODED_BYTES_MAX);
        open = open && pipe_next(&t->pipe, &bytes, &e) == 0;
        if (open && bytes.data != NULL && codec_plugin_decode(bytes, p, &t->arena, &e) == 0)
            return HEARD_PACKET;
        uint64_t now = clock_mono_ms();
        struct pollfd fds[] = {{.fd = open ? t->pipe.fd : -1, .events = POLLIN},
                               {.fd = t->process.output, .events = POLLIN},
                               {.fd = t->process.pidfd, .events = POLLIN}};
        if (now >= t->deadline_ms) {
            drop_process(t);
            return HEARD_LATE;
        }
        uint64_t left = t->deadline_ms - now;
        poll(fds, ARRAY_LEN(fds), left < INT_MAX ? (int)left : INT_MAX);
        if (fds[1].revents != 0)
            pass_output(t);
        if (fds[0].revents != 0)
            open = pipe_fill(&t->pipe, &e) == 0;
        else if (fds[2].revents != 0 && take_end(t))
            return HEARD_END;
    }
}

static void say(struct trial *t, const struct plugin_packet *p)
{
    struct err e;
    if (pipe_put(&t->pipe, p, &e) != 0)
        talk("%s", e.text);
    pipe_flush(&t->pipe, &e); /* one that hears nothing any more is found by its end */
}

/* Returns 0, or says why it cannot start and returns the status. */
static int start(struct trial *t)
{
    struct plugin_packet p;
    struct err e;
    if (process_start(&t->process, "/proc/self/exe", "handler", -1, &e) != 0) {
        talk("%s", e.text);
        return STATUS_ERROR;
    }
    pipe_init(&t->pipe, t->process.pipe, true);
    t->deadline_ms = clock_mono_ms() + START_MS;
    say(t, &(struct plugin_packet){.kind = PLUGIN_START,
                                   .start = {.path = view_of_str(t->path),
                                             .name = VIEW_LIT("handler"),
                                             .config = view_of_str(t->config),
                                             .threads = 1,
                                             .timeout_ms = t->task_ms}});
    for (;;) {
        switch (hear(t, &p)) {
        case HEARD_LATE:
            talk("%s: it did not start within a minute", t->path);
            return STATUS_TIMEOUT;
        case HEARD_END:
            talk("%s: the process ended while it started: %s", t->path, t->end.text);
            return STATUS_ERROR;
        case HEARD_PACKET:
            break;
        }
        if (p.kind == PLUGIN_LOG)
            talk("%.*s", (int)p.log.text.size, (const char *)p.log.text.data);
        if (p.kind != PLUGIN_READY)
            continue;
        if (p.ready.code == 0)
            return STATUS_OK;
        talk("%.*s", (int)p.ready.error.size, (const char *)p.ready.error.data);
        drop_process(t);
        return STATUS_ERROR;
    }
}

/* Has it end as the daemon would at its own end, and says if that was no good end. */
static void stop(struct trial *t)
{
    struct plugin_packet p;
    enum heard heard = HEARD_PACKET;
    if (t->process.pid == 0)
        return;
    t->deadline_ms = clock_mono_ms() + t->task_ms;
    say(t, &(struct plugin_packet){.kind = PLUGIN_STOP});
    while (heard == HEARD_PACKET)
        heard = hear(t, &p);
    if (heard == HEARD_END && t->end.clean)
        return;
    talk("%s: at its end: %s", t->path, heard == HEARD_END ? t->end.text : "it did not end in time");
    t->all_acked = false;
}

/* ---- what became of a line ---- */

struct result {
    const char *verdict; /* ack, retry, park, crash, timeout */
    bool has_delay;
    uint32_t delay_ms;
    struct view reason, error;
};

static void put_view(json_t *object, const char *name, struct view v)
{
    json_t *text = v.size > 0 ? json_stringn((const char *)v.data, v.size) : json_null();
    json_object_set_new(object, name, text != NULL ? text : json_string("(not UTF-8)"));
}

static void print(struct trial *t, const struct result *r)
{
    if (args_json(t->args)) {
        json_t *o = json_pack("{s:I, s:s, s:o}", "line", (json_int_t)t->line, "verdict", r->verdict, "delay_ms",
                              r->has_delay ? json_integer(r->delay_ms) : json_null());
        put_view(o, "reason", r->reason);
        put_view(o, "error", r->error);
        out_json(o);
    } else {
        struct buf text = {0};
        char delay[UNITS_TEXT_MAX];
        buf_putf(&text, "%" PRIu64 ": %s", t->line, r->verdict);
        if (r->has_delay)
            buf_putf(&text, " after %s", duration_format(delay, r->delay_ms));
        if (r->reason.size > 0) {
            buf_putf(&text, " ");
            put_shown(&text, r->reason.data, r->reason.size);
        }
        if (r->error.size > 0) {
            buf_putf(&text, ": ");
            put_shown(&text, r->error.data, r->error.size);
        }
        out_text("%s\n", buf_str(&text));
        buf_free(&text);
    }
    out_flush(); /* before what the next one says */
    t->all_acked = t->all_acked && strcmp(r->verdict, "ack") == 0;
}

static struct result result_of(const struct plugin_packet *p)
{
    if (p->verdict.verdict == PLUGIN_ACK)
        return (struct result){.verdict = "ack"};
    return (struct result){.verdict = p->verdict.verdict == PLUGIN_PARK ? "park" : "retry",
                           .has_delay = p->verdict.has_delay,
                           .delay_ms = p->verdict.delay_ms,
                           .reason = p->verdict.reason,
                           .error = p->verdict.error};
}

static uint32_t allowance_ms(const struct trial *t)
{
    return t->task_ms / 10 < ALLOWANCE_MS_MAX ? t->task_ms / 10 : ALLOWANCE_MS_MAX;
}

/* What it says before its verdict. */
static void take_note(struct trial *t, const struct plugin_packet *p)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    uint64_t wanted;
    switch (p->kind) {
    case PLUGIN_LOG:
        talk("%s: %.*s", levels[p->log.level & 3], (int)p->log.text.size, (const char *)p->log.text.data);
        return;
    case PLUGIN_PROGRESS:
        talk("%" PRIu32 " %%: %.*s", p->progress.percent, (int)p->progress.note.size, (const char *)p->progress.note.data);
        return;
    case PLUGIN_EXTEND:
        wanted = clock_mono_ms() + p->extend.ms + allowance_ms(t);
        t->deadline_ms = wanted > t->deadline_ms ? wanted : t->deadline_ms;
        return;
    default:
        return;
    }
}

static void say_task(struct trial *t, struct view value)
{
    const char *topic = args_text(t->args, "topic", "test"), *key = args_text(t->args, "key", NULL);
    struct buf idempotency = {0};
    buf_putf(&idempotency, "%s/0/%" PRIu64 "/handler", topic, t->line - 1);
    say(t, &(struct plugin_packet){.kind = PLUGIN_TASK,
                                   .task = {.id = t->line,
                                            .topic = view_of_str(topic),
                                            .group = VIEW_LIT("handler"),
                                            .offset = t->line - 1,
                                            .attempt = (uint32_t)args_number(t->args, "attempt", 1),
                                            .timestamp_ms = clock_wall_ms(),
                                            .append_time_ms = clock_wall_ms(),
                                            .key = view_of_str(key),
                                            .value = value,
                                            .headers = buf_view(&t->headers),
                                            .idempotency_key = buf_view(&idempotency)}});
    buf_free(&idempotency);
}

/* Returns 0, or the status to end with. */
static int try_line(struct trial *t, struct view value)
{
    struct plugin_packet p;
    char why[UNITS_TEXT_MAX];
    int status = t->process.pid == 0 ? start(t) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    t->deadline_ms = clock_mono_ms() + t->task_ms + allowance_ms(t);
    say_task(t, value);
    for (;;) {
        switch (hear(t, &p)) {
        case HEARD_LATE:
            print(t, &(struct result){.verdict = "timeout", .error = view_of_str(duration_format(why, t->task_ms))});
            return STATUS_OK;
        case HEARD_END:
            print(t, &(struct result){.verdict = "crash", .error = view_of_str(t->end.text)});
            return STATUS_OK;
        case HEARD_PACKET:
            break;
        }
        if (p.kind == PLUGIN_VERDICT) {
            struct result r = result_of(&p);
            print(t, &r);
            return STATUS_OK;
        }
        take_note(t, &p);
    }
}

static int try_lines(struct trial *t)
{
    struct view line;
    for (;;) {
        int status;
        t->line++;
        switch (lines_next(&t->lines, &line)) {
        case LINES_LINE:
            status = try_line(t, line);
            if (status != STATUS_OK)
                return status;
            break;
        case LINES_LONG:
            talk("line %" PRIu64 " is longer than a message can be", t->line);
            return STATUS_ERROR;
        case LINES_ERROR:
            talk("cannot read: %s", strerror(errno));
            return STATUS_ERROR;
        case LINES_END:
        case LINES_WOKEN:
            return STATUS_OK;
        }
    }
}

/* ---- options ---- */

static int read_options(struct trial *t)
{
    const struct args *a = t->args;
    json_t *config = json_loads(t->config, 0, NULL);
    bool is_object = json_is_object(config);
    json_decref(config);
    if (!is_object)
        return help_refuse(a, "--config: '%.60s' is no JSON object", t->config);
    for (size_t i = 0; i < a->given_count; i++) {
        const char *text = a->given[i].text, *equals;
        struct err e;
        if (strcmp(a->given[i].option->name, "header") != 0)
            continue;
        if ((equals = strchr(text, '=')) == NULL || equals == text)
            return help_refuse(a, "--header: '%.60s' is not NAME=VALUE", text);
        if (headers_put(&t->headers, view_of(text, (size_t)(equals - text)), view_of_str(equals + 1), &e) != 0)
            return help_refuse(a, "--header: %s", e.text);
    }
    return lines_open(&t->lines, a, 1);
}

int handler_run(const struct args *a)
{
    struct trial t = {.args = a,
                      .config = args_text(a, "config", "{}"),
                      .task_ms = (uint32_t)args_number(a, "timeout", TASK_MS),
                      .lines = {.wake_fd = {-1, -1}},
                      .all_acked = true,
                      .process = {.pidfd = -1, .pipe = -1, .output = -1}};
    arena_init(&t.arena, DECODED_BYTES_MAX);
    pipe_init(&t.pipe, -1, true);
    int status = handler_path(a, t.path);
    if (status == STATUS_OK)
        status = read_options(&t);
    if (status == STATUS_OK)
        status = start(&t);
    if (status == STATUS_OK)
        status = try_lines(&t);
    stop(&t);
    family_end();
    arena_free(&t.arena);
    buf_free(&t.headers);
    lines_free(&t.lines);
    return status != STATUS_OK || t.all_acked ? status : STATUS_ERROR;
}
