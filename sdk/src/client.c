#include "sdk/client.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    REQUEST_TIMEOUT_MS = 30 * 1000,
    CONNECT_TIMEOUT_MS = 10 * 1000,
    MEMORY_MAX = 64 << 20,
    MEMORY_LEAST = 64 << 10, /* less cannot work at all */
    BATCH_BYTES_MAX = 256 << 10,
    BATCH_RECORDS_MAX = 4096,
    BYE_MS = 500, /* for the answer to bye, however little time sluice_close was given */
};

static const char default_broker[] = "tcp://127.0.0.1:7400";

const char *sluice_version(void)
{
    return SLUICE_VERSION;
}

struct sluice_bytes sluice_str(const char *text)
{
    return (struct sluice_bytes){text, text != NULL ? strlen(text) : 0};
}

/* ---------------------------------------------------------------- what the parts share */

void client_take(struct sluice *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void client_drop(struct sluice *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    catalog_free(&s->catalog);
    pthread_mutex_destroy(&s->lock);
    budget_free(&s->budget);
    mem_free(s->url);
    mem_free(s->name);
    mem_free(s->tls_ca_file);
    mem_free(s->tls_cert_file);
    mem_free(s);
}

int client_fatal(struct sluice *s, struct sluice_error *err)
{
    return atomic_load(&s->dead) ? fail_same(err, &s->fatal) : 0;
}

int client_may_block(struct sluice *s, const char *what, struct sluice_error *err)
{
    if (loop_here(&s->loop))
        return fail(err, E_INVALID_ARGUMENT, "%s blocks, and must not be done in a callback", what);
    return client_fatal(s, err);
}

void client_http(struct sluice *s, char *out, size_t size)
{
    pthread_mutex_lock(&s->lock);
    snprintf(out, size, "%s", s->http);
    pthread_mutex_unlock(&s->lock);
}

uint64_t deadline_in(uint64_t ms)
{
    uint64_t now = clock_mono_ns();
    return ms < (UINT64_MAX - now) / NS_PER_MS ? now + ms * NS_PER_MS : UINT64_MAX;
}

uint64_t client_deadline(const struct sluice *s)
{
    return deadline_in(s->options.request_timeout_ms);
}

struct request *client_request(struct sluice *s, enum wire_verb verb, enum lane_kind kind,
                               const char *about_fmt, ...)
{
    assert(kind != LANE_ORDERED);
    struct request *r = request_new(verb);
    r->lane = kind == LANE_READS ? &s->session.reads : &s->session.free;
    r->deadline_ns = client_deadline(s);
    char about[ERR_TEXT_MAX];
    va_list args;
    va_start(args, about_fmt);
    vsnprintf(about, sizeof about, about_fmt, args);
    va_end(args);
    r->about = (const char *)request_keep(r, view_of_str(about)).data;
    return r;
}

struct call {
    struct waiter waiter;
    struct answer *answer;
    struct sluice_error error;
};

static void call_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct call *c = r->owner;
    if (error != NULL)
        c->error = *error;
    else
        c->answer = answer_take(a);
    waiter_done(&c->waiter);
}

