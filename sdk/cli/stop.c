#include "cli/stop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    SAME_MS = 500
}; /* signals so close are one wish: timeout(1) sends it to the process and to its group */

static atomic_bool asked;
static atomic_int asked_by;
static int asked_fd = -1;

bool stop_asked(void)
{
    return atomic_load(&asked);
}

int stop_signal(void)
{
    return atomic_load(&asked_by);
}

int stop_fd(void)
{
    return asked_fd;
}

void stop_ask(void)
{
    atomic_store(&asked, true);
    ssize_t ignored = write(asked_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)ignored;
}

bool stop_wait(int ms)
{
    poll(&(struct pollfd){.fd = asked_fd, .events = POLLIN}, 1, ms);
    return stop_asked();
}

static void *watch(void *arg)
{
    sigset_t *signals = arg;
    uint64_t first_ms = 0;
    for (int signal_number; sigwait(signals, &signal_number) == 0;) {
        if (stop_signal() == 0) {
            first_ms = clock_mono_ms();
            atomic_store(&asked_by, signal_number);
            stop_ask();
        } else if (clock_mono_ms() - first_ms >= SAME_MS) {
            _exit(128 + signal_number);
        }
    }
    return NULL;
}

int stop_begin(struct err *e)
{
    static sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    int code = pthread_sigmask(SIG_BLOCK, &signals, NULL);
    /* A shell starts its background jobs with SIGINT ignored; `kill -INT` is to reach them all the same. Ignored SIGHUP is nohup's
       wish and stays. */
    signal(SIGINT, SIG_DFL);

    pthread_t thread;
    asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (code == 0)
        code = asked_fd < 0 ? errno : pthread_create(&thread, NULL, watch, &signals);
    if (code != 0)
        return err_set(e, code, "cannot wait for signals: %s", strerror(code));
    pthread_detach(thread);
    return 0;
}
