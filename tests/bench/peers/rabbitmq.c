/*
 * RabbitMQ: publishing with confirms, consuming with a prefetch and acknowledging a batch at once, on a quorum queue (`disk`: it
 * syncs its log before it confirms) or a classic one (`disk`: version 1, `os`: version 2, which does not sync).
 *
 * librabbitmq speaks for us, but for publishing: it makes three system calls a message, so here the frames of a batch are laid out
 * once and leave by one write.
 */
#include "peer.h"

#if !BENCH_HAS_RABBITMQ
PEER_WITHOUT(rabbitmq, "rabbitmq", "RabbitMQ quorum queue", "librabbitmq");
PEER_WITHOUT(rabbitmq_classic, "rabbitmq-classic", "RabbitMQ classic queue", "librabbitmq");
#else

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

enum { CHANNEL = 1, FRAME_MAX = 131072, HEAD_MAX = 128, PREFETCH_MAX = 65535, PARTIAL_MS = 1, WAIT_MS = 100 };
static const char queue_name[] = "bench";

struct rabbit {
    struct server server, names; /* names: epmd, where Erlang nodes are known */
    struct account account;
    uint16_t port;
    char version[40];
    amqp_connection_state_t takers[PEER_LANES_MAX]; /* of `queue`, by lane; NULL: none yet */
};

/* ---------------------------------------------------------------- a connection */

static int reply_code(amqp_rpc_reply_t r, const char *what, struct err *e)
{
    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        return err_set(e, EPROTO, "rabbitmq: %s: %s", what, amqp_error_string2(r.library_error));
    const amqp_channel_close_t *closed = r.reply.decoded;
    bool said = r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CHANNEL_CLOSE_METHOD;
    return err_set(e, EPROTO, "rabbitmq: %s: %.*s", what, said ? (int)closed->reply_text.len : 7,
                   said ? (const char *)closed->reply_text.bytes : "refused");
}

static int status_code(int status, struct err *e)
{
    return status == AMQP_STATUS_OK ? 0 : err_set(e, EPROTO, "rabbitmq: %s", amqp_error_string2(status));
}

static void hang_up(amqp_connection_state_t c)
{
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static int dial(const struct rabbit *r, amqp_connection_state_t *out, struct err *e)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    int code = status_code(amqp_socket_open(socket, "127.0.0.1", r->port), e);
    if (code == 0)
        code = reply_code(amqp_login(c, "/", 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login", e);
    if (code == 0) {
        amqp_channel_open(c, CHANNEL);
        code = reply_code(amqp_get_rpc_reply(c), "open a channel", e);
    }
    if (code != 0)
        amqp_destroy_connection(c);
    else
        *out = c;
    return code;
}

/* ---------------------------------------------------------------- produce */

struct lane {
    amqp_connection_state_t c;
    struct feed feed;
    uint8_t *frames;               /* of a batch */
    size_t frame_size, body_at;    /* of a message in it */
    uint64_t sent, wanted;         /* messages, from 1 on as delivery tags count */
    uint64_t confirmed;            /* all up to this one */
    bool *alone;                   /* confirmed by itself, by tag modulo `room` */
    size_t room;
};

static uint8_t *put_u8(uint8_t *at, unsigned value)
{
    *at = (uint8_t)value;
    return at + 1;
}

static uint8_t *put_u16(uint8_t *at, unsigned value)
{
    return put_u8(put_u8(at, value >> 8), value & 255);
}

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    return put_u16(put_u16(at, value >> 16), value & 65535);
}

static uint8_t *put_frame(uint8_t *at, unsigned type, uint32_t size)
{
    return put_u32(put_u16(put_u8(at, type), CHANNEL), size);
}

/* basic.publish, the header of a persistent message, and the begin of its body. (AMQP 0-9-1, 4.2.3) */
static size_t put_head(uint8_t *head, uint32_t size)
{
    uint8_t *at = put_frame(head, AMQP_FRAME_METHOD, 9 + sizeof queue_name - 1);
    at = put_u32(at, AMQP_BASIC_PUBLISH_METHOD);
    at = put_u8(put_u16(at, 0), 0); /* the exchange without a name: straight to the queue */
    at = put_u8(at, sizeof queue_name - 1);
    memcpy(at, queue_name, sizeof queue_name - 1);
    at = put_u8(put_u8(at + sizeof queue_name - 1, 0), AMQP_FRAME_END);
    at = put_frame(at, AMQP_FRAME_HEADER, 15);
    at = put_u16(put_u16(at, AMQP_BASIC_CLASS), 0);
    at = put_u32(put_u32(at, 0), size);
    at = put_u8(put_u8(put_u16(at, AMQP_BASIC_DELIVERY_MODE_FLAG), AMQP_DELIVERY_PERSISTENT), AMQP_FRAME_END);
    at = put_frame(at, AMQP_FRAME_BODY, size);
    return (size_t)(at - head);
}

static int lane_open(struct lane *l, const struct job *j, struct err *e)
{
    const struct work *w = j->work;
    uint8_t head[HEAD_MAX];
    *l = (struct lane){.room = (size_t)w->batch * w->window + 1};
    if (w->size > FRAME_MAX - 8)
        return err_set(e, EINVAL, "rabbitmq: %u bytes are more than a frame", w->size);
    int code = dial(j->run, &l->c, e);
    if (code != 0)
        return code;
    amqp_confirm_select(l->c, CHANNEL);
    code = reply_code(amqp_get_rpc_reply(l->c), "confirm.select", e);
    l->body_at = put_head(head, w->size);
    l->frame_size = l->body_at + w->size + 1;
    l->frames = malloc(l->frame_size * w->batch);
    l->alone = calloc(l->room, sizeof *l->alone);
    if (l->frames == NULL || l->alone == NULL)
        abort();
    for (uint32_t i = 0; i < w->batch; i++) {
        memcpy(l->frames + i * l->frame_size, head, l->body_at);
        l->frames[(i + 1) * l->frame_size - 1] = AMQP_FRAME_END;
    }
    return code;
}

static void lane_close(struct lane *l)
{
    if (l->c != NULL)
        hang_up(l->c);
    free(l->frames);
    free(l->alone);
}

static int send_batch(void *user, uint32_t messages, struct err *e)
{
    struct lane *l = user;
    int fd = amqp_get_sockfd(l->c);
    size_t size = messages * l->frame_size;
    for (uint32_t i = 0; i < messages; i++)
        feed_fill(&l->feed, l->frames + i * l->frame_size + l->body_at);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, l->frames + done, size - done);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set(e, errno, "rabbitmq: write: %s", strerror(errno));
        if (n < 0)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else
            done += (size_t)n;
    }
    return 0;
}

