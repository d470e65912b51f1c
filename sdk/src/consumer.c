#include "sdk/consumer.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/records.h"
#include "sdk/batch.h"
#include "sdk/client.h"

enum {
    MESSAGES_DEFAULT = 100,
    MESSAGES_MAX = 65536,
    BYTES_DEFAULT = 1 << 20,
    ROOM_LEAST =
        64 << 10, /* bytes; with less room we wait for batches to be freed rather than ask for crumbs */
    MESSAGE_BYTES =
        256, /* what a message costs beside its bytes: its record on the wire, its place in a batch */
    POLL_WAIT_MS_MAX = 30000,
    POLL_WAIT_MS_SCARCE = 1000, /* when few slots are left: so that lines left out are soon taken in */
    POLL_REST_MS = 100,         /* between polls when the broker does not let us wait */
    ENDS_SOON_MS = 20,          /* an answer expected within this is worth waiting for */
    LINES_KEPT = 16,            /* without calls */
    AT_ONCE_MS = 20,            /* messages that come within this were there when they were asked for */
    AHEADS_MAX = 3,             /* polls for one line's stock that are out */
};

/* Calls alike. */
struct line {
    struct list_node node;
    struct sluice *client;
    struct list takers; /* places */
    uint32_t group, lease_ms, message_bytes_max;
    bool waits;
    bool alone; /* a poll with others was refused: whose fault it was shows when each asks for itself */
    bool finds; /* its last poll found messages at once: the next may ride with a settle */
    bool found; /* in the answer that is looked at */
    uint64_t not_before_ns;
    struct poll *poll;
    /* messages ahead of calls: as the last call wants it */
    uint32_t prefetch;               /* 0: none */
    uint32_t portion, portion_bytes; /* what a call takes */
    bool plenty;                     /* the last answer had half of what a call takes, or more: the next may be asked for */
    uint32_t aheads;                 /* polls for it that are out, */
    uint64_t asked;                  /* and the messages that they ask for */
    struct stock stock;
};

/* ---------------------------------------------------------------- takers */

/* Who stands at a place. */
static struct taker *taker_at(struct list_node *n)
{
    return container_of(n, struct place, node)->taker;
}

static void taker_done(struct taker *t)
{
    for (size_t i = 0; i < t->places_n; i++)
        list_remove(&t->places[i].node);
    timer_stop(&t->client->loop, &t->timer);
    waiter_done(&t->waiter);
}

static void line_fail(struct line *l, const struct sluice_error *why)
{
    struct list_node *n;
    while ((n = list_first(&l->takers)) != NULL) {
        struct taker *t = taker_at(n);
        t->error = *why;
        t->at_fault = container_of(n, struct place, node)->group;
        taker_done(t);
    }
}

/* Lines at which nobody stands, and that wait for no answer. A few that found messages are kept, for the next call like the last. */
static void sweep(struct consumer *c)
{
    unsigned kept = 0;
    LIST_EACH_SAFE (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        if (!list_empty(&l->takers) || l->poll != NULL || l->aheads > 0 || l->stock.messages > 0 || (l->finds && kept++ < LINES_KEPT))
            continue;
        list_remove(n);
        mem_free(l);
    }
}

/* Whether one of the polls that are out for a taker is still on its way when it wants to go. */
static bool asked_long(const struct taker *t, uint64_t now)
{
    for (size_t i = 0; i < t->places_n; i++) {
        const struct poll *p = t->places[i].line->poll;
        if (p == NULL || p->ends_ns == UINT64_MAX || p->ends_ns <= now + ENDS_SOON_MS * NS_PER_MS)
            return false;
    }
    return true;
}

static void taker_timer(struct timer *timer)
{
    struct taker *t = container_of(timer, struct taker, timer);
    struct sluice *s = t->client;
    uint64_t now = s->loop.now_ns;
    if (now >= t->give_up_ns) {
        session_never_sent(&s->session, "receive", &t->error);
        taker_done(t);
    } else if (s->session.state == SESSION_READY && asked_long(t, now)) {
        taker_done(t); /* others wait longer */
    } else {
        timer_set(&s->loop, timer, t->give_up_ns); /* an answer is about to come, or was never asked for */
    }
}

