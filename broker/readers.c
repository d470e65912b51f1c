/* Threads that read the logs: see readers.h. */
#include "broker/readers.h"

#include <pthread.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "broker/heldread.h"
#include "broker/pickread.h"
#include "schemas/errors.h"

enum job_kind { JOB_LOAD, JOB_DUE, JOB_BACK, JOB_CUT, JOB_COPY, JOB_MATCH, JOB_COMPACT, JOB_PICK, JOB_FILL };

struct job {
    struct list_node link;
    enum job_kind kind;
    union {
        struct effect_load load;
        struct effect_due due;
        struct effect_cut cut;
        struct effect_back back;
        struct copies *copies;
        struct match *match;
        struct compaction *compaction;
        struct pick *pick;
        struct op *op;
    };
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

static void do_compact(struct readers *r, struct compaction *c)
{
    struct err e = {0};
    if (compact_round(r->src.store, c, &e) == 0) {
        r->hooks.compacted(r->hooks.user, c);
        return;
    }
    compaction_free(c);
    r->hooks.failed(r->hooks.user, &e);
}

static void do_pick(struct readers *r, struct pick *p)
{
    log_pick(&r->src, p);
    r->hooks.picked(r->hooks.user, p);
}

static void do_due(struct readers *r, const struct effect_due *want)
{
    struct due d;
    struct err e = {0};
    if (due_read(r->src.store, want, &d, &e) != 0)
        r->hooks.failed(r->hooks.user, &e);
    else
        r->hooks.due(r->hooks.user, &d);
}

static void do_cut(struct readers *r, const struct effect_cut *want)
{
    struct cut c;
    struct err e = {0};
    if (cut_find(r->src.store, want, &c, &e) != 0)
        r->hooks.failed(r->hooks.user, &e);
    else
        r->hooks.cut(r->hooks.user, &c);
}

static void do_back(struct readers *r, const struct effect_back *want)
{
    struct back b;
    struct buf places = {0};
    struct err e = {0};
    if (back_read(r->src.store, want, &b, &places, &e) != 0)
        r->hooks.failed(r->hooks.user, &e);
    else
        r->hooks.back(r->hooks.user, &b);
    buf_free(&places);
}

static void do_copy(struct readers *r, struct copies *c)
{
    log_copy(&r->src, c);
    r->hooks.copied(r->hooks.user, c);
}

static void do_fill(struct readers *r, struct op *op)
{
    log_fill(&r->src, op, r->hooks.unreadable, r->hooks.user);
    r->hooks.filled(r->hooks.user, op);
}

static void do_job(struct readers *r, const struct job *j, struct buf *records)
{
    switch (j->kind) {
    case JOB_LOAD:
        do_load(r, &j->load, records);
        break;
    case JOB_DUE:
        do_due(r, &j->due);
        break;
    case JOB_CUT:
        do_cut(r, &j->cut);
        break;
    case JOB_BACK:
        do_back(r, &j->back);
        break;
    case JOB_COPY:
        do_copy(r, j->copies);
        break;
    case JOB_MATCH:
        do_match(r, j->match);
        break;
    case JOB_COMPACT:
        do_compact(r, j->compaction);
        break;
    case JOB_PICK:
        do_pick(r, j->pick);
        break;
    case JOB_FILL:
        do_fill(r, j->op);
        break;
    }
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
        do_job(r, j, &records);
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
        pthread_setname_np(r->threads[r->threads_n], "reader");
    }
    *out = r;
    return 0;
}

static void give(struct readers *r, struct job what)
{
    if (r->threads_n == 0) {
        struct buf records = {0};
        do_job(r, &what, &records);
        buf_free(&records);
        return;
    }
    pthread_mutex_lock(&r->lock);
    struct list_node *n = list_pop_front(&r->spare);
    struct job *j = n != NULL ? container_of(n, struct job, link) : mem_zalloc(sizeof *j);
    what.link = j->link;
    *j = what;
    list_push_back(&r->jobs, &j->link);
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
}

void readers_load(struct readers *r, const struct effect_load *load) { give(r, (struct job){.kind = JOB_LOAD, .load = *load}); }
void readers_due(struct readers *r, const struct effect_due *due) { give(r, (struct job){.kind = JOB_DUE, .due = *due}); }
void readers_cut(struct readers *r, const struct effect_cut *cut) { give(r, (struct job){.kind = JOB_CUT, .cut = *cut}); }
void readers_back(struct readers *r, const struct effect_back *back) { give(r, (struct job){.kind = JOB_BACK, .back = *back}); }
void readers_copy(struct readers *r, struct copies *c) { give(r, (struct job){.kind = JOB_COPY, .copies = c}); }
void readers_match(struct readers *r, struct match *m) { give(r, (struct job){.kind = JOB_MATCH, .match = m}); }
void readers_compact(struct readers *r, struct compaction *c) { give(r, (struct job){.kind = JOB_COMPACT, .compaction = c}); }
void readers_pick(struct readers *r, struct pick *p) { give(r, (struct job){.kind = JOB_PICK, .pick = p}); }
void readers_fill(struct readers *r, struct op *op) { give(r, (struct job){.kind = JOB_FILL, .op = op}); }

bool readers_fill_here(struct readers *r, struct op *op)
{
    enum { HERE_BYTES_MAX = 16 * 1024 }; /* copied in less time than it takes to wake a thread */
    const struct wire_fetch_part *parts = op->reply.fetch.parts;
    size_t all = 0, bytes;
    if (op->read != READ_FETCH || op->reply.fetch.parts_n > 16)
        return false;
    for (uint32_t i = 0; i < op->reply.fetch.parts_n; i++) {
        const struct wire_fetch_part *p = &parts[i];
        uint64_t from = op->wants[i].offset < p->start ? p->start : op->wants[i].offset;
        if (p->code == E_OK && !tail_has(r->src.tail, p->partition, from, p->end, HERE_BYTES_MAX - all, &bytes))
            return false;
        all += p->code == E_OK ? bytes : 0;
    }
    do_fill(r, op);
    return true;
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
