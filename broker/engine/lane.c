/* Lanes: a retry is not a duplicate.
 *
 * Each numbered request belongs to a lane of its session. A lane knows which numbers are done and keeps their results until the
 * client says that it has seen them; both go into the same turn as the effect. So there are three answers to a number: do it, it was
 * done (the kept result), or not yet (an earlier one is missing).
 *
 *   ordered lane (one per partition)      ... base | base+1 |            only base + 1 can be done
 *   lane 0                                ... base | base+1 .. base+60 | any of them, once
 */
#include "engine/memory.h"
#include "base/planted.h"

static void result_free(struct lane_result *r) { mem_free(r->body); }

void lane_free(struct lane *l)
{
    for (size_t i = 0; i < l->results_n; i++)
        result_free(&l->results[i]);
    list_remove(&l->dirty);
    mem_free(l->results);
    mem_free(l);
}

static struct lane_result *result_add(struct lane *l, uint64_t seq)
{
    if (l->results_n == l->results_cap) {
        l->results_cap = l->results_cap > 0 ? 2 * l->results_cap : 4;
        l->results = mem_resize(l->results, l->results_cap, sizeof *l->results);
    }
    size_t at = l->results_n++;
    for (; at > 0 && l->results[at - 1].seq > seq; at--)
        l->results[at] = l->results[at - 1];
    l->results[at] = (struct lane_result){.seq = seq};
    return &l->results[at];
}

static void result_keep(struct lane *l, struct lane_result *r, struct view body)
{
    r->body = mem_dup(body.data, body.size);
    r->body_size = (uint32_t)body.size;
    l->result_bytes += body.size;
}

static void results_drop(struct lane *l, uint64_t seen)
{
    size_t n = 0;
    for (; n < l->results_n && l->results[n].seq <= seen; n++) {
        l->result_bytes -= l->results[n].body_size;
        result_free(&l->results[n]);
    }
    if (n == 0)
        return;
    memmove(l->results, l->results + n, (l->results_n - n) * sizeof *l->results);
    l->results_n -= n;
}

/* A lane's row is read when the session first uses the lane. NULL: the engine failed. */
static struct lane *lane_get(struct engine *en, struct session *s, uint32_t id)
{
    struct lane *l = map_get(&s->lanes, (uint64_t)id + 1);
    if (l != NULL)
        return l;
    l = mem_zalloc(sizeof *l);
    l->id = id;
    l->session = s;
    struct key k = key_lane(s->id, id);
    struct view v;
    struct err e = {0};
    if (row_read(en, FAM_SESSIONS, &k, &v)) {
        struct lane_row row;
        bool bad = false;
        if (lane_row_get(v, &row, &e) != E_OK) /* which looked at all its results */
            row_fail(en, FAM_SESSIONS, key_view(&k), &e);
        else {
            l->base = row.base;
            l->done = row.done;
            for (struct result r; lane_row_next(&row.results_raw, &r, &bad);) {
                struct lane_result *kept = result_add(l, r.seq);
                kept->turn = r.turn;
                kept->level = r.level;
                kept->verb = r.verb;
                result_keep(l, kept, r.body);
            }
            assert(!bad);
        }
    }
    if (engine_failed(en) != NULL) {
        lane_free(l);
        return NULL;
    }
    map_put(&s->lanes, (uint64_t)id + 1, l);
    return l;
}

void lane_write(struct engine *en, struct lane *l)
{
    struct result *results = mem_array(l->results_n, sizeof *results);
    for (size_t i = 0; i < l->results_n; i++) {
        const struct lane_result *r = &l->results[i];
        results[i] = (struct result){.seq = r->seq, .turn = r->turn, .level = r->level, .verb = r->verb,
                                     .body = view_of(r->body, r->body_size)};
    }
    struct key k = key_lane(l->session->id, l->id);
    buf_clear(&en->row);
    lane_row_put(&en->row, l->base, l->done, results, (uint32_t)l->results_n);
    row_put(en, FAM_SESSIONS, &k);
    mem_free(results);
}

/* ---------------------------------------------------------------- results: what a reply was, short enough to keep */

static struct view text_decode(struct engine *en, struct op *op, struct cur *c)
{
    struct view text = cur_bytes(c);
    if (text.size == 0)
        return (struct view){0};
    char *copy = op_take(en, op, text.size, 1);
    memcpy(copy, text.data, text.size);
    return view_of(copy, text.size);
}

