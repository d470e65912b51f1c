#include "unit.h"

#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/stored.h"

static const struct stored_header sample = {
    .level = 1,
    .epoch = 2,
    .count = 3,
    .size = 21,
    .turn = 5,
    .base_offset = 6,
    .append_time_ms = 1700000000000,
    .cumulative_bytes = 8,
    .batch_hash = 9,
};

static bool header_eq(const struct stored_header *a, const struct stored_header *b)
{
    return a->level == b->level && a->epoch == b->epoch && a->count == b->count && a->size == b->size &&
           a->turn == b->turn && a->base_offset == b->base_offset && a->append_time_ms == b->append_time_ms &&
           a->cumulative_bytes == b->cumulative_bytes && a->batch_hash == b->batch_hash;
}

static void a_header_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[STORED_HEADER_SIZE];
    struct stored_header back;
    stored_header_put(bytes, &sample);
    assert_int_equal(stored_header_get(view_of(bytes, sizeof bytes), &back, NULL), E_OK);
    assert_true(header_eq(&back, &sample));
}

/* They are on disks: these bytes may not change. */
static void the_bytes_of_a_header_are_these(void **state)
{
    (void)state;
    static const uint8_t expected[STORED_HEADER_SIZE] = {
        0x53, 0x4c, 0x47, 0x42, 0x01, 0x01, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x15, 0x00, 0x00, 0x00, 0x99, 0x64, 0x96, 0x3a, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    uint8_t bytes[STORED_HEADER_SIZE];
    stored_header_put(bytes, &sample);
    assert_memory_equal(bytes, expected, sizeof bytes);
}

static void any_flipped_bit_of_a_header_is_noticed(void **state)
{
    (void)state;
    uint8_t bytes[STORED_HEADER_SIZE];
    struct stored_header back;
    stored_header_put(bytes, &sample);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(stored_header_get(view_of(bytes, sizeof bytes), &back, NULL), E_DAMAGED);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void put_entry(struct buf *b, uint64_t offset, size_t size)
{
    struct stored_header h = sample;
    h.base_offset = offset;
    h.size = (uint32_t)size;
    size_t whole = stored_entry_size(h.size);
    uint8_t *to = buf_reserve(b, whole);
    memset(to, 0, whole);
    stored_header_put(to, &h);
    memset(to + STORED_HEADER_SIZE, (int)offset, size);
    b->size += whole;
}

static void entries_are_walked_in_order_and_lie_at_multiples_of_16(void **state)
{
    (void)state;
    struct buf b = {0};
    for (uint64_t i = 0; i < 40; i++)
        put_entry(&b, i, (size_t)i);
    struct view rest = buf_view(&b);
    for (uint64_t i = 0; i < 40; i++) {
        struct stored_header h;
        struct view batch;
        assert_int_equal((rest.data - b.data) % STORED_ALIGN, 0);
        assert_int_equal(stored_next(&rest, &h, &batch, NULL), E_OK);
        assert_int_equal(h.base_offset, i);
        assert_int_equal(batch.size, i);
        for (size_t at = 0; at < batch.size; at++)
            assert_int_equal(batch.data[at], i);
    }
    assert_int_equal(rest.size, 0);
    buf_free(&b);
}

static void a_cut_entry_is_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    put_entry(&b, 7, 100);
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = mem_dup(b.data, size);
        struct view rest = view_of(cut, size), batch;
        struct stored_header h;
        assert_int_equal(stored_next(&rest, &h, &batch, NULL), E_DAMAGED);
        mem_free(cut);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_comes_back),
        cmocka_unit_test(the_bytes_of_a_header_are_these),
        cmocka_unit_test(any_flipped_bit_of_a_header_is_noticed),
        cmocka_unit_test(entries_are_walked_in_order_and_lie_at_multiples_of_16),
        cmocka_unit_test(a_cut_entry_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
