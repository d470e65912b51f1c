/* Which carrier goes to an address. */
#include "sdk/carrier.h"

#include <signal.h>
#include <strings.h>

#include "base/macros.h"
#include "base/mem.h"

typedef int carrier_open_fn(struct carrier **out, const struct carrier_options *o, struct sluice_error *err);

static carrier_open_fn *carrier_for(const char *url)
{
    static const struct {
        const char *scheme;
        carrier_open_fn *open;
    } carriers[] = {
        {"tcp:", carrier_socket_open},  {"tcp4:", carrier_socket_open},    {"tcp6:", carrier_socket_open},
        {"ipc:", carrier_socket_open},  {"inproc:", carrier_inproc_open},
    };
    for (size_t i = 0; i < ARRAY_LEN(carriers); i++) {
        if (strncasecmp(url, carriers[i].scheme, strlen(carriers[i].scheme)) == 0)
            return carriers[i].open;
    }
    return carrier_stream_open; /* tls+tcp; nothing else is known to it */
}

int carrier_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err)
{
    /* What nng carries starts nng's threads, the first in a process, and they are to take no signals. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = carrier_for(o->url)(out, o, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

void packet_free(struct packet *p)
{
    ref_drop(p->hold);
    mem_free(p->memory);
    mem_free(p);
}
