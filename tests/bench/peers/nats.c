/*
 * NATS JetStream on its file store: publishing asynchronously; a durable pull consumer that fetches batches and acknowledges each
 * message. `os` only: this version syncs every two minutes whatever it is told.
 */
#include "peer.h"

#if !BENCH_HAS_NATS
PEER_WITHOUT(nats, "nats", "NATS JetStream", "libnats");
#else

#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

enum { ACK_WAIT_S = 600, FETCH_MS = 5000, EMPTY_MS = 1, TIMEOUT_MS = 60000 };

struct nats {
    struct server server;
    struct account account;
    uint16_t port;
    char version[40];
};

static int status_code(natsStatus s, const char *what, struct err *e)
{
    return s == NATS_OK ? 0 : err_set(e, EPROTO, "nats: %s: %s", what, natsStatus_GetText(s));
}

/* ---------------------------------------------------------------- a connection */

struct lane {
    const struct job *job;
    struct load_lane *load;
    natsConnection *nc;
    jsCtx *js;
    struct feed feed;
    uint8_t *bytes;
    pthread_mutex_t lock;          /* of what follows: the library's thread takes from it */
    struct load_ticket *tickets;   /* out, oldest first */
    uint32_t room, first, count;
    uint32_t acknowledged;         /* of the oldest */
    bool refused;
    char refusal[120];
};

/* Acknowledgements of one connection come in the order of what was published. */
static void on_ack(jsCtx *js, natsMsg *message, jsPubAck *ack, jsPubAckErr *refusal, void *user)
{
    struct lane *l = user;
    struct load_ticket done = {0};
    (void)js;
    natsMsg_Destroy(message);
    pthread_mutex_lock(&l->lock);
    if (ack == NULL && !l->refused) {
        l->refused = true;
        snprintf(l->refusal, sizeof l->refusal, "%s", refusal->ErrText != NULL ? refusal->ErrText : natsStatus_GetText(refusal->Err));
    }
    if (l->count > 0 && ++l->acknowledged == l->tickets[l->first].messages) {
        done = l->tickets[l->first];
        l->first = (l->first + 1) % l->room;
        l->count--;
        l->acknowledged = 0;
    }
    pthread_mutex_unlock(&l->lock);
    if (done.messages > 0)
        load_done(l->load, &done);
}

static int dial(const struct nats *n, natsConnection **nc, struct err *e)
{
    char url[64];
    natsOptions *o = NULL;
    snprintf(url, sizeof url, "nats://127.0.0.1:%u", n->port);
    natsStatus s = natsOptions_Create(&o);
    if (s == NATS_OK)
        s = natsOptions_SetURL(o, url);
    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(o, false);
    if (s == NATS_OK)
        s = natsOptions_SetMaxPendingMsgs(o, 1 << 20);
    if (s == NATS_OK)
        s = natsConnection_Connect(nc, o);
    natsOptions_Destroy(o);
    return status_code(s, "connect", e);
}

static int lane_open(struct lane *l, struct load_lane *load, struct err *e)
{
    const struct job *j = load->user;
    const struct work *w = j->work;
    *l = (struct lane){.job = j, .load = load, .lock = PTHREAD_MUTEX_INITIALIZER, .room = w->window + 1};
    int code = dial(j->run, &l->nc, e);
    if (code != 0)
        return code;
    jsOptions o;
    jsOptions_Init(&o);
    o.PublishAsync.MaxPending = (int64_t)w->batch * l->room;
    o.PublishAsync.StallWait = TIMEOUT_MS;
    o.PublishAsync.AckHandler = on_ack;
    o.PublishAsync.AckHandlerClosure = l;
    l->bytes = malloc(w->size);
    l->tickets = calloc(l->room, sizeof *l->tickets);
    if (l->bytes == NULL || l->tickets == NULL)
        abort();
    return status_code(natsConnection_JetStream(&l->js, l->nc, &o), "jetstream", e);
}

