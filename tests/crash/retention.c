/* Logs have an end, on the disk as well: what retention and deletion give back, how soon, and what was written for all that.
 *
 * SLUICE_RETENTION_MB says how much is produced: 300, or 3,000 in a full run. Messages are of 1,000 bytes that do not compress.
 */
#include <ftw.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "crash.h"

enum { MB = 1000000, MESSAGE = 1000, MINUTE_MS = 60000, WAL_MB = 32, LEAST_MB = 8 };

static const char *const args[] = {"--set", "limits.retention_interval_ms=1s",
                                   "--set", "limits.reclaim_interval_ms=1s",
                                   "--set", "limits.reclaim_bytes_min=8MB",
                                   "--set", "limits.wal_bytes_max=32MB",
                                   "--set", "limits.reserve_file_bytes=0",
                                   NULL};

struct disk {
    struct broker_proc broker;
    struct sluice *client;
    struct rng rng;
    uint64_t megabytes; /* to be produced */
};

/* ---------------------------------------------------------------- the disk */

static uint64_t tree_bytes;

static int add_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)path, (void)at;
    tree_bytes += type == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
    return 0;
}

/* Files may go while they are counted. */
static uint64_t disk_bytes(const struct disk *d)
{
    tree_bytes = 0;
    nftw(d->broker.data, add_file, 16, FTW_PHYS);
    return tree_bytes;
}

/* Bytes that the broker had the disk write. */
static uint64_t written_bytes(const struct disk *d)
{
    char path[64], line[128];
    unsigned long long n = 0;
    snprintf(path, sizeof path, "/proc/%d/io", (int)d->broker.pid);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "write_bytes: %llu", &n) == 1)
            break;
    fclose(f);
    assert_true(n > 0);
    return n;
}

/* What may lie there beside the logs: write-ahead logs, what is not worth a compaction, an eighth of garbage, tables. */
static uint64_t with_the_rest(uint64_t bytes)
{
    return bytes + bytes / 8 + (uint64_t)(2 * WAL_MB + LEAST_MB + 10) * MB;
}

/* ---------------------------------------------------------------- messages */

static void produce(struct disk *d, const char *topic, uint32_t partitions, uint64_t bytes)
{
    static uint64_t value[MESSAGE / 8];
    struct sluice_error err;
    for (uint64_t i = 0; i < bytes / MESSAGE; i++) {
        char key[16];
        for (size_t k = 0; k < ARRAY_LEN(value); k++)
            value[k] = rng_next(&d->rng);
        struct sluice_message m = {.size = sizeof m, .topic = topic, .value = {value, sizeof value}};
        if (partitions > 1) {
            snprintf(key, sizeof key, "%" PRIu64, rng_below(&d->rng, 100 * partitions));
            m.key = sluice_str(key);
        }
        int code;
        while ((code = sluice_publish_async(d->client, &m, NULL, NULL, &err)) == SLUICE_QUEUE_FULL)
            crash_ok(sluice_flush(d->client, MINUTE_MS, &err), &err);
        crash_ok(code, &err);
    }
    crash_ok(sluice_flush(d->client, MINUTE_MS, &err), &err);
}

static uint64_t log_bytes(struct disk *d, const char *topic, uint64_t *start)
{
    struct sluice_topic_list *l;
    struct sluice_error err;
    uint64_t bytes = 0;
    crash_ok(sluice_topics(d->client, topic, &l, &err), &err);
    for (uint32_t i = 0; i < l->topics[0].options.partitions; i++)
        bytes += l->topics[0].partitions[i].bytes;
    if (start != NULL)
        *start = l->topics[0].partitions[0].start;
    sluice_topics_free(l);
    return bytes;
}

static void create(struct disk *d, const char *topic, struct sluice_topic_options o)
{
    struct sluice_error err;
    o.size = sizeof o;
    crash_ok(sluice_topic_create(d->client, topic, &o, NULL, &err), &err);
}

static void keep(struct disk *d, const char *topic, uint64_t bytes)
{
    struct sluice_topic_options o = {.size = sizeof o, .retention_bytes = bytes};
    struct sluice_error err;
    crash_ok(sluice_topic_alter(d->client, topic, &o, SLUICE_TOPIC_RETENTION_BYTES, &err), &err);
}

/* Reads to the end; how many messages it was told are gone, and how many came. */
static void read_all(struct disk *d, const char *topic, uint64_t *gone, uint64_t *came)
{
    struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_OFFSET};
    struct sluice_reader *r;
    struct sluice_error err;
    *gone = *came = 0;
    crash_ok(sluice_reader_open(d->client, topic, 0, &o, &r, &err), &err);
    for (size_t n = 1; n > 0;) {
        struct sluice_batch *b;
        int code = sluice_reader_read(r, 0, &b, &err);
        if (code == SLUICE_GAP) {
            *gone += err.depth;
            continue;
        }
        crash_ok(code, &err);
        n = sluice_batch_count(b);
        *came += n;
        sluice_batch_free(b);
    }
    sluice_reader_close(r);
}

