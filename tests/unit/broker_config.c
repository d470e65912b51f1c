#include "unit.h"

#include "base/mem.h"
#include "broker/config.h"
#include "broker/config_file.h"
#include "schemas/errors.h"

static int set(const char *setting, char *text, size_t size)
{
    struct config c;
    struct err e = {.code = 0};
    config_init(&c);
    int code = config_set(&c, setting, &e);
    snprintf(text, size, "%s", e.text);
    config_free(&c);
    return code;
}

/* A file with this content, loaded into defaults. */
static int load(const char *content, struct config *c, struct err *e)
{
    char path[] = "/tmp/sluice-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    config_init(c);
    int code = config_load(c, path, e);
    unlink(path);
    return code;
}

static void the_defaults_are_good(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    config_init(&c);
    assert_int_equal(config_check(&c, false, &e), E_OK);
    assert_int_equal(config_check(&c, true, &e), E_CONFIG);
    assert_has(e.text, "--data");
    config_free(&c);
}

static void a_file_and_a_setting_speak_the_same_keys(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    assert_int_equal(load("data: /var/lib/sluice\n"
                          "listen: [tcp://0.0.0.0:1, 'ipc:///run/s']\n"
                          "http: ''\n"
                          "limits:\n"
                          "  session_grace_ms: 30s\n"
                          "  tail_cache_bytes: 128MiB\n"
                          "  topics_max: 7\n",
                          &c, &e),
                     E_OK);
    assert_string_equal(c.data, "/var/lib/sluice");
    assert_int_equal(c.listen.n, 2);
    assert_string_equal(c.listen.at[1], "ipc:///run/s");
    assert_string_equal(c.http, "");
    assert_int_equal(c.engine.session_grace_ms, 30000);
    assert_int_equal(c.broker.tail_cache_bytes, 128 << 20);
    assert_int_equal(c.engine.topics_max, 7);
    assert_int_equal(config_set(&c, "limits.session_grace_ms=1m", &e), E_OK);
    assert_int_equal(c.engine.session_grace_ms, 60000);
    assert_int_equal(config_set(&c, "listen=tcp://127.0.0.1:2,ipc:///x", &e), E_OK);
    assert_int_equal(c.listen.n, 2);
    assert_string_equal(c.listen.at[0], "tcp://127.0.0.1:2");
    assert_int_equal(config_set(&c, "publish=", &e), E_OK);
    assert_int_equal(c.publish.n, 0);
    config_free(&c);
}

static void an_unknown_key_is_refused_with_the_nearest(void **state)
{
    (void)state;
    char text[ERR_TEXT_MAX];
    assert_int_equal(set("limits.sesion_grace_ms=1s", text, sizeof text), E_CONFIG);
    assert_has(text, "'limits.sesion_grace_ms'");
    assert_has(text, "did you mean 'limits.session_grace_ms'");

    struct config c;
    struct err e;
    assert_int_equal(load("data: /x\nlimits:\n  topics_mex: 3\n", &c, &e), E_CONFIG);
    assert_has(e.text, "line 3");
    assert_has(e.text, "'limits.topics_mex'");
    assert_has(e.text, "did you mean 'limits.topics_max'");
    config_free(&c);
    assert_int_equal(load("dta: /x\n", &c, &e), E_CONFIG);
    assert_has(e.text, "line 1");
    assert_has(e.text, "did you mean 'data'");
    config_free(&c);
}

static void a_value_without_its_unit_or_out_of_range_is_refused(void **state)
{
    (void)state;
    char text[ERR_TEXT_MAX];
    assert_int_equal(set("limits.session_grace_ms=10", text, sizeof text), E_CONFIG);
    assert_has(text, "limits.session_grace_ms");
    assert_has(text, "unit");
    assert_int_equal(set("limits.session_grace_ms=1ms", text, sizeof text), E_CONFIG);
    assert_has(text, "100ms to 1h");
    assert_int_equal(set("limits.reply_bytes_max=1KiB", text, sizeof text), E_CONFIG);
    assert_has(text, "64KiB to 128MiB");
    assert_int_equal(set("limits.topics_max=0", text, sizeof text), E_CONFIG);
    assert_int_equal(set("limits.topics_max", text, sizeof text), E_CONFIG);
    assert_has(text, "key=value");
}

static void a_file_that_is_not_yaml_is_refused_with_its_line(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    assert_int_equal(load("data: [a\n", &c, &e), E_CONFIG);
    config_free(&c);
    assert_int_equal(load("listen: tcp://127.0.0.1:1\n", &c, &e), E_CONFIG);
    assert_has(e.text, "line 1");
    config_free(&c);
    assert_int_equal(load("", &c, &e), E_OK);
    config_free(&c);
    config_init(&c);
    assert_int_equal(config_load(&c, "/nowhere/config.yaml", &e), E_CONFIG);
    assert_has(e.text, "/nowhere/config.yaml");
    config_free(&c);
}

