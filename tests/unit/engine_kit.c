/* See engine_kit.h. */
#include "engine_kit.h"

#include "base/mem.h"
#include "broker/backread.h"
#include "broker/cutread.h"
#include "broker/dueread.h"
#include "engine/filter.h"
#include "schemas/records.h"

static char *next_text(void)
{
    static char texts[8][65536];
    static unsigned turn;
    char *text = texts[turn++ % 8];
    text[0] = '\0';
    return text;
}

static char *add(char *at, const char *fmt, ...) PRINTF_LIKE(2, 3);
static char *add(char *at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(at, 64, fmt, args);
    va_end(args);
    return at + n;
}

/* ---------------------------------------------------------------- life */

static void due_drop(struct kit *k)
{
    if (k->due_fetched)
        ref_drop(k->due.hold);
    k->due_fetched = false;
}

static void engine_begin(struct kit *k)
{
    struct err e = {0};
    if (engine_open(&k->engine, k->store, &k->limits, k->now, 1, &e) != E_OK)
        fail_msg("the engine does not open: %s", e.text);
    k->durable = k->written = engine_turn(k->engine);
    k->loads_n = k->cuts_n = 0;
    due_drop(k);
    k->back_found = false;
    kit_begin(k);
    kit_end(k);
}

struct kit *kit_new(void)
{
    struct kit *k = mem_zalloc(sizeof *k);
    k->store = store_mem_new();
    k->limits = engine_limits_default;
    k->now = (struct engine_now){.mono_ms = 1000, .wall_ms = UINT64_C(1700000000000)};
    k->message_size = 100;
    k->watch = true;
    k->match_bytes_max = SIZE_MAX;
    list_init(&k->calls);
    engine_begin(k);
    for (int who = A; who < CLIENTS; who++)
        assert_int_equal(kit_hello(k, who, false), E_OK);
    return k;
}

static void engine_end(struct kit *k)
{
    engine_stop(k->engine);
    struct effects *fx = engine_effects(k->engine);
    for (struct list_node *n; (n = list_pop_front(&fx->done)) != NULL;)
        container_of(n, struct call, op.wait)->answered = true;
    engine_close(k->engine);
    k->engine = NULL;
    while (k->copies_n > 0)
        copies_free(k->copies[--k->copies_n]);
    while (k->matches_n > 0)
        match_free(k->matches[--k->matches_n]);
    while (k->picks_n > 0)
        pick_free(k->picks[--k->picks_n]);
    k->asking_n = 0;
    compaction_free(k->compaction);
    k->compaction = NULL;
}

void kit_free(struct kit *k)
{
    engine_end(k);
    due_drop(k);
    buf_free(&k->back_places);
    for (struct list_node *n; (n = list_pop_front(&k->calls)) != NULL;) {
        struct call *c = container_of(n, struct call, link);
        arena_free(&c->op.arena);
        buf_free(&c->op.payload);
        mem_free(c);
    }
    for (size_t i = 0; i < ARRAY_LEN(k->logs); i++)
        mem_free(k->logs[i].records);
    store_close(k->store);
    mem_free(k);
}

void kit_restart_alone(struct kit *k)
{
    engine_end(k);
    engine_begin(k);
}

void kit_restart(struct kit *k)
{
    kit_restart_alone(k);
    for (int who = A; who < CLIENTS; who++)
        assert_int_equal(kit_hello(k, who, true), E_OK);
}

/* ---------------------------------------------------------------- turns */

static void check_sums(struct kit *k)
{
    const struct engine *en = k->engine;
    for (size_t i = 0; i < en->topics_n; i++)
        for (size_t g = 0; g < en->topics[i]->groups_n; g++) {
            struct engine_census c;
            const char *topic = en->topics[i]->name, *group = en->topics[i]->groups[g]->name;
            assert_true(engine_census(en, view_of_str(topic), view_of_str(group), &c));
            if (!c.scanning_again && c.floor + c.done_above_floor + c.leased + c.ready + c.retrying + c.blocked + c.waiting + c.throttled +
                                           c.behind + c.unscanned - c.redriven != c.end)
                fail_msg("the messages of %s/%s do not add up to %llu: %s", topic, group, (unsigned long long)c.end, kit_where(k, topic, group));
        }
}

static void check_restart(struct kit *k)
{
    struct engine *other;
    struct err e = {0};
    if (engine_open(&other, k->store, &k->limits, k->now, 1, &e) != E_OK)
        fail_msg("a second engine does not open: %s", e.text);
    if (engine_digest(other) != engine_digest(k->engine))
        fail_msg("an engine opened from the store knows something else");
    engine_close(other);
}

