#include "sdk/membership.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    MARGIN = 20,          /* the share of a term that is taken off: clocks do not go alike */
    RETRY_MS_MIN = 10,
    RETRY_MS_MAX = 1000,  /* after a heartbeat that came to nothing, a tenth of the term in between */
};

/* A join or heartbeat that is out. */
struct beat {
    struct membership *of;
    uint64_t number, sent_ns;
    uint32_t released_n;
    struct wire_place *released;
};

static atomic_uint numbers; /* unique in the process, so in the session */

struct membership *membership_new(struct sluice *s, const char *topic, const char *group, const char *name, uint32_t timeout_ms,
                                  uint32_t poll_ms_max)
{
    struct membership *m = mem_zalloc(sizeof *m);
    client_take(s);
    m->client = s;
    m->topic = mem_strdup(topic);
    m->group = mem_strdup(group);
    m->name = mem_strdup(name);
    m->number = atomic_fetch_add(&numbers, 1) + 1;
    m->timeout_ms = timeout_ms;
    m->poll_ms_max = poll_ms_max;
    m->polled_ns = clock_mono_ns();
    atomic_init(&m->refs, 1);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_t mono;
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &mono);
    pthread_condattr_destroy(&mono);
    return m;
}

void membership_take(struct membership *m) { atomic_fetch_add(&m->refs, 1); }

void membership_drop(struct membership *m)
{
    if (atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    struct sluice *s = m->client;
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    map_free(&m->given_up);
    mem_free(m->assigned);
    mem_free(m->topic);
    mem_free(m->group);
    mem_free(m->name);
    mem_free(m);
    client_drop(s);
}

/* ---------------------------------------------------------------- under the lock */

static void signal_locked(struct membership *m)
{
    m->changes++;
    pthread_cond_broadcast(&m->changed);
}

void membership_signal(struct membership *m)
{
    pthread_mutex_lock(&m->lock);
    signal_locked(m);
    pthread_mutex_unlock(&m->lock);
}

void membership_gave_up(struct membership *m, uint32_t partition, uint64_t generation)
{
    map_put(&m->given_up, partition, (void *)(uintptr_t)generation);
}

void membership_forget(struct membership *m)
{
    m->assigned_n = 0;
    m->version = 0;
}

void membership_wait(struct membership *m, unsigned changes, uint64_t until_ns)
{
    struct timespec at = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    while (m->changes == changes && clock_mono_ns() < until_ns)
        pthread_cond_timedwait(&m->changed, &m->lock, &at);
}

static uint64_t generation_given_up(const struct membership *m, uint32_t partition)
{
    return (uintptr_t)map_get(&m->given_up, partition);
}

/* ---------------------------------------------------------------- asking */

static void beat_done(struct request *r, struct answer *a, const struct sluice_error *error);

static void beat_before(struct request *r, bool may_wait)
{
    if (!may_wait && r->wire.verb == VERB_GROUP_HEARTBEAT)
        r->wait_ms = r->wire.heartbeat.wait_ms = 0;
}

static struct wire_place *released_of(const struct membership *m, struct request *r, uint32_t *n)
{
    struct wire_place *released = arena_take(&r->memory, (map_count(&m->given_up) + 1) * sizeof *released);
    *n = 0;
    for (struct map_it it = map_iter(&m->given_up); map_next(&it);)
        released[(*n)++] = (struct wire_place){.partition = (uint32_t)it.key, .generation = (uintptr_t)it.value};
    return released;
}

static void beat(struct membership *m)
{
    struct sluice *s = m->client;
    pthread_mutex_lock(&m->lock);
    bool join = !m->joined;
    struct request *r = client_request(s, join ? VERB_GROUP_JOIN : VERB_GROUP_HEARTBEAT, LANE_READS, "group '%s' of topic '%s'", m->group, m->topic);
    struct beat *b = mem_zalloc(sizeof *b);
    *b = (struct beat){.of = m, .number = ++m->newest, .sent_ns = clock_mono_ns()};
    if (join) {
        r->wire.join = (struct wire_group_join){.topic = request_keep(r, view_of_str(m->topic)), .group = request_keep(r, view_of_str(m->group)),
                                                .name = m->name != NULL ? request_keep(r, view_of_str(m->name)) : view_of(NULL, 0),
                                                .member = m->number, .timeout_ms = m->timeout_ms};
    } else {
        struct wire_group_heartbeat *h = &r->wire.heartbeat;
        *h = (struct wire_group_heartbeat){.group = m->group_id, .member = m->number, .version = m->version, .wait_ms = m->timeout_ms / 3};
        h->released = released_of(m, r, &h->released_n);
        b->released = mem_dup(h->released, h->released_n * sizeof *h->released);
        b->released_n = h->released_n;
        r->wait_ms = h->wait_ms;
    }
    pthread_mutex_unlock(&m->lock);
    r->before = beat_before;
    r->deadline_ns = deadline_in(m->timeout_ms);
    r->done = beat_done;
    r->owner = b;
    m->out++;
    membership_take(m);
    session_submit(&s->session, r);
}

static void leave_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    (void)a, (void)error;
    membership_drop(r->owner);
}

