#include "sdk/session.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/entropy.h"
#include "base/mem.h"
#include "base/planted.h"
#include "sdk/address.h"
#include "sdk/error.h"

enum {
    HELLO_MS = 5000,     /* for the answer to a hello; then the pipe is dropped */
    SILENCE_MS = 15000,  /* for an answer, beyond what it was allowed to wait; then the pipe is dropped */
    LOOK_MS = 1000,      /* between two looks for that */
    BACKOFF_MIN_MS = 50, /* after a refusal that names no time */
    BACKOFF_MAX_MS = 2000,
    REST_MAX_MS = 5000,  /* after one that does: who is asked to stay away for long looks in now and then */
    BAD_ANSWERS_MAX = 3, /* in a row; then the broker speaks another language */
    OUT_MAX = 60,        /* when hello told no limits */
    WAITING_MAX = 12,
    OUT_SPARE = 8, /* of the requests that may be out, never used by produces */
};

enum { READY_FIRST, READY_PRODUCE }; /* lists of lanes, in this order */

static void lane_is_ready(struct lane *l)
{
    struct session *s = l->session;
    if (!list_linked(&l->ready))
        list_push_back(&s->ready[l->kind == LANE_ORDERED ? READY_PRODUCE : READY_FIRST], &l->ready);
}

void session_say(struct session *s, int level, const char *fmt, ...)
{
    if (s->log == NULL)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    s->log(s->log_user, level, text);
}

/* ---------------------------------------------------------------- a request's end */

static void tell(struct request *r, struct answer *a, const struct sluice_error *error)
{
    if (r->told)
        return;
    r->told = true;
    timer_stop(r->lane->session->loop, &r->timer);
    r->done(r, a, error);
}

static void drop_passenger(struct request *r, struct answer *a)
{
    if (r->dropped != NULL)
        r->dropped(r, a);
    r->dropped = NULL;
}

/* Tells the maker, if it was not told, and frees. */
static void gone(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct lane *l = r->lane;
    struct session *s = l->session;
    assert(r->state != REQUEST_OUT);
    list_remove(&r->node);
    l->count--;
    tell(r, a, error);
    drop_passenger(r, a);
    request_free(r, s->budget);
    if (l->progress != NULL)
        l->progress(l);
}

static void free_number(struct request *r, bool done);

/* Why a request without an answer failed when its time was up. */
static int too_late(struct request *r, struct sluice_error *error)
{
    struct session *s = r->lane->session;
    const char *about = r->about != NULL ? r->about : "request";
    if (r->in_doubt)
        return fail(error, E_TIMEOUT, "timed out: %s: sent, but not answered%s; the outcome is unknown",
                    about, s->state == SESSION_READY ? "" : " before the connection was lost");
    if (r->answer != NULL)
        return fail_reply(error, &r->answer->reply, r->about);
    if (r->lane->why.code != 0)
        return fail_same(error, &r->lane->why);
    return session_never_sent(s, about, error);
}

/* The deadline has passed. What may have been done stays with us until that is known. */
static void expire(struct request *r)
{
    struct sluice_error error;
    too_late(r, &error);
    bool kept = r->state == REQUEST_OUT || r->state == REQUEST_ANSWERED ||
                (r->in_doubt && r->lane->kind != LANE_READS);
    if (kept) {
        tell(r, NULL, &error);
        return;
    }
    free_number(r, false);
    gone(r, r->answer, &error);
}

static void request_timer(struct timer *t)
{
    struct request *r = container_of(t, struct request, timer);
    struct loop *loop = r->lane->session->loop;
    if (loop->now_ns >= r->deadline_ns) {
        expire(r);
        return;
    }
    assert(r->state == REQUEST_DELAYED);
    r->state = REQUEST_QUEUED;
    timer_set(loop, t, r->deadline_ns);
    lane_is_ready(r->lane);
}

/* ---------------------------------------------------------------- numbers of the free lane */

/* The lowest open number that no request holds, or 0. */
static uint64_t take_number(struct lane *l)
{
    uint64_t open = ~(l->done | l->held) & ((UINT64_C(1) << FREE_WINDOW) - 1);
    if (open == 0)
        return 0;
    int i = __builtin_ctzll(open);
    l->held |= UINT64_C(1) << i;
    return l->base + (uint64_t)i;
}

