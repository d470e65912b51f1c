/* Topics: made, listed, deleted. Ids of topics and partitions are never used again. */
#include "engine/memory.h"

#include <stdlib.h>

enum store_family log_family(uint8_t log_class)
{
    static const enum store_family families[LOG_CLASS_COUNT] = {
        [LOG_HOURS] = FAM_LOG_HOURS, [LOG_DAYS] = FAM_LOG_DAYS, [LOG_WEEKS] = FAM_LOG_WEEKS,
        [LOG_FOREVER] = FAM_LOG_FOREVER, [LOG_COMPACTED] = FAM_LOG_COMPACTED};
    assert(log_class < LOG_CLASS_COUNT);
    return families[log_class];
}

/* What dies together lies together. */
static uint8_t class_of(const struct wire_topic_config *c)
{
    const uint64_t hour = 3600000;
    if (c->compacted)
        return LOG_COMPACTED;
    if (c->retention_ms == UINT64_MAX)
        return LOG_FOREVER;
    return c->retention_ms <= 24 * hour ? LOG_HOURS : c->retention_ms <= 14 * 24 * hour ? LOG_DAYS : LOG_WEEKS;
}

/* ---------------------------------------------------------------- the sorted list of topics */

static const char *topic_name(const void *topic) { return ((const struct topic *)topic)->name; }

size_t name_place(void *const *things, size_t n, const char *(*name_of)(const void *), struct view name, bool *found)
{
    size_t low = 0, high = n;
    *found = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = view_cmp(view_of_str(name_of(things[mid])), name);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t topic_place(const struct engine *en, struct view name, bool *found)
{
    return name_place((void *const *)en->topics, en->topics_n, topic_name, name, found);
}

struct topic *topic_find(const struct engine *en, struct view name)
{
    bool found;
    size_t at = topic_place(en, name, &found);
    return found ? en->topics[at] : NULL;
}

/* Each stands alone and stays where it is, for it is in lists, and others point to it. */
struct partition *partition_new(struct engine *en, struct topic *t, uint32_t index, uint32_t id)
{
    struct partition *p = mem_zalloc(sizeof *p);
    p->id = id;
    p->index = index;
    p->topic = t;
    p->family = log_family(t->log_class);
    list_init(&p->waiters);
    if (t->config.compacted)
        compact_add(en, p);
    table_put(&en->partitions, id, p);
    return p;
}

struct topic *topic_add(struct engine *en, uint32_t id, const struct topic_row *row)
{
    struct topic *t = mem_zalloc(sizeof *t);
    t->id = id;
    t->name = mem_strndup((const char *)row->name.data, row->name.size);
    t->created_ms = row->created_ms;
    t->config = topic_defaults(row->config); /* a row of an older format has none for what it lacks */
    t->log_class = row->log_class;
    t->partitions = mem_array(row->config.partitions, sizeof(struct partition *));
    for (uint32_t i = 0; i < row->config.partitions; i++)
        t->partitions[i] = partition_new(en, t, i, row->partitions != NULL ? row->partitions[i] : topic_row_partition(row, i));
    if ((en->topics_n & (en->topics_n - 1)) == 0) /* grows at powers of two */
        en->topics = mem_resize(en->topics, en->topics_n > 0 ? 2 * en->topics_n : 1, sizeof(struct topic *));
    bool found;
    size_t at = topic_place(en, row->name, &found);
    memmove(en->topics + at + 1, en->topics + at, (en->topics_n - at) * sizeof(struct topic *));
    en->topics[at] = t;
    en->topics_n++;
    dedup_windows_changed(en);
    return t;
}

void topic_free(struct topic *t)
{
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        mem_free(t->partitions[i]->times);
        mem_free(t->partitions[i]->trims);
        mem_free(t->partitions[i]->trimming);
        compact_forget(t->partitions[i]);
        mem_free(t->partitions[i]);
    }
    mem_free(t->name);
    mem_free(t->partitions);
    mem_free(t->groups);
    mem_free(t);
}

void topic_unknown(struct engine *en, struct op *op, struct view name)
{
    answer(en, op, E_TOPIC_NOT_FOUND, "'%.*s'; create it with: sluice topic create %.*s", (int)name.size, (const char *)name.data,
           (int)name.size, (const char *)name.data);
}

