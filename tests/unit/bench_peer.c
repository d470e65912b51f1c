/* The account that is kept of a peer, and the pace of its lanes (tests/bench/peers/peer.c), against a peer in memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/peers/peer.h"
#include "unit.h"

enum { SIZE = 100, ROOM = 100000 };

/* A peer that keeps what it is sent, and how many batches it had not answered at most. */
struct kept {
    struct account account;
    struct feed feed;
    uint8_t (*messages)[SIZE];
    atomic_uint count, taken, out, out_max;
    int refuses_at; /* the batch that it refuses, from 1; 0: none */
    int awaited;
};

static struct kept *kept_new(void)
{
    struct kept *k = calloc(1, sizeof *k);
    assert_non_null(k);
    account_open(&k->account);
    k->messages = calloc(ROOM, SIZE);
    assert_non_null(k->messages);
    return k;
}

static void kept_free(struct kept *k)
{
    account_close(&k->account);
    free(k->messages);
    free(k);
}

static int keep(void *user, uint32_t messages, struct err *e)
{
    struct kept *k = user;
    (void)e;
    for (uint32_t i = 0; i < messages; i++)
        feed_fill(&k->feed, k->messages[k->count++]);
    unsigned out = ++k->out;
    if (out > k->out_max)
        k->out_max = out;
    return 0;
}

static int answer(void *user, uint32_t messages, struct err *e)
{
    struct kept *k = user;
    (void)messages;
    k->out--;
    return ++k->awaited == k->refuses_at ? err_set(e, EPROTO, "refused") : 0;
}

static int publish_lane(struct load_lane *l, struct err *e)
{
    const struct job *j = l->user;
    struct kept *k = j->run;
    struct pace p = {.user = k, .send = keep, .await = answer};
    feed_open(&k->feed, j, l->index);
    int code = pace_run(&p, l, j->work, e);
    if (code == 0)
        feed_close(&k->feed);
    return code;
}

static int take_lane(struct load_lane *l, struct err *e)
{
    const struct job *j = l->user;
    struct kept *k = j->run;
    (void)e;
    load_ready(l);
    while (intake_goes_on(j, l)) {
        account_lock(&k->account);
        account_seen(&k->account, k->messages[k->taken++], SIZE);
        account_unlock(&k->account);
        intake_done(j, l, clock_mono_ns(), 1);
    }
    return 0;
}

static int publish(struct kept *k, const struct work *w, struct outcome *out, struct err *e)
{
    return job_produce(&(struct job){.run = k, .account = &k->account, .work = w}, NULL, publish_lane, out, e);
}

static int take(struct kept *k, const struct work *w, struct err *e)
{
    struct outcome out = {0};
    return job_queue(&(struct job){.run = k, .account = &k->account, .work = w}, NULL, take_lane, &out, e);
}

static const struct work thousand = {.size = SIZE, .batch = 10, .window = 4, .connections = 1, .messages = 1000, .seconds = 20};

static void a_lane_lets_out_its_window_and_counts_each_message_once(void **state)
{
    struct kept *k = kept_new();
    struct outcome out = {0};
    (void)state;
    assert_int_equal(publish(k, &thousand, &out, NULL), 0);
    assert_int_equal(out.messages, 1000);
    assert_int_equal(k->count, 1000);
    assert_int_equal(k->out_max, 4);
    assert_int_equal(k->account.produced, 1000);
    kept_free(k);
}

static void a_lane_at_a_rate_counts_each_message_once_too(void **state)
{
    struct kept *k = kept_new();
    struct outcome out = {0};
    struct work w = thousand;
    (void)state;
    w.rate = 20000;
    assert_int_equal(publish(k, &w, &out, NULL), 0);
    assert_int_equal(out.messages, 1000);
    assert_true(k->out_max <= 5); /* one more: it is sent when the answer is there and not yet counted here */
    kept_free(k);
}

static void a_refusal_fails_the_run_in_either_loop(void **state)
{
    (void)state;
    for (int paced = 0; paced < 2; paced++) {
        struct kept *k = kept_new();
        struct outcome out = {0};
        struct work w = thousand;
        struct err e = {0};
        w.rate = paced ? 20000 : 0;
        k->refuses_at = 7;
        assert_int_equal(publish(k, &w, &out, &e), EPROTO);
        assert_string_equal(e.text, "refused");
        assert_int_equal(k->account.produced, 0);
        kept_free(k);
    }
}

static void all_that_came_whole_and_once_is_good(void **state)
{
    struct kept *k = kept_new();
    struct outcome out = {0};
    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(publish(k, &thousand, &out, NULL), 0);
        assert_int_equal(take(k, &thousand, NULL), 0);
    }
    kept_free(k);
}

static void what_was_lost_repeated_or_damaged_makes_a_run_void(void **state)
{
    static const char *const says[] = {"void: 1 lost, 1 repeated", "void: 1 lost, 1 damaged"};
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct kept *k = kept_new();
        struct outcome out = {0};
        struct err e = {0};
        assert_int_equal(publish(k, &thousand, &out, NULL), 0);
        if (how == 0)
            memcpy(k->messages[500], k->messages[501], SIZE);
        else
            k->messages[500][SIZE - 1] ^= 1;
        assert_int_equal(take(k, &thousand, &e), EBADMSG);
        assert_string_equal(e.text, says[how]);
        kept_free(k);
    }
}

static void what_is_still_there_is_not_lost(void **state)
{
    struct kept *k = kept_new();
    struct outcome out = {0};
    struct work half = thousand;
    (void)state;
    half.messages = 500;
    assert_int_equal(publish(k, &thousand, &out, NULL), 0);
    assert_int_equal(take(k, &half, NULL), 0);
    assert_int_equal(take(k, &half, NULL), 0);
    kept_free(k);
}

static void each_peer_says_why_it_lacks_what_it_lacks(void **state)
{
    unsigned peers = 0;
    (void)state;
    for (size_t i = 0; rivals[i] != NULL; i++) {
        const struct rival *r = rivals[i];
        if (r->kind != RIVAL_PEER)
            continue;
        peers++;
        assert_non_null(r->present);
        char why[160] = "";
        assert_true(r->present(why) || why[0] != '\0');
        bool built = r->start != NULL;
        assert_true(!built || (r->disk && r->os) || r->lacks_durability != NULL);
        assert_true(!built || r->queue != NULL || r->lacks_queue != NULL);
    }
    assert_int_equal(peers, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_lets_out_its_window_and_counts_each_message_once),
        cmocka_unit_test(a_lane_at_a_rate_counts_each_message_once_too),
        cmocka_unit_test(a_refusal_fails_the_run_in_either_loop),
        cmocka_unit_test(all_that_came_whole_and_once_is_good),
        cmocka_unit_test(what_was_lost_repeated_or_damaged_makes_a_run_void),
        cmocka_unit_test(what_is_still_there_is_not_lost),
        cmocka_unit_test(each_peer_says_why_it_lacks_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
