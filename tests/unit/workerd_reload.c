/* What a new configuration may change, and when a file has changed. */
#include "unit.h"

#include <fcntl.h>

#include "base/macros.h"
#include "workerd/reload.h"

static char dir[] = "/tmp/sluice-unit-XXXXXX";
static char path[64], other[64];

static void write_to(const char *file, const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define TOP "broker: tcp://127.0.0.1:7400\nname: n\nmemory: 1MiB\nhttp: 127.0.0.1:1\n"
#define ONE "handlers:\n  - name: a\n    file: a.so\n    topic: t\n"

static void what_belongs_to_the_handler_may_change(void **state)
{
    (void)state;
    struct config was;
    write_to(path, TOP ONE);
    assert_int_equal(config_load(path, &was, NULL), 0);
    write_to(path, TOP "grace: 1s\nreload_on_change: on\n" ONE
                       "    group: a\n    processes: 7\n    pipeline: 3\n    timeout: 1s\n    breaker: off\n"
                       "    config: {x: 1}\n");
    struct config *is = reload_config(path, &was);
    assert_non_null(is);
    assert_int_equal(is->handlers[0].processes, 7);
    assert_string_equal(is->handlers[0].config, "{\"x\":1}");
    reload_free(is);
    config_free(&was);
}

static const char *const refused[] = {
    "name: n\nmemory: 1MiB\nhttp: 127.0.0.1:1\n" ONE,
    "broker: tcp://127.0.0.1:7401\nname: n\nmemory: 1MiB\nhttp: 127.0.0.1:1\n" ONE,
    "broker: tcp://127.0.0.1:7400\nname: m\nmemory: 1MiB\nhttp: 127.0.0.1:1\n" ONE,
    "broker: tcp://127.0.0.1:7400\nname: n\nmemory: 2MiB\nhttp: 127.0.0.1:1\n" ONE,
    "broker: tcp://127.0.0.1:7400\nname: n\nmemory: 1MiB\n" ONE,
    TOP "log_level: warn\n" ONE,
    TOP "handlers:\n  - name: b\n    group: a\n    file: a.so\n    topic: t\n",
    TOP "handlers:\n  - name: a\n    file: a.so\n    topic: u\n",
    TOP ONE "    group: g\n",
    TOP ONE "    lease: 31s\n",
    TOP ONE "  - name: b\n    file: b.so\n    topic: t\n",
    TOP ONE "    proceses: 2\n",
    TOP "handlers: [\n",
    "",
};

static void what_cannot_change_or_is_wrong_leaves_all_as_it_is(void **state)
{
    (void)state;
    struct config was;
    write_to(path, TOP ONE);
    assert_int_equal(config_load(path, &was, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        write_to(path, refused[i]);
        if (reload_config(path, &was) != NULL)
            fail_msg("taken: %s", refused[i]);
    }
    assert_null(reload_config("/nowhere.yaml", &was));
    config_free(&was);
}

static void a_file_has_changed_once_it_rests(void **state)
{
    (void)state;
    struct file_watch w;
    write_to(path, "one");
    file_watch_begin(&w, path);
    for (int i = 0; i < 3; i++)
        assert_false(file_watch_look(&w, path));
    write_to(path, "longer");
    assert_false(file_watch_look(&w, path)); /* perhaps it is still being written */
    write_to(path, "and longer");
    assert_false(file_watch_look(&w, path));
    assert_true(file_watch_look(&w, path));
    for (int i = 0; i < 3; i++)
        assert_false(file_watch_look(&w, path)); /* once */
}

static void a_file_that_is_replaced_has_changed_and_one_that_is_missing_has_not(void **state)
{
    (void)state;
    struct file_watch w;
    write_to(path, "one");
    file_watch_begin(&w, path);
    unlink(path);
    for (int i = 0; i < 3; i++)
        assert_false(file_watch_look(&w, path));
    write_to(path, "one");
    write_to(other, "two");
    assert_int_equal(rename(other, path), 0);
    assert_false(file_watch_look(&w, path));
    assert_true(file_watch_look(&w, path));
    unlink(path);
    file_watch_begin(&w, path); /* also one that was never there comes */
    write_to(path, "new");
    assert_false(file_watch_look(&w, path));
    assert_true(file_watch_look(&w, path));
}

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/workerd.yaml", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_belongs_to_the_handler_may_change),
        cmocka_unit_test(what_cannot_change_or_is_wrong_leaves_all_as_it_is),
        cmocka_unit_test(a_file_has_changed_once_it_rests),
        cmocka_unit_test(a_file_that_is_replaced_has_changed_and_one_that_is_missing_has_not),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
