#include "base/heap.h"

#include <assert.h>

#include "base/mem.h"

/*
 * The children of index i are 4i+1 .. 4i+4. Four, not two: the tree is half as deep and the
 * children lie side by side. Invariants: no node is before its parent; nodes[i]->place == i + 1.
 */
enum { WAYS = 4, CAP_MIN = 16 };

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void set(struct heap *h, size_t at, struct heap_node *n)
{
    h->nodes[at] = n;
    n->place = at + 1;
}

/* Moves `n`, which may go to the hole `at`, towards the root as far as the order asks. */
static void rise(struct heap *h, size_t at, struct heap_node *n)
{
    while (at > 0) {
        size_t parent = (at - 1) / WAYS;
        if (!before(n, h->nodes[parent]))
            break;
        set(h, at, h->nodes[parent]);
        at = parent;
    }
    set(h, at, n);
}

/* Moves `n`, which may go to the hole `at`, towards the leaves as far as the order asks. */
static void sink(struct heap *h, size_t at, struct heap_node *n)
{
    for (;;) {
        size_t child = WAYS * at + 1;
        if (child >= h->count)
            break;
        size_t end = child + WAYS < h->count ? child + WAYS : h->count;
        size_t least = child;
        while (++child < end) {
            if (before(h->nodes[child], h->nodes[least]))
                least = child;
        }
        if (!before(h->nodes[least], n))
            break;
        set(h, at, h->nodes[least]);
        at = least;
    }
    set(h, at, n);
}

static void settle(struct heap *h, size_t at, struct heap_node *n)
{
    if (at > 0 && before(n, h->nodes[(at - 1) / WAYS]))
        rise(h, at, n);
    else
        sink(h, at, n);
}

static void set_cap(struct heap *h, size_t cap)
{
    h->nodes = mem_resize(h->nodes, cap, sizeof(struct heap_node *));
    h->cap = cap;
}

uint64_t heap_seq(struct heap *h)
{
    return ++h->last_seq;
}

void heap_push(struct heap *h, struct heap_node *n, uint64_t due, uint64_t seq)
{
    assert(n->place == 0);
    if (h->count == h->cap)
        set_cap(h, h->cap != 0 ? 2 * h->cap : CAP_MIN);
    n->due = due;
    n->seq = seq;
    h->count++;
    rise(h, h->count - 1, n);
}

struct heap_node *heap_peek(const struct heap *h)
{
    return h->count > 0 ? h->nodes[0] : NULL;
}

struct heap_node *heap_pop(struct heap *h)
{
    struct heap_node *n = heap_peek(h);
    if (n != NULL)
        heap_remove(h, n);
    return n;
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    assert(heap_contains(h, n));
    size_t at = n->place - 1;
    struct heap_node *last = h->nodes[--h->count];
    n->place = 0;
    if (last != n)
        settle(h, at, last);
    if (h->cap > CAP_MIN && h->count < h->cap / 8)
        set_cap(h, h->cap / 2);
}

void heap_update(struct heap *h, struct heap_node *n, uint64_t due, uint64_t seq)
{
    assert(heap_contains(h, n));
    n->due = due;
    n->seq = seq;
    settle(h, n->place - 1, n);
}

bool heap_contains(const struct heap *h, const struct heap_node *n)
{
    return n->place != 0 && n->place <= h->count && h->nodes[n->place - 1] == n;
}

void heap_free(struct heap *h)
{
    mem_free(h->nodes);
    *h = (struct heap){0};
}
