/* How RocksDB is set up, and why. */
#include "store/rocks.h"

enum {
    MIB = 1 << 20,
    MEMORY_DEFAULT = 192 * MIB,
    MEMORY_MIN = 16 * MIB,
    WAL_DEFAULT = 256 * MIB,
    JOBS_DEFAULT = 2,

    /* A value in a blob file costs a header of 32 bytes and a read of its own; in the index, being copied by compactions. Where
     * the values of a log are this small, there are few bytes to copy. */
    BLOB_BYTES_MIN = 512,
    /* Small rows that come and go are gone sooner with their table than out of a blob file, which goes when half of it is garbage. */
    BLOB_BYTES_MIN_CHURN = 4096,

    /* File descriptors of tables and blob files; what is over it is closed, and opened again when it is asked for. */
    OPEN_FILES_MAX = 256,
    OPENING_THREADS = 2, /* started anew for each family; 16 of them, as is usual, cost more than they save */

    INFO_HEADERS = 5,      /* InfoLogLevel */
    RECOVER_TORN_TAIL = 0, /* WALRecoveryMode::kTolerateCorruptedTailRecords */
    CHECKSUM_XXH3 = 4,     /* ChecksumType; the other, CRC32C, is not done by the CPU in every build */
};

/* What is asked of a family. */
static const struct {
    bool log;     /* large values, appended, walked over, removed by ranges */
    bool lookups; /* rows are asked for by their key, often in vain: filters */
    bool churn;   /* rows come and go: a table full of tombstones is compacted before its turn */
    bool large;   /* values may be as large as a log's, and go one by one */
} use_of[FAM_COUNT] = {
    [FAM_META] = {.lookups = true},
    [FAM_GROUPS] = {.lookups = true, .churn = true},
    [FAM_LEASES] = {.churn = true},
    [FAM_KEYS] = {.lookups = true, .churn = true},
    [FAM_HELD] = {.lookups = true, .churn = true},
    [FAM_SCHED] = {.lookups = true, .churn = true, .large = true},
    [FAM_SESSIONS] = {.lookups = true, .churn = true},
    [FAM_DEDUP_A] = {.lookups = true},
    [FAM_DEDUP_B] = {.lookups = true},
    [FAM_STATE] = {.lookups = true},
    [FAM_LOG_HOURS] = {.log = true},
    [FAM_LOG_DAYS] = {.log = true},
    [FAM_LOG_WEEKS] = {.log = true},
    [FAM_LOG_FOREVER] = {.log = true},
    [FAM_LOG_COMPACTED] = {.log = true},
};

bool rocks_family_is_log(enum store_family f)
{
    return use_of[f].log;
}

bool rocks_family_has_blobs(enum store_family f)
{
    return use_of[f].log || use_of[f].large;
}

/* Memory: half is caches, where indexes and filters count too; half is write buffers. Logs have a cache of their own: a reader from the start
 * would push everybody's rows out of the other. In it their values stay for the next who reads on in them: a value is all that a turn
 * appended, a receive takes a hundredth of it, and each read from the file is a read and a checksum of the whole. Three full buffers of one log,
 * the most that may wait for a flush, and the one being filled make that half; with more than one busy log the sum is what makes
 * RocksDB flush. */
struct sizes {
    uint64_t cache, log_cache, buffers, log_buffer, row_buffer, wal;
};

static struct sizes sizes_of(const struct store_rocks_options *user)
{
    uint64_t memory = user->memory_bytes != 0 ? user->memory_bytes : MEMORY_DEFAULT;
    if (memory < MEMORY_MIN)
        memory = MEMORY_MIN;
    return (struct sizes){
        .cache = memory / 8 * 3,
        .log_cache = memory / 8,
        .buffers = memory / 2,
        .log_buffer = memory / 8,
        .row_buffer = memory / 32,
        .wal = user->wal_bytes_max != 0 ? user->wal_bytes_max : WAL_DEFAULT,
    };
}

static void set_durability(rocksdb_options_t *o, const struct sizes *z)
{
    /* A log cut at its end is a crash; anything else in a log is damage, and refused. Other modes drop what was synced. */
    rocksdb_options_set_wal_recovery_mode(o, RECOVER_TORN_TAIL);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_use_fsync(o, 0); /* fdatasync: sizes are written with it */
    /* Bounds the replay at start. When it is reached every family with rows in the oldest log is flushed, so one that is hardly
     * written does not keep all logs since its last row. */
    rocksdb_options_set_max_total_wal_size(o, z->wal);

    /* Off by default, and to stay so: each of these loses writes, syncs or reads in some case, or did until lately. */
    rocksdb_options_set_enable_pipelined_write(o, 0);
    rocksdb_options_set_unordered_write(o, 0);
    rocksdb_options_set_manual_wal_flush(o, 0);
    rocksdb_options_set_wal_compression(o, 0);
    rocksdb_options_set_recycle_log_file_num(o, 0);
    rocksdb_options_set_atomic_flush(o, 0);
    rocksdb_options_set_allow_mmap_reads(o, 0);
    rocksdb_options_set_allow_mmap_writes(o, 0);
}