static void limits_must_fit_each_other(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    config_init(&c);
    assert_int_equal(config_set(&c, "limits.request_bytes_max=100MiB", &e), E_OK);
    assert_int_equal(config_check(&c, false, &e), E_CONFIG);
    assert_has(e.text, "pipe_unread_bytes_max");
    assert_has(e.text, "200MiB");
    config_free(&c);
}

static void the_largest_message_fits_a_request(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    config_init(&c);
    assert_true(config_message_bytes_max(&c) >= 1 << 20);
    assert_true(config_message_bytes_max(&c) < c.wire.request_bytes_max);
    assert_int_equal(config_set(&c, "limits.request_bytes_max=128MiB", &e), E_OK);
    assert_int_equal(config_message_bytes_max(&c), WIRE_MESSAGE_MAX);
    config_free(&c);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    const char *const bad[] = {"listen=",
                               "listen=http://x",
                               "listen=127.0.0.1:7400",
                               "publish=ws://x:1",
                               "listen=tls+tcp://0.0.0.0:1",
                               "log_level=loud"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct config c;
        struct err e;
        config_init(&c);
        assert_int_equal(config_set(&c, bad[i], &e), E_OK);
        assert_int_equal(config_check(&c, false, &e), E_CONFIG);
        config_free(&c);
    }
}

static void backups_go_where_an_absolute_path_leads_and_not_into_the_data(void **state)
{
    (void)state;
    static const struct { const char *data, *dir, *words; } all[] = {
        {"/a/data", "", NULL},
        {"/a/data", "/a/backups", NULL},
        {"/a/data/", "/a/data-backups", NULL},
        {"/a/data", "backups", "no absolute path"},
        {"/a/data", "/a/data", "within the data directory"},
        {"/a/data//", "/a/data/backups", "within the data directory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct config c;
        struct err e = {0};
        config_init(&c);
        assert_int_equal(config_set_value(&c, "data", all[i].data, &e), E_OK);
        assert_int_equal(config_set_value(&c, "backup_dir", all[i].dir, &e), E_OK);
        assert_int_equal(config_check(&c, true, &e), all[i].words == NULL ? E_OK : E_CONFIG);
        if (all[i].words != NULL) {
            assert_has(e.text, all[i].words);
            assert_has(e.text, all[i].dir);
        }
        config_free(&c);
    }
}

static void what_is_printed_reads_back_to_the_same(void **state)
{
    (void)state;
    struct config c, back;
    struct err e;
    struct buf out = {0}, again = {0};
    config_init(&c);
    assert_int_equal(config_set(&c, "data=/it's here", &e), E_OK);
    assert_int_equal(config_set(&c, "backup_dir=/there", &e), E_OK);
    assert_int_equal(config_set(&c, "limits.drain_ms=90s", &e), E_OK);
    config_print(&c, &out);
    assert_int_equal(load(buf_str(&out), &back, &e), E_OK);
    config_print(&back, &again);
    assert_string_equal(buf_str(&out), buf_str(&again));
    buf_free(&out);
    buf_free(&again);
    config_free(&c);
    config_free(&back);
}

/* Every key stands in docs/operations.md with its default, as `name` | `value`. */
static void every_key_is_documented_with_its_default(void **state)
{
    (void)state;
    FILE *f = fopen(DOCS_DIR "/operations.md", "re");
    assert_non_null(f);
    static char page[1 << 18];
    page[fread(page, 1, sizeof page - 1, f)] = '\0';
    fclose(f);
    struct config c;
    config_init(&c);
    for (size_t i = 0; i < config_keys_n; i++) {
        struct buf row = {0}, value = {0};
        config_value(&c, &config_keys[i], &value);
        buf_putf(&row, "| `%s` | `%s` |", config_keys[i].name, buf_str(&value));
        assert_has(page, buf_str(&row));
        buf_free(&row);
        buf_free(&value);
    }
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_good),
        cmocka_unit_test(a_file_and_a_setting_speak_the_same_keys),
        cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest),
        cmocka_unit_test(a_value_without_its_unit_or_out_of_range_is_refused),
        cmocka_unit_test(a_file_that_is_not_yaml_is_refused_with_its_line),
        cmocka_unit_test(limits_must_fit_each_other),
        cmocka_unit_test(the_largest_message_fits_a_request),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(backups_go_where_an_absolute_path_leads_and_not_into_the_data),
        cmocka_unit_test(what_is_printed_reads_back_to_the_same),
        cmocka_unit_test(every_key_is_documented_with_its_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
