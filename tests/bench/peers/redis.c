/*
 * Redis streams: XADD in pipelines; XREADGROUP and XACK by the consumers of one group. `disk` is appendfsync always, `os` everysec.
 *
 * Commands are laid out in the protocol's own form, and replies looked at as hiredis parses them, without an object for each: what
 * is measured is the server, as redis-benchmark does it.
 */
#include "peer.h"

#if !BENCH_HAS_HIREDIS
PEER_WITHOUT(redis, "redis", "Redis streams", "libhiredis");
#else

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

enum { ID_MAX = 48, BLOCK_MS = 100 };

struct redis {
    struct server server;
    struct account account;
    uint16_t port;
    char version[40];
};

/* ---------------------------------------------------------------- a connection */

struct lane {
    const struct job *job;
    redisContext *c;
    struct feed feed;
    char *commands;               /* of a batch */
    size_t command_size, value_at, commands_size;
    uint64_t failed, values, acknowledged;
    char refusal[120];
    char *ids;                    /* of what XREADGROUP brought, as XACK wants them */
    size_t ids_size;
};

/* Depth of a part of XREADGROUP's reply: streams [stream [name, entries [entry [id, fields [name, value]]]]]. */
static int depth_of(const redisReadTask *t)
{
    int depth = 0;
    for (; t->parent != NULL; t = t->parent)
        depth++;
    return depth;
}

static void *on_string(const redisReadTask *t, char *text, size_t size)
{
    struct lane *l = t->privdata;
    int depth = depth_of(t);
    if (t->type == REDIS_REPLY_ERROR && l->failed++ == 0)
        snprintf(l->refusal, sizeof l->refusal, "%.*s", (int)size, text);
    if (depth == 4 && t->idx == 0 && size < ID_MAX - 16)
        l->ids_size += (size_t)sprintf(l->ids + l->ids_size, "$%zu\r\n%.*s\r\n", size, (int)size, text);
    if (depth == 5 && t->idx == 1) {
        account_seen(l->job->account, text, size);
        l->values++;
    }
    return l;
}

static void *on_array(const redisReadTask *t, int elements)
{
    (void)elements;
    return t->privdata;
}

static void *on_integer(const redisReadTask *t, long long value)
{
    struct lane *l = t->privdata;
    l->acknowledged += (uint64_t)value; /* only XACK answers with a number */
    return l;
}

static void *on_nil(const redisReadTask *t)
{
    return t->privdata;
}

static void on_free(void *unused)
{
    (void)unused;
}

static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};

static int broken(const redisContext *c, struct err *e)
{
    return err_set(e, EPROTO, "redis: %s", c->errstr[0] != '\0' ? c->errstr : strerror(errno));
}

static int dial(const struct redis *r, redisContext **c, struct err *e)
{
    *c = redisConnect("127.0.0.1", r->port);
    if (*c == NULL)
        abort();
    if ((*c)->err == 0)
        return 0;
    int code = broken(*c, e);
    redisFree(*c);
    return code;
}

static int lane_open(struct lane *l, const struct job *j, struct err *e)
{
    const struct work *w = j->work;
    char head[128];
    *l = (struct lane){.job = j};
    int code = dial(j->run, &l->c, e);
    if (code != 0)
        return code;
    l->c->reader->fn = &functions;
    l->c->reader->privdata = l;
    l->ids = malloc((size_t)w->batch * ID_MAX + 1);
    l->value_at = (size_t)snprintf(head, sizeof head, "*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nv\r\n$%u\r\n", w->size);
    l->command_size = l->value_at + w->size + 2;
    l->commands_size = l->command_size * w->batch;
    l->commands = malloc(l->commands_size);
    if (l->ids == NULL || l->commands == NULL)
        abort();
    for (char *at = l->commands; at < l->commands + l->commands_size; at += l->command_size) {
        memcpy(at, head, l->value_at);
        memcpy(at + l->value_at + w->size, "\r\n", 2);
    }
    return 0;
}

static void lane_close(struct lane *l)
{
    redisFree(l->c);
    free(l->commands);
    free(l->ids);
}

static int write_all(struct lane *l, const char *text, size_t size, struct err *e)
{
    int done = 0;
    if (redisAppendFormattedCommand(l->c, text, size) != REDIS_OK)
        return broken(l->c, e);
    while (!done)
        if (redisBufferWrite(l->c, &done) != REDIS_OK)
            return broken(l->c, e);
    return 0;
}

/* The next reply; what it says is in the lane. `values`: messages may be in it. */
static int read_reply(struct lane *l, bool values, struct err *e)
{
    for (;;) {
        void *reply = NULL;
        if (values)
            account_lock(l->job->account);
        int code = redisGetReplyFromReader(l->c, &reply);
        if (values)
            account_unlock(l->job->account);
        if (code != REDIS_OK)
            return broken(l->c, e);
        if (reply != NULL)
            return l->failed == 0 ? 0 : err_set(e, EPROTO, "redis: %s", l->refusal);
        if (redisBufferRead(l->c) != REDIS_OK)
            return broken(l->c, e);
    }
}

/* ---------------------------------------------------------------- produce */

static int send_batch(void *user, uint32_t messages, struct err *e)
{
    struct lane *l = user;
    for (uint32_t i = 0; i < messages; i++)
        feed_fill(&l->feed, l->commands + i * l->command_size + l->value_at);
    return write_all(l, l->commands, messages * l->command_size, e);
}

