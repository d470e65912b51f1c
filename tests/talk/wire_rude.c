/* Clients that are rude while they connect, as port scanners and health checks are: the broker serves the next good one. */
#include "talk.h"

#include <sys/socket.h>
#include <unistd.h>

static struct broker_proc b;

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    broker_end(&b);
    return 0;
}

static void still_serves(void)
{
    assert_true(broker_runs(&b));
    EVENTUALLY(30000, talker_is_served(b.url));
    EVENTUALLY(30000, talker_is_served(b.ipc));
}

static int any_connect(const char *url)
{
    return strncmp(url, "ipc:", 4) == 0 ? unix_connect(url) : tcp_connect(url);
}

/* What ends the accepting of nng 1.5's own listeners: the end of the stream in the middle of the greeting, then a reset. */
static void half_close_and_reset(const char *url)
{
    for (int i = 0; i < 50; i++) {
        int fd = any_connect(url);
        shutdown(fd, SHUT_WR);
        tcp_reset(fd);
    }
}

static void half_closing_and_resetting_in_the_greeting_ends_no_listener_for_good(void **state)
{
    (void)state;
    half_close_and_reset(b.url);
    half_close_and_reset(b.ipc);
    half_close_and_reset(b.publish);
    still_serves();
}

static void doing_so_again_and_again_neither(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        half_close_and_reset(b.url);
        still_serves();
    }
}

/* Closing a connection on which a message is coming in hangs nng 1.5's own sockets, and with them the whole process. */
static void being_closed_in_the_middle_of_sending_keeps_nobody_else(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct talker t = {.session = {5, (uint64_t)round + 1}};
        struct wire_request r = {.verb = VERB_HEALTH};
        size_t size;
        uint8_t *frame = talker_frame(&t, &r, &size);
        int fds[10];
        for (size_t i = 0; i < 10; i++)
            fds[i] = sp_connect(b.url);
        for (uint32_t n = 0; n < 100; n++) /* more than may be out: each is closed while it sends */
            for (size_t i = 0; i < 10; i++)
                sp_send(fds[i], n, frame, size, 1000);
        free(frame);
        for (size_t i = 0; i < 10; i++)
            close(fds[i]);
    }
    still_serves();
    EVENTUALLY(60000, broker_metric(&b, "sluice_pipes") == 0);
}

static void dying_in_the_middle_of_reading_keeps_nobody_else(void **state)
{
    (void)state;
    struct talker good;
    talker_open(&good, b.url);
    talker_hello(&good);
    const struct wire_fetch_from from = {.partition = talker_topic(&good, "large", 1, DURABILITY_OS)};
    for (uint64_t seq = 1; seq <= 8; seq++)
        assert_int_equal(talker_produce(&good, from.partition, seq, 1, 1000000), E_OK);
    for (int round = 0; round < 100; round++) {
        struct talker t;
        talker_open(&t, round % 2 == 0 ? b.url : b.ipc);
        talker_hello(&t);
        struct wire_request r = {.verb = VERB_FETCH,
                                 .fetch = {.from = &from, .from_n = 1, .max_bytes = 8 << 20}};
        for (int i = 0; i < 4; i++)
            talker_send(&t, &r);
        static uint8_t some[100000];
        for (int i = 0; i < round; i++)
            if (recv(t.fd, some, sizeof some, 0) <= 0)
                break;
        tcp_reset(t.fd);
    }
    struct wire_request r = {.verb = VERB_HEALTH};
    assert_int_equal(talker_call(&good, &r, NULL), E_OK);
    talker_close(&good);
    EVENTUALLY(60000, broker_metric(&b, "sluice_pipes") == 0);
    assert_int_equal((int)broker_metric(&b, "sluice_unread_bytes"), 0);
    still_serves();
}

static void those_who_say_nothing_keep_nobody_out(void **state)
{
    (void)state;
    int fds[100];
    for (size_t i = 0; i < 100; i++)
        fds[i] = tcp_connect(b.url);
    still_serves();
    for (size_t i = 0; i < 100; i++)
        close(fds[i]);
    still_serves();
}

static void those_who_say_half_a_greeting_and_hang_up_keep_nobody_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        int fd = tcp_connect(b.url);
        assert_true(send(fd, "\0SP\0\0", 1 + i % 5, MSG_NOSIGNAL) > 0);
        if (i % 2 == 0)
            tcp_reset(fd);
        else
            close(fd);
    }
    still_serves();
}

static void those_who_speak_http_keep_nobody_out(void **state)
{
    (void)state;
    int fds[50];
    for (size_t i = 0; i < 50; i++) {
        fds[i] = tcp_connect(b.url);
        send(fds[i], "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
    }
    still_serves();
    for (size_t i = 0; i < 50; i++)
        close(fds[i]);
}

static void those_who_announce_more_than_the_limit_get_no_memory(void **state)
{
    (void)state;
    size_t before = broker_resident(&b);
    for (size_t i = 0; i < 50; i++) {
        int fd = sp_connect(b.url);
        static const uint8_t huge[8] = {0x40, 0, 0, 0, 0, 0, 0, 0};
        send(fd, huge, sizeof huge, MSG_NOSIGNAL);
        assert_true(tcp_closed_by(fd, 10000));
        close(fd);
    }
    assert_in_range(broker_resident(&b), 0, before + (16 << 20));
    still_serves();
}

static void those_who_stop_in_the_middle_of_a_request_keep_nobody_out(void **state)
{
    (void)state;
    int fds[32];
    for (size_t i = 0; i < 32; i++) {
        fds[i] = sp_connect(b.url);
        static const uint8_t head[16] = {0, 0, 0, 0, 0, 0, 1, 0, 0x80, 0, 0, 1, 'S', 1, 1, 0};
        assert_int_equal(send(fds[i], head, sizeof head, MSG_NOSIGNAL), (ssize_t)sizeof head);
    }
    still_serves();
    for (size_t i = 0; i < 32; i++) { /* and do not stay */
        assert_true(tcp_closed_by(fds[i], 20000));
        close(fds[i]);
    }
    still_serves();
}

static void good_clients_go_on_while_others_are_rude(void **state)
{
    (void)state;
    struct talker t;
    talker_open(&t, b.ipc);
    talker_hello(&t);
    uint32_t partition = talker_topic(&t, "meanwhile", 1, DURABILITY_OS);
    for (uint64_t seq = 1; seq <= 20; seq++) {
        half_close_and_reset(b.url);
        assert_int_equal(talker_produce(&t, partition, seq, 10, 100), E_OK);
    }
    talker_close(&t);
    still_serves();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_closing_and_resetting_in_the_greeting_ends_no_listener_for_good),
        cmocka_unit_test(doing_so_again_and_again_neither),
        cmocka_unit_test(being_closed_in_the_middle_of_sending_keeps_nobody_else),
        cmocka_unit_test(dying_in_the_middle_of_reading_keeps_nobody_else),
        cmocka_unit_test(those_who_say_nothing_keep_nobody_out),
        cmocka_unit_test(those_who_say_half_a_greeting_and_hang_up_keep_nobody_out),
        cmocka_unit_test(those_who_speak_http_keep_nobody_out),
        cmocka_unit_test(those_who_announce_more_than_the_limit_get_no_memory),
        cmocka_unit_test(those_who_stop_in_the_middle_of_a_request_keep_nobody_out),
        cmocka_unit_test(good_clients_go_on_while_others_are_rude),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