static void answer_load(struct kit *k, const struct effect_load *l)
{
    const struct kit_log *log = &k->logs[l->partition];
    struct loaded_record *records = mem_array(l->records, sizeof *records);
    struct loaded answer = {.group = l->group, .partition = l->partition, .from = l->from, .next = l->from, .records = records};
    if (log->damaged) {
        answer.code = E_DAMAGED;
        answer.next = l->end;
    }
    for (; answer.next < l->end && answer.records_n < l->records; answer.next++) {
        const struct kit_record *r = &log->records[answer.next];
        if (r->gone)
            continue;
        answer.bytes = r->bytes;
        records[answer.records_n++] = (struct loaded_record){.offset = answer.next, .key_hash = r->hash, .append_time_ms = r->time,
                                                             .size = r->size, .has_key = r->has_key, .ttl_ms = r->ttl_ms,
                                                             .priority = r->priority};
    }
    engine_loaded(k->engine, &answer);
    mem_free(records);
}

static bool fits(void *user, uint32_t partition, uint64_t offset, const struct wire_held_filter *f)
{
    const struct kit_record *r = &((struct kit *)user)->logs[partition].records[offset];
    return !r->gone && filter_bytes(f, r->has_key ? view_of_str(r->key) : (struct view){0}, (struct view){0});
}

static bool within(const struct kit_record *r, uint64_t from_ms, uint64_t to_ms) { return r->time >= from_ms && (to_ms == 0 || r->time < to_ms); }

/* At most three messages: pages end often. */
static void answer_pick(struct kit *k, struct pick *p)
{
    const struct kit_log *log = &k->logs[p->partition];
    const struct wire_held_filter *f = &p->filter;
    for (p->next = p->from; p->next < p->end && log->records[p->next].gone && p->messages_n == 0; p->next++)
        p->lost++;
    for (; p->lost == 0 && p->next < p->end && p->messages_n < 3; p->next++) {
        const struct kit_record *r = &log->records[p->next];
        if (r->gone)
            break;
        if (within(r, p->from_ms, p->to_ms) && (!f->has_offset || (f->partition == p->partition && f->offset == p->next)) &&
            fits(k, p->partition, p->next, f)) {
            p->messages[p->messages_n++] = (struct picked){.offset = p->next, .key_hash = r->hash, .size = r->size, .skipped = p->trailing,
                                                           .priority = r->priority, .has_key = r->has_key};
            p->trailing = 0;
        } else {
            p->trailing++;
        }
    }
    engine_picked(k->engine, p);
}

static void answer_ask(const struct kit *k, struct op_ask *a)
{
    const struct kit_log *log = &k->logs[a->partition];
    if (log->damaged || a->offset >= log->n || log->records[a->offset].gone)
        return;
    const struct kit_record *r = &log->records[a->offset];
    a->found = true;
    a->has_key = r->has_key;
    a->key_hash = r->hash;
    a->append_time_ms = r->time;
    a->bytes = a->offset > 0 ? log->records[a->offset - 1].bytes : 0;
}

/* A copy is the text "copy of OFFSET". */
static void answer_copies(struct kit *k, struct copies *c)
{
    for (uint32_t i = 0; i < c->places_n; i++) {
        char text[32];
        c->places[i].at = c->bytes.size;
        c->places[i].size = (uint32_t)snprintf(text, sizeof text, "copy of %llu", (unsigned long long)c->places[i].offset);
        buf_append(&c->bytes, text, c->places[i].size);
        if (c->places[i].offset < ((struct partition *)table_get(&k->engine->partitions, c->partition))->row.start)
            fail_msg("offset %llu is to be copied and is gone already", (unsigned long long)c->places[i].offset);
    }
    engine_copied(k->engine, c);
}

/* What the log has no more is read from the copy that the group has. */
static void match_one(struct kit *k, struct match *m, struct match_place *p)
{
    struct key key = key_copy(m->group, p->partition, p->offset);
    struct buf copy = {0};
    struct err e = {0};
    bool below = p->offset < ((struct partition *)table_get(&k->engine->partitions, p->partition))->row.start, found = false;
    if (store_get(k->store, FAM_SCHED, key_view(&key), &copy, &found, &e) != E_OK)
        fail_msg("the copy of %llu does not read: %s", (unsigned long long)p->offset, e.text);
    p->gone = below && !found;
    p->fits = !p->gone && fits(k, p->partition, p->offset, &m->filter) &&
              within(&k->logs[p->partition].records[p->offset], m->from_ms, m->to_ms);
    p->at = m->bytes.size;
    if (p->fits && p->wants_copy && m->bytes.size < k->match_bytes_max)
        buf_append(&m->bytes, copy.data, copy.size);
    p->size = (uint32_t)(m->bytes.size - p->at);
    buf_free(&copy);
}