static void on_ack(struct lane *l, const amqp_basic_ack_t *ack)
{
    if (!ack->multiple)
        l->alone[ack->delivery_tag % l->room] = true;
    for (; ack->multiple && l->confirmed < ack->delivery_tag; l->confirmed++)
        l->alone[(l->confirmed + 1) % l->room] = false;
    while (l->alone[(l->confirmed + 1) % l->room])
        l->alone[++l->confirmed % l->room] = false;
}

static int await_batch(void *user, uint32_t messages, struct err *e)
{
    struct lane *l = user;
    l->wanted += messages;
    while (l->confirmed < l->wanted) {
        amqp_frame_t f;
        int code = status_code(amqp_simple_wait_frame(l->c, &f), e);
        if (code != 0)
            return code;
        if (f.frame_type != AMQP_FRAME_METHOD || f.payload.method.id != AMQP_BASIC_ACK_METHOD)
            return err_set(e, EPROTO, "rabbitmq: a publish was answered with method 0x%x", f.payload.method.id);
        on_ack(l, f.payload.method.decoded);
        amqp_maybe_release_buffers(l->c);
    }
    return 0;
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct lane l;
    struct job *j = load->user;
    int code = lane_open(&l, j, e);
    if (code == 0) {
        feed_open(&l.feed, j, load->index);
        struct pace p = {.user = &l, .send = send_batch, .await = await_batch};
        code = pace_run(&p, load, j->work, e);
    }
    if (code == 0)
        feed_close(&l.feed);
    lane_close(&l);
    return code;
}

static int rabbit_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct rabbit *r = run;
    struct job j = {.run = r, .account = &r->account, .work = w};
    return job_produce(&j, &r->server, produce_lane, out, e);
}

/* ---------------------------------------------------------------- queue */

struct taker {
    const struct job *job;
    struct load_lane *load;
    amqp_connection_state_t c;
    uint64_t tag;
    uint32_t held;
};

static int consume(struct taker *t, struct err *e)
{
    const struct work *w = t->job->work;
    uint64_t prefetch = (uint64_t)w->batch * w->window;
    amqp_basic_qos(t->c, CHANNEL, 0, (uint16_t)(prefetch < PREFETCH_MAX ? prefetch : PREFETCH_MAX), 0);
    int code = reply_code(amqp_get_rpc_reply(t->c), "basic.qos", e);
    if (code != 0)
        return code;
    amqp_basic_consume(t->c, CHANNEL, amqp_cstring_bytes(queue_name), amqp_cstring_bytes("bench"), 0, 0, 0, amqp_empty_table);
    return reply_code(amqp_get_rpc_reply(t->c), "basic.consume", e);
}

