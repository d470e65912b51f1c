#include "unit.h"

#include "cli/command.h"
#include "cli/message.h"

#define BYTES(s) ((struct sluice_bytes){s, sizeof(s) - 1})

static struct sluice_delivery sample(void)
{
    return (struct sluice_delivery){
        .topic = "photos",
        .partition = 3,
        .offset = 12345678901,
        .key = BYTES("k"),
        .value = BYTES("v"),
        .timestamp_ms = 1700000000123,
        .attempt = 2,
    };
}

static void expect_json(const struct sluice_delivery *d, const char *text)
{
    json_t *o = message_json(d);
    char *dumped = json_dumps(o, JSON_COMPACT);
    assert_string_equal(dumped, text);
    free(dumped);
    json_decref(o);
}

static void a_message_has_exactly_these_keys_in_this_order(void **state)
{
    (void)state;
    struct sluice_delivery d = sample();
    expect_json(&d,
                "{\"topic\":\"photos\",\"partition\":3,\"offset\":12345678901,\"key\":\"k\",\"value\":\"v\","
                "\"headers\":{},\"timestamp_ms\":1700000000123,\"attempt\":2}");
}

static void absent_is_null_and_empty_is_empty(void **state)
{
    (void)state;
    struct sluice_delivery d = sample();
    d.key = (struct sluice_bytes){NULL, 0};
    d.value = BYTES("");
    expect_json(&d,
                "{\"topic\":\"photos\",\"partition\":3,\"offset\":12345678901,\"key\":null,\"value\":\"\","
                "\"headers\":{},\"timestamp_ms\":1700000000123,\"attempt\":2}");
}

static void bytes_that_are_not_utf8_are_base64_under_another_name(void **state)
{
    (void)state;
    struct sluice_delivery d = sample();
    d.key = BYTES("\xff");
    d.value = BYTES("caf\xe9\0!");
    expect_json(&d,
                "{\"topic\":\"photos\",\"partition\":3,\"offset\":12345678901,\"key_base64\":\"/w==\","
                "\"value_base64\":\"Y2Fm6QAh\",\"headers\":{},\"timestamp_ms\":1700000000123,\"attempt\":2}");
}

static void a_zero_byte_is_still_utf8(void **state)
{
    (void)state;
    struct sluice_delivery d = sample();
    d.value = BYTES("a\0b \xc3\xa9");
    json_t *o = message_json(&d), *value = json_object_get(o, "value");
    assert_int_equal(json_string_length(value), 6);
    assert_memory_equal(json_string_value(value), "a\0b \xc3\xa9", 6);
    json_decref(o);
}

static void expect_format(const char *format, const char *expected)
{
    struct format f;
    struct err e = {0};
    struct buf out = {0};
    struct sluice_delivery d = sample();
    if (format_parse(&f, format, &e) != 0)
        fail_msg("'%s' was refused: %s", format, e.text);
    format_put(&f, &d, &out);
    assert_string_equal(buf_str(&out), expected);
    buf_free(&out);
    format_free(&f);
}

static void a_format_names_the_parts_of_a_message(void **state)
{
    (void)state;
    expect_format("%t/%p@%o %k=%v #%a 100%%\\n", "photos/3@12345678901 k=v #2 100%\n");
    expect_format("%T\\t", "2023-11-14T22:13:20.123Z\t");
    expect_format("\\x41\\\\\\r", "A\\\r");
    expect_format("%v%v", "vv");
    expect_format("\\x25v", "%v"); /* a byte, not the beginning of a name */
}

static void a_format_with_an_unknown_name_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"%z", "%", "\\q", "\\x4", "\\", "a%v\\xzz"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct format f;
        struct err e = {0};
        if (format_parse(&f, bad[i], &e) != STATUS_USAGE)
            fail_msg("'%s' was accepted", bad[i]);
        assert_has(e.text, "there is no");
        format_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_exactly_these_keys_in_this_order),
        cmocka_unit_test(absent_is_null_and_empty_is_empty),
        cmocka_unit_test(bytes_that_are_not_utf8_are_base64_under_another_name),
        cmocka_unit_test(a_zero_byte_is_still_utf8),
        cmocka_unit_test(a_format_names_the_parts_of_a_message),
        cmocka_unit_test(a_format_with_an_unknown_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