/* What readers were asked comes back to the engine. */
static void answer_reads(struct kit *k)
{
    size_t matches = k->hold_matches ? 0 : k->matches_n, picks = k->hold_matches ? 0 : k->picks_n, asking = k->hold_asks ? 0 : k->asking_n;
    for (size_t i = 0; i < matches; i++) {
        struct match *m = k->matches[i];
        for (uint32_t p = 0; p < m->places_n; p++)
            match_one(k, m, &m->places[p]);
        engine_matched(k->engine, m);
    }
    k->matches_n -= matches;
    for (size_t i = 0; i < picks; i++)
        answer_pick(k, k->picks[i]);
    k->picks_n -= picks;
    for (size_t i = 0; i < asking; i++) {
        for (uint32_t a = 0; a < k->asking[i]->op.asks_n; a++)
            answer_ask(k, &k->asking[i]->op.asks[a]);
        engine_op(k->engine, &k->asking[i]->op);
    }
    k->asking_n -= asking;
}

void kit_begin(struct kit *k)
{
    if (k->stopped)
        return;
    engine_turn_begin(k->engine, k->now);
    engine_durable(k->engine, k->durable);
    engine_written(k->engine, k->written);
    for (size_t i = 0; i < k->loads_n && !k->hold_loads; i++)
        answer_load(k, &k->loads[i]);
    k->loads_n = k->hold_loads ? k->loads_n : 0;
    answer_reads(k);
    for (size_t i = 0; i < k->cuts_n && !k->hold_cuts; i++)
        engine_cut(k->engine, &k->cuts[i]);
    k->cuts_n = k->hold_cuts ? k->cuts_n : 0;
    for (size_t i = 0; i < k->copies_n && !k->hold_copies; i++)
        answer_copies(k, k->copies[i]);
    k->copies_n = k->hold_copies ? k->copies_n : 0;
    if (k->due_fetched && !k->hold_due) {
        engine_due(k->engine, &k->due);
        due_drop(k);
    }
    if (k->back_found && !k->hold_back) {
        k->back_found = false;
        engine_back(k->engine, &k->back);
    }
}

void kit_end(struct kit *k)
{
    if (k->stopped)
        return;
    engine_turn_end(k->engine);
    if (engine_failed(k->engine) != NULL && k->may_stop) {
        k->stopped = true;
        return;
    }
    if (engine_failed(k->engine) != NULL)
        fail_msg("the engine failed: %s", engine_failed(k->engine)->text);
    struct effects *fx = engine_effects(k->engine);
    struct err e = {0};
    if (fx->puts.count > 0 && store_write(k->store, &fx->puts, &e) != E_OK)
        fail_msg("the write failed: %s", e.text);
    k->written = engine_turn(k->engine);
    if (!k->hold_syncs) {
        store_sync(k->store, &e);
        k->durable = k->written;
    }
    for (size_t i = 0; i < fx->loads_n; i++)
        k->loads[k->loads_n++] = fx->loads[i];
    k->loads_made += fx->loads_n;
    for (size_t i = 0; i < fx->matches_n; i++)
        k->matches[k->matches_n++] = fx->matches[i];
    k->matches_made += fx->matches_n;
    for (size_t i = 0; i < fx->picks_n; i++)
        k->picks[k->picks_n++] = fx->picks[i];
    k->picks_made += fx->picks_n;
    if (fx->due != NULL) {
        assert_false(k->due_fetched); /* one at a time */
        if (due_read(k->store, fx->due, &k->due, &e) != E_OK)
            fail_msg("what is due does not read: %s", e.text);
        k->due_fetched = true;
    }
    for (size_t i = 0; i < fx->cuts_n; i++)
        if (cut_find(k->store, &fx->cuts[i], &k->cuts[k->cuts_n++], &e) != E_OK)
            fail_msg("the log cannot be looked at: %s", e.text);
    if (fx->back != NULL) {
        assert_false(k->back_found); /* one at a time */
        if (back_read(k->store, fx->back, &k->back, &k->back_places, &e) != E_OK)
            fail_msg("what is away does not read: %s", e.text);
        k->back_found = true;
    }
    for (size_t i = 0; i < fx->copies_n; i++)
        k->copies[k->copies_n++] = fx->copies[i];
    k->copies_made += fx->copies_n;
    if (fx->compaction != NULL) {
        assert_null(k->compaction); /* one at a time */
        k->compaction = fx->compaction;
    }
    if (fx->notices_n > 0)
        k->notice = fx->notices[fx->notices_n - 1].line;
    k->hints += fx->hints_n;
    k->drops += fx->drop_pipes_n;
    if (fx->drop_pipes_n > 0)
        k->dropped_pipe = fx->drop_pipes[0];
    for (size_t i = 0; i < fx->partitions_n; i++)
        k->gone_partitions += fx->partitions[i].gone;
    for (struct list_node *n; (n = list_pop_front(&fx->done)) != NULL;) {
        struct call *c = container_of(n, struct call, op.wait);
        assert_false(c->answered);
        if (c->op.read == READ_INDEX) {
            k->asking[k->asking_n++] = c;
            k->asks_made++;
            continue;
        }
        if (c->op.read == READ_HELD)
            held_page(k->store, &c->op, fits, k);
        c->answered = true;
    }
    engine_effects_clear(k->engine);
    check_sums(k);
    if (k->watch)
        check_restart(k);
}

