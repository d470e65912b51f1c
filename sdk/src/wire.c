#include "sdk/wire.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "sdk/error.h"

enum {
    RECONNECT_MIN_MS = 50,
    RECONNECT_MAX_MS = 1000,
    REPLY_BYTES_MAX = WIRE_MESSAGE_MAX + (1 << 20), /* what we let a peer announce: one largest message and its clothes */
    TAG_SLOT_BITS = 6,
};
#define TAG_TOP (UINT32_C(1) << 31) /* ends nng's chain of request ids */
_Static_assert(WIRE_SLOTS == 1 << TAG_SLOT_BITS, "a tag's low bits are a slot");

struct slot {
    nng_aio *aio;
    struct wire *wire;
    atomic_bool busy; /* nng has the aio: cleared by its callback */
    /* the loop's thread */
    void *owner; /* NULL: no request is out here */
    uint32_t tag;
    uint64_t due_ns;
};

struct wire {
    nng_socket socket;
    nng_dialer dialer;
    nng_aio *receive;
    struct loop *loop;
    void (*handle)(void *user, struct wire_event *e);
    void *user;
    atomic_bool starved; /* the loop's thread wants to know when a slot's aio is idle */
    /* the loop's thread */
    struct slot slots[WIRE_SLOTS];
    nng_pipe pipe;
    bool closed;
    uint64_t sent;
};

/* ---- nng's threads ---- */

static void run_event(struct event *e)
{
    struct wire_event *we = container_of(e, struct wire_event, event);
    if (we->wire->closed) {
        ref_drop(we->frame);
    } else {
        if (we->kind == WIRE_UP)
            we->wire->pipe.id = we->pipe;
        we->wire->handle(we->wire->user, we);
        ref_drop(we->frame);
    }
    mem_free(we);
}

static void push(struct wire *w, enum wire_kind kind, uint32_t pipe, uint32_t tag, struct ref *frame)
{
    struct wire_event *we = mem_alloc(sizeof *we);
    *we = (struct wire_event){
        .event.run = run_event, .wire = w, .kind = kind, .pipe = pipe, .tag = tag, .frame = frame};
    loop_post(w->loop, &we->event);
}

/* ADD_PRE and not ADD_POST, because only ADD_PRE is sure to come before REM_POST. The pipe begins to take what is sent right
 * after it. */
static void pipe_changed(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    push(arg, ev == NNG_PIPE_EV_ADD_PRE ? WIRE_UP : WIRE_DOWN, pipe.id, 0, NULL);
}

static void free_message(struct ref *r)
{
    nng_msg_free(r->owner);
}

static void received(void *arg)
{
    struct wire *w = arg;
    if (nng_aio_result(w->receive) != 0)
        return; /* closed */
    nng_msg *m = nng_aio_get_msg(w->receive);
    if (nng_msg_header_len(m) == sizeof(uint32_t)) {
        uint32_t tag = get_u32be(nng_msg_header(m));
        struct ref *frame = ref_wrap(nng_msg_body(m), nng_msg_len(m), free_message, m);
        push(w, WIRE_REPLY, nng_msg_get_pipe(m).id, tag, frame);
    } else {
        nng_msg_free(m);
    }
    nng_recv_aio(w->socket, w->receive);
}

static void sent(void *arg)
{
    struct slot *slot = arg;
    if (nng_aio_result(slot->aio) != 0)
        nng_msg_free(nng_aio_get_msg(slot->aio)); /* it stayed ours: called back, or closed */
    struct wire *w = slot->wire;
    atomic_store(&slot->busy, false);
    if (atomic_load(&w->starved) && atomic_exchange(&w->starved, false))
        loop_wake(w->loop);
}

/* ---- opening and closing ---- */

