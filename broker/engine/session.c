/* Sessions: who is there, on which pipe, and what happens when a pipe is lost.
 *
 *      hello ──> CONNECTED ──pipe lost──> WAITING ──session_grace──> its leases return ──session_ttl──> forgotten
 *                    ^                       │
 *                    └──── hello, resume ────┘            bye: leases return at once, forgotten
 */
#include "engine/memory.h"
#include "base/planted.h"

struct session *session_find(const struct engine *en, struct id128 id)
{
    struct session *s = map_get(&en->sessions, id.lo);
    while (s != NULL && s->id.hi != id.hi)
        s = s->collision;
    return s;
}

struct session *session_of(struct engine *en, struct op *op)
{
    struct session *s = map_get(&en->pipes, op->pipe);
    if (s == NULL || !id128_eq(s->id, op->request.session)) {
        answer(en, op, E_NO_SESSION, NULL);
        return NULL;
    }
    return s;
}

struct session *session_add(struct engine *en, struct id128 id, struct view name, uint64_t created_ms, uint64_t seen_ms)
{
    struct session *s = mem_zalloc(sizeof *s);
    s->id = id;
    s->name = mem_strndup((const char *)name.data, name.size);
    s->created_ms = created_ms;
    s->seen_ms = seen_ms;
    list_init(&s->leases);
    list_init(&s->waiting);
    list_init(&s->members);
    s->collision = map_put(&en->sessions, id.lo, s);
    en->sessions_n++;
    return s;
}

static void session_write(struct engine *en, const struct session *s)
{
    struct key k = key_session(s->id);
    buf_clear(&en->row);
    session_row_put(&en->row, &(struct session_row){.name = view_of_str(s->name), .created_ms = s->created_ms, .seen_ms = s->seen_ms});
    row_put(en, FAM_SESSIONS, &k);
}

static void session_unlink(struct engine *en, struct session *s)
{
    struct session *first = map_get(&en->sessions, s->id.lo);
    if (first == s) {
        if (s->collision != NULL)
            map_put(&en->sessions, s->id.lo, s->collision);
        else
            map_del(&en->sessions, s->id.lo);
    } else {
        while (first->collision != s)
            first = first->collision;
        first->collision = s->collision;
    }
    en->sessions_n--;
}

void session_free(struct engine *en, struct session *s)
{
    assert(list_empty(&s->waiting));
    for (struct list_node *n; (n = list_pop_front(&s->leases)) != NULL;)
        container_of(n, struct lease, of_session)->session = NULL;
    for (struct list_node *n; (n = list_pop_front(&s->members)) != NULL;)
        container_of(n, struct member, of_session)->session = NULL;
    timer_clear(en, &s->grace);
    timer_clear(en, &s->expiry);
    timer_clear(en, &s->returning);
    for (struct map_it it = map_iter(&s->lanes); map_next(&it);)
        lane_free(it.value);
    map_free(&s->lanes);
    mem_free(s->name);
    mem_free(s);
}

void sessions_close(struct engine *en)
{
    for (struct map_it it = map_iter(&en->sessions); map_next(&it);)
        for (struct session *s = it.value, *next; s != NULL; s = next) {
            next = s->collision;
            session_free(en, s);
        }
}

/* Its rows go with it: until then it is there after a restart too, and its leases have somebody who holds them. */
static void session_forget(struct engine *en, struct session *s)
{
    struct key k = key_session(s->id), begin = key_lane_prefix(s->id), end = key_after(&begin);
    if (!PLANTED(session_rows_kept))
        row_remove(en, FAM_SESSIONS, &k);
    puts_remove_range(&en->fx.puts, FAM_SESSIONS, key_view(&begin), key_view(&end));
    session_unlink(en, s);
    session_free(en, s);
}

static void go_on_returning(struct engine *en, struct timer *t);

/* A session of very many leases returns them over several turns. */
static void session_return(struct engine *en, struct session *s)
{
    if (!leases_return(en, s))
        timer_set(en, &s->returning, en->now.mono_ms + 1, go_on_returning);
    else if (s->ending)
        session_forget(en, s);
}

static void go_on_returning(struct engine *en, struct timer *t) { session_return(en, container_of(t, struct session, returning)); }

