/* Retention: logs have an end.
 *
 *      start . . . . . . . . . . . . want . . . . . . . . . . . . . . end
 *        |  too old, or more than kept  |  stays
 *                      ^ a group has not done this: so far and no further
 *
 * Only whole rows go, those wholly beyond what the topic keeps, in one range removal. Who is due stands in a heap by wall time (time), or is
 * put on a list when its topic has more than it keeps (bytes): so nobody looks at partitions that have nothing to lose. What rows say of times
 * and bytes is looked up by readers (effect `cut`):
 *
 *     due ──> WANTED: readers look ──> RELEASING: do the groups let go (release.c)? ── all of it ──────────────────────────> removed
 *                                         ├─ less ──> LIMITED: readers look for a cut before that ─────────────> RELEASING
 *                                         └─ less, and past the hard cap ──> CAPPED: readers look ──> LOSING ──> RELEASING
 *
 * A partition that a group pins is looked at again when that group's floor moved, and at its hard cap.
 */
#include "engine/memory.h"
#include "base/planted.h"

enum {
    UNDER_WAY_MAX = 64,         /* partitions looked at together; the others come when these are through */
    DAMAGED_REST_MS = 600000    /* a log that does not read is looked at again then */
};

enum stage { WANTED, CAPPED, LIMITED, LOSING, RELEASING };

static struct retention *of(struct engine *en) { return &en->retention; }

/* ---------------------------------------------------------------- what was removed: rows and memory
 *
 * A few removals are remembered by offset and time, so that a gap can say from when to when. When there are more, the two that are closest
 * to each other, against their age, become one.
 */

static void trims_join(struct trims_row *t, uint32_t i)
{
    t->at[i].last_ms = t->at[i + 1].last_ms;
    t->at[i].to = t->at[i + 1].to;
    t->at[i].why = t->at[i].why == GAP_HARD_CAP ? GAP_HARD_CAP : t->at[i + 1].why;
    t->n--;
    memmove(&t->at[i + 1], &t->at[i + 2], (t->n - i - 1) * sizeof t->at[0]);
}

static double span_against_age(const struct trims_row *t, uint32_t i)
{
    uint64_t now = t->at[t->n - 1].last_ms;
    return (double)(t->at[i + 1].last_ms - t->at[i].first_ms) / (double)(now - t->at[i + 1].last_ms + 1);
}

void trims_write(struct engine *en, struct partition *p)
{
    struct key k = key_trims(p->id);
    if (p->trims == NULL)
        p->trims = mem_zalloc(sizeof *p->trims);
    buf_clear(&en->row);
    trims_row_put(&en->row, p->trims);
    if (!PLANTED(gap_not_written))
        row_put(en, FAM_META, &k);
}

static void trims_add(struct engine *en, struct partition *p, const struct trim *x)
{
    if (p->trims == NULL)
        p->trims = mem_zalloc(sizeof *p->trims);
    struct trims_row *t = p->trims;
    if (t->n == TRIMS_MAX) {
        uint32_t least = 0;
        for (uint32_t i = 1; i + 1 < t->n; i++)
            if (span_against_age(t, i) < span_against_age(t, least))
                least = i;
        trims_join(t, least);
    }
    t->at[t->n++] = *x;
    trims_write(en, p);
}

void retention_gap(const struct partition *p, uint64_t from, struct wire_gap *out)
{
    *out = (struct wire_gap){.from = from, .to = p->row.start, .why = GAP_RETENTION};
    for (uint32_t i = 0; p->trims != NULL && i < p->trims->n; i++) {
        const struct trim *t = &p->trims->at[i];
        if (t->to <= from)
            continue;
        if (out->from_time_ms == 0)
            out->from_time_ms = t->first_ms;
        out->to_time_ms = t->last_ms;
        if (t->why == GAP_HARD_CAP)
            out->why = GAP_HARD_CAP;
    }
}

static void capped_add(struct capped *c, uint64_t from, const struct trim *t)
{
    if (c->n == 0)
        c->first_ms = t->first_ms;
    c->last_ms = t->last_ms;
    c->offsets += t->to - from;
    c->at[c->n].from = from;
    c->at[c->n++].to = t->to;
}

