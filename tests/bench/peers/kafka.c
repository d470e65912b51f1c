/*
 * Kafka: publishing with acks=all to one partition by librdkafka. `disk` flushes every batch (flush.messages=1), `os` is how Kafka is
 * delivered. It has no queue: a group reads partitions and commits offsets, it does not lease a message. So what was published is
 * read back as a log, uncounted.
 */
#include "peer.h"

#if !BENCH_HAS_RDKAFKA
PEER_WITHOUT(kafka, "kafka", "Kafka", "librdkafka");
#else

#include <errno.h>
#include <glob.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

enum { TIMEOUT_MS = 60000, READ_MS = 30000, READ_BATCH = 1000, WARM_S = 5 };

struct kafka {
    struct server server;
    struct account account;
    uint16_t port, controller_port;
    char version[40];
    int64_t read;                 /* the offset that is read back next */
};

/* ---------------------------------------------------------------- a client */

static int set_all(rd_kafka_conf_t *c, const char *const *words, struct err *e)
{
    char why[200];
    for (; words[0] != NULL; words += 2)
        if (rd_kafka_conf_set(c, words[0], words[1], why, sizeof why) != RD_KAFKA_CONF_OK)
            return err_set(e, EINVAL, "kafka: %s", why);
    return 0;
}

/* Takes `c`. */
static int open_client(const struct kafka *k, rd_kafka_type_t type, rd_kafka_conf_t *c, rd_kafka_t **out, struct err *e)
{
    char where[40], why[200];
    snprintf(where, sizeof where, "127.0.0.1:%u", k->port);
    int code = set_all(c, (const char *const[]){"bootstrap.servers", where, "log_level", "3", NULL}, e);
    *out = code == 0 ? rd_kafka_new(type, c, why, sizeof why) : NULL;
    if (*out != NULL)
        return 0;
    rd_kafka_conf_destroy(c);
    return code != 0 ? code : err_set(e, EPROTO, "kafka: %s", why);
}

/* ---------------------------------------------------------------- produce */

struct lane {
    const struct job *job;
    struct load_lane *load;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    struct feed feed;
    uint8_t *bytes;
    pthread_mutex_t lock;          /* of what follows: the library's thread takes from it */
    struct load_ticket *tickets;   /* out, oldest first */
    uint32_t room, first, count;
    uint32_t acknowledged;         /* of the oldest */
    rd_kafka_resp_err_t refusal;
};

static bool one_done(struct lane *l, rd_kafka_resp_err_t err, struct load_ticket *done)
{
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        l->refusal = err;
    if (l->count == 0 || ++l->acknowledged < l->tickets[l->first].messages)
        return false;
    *done = l->tickets[l->first];
    l->first = (l->first + 1) % l->room;
    l->count--;
    l->acknowledged = 0;
    return true;
}

/* Delivery reports of one partition come in the order of its messages. */
static void on_event(rd_kafka_t *rk, rd_kafka_event_t *event, void *user)
{
    struct lane *l = user;
    (void)rk;
    for (const rd_kafka_message_t *m; (m = rd_kafka_event_message_next(event)) != NULL;) {
        struct load_ticket t;
        pthread_mutex_lock(&l->lock);
        bool done = one_done(l, m->err, &t);
        pthread_mutex_unlock(&l->lock);
        if (done)
            load_done(l->load, &t);
    }
    rd_kafka_event_destroy(event);
}

static int lane_open(struct lane *l, struct load_lane *load, struct err *e)
{
    const struct job *j = load->user;
    const struct work *w = j->work;
    char batch[16], window[16], queue[16];
    *l = (struct lane){.job = j, .load = load, .lock = PTHREAD_MUTEX_INITIALIZER, .room = w->window + 1};
    l->bytes = malloc(w->size);
    l->tickets = calloc(l->room, sizeof *l->tickets);
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    if (l->bytes == NULL || l->tickets == NULL)
        abort();
    snprintf(batch, sizeof batch, "%u", w->batch);
    snprintf(window, sizeof window, "%u", w->window);
    snprintf(queue, sizeof queue, "%u", w->batch * l->room);
    const char *const words[] = {"acks", "all", "batch.num.messages", batch, "batch.size", "2000000", "message.max.bytes", "2097152",
                                 "linger.ms", w->batch > 1 ? "1" : "0", "max.in.flight", window, "queue.buffering.max.messages", queue,
                                 "socket.nagle.disable", "true", NULL};
    int code = set_all(c, words, e);
    if (code != 0) {
        rd_kafka_conf_destroy(c);
        return code;
    }
    rd_kafka_conf_set_opaque(c, l);
    rd_kafka_conf_set_events(c, RD_KAFKA_EVENT_DR);
    rd_kafka_conf_set_background_event_cb(c, on_event);
    code = open_client(j->run, RD_KAFKA_PRODUCER, c, &l->rk, e);
    if (code != 0)
        return code;
    rd_kafka_queue_t *main = rd_kafka_queue_get_main(l->rk), *background = rd_kafka_queue_get_background(l->rk);
    rd_kafka_queue_forward(main, background);
    rd_kafka_queue_destroy(background);
    rd_kafka_queue_destroy(main);
    l->topic = rd_kafka_topic_new(l->rk, "bench", NULL);
    return 0;
}