/* There is no room for messages: those whose time is up learn why they got none. */
static void no_room(struct line *l)
{
    LIST_EACH_SAFE (n, &l->takers) {
        struct taker *t = taker_at(n);
        if (t->until_ns > t->client->loop.now_ns)
            continue;
        fail(&t->error, E_QUEUE_FULL,
             "the client's memory limit is reached: memory_max is %zu; free batches that were received",
             t->client->budget.max);
        taker_done(t);
    }
}

static struct line *line_of(struct consumer *c, const struct taker *t, const struct group *g)
{
    LIST_EACH (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        if (l->group == g->id && l->lease_ms == t->lease_ms && l->waits == t->waits)
            return l;
    }
    struct line *l = mem_zalloc(sizeof *l);
    *l = (struct line){.client = t->client,
                       .group = g->id,
                       .message_bytes_max = g->topic->message_bytes_max,
                       .lease_ms = t->lease_ms,
                       .waits = t->waits};
    list_init(&l->takers);
    stock_init(&l->stock);
    list_push_back(&c->lines, &l->node);
    return l;
}

static void hand_out_stock(struct line *l);

static void taker_arrived(struct event *e)
{
    struct taker *t = container_of(e, struct taker, arrived);
    struct sluice *s = t->client;
    if (s->session.state == SESSION_DEAD) {
        t->error = s->session.fatal;
        waiter_done(&t->waiter);
        return;
    }
    struct line *stocked = NULL;
    for (size_t i = 0; i < t->places_n; i++) {
        struct place *p = &t->places[i];
        struct line *l = p->line = line_of(&s->consumer, t, p->group);
        l->prefetch = t->prefetch;
        l->portion = t->max_messages;
        l->portion_bytes = t->max_bytes;
        list_push_back(&l->takers, &p->node);
        if (stocked == NULL && l->stock.messages > 0)
            stocked = l;
    }
    timer_set(&s->loop, &t->timer, t->until_ns);
    if (stocked != NULL)
        hand_out_stock(stocked);
}

/* ---------------------------------------------------------------- what a poll brought */

/* Whether a taker has place for one more message, in the delivery of its last portion or a new one. */
static bool has_place(const struct taker *t, const struct wire_delivery *d, size_t bytes)
{
    bool same = t->portions_n > 0 && t->portions[t->portions_n - 1].delivery == d;
    return t->messages < t->max_messages && (same || t->portions_n < PORTIONS) &&
           (t->messages == 0 || t->bytes + bytes <= t->max_bytes);
}

static void take(struct place *p, const struct wire_delivery *d, uint32_t i, size_t at, size_t bytes)
{
    struct taker *t = p->taker;
    if (t->portions_n == 0 || t->portions[t->portions_n - 1].delivery != d)
        t->portions[t->portions_n++] =
            (struct portion){.delivery = d, .group = p->group, .first = i, .at = at};
    t->portions[t->portions_n - 1].count++;
    t->messages++;
    t->bytes += bytes;
}

/* Hands a delivery's messages from the i-th on, whose bytes begin at *at, out along the line; each taker's are in one row. Returns
 * which is the first that was not taken, and where it begins. */
static uint32_t hand_out(struct line *l, const struct wire_delivery *d, uint32_t i, size_t *at)
{
    struct list_node *n = list_first(&l->takers);
    while (i < d->records_n && n != NULL) {
        size_t bytes = record_bytes(&d->records[i]);
        if (bytes > d->data.size - *at)
            return i; /* the broker's slip; released, so that it comes again */
        if (!has_place(taker_at(n), d, bytes)) {
            n = list_after(&l->takers, n);
            continue;
        }
        take(container_of(n, struct place, node), d, i, *at, bytes);
        *at += bytes;
        i++;
    }
    return i;
}

