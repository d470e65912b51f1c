#include "wire/packet.h"

#include <assert.h>

#include "base/buf.h"
#include "base/mem.h"

struct packet *packet_new(size_t cap)
{
    if (cap > SIZE_MAX - sizeof(struct packet) - PACKET_HEADROOM)
        return NULL;
    struct packet *p = mem_try(sizeof *p + PACKET_HEADROOM + cap);
    if (p == NULL)
        return NULL;
    atomic_init(&p->refs, 1);
    p->bare = false;
    p->size = 0;
    p->data = NULL;
    return p;
}

void packet_seal(struct packet *p)
{
    assert(p->data >= p->room + PACKET_LENGTH_SIZE + 1);
    put_u64be(p->data - PACKET_LENGTH_SIZE, p->size);
    p->data[-PACKET_LENGTH_SIZE - 1] = 1;
}

struct packet *packet_take(struct packet *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void packet_drop(struct packet *p)
{
    if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
        mem_free(p);
}
