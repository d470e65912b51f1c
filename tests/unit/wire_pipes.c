#include "unit.h"

#include "wire/pipes.h"

/* ---- one table of pipes with small bounds, and connections that only count what they are asked */

static const struct wire_bounds small = {.pipes_max = 4,
                                         .unauthenticated_pipes_max = 2,
                                         .hello_ms = 100,
                                         .requests_in_flight_max = 60,
                                         .pipe_unread_bytes_max = 1000,
                                         .unread_bytes_max = 2500};

struct conn {
    unsigned closed, trusted, released;
    struct pipe *pipe;
};

static void conn_send(void *conn, struct packet *p)
{
    (void)conn;
    packet_drop(p);
}

static void conn_close(void *conn)
{
    ((struct conn *)conn)->closed++;
}

static void conn_trust(void *conn)
{
    ((struct conn *)conn)->trusted++;
}

static void conn_release(void *conn)
{
    ((struct conn *)conn)->released++;
}

static const struct pipe_ops measured = {conn_send, conn_close, conn_trust, conn_release, true, 8};
static const struct pipe_ops unmeasured = {conn_send, conn_close, conn_trust, conn_release, false, 0};

struct fixture {
    struct pipes *p;
    struct conn conn[8];
    struct buf found;
};

static void begin(struct fixture *f)
{
    *f = (struct fixture){.p = pipes_new(&small)};
}

static bool add(struct fixture *f, size_t i, uint64_t now_ms)
{
    f->conn[i].pipe = pipes_add(f->p, &measured, &f->conn[i], now_ms);
    return f->conn[i].pipe != NULL;
}

static uint64_t gone(struct fixture *f, size_t i)
{
    uint64_t number = pipes_gone(f->p, f->conn[i].pipe);
    f->conn[i].pipe = NULL;
    return number;
}

static void end(struct fixture *f)
{
    for (size_t i = 0; i < 8; i++)
        if (f->conn[i].pipe != NULL)
            gone(f, i);
    pipes_free(f->p);
    buf_free(&f->found);
}

/* What was found is closed and let go, as the wire does. */
static void close_found(struct fixture *f)
{
    for (size_t at = 0; at < f->found.size; at += sizeof(struct pipe *)) {
        struct pipe *pipe;
        memcpy(&pipe, f->found.data + at, sizeof(struct pipe *));
        pipe_close(pipe);
        pipes_release(f->p, pipe);
    }
    buf_clear(&f->found);
}

/* A request, and its reply; whether it was taken is another matter. */
static enum pipe_verdict ask(struct fixture *f, size_t i)
{
    return pipes_request(f->p, f->conn[i].pipe, false);
}

static enum pipe_verdict answer(struct fixture *f, struct pipe *pipe, size_t bytes)
{
    enum pipe_verdict verdict = pipes_answer(f->p, pipe, bytes);
    pipes_release(f->p, pipe);
    return verdict;
}

static enum pipe_verdict reply(struct fixture *f, size_t i, size_t bytes)
{
    assert_int_equal(ask(f, i), PIPE_OK);
    return answer(f, f->conn[i].pipe, bytes);
}

/* A connection that was let in, with nothing out. */
static void let_in(struct fixture *f, size_t i)
{
    assert_true(add(f, i, 0));
    assert_int_equal(pipes_request(f->p, f->conn[i].pipe, true), PIPE_OK);
    pipes_hello(f->p, f->conn[i].pipe);
    assert_int_equal(answer(f, f->conn[i].pipe, 5), PIPE_OK);
    pipes_written(f->p, f->conn[i].pipe, 1, 5);
}

static struct pipes_totals totals(struct fixture *f)
{
    struct pipes_totals t;
    pipes_totals(f->p, &t);
    return t;
}

/* ---- coming and going */

static void more_that_have_not_said_hello_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_true(add(&f, 0, 0));
    assert_true(add(&f, 1, 0));
    assert_false(add(&f, 2, 0));
    gone(&f, 0);
    assert_true(add(&f, 2, 0));
    end(&f);
}

static void those_who_said_hello_leave_their_place_to_others(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (size_t i = 0; i < 4; i++)
        let_in(&f, i);
    assert_int_equal(totals(&f).not_open, 0);
    assert_int_equal(totals(&f).pipes, 4);
    assert_int_equal(f.conn[3].trusted, 1);
    assert_false(add(&f, 4, 0)); /* pipes_max */
    end(&f);
}