int client_call(struct sluice *s, struct request *r, struct answer **out, struct sluice_error *err)
{
    int code = client_may_block(s, "asking the broker", err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct call call = {.error.code = 0};
    waiter_init(&call.waiter);
    r->done = call_done;
    r->owner = &call;
    session_post(&s->session, r);
    waiter_wait(&call.waiter);
    *out = call.answer;
    return call.answer != NULL ? 0 : fail_same(err, &call.error);
}

/* ---------------------------------------------------------------- the loop's thread */

struct opening {
    struct sluice *client;
    struct waiter waiter;
    struct timer timer;
    struct event arrived;
    uint64_t deadline_ns;
    struct sluice_error error;
};

/* sluice_close, step by step, each with what is left of its time:
 *
 *     flush: what was published was told, what was settled was told -> bye: answered -> stop
 */
struct closing {
    struct sluice *client;
    struct waiter waiter;
    struct timer timer;
    struct event arrived;
    uint64_t deadline_ns;
    enum { CLOSING_FLUSH, CLOSING_BYE, CLOSING_DONE } step;
    uint64_t undelivered;
};

static void opened(struct sluice *s, const struct sluice_error *error)
{
    struct opening *o = s->opening;
    if (o == NULL)
        return;
    s->opening = NULL;
    timer_stop(&s->loop, &o->timer);
    if (error != NULL)
        o->error = *error;
    waiter_done(&o->waiter);
}

static void open_timer(struct timer *t)
{
    struct sluice *s = container_of(t, struct opening, timer)->client;
    struct sluice_error error;
    if (s->session.refused.code != 0)
        error = s->session.refused;
    else if (s->session.state == SESSION_GREETING)
        fail(&error, E_TIMEOUT, "timed out: %s is connected, but does not answer hello", s->url);
    else
        session_never_sent(&s->session, "hello", &error);
    opened(s, &error);
}

static void open_arrived(struct event *e)
{
    struct opening *o = container_of(e, struct opening, arrived);
    struct sluice *s = o->client;
    s->opening = o;
    if (s->session.state == SESSION_READY)
        opened(s, NULL);
    else if (s->session.state == SESSION_DEAD)
        opened(s, &s->session.fatal);
    else if (s->missed && s->options.connect_once)
        open_timer(&o->timer);
    else
        timer_set(&s->loop, &o->timer, o->deadline_ns);
}

static void session_ready(void *user)
{
    struct sluice *s = user;
    producer_limits(&s->producer, &s->session.limits);
    pthread_mutex_lock(&s->lock);
    memcpy(s->http, s->session.http, sizeof s->http);
    pthread_mutex_unlock(&s->lock);
    ear_told(&s->ear, s->session.publish);
    opened(s, NULL);
}

/* From now on every call is answered with this. The first reason stays. */
static void no_more(struct sluice *s, const struct sluice_error *why)
{
    if (atomic_load(&s->dead))
        return;
    s->fatal = *why;
    atomic_store(&s->dead, true);
}

static void session_dead(void *user, const struct sluice_error *why)
{
    struct sluice *s = user;
    no_more(s, why);
    producer_fail(&s->producer, why);
    consumer_fail(&s->consumer, why);
    settler_fail(&s->settler, why);
    ear_told(&s->ear, "");
    opened(s, why);
}

/* Who asked for one attempt only is told of the first. */
static void session_missed(void *user)
{
    struct sluice *s = user;
    s->missed = true;
    if (s->opening != NULL && s->options.connect_once)
        open_timer(&s->opening->timer);
}

static const struct session_events session_events = {
    .ready = session_ready, .dead = session_dead, .missed = session_missed};

static void close_finish(struct sluice *s)
{
    struct closing *c = s->closing;
    if (c->step == CLOSING_DONE)
        return;
    c->step = CLOSING_DONE;
    struct sluice_error why;
    fail(&why, E_CLOSED, "the client was closed");
    session_die(&s->session, &why); /* whatever else still waits */
    timer_stop(&s->loop, &c->timer);
    loop_stop(&s->loop);
}

static void bye_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    (void)a;
    (void)error;
    struct sluice *s = r->owner;
    if (s->session.state != SESSION_DEAD) /* else close_finish is what failed it */
        timer_set(&s->loop, &s->closing->timer, s->loop.now_ns);
}

/* Everything is flushed, or its time is up. */
static void close_bye(struct sluice *s)
{
    struct closing *c = s->closing;
    c->step = CLOSING_BYE;
    struct sluice_error why;
    fail(&why, E_CLOSED, "the client was closed");
    no_more(s, &why); /* callbacks may try to publish */
    fail(&why, E_NOT_DELIVERED, "not confirmed before the client closed");
    c->undelivered = producer_fail(&s->producer, &why);
    fail(&why, E_CLOSED, "the client was closed");
    consumer_fail(&s->consumer, &why);
    settler_fail(&s->settler, &why);
    if (s->session.state != SESSION_READY) {
        close_finish(s);
        return;
    }
    uint64_t least = s->loop.now_ns + BYE_MS * NS_PER_MS;
    timer_set(&s->loop, &c->timer, c->deadline_ns > least ? c->deadline_ns : least);
    struct request *bye = client_request(s, VERB_BYE, LANE_READS, "bye");
    bye->deadline_ns = UINT64_MAX;
    bye->done = bye_done;
    bye->owner = s;
    session_submit(&s->session, bye);
}

static void close_timer(struct timer *t)
{
    struct sluice *s = container_of(t, struct closing, timer)->client;
    if (s->closing->step == CLOSING_FLUSH)
        close_bye(s);
    else
        close_finish(s);
}

static void close_arrived(struct event *e)
{
    struct closing *c = container_of(e, struct closing, arrived);
    struct sluice *s = c->client;
    s->closing = c;
    producer_hurry(&s->producer);
    consumer_close(&s->consumer);
    timer_set(&s->loop, &c->timer, c->deadline_ns);
}

