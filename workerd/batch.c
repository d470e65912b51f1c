#include "workerd/batch.h"

#include <assert.h>

#include "workerd/order.h"

size_t batch_bytes_of(const struct task *t)
{
    return t->key.size + t->value.size + t->headers.size + t->state.size;
}

static bool picked(const struct batch *b, const struct task *t)
{
    for (size_t i = b->n; i > 0; i--) {
        if (b->tasks[i - 1] == t)
            return true;
    }
    return false;
}

static bool left_out(const struct batch *b, const struct task *t)
{
    return b->is_for != NULL && !b->is_for(b->of, t);
}

/* Whether it may go to `to` behind those that are picked. */
static bool may_go(const struct batch *b, const struct task *t, const struct child *to)
{
    const struct task *before = order_before(t);
    return before == NULL || (before->child != NULL && before->child == to && !b->several) ||
           (before->child == NULL && picked(b, before));
}

static struct task *task_at(struct list_node *n)
{
    return container_of(n, struct task, place);
}

/* Who takes single tasks has no other way to keep the order in what was one call, of a version of before. */
static bool was_called_with(const struct batch *b, const struct task *t)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->tasks[i]->call == t->call)
            return true;
    }
    return false;
}

/* All that are suspects with `t`, or none if one of them may not go. */
static void pick_suspects(const struct list *waiting, const struct task *t, const struct child *to,
                          struct batch *b)
{
    LIST_EACH (n, waiting) {
        if (task_at(n)->suspects != t->suspects || left_out(b, task_at(n)))
            continue;
        if (b->singles && was_called_with(b, task_at(n)))
            continue;
        if (!may_go(b, task_at(n), to)) {
            b->n = 0;
            return;
        }
        b->tasks[b->n++] = task_at(n);
    }
    b->full = true;
}

static void pick_more(const struct list *waiting, struct list_node *first, const struct batch_limits *l,
                      const struct child *to, struct batch *b)
{
    uint64_t bytes = 0;
    for (struct list_node *n = first; n != NULL; n = list_after(waiting, n)) {
        struct task *t = task_at(n);
        if (t->suspects != 0 || left_out(b, t) || !may_go(b, t, to))
            continue;
        bytes += batch_bytes_of(t);
        if (b->n > 0 && bytes > l->bytes) {
            b->full = true;
            return;
        }
        b->tasks[b->n++] = t;
        if (b->n == l->max || bytes >= l->bytes) {
            b->full = true;
            return;
        }
    }
}

/* The first that may go, all of them. */
static void pick_first_suspects(const struct list *waiting, const struct child *to, struct batch *b)
{
    for (struct list_node *n = list_first(waiting); n != NULL && b->n == 0; n = list_after(waiting, n)) {
        if (task_at(n)->suspects != 0 && !left_out(b, task_at(n)))
            pick_suspects(waiting, task_at(n), to, b);
    }
}

/* The next call of all that wait, in their order. */
static void pick_next(const struct list *waiting, const struct batch_limits *l, const struct child *to, struct batch *b)
{
    for (struct list_node *n = list_first(waiting); n != NULL && b->n == 0; n = list_after(waiting, n)) {
        if (left_out(b, task_at(n)))
            continue;
        if (task_at(n)->suspects == 0 && may_go(b, task_at(n), to))
            pick_more(waiting, n, l, to, b);
        else if (task_at(n)->suspects != 0 && !b->several)
            pick_suspects(waiting, task_at(n), to, b);
    }
}

void batch_pick(const struct list *waiting, const struct batch_limits *l, const struct child *to,
                struct batch *b)
{
    b->n = 0;
    b->full = b->alone = false;
    b->due_ms = UINT64_MAX;
    if (b->several && !b->others)
        pick_first_suspects(waiting, to, b);
    b->alone = b->n > 0 && !b->idle;
    if (b->alone)
        b->n = 0;
    else if (b->n == 0)
        pick_next(waiting, l, to, b);
    if (b->n > 0 && !b->full)
        b->due_ms = b->tasks[0]->came_ms + l->window_ms;
}

/* So many of them, from the first on, are of its call. */
static size_t of_first_call(struct task *const *tasks, size_t n)
{
    size_t same = 1;
    while (same < n && tasks[same]->call == tasks[0]->call)
        same++;
    return same;
}

size_t batch_call(struct task **tasks, size_t n, bool singles)
{
    size_t found = 1;
    for (size_t i = 1; i < n && !singles; i++) {
        struct task *t = tasks[i];
        if (t->call != tasks[0]->call)
            continue;
        for (size_t at = i; at > found; at--)
            tasks[at] = tasks[at - 1];
        tasks[found++] = t;
    }
    return found;
}

void batch_halve(struct task *const *tasks, size_t n, uint32_t *last)
{
    assert(n >= 2);
    uint32_t first = ++*last, second = ++*last;
    size_t calls = 0, seen = 0, half = (n + 1) / 2;
    for (size_t i = 0; i < n; i += of_first_call(tasks + i, n - i))
        calls++;
    if (calls > 1) {
        half = 0;
        for (; seen < (calls + 1) / 2; seen++)
            half += of_first_call(tasks + half, n - half);
    }
    for (size_t i = 0; i < n; i++)
        tasks[i]->suspects = i < half ? first : second;
}

/* ---- those that were found ---- */

void batch_found_add(struct batch_found *f, const struct task *t)
{
    if (batch_found_has(f, t))
        return;
    size_t at = f->n++ % BATCH_FOUND_MAX;
    f->places[at].offset = t->offset;
    f->places[at].partition = t->partition;
}

bool batch_found_has(const struct batch_found *f, const struct task *t)
{
    for (size_t i = 0; i < f->n && i < BATCH_FOUND_MAX; i++) {
        if (f->places[i].offset == t->offset && f->places[i].partition == t->partition)
            return true;
    }
    return false;
}
