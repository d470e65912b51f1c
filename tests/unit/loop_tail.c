/* The end of the logs in memory: one run of offsets per partition, as received, within a bound. */
#include "loop_kit.h"

#include "broker/tail.h"

static struct tail *begin(size_t bytes)
{
    struct tail *t = tail_new(bytes);
    for (uint32_t p = 1; p <= 2; p++)
        tail_partition(t, &(struct effect_partition){.partition = p, .family = FAM_LOG_DAYS, .start = p});
    return t;
}

static void add(struct tail *t, uint32_t partition, uint64_t base, uint64_t last, size_t size, struct ref *hold)
{
    uint8_t header[STORED_HEADER_SIZE] = {0}, *bytes = mem_zalloc(size);
    stored_header_put(header, &(struct stored_header){.base_offset = base, .count = (uint32_t)(last - base + 1), .size = (uint32_t)size});
    tail_add(t, &(struct effect_append){.partition = partition, .base_offset = base, .last_offset = last, .header = header,
                                        .batch = hold != NULL ? view_of(hold->data, size) : view_of(bytes, size), .hold = hold});
    mem_free(bytes);
}

/* The base offsets of what is taken from an offset on, "4 6 7". */
static const char *taken(struct tail *t, uint32_t partition, uint64_t from, size_t n)
{
    static char text[4096];
    struct tail_batch out[64];
    size_t at = 0;
    text[0] = '\0';
    n = tail_take(t, partition, from, out, n);
    for (size_t i = 0; i < n; i++) {
        struct stored_header h;
        struct err e = {0};
        assert_int_equal(stored_header_get(view_of(out[i].header, STORED_HEADER_SIZE), &h, &e), E_OK);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%llu", i > 0 ? " " : "", (unsigned long long)h.base_offset);
        ref_drop(out[i].hold);
    }
    return text;
}

static void batches_are_found_by_any_offset_in_them(void **state)
{
    (void)state;
    struct tail *t = begin(1 << 20);
    add(t, 1, 10, 12, 100, NULL);
    add(t, 1, 13, 13, 100, NULL);
    add(t, 2, 0, 9, 100, NULL);
    add(t, 1, 14, 19, 100, NULL);
    assert_string_equal(taken(t, 1, 10, 9), "10 13 14");
    assert_string_equal(taken(t, 1, 12, 9), "10 13 14");
    assert_string_equal(taken(t, 1, 13, 9), "13 14");
    assert_string_equal(taken(t, 1, 19, 9), "14");
    assert_string_equal(taken(t, 1, 10, 2), "10 13");
    assert_string_equal(taken(t, 1, 9, 9), "");  /* older: ask the store */
    assert_string_equal(taken(t, 1, 20, 9), ""); /* newer */
    assert_string_equal(taken(t, 1, UINT64_MAX, 9), "");
    assert_string_equal(taken(t, 3, 0, 9), "");
    tail_free(t);
}

static void the_oldest_of_all_goes_when_the_bound_is_passed(void **state)
{
    (void)state;
    struct tail *t = begin(4000);
    for (uint64_t i = 0; i < 100; i++)
        add(t, 1 + (uint32_t)(i % 2), i / 2, i / 2, 500, NULL);
    assert_true(tail_bytes(t) <= 4000);
    assert_string_equal(taken(t, 1, 49, 9), "49");
    assert_string_equal(taken(t, 1, 48, 9), "48 49");
    assert_string_equal(taken(t, 1, 0, 9), "");
    add(t, 1, 50, 50, 100000, NULL); /* larger than all of it: nothing stays */
    assert_int_equal(tail_bytes(t), 0);
    assert_string_equal(taken(t, 1, 50, 9), "");
    add(t, 1, 51, 51, 100, NULL);
    assert_string_equal(taken(t, 1, 51, 9), "51");
    tail_free(t);
}

static void a_batch_is_kept_as_the_buffer_in_which_it_came(void **state)
{
    (void)state;
    struct tail *t = begin(1 << 20);
    uint8_t bytes[1000] = {1, 2, 3};
    struct ref *hold = ref_new_copy(bytes, sizeof bytes);
    add(t, 1, 0, 0, 900, hold);
    struct tail_batch b;
    assert_int_equal(tail_take(t, 1, 0, &b, 1), 1);
    assert_ptr_equal(b.batch.data, hold->data);
    ref_drop(hold);
    tail_free(t);
    assert_int_equal(b.batch.data[2], 3); /* the taker's reference outlives the cache */
    ref_drop(b.hold);
}

