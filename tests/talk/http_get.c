#include "http_get.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "talk.h"
#include "tcp.h"

enum { REPLY_BYTES_MAX = 16 << 20, DEADLINE_MS = 30000 };

void http_get(const char *address, const char *method, const char *path, struct http_reply *out)
{
    char request[4096];
    int n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                     method, path, address);
    http_send(address, request, (size_t)n, out);
}

void http_send(const char *address, const char *request, size_t size, struct http_reply *out)
{
    int fd = tcp_connect(address);
    out->text = malloc(REPLY_BYTES_MAX);
    if (out->text == NULL)
        fail_msg("no memory");
    size_t n = 0;
    if (send(fd, request, size, MSG_NOSIGNAL) == (ssize_t)size) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        for (ssize_t got = 1; got > 0 && n + 1 < REPLY_BYTES_MAX; n += got > 0 ? (size_t)got : 0) {
            if (poll(&p, 1, DEADLINE_MS) != 1)
                fail_msg("no HTTP reply");
            got = recv(fd, out->text + n, REPLY_BYTES_MAX - 1 - n, 0);
        }
    }
    out->text[n] = '\0';
    close(fd);
    out->status = 0;
    sscanf(out->text, "HTTP/1.1 %d", &out->status);
    char *end = strstr(out->text, "\r\n\r\n");
    out->body = end != NULL ? end + 4 : out->text + n;
}

void http_reply_free(struct http_reply *r)
{
    free(r->text);
}

const char *http_header(const struct http_reply *r, const char *name, char out[256])
{
    size_t size = strlen(name);
    out[0] = '\0';
    for (const char *line = strchr(r->text, '\n'); line != NULL && line < r->body;
         line = strchr(line + 1, '\n'))
        if (strncasecmp(line + 1, name, size) == 0 && line[1 + size] == ':')
            sscanf(line + 2 + size, " %255[^\r\n]", out);
    return out;
}
