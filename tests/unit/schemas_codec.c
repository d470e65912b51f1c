#include "unit.h"

#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas_messages.h"

enum { ARENA_LIMIT = 64 << 20, RANDOM_ROUNDS = 400, PAD = 16 };

/* A message, the memory of its samples, and its bytes in a room of exactly `cap` that begins `shift` bytes after a 16-aligned
 * address. What lies around the room must stay as it was. */
struct trip {
    const struct kind *kind;
    union message message;
    struct see see;
    struct arena samples, decoded;
    uint8_t *memory;
    struct codec_space space;
};

static void trip_begin(struct trip *t, const struct kind *k, enum see_mode mode, uint64_t seed)
{
    *t = (struct trip){.kind = k};
    arena_init(&t->samples, ARENA_LIMIT);
    arena_init(&t->decoded, ARENA_LIMIT);
    t->see = (struct see){.mode = mode, .arena = &t->samples};
    rng_seed(&t->see.rng, seed);
    message_fill(k, &t->message, &t->see);
}

static int trip_encode(struct trip *t, size_t cap, size_t shift)
{
    mem_free(t->memory);
    t->memory = mem_alloc(PAD + shift + cap + PAD);
    memset(t->memory, 0xa5, PAD + shift + cap + PAD);
    t->space = (struct codec_space){.data = t->memory + PAD + shift, .cap = cap};
    int rc = message_encode(t->kind, &t->message, &t->space);
    for (size_t i = 0; i < PAD; i++) {
        assert_int_equal(t->memory[shift + i], 0xa5);
        assert_int_equal(t->space.data[cap + i], 0xa5);
    }
    return rc;
}

static struct view trip_bytes(const struct trip *t)
{
    return view_of(t->space.data + t->space.at, t->space.size);
}

static void trip_end(struct trip *t)
{
    arena_free(&t->samples);
    arena_free(&t->decoded);
    mem_free(t->memory);
    buf_free(&t->see.out);
}

/* Decodes the bytes and compares what comes out with what went in. */
static void trip_check(struct trip *t)
{
    struct err e = {0};
    union message back;
    int rc = message_decode(t->kind, trip_bytes(t), &back, &t->decoded, &e);
    if (rc != E_OK)
        fail_msg("%s: %s", t->kind->name, e.text);
    struct see other = {0};
    message_write(t->kind, &t->message, &t->see);
    message_write(t->kind, &back, &other);
    if (!view_eq(buf_view(&t->see.out), buf_view(&other.out)))
        fail_msg("%s went in:\n%s\ncame out:\n%s", t->kind->name, buf_str(&t->see.out), buf_str(&other.out));
    buf_free(&other.out);
}

static void every_field_of_every_message_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        struct trip t;
        trip_begin(&t, &kinds[i], SEE_FULL, 0);
        assert_int_equal(trip_encode(&t, message_bound(t.kind, &t.message), 0), E_OK);
        trip_check(&t);
        trip_end(&t);
    }
}

static void absent_and_empty_come_back_as_they_were(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        for (uint64_t seed = 0; seed < RANDOM_ROUNDS; seed++) {
            struct trip t;
            trip_begin(&t, &kinds[i], SEE_RANDOM, seed);
            assert_int_equal(trip_encode(&t, message_bound(t.kind, &t.message), 0), E_OK);
            trip_check(&t);
            trip_end(&t);
        }
    }
}

static void the_bound_suffices_at_any_address(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        for (uint64_t seed = 0; seed < RANDOM_ROUNDS; seed++) {
            struct trip t;
            trip_begin(&t, &kinds[i], SEE_RANDOM, seed);
            assert_int_equal(trip_encode(&t, message_bound(t.kind, &t.message), seed % 16), E_OK);
            trip_end(&t);
        }
    }
}

