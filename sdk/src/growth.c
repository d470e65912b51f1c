#include "sdk/growth.h"

#include "base/mem.h"
#include "sdk/client.h"

/* To be told once no lock is held, as callbacks may publish. */
struct news {
    struct outlet *outlet;
    struct note note;
    int code; /* 0: it is a duplicate */
};

/* Of one topic. */
struct growth {
    struct list_node node;
    struct sluice *client;
    struct topic *from, *to; /* `to` NULL: the broker is being asked */
    struct buf news;
};

/* ---------------------------------------------------------------- asking */

struct ask {
    struct sluice *client;
    topic_asked_fn *fn;
    void *user;
};

static void ask_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct ask *q = r->owner;
    struct topic *now = NULL;
    struct sluice_error odd;
    if (error == NULL && a->reply.body == BODY_TOPICS && a->reply.topics.topics_n == 1)
        now = catalog_learn(&q->client->catalog, &a->reply.topics.topics[0]);
    if (error == NULL && now == NULL) {
        fail(&odd, E_BAD_FRAME, "%s: the broker's answer makes no sense", r->about);
        error = &odd;
    }
    q->fn(q->user, now, error);
    mem_free(q);
}

void topic_ask(struct sluice *s, const char *name, topic_asked_fn *fn, void *user)
{
    struct ask *q = mem_alloc(sizeof *q);
    *q = (struct ask){s, fn, user};
    struct request *r = client_request(s, VERB_TOPIC_LIST, LANE_READS, "topic '%s'", name);
    r->wire.list = (struct wire_list){.name = request_keep(r, view_of_str(name)), .limit = 1};
    r->done = ask_done;
    r->owner = q;
    session_submit(&s->session, r);
}

/* ---------------------------------------------------------------- holding */

static struct growth *growth_of(struct producer *p, uint32_t topic)
{
    LIST_EACH (n, &p->growths) {
        struct growth *g = container_of(n, struct growth, node);
        if (g->from->id == topic)
            return g;
    }
    return NULL;
}

static struct growth *growth_new(struct producer *p, struct topic *from)
{
    struct growth *g = mem_zalloc(sizeof *g);
    g->client = p->client;
    g->from = from;
    list_push_back(&p->growths, &g->node);
    return g;
}

static void hold(struct outlet *o)
{
    outlet_known(o);
    o->moving = o->lane.on_hold = true;
}

/* Nothing was found to do: what is held goes out as it is. */
static void growth_end(struct growth *g)
{
    for (uint32_t i = 0; i < g->from->partitions_n; i++) {
        struct outlet *o = catalog_outlet(g->client, g->from, i);
        if (!o->moving)
            continue;
        o->moving = false;
        lane_release(&o->lane);
        outlet_known(o);
    }
    list_remove(&g->node);
    mem_free(g);
}

/* All outlets, and so nobody makes one by the old number any more. */
static void growth_begin(struct producer *p, struct topic *to)
{
    struct topic *from = catalog_route(p->client, to);
    if (from->partitions_n >= to->partitions_n)
        return;
    struct growth *g = growth_of(p, to->id);
    if (g == NULL)
        g = growth_new(p, from);
    if (g->to == NULL || g->to->partitions_n < to->partitions_n)
        g->to = to;
    for (uint32_t i = 0; i < from->partitions_n; i++)
        hold(catalog_outlet(p->client, from, i));
}

struct announced {
    struct event event;
    struct sluice *client;
    struct topic *to;
};

static void announced(struct event *e)
{
    struct announced *x = container_of(e, struct announced, event);
    growth_begin(&x->client->producer, x->to);
    mem_free(x);
}

void growth_announce(struct sluice *s, struct topic *now)
{
    struct announced *x = mem_zalloc(sizeof *x);
    *x = (struct announced){.event.run = announced, .client = s, .to = now};
    loop_post(&s->loop, &x->event);
}

/* Refused though there are no more partitions than we knew, or nobody says: the batch is sent once more, and then its makers are told. */
static void asked(void *user, struct topic *now, const struct sluice_error *error)
{
    struct growth *g = user;
    (void)error;
    if (now != NULL)
        growth_begin(&g->client->producer, now);
    if (g->to == NULL)
        growth_end(g);
}

bool growth_refused(struct draft *d)
{
    struct outlet *o = d->outlet;
    struct producer *p = &o->client->producer;
    if (d->refused_of == o->topic->partitions_n)
        return false;
    d->refused_of = o->topic->partitions_n;
    hold(o);
    if (growth_of(p, o->topic->id) == NULL)
        topic_ask(o->client, o->topic->name, asked, growth_new(p, o->topic));
    return true;
}

/* ---------------------------------------------------------------- moving */

static struct outlet *destination(struct growth *g, const struct outlet *o, const struct record *r)
{
    uint32_t index = o->index;
    if (r->key.data != NULL)
        index = key_partition(key_hash(r->key), g->to->partitions_n);
    else if (!id128_is_zero(r->message_id))
        index = key_partition(r->message_id.lo, g->to->partitions_n);
    return catalog_outlet(g->client, g->to, index);
}