static void set_resources(rocksdb_options_t *o, const struct store_rocks_options *user, const struct sizes *z)
{
    rocksdb_options_set_db_write_buffer_size(o, z->buffers);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_max_file_opening_threads(o, OPENING_THREADS);
    rocksdb_options_set_max_background_jobs(o, user->background_threads > 0 ? user->background_threads
                                                                            : JOBS_DEFAULT);
    rocksdb_options_set_bytes_per_sync(o, MIB); /* a flush writes back as it goes, not all at its end */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0); /* there is one writer */
    rocksdb_options_set_avoid_unnecessary_blocking_io(o, 1);   /* no reader unlinks files */
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);    /* which reads every table */

    /* RocksDB's own log, LOG, holds its options and nothing that comes later: what concerns us is answered to us. A build with
     * assertions, as Debian's, aborts at the second line that finds a full disk, and on a full disk a line is due every five
     * seconds. */
    rocksdb_options_set_info_log_level(o, INFO_HEADERS);
    rocksdb_options_set_max_log_file_size(o, 4 * MIB);
    rocksdb_options_set_keep_log_file_num(o, 3);
    rocksdb_options_set_max_manifest_file_size(o, 16 * MIB);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
}

/* Undivided: a shard of a divided one may be smaller than a value. */
static rocksdb_cache_t *new_log_cache(size_t bytes)
{
    rocksdb_lru_cache_options_t *o = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(o, bytes);
    rocksdb_lru_cache_options_set_num_shard_bits(o, 0);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(o);
    rocksdb_lru_cache_options_destroy(o);
    return cache;
}

static void set_table(rocksdb_options_t *o, enum store_family f, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
    rocksdb_block_based_options_set_checksum(t, CHECKSUM_XXH3);
    if (use_of[f].lookups) {
        rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(10));
        /* Filters in blocks as small as the others: one of a whole table may be larger than a shard of a small cache, and is then read for each
         * row that is asked for. */
        rocksdb_block_based_options_set_index_type(t, rocksdb_block_based_table_index_type_two_level_index_search);
        rocksdb_block_based_options_set_partition_filters(t, 1);
    }
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
}

/* The values of a log lie in blob files, so what compactions copy is the index: keys and pointers. No blob is collected while
 * that goes on: the age cutoff alone would have every compaction of a log with many partitions copy a quarter of all its values.
 * See store_reclaim. */
static void set_log(rocksdb_options_t *o, const struct sizes *z, rocksdb_cache_t *cache)
{
    rocksdb_options_set_blob_cache(o, cache);
    rocksdb_options_set_write_buffer_size(o, z->log_buffer);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_enable_blob_files(o, 1);
    rocksdb_options_set_min_blob_size(o, BLOB_BYTES_MIN);
    rocksdb_options_set_blob_compression_type(o, rocksdb_no_compression); /* producers do */
    rocksdb_options_set_enable_blob_gc(o, 0);
    rocksdb_options_set_blob_compaction_readahead_size(o, 2 * MIB);
    rocksdb_options_set_target_file_size_base(o, 8 * MIB); /* of the index: some 10 GB of log each */
    rocksdb_options_set_max_bytes_for_level_base(o, 64 * MIB);
}

static void set_rows(rocksdb_options_t *o, enum store_family f, const struct sizes *z)
{
    rocksdb_options_set_write_buffer_size(o, z->row_buffer);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_arena_block_size(o, 64 << 10); /* most families are small */
    rocksdb_options_set_target_file_size_base(o, 16 * MIB);
    rocksdb_options_set_max_bytes_for_level_base(o, 64 * MIB);
    if (use_of[f].churn) /* half of any 128 rows in a row are tombstones */
        rocksdb_options_add_compact_on_deletion_collector_factory(o, 128, 64);
}

/* Batches that wait for their time: what is due sooner goes sooner, whenever it came, so every blob file loses its values here and there.
 * When the older half of them is half garbage, what is left in them is copied and they go. */
static void set_large(rocksdb_options_t *o, const struct sizes *z)
{
    rocksdb_options_set_write_buffer_size(o, z->log_buffer);
    rocksdb_options_set_enable_blob_files(o, 1);
    rocksdb_options_set_min_blob_size(o, BLOB_BYTES_MIN_CHURN);
    rocksdb_options_set_blob_compression_type(o, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_gc(o, 1);
    rocksdb_options_set_blob_gc_age_cutoff(o, 0.5);
    rocksdb_options_set_blob_gc_force_threshold(o, 0.5);
    rocksdb_options_set_blob_compaction_readahead_size(o, 2 * MIB);
}

static rocksdb_options_t *family_options(const struct rocks_options *all, enum store_family f,
                                         const struct sizes *z)
{
    rocksdb_options_t *o = rocksdb_options_create_copy(all->db);
    set_table(o, f, use_of[f].log ? all->log_cache : all->cache);
    if (use_of[f].log)
        set_log(o, z, all->log_cache);
    else
        set_rows(o, f, z);
    if (use_of[f].large)
        set_large(o, z);
    return o;
}

void rocks_options_make(struct rocks_options *o, const struct store_rocks_options *user, bool fresh)
{
    struct sizes z = sizes_of(user);
    o->cache = rocksdb_cache_create_lru(z.cache);
    o->log_cache = new_log_cache(z.log_cache);
    o->db = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o->db, fresh);
    rocksdb_options_set_create_missing_column_families(o->db, fresh);
    set_durability(o->db, &z);
    set_resources(o->db, user, &z);
    rocksdb_options_set_compression(o->db,
                                    rocksdb_no_compression); /* needs no library, and rows are packed */
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o->db, 1);
    for (int f = 0; f < FAM_COUNT; f++)
        o->family[f] = family_options(o, f, &z);
}

void rocks_options_free(struct rocks_options *o)
{
    for (int f = 0; f < FAM_COUNT; f++) {
        if (o->family[f] != NULL)
            rocksdb_options_destroy(o->family[f]);
    }
    if (o->db != NULL)
        rocksdb_options_destroy(o->db);
    if (o->cache != NULL)
        rocksdb_cache_destroy(o->cache);
    if (o->log_cache != NULL)
        rocksdb_cache_destroy(o->log_cache);
    *o = (struct rocks_options){0};
}