/* Rows with fields set or not in thousands of ways: hardly any two share a layout, and padding is at its worst. */
static void the_bound_suffices_for_many_tables_no_two_alike(void **state)
{
    (void)state;
    enum { ROWS = 5000 };
    struct wire_lag *rows = mem_array(ROWS, sizeof *rows);
    struct rng rng;
    rng_seed(&rng, 1);
    for (int i = 0; i < ROWS; i++) {
        uint64_t mask = rng_next(&rng);
        rows[i] = (struct wire_lag){
            .topic = mask & 1 ? view_of("topic", 1 + i % 5) : view_of(NULL, 0),
            .group_id = mask >> 1 & 1,
            .lag_messages = mask >> 2 & 1,
            .lag_bytes = mask >> 3 & 1,
            .in_flight = mask >> 4 & 1,
            .delayed = mask >> 5 & 1,
            .parked = mask >> 6 & 1,
            .oldest_age_ms = mask >> 7 & 1,
            .ack_rate_milli = mask >> 8 & 1,
            .drain_eta_ms = mask >> 9 & 1,
            .scale_value = mask >> 10 & 1,
            .status = mask >> 11 & 1,
            .mode = mask >> 12 & 1,
        };
    }
    for (uint32_t n = 1; n <= ROWS; n *= 3) {
        struct wire_reply back, r = {.body = BODY_LAG, .lag = {.rows = rows, .rows_n = n}};
        struct codec_space s = {.cap = codec_reply_bound(&r)};
        struct arena a;
        s.data = mem_alloc(s.cap);
        arena_init(&a, ARENA_LIMIT);
        assert_int_equal(codec_reply_encode(&r, &s), E_OK);
        assert_int_equal(codec_reply_decode(view_of(s.data + s.at, s.size), &back, &a, NULL), E_OK);
        assert_int_equal(back.lag.rows_n, n);
        arena_free(&a);
        mem_free(s.data);
    }
    mem_free(rows);
}

static void less_room_than_the_bound_is_refused_and_left_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        struct trip t;
        trip_begin(&t, &kinds[i], SEE_FULL, 0);
        size_t bound = message_bound(t.kind, &t.message);
        for (size_t cap = 0; cap < bound; cap += 1 + bound / 40) {
            assert_int_equal(trip_encode(&t, cap, 0), E_TOO_LARGE);
            for (size_t at = 0; at < cap; at++)
                assert_int_equal(t.space.data[at], 0xa5);
        }
        trip_end(&t);
    }
}

static void a_message_begins_and_ends_at_a_multiple_of_16(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        for (size_t shift = 0; shift < 16; shift++) {
            struct trip t;
            trip_begin(&t, &kinds[i], SEE_RANDOM, shift);
            size_t cap = message_bound(t.kind, &t.message);
            assert_int_equal(trip_encode(&t, cap, shift), E_OK);
            struct view bytes = trip_bytes(&t);
            assert_int_equal((uintptr_t)bytes.data % 16, 0);
            assert_int_equal(bytes.size % 16, 0);
            assert_true(t.space.at + t.space.size <= cap && cap - t.space.at - t.space.size < 16);
            trip_end(&t);
        }
    }
}

static void assert_16_aligned(struct view v)
{
    if (v.size != 0)
        assert_int_equal((uintptr_t)v.data % 16, 0);
}

static void batches_inside_a_message_are_16_aligned(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        for (uint64_t seed = 0; seed < RANDOM_ROUNDS; seed++) {
            struct trip t;
            union message m;
            trip_begin(&t, &kinds[i], SEE_RANDOM, seed);
            assert_int_equal(trip_encode(&t, message_bound(t.kind, &t.message), 0), E_OK);
            assert_int_equal(message_decode(t.kind, trip_bytes(&t), &m, &t.decoded, NULL), E_OK);
            if (strcmp(t.kind->name, "request-produce") == 0)
                assert_16_aligned(m.request.produce.batch);
            for (uint32_t p = 0; strcmp(t.kind->name, "reply-fetch") == 0 && p < m.reply.fetch.parts_n; p++)
                assert_16_aligned(m.reply.fetch.parts[p].data);
            for (uint32_t d = 0;
                 strcmp(t.kind->name, "reply-receive") == 0 && d < m.reply.receive.deliveries_n; d++)
                assert_16_aligned(m.reply.receive.deliveries[d].data);
            trip_end(&t);
        }
    }
}