/* Was a bug: a small batch in a large request kept all of the request and counted as small. */
static void what_a_batch_keeps_in_memory_is_what_it_counts(void **state)
{
    (void)state;
    struct tail *t = begin(1 << 20);
    uint8_t *bytes = mem_zalloc(1 << 19);
    struct ref *large = ref_new_copy(bytes, 1 << 19);
    mem_free(bytes);
    for (uint64_t i = 0; i < 100; i++)
        add(t, 1, i, i, 100, large);
    assert_true(tail_bytes(t) < 50000);
    assert_int_equal(large->count, 1); /* copied: nobody keeps the request */
    size_t before = tail_bytes(t);
    add(t, 1, 100, 100, 300000, large);
    assert_true(tail_bytes(t) - before >= 1 << 19);
    ref_drop(large);
    tail_free(t);
}

static void a_partition_that_is_gone_is_gone_with_its_batches(void **state)
{
    (void)state;
    struct tail *t = begin(1 << 20);
    enum store_family family;
    uint64_t start;
    add(t, 1, 0, 0, 100, NULL);
    add(t, 2, 0, 0, 100, NULL);
    assert_true(tail_lookup(t, 2, &family, &start));
    assert_int_equal(start, 2);
    tail_partition(t, &(struct effect_partition){.partition = 1, .gone = true});
    assert_false(tail_lookup(t, 1, &family, &start));
    assert_string_equal(taken(t, 1, 0, 9), "");
    add(t, 1, 1, 1, 100, NULL); /* appended and deleted in one turn */
    assert_string_equal(taken(t, 2, 0, 9), "0");
    tail_free(t);
}

/* Was a bug: a reader's place was searched from the end, batch by batch, under the lock that appending needs. */
static void reading_a_long_tail_from_its_beginning_takes_no_long_time(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct tail *t = begin((size_t)1 << 30);
    for (uint64_t i = 0; i < N; i++)
        add(t, 1, i, i, 16, NULL);
    uint64_t began = clock_mono_ms();
    struct tail_batch out[32];
    for (uint64_t at = 0; at < N;) {
        size_t n = tail_take(t, 1, at, out, 32);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++)
            ref_drop(out[i].hold);
        at += n;
    }
    assert_true(clock_mono_ms() - began < 3000);
    tail_free(t);
}

static void what_is_wholly_here_is_known_with_its_bytes(void **state)
{
    (void)state;
    struct tail *t = begin(4000);
    size_t bytes;
    add(t, 1, 10, 12, 100, NULL);
    add(t, 1, 13, 13, 200, NULL);
    add(t, 1, 14, 19, 300, NULL);
    assert_true(tail_has(t, 1, 11, 20, 600, &bytes)); /* whole batches, as readers take them */
    assert_int_equal(bytes, 600);
    assert_true(tail_has(t, 1, 13, 15, 600, &bytes));
    assert_int_equal(bytes, 500);
    assert_true(tail_has(t, 1, 20, 20, 0, &bytes)); /* nothing is asked for */
    assert_int_equal(bytes, 0);
    assert_false(tail_has(t, 1, 11, 20, 599, &bytes)); /* more than was allowed */
    assert_false(tail_has(t, 1, 9, 20, 4000, &bytes)); /* begins in the store */
    assert_false(tail_has(t, 1, 11, 21, 4000, &bytes));
    assert_false(tail_has(t, 3, 0, 1, 4000, &bytes));
    add(t, 2, 0, 0, 3500, NULL); /* the oldest go */
    assert_false(tail_has(t, 1, 11, 20, 4000, &bytes));
    tail_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_found_by_any_offset_in_them),
        cmocka_unit_test(the_oldest_of_all_goes_when_the_bound_is_passed),
        cmocka_unit_test(a_batch_is_kept_as_the_buffer_in_which_it_came),
        cmocka_unit_test(what_is_wholly_here_is_known_with_its_bytes),
        cmocka_unit_test(what_a_batch_keeps_in_memory_is_what_it_counts),
        cmocka_unit_test(a_partition_that_is_gone_is_gone_with_its_batches),
        cmocka_unit_test(reading_a_long_tail_from_its_beginning_takes_no_long_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