static void produced_encode(struct buf *b, const struct wire_produced *p)
{
    buf_put_varint(b, p->base_offset);
    buf_put_varint(b, p->count);
    buf_put_varint(b, p->append_time_ms);
    buf_put_u8(b, p->duplicate);
    buf_put_varint(b, p->due_ms);
    buf_put_bytes(b, p->name);
}

static struct wire_produced produced_decode(struct engine *en, struct op *op, struct cur *c, uint32_t partition)
{
    struct wire_produced p = {.partition = partition};
    p.base_offset = cur_varint(c);
    p.count = (uint32_t)cur_varint(c);
    p.append_time_ms = cur_varint(c);
    if (cur_left(c) == 0) /* kept by format 1 */
        return p;
    p.duplicate = cur_u8(c) != 0;
    p.due_ms = cur_varint(c);
    p.name = text_decode(en, op, c);
    return p;
}

/* A task as it was when it was answered; it may have gone on since. */
static void task_encode(struct buf *b, const struct wire_task_row *t)
{
    const uint64_t numbers[] = {t->id, t->act, t->state, t->dry_run, t->rate_milli, t->seen, t->matched, t->changed, t->started_ms, t->ended_ms};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        buf_put_varint(b, numbers[i]);
    buf_put_bytes(b, t->topic);
    buf_put_bytes(b, t->group);
    buf_put_bytes(b, t->error);
}

static void task_decode(struct engine *en, struct op *op, struct cur *c, struct wire_task_row *t)
{
    t->id = cur_varint(c);
    t->act = (uint8_t)cur_varint(c);
    t->state = (uint8_t)cur_varint(c);
    t->dry_run = cur_varint(c) != 0;
    t->rate_milli = (uint32_t)cur_varint(c);
    uint64_t *numbers[] = {&t->seen, &t->matched, &t->changed, &t->started_ms, &t->ended_ms};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        *numbers[i] = cur_varint(c);
    t->topic = text_decode(en, op, c);
    t->group = text_decode(en, op, c);
    t->error = text_decode(en, op, c);
}

static void seek_encode(struct buf *b, const struct wire_seek_reply *r)
{
    buf_put_varint(b, r->rows_n);
    for (uint32_t i = 0; i < r->rows_n; i++) {
        buf_put_varint(b, r->rows[i].partition);
        buf_put_varint(b, r->rows[i].index);
        buf_put_varint(b, r->rows[i].from);
        buf_put_varint(b, r->rows[i].to);
    }
}

static void seek_decode(struct engine *en, struct op *op, struct cur *c, struct wire_seek_reply *r)
{
    r->rows_n = (uint32_t)cur_varint(c);
    struct wire_seek_row *rows = op_take(en, op, r->rows_n, sizeof *rows);
    for (uint32_t i = 0; i < r->rows_n; i++) {
        rows[i].partition = (uint32_t)cur_varint(c);
        rows[i].index = (uint32_t)cur_varint(c);
        rows[i].from = cur_varint(c);
        rows[i].to = cur_varint(c);
    }
    r->rows = rows;
}

static void result_encode(struct buf *b, const struct op *op)
{
    const struct wire_reply *r = &op->reply;
    switch (op->request.verb) {
    case VERB_PRODUCE:
        produced_encode(b, &r->produce);
        buf_put_varint(b, r->produce.partition); /* a duplicate's first may lie in another than its lane's */
        break;
    case VERB_SETTLE:
        buf_put_varint(b, r->settle.codes_n);
        for (uint32_t i = 0; i < r->settle.codes_n; i++)
            buf_put_varint(b, r->settle.codes[i]);
        buf_put_varint(b, r->settle.outputs_n);
        for (uint32_t i = 0; i < r->settle.outputs_n; i++) {
            buf_put_varint(b, r->settle.outputs[i].partition);
            produced_encode(b, &r->settle.outputs[i]);
        }
        break;
    case VERB_GROUP_COMMIT:
        buf_put_varint(b, r->commit.codes_n);
        for (uint32_t i = 0; i < r->commit.codes_n; i++)
            buf_put_varint(b, r->commit.codes[i]);
        break;
    case VERB_GROUP_SEEK:
        seek_encode(b, &r->seek);
        break;
    case VERB_TOPIC_CREATE:
        buf_put_u8(b, r->topics.created);
        break;
    case VERB_GROUP_CONTROL:
        buf_put_varint(b, r->depth);
        break;
    case VERB_GROUP_CREATE:
        buf_put_u8(b, r->groups.created);
        break;
    case VERB_HELD_CHANGE:
    case VERB_TASK_CANCEL:
        task_encode(b, &r->tasks.tasks[0]);
        break;
    default:
        break;
    }
}

