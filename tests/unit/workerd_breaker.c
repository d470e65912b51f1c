/* The circuit breaker in virtual time. */
#include "unit.h"

#include "base/macros.h"
#include "workerd/breaker.h"

static const struct breaker_config usual = {
    .on = true, .window = 10, .percent = 80, .pause_ms = 1000, .pause_ms_max = 8000};

static uint64_t now;

static struct breaker make(const struct breaker_config *c, uint64_t seed)
{
    struct breaker b;
    now = 1000000;
    breaker_init(&b, c, seed, now);
    return b;
}

/* ---- scripts ---- */

/*
 *     .  done        x  failed       -  parked: while half-open this is the probe
 *     o  done        f  failed: a task that had begun before it opened
 *     ~  the pause passes            h  an hour passes, without anybody looking
 *
 * Every other step takes 10 ms. Below each step the state after it: Closed, Open, Half-open.
 */
static const struct {
    const char *title, *steps, *states;
} scripts[] = {
    {"half of the window is enough to judge", "xxxxx", "CCCCO"},
    {"fewer are not", "xxxx", "CCCC"},
    {"one good one among few", "xxxx.x", "CCCCCO"},
    {"a success does not open it, whatever was before", "xxxx.", "CCCCC"},
    {"after good times it takes more", "..........xxxxxxxx", "CCCCCCCCCCCCCCCCCO"},
    {"two of three is not nearly all", ".xx.xx.xx.xx.xx", "CCCCCCCCCCCCCCC"},
    {"half and half", "x.x.x.x.x.x.x.x.x.x.", "CCCCCCCCCCCCCCCCCCCC"},
    {"parked ones say nothing", "-----------", "CCCCCCCCCCC"},
    {"nor do they dilute", "xx--xx--x", "CCCCCCCCO"},
    {"what failed long ago does not count", "xxxxhxxxxx", "CCCCCCCCCO"},
    {"a probe that goes well closes it", "xxxxx~.", "CCCCOHC"},
    {"and what failed before is forgotten", "xxxxx~.xxxxx", "CCCCOHCCCCCO"},
    {"a probe that fails opens it", "xxxxx~x~x~.", "CCCCOHOHOHC"},
    {"a probe that is parked is followed by another", "xxxxx~--x", "CCCCOHHHO"},
    {"what began before it opened changes nothing", "xxxxxoff~ooff.", "CCCCOOOOHHHHHC"},
    {"nothing ends a pause but its end", "xxxxxooooo", "CCCCOOOOOO"},
};

static char letter(const struct breaker *b)
{
    return "COH"[b->state];
}

static void play(struct breaker *b, char step)
{
    bool probe = strchr(".x-", step) != NULL && b->state == BREAKER_HALF_OPEN;
    enum breaker_verdict v = strchr(".o", step) != NULL   ? BREAKER_OK
                             : strchr("xf", step) != NULL ? BREAKER_FAILED
                                                          : BREAKER_MUTE;
    if (step == '~') {
        assert_false(breaker_step(b, breaker_due_ms(b) - 1));
        now = breaker_due_ms(b);
        assert_true(breaker_step(b, now));
    } else if (step == 'h') {
        now += 3600000;
    } else {
        now += 10;
        if (probe)
            breaker_probe(b);
        char before = letter(b);
        bool changed = breaker_verdict(b, v, probe, now);
        assert_int_equal(changed, letter(b) != before);
    }
}

static void it_opens_when_nearly_all_fails_and_closes_when_a_probe_goes_well(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        struct breaker b = make(&usual, i);
        for (size_t n = 0; scripts[i].steps[n] != '\0'; n++) {
            play(&b, scripts[i].steps[n]);
            if (letter(&b) != scripts[i].states[n])
                fail_msg("%s: %c after step %zu of %s", scripts[i].title, letter(&b), n + 1,
                         scripts[i].steps);
        }
    }
}

