/* See machine_peer.h. */
#include "machine_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

/* ---------------------------------------------------------------- that process */

static bool all_of(int fd, char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, data, size);
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static void attend(int fd)
{
    static char room[1 << 18];
    char what, echo[PEER_REPLY];
    if (!all_of(fd, &what, 1))
        return;
    if (what == PEER_SWALLOWS)
        while (read(fd, room, sizeof room) > 0)
            ;
    else
        while (all_of(fd, echo, sizeof echo) && write(fd, echo, sizeof echo) == sizeof echo)
            ;
}

static void *tcp_main(void *arg)
{
    int listener = *(int *)arg;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        attend(fd);
    }
    return NULL;
}

static int listen_tcp(uint16_t *port, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &size) != 0) {
        err_set(e, errno, "127.0.0.1: %s", strerror(errno));
        return -1;
    }
    *port = ntohs(a.sin_port);
    return fd;
}

static void open_file(int *fd, const nng_msg *m)
{
    char path[PATH_MAX] = "";
    size_t n = nng_msg_len(m) - 1;
    if (n < sizeof path)
        memcpy(path, (const char *)nng_msg_body((nng_msg *)(uintptr_t)m) + 1, n);
    if (*fd >= 0)
        close(*fd);
    *fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static void reply_for_ever(nng_socket s)
{
    int fd = -1;
    for (nng_msg *m; nng_recvmsg(s, &m, 0) == 0;) {
        char what = *(char *)nng_msg_body(m);
        if (what == PEER_OPENS)
            open_file(&fd, m);
        if (what == PEER_WRITES && (write(fd, nng_msg_body(m), nng_msg_len(m)) != (ssize_t)nng_msg_len(m) || fdatasync(fd) != 0))
            _exit(1); /* the other side gets no answer */
        if (nng_msg_len(m) > PEER_REPLY)
            nng_msg_chop(m, nng_msg_len(m) - PEER_REPLY);
        if (nng_sendmsg(s, m, 0) != 0)
            nng_msg_free(m);
    }
}

/* Prints its two ports when it is ready, and ends with who started it. */
int command_machine_peer(struct bench *b, struct err *e)
{
    nng_socket s;
    nng_listener l;
    pthread_t thread;
    uint16_t port;
    int nng_port;
    (void)b;
    end_with_parent();
    int fd = listen_tcp(&port, e);
    if (fd < 0)
        return e->code;
    int rv = nng_rep0_open(&s);
    if (rv == 0)
        rv = nng_listener_create(&l, s, "tcp://127.0.0.1:0");
    if (rv == 0)
        rv = nng_listener_start(l, 0);
    if (rv == 0)
        rv = nng_listener_get_int(l, NNG_OPT_TCP_BOUND_PORT, &nng_port);
    if (rv != 0)
        return err_set(e, rv, "nng: %s", nng_strerror(rv));
    if (pthread_create(&thread, NULL, tcp_main, &fd) != 0)
        return err_set(e, EAGAIN, "no thread");
    printf("%d %u\n", nng_port, port);
    fflush(stdout);
    reply_for_ever(s);
    return 0;
}

/* ---------------------------------------------------------------- from ours */

int self_path(char path[PATH_MAX], struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (n <= 0)
        return err_set(e, errno, "/proc/self/exe: %s", strerror(errno));
    path[n] = '\0';
    return 0;
}

void end_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static struct server server;
static char url[64];
static uint16_t tcp_port;

static int start(struct err *e)
{
    char self[PATH_MAX], dir[PATH_MAX];
    int nng_port;
    if (url[0] != '\0')
        return 0;
    int code = self_path(self, e);
    if (code == 0)
        code = workdir_make(NULL, dir, e);
    if (code != 0)
        return code;
    const char *const argv[] = {self, "machine_peer", NULL};
    code = server_start(&server, &(struct server_spec){.name = "machine-peer", .argv = argv, .dir = dir, .ready_line = true}, e);
    if (code == 0 && sscanf(server.line, "%d %hu", &nng_port, &tcp_port) != 2)
        code = err_set(e, EPROTO, "the other process says '%s'", server.line);
    if (code == 0)
        snprintf(url, sizeof url, "tcp://127.0.0.1:%d", nng_port);
    return code;
}

int peer_url(const char **out, struct err *e)
{
    *out = url;
    return start(e);
}

int peer_connect(char what, struct err *e)
{
    if (start(e) != 0)
        return -1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(tcp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0 || write(fd, &what, 1) != 1) {
        err_set(e, errno, "127.0.0.1:%u: %s", tcp_port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}
