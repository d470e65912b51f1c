/* A restart: the engine's memory made again from its rows.
 *
 * Read are topics, partitions, groups with their floors and done chunks, the heads of lists of keys that were in memory, what is leased, what
 * waits for a retry that is near, sessions. None of it grows with the backlog, or with what is away. Messages that were ready and had no row are found again by the scan, which
 * begins at the row's ready_low; leases begin a full new term, sessions a new grace.
 */
#include "engine/memory.h"
#include "base/planted.h"

#include "store/sched_walk.h"

typedef int load_fn(struct engine *en, struct view key, struct view value, struct err *e);

/* Calls `fn` for every row of a family that begins with `prefix`. */
static int each_row(struct engine *en, enum store_family f, const struct key *prefix, load_fn *fn, struct err *e)
{
    struct store_iter *it = store_iter(en->store, f);
    int code = E_OK;
    for (store_iter_seek(it, key_view(prefix)); code == E_OK && store_iter_valid(it) && key_has_prefix(store_iter_key(it), prefix);
         store_iter_next(it))
        if ((code = fn(en, store_iter_key(it), store_iter_value(it), e)) != E_OK)
            row_bad(f, store_iter_key(it), e);
    if (code == E_OK)
        code = store_iter_status(it, e);
    store_iter_close(it);
    return code;
}

static int damaged(struct err *e, const char *what, uint64_t id)
{
    return err_set(e, E_DAMAGED, "%s %llu does not read", what, (unsigned long long)id);
}

/* ---------------------------------------------------------------- meta */

static int load_topic(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t id;
    struct topic_row row;
    if (!key_read_id(key, 't', &id))
        return damaged(e, "a topic's key", 0);
    int code = topic_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    row.partitions = NULL;
    topic_add(en, id, &row);
    return E_OK;
}

static int load_partition(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t id = 0;
    struct partition *p = key_read_id(key, 'p', &id) ? table_get(&en->partitions, id) : NULL;
    if (p == NULL)
        return damaged(e, "a partition without a topic:", id);
    int code = partition_row_get(value, &p->row, e);
    if (code != E_OK)
        return code;
    p->visible = p->row.end;
    p->parent = p->row.parent != 0 ? table_get(&en->partitions, p->row.parent) : NULL;
    if (p->row.parent != 0 && (p->parent == NULL || p->parent->topic != p->topic || p->parent->index >= p->index))
        return damaged(e, "the parent of partition", id);
    return E_OK;
}

static int load_trims(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t id = 0;
    struct partition *p = key_read_id(key, 'r', &id) ? table_get(&en->partitions, id) : NULL;
    return p == NULL ? damaged(e, "what was removed of a partition without a topic:", id) : retention_load_trims(p, value, e);
}

static int load_group(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t id;
    struct group_row row;
    if (!key_read_id(key, 'g', &id))
        return damaged(e, "a group's key", 0);
    int code = group_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    for (size_t i = 0; i < en->topics_n; i++)
        if (en->topics[i]->id == row.topic) {
            struct group *g = group_add(en, en->topics[i], id, &row);
            g->used_written_ms = g->used_ms;
            group_idle_load(en, g);
            return E_OK;
        }
    return damaged(e, "the topic of group", id);
}

/* Up to format 3 the header of a list was its chunk 0. */
static int move_list_headers(struct engine *en, struct err *e)
{
    struct store_iter *it = store_iter(en->store, FAM_KEYS);
    struct key from = key_list(0, 0, 0);
    int code = E_OK;
    for (store_iter_seek(it, key_view(&from)); code == E_OK && store_iter_valid(it); store_iter_seek(it, key_view(&from))) {
        uint32_t group, chunk;
        uint64_t hash;
        if (!key_read_list(store_iter_key(it), &group, &hash, &chunk) || chunk != 0) {
            code = damaged(e, "the list of a key of group", group);
            row_bad(FAM_KEYS, store_iter_key(it), e);
            break;
        }
        struct key was = key_list(group, hash, 0), is = key_list_header(group, hash);
        struct view v = store_iter_value(it);
        buf_clear(&en->row);
        buf_append(&en->row, v.data, v.size);
        row_put(en, FAM_KEYS, &is);
        row_remove(en, FAM_KEYS, &was);
        buf_append(&en->headers_moved, &is, sizeof is);
        from = key_list(group, hash, UINT32_MAX); /* over its chunks */
    }
    if (code == E_OK)
        code = store_iter_status(it, e);
    store_iter_close(it);
    return code;
}

