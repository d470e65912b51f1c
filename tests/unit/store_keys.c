#include "store_kit.h"

#include "base/rng.h"
#include "store/keys.h"

static const uint32_t numbers32[] = {0,          1,          0xff,       0x100,          0xffff,
                                     0x12345678, 0x7fffffff, 0x80000000, UINT32_MAX - 1, UINT32_MAX};
static const uint64_t numbers64[] = {0,
                                     1,
                                     0xff,
                                     0x100,
                                     UINT32_MAX,
                                     UINT64_C(0x100000000),
                                     UINT64_C(0x123456789abcdef0),
                                     INT64_MAX,
                                     UINT64_C(0x8000000000000000),
                                     UINT64_MAX - 1,
                                     UINT64_MAX};

/* Everything that keys are made of; a key takes what it needs. */
struct parts {
    uint32_t a, b;
    uint64_t c, d;
};

static int compare32(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int compare64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int first_difference(int x, int y, int z, int w)
{
    return x != 0 ? x : y != 0 ? y : z != 0 ? z : w;
}

/* One shape of key: how it is made, how it is taken apart, and how its numbers order it. */
struct shape {
    const char *name;
    struct key (*make)(struct parts p);
    bool (*read)(struct view key, struct parts *p);
    int (*order)(struct parts a, struct parts b);
};

#define SHAPE(name, made, read_, ordered)                     \
    static struct key name##_make(struct parts p)             \
    {                                                         \
        return made;                                          \
    }                                                         \
    static bool name##_read(struct view key, struct parts *p) \
    {                                                         \
        return read_;                                         \
    }                                                         \
    static int name##_order(struct parts x, struct parts y)   \
    {                                                         \
        return ordered;                                       \
    }

#define A compare32(x.a, y.a)
#define B compare32(x.b, y.b)
#define C compare64(x.c, y.c)
#define D compare64(x.d, y.d)

static bool read_session(struct view key, struct parts *p)
{
    struct id128 id;
    bool good = key_read_session(key, &id);
    p->c = id.hi;
    p->d = id.lo;
    return good;
}

static bool read_member(struct view key, struct parts *p)
{
    struct id128 id;
    bool good = key_read_member(key, &p->a, &id, &p->b);
    p->c = id.hi;
    p->d = id.lo;
    return good;
}

static bool read_lane(struct view key, struct parts *p)
{
    struct id128 id;
    bool good = key_read_lane(key, &id, &p->a);
    p->c = id.hi;
    p->d = id.lo;
    return good;
}

static bool read_batch(struct view key, struct parts *p)
{
    struct id128 id;
    bool good = key_read_sched_batch(key, &p->c, &p->a, &id);
    p->d = id.hi;
    p->b = (uint32_t)id.lo;
    return good && id.lo >> 32 == 0;
}

SHAPE(topic, key_topic(p.a), key_read_id(key, 't', &p->a), A)
SHAPE(group, key_group(p.a), key_read_id(key, 'g', &p->a), A)
SHAPE(partition, key_partition_row(p.a), key_read_id(key, 'p', &p->a), A)
SHAPE(copy, key_copy(p.a, p.b, p.c), key_read_copy(key, &p->a, &p->b, &p->c), first_difference(A, B, C, 0))
SHAPE(lost, key_lost(p.a, p.b), key_read_lost(key, &p->a, &p->b), first_difference(A, B, 0, 0))
SHAPE(trims, key_trims(p.a), key_read_id(key, 'r', &p->a), A)
SHAPE(compaction, key_compaction(p.a), key_read_id(key, 'c', &p->a), A)
SHAPE(log, key_log(p.a, p.c), key_read_log(key, &p->a, &p->c), first_difference(A, C, 0, 0))
SHAPE(cursor, key_cursor(p.a, p.b), key_read_cursor(key, &p->a, &p->b), first_difference(A, B, 0, 0))
SHAPE(claim, key_claim(p.a, p.b), key_read_claim(key, &p->a, &p->b), first_difference(A, B, 0, 0))
SHAPE(member, key_member(p.a, (struct id128){.hi = p.c, .lo = p.d}, p.b), read_member(key, p), first_difference(A, C, D, B))
SHAPE(done, key_done(p.a, p.b, p.c), key_read_done(key, &p->a, &p->b, &p->c), first_difference(A, B, C, 0))
SHAPE(lease, key_lease(p.a, p.c), key_read_lease(key, &p->a, &p->c), first_difference(A, C, 0, 0))
SHAPE(list, key_list(p.a, p.c, p.b), key_read_list(key, &p->a, &p->c, &p->b), first_difference(A, C, B, 0))
SHAPE(held, key_held(p.a, p.b, p.c), key_read_held(key, &p->a, &p->b, &p->c), first_difference(A, B, C, 0))
SHAPE(retry, key_sched_retry(p.c, p.a, p.b, p.d), key_read_sched_retry(key, &p->c, &p->a, &p->b, &p->d),
      first_difference(C, A, B, D))
SHAPE(header, key_list_header(p.a, p.c), key_read_list_header(key, &p->a, &p->c), first_difference(A, C, 0, 0))
SHAPE(away, key_away(p.a, p.c), key_read_away(key, &p->a, &p->c), first_difference(A, C, 0, 0))
SHAPE(far, key_sched_away(p.c, p.a, p.b, p.d), key_read_sched_away(key, &p->c, &p->a, &p->b, &p->d), first_difference(C, A, B, D))
SHAPE(batch, key_sched_batch(p.c, p.a, (struct id128){.hi = p.d, .lo = p.b}), read_batch(key, p), first_difference(C, A, D, B))
SHAPE(task, key_task(p.a, p.c), key_read_task(key, &p->a, &p->c), first_difference(A, C, 0, 0))
SHAPE(session, key_session((struct id128){.hi = p.c, .lo = p.d}), read_session(key, p),
      first_difference(C, D, 0, 0))
SHAPE(lane, key_lane((struct id128){.hi = p.c, .lo = p.d}, p.a), read_lane(key, p),
      first_difference(C, D, A, 0))

#define ROW(name)                                     \
    {                                                 \
#name, name##_make, name##_read, name##_order \
    }
static const struct shape shapes[] = {ROW(topic),  ROW(group), ROW(partition), ROW(compaction), ROW(log),
                                      ROW(cursor), ROW(claim), ROW(member), ROW(done),  ROW(lease),     ROW(list),
                                      ROW(held),   ROW(retry), ROW(batch),     ROW(task),
                                      ROW(session), ROW(lane), ROW(trims), ROW(copy), ROW(lost),  ROW(header),    ROW(away),
                                      ROW(far)};

static struct parts any_parts(struct rng *r)
{
    return (struct parts){
        numbers32[rng_below(r, ARRAY_LEN(numbers32))],
        numbers32[rng_below(r, ARRAY_LEN(numbers32))],
        numbers64[rng_below(r, ARRAY_LEN(numbers64))],
        numbers64[rng_below(r, ARRAY_LEN(numbers64))],
    };
}

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static void every_key_sorts_by_its_numbers(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (int n = 0; n < 20000; n++) {
            struct parts x = any_parts(&r), y = any_parts(&r);
            struct key kx = shapes[i].make(x), ky = shapes[i].make(y);
            if (sign(view_cmp(key_view(&kx), key_view(&ky))) != sign(shapes[i].order(x, y)))
                fail_msg("%s: %08x %08x %016lx %016lx and %08x %08x %016lx %016lx", shapes[i].name, x.a, x.b,
                         x.c, x.d, y.a, y.b, y.c, y.d);
        }
    }
}

