/* What a scale that people asked for leads to. */
#include "unit.h"

#include "base/macros.h"
#include "schemas/errors.h"
#include "workerd/command.h"

enum { KEEP = 1000000 }; /* not given */

static void a_scale_sets_what_it_names_and_is_refused_where_no_range_comes_of_it(void **state)
{
    (void)state;
    static const struct {
        uint32_t min, max, least, most;
        const char *words; /* of the refusal; NULL: none */
        uint32_t to_min, to_max;
    } all[] = {
        {2, 2, KEEP, 8, NULL, 2, 8},
        {2, 8, 4, KEEP, NULL, 4, 8},
        {2, 8, 0, 1, NULL, 0, 1},
        {2, 8, 16, 256, NULL, 16, 256},
        {2, 8, 9, KEEP, "at most 8 here; give --max too", 2, 8},
        {2, 8, KEEP, 1, "at least 2 here; give --min too", 2, 8},
        {2, 8, 5, 4, "more than at most 4", 2, 8},
        {2, 8, KEEP, 257, "1 to 256 can be", 2, 8},
        {2, 8, 0, 0, "1 to 256 can be", 2, 8},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct command c = {.act = COMMAND_SCALE,
                                  .has_least = all[i].least != KEEP,
                                  .least = all[i].least,
                                  .has_most = all[i].most != KEEP,
                                  .most = all[i].most};
        uint32_t min = all[i].min, max = all[i].max;
        struct err e = {0};
        assert_int_equal(command_limits(&c, &min, &max, &e), all[i].words != NULL ? E_INVALID_ARGUMENT : 0);
        if (all[i].words != NULL)
            assert_has(e.text, all[i].words);
        assert_true(min == all[i].to_min && max == all[i].to_max);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scale_sets_what_it_names_and_is_refused_where_no_range_comes_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