static int load_meta(struct engine *en, struct err *e)
{
    struct key k = key_meta_format();
    struct view v;
    struct format_row format;
    int code;
    if (!row_read(en, FAM_META, &k, &v)) {
        if (en->failed.code != E_OK)
            return err_set(e, en->failed.code, "%s", en->failed.text);
        format = (struct format_row){.format = META_FORMAT, .created_ms = en->now.wall_ms,
                                     .broker = {rng_next(&en->rng), rng_next(&en->rng)}};
        buf_clear(&en->row);
        format_row_put(&en->row, &format);
        row_put(en, FAM_META, &k);
    } else if ((code = format_row_get(v, &format, e)) != E_OK) {
        return code;
    } else if (format.format < META_FORMAT) { /* its rows read as they are, but for headers of lists */
        if (format.format < 4 && (code = move_list_headers(en, e)) != E_OK)
            return code;
        format.format = META_FORMAT;
        buf_clear(&en->row);
        format_row_put(&en->row, &format);
        row_put(en, FAM_META, &k);
    }
    k = key_meta_epoch();
    if (row_read(en, FAM_META, &k, &v)) {
        struct epoch_row row;
        if ((code = epoch_row_get(v, &row, e)) != E_OK)
            return code;
        en->epoch = row.epoch;
        en->turn = row.turn;
        en->wall_ms = row.wall_ms;
        en->down_ms = en->now.wall_ms > row.wall_ms ? en->now.wall_ms - row.wall_ms : 0;
    }
    if (en->now.wall_ms > en->wall_ms) /* the wall clock never goes back, across restarts either */
        en->wall_ms = en->now.wall_ms;
    en->next = (struct next_row){1, 1, 1, 1};
    k = key_meta_next();
    if (row_read(en, FAM_META, &k, &v) && (code = next_row_get(v, &en->next, e)) != E_OK)
        return code;
    struct key topics = key_meta_prefix('t'), partitions = key_meta_prefix('p'), groups = key_meta_prefix('g'), trims = key_meta_prefix('r'), compactions = key_meta_prefix('c');
    if ((code = each_row(en, FAM_META, &topics, load_topic, e)) != E_OK ||
        (code = each_row(en, FAM_META, &partitions, load_partition, e)) != E_OK ||
        (code = each_row(en, FAM_META, &trims, load_trims, e)) != E_OK ||
        (code = each_row(en, FAM_META, &compactions, compact_load, e)) != E_OK ||
        (code = each_row(en, FAM_META, &groups, load_group, e)) != E_OK)
        return code;
    const struct partition *p;
    for (uint64_t id = 0; (p = table_from(&en->partitions, &id)) != NULL; id++)
        log_partition_publish(en, p, false);
    retention_load(en);
    uint32_t last = en->next.partition - 1;
    if (last != 0 && table_get(&en->partitions, last) == NULL) /* so that the checks know which ids there were */
        buf_append(&en->partitions_fx, &(struct effect_partition){.partition = last, .gone = true}, sizeof(struct effect_partition));
    return E_OK;
}

/* ---------------------------------------------------------------- groups */

/* The part that a row of a group speaks of; NULL: no such group or partition. */
static struct group_part *part_of(struct engine *en, uint32_t group, uint32_t partition)
{
    struct group *g = map_get(&en->groups, group);
    return g != NULL ? group_part_of(en, g, partition) : NULL;
}