/* The number of a request is done, or another request may have it. */
static void free_number(struct request *r, bool done)
{
    struct lane *l = r->lane;
    if (l->kind != LANE_FREE || r->wire.seq == 0)
        return;
    assert(r->wire.seq >= l->base && r->wire.seq < l->base + FREE_WINDOW);
    uint64_t bit = UINT64_C(1) << (r->wire.seq - l->base);
    r->wire.seq = 0;
    l->held &= ~bit;
    if (done)
        l->done |= bit;
    while (l->done & 1) {
        l->base++;
        l->done >>= 1;
        l->held >>= 1;
    }
    lane_is_ready(l);
}

/* ---------------------------------------------------------------- refusals */

/* Whether the broker did nothing and may do it later. */
static bool refused_for_now(const struct answer *a)
{
    switch (a->reply.code) {
    case E_OVERLOADED:
    case E_DISK_FULL:
    case E_SHUTTING_DOWN:
    case E_NO_MEMORY:
    case E_OUT_OF_ORDER:
    case E_NO_SESSION:
        return true;
    default:
        return false;
    }
}

/* How long to leave the broker alone: what it asks for, or longer each time; from half of that to all of it, so that clients who
 * were refused together do not come back together. */
static uint64_t rest_after(struct session *s, const struct answer *a, unsigned refusals)
{
    uint64_t ms = a->reply.retry_after_ms;
    if (ms == 0) {
        ms = (uint64_t)BACKOFF_MIN_MS << (refusals < 8 ? refusals : 8);
        if (ms > BACKOFF_MAX_MS)
            ms = BACKOFF_MAX_MS;
    }
    if (ms > REST_MAX_MS)
        ms = REST_MAX_MS;
    return PLANTED(sdk_no_rest) ? 0 : rng_between(&s->rng, ms * NS_PER_MS / 2, ms * NS_PER_MS);
}

/* ---------------------------------------------------------------- ordered lanes */

/* The lane goes on with new numbers. */
static void rested(struct timer *t)
{
    struct lane *l = container_of(t, struct lane, rested);
    l->rewinding = l->blamed = false;
    l->why.code = 0;
    lane_is_ready(l);
}

bool lane_settled(const struct lane *l)
{
    LIST_EACH (n, &l->requests) {
        if (container_of(n, struct request, node)->wire.seq != 0)
            return false;
    }
    return true;
}

struct request *lane_withdraw(struct lane *l)
{
    struct list_node *n = list_pop_front(&l->requests);
    if (n == NULL)
        return NULL;
    struct request *r = container_of(n, struct request, node);
    assert(l->on_hold && !r->told && r->wire.seq == 0 && r->state == REQUEST_QUEUED);
    timer_stop(l->session->loop, &r->timer);
    l->count--;
    return r;
}

void lane_release(struct lane *l)
{
    l->on_hold = false;
    lane_is_ready(l);
}

/* Once nobody has a number, numbers go on behind the last that was done. */
static void rewind_lane(struct lane *l)
{
    if (!l->rewinding || timer_is_set(&l->rested))
        return;
    if (!lane_settled(l))
        return;
    l->next_seq = l->done_seq + 1;
    struct loop *loop = l->session->loop;
    if (l->rest_ns > 0)
        timer_set(loop, &l->rested, loop->now_ns + l->rest_ns);
    else
        rested(&l->rested);
}

/* One of an ordered lane was refused, and it is its turn. */
static void ordered_refused(struct request *r)
{
    struct lane *l = r->lane;
    struct answer *a = r->answer;
    bool later = refused_for_now(a);
    /* Successors are out of order because of the first: only the first says how long to rest. */
    if (!l->blamed) {
        l->blamed = true;
        l->rest_ns = later ? rest_after(l->session, a, l->refusals++) : 0;
        if (later)
            fail_reply(&l->why, &a->reply, r->about);
    }
    r->wire.seq = 0;
    r->in_doubt = false;
    if (later && !r->told) {
        r->state = REQUEST_QUEUED;
        return;
    }
    if (!later && !r->told && r->amend != NULL && r->amend(r, a)) {
        r->state = REQUEST_QUEUED;
        r->answer = NULL; /* of what it was before */
        answer_drop(a);
        return;
    }
    struct sluice_error error;
    fail_reply(&error, &a->reply, r->about);
    gone(r, a, &error);
}

