#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "unit.h"

#include "base/buf.h"
#include "base/clock.h"
#include "schemas/errors.h"
#include "wire/listen.h"
#include "wire/poller.h"

/* ---- a listener whose hooks count, and clients that are plain sockets */

enum { REQ = 0x30, REP = 0x31, SENDERS = 4, EACH = 200, STREAMS = 256, WAIT_MS = 10000 };

struct fixture {
    struct pollers *pollers;
    struct listener *l;
    char dir[40], path[64], url[80];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned opened, messages, closed; /* under lock, as all below */
    size_t written, written_bytes;
    unsigned after_closed; /* hooks that came when they must not any more */
    uint64_t heard;        /* bytes of messages */
    struct stream *last;   /* held */
    bool refuse, echo;
};

static void tell(struct fixture *f)
{
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static bool on_opened(void *user, struct stream *s)
{
    struct fixture *f = user;
    pthread_mutex_lock(&f->lock);
    if (f->refuse) {
        tell(f);
        return false;
    }
    f->opened++;
    if (f->last == NULL)
        f->last = stream_take(s);
    tell(f);
    return true;
}

static struct packet *packet_of(const void *bytes, size_t size)
{
    struct packet *p = packet_new(size);
    assert_non_null(p);
    p->data = p->room + PACKET_HEADROOM;
    p->size = size;
    memcpy(p->data, bytes, size);
    packet_seal(p);
    return p;
}

static void on_message(void *user, struct stream *s, struct ref *bytes)
{
    struct fixture *f = user;
    if (f->echo)
        stream_send(s, packet_of(bytes->data, bytes->size), SIZE_MAX);
    pthread_mutex_lock(&f->lock);
    f->messages++;
    f->heard += bytes->size;
    f->after_closed += f->closed == f->opened;
    tell(f);
    ref_drop(bytes);
}

static void on_written(void *user, struct stream *s, size_t packets, size_t bytes)
{
    struct fixture *f = user;
    (void)s;
    pthread_mutex_lock(&f->lock);
    f->written += packets;
    f->written_bytes += bytes;
    f->after_closed += f->closed == f->opened;
    tell(f);
}

static void on_closed(void *user, struct stream *s)
{
    struct fixture *f = user;
    (void)s;
    pthread_mutex_lock(&f->lock);
    f->closed++;
    tell(f);
}

static const struct stream_hooks hooks = {
    .opened = on_opened, .message = on_message, .written = on_written, .closed = on_closed};

static void listen_again(struct fixture *f)
{
    struct err e;
    const struct listener_options o = {.hooks = &hooks, .user = f, .pollers = f->pollers, .self = REP, .peer = REQ, .hears = true,
                                       .receive_bytes_max = 1 << 20, .trusted_bytes_max = 64 << 20, .greeting_max = 10000,
                                       .greeting_ms = 5000};
    f->l = listener_new(f->url, &o);
    assert_int_equal(listener_start(f->l, &(struct wire_tls){NULL, NULL, NULL}, &e), E_OK);
}

static void begin(struct fixture *f, bool unix_socket)
{
    struct err e;
    *f = (struct fixture){.echo = false};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    snprintf(f->dir, sizeof f->dir, "/tmp/sluice-stream-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/s", f->dir);
    if (unix_socket)
        snprintf(f->url, sizeof f->url, "ipc://%s", f->path);
    else
        snprintf(f->url, sizeof f->url, "tcp://127.0.0.1:0");
    assert_int_equal(pollers_start(&f->pollers, 2, NULL, NULL, &e), E_OK);
    listen_again(f);
}

static void end(struct fixture *f)
{
    if (f->last != NULL)
        stream_drop(f->last);
    listener_close(f->l);
    pollers_stop(f->pollers);
    assert_int_equal(f->closed, f->opened); /* of each that was opened it was told, once */
    assert_int_equal(f->after_closed, 0);
    unlink(f->path);
    rmdir(f->dir);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

/* Until `*count` is `n`; fails when that takes too long. */
static void await(struct fixture *f, const unsigned *count, unsigned n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&f->lock);
    int rv = 0;
    while (*count < n && rv == 0)
        rv = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    unsigned got = *count;
    pthread_mutex_unlock(&f->lock);
    assert_int_equal(got, n);
}

static int client_raw(const struct fixture *f)
{
    int fd;
    if (strncmp(f->url, "ipc", 3) == 0) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof un.sun_path, "%s", f->path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    } else {
        unsigned port = (unsigned)strtoul(strrchr(listener_url(f->l), ':') + 1, NULL, 10);
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = WAIT_MS / 1000}, sizeof(struct timeval));
    return fd;
}