static int load_cursor(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group, partition;
    struct cursor_row row;
    struct group_part *p = key_read_cursor(key, &group, &partition) ? part_of(en, group, partition) : NULL;
    if (p == NULL)
        return damaged(e, "a cursor's key", 0);
    int code = cursor_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    done_raise(&p->done, row.floor);
    p->scanned = row.cursor;
    p->cursor = row.ready_low; /* below the floor if what was to be read again is done: the engine before has not read it either */
    p->parked = row.parked;
    if (p->partition->index == 0)
        away_load(en, p->group, &row.away);
    return E_OK;
}

static int load_member(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group, number;
    struct id128 session;
    struct group *g = key_read_member(key, &group, &session, &number) ? map_get(&en->groups, group) : NULL;
    if (g == NULL || g->stream == NULL)
        return damaged(e, "a member's key", 0);
    return members_load(en, g, session, number, value, e);
}

static int load_claim(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group, partition;
    struct group_part *p = key_read_claim(key, &group, &partition) ? part_of(en, group, partition) : NULL;
    if (p == NULL || p->group->stream == NULL)
        return damaged(e, "a commit's key", 0);
    return members_load_claim(en, p, value, e);
}

static int load_done(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group, partition;
    uint64_t chunk;
    uint8_t bits[DONE_CHUNK_BYTES];
    struct group_part *p = key_read_done(key, &group, &partition, &chunk) ? part_of(en, group, partition) : NULL;
    if (p == NULL)
        return damaged(e, "a done chunk's key", 0);
    int code = done_row_get(value, bits, e);
    if (code == E_OK)
        done_load(&p->done, chunk, bits);
    return code;
}

static int load_lost(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group, partition;
    struct group_part *p = key_read_lost(key, &group, &partition) ? part_of(en, group, partition) : NULL;
    return p == NULL ? damaged(e, "the key of what a group lost", 0) : lost_load(p, value, e);
}

static int load_task(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group;
    uint64_t id;
    if (!key_read_task(key, &group, &id) || map_get(&en->groups, group) == NULL)
        return damaged(e, "a task's key", 0);
    return task_load(en, map_get(&en->groups, group), id, value, e);
}

static int load_key_header(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group;
    uint64_t hash;
    struct group *g = key_read_list_header(key, &group, &hash) ? map_get(&en->groups, group) : NULL;
    if (g == NULL)
        return damaged(e, "the list of a key of group", 0);
    struct key_queue *k = key_queue_get(g, hash, true);
    k->has_rows = k->has_header = true;
    int code = list_header_get(value, &k->list, e);
    g->behind += k->list.count;
    return code;
}

static int load_key_headers(struct engine *en, struct err *e)
{
    struct key headers = key_list_headers();
    int code = each_row(en, FAM_KEYS, &headers, load_key_header, e);
    for (size_t at = 0; code == E_OK && at < en->headers_moved.size; at += sizeof(struct key)) { /* an iterator does not see them yet */
        struct key k;
        struct view v;
        memcpy(&k, en->headers_moved.data + at, sizeof k);
        bool there = row_read(en, FAM_KEYS, &k, &v);
        assert(there);
        code = load_key_header(en, key_view(&k), v, e);
    }
    buf_free(&en->headers_moved);
    return code;
}

/* An entry that has a row of its own: the head of its key, or one of its front. */
static struct entry *entry_load(struct engine *en, struct group_part *p, uint64_t offset, bool has_key, uint64_t key_hash)
{
    struct entry *e = entry_new(en, p, offset);
    e->has_key = has_key;
    e->key_hash = key_hash;
    if (done_has(&p->done, offset))
        entry_present(e);
    e->paced = e->redriven;
    p->group->redriven += e->redriven;
    p->group->paced += e->paced;
    if (has_key && p->group->config.order == ORDER_KEY)
        e->key = key_queue_get(p->group, key_hash, true);
    return e;
}

