/* A run that lost, repeated, reordered or damaged a message is void (tests/bench/payload.c, verify.c). */
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "bench/payload.h"
#include "bench/verify.h"
#include "unit.h"

enum { SIZE = 100, STREAMS = 3, COUNT = 200 };

static const struct payload payload = {.seed = 7, .size = SIZE};

static void make(uint32_t stream, uint64_t number, uint8_t out[SIZE])
{
    payload_fill(&payload, &(struct payload_head){.stream = stream, .number = number}, out);
}

static void see(struct verify *v, uint32_t stream, uint64_t number)
{
    uint8_t bytes[SIZE];
    make(stream, number, bytes);
    verify_seen(v, bytes, sizeof bytes, NULL);
}

/* All of every stream, streams mixed, but for number `skip` of stream 1. */
static struct verify *all_but(uint64_t skip)
{
    struct verify *v = verify_new(STREAMS, true);
    for (uint32_t s = 0; s < STREAMS; s++)
        verify_produced(v, s, COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        for (uint32_t s = 0; s < STREAMS; s++)
            if (s != 1 || i != skip)
                see(v, s, i);
    return v;
}

static struct verdict end(struct verify *v)
{
    struct verdict d = verify_end(v);
    verify_free(v);
    return d;
}

static void all_that_came_once_in_order_is_good(void **state)
{
    (void)state;
    char text[160];
    struct verdict d = end(all_but(UINT64_MAX));
    assert_true(verdict_good(&d));
    assert_int_equal(d.expected, STREAMS * COUNT);
    assert_int_equal(d.seen, STREAMS * COUNT);
    assert_string_equal(verdict_text(&d, text), "");
}

static void a_lost_one_voids_wherever_it_was(void **state)
{
    (void)state;
    for (uint64_t skip = 0; skip < COUNT; skip += skip == 0 ? COUNT - 1 : 1) {
        char text[160];
        struct verdict d = end(all_but(skip));
        assert_false(verdict_good(&d));
        assert_string_equal(verdict_text(&d, text), "1 lost");
    }
}

static void a_stream_of_which_nothing_came_is_lost(void **state)
{
    (void)state;
    struct verify *v = verify_new(2, true);
    verify_produced(v, 1, 5);
    struct verdict d = end(v);
    assert_int_equal(d.lost, 5);
}

static void a_repeated_one_voids(void **state)
{
    (void)state;
    struct verify *v = all_but(UINT64_MAX);
    see(v, 2, COUNT - 1);
    struct verdict d = end(v);
    assert_int_equal(d.repeated, 1);
    assert_int_equal(d.reordered, 0);
    assert_false(verdict_good(&d));
}

static void one_that_came_late_voids_where_there_is_an_order(void **state)
{
    (void)state;
    struct verify *v = all_but(17);
    see(v, 1, 17);
    struct verdict d = end(v);
    assert_int_equal(d.reordered, 1);
    assert_int_equal(d.lost, 0);
    assert_false(verdict_good(&d));

    v = verify_new(1, false);
    verify_produced(v, 0, 2);
    see(v, 0, 1);
    see(v, 0, 0);
    d = end(v);
    assert_true(verdict_good(&d));
}

static void any_bit_that_changed_voids(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < SIZE * 8; bit++) {
        struct verify *v = all_but(3);
        uint8_t bytes[SIZE];
        make(1, 3, bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        verify_seen(v, bytes, sizeof bytes, NULL);
        struct verdict d = end(v);
        assert_int_equal(d.damaged, 1);
        assert_int_equal(d.lost, 1);
        assert_false(verdict_good(&d));
    }
}

static void one_that_was_cut_voids_and_so_does_one_of_no_stream(void **state)
{
    (void)state;
    uint8_t bytes[SIZE];
    struct payload_head head;
    make(0, 0, bytes);
    for (size_t size = 0; size < SIZE; size++)
        assert_false(payload_read(bytes, size, &head));
    struct verify *v = verify_new(1, true);
    see(v, 1, 0);
    assert_int_equal(end(v).damaged, 1);
}

static void what_was_not_acknowledged_may_come_once(void **state)
{
    (void)state;
    struct verify *v = all_but(UINT64_MAX);
    see(v, 0, COUNT);
    struct verdict d = verify_end(v);
    assert_true(verdict_good(&d));
    see(v, 0, COUNT);
    d = end(v);
    assert_false(verdict_good(&d));
}

static void what_was_filled_in_is_read(void **state)
{
    (void)state;
    for (size_t size = PAYLOAD_MIN; size <= PAYLOAD_MAX; size = size * 3 + 1) {
        struct payload p = {.seed = 1, .size = size};
        uint8_t *bytes = malloc(size);
        struct payload_head in = {.number = 99, .stream = 7, .intended_ns = 12345}, head;
        payload_fill(&p, &in, bytes);
        assert_true(payload_read(bytes, size, &head));
        assert_int_equal(head.number, 99);
        assert_int_equal(head.stream, 7);
        assert_int_equal(head.intended_ns, 12345);
        free(bytes);
    }
}

/* A batch of records as one block, as it would be stored. */
static double compressed(bool compressible)
{
    static uint8_t in[1000][1000], out[LZ4_COMPRESSBOUND(sizeof in)];
    struct payload p = {.seed = 1, .size = sizeof in[0], .compressible = compressible};
    for (uint64_t i = 0; i < 1000; i++)
        payload_fill(&p, &(struct payload_head){.number = i}, in[i]);
    return (double)LZ4_compress_default((const char *)in, (char *)out, sizeof in, sizeof out) / sizeof in;
}

static void payloads_do_not_compress_unless_they_are_asked_to(void **state)
{
    (void)state;
    assert_true(compressed(false) > 0.98);
    assert_true(compressed(true) < 0.7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_came_once_in_order_is_good),
        cmocka_unit_test(a_lost_one_voids_wherever_it_was),
        cmocka_unit_test(a_stream_of_which_nothing_came_is_lost),
        cmocka_unit_test(a_repeated_one_voids),
        cmocka_unit_test(one_that_came_late_voids_where_there_is_an_order),
        cmocka_unit_test(any_bit_that_changed_voids),
        cmocka_unit_test(one_that_was_cut_voids_and_so_does_one_of_no_stream),
        cmocka_unit_test(what_was_not_acknowledged_may_come_once),
        cmocka_unit_test(what_was_filled_in_is_read),
        cmocka_unit_test(payloads_do_not_compress_unless_they_are_asked_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
