#include "sdk/framing.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

enum {
    SP_REQ = 0x30,
    SP_REP = 0x31,
    SP_PUB = 0x20,
    SP_SUB = 0x21,
    LENGTH_SIZE = 8,
    ID_SIZE = 4,
    HEAD_MAX = 1 + LENGTH_SIZE + ID_SIZE,
    FRAME_ALIGN = 16,
};
_Static_assert((int)HEAD_MAX <= (int)CARRIER_ROOM, "a head fits before a frame");

/* Who asks; who hears. */
static const uint8_t our_greeting[2][SP_SIZE] = {{0, 'S', 'P', 0, 0, SP_REQ, 0, 0}, {0, 'S', 'P', 0, 0, SP_SUB, 0, 0}};
static const uint8_t their_greeting[2][SP_SIZE] = {{0, 'S', 'P', 0, 0, SP_REP, 0, 0}, {0, 'S', 'P', 0, 0, SP_PUB, 0, 0}};

static size_t head_size(bool ipc)
{
    return (ipc ? 1 : 0) + LENGTH_SIZE + ID_SIZE;
}

static size_t head_size_in(const struct inlet *i)
{
    return head_size(i->ipc) - (i->hears ? ID_SIZE : 0);
}

/* ---------------------------------------------------------------- out */

static size_t whole_size(const struct outlet *o, const struct packet *p)
{
    return head_size(o->ipc) + p->size + p->end.size;
}

void outlet_init(struct outlet *o, bool ipc, bool hears)
{
    outlet_clear(o);
    *o = (struct outlet){.ipc = ipc, .hears = hears};
    o->last = &o->first;
}

void outlet_clear(struct outlet *o)
{
    for (struct packet *p = o->first, *next; p != NULL; p = next) {
        next = p->next;
        packet_free(p);
    }
    o->first = NULL;
    o->last = &o->first;
    o->went = 0;
}

void outlet_push(struct outlet *o, struct packet *p)
{
    uint8_t *head = p->frame - ID_SIZE - LENGTH_SIZE;
    put_u64be(head, p->size + p->end.size + ID_SIZE);
    put_u32be(head + LENGTH_SIZE, p->tag);
    if (o->ipc)
        head[-1] = 1;
    p->next = NULL;
    *o->last = p;
    o->last = &p->next;
}

size_t outlet_pieces(struct outlet *o, struct iovec *pieces, size_t max)
{
    size_t n = 0, head = head_size(o->ipc), went = o->went;
    if (o->greeted < SP_SIZE)
        pieces[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)(our_greeting[o->hears] + o->greeted),
                                     .iov_len = SP_SIZE - o->greeted};
    for (struct packet *p = o->first; p != NULL && n < max; p = p->next) {
        size_t begin = head + p->size, at = went > begin ? went - begin : 0;
        if (went < begin)
            pieces[n++] = (struct iovec){.iov_base = p->frame - head + went, .iov_len = begin - went};
        if (p->end.size > 0 && n < max)
            pieces[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)(p->end.data + at), .iov_len = p->end.size - at};
        went = 0;
    }
    return n;
}

void outlet_went(struct outlet *o, size_t bytes)
{
    size_t greeting = SP_SIZE - o->greeted < bytes ? SP_SIZE - o->greeted : bytes;
    o->greeted += greeting;
    o->went += bytes - greeting;
    while (o->first != NULL && o->went >= whole_size(o, o->first)) {
        struct packet *p = o->first;
        o->went -= whole_size(o, p);
        o->first = p->next;
        if (o->first == NULL)
            o->last = &o->first;
        packet_free(p);
    }
}

/* ---------------------------------------------------------------- in */

static void free_inbound(struct ref *r)
{
    mem_free(r->owner);
}

struct ref *inbound_ref(struct inbound *in)
{
    return ref_wrap(in->frame, in->size, free_inbound, in);
}