static int load_retry(struct engine *en, struct view key, struct err *e)
{
    uint64_t due, offset;
    uint32_t group, partition;
    struct group_part *p = key_read_sched_retry(key, &due, &group, &partition, &offset) ? part_of(en, group, partition) : NULL;
    struct key k = key_held(group, partition, offset);
    struct view v;
    struct held_row row;
    if (p == NULL || !row_read(en, FAM_HELD, &k, &v))
        return en->failed.code != E_OK ? err_set(e, en->failed.code, "%s", en->failed.text) : damaged(e, "a retry's key", 0);
    int code = held_row_get(v, &row, e);
    if (code != E_OK)
        return row_bad(FAM_HELD, key_view(&k), e);
    struct entry *x = entry_load(en, p, offset, row.has_key, row.key_hash);
    x->has_row = x->has_time = true;
    x->due_ms = due;
    x->token = row.token;
    x->size = row.size;
    x->grants = row.grants;
    x->failures = row.failures;
    x->priority = priority_bounded(row.priority);
    x->ttl_until_ms = row.expires_ms;
    if (row.state != HELD_PARKED && due <= en->wall_ms) {
        if (x->key != NULL)
            key_enter(en, x);
        else
            entry_ready(en, x);
        return E_OK;
    }
    if (x->key != NULL && !key_place(en, x))
        key_front_add(x);
    if (row.state == HELD_PARKED) {
        x->state = ENTRY_BLOCKED;
        p->group->blocked++;
        entry_unpace(x);
    } else {
        entry_retry_arm(en, x, due - en->wall_ms);
    }
    entry_may_go(en, x); /* of an older version, or the window was longer */
    return E_OK;
}

static int load_retries(struct engine *en, struct err *e)
{
    struct key from = key_sched_from(0, SCHED_KIND_RETRY);
    struct sched_walk w;
    int code = E_OK;
    for (sched_walk_open(&w, en->store, SCHED_KIND_RETRY, &from); code == E_OK && sched_walk_valid(&w); sched_walk_next(&w))
        if ((code = load_retry(en, store_iter_key(w.it), e)) != E_OK)
            row_bad(FAM_SCHED, store_iter_key(w.it), e);
    if (code == E_OK)
        code = sched_walk_status(&w, e);
    sched_walk_close(&w);
    return code;
}

static int load_lease(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t group;
    uint64_t token;
    struct lease_row row;
    if (!key_read_lease(key, &group, &token) || map_get(&en->groups, group) == NULL)
        return damaged(e, "a lease's key", 0);
    int code = lease_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    struct session *s = session_find(en, row.session);
    if (s == NULL)
        return damaged(e, "the session of lease", token);
    struct lease *l = lease_new(en, map_get(&en->groups, group), s, token);
    list_remove(&l->dirty);
    l->slot = row.slot;
    l->counter = row.counter;
    l->lease_ms = row.lease_ms;
    l->granted_ms = row.granted_ms;
    if (l->slot >= LANE_WINDOW)
        return damaged(e, "the slot of lease", token);
    if (s->slot_counter[l->slot] < l->counter && !PLANTED(slot_forgotten))
        s->slot_counter[l->slot] = l->counter;
    struct lease_entry x = {0};
    bool bad = false;
    while (lease_row_next(&row.entries_raw, &x, &bad)) {
        struct group_part *p = part_of(en, group, x.partition);
        if (p == NULL || map_get(&p->entries, x.offset) != NULL)
            return damaged(e, "a message of lease", token);
        struct entry *n = entry_load(en, p, x.offset, x.has_key, x.key_hash);
        n->token = token;
        n->size = x.size;
        n->grants = x.grants;
        n->failures = x.failures;
        n->priority = priority_bounded(x.priority);
        n->ttl_until_ms = x.expires_ms;
        if (n->key != NULL && n->key->head != NULL && n->key->head->state == ENTRY_LEASED && n->key->head->lease != l)
            return damaged(e, "a key that is leased twice, in lease", token);
        if (n->key != NULL && !PLANTED(lease_row_unread))
            key_take(en, n);
        lease_take(en, l, n, en->now.mono_ms + (PLANTED(lease_over_at_start) ? 1 : l->lease_ms));
        limit_taken(en, n);
    }
    assert(!bad); /* lease_row_get looked at all of it */
    list_remove(&l->dirty);
    lease_arm(en, l);
    return E_OK;
}

