/* Who is to own which partition: held against every other way to deal them out. */
#include "unit.h"

#include "base/macros.h"
#include "base/rng.h"
#include "engine/assign.h"

enum { MOST = 64 };

/* "0 0 1 . a": partitions with members 0, 0, 1, nobody; a letter is meant for that member and not owned. */
static const char *assigned(uint32_t members, const char *before)
{
    static char text[2 * MOST + 1];
    uint32_t has[MOST] = {0}, target[MOST], n = 0;
    bool firm[MOST] = {0};
    for (const char *at = before; *at != '\0'; at++) {
        if (*at == ' ')
            continue;
        firm[n] = *at >= '0' && *at <= '9';
        has[n] = *at == '.' ? ASSIGN_NONE : (uint32_t)(firm[n] ? *at - '0' : *at - 'a');
        n++;
    }
    assign(members, n, has, firm, target);
    char *to = text;
    text[0] = '\0';
    for (uint32_t p = 0; p < n; p++)
        to += sprintf(to, "%s%c", p > 0 ? " " : "", target[p] == ASSIGN_NONE ? '.' : (char)('0' + target[p]));
    return text;
}

static void these_are_assigned_so(void **state)
{
    (void)state;
    static const struct { uint32_t members; const char *before, *after; } table[] = {
        {0, ". . .", ". . ."},
        {0, "", ""},
        {2, "", ""},
        {1, ". . .", "0 0 0"},
        {2, ". . . .", "0 0 1 1"},
        {3, ". . . .", "0 0 1 2"},
        {2, "0 0 0 0", "0 0 1 1"},       /* one joins: half goes, the rest stays */
        {2, "1 1 1 1", "1 1 0 0"},
        {3, "0 0 1 1 1 1", "0 0 1 1 2 2"},
        {3, "0 1 2", "0 1 2"},
        {4, "0 1 2", "0 1 2"},           /* more members than partitions: nothing moves */
        {2, "0 0 . . .", "0 0 0 1 1"},   /* what nobody has goes to the first that has room */
        {2, "0 1 1 1 .", "0 1 1 1 0"},   /* who would else give up one gets the odd one */
        {2, "0 0 . . .", "0 0 0 1 1"},
        {2, "b 1 1", "0 1 1"},           /* what was only meant for one goes before what it owns */
        {2, "a a 1 b", "0 0 1 1"},
        {2, "0 a a b", "0 0 1 1"},
        {2, "a . . .", "0 0 1 1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strcmp(assigned(table[i].members, table[i].before), table[i].after) != 0)
            fail_msg("%u members, %s: %s and not %s", table[i].members, table[i].before, assigned(table[i].members, table[i].before), table[i].after);
}

/* The fewest owned partitions that can leave their member if shares differ by one at most: every way is tried. */
static uint32_t fewest_moves(uint32_t members, uint32_t n, const uint32_t *has, const bool *firm)
{
    uint32_t best = UINT32_MAX, ways = 1;
    for (uint32_t p = 0; p < n; p++)
        ways *= members;
    for (uint32_t way = 0; way < ways; way++) {
        uint32_t share[4] = {0}, moves = 0, code = way;
        for (uint32_t p = 0; p < n; p++, code /= members) {
            share[code % members]++;
            moves += has[p] != ASSIGN_NONE && firm[p] && has[p] != code % members;
        }
        uint32_t low = UINT32_MAX, high = 0;
        for (uint32_t m = 0; m < members; m++) {
            low = share[m] < low ? share[m] : low;
            high = share[m] > high ? share[m] : high;
        }
        if (high - low <= 1 && moves < best)
            best = moves;
    }
    return best;
}

static void assert_balanced(uint32_t members, uint32_t n, const uint32_t *target)
{
    uint32_t share[MOST] = {0}, low = UINT32_MAX, high = 0;
    for (uint32_t p = 0; p < n; p++) {
        assert_true(target[p] < members);
        share[target[p]]++;
    }
    for (uint32_t m = 0; m < members; m++) {
        low = share[m] < low ? share[m] : low;
        high = share[m] > high ? share[m] : high;
    }
    assert_true(high - low <= 1);
}

static void no_other_way_moves_less(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (int round = 0; round < 20000; round++) {
        uint32_t members = 1 + (uint32_t)rng_below(&r, 4), n = (uint32_t)rng_below(&r, 7), has[8], target[8], moves = 0;
        bool firm[8];
        for (uint32_t p = 0; p < n; p++) {
            has[p] = rng_chance(&r, 1, 4) ? ASSIGN_NONE : (uint32_t)rng_below(&r, members);
            firm[p] = rng_chance(&r, 3, 4);
        }
        assign(members, n, has, firm, target);
        assert_balanced(members, n, target);
        for (uint32_t p = 0; p < n; p++)
            moves += has[p] != ASSIGN_NONE && firm[p] && has[p] != target[p];
        assert_int_equal(moves, fewest_moves(members, n, has, firm));
    }
}

/* Said of every history: what is balanced stays as it is, one that comes takes only its share, one that goes leaves only its own. */
static void members_that_come_and_go_move_only_their_share(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (int round = 0; round < 2000; round++) {
        uint32_t members = 1 + (uint32_t)rng_below(&r, 9), n = (uint32_t)rng_below(&r, MOST), has[MOST], target[MOST], again[MOST];
        bool firm[MOST];
        for (uint32_t p = 0; p < n; p++)
            has[p] = ASSIGN_NONE, firm[p] = false;
        assign(members, n, has, firm, target);
        for (uint32_t p = 0; p < n; p++)
            firm[p] = true;
        assign(members, n, target, firm, again);
        assert_memory_equal(target, again, n * sizeof *target);
        assign(members + 1, n, target, firm, again);
        assert_balanced(members + 1, n, again);
        uint32_t moved = 0, share = 0;
        for (uint32_t p = 0; p < n; p++) {
            moved += again[p] != target[p];
            share += again[p] == members;
        }
        assert_int_equal(moved, share); /* all that moved went to who came */
        uint32_t gone = members;        /* and it goes again */
        for (uint32_t p = 0; p < n; p++) {
            has[p] = again[p] == gone ? ASSIGN_NONE : again[p];
            firm[p] = has[p] != ASSIGN_NONE;
        }
        assign(members, n, has, firm, target);
        for (uint32_t p = 0; p < n; p++)
            assert_true(has[p] == ASSIGN_NONE || has[p] == target[p]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(these_are_assigned_so),
        cmocka_unit_test(no_other_way_moves_less),
        cmocka_unit_test(members_that_come_and_go_move_only_their_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