bool retention_capped(const struct partition *p, struct capped *out)
{
    const struct trimming *w = p->trimming;
    const struct trim going = {.to = w != NULL ? w->want.to : 0, .first_ms = p->row.first_time_ms, .last_ms = w != NULL ? w->want.last_ms : 0};
    uint64_t from = 0;
    *out = (struct capped){0};
    for (uint32_t i = 0; p->trims != NULL && i < p->trims->n; from = p->trims->at[i++].to)
        if (p->trims->at[i].why == GAP_HARD_CAP)
            capped_add(out, from, &p->trims->at[i]);
    if (w != NULL && w->why == GAP_HARD_CAP)
        capped_add(out, from, &going);
    return out->n > 0;
}

/* ---------------------------------------------------------------- when to look */

static void retention_fire(struct engine *en, struct timer *t);

static void arm_at(struct engine *en, uint64_t mono_ms)
{
    struct retention *r = of(en);
    mono_ms = mono_ms > en->now.mono_ms ? mono_ms : en->now.mono_ms + 1; /* never in the turn that is under way */
    if (!heap_contains(&en->timers, &r->timer.node) || mono_ms < r->timer.node.due)
        timer_set(en, &r->timer, mono_ms, retention_fire);
}

/* The next round. A topic that is written to all the time has something to lose all the time: it is looked at once an interval. */
static void arm(struct engine *en)
{
    struct retention *r = of(en);
    uint64_t round = r->round_ms + en->limits->retention_interval_ms;
    const struct heap_node *first = heap_peek(&r->due);
    if (!list_empty(&r->looks) || !list_empty(&r->over)) {
        arm_at(en, round);
    } else if (first != NULL) {
        uint64_t wait = first->due > en->wall_ms ? first->due - en->wall_ms : 0, at = en->now.mono_ms + wait;
        arm_at(en, at > round ? at : round);
    }
}

static void look(struct engine *en, struct partition *p)
{
    if (p->trimming == NULL)
        mark_dirty(&of(en)->looks, &p->look);
}

static uint64_t kept_ms(const struct topic *t) { return t->config.compacted ? UINT64_MAX : t->config.retention_ms; }
static uint64_t cap_ms(const struct topic *t) { return t->config.compacted ? UINT64_MAX : t->config.hard_cap_ms; }
static uint64_t kept_bytes(const struct topic *t) { return t->config.compacted ? UINT64_MAX : t->config.retention_bytes; }

static void due_none(struct engine *en, struct partition *p)
{
    if (heap_contains(&of(en)->due, &p->due))
        heap_remove(&of(en)->due, &p->due);
}

/* When its oldest message will be too old, or, if it is pinned, beyond the hard cap; not before `least_ms`. */
static void due_set(struct engine *en, struct partition *p, uint64_t least_ms)
{
    struct heap *h = &of(en)->due;
    uint64_t keep = p->pinned ? cap_ms(p->topic) : kept_ms(p->topic), due = UINT64_MAX;
    if (p->row.end > p->row.start && keep != UINT64_MAX && p->row.first_time_ms <= UINT64_MAX - keep)
        due = p->row.first_time_ms + keep;
    due_none(en, p);
    if (due != UINT64_MAX)
        heap_push(h, &p->due, due < least_ms ? least_ms : due, p->id);
}

void retention_appended(struct engine *en, struct partition *p, uint64_t bytes)
{
    struct topic *t = p->topic;
    t->bytes += bytes;
    en->log_bytes[p->family] += bytes;
    if (p->trimming == NULL && kept_ms(t) != UINT64_MAX && !heap_contains(&of(en)->due, &p->due)) {
        due_set(en, p, 0);
        arm(en);
    }
    if (t->bytes > kept_bytes(t) && !list_linked(&t->over)) {
        mark_dirty(&of(en)->over, &t->over);
        arm(en);
    }
}

void retention_floor_moved(struct engine *en, struct partition *p)
{
    if (!p->pinned || list_linked(&p->look))
        return;
    look(en, p);
    arm(en);
}