static void the_same_message_gives_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        struct trip a, b;
        trip_begin(&a, &kinds[i], SEE_RANDOM, i);
        trip_begin(&b, &kinds[i], SEE_RANDOM, i);
        size_t bound = message_bound(a.kind, &a.message);
        assert_int_equal(trip_encode(&a, bound, 0), E_OK);
        assert_int_equal(trip_encode(&b, bound + 100, 5), E_OK);
        assert_true(view_eq(trip_bytes(&a), trip_bytes(&b)));
        trip_end(&a);
        trip_end(&b);
    }
}

static void a_produce_whose_batch_lies_elsewhere_has_the_bytes_of_a_whole_one(void **state)
{
    (void)state;
    for (size_t size = 16; size < 100000; size = size * 3 / 16 * 16 + 16) {
        uint8_t *batch = mem_zalloc(size);
        for (size_t i = 0; i < size; i++)
            batch[i] = (uint8_t)(i * 7 + i / 256);
        struct wire_request r = {.session = {3, 4}, .verb = VERB_PRODUCE, .lane = 5, .seq = 6, .replies_seen = 2,
                                 .produce = {.partition = 5, .count = 9, .batch_hash = 77, .batch = view_of(batch, size),
                                             .cron = size % 32 ? VIEW_LIT("0 4 * * *") : view_of(NULL, 0),
                                             .name = size % 48 ? VIEW_LIT("nightly") : view_of(NULL, 0)}};
        size_t cap = codec_request_bound(&r), head_cap = codec_produce_head_bound(&r);
        struct codec_space whole = {.data = mem_alloc(cap), .cap = cap};
        struct codec_space head = {.data = mem_alloc(head_cap), .cap = head_cap};
        assert_true(head_cap < 1024);
        assert_int_equal(codec_request_encode(&r, &whole), E_OK);
        assert_int_equal(codec_produce_head(&r, &head), E_OK);
        assert_int_equal(head.size + size, whole.size);
        assert_memory_equal(head.data + head.at, whole.data + whole.at, head.size);
        assert_memory_equal(batch, whole.data + whole.at + head.size, size);
        mem_free(whole.data);
        mem_free(head.data);
        mem_free(batch);
    }
}

/* The bound may be generous, but a reply is allocated by it. */
static void the_bound_of_a_fetch_is_within_a_kilobyte(void **state)
{
    (void)state;
    uint8_t *data = mem_zalloc(1 << 20);
    struct wire_fetch_part part = {.partition = 1, .data = view_of(data, 1 << 20)};
    struct wire_reply r = {.body = BODY_FETCH, .fetch = {&part, 1}};
    assert_true(codec_reply_bound(&r) < (1 << 20) + 1024);
    mem_free(data);
}

/* ---- limits */

static int request_trip(const struct wire_request *r, struct wire_request *out, struct arena *a,
                        struct err *e)
{
    size_t cap = codec_request_bound(r);
    struct codec_space s = {.data = mem_alloc(cap), .cap = cap};
    int rc = codec_request_encode(r, &s);
    assert_int_equal(rc, E_OK);
    rc = codec_request_decode(view_of(s.data + s.at, s.size), out, a, e);
    mem_free(s.data);
    return rc;
}

static void more_entries_than_a_limit_are_refused_by_name_and_before_memory_is_taken(void **state)
{
    (void)state;
    static struct wire_settle_item items[WIRE_ITEMS_MAX + 1];
    static struct wire_unit units[WIRE_UNITS_MAX + 1];
    static struct wire_note notes[UINT16_MAX + 1];
    static uint32_t groups[WIRE_ITEMS_MAX + 1];
    static struct wire_fetch_from from[WIRE_ITEMS_MAX + 1];
    const struct {
        struct wire_request request;
        const char *said;
    } refused[] = {
        {{.verb = VERB_SETTLE, .settle = {.singles = items, .singles_n = ARRAY_LEN(items)}},
         "request: singles: 65537 entries, the limit is 65536"},
        {{.verb = VERB_SETTLE, .settle = {.units = units, .units_n = ARRAY_LEN(units)}},
         "request: units: 4097 entries, the limit is 4096"},
        {{.verb = VERB_SETTLE, .settle = {.notes = notes, .notes_n = ARRAY_LEN(notes)}},
         "request: notes: 65536 entries, the limit is 65535"},
        {{.verb = VERB_RECEIVE, .receive = {.groups = groups, .groups_n = ARRAY_LEN(groups)}},
         "request: groups: 65537 entries, the limit is 65536"},
        {{.verb = VERB_FETCH, .fetch = {.from = from, .from_n = ARRAY_LEN(from)}},
         "request: from: 65537 entries, the limit is 65536"},
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct arena a;
        struct err e = {0};
        struct wire_request out;
        arena_init(&a, ARENA_LIMIT);
        assert_int_equal(request_trip(&refused[i].request, &out, &a, &e), E_BAD_FRAME);
        assert_string_equal(e.text, refused[i].said);
        assert_int_equal(a.used, 0);
    }
}