static bool pending(const struct kit *k)
{
    const struct pending *synced = &k->engine->for_durable, *written = &k->engine->for_written;
    if (k->stopped)
        return false;
    return (k->due_fetched && !k->hold_due) || (k->back_found && !k->hold_back) || (k->cuts_n > 0 && !k->hold_cuts) ||
           (k->copies_n > 0 && !k->hold_copies) ||
           (k->loads_n > 0 && !k->hold_loads) || (k->matches_n + k->picks_n > 0 && !k->hold_matches) ||
           (k->asking_n > 0 && !k->hold_asks) ||
           written->first < written->n || (synced->first < synced->n && !k->hold_syncs);
}

void kit_quiet(struct kit *k)
{
    for (int i = 0; i < 10000 && pending(k); i++) {
        kit_begin(k);
        kit_end(k);
    }
    assert_false(pending(k));
}

void kit_pass(struct kit *k, uint64_t ms)
{
    uint64_t until = k->now.mono_ms + ms;
    while (!k->stopped) {
        uint64_t due = engine_deadline(k->engine), at = due < until ? due : until;
        if (at > k->now.mono_ms) {
            k->now.wall_ms += at - k->now.mono_ms;
            k->now.mono_ms = at;
        }
        kit_begin(k);
        kit_end(k);
        kit_quiet(k);
        if (k->now.mono_ms >= until && engine_deadline(k->engine) > until)
            return;
    }
}

/* ---------------------------------------------------------------- requests */

struct wire_request kit_request(const struct kit *k, int who, enum wire_verb verb)
{
    return (struct wire_request){.session = {(uint64_t)who, k->generation[who] + 1}, .verb = verb};
}

/* A request may wait longer than its arrays live. */
static const void *keep(struct call *c, const void *data, size_t size)
{
    void *copy = arena_take(&c->op.arena, size > 0 ? size : 1);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

/* What api would have found in the batches of a settle's units. */
static void unit_batches(struct call *c, const struct kit *k)
{
    const struct id128 *ids = k->message_ids;
    const struct wire_settle *w = &c->op.request.settle;
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->units_n; i++)
        n += w->units[i].produces_n;
    if (n == 0)
        return;
    struct op_batch *batches = arena_take(&c->op.arena, n * sizeof *batches);
    c->op.unit_batches = batches;
    for (uint32_t i = 0; i < w->units_n; i++)
        for (uint32_t j = 0; j < w->units[i].produces_n; j++) {
            uint32_t count = w->units[i].produces[j].count;
            *batches++ = (struct op_batch){.last_delta = count - 1, .message_ids = ids, .partitions = k->checked_partitions,
                                           .misfit = k->checked_misfit, .keyless = k->checked_keyless, .largest = k->checked_largest};
            ids = ids != NULL ? ids + count : NULL;
        }
}

struct call *kit_call(struct kit *k, struct wire_request r, int who)
{
    struct call *c = mem_zalloc(sizeof *c);
    list_push_back(&k->calls, &c->link);
    arena_init(&c->op.arena, SIZE_MAX);
    c->op.request = r;
    if (r.verb == VERB_RECEIVE)
        c->op.request.receive.groups = keep(c, r.receive.groups, r.receive.groups_n * sizeof *r.receive.groups);
    if (r.verb == VERB_FETCH)
        c->op.request.fetch.from = keep(c, r.fetch.from, r.fetch.from_n * sizeof *r.fetch.from);
    c->op.pipe = k->pipe[who];
    if (r.verb == VERB_PRODUCE)
        c->op.batch = (struct op_batch){.last_delta = r.produce.count - 1, .message_ids = k->message_ids,
                                        .partitions = k->checked_partitions, .misfit = k->checked_misfit,
                                        .keyless = k->checked_keyless, .largest = k->checked_largest};
    if (r.verb == VERB_SETTLE)
        unit_batches(c, k);
    bool own_turn = !k->engine->in_turn;
    if (own_turn)
        kit_begin(k);
    engine_op(k->engine, &c->op);
    if (own_turn) {
        kit_end(k);
        kit_quiet(k);
    }
    return c;
}

const struct wire_reply *kit_reply(const struct call *c)
{
    assert_true(c->answered);
    return &c->op.reply;
}

const struct wire_reply *kit_ask(struct kit *k, struct wire_request r, int who) { return kit_reply(kit_call(k, r, who)); }

static void number(struct kit *k, struct wire_request *r, int who)
{
    r->seq = ++k->seq[who][r->lane];
    r->replies_seen = r->seq - 1;
}

const struct wire_reply *kit_ask_numbered(struct kit *k, struct wire_request r, int who)
{
    number(k, &r, who);
    const struct wire_reply *reply = kit_ask(k, r, who);
    if (reply->code != E_OK)
        k->seq[who][r.lane]--; /* a refused request keeps its number */
    return reply;
}

