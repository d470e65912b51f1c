/* sluice-bench connections: memory of a broker that does nothing, and of a connection that does nothing. Rows P12. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench.h"
#include "client.h"
#include "rows.h"

enum { QUICK = 1000, FULL = 4000, REST_MS = 2000 };

static double resident(const struct place *at)
{
    struct usage u;
    usage_of(at->broker.server.pid, &u);
    return (double)u.rss_bytes;
}

static void allow_files(void) /* also to the broker that is started after it */
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int connect_all(const struct place *at, struct sluice **clients, size_t count, struct err *e)
{
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++)
        code = client_open(&clients[i], at->broker.url, 0, 1 << 20, 0, e);
    poll(NULL, 0, REST_MS);
    return code;
}

int rows_idle(struct bench *b, struct err *e)
{
    struct place at;
    size_t count = b->o.connections > 0 ? b->o.connections : b->o.quick ? QUICK : FULL;
    struct sluice **clients = calloc(count, sizeof *clients);
    char note[64];
    allow_files();
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = e->code;
    poll(NULL, 0, REST_MS);
    double idle = resident(&at);
    if (code == 0)
        code = connect_all(&at, clients, count, e);
    double connected = resident(&at);
    if (code == 0) {
        report_row(&b->report, "P12.broker", idle / 1e6, NULL);
        snprintf(note, sizeof note, "of %zu", count);
        report_row(&b->report, "P12.connection", (connected - idle) / (double)count, note);
    }
    for (size_t i = 0; i < count; i++)
        client_close(clients[i]);
    free(clients);
    place_close(&at);
    return code;
}

int command_connections(struct bench *b, struct err *e)
{
    return rows_idle(b, e);
}
