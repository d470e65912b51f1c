#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/files.h"

static char root[64];

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/sluice-files-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    return files_remove(root, NULL);
}

static const char *at(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

static void lay(const char *name, size_t size)
{
    int fd = open(at(name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

static void a_directory_goes_with_all_that_is_in_it_and_nothing_beside_it(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("a"), 0700), 0);
    assert_int_equal(mkdir(at("a/b"), 0700), 0);
    assert_int_equal(mkdir(at("c"), 0700), 0);
    lay("a/1", 1);
    lay("a/b/2", 2);
    lay("c/kept", 3);
    assert_int_equal(symlink(at("c"), at("a/b/link")), 0); /* goes; where it leads to stays */
    struct err e = {0};
    assert_int_equal(files_remove(at("a"), &e), 0);
    assert_int_equal(access(at("a"), F_OK), -1);
    assert_int_equal(access(at("c/kept"), F_OK), 0);
    assert_int_equal(files_remove(at("a"), &e), 0); /* as it is */
    assert_int_equal(files_remove(at("c/kept"), &e), 0);
    assert_int_equal(access(at("c/kept"), F_OK), -1);
}

static void what_cannot_be_removed_is_named(void **state)
{
    (void)state;
    struct err e = {0};
    int number = files_remove("/proc/self/status", &e);
    assert_int_not_equal(number, 0);
    assert_int_equal(e.code, number);
    assert_has(e.text, "/proc/self/status");
}

static void files_are_counted_with_their_bytes_wherever_they_lie(void **state)
{
    (void)state;
    uint64_t bytes, files;
    assert_int_equal(mkdir(at("a"), 0700), 0);
    lay("a/1", 1000);
    lay("2", 20);
    assert_int_equal(link(at("2"), at("a/3")), 0);
    assert_int_equal(symlink(at("a"), at("link")), 0);
    files_count(root, &bytes, &files);
    assert_int_equal(bytes, 1040);
    assert_int_equal(files, 3);
    files_count(at("none"), &bytes, &files);
    assert_int_equal(bytes + files, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_directory_goes_with_all_that_is_in_it_and_nothing_beside_it, begin, end),
        cmocka_unit_test_setup_teardown(what_cannot_be_removed_is_named, begin, end),
        cmocka_unit_test_setup_teardown(files_are_counted_with_their_bytes_wherever_they_lie, begin, end),
    };
    return cmocka_run_group_tests_name("base-files", tests, NULL, NULL);
}