int kit_hello(struct kit *k, int who, bool resume)
{
    static uint64_t pipes = 100;
    struct wire_request r = kit_request(k, who, VERB_HELLO);
    r.hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = VIEW_LIT("test"), .resume = resume};
    k->pipe[who] = ++pipes;
    return kit_ask(k, r, who)->code;
}

void kit_lose_pipe(struct kit *k, int who)
{
    kit_begin(k);
    engine_pipe_lost(k->engine, k->pipe[who]);
    kit_end(k);
    kit_quiet(k);
}

uint32_t kit_topic_of(struct kit *k, const char *name, struct wire_topic_config config)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_CREATE);
    r.topic = (struct wire_topic_set){.name = view_of_str(name), .config = config};
    const struct wire_reply *reply = kit_ask_numbered(k, r, A);
    assert_int_equal(reply->code, E_OK);
    return reply->topics.topics[0].partitions[0].id;
}

uint32_t kit_topic(struct kit *k, const char *name, uint32_t partitions)
{
    return kit_topic_of(k, name, (struct wire_topic_config){.partitions = partitions});
}

uint32_t kit_group(struct kit *k, const char *topic, const char *name, const struct wire_group_config *config)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_CREATE);
    r.group = (struct wire_group_set){.topic = view_of_str(topic), .name = view_of_str(name)};
    if (config != NULL)
        r.group.config = *config;
    const struct wire_reply *reply = kit_ask_numbered(k, r, A);
    assert_int_equal(reply->code, E_OK);
    uint32_t id = reply->groups.groups[0].id;
    k->group_topic_first[id] = topic_find(k->engine, view_of_str(topic))->partitions[0]->id;
    return id;
}

const struct wire_reply *kit_alter_group(struct kit *k, const char *topic, const char *name, struct wire_group_config to, uint64_t mask)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_ALTER);
    r.group = (struct wire_group_set){.topic = view_of_str(topic), .name = view_of_str(name), .config = to, .mask = mask};
    return kit_ask_numbered(k, r, A);
}

const struct wire_reply *kit_control(struct kit *k, const char *topic, const char *name, enum group_act act)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = view_of_str(topic), .name = view_of_str(name), .act = (uint8_t)act};
    return kit_ask_numbered(k, r, A);
}

struct kit_world kit_world_of(uint32_t partitions, struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", partitions);
    return (struct kit_world){k, p, kit_group(k, "t", "g", &config)};
}

struct kit_world kit_world(struct wire_group_config config) { return kit_world_of(1, config); }

int kit_delete_group(struct kit *k, const char *topic, const char *name)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_DELETE);
    r.group = (struct wire_group_set){.topic = view_of_str(topic), .name = view_of_str(name)};
    return kit_ask_numbered(k, r, A)->code;
}

int kit_delete_topic(struct kit *k, const char *name)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_DELETE);
    r.topic.name = view_of_str(name);
    return kit_ask_numbered(k, r, A)->code;
}

/* ---------------------------------------------------------------- producing */

static void log_add(struct kit *k, uint32_t partition, const char *key, size_t size)
{
    struct kit_log *log = &k->logs[partition];
    if (log->n == log->cap) {
        log->cap = log->cap > 0 ? 2 * log->cap : 64;
        log->records = mem_resize(log->records, log->cap, sizeof *log->records);
    }
    bool has_key = !(size == 1 && key[0] == '-');
    struct kit_record *r = &log->records[log->n++];
    *r = (struct kit_record){.hash = key_hash(view_of(key, size)), .has_key = has_key, .size = k->message_size, .time = k->now.wall_ms,
                            .ttl_ms = k->message_ttl_ms, .priority = k->message_priority};
    assert_true(size < sizeof r->key);
    memcpy(r->key, key, size);
}

static int produce(struct kit *k, int who, uint32_t partition, uint32_t count)
{
    struct wire_request r = kit_request(k, who, VERB_PRODUCE);
    r.lane = partition;
    r.produce = (struct wire_produce){.partition = partition, .count = count, .batch = VIEW_LIT("the engine never looks inside")};
    const struct partition *p = table_get(&k->engine->partitions, partition);
    uint64_t before = p != NULL ? p->row.end_bytes : 0;
    int code = kit_ask_numbered(k, r, who)->code;
    for (uint32_t i = 1; code == E_OK && i <= count; i++) { /* each has its share of the batch */
        struct kit_log *log = &k->logs[partition];
        log->records[log->n - count - 1 + i].bytes = before + (p->row.end_bytes - before) * i / count;
    }
    return code;
}

static uint32_t log_add_all(struct kit *k, uint32_t partition, const char *keys)
{
    uint32_t count = 0;
    for (const char *at = keys; *at != '\0'; count++) {
        size_t size = strcspn(at, " ");
        log_add(k, partition, at, size);
        at += size + (at[size] == ' ');
    }
    return count;
}

void kit_logged(struct kit *k, uint32_t partition, const char *keys) { log_add_all(k, partition, keys); }

