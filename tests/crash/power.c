/*
 * Power cuts at every kind of instant, without pulling a plug. One run of a real broker is recorded: every write, sync and name
 * (script.h, tape.h). Then the disk is laid out as a cut could have left it, here, there, and there again (disk.h), and each of these
 * states is opened and held against what had been acknowledged by then (reopen.h).
 *
 *   SLUICE_POWER_STATES     how many (2000)
 *   SLUICE_POWER_RECORDING  a file: the recording that is there is used, or the one that is made is left there
 *   SLUICE_POWER_STATE      only this one, whose directory stays
 *   SLUICE_CRASH_SEED
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/rng.h"
#include "crash.h"
#include "disk.h"
#include "reopen.h"
#include "script.h"

enum { STATES = 2000, LYING_STATES = 40, STATE_S_MAX = 60, TOLD_MAX = 10 };

/* What is kept of a run: mapped from a file, by the broker too, which knows the tape alone. */
struct recording { struct tape tape; struct script_ledger ledger; bool whole; };

static struct recording *recording;
static char recording_path[256];
static uint64_t seed;

/* ---------------------------------------------------------------- recording */

static const char *scratch(void) { return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; }

static void map_recording(void)
{
    const char *given = getenv("SLUICE_POWER_RECORDING");
    snprintf(recording_path, sizeof recording_path, "%s/sluice-tape-XXXXXX", scratch());
    if (given != NULL)
        snprintf(recording_path, sizeof recording_path, "%s", given);
    int fd = given != NULL ? open(given, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : mkstemp(recording_path);
    if (fd < 0 || ftruncate(fd, sizeof *recording) != 0)
        fail_msg("%s: %s", recording_path, strerror(errno));
    recording = mmap(NULL, sizeof *recording, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    assert_true(recording != MAP_FAILED);
    close(fd);
}

static void the_run(void **state)
{
    (void)state;
    script_run(&recording->tape, recording_path, &recording->ledger, seed);
    recording->whole = true;
}

/* In a process of its own: what checks must never have had threads, as it forks. */
static void record(void)
{
    pid_t child = fork();
    if (child == 0) {
        const struct CMUnitTest run[] = {cmocka_unit_test(the_run)};
        exit(cmocka_run_group_tests_name("the run that is recorded", run, NULL, NULL));
    }
    int status;
    waitpid(child, &status, 0);
    if (!recording->whole)
        fail_msg("the run failed");
}

static int begin(void **state)
{
    (void)state;
    seed = crash_seed();
    setenv("TMPDIR", scratch(), 1);
    map_recording();
    if (!recording->whole)
        record();
    const struct script_ledger *l = &recording->ledger;
    print_message("recorded: %" PRIu64 " operations, %" PRIu64 " bytes; %u messages, %" PRIu64 " settled, %u units, %" PRIu64 " nacks, %" PRIu64
                  " parked, %" PRIu64 " redriven, %" PRIu64 " dropped, %" PRIu64 " killed, %" PRIu64 " restarted\n",
                  (uint64_t)atomic_load(&recording->tape.ops), (uint64_t)atomic_load(&recording->tape.bytes), l->messages_n, l->settled, l->units,
                  l->nacks, l->parked, l->redriven, l->dropped, l->kills, l->restarts);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (getenv("SLUICE_POWER_RECORDING") == NULL)
        unlink(recording_path);
    munmap(recording, sizeof *recording);
    return 0;
}

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
    rng_seed(&rng, seed ^ (n * UINT64_C(0x9e3779b97f4a7c15)));
    at += rng_below(&rng, ops / states + 1);
    if (n / ARRAY_LEN(ways) % 2 == 0) {
        while (at < ops && !disk_turns_at(d, at))
            at++;
        at += rng_below(&rng, 2); /* just before, or just after */
    }
    return (struct disk_cut){.at = at < ops ? at : ops, .names = ways[way].names, .bytes = ways[way].bytes, .seed = rng_next(&rng)};
}

/* In a process of its own, which may be ended by what it opens. False: it says why in `why`. */
static bool check(const struct disk *d, const struct disk_cut *cut, const char *dir, char *why, size_t why_size)
{
    int out[2], status;
    char data[300];
    snprintf(data, sizeof data, "%s/data", dir);
    disk_lay_out(d, cut, dir);
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(STATE_S_MAX);
        const char *wrong = reopen_check(data, &recording->ledger, cut->at);
        if (wrong != NULL && write(out[1], wrong, strlen(wrong)) < 0)
            _exit(2);
        _exit(wrong != NULL);
    }
    close(out[1]);
    ssize_t n = read(out[0], why, why_size - 1);
    close(out[0]);
    why[n > 0 ? n : 0] = '\0';
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(why, why_size, "it was ended by signal %d", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct found { uint64_t states, lost; };

static void look_at(const struct disk *d, const struct disk_cut *cut, const char *name, bool tell, struct found *f)
{
    char dir[64], why[512];
    snprintf(dir, sizeof dir, "%s/sluice-power-XXXXXX", scratch());
    assert_non_null(mkdtemp(dir));
    f->states++;
    if (!check(d, cut, dir, why, sizeof why) && ++f->lost <= TOLD_MAX && tell)
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

/* Else the test above shows nothing. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_every_state_that_a_power_cut_can_leave_what_was_acknowledged_is_so),
                                       cmocka_unit_test(a_disk_that_breaks_its_promise_is_noticed)};
    return cmocka_run_group_tests(tests, begin, end);
}
