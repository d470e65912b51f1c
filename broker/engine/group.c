/* Groups: made, listed, deleted. What a queue group does with messages is in queue.c and the files it names; stream groups are in members.c. */
#include "engine/memory.h"

static const char *group_name(const void *group) { return ((const struct group *)group)->name; }

static size_t group_place(const struct topic *t, struct view name, bool *found)
{
    return name_place((void *const *)t->groups, t->groups_n, group_name, name, found);
}

static void group_unknown(struct engine *en, struct op *op, const struct topic *t, struct view name)
{
    answer(en, op, E_GROUP_NOT_FOUND, "'%.*s' of topic '%s'; create it with: sluice group create %.*s --topic %s --mode queue",
           (int)name.size, (const char *)name.data, t->name, (int)name.size, (const char *)name.data, t->name);
}

int group_missing(const struct engine *en, uint32_t id)
{
    for (size_t i = 0; id != 0 && i < ARRAY_LEN(en->groups_gone); i++)
        if (en->groups_gone[i] == id)
            return E_TOPIC_DELETED;
    return E_GROUP_NOT_FOUND;
}

struct group *group_find(struct engine *en, struct op *op, struct view topic, struct view name)
{
    struct topic *t = topic_find(en, topic);
    if (t == NULL) {
        topic_unknown(en, op, topic);
        return NULL;
    }
    bool found;
    size_t at = group_place(t, name, &found);
    if (!found) {
        group_unknown(en, op, t, name);
        return NULL;
    }
    return t->groups[at];
}

static struct group_part *part_new(struct group *g, struct partition *partition)
{
    struct group_part *p = mem_zalloc(sizeof *p);
    p->group = g;
    p->partition = partition;
    for (int k = 0; k < PRIORITIES; k++)
        list_init(&p->fresh[k]);
    list_init(&p->unsure);
    list_init(&p->present);
    lag_scanned(p, UINT64_MAX);
    p->low_at = UINT64_MAX;
    return p;
}

void group_grow(struct engine *en, struct group *g, uint32_t before)
{
    uint32_t partitions = g->topic->config.partitions;
    g->parts = mem_resize(g->parts, partitions, sizeof(struct group_part *));
    for (uint32_t i = before; i < partitions; i++)
        g->parts[i] = part_new(g, g->topic->partitions[i]);
    if (g->stream != NULL)
        members_grow(en, g->stream);
}

struct group *group_add(struct engine *en, struct topic *t, uint32_t id, const struct group_row *row)
{
    struct group *g = mem_zalloc(sizeof *g);
    g->id = id;
    g->name = mem_strndup((const char *)row->name.data, row->name.size);
    g->topic = t;
    g->created_ms = row->created_ms;
    g->config = group_defaults(row->config);
    g->paused = row->paused;
    g->used_ms = row->used_ms;
    for (int i = 0; i < PRIORITIES; i++)
        list_init(&g->again[i]);
    list_init(&g->waiters);
    list_init(&g->headless);
    g->parts = mem_array(t->config.partitions, sizeof(struct group_part *));
    for (uint32_t i = 0; i < t->config.partitions; i++)
        g->parts[i] = part_new(g, t->partitions[i]);
    if (g->config.mode == MODE_STREAM)
        g->stream = members_new(g);
    bool found;
    size_t at = group_place(t, row->name, &found);
    t->groups = mem_resize(t->groups, t->groups_n + 1, sizeof(struct group *));
    memmove(t->groups + at + 1, t->groups + at, (t->groups_n - at) * sizeof(struct group *));
    t->groups[at] = g;
    t->groups_n++;
    map_put(&en->groups, id, g);
    en->groups_n++;
    return g;
}

void group_free(struct engine *en, struct group *g)
{
    for (struct map_it it = map_iter(&g->leases); map_next(&it);)
        lease_free(en, it.value);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        struct group_part *p = g->parts[i];
        for (struct map_it it = map_iter(&p->entries); map_next(&it);) {
            struct entry *e = it.value;
            timer_clear(en, &e->timer);
            if (e->state == ENTRY_READY)
                en->ready--;
            if (e->state == ENTRY_RETRYING || e->state == ENTRY_BLOCKED)
                list_remove(&e->link);
            pool_give(&en->entries, e);
        }
        map_free(&p->entries);
        done_free(&p->done);
        load_end(en, p);
        list_remove(&p->dirty);
    }
    for (struct map_it it = map_iter(&g->keys); map_next(&it);)
        key_queue_free(en, it.value);
    map_free(&g->keys);
    map_free(&g->leases);
    timer_clear(en, &g->later);
    timer_clear(en, &g->sweep);
    list_remove(&g->stirred);
    list_remove(&g->changed);
    timer_clear(en, &g->idle);
    if (g->stream != NULL)
        members_free(en, g->stream);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) /* keys stood in their lists */
        mem_free(g->parts[i]);
    mem_free(g->parts);
    mem_free(g->name);
    mem_free(g);
}

void group_rows_remove(struct engine *en, enum store_family f, struct key begin)
{
    struct key end = key_after(&begin);
    puts_remove_range(&en->fx.puts, f, key_view(&begin), key_view(&end));
}

