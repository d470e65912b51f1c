/*
 * Reading the log by offset.
 *
 * Each partition has a reader; a few threads share them, each going round its own. A round waits only if the one before found
 * nothing, and then a slice of time divided among the thread's partitions: one partition has a long poll, many take turns.
 *
 * A topic may get more partitions meanwhile. The thread that started the others asks for them now and then; those that are new are
 * read from their start, by threads of their own.
 */
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/consume.h"
#include "cli/help.h"
#include "cli/out.h"
#include "cli/stop.h"

enum {
    THREADS_MAX = 8, /* for the partitions that there were, and for those that a growth brings */
    WAIT_MS_MIN = 10,
    GROWTH_MS = 1000 /* how often new partitions are asked for */
};

struct source {
    uint32_t partition;
    struct sluice_reader *reader;
    uint64_t from; /* messages below are not shown */
    uint64_t end;  /* with --exit-at-end: messages from here on are not shown */
};

struct reading {
    struct share *share;
    size_t first; /* its sources are first, first + threads, ... */
    pthread_t thread;
};

/* Partitions that came together, and who reads them. */
struct share {
    struct log *log;
    struct source *sources;
    size_t count;
    size_t threads, started;
    struct reading readings[THREADS_MAX];
    struct share *next;
};

struct log {
    struct consumer *consumer;
    struct share *shares;
    uint32_t topic, partitions; /* its id, and how many it had when they were asked for last */
    /* shared by the threads, under lock; so are standard output and consumer->left */
    pthread_mutex_t lock;
    int status;
};

/* ---- where to begin ---- */

int start_parse(const struct args *a, struct start *s)
{
    const char *text = args_text(a, "from", "end");
    *s = (struct start){.from = SLUICE_FROM_END};
    if (strcmp(text, "end") == 0)
        return 0;
    s->from = SLUICE_FROM_START;
    if (strcmp(text, "start") == 0)
        return 0;
    s->from = SLUICE_FROM_OFFSET;
    if (count_parse(text, 0, UINT64_MAX - 1, &s->offset, NULL) == 0)
        return 0;
    s->from = SLUICE_FROM_TIME;
    if (time_parse(text, clock_wall_ms(), &s->time_ms, NULL) == 0)
        return 0;
    return help_refuse(
        a, "--from: '%.60s' is not start, end, an offset, or a time as 2026-11-22T04:32:39Z or -15m", text);
}

/* Opens the reader of one partition of `t`. An offset counts in each partition: where the log is shorter, it is waited for. */
static int open_source(struct log *l, struct source *src, const struct start *s, bool only)
{
    struct sluice_reader_options options = {.size = sizeof options, .from = s->from, .time_ms = s->time_ms};
    if (s->from == SLUICE_FROM_END) {
        options.from = SLUICE_FROM_OFFSET;
        options.offset = src->end;
    } else if (s->from == SLUICE_FROM_OFFSET) {
        src->from = s->offset;
        options.offset = only || s->offset < src->end ? s->offset : src->end;
    }
    struct sluice_error err = {0};
    if (sluice_reader_open(l->consumer->client, l->consumer->topic, src->partition, &options, &src->reader,
                           &err) == 0)
        return 0;
    return client_fail(&err, l->consumer->topic, NULL);
}

/* Those from `first` on, `count` of them. */
static int open_sources(struct log *l, const struct sluice_topic *t, const struct start *s, uint32_t first, size_t count, struct share **out)
{
    struct share *share = mem_zalloc(sizeof *share);
    *share = (struct share){.log = l, .sources = mem_array(count, sizeof *share->sources), .next = l->shares};
    l->shares = *out = share;
    for (size_t i = 0; i < count; i++) {
        struct source *src = &share->sources[share->count];
        *src = (struct source){.partition = first + (uint32_t)i, .end = t->partitions[first + i].end};
        int status = open_source(l, src, s, count == 1);
        if (status != 0)
            return status;
        share->count++;
    }
    return 0;
}

static int open_asked(struct log *l, const struct sluice_topic *t, const struct start *s, struct share **out)
{
    const struct arg *only = args_find(l->consumer->args, "partition");
    l->topic = t->id;
    l->partitions = t->options.partitions;
    if (only != NULL && only->number >= l->partitions) {
        talk("no such partition: topic '%s' has 0 to %" PRIu32, t->name, l->partitions - 1);
        return STATUS_NOT_FOUND;
    }
    return open_sources(l, t, s, only != NULL ? (uint32_t)only->number : 0, only != NULL ? 1 : l->partitions, out);
}

/* ---- reading ---- */

/* Ends the reading of all threads with this status. */
static void end_with(struct log *l, int status)
{
    pthread_mutex_lock(&l->lock);
    if (l->status == 0)
        l->status = status;
    pthread_mutex_unlock(&l->lock);
    stop_ask();
}

static bool at_end(const struct log *l, const struct source *src)
{
    return l->consumer->exit_at_end && sluice_reader_offset(src->reader) >= src->end;
}