/* Its leases return, it is forgotten; requests that wait are answered. */
static void session_end(struct engine *en, struct session *s, bool said_so)
{
    while (!list_empty(&s->waiting)) {
        struct op *op = container_of(list_first(&s->waiting), struct op, wait);
        wait_end(en, op);
        answer(en, op, E_CLOSED, "the session ended");
    }
    if (s->pipe != 0)
        map_del(&en->pipes, s->pipe);
    s->pipe = 0;
    s->ending = true;
    members_session_over(en, s, said_so);
    timer_clear(en, &s->grace);
    timer_clear(en, &s->expiry);
    session_return(en, s);
}

static void grace_over(struct engine *en, struct timer *t) { session_return(en, container_of(t, struct session, grace)); }

static void expiry_over(struct engine *en, struct timer *t)
{
    en->counters.sessions_expired++;
    session_end(en, container_of(t, struct session, expiry), false);
}

void session_wait_for_pipe(struct engine *en, struct session *s)
{
    timer_set(en, &s->grace, en->now.mono_ms + (PLANTED(grace_skipped) ? 0 : en->limits->session_grace_ms), grace_over);
    timer_set(en, &s->expiry, en->now.mono_ms + en->limits->session_ttl_ms, expiry_over);
}

void session_detach(struct engine *en, struct session *s)
{
    while (!list_empty(&s->waiting)) {
        struct op *op = container_of(list_first(&s->waiting), struct op, wait);
        wait_end(en, op);
        answer(en, op, E_CLOSED, "the connection is gone");
    }
    map_del(&en->pipes, s->pipe);
    s->pipe = 0;
    s->seen_ms = en->wall_ms;
    session_write(en, s);
    session_wait_for_pipe(en, s);
}

static void session_attach(struct engine *en, struct session *s, uint64_t pipe)
{
    if (s->pipe == pipe)
        return;
    struct session *before = map_get(&en->pipes, pipe);
    if (before != NULL)
        session_detach(en, before);
    if (s->pipe != 0) { /* taken over: the older pipe goes */
        if (!PLANTED(pipe_not_dropped))
            buf_append(&en->drops, &s->pipe, sizeof s->pipe);
        session_detach(en, s);
    }
    timer_clear(en, &s->grace);
    timer_clear(en, &s->expiry);
    timer_clear(en, &s->returning); /* what did not go back yet is held by who is there again */
    s->pipe = pipe;
    map_put(&en->pipes, pipe, s);
}

void session_hello(struct engine *en, struct op *op)
{
    const struct wire_hello *h = &op->request.hello;
    if (h->version_min > WIRE_VERSION || h->version_max < WIRE_VERSION) {
        answer(en, op, E_BAD_VERSION, "this broker speaks version %d, the client %u to %u", WIRE_VERSION, h->version_min, h->version_max);
        return;
    }
    if (id128_is_zero(op->request.session) || op->pipe == 0) {
        answer(en, op, E_INVALID_ARGUMENT, "session is zero");
        return;
    }
    struct session *s = session_find(en, op->request.session);
    bool resumed = s != NULL;
    if ((s == NULL || s->ending) && h->resume) {
        answer(en, op, E_SESSION_EXPIRED, NULL);
        return;
    }
    if (s != NULL && s->ending) {
        op->reply.retry_after_ms = 100;
        answer(en, op, E_AGAIN, "the session of this id is ending");
        return;
    }
    if (s == NULL && en->sessions_n >= en->limits->sessions_max) {
        op->reply.retry_after_ms = 1000;
        op->reply.depth = en->sessions_n;
        answer(en, op, E_OVERLOADED, "limit sessions_max = %llu", (unsigned long long)en->limits->sessions_max);
        return;
    }
    if (s == NULL) {
        s = session_add(en, op->request.session, h->name, en->wall_ms, en->wall_ms);
        en->counters.sessions_opened++;
        session_write(en, s);
    } else {
        en->counters.sessions_resumed++;
    }
    session_attach(en, s, op->pipe);
    op->reply.body = BODY_HELLO;
    op->reply.hello.version = WIRE_VERSION;
    op->reply.hello.resumed = resumed;
    op->reply.hello.epoch = en->epoch;
    op->reply.hello.limits.session_grace_ms = (uint32_t)en->limits->session_grace_ms;
    answer_change(en, op, DURABILITY_DISK);
}

void session_bye(struct engine *en, struct op *op)
{
    struct session *s = map_get(&en->pipes, op->pipe);
    if (s != NULL && id128_eq(s->id, op->request.session))
        session_end(en, s, true);
    answer_change(en, op, DURABILITY_DISK);
}
