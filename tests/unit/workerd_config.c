#include "unit.h"

#include <fcntl.h>

#include "base/macros.h"
#include "schemas/errors.h"
#include "workerd/config.h"

static char dir[] = "/tmp/sluice-unit-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/workerd.yaml", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void everything_that_is_said_is_taken(void **state)
{
    (void)state;
    write_file("broker: tcp://10.0.0.1:7400\n"
               "name: photos-1\n"
               "http: 127.0.0.1:7490\n"
               "log_level: debug\n"
               "reload_on_change: on\n"
               "grace: 5s\n"
               "memory: 1GiB\n"
               "handlers:\n"
               "  - name: thumbnail\n"
               "    file: /opt/thumbnail.so\n"
               "    topic: photos\n"
               "    group: small\n"
               "    processes: 3\n"
               "    pipeline: 16\n"
               "    timeout: 250ms\n"
               "    lease: 1m\n"
               "    breaker: off\n"
               "    breaker_window: 50\n"
               "    breaker_percent: 60\n"
               "    breaker_pause: 2s\n"
               "    breaker_pause_max: 10m\n"
               "    canary: 10\n"
               "    canary_time: 5m\n"
               "    memory: 64MiB\n"
               "    cpu_time: 5s\n"
               "    open_files: 100\n"
               "    file_size: 1GiB\n"
               "    processes_limit: 10\n"
               "    seccomp: strict\n"
               "    batch_max: 500\n"
               "    batch_bytes: 64KiB\n"
               "    batch_window: 20ms\n"
               "    config:\n"
               "      box: 320x240\n"
               "      quality: 85\n"
               "      ratio: 0.5\n"
               "      strict: true\n"
               "      none:\n"
               "      quoted: '85'\n"
               "      list: [1, two, {three: 3}]\n");
    struct config c;
    struct err e;
    assert_int_equal(config_load(path, &c, &e), 0);
    assert_string_equal(c.broker, "tcp://10.0.0.1:7400");
    assert_string_equal(c.name, "photos-1");
    assert_string_equal(c.http, "127.0.0.1:7490");
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_int_equal(c.grace_ms, 5000);
    assert_int_equal(c.memory_bytes_max, 1 << 30);
    assert_int_equal(c.handlers_n, 1);
    const struct handler_config *h = &c.handlers[0];
    assert_string_equal(h->name, "thumbnail");
    assert_string_equal(h->file, "/opt/thumbnail.so");
    assert_string_equal(h->topic, "photos");
    assert_string_equal(h->group, "small");
    assert_int_equal(h->processes, 3);
    assert_int_equal(h->pipeline, 16);
    assert_int_equal(h->timeout_ms, 250);
    assert_int_equal(h->lease_ms, 60000);
    assert_false(h->breaker.on);
    assert_int_equal(h->breaker.window, 50);
    assert_int_equal(h->breaker.percent, 60);
    assert_int_equal(h->breaker.pause_ms, 2000);
    assert_int_equal(h->breaker.pause_ms_max, 600000);
    assert_int_equal(h->canary_percent, 10);
    assert_int_equal(h->canary_ms, 300000);
    assert_true(c.reload_on_change);
    assert_int_equal(h->jail.memory_bytes, 64 << 20);
    assert_int_equal(h->jail.cpu_ms, 5000);
    assert_int_equal(h->jail.open_files, 100);
    assert_int_equal(h->jail.file_bytes, 1 << 30);
    assert_int_equal(h->jail.tasks, 10);
    assert_int_equal(h->jail.profile, JAIL_STRICT);
    assert_int_equal(h->batch.max, 500);
    assert_int_equal(h->batch.bytes, 64 << 10);
    assert_int_equal(h->batch.window_ms, 20);
    assert_string_equal(h->config,
                        "{\"box\":\"320x240\",\"quality\":85,\"ratio\":0.5,\"strict\":true,\"none\":null,"
                        "\"quoted\":\"85\",\"list\":[1,\"two\",{\"three\":3}]}");
    config_free(&c);
}