void group_drop(struct engine *en, struct group *g, int code)
{
    for (struct list_node *n; (n = list_first(&g->waiters)) != NULL;) {
        struct op *op = container_of(n, struct place, queue)->op;
        wait_end(en, op);
        answer(en, op, code, "'%s'", code == E_TOPIC_DELETED ? g->topic->name : g->name);
    }
    if (g->stream != NULL)
        members_closed(en, g->stream, code);
    /* rows of retries stand in order of time, not of groups: those of what is away go when they are due */
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        for (struct map_it it = map_iter(&g->parts[i]->entries); map_next(&it);)
            entry_row_remove(en, it.value);
    tasks_forget(en, g);
    struct key k = key_group(g->id);
    row_remove(en, FAM_META, &k);
    group_rows_remove(en, FAM_GROUPS, key_cursor_prefix(g->id));
    group_rows_remove(en, FAM_GROUPS, key_done_prefix(g->id));
    group_rows_remove(en, FAM_GROUPS, key_claim_prefix(g->id));
    group_rows_remove(en, FAM_GROUPS, key_member_prefix(g->id));
    group_rows_remove(en, FAM_LEASES, key_group_prefix(g->id));
    group_rows_remove(en, FAM_KEYS, key_group_prefix(g->id));
    group_rows_remove(en, FAM_KEYS, key_list_header_prefix(g->id));
    group_rows_remove(en, FAM_KEYS, key_away_prefix(g->id));
    group_rows_remove(en, FAM_HELD, key_group_prefix(g->id));
    group_rows_remove(en, FAM_STATE, key_group_prefix(g->id));
    group_rows_remove(en, FAM_GROUPS, key_lost_prefix(g->id));
    group_rows_remove(en, FAM_SCHED, key_copy_prefix(g->id));
    struct topic *t = g->topic;
    bool found;
    if (code == E_TOPIC_DELETED)
        en->groups_gone[en->groups_gone_n++ % ARRAY_LEN(en->groups_gone)] = g->id;
    size_t at = group_place(t, view_of_str(g->name), &found);
    memmove(t->groups + at, t->groups + at + 1, (t->groups_n - at - 1) * sizeof(struct group *));
    t->groups_n--;
    map_del(&en->groups, g->id);
    en->groups_n--;
    group_free(en, g);
    for (uint32_t i = 0; i < t->config.partitions && code != E_TOPIC_DELETED; i++)
        retention_floor_moved(en, t->partitions[i]);
}

/* ---------------------------------------------------------------- requests */

static void describe(struct op *op, const struct group *g, struct wire_group *out)
{
    *out = (struct wire_group){.topic = op_text(op, g->topic->name), .name = op_text(op, g->name), .id = g->id,
                               .topic_id = g->topic->id, .config = g->config, .created_ms = g->created_ms, .paused = g->paused,
                               .lost = group_lost(g)};
}

static void answer_group(struct engine *en, struct op *op, const struct group *g, bool created)
{
    struct wire_group *one = op_take(en, op, 1, sizeof *one);
    describe(op, g, one);
    op->reply.body = BODY_GROUPS;
    op->reply.groups = (struct wire_group_reply){.groups = one, .groups_n = 1, .created = created};
    answer_change(en, op, DURABILITY_DISK);
}

void group_write(struct engine *en, struct group *g)
{
    en->names_turn = en->turn;
    struct key k = key_group(g->id);
    buf_clear(&en->row);
    group_row_put(&en->row, &(struct group_row){.name = view_of_str(g->name), .topic = g->topic->id, .created_ms = g->created_ms,
                                                .config = g->config, .paused = g->paused,
                                                .used_ms = g->used_ms});
    g->used_written_ms = g->used_ms;
    row_put(en, FAM_META, &k);
    k = key_meta_next();
    buf_clear(&en->row);
    next_row_put(&en->row, &en->next);
    row_put(en, FAM_META, &k);
}

struct group *group_new(struct engine *en, struct op *op, struct topic *t, struct view name, const struct wire_group_config *config)
{
    if (en->groups_n >= en->limits->groups_max) {
        answer(en, op, E_LIMIT, "limit groups_max = %llu", (unsigned long long)en->limits->groups_max);
        return NULL;
    }
    struct group *g = group_add(en, t, en->next.group++,
                                &(struct group_row){.name = name, .topic = t->id, .created_ms = en->wall_ms, .config = *config});
    g->used_ms = en->wall_ms;
    group_write(en, g);
    group_idle_arm(en, g);
    bool start = config->from == FROM_START;
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        struct group_part *p = g->parts[i];
        uint64_t from = start ? p->partition->row.start : p->partition->row.end;
        done_raise(&p->done, from);
        p->cursor = p->scanned = from;
        lag_scanned(p, start ? p->partition->row.start_bytes : p->partition->row.end_bytes);
        p->cursor_time_ms = start ? 0 : en->wall_ms;
        mark_dirty(&en->dirty_parts, &p->dirty);
    }
    return g;
}

