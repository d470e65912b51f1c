/* Which table does not open. RocksDB says what is wrong with it, and names the manifest that lists it. For messages only.
 *
 * What is read when a table is opened stands behind its rows:
 *
 *     blocks: data, kind u8, sum u32      the index, the filter, properties; and one that lists them by name, but for the index
 *     footer 53: kind of sums u8, place of the list, place of the index, zeros up to 41, version u32, magic u64
 *
 * A place is varint offset, varint size. An entry of the list: varint bytes of the key shared with the one before, varint others, varint
 * size of the value, those others, the value: a place. Behind the entries u32s, the last of which says how many there are before it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/mem.h"
#include "store/rocks.h"

enum { FOOTER = 53, TRAILER = 5, SUM_XXH3 = 4, VERSION_KNOWN = 5, VERSION_NEWEST = 6, BLOCK_MAX = 64 << 20 };
static const uint64_t table_magic = UINT64_C(0x88e241b785f4cff7);

struct place { uint64_t at, size; };

static struct place read_place(struct cur *c)
{
    struct place p = {.at = cur_varint(c)};
    p.size = cur_varint(c);
    return p;
}

/* Its bytes, freed by the caller; NULL: it is not as it was written. */
static uint8_t *read_block(int fd, uint64_t file_size, struct place p)
{
    if (p.size > BLOCK_MAX || p.at > file_size || p.size + TRAILER > file_size - p.at)
        return NULL;
    uint8_t *data = mem_try((size_t)p.size + TRAILER);
    if (data == NULL || pread(fd, data, (size_t)p.size + TRAILER, (off_t)p.at) != (ssize_t)(p.size + TRAILER)) {
        mem_free(data);
        return NULL;
    }
    uint32_t sum = (uint32_t)XXH3_64bits(data, (size_t)p.size) ^ data[p.size] * UINT32_C(0x6b9083d9);
    if (sum == get_u32(data + p.size + 1))
        return data;
    mem_free(data);
    return NULL;
}

static bool block_good(int fd, uint64_t file_size, struct place p)
{
    uint8_t *data = read_block(fd, file_size, p);
    mem_free(data);
    return data != NULL;
}

static bool listed_good(int fd, uint64_t file_size, const uint8_t *list, size_t size)
{
    if (size < 4 || (get_u32(list + size - 4) & INT32_MAX) > size / 4 - 1)
        return false;
    size -= 4 + 4 * (size_t)(get_u32(list + size - 4) & INT32_MAX);
    for (struct cur c = cur_of(view_of(list, size)); cur_left(&c) > 0;) {
        cur_varint(&c);
        uint64_t key = cur_varint(&c), value = cur_varint(&c);
        cur_take(&c, (size_t)key);
        struct cur v = cur_of(cur_take(&c, (size_t)value));
        struct place p = read_place(&v);
        if (c.bad || v.bad || !block_good(fd, file_size, p))
            return false;
    }
    return true;
}

static bool table_good(int fd)
{
    uint8_t foot[FOOTER];
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < FOOTER || pread(fd, foot, FOOTER, st.st_size - FOOTER) != FOOTER)
        return false;
    uint32_t version = get_u32(foot + 41);
    if (get_u64(foot + 45) != table_magic || version > VERSION_NEWEST)
        return false;
    if (version != VERSION_KNOWN)
        return true;
    if (foot[0] != SUM_XXH3)
        return false;
    struct cur c = cur_of(view_of(foot + 1, 40));
    struct place list = read_place(&c), index = read_place(&c);
    uint64_t size = (uint64_t)st.st_size;
    uint8_t *data = c.bad ? NULL : read_block(fd, size, list);
    bool good = data != NULL && listed_good(fd, size, data, (size_t)list.size) && block_good(fd, size, index);
    mem_free(data);
    return good;
}

bool rocks_damaged_table(const struct rocks_dir *d, char *name, size_t size)
{
    int dir_fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = dir_fd >= 0 ? fdopendir(dir_fd) : NULL;
    bool found = false;
    if (dir == NULL)
        return false;
    for (struct dirent *x; !found && (x = readdir(dir)) != NULL;) {
        size_t n = strlen(x->d_name);
        if (n < 5 || n >= size || strcmp(x->d_name + n - 4, ".sst") != 0)
            continue;
        int fd = openat(dir_fd, x->d_name, O_RDONLY | O_CLOEXEC);
        found = fd >= 0 && !table_good(fd);
        if (found)
            memcpy(name, x->d_name, n + 1);
        if (fd >= 0)
            close(fd);
    }
    closedir(dir);
    return found;
}