static void what_is_not_said_has_a_default(void **state)
{
    (void)state;
    write_file("handlers: [{name: a, file: a.so, topic: t}, {name: b, file: ./b.so, topic: t}]\n");
    struct config c;
    char file[80];
    assert_int_equal(config_load(path, &c, NULL), 0);
    assert_null(c.broker);
    assert_null(c.name);
    assert_null(c.http);
    assert_int_equal(c.log_level, LOG_INFO);
    assert_int_equal(c.grace_ms, 20000);
    assert_int_equal(c.memory_bytes_max, 256 << 20);
    assert_int_equal(c.handlers_n, 2);
    const struct handler_config *h = &c.handlers[0];
    snprintf(file, sizeof file, "%s/a.so", dir); /* relative to the file, not to where we stand */
    assert_string_equal(h->file, file);
    assert_string_equal(h->group, "a");
    assert_int_equal(h->processes, 1);
    assert_int_equal(h->processes_min, 0);
    assert_int_equal(h->processes_max, 0);
    assert_int_equal(h->target_drain_ms, 30000);
    assert_int_equal(h->scale_down_after_ms, 30000);
    assert_int_equal(h->threads, 1);
    assert_int_equal(h->pipeline, 8);
    assert_int_equal(h->timeout_ms, 30000);
    assert_int_equal(h->lease_ms, 30000);
    assert_true(h->breaker.on);
    assert_int_equal(h->breaker.window, 20);
    assert_int_equal(h->breaker.percent, 80);
    assert_int_equal(h->breaker.pause_ms, 5000);
    assert_int_equal(h->breaker.pause_ms_max, 60000);
    assert_int_equal(h->canary_percent, 0);
    assert_int_equal(h->canary_ms, 60000);
    assert_false(c.reload_on_change);
    assert_true(h->jail.memory_bytes == UINT64_C(2) << 30);
    assert_int_equal(h->jail.cpu_ms, 0);
    assert_int_equal(h->jail.open_files, 1024);
    assert_int_equal(h->jail.file_bytes, 0);
    assert_int_equal(h->jail.tasks, 512);
    assert_null(h->jail.user);
    assert_int_equal(h->jail.profile, JAIL_DEFAULT);
    assert_int_equal(h->batch.max, 100);
    assert_int_equal(h->batch.bytes, 1 << 20);
    assert_int_equal(h->batch.window_ms, 0);
    assert_string_equal(h->config, "{}");
    config_free(&c);
}

static void a_process_may_have_threads(void **state)
{
    (void)state;
    struct config c;
    write_file("handlers: [{name: a, file: a.so, topic: t, threads: 64, processes_limit: 65}]\n");
    assert_int_equal(config_load(path, &c, NULL), 0);
    assert_int_equal(c.handlers[0].threads, 64);
    config_free(&c);
}

static void processes_are_a_number_or_a_range(void **state)
{
    (void)state;
    struct config c;
    write_file("handlers:\n"
               "  - {name: a, file: a.so, topic: t, processes_min: 0, processes_max: 16, target_drain: 5s, "
               "scale_down_after: 2m}\n"
               "  - {name: b, file: b.so, topic: t, processes_max: 3}\n");
    assert_int_equal(config_load(path, &c, NULL), 0);
    assert_int_equal(c.handlers[0].processes_min, 0);
    assert_int_equal(c.handlers[0].processes_max, 16);
    assert_int_equal(c.handlers[0].target_drain_ms, 5000);
    assert_int_equal(c.handlers[0].scale_down_after_ms, 120000);
    assert_int_equal(c.handlers[1].processes_min, 1);
    assert_int_equal(c.handlers[1].processes_max, 3);
    config_free(&c);
}

static void a_command_is_words(void **state)
{
    (void)state;
    write_file("handlers:\n"
               "  - {name: a, exec: 'python3 thumb.py', topic: t}\n"
               "  - {name: b, exec: [sleep, 5, ' a b '], topic: t}\n");
    struct config c;
    static const char line[] = "/bin/sh\0-c\0python3 thumb.py", list[] = "sleep\0" "5\0 a b ";
    assert_int_equal(config_load(path, &c, NULL), 0);
    assert_null(c.handlers[0].file);
    assert_int_equal(c.handlers[0].exec_size, sizeof line);
    assert_memory_equal(c.handlers[0].exec, line, sizeof line);
    assert_string_equal(c.handlers[0].dir, dir); /* where it will run */
    assert_int_equal(c.handlers[1].exec_size, sizeof list);
    assert_memory_equal(c.handlers[1].exec, list, sizeof list);
    config_free(&c);
}

/* A good file of which one line is made bad. */
#define GOOD "handlers:\n  - name: a\n    file: a.so\n    topic: t\n"

