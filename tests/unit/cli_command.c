#include "unit.h"

#include "cli/command.h"

/* Before the command is known, a line is read with the options of all of them: they must agree on what takes a value. */
static void an_option_of_one_name_or_letter_takes_a_value_in_every_command_or_in_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        for (const struct option *o = commands[i].options; o->name != NULL; o++) {
            const struct option *first = command_option(NULL, o->name, strlen(o->name));
            if ((first->kind == OPTION_SWITCH) != (o->kind == OPTION_SWITCH))
                fail_msg("%s --%s", commands[i].noun, o->name);
            if (o->letter != 0 && strcmp(command_letter(NULL, o->letter)->name, o->name) != 0)
                fail_msg("%s -%c is not --%s", commands[i].noun, o->letter,
                         command_letter(NULL, o->letter)->name);
        }
    }
}

static void a_command_has_no_two_options_of_one_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        for (const struct option *o = commands[i].options; o->name != NULL; o++) {
            if (command_option(&commands[i], o->name, strlen(o->name)) != o)
                fail_msg("%s --%s is there twice", commands[i].noun, o->name);
        }
    }
}

static void every_option_and_command_says_what_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        assert_true(c->summary != NULL && c->run != NULL && c->operands != NULL);
        assert_ptr_equal(command_find(c->noun, c->verb), c);
        for (const struct option *o = c->options; o->name != NULL; o++) {
            assert_non_null(o->help);
            assert_true((o->kind == OPTION_SWITCH) == (o->value == NULL));
        }
    }
}

/* So that a word behind a noun is its verb, or never one. */
static void a_noun_stands_alone_or_with_verbs_and_its_verbs_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        size_t first = i, last = i;
        for (size_t j = 0; j < commands_count; j++) {
            if (strcmp(commands[j].noun, commands[i].noun) != 0)
                continue;
            assert_true((commands[j].verb != NULL) == (commands[i].verb != NULL));
            first = j < first ? j : first;
            last = j > last ? j : last;
        }
        for (size_t j = first; j <= last; j++)
            assert_string_equal(commands[j].noun, commands[i].noun);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_option_of_one_name_or_letter_takes_a_value_in_every_command_or_in_none),
        cmocka_unit_test(a_command_has_no_two_options_of_one_name),
        cmocka_unit_test(every_option_and_command_says_what_it_is),
        cmocka_unit_test(a_noun_stands_alone_or_with_verbs_and_its_verbs_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