static void as_many_entries_as_the_limits_are_taken(void **state)
{
    (void)state;
    static struct wire_settle_item items[WIRE_ITEMS_MAX];
    static struct wire_unit units[WIRE_UNITS_MAX];
    static struct wire_note notes[UINT16_MAX];
    items[7].note = UINT16_MAX;
    struct wire_request r = {.verb = VERB_SETTLE,
                             .settle = {.singles = items,
                                        .singles_n = WIRE_ITEMS_MAX,
                                        .units = units,
                                        .units_n = WIRE_UNITS_MAX,
                                        .notes = notes,
                                        .notes_n = UINT16_MAX}};
    struct arena a;
    struct err e = {0};
    struct wire_request out;
    arena_init(&a, ARENA_LIMIT);
    assert_int_equal(request_trip(&r, &out, &a, &e), E_OK);
    assert_int_equal(out.settle.units_n, WIRE_UNITS_MAX);
    arena_free(&a);
}

static void an_arena_that_is_too_small_answers_too_large(void **state)
{
    (void)state;
    static struct wire_unit units[100];
    struct wire_request out,
        r = {.verb = VERB_SETTLE, .settle = {.units = units, .units_n = ARRAY_LEN(units)}};
    struct err e = {0};
    struct arena a;
    arena_init(&a, 1000);
    assert_int_equal(request_trip(&r, &out, &a, &e), E_TOO_LARGE);
    assert_has(e.text, "units");
    assert_has(e.text, "1000 bytes");
    arena_free(&a);
}

static void a_settle_of_singles_a_receive_and_a_produce_take_no_memory(void **state)
{
    (void)state;
    struct wire_settle_item items[3] = {{.token = 1}, {.token = 2}, {.token = 3}};
    uint32_t groups[2] = {4, 5};
    const struct wire_request requests[] = {
        {.verb = VERB_SETTLE, .settle = {.singles = items, .singles_n = 3}},
        {.verb = VERB_RECEIVE, .receive = {.groups = groups, .groups_n = 2}},
        {.verb = VERB_PRODUCE, .produce = {.batch = VIEW_LIT("a batch")}},
    };
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct arena a;
        struct wire_request out;
        arena_init(&a, ARENA_LIMIT);
        assert_int_equal(request_trip(&requests[i], &out, &a, NULL), E_OK);
        assert_int_equal(a.used, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_every_message_comes_back),
        cmocka_unit_test(absent_and_empty_come_back_as_they_were),
        cmocka_unit_test(the_bound_suffices_at_any_address),
        cmocka_unit_test(the_bound_suffices_for_many_tables_no_two_alike),
        cmocka_unit_test(less_room_than_the_bound_is_refused_and_left_alone),
        cmocka_unit_test(a_message_begins_and_ends_at_a_multiple_of_16),
        cmocka_unit_test(batches_inside_a_message_are_16_aligned),
        cmocka_unit_test(the_same_message_gives_the_same_bytes),
        cmocka_unit_test(a_produce_whose_batch_lies_elsewhere_has_the_bytes_of_a_whole_one),
        cmocka_unit_test(the_bound_of_a_fetch_is_within_a_kilobyte),
        cmocka_unit_test(more_entries_than_a_limit_are_refused_by_name_and_before_memory_is_taken),
        cmocka_unit_test(as_many_entries_as_the_limits_are_taken),
        cmocka_unit_test(an_arena_that_is_too_small_answers_too_large),
        cmocka_unit_test(a_settle_of_singles_a_receive_and_a_produce_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