/* An acknowledgement is not answered, so it has no latency: 0 says so. */
static int acknowledge(struct taker *t, struct err *e)
{
    int code = status_code(amqp_basic_ack(t->c, CHANNEL, t->tag, 1), e);
    intake_done(t->job, t->load, 0, t->held);
    t->held = 0;
    return code;
}

static void on_frame(struct taker *t, const amqp_frame_t *f)
{
    if (f->frame_type == AMQP_FRAME_METHOD && f->payload.method.id == AMQP_BASIC_DELIVER_METHOD)
        t->tag = ((const amqp_basic_deliver_t *)f->payload.method.decoded)->delivery_tag;
    if (f->frame_type != AMQP_FRAME_BODY)
        return;
    account_lock(t->job->account);
    account_seen(t->job->account, f->payload.body_fragment.bytes, f->payload.body_fragment.len);
    account_unlock(t->job->account);
    t->held++;
}

static int take_some(struct taker *t, struct err *e)
{
    amqp_frame_t f;
    struct timeval patience = {.tv_usec = (t->held > 0 ? PARTIAL_MS : WAIT_MS) * 1000};
    int status = amqp_simple_wait_frame_noblock(t->c, &f, &patience);
    if (status == AMQP_STATUS_TIMEOUT)
        return t->held > 0 ? acknowledge(t, e) : 0;
    int code = status_code(status, e);
    if (code != 0)
        return code;
    on_frame(t, &f);
    if (t->held < t->job->work->batch)
        return 0;
    code = acknowledge(t, e);
    amqp_maybe_release_buffers(t->c);
    return code;
}

static int stop_consuming(struct taker *t, struct err *e)
{
    int code = t->held > 0 ? acknowledge(t, e) : 0;
    if (code != 0)
        return code;
    amqp_basic_cancel(t->c, CHANNEL, amqp_cstring_bytes("bench"));
    return reply_code(amqp_get_rpc_reply(t->c), "basic.cancel", e);
}

/* A channel that closes may take acknowledgements with it that the queue has not got yet: they are sent to it in the background. So
 * the connection stays for the next time, unless messages came on it that were not looked at: those are to go back. */
static int queue_lane(struct load_lane *load, struct err *e)
{
    struct taker t = {.job = load->user, .load = load};
    struct rabbit *r = t.job->run;
    t.c = r->takers[load->index];
    r->takers[load->index] = NULL;
    int code = t.c != NULL ? 0 : dial(r, &t.c, e);
    if (code != 0)
        return code;
    load_ready(load);
    code = consume(&t, e);
    while (code == 0 && intake_goes_on(t.job, load))
        code = take_some(&t, e);
    if (code == 0)
        code = stop_consuming(&t, e);
    if (code == 0 && !load_goes_on(load))
        hang_up(t.c);
    else
        r->takers[load->index] = t.c;
    return code;
}

static int rabbit_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct rabbit *r = run;
    struct job j = {.run = r, .account = &r->account, .work = w};
    return job_queue(&j, &r->server, queue_lane, out, e);
}

/* ---------------------------------------------------------------- the server */

/* Debian's own rabbitmq-server in $PATH changes to a system user; this one does not. */
static const char program[] = "/usr/lib/rabbitmq/bin/rabbitmq-server";

static bool rabbit_present(char why[160])
{
    char path[PATH_MAX];
    if (access(program, X_OK) == 0)
        return peer_program("epmd", path, why);
    snprintf(why, 160, "there is no %s", program);
    return false;
}

static int start_names(struct rabbit *r, const char *dir, uint16_t port, struct err *e)
{
    char text[8];
    snprintf(text, sizeof text, "%u", port);
    const char *argv[] = {"epmd", "-port", text, "-address", "127.0.0.1", NULL};
    int code = server_start(&r->names, &(struct server_spec){.name = "epmd", .argv = argv, .dir = dir}, e);
    return code != 0 ? code : server_wait_port(&r->names, port, 30, e);
}

