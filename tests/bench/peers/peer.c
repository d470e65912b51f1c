/* See peer.h. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---------------------------------------------------------------- files */

bool peer_program(const char *name, char path[PATH_MAX], char *why)
{
    const char *set = getenv("PATH");
    char all[4096];
    snprintf(all, sizeof all, "%s:/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin", set != NULL ? set : "");
    for (char *rest = all, *dir; (dir = strsep(&rest, ":")) != NULL;)
        if (*dir == '/' && snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && access(path, X_OK) == 0)
            return true;
    if (why != NULL)
        snprintf(why, 160, "there is no %s on this machine", name);
    return false;
}

int peer_version(const char *path, const char *option, char *out, size_t size, struct err *e)
{
    char command[PATH_MAX + 32], said[256] = "";
    snprintf(command, sizeof command, "'%s' %s 2>&1", path, option);
    FILE *f = popen(command, "re");
    if (f == NULL)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    bool any = fgets(said, sizeof said, f) != NULL;
    pclose(f);
    for (char *at = said; any && *at != '\0'; at += strcspn(at, " v\n"), at += strspn(at, " v\n")) {
        size_t n = strspn(at, "0123456789.");
        if (n < 3 || memchr(at, '.', n) == NULL)
            continue;
        snprintf(out, size, "%.*s", (int)n, at);
        return 0;
    }
    return err_set(e, EPROTO, "%s %s says no version", path, option);
}

int peer_file(const char *name, char path[PATH_MAX], struct err *e)
{
    const char *dir = getenv("SLUICE_BENCH_PEERS");
    snprintf(path, PATH_MAX, "%s/%s", dir != NULL ? dir : BENCH_PEERS_DIR, name);
    return access(path, R_OK) == 0 ? 0 : err_set(e, errno, "%s: %s; $SLUICE_BENCH_PEERS says where else", path, strerror(errno));
}

int peer_configure(const char *name, const char *to, const char *more, struct err *e)
{
    char from[PATH_MAX], text[16384];
    int code = peer_file(name, from, e);
    if (code != 0)
        return code;
    FILE *in = fopen(from, "re"), *out = fopen(to, "we");
    bool good = in != NULL && out != NULL;
    if (good) {
        size_t n = fread(text, 1, sizeof text, in);
        good = n < sizeof text && fwrite(text, 1, n, out) == n && fputs(more, out) >= 0;
    }
    if (in != NULL)
        fclose(in);
    if (out != NULL)
        good &= fclose(out) == 0;
    return good ? 0 : err_set(e, EIO, "%s cannot be written from %s", to, from);
}

/* ---------------------------------------------------------------- the account of a run */

void account_open(struct account *a)
{
    *a = (struct account){.lock = PTHREAD_MUTEX_INITIALIZER, .verify = verify_new(PEER_LANES_MAX, false)};
}

void account_close(struct account *a)
{
    verify_free(a->verify);
    pthread_mutex_destroy(&a->lock);
}

static int lanes_fit(const struct work *w, struct err *e)
{
    return w->connections <= PEER_LANES_MAX ? 0 : err_set(e, EINVAL, "a peer gets %d connections at most", PEER_LANES_MAX);
}

int job_produce(struct job *j, const struct server *server, load_lane_fn *fn, struct outcome *out, struct err *e)
{
    struct load_options o = work_load(j->work, server, fn, j);
    int code = lanes_fit(j->work, e);
    if (code == 0)
        code = load_run(&o, out, e);
    j->account->produced = 0;
    for (uint32_t i = 0; i < PEER_LANES_MAX; i++) {
        verify_produced(j->account->verify, i, j->account->next[i]);
        j->account->produced += j->account->next[i];
    }
    return code;
}

int account_judge(const struct account *a, bool all, struct err *e)
{
    struct verdict d = verify_end(a->verify);
    char text[160];
    if (!all)
        d.lost = 0; /* they are still there */
    return verdict_good(&d) ? 0 : err_set(e, EBADMSG, "void: %s", verdict_text(&d, text));
}

int job_queue(struct job *j, const struct server *server, load_lane_fn *fn, struct outcome *out, struct err *e)
{
    struct load_options o = work_load(j->work, server, fn, j);
    int code = lanes_fit(j->work, e);
    atomic_store(&j->account->taken, 0);
    if (code == 0)
        code = load_run(&o, out, e);
    j->account->taken_before += atomic_load(&j->account->taken);
    return code == 0 ? account_judge(j->account, j->account->taken_before >= j->account->produced, e) : code;
}

