#include "wire/greet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum { GREETING_SIZE = 8 };

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

/* nng keeps ports and IPv4 addresses in network order, as the system does. */
static socklen_t address_of(const nng_sockaddr *from, union address *to)
{
    memset(to, 0, sizeof *to);
    switch (from->s_family) {
    case NNG_AF_INET:
        to->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = from->s_in.sa_port,
                                      .sin_addr.s_addr = from->s_in.sa_addr};
        if (to->in.sin_addr.s_addr == htonl(INADDR_ANY))
            to->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof to->in;
    case NNG_AF_INET6:
        to->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = from->s_in6.sa_port};
        memcpy(&to->in6.sin6_addr, from->s_in6.sa_addr, sizeof to->in6.sin6_addr);
        if (IN6_IS_ADDR_UNSPECIFIED(&to->in6.sin6_addr))
            to->in6.sin6_addr = in6addr_loopback;
        return sizeof to->in6;
    case NNG_AF_IPC:
        to->un.sun_family = AF_UNIX;
        memcpy(to->un.sun_path, from->s_ipc.sa_path, sizeof to->un.sun_path - 1);
        return sizeof to->un;
    default:
        return 0;
    }
}

static bool wait_for(int fd, short events, uint64_t deadline_ms)
{
    uint64_t now = clock_mono_ms();
    struct pollfd p = {.fd = fd, .events = events};
    return now < deadline_ms && poll(&p, 1, (int)(deadline_ms - now)) == 1 && (p.revents & events) != 0;
}

static bool connected(int fd, const union address *to, socklen_t size, uint64_t deadline_ms)
{
    if (connect(fd, &to->any, size) == 0)
        return true;
    int error = errno;
    socklen_t n = sizeof error;
    return error == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms) &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0;
}

/* Ours is sent at once, so the other side never sees a greeting that ends early. */
static bool greeted(int fd, uint64_t deadline_ms)
{
    const uint8_t ours[GREETING_SIZE] = {0, 'S', 'P', 0, 0, 0, 0, 0};
    if (send(fd, ours, sizeof ours, MSG_NOSIGNAL) != sizeof ours)
        return false;
    uint8_t theirs[GREETING_SIZE];
    for (size_t got = 0; got < sizeof theirs;) {
        if (!wait_for(fd, POLLIN, deadline_ms))
            return false;
        ssize_t n = recv(fd, theirs + got, sizeof theirs - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return memcmp(theirs, ours, 4) == 0;
}

enum greeting greet(const nng_sockaddr *address, uint64_t deadline_mono_ms, int *fd)
{
    union address to;
    socklen_t size = address_of(address, &to);
    if (size == 0)
        return GREET_CANNOT;
    *fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return GREET_CANNOT;
    if (connected(*fd, &to, size, deadline_mono_ms) && greeted(*fd, deadline_mono_ms))
        return GREET_DONE;
    close(*fd);
    return GREET_SILENT;
}

void greet_end(int fd)
{
    close(fd);
}