/* A partition goes with its topic only, and its id is not used again. One that is there is of another topic than was meant. */
int partition_missing(const struct engine *en, uint32_t id)
{
    return id != 0 && id < en->next.partition && table_get(&en->partitions, id) == NULL ? E_TOPIC_DELETED : E_PARTITION_NOT_FOUND;
}

void partition_gone(struct engine *en, struct op *op, uint32_t id) { answer(en, op, partition_missing(en, id), "partition id %u", id); }

/* ---------------------------------------------------------------- requests */

static void describe(struct engine *en, struct op *op, const struct topic *t, struct wire_topic *out)
{
    struct wire_partition *parts = op_take(en, op, t->config.partitions, sizeof *parts);
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        const struct partition *p = t->partitions[i];
        parts[i] = (struct wire_partition){.start = p->row.start, .end = p->row.end, .visible = p->visible,
                                           .bytes = p->row.end_bytes - p->row.start_bytes - compact_removed_bytes(p), .first_time_ms = p->row.first_time_ms,
                                           .id = p->id, .index = i};
    }
    *out = (struct wire_topic){.name = op_text(op, t->name), .id = t->id, .partitions_n = t->config.partitions,
                               .groups = (uint32_t)t->groups_n, .config = t->config, .partitions = parts, .created_ms = t->created_ms};
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        const struct compactable *x = t->partitions[i]->compact;
        out->dirty_bytes += compact_dirty_bytes(t->partitions[i]);
        if (x != NULL && x->row.last_ms > out->compacted_ms)
            out->compacted_ms = x->row.last_ms;
        out->tombstones += x != NULL ? x->row.tombstones : 0;
    }
    if (!t->config.compacted)
        return;
    out->tombstone_ms = en->limits->tombstone_ms;
    out->dirty_min = (uint32_t)en->limits->compact_dirty_min;
    out->compact_age_ms = en->limits->compact_age_max_ms;
}

static void answer_topic(struct engine *en, struct op *op, const struct topic *t, bool created)
{
    struct wire_topic *one = op_take(en, op, 1, sizeof *one);
    describe(en, op, t, one);
    op->reply.body = BODY_TOPICS;
    op->reply.topics = (struct wire_topic_reply){.topics = one, .topics_n = 1, .created = created};
    answer_change(en, op, DURABILITY_DISK);
}

static void topic_write(struct engine *en, const struct topic *t, const uint32_t *ids)
{
    en->names_turn = en->turn;
    struct key k = key_topic(t->id);
    buf_clear(&en->row);
    topic_row_put(&en->row, &(struct topic_row){.name = view_of_str(t->name), .created_ms = t->created_ms, .config = t->config,
                                                .log_class = t->log_class, .partitions = ids});
    row_put(en, FAM_META, &k);
    k = key_meta_next();
    buf_clear(&en->row);
    next_row_put(&en->row, &en->next);
    row_put(en, FAM_META, &k);
}

void topic_create(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_topic_set *set = &op->request.topic;
    struct wire_topic_config config = topic_defaults(set->config);
    struct topic *t = topic_find(en, set->name);
    if (t != NULL) {
        const char *difference = topic_difference(&t->config, &config);
        if (difference != NULL)
            answer(en, op, E_EXISTS, "topic '%s' differs in %s", t->name, difference);
        else
            answer_topic(en, op, t, false);
        return;
    }
    const struct engine_limits *l = en->limits;
    if (en->topics_n >= l->topics_max)
        answer(en, op, E_LIMIT, "limit topics_max = %llu", (unsigned long long)l->topics_max);
    else if (config.partitions > l->topic_partitions_max)
        answer(en, op, E_LIMIT, "limit topic_partitions_max = %llu", (unsigned long long)l->topic_partitions_max);
    else if (UINT32_MAX - en->next.partition < config.partitions)
        answer(en, op, E_LIMIT, "every id of a partition was used once");
    else if (table_count(&en->partitions) + config.partitions > l->partitions_max)
        answer(en, op, E_LIMIT, "limit partitions_max = %llu", (unsigned long long)l->partitions_max);
    else {
        uint32_t *ids = mem_array(config.partitions, sizeof *ids);
        for (uint32_t i = 0; i < config.partitions; i++)
            ids[i] = en->next.partition++;
        t = topic_add(en, en->next.topic++,
                      &(struct topic_row){.name = set->name, .created_ms = en->wall_ms, .config = config,
                                          .log_class = class_of(&config), .partitions = ids});
        topic_write(en, t, ids);
        mem_free(ids);
        for (uint32_t i = 0; i < config.partitions; i++) {
            mark_dirty(&en->dirty_partitions, &t->partitions[i]->dirty);
            log_partition_publish(en, t->partitions[i], false);
        }
        answer_topic(en, op, t, true);
    }
}

