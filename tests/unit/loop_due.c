/* What is due, on its way from the store through readers and the loop into the log. */
#include "loop_kit.h"

#include "broker/dueread.h"

static struct call *delayed(struct kit *k, int topic, const char *values, uint64_t delay_ms)
{
    struct call *c = kit_produce(k, topic, values);
    c->op.request.produce.delay_ms = delay_ms;
    return c;
}

static const char *log_of(struct kit *k, int topic) { return kit_values(kit_ask(k, kit_fetch(k, k->partition[topic], 0, 0))); }

static void what_waited_is_read_when_it_is_due_and_synced(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    const struct wire_reply *r = kit_ask(k, delayed(k, DISK, "one two", 1000));
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->produce.due_ms, k->now.wall_ms + 1000);
    struct call *waits = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 60000));
    kit_pass(k, 999);
    assert_false(waits->done);
    k->now.mono_ms++;
    k->now.wall_ms++;
    for (int i = 0; i < 5; i++)
        kit_turn(k);
    assert_false(waits->done); /* appended, and not on the disk */
    kit_round(k);
    assert_true(waits->done);
    assert_string_equal(kit_values(&waits->op.reply), "0=one 1=two");
    assert_string_equal(log_of(k, DISK), "0=one 1=two");
    kit_ask(k, delayed(k, OS, "three", 10));
    kit_pass(k, 10);
    assert_string_equal(log_of(k, OS), "0=three");
    kit_free(k);
}

static void a_disk_that_is_full_when_it_is_due_delays_it_and_no_more(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, delayed(k, DISK, "one", 1000));
    store_mem_faults(k->slow.mem, &(struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL, .fail_writes = 3});
    kit_pass(k, 1000);
    struct call *list = kit_new_call(k, VERB_SCHED_LIST);
    assert_int_equal(kit_ask(k, list)->code, E_OK); /* can be asked meanwhile */
    for (int i = 0; i < 20; i++)
        kit_pass(k, 1000);
    assert_string_equal(log_of(k, DISK), "0=one");
    kit_reopen(k);
    kit_pass(k, 10000);
    assert_string_equal(log_of(k, DISK), "0=one");
    kit_free(k);
}

static void a_broker_that_ends_while_readers_bring_it_appends_it_at_its_next_start(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, delayed(k, DISK, "one", 1000));
    k->now.mono_ms += 1000;
    k->now.wall_ms += 1000;
    kit_turn(k); /* asks; what readers bring lies in the inbox */
    kit_reopen(k);
    kit_round(k);
    assert_string_equal(log_of(k, DISK), "0=one");
    kit_free(k);
}

static void with_threads_it_comes_by_itself(void **state)
{
    (void)state;
    struct kit *k = kit_new(&(struct kit){.reader_threads = 2});
    struct err e = {0};
    struct call *waits[20];
    assert_int_equal(loop_start(k->loop, &e), E_OK);
    for (uint64_t i = 0; i < 20; i++) {
        struct call *c = kit_send(k, delayed(k, i % 2 == 0 ? DISK : OS, "one", 20 + 5 * i));
        assert_true(kit_wait(c, 5000));
        uint64_t due = c->op.reply.produce.due_ms, offset = i / 2;
        waits[i] = kit_send(k, kit_fetch(k, k->partition[i % 2 == 0 ? DISK : OS], offset, 10000));
        assert_true(kit_wait(waits[i], 10000));
        struct view data = waits[i]->op.reply.fetch.parts[0].data, batch;
        struct stored_header h;
        assert_int_equal(stored_next(&data, &h, &batch, &e), E_OK);
        assert_int_equal(h.base_offset, offset);
        assert_true(h.append_time_ms >= due && clock_wall_ms() >= due);
    }
    kit_free(k);
}

/* ---------------------------------------------------------------- due_read */

static void put_hashed(struct puts *l, uint64_t due_ms, size_t size, uint64_t hash)
{
    static char bytes[5000];
    struct buf b = {0};
    struct key k = key_sched_batch(due_ms, 1, (struct id128){.lo = size});
    struct sched_batch_row row = {.partition = 1, .count = 1, .batch_hash = hash, .batch = view_of(bytes, size)};
    sched_batch_row_put(&b, &row);
    puts_row(l, FAM_SCHED, key_view(&k), buf_view(&b));
    buf_free(&b);
}

static void put_batch(struct puts *l, uint64_t due_ms, size_t size)
{
    static const char bytes[5000];
    put_hashed(l, due_ms, size, batch_hash(view_of(bytes, size)));
}