void group_create(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_group_set *set = &op->request.group;
    struct wire_group_config config = group_defaults(set->config);
    struct topic *t = topic_find(en, set->topic);
    if (t == NULL) {
        topic_unknown(en, op, set->topic);
        return;
    }
    bool found;
    size_t at = group_place(t, set->name, &found);
    if (found) {
        const char *difference = group_difference(&t->groups[at]->config, &config);
        if (difference != NULL)
            answer(en, op, E_EXISTS, "group '%s' of topic '%s' differs in %s", t->groups[at]->name, t->name, difference);
        else
            answer_group(en, op, t->groups[at], false);
        return;
    }
    struct err e = {0};
    if (flow_check(&config, &e) != E_OK) {
        answer(en, op, e.code, "%s", e.text);
        return;
    }
    if (config.mode == MODE_STREAM && group_settings_stream(&set->config, &e) != E_OK) {
        answer(en, op, e.code, "%s", e.text);
        return;
    }
    struct group *g = group_new(en, op, t, set->name, &config);
    if (g != NULL)
        answer_group(en, op, g, true);
}

void group_delete(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    struct group *g = group_find(en, op, op->request.group.topic, op->request.group.name);
    if (g == NULL)
        return;
    group_drop(en, g, E_GROUP_NOT_FOUND);
    answer_change(en, op, DURABILITY_DISK);
}

void group_list(struct engine *en, struct op *op)
{
    size_t n;
    bool more;
    struct group **page = groups_page(en, op, &n, &more);
    if (page == NULL)
        return;
    struct wire_group *rows = op_take(en, op, n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        describe(op, page[i], &rows[i]);
    if (n == 1 && op->request.list.name.data != NULL)
        lost_describe(en, op, page[0], &rows[0]);
    op->reply.body = BODY_GROUPS;
    op->reply.groups = (struct wire_group_reply){.groups = rows, .groups_n = (uint32_t)n, .more = more};
    answer_on(en, op, en->names_turn);
}

/* Compares "topic/group" with a text of that form: by topic, then by group. */
static int group_order(const struct group *g, struct view text)
{
    const uint8_t *slash = memchr(text.data, '/', text.size);
    size_t topic_size = slash != NULL ? (size_t)(slash - text.data) : text.size;
    int order = view_cmp(view_of_str(g->topic->name), view_of(text.data, topic_size));
    if (order != 0 || slash == NULL)
        return order;
    return view_cmp(view_of_str(g->name), view_of(slash + 1, text.size - topic_size - 1));
}

struct group **groups_page(struct engine *en, struct op *op, size_t *n, bool *more)
{
    const struct wire_list *l = &op->request.list;
    if (l->topic.data != NULL && l->name.data != NULL && group_find(en, op, l->topic, l->name) == NULL)
        return NULL;
    size_t limit = l->limit == 0 || l->limit > en->limits->page_max ? en->limits->page_max : l->limit;
    size_t max = limit < en->groups_n ? limit : en->groups_n;
    struct group **page = op_take(en, op, max, sizeof(struct group *));
    *n = 0;
    *more = false;
    for (size_t i = 0; i < en->topics_n; i++) {
        const struct topic *t = en->topics[i];
        if (l->topic.data != NULL && !view_eq(l->topic, view_of_str(t->name)))
            continue;
        for (size_t k = 0; k < t->groups_n; k++) {
            struct group *g = t->groups[k];
            if (l->name.data != NULL && !view_eq(l->name, view_of_str(g->name)))
                continue;
            if (l->after.data != NULL && group_order(g, l->after) <= 0)
                continue;
            if (*n == max) {
                *more = true;
                return page;
            }
            page[(*n)++] = g;
        }
    }
    return page;
}

/* ---------------------------------------------------------------- changing one */

/* What was granted, parked or set back before stays as it is. */
void group_alter(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_group_set *set = &op->request.group;
    struct group *g = group_find(en, op, set->topic, set->name);
    struct err e = {0};
    if (g == NULL)
        return;
    if (group_settings_alter(&g->config, &set->config, set->mask, &e) != E_OK) {
        answer(en, op, e.code, "group '%s' of topic '%s': %s", g->name, g->topic->name, e.text);
        return;
    }
    g->used_ms = en->wall_ms;
    g->idle_warned = false;
    group_write(en, g);
    group_idle_arm(en, g);
    group_stir(en, g);
    answer_group(en, op, g, false);
}

void group_control(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_group_control *c = &op->request.control;
    struct group *g = group_find(en, op, c->topic, c->name);
    if (g == NULL || (c->act != GROUP_PURGE && !group_is(en, op, g, MODE_QUEUE)))
        return;
    group_used(en, g);
    switch ((enum group_act)c->act) {
    case GROUP_PAUSE:
    case GROUP_RESUME:
        g->paused = c->act == GROUP_PAUSE;
        lag_changed(en, g);
        group_write(en, g);
        group_stir(en, g);
        break;
    case GROUP_PURGE:
        op->reply.depth = g->stream != NULL ? commit_purge(en, g) : group_purge(en, g);
        break;
    default:
        answer(en, op, E_INVALID_ARGUMENT, "act %u", c->act);
        return;
    }
    answer_group(en, op, g, false);
}