/* Nobody waits for the answer. */
static void leave(struct membership *m)
{
    struct request *r = client_request(m->client, VERB_GROUP_LEAVE, LANE_READS, "group '%s' of topic '%s'", m->group, m->topic);
    r->wire.leave = (struct wire_group_leave){.group = m->group_id, .member = m->number};
    r->done = leave_done;
    r->owner = m;
    membership_take(m);
    session_submit(&m->client->session, r);
}

/* The user's thread has not looked for too long: others go on with what it has. It joins again when it does. */
static bool neglected(struct membership *m)
{
    pthread_mutex_lock(&m->lock);
    bool over = m->poll_ms_max != UINT32_MAX && clock_mono_ns() - m->polled_ns > m->poll_ms_max * NS_PER_MS;
    bool leaves = over && m->joined;
    if (over) {
        m->paused = true;
        m->joined = false;
        m->until_ns = 0;
        membership_forget(m);
    }
    pthread_mutex_unlock(&m->lock);
    if (leaves)
        leave(m);
    return over;
}

static void timer_fired(struct timer *t)
{
    struct membership *m = container_of(t, struct membership, timer);
    if (!m->closed && !neglected(m))
        beat(m);
}

static void poke_arrived(struct event *e)
{
    struct membership *m = container_of(e, struct membership, poke);
    pthread_mutex_lock(&m->lock);
    m->poked = false;
    bool go = m->fatal.code == 0;
    if (m->paused && go) {
        m->paused = false;
        m->polled_ns = clock_mono_ns();
    }
    pthread_mutex_unlock(&m->lock);
    if (!m->closed && go) {
        timer_stop(&m->client->loop, &m->timer);
        beat(m);
    }
    membership_drop(m);
}

void membership_poke(struct membership *m)
{
    pthread_mutex_lock(&m->lock);
    bool post = !m->poked;
    m->poked = true;
    pthread_mutex_unlock(&m->lock);
    if (!post)
        return;
    membership_take(m);
    m->poke.run = poke_arrived;
    loop_post(&m->client->loop, &m->poke);
}

void membership_start(struct membership *m)
{
    m->timer.fire = timer_fired;
    membership_poke(m);
}

/* ---------------------------------------------------------------- being told */

