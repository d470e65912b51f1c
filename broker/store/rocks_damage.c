/* Which file is damaged, where RocksDB does not say.
 *
 * It names the table whose block does not fit, but of a value in a blob file it says only "Blob CRC mismatch", and of a walk not even at
 * which row. An operator has to know the file. This is for messages only: nothing is decided by it, and what it does not find stays unnamed.
 *
 * A file's records are sorted by key. Where the bytes of a row's key are others, its record lies where it lay: in its file it is still the
 * first that is not in front of the row, or the last that is. So these two of each file are looked at, whatever their keys.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "store/rocks.h"

/* ---------------------------------------------------------------- blob files
 *
 *     header 30: magic u32, version u32, family u32, then what we use none of, zeros: expiry, compression
 *     record 32: key size u64, value size u64, expiry u64, sum of these u32, sum of key and value u32; then key, value
 *     footer 32: magic u32, ..., sum of all before u32
 *
 * Little endian; sums are CRC32C, masked. A file is written in one go, by a flush or a compaction, so its records are sorted.
 */
enum { BLOB_HEADER = 30, BLOB_RECORD = 32, BLOB_FOOTER = 32, BLOB_MAGIC = 0x00248f37, BLOB_VERSION = 1, BLOB_KEY_MAX = 4200 };
struct record {
    uint64_t at, key_size, value_size;
    uint32_t sum;
    uint8_t key[BLOB_KEY_MAX];
};

enum walk { WALK_RECORD, WALK_END, WALK_BROKEN };

static bool read_at(int fd, void *to, size_t size, uint64_t at)
{
    return pread(fd, to, size, (off_t)at) == (ssize_t)size;
}

/* The record at r->at. */
static enum walk read_record(int fd, uint64_t file_size, struct record *r)
{
    uint8_t head[BLOB_RECORD];
    if (file_size - r->at < BLOB_RECORD || !read_at(fd, head, sizeof head, r->at))
        return WALK_BROKEN; /* no footer */
    if (file_size - r->at == BLOB_FOOTER && get_u32(head) == BLOB_MAGIC)
        return WALK_END;
    r->key_size = get_u64(head);
    r->value_size = get_u64(head + 8);
    r->sum = get_u32(head + 28);
    if (rocks_crc_masked(rocks_crc32c(0, head, 24)) != get_u32(head + 24))
        return WALK_BROKEN;
    uint64_t left = file_size - r->at - BLOB_RECORD;
    if (r->key_size > left || r->value_size > left - r->key_size || r->key_size > sizeof r->key)
        return WALK_BROKEN;
    return read_at(fd, r->key, (size_t)r->key_size, r->at + BLOB_RECORD) ? WALK_RECORD : WALK_BROKEN;
}

static bool record_good(int fd, const struct record *r)
{
    uint8_t part[16 << 10];
    uint32_t crc = rocks_crc32c(0, r->key, (size_t)r->key_size);
    uint64_t at = r->at + BLOB_RECORD + r->key_size;
    for (uint64_t left = r->value_size; left > 0;) {
        size_t n = left < sizeof part ? (size_t)left : sizeof part;
        if (!read_at(fd, part, n, at))
            return false;
        crc = rocks_crc32c(crc, part, n);
        at += n;
        left -= n;
    }
    return rocks_crc_masked(crc) == r->sum;
}

/* For the file of a row. */
struct search {
    uint32_t family_id;
    bool other_family;         /* the file says that it is another's */
    struct view row;
    char file[NAME_MAX + 1];   /* "": not found */
    char broken[NAME_MAX + 1]; /* else a file that cannot be walked to the row; or it is just being written, and has no footer yet */
};

enum verdict { FILE_GOOD, FILE_BAD, FILE_BROKEN };

static bool header_good(const uint8_t head[BLOB_HEADER])
{
    for (size_t i = 12; i < BLOB_HEADER; i++)
        if (head[i] != 0)
            return false;
    return get_u32(head) == BLOB_MAGIC && get_u32(head + 4) == BLOB_VERSION;
}

static bool footer_good(const uint8_t foot[BLOB_FOOTER])
{
    return get_u32(foot) == BLOB_MAGIC && rocks_crc_masked(rocks_crc32c(0, foot, BLOB_FOOTER - 4)) == get_u32(foot + BLOB_FOOTER - 4);
}

