/* See tail.h. */
#include "tail.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "client.h"
#include "goal.h"

enum { WAIT_MS = 100, READ_BYTES = 1 << 20 };

struct all {
    struct tail *tail;
    pthread_mutex_t verify;
    struct goal goal;
};

struct lane {
    struct load_lane *load;
    struct all *all;
    struct sluice *client;
    struct sluice_reader *reader;
};

static int open_reader(struct lane *l, struct err *e)
{
    const struct tail *t = l->all->tail;
    struct sluice_error err;
    struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_START, .max_bytes = READ_BYTES};
    if (l->reader != NULL)
        sluice_reader_close(l->reader);
    l->reader = NULL;
    if (sluice_reader_open(l->client, t->topic, l->load->index % t->partitions, &o, &l->reader, &err) != 0)
        return client_err(e, "open a reader", &err);
    return 0;
}

static void look_at(struct lane *l, const struct sluice_batch *b, uint64_t since_ns)
{
    struct tail *t = l->all->tail;
    size_t count = sluice_batch_count(b);
    if (t->verify != NULL) {
        pthread_mutex_lock(&l->all->verify);
        for (size_t i = 0; i < count; i++) {
            const struct sluice_delivery *d = sluice_batch_message(b, i);
            struct payload_head head = {0};
            verify_seen(t->verify, d->value.data, d->value.size, &head);
            if (t->end_to_end && head.intended_ns != 0)
                load_count(l->load, head.intended_ns, 1);
        }
        pthread_mutex_unlock(&l->all->verify);
    }
    if (!t->end_to_end && count > 0)
        load_count(l->load, since_ns, count);
    goal_add(&l->all->goal, count);
}

static int read_all(struct lane *l, struct err *e)
{
    const struct tail *t = l->all->tail;
    int code = 0;
    while (code == 0 && load_goes_on(l->load) && !goal_reached(&l->all->goal)) {
        struct sluice_error err;
        struct sluice_batch *b;
        uint64_t since = clock_mono_ns();
        if (sluice_reader_read(l->reader, t->again ? 0 : WAIT_MS, &b, &err) != 0)
            return client_err(e, "read", &err);
        bool end = sluice_batch_count(b) == 0;
        look_at(l, b, since);
        sluice_batch_free(b);
        if (end && t->again)
            code = open_reader(l, e);
    }
    return code;
}

static int run_lane(struct load_lane *load, struct err *e)
{
    struct lane l = {.load = load, .all = load->user};
    int code = client_open(&l.client, l.all->tail->url, 0, 0, 0, e);
    if (code != 0)
        return code;
    code = open_reader(&l, e);
    if (code == 0) {
        load_ready(load);
        code = read_all(&l, e);
    }
    if (l.reader != NULL)
        sluice_reader_close(l.reader);
    client_close(l.client);
    return code;
}

int tail_run(struct tail *t, struct outcome *out, struct err *e)
{
    struct all all = {.tail = t, .verify = PTHREAD_MUTEX_INITIALIZER};
    goal_init(&all.goal, t->until, t->work->messages);
    struct load_options o = work_load(t->work, t->server, run_lane, &all);
    return load_run(&o, out, e);
}