void retention_topic_changed(struct engine *en, struct topic *t)
{
    t->altered++;
    for (uint32_t i = 0; i < t->config.partitions; i++) {
        struct partition *p = t->partitions[i];
        if (p->trimming == NULL)
            due_set(en, p, 0);
        retention_floor_moved(en, p);
    }
    if (t->bytes > kept_bytes(t))
        mark_dirty(&of(en)->over, &t->over);
    arm(en);
}

void retention_partition_gone(struct engine *en, struct partition *p)
{
    due_none(en, p);
    list_remove(&p->look);
    if (p->trimming != NULL) {
        list_remove(&p->trimming->link);
        of(en)->under_way_n--;
        mem_free(p->trimming);
        p->trimming = NULL;
    }
    en->log_bytes[p->family] -= p->row.end_bytes - p->row.start_bytes - compact_removed_bytes(p);
    p->topic->bytes -= p->row.end_bytes - p->row.start_bytes;
}

/* ---------------------------------------------------------------- a cut */

static uint64_t over_level(const struct partition *p)
{
    uint64_t bytes = p->row.end_bytes - p->row.start_bytes;
    return p->topic->bytes > kept_bytes(p->topic) && bytes > p->topic->level ? p->row.end_bytes - p->topic->level : 0;
}

/* Up to which append time messages are too old; 0: none is. */
static uint64_t too_old(const struct engine *en, uint64_t keep_ms)
{
    return keep_ms != UINT64_MAX && en->wall_ms > keep_ms ? en->wall_ms - keep_ms : 0;
}

static void ask(struct engine *en, struct trimming *w, enum stage stage, uint64_t to)
{
    const struct partition *p = w->partition;
    bool cap = stage == CAPPED;
    struct effect_cut fx = {.partition = p->id, .family = p->family, .from = p->row.start, .to = to,
                            .time_ms = too_old(en, cap ? cap_ms(p->topic) : kept_ms(p->topic)), .bytes = cap ? 0 : over_level(p)};
    buf_append(&en->cuts, &fx, sizeof fx);
    w->stage = (uint8_t)stage;
}

/* It is looked at no more, for now; `again`: but in the next round. */
static void leave(struct engine *en, struct trimming *w, uint64_t rest_ms, bool again)
{
    struct partition *p = w->partition;
    list_remove(&w->link);
    of(en)->under_way_n--;
    p->trimming = NULL;
    mem_free(w);
    due_set(en, p, en->wall_ms + rest_ms);
    if (again)
        look(en, p);
    if (of(en)->in_round)
        arm_at(en, 0);
    else
        arm(en);
}

static void begin(struct engine *en, struct partition *p)
{
    uint64_t old = too_old(en, kept_ms(p->topic));
    due_none(en, p);
    p->pinned = false;
    if (p->row.start == p->visible || !((old != 0 && p->row.first_time_ms <= old) || over_level(p) != 0)) {
        due_set(en, p, en->wall_ms + en->limits->retention_interval_ms);
        return;
    }
    struct trimming *w = mem_zalloc(sizeof *w);
    w->partition = p;
    w->altered = p->topic->altered;
    w->why = GAP_RETENTION;
    p->trimming = w;
    list_push_back(&of(en)->under_way, &w->link);
    of(en)->under_way_n++;
    ask(en, w, WANTED, p->visible);
}

static void cut_off(struct engine *en, struct partition *p, const struct cut *c, uint8_t why)
{
    struct partition_row *row = &p->row;
    struct key from = key_log(p->id, row->start), to = key_log(p->id, c->to);
    uint64_t bytes = c->bytes - row->start_bytes;
    puts_remove_range(&en->fx.puts, p->family, key_view(&from), key_view(&to));
    en->counters.trims++;
    en->counters.trimmed_messages += c->to - row->start;
    en->counters.trimmed_bytes += bytes;
    trims_add(en, p, &(struct trim){.to = c->to, .first_ms = row->first_time_ms, .last_ms = c->last_ms, .why = why});
    row->start = c->to;
    row->start_bytes = c->bytes;
    row->first_time_ms = c->next_ms != 0 ? c->next_ms : row->end > row->start ? c->last_ms : 0; /* behind it something was appended since */
    p->topic->bytes -= bytes;
    en->log_bytes[p->family] -= bytes;
    mark_dirty(&en->dirty_partitions, &p->dirty);
    log_partition_publish(en, p, false);
}

