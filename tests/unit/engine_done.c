/* Floor and done chunks: what a group is through with, and what of it is on disk. */
#include "engine_kit.h"

enum { CHUNK = DONE_CHUNK_OFFSETS };

static void set_range(struct done *d, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        assert_true(done_set(d, i));
}

static void the_floor_follows_what_is_done_without_a_hole(void **state)
{
    (void)state;
    struct done d = {0};
    set_range(&d, 1, 10);
    assert_int_equal(d.floor, 0);
    assert_int_equal(d.count, 9);
    assert_true(done_set(&d, 0));
    assert_int_equal(d.floor, 10);
    assert_int_equal(d.count, 0);
    done_free(&d);
}

static void what_is_done_is_done_once(void **state)
{
    (void)state;
    struct done d = {0};
    assert_true(done_set(&d, 5));
    assert_false(done_set(&d, 5));
    assert_true(done_set(&d, 0));
    assert_false(done_set(&d, 0));
    assert_true(done_has(&d, 0));
    assert_true(done_has(&d, 5));
    assert_false(done_has(&d, 1));
    assert_false(done_has(&d, UINT64_MAX));
    done_free(&d);
}

static void the_floor_goes_over_many_chunks_at_once(void **state)
{
    (void)state;
    struct done d = {0};
    set_range(&d, 1, 3 * CHUNK + 7);
    assert_int_equal(d.floor, 0);
    done_set(&d, 0);
    assert_int_equal(d.floor, 3 * CHUNK + 7);
    assert_int_equal(d.count, 0);
    assert_true(done_has(&d, CHUNK));
    assert_false(done_has(&d, 3 * CHUNK + 7));
    done_free(&d);
}

static void a_floor_raised_into_the_middle_of_a_chunk_keeps_what_is_done_above_it(void **state)
{
    (void)state;
    struct done d = {0};
    done_set(&d, 3);
    done_set(&d, 100);
    done_set(&d, CHUNK + 1);
    done_raise(&d, 50);
    assert_int_equal(d.floor, 50);
    assert_int_equal(d.count, 2);
    assert_true(done_has(&d, 49));
    assert_false(done_has(&d, 50));
    assert_true(done_has(&d, 100));
    done_raise(&d, 100); /* 100 is done: the floor goes over it */
    assert_int_equal(d.floor, 101);
    done_raise(&d, CHUNK + 1);
    assert_int_equal(d.floor, CHUNK + 2);
    assert_int_equal(d.count, 0);
    done_raise(&d, 10); /* never back */
    assert_int_equal(d.floor, CHUNK + 2);
    done_free(&d);
}

static void far_apart_is_fine(void **state)
{
    (void)state;
    struct done d = {0};
    done_raise(&d, UINT64_C(1) << 40);
    done_set(&d, (UINT64_C(1) << 40) + 10 * CHUNK);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.floor, UINT64_C(1) << 40);
    done_set(&d, UINT64_C(1) << 40);
    assert_int_equal(d.floor, (UINT64_C(1) << 40) + 1);
    done_free(&d);
}

static void a_chunk_loaded_below_a_floor_in_its_middle_counts_only_what_is_above(void **state)
{
    (void)state;
    struct done d = {0};
    uint8_t bits[DONE_CHUNK_BYTES] = {0};
    bits[0] = 0xff;      /* 0..7, all below the floor */
    bits[100 / 8] = 0x10; /* 100 */
    done_raise(&d, 60);
    done_load(&d, 0, bits);
    assert_int_equal(d.floor, 60);
    assert_int_equal(d.count, 1);
    assert_true(done_has(&d, 59));
    assert_true(done_has(&d, 100));
    for (uint64_t i = 60; i < 100; i++)
        done_set(&d, i);
    assert_int_equal(d.floor, 101);
    assert_int_equal(d.count, 0);
    done_free(&d);
}

static void a_chunk_that_lies_below_the_floor_is_not_loaded(void **state)
{
    (void)state;
    struct done d = {0};
    uint8_t bits[DONE_CHUNK_BYTES];
    memset(bits, 0xff, sizeof bits);
    done_raise(&d, 2 * CHUNK + 5);
    done_load(&d, 0, bits);
    assert_int_equal(d.floor, 2 * CHUNK + 5);
    assert_int_equal(d.count, 0);
    done_load(&d, 2, bits); /* full: the floor goes over it */
    assert_int_equal(d.floor, 3 * CHUNK);
    assert_int_equal(d.count, 0);
    done_free(&d);
}

/* ---------------------------------------------------------------- rows */

static struct group_part *part_of_group(struct kit *k, uint32_t group)
{
    return ((struct group *)map_get(&k->engine->groups, group))->parts[0];
}

static bool is_chunk(struct view key)
{
    uint32_t group, partition;
    uint64_t chunk;
    return key_read_done(key, &group, &partition, &chunk);
}