/* Passes on the answers whose predecessors were all answered. */
static void advance(struct lane *l)
{
    LIST_EACH_SAFE (n, &l->requests) {
        struct request *r = container_of(n, struct request, node);
        if (r->wire.seq == 0)
            continue; /* refused before */
        if (r->state != REQUEST_ANSWERED)
            break;
        if (r->answer->reply.code == 0) {
            l->done_seq = r->wire.seq;
            l->refusals = 0;
            gone(r, r->answer, NULL);
        } else {
            ordered_refused(r);
        }
    }
    rewind_lane(l);
}

static void ordered_answered(struct request *r)
{
    struct lane *l = r->lane;
    r->state = REQUEST_ANSWERED;
    if (r->answer->reply.code != 0)
        l->rewinding = true;
    advance(l); /* `r` may be gone */
    lane_is_ready(l);
}

/* ---------------------------------------------------------------- lanes without order */

static void unordered_answered(struct request *r)
{
    struct session *s = r->lane->session;
    struct answer *a = r->answer;
    if (a->reply.code != 0 && refused_for_now(a) && !r->told) {
        r->state = REQUEST_DELAYED;
        r->in_doubt = false;
        drop_passenger(r, a);
        uint64_t due = s->loop->now_ns + rest_after(s, a, r->refusals++);
        timer_set(s->loop, &r->timer, due < r->deadline_ns ? due : r->deadline_ns);
        return;
    }
    r->state = REQUEST_ANSWERED;
    free_number(r, a->reply.code == 0);
    if (a->reply.code == 0) {
        gone(r, a, NULL);
    } else {
        struct sluice_error error;
        fail_reply(&error, &a->reply, r->about);
        gone(r, a, &error);
    }
}

/* ---------------------------------------------------------------- sending */

/* The next request of a lane that may be sent, or NULL. */
static struct request *lane_next(struct lane *l)
{
    LIST_EACH (n, &l->requests) {
        struct request *r = container_of(n, struct request, node);
        if (r->state != REQUEST_QUEUED)
            continue;
        bool waits = (l->rewinding || l->on_hold) && r->wire.seq == 0 && !PLANTED(sdk_passes_refused);
        if (l->kind == LANE_ORDERED && l->out >= LANE_WINDOW)
            return NULL;
        if (l->kind == LANE_ORDERED && waits)
            continue; /* but what has a number, and lost its pipe, is to be repeated: nothing goes on before its answer */
        if (l->kind == LANE_FREE && r->wire.seq == 0 && (r->wire.seq = take_number(l)) == 0)
            continue;
        return r;
    }
    return NULL;
}

static unsigned limit(uint32_t told, unsigned otherwise)
{
    return told != 0 && told < otherwise ? told : otherwise;
}

static void look_for_silence(struct timer *t)
{
    struct session *s = container_of(t, struct session, silence);
    if (s->out == 0)
        return;
    if (wire_due(s->wire) <= s->loop->now_ns) {
        session_say(s, SLUICE_WARN, "%s: no answer for %d s, dialling again", s->url, SILENCE_MS / 1000);
        wire_drop(s->wire);
    }
    timer_set(s->loop, t, s->loop->now_ns + LOOK_MS * NS_PER_MS);
}

/* The counts of what is on the pipe; `by` is 1 or -1. */
static size_t body_size(const struct request *r)
{
    return r->body != NULL ? r->body->size : 0;
}

static void count_out(struct request *r, int by)
{
    struct session *s = r->lane->session;
    s->out += (unsigned)by;
    r->lane->out += (unsigned)by;
    if (r->wait_ms > 0)
        s->waiting += (unsigned)by;
    if (r->lane->kind == LANE_ORDERED)
        s->produce_bytes += by > 0 ? body_size(r) : -body_size(r);
}

static void send_request(struct session *s, struct request *r)
{
    struct lane *l = r->lane;
    if (l->kind == LANE_ORDERED && r->wire.seq == 0)
        r->wire.seq = l->next_seq++;
    r->wire.session = s->id;
    r->wire.lane = l->kind == LANE_ORDERED ? l->id : 0;
    r->wire.replies_seen = l->kind == LANE_ORDERED ? l->done_seq : l->kind == LANE_FREE ? l->base - 1 : 0;
    r->wire.replies_seen += PLANTED(sdk_seen_too_far);
    if (r->before != NULL)
        r->before(r, s->waiting + WAITING_SPARE < limit(s->limits.requests_waiting_max, WAITING_MAX));
    uint64_t due = s->loop->now_ns + (r->wait_ms + (uint64_t)SILENCE_MS) * NS_PER_MS;
    size_t bytes_max = s->limits.request_bytes_max != 0 ? s->limits.request_bytes_max : SIZE_MAX;
    if (wire_send(s->wire, &r->wire, r->body, bytes_max, r, due) != 0) {
        struct sluice_error error;
        fail(&error, E_TOO_LARGE, "%s: too large to be sent, the broker's request_bytes_max is %u",
             r->about != NULL ? r->about : "request", s->limits.request_bytes_max);
        if (l->kind == LANE_ORDERED)
            l->next_seq = r->wire.seq; /* it was the last given */
        free_number(r, false);
        gone(r, NULL, &error);
        return;
    }
    if (r->in_doubt)
        s->repeated++;
    r->in_doubt = true;
    r->state = REQUEST_OUT;
    count_out(r, 1);
    if (!timer_is_set(&s->silence))
        timer_set(s->loop, &s->silence, s->loop->now_ns + LOOK_MS * NS_PER_MS);
}