static void show(struct log *l, const struct source *src, const struct sluice_batch *b)
{
    struct consumer *c = l->consumer;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < sluice_batch_count(b) && c->left > 0; i++) {
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        if (d->offset < src->from || (c->exit_at_end && d->offset >= src->end))
            continue;
        consumer_put(c, d);
        if (c->left != UINT64_MAX)
            c->left--;
    }
    if (!out_flush() || c->left == 0)
        stop_ask();
    pthread_mutex_unlock(&l->lock);
}

/* Whether the log goes on behind what is missing there. */
static bool goes_on(struct log *l, const struct source *src, const struct sluice_error *err)
{
    if (err->code != SLUICE_GAP && err->code != SLUICE_DAMAGED)
        return client_again(err);
    struct sluice_gap gap = {.size = sizeof gap};
    talk("%s", err->text);
    pthread_mutex_lock(&l->lock);
    if (err->code == SLUICE_DAMAGED)
        l->status = STATUS_ERROR;
    if (sluice_reader_gap(src->reader, &gap))
        consumer_put_gap(l->consumer, &gap);
    pthread_mutex_unlock(&l->lock);
    return true;
}

/* Reads what there is of one partition; false if there was nothing. */
static bool read_source(struct log *l, struct source *src, uint32_t wait_ms)
{
    struct sluice_error err = {0};
    struct sluice_batch *b = NULL;
    if (sluice_reader_read(src->reader, wait_ms, &b, &err) != 0) {
        if (!goes_on(l, src, &err))
            end_with(l, client_fail(&err, l->consumer->topic, NULL));
        return true;
    }
    bool found = sluice_batch_count(b) > 0;
    if (found)
        show(l, src, b);
    sluice_batch_free(b);
    return found;
}

static void *read_round_and_round(void *arg)
{
    struct reading *r = arg;
    struct share *share = r->share;
    struct log *l = share->log;
    size_t open = 1;
    uint32_t wait_ms = 0;
    while (open > 0 && !stop_asked()) {
        bool found = false;
        open = 0;
        for (size_t i = r->first; i < share->count && !stop_asked(); i += share->threads) {
            if (at_end(l, &share->sources[i]))
                continue;
            open++;
            found |= read_source(l, &share->sources[i], wait_ms);
        }
        wait_ms = 0;
        if (!found && open > 0)
            wait_ms = WAIT_SLICE_MS / open > WAIT_MS_MIN ? (uint32_t)(WAIT_SLICE_MS / open) : WAIT_MS_MIN;
    }
    return NULL;
}

static void read_share(struct share *share)
{
    share->threads = share->count < THREADS_MAX ? share->count : THREADS_MAX;
    for (; share->started < share->threads; share->started++) {
        struct reading *r = &share->readings[share->started];
        *r = (struct reading){.share = share, .first = share->started};
        int code = pthread_create(&r->thread, NULL, read_round_and_round, r);
        if (code != 0) {
            talk("cannot start a thread: %s", strerror(code));
            end_with(share->log, STATUS_ERROR);
            break;
        }
    }
}

/* Reads the partitions that came since. That the topic is gone, or nobody answers, is for those to say who read. */
static void read_new(struct log *l)
{
    static const struct start from_start = {.from = SLUICE_FROM_START};
    struct sluice_topic_list *topics = NULL;
    struct share *share;
    if (sluice_topics(l->consumer->client, l->consumer->topic, &topics, NULL) != 0)
        return;
    uint32_t before = l->partitions, now = topics->topics[0].options.partitions;
    if (now > before && topics->topics[0].id == l->topic) {
        int status = open_sources(l, &topics->topics[0], &from_start, before, now - before, &share);
        l->partitions = now;
        if (status != 0)
            end_with(l, status);
        else
            read_share(share);
    }
    sluice_topics_free(topics);
}

int consume_log(struct consumer *c)
{
    struct sluice_topic_list *topics = NULL;
    struct sluice_error err = {0};
    if (sluice_topics(c->client, c->topic, &topics, &err) != 0)
        return client_fail(&err, c->topic, NULL);

    struct log l = {.consumer = c};
    struct share *share = NULL;
    pthread_mutex_init(&l.lock, NULL);
    int status = open_asked(&l, &topics->topics[0], &c->start, &share);
    sluice_topics_free(topics);
    if (status == 0) {
        read_share(share);
        bool grows = !c->exit_at_end && !args_has(c->args, "partition");
        while (grows && !stop_wait(GROWTH_MS))
            read_new(&l);
    }
    for (share = l.shares; share != NULL; share = share->next)
        for (size_t i = 0; i < share->started; i++)
            pthread_join(share->readings[i].thread, NULL);
    for (struct share *next; (share = l.shares) != NULL; l.shares = next) {
        for (size_t i = 0; i < share->count; i++)
            sluice_reader_close(share->sources[i].reader);
        next = share->next;
        mem_free(share->sources);
        mem_free(share);
    }
    return status != 0 ? status : l.status;
}