static void every_key_gives_its_numbers_back(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (int n = 0; n < 2000; n++) {
            struct parts p = any_parts(&r), back = {0};
            struct key k = shapes[i].make(p);
            assert_true(shapes[i].read(key_view(&k), &back));
            assert_int_equal(shapes[i].order(p, back), 0);
        }
    }
}

static void a_key_of_another_size_is_not_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct parts p = {1, 2, 3, 4};
        struct key k = shapes[i].make(p);
        for (uint8_t size = 0; size <= k.size + 1; size++) {
            if (size != k.size)
                assert_false(shapes[i].read(view_of(k.bytes, size), &p));
        }
    }
}

static void a_key_with_another_tag_is_not_taken_apart(void **state)
{
    (void)state;
    uint32_t a, b;
    uint64_t c, d;
    struct id128 id;
    struct key topic = key_topic(1), cursor = key_cursor(1, 2), done = key_done(1, 2, 3);
    assert_false(key_read_id(key_view(&topic), 'g', &a));
    cursor.bytes[0] = done.bytes[0] = 'x';
    assert_false(key_read_cursor(key_view(&cursor), &a, &b));
    assert_false(key_read_done(key_view(&done), &a, &b, &c));
    struct key session = key_session((struct id128){1, 2}), lane = key_lane((struct id128){1, 2}, 3);
    assert_false(key_read_lane(key_view(&session), &id, &a));
    assert_false(key_read_session(key_view(&lane), &id));
    struct key retry = key_sched_retry(1, 2, 3, 4);
    retry.bytes[8] = 'd';
    assert_false(key_read_sched_retry(key_view(&retry), &c, &a, &b, &d));
    struct key batch = key_sched_batch(1, 2, (struct id128){3, 4}), task = key_task(1, 2);
    batch.bytes[0] = 'r';
    assert_false(key_read_sched_batch(key_view(&batch), &c, &a, &id));
    struct key away = key_sched_away(UINT64_C(0x1111111111111172), 2, 3, 4); /* of the size of a retry's, with an 'r' where that has one */
    assert_false(key_read_sched_retry(key_view(&away), &c, &a, &b, &d));
    assert_false(key_read_sched_away(key_view(&retry), &c, &a, &b, &d));
    struct key header = key_list_header(1, 2), key = key_away(1, 2);
    assert_false(key_read_away(key_view(&header), &a, &c));
    assert_false(key_read_list_header(key_view(&key), &a, &c));
    assert_false(key_read_list(key_view(&key), &a, &c, &b) && a < UINT32_MAX - 1); /* no group has such an id */
    task.bytes[0] = 'c';
    assert_false(key_read_task(key_view(&task), &a, &c));
}

