/* Which file is damaged, where RocksDB does not say.
 *
 * It names the table whose block does not fit, but of a value in a blob file it says only "Blob CRC mismatch". An operator has to know
 * the file. This is for messages only: nothing is decided by it, and what it does not find stays unnamed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "store/keys.h"
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
enum { ROWS_TRIED_MAX = 16 };

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

/* The first row at or behind `from` in any blob file of the family, and whether a value of it is damaged. */
struct search {
    uint32_t family_id;
    struct buf from;
    struct buf key;
    bool found, damaged;
    char file[NAME_MAX + 1];   /* where `key` is, the damaged one if there are several */
    char before[NAME_MAX + 1]; /* a file whose last record in front of `from` is damaged: its key may have been behind it */
    char broken[NAME_MAX + 1]; /* a file that cannot be walked to its end */
};

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

static void search_file(struct search *s, int fd, const char *name)
{
    uint8_t head[BLOB_HEADER], foot[BLOB_FOOTER];
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < BLOB_HEADER + BLOB_FOOTER || !read_at(fd, head, sizeof head, 0) ||
        !read_at(fd, foot, sizeof foot, (uint64_t)st.st_size - BLOB_FOOTER) || !header_good(head) || !footer_good(foot)) {
        memcpy(s->broken, name, strlen(name) + 1);
        return;
    }
    if (get_u32(head + 8) != s->family_id)
        return;
    struct record *r = mem_alloc(sizeof *r), *last = mem_alloc(sizeof *last);
    bool passed = false;
    for (uint64_t at = BLOB_HEADER;; at += BLOB_RECORD + last->key_size + last->value_size) {
        r->at = at;
        enum walk w = read_record(fd, (uint64_t)st.st_size, r);
        if (w == WALK_BROKEN)
            memcpy(s->broken, name, strlen(name) + 1);
        if (w != WALK_RECORD)
            break;
        struct view key = view_of(r->key, (size_t)r->key_size);
        if (view_cmp(key, buf_view(&s->from)) < 0) {
            struct record *free_one = last;
            last = r;
            r = free_one;
            passed = true;
            continue;
        }
        int side = s->found ? view_cmp(key, buf_view(&s->key)) : -1;
        if (side < 0 || (side == 0 && !s->damaged)) {
            s->found = true;
            s->damaged = !record_good(fd, r);
            buf_clear(&s->key);
            buf_append(&s->key, key.data, key.size);
            memcpy(s->file, name, strlen(name) + 1);
        }
        break;
    }
    if (passed && s->before[0] == '\0' && !record_good(fd, last))
        memcpy(s->before, name, strlen(name) + 1);
    mem_free(r);
    mem_free(last);
}

static void search_directory(struct search *s, const struct rocks_dir *d)
{
    int dir_fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = dir_fd >= 0 ? fdopendir(dir_fd) : NULL;
    if (dir == NULL)
        return;
    for (struct dirent *x; (x = readdir(dir)) != NULL;) {
        size_t size = strlen(x->d_name);
        if (size < 5 || strcmp(x->d_name + size - 5, ".blob") != 0)
            continue;
        int fd = openat(dir_fd, x->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        search_file(s, fd, x->d_name);
        close(fd);
    }
    closedir(dir);
}

bool rocks_damaged_blob(const struct rocks_dir *d, uint32_t family_id, struct view key, char *name,
                        size_t size)
{
    struct search s = {.family_id = family_id};
    buf_append(&s.from, key.data, key.size);
    for (int i = 0; i < ROWS_TRIED_MAX; i++) {
        s.found = s.damaged = false;
        search_directory(&s, d);
        if (s.damaged || !s.found)
            break;
        buf_clear(&s.from);
        buf_append(&s.from, s.key.data, s.key.size);
        buf_put_u8(&s.from, 0); /* behind that one */
    }
    const char *file = s.damaged ? s.file : s.before[0] != '\0' ? s.before : s.broken;
    snprintf(name, size, "%s", file);
    buf_free(&s.from);
    buf_free(&s.key);
    return file[0] != '\0';
}
