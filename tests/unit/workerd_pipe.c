#include "unit.h"

#include <sys/socket.h>

#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/pipe.h"

static struct pipe ours, theirs;

static int open_pipe(void **state)
{
    (void)state;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        return -1;
    pipe_init(&ours, fds[0], false);
    pipe_init(&theirs, fds[1], false);
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    pipe_free(&ours);
    pipe_free(&theirs);
    return 0;
}

static void put_task(struct pipe *p, uint64_t id, const void *value, size_t size)
{
    assert_int_equal(pipe_put(p,
                              &(struct plugin_packet){
                                  .kind = PLUGIN_TASK,
                                  .task = {.id = id, .topic = VIEW_LIT("t"), .value = view_of(value, size)}},
                              NULL),
                     0);
}

/* Moves bytes until a packet is whole. */
static struct plugin_packet next(struct pipe *from, struct pipe *to)
{
    struct view packet;
    struct plugin_packet p;
    struct arena arena;
    for (;;) {
        assert_int_equal(pipe_next(to, &packet, NULL), 0);
        if (packet.data != NULL)
            break;
        assert_int_equal(pipe_flush(from, NULL), 0);
        int code = pipe_fill(to, NULL);
        assert_true(code == 0 || code == E_AGAIN);
    }
    assert_int_equal((uintptr_t)packet.data % 8, 0);
    arena_init(&arena, 4096);
    assert_int_equal(codec_plugin_decode(packet, &p, &arena, NULL), 0);
    arena_free(&arena);
    return p;
}

static void packets_come_out_as_they_went_in_and_in_order(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 1000; i++)
        put_task(&ours, i, "abcdefgh", i % 9);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct plugin_packet p = next(&ours, &theirs);
        assert_int_equal(p.kind, PLUGIN_TASK);
        assert_int_equal(p.task.id, i);
        assert_true(view_eq(p.task.value, view_of("abcdefgh", i % 9)));
        assert_null(p.task.key.data);
    }
    assert_false(pipe_pending(&ours));
}

static void a_packet_may_be_larger_than_the_socket_holds(void **state)
{
    (void)state;
    size_t size = 64 << 20;
    uint8_t *value = mem_alloc(size);
    memset(value, 'x', size);
    put_task(&ours, 1, value, size);
    put_task(&ours, 2, "small", 5);
    assert_int_equal(pipe_flush(&ours, NULL), 0); /* does not wait for a reader */
    assert_true(pipe_pending(&ours));
    struct plugin_packet p = next(&ours, &theirs);
    assert_int_equal(p.task.value.size, size);
    assert_memory_equal(p.task.value.data, value, size);
    assert_int_equal(next(&ours, &theirs).task.id, 2);
    mem_free(value);
}

static void a_packet_larger_than_the_limit_is_not_taken(void **state)
{
    (void)state;
    struct err e;
    static uint8_t byte;
    struct plugin_packet p = {.kind = PLUGIN_TASK, .task = {.value = view_of(&byte, PIPE_PACKET_MAX)}};
    assert_int_equal(pipe_put(&ours, &p, &e), E_TOO_LARGE);
    assert_false(pipe_pending(&ours));
}

static void what_is_taken_back_is_not_sent(void **state)
{
    (void)state;
    uint8_t *large = mem_zalloc(4 << 20);
    put_task(&ours, 1, "first", 5);
    assert_int_equal(pipe_flush(&ours, NULL), 0);
    put_task(&ours, 2, large, 4 << 20);
    assert_int_equal(pipe_flush(&ours, NULL), 0);
    assert_true(pipe_pending(&ours)); /* some of it went */
    size_t mark = pipe_mark(&ours);
    for (uint64_t i = 3; i < 100; i++)
        put_task(&ours, i, "changed my mind", 15);
    pipe_rewind(&ours, mark);
    put_task(&ours, 100, "last", 4);
    assert_int_equal(next(&ours, &theirs).task.id, 1);
    assert_int_equal(next(&ours, &theirs).task.id, 2);
    assert_int_equal(next(&ours, &theirs).task.id, 100);
    assert_false(pipe_pending(&ours));
    mem_free(large);
}

static void no_memory_is_taken_for_a_size_that_cannot_be(void **state)
{
    (void)state;
    static const uint8_t heads[][8] = {
        {0, 0, 0, 0, 0, 0, 0, 0},             /* empty */
        {1, 0, 0x80, 4, 0, 0, 0, 0},          /* 72 MiB and a byte */
        {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, /* all there can be */
        {8, 0, 0, 0, 1, 0, 0, 0},             /* not from us */
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct view packet;
        struct err e;
        assert_int_equal(send(ours.fd, heads[i], 8, 0), 8);
        assert_int_equal(pipe_fill(&theirs, NULL), 0);
        size_t cap = theirs.in.cap;
        assert_int_equal(pipe_next(&theirs, &packet, &e), E_BAD_FRAME);
        assert_int_equal(theirs.in.cap, cap);
        close_pipe(NULL);
        open_pipe(NULL);
    }
}

static void the_end_is_told_after_what_was_sent_before_it(void **state)
{
    (void)state;
    put_task(&ours, 7, "last", 4);
    assert_int_equal(pipe_flush(&ours, NULL), 0);
    assert_int_equal(pipe_fill(&theirs, NULL), 0);
    assert_int_equal(pipe_fill(&theirs, NULL), E_AGAIN);
    pipe_free(&ours);
    struct view packet;
    assert_int_equal(pipe_next(&theirs, &packet, NULL), 0);
    assert_non_null(packet.data);
    assert_int_equal(pipe_fill(&theirs, NULL), E_CLOSED);
    put_task(&theirs, 8, "to nobody", 9);
    assert_int_equal(pipe_flush(&theirs, NULL), E_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packets_come_out_as_they_went_in_and_in_order, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(a_packet_may_be_larger_than_the_socket_holds, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(a_packet_larger_than_the_limit_is_not_taken, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(what_is_taken_back_is_not_sent, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(no_memory_is_taken_for_a_size_that_cannot_be, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(the_end_is_told_after_what_was_sent_before_it, open_pipe, close_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