static void a_number_is_never_used_again(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    uint64_t first = gone(&f, 0);
    let_in(&f, 0);
    assert_true(gone(&f, 0) > first);
    end(&f);
}

static void a_closed_door_lets_nobody_in(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    pipes_close_door(f.p);
    assert_false(add(&f, 1, 0));
    assert_int_equal(reply(&f, 0, 10), PIPE_OK);
    end(&f);
}

static void who_does_not_say_hello_in_time_is_overdue(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    assert_true(add(&f, 1, 50));
    assert_int_equal(pipes_overdue(f.p, 40, &f.found), 0); /* a look that began before it came */
    assert_int_equal(pipes_overdue(f.p, 149, &f.found), 0);
    assert_int_equal(pipes_overdue(f.p, 150, &f.found), 1);
    close_found(&f);
    assert_int_equal(f.conn[1].closed, 1);
    assert_int_equal(f.conn[0].closed, 0);
    assert_int_equal(pipes_overdue(f.p, 1000, &f.found), 0); /* told once */
    end(&f);
}

/* ---- requests */

static void the_first_request_must_be_hello(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_true(add(&f, 0, 0));
    struct pipe *pipe = f.conn[0].pipe;
    assert_int_equal(pipes_request(f.p, pipe, false), PIPE_NO_HELLO);
    assert_int_equal(answer(&f, pipe, 10), PIPE_OK);
    assert_int_equal(pipes_request(f.p, pipe, true), PIPE_OK);
    assert_int_equal(pipes_request(f.p, pipe, false), PIPE_OK); /* behind hello, before its answer */
    assert_int_equal(answer(&f, pipe, 10), PIPE_OK);
    assert_int_equal(answer(&f, pipe, 10), PIPE_OK);
    end(&f);
}

static void the_sixty_first_unanswered_request_closes_its_pipe(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(ask(&f, 0), PIPE_OK);
    assert_int_equal(ask(&f, 0), PIPE_CLOSE);
    assert_int_equal(ask(&f, 0), PIPE_GONE);
    for (int i = 0; i < 60; i++)
        assert_int_equal(answer(&f, f.conn[0].pipe, 10), PIPE_GONE);
    assert_int_equal(totals(&f).requests, 0);
    end(&f);
}

static void who_keeps_to_sixty_is_never_closed_though_we_hear_late_of_what_was_taken(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    struct pipe *pipe = f.conn[0].pipe;
    for (int i = 0; i < 60; i++)
        assert_int_equal(ask(&f, 0), PIPE_OK);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 8; i++) /* taken, read, and asked again before we are told */
            assert_int_equal(answer(&f, pipe, 1), PIPE_OK);
        for (int i = 0; i < 8; i++)
            assert_int_equal(ask(&f, 0), PIPE_OK);
        pipes_written(f.p, pipe, 8, 8);
    }
    for (int i = 0; i < 60; i++)
        assert_int_equal(answer(&f, pipe, 1), PIPE_OK);
    end(&f);
}

static void who_asks_and_does_not_read_is_closed_soon(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    for (int i = 0; i < 68; i++)
        assert_int_equal(reply(&f, 0, 1), PIPE_OK);
    assert_int_equal(ask(&f, 0), PIPE_CLOSE);
    end(&f);
}

static void a_pipe_that_is_gone_is_kept_until_its_last_request(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    assert_int_equal(ask(&f, 0), PIPE_OK);
    assert_int_equal(reply(&f, 0, 100), PIPE_OK);
    struct pipe *pipe = f.conn[0].pipe;
    gone(&f, 0);
    assert_int_equal(f.conn[0].released, 0);
    assert_int_equal(totals(&f).unread_bytes, 0);
    assert_int_equal(answer(&f, pipe, 10), PIPE_GONE);
    assert_int_equal(f.conn[0].released, 1);
    assert_int_equal(totals(&f).requests, 0);
    end(&f);
}

static void a_request_without_a_reply_closes_its_pipe_once(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    struct pipe *pipe = f.conn[0].pipe;
    assert_int_equal(ask(&f, 0), PIPE_OK);
    assert_int_equal(ask(&f, 0), PIPE_OK);
    assert_true(pipes_drop(f.p, pipe));
    assert_false(pipes_drop(f.p, pipe));
    pipes_release(f.p, pipe);
    pipes_release(f.p, pipe);
    assert_int_equal(totals(&f).requests, 0);
    end(&f);
}

