/* The store on RocksDB: opening, reading, writing, syncing. How it is set up: rocks_options.c. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/planted.h"
#include "schemas/errors.h"
#include "store/puts.h"
#include "store/rocks.h"

enum {
    BATCH_KEPT_BYTES = 16 << 20, /* a batch that grew larger gives its memory back */
    PIECES_ON_STACK = 64,
    RESERVE_DEFAULT = 128 << 20, /* recovery writes out what the buffers held: see rocks_options.c */
    OPENING_BYTES = 8 << 20,     /* what opening writes in any case */
    WRITING_BYTES = 8 << 20,     /* left free by every write, see rocks_have_room */
    GC_ROUNDS_MAX = 16,
    GC_FEW_FILES = 8,       /* a quarter of fewer may be no file at all */
    COMPACT_BOTTOM_TOO = 3, /* BottommostLevelCompaction::kForceOptimized */
};

static struct store_rocks *rocks_of(struct store *s)
{
    return container_of(s, struct store_rocks, base);
}

static void say(const struct store_rocks *s, int level, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(const struct store_rocks *s, int level, const char *fmt, ...)
{
    if (s->log == NULL)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    s->log(s->log_user, level, text);
}

/* ---------------------------------------------------------------- reading */

int rocks_read_error(struct store_rocks *s, enum store_family f, struct view at, bool walk, char *text, struct err *e)
{
    struct rocks_damage *x = &s->damage;
    bool unnamed =
        rocks_error_code(text) == E_DAMAGED && strstr(text, s->path) == NULL && rocks_family_has_blobs(f);
    if (!unnamed)
        return rocks_error(s->path, NULL, text, e);

    /* The search reads much, and whoever met the damage may come again and again. */
    pthread_mutex_lock(&s->damage_lock);
    if (x->family != f || view_cmp(buf_view(&x->at), at) != 0) {
        uint32_t id = rocksdb_column_family_handle_get_id(s->family[f]);
        x->family = f;
        buf_clear(&x->at);
        buf_append(&x->at, at.data, at.size);
        struct key row;
        if (walk)
            rocks_damaged_row(s, f, at, &row);
        if (!rocks_damaged_blob(&s->dir, id, walk ? key_view(&row) : at, text, x->file, sizeof x->file))
            x->file[0] = '\0';
    }
    int code = rocks_error(s->path, x->file[0] != '\0' ? x->file : NULL, text, e);
    pthread_mutex_unlock(&s->damage_lock);
    return code;
}

static int rocks_get(struct store *base, enum store_family f, struct view key, struct buf *out, bool *found,
                     struct err *e)
{
    struct store_rocks *s = rocks_of(base);
    char *text = NULL;
    *found = false;
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned_cf(s->db, s->read, s->family[f], (const char *)key.data, key.size, &text);
    if (text != NULL)
        return rocks_read_error(s, f, key, false, text, e);
    if (v == NULL)
        return E_OK;
    size_t size;
    const char *data = rocksdb_pinnableslice_value(v, &size);
    buf_clear(out);
    buf_append(out, data, size);
    rocksdb_pinnableslice_destroy(v);
    *found = true;
    return E_OK;
}

/* ---------------------------------------------------------------- writing */

/* The first failure is remembered, and is what every later write and sync answers. */
static int fail(struct store_rocks *s, const struct err *failure, struct err *e)
{
    pthread_mutex_lock(&s->failed_lock);
    if (!s->has_failed) {
        s->failed = *failure;
        s->failed.code = E_STORE_FAILED;
        s->has_failed = !PLANTED(failure_forgotten);
    }
    int code = err_set(e, E_STORE_FAILED, "%s", s->failed.text);
    pthread_mutex_unlock(&s->failed_lock);
    return code;
}

static void batch_row(struct store_rocks *s, const struct put *put)
{
    const char *on_stack[PIECES_ON_STACK];
    size_t sizes_on_stack[PIECES_ON_STACK];
    const char **data = on_stack;
    size_t *sizes = sizes_on_stack;
    if (put->pieces_n > PIECES_ON_STACK) {
        data = mem_array(put->pieces_n, sizeof *data);
        sizes = mem_array(put->pieces_n, sizeof *sizes);
    }
    for (size_t i = 0; i < put->pieces_n; i++) {
        data[i] = (const char *)put->pieces[i].data;
        sizes[i] = put->pieces[i].size;
    }
    const char *key = (const char *)put->key.data;
    rocksdb_writebatch_putv_cf(s->batch, s->family[put->family], 1, &key, &put->key.size, (int)put->pieces_n,
                               data, sizes);
    if (put->pieces_n > PIECES_ON_STACK) {
        mem_free(data);
        mem_free(sizes);
    }
}

static void batch_put(struct store_rocks *s, const struct put *put)
{
    rocksdb_column_family_handle_t *family = s->family[put->family];
    const char *key = (const char *)put->key.data;
    switch (put->kind) {
    case PUT_ROW:
        batch_row(s, put);
        break;
    case PUT_REMOVE:
        rocksdb_writebatch_delete_cf(s->batch, family, key, put->key.size);
        break;
    case PUT_REMOVE_RANGE:
        if (PLANTED(range_not_removed))
            break;
        rocksdb_writebatch_delete_range_cf(s->batch, family, key, put->key.size,
                                           (const char *)put->pieces[0].data, put->pieces[0].size);
        break;
    }
}

static void batch_clear(struct store_rocks *s, size_t bytes)
{
    if (bytes <= BATCH_KEPT_BYTES) {
        rocksdb_writebatch_clear(s->batch);
    } else {
        rocksdb_writebatch_destroy(s->batch);
        s->batch = rocksdb_writebatch_create();
    }
}

/* RocksDB, where it has assertions, aborts when it cannot write its LOG, and when it is to sync a write-ahead log that it could not
 * write; where it has none, that sync fails and so would we. So it is not called when there is no room. */
int rocks_have_room(struct store_rocks *s, const char *doing, uint64_t bytes, struct err *e)
{
    uint64_t free_bytes = rocks_dir_free(&s->dir);
    if (free_bytes >= bytes || PLANTED(room_unlooked))
        return E_OK;
    return err_set(e, E_DISK_FULL, "'%s' has %" PRIu64 " bytes free, %s needs %" PRIu64, s->path, free_bytes, doing, bytes);
}

static int rocks_write(struct store *base, const struct puts *l, struct err *e)
{
    struct store_rocks *s = rocks_of(base);
    if (s->has_failed)
        return fail(s, &s->failed, e);
    int code = rocks_have_room(s, "writing", WRITING_BYTES + l->bytes, e);
    if (code != E_OK)
        return code;
    rocks_wal_mark(s->batch, (struct rocks_known){atomic_load(&s->synced), atomic_load(&s->manifest)});
    for (size_t i = 0; i < l->count; i++) {
        struct put put;
        puts_at(l, i, &put);
        batch_put(s, &put);
    }
    char *text = NULL;
    rocksdb_write(s->db, s->write, s->batch, &text);
    batch_clear(s, l->bytes);
    if (text == NULL) {
        atomic_store(&s->written, rocksdb_get_latest_sequence_number(s->db));
        return E_OK;
    }

    struct err failure = {0};
    code = rocks_error(s->path, NULL, text, &failure);
    if (code == E_DISK_FULL || code == E_OVERLOADED)
        return err_set(e, code, "%s", failure.text);
    return fail(s, &failure, e);
}

/* After a sync that failed nobody knows what is on disk, whatever the reason: not even a full disk may be tried again. */
static int rocks_sync(struct store *base, struct err *e)
{
    struct store_rocks *s = rocks_of(base);
    if (s->has_failed)
        return fail(s, &s->failed, e);
    if (PLANTED(sync_skipped))
        return E_OK;
    char *text = NULL;
    uint64_t written = atomic_load(&s->written);
    rocksdb_flush_wal(s->db, 1, &text);
    if (text == NULL) {
        atomic_store(&s->synced, written);
        rocks_manifest_note(s);
        return E_OK;
    }
    struct err failure = {0};
    rocks_error(s->path, NULL, text, &failure);
    return fail(s, &failure, e);
}

/* ---------------------------------------------------------------- space */

static uint64_t property(const struct store_rocks *s, enum store_family f, const char *name)
{
    uint64_t v = 0;
    return rocksdb_property_int_cf(s->db, s->family[f], name, &v) == 0 ? v : 0;
}

static void rocks_stats(struct store *base, struct store_stats *out)
{
    struct store_rocks *s = rocks_of(base);
    *out = (struct store_stats){0};
    rocks_dir_stats(&s->dir, out);
    out->live_bytes = out->wal_bytes;
    out->memory_bytes = rocksdb_cache_get_usage(s->options.cache) + rocksdb_cache_get_usage(s->options.log_cache);
    out->background_errors = property(s, FAM_META, "rocksdb.background-errors"); /* of the whole database */
    for (enum store_family f = 0; f < FAM_COUNT; f++) {
        out->live_bytes += property(s, f, "rocksdb.live-sst-files-size");
        out->live_bytes += property(s, f, "rocksdb.live-blob-file-size");
        out->memory_bytes += property(s, f, "rocksdb.cur-size-all-mem-tables");
    }
}

static void rocks_family_stats(struct store *base, enum store_family f, struct store_family_stats *out)
{
    struct store_rocks *s = rocks_of(base);
    out->index_bytes = property(s, f, "rocksdb.live-sst-files-size");
    out->bytes = out->index_bytes + property(s, f, "rocksdb.live-blob-file-size");
}

/* Whether compactions of this family copy what lives in the oldest of its blob files, and of which part of them. */
static int set_gc(struct store_rocks *s, enum store_family f, bool on, const char *part, struct err *e)
{
    static const char *const names[] = {"enable_blob_garbage_collection",
                                        "blob_garbage_collection_age_cutoff"};
    const char *values[] = {on ? "true" : "false", part};
    char *text = NULL;
    rocksdb_set_options_cf(s->db, s->family[f], ARRAY_LEN(names), names, values, &text);
    return text == NULL ? E_OK : rocks_error(s->path, NULL, text, e);
}

static void compact(struct store_rocks *s, enum store_family f, bool bottom_too)
{
    rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
    if (bottom_too)
        rocksdb_compactoptions_set_bottommost_level_compaction(o, COMPACT_BOTTOM_TOO);
    rocksdb_compact_range_cf_opt(s->db, s->family[f], o, NULL, 0, NULL, 0);
    rocksdb_compactoptions_destroy(o);
}

static bool mostly_garbage(const struct store_rocks *s, enum store_family f)
{
    uint64_t all = property(s, f, "rocksdb.live-blob-file-size");
    uint64_t garbage = property(s, f, "rocksdb.live-blob-file-garbage-size");
    return garbage > all / 2;
}

/* A blob file goes when nothing in it is referred to any more. Where a partition that stays is spread thin over all files, none
 * would go: then what still lives in the oldest quarter is copied, again and again until half of what is kept lives. So less
 * is copied than is given back, and a quarter is what it takes in room. */
static int collect_blobs(struct store_rocks *s, enum store_family f, struct err *e)
{
    if (!mostly_garbage(s, f))
        return E_OK;
    int code = E_OK;
    for (int i = 0; code == E_OK && i < GC_ROUNDS_MAX && !s->reclaim_ends && mostly_garbage(s, f); i++) {
        bool few = property(s, f, "rocksdb.num-blob-files") < GC_FEW_FILES;
        code = set_gc(s, f, true, few ? "1" : "0.25", e);
        if (code == E_OK)
            compact(s, f, true);
    }
    int off = set_gc(s, f, false, "0.25", code == E_OK ? e : NULL);
    return code != E_OK ? code : off;
}

static int rocks_reclaim(struct store *base, enum store_family f, struct err *e)
{
    struct store_rocks *s = rocks_of(base);
    char *text = NULL;
    if (s->reclaim_ends)
        return E_OK;
    rocksdb_flush_cf(s->db, s->flush, s->family[f], &text);
    if (text != NULL)
        return rocks_error(s->path, NULL, text, e);
    compact(s, f, false);
    return rocks_family_is_log(f) ? collect_blobs(s, f, e) : E_OK;
}

static void rocks_reclaim_end(struct store *base)
{
    struct store_rocks *s = rocks_of(base);
    s->reclaim_ends = true;
    rocksdb_disable_manual_compaction(s->db);
}

/* ---------------------------------------------------------------- opening and closing */

static void rocks_close(struct store *base)
{
    struct store_rocks *s = rocks_of(base);
    for (int f = 0; f < FAM_COUNT; f++) {
        if (s->family[f] != NULL)
            rocksdb_column_family_handle_destroy(s->family[f]);
    }
    if (s->unused != NULL)
        rocksdb_column_family_handle_destroy(s->unused);
    if (s->db != NULL)
        rocksdb_close(s->db);
    rocksdb_writebatch_destroy(s->batch);
    rocksdb_flushoptions_destroy(s->flush);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_readoptions_destroy(s->read);
    rocks_options_free(&s->options);
    if (s->manifest_fd >= 0)
        close(s->manifest_fd);
    rocks_dir_close(&s->dir);
    pthread_mutex_destroy(&s->manifest_lock);
    pthread_mutex_destroy(&s->damage_lock);
    pthread_mutex_destroy(&s->failed_lock);
    buf_free(&s->damage.at);
    mem_free(s->path);
    mem_free(s);
}

static const struct store_ops rocks_ops = {
    .get = rocks_get,
    .iter = rocks_iter,
    .write = rocks_write,
    .sync = rocks_sync,
    .stats = rocks_stats,
    .family_stats = rocks_family_stats,
    .reclaim = rocks_reclaim,
    .reclaim_end = rocks_reclaim_end,
    .checkpoint = rocks_checkpoint,
    .close = rocks_close,
};

static struct store_rocks *rocks_new(const struct store_rocks_options *user)
{
    struct store_rocks *s = mem_zalloc(sizeof *s);
    s->base.ops = &rocks_ops;
    s->path = mem_strdup(user->path);
    s->log = user->log;
    s->log_user = user->log_user;
    s->dir = (struct rocks_dir){.path = s->path, .fd = -1, .pid_fd = -1};
    s->damage.family = FAM_COUNT;
    s->manifest_fd = -1;
    pthread_mutex_init(&s->failed_lock, NULL);
    pthread_mutex_init(&s->damage_lock, NULL);
    pthread_mutex_init(&s->manifest_lock, NULL);

    /* RocksDB reads ahead by itself once blocks follow each other, which a short-lived iterator need not pay for. */
    s->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(s->read, 1);
    rocksdb_readoptions_set_background_purge_on_iterator_cleanup(s->read, 1);
    s->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(s->write, 0);
    rocksdb_writeoptions_set_no_slowdown(s->write, 1); /* refuse rather than stop the loop */
    s->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(s->flush, 1);
    s->batch = rocksdb_writebatch_create();
    return s;
}

/* NULL, or what RocksDB says. */
static char *try_open(struct store_rocks *s)
{
    enum { ALL = FAM_COUNT + 1 };
    const char *names[ALL];
    const rocksdb_options_t *options[ALL];
    rocksdb_column_family_handle_t *handles[ALL];
    for (enum store_family f = 0; f < FAM_COUNT; f++) {
        names[f] = store_family_name(f);
        options[f] = s->options.family[f];
    }
    names[FAM_COUNT] = "default";
    options[FAM_COUNT] = s->options.db;

    char *text = NULL;
    s->db = rocksdb_open_column_families(s->options.db, s->path, ALL, names, options, handles, &text);
    if (text == NULL) {
        memcpy(s->family, handles, sizeof s->family);
        s->unused = handles[FAM_COUNT];
    }
    return text;
}

/* What RocksDB finds wrong with a log it does not name: then each is looked at to its last byte. */
static int open_database(struct store_rocks *s, bool fresh, struct err *e)
{
    bool dropped = false;
    int code = fresh ? E_OK : rocks_wal_look(&s->dir, false, &dropped, e);
    if (code != E_OK)
        return code;
    char *text = try_open(s);
    if (text != NULL && rocks_error_code(text) == E_DAMAGED && strstr(text, s->path) == NULL && !fresh) {
        bool more = false;
        code = rocks_wal_look(&s->dir, true, &more, e);
        dropped |= more;
        if (code != E_OK) {
            rocksdb_free(text);
            return code;
        }
        rocksdb_free(text);
        text = try_open(s);
    }
    if (text != NULL) { /* the manifest is named where a table that it lists does not open, but it was looked at */
        char table[NAME_MAX + 1];
        bool found = rocks_error_code(text) == E_DAMAGED && strstr(text, "/MANIFEST-") != NULL && rocks_damaged_table(&s->dir, table, sizeof table);
        code = rocks_error(s->path, NULL, text, e);
        return found ? err_set(e, code, "'%s/%s' is damaged: its end does not fit", s->path, table) : code;
    }
    if (dropped)
        say(s, LOG_WARN, "store: a power cut left a hole in what was not synced: what was written behind it is dropped");
    s->written = s->synced = rocksdb_get_latest_sequence_number(s->db);
    rocks_manifest_note(s);
    return E_OK;
}

static int open_all(struct store_rocks *s, const struct store_rocks_options *user, struct err *e)
{
    bool fresh;
    int code = rocks_dir_open(&s->dir, s->path, &fresh, e);
    if (code != E_OK)
        return code;
    rocks_options_make(&s->options, user, fresh);
    code = rocks_have_room(s, "opening", OPENING_BYTES, e);
    if (code == E_OK)
        code = open_database(s, fresh, e);
    return code == E_OK && s->dir.creating ? rocks_dir_made(&s->dir, e) : code;
}

static void keep_reserve(struct store_rocks *s, uint64_t bytes)
{
    if (bytes == UINT64_MAX)
        return;
    bytes = bytes != 0 ? bytes : RESERVE_DEFAULT;
    if (!rocks_dir_keep_reserve(&s->dir, bytes))
        say(s, LOG_WARN, "store: no reserve file, the disk is too full bytes=%" PRIu64, bytes);
}

int store_rocks_open(struct store **out, const struct store_rocks_options *options, struct err *e)
{
    uint64_t began = clock_mono_ms();
    struct store_rocks *s = rocks_new(options);
    int code = open_all(s, options, e);
    if (code == E_DISK_FULL && rocks_dir_spend_reserve(s->path)) {
        say(s, LOG_WARN, "store: no space to open with, the reserve file is given up");
        rocks_close(&s->base);
        s = rocks_new(options);
        code = open_all(s, options, e);
    }
    if (code != E_OK) {
        rocks_close(&s->base);
        return code;
    }
    keep_reserve(s, options->reserve_file_bytes);
    say(s, LOG_INFO, "store: open path=%s ms=%" PRIu64, s->path, clock_mono_ms() - began);
    *out = &s->base;
    return E_OK;
}