static void lane_close(struct lane *l)
{
    if (l->topic != NULL)
        rd_kafka_topic_destroy(l->topic);
    if (l->rk != NULL)
        rd_kafka_destroy(l->rk);
    free(l->bytes);
    free(l->tickets);
}

static int refusal_code(struct lane *l, rd_kafka_resp_err_t err, struct err *e)
{
    pthread_mutex_lock(&l->lock);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        err = l->refusal;
    pthread_mutex_unlock(&l->lock);
    return err == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : err_set(e, EPROTO, "kafka: publish: %s", rd_kafka_err2str(err));
}

static void push(struct lane *l, const struct load_ticket *t)
{
    pthread_mutex_lock(&l->lock);
    l->tickets[(l->first + l->count++) % l->room] = *t;
    pthread_mutex_unlock(&l->lock);
}

static int publish_all(struct lane *l, struct err *e)
{
    const struct rd_kafka_metadata *known;
    /* Where the partition is: not what is measured. */
    int code = refusal_code(l, rd_kafka_metadata(l->rk, 0, l->topic, &known, TIMEOUT_MS), e);
    if (code != 0)
        return code;
    rd_kafka_metadata_destroy(known);
    load_ready(l->load);
    for (struct load_ticket t; code == 0 && load_next(l->load, &t);) {
        push(l, &t);
        for (uint32_t i = 0; i < t.messages && code == 0; i++) {
            feed_fill(&l->feed, l->bytes);
            if (rd_kafka_produce(l->topic, 0, RD_KAFKA_MSG_F_COPY, l->bytes, l->job->work->size, NULL, 0, NULL) != 0)
                code = refusal_code(l, rd_kafka_last_error(), e);
        }
        if (code == 0)
            code = refusal_code(l, RD_KAFKA_RESP_ERR_NO_ERROR, e);
    }
    if (code == 0)
        code = refusal_code(l, rd_kafka_flush(l->rk, TIMEOUT_MS), e);
    return code;
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    int code = lane_open(&l, load, e);
    if (code == 0) {
        feed_open(&l.feed, l.job, load->index);
        code = publish_all(&l, e);
    }
    if (code == 0)
        feed_close(&l.feed);
    lane_close(&l);
    return code;
}

/* ---------------------------------------------------------------- read back */

static int look_at(struct kafka *k, const rd_kafka_message_t *m, struct err *e)
{
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(e, EPROTO, "kafka: read: %s", rd_kafka_message_errstr(m));
    account_seen(&k->account, m->payload, m->len);
    k->read = m->offset + 1;
    return 0;
}

/* From where it was read before until all that was acknowledged came. */
static int read_back(struct kafka *k, struct err *e)
{
    rd_kafka_t *rk;
    rd_kafka_message_t *messages[READ_BATCH];
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    int code = open_client(k, RD_KAFKA_CONSUMER, c, &rk, e);
    if (code != 0)
        return code;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "bench", NULL);
    if (rd_kafka_consume_start(topic, 0, k->read) != 0)
        code = err_set(e, EPROTO, "kafka: read: %s", rd_kafka_err2str(rd_kafka_last_error()));
    for (uint64_t until = clock_mono_ms() + READ_MS; code == 0 && verify_count(k->account.verify) < k->account.produced;) {
        if (clock_mono_ms() > until)
            break; /* the account says what is lost */
        ssize_t n = rd_kafka_consume_batch(topic, 0, 100, messages, READ_BATCH);
        for (ssize_t i = 0; i < n; i++) {
            if (code == 0)
                code = look_at(k, messages[i], e);
            rd_kafka_message_destroy(messages[i]);
        }
    }
    rd_kafka_consume_stop(topic, 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return code;
}

static int kafka_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct kafka *k = run;
    struct job j = {.run = k, .account = &k->account, .work = w};
    int code = job_produce(&j, &k->server, produce_lane, out, e);
    if (code == 0)
        code = read_back(k, e);
    return code == 0 ? account_judge(&k->account, true, e) : code;
}

/* ---------------------------------------------------------------- the server */

