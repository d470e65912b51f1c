#include "store_kit.h"

#include <malloc.h>

#include "base/rng.h"

static struct puts list;

static int setup(void **state)
{
    (void)state;
    puts_init(&list);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    puts_free(&list);
    return 0;
}

/* The list as text: "+ meta a=1", "- meta a", "~ meta a..b". */
static const char *shown(const struct puts *l, struct buf *out)
{
    static const char signs[] = "?+-~";
    buf_clear(out);
    for (size_t i = 0; i < l->count; i++) {
        struct put put;
        puts_at(l, i, &put);
        buf_putf(out, "%s%c %s %.*s", i != 0 ? ", " : "", signs[put.kind], store_family_name(put.family),
                 (int)put.key.size, (const char *)put.key.data);
        for (size_t k = 0; k < put.pieces_n; k++)
            buf_putf(out, "%s%.*s",
                     k != 0                ? "|"
                     : put.kind == PUT_ROW ? "="
                                           : "..",
                     (int)put.pieces[k].size, (const char *)put.pieces[k].data);
    }
    return buf_str(out);
}

static void assert_list(const struct puts *l, const char *expected)
{
    struct buf out = {0};
    assert_string_equal(shown(l, &out), expected);
    buf_free(&out);
}

static void row(const char *key, const char *value)
{
    puts_row(&list, FAM_META, kit_str(key), kit_str(value));
}

static void puts_stand_in_the_order_in_which_they_were_made(void **state)
{
    (void)state;
    row("b", "1");
    puts_remove(&list, FAM_HELD, kit_str("x"));
    puts_remove_range(&list, FAM_KEYS, kit_str("c"), kit_str("d"));
    row("a", "2");
    assert_list(&list, "+ meta b=1, - held x, ~ keys c..d, + meta a=2");
    assert_int_equal(list.count, 4);
    assert_int_equal(list.bytes, 2 + 1 + 2 + 2);
}

static void a_row_is_in_the_list_once_as_it_was_put_last(void **state)
{
    (void)state;
    row("a", "1");
    row("b", "1");
    row("a", "22");
    assert_list(&list, "+ meta a=22, + meta b=1");
    assert_int_equal(list.bytes, 1 + 2 + 1 + 1);
    puts_remove(&list, FAM_META, kit_str("b"));
    assert_list(&list, "+ meta a=22, - meta b");
    row("b", "3");
    assert_list(&list, "+ meta a=22, + meta b=3");
    puts_row(&list, FAM_HELD, kit_str("a"), kit_str("other family"));
    assert_int_equal(list.count, 3);
}

static void a_row_put_again_behind_a_range_removal_survives_it(void **state)
{
    (void)state;
    row("a", "1");
    row("m", "1");
    row("z", "1");
    puts_remove_range(&list, FAM_META, kit_str("l"), kit_str("n"));
    row("m", "2");
    row("z", "2");
    assert_list(&list, "+ meta a=1, + meta z=2, ~ meta l..n, + meta m=2");
    row("m", "3");
    assert_list(&list, "+ meta a=1, + meta z=2, ~ meta l..n, + meta m=3");
    puts_remove_range(&list, FAM_META, kit_str("a"), kit_str("zz"));
    row("a", "4");
    assert_list(&list, "+ meta z=2, ~ meta l..n, + meta m=3, ~ meta a..zz, + meta a=4");
}

static void a_range_of_nothing_is_not_put(void **state)
{
    (void)state;
    puts_remove_range(&list, FAM_META, kit_str("b"), kit_str("b"));
    puts_remove_range(&list, FAM_META, kit_str("b"), kit_str("a"));
    assert_int_equal(list.count, 0);
}