/* Those who got messages go, and those whose time is up. */
static void dismiss(struct sluice *s, struct line *l, struct answer *a)
{
    LIST_EACH_SAFE (n, &l->takers) {
        struct taker *t = taker_at(n);
        if (t->messages > 0)
            t->answer = answer_take(a);
        if (t->messages > 0 || t->until_ns <= s->loop.now_ns)
            taker_done(t);
    }
}

/* There is more where so many messages came from, as far as one can tell. */
static bool enough(const struct line *l, uint32_t messages)
{
    return messages >= (l->portion + 1) / 2;
}

static void distribute(struct consumer *c, struct poll *p, const struct wire_receive_reply *reply)
{
    for (uint32_t i = 0; i < reply->deliveries_n; i++) {
        const struct wire_delivery *d = &reply->deliveries[i];
        uint32_t taken = 0;
        LIST_EACH (n, &c->lines) {
            struct line *l = container_of(n, struct line, node);
            if (l->poll != p || l->group != d->group)
                continue;
            size_t at = 0;
            taken = hand_out(l, d, 0, &at);
            l->found = true;
            l->plenty = enough(l, d->records_n);
        }
        delivery_return(c->client, d, taken);
    }
}

static void poll_over(struct poll *p)
{
    p->out = false;
    budget_give(&p->consumer->client->budget, p->reserved);
    p->reserved = 0;
}

static void poll_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct poll *p = r->owner;
    struct consumer *c = p->consumer;
    struct sluice *s = c->client;
    bool again = error != NULL && error->code == E_AGAIN; /* ended early, for others that wait */
    bool at_once = s->loop.now_ns - p->sent_ns < AT_ONCE_MS * NS_PER_MS;
    struct sluice_error odd;
    poll_over(p);
    if (error == NULL && a->reply.body != BODY_RECEIVE) {
        fail(&odd, E_BAD_FRAME, "receive: the broker's answer makes no sense");
        error = &odd;
    }
    if (error == NULL)
        distribute(c, p, &a->reply.receive);
    LIST_EACH_SAFE (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        if (l->poll != p)
            continue;
        bool shared = r->wire.receive.groups_n > 1;
        l->poll = NULL;
        l->finds = l->found && at_once;
        l->plenty = l->plenty && l->finds;
        l->found = false;
        if (again || p->denied)
            l->not_before_ns = s->loop.now_ns + POLL_REST_MS * NS_PER_MS;
        if (error == NULL || again) {
            l->alone = false;
            dismiss(s, l, a);
        } else if (shared) {
            l->alone = true;
        } else {
            line_fail(l, error);
        }
    }
}

/* ---------------------------------------------------------------- polls */

/* How long this poll waits depends on when it is sent: until the first of its takers goes away. */
static void poll_before(struct request *r, bool may_wait)
{
    struct poll *p = r->owner;
    struct consumer *c = p->consumer;
    uint64_t now = c->client->loop.now_ns;
    uint64_t wait_ms = 0;
    if (p->waits && may_wait) {
        uint64_t until = UINT64_MAX;
        unsigned waiting = 0;
        for (size_t i = 0; i < POLLS; i++)
            waiting += c->polls[i].out && c->polls[i].waits;
        LIST_EACH (n, &c->lines) {
            struct line *l = container_of(n, struct line, node);
            LIST_EACH (m, &l->takers) {
                const struct taker *t = taker_at(m);
                if (l->poll == p && t->until_ns < until)
                    until = t->until_ns;
            }
        }
        uint64_t most = waiting > POLLS_WAITING / 2 ? POLL_WAIT_MS_SCARCE : POLL_WAIT_MS_MAX;
        wait_ms = until > now ? (until - now + NS_PER_MS - 1) / NS_PER_MS : 0;
        wait_ms = wait_ms < most ? wait_ms : most;
    }
    p->denied = p->waits && !may_wait;
    p->sent_ns = now;
    p->ends_ns = now + wait_ms * NS_PER_MS;
    r->wait_ms = (uint32_t)wait_ms;
    r->wire.receive.wait_ms = (uint32_t)wait_ms;
}

