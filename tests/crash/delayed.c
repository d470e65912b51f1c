/* A million messages that wait for their time, over the real store and the real loop in virtual time: none is early, none is lost or there
 * twice over a restart in the middle of the hour, and they wait on the disk, not in memory.
 */
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/sched_walk.h"
#include "store/store_rocks.h"

enum {
    FEW = 10000,
    MANY = 1000000,
    IN_BATCH = 20,
    PARTITIONS = 4,
    OPS = 4 * 150,          /* produced in one turn */
    SYNC_EVERY = 64,        /* turns */
    HOUR_MS = 3600000,
    MEMORY_MORE_MB_MAX = 64,
};

struct produce { struct op op; bool done; };

struct world {
    char dir[64];
    uint32_t messages, batches;
    struct store *store;
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    uint64_t begin_ms;      /* wall: the first may be due from here on */
    uint32_t partition[PARTITIONS];
    uint64_t seq[PARTITIONS + 1];
    uint64_t turns;
    struct produce ops[OPS];
};

/* Times are not given in their own order, and each second one is 2 ms behind the one before. */
static uint64_t due_of(const struct world *w, uint32_t batch)
{
    uint64_t place = (uint64_t)batch * 7919 % w->batches;
    return w->begin_ms + place / 2 * 2 * HOUR_MS / w->batches + place % 2 * 2;
}

/* ---------------------------------------------------------------- the broker */

static void on_fatal(void *user, const struct err *why)
{
    (void)user;
    fail_msg("the broker stopped: %s", why->text);
}

static void open_all(struct world *w)
{
    struct err e = {0};
    struct store_rocks_options disk = {.path = w->dir, .memory_bytes = 32 << 20, .wal_bytes_max = 64 << 20, .reserve_file_bytes = UINT64_MAX};
    struct loop_options o = {.limits = &w->limits, .tail_cache_bytes = 1 << 20, .seed = 1, .fatal = on_fatal};
    if (store_rocks_open(&w->store, &disk, &e) != E_OK)
        fail_msg("the store does not open: %s", e.text);
    o.store = w->store;
    if (loop_open(&w->loop, &o, w->now, &e) != E_OK)
        fail_msg("the loop does not open: %s", e.text);
}

static void close_all(struct world *w)
{
    loop_close(w->loop);
    store_close(w->store);
}

/* Turns at this instant until nothing is left to do. The next deadline. */
static uint64_t turns(struct world *w)
{
    uint64_t before, due;
    do {
        before = engine_turn(loop_engine(w->loop));
        due = loop_turn(w->loop, w->now);
        if (++w->turns % SYNC_EVERY == 0)
            assert_int_equal(loop_sync(w->loop), E_OK);
    } while (engine_turn(loop_engine(w->loop)) != before || due <= w->now.mono_ms);
    return due;
}

/* Time passes from deadline to deadline. */
static void pass(struct world *w, uint64_t until_wall_ms)
{
    for (;;) {
        uint64_t due = turns(w), left = until_wall_ms - w->now.wall_ms;
        if (left == 0)
            return;
        uint64_t step = due - w->now.mono_ms < left ? due - w->now.mono_ms : left;
        w->now.mono_ms += step;
        w->now.wall_ms += step;
    }
}

/* ---------------------------------------------------------------- requests */

static void on_done(struct op *op) { container_of(op, struct produce, op)->done = true; }

static struct wire_request *prepare(struct produce *p, enum wire_verb verb)
{
    arena_free(&p->op.arena);
    ref_drop(p->op.hold);
    memset(p, 0, sizeof *p);
    arena_init(&p->op.arena, SIZE_MAX);
    p->op.pipe = 7;
    p->op.bytes = 100;
    p->op.done = on_done;
    p->op.request = (struct wire_request){.session = {1, 2}, .verb = verb};
    return &p->op.request;
}

static void number(struct world *w, struct wire_request *r, uint32_t lane_index, uint32_t lane, uint64_t seen)
{
    r->lane = lane;
    r->seq = ++w->seq[lane_index];
    r->replies_seen = seen;
}

static const struct wire_reply *ask(struct world *w, struct produce *p)
{
    assert_int_equal(loop_submit(w->loop, &p->op), E_OK);
    turns(w);
    assert_int_equal(loop_sync(w->loop), E_OK);
    assert_true(p->done);
    if (p->op.reply.code != E_OK)
        fail_msg("refused: %.*s", (int)p->op.reply.detail.size, (const char *)p->op.reply.detail.data);
    return &p->op.reply;
}

static void hello(struct world *w, bool resume)
{
    prepare(&w->ops[0], VERB_HELLO)->hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = VIEW_LIT("A"), .resume = resume};
    ask(w, &w->ops[0]);
}

static void make_topic(struct world *w)
{
    struct wire_request *r = prepare(&w->ops[0], VERB_TOPIC_CREATE);
    number(w, r, PARTITIONS, 0, 0);
    r->topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = {.partitions = PARTITIONS, .durability = DURABILITY_DISK}};
    const struct wire_topic *t = &ask(w, &w->ops[0])->topics.topics[0];
    for (uint32_t i = 0; i < PARTITIONS; i++)
        w->partition[i] = t->partitions[i].id;
}

