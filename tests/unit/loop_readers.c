/* Reader threads: everything that is given to them comes back once, whoever does it. */
#include "loop_kit.h"

#include "broker/readers.h"

struct seen {
    atomic_int loaded, due, back, filled, failed;
    struct err why;
};

static void on_loaded(void *user, const struct loaded *l)
{
    struct seen *s = user;
    assert_true(l->records_n > 0);
    atomic_fetch_add(&s->loaded, 1);
}
static void on_due(void *user, const struct due *d)
{
    struct seen *s = user;
    assert_int_equal(d->batches_n, 0);
    assert_int_equal(d->next_ms, UINT64_MAX);
    ref_drop(d->hold);
    atomic_fetch_add(&s->due, 1);
}
static void on_back(void *user, const struct back *b)
{
    struct seen *s = user;
    assert_int_equal(b->places_n, 0);
    assert_int_equal(b->next_ms, UINT64_MAX);
    atomic_fetch_add(&s->back, 1);
}
static void on_unreadable(void *user, const struct log_unreadable *u) { (void)user, (void)u; }
static void on_filled(void *user, struct op *op)
{
    struct seen *s = user;
    op->done(op);
    atomic_fetch_add(&s->filled, 1);
}
static void on_failed(void *user, const struct err *why)
{
    struct seen *s = user;
    s->why = *why;
    atomic_fetch_add(&s->failed, 1);
}

static void work(uint32_t threads)
{
    enum { JOBS = 200 };
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one two three"));
    struct tail *tail = tail_new(1 << 20);
    tail_partition(tail, &(struct effect_partition){.partition = k->partition[DISK], .family = FAM_LOG_DAYS});
    struct seen seen = {0};
    struct log_source src = {.store = k->store, .tail = tail};
    struct readers_hooks hooks = {.loaded = on_loaded, .due = on_due, .back = on_back, .unreadable = on_unreadable, .filled = on_filled,
                                  .failed = on_failed, .user = &seen};
    struct readers *r;
    struct err e = {0};
    assert_int_equal(readers_start(&r, &src, threads, &hooks, &e), 0);
    struct call *calls[JOBS];
    struct wire_fetch_part *parts = mem_array(JOBS, sizeof *parts);
    for (int i = 0; i < JOBS; i++) {
        readers_load(r, &(struct effect_load){.group = 1, .partition = k->partition[DISK], .family = FAM_LOG_DAYS, .end = 3, .records = 3});
        readers_due(r, &(struct effect_due){.to_ms = UINT64_MAX, .rows_max = 1});
        readers_back(r, &(struct effect_back){.to_ms = UINT64_MAX, .rows_max = 1});
        struct call *c = calls[i] = kit_fetch(k, k->partition[DISK], 0, 0);
        c->done = false;
        parts[i] = (struct wire_fetch_part){.partition = k->partition[DISK], .end = 3};
        c->op.reply.body = BODY_FETCH;
        c->op.reply.fetch.parts = &parts[i];
        c->op.reply.fetch.parts_n = 1;
        c->op.wants = &c->from;
        c->op.fetch_bytes = 1000;
        c->op.read = READ_FETCH;
        readers_fill(r, &c->op);
    }
    readers_stop(r); /* finishes what was given */
    assert_int_equal(atomic_load(&seen.loaded), JOBS);
    assert_int_equal(atomic_load(&seen.due), JOBS);
    assert_int_equal(atomic_load(&seen.back), JOBS);
    assert_int_equal(atomic_load(&seen.filled), JOBS);
    assert_int_equal(atomic_load(&seen.failed), 0);
    for (int i = 0; i < JOBS; i++)
        assert_string_equal(kit_values(&calls[i]->op.reply), "0=one 1=two 2=three");
    mem_free(parts);
    tail_free(tail);
    kit_free(k);
}

static void without_threads_work_is_done_at_once(void **state) { (void)state; work(0); }
static void one_thread_finishes_what_it_was_given_before_it_ends(void **state) { (void)state; work(1); }
static void many_threads_do_each_thing_once(void **state) { (void)state; work(4); }

static void stopping_readers_that_never_were_is_fine(void **state)
{
    (void)state;
    readers_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_threads_work_is_done_at_once),
        cmocka_unit_test(one_thread_finishes_what_it_was_given_before_it_ends),
        cmocka_unit_test(many_threads_do_each_thing_once),
        cmocka_unit_test(stopping_readers_that_never_were_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
