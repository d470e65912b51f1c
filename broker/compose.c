#include "broker/compose.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/mem.h"
#include "broker/loop.h"
#include "broker/measures.h"
#include "schemas/errors.h"
#include "store/store_rocks.h"
#include "web/metrics.h"

enum { FLUSH_MS = 1000 }; /* for replies to leave the process, after everything else has stopped */

struct compose {
    const struct config *config;
    void (*fatal)(void *user, const struct err *why);
    void *user;
    struct http *http;
    struct store *store;
    struct api *api;
    struct loop *loop;
    struct wire *wire;
    pthread_rwlock_t gate; /* read: by who goes through to the loop */
    bool open;             /* under gate: the loop takes what comes, and tells how it is */
};

static bool gate_enter(struct compose *c)
{
    pthread_rwlock_rdlock(&c->gate);
    if (c->open)
        return true;
    pthread_rwlock_unlock(&c->gate);
    return false;
}

static void gate_leave(struct compose *c)
{
    pthread_rwlock_unlock(&c->gate);
}

/* After it was shut nobody is inside, and nobody gets in. */
static void gate_set(struct compose *c, bool open)
{
    pthread_rwlock_wrlock(&c->gate);
    c->open = open;
    pthread_rwlock_unlock(&c->gate);
}

/* ---------------------------------------------------------------- what the parts ask of each other */

static int submit(void *ctx, struct op *op)
{
    struct compose *c = ctx;
    if (!gate_enter(c))
        return E_SHUTTING_DOWN;
    int code = loop_submit(c->loop, op);
    gate_leave(c);
    return code;
}

static void pipe_lost(void *user, uint64_t pipe)
{
    struct compose *c = user;
    if (!gate_enter(c))
        return;
    loop_pipe_lost(c->loop, pipe);
    gate_leave(c);
}

static void help(void *user)
{
    struct compose *c = user;
    if (!gate_enter(c))
        return;
    loop_help(c->loop);
    gate_leave(c);
}

static void on_hint(void *user, uint32_t group, const char *topic, const char *name)
{
    struct compose *c = user;
    wire_hint(c->wire, group, topic, name);
}

static void on_drop_pipe(void *user, uint64_t pipe)
{
    struct compose *c = user;
    wire_drop_pipe(c->wire, pipe);
}

static void on_partition(void *user, const struct effect_partition *p)
{
    struct compose *c = user;
    if (p->gone)
        api_partition_gone(c->api, p->partition);
    else
        api_partition_set(c->api, p->partition, p->index, p->count);
}

static void on_fatal(void *user, const struct err *why)
{
    struct compose *c = user;
    c->fatal(c->user, why);
}

static bool is_ready(void *user, char reason[HTTP_REASON_MAX])
{
    struct compose *c = user;
    struct loop_status s;
    if (!gate_enter(c)) {
        snprintf(reason, HTTP_REASON_MAX, "starting or stopping");
        return false;
    }
    loop_status(c->loop, &s);
    gate_leave(c);
    const char *why = s.stopping ? "stopping" : s.read_only ? "read only: the disk is full" : NULL;
    if (why != NULL)
        snprintf(reason, HTTP_REASON_MAX, "%s", why);
    return why == NULL;
}

static void put_metrics(void *user, struct buf *out)
{
    struct compose *c = user;
    metrics_process(out, "broker");
    measures_limits(c->config, out);
    struct loop_status l;
    struct wire_stats w;
    if (!gate_enter(c))
        return;
    loop_status(c->loop, &l);
    wire_stats(c->wire, &w);
    gate_leave(c);
    measures_loop(&l, out);
    measures_wire(&w, out);
}

/* ---------------------------------------------------------------- starting */

static void on_store_log(void *user, int level, const char *text)
{
    (void)user;
    log_line((enum log_level)level, "store text=%s", LOG_STR(text));
}

static int start_http(struct compose *c, struct err *e)
{
    const struct http_options o = {.address = c->config->http,
                                   .bounds = &c->config->http_limits,
                                   .ready = is_ready,
                                   .metrics = put_metrics,
                                   .user = c};
    return c->config->http[0] != '\0' ? http_start(&c->http, &o, e) : E_OK;
}

