#include "sdk/settler.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/planted.h"
#include "sdk/client.h"

enum {
    ITEMS_LEAST = 4,         /* room that is made for the first ones */
    REQUESTS_OUT = 4,        /* settle requests at once */
    ITEMS_WORTH = 1024,      /* pending items that are worth another request while one is out */
    REQUEST_BYTES = 1 << 20, /* items and notes of one request, about */
    NOTES_MAX = UINT16_MAX,
    UNITS_MAX = WIRE_UNITS_MAX,
    REASON_MAX = 200, /* bytes the broker keeps */
    ERROR_MAX = 4096,
};

/* ---------------------------------------------------------------- settlings */

struct settling *settling_new(struct sluice *s, size_t items)
{
    struct settling *x = mem_zalloc(sizeof *x);
    x->client = s;
    x->items = mem_array(items, sizeof *x->items);
    x->notes = mem_array(items, sizeof *x->notes);
    x->items_cap = (uint32_t)items;
    x->deadline_ns = client_deadline(s);
    return x;
}

void settling_add(struct settling *x, struct wire_settle_item item)
{
    if (x->items_n == x->items_cap) {
        x->items_cap = x->items_cap != 0 ? 2 * x->items_cap : ITEMS_LEAST;
        x->items = mem_resize(x->items, x->items_cap, sizeof *x->items);
        x->notes = mem_resize(x->notes, x->items_cap, sizeof *x->notes);
    }
    x->items[x->items_n++] = item;
}

void settling_group(struct settling *x, const struct group *g)
{
    x->group = x->items_n == 1 || x->group == g ? g : NULL;
}

bool settle_was_refused(int code)
{
    return code == E_OVERLOADED || code == E_DISK_FULL || code == E_SHUTTING_DOWN || code == E_UNREACHABLE;
}