static struct poll *free_poll(struct consumer *c, bool waits)
{
    struct poll *found = NULL;
    unsigned waiting = 0;
    for (size_t i = 0; i < POLLS; i++) {
        if (c->polls[i].out)
            waiting += c->polls[i].waits;
        else if (found == NULL)
            found = &c->polls[i];
    }
    return waits && waiting >= POLLS_WAITING ? NULL : found;
}

/* Whether a line wants a poll for its takers, and may have one now. */
static bool wants(const struct line *l, uint64_t now)
{
    return l->poll == NULL && l->aheads == 0 && !list_empty(&l->takers) && l->not_before_ns <= now;
}

/* Whether a poll that begins with `l` takes `other` too. */
static bool goes_along(const struct line *l, const struct line *other, bool carried, uint64_t now)
{
    if (other == l)
        return true;
    return wants(other, now) && !l->alone && !other->alone && other->lease_ms == l->lease_ms &&
           other->waits == l->waits && (other->finds || !carried);
}

/* How many messages a line should ask for ahead of its calls, 0: none now. In few large requests: half of what it may have, at least. */
static uint32_t missing(const struct consumer *c, const struct line *l, uint64_t now)
{
    if (!l->plenty || l->prefetch == 0 || l->poll != NULL || l->aheads == AHEADS_MAX || l->not_before_ns > now || c->closing)
        return 0;
    uint64_t wanted = l->prefetch, there = l->stock.messages + l->asked;
    LIST_EACH (n, &l->takers)
        wanted += taker_at(n)->max_messages;
    uint64_t n = wanted > there ? wanted - there : 0;
    if (n < (l->prefetch + 1) / 2)
        return 0;
    if (n > l->portion)
        n -= n % l->portion; /* so that no call gets a part of what it wants */
    return n < MESSAGES_MAX ? (uint32_t)n : MESSAGES_MAX;
}

/* Takes room for what the takers of a poll want, or for as much of it as there is. False: too little. */
static bool reserve(struct sluice *s, uint64_t largest, uint64_t *messages, uint64_t *bytes, size_t *reserved)
{
    size_t room = budget_room(&s->budget);
    size_t least = s->budget.max / 16 < ROOM_LEAST ? s->budget.max / 16 : ROOM_LEAST;
    if (room < least || room < largest + MESSAGE_BYTES)
        return false;
    uint64_t places = (room - largest) / 2 / MESSAGE_BYTES + 1;
    *messages = *messages < places ? *messages : places;
    uint64_t left = room - *messages * MESSAGE_BYTES;
    *bytes = *bytes < left ? *bytes : left;
    /* One message comes whatever bound it is asked with. */
    *reserved = (*bytes > largest ? *bytes : largest) + *messages * MESSAGE_BYTES;
    return budget_take(&s->budget, *reserved);
}

/* Makes what a poll for `l` and the lines that go along asks for, in the memory of a request. False: there is no room. */
static bool poll_make(struct poll *p, struct line *l, bool carried, struct request *r, struct wire_receive *out)
{
    struct consumer *c = p->consumer;
    struct sluice *s = c->client;
    uint64_t now = s->loop.now_ns, messages = 0, bytes = 0, largest = 0;
    uint32_t lines = 0;
    c->counts++;
    LIST_EACH (n, &c->lines) {
        struct line *other = container_of(n, struct line, node);
        if (!goes_along(l, other, carried, now))
            continue;
        lines++;
        largest = other->message_bytes_max > largest ? other->message_bytes_max : largest;
        LIST_EACH (m, &other->takers) {
            struct taker *t = taker_at(m);
            if (t->counted == c->counts)
                continue; /* in another line */
            t->counted = c->counts;
            messages += t->max_messages;
            bytes += t->max_bytes;
        }
    }
    if (messages > MESSAGES_MAX)
        messages = MESSAGES_MAX;
    if (bytes > WIRE_MESSAGE_MAX)
        bytes = WIRE_MESSAGE_MAX;
    if (!reserve(s, largest, &messages, &bytes, &p->reserved))
        return false;

    uint32_t *groups = arena_take(&r->memory, lines * sizeof *groups);
    uint32_t i = 0;
    LIST_EACH (n, &c->lines) {
        struct line *other = container_of(n, struct line, node);
        if (!goes_along(l, other, carried, now) || i == lines)
            continue;
        groups[i++] = other->group;
    }
    LIST_EACH (n, &c->lines) { /* not before: a line with a poll does not go along */
        struct line *other = container_of(n, struct line, node);
        if (other != l && goes_along(l, other, carried, now))
            other->poll = p;
    }
    l->poll = p;
    p->out = true;
    p->waits = l->waits && !carried;
    p->ends_ns = UINT64_MAX;
    *out = (struct wire_receive){.slot = p->slot,
                                 .counter = ++p->counter,
                                 .groups = groups,
                                 .groups_n = lines,
                                 .max_messages = (uint32_t)messages,
                                 .max_bytes = (uint32_t)bytes,
                                 .lease_ms = l->lease_ms};
    return true;
}

