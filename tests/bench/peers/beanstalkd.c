/*
 * beanstalkd: put in pipelines; reserve and delete in pipelines. `disk` is -f0, which syncs its log after every write; `os` is
 * -f1000, at most once a second. Its protocol is text and small, so it is spoken here by hand (doc/protocol.txt of its source).
 *
 * It has no file of configuration: all that can be said is on its command line, and that is in `start` below.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_MAX_BYTES = 256, BUFFER = 1 << 16, RESERVED_MAX_S = 600, COMMAND_MAX = 64, EMPTY_US = 1000 };

struct beanstalkd {
    struct server server;
    struct account account;
    uint16_t port;
    char version[40];
};

/* ---------------------------------------------------------------- a connection */

struct lane {
    const struct job *job;
    int fd;
    char in[BUFFER];              /* what came */
    size_t at, end;               /* and is not looked at yet */
    char line[LINE_MAX_BYTES];
    struct feed feed;
    char *out;                    /* commands */
    size_t out_size;
    uint8_t *body;
    uint64_t *ids;                /* of the jobs that are reserved */
    uint32_t held;
};

static int broken(const char *what, struct err *e)
{
    return err_set(e, errno != 0 ? errno : EPROTO, "beanstalkd: %s: %s", what, errno != 0 ? strerror(errno) : "the connection ended");
}

static int dial(const struct beanstalkd *b, int *fd, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(b->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd >= 0 && connect(*fd, (struct sockaddr *)&a, sizeof a) == 0)
        return 0;
    return broken("connect", e);
}

static int lane_open(struct lane **out, const struct job *j, struct err *e)
{
    const struct work *w = j->work;
    struct lane *l = calloc(1, sizeof *l);
    if (l == NULL)
        abort();
    l->job = j;
    l->out = malloc((size_t)w->batch * (COMMAND_MAX * 2 + w->size));
    l->body = malloc((size_t)w->size + 2);
    l->ids = calloc(w->batch, sizeof *l->ids);
    if (l->out == NULL || l->body == NULL || l->ids == NULL)
        abort();
    *out = l;
    return dial(j->run, &l->fd, e);
}

static void lane_close(struct lane *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->out);
    free(l->body);
    free(l->ids);
    free(l);
}

static int fill(struct lane *l, struct err *e)
{
    errno = 0;
    ssize_t n = read(l->fd, l->in, sizeof l->in);
    if (n <= 0)
        return broken("read", e);
    l->at = 0;
    l->end = (size_t)n;
    return 0;
}

static int read_line(struct lane *l, struct err *e)
{
    for (size_t n = 0; n + 1 < sizeof l->line;) {
        int code = l->at == l->end ? fill(l, e) : 0;
        if (code != 0)
            return code;
        l->line[n] = l->in[l->at++];
        if (l->line[n] == '\n') {
            l->line[n > 0 ? n - 1 : 0] = '\0';
            return 0;
        }
        n++;
    }
    return err_set(e, EPROTO, "beanstalkd: a line is too long");
}

static int read_bytes(struct lane *l, uint8_t *out, size_t size, struct err *e)
{
    for (size_t done = 0; done < size;) {
        int code = l->at == l->end ? fill(l, e) : 0;
        if (code != 0)
            return code;
        size_t n = l->end - l->at < size - done ? l->end - l->at : size - done;
        memcpy(out + done, l->in + l->at, n);
        l->at += n;
        done += n;
    }
    return 0;
}

static int expect(struct lane *l, const char *word, struct err *e)
{
    int code = read_line(l, e);
    if (code == 0 && strncmp(l->line, word, strlen(word)) != 0)
        code = err_set(e, EPROTO, "beanstalkd: %s instead of %s", l->line, word);
    return code;
}

static void say(struct lane *l, const char *format, ...) PRINTF_LIKE(2, 3);
static void say(struct lane *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    l->out_size += (size_t)vsnprintf(l->out + l->out_size, COMMAND_MAX, format, args);
    va_end(args);
}

static int send_said(struct lane *l, struct err *e)
{
    for (size_t done = 0; done < l->out_size;) {
        errno = 0;
        ssize_t n = write(l->fd, l->out + done, l->out_size - done);
        if (n <= 0)
            return broken("write", e);
        done += (size_t)n;
    }
    l->out_size = 0;
    return 0;
}

/* ---------------------------------------------------------------- produce */

static int send_batch(void *user, uint32_t messages, struct err *e)
{
    struct lane *l = user;
    uint32_t size = l->job->work->size;
    for (uint32_t i = 0; i < messages; i++) {
        say(l, "put 0 0 %d %u\r\n", RESERVED_MAX_S, size);
        feed_fill(&l->feed, l->out + l->out_size);
        l->out_size += size;
        say(l, "\r\n");
    }
    return send_said(l, e);
}