/* ---------------------------------------------------------------- what groups let go */

void retention_go_on(struct engine *en, uint64_t mono_ms) { arm_at(en, mono_ms); }

/* Below it every group is done; at most `most`. */
static uint64_t lowest_floor(const struct partition *p, uint64_t most)
{
    const struct topic *t = p->topic;
    for (size_t i = 0; i < t->groups_n; i++) {
        uint64_t floor = group_floor(t->groups[i], p->index);
        most = floor < most ? floor : most;
    }
    return most;
}

/* Of every group, one after another. RELEASE_ALL: all of them are through. */
static enum release_step groups_step(struct engine *en, struct trimming *w)
{
    struct partition *p = w->partition;
    enum release_step step = RELEASE_ALL;
    for (size_t i = 0; i < p->topic->groups_n && step == RELEASE_ALL; i++) {
        struct group_part *gp = group_part(p->topic->groups[i], p);
        if (w->stage != LOSING && PLANTED(trim_passes_held))
            continue;
        step = w->stage == LOSING ? release_lose(en, gp, w->want.to, w->want.bytes) : release_copy(en, gp, w->want.to);
    }
    if (step == RELEASE_LATER)
        arm_at(en, w->stage == LOSING ? 0 : of(en)->copy_ms);
    return step;
}

/* A group holds it at `low`. */
static void pinned(struct engine *en, struct trimming *w, uint64_t low)
{
    struct partition *p = w->partition;
    uint64_t beyond = too_old(en, cap_ms(p->topic));
    p->pinned = true;
    if (!w->cap_asked && beyond != 0 && p->row.first_time_ms <= beyond) {
        w->cap_asked = true;
        ask(en, w, CAPPED, p->visible);
    } else if (low > p->row.start) {
        ask(en, w, LIMITED, low);
    } else {
        leave(en, w, en->limits->retention_interval_ms, false);
    }
}

static void go_on(struct engine *en, struct trimming *w)
{
    struct partition *p = w->partition;
    if (w->copying && !PLANTED(copies_forsaken))
        return; /* what is under way counts as copied: nothing is given up before it is there */
    if (w->altered != p->topic->altered) { /* what was decided was decided by other settings */
        p->pinned = false;
        leave(en, w, 0, true);
        return;
    }
    if (w->stage == LOSING) {
        if (groups_step(en, w) != RELEASE_ALL)
            return;
        w->stage = RELEASING;
    }
    uint64_t low = PLANTED(trim_passes_groups) ? w->want.to : lowest_floor(p, w->want.to);
    if (low < w->want.to) {
        pinned(en, w, low);
    } else if (groups_step(en, w) == RELEASE_ALL) {
        cut_off(en, p, &w->want, w->why);
        leave(en, w, en->limits->retention_interval_ms, p->pinned); /* a floor may have moved meanwhile */
    }
}

void engine_cut(struct engine *en, const struct cut *c)
{
    struct partition *p = table_get(&en->partitions, c->partition);
    struct trimming *w = p != NULL ? p->trimming : NULL;
    if (w == NULL || c->from != p->row.start || w->stage == LOSING || w->stage == RELEASING)
        return;
    bool none = c->to == c->from;
    if (none && c->code != E_OK)
        notice(en, "retention: partition %u of topic '%s' cannot be read at its start: nothing of it is removed", p->index, p->topic->name);
    if (none && w->stage != CAPPED) {
        leave(en, w, c->code != E_OK ? DAMAGED_REST_MS : en->limits->retention_interval_ms, false);
        return;
    }
    if (!none)
        w->want = *c;
    if (!none && w->stage == CAPPED)
        w->why = GAP_HARD_CAP;
    w->stage = !none && w->stage == CAPPED ? LOSING : RELEASING;
    go_on(en, w);
}

/* ---------------------------------------------------------------- a round */

