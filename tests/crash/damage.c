/*
 * Damaged files. A data directory with everything in it, as a run left it (recording.h), is laid out anew for each damage: a byte that is
 * another, or an end that is missing, in each file, at places all over it. Then it is opened and every row of it read, and all that was
 * promised asked for. What must come of it is one of these:
 *
 *   - refused, by the name of the file that was damaged: at the opening, or where it is read first;
 *   - everything is there that was promised: the damage is in what nobody reads;
 *   - the newest log, cut: it opens, what it tells hangs together, and only its end is missing.
 *
 * SLUICE_DAMAGE_PLACES says at how many places of each file (24).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/rng.h"
#include "crash.h"
#include "disk.h"
#include "recording.h"

enum { PLACES = 24, FILES_MAX = 128, TOLD_MAX = 20 };

enum kind { KIND_CURRENT, KIND_MANIFEST, KIND_LOG, KIND_NEWEST_LOG, KIND_TABLE, KIND_BLOB, KINDS };
static const char *const kind_names[KINDS] = {"CURRENT", "MANIFEST", "older logs", "newest log", "tables", "blob files"};

struct target { char name[64]; uint64_t size; enum kind kind; };
struct tally { uint64_t files, refused, without_effect, torn, wrong; };

static struct recording *recording;
static struct disk *disk;
static struct disk_cut instant;
static struct target targets[FILES_MAX];
static size_t targets_n;

/* ---------------------------------------------------------------- what there is to damage */

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), n = strlen(end);
    return size >= n && strcmp(name + size - n, end) == 0;
}

static enum kind kind_of(const char *name)
{
    return strcmp(name, "CURRENT") == 0               ? KIND_CURRENT
           : strncmp(name, "MANIFEST-", 9) == 0       ? KIND_MANIFEST
           : ends_with(name, ".log")                  ? KIND_LOG
           : ends_with(name, ".sst")                  ? KIND_TABLE
           : ends_with(name, ".blob")                 ? KIND_BLOB
                                                      : KINDS;
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct target *)a)->name, ((const struct target *)b)->name); }

/* Of an instant; how many logs. */
static size_t list_targets(uint64_t at)
{
    char dir[64], data[80];
    size_t logs = 0;
    struct target *newest = NULL;
    instant = (struct disk_cut){.at = at, .names = NAMES_ALL, .bytes = BYTES_ALL};
    recording_make_dir(dir);
    disk_lay_out(disk, &instant, dir);
    snprintf(data, sizeof data, "%s/data", dir);
    DIR *d = opendir(data);
    assert_non_null(d);
    targets_n = 0;
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        char path[400];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", data, x->d_name);
        if (kind_of(x->d_name) == KINDS || stat(path, &st) != 0 || st.st_size == 0)
            continue;
        assert_true(targets_n < FILES_MAX && strlen(x->d_name) < sizeof targets[0].name);
        struct target *t = &targets[targets_n++];
        snprintf(t->name, sizeof t->name, "%.63s", x->d_name);
        t->size = (uint64_t)st.st_size;
        t->kind = kind_of(x->d_name);
        logs += t->kind == KIND_LOG;
    }
    closedir(d);
    remove_tree(dir);
    qsort(targets, targets_n, sizeof *targets, by_name);
    for (size_t i = 0; i < targets_n; i++)
        if (targets[i].kind == KIND_LOG)
            newest = &targets[i];
    if (newest != NULL)
        newest->kind = KIND_NEWEST_LOG;
    return logs;
}

/* The manifest speaks of every table and blob file that there is. */
static bool all_listed(uint64_t at)
{
    uint64_t listed = disk_last(disk, at, TAPE_SYNC_END, "MANIFEST-");
    return listed > disk_last(disk, at, TAPE_CREATE, ".sst") && listed > disk_last(disk, at, TAPE_CREATE, ".blob");
}

static bool suits(uint64_t at) { return all_listed(at) && list_targets(at) >= 2; }

/* An instant at which there are two logs, which is one in forty of the run: the last before the broker was started anew, or else the first
 * after that. */
static void choose_instant(void)
{
    uint64_t anew = disk_ops(disk) * 3 / 4;
    for (uint64_t at = anew; at > 0; at--)
        if (suits(at))
            return;
    for (uint64_t at = anew + 1; at < disk_ops(disk); at++)
        if (suits(at))
            return;
    fail_msg("the run never had two logs");
}

/* ---------------------------------------------------------------- a damage */

struct damage { bool cut; uint64_t at; uint8_t with; };