/* ---------------------------------------------------------------- tests */

static void retention_of_a_topic_to_a_third_frees_the_disk_within_a_minute_and_little_is_written_for_it(void **state)
{
    struct disk *d = *state;
    uint64_t all = d->megabytes * MB, third = all / 3, start, gone, came;
    create(d, "t", (struct sluice_topic_options){.partitions = 1});
    produce(d, "t", 1, all);
    uint64_t before = disk_bytes(d);
    assert_true(before >= all);
    uint64_t began = clock_mono_ms();
    keep(d, "t", third);
    EVENTUALLY(MINUTE_MS, disk_bytes(d) <= with_the_rest(third));
    uint64_t took = clock_mono_ms() - began, written = written_bytes(d), bytes = log_bytes(d, "t", &start);
    assert_in_range(bytes, third, third + 4 * MB);
    read_all(d, "t", &gone, &came);
    assert_int_equal(gone, start);
    assert_int_equal(gone + came, all / MESSAGE);
    print_message("retention: %" PRIu64 " MB to %" PRIu64 " MB: disk %" PRIu64 " MB to %" PRIu64 " MB in %" PRIu64 " ms, written %.3f bytes per byte\n",
                  d->megabytes, third / MB, before / MB, disk_bytes(d) / MB, took, (double)written / (double)all);
    assert_true(written <= all / 10 * 22);

    broker_kill(&d->broker);
    broker_restart(&d->broker);
    read_all(d, "t", &gone, &came);
    assert_int_equal(gone, start);
    assert_int_equal(gone + came, all / MESSAGE);
}

static void a_topic_that_is_deleted_frees_its_disk_within_a_minute_also_when_the_broker_dies_in_between(void **state)
{
    struct disk *d = *state;
    struct sluice_error err;
    create(d, "t", (struct sluice_topic_options){.partitions = 8});
    create(d, "other", (struct sluice_topic_options){.partitions = 1});
    produce(d, "t", 8, d->megabytes * MB / 2);
    produce(d, "other", 1, 10 * MB);
    assert_true(disk_bytes(d) >= d->megabytes * MB / 2);
    crash_ok(sluice_topic_delete(d->client, "t", &err), &err);
    broker_kill(&d->broker);
    broker_restart(&d->broker);
    EVENTUALLY(MINUTE_MS, disk_bytes(d) <= with_the_rest(10 * MB));
    uint64_t gone, came;
    read_all(d, "other", &gone, &came);
    assert_int_equal(gone, 0);
    assert_int_equal(came, 10 * MB / MESSAGE);
}

/* One partition of which a group has done nothing, among a hundred that lie in the same files. */
static void one_pinned_partition_does_not_keep_the_bytes_of_the_others(void **state)
{
    struct disk *d = *state;
    struct sluice_error err;
    uint64_t each = d->megabytes * MB / 100, written = 0;
    create(d, "pinned", (struct sluice_topic_options){.partitions = 1, .hard_cap_ms = UINT64_MAX});
    create(d, "t", (struct sluice_topic_options){.partitions = 99});
    crash_ok(sluice_group_create(d->client, "pinned", "slow", NULL, NULL, &err), &err);
    for (int round = 0; round < 10; round++) {
        produce(d, "t", 99, 99 * each / 10);
        produce(d, "pinned", 1, each / 10);
        written += 100 * each / 10;
    }
    keep(d, "t", MB);
    keep(d, "pinned", 1);
    EVENTUALLY(MINUTE_MS, disk_bytes(d) <= with_the_rest(2 * (each + MB)));
    uint64_t start, gone, came;
    log_bytes(d, "pinned", &start);
    assert_int_equal(start, 0);
    read_all(d, "pinned", &gone, &came);
    assert_int_equal(gone, 0);
    assert_int_equal(came, each / 10 / MESSAGE * 10);
    print_message("pinned: %" PRIu64 " MB, kept %" PRIu64 " MB: disk %" PRIu64 " MB\n", written / MB, each / MB, disk_bytes(d) / MB);
}

/* ---------------------------------------------------------------- life */

static int begin(void **state)
{
    static struct disk disk;
    disk = (struct disk){.megabytes = crash_number("SLUICE_RETENTION_MB", 300)};
    rng_seed(&disk.rng, crash_seed());
    broker_start(&disk.broker, args);
    disk.client = crash_open(disk.broker.url);
    *state = &disk;
    return 0;
}

static int end(void **state)
{
    struct disk *d = *state;
    crash_close(d->client);
    broker_end(&d->broker);
    return 0;
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISK_TEST(retention_of_a_topic_to_a_third_frees_the_disk_within_a_minute_and_little_is_written_for_it),
        DISK_TEST(a_topic_that_is_deleted_frees_its_disk_within_a_minute_also_when_the_broker_dies_in_between),
        DISK_TEST(one_pinned_partition_does_not_keep_the_bytes_of_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