static void lane_close(struct lane *l)
{
    jsCtx_Destroy(l->js);
    natsConnection_Close(l->nc);
    natsConnection_Destroy(l->nc);
    free(l->bytes);
    free(l->tickets);
}

/* ---------------------------------------------------------------- produce */

static bool refused(struct lane *l)
{
    pthread_mutex_lock(&l->lock);
    bool yes = l->refused;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

static void push(struct lane *l, const struct load_ticket *t)
{
    pthread_mutex_lock(&l->lock);
    l->tickets[(l->first + l->count++) % l->room] = *t;
    pthread_mutex_unlock(&l->lock);
}

static int publish_all(struct lane *l, struct err *e)
{
    natsStatus s = NATS_OK;
    load_ready(l->load);
    for (struct load_ticket t; s == NATS_OK && !refused(l) && load_next(l->load, &t);) {
        push(l, &t);
        for (uint32_t i = 0; i < t.messages && s == NATS_OK; i++) {
            feed_fill(&l->feed, l->bytes);
            s = js_PublishAsync(l->js, "bench", l->bytes, (int)l->job->work->size, NULL);
        }
    }
    if (s == NATS_OK) {
        jsPubOptions wait;
        jsPubOptions_Init(&wait);
        wait.MaxWait = TIMEOUT_MS;
        s = js_PublishAsyncComplete(l->js, &wait);
    }
    if (refused(l))
        return err_set(e, EPROTO, "nats: publish: %s", l->refusal);
    return status_code(s, "publish", e);
}

/* The last callbacks may still run when nothing is out any more. */
static void await_callbacks(struct lane *l)
{
    for (bool some = true; some;) {
        pthread_mutex_lock(&l->lock);
        some = l->count > 0;
        pthread_mutex_unlock(&l->lock);
        if (some)
            nats_Sleep(EMPTY_MS);
    }
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    int code = lane_open(&l, load, e);
    if (code == 0) {
        feed_open(&l.feed, l.job, load->index);
        code = publish_all(&l, e);
    }
    if (code == 0) {
        await_callbacks(&l);
        feed_close(&l.feed);
    }
    lane_close(&l);
    return code;
}

static int nats_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct nats *n = run;
    struct job j = {.run = n, .account = &n->account, .work = w};
    return job_produce(&j, &n->server, produce_lane, out, e);
}

/* ---------------------------------------------------------------- queue */

/* An acknowledgement is not answered, so it has no latency: 0 says so. */
static natsStatus take_batch(struct lane *l, const natsMsgList *list)
{
    struct account *a = l->job->account;
    natsStatus s = NATS_OK;
    account_lock(a);
    for (int i = 0; i < list->Count; i++)
        account_seen(a, natsMsg_GetData(list->Msgs[i]), (size_t)natsMsg_GetDataLength(list->Msgs[i]));
    account_unlock(a);
    for (int i = 0; i < list->Count && s == NATS_OK; i++)
        s = natsMsg_Ack(list->Msgs[i], NULL);
    intake_done(l->job, l->load, 0, (uint64_t)list->Count);
    return s;
}

static int take_all(struct lane *l, natsSubscription *sub, struct err *e)
{
    natsStatus s = NATS_OK;
    load_ready(l->load);
    while (s == NATS_OK && intake_goes_on(l->job, l->load)) {
        natsMsgList list = {0};
        jsFetchRequest ask;
        jsFetchRequest_Init(&ask);
        ask.Batch = (int)l->job->work->batch;
        ask.NoWait = true;
        ask.Expires = FETCH_MS * INT64_C(1000000);
        s = natsSubscription_FetchRequest(&list, sub, &ask);
        if (s == NATS_OK)
            s = take_batch(l, &list);
        natsMsgList_Destroy(&list);
        if (s == NATS_TIMEOUT || s == NATS_NOT_FOUND) {
            nats_Sleep(EMPTY_MS);
            s = NATS_OK;
        }
    }
    if (s == NATS_OK)
        s = natsConnection_FlushTimeout(l->nc, TIMEOUT_MS);
    return status_code(s, "fetch", e);
}