/* The end of each round of the loop: what can now be sent is sent. */
static void client_round(struct loop *l)
{
    struct sluice *s = container_of(l, struct sluice, loop);
    settler_step(&s->settler); /* first: what is settled may carry a receive */
    consumer_step(&s->consumer);
    producer_step(&s->producer);
    if (s->closing != NULL && s->closing->step == CLOSING_FLUSH &&
        (s->session.state == SESSION_DEAD || (producer_idle(&s->producer) && settler_idle(&s->settler))))
        close_bye(s);
    session_send(&s->session);
    wire_flush(s->wire);
    atomic_store(&s->counters.connected, s->session.state == SESSION_READY);
    atomic_store(&s->counters.repeated, s->session.repeated);
    atomic_store(&s->counters.reconnects, s->session.reconnects);
}

static void room_freed(struct budget *b)
{
    loop_wake(&container_of(b, struct sluice, budget)->loop);
}

/* ---------------------------------------------------------------- opening and closing */

/* "program@host/pid" */
static char *default_name(void)
{
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    char name[WIRE_NAME_MAX];
    snprintf(name, sizeof name, "%s@%s/%ld", program_invocation_short_name, host, (long)getpid());
    return mem_strdup(name);
}

static int check_options(struct sluice_options *o, struct sluice_error *err)
{
    if (o->broker == NULL)
        o->broker = getenv("SLUICE_BROKER");
    if (o->broker == NULL || o->broker[0] == '\0')
        o->broker = default_broker;
    if (o->name != NULL && (o->name[0] == '\0' || strlen(o->name) > WIRE_NAME_MAX))
        return fail(err, E_INVALID_ARGUMENT, "name: has %zu bytes, 1 to %d are accepted", strlen(o->name),
                    WIRE_NAME_MAX);
    if (o->tls_ca_file == NULL)
        o->tls_ca_file = getenv("SLUICE_TLS_CA_FILE");
    if (o->tls_cert_file == NULL)
        o->tls_cert_file = getenv("SLUICE_TLS_CERT_FILE");
    if (o->request_timeout_ms == 0)
        o->request_timeout_ms = REQUEST_TIMEOUT_MS;
    if (o->connect_timeout_ms == 0)
        o->connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (o->memory_max == 0)
        o->memory_max = MEMORY_MAX;
    if (o->memory_max < MEMORY_LEAST)
        return fail(err, E_INVALID_ARGUMENT, "memory_max: %zu bytes, at least %d are needed", o->memory_max,
                    MEMORY_LEAST);
    if (o->batch_bytes_max == 0)
        o->batch_bytes_max = BATCH_BYTES_MAX;
    if (o->batch_bytes_max > WIRE_MESSAGE_MAX)
        return fail(err, E_INVALID_ARGUMENT, "batch_bytes_max: %u, at most %d are accepted",
                    o->batch_bytes_max, WIRE_MESSAGE_MAX);
    if (o->batch_bytes_max > o->memory_max / 8) /* so that one on its way fits into what is set aside */
        o->batch_bytes_max = (uint32_t)(o->memory_max / 8);
    if (o->batch_records_max == 0)
        o->batch_records_max = BATCH_RECORDS_MAX;
    if (o->batch_records_max > WIRE_BATCH_RECORDS_MAX)
        return fail(err, E_INVALID_ARGUMENT, "batch_records_max: %u, at most %d are accepted",
                    o->batch_records_max, WIRE_BATCH_RECORDS_MAX);
    if (o->compression < SLUICE_COMPRESSION_DEFAULT || o->compression > SLUICE_COMPRESSION_ZSTD)
        return fail(err, E_INVALID_ARGUMENT, "compression: %d is none of enum sluice_compression",
                    o->compression);
    return 0;
}

