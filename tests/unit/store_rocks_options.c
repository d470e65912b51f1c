/* The options of RocksDB that we rely on: accepted, and in effect. */
#include "store_rocks_kit.h"

static void the_options_of_the_database_are_in_effect(void **state)
{
    (void)state;
    static const char *const expected[][2] = {
        {"wal_recovery_mode", "kTolerateCorruptedTailRecords"},
        {"paranoid_checks", "true"},
        {"max_total_wal_size", "268435456"},
        {"db_write_buffer_size", "8388608"},
        {"max_open_files", "256"},
        {"max_file_opening_threads", "2"},
        {"stats_dump_period_sec", "0"},
        {"stats_persist_period_sec", "0"},
        {"keep_log_file_num", "3"},
        {"max_log_file_size", "4194304"},
        {"max_manifest_file_size", "16777216"},
        {"use_fsync", "false"},
        {"enable_pipelined_write", "false"},
        {"unordered_write", "false"},
        {"manual_wal_flush", "false"},
        {"wal_compression", "kNoCompression"},
        {"recycle_log_file_num", "0"},
        {"atomic_flush", "false"},
        {"allow_mmap_reads", "false"},
        {"allow_mmap_writes", "false"},
        {"track_and_verify_wals_in_manifest", "false"},
        {"two_write_queues", "false"},
        {"create_if_missing", "false"},
        {"create_missing_column_families", "false"},
    };
    shut();
    assert_ok(open_store(&err));
    char *file = options_file();
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_option(file, "[DBOptions]", expected[i][0], expected[i][1]);
    free(file);
}

static void the_options_of_each_family_are_in_effect(void **state)
{
    (void)state;
    static const struct {
        const char *name, *log, *rows;
    } expected[] = {
        {"enable_blob_files", "true", "false"},
        {"enable_blob_garbage_collection", "false", "false"},
        {"blob_compression_type", "kNoCompression", "kNoCompression"},
        {"compression", "kNoCompression", "kNoCompression"},
        {"compaction_style", "kCompactionStyleLevel", "kCompactionStyleLevel"},
        {"level_compaction_dynamic_level_bytes", "true", "true"},
        {"write_buffer_size", "2097152", "524288"},
        {"max_write_buffer_number", "3", "3"},
    };
    char *file = options_file();
    for (enum store_family f = 0; f < FAM_COUNT; f++) {
        char section[64];
        snprintf(section, sizeof section, "[CFOptions \"%s\"]", store_family_name(f));
        bool is_log = strncmp(store_family_name(f), "log.", 4) == 0;
        assert_int_equal(rocks_family_is_log(f), is_log);
        assert_int_equal(rocks_family_has_blobs(f), is_log || f == FAM_SCHED);
        for (size_t i = 0; i < ARRAY_LEN(expected) && f != FAM_SCHED; i++)
            assert_option(file, section, expected[i].name, is_log ? expected[i].log : expected[i].rows);
        if (f == FAM_SCHED) {
            assert_option(file, section, "enable_blob_files", "true");
            assert_option(file, section, "min_blob_size", "4096");
            assert_option(file, section, "enable_blob_garbage_collection", "true");
            assert_option(file, section, "write_buffer_size", "2097152");
        }
        if (is_log)
            assert_option(file, section, "min_blob_size", "512");
        snprintf(section, sizeof section, "[TableOptions/BlockBasedTable \"%s\"]", store_family_name(f));
        assert_option(file, section, "cache_index_and_filter_blocks", "true");
        assert_option(file, section, "checksum", "kXXH3");
        bool filter = !is_log && f != FAM_LEASES;
        assert_option(file, section, "filter_policy", filter ? "bloomfilter" : "nullptr");
        assert_option(file, section, "partition_filters", filter ? "true" : "false"); /* one of a whole table may not fit into a small cache */
        assert_option(file, section, "index_type", filter ? "kTwoLevelIndexSearch" : "kBinarySearch");
    }
    free(file);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **args)
{
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {
        TEST(the_options_of_the_database_are_in_effect),
        TEST(the_options_of_each_family_are_in_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