static void put(int fd, const void *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = send(fd, (const char *)bytes + at, size - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static void get(int fd, void *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, (char *)bytes + at, size - at, 0);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static const uint8_t ours[8] = {0, 'S', 'P', 0, 0, REQ, 0, 0}, theirs[8] = {0, 'S', 'P', 0, 0, REP, 0, 0};

static int client(const struct fixture *f)
{
    uint8_t greeting[8];
    int fd = client_raw(f);
    put(fd, ours, sizeof ours);
    get(fd, greeting, sizeof greeting);
    assert_memory_equal(greeting, theirs, sizeof theirs);
    return fd;
}

/* A message as the other side sends it, over tcp. */
static size_t message(uint8_t *out, uint8_t fill, size_t size)
{
    put_u64be(out, size);
    memset(out + 8, fill, size);
    return 8 + size;
}

/* ---- titles */

static void dribbled_bytes_become_the_messages_that_they_are(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[8 + 3 * 64], back[64];
    size_t n = sizeof ours;
    begin(&f, false);
    f.echo = true;
    memcpy(bytes, ours, n);
    n += message(bytes + n, 'a', 20);
    n += message(bytes + n, 'b', 4);
    n += message(bytes + n, 'c', 50);
    int fd = client_raw(&f);
    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &(int){1}, sizeof(int));
    for (size_t i = 0; i < n; i++)
        put(fd, bytes + i, 1);
    get(fd, back, 8);
    assert_memory_equal(back, theirs, 8);
    for (size_t i = 0, sizes[] = {20, 4, 50}; i < 3; i++) {
        get(fd, back, 8 + sizes[i]);
        assert_int_equal(get_u64be(back), sizes[i]);
        assert_int_equal(back[8], 'a' + i);
    }
    close(fd);
    end(&f);
}

/* What the socket does not take waits for room, however long that takes, and comes whole and in order. */
static void who_reads_late_gets_everything_in_order(bool unix_socket)
{
    enum { PACKETS = 200, SIZE = 100000 };
    struct fixture f;
    uint8_t *bytes = malloc(SIZE + 9);
    begin(&f, unix_socket);
    int fd = client(&f);
    await(&f, &f.opened, 1);
    for (unsigned i = 0; i < PACKETS; i++) {
        memset(bytes, (int)i, SIZE);
        assert_true(stream_send(f.last, packet_of(bytes, SIZE), SIZE_MAX));
    }
    pthread_mutex_lock(&f.lock);
    assert_true(f.written < PACKETS); /* else the sockets are larger than this test thinks */
    pthread_mutex_unlock(&f.lock);
    size_t head = unix_socket ? 9 : 8;
    for (unsigned i = 0; i < PACKETS; i++) {
        get(fd, bytes, head + SIZE);
        assert_int_equal(get_u64be(bytes + head - 8), SIZE);
        for (size_t at = 0; at < SIZE; at++)
            assert_int_equal(bytes[head + at], (uint8_t)i);
    }
    close(fd);
    await(&f, &f.closed, 1);
    assert_int_equal(f.written, PACKETS);
    assert_int_equal(f.written_bytes, (size_t)PACKETS * SIZE);
    free(bytes);
    end(&f);
}

static void who_reads_late_gets_everything_in_order_over_tcp(void **state)
{
    (void)state;
    who_reads_late_gets_everything_in_order(false);
}

static void who_reads_late_gets_everything_in_order_over_a_unix_socket(void **state)
{
    (void)state;
    who_reads_late_gets_everything_in_order(true);
}

static void closing_what_nobody_reads_ends_it_once(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t *bytes = calloc(1, 1 << 20);
    begin(&f, false);
    int fd = client(&f);
    await(&f, &f.opened, 1);
    for (int i = 0; i < 64; i++)
        assert_true(stream_send(f.last, packet_of(bytes, 1 << 20), SIZE_MAX));
    stream_close(f.last);
    await(&f, &f.closed, 1);
    assert_false(stream_send(f.last, packet_of("late", 4), SIZE_MAX));
    assert_true(f.written < 64);
    close(fd);
    free(bytes);
    end(&f);
}

struct sender {
    pthread_t thread;
    struct stream *s;
    uint8_t name;
};

static void *send_many(void *arg)
{
    struct sender *x = arg;
    uint8_t bytes[3000];
    for (uint32_t i = 0; i < EACH; i++) {
        size_t size = 5 + i * 13 % (sizeof bytes - 5);
        memset(bytes, x->name, size);
        put_u32be(bytes, i);
        assert_true(stream_send(x->s, packet_of(bytes, size), SIZE_MAX));
    }
    return NULL;
}

static void packets_of_many_threads_come_whole_and_each_threads_in_order(void **state)
{
    (void)state;
    struct fixture f;
    struct sender senders[SENDERS];
    uint32_t next[SENDERS] = {0};
    uint8_t bytes[8 + 3000];
    begin(&f, false);
    int fd = client(&f);
    await(&f, &f.opened, 1);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.s = f.last, .name = (uint8_t)i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
    }
    for (int i = 0; i < SENDERS * EACH; i++) {
        get(fd, bytes, 8);
        size_t size = get_u64be(bytes);
        assert_true(size >= 5 && size <= 3000);
        get(fd, bytes, size);
        assert_true(bytes[4] < SENDERS);
        assert_int_equal(get_u32be(bytes), next[bytes[4]]++);
        assert_int_equal(bytes[size - 1], bytes[4]);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    close(fd);
    await(&f, &f.closed, 1);
    assert_int_equal(f.written, SENDERS * EACH);
    end(&f);
}

static unsigned descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Clients that come, say something and go in all ways leave nothing behind. */
static void connections_that_ended_hold_no_descriptor(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[64];
    begin(&f, false);
    unsigned before = descriptors();
    for (unsigned i = 0; i < STREAMS; i++) {
        int fd = i % 4 == 3 ? client_raw(&f) : client(&f);
        if (i % 4 == 1)
            put(fd, bytes, message(bytes, 'x', 40));
        if (i % 4 == 2) { /* in the midst of a message, and rudely */
            put(fd, bytes, message(bytes, 'x', 40) - 20);
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        }
        close(fd);
    }
    await(&f, &f.closed, STREAMS / 4 * 3);
    assert_int_equal(f.messages, STREAMS / 4);
    uint64_t until = clock_mono_ms() + WAIT_MS;
    do {
        listener_tend(f.l, clock_mono_ms());
    } while (descriptors() > before + 1 && clock_mono_ms() < until); /* f.last is held */
    assert_true(descriptors() <= before + 1);
    end(&f);
}

static void a_length_that_is_not_allowed_closes_before_memory_is_taken(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 3, (1 << 20) + 1, UINT64_C(1) << 62, UINT64_MAX};
    struct fixture f;
    begin(&f, false);
    for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
        uint8_t head[8];
        put_u64be(head, lengths[i]);
        int fd = client(&f);
        put(fd, head, sizeof head);
        assert_int_equal(recv(fd, head, 1, 0), 0);
        close(fd);
        await(&f, &f.closed, i + 1);
    }
    assert_int_equal(f.messages, 0);
    end(&f);
}

