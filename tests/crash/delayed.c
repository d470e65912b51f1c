/* A million messages that wait for their time, over the real store and the real loop in virtual time: none is early, none is lost or there
 * twice over a restart in the middle of the hour, and they wait on the disk, not in memory.
 */
#include "virtual.h"

enum {
    FEW = 10000,
    MANY = 1000000,
    IN_BATCH = 20,
    PARTITIONS = 4,
    OPS = 4 * 150,          /* produced in one turn */
    HOUR_MS = 3600000,
    MEMORY_MORE_MB_MAX = 64,
};

struct world {
    struct virtual v;
    uint32_t messages, batches;
    uint64_t begin_ms;      /* wall: the first may be due from here on */
    uint32_t partition[PARTITIONS];
    uint64_t seq[PARTITIONS + 1];
    struct call ops[OPS];
};

/* Times are not given in their own order, and each second one is 2 ms behind the one before. */
static uint64_t due_of(const struct world *w, uint32_t batch)
{
    uint64_t place = (uint64_t)batch * 7919 % w->batches;
    return w->begin_ms + place / 2 * 2 * HOUR_MS / w->batches + place % 2 * 2;
}

/* ---------------------------------------------------------------- requests */

static void number(struct world *w, struct wire_request *r, uint32_t lane_index, uint32_t lane, uint64_t seen)
{
    r->lane = lane;
    r->seq = ++w->seq[lane_index];
    r->replies_seen = seen;
}

static void make_topic(struct world *w)
{
    struct wire_request *r = call_prepare(&w->ops[0], VERB_TOPIC_CREATE);
    number(w, r, PARTITIONS, 0, 0);
    r->topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = {.partitions = PARTITIONS, .durability = DURABILITY_DISK}};
    const struct wire_topic *t = &call_ask(&w->v, &w->ops[0])->topics.topics[0];
    for (uint32_t i = 0; i < PARTITIONS; i++)
        w->partition[i] = t->partitions[i].id;
}

static void produce_one(struct world *w, struct call *p, uint32_t batch, uint64_t seen[PARTITIONS])
{
    uint32_t part = batch % PARTITIONS;
    struct batch_builder *b = batch_builder_new();
    struct wire_produce *out = &call_prepare(p, VERB_PRODUCE)->produce;
    struct buf bytes = {0};
    struct err e = {0};
    for (uint32_t i = 0; i < IN_BATCH; i++) {
        char value[32];
        int n = snprintf(value, sizeof value, "%u", batch * IN_BATCH + i);
        assert_int_equal(batch_builder_add(b, &(struct record){.value = view_of(value, (size_t)n)}, &e), E_OK);
    }
    assert_int_equal(batch_builder_finish(b, BATCH_NONE, &bytes, &out->batch_hash, &e), E_OK);
    batch_builder_free(b);
    p->op.hold = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    number(w, &p->op.request, part, w->partition[part], seen[part]);
    out->partition = w->partition[part];
    out->count = IN_BATCH;
    out->batch = ref_view(p->op.hold);
    out->at_ms = due_of(w, batch);
    p->op.batch.last_delta = IN_BATCH - 1;
    call_give(&w->v, p);
}

static void produce_all(struct world *w)
{
    for (uint32_t first = 0; first < w->batches; first += OPS) {
        uint32_t n = w->batches - first < OPS ? w->batches - first : OPS;
        uint64_t seen[PARTITIONS];
        memcpy(seen, w->seq, sizeof seen);
        for (uint32_t i = 0; i < n; i++)
            produce_one(w, &w->ops[i], first + i, seen);
        call_wait(&w->v, w->ops, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(w->ops[i].done);
            assert_int_equal(w->ops[i].op.reply.code, E_OK);
            assert_true(w->ops[i].op.reply.produce.due_ms == due_of(w, first + i));
        }
    }
}

/* ---------------------------------------------------------------- what the logs hold */

struct seen { uint8_t *bits; uint64_t messages, late_ms_max; };

static void look_at_batch(const struct world *w, const struct stored_header *h, struct view batch, struct seen *s)
{
    struct batch_reader r;
    struct err e = {0};
    assert_int_equal(batch_hash(batch), h->batch_hash);
    assert_int_equal(batch_reader_open(&r, batch, &e), E_OK);
    for (uint32_t i = 0; i < r.c.count; i++) {
        struct record record;
        char text[32];
        assert_int_equal(batch_reader_get(&r, i, &record, &e), E_OK);
        snprintf(text, sizeof text, "%.*s", (int)record.value.size, (const char *)record.value.data);
        uint32_t id = (uint32_t)strtoul(text, NULL, 10);
        uint64_t due = due_of(w, id / IN_BATCH);
        if (h->append_time_ms < due)
            fail_msg("message %u was appended %" PRIu64 " ms early", id, due - h->append_time_ms);
        if (s->bits[id / 8] >> id % 8 & 1)
            fail_msg("message %u is there twice", id);
        s->bits[id / 8] |= (uint8_t)(1u << id % 8);
        s->messages++;
        if (h->append_time_ms - due > s->late_ms_max)
            s->late_ms_max = h->append_time_ms - due;
    }
    batch_reader_close(&r);
}

