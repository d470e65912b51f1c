/* The end of the logs in memory: see tail.h. */
#include "broker/tail.h"

#include <pthread.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/planted.h"
#include "schemas/stored.h"

struct kept {
    struct list_node by_age; /* in tail.ages, oldest first */
    struct part *part;
    uint64_t base_offset, last_offset;
    size_t bytes;
    struct tail_batch b;
};

/* The batches of a partition ascend, and their oldest goes first: a ring, in which a reader finds its place by halving. */
struct part {
    enum store_family family;
    uint64_t start;
    struct kept **ring;
    size_t first, n, cap; /* cap: 0 or a power of two */
};

struct tail {
    pthread_mutex_t lock;
    struct map parts;
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

static struct kept *part_at(const struct part *p, size_t i) { return p->ring[(p->first + i) & (p->cap - 1)]; }

static void part_push(struct part *p, struct kept *k)
{
    if (p->n == p->cap) {
        struct kept **ring = mem_array(p->cap > 0 ? 2 * p->cap : 16, sizeof(struct kept *));
        for (size_t i = 0; i < p->n; i++)
            ring[i] = part_at(p, i);
        mem_free(p->ring);
        p->ring = ring;
        p->cap = p->cap > 0 ? 2 * p->cap : 16;
        p->first = 0;
    }
    p->ring[(p->first + p->n++) & (p->cap - 1)] = k;
}

/* The oldest batch of a partition goes. */
static void part_drop_first(struct tail *t, struct part *p)
{
    struct kept *k = part_at(p, 0);
    p->first++;
    p->n--;
    list_remove(&k->by_age);
    t->bytes -= k->bytes;
    ref_drop(k->b.hold);
    mem_free(k);
}

static void part_free(struct tail *t, struct part *p)
{
    while (p->n > 0)
        part_drop_first(t, p);
    mem_free(p->ring);
    mem_free(p);
}

void tail_free(struct tail *t)
{
    if (t == NULL)
        return;
    for (struct map_it it = map_iter(&t->parts); map_next(&it);)
        part_free(t, it.value);
    map_free(&t->parts);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

void tail_partition(struct tail *t, const struct effect_partition *fx)
{
    pthread_mutex_lock(&t->lock);
    struct part *p = map_get(&t->parts, fx->partition);
    if (fx->gone && p != NULL) {
        map_del(&t->parts, fx->partition);
        part_free(t, p);
    } else if (!fx->gone) {
        if (p == NULL) {
            p = mem_zalloc(sizeof *p);
            map_put(&t->parts, fx->partition, p);
        }
        p->family = fx->family;
        p->start = fx->start;
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
    struct part *p = map_get(&t->parts, a->partition);
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
    struct part *p = map_get(&t->parts, c->partition);
    while (p != NULL && p->n > 0 && part_at(p, 0)->base_offset <= c->last_offset)
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
    const struct part *p = map_get(&t->parts, partition);
    if (p != NULL) {
        *family = p->family;
        *start = p->start;
    }
    pthread_mutex_unlock(&t->lock);
    return p != NULL;
}

/* The batch that holds `from`, by its place; p->n: it is not here. */
static size_t part_find(const struct part *p, uint64_t from)
{
    if (p->n == 0 || from < part_at(p, 0)->base_offset)
        return p->n;
    size_t low = 0, high = p->n; /* the first that ends at or behind `from` */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (part_at(p, mid)->last_offset < from + PLANTED(tail_skips))
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
    const struct part *p = map_get(&t->parts, partition);
    for (size_t i = p != NULL ? part_find(p, from) : 0; p != NULL && i < p->n && taken < n; i++) {
        out[taken] = part_at(p, i)->b;
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
    const struct part *p = map_get(&t->parts, partition);
    bool whole = false;
    for (size_t i = p != NULL ? part_find(p, from) : 0; p != NULL && i < p->n && !whole && *bytes <= most; i++) {
        const struct kept *k = part_at(p, i);
        *bytes += k->b.batch.size;
        whole = k->last_offset + 1 >= to;
    }
    pthread_mutex_unlock(&t->lock);
    return whole && *bytes <= most;
}