/* Where its jars are, and its version by the name of one. */
static bool find_jars(char dir[PATH_MAX], char *version, size_t size)
{
    const char *set = getenv("SLUICE_BENCH_KAFKA"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char pattern[PATH_MAX + 32];
    glob_t found;
    if (set != NULL)
        snprintf(dir, PATH_MAX, "%s", set);
    else if (cache != NULL)
        snprintf(dir, PATH_MAX, "%s/sluice-bench/kafka", cache);
    else
        snprintf(dir, PATH_MAX, "%s/.cache/sluice-bench/kafka", home != NULL ? home : "");
    snprintf(pattern, sizeof pattern, "%s/kafka_2.13-*.jar", dir);
    bool any = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (any && version != NULL) {
        const char *at = strstr(found.gl_pathv[0], "kafka_2.13-") + strlen("kafka_2.13-");
        snprintf(version, size, "%.*s", (int)(strlen(at) - strlen(".jar")), at);
    }
    globfree(&found);
    return any;
}

static bool kafka_present(char why[160])
{
    char path[PATH_MAX];
    if (!peer_program("java", path, why))
        return false;
    if (find_jars(path, NULL, 0))
        return true;
    snprintf(why, 160, "its jars are not on this machine; tests/bench/peers/kafka-fetch.sh fetches them");
    return false;
}

static int configure(const struct kafka *k, const char *dir, bool disk, char file[PATH_MAX], struct err *e)
{
    char more[PATH_MAX + 512];
    if (snprintf(file, PATH_MAX, "%s/server.properties", dir) >= PATH_MAX)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
    snprintf(more, sizeof more,
             "controller.quorum.voters=1@127.0.0.1:%u\nlisteners=PLAINTEXT://127.0.0.1:%u,CONTROLLER://127.0.0.1:%u\n"
             "advertised.listeners=PLAINTEXT://127.0.0.1:%u\nlog.dirs=%s/data\n%s",
             k->controller_port, k->port, k->controller_port, k->port, dir, disk ? "log.flush.interval.messages=1\n" : "");
    return peer_configure("kafka.conf", file, more, e);
}

static int start_java(struct kafka *k, const char *dir, const char *file, struct err *e)
{
    char jars[PATH_MAX], path[PATH_MAX + 8];
    if (!find_jars(jars, k->version, sizeof k->version))
        return err_set(e, ENOENT, "there is no Kafka");
    snprintf(path, sizeof path, "%s/*", jars);
    const char *format[] = {"java", "-cp", path, "kafka.tools.StorageTool", "format", "-t", "c2x1aWNlLWJlbmNoLTAwMA", "-c", file, NULL};
    struct server once;
    int code = server_start(&once, &(struct server_spec){.name = "kafka-format", .argv = format, .dir = dir}, e);
    while (code == 0 && server_runs(&once))
        usleep(1000);
    if (code != 0)
        return code;
    const char *argv[] = {"java", "-server", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                          "-XX:InitiatingHeapOccupancyPercent=35", "-cp", path, "kafka.Kafka", file, NULL};
    code = server_start(&k->server, &(struct server_spec){.name = "kafka", .argv = argv, .dir = dir}, e);
    return code != 0 ? code : server_wait_port(&k->server, k->port, 120, e);
}

/* The topic is made by who asks for it first; it is there when it has a leader. */
static int prepare(struct kafka *k, struct err *e)
{
    rd_kafka_t *rk;
    int code = open_client(k, RD_KAFKA_PRODUCER, rd_kafka_conf_new(), &rk, e);
    if (code != 0)
        return code;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "bench", NULL);
    code = err_set(e, ETIMEDOUT, "kafka: the topic has no leader");
    for (uint64_t until = clock_mono_ms() + TIMEOUT_MS; code != 0 && clock_mono_ms() < until;) {
        const struct rd_kafka_metadata *known;
        if (rd_kafka_metadata(rk, 0, topic, &known, TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
            bool led = known->topic_cnt == 1 && known->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                       known->topics[0].partition_cnt > 0 && known->topics[0].partitions[0].leader >= 0;
            rd_kafka_metadata_destroy(known);
            code = led ? 0 : code;
        }
        if (code != 0)
            usleep(50000);
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return code;
}

/* Java is fast when it has compiled what runs often. */
static int warm_up(struct kafka *k, const struct work *w, struct err *e)
{
    struct work warm = {.durability = w->durability, .size = w->size, .batch = 100, .window = 50, .connections = 1, .seconds = WARM_S,
                        .seed = 1};
    struct outcome out = {0};
    return kafka_produce(k, &warm, &out, e);
}

static void kafka_stop(void *run)
{
    struct kafka *k = run;
    server_stop(&k->server);
    account_close(&k->account);
    free(k);
}

static int kafka_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    char file[PATH_MAX];
    struct kafka *k = calloc(1, sizeof *k);
    if (k == NULL)
        abort();
    account_open(&k->account);
    k->port = server_free_port();
    k->controller_port = server_free_port();
    int code = configure(k, dir, w->durability == SLUICE_DISK, file, e);
    if (code == 0)
        code = start_java(k, dir, file, e);
    if (code == 0)
        code = prepare(k, e);
    if (code == 0)
        code = warm_up(k, w, e);
    if (code != 0)
        kafka_stop(k);
    else
        *run = k;
    return code;
}

static const char *kafka_version(void *run)
{
    return ((struct kafka *)run)->version;
}

static const struct server *kafka_server(void *run)
{
    return &((struct kafka *)run)->server;
}

const struct rival rival_kafka = {
    .name = "kafka",
    .title = "Kafka",
    .kind = RIVAL_PEER,
    .disk = true,
    .os = true,
    .lacks_queue = "a group of it reads partitions and commits offsets: no message is leased and acknowledged by itself",
    .connections = 1,
    .connections_os = 5,
    .present = kafka_present,
    .start = kafka_start,
    .stop = kafka_stop,
    .version = kafka_version,
    .server = kafka_server,
    .produce = kafka_produce,
};

#endif
