#include "sdk/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/macros.h"

static _Thread_local const struct loop *here; /* the loop whose thread this is */

static void run_events(struct loop *l)
{
    struct inbox_node *next;
    for (struct inbox_node *n = inbox_drain(&l->inbox); n != NULL; n = next) {
        next = n->next; /* the event may be gone once it ran */
        struct event *e = container_of(n, struct event, node);
        e->run(e);
    }
}

static void fire_timers(struct loop *l)
{
    for (;;) {
        struct heap_node *first = heap_peek(&l->timers);
        if (first == NULL || first->due > l->now_ns)
            return;
        heap_pop(&l->timers);
        struct timer *t = container_of(first, struct timer, node);
        t->fire(t);
    }
}

/* Until a descriptor has something or the first timer is due. This thread takes no signals. */
static void sleep_on(struct loop *l)
{
    struct pollfd fds[1 + LOOP_WATCHES_MAX] = {{.fd = inbox_fd(&l->inbox), .events = POLLIN}};
    for (size_t i = 0; i < l->watches_n; i++)
        fds[1 + i] = (struct pollfd){.fd = l->watches[i]->fd, .events = l->watches[i]->events};
    struct heap_node *first = heap_peek(&l->timers);
    struct timespec left;
    if (first != NULL) {
        uint64_t now = clock_mono_ns();
        uint64_t ns = first->due > now ? first->due - now : 0;
        left = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    }
    int n = ppoll(fds, 1 + l->watches_n, first != NULL ? &left : NULL, NULL);
    for (size_t i = 0; i < l->watches_n; i++)
        l->watches[i]->revents = n > 0 ? fds[1 + i].revents : 0;
}

/* From the last to the first: one that ends itself gives its place to one that was called. */
static void look_at_watches(struct loop *l, bool polled)
{
    for (size_t i = l->watches_n; i-- > 0;) {
        struct watch *w = l->watches[i];
        if (!polled || w->revents != 0)
            w->ready(w, polled ? w->revents : 0);
    }
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;
    here = l;
    while (!l->stopping) {
        bool sleeps = inbox_arm(&l->inbox);
        if (sleeps)
            sleep_on(l);
        inbox_disarm(&l->inbox);
        l->now_ns = clock_mono_ns();
        run_events(l);
        look_at_watches(l, sleeps);
        fire_timers(l);
        l->round(l);
    }
    return NULL;
}

int loop_init(struct loop *l, void (*round)(struct loop *l), struct err *e)
{
    *l = (struct loop){.round = round, .now_ns = clock_mono_ns()};
    return inbox_init(&l->inbox, 0, e);
}

int loop_start(struct loop *l, struct err *e)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&l->thread, NULL, loop_main, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return err_set(e, code, "cannot start a thread: %s", strerror(code));
    pthread_setname_np(l->thread, "sluice");
    return 0;
}

void loop_post(struct loop *l, struct event *e)
{
    inbox_push(&l->inbox, &e->node, 0);
}

void loop_wake(struct loop *l)
{
    inbox_wake(&l->inbox);
}

void loop_stop(struct loop *l)
{
    assert(loop_here(l));
    l->stopping = true;
}

void loop_join(struct loop *l)
{
    pthread_join(l->thread, NULL);
}

void loop_finish(struct loop *l)
{
    run_events(l);
    heap_free(&l->timers);
    inbox_free(&l->inbox);
}

bool loop_here(const struct loop *l)
{
    return here == l;
}

void timer_set(struct loop *l, struct timer *t, uint64_t due_ns)
{
    if (due_ns == UINT64_MAX)
        timer_stop(l, t);
    else if (timer_is_set(t))
        heap_update(&l->timers, &t->node, due_ns, heap_seq(&l->timers));
    else
        heap_push(&l->timers, &t->node, due_ns, heap_seq(&l->timers));
}

void timer_stop(struct loop *l, struct timer *t)
{
    if (timer_is_set(t))
        heap_remove(&l->timers, &t->node);
}

void watch_begin(struct loop *l, struct watch *w, int fd, short events)
{
    assert(l->watches_n < LOOP_WATCHES_MAX);
    w->fd = fd;
    w->events = events;
    w->revents = 0;
    l->watches[l->watches_n++] = w;
}

void watch_end(struct loop *l, struct watch *w)
{
    for (size_t i = 0; i < l->watches_n; i++) {
        if (l->watches[i] == w)
            l->watches[i] = l->watches[--l->watches_n];
    }
}

void waiter_init(struct waiter *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->done = false;
}

void waiter_wait(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
    waiter_free(w);
}

void waiter_free(struct waiter *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

void waiter_done(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed); /* under the lock: the waiter cannot leave before we are done with it */
    pthread_mutex_unlock(&w->lock);
}
