#include "sdk/wire.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "sdk/carrier.h"
#include "sdk/error.h"

/* A request id as nng's framing wants it: the top bit says that no other id follows. Below it a count, so that a late answer to
 * a request of a lost pipe finds nobody, and the slot. */
enum { TAG_SLOT_BITS = 6 };
#define TAG_TOP (UINT32_C(1) << 31)
_Static_assert(WIRE_SLOTS == 1 << TAG_SLOT_BITS, "a tag's low bits are a slot");

struct slot {
    void *owner; /* NULL: free */
    uint32_t tag;
    uint64_t due_ns;
};

struct wire {
    struct carrier *carrier;
    const struct wire_events *events;
    void *user;
    struct slot slots[WIRE_SLOTS];
    uint64_t sent;
};

static const struct carrier_events carrier_events;

int wire_open(struct wire **out, const struct sluice_options *o, struct loop *loop, const struct wire_events *events,
              void *user, struct sluice_error *err)
{
    struct wire *w = mem_zalloc(sizeof *w);
    w->events = events;
    w->user = user;
    const struct carrier_options carrier = {.url = o->broker,
                                            .tls_ca_file = o->tls_ca_file,
                                            .tls_cert_file = o->tls_cert_file,
                                            .events = &carrier_events,
                                            .user = w,
                                            .loop = loop};
    int code = carrier_open(&w->carrier, &carrier, err);
    if (code != 0) {
        mem_free(w);
        return code;
    }
    *out = w;
    return 0;
}

void wire_close(struct wire *w)
{
    w->carrier->ops->close(w->carrier);
}

void wire_free(struct wire *w)
{
    w->carrier->ops->free(w->carrier);
    mem_free(w);
}

/* ---------------------------------------------------------------- out */

/* What is shorter is copied sooner than gathered. */
enum { APART_MIN = 4096 };

/* The frame's head and, right behind it, the FlatBuffer, built in place: at the end of the memory, and down from there. A batch that is held
 * by `body` stays where it is. */
static struct packet *encode(const struct wire_request *r, struct ref *body)
{
    bool apart = body != NULL && r->verb == VERB_PRODUCE && r->produce.batch.size >= APART_MIN;
    size_t before = CARRIER_ROOM + FRAME_SIZE;
    size_t bound = (apart ? codec_produce_head_bound(r) : codec_request_bound(r)) + 16;
    uint8_t *memory = mem_try(before + bound);
    if (memory == NULL)
        return NULL;
    struct codec_space space = {.data = memory + before, .cap = bound};
    if ((apart ? codec_produce_head(r, &space) : codec_request_encode(r, &space)) != 0) {
        mem_free(memory);
        return NULL;
    }
    uint8_t *frame = space.data + space.at - FRAME_SIZE;
    struct packet *p = mem_alloc(sizeof *p);
    *p = (struct packet){.memory = memory, .frame = frame, .size = FRAME_SIZE + space.size};
    if (apart) {
        p->end = r->produce.batch;
        p->hold = ref_take(body);
    }
    frame_put_apart(frame, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)r->verb},
                    view_of(frame + FRAME_SIZE, space.size), p->end);
    return p;
}

static struct slot *find_slot(const struct wire *w)
{
    for (size_t i = 0; i < WIRE_SLOTS; i++) {
        if (w->slots[i].owner == NULL)
            return (struct slot *)&w->slots[i];
    }
    return NULL;
}

bool wire_ready(const struct wire *w)
{
    return find_slot(w) != NULL;
}

int wire_send(struct wire *w, const struct wire_request *r, struct ref *body, size_t bytes_max, void *owner, uint64_t due_ns)
{
    struct slot *slot = find_slot(w);
    assert(owner != NULL && slot != NULL);
    struct packet *p = encode(r, body);
    if (p == NULL)
        return E_TOO_LARGE;
    if (p->size + p->end.size > bytes_max) {
        packet_free(p);
        return E_TOO_LARGE;
    }
    p->tag = TAG_TOP | (uint32_t)(++w->sent << TAG_SLOT_BITS) | (uint32_t)(slot - w->slots);
    *slot = (struct slot){.owner = owner, .tag = p->tag, .due_ns = due_ns};
    w->carrier->ops->send(w->carrier, p);
    return 0;
}

void wire_flush(struct wire *w)
{
    if (w->carrier->ops->flush != NULL)
        w->carrier->ops->flush(w->carrier);
}

void wire_reset(struct wire *w)
{
    memset(w->slots, 0, sizeof w->slots);
    w->carrier->ops->reset(w->carrier);
}

void wire_drop(struct wire *w)
{
    w->carrier->ops->drop(w->carrier);
}

void wire_stop(struct wire *w)
{
    w->carrier->ops->stop(w->carrier);
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

const char *wire_trouble(const struct wire *w)
{
    return w->carrier->ops->trouble(w->carrier);
}

/* ---------------------------------------------------------------- in */

static void up(void *user)
{
    struct wire *w = user;
    w->events->up(w->user);
}

static void missed(void *user)
{
    struct wire *w = user;
    w->events->missed(w->user);
}

static void down(void *user)
{
    struct wire *w = user;
    w->events->down(w->user);
}

static void answer(void *user, uint32_t tag, struct ref *frame)
{
    struct wire *w = user;
    struct slot *slot = &w->slots[tag % WIRE_SLOTS];
    if (slot->owner == NULL || slot->tag != tag) {
        ref_drop(frame); /* of a pipe that is gone */
        return;
    }
    void *owner = slot->owner;
    slot->owner = NULL;
    w->events->answer(w->user, owner, frame);
}

static const struct carrier_events carrier_events = {.up = up, .down = down, .missed = missed, .frame = answer};