/* A walk over one kind meets no batch between two retries, and no retry between two batches, whatever their times are. */
static void the_kind_of_a_scheduled_key_is_told_before_it_is_taken_apart(void **state)
{
    (void)state;
    uint64_t due;
    struct key retry = key_sched_retry(7, 2, 3, 4), batch = key_sched_batch(8, 2, (struct id128){3, 4}),
               name = key_sched_name(2, (struct id128){3, 4});
    assert_int_equal(key_read_sched_kind(key_view(&retry), &due), SCHED_KIND_RETRY);
    assert_int_equal(due, 7);
    assert_int_equal(key_read_sched_kind(key_view(&batch), &due), SCHED_KIND_BATCH);
    assert_int_equal(due, 8);
    assert_int_equal(key_read_sched_kind(key_view(&name), &due), SCHED_KIND_NAME);
    assert_int_equal(due, 0);
    assert_int_equal(key_read_sched_kind(view_of(retry.bytes, 8), &due), SCHED_KIND_NONE);
    assert_int_equal(key_read_sched_kind(view_of(batch.bytes, 8), &due), SCHED_KIND_NONE);
    struct key first = key_sched_batch(0, 0, (struct id128){0}), last = key_sched_batch(UINT64_MAX, UINT32_MAX, (struct id128){UINT64_MAX, UINT64_MAX});
    struct key far = key_sched_retry(UINT64_C(4102444800000) * 1000, 2, 3, 4), never = key_sched_retry(UINT64_MAX, 2, 3, 4);
    assert_true(view_cmp(key_view(&far), key_view(&first)) < 0);
    assert_true(view_cmp(key_view(&last), key_view(&never)) < 0);
    struct key count = key_sched_count(7), low = key_sched_low();
    assert_int_equal(key_read_sched_kind(key_view(&count), &due), SCHED_KIND_COUNT);
    assert_int_equal(key_read_sched_kind(key_view(&low), &due), SCHED_KIND_LOW);
    struct key away = key_sched_away(9, 2, 3, 4), away_low = key_sched_away_low(), away_first = key_sched_away(0, 0, 0, 0),
               away_last = key_sched_away(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX);
    assert_int_equal(key_read_sched_kind(key_view(&away), &due), SCHED_KIND_AWAY);
    assert_int_equal(due, 9);
    assert_int_equal(key_read_sched_kind(key_view(&away_low), &due), SCHED_KIND_AWAY_LOW);
    assert_int_equal(key_read_sched_kind(view_of(away.bytes, 8), &due), SCHED_KIND_NONE);
    assert_true(view_cmp(key_view(&far), key_view(&away_first)) < 0);
    assert_true(view_cmp(key_view(&away_last), key_view(&first)) < 0);
    struct key copy = key_copy('r', 'i', 7); /* whatever its numbers look like */
    assert_int_equal(key_read_sched_kind(key_view(&copy), &due), SCHED_KIND_COPY);
    assert_true(view_cmp(key_view(&last), key_view(&copy)) < 0 && view_cmp(key_view(&copy), key_view(&never)) < 0);
    retry.bytes[8] = 'x';
    assert_int_equal(key_read_sched_kind(key_view(&retry), &due), SCHED_KIND_NONE);
}

