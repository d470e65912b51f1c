/* See publish.h. */
#include "publish.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "payload.h"

/* A batch that is out. Callbacks come in the library's thread, one lane's all from one. */
struct flight {
    struct lane *lane;
    struct load_ticket ticket;
    uint32_t left;
    struct flight *next; /* free ones */
};

struct lane {
    struct load_lane *load;
    struct publish *publish;
    struct sluice *client;
    struct payload payload;
    uint8_t *bytes;
    uint64_t sent; /* messages; says whose turn it is among the keys */
    struct flight *flights;
    _Atomic(struct flight *) idle; /* callbacks push, the lane takes all */
    struct flight *taken;
    atomic_int failed;
    struct sluice_error err; /* of the first that failed; read after the flush */
};

uint32_t publish_streams(const struct publish *p)
{
    return p->keys > 0 ? (uint32_t)p->keys : p->work->connections;
}

/* ---------------------------------------------------------------- flights */

static void flight_back(struct flight *f)
{
    f->next = atomic_load(&f->lane->idle);
    while (!atomic_compare_exchange_weak(&f->lane->idle, &f->next, f))
        ;
}

/* There is one: the load's window is as large as there are flights, and a flight is back before its batch is done. */
static struct flight *flight_take(struct lane *l)
{
    if (l->taken == NULL)
        l->taken = atomic_exchange(&l->idle, NULL);
    struct flight *f = l->taken;
    l->taken = f->next;
    return f;
}

static void on_done(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct flight *f = user;
    struct lane *l = f->lane;
    (void)receipt;
    if (error != NULL && atomic_fetch_add(&l->failed, 1) == 0)
        l->err = *error;
    if (--f->left > 0)
        return;
    struct load_ticket ticket = f->ticket;
    flight_back(f);
    load_done(l->load, &ticket);
}

/* ---------------------------------------------------------------- a lane */

static int send_one(struct lane *l, struct flight *f, struct err *e)
{
    const struct publish *p = l->publish;
    uint32_t stream = l->load->index, lanes = p->work->connections;
    char key[24];
    struct sluice_message m = {.size = sizeof m, .topic = p->topic, .value = {l->bytes, l->payload.size}};
    if (p->keys > 0) {
        uint64_t mine = (p->keys - stream + lanes - 1) / lanes;
        stream += (uint32_t)(l->sent % mine) * lanes;
        m.key = (struct sluice_bytes){key, (size_t)snprintf(key, sizeof key, "key-%u", stream)};
    }
    struct payload_head head = {.number = p->numbers[stream], .stream = stream, 
                                .intended_ns = p->timed && load_warm(l->load, &f->ticket) ? f->ticket.intended_ns : 0};
    payload_fill(&l->payload, &head, l->bytes);
    struct sluice_error err;
    while (sluice_publish_async(l->client, &m, on_done, f, &err) != 0) {
        if (err.code != SLUICE_QUEUE_FULL)
            return client_err(e, "publish", &err);
        sluice_flush(l->client, CLIENT_TIMEOUT_MS, NULL);
    }
    p->numbers[stream]++;
    l->sent++;
    return 0;
}

static int send_all(struct lane *l, struct err *e)
{
    int code = 0;
    for (struct load_ticket t; code == 0 && atomic_load(&l->failed) == 0 && load_next(l->load, &t);) {
        struct flight *f = flight_take(l);
        f->ticket = t;
        f->left = t.messages;
        for (uint32_t i = 0; i < t.messages && code == 0; i++)
            code = send_one(l, f, e);
    }
    struct sluice_error err;
    if (sluice_flush(l->client, CLIENT_TIMEOUT_MS, &err) != 0 && code == 0)
        code = client_err(e, "flush", &err);
    if (atomic_load(&l->failed) != 0 && code == 0)
        code = client_err(e, "publish", &l->err);
    return code;
}

/* The first message to a topic asks for its partitions: that is not what is measured. */
static int know_topic(struct lane *l, struct err *e)
{
    struct sluice_topic_list *list;
    struct sluice_error err;
    if (sluice_topics(l->client, l->publish->topic, &list, &err) != 0)
        return client_err(e, "topics", &err);
    sluice_topics_free(list);
    return 0;
}

static int run_lane(struct load_lane *load, struct err *e)
{
    struct publish *p = load->user;
    const struct work *w = p->work;
    struct lane l = {.load = load, .publish = p, .payload = {.seed = w->seed, .size = w->size, .compressible = w->compressible}};
    int code = client_open(&l.client, p->url, w->rate > 0 ? 0 : w->batch, 0, 0, e); /* offered ones gather as they come */
    if (code != 0)
        return code;
    l.bytes = malloc(w->size);
    l.flights = calloc(w->window, sizeof *l.flights);
    if (l.bytes == NULL || l.flights == NULL)
        abort();
    for (uint32_t i = 0; i < w->window; i++) {
        l.flights[i].lane = &l;
        flight_back(&l.flights[i]);
    }
    code = know_topic(&l, e);
    if (code == 0) {
        load_ready(load);
        code = send_all(&l, e);
    }
    client_close(l.client); /* no callback comes after it */
    free(l.flights);
    free(l.bytes);
    return code;
}

int publish_run(struct publish *p, struct outcome *out, struct err *e)
{
    if (p->keys > 0 && p->keys < p->work->connections)
        return err_set(e, EINVAL, "%llu keys are fewer than the %u connections", (unsigned long long)p->keys, p->work->connections);
    struct load_options o = work_load(p->work, p->server, run_lane, p);
    return load_run(&o, out, e);
}