static void result_decode(struct engine *en, struct op *op, uint32_t lane, struct view body)
{
    struct cur c = cur_of(body);
    struct wire_reply *r = &op->reply;
    switch (op->request.verb) {
    case VERB_PRODUCE:
        r->body = BODY_PRODUCE;
        r->produce = produced_decode(en, op, &c, lane);
        if (cur_left(&c) > 0)
            r->produce.partition = (uint32_t)cur_varint(&c);
        break;
    case VERB_SETTLE: {
        r->body = BODY_SETTLE;
        uint32_t n = (uint32_t)cur_varint(&c);
        uint16_t *codes = n > 0 ? op_take(en, op, n, sizeof *codes) : NULL;
        for (uint32_t i = 0; i < n; i++)
            codes[i] = (uint16_t)cur_varint(&c);
        r->settle.codes = codes;
        r->settle.codes_n = n;
        n = cur_left(&c) > 0 ? (uint32_t)cur_varint(&c) : 0;
        struct wire_produced *outputs = n > 0 ? op_take(en, op, n, sizeof *outputs) : NULL;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t partition = (uint32_t)cur_varint(&c);
            outputs[i] = produced_decode(en, op, &c, partition);
        }
        r->settle.outputs = outputs;
        r->settle.outputs_n = n;
        break;
    }
    case VERB_GROUP_COMMIT: {
        r->body = BODY_COMMIT;
        uint32_t n = (uint32_t)cur_varint(&c);
        uint16_t *codes = n > 0 ? op_take(en, op, n, sizeof *codes) : NULL;
        for (uint32_t i = 0; i < n; i++)
            codes[i] = (uint16_t)cur_varint(&c);
        r->commit = (struct wire_commit_reply){.codes = codes, .codes_n = n};
        break;
    }
    case VERB_GROUP_SEEK:
        r->body = BODY_SEEK;
        seek_decode(en, op, &c, &r->seek);
        break;
    case VERB_TOPIC_CREATE:
        r->body = BODY_TOPICS;
        r->topics.created = cur_u8(&c);
        break;
    case VERB_TOPIC_ALTER:
        r->body = BODY_TOPICS;
        break;
    case VERB_GROUP_ALTER:
        r->body = BODY_GROUPS;
        break;
    case VERB_GROUP_CONTROL:
        r->body = BODY_GROUPS;
        r->depth = cur_varint(&c);
        break;
    case VERB_GROUP_CREATE:
        r->body = BODY_GROUPS;
        r->groups.created = cur_u8(&c);
        break;
    case VERB_HELD_CHANGE:
    case VERB_TASK_CANCEL: {
        struct wire_task_row *task = op_take(en, op, 1, sizeof *task);
        task_decode(en, op, &c, task);
        r->body = BODY_TASKS;
        r->tasks.tasks = task;
        r->tasks.tasks_n = 1;
        break;
    }
    default:
        break;
    }
}

/* ---------------------------------------------------------------- the two ends of a numbered request */

static void base_advance(struct lane *l)
{
    while ((l->done & 1) != 0) {
        l->base++;
        l->done >>= 1;
    }
}

static bool lane_has_done(const struct lane *l, uint64_t seq)
{
    return seq <= l->base || (l->id == 0 && seq - l->base <= LANE_WINDOW && (l->done >> (seq - l->base - 1) & 1) != 0);
}

/* The client has the results up to `seen`: they need not be kept. Numbers that it has seen answered and that are not known to be done
 * stood on `os`, and a power cut took them: they are over all the same. */
static void replies_seen(struct lane *l, uint64_t seen)
{
    results_drop(l, seen + PLANTED(result_dropped_early));
    if (seen > l->base) {
        l->done = seen - l->base < LANE_WINDOW ? l->done >> (seen - l->base) : 0;
        l->base = seen;
        base_advance(l);
    }
}

static void answer_repeat(struct engine *en, struct lane *l, struct op *op)
{
    en->counters.repeats++;
    const struct lane_result *kept = NULL;
    for (size_t i = 0; i < l->results_n && kept == NULL; i++)
        if (l->results[i].seq == op->request.seq)
            kept = &l->results[i];
    if (kept == NULL) {
        answer(en, op, E_INVALID_ARGUMENT, "request %llu of lane %u was done and its reply was said to be seen",
               (unsigned long long)op->request.seq, l->id);
        return;
    }
    if (kept->verb != (uint8_t)op->request.verb) {
        answer(en, op, E_INVALID_ARGUMENT, "request %llu of lane %u was another one", (unsigned long long)op->request.seq, l->id);
        return;
    }
    uint64_t turn = kept->turn;
    enum durability level = kept->level;
    result_decode(en, op, l->id, view_of(kept->body, kept->body_size));
    if (op->request.verb == VERB_SETTLE && queue_receive_carried(en, op, l->session, &level))
        turn = en->turn;
    answer_change(en, op, level);
    op->turn = turn;
}

