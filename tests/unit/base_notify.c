#include "unit.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/notify.h"

static int bound_at(const struct sockaddr_un *at, socklen_t size)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)at, size), 0);
    return fd;
}

static void assert_received(int fd, const char *expected)
{
    char text[128] = "";
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, expected);
    assert_int_equal(recv(fd, text, sizeof text, 0), -1); /* once */
}

static void a_state_is_one_datagram_to_the_named_socket(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/sluice-unit-notify-%d", (int)getpid());
    int fd = bound_at(&at, sizeof at);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    notify("READY=1\nSTATUS=fine");
    assert_received(fd, "READY=1\nSTATUS=fine");
    close(fd);
    unlink(at.sun_path);
    notify("STOPPING=1"); /* nobody is there: nothing happens */
}

static void a_socket_without_a_file_is_reached_too(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char name[64];
    snprintf(name, sizeof name, "@sluice-unit-notify-%d", (int)getpid());
    memcpy(at.sun_path + 1, name + 1, strlen(name) - 1);
    int fd = bound_at(&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)));
    setenv("NOTIFY_SOCKET", name, 1);
    notify("WATCHDOG=1");
    assert_received(fd, "WATCHDOG=1");
    close(fd);
}

static void without_a_socket_nothing_happens(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    notify("READY=1");
    setenv("NOTIFY_SOCKET", "relative", 1);
    notify("READY=1");
}

static void set_or_not(const char *name, const char *value)
{
    if (value != NULL)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void a_watchdog_is_fed_twice_as_often_as_it_bites(void **state)
{
    (void)state;
    char own[32];
    snprintf(own, sizeof own, "%d", (int)getpid());
    const struct {
        const char *us, *pid;
        uint64_t ms;
    } cases[] = {
        {NULL, NULL, 0}, {"30000000", NULL, 15000}, {"30000000", own, 15000}, {"30000000", "1", 0},
        {"0", NULL, 0},  {"10s", NULL, 0},          {"-5", NULL, 0},          {"1", NULL, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        set_or_not("WATCHDOG_USEC", cases[i].us);
        set_or_not("WATCHDOG_PID", cases[i].pid);
        assert_int_equal(notify_watchdog_ms(), cases[i].ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_one_datagram_to_the_named_socket),
        cmocka_unit_test(a_socket_without_a_file_is_reached_too),
        cmocka_unit_test(without_a_socket_nothing_happens),
        cmocka_unit_test(a_watchdog_is_fed_twice_as_often_as_it_bites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
