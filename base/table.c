#include "base/table.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

static struct table_page *page_of(struct table *t, size_t page)
{
    if (page >= t->pages_n) {
        size_t n = t->pages_n != 0 ? 2 * t->pages_n : 1;
        n = n > page ? n : page + 1;
        t->pages = mem_resize(t->pages, n, sizeof *t->pages);
        memset(t->pages + t->pages_n, 0, (n - t->pages_n) * sizeof *t->pages);
        t->pages_n = n;
    }
    if (t->pages[page] == NULL)
        t->pages[page] = mem_zalloc(sizeof *t->pages[page]);
    return t->pages[page];
}

void *table_put(struct table *t, uint32_t number, void *value)
{
    assert(value != NULL);
    struct table_page *p = page_of(t, number / TABLE_PAGE);
    void *old = p->at[number % TABLE_PAGE];
    p->at[number % TABLE_PAGE] = value;
    if (old == NULL) {
        p->used++;
        t->count++;
    }
    return old;
}

void *table_del(struct table *t, uint32_t number)
{
    void *old = table_get(t, number);
    if (old == NULL)
        return NULL;
    struct table_page **p = &t->pages[number / TABLE_PAGE];
    (*p)->at[number % TABLE_PAGE] = NULL;
    t->count--;
    if (--(*p)->used == 0) {
        mem_free(*p);
        *p = NULL;
    }
    return old;
}

void *table_from(const struct table *t, uint64_t *number)
{
    for (uint64_t i = *number; i / TABLE_PAGE < t->pages_n; i++) {
        const struct table_page *p = t->pages[i / TABLE_PAGE];
        if (p == NULL) {
            i |= TABLE_PAGE - 1; /* the last of its page */
            continue;
        }
        if (p->at[i % TABLE_PAGE] != NULL) {
            *number = i;
            return p->at[i % TABLE_PAGE];
        }
    }
    return NULL;
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->pages_n; i++)
        mem_free(t->pages[i]);
    mem_free(t->pages);
    *t = (struct table){0};
}