static void produce_one(struct world *w, struct produce *p, uint32_t batch, uint64_t seen[PARTITIONS])
{
    uint32_t part = batch % PARTITIONS;
    struct batch_builder *b = batch_builder_new();
    struct wire_produce *out = &prepare(p, VERB_PRODUCE)->produce;
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
    assert_int_equal(loop_submit(w->loop, &p->op), E_OK);
}

static void produce_all(struct world *w)
{
    for (uint32_t first = 0; first < w->batches; first += OPS) {
        uint32_t n = w->batches - first < OPS ? w->batches - first : OPS;
        uint64_t seen[PARTITIONS];
        memcpy(seen, w->seq, sizeof seen);
        for (uint32_t i = 0; i < n; i++)
            produce_one(w, &w->ops[i], first + i, seen);
        turns(w);
        assert_int_equal(loop_sync(w->loop), E_OK);
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
    struct store_iter *it = store_iter(w->store, FAM_LOG_DAYS);
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
    struct store_iter *it = store_iter(w->store, FAM_SCHED);
    uint64_t n = 0, due;
    for (store_iter_seek(it, view_of("", 0)); store_iter_valid(it); store_iter_next(it))
        n += key_read_sched_kind(store_iter_key(it), &due) != SCHED_KIND_LOW;
    store_iter_close(it);
    return n;
}

/* ---------------------------------------------------------------- a run */

static uint64_t peak_kb(void)
{
    char line[256];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL && sscanf(line, "VmHWM: %llu", &kb) != 1)
        ;
    fclose(f);
    return kb;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static double seconds_since(uint64_t *ns)
{
    uint64_t before = *ns;
    *ns = clock_mono_ns();
    return (double)(*ns - before) / 1e9;
}

/* The most memory that this process had, in kB. */
static uint64_t run(uint32_t messages)
{
    struct world *w = mem_zalloc(sizeof *w);
    uint64_t ns = clock_mono_ns();
    const char *tmp = getenv("TMPDIR");
    snprintf(w->dir, sizeof w->dir, "%s/sluice-delayed-XXXXXX", tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    assert_non_null(mkdtemp(w->dir));
    w->messages = messages;
    w->batches = messages / IN_BATCH;
    w->limits = engine_limits_default;
    w->limits.disk_reserve_bytes = 0;
    w->now = (struct engine_now){.mono_ms = 1000, .wall_ms = UINT64_C(1800000000000)};
    w->begin_ms = w->now.wall_ms + 60000;
    open_all(w);
    hello(w, false);
    make_topic(w);
    produce_all(w);
    printf("%u messages wait: %.1f s, at most %" PRIu64 " MB resident\n", messages, seconds_since(&ns), peak_kb() / 1000);
    struct engine_totals totals;
    engine_totals(loop_engine(w->loop), &totals);
    assert_int_equal(totals.scheduled_messages, messages);

    pass(w, w->begin_ms + HOUR_MS / 2);
    struct seen half = look(w);
    assert_true(half.messages > messages / 2 - IN_BATCH * 2 && half.messages < messages / 2 + IN_BATCH * 2);
    close_all(w);
    w->now.mono_ms += 5000; /* some become due while there is no broker */
    w->now.wall_ms += 5000;
    open_all(w);
    hello(w, true);
    engine_totals(loop_engine(w->loop), &totals);
    assert_true(totals.scheduled_messages <= messages - half.messages);
    pass(w, w->begin_ms + HOUR_MS);

    struct seen all = look(w);
    assert_int_equal(all.messages, messages);
    assert_true(all.late_ms_max <= 5000 + 1);
    engine_totals(loop_engine(w->loop), &totals);
    assert_int_equal(totals.scheduled_messages, 0);
    assert_int_equal(rows_left(w), 0);
    uint64_t kb = peak_kb();
    printf("an hour passed, with a restart in the middle: %.1f s, %" PRIu64 " turns, %" PRIu64 " messages appended, at most %" PRIu64
           " MB resident\n", seconds_since(&ns), w->turns, all.messages, kb / 1000);
    for (size_t i = 0; i < OPS; i++) {
        arena_free(&w->ops[i].op.arena);
        ref_drop(w->ops[i].op.hold);
    }
    close_all(w);
    nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mem_free(w);
    return kb;
}

static void a_million_delayed_messages_come_in_time_once_and_cost_no_memory(void **state)
{
    (void)state;
    uint64_t few = run(FEW), many = run(MANY);
    printf("%d messages more cost %" PRIu64 " kB of memory more, at most %d MB\n", MANY - FEW, many - few, MEMORY_MORE_MB_MAX);
    assert_true(many - few <= MEMORY_MORE_MB_MAX * UINT64_C(1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_delayed_messages_come_in_time_once_and_cost_no_memory),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