static void switched_off_it_stays_closed(void **state)
{
    (void)state;
    struct breaker b = make(&(struct breaker_config){.on = false}, 1);
    for (int i = 0; i < 1000; i++)
        assert_false(breaker_verdict(&b, BREAKER_FAILED, false, now++));
    assert_int_equal(breaker_room(&b), UINT32_MAX);
    assert_int_equal(breaker_due_ms(&b), UINT64_MAX);
}

static void open_it_lets_nothing_through_and_half_open_one_at_a_time(void **state)
{
    (void)state;
    struct breaker b = make(&usual, 1);
    assert_int_equal(breaker_room(&b), UINT32_MAX);
    for (int i = 0; i < 5; i++)
        play(&b, 'x');
    assert_int_equal(breaker_room(&b), 0);
    play(&b, '~');
    assert_int_equal(breaker_room(&b), 1);
    breaker_probe(&b);
    assert_int_equal(breaker_room(&b), 0);
    breaker_verdict(&b, BREAKER_MUTE, true, now);
    assert_int_equal(breaker_room(&b), 1);
}

/* ---- pauses ---- */

static void fail_until_open(struct breaker *b)
{
    while (b->state != BREAKER_OPEN)
        play(b, 'x');
}

static void pauses_double_up_to_the_longest_with_jitter(void **state)
{
    (void)state;
    static const uint32_t longest[] = {1000, 2000, 4000, 8000, 8000, 8000};
    bool differ = false;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct breaker b = make(&usual, seed), again = make(&usual, seed);
        for (size_t i = 0; i < ARRAY_LEN(longest); i++) {
            fail_until_open(&b);
            uint32_t pause = (uint32_t)(breaker_due_ms(&b) - now);
            assert_in_range(pause, longest[i] / 2, longest[i]);
            differ = differ || pause != longest[i];
            fail_until_open(&again);
            assert_int_equal(b.pause_ms, again.pause_ms); /* it follows from the seed */
            play(&b, '~');
            play(&again, '~');
        }
    }
    assert_true(differ);
}

static void a_lucky_probe_does_not_make_pauses_short_again(void **state)
{
    (void)state;
    struct breaker b = make(&usual, 1);
    for (int i = 0; i < 6; i++) {
        fail_until_open(&b);
        play(&b, '~');
        play(&b, '.');
    }
    fail_until_open(&b);
    assert_in_range(b.pause_ms, 4000, 8000);
}

static void after_a_good_time_the_pause_is_short_again(void **state)
{
    (void)state;
    struct breaker b = make(&usual, 1);
    for (int i = 0; i < 6; i++) {
        fail_until_open(&b);
        play(&b, '~');
    }
    play(&b, '.');
    now += 8000;
    play(&b, '.');
    fail_until_open(&b);
    assert_in_range(b.pause_ms, 500, 1000);
}

static void an_hour_of_outage_burns_what_opens_it_and_its_probes(void **state)
{
    (void)state;
    struct breaker b = make(
        &(struct breaker_config){
            .on = true, .window = 20, .percent = 80, .pause_ms = 5000, .pause_ms_max = 60000},
        7);
    uint64_t end = now + 3600000;
    unsigned burnt = 0;
    while (now < end) {
        burnt++;
        play(&b, 'x');
        if (b.state == BREAKER_OPEN)
            play(&b, '~');
    }
    /* Ten to open it, five while the pause grows, and one each 30 s at most. */
    assert_in_range(burnt, 10 + 3600 / 60, 10 + 5 + 3600 / 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_when_nearly_all_fails_and_closes_when_a_probe_goes_well),
        cmocka_unit_test(switched_off_it_stays_closed),
        cmocka_unit_test(open_it_lets_nothing_through_and_half_open_one_at_a_time),
        cmocka_unit_test(pauses_double_up_to_the_longest_with_jitter),
        cmocka_unit_test(a_lucky_probe_does_not_make_pauses_short_again),
        cmocka_unit_test(after_a_good_time_the_pause_is_short_again),
        cmocka_unit_test(an_hour_of_outage_burns_what_opens_it_and_its_probes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