/* Makes a poll for a line's stock. Half of the memory is left to what calls ask for. False: there is no room. */
static bool ahead_make(struct poll *p, struct line *l, uint32_t asks, struct request *r, struct wire_receive *out)
{
    struct sluice *s = p->consumer->client;
    uint64_t messages = asks, bytes = (uint64_t)l->portion_bytes * ((asks + l->portion - 1) / l->portion);
    bytes = bytes < s->budget.bulk_max / 4 ? bytes : s->budget.bulk_max / 4;
    bytes = bytes < WIRE_MESSAGE_MAX ? bytes : WIRE_MESSAGE_MAX;
    if (budget_room(&s->budget) < s->budget.bulk_max / 2 || !reserve(s, l->message_bytes_max, &messages, &bytes, &p->reserved))
        return false;
    uint32_t *groups = arena_take(&r->memory, sizeof *groups);
    *groups = l->group;
    p->ahead = l;
    p->asks = (uint32_t)messages;
    p->out = true;
    p->waits = false;
    p->sent_ns = s->loop.now_ns;
    l->aheads++;
    l->asked += messages;
    *out = (struct wire_receive){.slot = p->slot,
                                 .counter = ++p->counter,
                                 .groups = groups,
                                 .groups_n = 1,
                                 .max_messages = (uint32_t)messages,
                                 .max_bytes = (uint32_t)bytes,
                                 .lease_ms = l->lease_ms};
    return true;
}

/* What it brought goes to who waits for it, and the rest into stock. NULL: nothing came. */
static void ahead_over(struct poll *p, struct answer *a, const struct wire_receive_reply *reply)
{
    struct consumer *c = p->consumer;
    struct line *l = p->ahead;
    poll_over(p);
    p->ahead = NULL;
    l->aheads--;
    l->asked -= p->asks;
    l->plenty = false;
    for (uint32_t i = 0; reply != NULL && i < reply->deliveries_n; i++) {
        const struct wire_delivery *d = &reply->deliveries[i];
        if (c->closing || d->group != l->group) {
            delivery_return(c->client, d, 0);
            continue;
        }
        l->plenty = enough(l, d->records_n);
        stock_add(&l->stock, a, d, 0, 0, p->sent_ns + (uint64_t)d->lease_ms * NS_PER_MS / 2);
    }
    l->finds = l->plenty;
    hand_out_stock(l);
}

static void ahead_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    bool brought = error == NULL && a->reply.body == BODY_RECEIVE;
    ahead_over(r->owner, a, brought ? &a->reply.receive : NULL); /* what is wrong, a poll for takers tells them */
}

/* Sends a poll for `l`: for its stock, if it `asks` for any messages, else for its takers and for the lines that go along. False: there
 * is no room. */
