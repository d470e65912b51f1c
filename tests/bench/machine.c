/* See machine.h. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine_peer.h"

enum { MB = 1 << 20, WRITE_PIECE = MB, TCP_PIECE = MB / 4, COPY_BYTES = 64 * MB };

#define FILE_BYTES_MAX ((uint64_t)4096 * MB) /* no more of the disk than that, however fast it is */

static uint64_t ns_after(double seconds)
{
    return clock_mono_ns() + (uint64_t)(seconds * 1e9);
}

/* The best rate of the tenths of a time. */
struct tenths {
    uint64_t tenth_ns, began_ns, bytes;
    double best;
};

static struct tenths tenths_begin(double seconds)
{
    return (struct tenths){.tenth_ns = (uint64_t)(seconds * 1e8), .began_ns = clock_mono_ns()};
}

static void tenths_add(struct tenths *t, uint64_t bytes)
{
    uint64_t now = clock_mono_ns();
    t->bytes += bytes;
    if (now - t->began_ns < t->tenth_ns)
        return;
    double rate = (double)t->bytes / ((double)(now - t->began_ns) / 1e9);
    t->best = rate > t->best ? rate : t->best;
    t->began_ns = now;
    t->bytes = 0;
}

/* That do not compress, which some disks do. */
static uint8_t *noise(size_t bytes)
{
    uint8_t *p = malloc(bytes);
    if (p == NULL)
        abort();
    for (uint64_t x = 88172645463325252u, i = 0; i < bytes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = (uint8_t)x;
    }
    return p;
}

/* ---------------------------------------------------------------- the disk */

/* An empty file. It keeps its name until it is closed: a file system may take longer to sync one that has none. */
struct file {
    char path[4096];
    int fd;
};

static int file_open(struct file *f, const char *dir, struct err *e)
{
    f->fd = -1;
    if (snprintf(f->path, sizeof f->path, "%s/machine-XXXXXX", dir) >= (int)sizeof f->path)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
    f->fd = mkostemp(f->path, O_CLOEXEC);
    return f->fd >= 0 ? 0 : err_set(e, errno, "%s: %s", f->path, strerror(errno));
}

static void file_close(struct file *f)
{
    unlink(f->path);
    close(f->fd);
}

static int put(int fd, const uint8_t *data, size_t bytes, uint64_t at, struct err *e)
{
    ssize_t n = pwrite(fd, data, bytes, (off_t)at);
    if (n == (ssize_t)bytes)
        return 0;
    return n < 0 ? err_set(e, errno, "pwrite: %s", strerror(errno)) : err_set(e, ENOSPC, "pwrite: %zd of %zu bytes", n, bytes);
}

static int put_synced(int fd, const uint8_t *data, size_t bytes, uint64_t at, struct err *e)
{
    int code = put(fd, data, bytes, at, e);
    return code != 0 || fdatasync(fd) == 0 ? code : err_set(e, errno, "fdatasync: %s", strerror(errno));
}

double machine_fdatasync(const char *dir, size_t bytes, double seconds, struct hist *h, struct err *e)
{
    struct file f;
    int code = file_open(&f, dir, e);
    if (code != 0)
        return NAN;
    uint8_t *data = noise(bytes);
    uint64_t at = 0;
    for (uint64_t until = ns_after(seconds), began; code == 0 && (began = clock_mono_ns()) < until && at < FILE_BYTES_MAX; at += bytes) {
        code = put_synced(f.fd, data, bytes, at, e);
        hist_record(h, clock_mono_ns() - began, 1);
    }
    free(data);
    file_close(&f);
    return code == 0 ? hist_us(h, 50) : NAN;
}

double machine_write(const char *dir, double seconds, struct err *e)
{
    struct file f;
    int code = file_open(&f, dir, e);
    if (code != 0)
        return NAN;
    uint8_t *data = noise(WRITE_PIECE);
    uint64_t began = clock_mono_ns(), at = 0;
    for (uint64_t until = ns_after(seconds); code == 0 && clock_mono_ns() < until && at < FILE_BYTES_MAX; at += WRITE_PIECE)
        code = put(f.fd, data, WRITE_PIECE, at, e);
    if (code == 0 && fdatasync(f.fd) != 0)
        code = err_set(e, errno, "fdatasync: %s", strerror(errno));
    double took = (double)(clock_mono_ns() - began) / 1e9;
    free(data);
    file_close(&f);
    return code == 0 ? (double)at / took : NAN;
}

/* ---------------------------------------------------------------- memory */

