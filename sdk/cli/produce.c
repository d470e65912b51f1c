/*
 * sluice produce TOPIC [FILE]
 *
 * One thread reads lines and hands them to the library, which gathers them into batches; the library's thread calls back as they
 * are acknowledged. Acknowledged offsets are kept as runs: a partition and a range without holes. What waits for its time is a row
 * of its own, and so is what was produced before.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/lines.h"
#include "cli/message.h"
#include "cli/out.h"
#include "cli/stop.h"

/* Acknowledged messages of one partition with consecutive offsets; or one that waits; or duplicates whose offsets are not known. */
struct run {
    uint32_t partition;
    int durability;
    uint64_t base_offset, count; /* base_offset UINT64_MAX: not known */
    uint64_t due_ms;
    char *name; /* under which it waits; NULL: it does not */
    bool duplicate;
};

struct producer {
    const struct args *args;
    struct sluice *client;
    /* what all messages have in common */
    struct sluice_message common;
    struct sluice_header *headers;
    char **names;         /* of the headers, owned */
    struct buf separator; /* between key and value; empty: none */
    /* the reader's */
    struct lines lines;
    uint64_t line; /* number of the last line read, from 1 */
    uint64_t sent;
    /* shared with the library's thread */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* something was acknowledged, or failed */
    struct run *runs;
    size_t runs_count, runs_cap;
    size_t *last_run; /* by partition: 1 + index of its last run, 0: none */
    size_t last_run_count;
    uint64_t acked, failed;
    uint64_t failed_line; /* the first one, 0: none */
    struct sluice_error failure;
    int failed_fd; /* readable when something failed */
};

/* ---- what was acknowledged ---- */

static struct run *run_of(struct producer *p, const struct sluice_receipt *r)
{
    if (r->partition >= p->last_run_count) {
        size_t count = (size_t)r->partition + 1;
        p->last_run = mem_resize(p->last_run, count, sizeof *p->last_run);
        memset(p->last_run + p->last_run_count, 0, (count - p->last_run_count) * sizeof *p->last_run);
        p->last_run_count = count;
    }
    size_t last = p->last_run[r->partition];
    struct run *run = last != 0 ? &p->runs[last - 1] : NULL;
    bool waits = r->schedule[0] != '\0';
    if (run != NULL && !waits && run->name == NULL && run->durability == r->durability &&
        run->duplicate == r->duplicate &&
        (r->offset == UINT64_MAX
             ? run->base_offset == UINT64_MAX
             : run->base_offset != UINT64_MAX && run->base_offset + run->count == r->offset))
        return run;

    if (p->runs_count == p->runs_cap) {
        p->runs_cap = p->runs_cap != 0 ? 2 * p->runs_cap : 16;
        p->runs = mem_resize(p->runs, p->runs_cap, sizeof *p->runs);
    }
    run = &p->runs[p->runs_count++];
    *run = (struct run){.partition = r->partition,
                        .durability = r->durability,
                        .base_offset = r->offset,
                        .due_ms = r->due_ms,
                        .name = waits ? mem_strdup(r->schedule) : NULL,
                        .duplicate = r->duplicate};
    p->last_run[r->partition] = p->runs_count;
    return run;
}

struct sent_line {
    struct producer *producer;
    uint64_t line;
};

static void on_answer(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct sent_line *l = user;
    struct producer *p = l->producer;
    pthread_mutex_lock(&p->lock);
    if (error == NULL) {
        run_of(p, receipt)->count++;
        p->acked++;
    } else {
        p->failed++;
        if (p->failed_line == 0 || l->line < p->failed_line) {
            p->failed_line = l->line;
            p->failure = *error;
        }
        eventfd_write(p->failed_fd, 1);
    }
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->lock);
    mem_free(l);
}

