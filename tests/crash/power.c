/*
 * Power cuts at every kind of instant, without pulling a plug. One run of a real broker is recorded: every write, sync and name
 * (script.h, tape.h). Then the disk is laid out as a cut could have left it, here, there, and there again (disk.h), and each of these
 * states is opened and held against what had been acknowledged by then (reopen.h).
 *
 *   SLUICE_POWER_STATES     how many (2000)
 *   SLUICE_POWER_CREATIONS  of those in the middle of the creation, how many behind each of its writes (2)
 *   SLUICE_POWER_STATE      only this one, whose directory stays
 * and those of recording.h.
 */
#include <inttypes.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/rng.h"
#include "crash.h"
#include "disk.h"
#include "recording.h"

enum { STATES = 2000, CREATIONS = 2, LYING_STATES = 40, TOLD_MAX = 10 };

static struct recording *recording;

/* ---------------------------------------------------------------- states */

/* What a cut does to what is not synced. */
static const struct { enum disk_names names; enum disk_bytes bytes; const char *text; } ways[] = {
    {NAMES_NONE, BYTES_NONE, "nothing kept"},
    {NAMES_ALL, BYTES_NONE, "names kept, bytes lost"},
    {NAMES_ALL, BYTES_FIRST, "names kept, bytes torn"},
    {NAMES_FIRST, BYTES_FIRST, "names up to a point, bytes torn"},
    {NAMES_FIRST, BYTES_FILES, "names up to a point, some files"},
    {NAMES_ALL, BYTES_FILES, "names kept, some files"},
    {NAMES_NONE, BYTES_ALL, "names lost, bytes kept"},
    {NAMES_ALL, BYTES_ALL, "all kept"},
    {NAMES_ALL, BYTES_SECTORS, "names kept, some sectors"},
};

/* The n-th of so many: spread evenly over the run, and half of them next to a sync or a change of names. */
static struct disk_cut cut_of(const struct disk *d, uint64_t n, uint64_t states)
{
    struct rng rng;
    uint64_t ops = disk_ops(d), at = n * ops / states;
    size_t way = n % ARRAY_LEN(ways);
    rng_seed(&rng, recording->seed ^ (n * UINT64_C(0x9e3779b97f4a7c15)));
    at += rng_below(&rng, ops / states + 1);
    if (n / ARRAY_LEN(ways) % 2 == 0) {
        while (at < ops && !disk_turns_at(d, at))
            at++;
        at += rng_below(&rng, 2); /* just before, or just after */
    }
    return (struct disk_cut){.at = at < ops ? at : ops, .names = ways[way].names, .bytes = ways[way].bytes, .seed = rng_next(&rng)};
}

struct found { uint64_t states, lost; };

static void look_at(const struct disk *d, const struct disk_cut *cut, const char *name, bool tell, struct found *f)
{
    char dir[64], why[512];
    const struct reopen_promise promise = {.asked_before = cut->at, .acked_by = cut->at};
    recording_make_dir(dir);
    disk_lay_out(d, cut, dir);
    f->states++;
    if (!recording_try(&recording->ledger, dir, promise, why, sizeof why) && ++f->lost <= TOLD_MAX && tell)
        print_error("state %s, cut at %" PRIu64 " of %" PRIu64 ": %s\n", name, cut->at, disk_ops(d), why);
    if (getenv("SLUICE_POWER_STATE") != NULL)
        print_message("%s\n", dir);
    else
        remove_tree(dir);
}

static void in_every_state_that_a_power_cut_can_leave_what_was_acknowledged_is_so(void **state)
{
    (void)state;
    uint64_t states = crash_number("SLUICE_POWER_STATES", STATES), only = crash_number("SLUICE_POWER_STATE", UINT64_MAX);
    struct disk *d = disk_read(&recording->tape);
    struct found f = {0};
    uint64_t began = clock_mono_ms();
    for (uint64_t n = only != UINT64_MAX ? only : 0; n < states && n <= only; n++) {
        char name[80];
        struct disk_cut cut = cut_of(d, n, states);
        snprintf(name, sizeof name, "%" PRIu64 " (%s)", n, ways[n % ARRAY_LEN(ways)].text);
        look_at(d, &cut, name, true, &f);
    }
    print_message("power cut: %" PRIu64 " states, %" PRIu64 " lost\n%" PRIu64 " ms\n", f.states, f.lost, clock_mono_ms() - began);
    disk_free(d);
    assert_int_equal(f.lost, 0);
}

/* Few of the states above are of it, and half of a manifest is found in few of those. */
static void a_creation_that_is_cut_behind_any_write_ends_in_a_store(void **state)
{
    (void)state;
    uint64_t rounds = crash_number("SLUICE_POWER_CREATIONS", CREATIONS), began = clock_mono_ms();
    struct disk *d = disk_read(&recording->tape);
    struct found f = {0};
    uint64_t made = disk_first(d, TAPE_REMOVE, "data/creating");
    assert_true(made != UINT64_MAX);
    for (uint64_t at = 1; at <= made; at++) {
        if (disk_turns_at(d, at - 1))
            continue;
        for (uint64_t n = 0; n < rounds; n++) {
            struct disk_cut cut = {.at = at, .names = NAMES_ALL, .bytes = BYTES_SECTORS, .seed = recording->seed ^ (n << 32 | at)};
            look_at(d, &cut, "of a creation", true, &f);
        }
    }
    print_message("power cut: %" PRIu64 " states of a creation, %" PRIu64 " lost\n%" PRIu64 " ms\n", f.states, f.lost, clock_mono_ms() - began);
    disk_free(d);
    assert_in_range(f.states, rounds, UINT64_MAX);
    assert_int_equal(f.lost, 0);
}

/* Else the tests above show nothing. */
static void a_disk_that_breaks_its_promise_is_noticed(void **state)
{
    (void)state;
    struct disk *d = disk_read(&recording->tape);
    for (int names = 0; names < 2; names++) {
        struct found f = {0};
        for (uint64_t n = 0; n < LYING_STATES; n++) {
            struct disk_cut cut = cut_of(d, n, LYING_STATES);
            cut.lying_names = names == 1;
            cut.lying_files = names == 0;
            look_at(d, &cut, "", false, &f);
        }
        print_message("without syncs of %s: %" PRIu64 " states, %" PRIu64 " lost\n", names ? "directories" : "files", f.states, f.lost);
        assert_true(f.lost > 0);
    }
    disk_free(d);
}

static int begin(void **state)
{
    (void)state;
    recording = recording_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    recording_end(recording);
    return 0;
}

int main(int argc, char **args)
{
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_every_state_that_a_power_cut_can_leave_what_was_acknowledged_is_so),
                                       cmocka_unit_test(a_creation_that_is_cut_behind_any_write_ends_in_a_store),
                                       cmocka_unit_test(a_disk_that_breaks_its_promise_is_noticed)};
    return cmocka_run_group_tests(tests, begin, end);
}