void feed_open(struct feed *f, const struct job *j, uint32_t lane)
{
    const struct work *w = j->work;
    *f = (struct feed){.account = j->account,
                       .payload = {.seed = w->seed, .size = w->size, .compressible = w->compressible},
                       .head = {.stream = lane, .number = j->account->next[lane]}};
}

void feed_fill(struct feed *f, void *out)
{
    payload_fill(&f->payload, &f->head, out);
    f->head.number++;
}

void feed_close(struct feed *f)
{
    f->account->next[f->head.stream] = f->head.number;
}

bool intake_goes_on(const struct job *j, const struct load_lane *l)
{
    return load_goes_on(l) && (j->work->messages == 0 || atomic_load(&j->account->taken) < j->work->messages);
}

void account_lock(struct account *a)
{
    pthread_mutex_lock(&a->lock);
}

void account_unlock(struct account *a)
{
    pthread_mutex_unlock(&a->lock);
}

void account_seen(struct account *a, const void *data, size_t size)
{
    verify_seen(a->verify, data, size, NULL);
}

void intake_done(const struct job *j, struct load_lane *l, uint64_t since_ns, uint64_t messages)
{
    load_count(l, since_ns, messages);
    atomic_fetch_add(&j->account->taken, messages);
}

/* ---------------------------------------------------------------- pace */

/* The batches that are out, oldest first. */
struct flights {
    const struct pace *pace;
    struct load_lane *lane;
    struct load_ticket *tickets;
    uint32_t size, first, count;
    bool ended;
    atomic_int code; /* of who awaits */
    struct err err;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void flights_push(struct flights *f, const struct load_ticket *t)
{
    pthread_mutex_lock(&f->lock);
    f->tickets[(f->first + f->count++) % f->size] = *t;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

/* Waits for the oldest; false when there is none and there will be none. */
static bool flights_first(struct flights *f, struct load_ticket *t)
{
    pthread_mutex_lock(&f->lock);
    while (f->count == 0 && !f->ended)
        pthread_cond_wait(&f->changed, &f->lock);
    bool any = f->count > 0;
    if (any)
        *t = f->tickets[f->first];
    pthread_mutex_unlock(&f->lock);
    return any;
}

static int land_one(struct flights *f, const struct load_ticket *t, struct err *e)
{
    int code = atomic_load(&f->code) != 0 ? 0 : f->pace->await(f->pace->user, t->messages, e);
    pthread_mutex_lock(&f->lock);
    f->first = (f->first + 1) % f->size;
    f->count--;
    pthread_mutex_unlock(&f->lock);
    load_done(f->lane, t);
    return code;
}

/* After a failure nothing is awaited any more, but who waits for room in the window gets it. */
static void *land_all(void *arg)
{
    struct flights *f = arg;
    for (struct load_ticket t; flights_first(f, &t);) {
        int code = land_one(f, &t, &f->err);
        if (code != 0)
            atomic_store(&f->code, code);
    }
    return NULL;
}

static int send_alone(struct flights *f, uint32_t window, struct err *e)
{
    int code = 0;
    for (struct load_ticket t, oldest; code == 0;) {
        if (f->count < window) {
            if (!load_next(f->lane, &t))
                break;
            code = f->pace->send(f->pace->user, t.messages, e);
            flights_push(f, &t);
        }
        if (code == 0 && f->count == window && flights_first(f, &oldest))
            code = land_one(f, &oldest, e);
    }
    for (struct load_ticket oldest; code == 0 && f->count > 0 && flights_first(f, &oldest);)
        code = land_one(f, &oldest, e);
    return code;
}

static int send_beside(struct flights *f, struct err *e)
{
    pthread_t thread;
    int code = pthread_create(&thread, NULL, land_all, f);
    if (code != 0)
        return err_set(e, code, "a thread: %s", strerror(code));
    for (struct load_ticket t; code == 0 && atomic_load(&f->code) == 0 && load_next(f->lane, &t);) {
        flights_push(f, &t);
        code = f->pace->send(f->pace->user, t.messages, e);
    }
    pthread_mutex_lock(&f->lock);
    f->ended = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(thread, NULL);
    return code == 0 && f->code != 0 ? err_set(e, f->code, "%s", f->err.text) : code;
}

int pace_run(const struct pace *p, struct load_lane *l, const struct work *w, struct err *e)
{
    bool open_loop = w->rate > 0;
    uint32_t window = open_loop && p->alone ? 1 : w->window;
    struct flights f = {.pace = p, .lane = l, .size = w->window, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    f.tickets = calloc(f.size, sizeof *f.tickets);
    if (f.tickets == NULL)
        abort();
    load_ready(l);
    int code = open_loop && window > 1 ? send_beside(&f, e) : send_alone(&f, window, e);
    free(f.tickets);
    return code;
}