/* Sends from the lanes of a list in turn, one request each, while the pipe has room. */
static void send_from(struct session *s, struct list *lanes, unsigned out_max, size_t bytes_max)
{
    struct list_node *first;
    while (s->out < out_max && (first = list_first(lanes)) != NULL && wire_ready(s->wire)) {
        struct lane *l = container_of(first, struct lane, ready);
        struct request *r = lane_next(l);
        if (r == NULL) {
            list_remove(first);
            continue;
        }
        if (s->produce_bytes > 0 && body_size(r) > 0 && s->produce_bytes + body_size(r) > bytes_max)
            return;
        send_request(s, r);
        list_remove(first);
        list_push_back(lanes, first);
    }
}

void session_send(struct session *s)
{
    if (s->state != SESSION_READY)
        return;
    unsigned out_max = limit(s->limits.requests_in_flight_max, OUT_MAX);
    unsigned produce_max = out_max > 2 * OUT_SPARE ? out_max - OUT_SPARE : out_max / 2 + 1;
    send_from(s, &s->ready[READY_FIRST], out_max, SIZE_MAX);
    send_from(s, &s->ready[READY_PRODUCE], produce_max, budget_aside(s->budget));
}

/* ---------------------------------------------------------------- hello */

static const char hello_mark; /* who owns the slot of a hello */

static void say_hello(struct session *s)
{
    if (!s->made)
        entropy_fill(&s->id, sizeof s->id); /* what became of an unanswered hello is nobody's worry then */
    struct wire_request hello = {
        .session = s->id,
        .verb = VERB_HELLO,
        .hello = {.version_min = WIRE_VERSION,
                  .version_max = WIRE_VERSION,
                  .resume = s->made,
                  .name = view_of_str(s->name)},
    };
    s->refused_for_now = false;
    timer_set(s->loop, &s->greeting, s->loop->now_ns + HELLO_MS * NS_PER_MS);
    if (!wire_ready(s->wire) || wire_send(s->wire, &hello, NULL, SIZE_MAX, (void *)&hello_mark, UINT64_MAX) != 0)
        wire_drop(s->wire); /* cannot be: nothing else is out on a fresh pipe */
}

static void greeting_timer(struct timer *t)
{
    struct session *s = container_of(t, struct session, greeting);
    if (s->state != SESSION_GREETING)
        return;
    if (s->refused_for_now) {
        say_hello(s);
    } else {
        session_say(s, SLUICE_WARN, "%s: no answer to hello for %d s, dialling again", s->url, HELLO_MS / 1000);
        wire_drop(s->wire);
    }
}

/* A broker that listens everywhere says so: "0.0.0.0:7480" is an address for nobody else. The host that was dialled reached it. */
static void host_dialled(char *address, size_t size, const char *url)
{
    static const char *const anywhere[] = {"0.0.0.0:", "[::]:", "*:"};
    const char *host = strstr(url, "://"), *port = NULL;
    for (size_t i = 0; i < sizeof anywhere / sizeof *anywhere; i++) {
        if (strncmp(address, anywhere[i], strlen(anywhere[i])) == 0)
            port = address + strlen(anywhere[i]);
    }
    if (host == NULL || port == NULL || strstr(url, "tcp") == NULL)
        return;
    host += 3;
    const char *end = strrchr(host, ':');
    char whole[256];
    int n = snprintf(whole, sizeof whole, "%.*s:%s", (int)(end != NULL ? end - host : 0), host, port);
    if (end != NULL && end > host && n > 0 && (size_t)n < size)
        memcpy(address, whole, (size_t)n + 1);
}

