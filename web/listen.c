#include "web/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "schemas/errors.h"

enum { BACKLOG = 128 };

/* "host:port" or "[v6]:port". */
static int split(const char *address, char host[256], const char **port, struct err *e)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon != NULL ? (size_t)(colon - address) : 0;
    const char *begin = address;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        begin++;
        n -= 2;
    }
    if (colon == NULL || n == 0 || n >= 256 || colon[1] == '\0' ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return err_set(e, E_CONFIG, "'%s' is not an HTTP address: write HOST:PORT", address);
    snprintf(host, 256, "%.*s", (int)n, begin);
    *port = colon + 1;
    return E_OK;
}

static int open_socket(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void describe(int fd, const char *host, char bound[WEB_ADDRESS_MAX])
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    unsigned port = 0;
    if (getsockname(fd, (struct sockaddr *)&at, &size) == 0)
        port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&at)->sin_port);
    snprintf(bound, WEB_ADDRESS_MAX, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

int web_listen(const char *address, int *fd, char bound[WEB_ADDRESS_MAX], struct err *e)
{
    char host[256];
    const char *port = NULL;
    int code = split(address, host, &port, e);
    if (code != E_OK)
        return code;
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int rv = getaddrinfo(host, port, &hints, &found);
    if (rv != 0)
        return err_set(e, E_CONFIG, "'%s' is not an HTTP address: %s", address, gai_strerror(rv));
    *fd = -1;
    int error = 0;
    for (const struct addrinfo *a = found; a != NULL && *fd < 0; a = a->ai_next) {
        *fd = open_socket(a);
        error = errno;
    }
    freeaddrinfo(found);
    if (*fd < 0)
        return err_set(e, E_UNREACHABLE, "cannot listen at http %s: %s", address, strerror(error));
    describe(*fd, host, bound);
    return E_OK;
}

int web_address_check(const char *address, struct err *e)
{
    char host[256];
    const char *port = NULL;
    return split(address, host, &port, e);
}
