#include "wire/poller.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"

enum { EVENTS_AT_ONCE = 64 };

struct poller {
    pthread_t thread;
    int epoll;
    struct inbox ends; /* of watches, by `end` */
    atomic_bool stop;
    struct pollers *all;
};

struct pollers {
    struct poller *at;
    unsigned n;
    atomic_uint turn;
    void (*told)(void *user);
    void *user;
};

/* Frees come behind the events that were taken together with them, so nobody is told of what is freed. */
static void free_ended(struct poller *p)
{
    for (struct inbox_node *n = inbox_drain(&p->ends), *next; n != NULL; n = next) {
        next = n->next;
        struct watch *w = container_of(n, struct watch, end);
        w->free(w);
    }
}

static void *poll_main(void *arg)
{
    struct poller *p = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    while (!atomic_load(&p->stop)) {
        int n = epoll_wait(p->epoll, events, EVENTS_AT_ONCE, inbox_arm(&p->ends) ? -1 : 0);
        inbox_disarm(&p->ends);
        for (int i = 0; i < n; i++) {
            struct watch *w = events[i].data.ptr;
            if (w != NULL) /* else it was the inbox */
                w->ready(w, events[i].events);
        }
        free_ended(p);
        if (p->all->told != NULL)
            p->all->told(p->all->user);
    }
    free_ended(p);
    return NULL;
}

static int poller_open(struct poller *p, struct err *e)
{
    if (inbox_init(&p->ends, 0, e) != 0)
        return err_set(e, E_INTERNAL, "a thread for connections: %s", e->text);
    struct epoll_event inbox = {.events = EPOLLIN};
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    int code = p->epoll < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, inbox_fd(&p->ends), &inbox) != 0 ? errno : 0;
    if (code == 0)
        code = pthread_create(&p->thread, NULL, poll_main, p);
    if (code == 0) {
        pthread_setname_np(p->thread, "wire");
        return E_OK;
    }
    if (p->epoll >= 0)
        close(p->epoll);
    inbox_free(&p->ends);
    return err_set(e, E_INTERNAL, "a thread for connections: %s", strerror(code));
}

int pollers_start(struct pollers **out, unsigned threads, void (*told)(void *user), void *user, struct err *e)
{
    struct pollers *p = mem_zalloc(sizeof *p);
    p->told = told;
    p->user = user;
    p->at = mem_array(threads, sizeof *p->at);
    memset(p->at, 0, threads * sizeof *p->at);
    for (; p->n < threads; p->n++) {
        p->at[p->n].all = p;
        if (poller_open(&p->at[p->n], e) != E_OK) {
            pollers_stop(p);
            return e->code;
        }
    }
    *out = p;
    return E_OK;
}

void pollers_stop(struct pollers *p)
{
    if (p == NULL)
        return;
    for (unsigned i = 0; i < p->n; i++) {
        struct poller *x = &p->at[i];
        atomic_store(&x->stop, true);
        inbox_wake(&x->ends);
        pthread_join(x->thread, NULL);
        free_ended(x);
        close(x->epoll);
        inbox_free(&x->ends);
    }
    mem_free(p->at);
    mem_free(p);
}

int watch_add(struct pollers *p, struct watch *w, uint32_t events)
{
    w->poller = &p->at[atomic_fetch_add(&p->turn, 1) % p->n];
    struct epoll_event ev = {.events = events, .data.ptr = w};
    return epoll_ctl(w->poller->epoll, EPOLL_CTL_ADD, w->fd, &ev) == 0 ? 0 : errno;
}

void watch_change(struct watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    epoll_ctl(w->poller->epoll, EPOLL_CTL_MOD, w->fd, &ev); /* fails only for what was removed */
}

void watch_remove(struct watch *w)
{
    epoll_ctl(w->poller->epoll, EPOLL_CTL_DEL, w->fd, NULL);
}

void watch_free(struct watch *w)
{
    inbox_push(&w->poller->ends, &w->end, 0);
}
