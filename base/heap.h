/*
 * What is due first: a 4-ary min-heap of nodes embedded in the caller's structs, ordered by (due, seq).
 *
 * `due` is usually a time, `seq` decides among equals: pass heap_seq() for order of insertion, or a
 * number that means something, such as an offset. Equal pairs come out in an order that depends
 * only on the history of calls. A node knows its place, so removing or moving any node is O(log n);
 * peeking is O(1).
 *
 * One thread. All zero is a good empty heap and a good node outside any heap. The heap owns its
 * array, never a node.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct heap_node {
    uint64_t due;
    uint64_t seq;
    size_t place; /* 1 + index in the heap's array; 0: in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count;
    size_t cap;
    uint64_t last_seq;
};

/* A number greater than every one returned before: as seq it keeps order of insertion. */
uint64_t heap_seq(struct heap *h);

/* Puts a node that is in no heap. */
void heap_push(struct heap *h, struct heap_node *n, uint64_t due, uint64_t seq);

/* The first node, which stays; NULL if there is none. */
struct heap_node *heap_peek(const struct heap *h);

/* Takes the first node out; NULL if there is none. */
struct heap_node *heap_pop(struct heap *h);

/* Takes out a node of this heap. */
void heap_remove(struct heap *h, struct heap_node *n);

/* Gives a node of this heap a new place in the order. */
void heap_update(struct heap *h, struct heap_node *n, uint64_t due, uint64_t seq);

/* Whether the node is in this heap. */
bool heap_contains(const struct heap *h, const struct heap_node *n);

/* Gives the array back; `h` is a good empty heap again. Nodes that were still in it are not
   touched: they may be gone. */
void heap_free(struct heap *h);

#endif