static void without_descriptors_it_waits_and_then_accepts(void **state)
{
    (void)state;
    struct fixture f;
    struct rlimit before, none;
    uint8_t greeting[8];
    begin(&f, false);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), first = dup(fd);
    close(first);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)first; /* all below are open */
    unsigned port = (unsigned)strtoul(strrchr(listener_url(f.l), ':') + 1, NULL, 10);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0); /* into the backlog */
    put(fd, ours, sizeof ours);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 200000}, sizeof(struct timeval));
    assert_int_equal(recv(fd, greeting, 1, 0), -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    listener_tend(f.l, clock_mono_ms());
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = WAIT_MS / 1000}, sizeof(struct timeval));
    get(fd, greeting, sizeof greeting);
    assert_memory_equal(greeting, theirs, sizeof theirs);
    await(&f, &f.opened, 1);
    close(fd);
    end(&f);
}

static void a_socket_file_that_a_killed_broker_left_is_replaced(void **state)
{
    (void)state;
    struct fixture f;
    struct err e;
    begin(&f, true);
    const struct listener_options o = {.hooks = &hooks, .user = &f, .pollers = f.pollers, .greeting_max = 1};
    struct listener *second = listener_new(f.url, &o);
    assert_int_equal(listener_start(second, &(struct wire_tls){NULL, NULL, NULL}, &e), E_UNREACHABLE); /* somebody listens */
    assert_non_null(strstr(e.text, f.url));
    listener_close(second);
    close(client(&f)); /* and still does */
    await(&f, &f.closed, 1);
    stream_drop(f.last);
    f.last = NULL;
    listener_close(f.l);
    assert_int_equal(access(f.path, F_OK), -1); /* who ends takes the file along */

    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", f.path);
    int left = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(left, (struct sockaddr *)&un, sizeof un), 0);
    close(left);
    listen_again(&f);
    close(client(&f));
    await(&f, &f.closed, 2);
    end(&f);
}

static void addresses_that_are_none_are_named(void **state)
{
    (void)state;
    static const char *const urls[] = {"tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:http", "tcp://no.such.host.invalid:1",
                                       "tcp6://127.0.0.1:0", "ipc://"};
    struct fixture f;
    begin(&f, false);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct err e;
        const struct listener_options o = {.hooks = &hooks, .user = &f, .pollers = f.pollers};
        struct listener *l = listener_new(urls[i], &o);
        assert_int_equal(listener_start(l, &(struct wire_tls){NULL, NULL, NULL}, &e), E_CONFIG);
        assert_non_null(strstr(e.text, urls[i]));
        listener_close(l);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dribbled_bytes_become_the_messages_that_they_are),
        cmocka_unit_test(who_reads_late_gets_everything_in_order_over_tcp),
        cmocka_unit_test(who_reads_late_gets_everything_in_order_over_a_unix_socket),
        cmocka_unit_test(closing_what_nobody_reads_ends_it_once),
        cmocka_unit_test(packets_of_many_threads_come_whole_and_each_threads_in_order),
        cmocka_unit_test(connections_that_ended_hold_no_descriptor),
        cmocka_unit_test(a_length_that_is_not_allowed_closes_before_memory_is_taken),
        cmocka_unit_test(without_descriptors_it_waits_and_then_accepts),
        cmocka_unit_test(a_socket_file_that_a_killed_broker_left_is_replaced),
        cmocka_unit_test(addresses_that_are_none_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
