/* Message ids: what was produced before is not appended again, whoever produces it and however long after, within the topic's window.
 *
 *      dedup.a   | rows of this generation: topic, id -> where and when |   <- new rows go here
 *      dedup.b   | rows of the one before                               |
 *                                 the generation turns:   b is emptied by one range removal and takes the rows from now on
 *
 * A generation turns when it is older than the longest window of any topic. So a row is there for at least its topic's window and at most
 * two of the longest; its time is compared, so the window is exact. Above dedup_entries_max rows in both the generation turns early,
 * and the window is shorter than the topic says. Rows are in the list of puts of the append: both are there after a restart, or none.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* An id that this request, or unit, has named already. In a table with free places, hashed by the id. */
struct dedup_seen { struct id128 id; uint64_t mark; uint32_t topic; };

static uint64_t window_of(const struct topic *t) { return t->config.dedup_ms != UINT64_MAX ? t->config.dedup_ms : 0; }

/* ---------------------------------------------------------------- generations */

static enum store_family family_of(unsigned generation) { return generation == 0 ? FAM_DEDUP_A : FAM_DEDUP_B; }

static uint64_t longest_window(struct engine *en)
{
    struct dedup *d = &en->dedup;
    if (!d->window_known) {
        d->window_ms = 0;
        for (size_t i = 0; i < en->topics_n; i++)
            if (window_of(en->topics[i]) > d->window_ms)
                d->window_ms = window_of(en->topics[i]);
        d->window_known = true;
    }
    return d->window_ms;
}

static bool holds_rows(const struct dedup *d) { return d->row.count > 0 || d->row.before_began_ms != 0; }

static void turn_generation(struct engine *en)
{
    struct dedup_generation_row *r = &en->dedup.row;
    struct key all = {0}, end = key_after(&all);
    *r = (struct dedup_generation_row){.current = r->current ^ 1, .began_ms = en->wall_ms, .before_began_ms = r->count > 0 ? r->began_ms : 0};
    puts_remove_range(&en->fx.puts, family_of(r->current), key_view(&all), key_view(&end));
    en->counters.dedup_generations++;
    en->dedup.dirty = true;
}

static void generation_due(struct engine *en, struct timer *t);

/* A broker to which nothing is produced any more gives the room back, too. */
static void arm(struct engine *en)
{
    struct dedup *d = &en->dedup;
    if (!holds_rows(d)) {
        timer_clear(en, &d->timer);
        return;
    }
    uint64_t age = en->wall_ms - d->row.began_ms, window = longest_window(en);
    timer_set(en, &d->timer, en->now.mono_ms + (age < window ? window - age : 0), generation_due);
}

static void generation_due(struct engine *en, struct timer *t)
{
    (void)t;
    if (en->wall_ms - en->dedup.row.began_ms >= longest_window(en))
        turn_generation(en);
    arm(en);
}

void dedup_windows_changed(struct engine *en)
{
    en->dedup.window_known = false;
    arm(en);
}

static void turn_if_due(struct engine *en)
{
    const struct dedup_generation_row *r = &en->dedup.row;
    if (!holds_rows(&en->dedup)) {
        en->dedup.row.began_ms = en->wall_ms;
    } else if (en->wall_ms - r->began_ms >= longest_window(en)) {
        turn_generation(en);
    } else if (r->count > 0 && r->count >= en->limits->dedup_entries_max / 2) {
        en->counters.dedup_early++;
        turn_generation(en);
    }
}

void dedup_write(struct engine *en)
{
    if (!en->dedup.dirty)
        return;
    en->dedup.dirty = false;
    struct key k = key_dedup_generation();
    buf_clear(&en->row);
    dedup_generation_row_put(&en->row, &en->dedup.row);
    row_put(en, FAM_META, &k);
}

int dedup_load(struct engine *en, struct err *e)
{
    struct key k = key_dedup_generation();
    struct view v;
    if (row_read(en, FAM_META, &k, &v)) {
        int code = dedup_generation_row_get(v, &en->dedup.row, e);
        if (code != E_OK)
            return code;
        arm(en);
    }
    return en->failed.code != E_OK ? err_set(e, en->failed.code, "%s", en->failed.text) : E_OK;
}

void dedup_free(struct engine *en)
{
    timer_clear(en, &en->dedup.timer);
    mem_free(en->dedup.seen);
}

/* ---------------------------------------------------------------- what one request names */

void dedup_begin(struct engine *en)
{
    en->dedup.mark++;
    en->dedup.seen_n = 0;
}

static struct dedup_seen *seen_place(struct dedup *d, uint32_t topic, struct id128 id)
{
    for (size_t at = (id.lo ^ topic) & (d->seen_cap - 1);; at = (at + 1) & (d->seen_cap - 1)) {
        struct dedup_seen *s = &d->seen[at];
        if (s->mark != d->mark || (s->topic == topic && id128_eq(s->id, id)))
            return s;
    }
}