static void greeted(struct session *s, const struct answer *a)
{
    const struct wire_reply *reply = &a->reply;
    if (reply->code == 0 && (reply->body != BODY_HELLO || reply->hello.resumed != s->made)) {
        struct sluice_error why;
        if (s->made)
            fail(&why, E_SESSION_EXPIRED, "%s: %s", error_text(E_SESSION_EXPIRED), s->url);
        else
            fail(&why, E_BAD_FRAME, "%s: hello was answered with something else", s->url);
        session_die(s, &why);
        return;
    }
    if (reply->code == 0) {
        timer_stop(s->loop, &s->greeting);
        s->limits = reply->hello.limits;
        text_copy(s->http, sizeof s->http, reply->hello.http);
        host_dialled(s->http, sizeof s->http, s->url);
        address_published(s->url, reply->hello.publish, reply->hello.publish_n, s->publish, sizeof s->publish);
        text_copy(s->product, sizeof s->product, reply->hello.product);
        s->state = SESSION_READY;
        s->reconnects += s->made;
        session_say(s, SLUICE_INFO, "%s: %s", s->url, s->made ? "session resumed" : "session open");
        s->made = true;
        s->refused.code = 0;
        LIST_EACH (n, &s->lanes)
            lane_is_ready(container_of(n, struct lane, all));
        s->events->ready(s->user);
        return;
    }
    fail_reply(&s->refused, reply, s->url);
    if (!refused_for_now(a)) {
        session_die(s, &s->refused);
        return;
    }
    s->refused_for_now = true;
    timer_set(s->loop, &s->greeting, s->loop->now_ns + rest_after(s, a, 2));
}

/* ---------------------------------------------------------------- what the pipe tells */

static void pipe_down(struct session *s)
{
    wire_reset(s->wire);
    timer_stop(s->loop, &s->greeting);
    if (s->state == SESSION_READY)
        session_say(s, SLUICE_WARN, "%s: connection lost, dialling again", s->url);
    s->state = SESSION_DIALLING;
    LIST_EACH (n, &s->lanes) {
        struct lane *l = container_of(n, struct lane, all);
        if (l->out == 0)
            continue;
        LIST_EACH_SAFE (m, &l->requests) {
            struct request *r = container_of(m, struct request, node);
            if (r->state != REQUEST_OUT)
                continue;
            count_out(r, -1);
            r->state = REQUEST_QUEUED;
            if (PLANTED(sdk_new_number))
                r->wire.seq = 0;
            if (r->told && l->kind == LANE_READS)
                gone(r, NULL, NULL);
        }
    }
    assert(s->out == 0 && s->waiting == 0 && s->produce_bytes == 0);
}

static void unreadable(struct session *s, const struct err *e)
{
    session_say(s, SLUICE_ERROR, "%s: an answer cannot be read: %s", s->url, e->text);
    if (++s->bad_answers < BAD_ANSWERS_MAX) {
        wire_drop(s->wire); /* and ask again */
        return;
    }
    struct sluice_error why;
    fail(&why, E_BAD_FRAME, "%s: the broker's answers cannot be read: %s", s->url, e->text);
    session_die(s, &why);
}

static void on_up(void *user)
{
    struct session *s = user;
    if (s->state == SESSION_DEAD)
        return;
    assert(s->state == SESSION_DIALLING);
    s->state = SESSION_GREETING;
    say_hello(s);
}

static void on_down(void *user)
{
    struct session *s = user;
    if (s->state != SESSION_DEAD)
        pipe_down(s);
}

static void on_answer(void *user, void *owner, struct ref *frame)
{
    struct session *s = user;
    struct request *r = owner != &hello_mark ? owner : NULL;
    if (r != NULL)
        count_out(r, -1);
    struct err e;
    struct answer *a;
    if (answer_new(&a, frame, s->budget, &e) != 0) {
        if (r != NULL)
            r->state = REQUEST_QUEUED;
        unreadable(s, &e);
        return;
    }
    s->bad_answers = 0;
    if (a->reply.code == E_NO_SESSION && r != NULL) {
        session_say(s, SLUICE_WARN, "%s: the broker does not know this pipe, dialling again", s->url);
        wire_drop(s->wire);
    }
    if (a->reply.code == E_SESSION_EXPIRED && r != NULL) {
        r->state = REQUEST_QUEUED;
        struct sluice_error why;
        fail_reply(&why, &a->reply, s->url);
        session_die(s, &why);
    } else if (r != NULL) {
        answer_drop(r->answer);
        r->answer = answer_take(a);
        if (r->lane->kind == LANE_ORDERED)
            ordered_answered(r);
        else
            unordered_answered(r);
    } else if (s->state == SESSION_GREETING) {
        greeted(s, a);
    }
    answer_drop(a);
}