static int open_store(struct compose *c, struct err *e)
{
    const struct broker_limits *l = &c->config->broker;
    const struct store_rocks_options o = {.path = c->config->data,
                                          .memory_bytes = l->store_memory_bytes,
                                          .wal_bytes_max = l->wal_bytes_max,
                                          .reserve_file_bytes =
                                              l->reserve_file_bytes > 0 ? l->reserve_file_bytes : UINT64_MAX,
                                          .background_threads = (int)l->store_threads,
                                          .log = on_store_log};
    return c->store != NULL ? E_OK : store_rocks_open(&c->store, &o, e);
}

static int open_loop(struct compose *c, struct err *e)
{
    const struct broker_limits *l = &c->config->broker;
    struct loop_options o = {.store = c->store,
                             .limits = &c->config->engine,
                             .reader_threads = (uint32_t)l->reader_threads,
                             .reclaim_interval_ms = l->reclaim_interval_ms,
                             .reclaim_bytes_min = l->reclaim_bytes_min,
                             .backup_dir = c->config->backup_dir,
                             .data_dir = c->config->data,
                             .backups_max = l->backups_max,
                             .workers = &c->config->workers,
                             .tail_cache_bytes = l->tail_cache_bytes,
                             .inbox_bytes_max = l->inbox_bytes_max,
                             .hint = on_hint,
                             .drop_pipe = on_drop_pipe,
                             .partition = on_partition,
                             .fatal = on_fatal,
                             .user = c};
    entropy_fill(&o.seed, sizeof o.seed);
    const struct engine_now now = {.mono_ms = clock_mono_ms(), .wall_ms = clock_wall_ms()};
    return loop_open(&c->loop, &o, now, e);
}

static int open_wire(struct compose *c, struct err *e)
{
    const struct config *f = c->config;
    const struct wire_options o = {.api = c->api,
                                   .bounds = &f->wire,
                                   .limits = &f->engine,
                                   .message_bytes_max = config_message_bytes_max(f),
                                   .listen = (const char *const *)f->listen.at,
                                   .listen_n = f->listen.n,
                                   .publish = (const char *const *)f->publish.at,
                                   .publish_n = f->publish.n,
                                   .tls = config_tls(f),
                                   .pipe_lost = pipe_lost, .help = help,
                                   .user = c};
    return wire_open(&c->wire, &o, e);
}

/* The wire is there before the loop turns, as the loop leaves hints; it listens last, as clients ask at once. */
static int start_all(struct compose *c, struct err *e)
{
    int code = start_http(c, e);
    if (code == E_OK)
        code = open_store(c, e);
    if (code == E_OK)
        code = open_wire(c, e);
    if (code == E_OK)
        code = open_loop(c, e);
    if (code == E_OK)
        code = loop_start(c->loop, e);
    gate_set(c, code == E_OK);
    if (code == E_OK)
        code = wire_listen(c->wire, compose_http(c), e);
    if (code != E_OK)
        return code;
    if (c->http != NULL)
        http_use(c->http, c->api);
    return E_OK;
}

int compose_start(struct compose **out, const struct compose_options *o, struct err *e)
{
    struct compose *c = mem_zalloc(sizeof *c);
    c->config = o->config;
    c->fatal = o->fatal;
    c->user = o->user;
    c->store = o->store;
    pthread_rwlock_init(&c->gate, NULL);
    const struct api_options api = {.limits = &c->config->engine,
                                    .message_bytes_max = config_message_bytes_max(c->config),
                                    .port = {submit, c}};
    c->api = api_new(&api);
    int code = start_all(c, e);
    if (code == E_OK)
        *out = c;
    else
        compose_stop(c);
    return code;
}

/* ---------------------------------------------------------------- stopping */

/* First the loop ends its work, then nobody reaches it any more, then it answers what came too late; only when all replies are given
 * can those go who wait for them. */
void compose_stop(struct compose *c)
{
    if (c == NULL)
        return;
    if (c->wire != NULL)
        wire_close_door(c->wire);
    if (c->loop != NULL)
        loop_stop(c->loop, (uint32_t)c->config->broker.drain_ms);
    gate_set(c, false);
    loop_close(c->loop);
    http_stop(c->http);
    wire_close(c->wire, FLUSH_MS);
    api_free(c->api);
    store_close(c->store);
    pthread_rwlock_destroy(&c->gate);
    mem_free(c);
}

const struct wire *compose_wire(const struct compose *c)
{
    return c->wire;
}

const char *compose_http(const struct compose *c)
{
    return c->http != NULL ? http_address(c->http) : "";
}