/* ---- replies that are not taken */

static void a_pipe_that_takes_nothing_is_closed_at_its_bound(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    assert_int_equal(reply(&f, 0, 600), PIPE_OK);
    assert_int_equal(reply(&f, 0, 400), PIPE_OK);
    assert_int_equal(totals(&f).unread_bytes, 1000);
    assert_int_equal(reply(&f, 0, 1), PIPE_CLOSE);
    assert_int_equal(totals(&f).unread_bytes, 0); /* its queue is freed at once */
    assert_int_equal(ask(&f, 0), PIPE_GONE);
    pipes_written(f.p, f.conn[0].pipe, 1, 600); /* what was on its way when it was closed */
    assert_int_equal(totals(&f).unread_bytes, 0);
    end(&f);
}

static void what_was_taken_is_not_unread(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(reply(&f, 0, 1000), PIPE_OK);
        pipes_written(f.p, f.conn[0].pipe, 1, 1000);
    }
    assert_int_equal(totals(&f).unread_bytes, 0);
    end(&f);
}

static void over_the_bound_of_all_the_largest_goes(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (size_t i = 0; i < 3; i++) {
        let_in(&f, i);
        assert_int_equal(reply(&f, i, 700 + 50 * i), PIPE_OK);
    }
    assert_int_equal(totals(&f).unread_bytes, 2250);
    assert_int_equal(pipes_fat(f.p, &f.found), 0);
    assert_int_equal(reply(&f, 0, 99), PIPE_OK);
    assert_int_equal(reply(&f, 1, 200), PIPE_OK); /* 799, 950, 800 */
    assert_int_equal(pipes_fat(f.p, &f.found), 1);
    close_found(&f);
    assert_int_equal(f.conn[1].closed, 1);
    assert_int_equal(f.conn[0].closed + f.conn[2].closed, 0);
    assert_int_equal(totals(&f).unread_bytes, 1599);
    end(&f);
}

static void within_the_process_what_is_sent_is_taken(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct pipe *pipe = f.conn[0].pipe = pipes_add(f.p, &unmeasured, &f.conn[0], 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pipes_request(f.p, pipe, true), PIPE_OK);
        assert_int_equal(answer(&f, pipe, 900), PIPE_OK);
    }
    assert_int_equal(totals(&f).unread_bytes, 0);
    end(&f);
}

static void a_pipe_is_taken_over_by_its_number_once(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    let_in(&f, 0);
    uint64_t number = pipe_number(f.conn[0].pipe);
    struct pipe *pipe = pipes_take_over(f.p, number);
    assert_ptr_equal(pipe, f.conn[0].pipe);
    pipes_release(f.p, pipe);
    assert_null(pipes_take_over(f.p, number));
    assert_null(pipes_take_over(f.p, number + 1));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_that_have_not_said_hello_are_refused),
        cmocka_unit_test(those_who_said_hello_leave_their_place_to_others),
        cmocka_unit_test(a_number_is_never_used_again),
        cmocka_unit_test(a_closed_door_lets_nobody_in),
        cmocka_unit_test(who_does_not_say_hello_in_time_is_overdue),
        cmocka_unit_test(the_first_request_must_be_hello),
        cmocka_unit_test(the_sixty_first_unanswered_request_closes_its_pipe),
        cmocka_unit_test(who_keeps_to_sixty_is_never_closed_though_we_hear_late_of_what_was_taken),
        cmocka_unit_test(who_asks_and_does_not_read_is_closed_soon),
        cmocka_unit_test(a_pipe_that_is_gone_is_kept_until_its_last_request),
        cmocka_unit_test(a_request_without_a_reply_closes_its_pipe_once),
        cmocka_unit_test(a_pipe_that_takes_nothing_is_closed_at_its_bound),
        cmocka_unit_test(what_was_taken_is_not_unread),
        cmocka_unit_test(over_the_bound_of_all_the_largest_goes),
        cmocka_unit_test(within_the_process_what_is_sent_is_taken),
        cmocka_unit_test(a_pipe_is_taken_over_by_its_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