static bool poll_send(struct poll *p, struct line *l, uint32_t asks)
{
    struct session *s = &p->consumer->client->session;
    struct request *r = request_new(VERB_RECEIVE);
    struct wire_receive *w = &r->wire.receive;
    if (asks > 0 ? !ahead_make(p, l, asks, r, w) : !poll_make(p, l, false, r, w)) {
        request_free(r, &p->consumer->client->budget);
        return false;
    }
    r->lane = &s->reads;
    r->about = "receive";
    r->before = asks > 0 ? NULL : poll_before;
    r->done = asks > 0 ? ahead_done : poll_done;
    r->owner = p;
    session_submit(s, r);
    return true;
}

/* ---------------------------------------------------------------- polls that a settle carries */

/* A line that got nothing, for whatever reason, sends a poll of its own in this round. */
static void carried_over(struct request *r, struct answer *a)
{
    struct poll *p = r->passenger;
    struct consumer *c = p->consumer;
    bool brought = a != NULL && a->reply.code == 0 && a->reply.body == BODY_SETTLE && a->reply.settle.has_receive;
    r->wire.settle.receive = NULL;
    if (p->ahead != NULL) {
        ahead_over(p, a, brought ? &a->reply.settle.receive : NULL);
        return;
    }
    poll_over(p);
    if (brought)
        distribute(c, p, &a->reply.settle.receive);
    LIST_EACH_SAFE (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        if (l->poll != p)
            continue;
        l->poll = NULL;
        l->finds = l->found;
        l->plenty = l->plenty && l->finds;
        l->found = false;
        if (l->finds)
            dismiss(c->client, l, a);
    }
}

/* A line that would have a poll now, and may find something at once; NULL: none. *asks: for its stock so many; 0: for its takers. */
static struct line *to_carry(struct consumer *c, struct poll **p, uint32_t *asks)
{
    *p = free_poll(c, false);
    if (c->client->session.state != SESSION_READY || *p == NULL)
        return NULL;
    LIST_EACH (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        *asks = missing(c, l, c->client->loop.now_ns);
        if (*asks > 0 || (l->finds && wants(l, c->client->loop.now_ns)))
            return l;
    }
    return NULL;
}

bool consumer_wants_carrier(struct consumer *c)
{
    struct poll *p;
    uint32_t asks;
    return to_carry(c, &p, &asks) != NULL;
}

void consumer_carry(struct consumer *c, struct request *r)
{
    struct poll *p;
    uint32_t asks;
    struct line *l = to_carry(c, &p, &asks);
    if (l == NULL)
        return;
    struct wire_receive *w = arena_take(&r->memory, sizeof *w);
    if (asks > 0 ? !ahead_make(p, l, asks, r, w) : !poll_make(p, l, true, r, w))
        return;
    r->wire.settle.receive = w;
    r->dropped = carried_over;
    r->passenger = p;
}

/* ---------------------------------------------------------------- stock */

static void hand_out_stock(struct line *l)
{
    struct shelf *h;
    while (!list_empty(&l->takers) && (h = stock_first(&l->stock)) != NULL) {
        size_t at = h->at;
        uint32_t next = hand_out(l, h->delivery, h->next, &at);
        bool slip = next == h->next;
        LIST_EACH_SAFE (n, &l->takers) {
            struct taker *t = taker_at(n);
            if (t->messages == 0)
                continue;
            t->answer = answer_take(h->answer);
            taker_done(t);
        }
        if (slip) { /* of the broker: the sizes of its records pass their bytes */
            delivery_return(l->client, h->delivery, next);
            next = h->delivery->records_n;
        }
        stock_took(&l->stock, next, at);
    }
}

/* What has lain too long goes back; then there is more than calls take. *next: when the next has. */
static void stock_look(struct consumer *c, struct line *l, uint64_t now, uint64_t *next)
{
    if (stock_return(c->client, &l->stock, now))
        l->plenty = false;
    LIST_EACH (n, &l->stock.shelves) {
        uint64_t until = container_of(n, struct shelf, node)->until_ns;
        *next = until < *next ? until : *next;
    }
}

void consumer_close(struct consumer *c)
{
    c->closing = true;
    LIST_EACH (n, &c->lines)
        stock_return(c->client, &container_of(n, struct line, node)->stock, UINT64_MAX);
}

/* ---------------------------------------------------------------- the whole */