/* As many bytes as each partition of the topic may have, so that together they have what is kept: the largest are cut first. */
static void level_set(struct topic *t)
{
    uint64_t low = 0, high = kept_bytes(t);
    while (low < high) {
        uint64_t mid = low + (high - low + 1) / 2, sum = 0;
        for (uint32_t i = 0; i < t->config.partitions && sum <= kept_bytes(t); i++) {
            const struct partition_row *row = &t->partitions[i]->row;
            uint64_t bytes = row->end_bytes - row->start_bytes;
            sum += bytes < mid ? bytes : mid;
        }
        if (sum <= kept_bytes(t))
            low = mid;
        else
            high = mid - 1;
    }
    t->level = low;
}

static void topic_over(struct engine *en, struct topic *t)
{
    if (t->bytes <= kept_bytes(t))
        return;
    level_set(t);
    for (uint32_t i = 0; i < t->config.partitions; i++)
        if (!t->partitions[i]->pinned && over_level(t->partitions[i]) != 0)
            look(en, t->partitions[i]);
}

static void round_begin(struct engine *en)
{
    struct retention *r = of(en);
    r->round_ms = en->now.mono_ms;
    for (struct list_node *n; (n = list_pop_front(&r->over)) != NULL;)
        topic_over(en, container_of(n, struct topic, over));
    r->in_round = true;
}

static void round_go_on(struct engine *en)
{
    struct retention *r = of(en);
    for (struct list_node *n; r->under_way_n < UNDER_WAY_MAX && (n = list_pop_front(&r->looks)) != NULL;)
        begin(en, container_of(n, struct partition, look));
    for (struct heap_node *n; r->under_way_n < UNDER_WAY_MAX && (n = heap_peek(&r->due)) != NULL && n->due <= en->wall_ms;)
        begin(en, container_of(n, struct partition, due));
    const struct heap_node *first = heap_peek(&r->due);
    r->in_round = !list_empty(&r->looks) || (first != NULL && first->due <= en->wall_ms);
}

static void retention_fire(struct engine *en, struct timer *timer)
{
    struct retention *r = container_of(timer, struct retention, timer);
    if (en->wall_suspect || en->stopping) { /* what is too old is not known */
        arm_at(en, en->now.mono_ms + en->limits->retention_interval_ms);
        return;
    }
    LIST_EACH_SAFE (n, &r->under_way) {
        struct trimming *w = container_of(n, struct trimming, link);
        if (w->stage == LOSING || w->stage == RELEASING)
            go_on(en, w);
    }
    if (!r->in_round && en->now.mono_ms >= r->round_ms + en->limits->retention_interval_ms)
        round_begin(en);
    if (r->in_round)
        round_go_on(en);
    if (!r->in_round)
        arm(en);
}

/* ---------------------------------------------------------------- a restart */

void retention_init(struct engine *en)
{
    struct retention *r = of(en);
    list_init(&r->looks);
    list_init(&r->over);
    list_init(&r->under_way);
    r->round_ms = en->now.mono_ms;
}

int retention_load_trims(struct partition *p, struct view value, struct err *e)
{
    p->trims = mem_zalloc(sizeof *p->trims);
    return trims_row_get(value, p->trims, e);
}

void retention_load(struct engine *en)
{
    for (size_t i = 0; i < en->topics_n; i++) {
        struct topic *t = en->topics[i];
        for (uint32_t k = 0; k < t->config.partitions; k++) {
            const struct partition *p = t->partitions[k];
            t->bytes += p->row.end_bytes - p->row.start_bytes;
            en->log_bytes[p->family] += p->row.end_bytes - p->row.start_bytes - compact_removed_bytes(p);
        }
        retention_topic_changed(en, t);
    }
}

uint64_t retention_digest(const struct partition *p, uint64_t (*mix)(uint64_t, uint64_t))
{
    uint64_t h = mix(mix(0, p->row.start_bytes), p->row.first_time_ms);
    for (uint32_t i = 0; p->trims != NULL && i < p->trims->n; i++) {
        const struct trim *t = &p->trims->at[i];
        h = mix(mix(mix(mix(h, t->to), t->first_ms), t->last_ms), t->why);
    }
    return h;
}
