#include "unit.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"

static void a_view_tells_absent_from_empty(void **state)
{
    (void)state;
    struct view absent = view_of_str(NULL), empty = VIEW_LIT("");
    assert_null(absent.data);
    assert_non_null(empty.data);
    assert_int_equal(empty.size, 0);
    assert_false(view_eq(absent, empty));
    assert_true(view_eq(absent, view_of(NULL, 5)));
    assert_true(view_eq(empty, view_of_str("")));
}

static void views_are_equal_by_their_bytes(void **state)
{
    (void)state;
    char copy[] = "ab";
    assert_true(view_eq(VIEW_LIT("ab"), view_of_str(copy)));
    assert_false(view_eq(VIEW_LIT("ab"), VIEW_LIT("abc")));
    assert_false(view_eq(VIEW_LIT("ab"), VIEW_LIT("ac")));
    assert_true(view_eq(VIEW_LIT("a\0b"), view_of("a\0b", 3)));
}

static void views_are_ordered_by_bytes_and_then_by_length(void **state)
{
    (void)state;
    assert_true(view_cmp(VIEW_LIT("a"), VIEW_LIT("b")) < 0);
    assert_true(view_cmp(VIEW_LIT("a"), VIEW_LIT("aa")) < 0);
    assert_true(view_cmp(VIEW_LIT("\xff"), VIEW_LIT("a")) > 0);
    assert_true(view_cmp(VIEW_LIT(""), view_of(NULL, 0)) == 0);
}

static void what_is_appended_stays_while_the_buf_grows(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 5000; i++) {
        uint8_t three[3] = {(uint8_t)i, (uint8_t)(i >> 8), 0x5a};
        buf_append(&b, three, 3);
    }
    assert_int_equal(b.size, 15000);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(b.data[3 * i] | b.data[3 * i + 1] << 8, i);
        assert_int_equal(b.data[3 * i + 2], 0x5a);
    }
    buf_append(&b, NULL, 0);
    assert_int_equal(b.size, 15000);
    buf_free(&b);
    assert_null(b.data);
}

static void clearing_keeps_the_memory(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append(&b, "abc", 3);
    uint8_t *data = b.data;
    buf_clear(&b);
    assert_int_equal(b.size, 0);
    buf_append(&b, "x", 1);
    assert_ptr_equal(b.data, data);
    buf_free(&b);
}

static void a_reserve_that_was_refused_changes_nothing(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append(&b, "abc", 3);
    mem_fail_at(1);
    assert_null(buf_try_reserve(&b, 1000));
    assert_null(buf_try_reserve(&b, SIZE_MAX - 2)); /* size + more would wrap */
    assert_int_equal(b.size, 3);
    assert_memory_equal(b.data, "abc", 3);
    uint8_t *to = buf_try_reserve(&b, 1000);
    assert_ptr_equal(to, b.data + 3);
    memset(to, 1, 1000);
    buf_free(&b);
}

static void taken_memory_is_the_callers(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append(&b, "abc", 3);
    uint8_t *data = buf_take(&b);
    assert_memory_equal(data, "abc", 3);
    assert_null(b.data);
    assert_int_equal(b.size + b.cap, 0);
    mem_free(data);
}

static void formatted_text_is_appended_whole_at_every_length(void **state)
{
    (void)state;
    for (int length = 0; length < 300; length++) {
        struct buf b = {0};
        buf_putf(&b, "%s", "ab");
        buf_putf(&b, "%*d", length, 7);
        size_t want = length > 1 ? (size_t)length : 1;
        assert_int_equal(b.size, 2 + want);
        assert_int_equal(b.data[b.size - 1], '7');
        assert_int_equal(strlen(buf_str(&b)), b.size);
        buf_free(&b);
    }
}

static void an_empty_buf_has_a_present_view_and_an_empty_string(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_non_null(buf_view(&b).data);
    assert_int_equal(buf_view(&b).size, 0);
    assert_string_equal(buf_str(&b), "");
    assert_int_equal(b.size, 0);
    buf_free(&b);
}

static void numbers_have_the_bytes_the_format_says(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_u8(&b, 0x01);
    buf_put_u16(&b, 0x0203);
    buf_put_u32(&b, 0x04050607);
    buf_put_u64(&b, 0x08090a0b0c0d0e0f);
    buf_put_u32be(&b, 0x04050607);
    buf_put_u64be(&b, 0x08090a0b0c0d0e0f);
    buf_put_varint(&b, 300);
    buf_put_bytes(&b, VIEW_LIT("hi"));
    static const uint8_t want[] = {1, 3, 2, 7, 6, 5,  4,  15, 14, 13, 12, 11,   10,   9, 8,   4,
                                   5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xac, 0x02, 2, 'h', 'i'};
    assert_int_equal(b.size, sizeof want);
    assert_memory_equal(b.data, want, sizeof want);
    buf_free(&b);
}