void topic_delete(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    bool found;
    size_t at = topic_place(en, op->request.topic.name, &found);
    if (!found) {
        topic_unknown(en, op, op->request.topic.name);
        return;
    }
    struct topic *t = en->topics[at];
    en->names_turn = en->turn;
    while (t->groups_n > 0)
        group_drop(en, t->groups[t->groups_n - 1], E_TOPIC_DELETED);
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        struct partition *p = t->partitions[i];
        for (struct list_node *n; (n = list_first(&p->waiters)) != NULL;) {
            struct op *waiting = container_of(n, struct place, queue)->op;
            wait_end(en, waiting);
            answer(en, waiting, E_TOPIC_DELETED, "'%s'", t->name);
        }
        list_remove(&p->dirty); /* what this turn appended goes with the topic */
        struct key row = key_partition_row(p->id), begin = key_log_prefix(p->id), end = key_after(&begin);
        row_remove(en, FAM_META, &row);
        compact_rows_remove(en, p);
        puts_remove_range(&en->fx.puts, p->family, key_view(&begin), key_view(&end));
        row = key_trims(p->id);
        if (p->trims != NULL)
            row_remove(en, FAM_META, &row);
        retention_partition_gone(en, p);
        log_partition_publish(en, p, true);
        table_del(&en->partitions, p->id);
    }
    struct key k = key_topic(t->id);
    row_remove(en, FAM_META, &k);
    sched_topic_gone(en, t);
    list_remove(&t->over);
    memmove(en->topics + at, en->topics + at + 1, (en->topics_n - at - 1) * sizeof(struct topic *));
    en->topics_n--;
    en->topics_gone++;
    dedup_windows_changed(en);
    topic_free(t);
    answer_change(en, op, DURABILITY_DISK);
}

void topic_list(struct engine *en, struct op *op)
{
    const struct wire_list *l = &op->request.list;
    op->reply.body = BODY_TOPICS;
    size_t from = 0, n = 1;
    bool found;
    if (l->name.data != NULL) {
        from = topic_place(en, l->name, &found);
        if (!found) {
            topic_unknown(en, op, l->name);
            return;
        }
    } else {
        if (l->after.data != NULL) {
            from = topic_place(en, l->after, &found);
            from += found;
        }
        n = l->limit == 0 || l->limit > en->limits->page_max ? en->limits->page_max : l->limit;
    }
    if (n > en->topics_n - from)
        n = en->topics_n - from;
    /* a page of topics with many partitions is cut short, after one at least */
    size_t partitions = 0, taken = 0;
    while (taken < n && (taken == 0 || partitions + en->topics[from + taken]->config.partitions <= 10000))
        partitions += en->topics[from + taken++]->config.partitions;
    struct wire_topic *rows = op_take(en, op, taken, sizeof *rows);
    for (size_t i = 0; i < taken; i++)
        describe(en, op, en->topics[from + i], &rows[i]);
    op->reply.topics = (struct wire_topic_reply){.topics = rows, .topics_n = (uint32_t)taken,
                                                 .more = l->name.data == NULL && from + taken < en->topics_n};
    answer_on(en, op, en->names_turn); /* else a client could use ids that a power cut takes back */
}

/* Takes effect at once: also for what is there already. */
void topic_alter(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_topic_set *set = &op->request.topic;
    struct topic *t = topic_find(en, set->name);
    struct err e = {0};
    if (t == NULL) {
        topic_unknown(en, op, set->name);
        return;
    }
    struct wire_topic_config to = t->config;
    if (topic_settings_alter(&to, &set->config, set->mask, &e) != E_OK || growth_check(en, t, to.partitions, &e) != E_OK) {
        answer(en, op, e.code, "topic '%s': %s", t->name, e.text);
        return;
    }
    topic_grow(en, t, to.partitions);
    t->config = to;
    uint32_t *ids = mem_array(t->config.partitions, sizeof *ids);
    for (uint32_t i = 0; i < t->config.partitions; i++)
        ids[i] = t->partitions[i]->id;
    topic_write(en, t, ids);
    mem_free(ids);
    dedup_windows_changed(en);
    retention_topic_changed(en, t);
    t->backlog.looked = false;
    answer_topic(en, op, t, false);
}
