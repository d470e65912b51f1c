/* The straw-man as one of the rivals: started, stopped, and loaded as the others are. See strawman.h. */
#include "strawman.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "machine_peer.h"
#include "payload.h"

enum { SUM_SIZE = 8 };
#define LAST_ID UINT32_C(0x80000000) /* that no other id follows */

struct strawman {
    struct server server;
    char log[PATH_MAX];
    atomic_uint_fast64_t bytes; /* acknowledged */
    uint64_t *numbers;          /* by lane */
    uint32_t lanes;
};

struct lane {
    struct load_lane *load;
    struct strawman *man;
    const struct work *work;
    nng_socket socket;
    nng_aio *receive, *send;
    uint32_t index;
    atomic_uint_fast64_t out;   /* a bit for each slot */
    struct load_ticket tickets[STRAWMAN_WINDOW_MAX];
    size_t sizes[STRAWMAN_WINDOW_MAX];
    atomic_int failed;          /* nng's */
    pthread_mutex_t lock;       /* one of nng's threads at a time is done with a batch */
};

struct man_work { struct strawman *man; const struct work *work; };

/* ---------------------------------------------------------------- a lane */

static void done(struct lane *l, uint32_t slot, bool acknowledged)
{
    pthread_mutex_lock(&l->lock);
    uint64_t bit = UINT64_C(1) << slot;
    struct load_ticket t = l->tickets[slot];
    size_t size = l->sizes[slot];
    if ((atomic_fetch_and(&l->out, ~bit) & bit) != 0) {
        if (acknowledged)
            atomic_fetch_add(&l->man->bytes, size);
        load_done(l->load, &t);
    }
    pthread_mutex_unlock(&l->lock);
}

static void on_reply(void *arg)
{
    struct lane *l = arg;
    if (nng_aio_result(l->receive) != 0)
        return; /* it is stopped */
    nng_msg *m = nng_aio_get_msg(l->receive);
    uint32_t id = 0;
    nng_msg_header_trim_u32(m, &id);
    nng_msg_free(m);
    if ((id & ~LAST_ID) < STRAWMAN_WINDOW_MAX)
        done(l, id & ~LAST_ID, true);
    nng_recv_aio(l->socket, l->receive);
}

/* Nobody will answer: the lane is not to wait for it. What it counts for these is void with the run. */
static void on_lost(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct lane *l = arg;
    (void)pipe;
    (void)event;
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->failed, NNG_ECONNRESET);
    pthread_mutex_unlock(&l->lock);
    nng_aio_cancel(l->send); /* it would wait for another connection */
    for (uint32_t slot = 0; slot < STRAWMAN_WINDOW_MAX; slot++)
        done(l, slot, false);
}

/* The bytes that any producer would send: payloads, one behind the other. */
static int batch_make(struct lane *l, uint32_t messages, uint32_t slot, nng_msg **out)
{
    size_t size = SUM_SIZE + (size_t)messages * l->work->size;
    int rv = nng_msg_alloc(out, size);
    if (rv != 0)
        return rv;
    uint8_t *at = nng_msg_body(*out);
    const struct payload payload = {.seed = l->work->seed, .size = l->work->size, .compressible = l->work->compressible};
    for (uint32_t i = 0; i < messages; i++) {
        struct payload_head head = {.number = l->man->numbers[l->index]++, .stream = l->index};
        payload_fill(&payload, &head, at + SUM_SIZE + (size_t)i * l->work->size);
    }
    uint64_t sum = hash_bytes(at + SUM_SIZE, size - SUM_SIZE, 0);
    memcpy(at, &sum, SUM_SIZE);
    l->sizes[slot] = size;
    return nng_msg_header_append_u32(*out, LAST_ID | slot);
}

static int batch_send(struct lane *l, const struct load_ticket *t)
{
    nng_msg *m;
    uint32_t slot = (uint32_t)__builtin_ctzll(~atomic_load(&l->out)); /* there is one: the window is no larger */
    int rv = batch_make(l, t->messages, slot, &m);
    if (rv != 0)
        return rv;
    pthread_mutex_lock(&l->lock);
    if ((rv = atomic_load(&l->failed)) == 0) {
        l->tickets[slot] = *t;
        atomic_fetch_or(&l->out, UINT64_C(1) << slot);
        nng_aio_set_msg(l->send, m);
        nng_send_aio(l->socket, l->send);
    }
    pthread_mutex_unlock(&l->lock);
    if (rv != 0) {
        nng_msg_free(m);
        return rv;
    }
    nng_aio_wait(l->send);
    if ((rv = nng_aio_result(l->send)) != 0)
        nng_msg_free(m);
    return rv;
}

