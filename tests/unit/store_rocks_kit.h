/* What the tests of the store on RocksDB share: a store in a directory of its own, on a disk that may fail, large values, and its options. */
#ifndef TESTS_STORE_ROCKS_KIT_H
#define TESTS_STORE_ROCKS_KIT_H

#include "store_kit.h"

#include <errno.h>

#include "base/macros.h"
#include "store/keys.h"
#include "store/rocks.h"
#include "store_disk.h"

/* ---------------------------------------------------------------- a store in a directory of its own */

static char *dir;
static struct store *store;

static inline int open_store(struct err *e)
{
    struct store_rocks_options o = {.path = dir, .memory_bytes = 16 << 20, .reserve_file_bytes = UINT64_MAX};
    return store_rocks_open(&store, &o, e);
}

static inline int setup(void **state)
{
    (void)state;
    dir = kit_dir();
    assert_ok(open_store(&err));
    return 0;
}

static inline void shut(void)
{
    store_close(store);
    store = NULL;
}

static inline int teardown(void **state)
{
    (void)state;
    disk_mended();
    shut();
    kit_remove(dir);
    return 0;
}

static inline void assert_refused(int code, const char *text)
{
    struct err e = {0};
    store = NULL;
    open_store(&e);
    assert_code(code, e);
    assert_has(e.text, text);
}

/* Rows large enough for blob files. */
static inline const char *large(char with)
{
    static char text[2001];
    memset(text, with, sizeof text - 1);
    return text;
}

static inline void put_log(int offset, char with)
{
    struct key k = key_log(7, (uint64_t)offset);
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_LOG_DAYS, key_view(&k), kit_str(large(with)));
    assert_ok(store_write(store, &l, &err));
    puts_free(&l);
}

/* The whole text is in one place of the file. */
static inline off_t place_of(const char *path, const char *text)
{
    size_t size;
    char *data = kit_read(path, &size);
    char *at = memmem(data, size, text, strlen(text));
    assert_non_null(at);
    off_t place = at - data;
    free(data);
    return place;
}

/* ---------------------------------------------------------------- options: accepted, and in effect */

static inline char *options_file(void)
{
    char name[256], best[256] = "";
    DIR *d = opendir(dir);
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        if (strncmp(x->d_name, "OPTIONS-", 8) == 0 && strcmp(x->d_name, best) > 0)
            snprintf(best, sizeof best, "%s", x->d_name);
    }
    closedir(d);
    snprintf(name, sizeof name, "%s", best);
    size_t size;
    return kit_read(kit_path(dir, name), &size);
}

/* The value of an option in a section that begins with `section`. */
static inline void assert_option(const char *file, const char *section, const char *name, const char *expected)
{
    const char *at = strstr(file, section);
    assert_non_null(at);
    const char *end = strstr(at + 1, "\n[");
    char line[128];
    snprintf(line, sizeof line, "\n  %s=", name);
    const char *found = strstr(at, line);
    if (found == NULL || (end != NULL && found > end))
        fail_msg("%s has no %s", section, name);
    found += strlen(line);
    size_t size = strcspn(found, "\n");
    if (size != strlen(expected) || strncmp(found, expected, size) != 0)
        fail_msg("%s %s is %.*s", section, name, (int)size, found);
}

#endif