int kit_produce_by(struct kit *k, int who, uint32_t partition, const char *keys)
{
    size_t before = k->logs[partition].n;
    uint32_t count = log_add_all(k, partition, keys);
    int code = produce(k, who, partition, count);
    if (code != E_OK)
        k->logs[partition].n = before;
    return code;
}

int kit_produce(struct kit *k, uint32_t partition, const char *keys) { return kit_produce_by(k, A, partition, keys); }

const struct wire_reply *kit_produce_ids(struct kit *k, int who, uint32_t partition, const char *ids)
{
    static struct id128 parsed[WIRE_BATCH_RECORDS_MAX];
    struct wire_request r = kit_request(k, who, VERB_PRODUCE);
    r.lane = partition;
    r.produce = (struct wire_produce){.partition = partition, .batch = VIEW_LIT("the engine never looks inside")};
    for (const char *at = ids; *at != '\0'; r.produce.count++) {
        size_t size = strcspn(at, " ");
        struct id128 id = {0};
        for (size_t i = 0; i < size && at[0] != '-'; i++)
            id = (struct id128){.lo = id.lo * 131 + (uint8_t)at[i], .hi = id.hi + (uint8_t)at[i]};
        parsed[r.produce.count] = id;
        at += size + (at[size] == ' ');
    }
    k->message_ids = parsed;
    const struct wire_reply *reply = kit_ask_numbered(k, r, who);
    k->message_ids = NULL;
    for (uint32_t i = 0; reply->code == E_OK && !reply->produce.duplicate && i < r.produce.count; i++)
        log_add(k, partition, "-", 1);
    return reply;
}

void kit_produce_many(struct kit *k, uint32_t partition, const char *key, size_t n)
{
    for (size_t i = 0; i < n; i++)
        log_add(k, partition, key, strlen(key));
    assert_int_equal(produce(k, A, partition, (uint32_t)n), E_OK);
}

/* ---------------------------------------------------------------- queue groups */

static void remember(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset, uint64_t token)
{
    size_t i = 0;
    while (i < k->tokens_n && (k->tokens[i].group != group || k->tokens[i].partition != partition || k->tokens[i].offset != offset))
        i++;
    assert_true(i < ARRAY_LEN(k->tokens));
    k->tokens[i].group = group;
    k->tokens[i].partition = partition;
    k->tokens[i].offset = offset;
    k->tokens[i].token = token;
    k->tokens_n = i < k->tokens_n ? k->tokens_n : i + 1;
}

uint64_t kit_token(const struct kit *k, uint32_t group, uint32_t partition, uint64_t offset)
{
    for (size_t i = 0; i < k->tokens_n; i++)
        if (k->tokens[i].group == group && k->tokens[i].partition == partition && k->tokens[i].offset == offset)
            return k->tokens[i].token;
    fail_msg("offset %llu was never granted", (unsigned long long)offset);
    return 0;
}

const char *kit_deliveries(struct kit *k, const struct wire_receive_reply *r)
{
    char *text = next_text(), *at = text;
    for (uint32_t d = 0; d < r->deliveries_n; d++) {
        const struct wire_delivery *delivery = &r->deliveries[d];
        for (uint32_t i = 0; i < delivery->records_n; i++) {
            const struct wire_record *x = &delivery->records[i];
            uint32_t index = x->partition - k->group_topic_first[delivery->group];
            at = add(at, at == text ? "" : " ");
            at = index > 0 ? add(at, "%u/%llu", index, (unsigned long long)x->offset) : add(at, "%llu", (unsigned long long)x->offset);
            remember(k, delivery->group, x->partition, x->offset, delivery->token);
        }
    }
    return text;
}

struct call *kit_receive_wait(struct kit *k, int who, uint32_t slot, uint32_t group, uint32_t most, uint32_t wait_ms)
{
    struct wire_request r = kit_request(k, who, VERB_RECEIVE);
    r.receive = (struct wire_receive){.slot = slot, .counter = ++k->counter[who][slot], .groups = &group, .groups_n = 1,
                                      .max_messages = most, .wait_ms = wait_ms};
    return kit_call(k, r, who);
}

const char *kit_receive(struct kit *k, int who, uint32_t group, uint32_t most)
{
    struct call *c = kit_receive_wait(k, who, 0, group, most, 0);
    if (!c->answered)
        kit_pass(k, 50); /* what was not read ahead was given a moment */
    const struct wire_reply *r = kit_reply(c);
    if (r->code != E_OK)
        return error_name(r->code);
    return kit_deliveries(k, &r->receive);
}

const struct wire_record *kit_record(const struct wire_reply *r, uint64_t offset)
{
    for (uint32_t d = 0; d < r->receive.deliveries_n; d++)
        for (uint32_t i = 0; i < r->receive.deliveries[d].records_n; i++)
            if (r->receive.deliveries[d].records[i].offset == offset)
                return &r->receive.deliveries[d].records[i];
    fail_msg("offset %llu is not in the reply", (unsigned long long)offset);
    return NULL;
}