static void on_missed(void *user)
{
    struct session *s = user;
    if (s->state == SESSION_DIALLING)
        s->events->missed(s->user);
}

const struct wire_events session_wire_events = {
    .up = on_up, .down = on_down, .missed = on_missed, .answer = on_answer};

/* ---------------------------------------------------------------- what the client asks */

void session_init(struct session *s, struct loop *loop, struct budget *budget,
                  const struct session_events *events, void *user, const char *url, const char *name)
{
    *s = (struct session){
        .loop = loop, .budget = budget, .events = events, .user = user, .url = url, .name = name};
    uint64_t seed;
    entropy_fill(&seed, sizeof seed);
    rng_seed(&s->rng, seed);
    s->greeting.fire = greeting_timer;
    s->silence.fire = look_for_silence;
    list_init(&s->lanes);
    list_init(&s->ready[READY_FIRST]);
    list_init(&s->ready[READY_PRODUCE]);
    lane_init(&s->reads, s, LANE_READS, 0);
    lane_init(&s->free, s, LANE_FREE, 0);
}

int session_never_sent(const struct session *s, const char *about, struct sluice_error *error)
{
    if (s->state == SESSION_READY)
        return fail(error, E_TIMEOUT, "timed out: %s: waited to be sent", about);
    return fail(error, E_UNREACHABLE, "broker not reachable: %s: %s", s->url, wire_trouble(s->wire));
}

void lane_init(struct lane *l, struct session *s, enum lane_kind kind, uint32_t id)
{
    *l = (struct lane){.session = s, .kind = kind, .id = id, .next_seq = 1, .base = 1};
    l->rested.fire = rested;
    list_init(&l->requests);
    list_push_back(&s->lanes, &l->all);
}

void lane_tell(struct lane *l, const struct sluice_error *why)
{
    LIST_EACH_SAFE (n, &l->requests)
        tell(container_of(n, struct request, node), NULL, why);
}

struct request *request_new(enum wire_verb verb)
{
    struct request *r = mem_zalloc(sizeof *r);
    r->wire.verb = verb;
    r->deadline_ns = UINT64_MAX;
    r->timer.fire = request_timer;
    arena_init(&r->memory, SIZE_MAX);
    return r;
}

struct view request_keep(struct request *r, struct view v)
{
    if (v.data == NULL)
        return v;
    uint8_t *copy = arena_take(&r->memory, v.size + 1); /* one more, zero: a string stays one */
    if (v.size > 0)
        memcpy(copy, v.data, v.size);
    return view_of(copy, v.size);
}

void request_free(struct request *r, struct budget *budget)
{
    answer_drop(r->answer);
    arena_free(&r->memory);
    ref_drop(r->body);
    budget_give(budget, r->charged);
    mem_free(r);
}

void session_submit(struct session *s, struct request *r)
{
    if (s->state == SESSION_DEAD) {
        r->told = true;
        r->done(r, NULL, &s->fatal);
        drop_passenger(r, NULL);
        request_free(r, s->budget);
        return;
    }
    r->state = REQUEST_QUEUED;
    list_push_back(&r->lane->requests, &r->node);
    r->lane->count++;
    timer_set(s->loop, &r->timer, r->deadline_ns);
    lane_is_ready(r->lane);
}

static void submit_posted(struct event *e)
{
    struct request *r = container_of(e, struct request, submit);
    session_submit(r->lane->session, r);
}

void session_post(struct session *s, struct request *r)
{
    r->submit.run = submit_posted;
    loop_post(s->loop, &r->submit);
}

void session_die(struct session *s, const struct sluice_error *why)
{
    if (s->state == SESSION_DEAD)
        return;
    s->fatal = *why;
    pipe_down(s);
    s->state = SESSION_DEAD;
    timer_stop(s->loop, &s->silence);
    wire_stop(s->wire);
    LIST_EACH (n, &s->lanes) {
        struct lane *l = container_of(n, struct lane, all);
        timer_stop(s->loop, &l->rested);
        list_remove(&l->ready);
        LIST_EACH_SAFE (m, &l->requests)
            gone(container_of(m, struct request, node), NULL, &s->fatal);
    }
    s->events->dead(s->user, &s->fatal);
}
