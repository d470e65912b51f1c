/* Hundreds of thousands of retries that are due over an hour, and as many keys that dead letters block, over the real store and the real loop in virtual
 * time: nothing comes early, is lost or there twice, a key goes on in its order, over a restart in the middle; and they wait on the disk, not
 * in memory, which a start does not read.
 */
#include "virtual.h"

enum {
    FEW = 10000,
    MANY = 300000,          /* or as SLUICE_AWAY_MESSAGES says */
    MANY_KEYS = 200000,     /* of two messages each; or that */
    IN_BATCH = 100,
    PARTITIONS = 4,
    OPS = 4 * 40,           /* produced in one turn */
    AT_ONCE = 4096,         /* received and settled */
    HOUR_MS = 3600000,
    STEP_MS = 2000,         /* retries are due at such times */
    MEMORY_MORE_MB_MAX = 64,
    START_MS_MAX = 10000,
};

struct world {
    struct virtual v;
    uint32_t messages, keys;    /* message i has key i % keys */
    uint64_t begin_ms;          /* wall: the first retry is due then */
    uint32_t partition[PARTITIONS], group;
    uint64_t seq[PARTITIONS + 1], counter;
    uint8_t *seen;              /* a bit for each message: acknowledged */
    uint64_t acked, late_ms_max;
    struct wire_settle_item items[AT_ONCE];
    struct call ops[OPS];
};

/* Batches are due in another order than theirs; their messages one after another. */
static uint64_t due_of(const struct world *w, uint32_t id)
{
    uint64_t place = (uint64_t)(id / IN_BATCH) * 7919 % (w->messages / IN_BATCH) * IN_BATCH + id % IN_BATCH;
    return w->begin_ms + place * HOUR_MS / w->messages / STEP_MS * STEP_MS;
}

static bool seen(const struct world *w, uint32_t id) { return (w->seen[id / 8] >> id % 8 & 1) != 0; }

/* ---------------------------------------------------------------- requests */

static void number(struct world *w, struct wire_request *r, uint32_t lane_index, uint32_t lane, uint64_t replies_seen)
{
    r->lane = lane;
    r->seq = ++w->seq[lane_index];
    r->replies_seen = replies_seen;
}

static struct wire_request *change(struct world *w, enum wire_verb verb)
{
    struct wire_request *r = call_prepare(&w->ops[0], verb);
    number(w, r, PARTITIONS, 0, w->seq[PARTITIONS]);
    return r;
}

static void make(struct world *w, uint8_t park)
{
    change(w, VERB_TOPIC_CREATE)->topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = {.partitions = PARTITIONS, .durability = DURABILITY_OS}};
    const struct wire_topic *t = &call_ask(&w->v, &w->ops[0])->topics.topics[0];
    for (uint32_t i = 0; i < PARTITIONS; i++)
        w->partition[i] = t->partitions[i].id;
    change(w, VERB_GROUP_CREATE)->group = (struct wire_group_set){
        .topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .config = {.park = park, .lease_ms = HOUR_MS}};
    w->group = call_ask(&w->v, &w->ops[0])->groups.groups[0].id;
}

/* Batch after batch in each partition in turn: so where a message stands says which it is. */
static uint32_t id_of(const struct world *w, uint32_t partition, uint64_t offset)
{
    uint32_t index = 0;
    while (w->partition[index] != partition)
        index++;
    return (uint32_t)((offset / IN_BATCH * PARTITIONS + index) * IN_BATCH + offset % IN_BATCH);
}

static void produce_one(struct world *w, struct call *p, uint32_t batch, uint64_t replies_seen[PARTITIONS])
{
    uint32_t part = batch % PARTITIONS;
    struct batch_builder *b = batch_builder_new();
    struct wire_produce *out = &call_prepare(p, VERB_PRODUCE)->produce;
    struct buf bytes = {0};
    struct err e = {0};
    for (uint32_t i = 0; i < IN_BATCH; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "k%u", (batch * IN_BATCH + i) % w->keys);
        assert_int_equal(batch_builder_add(b, &(struct record){.key = view_of(key, (size_t)n), .value = VIEW_LIT("v")}, &e), E_OK);
    }
    assert_int_equal(batch_builder_finish(b, BATCH_NONE, &bytes, &out->batch_hash, &e), E_OK);
    batch_builder_free(b);
    p->op.hold = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    number(w, &p->op.request, part, w->partition[part], replies_seen[part]);
    out->partition = w->partition[part];
    out->count = IN_BATCH;
    out->batch = ref_view(p->op.hold);
    p->op.batch.last_delta = IN_BATCH - 1;
    call_give(&w->v, p);
}

static void produce_all(struct world *w)
{
    for (uint32_t first = 0; first < w->messages / IN_BATCH; first += OPS) {
        uint32_t n = w->messages / IN_BATCH - first < OPS ? w->messages / IN_BATCH - first : OPS;
        uint64_t replies_seen[PARTITIONS];
        memcpy(replies_seen, w->seq, sizeof replies_seen);
        for (uint32_t i = 0; i < n; i++)
            produce_one(w, &w->ops[i], first + i, replies_seen);
        call_wait(&w->v, w->ops, n);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(w->ops[i].op.reply.code, E_OK);
    }
}