/* A copy of at most `max` bytes, cut between characters. */
static char *short_text(const char *text, size_t max)
{
    if (text == NULL)
        return NULL;
    size_t n = strnlen(text, max + 1);
    if (n > max) {
        n = max;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    return mem_strndup(text, n);
}

void settling_note(struct settling *x, const char *reason, const char *error)
{
    if (reason == NULL && error == NULL)
        return;
    struct settle_note *n = &x->notes[x->notes_n++];
    n->reason = short_text(reason, REASON_MAX);
    n->error = short_text(error, ERROR_MAX);
    x->notes_bytes += (n->reason != NULL ? strlen(n->reason) : 0) + (n->error != NULL ? strlen(n->error) : 0);
    x->items[x->items_n - 1].note = (uint16_t)x->notes_n;
}

void settling_free(struct settling *x)
{
    for (uint32_t i = 0; i < x->notes_n; i++) {
        mem_free(x->notes[i].reason);
        mem_free(x->notes[i].error);
    }
    mem_free(x->notes);
    mem_free(x->items);
    mem_free(x);
}

/* "topic 't', group 'g', partition 0, offset 17" */
static void name_item(const struct settling *x, const struct wire_settle_item *item, char *out, size_t size)
{
    if (x->group != NULL) {
        snprintf(out, size, "topic '%s', group '%s', partition %u, offset %llu", x->group->topic->name,
                 x->group->name, topic_index(x->group->topic, item->partition),
                 (unsigned long long)item->offset);
    } else {
        snprintf(out, size, "partition id %u, offset %llu", item->partition,
                 (unsigned long long)item->offset);
    }
}

/* Tells one item its own code. */
static void tell_item(struct settling *x, uint32_t i, int code)
{
    if (x->fn == NULL)
        return;
    if (code == 0) {
        x->fn(x->user, i, NULL);
        return;
    }
    char about[2 * WIRE_NAME_MAX + 100];
    name_item(x, &x->items[i], about, sizeof about);
    struct sluice_error error;
    fail(&error, code, "%s: %s", error_text(code), about);
    x->fn(x->user, i, &error);
}

/* It is no longer the settler's. */
static void settling_leave(struct settling *x)
{
    struct settler *s = &x->client->settler;
    s->untold--;
    atomic_fetch_sub(&s->held, x->charged);
    budget_give(&x->client->budget, x->charged);
}

/* It is told. */
static void settling_end(struct settling *x)
{
    settling_leave(x);
    settling_free(x);
}

/* `refused`: nothing of it was done. */
static void settling_fail(struct settling *x, const struct sluice_error *why, bool refused)
{
    if (x->settled != NULL)
        x->settled(x->user, why, !refused && !settle_was_refused(why->code), NULL, 0);
    for (uint32_t i = 0; x->fn != NULL && i < x->items_n; i++)
        x->fn(x->user, i, why);
    settling_end(x);
}

/* ---------------------------------------------------------------- requests */

/* What went into one settle request, in order. */
struct settle_request {
    struct settler *settler;
    struct list settlings;
    bool shared;
    bool apart; /* one of them is */
};

/* The code of a settling's item: singles come first, then units. Without codes all went well. */
static int next_code(const struct wire_settle_reply *reply, uint32_t *at)
{
    if (reply->codes == NULL)
        return 0;
    uint32_t i = (*at)++;
    return i < reply->codes_n ? reply->codes[i] : E_INTERNAL;
}

/* "unit of 3 messages, the first of them topic 't', group 'g', .." */
static void tell_unit(struct settling *x, int code, const struct wire_produced *outputs,
                      const struct wire_reply *whole)
{
    if (code == 0) {
        x->settled(x->user, NULL, false, outputs, whole->durability);
        return;
    }
    char about[2 * WIRE_NAME_MAX + 100] = "it settles no message";
    struct sluice_error error;
    if (x->items_n > 0)
        name_item(x, &x->items[0], about, sizeof about);
    fail(&error, code, "%s: unit of %u message%s%s%s", error_text(code), x->items_n,
         x->items_n == 1 ? "" : "s", x->items_n > 1 ? ", the first of them " : ": ", about);
    if (error_retriable(code)) { /* of load, then */
        error.retry_after_ms = whole->retry_after_ms;
        error.depth = whole->depth;
        error.drain_ms = whole->drain_ms;
    }
    x->settled(x->user, &error, false, NULL, 0);
}

static void tell_all(struct settle_request *q, const struct wire_reply *whole, bool atomic, uint32_t *at)
{
    const struct wire_settle_reply *reply = &whole->settle;
    struct client_counters *counters = &q->settler->client->counters;
    uint32_t output = 0; /* of the next unit */
    LIST_EACH_SAFE (n, &q->settlings) {
        struct settling *x = container_of(n, struct settling, node);
        if (x->atomic != atomic)
            continue;
        int code = atomic ? next_code(reply, at) : 0;
        if (code == E_WRONG_PARTITION && x->misplaced != NULL && x->misplaced(x->user, x)) {
            output += x->body->produces_n;
            list_remove(n);
            settling_leave(x);
            continue;
        }
        for (uint32_t i = 0; i < x->items_n; i++) {
            if (!atomic)
                code = next_code(reply, at);
            if (code == 0)
                atomic_fetch_add(&counters->settled, 1);
            tell_item(x, i, code);
        }
        if (x->settled != NULL) {
            uint32_t produces = x->body != NULL ? x->body->produces_n : 0;
            bool said = output + produces <= reply->outputs_n;
            tell_unit(x, code, said ? reply->outputs + output : NULL, whole);
            output += produces;
        }
        list_remove(n);
        settling_end(x);
    }
}

/* A request with it carries no receive. */
static bool is_apart(const struct settling *x)
{
    return x->waited || x->alone;
}

static void pend(struct settler *s, struct settling *x)
{
    list_push_back(&s->pending, &x->node);
    s->pending_items += x->items_n;
    s->pending_apart += is_apart(x);
}

static void unpend(struct settler *s, struct settling *x)
{
    list_remove(&x->node);
    s->pending_items -= x->items_n;
    s->pending_apart -= is_apart(x);
}

static void settle_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct settle_request *q = r->owner;
    struct settler *s = q->settler;
    struct sluice_error odd;
    s->out--;
    if (error == NULL && a->reply.body != BODY_SETTLE) {
        fail(&odd, E_BAD_FRAME, "settle: the broker's answer makes no sense");
        error = &odd;
    }
    if (error == NULL) {
        uint32_t at = 0;
        tell_all(q, &a->reply, false, &at);
        tell_all(q, &a->reply, true, &at);
    }
    /* Refused as a whole, for what one of them asked: each by itself, then only that one fails. */
    bool apart = error != NULL && a != NULL && q->shared && !error_retriable(error->code);
    struct list_node *n;
    while ((n = list_pop_front(&q->settlings)) != NULL) {
        struct settling *x = container_of(n, struct settling, node);
        if (apart && !PLANTED(sdk_settle_lost)) {
            x->alone = true;
            pend(s, x);
        } else {
            settling_fail(x, error, a != NULL);
        }
    }
    mem_free(q);
}