static int open_socket(struct wire *w, const char *url, struct sluice_error *err)
{
    int rv = nng_req0_open_raw(&w->socket);
    if (rv != 0)
        return fail(err, rv == NNG_ENOMEM ? E_NO_MEMORY : E_INTERNAL, "cannot open a socket: %s", nng_strerror(rv));
    for (size_t i = 0; rv == 0 && i < WIRE_SLOTS; i++) {
        w->slots[i].wire = w;
        rv = nng_aio_alloc(&w->slots[i].aio, sent, &w->slots[i]);
    }
    if (rv == 0)
        rv = nng_aio_alloc(&w->receive, received, w);
    if (rv == 0)
        rv = nng_pipe_notify(w->socket, NNG_PIPE_EV_ADD_PRE, pipe_changed, w);
    if (rv == 0)
        rv = nng_pipe_notify(w->socket, NNG_PIPE_EV_REM_POST, pipe_changed, w);
    if (rv == 0)
        rv = nng_socket_set_ms(w->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    if (rv == 0)
        rv = nng_socket_set_ms(w->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    if (rv == 0)
        rv = nng_socket_set_size(w->socket, NNG_OPT_RECVMAXSZ, REPLY_BYTES_MAX);
    if (rv != 0)
        return fail(err, rv == NNG_ENOMEM ? E_NO_MEMORY : E_INTERNAL, "cannot prepare a socket: %s", nng_strerror(rv));
    rv = nng_dialer_create(&w->dialer, w->socket, url);
    if (rv == 0)
        rv = nng_dialer_start(w->dialer, NNG_FLAG_NONBLOCK);
    if (rv != 0)
        return fail(err, E_INVALID_ARGUMENT, "broker '%s': %s", url, nng_strerror(rv));
    nng_recv_aio(w->socket, w->receive);
    return 0;
}

int wire_open(struct wire **out, const char *url, struct loop *loop,
              void (*handle)(void *user, struct wire_event *e), void *user, struct sluice_error *err)
{
    struct wire *w = mem_zalloc(sizeof *w);
    w->loop = loop;
    w->handle = handle;
    w->user = user;
    int code = open_socket(w, url, err);
    if (code != 0) {
        wire_close(w);
        wire_free(w);
        return code;
    }
    *out = w;
    return 0;
}

void wire_close(struct wire *w)
{
    w->closed = true;
    /* First nothing is under way any more, then the socket goes: the other way round a callback can put an aio into a queue that is
       closed already, and nng 1.5.2 frees the queue with the aio in it. */
    nng_aio_stop(w->receive);
    for (size_t i = 0; i < WIRE_SLOTS; i++)
        nng_aio_stop(w->slots[i].aio);
    if (w->socket.id != 0)
        nng_close(w->socket);
    nng_aio_free(w->receive);
    for (size_t i = 0; i < WIRE_SLOTS; i++)
        nng_aio_free(w->slots[i].aio);
}

void wire_free(struct wire *w)
{
    mem_free(w);
}

/* ---- the loop's thread ---- */

static struct slot *find_slot(struct wire *w)
{
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < WIRE_SLOTS; i++) {
            if (w->slots[i].owner == NULL && !atomic_load(&w->slots[i].busy))
                return &w->slots[i];
        }
        atomic_store(&w->starved, true); /* and look again: one may have become idle before it was told to say so */
    }
    return NULL;
}

/* `r` as a message of nng: the frame's head and, right behind it, the FlatBuffer, built in place. nng clears what it allocates,
 * hence the exact size. Nothing is ever inserted into a message: nng 1.5.2 corrupts the heap then (#1541). */
static nng_msg *encode(const struct wire_request *r, uint32_t tag)
{
    size_t bound = codec_request_bound(r) + 16;
    nng_msg *m;
    if (nng_msg_alloc(&m, FRAME_SIZE + bound) != 0)
        return NULL;
    uint8_t *body = nng_msg_body(m);
    struct codec_space space = {.data = body + FRAME_SIZE, .cap = bound};
    if (codec_request_encode(r, &space) != 0) {
        nng_msg_free(m);
        return NULL;
    }
    uint8_t *head = space.data + space.at - FRAME_SIZE;
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)r->verb}, head + FRAME_SIZE, space.size);
    nng_msg_chop(m, bound - space.at - space.size);
    nng_msg_trim(m, (size_t)(head - body));
    nng_msg_header_append_u32(m, tag);
    return m;
}