/* What there is, up to AT_ONCE messages: an item for each. */
static uint32_t receive(struct world *w)
{
    struct wire_request *r = call_prepare(&w->ops[0], VERB_RECEIVE);
    r->receive = (struct wire_receive){.counter = ++w->counter, .groups = &w->group, .groups_n = 1, .max_messages = AT_ONCE};
    const struct wire_receive_reply *reply = &call_ask(&w->v, &w->ops[0])->receive;
    uint32_t n = 0;
    for (uint32_t d = 0; d < reply->deliveries_n; d++)
        for (uint32_t i = 0; i < reply->deliveries[d].records_n; i++) {
            const struct wire_record *x = &reply->deliveries[d].records[i];
            w->items[n++] = (struct wire_settle_item){.token = reply->deliveries[d].token, .offset = x->offset, .partition = x->partition,
                                                      .group = w->group};
        }
    return n;
}

static void settle(struct world *w, uint32_t n)
{
    change(w, VERB_SETTLE)->settle = (struct wire_settle){.singles = w->items, .singles_n = n};
    assert_int_equal(call_ask(&w->v, &w->ops[0])->settle.codes_n, 0);
}

/* Receives and acknowledges what is ready. */
static void take_all(struct world *w, void (*look)(struct world *w, uint32_t id))
{
    for (uint32_t n; (n = receive(w)) > 0;) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t id = id_of(w, w->items[i].partition, w->items[i].offset);
            if (seen(w, id))
                fail_msg("message %u comes again, and was acknowledged", id);
            look(w, id);
            w->seen[id / 8] |= (uint8_t)(1u << id % 8);
            w->items[i].verb = SETTLE_ACK;
        }
        settle(w, n);
        w->acked += n;
    }
}

static struct engine_census census(const struct world *w)
{
    struct engine_census c;
    assert_true(engine_census(loop_engine(w->v.loop), VIEW_LIT("t"), VIEW_LIT("g"), &c));
    return c;
}

static size_t rows(const struct world *w, enum store_family f)
{
    struct store_iter *it = store_iter(w->v.store, f);
    size_t n = 0;
    for (store_iter_seek(it, view_of("", 0)); store_iter_valid(it); store_iter_next(it))
        n++;
    store_iter_close(it);
    return n;
}

/* How long a start takes, of the store and of the broker on it. */
static void restart(struct world *w)
{
    virtual_close(&w->v);
    uint64_t ns = clock_mono_ns();
    virtual_open(&w->v);
    double ms = seconds_since(&ns) * 1000;
    printf("  a start: %.0f ms\n", ms);
    assert_true(ms < START_MS_MAX);
    virtual_hello(&w->v, &w->ops[0], true);
}

static struct world *begin(uint32_t messages, uint32_t keys, uint8_t park)
{
    struct world *w = mem_zalloc(sizeof *w);
    w->messages = messages;
    w->keys = keys;
    w->seen = mem_zalloc(messages / 8 + 1);
    virtual_new(&w->v, "away");
    virtual_hello(&w->v, &w->ops[0], false);
    make(w, park);
    produce_all(w);
    return w;
}

static uint64_t end(struct world *w)
{
    uint64_t kb = peak_kb();
    assert_int_equal(w->acked, w->messages);
    assert_int_equal(census(w).away + census(w).redriven, 0);
    assert_int_equal(rows(w, FAM_HELD) + rows(w, FAM_KEYS) + rows(w, FAM_LEASES), 0);
    assert_true(rows(w, FAM_SCHED) <= 1); /* from where on readers look */
    for (size_t i = 0; i < OPS; i++)
        call_free(&w->ops[i]);
    virtual_close(&w->v);
    virtual_remove(&w->v);
    mem_free(w->seen);
    mem_free(w);
    return kb;
}

static uint32_t many_of(uint32_t usual)
{
    const char *asked = getenv("SLUICE_AWAY_MESSAGES"); /* a multiple of 100 times the partitions */
    return asked != NULL ? (uint32_t)strtoul(asked, NULL, 10) : usual;
}

static void assert_flat(uint64_t few, uint64_t many, uint32_t more)
{
    uint64_t cost = many > few ? many - few : 0; /* it may have given some back meanwhile */
    printf("%u more cost %" PRIu64 " kB of memory more, at most %d MB\n", more, cost, MEMORY_MORE_MB_MAX);
    assert_true(cost <= MEMORY_MORE_MB_MAX * UINT64_C(1000));
}

/* ---------------------------------------------------------------- retries */

static void in_time(struct world *w, uint32_t id)
{
    uint64_t due = due_of(w, id);
    if (due > w->v.now.wall_ms)
        fail_msg("message %u comes %" PRIu64 " ms early", id, due - w->v.now.wall_ms);
    if (w->v.now.wall_ms - due > w->late_ms_max)
        w->late_ms_max = w->v.now.wall_ms - due;
}

