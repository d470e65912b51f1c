/* See broker.h. */
#include "broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARGS_MAX = 32, METRICS_MAX = 1 << 20 };

int broker_program(const char *bin, const char *name, char path[PATH_MAX], struct err *e)
{
    char own[PATH_MAX - 32];
    ssize_t n = bin != NULL ? snprintf(own, sizeof own, "%s/", bin) : readlink("/proc/self/exe", own, sizeof own - 1);
    if (n <= 0 || n >= (ssize_t)sizeof own)
        return err_set(e, ENOENT, "it is not known where %s is: name the directory with --bin", name);
    own[n] = '\0';
    *strrchr(own, '/') = '\0';
    snprintf(path, PATH_MAX, "%s/%.30s", own, name);
    return access(path, X_OK) == 0 ? 0 : err_set(e, ENOENT, "%s: %s", path, strerror(errno));
}

static bool take_ready(struct broker *b)
{
    json_t *ready = json_loads(b->server.line, 0, NULL);
    const char *url = json_string_value(json_array_get(json_object_get(ready, "listen"), 0));
    const char *http = json_string_value(json_object_get(ready, "http"));
    snprintf(b->url, sizeof b->url, "%s", url != NULL ? url : "");
    snprintf(b->http, sizeof b->http, "%s", http != NULL ? http : "");
    json_decref(ready);
    return b->url[0] != '\0';
}

int broker_start(struct broker *b, const char *bin, const char *dir, const char *const *more, struct err *e)
{
    char path[PATH_MAX], data[PATH_MAX];
    *b = (struct broker){0};
    int code = broker_program(bin, "sluice-broker", path, e);
    if (code != 0)
        return code;
    if (snprintf(b->dir, sizeof b->dir, "%s", dir) >= (int)sizeof b->dir || snprintf(data, sizeof data, "%s/data", dir) >= (int)sizeof data)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
    const char *argv[ARGS_MAX] = {path, "--data", data, "--listen", "tcp://127.0.0.1:0", "--no-publish", "--http", "127.0.0.1:0"};
    size_t n = 8;
    for (size_t i = 0; more != NULL && more[i] != NULL && n + 1 < ARGS_MAX; i++)
        argv[n++] = more[i];
    struct server_spec spec = {.name = "broker", .argv = argv, .dir = dir, .ready_line = true};
    code = server_start(&b->server, &spec, e);
    if (code == 0 && !take_ready(b)) {
        server_kill(&b->server);
        code = err_set(e, EPROTO, "the broker says no address: %s", b->server.line);
    }
    return code;
}

void broker_stop(struct broker *b)
{
    server_stop(&b->server);
}

/* ---------------------------------------------------------------- metrics */

static int dial(const char *http)
{
    char host[64];
    unsigned port;
    if (sscanf(http, "%63[0-9.]:%u", host, &port) != 2)
        return -1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, host, &a.sin_addr) == 1 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The whole answer; freed by the caller, NULL when there is none. */
static char *metrics(const char *http)
{
    static const char ask[] = "GET /metrics HTTP/1.0\r\n\r\n";
    int fd = dial(http);
    char *text = fd >= 0 ? malloc(METRICS_MAX) : NULL;
    size_t n = 0;
    if (text != NULL && write(fd, ask, sizeof ask - 1) == (ssize_t)sizeof ask - 1)
        for (ssize_t got; n + 1 < METRICS_MAX && (got = read(fd, text + n, METRICS_MAX - 1 - n)) > 0;)
            n += (size_t)got;
    if (text != NULL)
        text[n] = '\0';
    if (fd >= 0)
        close(fd);
    return text;
}

double broker_metric(const struct broker *b, const char *name)
{
    char *text = metrics(b->http);
    size_t size = strlen(name);
    double sum = NAN;
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, size) != 0 || (line[size] != ' ' && line[size] != '{'))
            continue;
        const char *value = line[size] == '{' ? strstr(line, "} ") : line + size;
        if (value != NULL)
            sum = (isnan(sum) ? 0 : sum) + strtod(value + (*value == '}'), NULL);
    }
    free(text);
    return sum;
}