static void do_damage(const char *dir, const struct target *t, struct damage x)
{
    char path[200];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/data/%s", dir, t->name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    if (x.cut) {
        assert_int_equal(ftruncate(fd, (off_t)x.at), 0);
    } else {
        assert_int_equal(pread(fd, &byte, 1, (off_t)x.at), 1);
        byte ^= x.with;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)x.at), 1);
    }
    close(fd);
}

static void look(const struct target *t, struct damage x, struct tally *sum)
{
    char dir[64], why[512];
    bool may_be_torn = x.cut && t->kind == KIND_NEWEST_LOG;
    struct reopen_promise promise = {.asked_before = instant.at, .acked_by = may_be_torn ? 0 : instant.at};
    recording_make_dir(dir);
    disk_lay_out(disk, &instant, dir);
    do_damage(dir, t, x);
    bool good = recording_try(&recording->ledger, dir, promise, why, sizeof why);
    remove_tree(dir);
    sum->files++;
    if (may_be_torn && good)
        sum->torn++;
    else if (good && getenv("SLUICE_DAMAGE_TELL") != NULL && ++sum->without_effect > 0)
        print_message("%s of %" PRIu64 " bytes, %s at %" PRIu64 ": without effect\n", t->name, t->size, x.cut ? "cut" : "another byte", x.at);
    else if (good)
        sum->without_effect++;
    else if (strstr(why, t->name) != NULL && !may_be_torn)
        sum->refused++;
    else if (++sum->wrong <= TOLD_MAX)
        print_error("%s of %" PRIu64 " bytes, %s at %" PRIu64 " (%02x): %s\n", t->name, t->size, x.cut ? "cut" : "another byte", x.at, x.with, why);
}

/* Everywhere in small files; in others, evenly with some chance, and at their ends. */
static void look_at_file(const struct target *t, uint64_t places, struct rng *rng, struct tally *sum)
{
    uint64_t flips = t->size < places ? t->size : places, cuts = t->size < places / 3 ? t->size : places / 3;
    for (uint64_t i = 0; i < flips; i++) {
        uint64_t from = t->size * i / flips, to = t->size * (i + 1) / flips;
        uint64_t at = i + 1 == flips ? t->size - 1 : from + rng_below(rng, to - from);
        look(t, (struct damage){.at = at, .with = (uint8_t)(rng_chance(rng, 1, 2) ? 1u << rng_below(rng, 8) : 1 + rng_below(rng, 255))}, sum);
    }
    for (uint64_t i = 0; i < cuts; i++) {
        uint64_t from = t->size * i / cuts, to = t->size * (i + 1) / cuts;
        look(t, (struct damage){.cut = true, .at = i + 1 == cuts ? t->size - 1 : from + rng_below(rng, to - from)}, sum);
    }
}

static void what_is_damaged_is_refused_by_name_and_never_served(void **state)
{
    (void)state;
    uint64_t places = crash_number("SLUICE_DAMAGE_PLACES", PLACES);
    struct tally by_kind[KINDS] = {{0}}, sum = {0};
    struct rng rng;
    char dir[64], why[512];
    rng_seed(&rng, recording->seed);
    choose_instant();
    recording_make_dir(dir);
    disk_lay_out(disk, &instant, dir);
    if (!recording_try(&recording->ledger, dir, (struct reopen_promise){instant.at, instant.at}, why, sizeof why))
        fail_msg("undamaged: %s", why);
    remove_tree(dir);
    for (size_t i = 0; i < targets_n; i++)
        look_at_file(&targets[i], places, &rng, &by_kind[targets[i].kind]);
    for (int k = 0; k < KINDS; k++) {
        const struct tally *t = &by_kind[k];
        print_message("%s: %" PRIu64 " refused by name, %" PRIu64 " without effect, %" PRIu64 " taken for a crash, %" PRIu64 " wrong\n", kind_names[k],
                      t->refused, t->without_effect, t->torn, t->wrong);
        assert_true(t->files > 0);
        sum.files += t->files;
        sum.refused += t->refused;
        sum.without_effect += t->without_effect;
        sum.torn += t->torn;
        sum.wrong += t->wrong;
    }
    print_message("damage: %" PRIu64 " files, %" PRIu64 " refused by name\n", sum.files - sum.without_effect - sum.torn, sum.refused);
    assert_int_equal(sum.wrong, 0);
    assert_int_equal(by_kind[KIND_CURRENT].without_effect + by_kind[KIND_LOG].without_effect + by_kind[KIND_NEWEST_LOG].without_effect, 0);
}

static int begin(void **state)
{
    (void)state;
    recording = recording_begin();
    disk = disk_read(&recording->tape);
    return 0;
}

static int end(void **state)
{
    (void)state;
    disk_free(disk);
    recording_end(recording);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_damaged_is_refused_by_name_and_never_served)};
    return cmocka_run_group_tests(tests, begin, end);
}