struct wire_settle_item kit_item(const struct kit *k, uint32_t group, enum settle_verb verb, const char *message)
{
    const char *slash = strchr(message, '/'), *space = strchr(message, ' ');
    slash = space != NULL && slash != NULL && slash > space ? NULL : slash;
    uint32_t partition = k->group_topic_first[group] + (slash != NULL ? (uint32_t)strtoul(message, NULL, 10) : 0);
    uint64_t offset = strtoull(slash != NULL ? slash + 1 : message, NULL, 10);
    return (struct wire_settle_item){.token = kit_token(k, group, partition, offset), .offset = offset, .group = group,
                                     .partition = partition, .verb = (uint8_t)verb};
}

static const char *settle(struct kit *k, int who, uint32_t group, enum settle_verb verb, const char *messages, uint8_t flags, uint32_t delay_ms)
{
    struct wire_settle_item items[512];
    struct wire_request r = kit_request(k, who, VERB_SETTLE);
    r.settle.singles = items;
    for (const char *at = messages; *at != '\0';) {
        struct wire_settle_item *i = &items[r.settle.singles_n++];
        *i = kit_item(k, group, verb, at);
        i->flags = flags;
        i->delay_ms = delay_ms;
        at += strcspn(at, " ");
        at += *at == ' ';
    }
    const struct wire_reply *reply = kit_ask_numbered(k, r, who);
    assert_int_equal(reply->code, E_OK);
    char *text = next_text(), *at = text;
    for (uint32_t i = 0; i < reply->settle.codes_n; i++)
        at = add(at, "%s%s", i > 0 ? " " : "", error_name(reply->settle.codes[i]));
    return text;
}

const char *kit_settle(struct kit *k, int who, uint32_t group, enum settle_verb verb, const char *messages)
{
    return settle(k, who, group, verb, messages, 0, 0);
}

const char *kit_settle_delay(struct kit *k, int who, uint32_t group, enum settle_verb verb, const char *messages, uint32_t delay_ms)
{
    return settle(k, who, group, verb, messages, verb == SETTLE_NACK ? SETTLE_HAS_DELAY : 0, delay_ms);
}

const char *kit_ack(struct kit *k, int who, uint32_t group, const char *messages) { return kit_settle(k, who, group, SETTLE_ACK, messages); }

void kit_take(struct kit_world w, const char *messages)
{
    for (const char *at = messages; *at != '\0';) {
        char text[8];
        size_t size = strcspn(at, " ");
        snprintf(text, sizeof text, "%.*s", (int)size, at);
        assert_string_equal(kit_receive(w.k, B, w.g, 10), text);
        assert_string_equal(kit_ack(w.k, B, w.g, text), "");
        at += size + (at[size] == ' ');
    }
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
}

const struct wire_reply *kit_unit_of(struct kit *k, int who, struct wire_unit unit)
{
    struct wire_request r = kit_request(k, who, VERB_SETTLE);
    r.settle = (struct wire_settle){.units = &unit, .units_n = 1};
    const struct wire_reply *reply = kit_ask_numbered(k, r, who);
    assert_int_equal(reply->code, E_OK);
    return reply;
}

int kit_unit_code(const struct wire_reply *r) { return r->settle.codes != NULL ? r->settle.codes[r->settle.codes_n - 1] : E_OK; }

int kit_unit(struct kit *k, int who, const struct wire_settle_item *items, uint32_t n)
{
    return kit_unit_code(kit_unit_of(k, who, (struct wire_unit){.items = items, .items_n = n}));
}

/* ---------------------------------------------------------------- looking */

const char *kit_where(struct kit *k, const char *topic, const char *group)
{
    struct engine_census c;
    if (!engine_census(k->engine, view_of_str(topic), view_of_str(group), &c))
        return "no such group";
    const struct { const char *name; uint64_t n; } counts[] = {
        {"floor", c.floor},       {"done", c.done_above_floor}, {"leased", c.leased}, {"ready", c.ready},       {"retrying", c.retrying},
        {"blocked", c.blocked},   {"waiting", c.waiting},       {"throttled", c.throttled}, {"behind", c.behind},
        {"unscanned", c.unscanned}, {"parked", c.parked},       {"redriven", c.redriven}, {"away", c.away}};
    char *text = next_text(), *at = text;
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (counts[i].n > 0)
            at = add(at, "%s%s %llu", at == text ? "" : " ", counts[i].name, (unsigned long long)counts[i].n);
    return text;
}

const char *kit_held(struct kit *k, const char *topic, const char *group, enum held_state state)
{
    struct wire_request r = kit_request(k, A, VERB_HELD_LIST);
    r.held = (struct wire_held_list){.topic = view_of_str(topic), .group = view_of_str(group), .state = (uint8_t)state};
    const struct wire_reply *reply = kit_ask(k, r, A);
    assert_int_equal(reply->code, E_OK);
    char *text = next_text(), *at = text;
    for (uint32_t i = 0; i < reply->held.rows_n; i++) {
        const struct wire_held *h = &reply->held.rows[i];
        at = add(at, "%s%llu ", i > 0 ? " " : "", (unsigned long long)h->offset);
        at = h->state == HELD_RETRYING ? add(at, "retrying") : add(at, "parked(%.*s)", (int)h->reason.size, (const char *)h->reason.data);
    }
    return text;
}

