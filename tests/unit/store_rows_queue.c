/* Rows of messages that are leased, held, away, or behind others of their key. */
#include "store_rows_kit.h"

/* ---------------------------------------------------------------- what holds for every row */

static void a_held_message_comes_back_with_its_reason(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct held_row a, b_;
        struct buf b = {0};
        helds(x, &a);
        held_row_put(&b, &a);
        assert_ok(held_row_get(buf_view(&b), &b_, &err));
        EQ(state);
        EQ(due_ms);
        EQ(at_ms);
        EQ(token);
        EQ(key_hash);
        EQ(has_key);
        EQ(blocking);
        EQ(size);
        EQ(grants);
        EQ(failures);
        VEQ(reason);
        VEQ(error);
        EQ(expires_ms);
        EQ(priority);
        EQ(purges);
        buf_free(&b);
    }
}

static void a_key_that_is_away_comes_back_with_its_members(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct away_row a = aways[x], b_;
        struct key_member m = {0};
        struct buf b = {0};
        uint32_t n = 0;
        bool bad;
        away_row_put(&b, &a);
        assert_ok(away_row_get(buf_view(&b), &b_, &err));
        EQ(list.first);
        EQ(list.skip);
        EQ(list.last);
        EQ(list.count);
        EQ(list.head_in_list);
        EQ(purges);
        EQ(members_n);
        for (; away_row_next(&b_.members_raw, &m, &bad); n++) {
            assert_int_equal(m.partition, of_a_key[n].partition);
            assert_true(m.offset == of_a_key[n].offset);
            assert_int_equal(m.state, of_a_key[n].state);
        }
        assert_false(bad);
        assert_int_equal(n, a.members_n);
        buf_free(&b);
    }
}

