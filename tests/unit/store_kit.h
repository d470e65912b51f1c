/* What the tests of the store share: a directory that goes away, short ways to say keys, and damage. */
#ifndef TESTS_STORE_KIT_H
#define TESTS_STORE_KIT_H

#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "schemas/errors.h"
#include "store/puts.h"
#include "store/store.h"

/* For calls that are to succeed: assert_ok(store_sync(store, &err)). */
static struct err err;

#define assert_ok(call)                                                    \
    do {                                                                   \
        err_clear(&err);                                                   \
        if ((call) != E_OK)                                                \
            fail_msg("%s: %s: %s", #call, error_name(err.code), err.text); \
    } while (0)

#define assert_code(code_, e_)                                                                        \
    do {                                                                                              \
        if ((e_).code != (code_))                                                                     \
            fail_msg("expected %s, got %s: %s", error_name(code_), error_name((e_).code), (e_).text); \
    } while (0)

static inline char *kit_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    static char path[256];
    snprintf(path, sizeof path, "%s/sluice-store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

static inline int kit_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void kit_remove(char *path)
{
    nftw(path, kit_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

/* Joins; lent until the fourth call from now. */
static inline const char *kit_path(const char *dir, const char *file)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    assert_in_range(snprintf(path, sizeof paths[0], "%s/%s", dir, file), 0, sizeof paths[0] - 1);
    return path;
}

/* The largest file of the directory whose name begins and ends so; false if there is none. */
static inline bool kit_find(const char *dir, const char *begin, const char *end, char name[256])
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    off_t largest = -1;
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        size_t size = strlen(x->d_name);
        struct stat st;
        if (strncmp(x->d_name, begin, strlen(begin)) != 0 || size < strlen(end) ||
            strcmp(x->d_name + size - strlen(end), end) != 0 || stat(kit_path(dir, x->d_name), &st) != 0 ||
            st.st_size <= largest)
            continue;
        largest = st.st_size;
        snprintf(name, 256, "%s", x->d_name);
    }
    closedir(d);
    return largest >= 0;
}

/* The whole file, with a zero behind it; freed by the caller. */
static inline char *kit_read(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char *data = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    return data;
}

static inline void kit_flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static inline struct view kit_str(const char *text)
{
    return view_of_str(text);
}

/* Writes a list of one row. */
static inline int kit_put(struct store *s, enum store_family f, const char *key, const char *value,
                          struct err *e)
{
    struct puts l;
    puts_init(&l);
    puts_row(&l, f, kit_str(key), kit_str(value));
    int code = store_write(s, &l, e);
    puts_free(&l);
    return code;
}

/* The row is `value`, or not there if that is NULL. */
static inline void kit_is(struct store *s, enum store_family f, const char *key, const char *value)
{
    struct buf out = {0};
    bool found;
    assert_ok(store_get(s, f, kit_str(key), &out, &found, &err));
    if (found != (value != NULL))
        fail_msg("%s: %s", key, found ? "is there" : "is not there");
    if (value != NULL)
        assert_string_equal(buf_str(&out), value);
    buf_free(&out);
}

/* What a walk from `from` sees, as "a=1 b=2". */
static inline void kit_walk(struct store_iter *it, const char *from, struct buf *out)
{
    buf_clear(out);
    for (store_iter_seek(it, kit_str(from)); store_iter_valid(it); store_iter_next(it)) {
        struct view key = store_iter_key(it), value = store_iter_value(it);
        buf_putf(out, "%s%.*s=%.*s", out->size != 0 ? " " : "", (int)key.size, (const char *)key.data,
                 (int)value.size, (const char *)value.data);
    }
    assert_ok(store_iter_status(it, &err));
}

static inline void kit_sees(struct store *s, enum store_family f, const char *from, const char *rows)
{
    struct store_iter *it = store_iter(s, f);
    struct buf out = {0};
    kit_walk(it, from, &out);
    assert_string_equal(buf_str(&out), rows);
    buf_free(&out);
    store_iter_close(it);
}

#endif