static int queue_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    natsSubscription *sub = NULL;
    int code = lane_open(&l, load, e);
    if (code == 0) {
        jsSubOptions o;
        jsErrCode reason = 0;
        jsSubOptions_Init(&o);
        o.Stream = "bench";
        o.Consumer = "bench";
        code = status_code(js_PullSubscribe(&sub, l.js, "bench", "bench", NULL, &o, &reason), "subscribe", e);
    }
    if (code == 0)
        code = take_all(&l, sub, e);
    natsSubscription_Destroy(sub);
    lane_close(&l);
    return code;
}

static int nats_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct nats *n = run;
    struct job j = {.run = n, .account = &n->account, .work = w};
    return job_queue(&j, &n->server, queue_lane, out, e);
}

/* ---------------------------------------------------------------- the server */

static bool nats_present(char why[160])
{
    char path[PATH_MAX];
    return peer_program("nats-server", path, why);
}

static natsStatus make_stream(jsCtx *js)
{
    const char *subjects[] = {"bench"};
    jsStreamConfig stream;
    jsErrCode reason = 0;
    jsStreamConfig_Init(&stream);
    stream.Name = "bench";
    stream.Subjects = subjects;
    stream.SubjectsLen = 1;
    stream.Storage = js_FileStorage;
    natsStatus s = js_AddStream(NULL, js, &stream, NULL, &reason);
    if (s != NATS_OK)
        return s;
    jsConsumerConfig consumer;
    jsConsumerConfig_Init(&consumer);
    consumer.Durable = "bench";
    consumer.AckPolicy = js_AckExplicit;
    consumer.AckWait = ACK_WAIT_S * INT64_C(1000000000);
    consumer.MaxAckPending = 65536;
    return js_AddConsumer(NULL, js, "bench", &consumer, NULL, &reason);
}

static int prepare(struct nats *n, struct err *e)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;
    int code = dial(n, &nc, e);
    if (code != 0)
        return code;
    code = status_code(natsConnection_JetStream(&js, nc, NULL), "jetstream", e);
    if (code == 0)
        code = status_code(make_stream(js), "make a stream", e);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return code;
}

static void nats_stop(void *run)
{
    struct nats *n = run;
    server_stop(&n->server);
    account_close(&n->account);
    free(n);
}

static int nats_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    char program[PATH_MAX], conf[PATH_MAX], port[8];
    struct nats *n = calloc(1, sizeof *n);
    (void)w;
    if (n == NULL)
        abort();
    account_open(&n->account);
    n->port = server_free_port();
    snprintf(port, sizeof port, "%u", n->port);
    const char *argv[] = {program, "-c", conf, "-a", "127.0.0.1", "-p", port, "-sd", dir, NULL};
    int code = peer_file("nats.conf", conf, e);
    if (code == 0 && !peer_program("nats-server", program, NULL))
        code = err_set(e, ENOENT, "there is no nats-server");
    if (code == 0)
        code = peer_version(program, "-v", n->version, sizeof n->version, e);
    if (code == 0)
        code = server_start(&n->server, &(struct server_spec){.name = "nats", .argv = argv, .dir = dir}, e);
    if (code == 0)
        code = server_wait_port(&n->server, n->port, 30, e);
    if (code == 0)
        code = prepare(n, e);
    if (code != 0)
        nats_stop(n);
    else
        *run = n;
    return code;
}

static const char *nats_version(void *run)
{
    return ((struct nats *)run)->version;
}

static const struct server *nats_server(void *run)
{
    return &((struct nats *)run)->server;
}

const struct rival rival_nats = {
    .name = "nats",
    .title = "NATS JetStream",
    .kind = RIVAL_PEER,
    .os = true,
    .lacks_durability = "this version syncs its file store every two minutes, whatever it is told",
    .connections = 2,
    .present = nats_present,
    .start = nats_start,
    .stop = nats_stop,
    .version = nats_version,
    .server = nats_server,
    .produce = nats_produce,
    .queue = nats_queue,
};

#endif