static struct sluice *client_new(const struct sluice_options *o)
{
    struct sluice *s = mem_zalloc(sizeof *s);
    atomic_init(&s->refs, 1);
    s->options = *o;
    s->url = mem_strdup(o->broker);
    s->name = o->name != NULL ? mem_strdup(o->name) : default_name();
    s->options.broker = s->url;
    s->options.name = s->name;
    s->tls_ca_file = o->tls_ca_file != NULL ? mem_strdup(o->tls_ca_file) : NULL;
    s->tls_cert_file = o->tls_cert_file != NULL ? mem_strdup(o->tls_cert_file) : NULL;
    s->options.tls_ca_file = s->tls_ca_file;
    s->options.tls_cert_file = s->tls_cert_file;
    budget_init(&s->budget, o->memory_max, room_freed);
    catalog_init(&s->catalog);
    pthread_mutex_init(&s->lock, NULL);
    session_init(&s->session, &s->loop, &s->budget, &session_events, s, s->url, s->name);
    s->session.log = o->log;
    s->session.log_user = o->log_user;
    producer_init(&s->producer, s);
    consumer_init(&s->consumer, s);
    settler_init(&s->settler, s);
    ear_init(&s->ear, s);
    return s;
}

/* What is left once the loop's thread has ended, or if it never began. */
static void client_end(struct sluice *s)
{
    if (s->wire != NULL)
        wire_close(s->wire);
    ear_close(&s->ear);
    loop_finish(&s->loop);
    if (s->wire != NULL)
        wire_free(s->wire);
    ear_free(&s->ear);
    producer_free(&s->producer);
    consumer_free(&s->consumer);
    client_drop(s);
}

static int client_start(struct sluice *s, const struct sluice_options *o, struct sluice_error *err)
{
    struct err e;
    if (loop_init(&s->loop, client_round, &e) != 0) {
        client_drop(s);
        return fail_below(err, E_NO_MEMORY, &e, NULL);
    }
    int code = wire_open(&s->wire, o, &s->loop, &session_wire_events, &s->session, err);
    if (code != 0) {
        client_end(s);
        return code;
    }
    s->session.wire = s->wire;
    if (loop_start(&s->loop, &e) != 0) {
        client_end(s);
        return fail_below(err, E_NO_MEMORY, &e, NULL);
    }
    return 0;
}

int sluice_open(struct sluice **out, const struct sluice_options *options, struct sluice_error *err)
{
    if (out == NULL)
        return fail(err, E_INVALID_ARGUMENT, "sluice_open: out is NULL");
    *out = NULL;
    struct sluice_options o;
    int code = TAKE_STRUCT(&o, options, sluice_options, log_user, err);
    if (code == 0)
        code = check_options(&o, err);
    if (code != 0)
        return code;

    struct sluice *s = client_new(&o);
    code = client_start(s, &o, err);
    if (code != 0)
        return code;
    struct opening opening = {.client = s,
                              .timer.fire = open_timer,
                              .arrived.run = open_arrived,
                              .deadline_ns = deadline_in(o.connect_timeout_ms)};
    waiter_init(&opening.waiter);
    loop_post(&s->loop, &opening.arrived);
    waiter_wait(&opening.waiter);
    if (opening.error.code != 0) {
        sluice_close(s, 0, NULL, NULL);
        return fail_same(err, &opening.error);
    }
    *out = s;
    return 0;
}

int sluice_close(struct sluice *s, uint32_t timeout_ms, uint64_t *undelivered, struct sluice_error *err)
{
    if (undelivered != NULL)
        *undelivered = 0;
    if (s == NULL)
        return 0;
    if (loop_here(&s->loop))
        return fail(err, E_INVALID_ARGUMENT, "sluice_close blocks, and must not be done in a callback");
    struct closing closing = {.client = s,
                              .timer.fire = close_timer,
                              .arrived.run = close_arrived,
                              .deadline_ns = deadline_in(timeout_ms)};
    loop_post(&s->loop, &closing.arrived);
    loop_join(&s->loop);
    client_end(s);
    if (undelivered != NULL)
        *undelivered = closing.undelivered;
    if (closing.undelivered == 0)
        return 0;
    return fail(err, E_NOT_DELIVERED, "%llu messages were not confirmed before the client closed",
                (unsigned long long)closing.undelivered);
}

void sluice_stats(struct sluice *s, struct sluice_stats *out)
{
    struct client_counters *c = &s->counters;
    struct sluice_stats now = {
        .size = out->size,
        .memory_bytes = atomic_load(&s->budget.used),
        .memory_max = s->options.memory_max,
        .published = atomic_load(&c->published),
        .confirmed = atomic_load(&c->confirmed),
        .failed = atomic_load(&c->failed),
        .received = atomic_load(&c->received),
        .settled = atomic_load(&c->settled),
        .repeated = atomic_load(&c->repeated),
        .reconnects = atomic_load(&c->reconnects),
        .connected = atomic_load(&c->connected),
    };
    memcpy(out, &now, out->size < sizeof now ? out->size : sizeof now);
}