static const struct {
    const char *text, *error; /* error: behind "PATH" */
} refused[] = {
    {"", ": empty"},
    {"grace: 5s\n", ":1: key 'handlers' is missing"},
    {"handlers: []\n", ":1: handlers: there are 0; 1 to 256 can be"},
    {"handlers: a.so\n", ":1: handlers must be a list"},
    {"handlers: [a.so]\n", ":1: handlers must be keys with values"},
    {"- a\n", ":1: the file must be keys with values"},
    {GOOD "grace: 5s\ngrace: 6s\n", ":6: key 'grace' is given twice"},
    {GOOD "gracee: 5s\n", ":5: unknown key 'gracee'; did you mean 'grace'?"},
    {GOOD "colour: red\n", ":5: unknown key 'colour'"},
    {GOOD "    time_out: 5s\n", ":5: unknown key 'time_out'; did you mean 'timeout'?"},
    {GOOD "    config: [1]\n", ":5: config: must be keys with values"},
    {GOOD "    config: {a: 1, a: 2}\n", ":5: key 'a' is given twice"},
    {GOOD "    processes: 0\n", ":5: processes: "},
    {GOOD "    processes: many\n", ":5: processes: "},
    {GOOD "    processes_max: 0\n", ":5: processes_max: "},
    {GOOD "    processes_min: 1\n", ":5: processes_min: 'processes_max' is needed too"},
    {GOOD "    processes_min: 3\n    processes_max: 2\n", ":6: processes_max: less than processes_min, which is 3"},
    {GOOD "    processes: 3\n    processes_max: 3\n",
     ":6: processes_max: there is 'processes' already, which is a fixed number"},
    {GOOD "    target_drain: 1ms\n", ":5: target_drain: '1ms' is not between 100ms and "},
    {GOOD "    pipeline: 257\n", ":5: pipeline: "},
    {GOOD "    batch_max: 0\n", ":5: batch_max: "},
    {GOOD "    batch_window: 2m\n", ":5: batch_window: '2m' is not between 0ms and 1m"},
    {GOOD "    timeout: 5\n", ":5: timeout: '5' has no unit"},
    {GOOD "    timeout: 1ms\n", ":5: timeout: '1ms' is not between 10ms and 12h"},
    {GOOD "    lease: 500ms\n", ":5: lease: '500ms' is not between 1s and 12h"},
    {GOOD "    proceses: 2\n", ":5: unknown key 'proceses'; did you mean 'processes'?"},
    {GOOD "    braker: off\n", ":5: unknown key 'braker'; did you mean 'breaker'?"},
    {GOOD "    breaker: maybe\n", ":5: breaker: 'maybe' is neither on nor off"},
    {GOOD "    breaker_window: 1\n", ":5: breaker_window: "},
    {GOOD "    breaker_percent: 101\n", ":5: breaker_percent: "},
    {GOOD "    breaker_pause: 2m\n", ":2: breaker_pause_max: shorter than breaker_pause"},
    {GOOD "    seccomp: none\n", ":5: seccomp: 'none' is no profile: strict, default or off"},
    {GOOD "    threads: 65\n", ":5: threads: "},
    {GOOD "  - name: b\n    topic: t\n    exec: a\n    threads: 2\n",
     ":8: threads: a command has a process for each message; 'processes' says how many run at once"},
    {GOOD "    threads: 2\n    cpu_time: 5s\n",
     ":5: threads: with 'cpu_time' a process works on one message at a time, as its threads cannot be told apart; use 'processes'"},
    {GOOD "    threads: 8\n    processes_limit: 8\n",
     ":6: processes_limit: a process with 8 threads for its messages has 9"},
    {GOOD "  - name: b\n    topic: t\n    exec: a\n    seccomp: strict\n",
     ":8: seccomp: under 'strict' no program can be started, and 'exec' is one"},
    {GOOD "    cpu_time: 10ms\n", ":5: cpu_time: '10ms' is not between 1s and 12h"},
    {GOOD "    user: no-such-user\n", ":5: user: 'no-such-user': "},
    {GOOD "    timeout: [5s]\n", ":5: timeout must be one value"},
    {GOOD "  - name: b\n    file: b.so\n", ":5: key 'topic' is missing"},
    {GOOD "    exec: a\n", ":5: exec: one of 'file' and 'exec' is needed, and not both"},
    {GOOD "  - name: b\n    topic: t\n", ":5: one of 'file' and 'exec' is needed, and not both"},
    {GOOD "  - name: b\n    topic: t\n    exec: []\n", ":7: exec: a value is needed"},
    {GOOD "  - name: b\n    topic: t\n    exec: ''\n", ":7: exec: a value is needed"},
    {GOOD "  - name: b\n    topic: t\n    exec: {a: b}\n", ":7: exec: must be a line for the shell or a list of words"},
    {GOOD "  - name: b\n    topic: t\n    exec: [sleep, 0.5]\n", ":7: exec: must be a line for the shell or a list of words"},
    {GOOD "  - name: a\n    file: b.so\n    topic: t\n", ":5: name: there is a handler 'a' already"},
    {GOOD "  - name: b\n    file: ''\n    topic: t\n", ":6: file: a value is needed"},
    {GOOD "  - name: 'b c'\n    file: b.so\n    topic: t\n", ":5: name: "},
    {GOOD "log_level: loud\n", ":5: log_level: loud is not a log level"},
    {GOOD "memory: 1kB\n", ":5: memory: '1kB' is not between 1MiB and 1TiB"},
    {GOOD "broker: &b tcp://a\nname: *b\n", ":6: aliases are not supported"},
    {GOOD "---\na: 1\n", ":5: a second document"},
    {GOOD "  bad: [\n", ":"},
    {GOOD "name: \xff\n", ":"},
};