static void again_fired(struct timer *t)
{
    (void)t; /* the round does the rest */
}

/* Sends polls for a line's stock, as many as it wants and may have. */
static void fill_stock(struct consumer *c, struct line *l, uint64_t now)
{
    uint32_t asks;
    struct poll *p;
    while ((asks = missing(c, l, now)) > 0 && (p = free_poll(c, false)) != NULL && poll_send(p, l, asks))
        continue;
}

void consumer_step(struct consumer *c)
{
    struct sluice *s = c->client;
    uint64_t now = s->loop.now_ns, again = UINT64_MAX;
    sweep(c);
    if (s->session.state != SESSION_READY)
        return;
    LIST_EACH (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        stock_look(c, l, now, &again);
        fill_stock(c, l, now);
        if (l->poll != NULL || l->aheads > 0 || list_empty(&l->takers))
            continue;
        if (l->not_before_ns > now) {
            again = l->not_before_ns < again ? l->not_before_ns : again;
            continue;
        }
        struct poll *p = free_poll(c, l->waits);
        if (p == NULL || poll_send(p, l, 0))
            continue;
        /* Ask to be woken first, then look again: room may have come in between. */
        budget_want(&s->budget);
        if (!poll_send(p, l, 0))
            no_room(l);
    }
    timer_set(&s->loop, &c->again, again);
}

void consumer_init(struct consumer *c, struct sluice *s)
{
    *c = (struct consumer){.client = s, .again.fire = again_fired};
    list_init(&c->lines);
    for (uint32_t i = 0; i < POLLS; i++)
        c->polls[i] = (struct poll){.consumer = c, .slot = i};
}

void consumer_free(struct consumer *c)
{
    LIST_EACH_SAFE (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        assert(list_empty(&l->takers));
        stock_drop(&l->stock);
        mem_free(l);
    }
}

void consumer_fail(struct consumer *c, const struct sluice_error *why)
{
    LIST_EACH (n, &c->lines) {
        struct line *l = container_of(n, struct line, node);
        stock_drop(&l->stock);
        line_fail(l, why);
    }
}

/* ---------------------------------------------------------------- the call */

static int take_options(const struct sluice_receive_options *given, uint32_t timeout_ms,
                        struct sluice_receive_options *o, struct sluice_error *err)
{
    int code = TAKE_STRUCT(o, given, sluice_receive_options, lease_ms, err);
    if (code != 0)
        return code;
    if (given == NULL || o->wait_ms == UINT32_MAX)
        o->wait_ms = timeout_ms;
    if (o->max_messages == 0)
        o->max_messages = MESSAGES_DEFAULT;
    if (o->max_messages > MESSAGES_MAX)
        return fail(err, E_INVALID_ARGUMENT, "max_messages: %u, at most %d are accepted", o->max_messages,
                    MESSAGES_MAX);
    if (o->max_bytes == 0)
        o->max_bytes = BYTES_DEFAULT;
    if (o->prefetch > MESSAGES_MAX)
        return fail(err, E_INVALID_ARGUMENT, "prefetch: %u, at most %d are accepted", o->prefetch, MESSAGES_MAX);
    return 0;
}

/* Takes once from the groups of `places`; the result is in `t`. */
static int take_from(struct sluice *s, struct place *places, size_t places_n,
                     const struct sluice_receive_options *o, uint64_t until_ns, struct taker *t)
{
    *t = (struct taker){.client = s,
                        .places = places,
                        .places_n = places_n,
                        .lease_ms = o->lease_ms,
                        .max_messages = o->max_messages,
                        .max_bytes = o->max_bytes,
                        .prefetch = o->prefetch,
                        .waits = o->wait_ms > 0,
                        .until_ns = until_ns,
                        .give_up_ns = until_ns + s->options.request_timeout_ms * NS_PER_MS,
                        .arrived.run = taker_arrived,
                        .timer.fire = taker_timer};
    waiter_init(&t->waiter);
    for (size_t i = 0; i < places_n; i++)
        places[i] = (struct place){.taker = t, .group = places[i].group};
    loop_post(&s->loop, &t->arrived);
    waiter_wait(&t->waiter);
    return t->error.code;
}

