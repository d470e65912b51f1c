/* The end of the logs in memory: see tail.h. */
#include "broker/tail.h"

#include <pthread.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/planted.h"
#include "base/table.h"
#include "schemas/stored.h"

struct kept {
    struct list_node by_age; /* in tail.ages, oldest first */
    struct part *part;
    uint64_t base_offset, last_offset;
    size_t bytes;
    struct tail_batch b;
};

/* The batches of a partition ascend, and their oldest goes first: a ring, in which a reader finds its place by halving. */
struct ring {
    uint32_t first, n, cap; /* cap: a power of two */
    struct kept *at[];
};

/* Of each partition there is one of these, and of most no batch: so it is kept to 16 bytes. */
struct part {
    uint64_t start : 56; /* 2,000 years at a million messages a second */
    uint64_t family : 8; /* enum store_family */
    struct ring *ring;   /* NULL: none */
};
_Static_assert(sizeof(struct part) == 16 && FAM_COUNT <= 256, "of 100,000 partitions there are 100,000");

struct tail {
    pthread_mutex_t lock;
    struct table parts; /* by the partition's id */
    struct list ages;
    size_t bytes, bytes_max;
};

struct tail *tail_new(size_t bytes_max)
{
    struct tail *t = mem_zalloc(sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    list_init(&t->ages);
    t->bytes_max = bytes_max;
    return t;
}

static size_t part_n(const struct part *p) { return p->ring != NULL ? p->ring->n : 0; }
static struct kept *ring_at(const struct ring *r, size_t i) { return r->at[(r->first + i) & (r->cap - 1)]; }

static struct ring *ring_new(const struct ring *old)
{
    enum { CAP_MIN = 4 };
    uint32_t cap = old != NULL ? 2 * old->cap : CAP_MIN;
    struct ring *r = mem_alloc(sizeof *r + cap * sizeof r->at[0]);
    *r = (struct ring){.n = old != NULL ? old->n : 0, .cap = cap};
    for (uint32_t i = 0; i < r->n; i++)
        r->at[i] = ring_at(old, i);
    return r;
}

static void part_push(struct part *p, struct kept *k)
{
    struct ring *r = p->ring;
    if (r == NULL || r->n == r->cap) {
        p->ring = ring_new(r);
        mem_free(r);
        r = p->ring;
    }
    r->at[(r->first + r->n++) & (r->cap - 1)] = k;
}

/* The oldest batch of a partition goes. */
static void part_drop_first(struct tail *t, struct part *p)
{
    struct ring *r = p->ring;
    struct kept *k = ring_at(r, 0);
    r->first++;
    if (--r->n == 0) {
        mem_free(r);
        p->ring = NULL;
    }
    list_remove(&k->by_age);
    t->bytes -= k->bytes;
    ref_drop(k->b.hold);
    mem_free(k);
}

static void part_free(struct tail *t, struct part *p)
{
    while (part_n(p) > 0)
        part_drop_first(t, p);
    mem_free(p);
}

void tail_free(struct tail *t)
{
    if (t == NULL)
        return;
    struct part *p;
    for (uint64_t id = 0; (p = table_from(&t->parts, &id)) != NULL; id++)
        part_free(t, p);
    table_free(&t->parts);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

void tail_partition(struct tail *t, const struct effect_partition *fx)
{
    pthread_mutex_lock(&t->lock);
    struct part *p = table_get(&t->parts, fx->partition);
    if (fx->gone && p != NULL) {
        table_del(&t->parts, fx->partition);
        part_free(t, p);
    } else if (!fx->gone) {
        if (p == NULL) {
            p = mem_zalloc(sizeof *p);
            table_put(&t->parts, fx->partition, p);
        }
        p->family = fx->family;
        p->start = fx->start & (UINT64_MAX >> 8);
    }
    pthread_mutex_unlock(&t->lock);
}

void tail_add(struct tail *t, const struct effect_append *a)
{
    struct kept *k = mem_alloc(sizeof *k);
    *k = (struct kept){.base_offset = a->base_offset, .last_offset = a->last_offset};
    memcpy(k->b.header, a->header, STORED_HEADER_SIZE);
    /* bytes that nobody holds for us are copied, and so is a batch that fills little of a large buffer */
    bool copied = a->hold == NULL || a->hold->size > 2 * a->batch.size + 4096;
    k->b.hold = copied ? ref_new_copy(a->batch.data, a->batch.size) : ref_take(a->hold);
    k->b.batch = copied ? ref_view(k->b.hold) : a->batch;
    k->bytes = sizeof *k + k->b.hold->size;
    pthread_mutex_lock(&t->lock);
    struct part *p = table_get(&t->parts, a->partition);
    if (p == NULL) { /* deleted in the same turn */
        ref_drop(k->b.hold);
        mem_free(k);
    } else {
        k->part = p;
        t->bytes += k->bytes;
        list_push_back(&t->ages, &k->by_age);
        part_push(p, k);
        while (t->bytes > t->bytes_max) /* the oldest of all is the oldest of its partition */
            part_drop_first(t, container_of(list_first(&t->ages), struct kept, by_age)->part);
    }
    pthread_mutex_unlock(&t->lock);
}

void tail_forget(struct tail *t, const struct effect_compacted *c)
{
    pthread_mutex_lock(&t->lock);
    struct part *p = table_get(&t->parts, c->partition);
    while (p != NULL && part_n(p) > 0 && ring_at(p->ring, 0)->base_offset <= c->last_offset)
        part_drop_first(t, p);
    pthread_mutex_unlock(&t->lock);
}

size_t tail_bytes(struct tail *t)
{
    pthread_mutex_lock(&t->lock);
    size_t bytes = t->bytes;
    pthread_mutex_unlock(&t->lock);
    return bytes;
}

bool tail_lookup(struct tail *t, uint32_t partition, enum store_family *family, uint64_t *start)
{
    pthread_mutex_lock(&t->lock);
    const struct part *p = table_get(&t->parts, partition);
    if (p != NULL) {
        *family = p->family;
        *start = p->start;
    }
    pthread_mutex_unlock(&t->lock);
    return p != NULL;
}

/* The batch that holds `from`, by its place; r->n: it is not here. */
static size_t ring_find(const struct ring *r, uint64_t from)
{
    if (from < ring_at(r, 0)->base_offset)
        return r->n;
    size_t low = 0, high = r->n; /* the first that ends at or behind `from` */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (ring_at(r, mid)->last_offset < from + PLANTED(tail_skips))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

size_t tail_take(struct tail *t, uint32_t partition, uint64_t from, struct tail_batch *out, size_t n)
{
    size_t taken = 0;
    pthread_mutex_lock(&t->lock);
    const struct part *p = table_get(&t->parts, partition);
    const struct ring *r = p != NULL ? p->ring : NULL;
    for (size_t i = r != NULL ? ring_find(r, from) : 0; r != NULL && i < r->n && taken < n; i++) {
        out[taken] = ring_at(r, i)->b;
        ref_take(out[taken++].hold);
    }
    pthread_mutex_unlock(&t->lock);
    return taken;
}

bool tail_has(struct tail *t, uint32_t partition, uint64_t from, uint64_t to, size_t most, size_t *bytes)
{
    *bytes = 0;
    if (from >= to)
        return true;
    pthread_mutex_lock(&t->lock);
    const struct part *p = table_get(&t->parts, partition);
    const struct ring *r = p != NULL ? p->ring : NULL;
    bool whole = false;
    for (size_t i = r != NULL ? ring_find(r, from) : 0; r != NULL && i < r->n && !whole && *bytes <= most; i++) {
        const struct kept *k = ring_at(r, i);
        *bytes += k->b.batch.size;
        whole = k->last_offset + 1 >= to;
    }
    pthread_mutex_unlock(&t->lock);
    return whole && *bytes <= most;
}