static struct held_row parked_row(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset)
{
    struct key key = key_held(group, partition, offset);
    struct view v;
    struct held_row row;
    struct err e = {0};
    assert_true(row_read(k->engine, FAM_HELD, &key, &v));
    assert_int_equal(held_row_get(v, &row, &e), E_OK);
    return row;
}

static struct group_part *part_of(struct kit *k, uint32_t group, uint32_t partition)
{
    return group_part(map_get(&k->engine->groups, group), table_get(&k->engine->partitions, partition));
}

bool kit_redrive(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset)
{
    struct held_row row = parked_row(k, group, partition, offset);
    kit_begin(k);
    bool done = entry_redrive(k->engine, part_of(k, group, partition), offset, &row);
    kit_end(k);
    kit_quiet(k);
    return done;
}

void kit_drop_parked(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset)
{
    struct held_row row = parked_row(k, group, partition, offset);
    kit_begin(k);
    entry_drop_parked(k->engine, part_of(k, group, partition), offset, &row);
    kit_end(k);
    kit_quiet(k);
}

const struct wire_explain_reply *kit_explain(struct kit_world w, struct wire_explain what)
{
    struct wire_request r = kit_request(w.k, A, VERB_EXPLAIN);
    r.explain = what;
    r.explain.topic = VIEW_LIT("t");
    r.explain.group = VIEW_LIT("g");
    const struct wire_reply *reply = kit_ask(w.k, r, A);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->body, BODY_EXPLAIN);
    return &reply->explain;
}

const struct wire_reply *kit_change_held(struct kit *k, const char *topic, const char *group, struct wire_held_change change)
{
    struct wire_request r = kit_request(k, A, VERB_HELD_CHANGE);
    r.held_change = change;
    r.held_change.topic = view_of_str(topic);
    r.held_change.group = view_of_str(group);
    return kit_ask_numbered(k, r, A);
}

struct wire_task_row kit_task(struct kit *k, uint64_t id)
{
    struct wire_request r = kit_request(k, A, VERB_TASK_LIST);
    r.task.id = id;
    const struct wire_reply *reply = kit_ask(k, r, A);
    assert_int_equal(reply->code, E_OK);
    return reply->tasks.tasks[0];
}

struct wire_lag kit_lag(struct kit *k, const char *topic, const char *group)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_LAG);
    r.list = (struct wire_list){.topic = view_of_str(topic), .name = view_of_str(group)};
    const struct wire_reply *reply = kit_ask(k, r, A);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->lag.rows_n, 1);
    return reply->lag.rows[0];
}

/* ---------------------------------------------------------------- rows */

size_t kit_rows(const struct kit *k, enum store_family f, bool (*is)(struct view key))
{
    size_t n = 0;
    struct store_iter *it = store_iter(k->store, f);
    for (store_iter_seek(it, VIEW_LIT("")); store_iter_valid(it); store_iter_next(it))
        n += is == NULL || is(store_iter_key(it));
    store_iter_close(it);
    return n;
}


static void row_write(struct kit *k, struct puts *l)
{
    struct err e = {0};
    assert_int_equal(store_write(k->store, l, &e), E_OK);
    puts_free(l);
    k->may_stop = true;
    k->watch = false;
}

void kit_row_put(struct kit *k, enum store_family f, struct key key, struct view value)
{
    struct puts l;
    puts_init(&l);
    puts_row(&l, f, key_view(&key), value);
    row_write(k, &l);
}

void kit_row_remove(struct kit *k, enum store_family f, struct key key)
{
    struct puts l;
    assert_true(kit_row_there(k, f, key));
    puts_init(&l);
    puts_remove(&l, f, key_view(&key));
    row_write(k, &l);
}

struct key kit_key_cut(struct key key, uint8_t size)
{
    key.size = size;
    return key;
}

bool kit_row_there(struct kit *k, enum store_family f, struct key key)
{
    struct buf value = {0};
    struct err e = {0};
    bool found = false;
    assert_int_equal(store_get(k->store, f, key_view(&key), &value, &found, &e), E_OK);
    buf_free(&value);
    return found;
}

void kit_row_damage(struct kit *k, enum store_family f, struct key key)
{
    assert_true(store_mem_damage(k->store, f, key_view(&key)));
    k->may_stop = true;
    k->watch = false;
}

void kit_stops(struct kit *k, int code, const char *text)
{
    if (!k->stopped) {
        kit_begin(k);
        kit_end(k);
    }
    assert_true(k->stopped);
    assert_int_equal(engine_failed(k->engine)->code, code);
    assert_has(engine_failed(k->engine)->text, text);
    kit_free(k);
}