/* Names stand before everything that is due, so no walk over what is due meets them; nobody else's id is the same. */
static void ids_of_messages_names_and_state_are_keys_of_their_owner(void **state)
{
    (void)state;
    struct id128 id = {.hi = UINT64_C(0x1112131415161718), .lo = UINT64_C(0x2122232425262728)};
    struct key dedup = key_dedup(0x01020304, id), kept = key_state(0x01020304, id), name = key_sched_name(0x01020304, id);
    struct view expected = VIEW_LIT("\1\2\3\4\21\22\23\24\25\26\27\30\41\42\43\44\45\46\47\50");
    assert_true(view_eq(key_view(&dedup), expected));
    assert_true(view_eq(key_view(&kept), expected));
    assert_true(view_eq(key_view(&name),
                        VIEW_LIT("\0\0\0\0\0\0\0\0i\1\2\3\4\21\22\23\24\25\26\27\30\41\42\43\44\45\46\47\50")));
    struct key due = key_sched_retry(1, 0, 0, 0), count = key_sched_count(0x01020304), low = key_sched_low();
    uint32_t topic;
    assert_true(view_cmp(key_view(&name), key_view(&due)) < 0);
    assert_true(view_eq(key_view(&count), VIEW_LIT("\0\0\0\0\0\0\0\0c\1\2\3\4")));
    assert_true(view_eq(key_view(&low), VIEW_LIT("\0\0\0\0\0\0\0\0l")));
    assert_true(key_read_sched_count(key_view(&count), &topic));
    assert_int_equal(topic, 0x01020304);
    assert_false(key_read_sched_count(key_view(&low), &topic));
    assert_false(key_read_sched_count(key_view(&name), &topic));
    struct key generation = key_dedup_generation();
    assert_true(view_eq(key_view(&generation), VIEW_LIT("m")));
}

static void assert_begins(struct key prefix, struct key k, bool begins)
{
    assert_int_equal(key_has_prefix(key_view(&k), &prefix), begins);
    struct key end = key_after(&prefix);
    bool inside =
        view_cmp(key_view(&prefix), key_view(&k)) <= 0 && view_cmp(key_view(&k), key_view(&end)) < 0;
    assert_int_equal(inside, begins);
}

/* From a prefix to key_after of it lie exactly the keys that begin with it. */
static void a_prefix_covers_its_keys_and_no_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers32); i++) {
        uint32_t n = numbers32[i];
        for (size_t k = 0; k < ARRAY_LEN(numbers32); k++) {
            uint32_t m = numbers32[k];
            struct id128 id = {.lo = m, .hi = UINT64_MAX}, other = {.lo = n, .hi = UINT64_MAX};
            assert_begins(key_log_prefix(n), key_log(m, 0), n == m);
            assert_begins(key_log_prefix(n), key_log(m, UINT64_MAX), n == m);
            assert_begins(key_cursor_prefix(n), key_cursor(m, UINT32_MAX), n == m);
            assert_begins(key_claim_prefix(n), key_claim(m, UINT32_MAX), n == m);
            assert_begins(key_member_prefix(n), key_member(m, id, UINT32_MAX), n == m);
            assert_begins(key_done_prefix(n), key_done(m, UINT32_MAX, UINT64_MAX), n == m);
            assert_begins(key_done_prefix_of(7, n), key_done(7, m, UINT64_MAX), n == m);
            assert_begins(key_group_prefix(n), key_held(m, UINT32_MAX, UINT64_MAX), n == m);
            assert_begins(key_group_prefix(n), key_dedup(m, id), n == m);
            assert_begins(key_group_prefix(n), key_state(m, id), n == m);
            assert_begins(key_sched_name_prefix(n), key_sched_name(m, id), n == m);
            assert_begins(key_group_prefix(n), key_list(m, UINT64_MAX, UINT32_MAX), n == m);
            assert_begins(key_list_header_prefix(n), key_list_header(m, UINT64_MAX), n == m);
            assert_begins(key_list_header_prefix(n), key_away(m, UINT64_MAX), false);
            assert_begins(key_away_prefix(n), key_away(m, UINT64_MAX), n == m);
            assert_begins(key_list_headers(), key_list_header(m, 0), true);
            assert_begins(key_list_headers(), key_away(m, UINT64_MAX), false);
            assert_begins(key_lane_prefix(id), key_lane(other, UINT32_MAX), n == m);
        }
        assert_begins(key_meta_prefix('t'), key_topic(n), true);
        assert_begins(key_meta_prefix('t'), key_group(n), false);
        assert_begins(key_meta_prefix('p'), key_partition_row(n), true);
    }
    assert_begins(key_done_prefix(5), key_cursor(5, 1), false);
}

