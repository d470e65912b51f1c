/*
 * A doubly linked list of nodes embedded in the caller's structs. The list is a ring through its
 * head, so no operation has a special case at the ends.
 *
 * One thread. A list is made with list_init; a node that is all zero is in no list, and is so again
 * after list_remove.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct list_node {
    struct list_node *prev;
    struct list_node *next; /* NULL: in no list */
};

struct list {
    struct list_node head;
};

static inline void list_init(struct list *l)
{
    l->head.prev = l->head.next = &l->head;
}

static inline bool list_empty(const struct list *l)
{
    return l->head.next == &l->head;
}

/* Whether the node is in some list. */
static inline bool list_linked(const struct list_node *n)
{
    return n->next != NULL;
}

/* Puts `n`, which is in no list, in front of `at`, which is in one. */
static inline void list_insert_before(struct list_node *at, struct list_node *n)
{
    assert(!list_linked(n));
    n->prev = at->prev;
    n->next = at;
    at->prev->next = n;
    at->prev = n;
}

static inline void list_push_back(struct list *l, struct list_node *n)
{
    list_insert_before(&l->head, n);
}

static inline void list_push_front(struct list *l, struct list_node *n)
{
    list_insert_before(l->head.next, n);
}

/* Takes a node out of whatever list it is in; if it is in none, does nothing. */
static inline void list_remove(struct list_node *n)
{
    if (!list_linked(n))
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}

/* The first and the last node, or NULL. */
static inline struct list_node *list_first(const struct list *l)
{
    return list_empty(l) ? NULL : l->head.next;
}

static inline struct list_node *list_last(const struct list *l)
{
    return list_empty(l) ? NULL : l->head.prev;
}

/* The node after `n` in `l`, or NULL. */
static inline struct list_node *list_after(const struct list *l, const struct list_node *n)
{
    return n->next == &l->head ? NULL : n->next;
}

/* Takes the first node out, or NULL. */
static inline struct list_node *list_pop_front(struct list *l)
{
    struct list_node *n = list_first(l);
    if (n != NULL)
        list_remove(n);
    return n;
}

/* Moves all nodes of `from` behind those of `to`; `from` is then empty. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->head.next->prev = to->head.prev;
    to->head.prev->next = from->head.next;
    from->head.prev->next = &to->head;
    to->head.prev = from->head.prev;
    list_init(from);
}

/* `LIST_EACH (n, &l)`: visits every node; the visited one must stay in the list. */
#define LIST_EACH(n, l) for (struct list_node *n = (l)->head.next; n != &(l)->head; n = n->next)

/* As LIST_EACH; the visited node, and only it, may be taken out and freed. */
#define LIST_EACH_SAFE(n, l)                                                         \
    for (struct list_node *n = (l)->head.next, *n##_next = n->next; n != &(l)->head; \
         n = n##_next, n##_next = n->next)

#endif