static void what_was_put_is_found_before_it_is_written(void **state)
{
    (void)state;
    struct view v;
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_UNKNOWN);
    row("a", "1");
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_ROW);
    assert_true(view_eq(v, kit_str("1")));
    assert_int_equal(puts_find(&list, FAM_HELD, kit_str("a"), &v), PUTS_UNKNOWN);
    row("a", "");
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_ROW);
    assert_int_equal(v.size, 0);
    puts_remove(&list, FAM_META, kit_str("a"));
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_REMOVED);
    row("a", "2");
    puts_remove_range(&list, FAM_META, kit_str("a"), kit_str("b"));
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_REMOVED);
    assert_int_equal(puts_find(&list, FAM_META, kit_str("aa"), &v), PUTS_REMOVED);
    assert_int_equal(puts_find(&list, FAM_META, kit_str("b"), &v), PUTS_UNKNOWN);
}

static void pieces_are_borrowed_and_not_found_again(void **state)
{
    (void)state;
    char one[] = "head", two[] = "body";
    struct view pieces[] = {view_of(one, 4), view_of(two, 4)};
    row("a", "1");
    puts_pieces(&list, FAM_META, kit_str("a"), pieces, 2);
    pieces[0] = view_of(NULL, 0);
    two[0] = 'B';
    assert_list(&list, "+ meta a=head|Body");
    assert_int_equal(list.bytes, 9);
    struct view v;
    assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_UNKNOWN);
    row("a", "2");
    assert_list(&list, "+ meta a=2");
}

static void a_copied_key_and_value_may_go_at_once(void **state)
{
    (void)state;
    char key[] = "key", value[] = "value";
    puts_row(&list, FAM_META, view_of(key, 3), view_of(value, 5));
    memset(key, 'x', 3);
    memset(value, 'x', 5);
    assert_list(&list, "+ meta key=value");
}

static void a_cleared_list_is_empty_and_good_again(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        int rows = round == 3 ? 5000 : 10; /* a burst, and back */
        for (int i = 0; i < rows; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            row(key, key);
        }
        puts_remove_range(&list, FAM_META, kit_str("a"), kit_str("b"));
        assert_int_equal(list.count, rows + 1);
        struct view v;
        assert_int_equal(puts_find(&list, FAM_META, kit_str("7"), &v), PUTS_ROW);
        puts_clear(&list);
        assert_int_equal(list.count, 0);
        assert_int_equal(list.bytes, 0);
        assert_int_equal(puts_find(&list, FAM_META, kit_str("7"), &v), PUTS_UNKNOWN);
        assert_int_equal(puts_find(&list, FAM_META, kit_str("a"), &v), PUTS_UNKNOWN);
    }
}

static size_t memory_in_use(void)
{
    struct mallinfo2 m = mallinfo2(); /* of zeros where a sanitizer has the memory */
    return m.uordblks + m.hblkhd;
}

static void a_burst_does_not_keep_its_memory(void **state)
{
    (void)state;
    enum { ROWS_OF_BURST = 100000 };
    row("a", "1");
    puts_clear(&list);
    size_t before = memory_in_use();
    char large[1000] = "";
    for (int i = 0; i < ROWS_OF_BURST; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        puts_row(&list, FAM_META, kit_str(key), view_of(large, i % 10 == 0 ? sizeof large : 20));
    }
    for (int i = 0; i < 20; i++) {
        puts_clear(&list);
        row("a", "1");
    }
    assert_true(memory_in_use() <= before + (4 << 20));
    assert_list(&list, "+ meta a=1");
}

/* ---------------------------------------------------------------- any history against a simple model */

enum { ROWS = 40 };
struct model {
    char value[ROWS][16]; /* "": removed or never there */
};

static void key_of(uint64_t i, char key[16])
{
    snprintf(key, 16, "%02d", (int)i);
}