static struct seen look(const struct world *w)
{
    struct seen s = {.bits = calloc(w->messages / 8 + 1, 1)};
    struct store_iter *it = store_iter(w->v.store, FAM_LOG_DAYS);
    struct buf row = {0};
    struct err e = {0};
    for (store_iter_seek(it, view_of("", 0)); store_iter_valid(it); store_iter_next(it)) {
        buf_clear(&row);
        buf_append(&row, store_iter_value(it).data, store_iter_value(it).size);
        struct stored_header h;
        struct view batch;
        for (struct view rest = buf_view(&row); rest.size > 0;) {
            assert_int_equal(stored_next(&rest, &h, &batch, &e), E_OK);
            look_at_batch(w, &h, batch, &s);
        }
    }
    assert_int_equal(store_iter_status(it, &e), E_OK);
    store_iter_close(it);
    buf_free(&row);
    free(s.bits);
    s.bits = NULL;
    return s;
}

static uint64_t rows_left(const struct world *w)
{
    struct store_iter *it = store_iter(w->v.store, FAM_SCHED);
    uint64_t n = 0, due;
    for (store_iter_seek(it, view_of("", 0)); store_iter_valid(it); store_iter_next(it))
        n += key_read_sched_kind(store_iter_key(it), &due) != SCHED_KIND_LOW;
    store_iter_close(it);
    return n;
}

/* ---------------------------------------------------------------- a run */

/* The most memory that this process had, in kB. */
static uint64_t run(uint32_t messages)
{
    struct world *w = mem_zalloc(sizeof *w);
    uint64_t ns = clock_mono_ns();
    w->messages = messages;
    w->batches = messages / IN_BATCH;
    virtual_new(&w->v, "delayed");
    w->begin_ms = w->v.now.wall_ms + 60000;
    virtual_hello(&w->v, &w->ops[0], false);
    make_topic(w);
    produce_all(w);
    printf("%u messages wait: %.1f s, at most %" PRIu64 " MB resident\n", messages, seconds_since(&ns), peak_kb() / 1000);
    struct engine_totals totals;
    engine_totals(loop_engine(w->v.loop), &totals);
    assert_int_equal(totals.scheduled_messages, messages);

    virtual_pass(&w->v, w->begin_ms + HOUR_MS / 2);
    struct seen half = look(w);
    assert_true(half.messages > messages / 2 - IN_BATCH * 2 && half.messages < messages / 2 + IN_BATCH * 2);
    virtual_close(&w->v);
    w->v.now.mono_ms += 5000; /* some become due while there is no broker */
    w->v.now.wall_ms += 5000;
    virtual_open(&w->v);
    virtual_hello(&w->v, &w->ops[0], true);
    engine_totals(loop_engine(w->v.loop), &totals);
    assert_true(totals.scheduled_messages <= messages - half.messages);
    virtual_pass(&w->v, w->begin_ms + HOUR_MS);

    struct seen all = look(w);
    assert_int_equal(all.messages, messages);
    assert_true(all.late_ms_max <= 5000 + 1);
    engine_totals(loop_engine(w->v.loop), &totals);
    assert_int_equal(totals.scheduled_messages, 0);
    assert_int_equal(rows_left(w), 0);
    uint64_t kb = peak_kb();
    printf("an hour passed, with a restart in the middle: %.1f s, %" PRIu64 " turns, %" PRIu64 " messages appended, at most %" PRIu64
           " MB resident\n", seconds_since(&ns), w->v.turns, all.messages, kb / 1000);
    for (size_t i = 0; i < OPS; i++)
        call_free(&w->ops[i]);
    virtual_close(&w->v);
    virtual_remove(&w->v);
    mem_free(w);
    return kb;
}

static void a_million_delayed_messages_come_in_time_once_and_cost_no_memory(void **state)
{
    (void)state;
    uint64_t few = run(FEW), many = run(MANY);
    uint64_t cost = many > few ? many - few : 0;
    printf("%d messages more cost %" PRIu64 " kB of memory more, at most %d MB\n", MANY - FEW, cost, MEMORY_MORE_MB_MAX);
    assert_true(cost <= MEMORY_MORE_MB_MAX * UINT64_C(1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_delayed_messages_come_in_time_once_and_cost_no_memory),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
