/* The straw-man keeps its promise, or it would be no measure (strawman.h). The disk below it is the crash tests' shim. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/strawman.h"
#include "crash/syncshim.h"

enum { SLOW_MS = 40, BATCHES = 40, WINDOW = 8 };

static char dir[PATH_MAX], data[PATH_MAX];
static struct syncshim *shim;

static int shim_open(void **state)
{
    (void)state;
    static char path[PATH_MAX + 16];
    struct err e = {0};
    if (workdir_make(NULL, dir, &e) != 0 || workdir_below(dir, "data", data, &e) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/shim", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *shim) != 0)
        return -1;
    shim = mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shim == MAP_FAILED)
        return -1;
    if (strlen(data) >= sizeof shim->directory)
        return -1;
    memcpy(shim->directory, data, strlen(data) + 1);
    atomic_store(&shim->space, INT64_MAX);
    setenv(SYNCSHIM_ENV, path, 1);
    return 0;
}

static int shim_close(void **state)
{
    (void)state;
    munmap(shim, sizeof *shim);
    unsetenv(SYNCSHIM_ENV);
    workdir_remove(dir);
    return 0;
}

/* Messages acknowledged; `min_us` gets the shortest latency. */
static uint64_t produce(int durability, uint32_t window, double *min_us, int *code)
{
    void *run;
    struct err e = {0};
    const struct work w = {.durability = durability, .size = 100, .batch = 10, .window = window, .connections = 1, .messages = 10 * BATCHES,
                           .seed = 1};
    struct outcome out = {.latency = hist_new()};
    setenv("LD_PRELOAD", CRASH_SHIM, 1);
    if (rival_strawman.start(data, &w, &run, &e) != 0)
        fail_msg("%s", e.text);
    unsetenv("LD_PRELOAD");
    *code = rival_strawman.produce(run, &w, &out, &e);
    rival_strawman.stop(run);
    *min_us = (double)out.latency->min_us;
    free(out.latency);
    return out.messages;
}

static void what_it_acknowledges_was_synced_before(void **state)
{
    (void)state;
    double min_us;
    int code;
    atomic_store(&shim->delay_ms, SLOW_MS);
    assert_int_equal(produce(SLUICE_DISK, 1, &min_us, &code), 10 * BATCHES);
    assert_int_equal(code, 0);
    assert_true(min_us >= 1000 * SLOW_MS);
    assert_true(atomic_load(&shim->syncs_n) >= BATCHES);
}

static void one_sync_serves_all_that_came_while_the_last_ran(void **state)
{
    (void)state;
    double min_us;
    int code;
    atomic_store(&shim->delay_ms, SLOW_MS);
    assert_int_equal(produce(SLUICE_DISK, WINDOW, &min_us, &code), 10 * BATCHES);
    assert_int_equal(code, 0);
    assert_true(atomic_load(&shim->syncs_n) <= BATCHES / 2);
}

static void what_need_not_reach_the_disk_is_not_synced(void **state)
{
    (void)state;
    double min_us;
    int code;
    atomic_store(&shim->delay_ms, SLOW_MS);
    assert_int_equal(produce(SLUICE_OS, 1, &min_us, &code), 10 * BATCHES);
    assert_int_equal(code, 0);
    assert_int_equal(atomic_load(&shim->syncs_n), 0);
}

static void a_sync_that_fails_ends_the_run_with_an_error(void **state)
{
    (void)state;
    double min_us;
    int code;
    atomic_store(&shim->error, EIO);
    produce(SLUICE_DISK, 1, &min_us, &code);
    assert_int_not_equal(code, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "strawman") == 0) { /* as which this program starts itself */
        struct bench b = {0};
        struct err e = {0};
        int code = options_read(&b.o, argc - 1, argv + 1, &e);
        return code != 0 ? code : command_strawman(&b, &e);
    }
    servers_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_it_acknowledges_was_synced_before, shim_open, shim_close),
        cmocka_unit_test_setup_teardown(one_sync_serves_all_that_came_while_the_last_ran, shim_open, shim_close),
        cmocka_unit_test_setup_teardown(what_need_not_reach_the_disk_is_not_synced, shim_open, shim_close),
        cmocka_unit_test_setup_teardown(a_sync_that_fails_ends_the_run_with_an_error, shim_open, shim_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