void inlet_init(struct inlet *i, bool ipc, bool hears)
{
    mem_free(i->in);
    *i = (struct inlet){.ipc = ipc, .hears = hears, .ahead = i->ahead != NULL ? i->ahead : mem_alloc(READ_AHEAD)};
}

void inlet_free(struct inlet *i)
{
    mem_free(i->in);
    mem_free(i->ahead);
    *i = (struct inlet){.ahead = NULL};
}

size_t inlet_room(const struct inlet *i, struct iovec pieces[2])
{
    size_t n = 0;
    if (i->in != NULL)
        pieces[n++] =
            (struct iovec){.iov_base = i->in->frame + i->in->got, .iov_len = i->in->size - i->in->got};
    pieces[n++] = (struct iovec){.iov_base = i->ahead + i->end, .iov_len = READ_AHEAD - i->end};
    return n;
}

void inlet_came(struct inlet *i, size_t bytes)
{
    if (i->in != NULL) {
        size_t rest = i->in->size - i->in->got, part = bytes < rest ? bytes : rest;
        i->in->got += part;
        bytes -= part;
    }
    i->end += bytes;
}

/* Takes a head off what came, and makes the frame that follows, or passes it over. False: it makes no sense. */
static bool take_head(struct inlet *i)
{
    const uint8_t *at = i->ahead + i->at, *id = at + (i->ipc ? 1 : 0) + LENGTH_SIZE;
    size_t id_size = i->hears ? 0 : ID_SIZE;
    uint64_t length = get_u64be(id - LENGTH_SIZE);
    if ((i->ipc && *at != 1) || length < id_size || length - id_size > REPLY_BYTES_MAX)
        return false;
    i->at += head_size_in(i);
    if (i->hears && length > HEARD_BYTES_MAX) {
        i->pass = length;
        return true;
    }
    size_t size = (size_t)length - id_size;
    struct inbound *in = mem_try(sizeof *in + FRAME_ALIGN + size);
    if (in == NULL)
        return false;
    *in = (struct inbound){.tag = i->hears ? 0 : get_u32be(id), .size = size};
    uintptr_t body = (uintptr_t)in->bytes + (i->hears ? PUB_FRAME_SIZE : FRAME_SIZE);
    in->frame = in->bytes + (FRAME_ALIGN - body % FRAME_ALIGN) % FRAME_ALIGN;
    i->in = in;
    return true;
}

/* False: there is still some of it to come. */
static bool pass_over(struct inlet *i)
{
    size_t there = i->end - i->at, part = i->pass < there ? (size_t)i->pass : there;
    i->at += part;
    i->pass -= part;
    return i->pass == 0;
}

/* What is left, less than a head or a greeting, goes to the front. */
static enum inlet_got nothing_more(struct inlet *i)
{
    if (i->at > 0)
        memmove(i->ahead, i->ahead + i->at, i->end - i->at);
    i->end -= i->at;
    i->at = 0;
    return INLET_NOTHING;
}

enum inlet_got inlet_take(struct inlet *i, struct inbound **frame)
{
    if (!i->heard) {
        size_t n = i->end - i->at < SP_SIZE ? i->end - i->at : SP_SIZE;
        if (memcmp(i->ahead + i->at, their_greeting[i->hears], n) != 0)
            return INLET_NONSENSE;
        if (n < SP_SIZE)
            return nothing_more(i);
        i->at += SP_SIZE;
        i->heard = true;
        return INLET_GREETING;
    }
    while (i->in == NULL) {
        if (!pass_over(i) || i->end - i->at < head_size_in(i))
            return nothing_more(i);
        if (!take_head(i))
            return INLET_NONSENSE;
    }
    struct inbound *in = i->in;
    size_t rest = in->size - in->got, part = i->end - i->at < rest ? i->end - i->at : rest;
    memcpy(in->frame + in->got, i->ahead + i->at, part);
    in->got += part;
    i->at += part;
    if (in->got < in->size)
        return nothing_more(i);
    i->in = NULL;
    *frame = in;
    return INLET_FRAME;
}