/* The same offsets done in some order, with a restart after each step: what is known before and behind it is the same. */
static void a_restart_knows_every_offset_that_was_done(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce_many(k, p, "-", 3 * CHUNK);
    k->watch = false;
    struct rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 12; round++) {
        kit_begin(k);
        struct group_part *part = part_of_group(k, g);
        part->cursor = part->scanned = 3 * CHUNK;
        for (int i = 0; i < 1500; i++)
            done_set(&part->done, rng_below(&r, round < 6 ? 2 * CHUNK : 3 * CHUNK));
        if (round % 3 == 2)
            for (uint64_t i = part->done.floor, until = i + 900; i < until && i < 3 * CHUNK; i++)
                done_set(&part->done, i);
        mark_dirty(&k->engine->dirty_parts, &part->dirty);
        engine_turn_end(k->engine);
        struct err e = {0};
        assert_int_equal(store_write(k->store, &engine_effects(k->engine)->puts, &e), E_OK);
        engine_effects_clear(k->engine);
        struct engine *other;
        assert_int_equal(engine_open(&other, k->store, &k->limits, k->now, 1, &e), E_OK);
        const struct done *before = &part->done, *behind = &((struct group *)map_get(&other->groups, g))->parts[0]->done;
        assert_int_equal(before->floor, behind->floor);
        assert_int_equal(before->count, behind->count);
        for (uint64_t i = 0; i < 3 * CHUNK; i++)
            assert_int_equal(done_has(before, i), done_has(behind, i));
        engine_close(other);
    }
    kit_free(k);
}

static void a_chunk_whose_offsets_fell_below_the_floor_leaves_no_row(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "- - - - -");
    kit_receive(k, A, g, 5);
    kit_ack(k, A, g, "1 3");
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 1);
    kit_ack(k, A, g, "0");
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 1); /* 3 is still above the floor */
    kit_ack(k, A, g, "2");
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 0);
    assert_string_equal(kit_where(k, "t", "g"), "floor 4 leased 1");
    kit_ack(k, A, g, "4");
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 0);
    kit_free(k);
}

static void a_chunk_that_the_floor_has_passed_leaves_no_row(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce_many(k, p, "-", CHUNK + 10);
    struct group_part *part = part_of_group(k, g);
    kit_begin(k);
    part->cursor = part->scanned = CHUNK;
    mark_dirty(&k->engine->dirty_parts, &part->dirty);
    set_range(&part->done, 1, CHUNK);
    engine_turn_end(k->engine);
    struct err e = {0};
    assert_int_equal(store_write(k->store, &engine_effects(k->engine)->puts, &e), E_OK);
    engine_effects_clear(k->engine);
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 1);
    kit_begin(k);
    mark_dirty(&k->engine->dirty_parts, &part->dirty);
    done_set(&part->done, 0);
    kit_end(k);
    assert_string_equal(kit_where(k, "t", "g"), "floor 4096 unscanned 10");
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 0);
    kit_free(k);
}

static void a_full_chunk_costs_no_memory_and_goes_with_the_floor(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce_many(k, p, "-", 2 * CHUNK + 10);
    kit_begin(k);
    struct group_part *part = part_of_group(k, g);
    part->cursor = part->scanned = 2 * CHUNK + 10;
    set_range(&part->done, CHUNK, 2 * CHUNK);
    engine_turn_end(k->engine); /* not marked: the kit's own sums do not hold here */
    engine_effects_clear(k->engine);
    kit_begin(k);
    mark_dirty(&k->engine->dirty_parts, &part->dirty);
    for (uint64_t i = 0; i < CHUNK; i++)
        done_set(&part->done, i);
    set_range(&part->done, 2 * CHUNK, 2 * CHUNK + 10);
    kit_end(k);
    assert_string_equal(kit_where(k, "t", "g"), "floor 8202");
    assert_int_equal(part->done.count, 0);
    assert_int_equal(kit_rows(k, FAM_GROUPS, is_chunk), 0);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_floor_follows_what_is_done_without_a_hole),
        cmocka_unit_test(what_is_done_is_done_once),
        cmocka_unit_test(the_floor_goes_over_many_chunks_at_once),
        cmocka_unit_test(a_floor_raised_into_the_middle_of_a_chunk_keeps_what_is_done_above_it),
        cmocka_unit_test(far_apart_is_fine),
        cmocka_unit_test(a_chunk_loaded_below_a_floor_in_its_middle_counts_only_what_is_above),
        cmocka_unit_test(a_chunk_that_lies_below_the_floor_is_not_loaded),
        cmocka_unit_test(a_restart_knows_every_offset_that_was_done),
        cmocka_unit_test(a_chunk_whose_offsets_fell_below_the_floor_leaves_no_row),
        cmocka_unit_test(a_chunk_that_the_floor_has_passed_leaves_no_row),
        cmocka_unit_test(a_full_chunk_costs_no_memory_and_goes_with_the_floor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
