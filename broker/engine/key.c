/* The head of a key, its run and its front.
 *
 *     head ──> run: leased together with it ──> front: entries with rows, sorted ──> list: positions in rows (keylist.c)
 *
 * A key has one head, and only the head goes out. What comes back while it has one waits in the front, in memory: redriven messages,
 * and heads that are younger than those. So the front is small. Everything in it has a row of its own, and so has the head of a key
 * with a front: that is how a restart tells them from what stands in the list, and from the one ready head that has no row.
 *
 * Where a group allows runs, the next of the key are leased together with the head, as one lease and in order. The head is the first that is
 * not settled; when it fails or is given back, the rest of the run was not begun, and goes to the front.
 *
 * The one ready head that has no row is found again by the scan. A redriven message whose partition is being scanned again does not go before the scan is
 * through: what it would pass might be older than the list behind it. Until then its key is `unsure`.
 */
#include "engine/memory.h"
#include "base/planted.h"

struct key_queue *key_queue_get(struct group *g, uint64_t hash, bool make)
{
    struct key_queue *k = map_get(&g->keys, hash);
    if (k == NULL && make) {
        k = mem_zalloc(sizeof *k);
        k->group = g;
        k->hash = hash;
        list_init(&k->run);
        list_init(&k->front);
        map_put(&g->keys, hash, k);
    }
    return k;
}

void key_queue_free(struct engine *en, struct key_queue *k)
{
    timer_clear(en, &k->timer);
    list_remove(&k->dirty);
    list_remove(&k->unsure);
    buf_free(&k->first_bytes);
    buf_free(&k->last_bytes);
    mem_free(k->members);
    mem_free(k);
}

void key_forget(struct engine *en, struct key_queue *k)
{
    map_del(&k->group->keys, k->hash);
    key_queue_free(en, k);
}

/* ---------------------------------------------------------------- the front */

static bool older(const struct entry *a, const struct entry *b)
{
    uint32_t p = a->part->partition->id, q = b->part->partition->id;
    return p != q ? p < q : a->offset < b->offset;
}

static struct entry *front_first(const struct key_queue *k)
{
    struct list_node *n = list_first(&k->front);
    return n != NULL ? container_of(n, struct entry, of_key) : NULL;
}

void key_front_add(struct entry *e)
{
    struct list_node *end = &e->key->front.head, *at = end;
    while (at->prev != end && older(e, container_of(at->prev, struct entry, of_key)))
        at = at->prev;
    list_insert_before(at, &e->of_key);
}

static void wait_in_front(struct entry *e)
{
    e->state = ENTRY_WAITING;
    e->part->group->waiting++;
    key_front_add(e);
}

/* The first of the front is the head. What waits for its own time, or blocks, goes on doing so. */
static void head_from_front(struct engine *en, struct key_queue *k)
{
    struct entry *e = front_first(k);
    list_remove(&e->of_key);
    k->head = e;
    if (e->state != ENTRY_WAITING) {
        mark_dirty(&en->dirty_keys, &k->dirty); /* it may go away now */
        return;
    }
    k->group->waiting--;
    entry_ready(en, e);
}

static void step_down(struct engine *en, struct entry *h)
{
    entry_stand(en, h);
    if (h->state == ENTRY_READY) {
        entry_unready(en, h);
        wait_in_front(h);
    } else if (h->state == ENTRY_THROTTLED) {
        h->part->group->throttled--;
        wait_in_front(h);
    } else {
        key_front_add(h);
    }
}

bool key_place(struct engine *en, struct entry *e)
{
    struct key_queue *k = e->key;
    if (k->members_n > 0)
        away_key_back(en, k);
    struct entry *h = k->head;
    struct group_part *rescanned;
    if (h != NULL && h->state != ENTRY_LEASED && older(e, h)) {
        step_down(en, h);
        h = NULL;
    } else if (h != NULL) {
        entry_stand(en, h);
    } else if (e->redriven && (rescanned = key_rescanned(k)) != NULL) {
        mark_dirty(&rescanned->unsure, &k->unsure);
        return false;
    } else if (!list_empty(&k->front) && older(front_first(k), e)) {
        head_from_front(en, k);
        return false;
    }
    if (h == NULL)
        k->head = e;
    return h == NULL;
}

void key_enter(struct engine *en, struct entry *e)
{
    if (key_place(en, e))
        entry_ready(en, e);
    else
        wait_in_front(e);
}