/* The lanes of partitions that went with their topics: nothing will be asked of them any more. Looked through once after such, by the next
 * request of the session. */
static void lanes_sweep(struct engine *en, struct session *s)
{
    s->topics_gone = en->topics_gone;
    buf_clear(&en->scratch);
    for (struct map_it it = map_iter(&s->lanes); map_next(&it);) {
        const struct lane *l = it.value;
        if (l->id != 0 && table_get(&en->partitions, l->id) == NULL)
            buf_append(&en->scratch, &l->id, sizeof l->id);
    }
    for (size_t at = 0; at < en->scratch.size; at += sizeof(uint32_t)) {
        uint32_t id;
        memcpy(&id, en->scratch.data + at, sizeof id);
        struct key k = key_lane(s->id, id);
        row_remove(en, FAM_SESSIONS, &k);
        lane_free(map_del(&s->lanes, (uint64_t)id + 1));
    }
}

enum lane_step lane_begin(struct engine *en, struct session *s, struct op *op)
{
    uint64_t seq = op->request.seq;
    bool ordered = op->request.verb == VERB_PRODUCE;
    if (seq == 0) {
        answer(en, op, E_INVALID_ARGUMENT, "the request has no number (seq 0)");
        return LANE_ANSWERED;
    }
    if (ordered ? op->request.lane != op->request.produce.partition || op->request.lane == 0 : op->request.lane != 0) {
        answer(en, op, E_INVALID_ARGUMENT, "lane %u is not the lane of this request", op->request.lane);
        return LANE_ANSWERED;
    }
    if (ordered && table_get(&en->partitions, op->request.lane) == NULL) {
        partition_gone(en, op, op->request.lane);
        return LANE_ANSWERED;
    }
    if (s->topics_gone != en->topics_gone)
        lanes_sweep(en, s);
    if (map_count(&s->lanes) >= en->limits->lanes_per_session_max && map_get(&s->lanes, (uint64_t)op->request.lane + 1) == NULL) {
        answer(en, op, E_LIMIT, "limit lanes_per_session_max = %llu", (unsigned long long)en->limits->lanes_per_session_max);
        return LANE_ANSWERED;
    }
    struct lane *l = lane_get(en, s, op->request.lane);
    if (l == NULL) {
        answer(en, op, E_STORE_FAILED, NULL);
        return LANE_ANSWERED;
    }
    if (op->request.replies_seen < seq)
        replies_seen(l, op->request.replies_seen);
    if (lane_has_done(l, seq) && !(PLANTED(repeat_done_again) && seq == l->base)) {
        answer_repeat(en, l, op);
        return LANE_ANSWERED;
    }
    if (seq - l->base > (ordered && !PLANTED(lane_gap_accepted) ? 1 : LANE_WINDOW)) {
        en->counters.out_of_order++;
        answer(en, op, E_OUT_OF_ORDER, "lane %u: got %llu, waiting for %llu", l->id, (unsigned long long)seq,
               (unsigned long long)(l->base + 1));
        return LANE_ANSWERED;
    }
    if (l->results_n >= LANE_RESULTS_MAX || l->result_bytes >= LANE_RESULT_BYTES_MAX) {
        answer(en, op, E_LIMIT, "lane %u keeps %zu results that were not seen (replies_seen %llu)", l->id, l->results_n,
               (unsigned long long)op->request.replies_seen);
        return LANE_ANSWERED;
    }
    op->lane = l;
    return LANE_NEW;
}

void lane_done(struct engine *en, struct lane *l, struct op *op, enum durability level)
{
    uint64_t seq = op->request.seq;
    if (l->id == 0)
        l->done |= UINT64_C(1) << (seq - l->base - 1);
    else
        l->base = seq;
    base_advance(l);
    buf_clear(&en->row);
    result_encode(&en->row, op);
    struct lane_result *r = result_add(l, seq);
    r->turn = en->turn;
    r->level = (uint8_t)level;
    r->verb = (uint8_t)op->request.verb;
    result_keep(l, r, buf_view(&en->row));
    if (!PLANTED(lane_forgotten))
        mark_dirty(&en->dirty_lanes, &l->dirty);
}
