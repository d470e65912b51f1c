/* Whether what was published answers a question for the lag, in virtual time. */
#include "unit.h"

#include "workerd/heard.h"

static const struct lag few = {.backlog = 3, .in_flight = 1}, many = {.backlog = 900, .in_flight = 8}, busier = {.backlog = 3, .in_flight = 2};

static void who_never_heard_anything_asks_at_once(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    assert_int_equal(heard_judge(&h, 1000, 1000), HEARD_ASK);
    heard_asked(&h, &few, 1010);
    assert_int_equal(heard_judge(&h, 1260, 1260), HEARD_ASK);
    heard_asked(&h, &(struct lag){.backlog = 0}, 1270); /* the same as nothing, but nothing is no publication */
    assert_int_equal(heard_judge(&h, 1500, 1500), HEARD_ASK);
}

static void what_was_just_published_is_the_answer(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &many, 5000);
    assert_int_equal(heard_judge(&h, 5001, 5001), HEARD_ANSWER);
    assert_int_equal(h.lag.backlog, 900);
    assert_int_equal(h.lag.in_flight, 8);
    assert_int_equal(heard_judge(&h, 5240, 5240), HEARD_ANSWER); /* nobody was told yet */
    heard_tell(&h);
    assert_int_equal(heard_judge(&h, 5240, 5240), HEARD_WAIT);
}

/* So a burst is known when it is published, not when the question after that comes. */
static void a_question_between_two_publications_waits_for_the_next(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &few, 5000);
    heard_tell(&h);
    assert_int_equal(heard_judge(&h, 5130, 5130), HEARD_WAIT);
    assert_int_equal(heard_judge(&h, 5130, 5249), HEARD_WAIT);
    heard_published(&h, &many, 5250);
    assert_int_equal(heard_judge(&h, 5130, 5250), HEARD_ANSWER);
    assert_int_equal(h.lag.backlog, 900);
}

static void a_silence_is_trusted_for_a_moment_and_then_looked_into(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &few, 5000);
    assert_int_equal(heard_judge(&h, 5100, heard_due_ms(5100)), HEARD_ANSWER);
    assert_int_equal(heard_judge(&h, 5400, heard_due_ms(5400)), HEARD_ASK);
    heard_asked(&h, &few, 5710); /* nothing had changed */
    assert_int_equal(heard_judge(&h, 5800, heard_due_ms(5800)), HEARD_ANSWER);
    assert_int_equal(heard_judge(&h, 6200, heard_due_ms(6200)), HEARD_ASK);
}

/* The first message of a burst must not wait for what comes later. */
static void the_first_question_after_a_silence_does_not_wait(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &few, 5000);
    heard_tell(&h);
    assert_int_equal(heard_judge(&h, 5500, 5500), HEARD_WAIT);
    assert_int_equal(heard_judge(&h, 5501, 5501), HEARD_ASK);
    assert_int_equal(heard_judge(&h, 60000, 60000), HEARD_ASK);
}

static void who_was_told_something_else_asks_until_a_publication_comes(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &few, 5000);
    heard_asked(&h, &many, 5700);
    assert_int_equal(heard_judge(&h, 5800, 5800), HEARD_ASK);
    heard_asked(&h, &busier, 5801);
    assert_int_equal(heard_judge(&h, 5802, 5802), HEARD_ASK);
    heard_published(&h, &many, 5900);
    assert_int_equal(heard_judge(&h, 5901, 5901), HEARD_ANSWER);
}

static void a_lost_connection_ends_all_trust(void **state)
{
    (void)state;
    struct heard h = {.good = false};
    heard_published(&h, &few, 5000);
    heard_tell(&h);
    assert_int_equal(heard_judge(&h, 5100, 5100), HEARD_WAIT);
    heard_lost(&h);
    assert_int_equal(heard_judge(&h, 5100, 5101), HEARD_ASK);
    heard_asked(&h, &few, 5102); /* as before, but nobody would tell of a change */
    assert_int_equal(heard_judge(&h, 5103, 5103), HEARD_ASK);
}

/* A question is answered, or asked, within the time that a publication may take to come. */
static void no_question_waits_longer_than_for_one_publication(void **state)
{
    (void)state;
    for (uint64_t heard_ms = 0; heard_ms < 2000; heard_ms += 7) {
        struct heard h = {.good = false};
        heard_published(&h, &few, heard_ms);
        for (uint64_t asked_ms = heard_ms; asked_ms < heard_ms + 1500; asked_ms += 13)
            assert_int_not_equal(heard_judge(&h, asked_ms, asked_ms + 300), HEARD_WAIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_never_heard_anything_asks_at_once),
        cmocka_unit_test(what_was_just_published_is_the_answer),
        cmocka_unit_test(a_question_between_two_publications_waits_for_the_next),
        cmocka_unit_test(a_silence_is_trusted_for_a_moment_and_then_looked_into),
        cmocka_unit_test(the_first_question_after_a_silence_does_not_wait),
        cmocka_unit_test(who_was_told_something_else_asks_until_a_publication_comes),
        cmocka_unit_test(a_lost_connection_ends_all_trust),
        cmocka_unit_test(no_question_waits_longer_than_for_one_publication),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