bool wire_ready(struct wire *w)
{
    return find_slot(w) != NULL;
}

int wire_send(struct wire *w, const struct wire_request *r, size_t bytes_max, void *owner, uint64_t due_ns)
{
    assert(owner != NULL);
    struct slot *slot = find_slot(w);
    assert(slot != NULL);
    uint32_t index = (uint32_t)(slot - w->slots);
    uint32_t tag = TAG_TOP | (uint32_t)(++w->sent << TAG_SLOT_BITS) | index;
    nng_msg *m = encode(r, tag);
    if (m == NULL)
        return E_TOO_LARGE;
    if (nng_msg_len(m) > bytes_max) {
        nng_msg_free(m);
        return E_TOO_LARGE;
    }
    slot->owner = owner;
    slot->tag = tag;
    slot->due_ns = due_ns;
    atomic_store(&slot->busy, true);
    nng_aio_set_msg(slot->aio, m);
    nng_send_aio(w->socket, slot->aio);
    return 0;
}

void *wire_take(struct wire *w, uint32_t tag)
{
    struct slot *slot = &w->slots[tag % WIRE_SLOTS];
    if (slot->tag != tag)
        return NULL;
    void *owner = slot->owner;
    slot->owner = NULL;
    return owner;
}

void wire_reset(struct wire *w)
{
    w->pipe.id = 0;
    for (size_t i = 0; i < WIRE_SLOTS; i++) {
        struct slot *slot = &w->slots[i];
        slot->owner = NULL;
        if (atomic_load(&slot->busy))
            nng_aio_cancel(slot->aio);
    }
}

void wire_drop(struct wire *w)
{
    if (w->pipe.id != 0)
        nng_pipe_close(w->pipe);
}

void wire_stop(struct wire *w)
{
    nng_dialer_close(w->dialer);
    wire_drop(w);
}

uint64_t wire_due(const struct wire *w)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < WIRE_SLOTS; i++) {
        if (w->slots[i].owner != NULL && w->slots[i].due_ns < due)
            due = w->slots[i].due_ns;
    }
    return due;
}

/* nng keeps the reasons of failed dials only as counters of the dialer. Its own search for a socket's counters always finds
 * the first (#1577), so we walk. */
static const nng_stat *dialer_stats(const nng_stat *root, uint64_t id)
{
    for (nng_stat *scope = nng_stat_child((nng_stat *)root); scope != NULL; scope = nng_stat_next(scope)) {
        if (strcmp(nng_stat_name(scope), "dialer") != 0)
            continue;
        for (nng_stat *s = nng_stat_child(scope); s != NULL; s = nng_stat_next(s)) {
            if (strcmp(nng_stat_name(s), "id") == 0 && nng_stat_value(s) == id)
                return scope;
        }
    }
    return NULL;
}

const char *wire_trouble(const struct wire *w)
{
    static const struct { const char *stat, *text; } reasons[] = {
        {"refused", "nobody listens there"}, {"timeout", "connecting timed out"},
        {"auth", "authentication failed"},   {"proto", "what listens there is no broker"},
        {"disconnect", "disconnected"},
    };
    const char *text = "no connection";
    nng_stat *root;
    if (nng_stats_get(&root) != 0)
        return text;
    const nng_stat *dialer = dialer_stats(root, (uint64_t)nng_dialer_id(w->dialer));
    uint64_t most = 0;
    for (nng_stat *s = dialer != NULL ? nng_stat_child((nng_stat *)dialer) : NULL; s != NULL; s = nng_stat_next(s)) {
        for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
            if (strcmp(nng_stat_name(s), reasons[i].stat) == 0 && nng_stat_value(s) > most) {
                most = nng_stat_value(s);
                text = reasons[i].text;
            }
        }
    }
    nng_stats_free(root);
    return text;
}