static void the_bytes_of_keys_are_these_for_ever(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } expected[] = {
        {"t\1\2\3\4", 5},
        {"g\1\2\3\4", 5},
        {"p\1\2\3\4", 5},
        {"c\1\2\3\4", 5},
        {"\1\2\3\4\21\22\23\24\25\26\27\30", 12},
        {"c\1\2\3\4\5\6\7\10", 9},
        {"o\1\2\3\4\5\6\7\10", 9},
        {"m\1\2\3\4\21\22\23\24\25\26\27\30\41\42\43\44\45\46\47\50\5\6\7\10", 25},
        {"d\1\2\3\4\5\6\7\10\21\22\23\24\25\26\27\30", 17},
        {"\1\2\3\4\21\22\23\24\25\26\27\30", 12},
        {"\1\2\3\4\21\22\23\24\25\26\27\30\5\6\7\10", 16},
        {"\1\2\3\4\5\6\7\10\21\22\23\24\25\26\27\30", 16},
        {"\21\22\23\24\25\26\27\30r\1\2\3\4\5\6\7\10\41\42\43\44\45\46\47\50", 25},
        {"d\21\22\23\24\25\26\27\30\1\2\3\4\41\42\43\44\45\46\47\50\0\0\0\0\5\6\7\10", 29},
        {"k\1\2\3\4\21\22\23\24\25\26\27\30", 13},
        {"s\21\22\23\24\25\26\27\30\41\42\43\44\45\46\47\50", 17},
        {"l\21\22\23\24\25\26\27\30\41\42\43\44\45\46\47\50\1\2\3\4", 21},
        {"r\1\2\3\4", 5},
        {"h\1\2\3\4\5\6\7\10\21\22\23\24\25\26\27\30", 17},
        {"l\1\2\3\4\5\6\7\10", 9},
        {"\377\377\377\377\1\2\3\4\21\22\23\24\25\26\27\30", 16},
        {"\377\377\377\376\1\2\3\4\21\22\23\24\25\26\27\30", 16},
        {"a\21\22\23\24\25\26\27\30\1\2\3\4\5\6\7\10\41\42\43\44\45\46\47\50", 25},
    };
    struct parts p = {0x01020304, 0x05060708, UINT64_C(0x1112131415161718), UINT64_C(0x2122232425262728)};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct key k = shapes[i].make(p);
        if (k.size != expected[i].size || memcmp(k.bytes, expected[i].bytes, k.size) != 0)
            fail_msg("%s", shapes[i].name);
    }
    struct key v = key_meta_format(), e = key_meta_epoch(), n = key_meta_next();
    assert_true(view_eq(key_view(&v), VIEW_LIT("v")));
    assert_true(view_eq(key_view(&e), VIEW_LIT("e")));
    assert_true(view_eq(key_view(&n), VIEW_LIT("n")));
}

static void every_family_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (enum store_family a = 0; a < FAM_COUNT; a++) {
        assert_non_null(store_family_name(a));
        for (enum store_family b = 0; b < a; b++)
            assert_string_not_equal(store_family_name(a), store_family_name(b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_sorts_by_its_numbers),
        cmocka_unit_test(every_key_gives_its_numbers_back),
        cmocka_unit_test(a_key_of_another_size_is_not_taken_apart),
        cmocka_unit_test(a_key_with_another_tag_is_not_taken_apart),
        cmocka_unit_test(the_kind_of_a_scheduled_key_is_told_before_it_is_taken_apart),
        cmocka_unit_test(ids_of_messages_names_and_state_are_keys_of_their_owner),
        cmocka_unit_test(a_prefix_covers_its_keys_and_no_others),
        cmocka_unit_test(the_bytes_of_keys_are_these_for_ever),
        cmocka_unit_test(every_family_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