bool key_yields(const struct entry *e)
{
    const struct entry *first = e->key != NULL && e->key->head == e ? front_first(e->key) : NULL;
    return first != NULL && older(first, e);
}

void key_yield(struct engine *en, struct entry *e)
{
    key_front_add(e);
    head_from_front(en, e->key);
}

void key_take(struct engine *en, struct entry *e)
{
    struct key_queue *k = e->key;
    if (k->head != NULL && k->head->state == ENTRY_LEASED) {
        list_push_back(&k->run, &e->of_key);
        return;
    }
    if (k->head != NULL)
        step_down(en, k->head);
    k->head = e;
}

/* ---------------------------------------------------------------- the run */

struct entry *key_run_next(struct engine *en, struct key_queue *k, uint64_t bytes_max)
{
    struct group *g = k->group;
    struct entry *e = front_first(k);
    if (e != NULL) {
        if (e->state != ENTRY_WAITING || e->size > bytes_max || entry_passed(en, e) || entry_worn(e))
            return NULL;
        list_remove(&e->of_key);
        g->waiting--;
    } else {
        struct list_position p;
        if (!key_list_next(en, k, &p) || p.size > bytes_max || (p.expires_ms != 0 && p.expires_ms <= en->wall_ms))
            return NULL;
        e = key_list_take(en, k, &p);
    }
    list_push_back(&k->run, &e->of_key);
    return e;
}

struct entry *key_run_before(const struct entry *e)
{
    struct key_queue *k = e->key;
    if (e->state != ENTRY_LEASED || k == NULL || k->head == e)
        return NULL;
    struct list_node *n = e->of_key.prev;
    return n == &k->run.head ? k->head : container_of(n, struct entry, of_key);
}

static void give_back(struct engine *en, struct entry *e)
{
    list_remove(&e->of_key);
    lease_leave(en, e);
    e->grants -= e->grants > 0;
    e->token = 0;
    entry_row_write(en, e);
    wait_in_front(e);
}

void key_run_cut(struct engine *en, struct entry *e)
{
    struct key_queue *k = e->key;
    if (e->state != ENTRY_LEASED || k == NULL || PLANTED(run_goes_on))
        return;
    struct list_node *n = k->head == e ? list_first(&k->run) : list_after(&k->run, &e->of_key);
    for (struct list_node *next; n != NULL; n = next) {
        next = list_after(&k->run, n);
        give_back(en, container_of(n, struct entry, of_key));
    }
}

void key_run_return(struct engine *en, struct entry *e)
{
    key_run_cut(en, e);
    give_back(en, e);
}

/* ---------------------------------------------------------------- going on */

static bool key_empty(const struct key_queue *k)
{
    return k->head == NULL && list_empty(&k->front) && k->list.count == 0 && k->leased == 0;
}

void key_settle(struct engine *en, struct key_queue *k)
{
    if (k->members_n > 0)
        mark_dirty(&en->dirty_keys, &k->dirty); /* it goes with the turn */
    else if (key_empty(k) && !flow_remembers(en, k))
        key_forget(en, k);
}

void key_advance(struct engine *en, struct group *g, struct key_queue *k)
{
    struct list_node *n = list_pop_front(&k->run);
    k->head = n != NULL ? container_of(n, struct entry, of_key) : NULL;
    if (k->head != NULL)
        return; /* it is leased already */
    if (!list_empty(&k->front) && !(PLANTED(front_passed_over) && k->list.count > 0))
        head_from_front(en, k);
    else if (k->list.count > 0)
        key_head_from_list(en, g, k);
    if (k->head == NULL) /* nothing of it is left */
        key_settle(en, k);
}

void key_left(struct engine *en, struct key_queue *k, const struct entry *e)
{
    if (k->head == e)
        key_advance(en, k->group, k);
    else
        key_settle(en, k);
}

static void sure(struct engine *en, struct group *g, struct list *keys)
{
    for (struct list_node *n; (n = list_pop_front(keys)) != NULL;) {
        struct key_queue *k = container_of(n, struct key_queue, unsure);
        if (k->head == NULL && k->members_n == 0)
            key_advance(en, g, k);
    }
}

void keys_sure(struct engine *en, struct group_part *p)
{
    struct group *g = p->group;
    sure(en, g, &p->unsure);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        if (part_rescans(g->parts[i]))
            return;
    sure(en, g, &g->headless);
}