static int lane_open(struct lane *l)
{
    int rv = nng_req0_open_raw(&l->socket);
    if (rv == 0)
        rv = nng_aio_alloc(&l->receive, on_reply, l);
    if (rv == 0)
        rv = nng_aio_alloc(&l->send, NULL, NULL);
    if (rv == 0)
        rv = nng_pipe_notify(l->socket, NNG_PIPE_EV_REM_POST, on_lost, l);
    if (rv == 0)
        rv = nng_dial(l->socket, l->man->server.line, NULL, 0);
    if (rv == 0)
        nng_recv_aio(l->socket, l->receive);
    return rv;
}

static void lane_close(struct lane *l)
{
    nng_aio_stop(l->receive);
    nng_close(l->socket);
    nng_aio_free(l->receive);
    nng_aio_free(l->send);
}

static int run_lane(struct load_lane *load, struct err *e)
{
    const struct man_work *mw = load->user;
    struct lane *l = calloc(1, sizeof *l);
    if (l == NULL)
        abort();
    l->load = load;
    l->man = mw->man;
    l->work = mw->work;
    l->index = load->index;
    pthread_mutex_init(&l->lock, NULL);
    int rv = lane_open(l);
    load_ready(load);
    for (struct load_ticket t; rv == 0 && atomic_load(&l->failed) == 0 && load_next(load, &t);)
        rv = batch_send(l, &t);
    while (rv == 0 && atomic_load(&l->failed) == 0 && atomic_load(&l->out) != 0)
        poll(NULL, 0, 1);
    rv = rv == 0 ? atomic_load(&l->failed) : rv; /* before it is closed, which loses the connection too */
    lane_close(l);
    pthread_mutex_destroy(&l->lock);
    free(l);
    return rv == 0 ? 0 : err_set(e, rv, "straw-man: %s", nng_strerror(rv));
}

/* ---------------------------------------------------------------- the rival */

static void man_stop(void *run)
{
    struct strawman *m = run;
    server_stop(&m->server);
    free(m->numbers);
    free(m);
}

static int man_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    struct strawman *m = calloc(1, sizeof *m);
    char self[PATH_MAX];
    if (m == NULL)
        abort();
    const char *const argv[] = {self, "strawman", "--dir", dir, "--durability", durability_name(w->durability), NULL};
    int code = self_path(self, e);
    if (code == 0 && snprintf(m->log, sizeof m->log, "%s/log", dir) >= (int)sizeof m->log)
        code = err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
    if (code == 0)
        code = server_start(&m->server, &(struct server_spec){.name = "strawman", .argv = argv, .dir = dir, .ready_line = true}, e);
    if (code != 0)
        man_stop(m);
    else
        *run = m;
    return code;
}

static const char *man_version(void *run)
{
    (void)run;
    return sluice_version();
}

static const struct server *man_server(void *run)
{
    return &((struct strawman *)run)->server;
}

/* Everything that it acknowledged is in its file. */
static int check_log(struct strawman *m, struct err *e)
{
    struct stat st;
    if (stat(m->log, &st) != 0)
        return err_set(e, errno, "%s: %s", m->log, strerror(errno));
    uint64_t bytes = atomic_load(&m->bytes);
    if ((uint64_t)st.st_size >= bytes)
        return 0;
    return err_set(e, EIO, "straw-man: it acknowledged %llu bytes and wrote %llu", (unsigned long long)bytes, (unsigned long long)st.st_size);
}

static int man_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct strawman *m = run;
    struct man_work mw = {m, w};
    if (w->window > STRAWMAN_WINDOW_MAX)
        return err_set(e, EINVAL, "straw-man: a window of %u is more than %d", w->window, STRAWMAN_WINDOW_MAX);
    if (m->lanes < w->connections) {
        free(m->numbers);
        m->numbers = calloc(w->connections, sizeof *m->numbers);
        m->lanes = w->connections;
        if (m->numbers == NULL)
            abort();
    }
    struct load_options o = work_load(w, &m->server, run_lane, &mw);
    int code = load_run(&o, out, e);
    return code == 0 ? check_log(m, e) : code;
}

const struct rival rival_strawman = {
    .name = "strawman", .title = "straw-man", .kind = RIVAL_STRAWMAN, .disk = true, .os = true, .start = man_start, .stop = man_stop,
    .version = man_version, .server = man_server, .produce = man_produce,
};
