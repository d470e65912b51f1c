#include "unit.h"

#include <signal.h>

#include "exec/env.h"
#include "exec/exec.h"

static void an_exit_status_says_what_becomes_of_the_message(void **state)
{
    (void)state;
    assert_int_equal(exec_verdict(0), EXEC_DONE);
    assert_int_equal(exec_verdict(75 << 8), EXEC_AGAIN);
    assert_int_equal(exec_verdict(65 << 8), EXEC_PARK);
    assert_int_equal(exec_verdict(1 << 8), EXEC_FAILED);
    assert_int_equal(exec_verdict(SIGKILL), EXEC_FAILED);
}

static void a_failure_is_described_by_its_signal_its_words_or_its_status(void **state)
{
    (void)state;
    char text[EXEC_ERROR_MAX];
    assert_string_equal(exec_error(text, 3 << 8, "no such photo"), "no such photo");
    assert_string_equal(exec_error(text, 3 << 8, ""), "exit status 3");
    assert_string_equal(exec_error(text, SIGSEGV, ""), "killed by SIGSEGV");
    assert_string_equal(exec_error(text, SIGKILL, "working"), "killed by SIGKILL: working");
    assert_string_equal(exec_error(text, SIGRTMIN + 1, ""), "killed by signal 35");
}

static void a_message_is_told_in_the_environment(void **state)
{
    (void)state;
    struct buf env = {0};
    env_put_message(&env, &(struct exec_message){.topic = "photos",
                                                 .group = "small",
                                                 .partition = 3,
                                                 .offset = 12345678901,
                                                 .attempt = 2,
                                                 .key = VIEW_LIT("k\0y")});
    env_put_header(&env, VIEW_LIT("content-type"), VIEW_LIT("text/plain"));
    env_put_header(&env, VIEW_LIT("Content.Type"), VIEW_LIT("makes the same name"));
    static const char expected[] = "SLUICE_TOPIC=photos\0SLUICE_GROUP=small\0SLUICE_PARTITION=3\0SLUICE_OFFSET=12345678901\0"
                                   "SLUICE_ATTEMPT=2\0SLUICE_IDEMPOTENCY_KEY=photos/3/12345678901/small\0"
                                   "SLUICE_KEY_BASE64=awB5\0SLUICE_HEADER_CONTENT_TYPE=text/plain";
    assert_int_equal(env.size, sizeof expected);
    assert_memory_equal(env.data, expected, sizeof expected);
    for (size_t at = 0; at < env.size; at += strlen((const char *)env.data + at) + 1)
        assert_true(env_is_about_message((const char *)env.data + at));
    assert_false(env_is_about_message("SLUICE_BROKER=tcp://a"));
    buf_free(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exit_status_says_what_becomes_of_the_message),
        cmocka_unit_test(a_failure_is_described_by_its_signal_its_words_or_its_status),
        cmocka_unit_test(a_message_is_told_in_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
