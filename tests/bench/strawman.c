/* The straw-man's server: see strawman.h. `sluice-bench strawman --dir DIR [--durability disk|os]` prints its address when it is
 * ready. One nng thread at a time receives, checks and writes; another thread syncs and acknowledges. */
#include "strawman.h"

#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "machine_peer.h"

static struct {
    nng_socket socket;
    nng_aio *receive, *send;
    int fd;
    off_t end;
    bool disk;

    pthread_mutex_t lock;
    pthread_cond_t some;
    nng_msg **written; /* and not yet synced: their replies */
    size_t written_n, written_cap;
} man = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "straw-man: %s: %s\n", what, why);
    _exit(1);
}

static bool whole(const nng_msg *m)
{
    uint64_t sum;
    const uint8_t *body = nng_msg_body((nng_msg *)(uintptr_t)m);
    if (nng_msg_len(m) < sizeof sum)
        return false;
    memcpy(&sum, body, sizeof sum);
    return sum == hash_bytes(body + sizeof sum, nng_msg_len(m) - sizeof sum, 0);
}

/* A raw REP's send only queues, so it takes no time. */
static void acknowledge(nng_msg *m)
{
    nng_aio_set_msg(man.send, m);
    nng_send_aio(man.socket, man.send);
    nng_aio_wait(man.send);
    if (nng_aio_result(man.send) != 0)
        nng_msg_free(m);
}

static void hand_over(nng_msg *m)
{
    pthread_mutex_lock(&man.lock);
    if (man.written_n == man.written_cap) {
        man.written_cap = man.written_cap == 0 ? 64 : 2 * man.written_cap;
        man.written = realloc(man.written, man.written_cap * sizeof *man.written);
        if (man.written == NULL)
            die("memory", "there is none");
    }
    man.written[man.written_n++] = m;
    if (man.written_n == 1)
        pthread_cond_signal(&man.some);
    pthread_mutex_unlock(&man.lock);
}

static void on_received(void *unused)
{
    (void)unused;
    int rv = nng_aio_result(man.receive);
    if (rv != 0)
        die("receive", nng_strerror(rv));
    nng_msg *m = nng_aio_get_msg(man.receive);
    if (!whole(m))
        die("receive", "a batch does not fit its checksum");
    if (pwrite(man.fd, nng_msg_body(m), nng_msg_len(m), man.end) != (ssize_t)nng_msg_len(m))
        die("pwrite", strerror(errno));
    man.end += (off_t)nng_msg_len(m);
    nng_msg_clear(m); /* its header, which says where the reply goes, stays */
    if (man.disk)
        hand_over(m);
    else
        acknowledge(m);
    nng_recv_aio(man.socket, man.receive);
}

static _Noreturn void sync_for_ever(void)
{
    nng_msg **all = NULL;
    size_t n, cap = 0;
    for (;;) {
        pthread_mutex_lock(&man.lock);
        while (man.written_n == 0)
            pthread_cond_wait(&man.some, &man.lock);
        nng_msg **other = man.written;
        size_t other_cap = man.written_cap;
        n = man.written_n;
        man.written = all, man.written_cap = cap, man.written_n = 0;
        all = other, cap = other_cap;
        pthread_mutex_unlock(&man.lock);
        if (fdatasync(man.fd) != 0)
            die("fdatasync", strerror(errno));
        for (size_t i = 0; i < n; i++)
            acknowledge(all[i]);
    }
}

static int listen_any(int *port)
{
    nng_listener l;
    int rv = nng_rep0_open_raw(&man.socket);
    if (rv == 0)
        rv = nng_listener_create(&l, man.socket, "tcp://127.0.0.1:0");
    if (rv == 0)
        rv = nng_listener_start(l, 0);
    return rv == 0 ? nng_listener_get_int(l, NNG_OPT_TCP_BOUND_PORT, port) : rv;
}

int command_strawman(struct bench *b, struct err *e)
{
    char path[PATH_MAX];
    int port;
    end_with_parent();
    man.disk = b->o.durability != SLUICE_OS;
    if (b->o.dir == NULL || snprintf(path, sizeof path, "%s/log", b->o.dir) >= (int)sizeof path)
        return err_set(e, EINVAL, "--dir is needed");
    man.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (man.fd < 0)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    int rv = listen_any(&port);
    if (rv == 0)
        rv = nng_aio_alloc(&man.receive, on_received, NULL);
    if (rv == 0)
        rv = nng_aio_alloc(&man.send, NULL, NULL);
    if (rv != 0)
        return err_set(e, rv, "nng: %s", nng_strerror(rv));
    printf("tcp://127.0.0.1:%d\n", port);
    fflush(stdout);
    nng_recv_aio(man.socket, man.receive);
    sync_for_ever();
}
