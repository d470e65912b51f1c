#include "unit.h"

#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"

static void headers_come_back_in_order(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(headers_put(&b, VIEW_LIT("a"), VIEW_LIT("one"), NULL), E_OK);
    assert_int_equal(headers_put(&b, VIEW_LIT("b"), VIEW_LIT(""), NULL), E_OK);
    assert_int_equal(headers_put(&b, VIEW_LIT("a"), VIEW_LIT("two"), NULL), E_OK);
    assert_int_equal(headers_check(buf_view(&b), NULL), E_OK);

    struct view rest = buf_view(&b);
    struct header h;
    bool bad;
    assert_true(headers_next(&rest, &h, &bad));
    assert_true(view_eq(h.name, VIEW_LIT("a")) && view_eq(h.value, VIEW_LIT("one")));
    assert_true(headers_next(&rest, &h, &bad));
    assert_true(view_eq(h.name, VIEW_LIT("b")) && view_eq(h.value, VIEW_LIT("")));
    assert_true(headers_next(&rest, &h, &bad));
    assert_true(view_eq(h.name, VIEW_LIT("a")) && view_eq(h.value, VIEW_LIT("two")));
    assert_false(headers_next(&rest, &h, &bad));
    assert_false(bad);
    buf_free(&b);
}

static void the_first_of_a_name_is_found(void **state)
{
    (void)state;
    struct buf b = {0};
    struct view value;
    headers_put(&b, VIEW_LIT("x"), VIEW_LIT("1"), NULL);
    headers_put(&b, VIEW_LIT("name"), VIEW_LIT("2"), NULL);
    headers_put(&b, VIEW_LIT("name"), VIEW_LIT("3"), NULL);
    assert_true(headers_find(buf_view(&b), VIEW_LIT("name"), &value));
    assert_true(view_eq(value, VIEW_LIT("2")));
    assert_false(headers_find(buf_view(&b), VIEW_LIT("nam"), &value));
    assert_false(headers_find(view_of(NULL, 0), VIEW_LIT("name"), &value));
    buf_free(&b);
}

static void the_65th_header_is_refused_and_the_limit_named(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    for (int i = 0; i < WIRE_HEADERS_MAX; i++)
        assert_int_equal(headers_put(&b, VIEW_LIT("n"), VIEW_LIT("v"), NULL), E_OK);
    size_t size = b.size;
    assert_int_equal(headers_put(&b, VIEW_LIT("n"), VIEW_LIT("v"), &e), E_LIMIT);
    assert_has(e.text, "64");
    assert_int_equal(b.size, size);

    assert_int_equal(headers_check(buf_view(&b), NULL), E_OK);
    buf_append(&b, "\1\0n\1\0\0\0v", 8);
    assert_int_equal(headers_check(buf_view(&b), &e), E_LIMIT);
    assert_has(e.text, "65");
    assert_has(e.text, "64");
    buf_free(&b);
}

static void one_byte_over_16_kib_is_refused_and_the_limit_named(void **state)
{
    (void)state;
    static uint8_t value[WIRE_HEADERS_BYTES_MAX];
    struct buf b = {0};
    struct err e = {0};
    size_t most = WIRE_HEADERS_BYTES_MAX - 2 - 1 - 4;
    assert_int_equal(headers_put(&b, VIEW_LIT("n"), view_of(value, most + 1), &e), E_LIMIT);
    assert_has(e.text, "16384 bytes");
    assert_int_equal(b.size, 0);
    assert_int_equal(headers_put(&b, VIEW_LIT("n"), view_of(value, most), NULL), E_OK);
    assert_int_equal(headers_check(buf_view(&b), NULL), E_OK);
    assert_int_equal(headers_put(&b, VIEW_LIT("n"), VIEW_LIT(""), NULL), E_LIMIT);
    buf_append(&b, "", 1);
    assert_int_equal(headers_check(buf_view(&b), &e), E_LIMIT);
    assert_has(e.text, "16384");
    buf_free(&b);
}

static void a_name_is_1_to_65535_bytes(void **state)
{
    (void)state;
    static uint8_t name[UINT16_MAX + 1];
    struct buf b = {0};
    assert_int_equal(headers_put(&b, VIEW_LIT(""), VIEW_LIT("v"), NULL), E_INVALID_ARGUMENT);
    assert_int_equal(headers_put(&b, view_of(name, sizeof name), VIEW_LIT("v"), NULL), E_INVALID_ARGUMENT);
    assert_int_equal(b.size, 0);
    assert_int_equal(headers_check(VIEW_LIT("\0\0\0\0\0\0"), NULL), E_INVALID_ARGUMENT);
    buf_free(&b);
}

static void headers_cut_anywhere_but_between_two_are_malformed(void **state)
{
    (void)state;
    struct buf b = {0};
    headers_put(&b, VIEW_LIT("first"), VIEW_LIT("value"), NULL);
    size_t between = b.size;
    headers_put(&b, VIEW_LIT("second"), VIEW_LIT("value"), NULL);
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = mem_dup(b.data, size);
        bool whole = size == 0 || size == between;
        assert_int_equal(headers_check(view_of(cut, size), NULL), whole ? E_OK : E_INVALID_ARGUMENT);
        struct view value;
        assert_int_equal(headers_find(view_of(cut, size), VIEW_LIT("first"), &value), size >= between);
        mem_free(cut);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_come_back_in_order),
        cmocka_unit_test(the_first_of_a_name_is_found),
        cmocka_unit_test(the_65th_header_is_refused_and_the_limit_named),
        cmocka_unit_test(one_byte_over_16_kib_is_refused_and_the_limit_named),
        cmocka_unit_test(a_name_is_1_to_65535_bytes),
        cmocka_unit_test(headers_cut_anywhere_but_between_two_are_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
