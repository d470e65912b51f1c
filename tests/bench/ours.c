/* Sluice as one of the rivals. */
#include <errno.h>
#include <stdlib.h>

#include "broker.h"
#include "client.h"
#include "lease.h"
#include "ours.h"
#include "publish.h"
#include "readback.h"
#include "rival.h"

enum { STREAMS_MAX = 1024 };

static const char topic[] = "bench", group[] = "bench";

struct ours {
    struct broker broker;
    uint64_t *numbers; /* by lane, the next; what was published before is acknowledged */
    struct verify *verify; /* all that `queue` took */
    uint64_t taken;
};

const char *ours_bin;

static int make_topic(const struct ours *o, const struct work *w, struct err *e)
{
    struct sluice *s;
    int code = client_open(&s, o->broker.url, 0, 0, 0, e);
    if (code != 0)
        return code;
    code = client_topic(s, topic, 1, w->durability, e);
    if (code == 0)
        code = client_group(s, topic, group, SLUICE_ORDER_NONE, e);
    client_close(s);
    return code;
}

static void ours_stop(void *run)
{
    struct ours *o = run;
    broker_stop(&o->broker);
    verify_free(o->verify);
    free(o->numbers);
    free(o);
}

static int ours_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    struct ours *o = calloc(1, sizeof *o);
    if (o == NULL)
        abort();
    o->verify = verify_new(STREAMS_MAX, false);
    int code = broker_start(&o->broker, ours_bin, dir, NULL, e);
    if (code == 0)
        code = make_topic(o, w, e);
    if (code != 0)
        ours_stop(o);
    else
        *run = o;
    return code;
}

static const char *ours_version(void *run)
{
    (void)run;
    return sluice_version();
}

static const struct server *ours_server(void *run)
{
    return &((struct ours *)run)->broker.server;
}

static int ours_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct ours *o = run;
    if (w->connections > STREAMS_MAX)
        return err_set(e, EINVAL, "%d connections at most", STREAMS_MAX);
    if (o->numbers == NULL)
        o->numbers = calloc(STREAMS_MAX, sizeof *o->numbers);
    struct publish p = {.url = o->broker.url, .topic = topic, .work = w, .server = &o->broker.server, .numbers = o->numbers};
    return publish_run(&p, out, e);
}

static int ours_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct ours *o = run;
    struct lease c = {.url = o->broker.url, .topic = topic, .group = group, .work = w, .server = &o->broker.server,
                      .verify = o->verify};
    int code = lease_run(&c, out, e);
    struct verdict d = verify_end(o->verify);
    char text[160];
    uint64_t produced = 0;
    for (uint32_t i = 0; o->numbers != NULL && i < STREAMS_MAX; i++) {
        verify_produced(o->verify, i, o->numbers[i]);
        produced += o->numbers[i];
    }
    o->taken += w->messages;
    if (o->taken == produced)
        d = verify_end(o->verify); /* nothing may be missing */
    return code == 0 && !verdict_good(&d) ? err_set(e, EBADMSG, "void: %s", verdict_text(&d, text)) : code;
}

static int ours_check(void *run, struct err *e)
{
    struct ours *o = run;
    struct verify *v = verify_new(STREAMS_MAX, true);
    char text[160];
    for (uint32_t i = 0; o->numbers != NULL && i < STREAMS_MAX; i++)
        verify_produced(v, i, o->numbers[i]);
    int code = readback(o->broker.url, topic, v, e);
    struct verdict d = verify_end(v);
    verify_free(v);
    return code == 0 && !verdict_good(&d) ? err_set(e, EBADMSG, "void: %s", verdict_text(&d, text)) : code;
}

const struct rival rival_sluice = {
    .name = "sluice", .title = "Sluice", .kind = RIVAL_OURS, .disk = true, .os = true, .connections = 5, .connections_queue = 1, .start = ours_start,
    .stop = ours_stop, .version = ours_version, .server = ours_server, .produce = ours_produce, .queue = ours_queue,
    .check = ours_check,
};
