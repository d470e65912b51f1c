#include "workerd/pipe.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "schemas/errors.h"

enum {
    HEAD = 8,
    ALIGN = 8,
    READ_MIN = 64 * 1024, /* bytes asked for at once */
    KEEP_MAX = 1 << 20    /* a buffer that grew past this is given back when it runs empty */
};

static size_t padded(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

void pipe_init(struct pipe *p, int fd, bool blocks)
{
    *p = (struct pipe){.fd = fd, .blocks = blocks};
}

void pipe_free(struct pipe *p)
{
    if (p->fd >= 0)
        close(p->fd);
    buf_free(&p->in);
    buf_free(&p->out);
    *p = (struct pipe){.fd = -1};
}

static void forget_if_large(struct buf *b)
{
    if (b->cap > KEEP_MAX)
        buf_free(b);
    else
        buf_clear(b);
}

/* Moves what is left behind `at` to the front. */
static void close_gap(struct buf *b, size_t *at)
{
    if (*at > 0)
        memmove(b->data, b->data + *at, b->size - *at);
    b->size -= *at;
    *at = 0;
}

/* ---- writing ---- */

int pipe_put(struct pipe *p, const struct plugin_packet *packet, struct err *e)
{
    size_t bound = codec_plugin_bound(packet);
    if (bound > PIPE_PACKET_MAX)
        return err_set(e, E_TOO_LARGE, "a packet of up to %zu bytes; the limit is %d", bound,
                       PIPE_PACKET_MAX);
    if (p->out_at > p->out.size / 2)
        close_gap(&p->out, &p->out_at);
    uint8_t *to = buf_try_reserve(&p->out, HEAD + padded(bound));
    if (to == NULL)
        return err_set(e, E_NO_MEMORY, "no memory for a packet of %zu bytes", bound);
    struct codec_space space = {.data = to + HEAD, .cap = padded(bound)};
    if (codec_plugin_encode(packet, &space) != 0)
        return err_set(e, E_INTERNAL, "a packet is larger than its bound");
    put_u32(to, (uint32_t)space.size);
    put_u32(to + 4, 0);
    memmove(to + HEAD, space.data + space.at, space.size);
    memset(to + HEAD + space.size, 0, padded(space.size) - space.size);
    p->out.size += HEAD + padded(space.size);
    return 0;
}

size_t pipe_mark(const struct pipe *p)
{
    return p->out.size - p->out_at;
}

void pipe_rewind(struct pipe *p, size_t mark)
{
    assert(mark <= pipe_mark(p));
    p->out.size = p->out_at + mark;
}

bool pipe_pending(const struct pipe *p)
{
    return p->out_at < p->out.size;
}

int pipe_flush(struct pipe *p, struct err *e)
{
    while (pipe_pending(p)) {
        ssize_t n = send(p->fd, p->out.data + p->out_at, p->out.size - p->out_at,
                         MSG_NOSIGNAL | (p->blocks ? 0 : MSG_DONTWAIT));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n < 0)
            return err_set(e, E_CLOSED, "send: %s", strerror(errno));
        p->out_at += (size_t)n;
    }
    forget_if_large(&p->out);
    p->out_at = 0;
    return 0;
}

/* ---- reading ---- */

static size_t unread(const struct pipe *p)
{
    return p->in.size - p->in_at;
}

/* The size of the packet that begins at in_at, as its head says. */
static uint32_t announced(const struct pipe *p)
{
    assert(unread(p) >= HEAD);
    return get_u32(p->in.data + p->in_at);
}

/* Room for the rest of the packet that has begun, or for a good read. */
static uint8_t *make_room(struct pipe *p, size_t *room)
{
    close_gap(&p->in, &p->in_at);
    if (p->in.size == 0)
        forget_if_large(&p->in);
    size_t want = READ_MIN;
    if (p->in.size >= HEAD) {
        size_t whole = HEAD + padded(announced(p)); /* pipe_next has checked it */
        if (whole > p->in.size + want)
            want = whole - p->in.size;
    }
    uint8_t *to = buf_try_reserve(&p->in, want);
    *room = want;
    return to;
}

int pipe_fill(struct pipe *p, struct err *e)
{
    size_t room;
    uint8_t *to = make_room(p, &room);
    if (to == NULL)
        return err_set(e, E_CLOSED, "no memory for a packet");
    ssize_t n;
    do {
        n = recv(p->fd, to, room, p->blocks ? 0 : MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return E_AGAIN;
    if (n < 0)
        return err_set(e, E_CLOSED, "recv: %s", strerror(errno));
    if (n == 0)
        return err_set(e, E_CLOSED, "closed by the other end");
    p->in.size += (size_t)n;
    return 0;
}

int pipe_next(struct pipe *p, struct view *out, struct err *e)
{
    *out = (struct view){NULL, 0};
    if (unread(p) < HEAD)
        return 0;
    uint32_t size = announced(p);
    if (size == 0 || size > PIPE_PACKET_MAX || get_u32(p->in.data + p->in_at + 4) != 0)
        return err_set(e, E_BAD_FRAME, "a packet of %u bytes is announced; the limit is %d", size,
                       PIPE_PACKET_MAX);
    if (unread(p) < HEAD + padded(size))
        return 0;
    *out = view_of(p->in.data + p->in_at + HEAD, size);
    p->in_at += HEAD + padded(size);
    return 0;
}

char *packet_string(struct view v)
{
    return mem_strndup(v.data != NULL ? (const char *)v.data : "", v.size);
}
