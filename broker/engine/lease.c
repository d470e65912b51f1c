/* Leases: who holds which messages until when.
 *
 * One grant, one row: the messages of one group that one receive got. A token says which grant a settle speaks of, and is good until
 * the message is granted again, parked or done; so a late settle of the same holder still counts. Leases belong to a session.
 * After a restart they begin a full new term.
 */
#include "engine/memory.h"
#include "base/planted.h"

struct lease *lease_new(struct engine *en, struct group *g, struct session *s, uint64_t token)
{
    struct lease *l = mem_zalloc(sizeof *l);
    l->token = token;
    l->group = g;
    l->session = s;
    list_init(&l->entries);
    map_put(&g->leases, token, l);
    list_push_back(&s->leases, &l->of_session);
    mark_dirty(&en->dirty_leases, &l->dirty);
    return l;
}

void lease_free(struct engine *en, struct lease *l)
{
    if (l->session != NULL)
        l->session->leased -= l->entries_n;
    timer_clear(en, &l->timer);
    list_remove(&l->of_session);
    list_remove(&l->dirty);
    mem_free(l);
}

void lease_take(struct engine *en, struct lease *l, struct entry *e, uint64_t expires_ms)
{
    e->state = ENTRY_LEASED;
    e->lease = l;
    e->lease_until_ms = expires_ms - 1000 * PLANTED(double_lease);
    list_push_back(&l->entries, &e->link);
    l->entries_n++;
    l->group->leased++;
    lag_changed(en, l->group);
    quota_leased(l->session);
    mark_dirty(&en->dirty_leases, &l->dirty);
}

void lease_leave(struct engine *en, struct entry *e)
{
    struct lease *l = e->lease;
    assert(e->state == ENTRY_LEASED);
    limit_left(en, e);
    list_remove(&e->link);
    e->lease = NULL;
    l->entries_n--;
    l->group->leased--;
    lag_changed(en, l->group);
    if (l->session != NULL)
        quota_settled(en, l->session);
    mark_dirty(&en->dirty_leases, &l->dirty);
    group_stir(en, l->group);
}

static void lease_expire(struct engine *en, struct timer *t)
{
    struct lease *l = container_of(t, struct lease, timer);
    for (struct list_node *n = list_first(&l->entries); n != NULL;) {
        struct entry *e = container_of(n, struct entry, link);
        n = list_after(&l->entries, n);
        if (e->lease_until_ms > en->now.mono_ms)
            continue;
        while (n != NULL && e->key != NULL && container_of(n, struct entry, link)->key == e->key)
            n = list_after(&l->entries, n); /* those behind it in its run go with it */
        if (key_run_before(e) != NULL) {
            key_run_return(en, e);
            continue;
        }
        en->counters.expired_leases++;
        entry_failed(en, e, 0, VIEW_LIT("lease expired"), (struct view){0});
    }
    lease_arm(en, l);
}

/* An entry expires at `ms` from now on. A timer that is early is set again when it fires: so extending a lease of many messages one by
 * one does not look at all of them each time. */
void lease_sooner(struct engine *en, struct lease *l, uint64_t ms)
{
    if (!heap_contains(&en->timers, &l->timer.node) || ms < l->timer.node.due)
        timer_set(en, &l->timer, ms, lease_expire);
}

void lease_extend(struct engine *en, struct entry *e, uint64_t until_ms)
{
    e->lease_until_ms = until_ms;
    lease_sooner(en, e->lease, until_ms);
    if (e->key == NULL)
        return;
    const struct key_queue *k = e->key;
    struct list_node *n = k->head == e ? list_first(&k->run) : list_after(&k->run, &e->of_key);
    for (; n != NULL; n = list_after(&k->run, n)) {
        struct entry *behind = container_of(n, struct entry, of_key);
        if (behind->lease_until_ms >= until_ms)
            return;
        behind->lease_until_ms = until_ms;
    }
}

/* The timer stands at the first expiry among the entries. */
void lease_arm(struct engine *en, struct lease *l)
{
    uint64_t first = UINT64_MAX;
    LIST_EACH (n, &l->entries) {
        const struct entry *e = container_of(n, struct entry, link);
        if (e->lease_until_ms < first)
            first = e->lease_until_ms;
    }
    if (first == UINT64_MAX || PLANTED(lease_never_over))
        timer_clear(en, &l->timer);
    else
        timer_set(en, &l->timer, first, lease_expire);
}

/* At the end of a turn: what is left of the lease, or nothing. */
void lease_write(struct engine *en, struct lease *l)
{
    struct key k = key_lease(l->group->id, l->token);
    if (l->entries_n == 0) {
        if (!PLANTED(lease_row_kept))
            row_remove(en, FAM_LEASES, &k);
        map_del(&l->group->leases, l->token);
        lease_free(en, l);
        return;
    }
    struct lease_entry *rows = mem_array(l->entries_n, sizeof *rows);
    uint32_t n = 0;
    LIST_EACH (node, &l->entries) {
        const struct entry *e = container_of(node, struct entry, link);
        rows[n++] = (struct lease_entry){.partition = e->part->partition->id, .offset = e->offset, .key_hash = e->key_hash,
                                         .has_key = e->has_key, .size = e->size, .grants = e->grants, .failures = e->failures,
                                         .priority = e->priority, .expires_ms = e->ttl_until_ms};
    }
    buf_clear(&en->row);
    lease_row_put(&en->row, &(struct lease_row){.session = l->session != NULL ? l->session->id : (struct id128){0},
                                                .slot = l->slot, .lease_ms = l->lease_ms, .counter = l->counter,
                                                .granted_ms = l->granted_ms, .entries = rows, .entries_n = n});
    if (!PLANTED(lease_row_lost))
        row_put(en, FAM_LEASES, &k);
    mem_free(rows);
}

enum { RETURNED_PER_TURN = 4096 };

bool leases_return(struct engine *en, struct session *s)
{
    uint64_t before = s->leased;
    if (PLANTED(leases_not_returned))
        return true;
    LIST_EACH (n, &s->leases) {
        struct lease *l = container_of(n, struct lease, of_session);
        for (struct list_node *m; (m = list_first(&l->entries)) != NULL;) {
            if (before - s->leased >= RETURNED_PER_TURN)
                return false;
            en->counters.returned_leases++;
            entry_retry(en, container_of(m, struct entry, link), 0); /* the rest of its run goes with it */
        }
    }
    return true;
}