/* Which of the pending go into the next request. */
static void gather(struct settler *s, struct settle_request *q, struct wire_settle *w)
{
    uint32_t limit = s->client->session.limits.request_bytes_max;
    size_t bytes_max = limit != 0 && limit / 2 < REQUEST_BYTES ? limit / 2 : REQUEST_BYTES;
    size_t bytes = 0, notes = 0;
    struct list_node *n;
    while ((n = list_first(&s->pending)) != NULL) {
        struct settling *x = container_of(n, struct settling, node);
        size_t more = x->items_n * sizeof *x->items + x->notes_bytes + (x->body != NULL ? x->body->bytes : 0);
        bool first = list_empty(&q->settlings);
        if (!first && (x->alone || bytes + more > bytes_max || notes + x->notes_n > NOTES_MAX ||
                       w->units_n == UNITS_MAX))
            return;
        unpend(s, x);
        list_push_back(&q->settlings, n);
        q->shared = !first;
        q->apart |= is_apart(x);
        bytes += more;
        notes += x->notes_n;
        w->notes_n += x->notes_n;
        if (x->atomic)
            w->units_n++;
        else
            w->singles_n += x->items_n;
        if (x->alone)
            return;
    }
}

/* Copies a settling's items to where they go, with notes counted from `notes_n` on. */
static void put_items(const struct settling *x, struct wire_settle_item *to, struct wire_note *notes,
                      uint32_t notes_n, struct request *r)
{
    for (uint32_t i = 0; i < x->notes_n; i++) {
        notes[notes_n + i] = (struct wire_note){.reason = request_keep(r, view_of_str(x->notes[i].reason)),
                                                .error = request_keep(r, view_of_str(x->notes[i].error))};
    }
    for (uint32_t i = 0; i < x->items_n; i++) {
        to[i] = x->items[i];
        if (to[i].note != 0)
            to[i].note = (uint16_t)(to[i].note + notes_n);
    }
}

/* Copies what a unit produces and changes: the request may outlive its telling. */
static void put_body(const struct unit_body *b, struct wire_unit *to, struct request *r)
{
    struct wire_produce *produces = arena_take(&r->memory, b->produces_n * sizeof *produces);
    struct wire_state_put *state = arena_take(&r->memory, b->state_n * sizeof *state);
    for (uint32_t i = 0; i < b->produces_n; i++) {
        produces[i] = b->produces[i];
        produces[i].batch = request_keep(r, b->produces[i].batch);
        produces[i].cron = request_keep(r, b->produces[i].cron);
        produces[i].name = request_keep(r, b->produces[i].name);
    }
    for (uint32_t i = 0; i < b->state_n; i++) {
        state[i] = b->state[i];
        state[i].key = request_keep(r, b->state[i].key);
        state[i].value = request_keep(r, b->state[i].value);
    }
    *to = (struct wire_unit){.items = to->items,
                             .items_n = to->items_n,
                             .produces = produces,
                             .produces_n = b->produces_n,
                             .state = state,
                             .state_n = b->state_n};
    r->charged += b->bytes;
}