/* Applies a list to the model, as a store would. */
static void apply(struct model *m, const struct puts *l)
{
    for (size_t i = 0; i < l->count; i++) {
        struct put put;
        puts_at(l, i, &put);
        for (int k = 0; k < ROWS; k++) {
            char key[16];
            key_of((uint64_t)k, key);
            bool hit = put.kind == PUT_REMOVE_RANGE
                           ? view_cmp(put.key, kit_str(key)) <= 0 && view_cmp(kit_str(key), put.pieces[0]) < 0
                           : view_cmp(put.key, kit_str(key)) == 0;
            if (!hit)
                continue;
            memset(m->value[k], 0, sizeof m->value[k]);
            if (put.kind == PUT_ROW)
                memcpy(m->value[k], put.pieces[0].data, put.pieces[0].size);
        }
    }
}

static void any_history_of_puts_means_what_its_steps_mean_one_by_one(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 300; round++) {
        struct model stepwise = {0}, whole = {0};
        struct puts one;
        puts_init(&one);
        puts_clear(&list);
        int steps = (int)rng_below(&r, 120);
        for (int i = 0; i < steps; i++) {
            char a[16], b[16], value[16];
            key_of(rng_below(&r, ROWS), a);
            key_of(rng_below(&r, ROWS), b);
            snprintf(value, sizeof value, "v%d", i);
            puts_clear(&one);
            for (int both = 0; both < 2; both++) {
                struct puts *l = both != 0 ? &one : &list;
                if (i % 7 == 3)
                    puts_remove(l, FAM_META, kit_str(a));
                else if (i % 11 == 5)
                    puts_remove_range(l, FAM_META, kit_str(a), kit_str(b));
                else
                    puts_row(l, FAM_META, kit_str(a), kit_str(value));
            }
            apply(&stepwise, &one);
        }
        apply(&whole, &list);
        assert_memory_equal(&stepwise, &whole, sizeof whole);
        size_t bytes = 0;
        for (size_t i = 0; i < list.count; i++) {
            struct put put;
            puts_at(&list, i, &put);
            bytes += put.key.size + (put.pieces_n != 0 ? put.pieces[0].size : 0);
        }
        assert_int_equal(list.bytes, bytes);
        puts_free(&one);
    }
}

/* ---------------------------------------------------------------- as bytes */

static void fill(void)
{
    static const struct view pieces[] = {{(const uint8_t *)"one", 3}, {(const uint8_t *)"two", 3}};
    list.epoch = 3;
    list.turn = UINT64_MAX - 1;
    row("a", "1");
    row("", "");
    puts_remove(&list, FAM_LOG_COMPACTED, kit_str("gone"));
    puts_remove_range(&list, FAM_KEYS, kit_str(""), kit_str("z"));
    puts_pieces(&list, FAM_LOG_DAYS, kit_str("log"), pieces, 2);
}

static void a_list_comes_back_from_its_bytes(void **state)
{
    (void)state;
    fill();
    struct buf bytes = {0}, again = {0};
    puts_encode(&list, &bytes);
    struct puts back;
    puts_init(&back);
    assert_ok(puts_decode(&back, buf_view(&bytes), &err));
    assert_int_equal(back.epoch, 3);
    assert_int_equal(back.turn, UINT64_MAX - 1);
    assert_int_equal(back.bytes, list.bytes);
    assert_list(&back, "+ meta a=1, + meta =, - log.compacted gone, ~ keys ..z, + log.days log=onetwo");
    puts_encode(&back, &again);
    assert_true(view_eq(buf_view(&bytes), buf_view(&again)));
    puts_free(&back);
    buf_free(&bytes);
    buf_free(&again);
}