static void check_read(struct store *s, struct effect_due want, uint32_t n, uint64_t next_ms)
{
    struct due d;
    struct err e = {0};
    assert_int_equal(due_read(s, &want, &d, &e), E_OK);
    assert_int_equal(d.batches_n, n);
    assert_true(d.next_ms == next_ms);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(d.batches[i].code, E_OK);
        assert_int_equal((uintptr_t)d.batches[i].batch.data % 8, 0); /* readers take batches apart where they lie */
        assert_int_equal(batch_hash(d.batches[i].batch), d.batches[i].batch_hash);
        assert_true(d.batches[i].due_ms <= want.to_ms && (i == 0 || d.batches[i].due_ms >= d.batches[i - 1].due_ms));
    }
    ref_drop(d.hold);
}

static void what_is_fetched_is_bounded_and_says_when_there_is_more(void **state)
{
    (void)state;
    struct store *s = store_mem_new();
    struct puts l;
    struct err e = {0};
    puts_init(&l);
    for (size_t i = 0; i < 10; i++)
        put_batch(&l, 100 + i, 1000 + i);
    put_batch(&l, 200, 5000);
    assert_int_equal(store_write(s, &l, &e), E_OK);
    puts_free(&l);
    struct effect_due all = {.to_ms = UINT64_MAX, .rows_max = 100, .bytes_max = 100000};
    check_read(s, all, 11, UINT64_MAX);
    check_read(s, (struct effect_due){.to_ms = 104, .rows_max = 100, .bytes_max = 100000}, 5, 105);
    check_read(s, (struct effect_due){.to_ms = 150, .rows_max = 100, .bytes_max = 100000}, 10, 200);
    check_read(s, (struct effect_due){.from_ms = 103, .to_ms = 104, .rows_max = 100, .bytes_max = 100000}, 2, 105);
    check_read(s, (struct effect_due){.to_ms = 99, .rows_max = 100, .bytes_max = 100000}, 0, 100);
    check_read(s, (struct effect_due){.to_ms = 500, .rows_max = 3, .bytes_max = 100000}, 3, 103);
    check_read(s, (struct effect_due){.to_ms = 500, .rows_max = 100, .bytes_max = 2500}, 2, 102);
    check_read(s, (struct effect_due){.from_ms = 200, .to_ms = 500, .rows_max = 100, .bytes_max = 1}, 1, UINT64_MAX);
    check_read(s, (struct effect_due){.from_ms = 201, .to_ms = 500, .rows_max = 100, .bytes_max = 1}, 0, UINT64_MAX);
    store_close(s);
}

static void a_batch_that_does_not_fit_its_checksum_is_said_to_be_damaged_and_the_others_are_good(void **state)
{
    (void)state;
    struct store *s = store_mem_new();
    struct puts l;
    struct due d;
    struct err e = {0};
    puts_init(&l);
    put_batch(&l, 100, 1000);
    put_hashed(&l, 101, 1001, 12345);
    put_batch(&l, 102, 1002);
    assert_int_equal(store_write(s, &l, &e), E_OK);
    assert_int_equal(due_read(s, &(struct effect_due){.to_ms = 200, .rows_max = 10, .bytes_max = 10000}, &d, &e), E_OK);
    assert_int_equal(d.batches_n, 3);
    assert_int_equal(d.batches[0].code, E_OK);
    assert_int_equal(d.batches[1].code, E_DAMAGED);
    assert_int_equal(d.batches[2].code, E_OK);
    ref_drop(d.hold);
    puts_free(&l);
    store_close(s);
}

static void a_row_that_does_not_read_is_refused_by_name(void **state)
{
    (void)state;
    struct store *s = store_mem_new();
    struct puts l;
    struct key k = key_sched_batch(5, 1, (struct id128){0});
    struct err e = {0};
    struct due d;
    puts_init(&l);
    puts_row(&l, FAM_SCHED, key_view(&k), VIEW_LIT("\1"));
    assert_int_equal(store_write(s, &l, &e), E_OK);
    puts_free(&l);
    assert_int_equal(due_read(s, &(struct effect_due){.to_ms = 5, .rows_max = 1}, &d, &e), E_DAMAGED);
    assert_non_null(strstr(e.text, "scheduled batch"));
    assert_null(d.hold);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waited_is_read_when_it_is_due_and_synced),
        cmocka_unit_test(a_disk_that_is_full_when_it_is_due_delays_it_and_no_more),
        cmocka_unit_test(a_broker_that_ends_while_readers_bring_it_appends_it_at_its_next_start),
        cmocka_unit_test(with_threads_it_comes_by_itself),
        cmocka_unit_test(what_is_fetched_is_bounded_and_says_when_there_is_more),
        cmocka_unit_test(a_batch_that_does_not_fit_its_checksum_is_said_to_be_damaged_and_the_others_are_good),
        cmocka_unit_test(a_row_that_does_not_read_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