static void settle_send(struct settler *s)
{
    struct settle_request *q = mem_zalloc(sizeof *q);
    struct request *r = request_new(VERB_SETTLE);
    struct wire_settle *w = &r->wire.settle;
    q->settler = s;
    list_init(&q->settlings);
    gather(s, q, w);

    struct wire_settle_item *singles = arena_take(&r->memory, w->singles_n * sizeof *singles);
    struct wire_unit *units = arena_take(&r->memory, w->units_n * sizeof *units);
    struct wire_note *notes = arena_take(&r->memory, w->notes_n * sizeof *notes);
    uint32_t single = 0, unit = 0, note = 0;
    r->deadline_ns = UINT64_MAX;
    LIST_EACH (n, &q->settlings) {
        struct settling *x = container_of(n, struct settling, node);
        struct wire_settle_item *to = &singles[single];
        if (x->atomic) {
            to = arena_take(&r->memory, x->items_n * sizeof *to);
            units[unit] = (struct wire_unit){.items = to, .items_n = x->items_n};
            if (x->body != NULL)
                put_body(x->body, &units[unit], r);
            unit++;
        } else {
            single += x->items_n;
        }
        put_items(x, to, notes, note, r);
        note += x->notes_n;
        if (x->deadline_ns < r->deadline_ns)
            r->deadline_ns = x->deadline_ns;
    }
    budget_charge(&s->client->budget, r->charged);
    w->singles = singles;
    w->units = units;
    w->notes = notes;
    r->lane = &s->client->session.free;
    r->about = "settle";
    r->done = settle_done;
    r->owner = q;
    s->out++;
    if (!q->apart)
        consumer_carry(&s->client->consumer, r);
    session_submit(&s->client->session, r);
}

/* ---------------------------------------------------------------- the whole */

static void settler_timer(struct timer *t)
{
    struct settler *s = container_of(t, struct settler, timer);
    struct sluice *client = s->client;
    struct sluice_error why;
    session_never_sent(&client->session, "settle", &why);
    LIST_EACH_SAFE (n, &s->pending) {
        struct settling *x = container_of(n, struct settling, node);
        if (x->deadline_ns > client->loop.now_ns)
            break;
        unpend(s, x);
        settling_fail(x, &why, true);
    }
}

void settler_init(struct settler *s, struct sluice *client)
{
    *s = (struct settler){.client = client, .timer.fire = settler_timer};
    list_init(&s->pending);
}

void settler_submit(struct settler *s, struct settling *x)
{
    x->charged = sizeof *x + x->items_n * (sizeof *x->items + sizeof *x->notes) + x->notes_bytes;
    atomic_fetch_add(&s->held, x->charged);
    budget_charge(&s->client->budget, x->charged);
    s->untold++;
    if (s->client->session.state == SESSION_DEAD)
        settling_fail(x, &s->client->session.fatal, true);
    else
        pend(s, x);
}

static void settling_arrived(struct event *e)
{
    struct settling *x = container_of(e, struct settling, arrived);
    settler_submit(&x->client->settler, x);
}

void settler_post(struct settler *s, struct settling *x)
{
    x->arrived.run = settling_arrived;
    loop_post(&s->client->loop, &x->arrived);
}

bool settler_full(struct settler *s)
{
    return atomic_load(&s->held) > budget_aside(&s->client->budget) / 2;
}

/* While a request is out what comes gathers for the next; but many items are worth one of their own, and a receive that would leave
 * now takes what there is along. */
static bool worth_sending(struct settler *s)
{
    if (s->out == 0)
        return true;
    bool rides = s->pending_apart == 0 && consumer_wants_carrier(&s->client->consumer);
    return s->out < REQUESTS_OUT && (rides || s->pending_items >= ITEMS_WORTH);
}

void settler_step(struct settler *s)
{
    while (!list_empty(&s->pending) && worth_sending(s))
        settle_send(s);
    struct list_node *first = list_first(&s->pending);
    timer_set(&s->client->loop, &s->timer,
              first != NULL ? container_of(first, struct settling, node)->deadline_ns : UINT64_MAX);
}

bool settler_idle(struct settler *s)
{
    return s->untold == 0;
}

void settler_fail(struct settler *s, const struct sluice_error *why)
{
    struct list_node *n;
    lane_tell(&s->client->session.free, why); /* settles and what else changes something */
    while ((n = list_first(&s->pending)) != NULL) {
        unpend(s, container_of(n, struct settling, node));
        settling_fail(container_of(n, struct settling, node), why, true);
    }
}