static int await_batch(void *user, uint32_t messages, struct err *e)
{
    int code = 0;
    for (uint32_t i = 0; i < messages && code == 0; i++)
        code = read_reply(user, false, e);
    return code;
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    struct job *j = load->user;
    int code = lane_open(&l, j, e);
    if (code != 0)
        return code;
    feed_open(&l.feed, j, load->index);
    struct pace p = {.user = &l, .send = send_batch, .await = await_batch};
    code = pace_run(&p, load, j->work, e);
    if (code == 0)
        feed_close(&l.feed);
    lane_close(&l);
    return code;
}

static int redis_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct redis *r = run;
    struct job j = {.run = r, .account = &r->account, .work = w};
    return job_produce(&j, &r->server, produce_lane, out, e);
}

/* ---------------------------------------------------------------- queue */

/* Acknowledges what was read last, if anything, and asks for more: both in one go. */
static int acknowledge_and_ask(struct lane *l, uint32_t index, uint32_t held, bool ask, struct err *e)
{
    size_t room = l->ids_size + 512, n = 0;
    char *text = malloc(room);
    if (text == NULL)
        abort();
    if (held > 0) {
        n += (size_t)snprintf(text, room, "*%u\r\n$4\r\nXACK\r\n$5\r\nbench\r\n$5\r\nbench\r\n", 3 + held);
        memcpy(text + n, l->ids, l->ids_size);
        n += l->ids_size;
    }
    if (ask)
        n += (size_t)snprintf(text + n, room - n, "XREADGROUP GROUP bench lane-%u COUNT %u BLOCK %d STREAMS bench >\r\n", index,
                              l->job->work->batch, BLOCK_MS);
    int code = n > 0 ? write_all(l, text, n, e) : 0;
    free(text);
    return code;
}

static int queue_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    struct job *j = load->user;
    int code = lane_open(&l, j, e);
    if (code != 0)
        return code;
    load_ready(load);
    uint64_t since = clock_mono_ns(), asked = since;
    bool ask = true;
    for (uint32_t held = 0; code == 0 && (ask || held > 0);) {
        ask = intake_goes_on(j, load);
        asked = ask ? clock_mono_ns() : asked;
        code = acknowledge_and_ask(&l, load->index, held, ask, e);
        l.ids_size = l.values = l.acknowledged = 0;
        if (code == 0 && held > 0) {
            code = read_reply(&l, false, e);
            if (code == 0 && l.acknowledged != held)
                code = err_set(e, EPROTO, "redis: of %u messages %llu were acknowledged", held, (unsigned long long)l.acknowledged);
            intake_done(j, load, since, held);
        }
        since = asked;
        if (code == 0 && ask)
            code = read_reply(&l, true, e);
        held = (uint32_t)l.values;
    }
    lane_close(&l);
    return code;
}

static int redis_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct redis *r = run;
    struct job j = {.run = r, .account = &r->account, .work = w};
    return job_queue(&j, &r->server, queue_lane, out, e);
}

/* ---------------------------------------------------------------- the server */

static bool redis_present(char why[160])
{
    char path[PATH_MAX];
    return peer_program("redis-server", path, why);
}

static int ask_once(redisContext *c, const char *command, char *out, size_t size, struct err *e)
{
    redisReply *reply = redisCommand(c, command);
    if (reply == NULL)
        return broken(c, e);
    int code = reply->type == REDIS_REPLY_ERROR ? err_set(e, EPROTO, "redis: %s: %s", command, reply->str) : 0;
    const char *version = reply->str != NULL ? strstr(reply->str, "redis_version:") : NULL;
    if (version != NULL && size > 0)
        snprintf(out, size, "%.*s", (int)strcspn(version + 14, "\r\n"), version + 14);
    freeReplyObject(reply);
    return code;
}

static int prepare(struct redis *r, struct err *e)
{
    redisContext *c;
    int code = dial(r, &c, e);
    if (code != 0)
        return code;
    code = ask_once(c, "XGROUP CREATE bench bench 0 MKSTREAM", NULL, 0, e);
    if (code == 0)
        code = ask_once(c, "INFO server", r->version, sizeof r->version, e);
    redisFree(c);
    return code;
}

static void redis_stop(void *run)
{
    struct redis *r = run;
    server_stop(&r->server);
    account_close(&r->account);
    free(r);
}

static int redis_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    char program[PATH_MAX], conf[PATH_MAX], port[8];
    struct redis *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    account_open(&r->account);
    r->port = server_free_port();
    snprintf(port, sizeof port, "%u", r->port);
    const char *argv[] = {program, conf, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--appendfsync",
                          w->durability == SLUICE_DISK ? "always" : "everysec", NULL};
    int code = peer_file("redis.conf", conf, e);
    if (code == 0 && !peer_program("redis-server", program, NULL))
        code = err_set(e, ENOENT, "there is no redis-server");
    if (code == 0)
        code = server_start(&r->server, &(struct server_spec){.name = "redis", .argv = argv, .dir = dir}, e);
    if (code == 0)
        code = server_wait_port(&r->server, r->port, 30, e);
    if (code == 0)
        code = prepare(r, e);
    if (code != 0)
        redis_stop(r);
    else
        *run = r;
    return code;
}

static const char *redis_version(void *run)
{
    return ((struct redis *)run)->version;
}

static const struct server *redis_server(void *run)
{
    return &((struct redis *)run)->server;
}

const struct rival rival_redis = {
    .name = "redis",
    .title = "Redis streams",
    .connections = 50,
    .kind = RIVAL_PEER,
    .disk = true,
    .os = true,
    .present = redis_present,
    .start = redis_start,
    .stop = redis_stop,
    .version = redis_version,
    .server = redis_server,
    .produce = redis_produce,
    .queue = redis_queue,
};

#endif