static int load_state(struct engine *en, struct err *e)
{
    int code = E_OK;
    for (struct map_it it = map_iter(&en->groups); code == E_OK && map_next(&it);)
        code = state_load(en, it.value, e);
    return code;
}

static bool group_scans_again(const struct group *g)
{
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        if (g->parts[i]->cursor < g->parts[i]->scanned)
            return true;
    return false;
}

/* Keys whose head stands in their list and nowhere else; and those whose rows say no head: it was ready and the scan finds it, or it was
 * settled late, while it was redriven and waited for that scan. */
static int load_list_heads(struct engine *en, struct err *e)
{
    for (struct map_it it = map_iter(&en->groups); map_next(&it);) {
        struct group *g = it.value;
        bool again = group_scans_again(g);
        for (struct map_it keys = map_iter(&g->keys); map_next(&keys);) {
            struct key_queue *k = keys.value;
            if (k->head != NULL || k->list.count == 0 || list_linked(&k->unsure))
                continue;
            if (!k->list.head_in_list && again) {
                list_push_back(&g->headless, &k->unsure);
                continue;
            }
            bool dirty = list_linked(&k->dirty) || !k->list.head_in_list; /* else its row says so already */
            key_head_from_list(en, g, k);
            if (!dirty)
                list_remove(&k->dirty);
        }
    }
    return en->failed.code != E_OK ? err_set(e, en->failed.code, "%s", en->failed.text) : E_OK;
}

/* ---------------------------------------------------------------- sessions */

static int load_session(struct engine *en, struct view key, struct view value, struct err *e)
{
    struct id128 id;
    struct session_row row;
    if (!key_read_session(key, &id))
        return damaged(e, "a session's key", 0);
    int code = session_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    session_wait_for_pipe(en, session_add(en, id, row.name, row.created_ms, row.seen_ms));
    return E_OK;
}

static struct key prefix_of(char tag)
{
    struct key k = key_meta_prefix(tag);
    return k;
}

int engine_load(struct engine *en, struct err *e)
{
    struct key members = prefix_of('m'), claims = prefix_of('o');
    struct key losses = prefix_of('l'), cursors = prefix_of('c'), done = prefix_of('d'), tasks = prefix_of('k'), sessions = prefix_of('s'), all = {0};
    int code;
    if ((code = load_meta(en, e)) != E_OK ||
        (code = each_row(en, FAM_SESSIONS, &sessions, load_session, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &cursors, load_cursor, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &done, load_done, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &members, load_member, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &claims, load_claim, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &tasks, load_task, e)) != E_OK ||
        (code = load_key_headers(en, e)) != E_OK ||
        (code = each_row(en, FAM_GROUPS, &losses, load_lost, e)) != E_OK ||
        (code = load_retries(en, e)) != E_OK ||
        (code = sched_load(en, e)) != E_OK ||
        (code = away_load_low(en, e)) != E_OK ||
        (code = each_row(en, FAM_LEASES, &all, load_lease, e)) != E_OK ||
        (code = load_list_heads(en, e)) != E_OK ||
        (code = load_state(en, e)) != E_OK ||
        (code = dedup_load(en, e)) != E_OK)
        return code;
    for (struct map_it it = map_iter(&en->groups); map_next(&it);) {
        struct group *g = it.value;
        if (g->stream != NULL)
            members_loaded(en, g->stream);
    }
    return E_OK;
}
