#include "sdk/address.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/macros.h"

enum way { NO_WAY, INPROC, IPC, TCP, TLS };

static const struct {
    const char *scheme;
    enum way way;
} schemes[] = {
    {"inproc", INPROC}, {"ipc", IPC},         {"tcp", TCP},          {"tcp4", TCP},
    {"tcp6", TCP},      {"tls+tcp", TLS},     {"tls+tcp4", TLS},     {"tls+tcp6", TLS},
};

/* A session's way, and those that lead to the same broker from where it goes, the best first. */
static const enum way ways[][3] = {[NO_WAY] = {NO_WAY}, [INPROC] = {INPROC, IPC, TCP}, [IPC] = {IPC, TCP}, [TCP] = {TCP}, [TLS] = {TLS}};

struct address {
    enum way way;
    bool six;                       /* its scheme says so */
    char host[256];                 /* of TCP and TLS, as it is written */
    const char *port;               /* ":7401" */
};

static bool parse(const char *url, struct address *a)
{
    const char *rest = strstr(url, "://");
    *a = (struct address){.way = NO_WAY};
    for (size_t i = 0; rest != NULL && i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i].scheme);
        if ((size_t)(rest - url) == n && strncasecmp(url, schemes[i].scheme, n) == 0) {
            a->way = schemes[i].way;
            a->six = schemes[i].scheme[n - 1] == '6';
        }
    }
    if (a->way != TCP && a->way != TLS)
        return a->way != NO_WAY;
    const char *host = rest + strlen("://");
    a->port = strrchr(host, ':');
    size_t n = a->port != NULL ? (size_t)(a->port - host) : sizeof a->host;
    if (n >= sizeof a->host)
        return false;
    memcpy(a->host, host, n);
    return true;
}

static bool everywhere(const char *host)
{
    static const char *const names[] = {"", "0.0.0.0", "[::]", "*"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(host, names[i]) == 0)
            return true;
    }
    return false;
}

static bool loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

/* Certificates are for names. */
static bool is_number(const char *host)
{
    return host[0] == '[' || strspn(host, "0123456789.") == strlen(host);
}

/* The host to dial, NULL: what listens there cannot be the session's broker. */
static const char *host_of(const struct address *told, const struct address *session)
{
    bool here = session->way == INPROC || session->way == IPC || loopback(session->host) || everywhere(session->host);
    if (!everywhere(told->host) && loopback(told->host) && !here)
        return NULL;
    if (!everywhere(told->host) && !(told->way == TLS && is_number(told->host)))
        return told->host;
    if (session->host[0] != '\0' && !everywhere(session->host))
        return session->host;
    return told->six ? "[::1]" : "127.0.0.1";
}

/* As it is to be dialled by a session that goes there. */
static bool seen_from(const struct address *session, const char *url, const struct address *told, char *out, size_t size)
{
    bool by_host = told->way == TCP || told->way == TLS;
    const char *host = by_host ? host_of(told, session) : "";
    if (host == NULL)
        return false;
    int n = by_host && host != told->host /* it may be of another family than the scheme says */
                ? snprintf(out, size, "%s://%s%s", told->way == TLS ? "tls+tcp" : "tcp", host, told->port)
                : snprintf(out, size, "%s", url);
    return n > 0 && (size_t)n < size;
}

bool address_published(const char *session, const struct view *told, uint32_t n, char *out, size_t size)
{
    struct address from, to;
    parse(session, &from);
    for (size_t w = 0; w < ARRAY_LEN(ways[0]) && ways[from.way][w] != NO_WAY; w++) {
        for (uint32_t i = 0; i < n; i++) {
            char url[512];
            if (told[i].size == 0 || told[i].size >= sizeof url || memchr(told[i].data, '\0', told[i].size) != NULL)
                continue;
            snprintf(url, sizeof url, "%.*s", (int)told[i].size, (const char *)told[i].data);
            if (parse(url, &to) && to.way == ways[from.way][w] && seen_from(&from, url, &to, out, size))
                return true;
        }
    }
    out[0] = '\0';
    return false;
}