static int compare_runs(const void *left, const void *right)
{
    const struct run *a = left, *b = right;
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    if (a->name != NULL && b->name != NULL && a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms ? -1 : 1;
    return a->base_offset < b->base_offset ? -1 : a->base_offset > b->base_offset;
}

static const char *durability_of(const struct run *r)
{
    return r->durability == SLUICE_OS ? "os" : "disk";
}

static json_t *run_json(const char *topic, const struct run *r)
{
    json_t *o = json_pack(
        "{s:s, s:I, s:o, s:I, s:s}", "topic", topic, "partition", (json_int_t)r->partition, "base_offset",
        r->base_offset != UINT64_MAX ? json_integer((json_int_t)r->base_offset) : json_null(), "count",
        (json_int_t)r->count, "durability", durability_of(r));
    if (r->name != NULL) {
        json_object_set_new(o, "name", json_string(r->name));
        json_object_set_new(o, "due_ms", json_integer((json_int_t)r->due_ms));
    }
    if (r->duplicate)
        json_object_set_new(o, "duplicate", json_true());
    return o;
}

static void run_text(const char *topic, const struct run *r)
{
    char text[UNITS_TEXT_MAX];
    out_text("%s/%" PRIu32 ": %" PRIu64 " message%s", topic, r->partition, r->count, PLURAL(r->count));
    if (r->name != NULL)
        out_text(" at %s as %s", time_format(text, r->due_ms), r->name);
    else if (r->duplicate)
        out_text(" produced before");
    if (r->base_offset != UINT64_MAX)
        out_text(r->duplicate ? ", at offset %" PRIu64 : " from offset %" PRIu64, r->base_offset);
    out_text(" (%s)\n", durability_of(r));
}

static void print_runs(struct producer *p)
{
    const char *topic = p->common.topic;
    if (p->runs_count > 0)
        qsort(p->runs, p->runs_count, sizeof *p->runs, compare_runs);
    for (size_t i = 0; i < p->runs_count; i++) {
        if (args_json(p->args))
            out_json(run_json(topic, &p->runs[i]));
        else
            run_text(topic, &p->runs[i]);
    }
}

/* ---- from a line to a message ---- */

static uint64_t acked(struct producer *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t n = p->acked;
    pthread_mutex_unlock(&p->lock);
    return n;
}

/* Waits for one more answer to what was sent before the message at hand; false if none is to come. */
static bool wait_moved(struct producer *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t before = p->acked + p->failed;
    bool coming = before + 1 < p->sent;
    while (coming && p->acked + p->failed == before)
        pthread_cond_wait(&p->moved, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return coming;
}

/* Hands over one message; waits while the library's memory is full. */
static int publish(struct producer *p, const struct sluice_message *m, struct sluice_error *err)
{
    struct sent_line *l = mem_alloc(sizeof *l);
    *l = (struct sent_line){p, p->line};
    p->sent++;
    int code;
    do
        code = sluice_publish_async(p->client, m, on_answer, l, err);
    while (code == SLUICE_QUEUE_FULL && wait_moved(p));
    if (code != 0) {
        p->sent--;
        mem_free(l);
    }
    return code;
}

/* Splits the line at the first separator; false if it has none. */
static bool split(const struct producer *p, struct view line, struct sluice_message *m)
{
    *m = p->common;
    m->value = (struct sluice_bytes){line.data, line.size};
    if (p->separator.size == 0)
        return true;
    const uint8_t *at =
        line.size > 0 ? memmem(line.data, line.size, p->separator.data, p->separator.size) : NULL;
    if (at == NULL)
        return false;
    m->key = (struct sluice_bytes){line.data, (size_t)(at - line.data)};
    at += p->separator.size;
    m->value = (struct sluice_bytes){at, (size_t)(line.data + line.size - at)};
    return true;
}

/* A line that was not taken, as an error of its own number. */
static int refuse_line(struct producer *p, int code, const char *text)
{
    pthread_mutex_lock(&p->lock);
    if (p->failed_line == 0 || p->line < p->failed_line) {
        p->failed_line = p->line;
        p->failure = (struct sluice_error){.code = code};
        struct err e;
        err_set(&e, 0, "%s", text); /* cuts it between characters */
        memcpy(p->failure.text, e.text, sizeof p->failure.text);
    }
    pthread_mutex_unlock(&p->lock);
    return STATUS_ERROR;
}

static int send_line(struct producer *p, struct view line)
{
    enum { PROGRESS_LINES = 256 };
    struct sluice_message m;
    struct sluice_error err = {0};
    if (!split(p, line, &m)) {
        struct buf text = {0};
        buf_putf(&text, "it has no '");
        put_shown(&text, p->separator.data, p->separator.size);
        buf_putf(&text, "' between key and value");
        refuse_line(p, SLUICE_INVALID_ARGUMENT, buf_str(&text));
        buf_free(&text);
        return STATUS_ERROR;
    }
    if (publish(p, &m, &err) != 0)
        return refuse_line(p, err.code, err.text);
    if (p->line % PROGRESS_LINES == 0)
        progress("%" PRIu64 " messages acknowledged", acked(p));
    return 0;
}

/* ---- the whole input ---- */

/* Reads and sends until the end, a failure, or a request to stop. */
static void send_all(struct producer *p)
{
    for (;;) {
        struct view line;
        enum lines_result result = lines_next(&p->lines, &line);
        if (result == LINES_END || result == LINES_WOKEN || stop_asked())
            return;
        p->line++;
        if (result == LINES_LONG) {
            refuse_line(p, SLUICE_TOO_LARGE, "it is longer than the largest message there can be, 64 MiB");
            return;
        }
        if (result == LINES_ERROR) {
            refuse_line(p, SLUICE_INTERNAL, strerror(errno));
            return;
        }
        if (send_line(p, line) != 0)
            return;
        pthread_mutex_lock(&p->lock);
        bool failed = p->failed > 0;
        pthread_mutex_unlock(&p->lock);
        if (failed)
            return;
    }
}

/* With --message-id or --name: the one line of the input, which must not have two. */
static int send_only(struct producer *p)
{
    struct view line;
    struct buf first = {0};
    enum lines_result result = lines_next(&p->lines, &line);
    if (result != LINES_LINE)
        return STATUS_OK; /* nothing there */
    p->line = 1;
    buf_append(&first, line.data, line.size);
    result = lines_next(&p->lines, &line);
    int status = STATUS_OK;
    if (result == LINES_LINE) {
        talk("produce: --%s names one message, and the input has more lines than one; nothing was published",
             p->common.message_id != NULL ? "message-id" : "name");
        status = STATUS_USAGE;
    } else if (result == LINES_END) {
        send_line(p, buf_view(&first));
    }
    buf_free(&first);
    return status;
}

/* Waits for the answers that are out; gives up when none came for as long as a request may take. */
static void wait_answers(struct producer *p)
{
    enum { SLICE_MS = 250 };
    uint64_t last = 0, last_ms = clock_mono_ms(), patience_ms = (uint64_t)client_timeout_ms(p->args) + 1000;
    while (sluice_flush(p->client, SLICE_MS, NULL) == SLUICE_TIMEOUT) {
        uint64_t now = acked(p), now_ms = clock_mono_ms();
        progress("%" PRIu64 " messages acknowledged", now);
        if (now != last)
            last_ms = now_ms;
        else if (now_ms - last_ms > patience_ms)
            return;
        last = now;
    }
}

/* Says how it ended: the answer to every message is known. */
static int conclude(struct producer *p)
{
    progress_end();
    print_runs(p);
    if (p->failed_line != 0) {
        out_flush(); /* first what is, then what is not */
        talk("%s: line %" PRIu64 ": %s (%" PRIu64 " message%s acked)", p->common.topic, p->failed_line,
             p->failure.text, p->acked, PLURAL(p->acked));
        client_say_when(&p->failure);
        int status = status_of(p->failure.code);
        return status != STATUS_OK ? status : STATUS_ERROR;
    }
    return stop_signal() != 0 ? 128 + stop_signal() : STATUS_OK;
}

/* ---- options ---- */

static int add_header(struct producer *p, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return help_refuse(p->args, "--header: '%.60s' is not NAME=VALUE", text);
    size_t n = p->common.headers_count++;
    p->headers = mem_resize(p->headers, n + 1, sizeof *p->headers);
    p->names = mem_resize(p->names, n + 1, sizeof *p->names);
    p->names[n] = mem_strndup(text, (size_t)(equals - text));
    p->headers[n] = (struct sluice_header){p->names[n], sluice_str(equals + 1)};
    p->common.headers = p->headers;
    return 0;
}

/* The separator with its escapes resolved: -K '\t'. */
static int set_separator(struct producer *p, const char *text)
{
    while (text != NULL && *text != '\0') {
        uint8_t byte;
        if (*text == '\\' && unescape(&text, &byte))
            buf_put_u8(&p->separator, byte);
        else
            buf_put_u8(&p->separator, (uint8_t)*text++);
    }
    if (text != NULL && p->separator.size == 0)
        return help_refuse(p->args, "--key-separator must not be empty");
    return 0;
}

static int read_options(struct producer *p)
{
    const struct args *a = p->args;
    if (args_has(a, "key") && args_has(a, "key-separator"))
        return help_refuse(a, "either -k gives the key, or -K says where it is in each line");
    p->common = (struct sluice_message){
        .size = sizeof p->common,
        .topic = args_operand(a, 0),
        .key = sluice_str(args_text(a, "key", NULL)),
        .message_id = args_text(a, "message-id", NULL),
        .delay_ms = args_number(a, "delay", 0),
        .at_ms = args_number(a, "at", 0),
        .cron = args_text(a, "cron", NULL),
        .schedule = args_text(a, "name", NULL),
        .ttl_ms = (uint32_t)args_number(a, "ttl", 0),
        .priority = (uint8_t)args_number(a, "priority", 0),
    };
    if (args_has(a, "delay") + args_has(a, "at") + args_has(a, "cron") > 1)
        return help_refuse(a, "--delay, --at and --cron say when: one of them");
    if (args_has(a, "name") && !args_has(a, "delay") && !args_has(a, "at") && !args_has(a, "cron"))
        return help_refuse(a, "--name is for what waits: it goes with --delay, --at or --cron");
    for (size_t i = 0; i < a->given_count; i++) {
        if (strcmp(a->given[i].option->name, "header") == 0 && add_header(p, a->given[i].text) != 0)
            return STATUS_USAGE;
    }
    return set_separator(p, args_text(a, "key-separator", NULL));
}

/* An unknown topic is said before anything is read. */
static int check_topic(struct producer *p)
{
    struct sluice_topic_list *list = NULL;
    struct sluice_error err = {0};
    if (sluice_topics(p->client, p->common.topic, &list, &err) != 0)
        return client_fail(&err, p->common.topic, NULL);
    sluice_topics_free(list);
    return STATUS_OK;
}

static int produce_lines(struct producer *p)
{
    struct err e;
    int status = stop_begin(&e);
    if (status != 0) {
        talk("%s", e.text);
        return STATUS_ERROR;
    }
    status = client_open(p->args, &p->client);
    if (status == 0)
        status = check_topic(p);
    if (status != 0)
        return status;
    p->lines.wake_fd[0] = stop_fd();
    p->lines.wake_fd[1] = p->failed_fd;
    if (p->common.message_id != NULL || p->common.schedule != NULL)
        status = send_only(p);
    else
        send_all(p);
    wait_answers(p);
    return status;
}

int produce(const struct args *a)
{
    struct producer p = {.args = a, .failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.moved, NULL);

    int status = read_options(&p);
    if (status == 0)
        status = lines_open(&p.lines, a, 1);
    if (status == 0)
        status = produce_lines(&p);
    client_close(a, p.client); /* after this nobody calls back */
    if (status == 0)
        status = conclude(&p);

    for (size_t i = 0; i < p.common.headers_count; i++)
        mem_free(p.names[i]);
    mem_free(p.names);
    mem_free(p.headers);
    for (size_t i = 0; i < p.runs_count; i++)
        mem_free(p.runs[i].name);
    mem_free(p.runs);
    mem_free(p.last_run);
    buf_free(&p.separator);
    lines_free(&p.lines);
    return status;
}