static int await_batch(void *user, uint32_t messages, struct err *e)
{
    int code = 0;
    for (uint32_t i = 0; i < messages && code == 0; i++)
        code = expect(user, "INSERTED ", e);
    return code;
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct lane *l;
    struct job *j = load->user;
    int code = lane_open(&l, j, e);
    if (code == 0) {
        feed_open(&l->feed, j, load->index);
        struct pace p = {.user = l, .send = send_batch, .await = await_batch};
        code = pace_run(&p, load, j->work, e);
    }
    if (code == 0)
        feed_close(&l->feed);
    lane_close(l);
    return code;
}

static int beanstalkd_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct beanstalkd *b = run;
    struct job j = {.run = b, .account = &b->account, .work = w};
    return job_produce(&j, &b->server, produce_lane, out, e);
}

/* ---------------------------------------------------------------- queue */

/* The answer to one reserve: a job, or that there is none. */
static int take_one(struct lane *l, struct err *e)
{
    unsigned long long id;
    unsigned size;
    int code = read_line(l, e);
    if (code != 0 || strcmp(l->line, "TIMED_OUT") == 0)
        return code;
    if (sscanf(l->line, "RESERVED %llu %u", &id, &size) != 2 || size > l->job->work->size)
        return err_set(e, EPROTO, "beanstalkd: reserve: %s", l->line);
    code = read_bytes(l, l->body, size + 2, e);
    if (code != 0)
        return code;
    account_lock(l->job->account);
    account_seen(l->job->account, l->body, size);
    account_unlock(l->job->account);
    l->ids[l->held++] = id;
    return 0;
}

/* Deletes what is held and asks for more, in one go; then reads both answers. */
static int turn(struct lane *l, struct load_lane *load, uint64_t *since, bool ask, struct err *e)
{
    uint32_t held = l->held, batch = l->job->work->batch;
    for (uint32_t i = 0; i < held; i++)
        say(l, "delete %llu\r\n", (unsigned long long)l->ids[i]);
    for (uint32_t i = 0; ask && i < batch; i++)
        say(l, "reserve-with-timeout 0\r\n");
    uint64_t asked = clock_mono_ns();
    int code = send_said(l, e);
    for (uint32_t i = 0; i < held && code == 0; i++)
        code = expect(l, "DELETED", e);
    if (code == 0 && held > 0)
        intake_done(l->job, load, *since, held);
    *since = asked;
    l->held = 0;
    for (uint32_t i = 0; ask && i < batch && code == 0; i++)
        code = take_one(l, e);
    if (code == 0 && ask && l->held == 0)
        usleep(EMPTY_US);
    return code;
}

static int queue_lane(struct load_lane *load, struct err *e)
{
    struct lane *l;
    struct job *j = load->user;
    int code = lane_open(&l, j, e);
    if (code == 0)
        load_ready(load);
    uint64_t since = 0;
    for (bool ask = true; code == 0 && (ask || l->held > 0);) {
        ask = intake_goes_on(j, load);
        code = turn(l, load, &since, ask, e);
    }
    lane_close(l);
    return code;
}

static int beanstalkd_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct beanstalkd *b = run;
    struct job j = {.run = b, .account = &b->account, .work = w};
    return job_queue(&j, &b->server, queue_lane, out, e);
}

/* ---------------------------------------------------------------- the server */

static bool beanstalkd_present(char why[160])
{
    char path[PATH_MAX];
    return peer_program("beanstalkd", path, why);
}

static void beanstalkd_stop(void *run)
{
    struct beanstalkd *b = run;
    server_stop(&b->server);
    account_close(&b->account);
    free(b);
}

static int beanstalkd_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    char program[PATH_MAX], port[8];
    struct beanstalkd *b = calloc(1, sizeof *b);
    if (b == NULL)
        abort();
    account_open(&b->account);
    b->port = server_free_port();
    snprintf(port, sizeof port, "%u", b->port);
    const char *argv[] = {program, "-b", dir, w->durability == SLUICE_DISK ? "-f0" : "-f1000", "-z", "2097152", "-l", "127.0.0.1",
                          "-p", port, NULL};
    int code = peer_program("beanstalkd", program, NULL) ? 0 : err_set(e, ENOENT, "there is no beanstalkd");
    if (code == 0)
        code = peer_version(program, "-v", b->version, sizeof b->version, e);
    if (code == 0)
        code = server_start(&b->server, &(struct server_spec){.name = "beanstalkd", .argv = argv, .dir = dir}, e);
    if (code == 0)
        code = server_wait_port(&b->server, b->port, 30, e);
    if (code != 0)
        beanstalkd_stop(b);
    else
        *run = b;
    return code;
}

static const char *beanstalkd_version(void *run)
{
    return ((struct beanstalkd *)run)->version;
}

static const struct server *beanstalkd_server(void *run)
{
    return &((struct beanstalkd *)run)->server;
}

const struct rival rival_beanstalkd = {
    .name = "beanstalkd",
    .title = "beanstalkd",
    .kind = RIVAL_PEER,
    .disk = true,
    .os = true,
    .connections = 1,
    .present = beanstalkd_present,
    .start = beanstalkd_start,
    .stop = beanstalkd_stop,
    .version = beanstalkd_version,
    .server = beanstalkd_server,
    .produce = beanstalkd_produce,
    .queue = beanstalkd_queue,
};
