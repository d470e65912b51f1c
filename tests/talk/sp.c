#include "sp.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "talk.h"

enum { SP_HEAD_SIZE = 12, SP_ID_SIZE = 4 }; /* length u64 BE, request id u32 BE, which the length counts */

enum { WHOLE_MS = 10000 }; /* what began to come comes whole by then */

static bool is_ready(int fd, short events, int ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, ms) == 1;
}

static bool move_all(int fd, uint8_t *bytes, size_t size, short events, int ms)
{
    uint64_t until = clock_mono_ms() + (uint64_t)ms;
    for (size_t done = 0; done < size;) {
        uint64_t now = clock_mono_ms();
        if (!is_ready(fd, events, now < until ? (int)(until - now) : 0))
            return false;
        ssize_t n = events == POLLIN ? recv(fd, bytes + done, size - done, MSG_DONTWAIT)
                                     : send(fd, bytes + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

int sp_try(const char *url)
{
    uint8_t ours[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0}, theirs[8];
    int fd = strncmp(url, "ipc:", 4) == 0 ? unix_connect(url) : tcp_connect(url);
    if (move_all(fd, ours, sizeof ours, POLLOUT, WHOLE_MS) &&
        move_all(fd, theirs, sizeof theirs, POLLIN, WHOLE_MS))
        return fd;
    close(fd);
    return -1;
}

int sp_connect(const char *url)
{
    int fd = sp_try(url);
    if (fd < 0)
        fail_msg("%s does not greet", url);
    return fd;
}

/* On a Unix socket nng puts a 1 before the length. */
static size_t before_length(int fd)
{
    int domain = AF_INET;
    socklen_t size = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    return domain == AF_UNIX ? 1 : 0;
}

bool sp_send(int fd, uint32_t id, const void *bytes, size_t size, int ms)
{
    struct buf b = {0};
    if (before_length(fd) > 0)
        buf_put_u8(&b, 1);
    buf_put_u64be(&b, SP_ID_SIZE + size);
    buf_put_u32be(&b, id | 0x80000000);
    buf_append(&b, bytes, size);
    bool sent = move_all(fd, b.data, b.size, POLLOUT, ms);
    buf_free(&b);
    return sent;
}

uint8_t *sp_hear(int fd, uint32_t *id, size_t *size, int ms)
{
    uint8_t head[1 + SP_HEAD_SIZE];
    size_t before = before_length(fd);
    if (!is_ready(fd, POLLIN, ms) || !move_all(fd, head, before + SP_HEAD_SIZE, POLLIN, WHOLE_MS))
        return NULL;
    assert_true(before == 0 || head[0] == 1);
    *size = get_u64be(head + before) - SP_ID_SIZE;
    *id = get_u32be(head + before + SP_HEAD_SIZE - SP_ID_SIZE);
    uint8_t *bytes =
        malloc(*size > 0 ? *size : 1); /* aligned for any decoder, but for a frame's head before it */
    if (bytes != NULL && move_all(fd, bytes, *size, POLLIN, WHOLE_MS))
        return bytes;
    free(bytes); /* closed in the middle */
    return NULL;
}