static void a_key_that_is_away_without_members_or_with_one_in_no_known_state_is_refused(void **state)
{
    (void)state;
    for (int s = -1; s < 256; s++) {
        struct key_member m = {.partition = 1, .offset = 2, .state = (uint8_t)s};
        struct away_row back;
        struct buf b = {0};
        away_row_put(&b, &(struct away_row){.members = &m, .members_n = s < 0 ? 0 : 1});
        int code = away_row_get(buf_view(&b), &back, NULL);
        assert_int_equal(code, s >= AWAY_RETRYING && s <= AWAY_WAITING ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void a_held_message_of_no_known_state_is_refused(void **state)
{
    (void)state;
    struct held_row r;
    helds(true, &r);
    for (int s = 0; s < 256; s++) {
        struct buf b = {0};
        struct held_row back;
        r.state = (uint8_t)s;
        held_row_put(&b, &r);
        int code = held_row_get(buf_view(&b), &back, NULL);
        assert_int_equal(code, s == HELD_RETRYING || s == HELD_PARKED ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void a_lease_comes_back_with_all_its_messages(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct lease_row a, b_;
        struct buf b = {0};
        leases(x, &a);
        lease_row_put(&b, &a);
        assert_ok(lease_row_get(buf_view(&b), &b_, &err));
        EQ(session.lo);
        EQ(session.hi);
        EQ(slot);
        EQ(lease_ms);
        EQ(counter);
        EQ(granted_ms);
        EQ(entries_n);
        struct lease_entry y = {0};
        bool bad;
        for (uint32_t i = 0; i < a.entries_n; i++) {
            assert_true(lease_row_next(&b_.entries_raw, &y, &bad));
            struct lease_entry z = entries[i];
            assert_true(y.partition == z.partition && y.offset == z.offset && y.has_key == z.has_key &&
                        y.key_hash == (z.has_key ? z.key_hash : 0) && y.size == z.size &&
                        y.grants == z.grants && y.failures == z.failures && y.expires_ms == z.expires_ms &&
                        y.priority == z.priority);
        }
        assert_false(lease_row_next(&b_.entries_raw, &y, &bad));
        assert_false(bad);
        buf_free(&b);
    }
}

static void a_lease_that_says_another_number_of_messages_is_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    struct lease_row r = {.entries = entries, .entries_n = 2}, back;
    lease_row_put(&b, &r);
    size_t at = 1 + 16 + 4; /* format, session, four zeros */
    assert_int_equal(b.data[at], 2);
    for (int n = 0; n < 5; n++) {
        b.data[at] = (uint8_t)n;
        assert_int_equal(lease_row_get(buf_view(&b), &back, NULL), n == 2 ? E_OK : E_DAMAGED);
    }
    buf_free(&b);
}

static void a_thousand_leased_neighbours_cost_few_bytes_each(void **state)
{
    (void)state;
    struct lease_entry *many = calloc(1000, sizeof *many);
    for (uint32_t i = 0; i < 1000; i++)
        many[i] = (struct lease_entry){.partition = 9, .offset = 1000000 + i, .size = 1000, .grants = 1};
    struct lease_row r = {.entries = many, .entries_n = 1000};
    struct buf b = {0};
    lease_row_put(&b, &r);
    assert_in_range(b.size, 1000, 5100);
    buf_free(&b);
    free(many);
}

/* ---------------------------------------------------------------- the list behind a key */

static void positions_come_back_however_they_follow_each_other(void **state)
{
    (void)state;
    static const struct list_position positions[] = {
        {0, 0, 0, 0, 0},          {0, 1, 1, 0, 0},         {0, 1, 1, 0, 0},      {0, MAX64, SIZE_MOST, 0, 0},
        {0, 0, 5, 0, 0},          {MAX32, 0, SIZE_MOST, 0, 0}, {0, MAX64, 0, 0, 0}, {1, 5, 9, 0, 0},
        {1, 6, 9, MAX64, 9},      {1, 4, 9, 0, 1},         {MAX32, 6, 1, 1, 0},  {MAX32 - 1, 6, 1, 0, 0},
        {3, 1000, SIZE_MOST, MAX64, UINT8_MAX},
    };
    struct buf b = {0};
    struct list_position before = {0};
    for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
        list_chunk_append(&b, &before, positions[i]);
        assert_memory_equal(&before, &positions[i], sizeof before);
    }
    struct view chunk = buf_view(&b);
    struct list_position p = {0};
    bool bad;
    for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
        assert_true(list_chunk_next(&chunk, &p, &bad));
        struct list_position a = positions[i], b_ = p;
        EQ(partition);
        EQ(offset);
        EQ(size);
        EQ(expires_ms);
        EQ(priority);
    }
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_false(bad);
    buf_free(&b);
}

static void a_position_of_a_run_takes_four_bytes(void **state)
{
    (void)state;
    struct buf b = {0};
    struct list_position before = {0};
    list_chunk_append(&b, &before, (struct list_position){2, 1000000, 1000, 0, 0});
    size_t first = b.size;
    for (uint64_t i = 1; i <= 100; i++)
        list_chunk_append(&b, &before, (struct list_position){2, 1000000 + 20 * i, 1000, 0, 0});
    assert_in_range(b.size - first, 300, 400);
    buf_free(&b);
}

static void a_chunk_cut_within_a_position_is_bad_and_ends(void **state)
{
    (void)state;
    struct buf b = {0};
    struct list_position before = {0};
    list_chunk_append(&b, &before, (struct list_position){MAX32, MAX64, SIZE_MOST, 0, 0});
    for (size_t size = 1; size < b.size; size++) {
        struct view chunk = view_of(b.data, size);
        struct list_position p = {0};
        bool bad = false;
        assert_false(list_chunk_next(&chunk, &p, &bad));
        assert_true(bad);
        assert_false(list_chunk_next(&chunk, &p, &bad)); /* no endless loop for who does not look */
    }
    buf_free(&b);
}

static void a_position_out_of_range_is_bad(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_varint(&b, ((uint64_t)MAX32 + 1) << 1); /* a size of 33 bits */
    buf_put_varint(&b, 0);
    struct view chunk = buf_view(&b);
    struct list_position p = {0};
    bool bad;
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_true(bad);
    buf_clear(&b);
    buf_put_varint(&b, 1); /* another partition, namely the same */
    buf_put_varint(&b, 0);
    buf_put_varint(&b, 0);
    chunk = buf_view(&b);
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_true(bad);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_held_message_comes_back_with_its_reason),
        cmocka_unit_test(a_key_that_is_away_comes_back_with_its_members),
        cmocka_unit_test(a_key_that_is_away_without_members_or_with_one_in_no_known_state_is_refused),
        cmocka_unit_test(a_held_message_of_no_known_state_is_refused),
        cmocka_unit_test(a_lease_comes_back_with_all_its_messages),
        cmocka_unit_test(a_lease_that_says_another_number_of_messages_is_refused),
        cmocka_unit_test(a_thousand_leased_neighbours_cost_few_bytes_each),
        cmocka_unit_test(positions_come_back_however_they_follow_each_other),
        cmocka_unit_test(a_position_of_a_run_takes_four_bytes),
        cmocka_unit_test(a_chunk_cut_within_a_position_is_bad_and_ends),
        cmocka_unit_test(a_position_out_of_range_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
