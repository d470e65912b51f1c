#include "unit.h"

#include "base/macros.h"
#include "schemas/errors.h"

/* Codes are on the wire and in stored results. A line here is never changed or removed. */
static const struct {
    int code;
    const char *name;
} stable[] = {
    {0, "OK"},
    {1, "INTERNAL"},
    {2, "INVALID_ARGUMENT"},
    {3, "NO_MEMORY"},
    {4, "TIMEOUT"},
    {5, "CLOSED"},
    {6, "UNSUPPORTED"},
    {7, "CANCELLED"},
    {8, "AGAIN"},
    {10, "BAD_FRAME"},
    {11, "BAD_VERSION"},
    {12, "TOO_LARGE"},
    {13, "UNREACHABLE"},
    {14, "UNAUTHENTICATED"},
    {15, "FORBIDDEN"},
    {20, "SESSION_EXPIRED"},
    {21, "OUT_OF_ORDER"},
    {22, "NO_SESSION"},
    {30, "TOPIC_NOT_FOUND"},
    {31, "PARTITION_NOT_FOUND"},
    {32, "GROUP_NOT_FOUND"},
    {33, "EXISTS"},
    {34, "TOPIC_DELETED"},
    {35, "WRONG_MODE"},
    {36, "TASK_NOT_FOUND"},
    {37, "SCHEDULE_NOT_FOUND"},
    {38, "WORKER_NOT_FOUND"},
    {40, "OVERLOADED"},
    {41, "DISK_FULL"},
    {42, "SHUTTING_DOWN"},
    {43, "LIMIT"},
    {50, "DAMAGED"},
    {51, "GAP"},
    {52, "WRONG_PARTITION"},
    {53, "UNROUTABLE"},
    {54, "OFFSET_OUT_OF_RANGE"},
    {55, "DUPLICATE"},
    {60, "LEASE_LOST"},
    {61, "CONFLICT"},
    {62, "STALE_GENERATION"},
    {63, "UNKNOWN_MEMBER"},
    {64, "MEMBER_FENCED"},
    {70, "STORE_FAILED"},
    {71, "STORE_LOCKED"},
    {72, "FORMAT_NEWER"},
    {80, "QUEUE_FULL"},
    {81, "NOT_DELIVERED"},
    {90, "CONFIG"},
};

static const struct {
    int code;
    const char *name, *text;
} table[] = {
#define X(code, name, text, retriable, fatal) {code, #name, text},
#include "schemas/errors.def"
#undef X
};

static void codes_and_names_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(table[i].code, table[j].code);
            assert_string_not_equal(table[i].name, table[j].name);
        }
    }
}

static void what_was_published_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stable); i++)
        assert_string_equal(error_name(stable[i].code), stable[i].name);
}

static void a_new_code_is_added_to_the_published_ones(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(table), ARRAY_LEN(stable));
}

static void a_text_reads_as_the_begin_of_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *text = error_text(table[i].code);
        assert_string_equal(text, table[i].text);
        assert_true(text[0] >= 'a' && text[0] <= 'z');
        assert_true(text[strlen(text) - 1] >= 'a' && text[strlen(text) - 1] <= 'z');
    }
}

static void a_code_of_a_newer_peer_is_unknown_and_final(void **state)
{
    (void)state;
    const int codes[] = {-1, 9, 91, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        assert_string_equal(error_name(codes[i]), "UNKNOWN");
        assert_non_null(error_text(codes[i]));
        assert_false(error_retriable(codes[i]));
        assert_false(error_fatal(codes[i]));
    }
}

static void what_may_be_tried_again_and_what_ends_a_session_is_known(void **state)
{
    (void)state;
    assert_true(error_retriable(E_OVERLOADED) && error_retriable(E_DISK_FULL) && error_retriable(E_CONFLICT));
    assert_false(error_retriable(E_OK) || error_retriable(E_LEASE_LOST) || error_retriable(E_BAD_FRAME));
    assert_true(error_fatal(E_SESSION_EXPIRED) && error_fatal(E_STORE_FAILED) && error_fatal(E_BAD_VERSION));
    assert_false(error_fatal(E_OK) || error_fatal(E_OVERLOADED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_names_are_unique),
        cmocka_unit_test(what_was_published_stays),
        cmocka_unit_test(a_new_code_is_added_to_the_published_ones),
        cmocka_unit_test(a_text_reads_as_the_begin_of_a_sentence),
        cmocka_unit_test(a_code_of_a_newer_peer_is_unknown_and_final),
        cmocka_unit_test(what_may_be_tried_again_and_what_ends_a_session_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