/* A node that knows nothing of one that the system may run: its own directory, name, ports and cookie. */
static int start_node(struct rabbit *r, const char *dir, uint16_t names_port, struct err *e)
{
    char conf[PATH_MAX];
    int code = peer_file("rabbitmq.conf", conf, e);
    if (code != 0)
        return code;
    enum { VARIABLES = 16 };
    char text[VARIABLES][PATH_MAX + 64];
    const char *env[VARIABLES + 1];
    size_t n = 0;
#define VARIABLE(...) snprintf(text[n], sizeof text[n], __VA_ARGS__), env[n] = text[n], n++
    VARIABLE("HOME=%s", dir);
    VARIABLE("ERL_EPMD_ADDRESS=127.0.0.1");
    VARIABLE("ERL_EPMD_PORT=%u", names_port);
    VARIABLE("RABBITMQ_NODENAME=bench-%u@localhost", r->port);
    VARIABLE("RABBITMQ_NODE_IP_ADDRESS=127.0.0.1");
    VARIABLE("RABBITMQ_NODE_PORT=%u", r->port);
    VARIABLE("RABBITMQ_DIST_PORT=%u", server_free_port());
    VARIABLE("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}");
    VARIABLE("RABBITMQ_MNESIA_BASE=%s/mnesia", dir);
    VARIABLE("RABBITMQ_LOG_BASE=%s/log", dir);
    VARIABLE("RABBITMQ_PID_FILE=%s/pid", dir);
    VARIABLE("RABBITMQ_CONFIG_FILE=%s", conf);
    VARIABLE("RABBITMQ_CONF_ENV_FILE=%s/none", dir);
    VARIABLE("RABBITMQ_ENABLED_PLUGINS_FILE=%s/plugins", dir);
    VARIABLE("RABBITMQ_ALLOW_INPUT=1"); /* runs the node in the script's own process, without a shell that waits for it */
    VARIABLE("RABBITMQ_SERVER_START_ARGS=-noinput");
#undef VARIABLE
    env[n] = NULL;
    const char *argv[] = {program, NULL};
    code = server_start(&r->server, &(struct server_spec){.name = "rabbitmq", .argv = argv, .env = env, .dir = dir}, e);
    return code != 0 ? code : server_wait_port(&r->server, r->port, 120, e);
}

static void take_version(struct rabbit *r, amqp_connection_state_t c)
{
    const amqp_table_t *about = amqp_get_server_properties(c);
    for (int i = 0; i < about->num_entries; i++) {
        amqp_bytes_t key = about->entries[i].key, value = about->entries[i].value.value.bytes;
        if (key.len == 7 && memcmp(key.bytes, "version", 7) == 0)
            snprintf(r->version, sizeof r->version, "%.*s", (int)value.len, (const char *)value.bytes);
    }
}

static int make_queue(struct rabbit *r, const char *type, int version, struct err *e)
{
    amqp_connection_state_t c;
    int code = dial(r, &c, e);
    if (code != 0)
        return code;
    amqp_table_entry_t entries[2] = {
        {.key = amqp_cstring_bytes("x-queue-type"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(type)}},
        {.key = amqp_cstring_bytes("x-queue-version"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = version}},
    };
    amqp_table_t table = {.num_entries = version > 0 ? 2 : 1, .entries = entries};
    take_version(r, c);
    amqp_queue_declare(c, CHANNEL, amqp_cstring_bytes(queue_name), 0, 1, 0, 0, table);
    code = reply_code(amqp_get_rpc_reply(c), "queue.declare", e);
    hang_up(c);
    return code;
}

static void rabbit_stop(void *run)
{
    struct rabbit *r = run;
    for (size_t i = 0; i < PEER_LANES_MAX; i++)
        if (r->takers[i] != NULL)
            hang_up(r->takers[i]);
    server_stop(&r->server);
    server_stop(&r->names);
    account_close(&r->account);
    free(r);
}

static int start(const char *dir, const char *type, int version, void **run, struct err *e)
{
    struct rabbit *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    account_open(&r->account);
    r->port = server_free_port();
    uint16_t names_port = server_free_port();
    int code = start_names(r, dir, names_port, e);
    if (code == 0)
        code = start_node(r, dir, names_port, e);
    if (code == 0)
        code = make_queue(r, type, version, e);
    if (code != 0)
        rabbit_stop(r);
    else
        *run = r;
    return code;
}

static int quorum_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    (void)w;
    return start(dir, "quorum", 0, run, e);
}

static int classic_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    return start(dir, "classic", w->durability == SLUICE_DISK ? 1 : 2, run, e);
}

static const char *rabbit_version(void *run)
{
    return ((struct rabbit *)run)->version;
}

static const struct server *rabbit_server(void *run)
{
    return &((struct rabbit *)run)->server;
}

const struct rival rival_rabbitmq = {
    .name = "rabbitmq",
    .title = "RabbitMQ quorum queue",
    .kind = RIVAL_PEER,
    .disk = true,
    .lacks_durability = "a quorum queue always syncs before it confirms",
    .connections = 5,
    .present = rabbit_present,
    .start = quorum_start,
    .stop = rabbit_stop,
    .version = rabbit_version,
    .server = rabbit_server,
    .produce = rabbit_produce,
    .queue = rabbit_queue,
};

const struct rival rival_rabbitmq_classic = {
    .name = "rabbitmq-classic",
    .title = "RabbitMQ classic queue",
    .kind = RIVAL_PEER,
    .disk = true,
    .os = true,
    .connections = 5,
    .present = rabbit_present,
    .start = classic_start,
    .stop = rabbit_stop,
    .version = rabbit_version,
    .server = rabbit_server,
    .produce = rabbit_produce,
    .queue = rabbit_queue,
};

#endif
