/* Threads that read the logs: see readers.h. */
#include "broker/readers.h"

#include <pthread.h>

#include "base/list.h"
#include "base/mem.h"

struct job {
    struct list_node link;
    struct effect_load load;
    struct op *op;       /* a reply to fill */
    struct match *match; /* else a filter to apply; NULL: a load */
};

struct readers {
    struct log_source src;
    struct readers_hooks hooks;
    uint32_t threads_n;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list jobs, spare;
    bool stopping;
};

static void do_load(struct readers *r, const struct effect_load *load, struct buf *records)
{
    struct loaded l;
    struct err e = {0};
    if (log_load(&r->src, load, &l, records, &e) != 0)
        r->hooks.failed(r->hooks.user, &e);
    else
        r->hooks.loaded(r->hooks.user, &l);
}

static void do_match(struct readers *r, struct match *m)
{
    log_match(&r->src, m);
    r->hooks.matched(r->hooks.user, m);
}

static void do_fill(struct readers *r, struct op *op)
{
    log_fill(&r->src, op, r->hooks.unreadable, r->hooks.user);
    r->hooks.filled(r->hooks.user, op);
}

static void *reader_main(void *arg)
{
    struct readers *r = arg;
    struct buf records = {0};
    pthread_mutex_lock(&r->lock);
    for (;;) {
        struct list_node *n = list_pop_front(&r->jobs);
        if (n == NULL && r->stopping)
            break;
        if (n == NULL) {
            pthread_cond_wait(&r->more, &r->lock);
            continue;
        }
        struct job *j = container_of(n, struct job, link);
        pthread_mutex_unlock(&r->lock);
        if (j->op != NULL)
            do_fill(r, j->op);
        else if (j->match != NULL)
            do_match(r, j->match);
        else
            do_load(r, &j->load, &records);
        pthread_mutex_lock(&r->lock);
        list_push_back(&r->spare, &j->link);
    }
    pthread_mutex_unlock(&r->lock);
    buf_free(&records);
    return NULL;
}

int readers_start(struct readers **out, const struct log_source *src, uint32_t threads, const struct readers_hooks *hooks, struct err *e)
{
    struct readers *r = mem_zalloc(sizeof *r);
    r->src = *src;
    r->hooks = *hooks;
    list_init(&r->jobs);
    list_init(&r->spare);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->more, NULL);
    r->threads = mem_array(threads, sizeof *r->threads);
    for (; r->threads_n < threads; r->threads_n++) {
        int code = pthread_create(&r->threads[r->threads_n], NULL, reader_main, r);
        if (code != 0) {
            readers_stop(r);
            return err_set(e, code, "a reader thread: %s", strerror(code));
        }
    }
    *out = r;
    return 0;
}

static void give(struct readers *r, const struct effect_load *load, struct match *match, struct op *op)
{
    pthread_mutex_lock(&r->lock);
    struct list_node *n = list_pop_front(&r->spare);
    struct job *j = n != NULL ? container_of(n, struct job, link) : mem_zalloc(sizeof *j);
    j->op = op;
    j->match = match;
    if (load != NULL)
        j->load = *load;
    list_push_back(&r->jobs, &j->link);
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
}

void readers_load(struct readers *r, const struct effect_load *load)
{
    if (r->threads_n > 0) {
        give(r, load, NULL, NULL);
        return;
    }
    struct buf records = {0};
    do_load(r, load, &records);
    buf_free(&records);
}

void readers_match(struct readers *r, struct match *m)
{
    if (r->threads_n > 0)
        give(r, NULL, m, NULL);
    else
        do_match(r, m);
}

void readers_fill(struct readers *r, struct op *op)
{
    if (r->threads_n > 0)
        give(r, NULL, NULL, op);
    else
        do_fill(r, op);
}

void readers_stop(struct readers *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_broadcast(&r->more);
    pthread_mutex_unlock(&r->lock);
    for (uint32_t i = 0; i < r->threads_n; i++)
        pthread_join(r->threads[i], NULL);
    for (struct list_node *n; (n = list_pop_front(&r->spare)) != NULL;)
        mem_free(container_of(n, struct job, link));
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->more);
    mem_free(r->threads);
    mem_free(r);
}