static void what_is_wrong_is_refused_with_its_place_and_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct config c;
        struct err e;
        char expected[256];
        write_file(refused[i].text);
        assert_int_equal(config_load(path, &c, &e), E_CONFIG);
        assert_int_equal(e.code, E_CONFIG);
        snprintf(expected, sizeof expected, "%s%s", path, refused[i].error);
        if (strncmp(e.text, expected, strlen(expected)) != 0)
            fail_msg("'%s' does not begin with '%s'", e.text, expected);
        assert_null(c.handlers);
    }
}

static void all_that_is_wrong_is_said_at_once(void **state)
{
    (void)state;
    struct config c;
    struct err first;
    struct buf errors = {0};
    char expected[1024];
    write_file("grase: 5s\nhandlers:\n  - name: a\n    file: a.so\n    proceses: 2\n");
    assert_int_equal(config_load_all(path, &c, &errors, &first), E_CONFIG);
    snprintf(expected, sizeof expected,
             "%s:1: unknown key 'grase'; did you mean 'grace'?\n"
             "%s:5: unknown key 'proceses'; did you mean 'processes'?\n"
             "%s:3: key 'topic' is missing\n",
             path, path, path);
    assert_string_equal(buf_str(&errors), expected);
    assert_int_equal(strncmp(first.text, expected, strlen(first.text)), 0);
    assert_int_equal(expected[strlen(first.text)], '\n');
    buf_clear(&errors);

    write_file(GOOD "    pipeline: 0\n    lease: 1\n  - name: a\n    file: b.so\n    topic: t\n    config: 7\n"
                    "grace: 2h\nhttp: here\n");
    assert_int_equal(config_load_all(path, &c, &errors, NULL), E_CONFIG);
    static const char *const parts[] = {":5: pipeline: ", ":6: lease: '1' has no unit", ":7: name: there is a handler 'a' already",
                                        ":10: config: must be keys with values", ":11: grace: ",
                                        ":12: http: 'here' is not an HTTP address"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        assert_has(buf_str(&errors), parts[i]);
    buf_free(&errors);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    assert_int_equal(config_load("/nowhere/workerd.yaml", &c, &e), E_CONFIG);
    assert_string_equal(e.text, "/nowhere/workerd.yaml: No such file or directory");
    assert_int_equal(config_load("/", &c, &e), E_CONFIG);
    assert_has(e.text, "/: ");
}

static void a_file_that_goes_too_deep_is_refused(void **state)
{
    (void)state;
    char text[512] = GOOD "    config: {a: ";
    for (int i = 0; i < 40; i++)
        strcat(text, "[");
    for (int i = 0; i < 40; i++)
        strcat(text, "]");
    strcat(text, "}\n");
    write_file(text);
    struct config c;
    struct err e;
    assert_int_equal(config_load(path, &c, &e), E_CONFIG);
    assert_has(e.text, "nested deeper than 32 levels");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_that_is_said_is_taken),
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(a_process_may_have_threads),
        cmocka_unit_test(processes_are_a_number_or_a_range),
        cmocka_unit_test(a_command_is_words),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_place_and_name),
        cmocka_unit_test(all_that_is_wrong_is_said_at_once),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
        cmocka_unit_test(a_file_that_goes_too_deep_is_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