static bool is_gone(int code)
{
    return code == E_GROUP_NOT_FOUND || code == E_TOPIC_NOT_FOUND || code == E_TOPIC_DELETED;
}

/* One message always comes, so there must be room for any that there can be. */
static int check_room(const struct sluice *s, const struct group *g, struct sluice_error *err)
{
    if (g->topic->message_bytes_max + (size_t)MESSAGE_BYTES <= s->budget.bulk_max)
        return 0;
    return fail(err, E_LIMIT,
                "topic '%s': its messages may have %u bytes, and memory_max, %zu, has no room for one",
                g->topic->name, g->topic->message_bytes_max, s->budget.max);
}

/* Finds the groups; `asked` says for each whether the broker was asked just now. */
static int find_groups(struct sluice *s, const struct sluice_source *sources, size_t n, struct place *places,
                       bool *asked, struct sluice_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct group *g;
        int code = catalog_group(s, sources[i].topic, sources[i].group, &g, &asked[i], err);
        if (code == 0)
            code = check_room(s, g, err);
        for (size_t j = 0; code == 0 && j < i; j++) {
            if (places[j].group == g)
                code = fail(err, E_INVALID_ARGUMENT, "group '%s' of topic '%s' is given twice", g->name,
                            g->topic->name);
        }
        if (code != 0)
            return code;
        places[i].group = g;
    }
    return 0;
}

/* A group that the broker does not know is forgotten: the name may stand for another one by now. False: it was asked for just
 * now, so it does not. `fault` has the text for it. */
static bool look_again(struct sluice *s, const struct taker *t, const bool *asked, struct sluice_error *err)
{
    const struct group *g = t->at_fault;
    size_t i = 0;
    while (i < t->places_n && t->places[i].group != g)
        i++;
    catalog_forget_group(&s->catalog, g);
    if (i == t->places_n || !asked[i])
        return true;
    if (t->error.code == E_GROUP_NOT_FOUND)
        fail_no_group(err, g->topic->name, g->name);
    else
        fail_same(err, &t->error);
    return false;
}

int sluice_receive_from(struct sluice *s, const struct sluice_source *sources, size_t count,
                        const struct sluice_receive_options *options, struct sluice_batch **out,
                        struct sluice_error *err)
{
    *out = NULL;
    struct sluice_receive_options o;
    int code = client_may_block(s, "sluice_receive", err);
    if (code == 0)
        code = take_options(options, s->options.request_timeout_ms, &o, err);
    if (code == 0 && (count == 0 || count > SOURCES_MAX))
        code = fail(err, E_INVALID_ARGUMENT, "count: %zu sources, 1 to %d are accepted", count, SOURCES_MAX);
    if (code != 0)
        return code;
    uint64_t until_ns = deadline_in(o.wait_ms);
    struct place places[SOURCES_MAX];
    bool asked[SOURCES_MAX];
    do {
        struct taker t;
        code = find_groups(s, sources, count, places, asked, err);
        if (code != 0)
            return code;
        code = take_from(s, places, count, &o, until_ns, &t);
        if (code == 0) {
            *out = batch_of_portions(s, &t);
            bool all_damaged = t.messages > 0 && sluice_batch_count(*out) == 0;
            if (!all_damaged || deadline_in(0) >= until_ns)
                return 0;
            sluice_batch_free(*out); /* they are parked; not worth coming back for while there is time */
            *out = NULL;
            continue;
        }
        if (!is_gone(code) || t.at_fault == NULL)
            return fail_same(err, &t.error);
        if (!look_again(s, &t, asked, err))
            return code;
    } while (true);
}

int sluice_receive(struct sluice *s, const char *topic, const char *group,
                   const struct sluice_receive_options *options, struct sluice_batch **out,
                   struct sluice_error *err)
{
    return sluice_receive_from(s, &(struct sluice_source){topic, group}, 1, options, out, err);
}
