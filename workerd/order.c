#include "workerd/order.h"

#include "base/hash.h"
#include "base/mem.h"

struct order_line {
    uint64_t hash;
    struct list tasks; /* by `in_line` */
};

void order_free(struct order *o)
{
    assert(map_count(&o->lines) == 0);
    map_free(&o->lines);
}

void order_add(struct order *o, struct task *t)
{
    if (!t->ordered || t->key.data == NULL)
        return;
    uint64_t hash = hash_bytes(t->key.data, t->key.size, 0);
    struct order_line *l = map_get(&o->lines, hash);
    if (l == NULL) {
        l = mem_zalloc(sizeof *l);
        l->hash = hash;
        list_init(&l->tasks);
        map_put(&o->lines, hash, l);
    }
    t->line = l;
    list_push_back(&l->tasks, &t->in_line);
}

void order_remove(struct order *o, struct task *t)
{
    struct order_line *l = t->line;
    if (l == NULL)
        return;
    list_remove(&t->in_line);
    t->line = NULL;
    if (!list_empty(&l->tasks))
        return;
    map_del(&o->lines, l->hash);
    mem_free(l);
}

struct task *order_before(const struct task *t)
{
    if (t->line == NULL || list_first(&t->line->tasks) == &t->in_line)
        return NULL;
    return container_of(t->in_line.prev, struct task, in_line);
}

struct task *order_last(const struct task *t)
{
    return t->line != NULL ? container_of(list_last(&t->line->tasks), struct task, in_line) : NULL;
}
