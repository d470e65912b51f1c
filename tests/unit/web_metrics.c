#include "unit.h"

#include "http/lag.h"
#include "web/metrics.h"

static void a_family_is_announced_before_its_sample(void **state)
{
    (void)state;
    struct buf out = {0};
    metric(&out, "sluice_turns_total", METRIC_COUNTER, "turns", 12);
    assert_string_equal(
        buf_str(&out),
        "# HELP sluice_turns_total turns\n# TYPE sluice_turns_total counter\nsluice_turns_total 12\n");
    buf_free(&out);
}

static void numbers_are_whole_while_they_can_be(void **state)
{
    (void)state;
    struct buf out = {0};
    metric_sample(&out, "a", NULL, 0, 1099511627776.0);
    metric_sample(&out, "b", NULL, 0, 0.25);
    metric_sample(&out, "c", NULL, 0, 0);
    assert_string_equal(buf_str(&out), "a 1099511627776\nb 0.25\nc 0\n");
    buf_free(&out);
}

static void labels_cannot_break_out_of_their_quotes(void **state)
{
    (void)state;
    struct buf out = {0};
    const struct metric_label labels[] = {{"x", view_of_str("a\"b\\c\nd")}, {"y", view_of_str("")}};
    metric_sample(&out, "m", labels, 2, 1);
    assert_string_equal(buf_str(&out), "m{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 1\n");
    buf_free(&out);
}

static const struct wire_lag rows[] = {
    {.topic = {(const uint8_t *)"t", 1},
     .group = {(const uint8_t *)"g", 1},
     .lag_messages = 5,
     .oldest_age_ms = 1500,
     .drain_eta_ms = 500},
    {.topic = {(const uint8_t *)"t", 1},
     .group = {(const uint8_t *)"h", 1},
     .lag_messages = 7,
     .drain_eta_ms = UINT64_MAX},
};

static void samples_of_a_family_stand_together_over_all_pages(void **state)
{
    (void)state;
    struct lag_metrics m = {.groups = 0};
    struct buf out = {0};
    for (size_t i = 0; i < 2; i++)
        assert_true(lag_metrics_add(&m, &(struct wire_lag_reply){.rows = &rows[i], .rows_n = 1}, 10));
    lag_metrics_put(&m, &out);
    assert_has(buf_str(&out), "sluice_group_lag_messages{topic=\"t\",group=\"g\"} "
                              "5\nsluice_group_lag_messages{topic=\"t\",group=\"h\"} 7\n");
    assert_has(buf_str(&out), "sluice_group_oldest_age_seconds{topic=\"t\",group=\"g\"} 1.5\n");
    lag_metrics_free(&m);
    buf_free(&out);
}

static void a_group_that_never_drains_has_no_time_for_it(void **state)
{
    (void)state;
    struct lag_metrics m = {.groups = 0};
    struct buf out = {0};
    assert_true(lag_metrics_add(&m, &(struct wire_lag_reply){.rows = rows, .rows_n = 2}, 10));
    lag_metrics_put(&m, &out);
    assert_has(buf_str(&out), "sluice_group_drain_eta_seconds{topic=\"t\",group=\"g\"} 0.5\n");
    assert_null(strstr(buf_str(&out), "sluice_group_drain_eta_seconds{topic=\"t\",group=\"h\"}"));
    lag_metrics_free(&m);
    buf_free(&out);
}

static void no_more_groups_are_shown_than_the_limit(void **state)
{
    (void)state;
    struct lag_metrics m = {.groups = 0};
    struct buf out = {0};
    assert_false(lag_metrics_add(&m, &(struct wire_lag_reply){.rows = rows, .rows_n = 2}, 1));
    lag_metrics_put(&m, &out);
    assert_null(strstr(buf_str(&out), "group=\"h\""));
    lag_metrics_free(&m);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_is_announced_before_its_sample),
        cmocka_unit_test(numbers_are_whole_while_they_can_be),
        cmocka_unit_test(labels_cannot_break_out_of_their_quotes),
        cmocka_unit_test(samples_of_a_family_stand_together_over_all_pages),
        cmocka_unit_test(a_group_that_never_drains_has_no_time_for_it),
        cmocka_unit_test(no_more_groups_are_shown_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