static bool ends_good(int fd, uint64_t *size, uint32_t *family_id)
{
    uint8_t head[BLOB_HEADER], foot[BLOB_FOOTER];
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < BLOB_HEADER + BLOB_FOOTER || !read_at(fd, head, sizeof head, 0) ||
        !read_at(fd, foot, sizeof foot, (uint64_t)st.st_size - BLOB_FOOTER))
        return false;
    *size = (uint64_t)st.st_size;
    *family_id = get_u32(head + 8);
    return header_good(head) && footer_good(foot);
}

static enum verdict bad_if(bool bad) { return bad ? FILE_BAD : FILE_GOOD; }

/* Of the record of the row, if it is in this file: `r` and `before` are room. */
static enum verdict judge_records(const struct search *s, int fd, uint64_t size, struct record *r, struct record *before)
{
    bool passed = false;
    for (uint64_t at = BLOB_HEADER;; at += BLOB_RECORD + before->key_size + before->value_size) {
        r->at = at;
        enum walk w = read_record(fd, size, r);
        if (w == WALK_BROKEN)
            return FILE_BROKEN;
        int side = w == WALK_END ? 1 : view_cmp(view_of(r->key, (size_t)r->key_size), s->row);
        if (side >= 0 && s->other_family)
            return bad_if(w == WALK_RECORD && side == 0);
        if (side >= 0)
            return bad_if((w == WALK_RECORD && !record_good(fd, r)) || (passed && !record_good(fd, before)));
        struct record *free_one = before;
        before = r;
        r = free_one;
        passed = true;
    }
}

static enum verdict judge_file(const struct search *s, int fd)
{
    uint64_t size;
    uint32_t family_id;
    if (!ends_good(fd, &size, &family_id))
        return FILE_BROKEN;
    if ((family_id != s->family_id) != s->other_family)
        return FILE_GOOD;
    struct record *room = mem_array(2, sizeof *room);
    enum verdict v = judge_records(s, fd, size, &room[0], &room[1]);
    mem_free(room);
    return v;
}

static void search_directory(struct search *s, const struct rocks_dir *d)
{
    int dir_fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = dir_fd >= 0 ? fdopendir(dir_fd) : NULL;
    if (dir == NULL)
        return;
    for (struct dirent *x; s->file[0] == '\0' && (x = readdir(dir)) != NULL;) {
        size_t size = strlen(x->d_name);
        if (size < 5 || strcmp(x->d_name + size - 5, ".blob") != 0)
            continue;
        int fd = openat(dir_fd, x->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        enum verdict v = judge_file(s, fd);
        if (v != FILE_GOOD)
            memcpy(v == FILE_BAD ? s->file : s->broken, x->d_name, size + 1);
        close(fd);
    }
    closedir(dir);
}

bool rocks_damaged_blob(const struct rocks_dir *d, uint32_t family_id, struct view row, const char *text, char *name, size_t size)
{
    struct search s = {.family_id = family_id, .row = row, .other_family = strstr(text, "Column family ID mismatch") != NULL};
    search_directory(&s, d);
    snprintf(name, size, "%s", s.file[0] != '\0' ? s.file : s.broken);
    return name[0] != '\0';
}

/* ---------------------------------------------------------------- at which row a walk met it */

static bool read_from_fails(struct store_rocks *s, enum store_family f, const uint8_t *key, size_t size)
{
    char *text = NULL;
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(s->db, s->read, s->family[f]);
    rocksdb_iter_seek(it, (const char *)key, size);
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    bool fails = text != NULL;
    rocksdb_free(text);
    return fails;
}

/* RocksDB has no key for a row that it cannot read. But reading from anywhere up to it fails, and from behind it does not: so it is found
 * byte by byte. */
void rocks_damaged_row(struct store_rocks *s, enum store_family f, struct view from, struct key *row)
{
    row->size = 0;
    while (row->size < sizeof row->bytes) {
        uint8_t *byte = &row->bytes[row->size];
        int known = -1, unknown = 256; /* of bytes here: reading fails from the one, not from the other */
        while (unknown - known > 1) {
            int middle = (known + unknown) / 2;
            *byte = (uint8_t)middle;
            struct view key = view_of(row->bytes, row->size + 1u);
            if (view_cmp(key, from) <= 0 || read_from_fails(s, f, key.data, key.size))
                known = middle;
            else
                unknown = middle;
        }
        if (known < 0)
            return;
        *byte = (uint8_t)known;
        row->size++;
    }
}