static void the_bytes_are_these_for_ever(void **state)
{
    (void)state;
    list.epoch = 1;
    list.turn = 2;
    puts_row(&list, FAM_META, kit_str("k"), kit_str("v"));
    puts_remove(&list, FAM_GROUPS, kit_str("k"));
    puts_remove_range(&list, FAM_LEASES, kit_str("a"), kit_str("b"));
    static const uint8_t expected[] = {1, 0, 0, 0,   2, 0,   0, 0, 0, 0,   0, 0, 3, 0,   0, 0,
                                       1, 0, 1, 'k', 1, 'v', 2, 1, 1, 'k', 3, 2, 1, 'a', 1, 'b'};
    struct buf bytes = {0};
    puts_encode(&list, &bytes);
    assert_int_equal(bytes.size, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
    buf_free(&bytes);
}

static void a_damaged_list_is_refused_whole(void **state)
{
    (void)state;
    fill();
    struct buf bytes = {0};
    puts_encode(&list, &bytes);
    struct puts back;
    puts_init(&back);
    puts_row(&back, FAM_META, kit_str("stays"), kit_str("1"));
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *cut = malloc(size + 1); /* exact, so that reading past it is seen */
        memcpy(cut, bytes.data, size);
        struct err e = {0};
        puts_decode(&back, view_of(cut, size), &e);
        assert_code(E_DAMAGED, e);
        free(cut);
    }
    buf_put_u8(&bytes, 0);
    struct err e = {0};
    puts_decode(&back, buf_view(&bytes), &e);
    assert_code(E_DAMAGED, e);
    assert_list(&back, "+ meta stays=1");
    puts_free(&back);
    buf_free(&bytes);
}

static void an_unknown_kind_family_or_an_empty_range_is_damage(void **state)
{
    (void)state;
    static const uint8_t head[16] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    static const uint8_t bodies[][6] = {
        {0, 0, 1, 'k', 1, 'v'}, {4, 0, 1, 'k', 1, 'v'}, {1, FAM_COUNT, 1, 'k', 1, 'v'},
        {3, 0, 1, 'b', 1, 'b'}, {3, 0, 1, 'b', 1, 'a'},
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct buf bytes = {0};
        buf_append(&bytes, head, sizeof head);
        buf_append(&bytes, bodies[i], sizeof bodies[i]);
        struct err e = {0};
        puts_decode(&list, buf_view(&bytes), &e);
        assert_code(E_DAMAGED, e);
        assert_int_equal(list.count, 0);
        buf_free(&bytes);
    }
}

static void random_damage_never_crashes_the_decoder(void **state)
{
    (void)state;
    fill();
    struct buf bytes = {0};
    puts_encode(&list, &bytes);
    struct rng r;
    rng_seed(&r, 11);
    struct puts back;
    puts_init(&back);
    for (int i = 0; i < 20000; i++) {
        uint8_t *copy = malloc(bytes.size);
        memcpy(copy, bytes.data, bytes.size);
        for (uint64_t n = 1 + rng_below(&r, 4); n > 0; n--)
            copy[rng_below(&r, bytes.size)] = (uint8_t)rng_next(&r);
        puts_clear(&back);
        int code = puts_decode(&back, view_of(copy, bytes.size), NULL);
        assert_true(code == E_OK || (code == E_DAMAGED && back.count == 0));
        free(copy);
    }
    puts_free(&back);
    buf_free(&bytes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(puts_stand_in_the_order_in_which_they_were_made),
        TEST(a_row_is_in_the_list_once_as_it_was_put_last),
        TEST(a_row_put_again_behind_a_range_removal_survives_it),
        TEST(a_range_of_nothing_is_not_put),
        TEST(what_was_put_is_found_before_it_is_written),
        TEST(pieces_are_borrowed_and_not_found_again),
        TEST(a_copied_key_and_value_may_go_at_once),
        TEST(a_cleared_list_is_empty_and_good_again),
        TEST(a_burst_does_not_keep_its_memory),
        TEST(any_history_of_puts_means_what_its_steps_mean_one_by_one),
        TEST(a_list_comes_back_from_its_bytes),
        TEST(the_bytes_are_these_for_ever),
        TEST(a_damaged_list_is_refused_whole),
        TEST(an_unknown_kind_family_or_an_empty_range_is_damage),
        TEST(random_damage_never_crashes_the_decoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