double machine_memcpy(double seconds)
{
    uint8_t *from = noise(COPY_BYTES), *to = malloc(COPY_BYTES);
    if (to == NULL)
        abort();
    memcpy(to, from, COPY_BYTES); /* its pages are there */
    struct tenths t = tenths_begin(seconds);
    for (uint64_t until = ns_after(seconds); t.best == 0 || clock_mono_ns() < until; tenths_add(&t, COPY_BYTES)) {
        memcpy(to, from, COPY_BYTES);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    free(from);
    free(to);
    return t.best;
}

/* ---------------------------------------------------------------- loopback */

double machine_tcp(double seconds, struct err *e)
{
    int fd = peer_connect(PEER_SWALLOWS, e);
    if (fd < 0)
        return NAN;
    uint8_t *data = noise(TCP_PIECE);
    struct tenths t = tenths_begin(seconds);
    ssize_t n = 0;
    for (uint64_t until = ns_after(seconds); n >= 0 && (t.best == 0 || clock_mono_ns() < until);)
        if ((n = write(fd, data, TCP_PIECE)) >= 0)
            tenths_add(&t, (uint64_t)n);
    if (n < 0)
        err_set(e, errno, "write: %s", strerror(errno));
    free(data);
    close(fd);
    return n < 0 ? NAN : t.best;
}

double machine_tcp_round(double seconds, struct hist *h, struct err *e)
{
    int fd = peer_connect(PEER_ECHOES, e);
    if (fd < 0)
        return NAN;
    uint8_t data[PEER_REPLY] = {0};
    bool good = true;
    for (uint64_t until = ns_after(seconds), began; good && (began = clock_mono_ns()) < until;) {
        good = write(fd, data, sizeof data) == sizeof data && read(fd, data, sizeof data) == sizeof data;
        hist_record(h, clock_mono_ns() - began, 1);
    }
    close(fd);
    if (!good)
        err_set(e, EPROTO, "an echo did not come");
    return good ? hist_us(h, 50) : NAN;
}

/* One for the whole bench. */
static int req_open(nng_socket *out, struct err *e)
{
    static nng_socket s;
    static bool open;
    const char *url;
    int code = peer_url(&url, e);
    if (code != 0 || open) {
        *out = s;
        return code;
    }
    int rv = nng_req0_open(&s);
    if (rv == 0)
        rv = nng_socket_set_ms(s, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rv == 0)
        rv = nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, 10000);
    if (rv == 0)
        rv = nng_dial(s, url, NULL, 0);
    open = rv == 0;
    *out = s;
    return rv == 0 ? 0 : err_set(e, rv, "nng: %s", nng_strerror(rv));
}

static int one_round(nng_socket s, const uint8_t *data, size_t bytes)
{
    nng_msg *m;
    int rv = nng_msg_alloc(&m, bytes);
    if (rv != 0)
        return rv;
    memcpy(nng_msg_body(m), data, bytes);
    if ((rv = nng_sendmsg(s, m, 0)) != 0) {
        nng_msg_free(m);
        return rv;
    }
    if ((rv = nng_recvmsg(s, &m, 0)) == 0)
        nng_msg_free(m);
    return rv;
}

static double rounds(char what, size_t bytes, double seconds, struct hist *h, struct err *e)
{
    nng_socket s;
    if (req_open(&s, e) != 0)
        return NAN;
    uint8_t *data = noise(bytes);
    int rv = 0;
    data[0] = (uint8_t)what;
    for (uint64_t until = ns_after(seconds), began; rv == 0 && (began = clock_mono_ns()) < until;) {
        rv = one_round(s, data, bytes);
        hist_record(h, clock_mono_ns() - began, 1);
    }
    free(data);
    if (rv != 0)
        err_set(e, rv, "nng: %s", nng_strerror(rv));
    return rv == 0 ? hist_us(h, 50) : NAN;
}

double machine_round(size_t bytes, double seconds, struct hist *h, struct err *e)
{
    return rounds(PEER_ANSWERS, bytes, seconds, h, e);
}

double machine_round_synced(const char *dir, size_t bytes, double seconds, struct hist *h, struct err *e)
{
    struct file f;
    nng_socket s;
    char opens[sizeof f.path + 1];
    if (file_open(&f, dir, e) != 0)
        return NAN;
    double p50_us = NAN;
    int n = snprintf(opens, sizeof opens, "%c%s", PEER_OPENS, f.path), code = req_open(&s, e);
    if (code == 0 && (code = one_round(s, (const uint8_t *)opens, (size_t)n)) != 0)
        err_set(e, code, "nng: %s", nng_strerror(code));
    if (code == 0)
        p50_us = rounds(PEER_WRITES, bytes, seconds, h, e);
    file_close(&f);
    return p50_us;
}

/* ---------------------------------------------------------------- the limit that bounds a figure */

enum { SHARE_SECONDS = 1, SHARE_ROUND = 100 };

static struct share share_of(double value, double limit, const char *of)
{
    return isfinite(value) && isfinite(limit) && limit > 0 ? (struct share){value / limit, of} : (struct share){.share = NAN};
}

struct share machine_share(const char *dir, double bytes_per_s)
{
    static double tcp, disk;
    struct err ignored = {0};
    if (dir != NULL && dir[0] == '\0')
        dir = NULL;
    if (tcp == 0)
        tcp = machine_tcp(SHARE_SECONDS, &ignored);
    if (dir != NULL && disk == 0)
        disk = machine_write(dir, SHARE_SECONDS, &ignored);
    bool by_disk = dir != NULL && disk < tcp;
    return share_of(bytes_per_s, by_disk ? disk : tcp, by_disk ? "sequential write" : "loopback tcp");
}

struct share machine_share_round(double percentile, double us)
{
    static struct hist *h;
    struct err ignored = {0};
    if (h == NULL) {
        h = hist_new();
        machine_round(SHARE_ROUND, SHARE_SECONDS, h, &ignored);
    }
    return share_of(h->total > 0 ? hist_us(h, percentile) : NAN, us, "nng round trip");
}