static void told(struct membership *m, const struct beat *b, const struct wire_member_reply *r)
{
    m->joined = true;
    m->group_id = r->group;
    uint64_t until = b->sent_ns + (uint64_t)r->timeout_ms * NS_PER_MS / MARGIN * (MARGIN - 1);
    m->until_ns = until > m->until_ns ? until : m->until_ns;
    if (clock_mono_ns() >= m->until_ns)
        return; /* it came too late to be believed: it is asked again */
    m->version = r->version;
    if (!r->changed)
        return;
    m->assigned = mem_resize(m->assigned, r->assigned_n, sizeof *m->assigned);
    m->assigned_n = 0;
    for (uint32_t i = 0; i < r->assigned_n; i++)
        if (r->assigned[i].generation > generation_given_up(m, r->assigned[i].partition))
            m->assigned[m->assigned_n++] = r->assigned[i];
    /* what was named as given up and is not assigned any more need not be named again */
    for (uint32_t i = 0; i < b->released_n; i++) {
        const struct wire_place *p = &b->released[i];
        bool still = false;
        for (uint32_t k = 0; k < r->assigned_n && !still; k++)
            still = r->assigned[k].partition == p->partition && r->assigned[k].generation <= p->generation;
        if (!still && b->number == m->newest && generation_given_up(m, p->partition) == p->generation)
            map_del(&m->given_up, p->partition);
    }
    signal_locked(m);
}

static bool for_good(int code)
{
    switch (code) {
    case E_UNREACHABLE:
    case E_TIMEOUT:
    case E_AGAIN:
    case E_SHUTTING_DOWN:
    case E_DISK_FULL:
    case E_OVERLOADED:
    case E_NO_SESSION:
    case E_NO_MEMORY:
        return false;
    default:
        return true;
    }
}

static uint64_t retry_in(const struct membership *m)
{
    uint64_t ms = m->timeout_ms / 10;
    return (ms < RETRY_MS_MIN ? RETRY_MS_MIN : ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms) * NS_PER_MS;
}

/* Under the lock. How long until the next one; 0: at once, UINT64_MAX: never. */
static uint64_t answered(struct membership *m, const struct beat *b, struct answer *a, const struct sluice_error *error)
{
    if (error == NULL && a->reply.body == BODY_MEMBER) {
        told(m, b, &a->reply.member);
        bool soon = !a->reply.member.changed && clock_mono_ns() - b->sent_ns < retry_in(m); /* it was not allowed to wait */
        return soon ? retry_in(m) : 0;
    }
    int code = error != NULL ? error->code : E_BAD_FRAME;
    if (code == E_UNKNOWN_MEMBER) {
        m->joined = false;
        m->until_ns = 0;
        membership_forget(m);
        signal_locked(m);
        return RETRY_MS_MIN * NS_PER_MS;
    }
    if (!for_good(code))
        return retry_in(m);
    m->until_ns = 0;
    if (error != NULL)
        m->fatal = *error;
    else
        fail(&m->fatal, E_BAD_FRAME, "group '%s' of topic '%s': the broker's answer makes no sense", m->group, m->topic);
    signal_locked(m);
    return UINT64_MAX;
}

static void beat_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct beat *b = r->owner;
    struct membership *m = b->of;
    pthread_mutex_lock(&m->lock);
    uint64_t rest = answered(m, b, a, error);
    bool fenced = m->fatal.code == E_MEMBER_FENCED && m->joined;
    m->joined = m->joined && !fenced;
    pthread_mutex_unlock(&m->lock);
    m->out--;
    if (fenced && !m->closed)
        leave(m); /* so that who took our place need not wait for our term to end */
    struct loop *loop = &m->client->loop;
    if (!m->closed && m->out == 0 && rest != UINT64_MAX)
        timer_set(loop, &m->timer, clock_mono_ns() + rest);
    mem_free(b->released);
    mem_free(b);
    membership_drop(m);
}

/* ---------------------------------------------------------------- the end */

static void closing_arrived(struct event *e)
{
    struct membership *m = container_of(e, struct membership, closing);
    m->closed = true;
    timer_stop(&m->client->loop, &m->timer);
    waiter_done(m->close_waiter);
}

void membership_stop(struct membership *m)
{
    struct waiter w;
    waiter_init(&w);
    m->close_waiter = &w;
    m->closing.run = closing_arrived;
    loop_post(&m->client->loop, &m->closing);
    waiter_wait(&w);
}
