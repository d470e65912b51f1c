/*
 * From a small number to a pointer, where numbers are given out in a row and are mostly there: pages of pointers, 8 bytes a number,
 * and neighbours lie together. A page whose numbers are all gone is given back; what stays is its place, 8 bytes for 256 numbers
 * up to the highest that ever was. Only table_put takes memory. Numbers that are spread belong into a map (map.h).
 *
 * One thread. All zero is a good empty table. The table owns its pages, never what values point at; a value is never NULL.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum { TABLE_PAGE = 256 };

struct table_page {
    uint32_t used;
    void *at[TABLE_PAGE];
};

struct table {
    struct table_page **pages; /* NULL: none of its numbers is there */
    size_t pages_n;
    size_t count;
};

/* The value of a number, or NULL. */
static inline void *table_get(const struct table *t, uint32_t number)
{
    size_t page = number / TABLE_PAGE;
    return page < t->pages_n && t->pages[page] != NULL ? t->pages[page]->at[number % TABLE_PAGE] : NULL;
}

/* Sets the value (not NULL) of a number and returns the old one, or NULL if the number is new. */
void *table_put(struct table *t, uint32_t number, void *value);

/* Removes a number and returns its value, or NULL if it was not there. */
void *table_del(struct table *t, uint32_t number);

static inline size_t table_count(const struct table *t) { return t->count; }

/*
 * The value of the lowest number from `*number` on, which it then is; NULL: there is none. Visits every number once, in order:
 *
 *     for (uint64_t i = 0; (value = table_from(&t, &i)) != NULL; i++)
 *         use(i, value);
 */
void *table_from(const struct table *t, uint64_t *number);

/* Forgets all numbers and gives the pages back; `t` is a good empty table again. */
void table_free(struct table *t);

#endif
