#include "base/inbox.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

int inbox_init(struct inbox *in, size_t bytes_max, struct err *e)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        int code = errno;
        return err_set(e, code, "eventfd: %s", strerror(code));
    }
    *in = (struct inbox){.bytes_max = bytes_max, .fd = fd};
    in->last = &in->first;
    pthread_mutex_init(&in->lock, NULL);
    return 0;
}

void inbox_free(struct inbox *in)
{
    assert(in->first == NULL);
    pthread_mutex_destroy(&in->lock);
    close(in->fd);
}

/* Gets the consumer up if it sleeps. Under lock, so that no signal is left over once the consumer
   has disarmed. */
static void rouse(struct inbox *in)
{
    if (!in->asleep)
        return;
    in->asleep = false;
    in->signalled = true;
    eventfd_write(in->fd, 1);
}

static void hang_in(struct inbox *in, struct inbox_node *n, size_t bytes)
{
    n->next = NULL;
    n->bytes = bytes;
    *in->last = n;
    in->last = &n->next;
    in->bytes += bytes;
}

void inbox_push(struct inbox *in, struct inbox_node *n, size_t bytes)
{
    pthread_mutex_lock(&in->lock);
    hang_in(in, n, bytes);
    rouse(in);
    pthread_mutex_unlock(&in->lock);
}

static bool hang_in_if_it_fits(struct inbox *in, struct inbox_node *n, size_t bytes)
{
    size_t max = in->bytes_max;
    bool fits = max == 0 || in->first == NULL || (in->bytes <= max && bytes <= max - in->bytes);
    if (fits)
        hang_in(in, n, bytes);
    return fits;
}

bool inbox_offer(struct inbox *in, struct inbox_node *n, size_t bytes)
{
    pthread_mutex_lock(&in->lock);
    bool fits = hang_in_if_it_fits(in, n, bytes);
    if (fits)
        rouse(in);
    pthread_mutex_unlock(&in->lock);
    return fits;
}

bool inbox_leave(struct inbox *in, struct inbox_node *n, size_t bytes)
{
    pthread_mutex_lock(&in->lock);
    bool fits = hang_in_if_it_fits(in, n, bytes);
    pthread_mutex_unlock(&in->lock);
    return fits;
}

void inbox_rouse(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    if (in->first != NULL)
        rouse(in);
    pthread_mutex_unlock(&in->lock);
}

void inbox_wake(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    in->woken = true;
    rouse(in);
    pthread_mutex_unlock(&in->lock);
}

struct inbox_node *inbox_drain(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    struct inbox_node *chain = in->first;
    in->first = NULL;
    in->last = &in->first;
    in->bytes = 0;
    pthread_mutex_unlock(&in->lock);
    return chain;
}

size_t inbox_bytes(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    size_t bytes = in->bytes;
    pthread_mutex_unlock(&in->lock);
    return bytes;
}

int inbox_fd(const struct inbox *in)
{
    return in->fd;
}

bool inbox_arm(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    in->asleep = in->first == NULL && !in->woken;
    bool armed = in->asleep;
    pthread_mutex_unlock(&in->lock);
    return armed;
}

void inbox_disarm(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    in->asleep = false;
    in->woken = false;
    if (in->signalled) {
        eventfd_t ignored;
        eventfd_read(in->fd, &ignored);
        in->signalled = false;
    }
    pthread_mutex_unlock(&in->lock);
}

/* Sleeps until the descriptor is readable or the deadline has come; signals of the process do not end it. */
static void sleep_until(int fd, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec left, *timeout = NULL;
    for (;;) {
        if (deadline_ns != UINT64_MAX) {
            uint64_t now = clock_mono_ns();
            uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
            left.tv_sec = (time_t)(ns / 1000000000u);
            left.tv_nsec = (long)(ns % 1000000000u);
            timeout = &left;
        }
        if (ppoll(&p, 1, timeout, NULL) >= 0 || errno != EINTR)
            return;
    }
}

bool inbox_wait(struct inbox *in, uint64_t deadline_ns)
{
    if (inbox_arm(in))
        sleep_until(in->fd, deadline_ns);
    inbox_disarm(in);
    pthread_mutex_lock(&in->lock);
    bool something = in->first != NULL;
    pthread_mutex_unlock(&in->lock);
    return something;
}