/* Old outlets are locked already. */
static int put(struct growth *g, const struct outlet *from, const struct draft *d, const struct prepared *p, struct note note)
{
    struct outlet *to = destination(g, from, &p->record);
    bool ours = to->index < g->from->partitions_n, knock;
    struct err e;
    if (!ours)
        pthread_mutex_lock(&to->lock);
    int code = outlet_put(to, p, note, true, d->opened_ns, &knock, &e);
    if (knock)
        to->posted = false; /* the loop is here */
    if (!ours)
        pthread_mutex_unlock(&to->lock);
    outlet_known(to);
    return code;
}

/* Takes a batch apart. What it took from the budget goes with its records. */
static void move_records(struct growth *g, struct outlet *from, struct draft *d, struct view batch)
{
    struct batch_reader reader;
    size_t moved = 0;
    uint32_t at = 0;
    int code = batch_reader_open(&reader, batch, NULL);
    for (uint32_t i = 0; i < d->notes_n; i++) {
        struct prepared p = {.topic = g->to, .due = d->due};
        if (!d->notes[i].duplicate) {
            if (code == 0)
                code = batch_reader_get(&reader, at++, &p.record, NULL);
            p.bytes = message_bytes(&p.record);
            if (code == 0 && (code = put(g, from, d, &p, d->notes[i])) == 0) {
                moved += p.bytes;
                continue;
            }
        }
        const struct news news = {from, d->notes[i], d->notes[i].duplicate ? 0 : code};
        buf_append(&g->news, &news, sizeof news);
    }
    batch_reader_close(&reader);
    if (d->bytes > moved)
        budget_give(&g->client->budget, d->bytes - moved);
    from->told++;
    draft_free(d);
}

static void move_request(struct growth *g, struct outlet *o, struct request *r)
{
    struct draft *d = r->owner;
    g->client->producer.unconfirmed -= d->notes_n;
    r->charged = 0;
    move_records(g, o, d, r->wire.produce.batch);
    request_free(r, &g->client->budget);
}

static void move_draft(struct growth *g, struct outlet *o, struct draft *d)
{
    struct buf batch = {0};
    struct err ignored;
    (void)batch_builder_finish(d->builder, BATCH_NONE, &batch, NULL, &ignored);
    o->taken++;
    move_records(g, o, d, buf_view(&batch));
    buf_free(&batch);
}

/* What was sent comes before what was not; what stays comes to stand behind both, where it was. */
static void move_all(struct growth *g, struct outlet *o)
{
    struct list drafts;
    struct list_node *n;
    struct request *r;
    list_init(&drafts);
    while ((n = list_pop_front(&o->drafts)) != NULL)
        list_push_back(&drafts, n);
    while ((r = lane_withdraw(&o->lane)) != NULL)
        move_request(g, o, r);
    while ((n = list_pop_front(&drafts)) != NULL)
        move_draft(g, o, container_of(n, struct draft, node));
}

static void tell(struct growth *g)
{
    struct client_counters *c = &g->client->counters;
    const struct news *news = (const struct news *)(const void *)g->news.data;
    for (size_t i = 0; i < g->news.size / sizeof *news; i++) {
        struct sluice_error error; /* our own bytes do not read: cannot be */
        atomic_fetch_add(news[i].code == 0 ? &c->confirmed : &c->failed, 1);
        if (news[i].code == 0) {
            note_tell_duplicate(news[i].outlet, &news[i].note);
            continue;
        }
        fail(&error, news[i].code, "topic '%s': what goes to another partition cannot be read", g->to->name);
        if (news[i].note.fn != NULL)
            news[i].note.fn(news[i].note.user, &error, NULL);
    }
    buf_free(&g->news);
}

static void move(struct growth *g)
{
    uint32_t n = g->from->partitions_n;
    struct outlet **old = mem_array(n, sizeof(struct outlet *));
    for (uint32_t i = 0; i < n; i++) {
        old[i] = catalog_outlet(g->client, g->from, i);
        pthread_mutex_lock(&old[i]->lock);
        old[i]->topic = g->to;
    }
    for (uint32_t i = 0; i < n; i++)
        move_all(g, old[i]);
    catalog_route_set(&g->client->catalog, g->to); /* callers who were kept out look there again */
    for (uint32_t i = 0; i < n; i++)
        pthread_mutex_unlock(&old[i]->lock);
    mem_free(old);
    tell(g);
    producer_moved(&g->client->producer);
}

static bool settled(const struct growth *g)
{
    for (uint32_t i = 0; i < g->from->partitions_n; i++) {
        if (!lane_settled(&catalog_outlet(g->client, g->from, i)->lane))
            return false;
    }
    return true;
}

void growth_step(struct producer *p)
{
    LIST_EACH_SAFE (n, &p->growths) {
        struct growth *g = container_of(n, struct growth, node);
        if (g->to == NULL || !settled(g))
            continue;
        move(g);
        growth_end(g);
    }
}

void growths_free(struct producer *p)
{
    struct list_node *n;
    while ((n = list_pop_front(&p->growths)) != NULL)
        mem_free(container_of(n, struct growth, node));
}