static void until(struct world *w, uint64_t wall_ms)
{
    while (w->v.now.wall_ms < wall_ms) {
        uint64_t next = (w->v.now.wall_ms - w->begin_ms) / STEP_MS * STEP_MS + STEP_MS + w->begin_ms;
        virtual_pass(&w->v, next < wall_ms ? next : wall_ms);
        take_all(w, in_time);
    }
}

static uint64_t run_retries(uint32_t messages)
{
    uint64_t ns = clock_mono_ns();
    struct world *w = begin(messages, messages, PARK_MESSAGE);
    printf("%u messages of as many keys: %.1f s\n", messages, seconds_since(&ns));
    w->begin_ms = (w->v.now.wall_ms + 600000) / STEP_MS * STEP_MS;
    for (uint32_t failed = 0, n; failed < messages; failed += n) {
        n = receive(w);
        assert_true(n > 0);
        for (uint32_t i = 0; i < n; i++) {
            w->items[i].verb = SETTLE_NACK;
            w->items[i].flags = SETTLE_HAS_DELAY;
            w->items[i].delay_ms = (uint32_t)(due_of(w, id_of(w, w->items[i].partition, w->items[i].offset)) - w->v.now.wall_ms);
        }
        settle(w, n);
    }
    assert_true(w->v.now.wall_ms + 60000 < w->begin_ms);
    assert_int_equal(census(w).away, messages);
    printf("  each failed once: %.1f s, at most %" PRIu64 " MB resident\n", seconds_since(&ns), peak_kb() / 1000);
    w->v.now.mono_ms += w->begin_ms - w->v.now.wall_ms - 60000;
    w->v.now.wall_ms = w->begin_ms - 60000;
    virtual_pass(&w->v, w->begin_ms);
    take_all(w, in_time);
    until(w, w->begin_ms + HOUR_MS / 2);
    assert_true(w->acked > messages / 2 - messages / 1000 && w->acked < messages / 2 + messages / 1000);
    printf("  half an hour: %.1f s\n", seconds_since(&ns));
    restart(w);
    assert_int_equal(census(w).retrying, messages - w->acked);
    until(w, w->begin_ms + HOUR_MS);
    assert_true(w->late_ms_max <= STEP_MS);
    uint64_t turns = w->v.turns, acked = w->acked, kb = end(w);
    printf("  an hour: %.1f s, %" PRIu64 " turns, %" PRIu64 " acknowledged, at most %" PRIu64 " MB resident\n", seconds_since(&ns), turns, acked,
           kb / 1000);
    return kb;
}

static void retries_come_in_time_once_and_cost_no_memory_however_many(void **state)
{
    (void)state;
    uint64_t few = run_retries(FEW), many = run_retries(many_of(MANY));
    assert_flat(few, many, many_of(MANY) - FEW);
}

/* ---------------------------------------------------------------- blocked keys */

static void in_order(struct world *w, uint32_t id)
{
    if (id >= w->keys && !seen(w, id - w->keys))
        fail_msg("message %u comes before the first of its key", id);
}

static uint64_t run_blocked(uint32_t keys)
{
    uint64_t ns = clock_mono_ns();
    struct world *w = begin(2 * keys, keys, PARK_KEY);
    printf("%u keys of two messages: %.1f s\n", keys, seconds_since(&ns));
    for (uint32_t parked = 0, n; parked < keys; parked += n) {
        n = receive(w);
        assert_true(n > 0);
        for (uint32_t i = 0; i < n; i++)
            w->items[i].verb = SETTLE_PARK;
        settle(w, n);
    }
    take_all(w, in_order); /* the second messages are read ahead, and none comes */
    assert_int_equal(w->acked, 0);
    assert_int_equal(census(w).away, keys);
    assert_int_equal(census(w).behind, keys);
    printf("  all blocked: %.1f s, at most %" PRIu64 " MB resident\n", seconds_since(&ns), peak_kb() / 1000);
    restart(w);
    assert_int_equal(census(w).blocked, keys);
    assert_int_equal(census(w).behind, keys);
    change(w, VERB_HELD_CHANGE)->held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_REDRIVE};
    call_ask(&w->v, &w->ops[0]);
    while (w->acked < w->messages) {
        uint64_t before = w->acked;
        virtual_pass(&w->v, w->v.now.wall_ms + 1);
        take_all(w, in_order);
        if (w->acked == before)
            virtual_pass(&w->v, w->v.now.wall_ms + 100);
    }
    uint64_t kb = end(w);
    printf("  all redriven: %.1f s, at most %" PRIu64 " MB resident\n", seconds_since(&ns), kb / 1000);
    return kb;
}

static void blocked_keys_cost_no_memory_and_go_on_in_order_however_many(void **state)
{
    (void)state;
    uint64_t few = run_blocked(FEW), many = run_blocked(many_of(MANY_KEYS));
    assert_flat(few, many, many_of(MANY_KEYS) - FEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retries_come_in_time_once_and_cost_no_memory_however_many),
        cmocka_unit_test(blocked_keys_cost_no_memory_and_go_on_in_order_however_many),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