/* Room for `more` ids at half full. After a request with very many the table shrinks again. */
static void seen_reserve(struct dedup *d, size_t more)
{
    size_t cap = d->seen_cap > 0 && (d->seen_n > 0 || d->seen_cap <= 4096) ? d->seen_cap : 64;
    while (cap < 2 * (d->seen_n + more))
        cap *= 2;
    if (cap == d->seen_cap)
        return;
    struct dedup_seen *old = d->seen;
    size_t n = d->seen_cap;
    d->seen = mem_array(cap, sizeof *d->seen);
    d->seen_cap = cap;
    for (size_t i = 0; i < n; i++)
        if (old[i].mark == d->mark)
            *seen_place(d, old[i].topic, old[i].id) = old[i];
    mem_free(old);
}

/* False: it was named before. */
static bool seen_add(struct dedup *d, uint32_t topic, struct id128 id)
{
    struct dedup_seen *s = seen_place(d, topic, id);
    if (s->mark == d->mark)
        return PLANTED(id_twice_in_batch);
    *s = (struct dedup_seen){.id = id, .mark = d->mark, .topic = topic};
    d->seen_n++;
    return true;
}

/* ---------------------------------------------------------------- asking and remembering */

static bool find_in(struct engine *en, unsigned generation, const struct key *k, struct dedup_row *row)
{
    struct view v;
    struct err e = {0};
    if (PLANTED(id_generation_unasked) && generation != en->dedup.row.current)
        return false;
    if (!row_read(en, family_of(generation), k, &v))
        return false;
    if (dedup_row_get(v, row, &e) == E_OK)
        return true;
    row_fail(en, family_of(generation), key_view(k), &e);
    return false;
}

static bool find(struct engine *en, const struct topic *t, struct id128 id, struct dedup_row *row)
{
    const struct dedup_generation_row *g = &en->dedup.row;
    struct key k = key_dedup(t->id, id);
    bool found = (g->count > 0 && find_in(en, g->current, &k, row)) || (g->before_began_ms != 0 && find_in(en, g->current ^ 1, &k, row));
    return found && (PLANTED(id_window_ignored) || en->wall_ms - row->time_ms < window_of(t));
}

enum dedup_step dedup_check(struct engine *en, struct op *op, const struct topic *t, uint32_t count, const struct op_batch *b,
                            struct wire_produced *out)
{
    if (b->message_ids == NULL || window_of(t) == 0)
        return DEDUP_NEW;
    struct dedup_row first = {0};
    uint32_t *duplicates = NULL, n = 0;
    bool all = true;
    seen_reserve(&en->dedup, count);
    for (uint32_t i = 0; i < count; i++) {
        struct dedup_row row = {0};
        bool named = !id128_is_zero(b->message_ids[i]), twice = named && !seen_add(&en->dedup, t->id, b->message_ids[i]);
        bool before = named && find(en, t, b->message_ids[i], &row);
        all &= before;
        if (i == 0)
            first = row;
        if (!before && !twice)
            continue;
        if (duplicates == NULL)
            duplicates = op_take(en, op, count, sizeof *duplicates);
        duplicates[n++] = i;
    }
    en->counters.duplicate_messages += n;
    if (n == 0)
        return DEDUP_NEW;
    *out = (struct wire_produced){.count = count};
    if (all) {
        out->partition = first.partition;
        out->base_offset = first.offset;
        out->append_time_ms = first.time_ms;
        out->duplicate = true;
        return DEDUP_ALL;
    }
    out->duplicates = duplicates;
    out->duplicates_n = n;
    return DEDUP_SOME;
}

void dedup_note(struct engine *en, const struct topic *t, uint32_t partition, uint64_t base_offset, uint32_t count, const struct op_batch *b)
{
    if (b->message_ids == NULL || window_of(t) == 0)
        return;
    turn_if_due(en);
    struct dedup_generation_row *g = &en->dedup.row;
    for (uint32_t i = 0; i < count; i++) {
        if (id128_is_zero(b->message_ids[i]))
            continue;
        struct key k = key_dedup(t->id, b->message_ids[i]);
        buf_clear(&en->row);
        dedup_row_put(&en->row, &(struct dedup_row){.partition = partition, .time_ms = en->wall_ms,
                                                    .offset = base_offset != UINT64_MAX ? base_offset + i : UINT64_MAX});
        if (!PLANTED(id_forgotten))
            row_put(en, family_of(g->current), &k);
        g->count++;
    }
    en->dedup.dirty = true;
    if (!heap_contains(&en->timers, &en->dedup.timer.node))
        arm(en);
}