static void what_was_put_is_read_back(void **state)
{
    (void)state;
    static const uint64_t edges[] = {
        0,       1,          0x7f,       0x80,       0xff,       0x3fff,     0x4000,         0xffff,
        0x10000, 0xffffffff, 1ull << 32, 1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 1, 0x8080808080ull};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        uint64_t v = edges[i];
        struct buf b = {0};
        buf_put_u8(&b, (uint8_t)v);
        buf_put_u16(&b, (uint16_t)v);
        buf_put_u32(&b, (uint32_t)v);
        buf_put_u64(&b, v);
        buf_put_u32be(&b, (uint32_t)v);
        buf_put_u64be(&b, v);
        buf_put_varint(&b, v);
        buf_put_bytes(&b, view_of(&v, sizeof v));
        buf_put_bytes(&b, view_of(NULL, 0));
        struct cur c = cur_of(buf_view(&b));
        assert_int_equal(cur_u8(&c), (uint8_t)v);
        assert_int_equal(cur_u16(&c), (uint16_t)v);
        assert_int_equal(cur_u32(&c), (uint32_t)v);
        assert_int_equal(cur_u64(&c), v);
        assert_int_equal(cur_u32be(&c), (uint32_t)v);
        assert_int_equal(cur_u64be(&c), v);
        assert_int_equal(cur_varint(&c), v);
        assert_true(view_eq(cur_bytes(&c), view_of(&v, sizeof v)));
        assert_false(cur_done(&c));
        assert_true(view_eq(cur_bytes(&c), VIEW_LIT("")));
        assert_true(cur_done(&c));
        buf_free(&b);
    }
}

static void big_endian_numbers_sort_as_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rng_next(&r) >> rng_below(&r, 64), y = rng_next(&r) >> rng_below(&r, 64);
        uint8_t a[8], b[8];
        put_u64be(a, x);
        put_u64be(b, y);
        assert_int_equal(memcmp(a, b, 8) < 0, x < y);
        assert_int_equal(get_u64be(a), x);
    }
}

static void a_read_past_the_end_is_bad_and_stays_bad(void **state)
{
    (void)state;
    struct cur c = cur_of(VIEW_LIT("\1\2\3"));
    assert_int_equal(cur_u16(&c), 0x0201);
    assert_int_equal(cur_u16(&c), 0);
    assert_true(c.bad);
    assert_int_equal(cur_u8(&c), 0); /* one byte is left, but nothing good comes after bad */
    assert_null(cur_take(&c, 0).data);
    assert_null(cur_bytes(&c).data);
    assert_int_equal(cur_varint(&c), 0);
    assert_int_equal(cur_left(&c), 0);
    assert_false(cur_done(&c));
}

static void an_absent_input_reads_as_an_empty_one(void **state)
{
    (void)state;
    struct cur c = cur_of(view_of(NULL, 0));
    assert_true(view_eq(cur_take(&c, 0), VIEW_LIT("")));
    assert_true(cur_done(&c));
    assert_int_equal(cur_u8(&c), 0);
    assert_true(c.bad);
}

static void a_length_beyond_the_end_is_bad(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_varint(&b, UINT64_MAX);
    buf_put_u64(&b, 0);
    struct cur c = cur_of(buf_view(&b));
    assert_null(cur_bytes(&c).data);
    assert_true(c.bad);
    c = cur_of(buf_view(&b));
    assert_null(cur_take(&c, SIZE_MAX).data);
    assert_true(c.bad);
    buf_free(&b);
}

static void a_number_has_one_encoding(void **state)
{
    (void)state;
    static const struct view bad[] = {
        {(const uint8_t *)"\x80", 1},                                      /* ends in the middle */
        {(const uint8_t *)"\x80\x00", 2},                                  /* 0 in two bytes */
        {(const uint8_t *)"\xff\x80\x00", 3},                              /* 127 in three */
        {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10}, /* 65 bits */
        {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", 11},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cur c = cur_of(bad[i]);
        assert_int_equal(cur_varint(&c), 0);
        assert_true(c.bad);
    }
    struct cur c = cur_of(VIEW_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    assert_true(cur_varint(&c) == UINT64_MAX);
    assert_true(cur_done(&c));
}

static void no_input_makes_a_reader_leave_its_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (int round = 0; round < 20000; round++) {
        size_t size = rng_below(&r, 24);
        uint8_t *input = mem_alloc(size); /* its own block, so that a sanitizer sees the first byte too far */
        rng_fill(&r, input, size);
        struct cur c = cur_of(view_of(input, size));
        while (!c.bad && cur_left(&c) > 0) {
            switch (rng_below(&r, 5)) {
            case 0:
                cur_u8(&c);
                break;
            case 1:
                cur_u32(&c);
                break;
            case 2:
                cur_u64be(&c);
                break;
            case 3:
                cur_varint(&c);
                break;
            case 4: {
                struct view v = cur_bytes(&c);
                assert_true(v.data == NULL || (v.data >= input && v.data + v.size <= input + size));
                break;
            }
            }
            assert_true(c.at >= input && c.at <= input + size);
        }
        mem_free(input);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_tells_absent_from_empty),
        cmocka_unit_test(views_are_equal_by_their_bytes),
        cmocka_unit_test(views_are_ordered_by_bytes_and_then_by_length),
        cmocka_unit_test(what_is_appended_stays_while_the_buf_grows),
        cmocka_unit_test(clearing_keeps_the_memory),
        cmocka_unit_test(a_reserve_that_was_refused_changes_nothing),
        cmocka_unit_test(taken_memory_is_the_callers),
        cmocka_unit_test(formatted_text_is_appended_whole_at_every_length),
        cmocka_unit_test(an_empty_buf_has_a_present_view_and_an_empty_string),
        cmocka_unit_test(numbers_have_the_bytes_the_format_says),
        cmocka_unit_test(what_was_put_is_read_back),
        cmocka_unit_test(big_endian_numbers_sort_as_bytes),
        cmocka_unit_test(a_read_past_the_end_is_bad_and_stays_bad),
        cmocka_unit_test(an_absent_input_reads_as_an_empty_one),
        cmocka_unit_test(a_length_beyond_the_end_is_bad),
        cmocka_unit_test(a_number_has_one_encoding),
        cmocka_unit_test(no_input_makes_a_reader_leave_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
