#include "workerd/child.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/exec.h"
#include "workerd/host.h"
#include "workerd/jail.h"
#include "workerd/load.h"
#include "workerd/pipe.h"

enum { START_FAILED = 1, PIPE_FAILED = 2, DECODED_BYTES_MAX = 4096, TOGETHER_BYTES = 1 << 20 };

/* Tasks that the handler gets at once; one, if it is none for batches. */
struct call {
    struct list_node node; /* the queue */
    struct list tasks;     /* of struct host_task */
    size_t count;
    uint32_t missing;             /* tasks that are still to come; it does not run before */
    _Atomic uint64_t deadline_ms; /* monotonic; UINT64_MAX until it runs */
};

/* A thread that runs calls. */
struct worker {
    pthread_t id;
    uint32_t number;      /* from 1 */
    void *thread;         /* the handler's */
    struct call *running; /* its own; the pointer under lock */

    /* what a call for several is made with */
    struct sluice_task *seen;
    int *codes;
    struct sluice_verdict *verdicts;
    size_t room;
};

/* One per process, so it is static: the host's functions reach it from any thread. */
static struct {
    /* set before the worker threads start */
    struct sluice_handler handler;
    struct host host;
    char *name, *config;
    int file; /* the handler's, as its version has it; -1: none was given, or it was loaded */
    uint32_t timeout_ms;
    struct jail jail;
    void *process;
    struct worker *workers;
    uint32_t threads;
    atomic_bool workers_done;

    /* of the handler's threads one at a time begins, or ends: under its lock */
    pthread_mutex_t turn;
    uint32_t begun, ended;

    /* the reading side: main thread only */
    struct pipe pipe;

    /* the writing side of `pipe` */
    pthread_mutex_t write_lock;

    /* shared, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list queue; /* of struct call */
    bool stopping;
} self = {
    .turn = PTHREAD_MUTEX_INITIALIZER,
    .write_lock = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

/* The supervisor sees the end of the process and reads the text among its output. */
static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "the pipe to the supervisor failed: %s\n", what);
    _exit(PIPE_FAILED);
}

/* ---- sending ---- */

/* `more` follow at once: it leaves with them, as long as that is not too much. */
static void send_with(const struct plugin_packet *packet, bool more)
{
    struct err e;
    pthread_mutex_lock(&self.write_lock);
    int code = pipe_put(&self.pipe, packet, &e);
    if (code == 0 && (!more || pipe_mark(&self.pipe) >= TOGETHER_BYTES))
        code = pipe_flush(&self.pipe, &e);
    pthread_mutex_unlock(&self.write_lock);
    if (code != 0)
        give_up(e.text);
}

static void send_packet(const struct plugin_packet *packet)
{
    send_with(packet, false);
}

static void send_ready(int code, const char *error)
{
    send_packet(&(struct plugin_packet){.kind = PLUGIN_READY,
                                        .ready = {.name = view_of_str(self.handler.name),
                                                  .version = view_of_str(self.handler.version),
                                                  .error = view_of_str(error),
                                                  .code = (uint16_t)code,
                                                  .abi = SLUICE_HANDLER_ABI,
                                                  .batches = self.handler.handle_batch != NULL}});
}

/* The text of an array that the handler filled, perhaps to the brim. */
static struct view text_in(const char *array, size_t size)
{
    size_t length = strnlen(array, size);
    return view_of(length > 0 ? array : NULL, length);
}

/* With what the task is to publish and to remember, if it is done. */
static void send_verdict(const struct host_task *t, int code, struct sluice_verdict *v, bool more)
{
    static const uint8_t verdicts[] = {[SLUICE_VERDICT_ACK] = PLUGIN_ACK,
                                       [SLUICE_VERDICT_RETRY] = PLUGIN_RETRY,
                                       [SLUICE_VERDICT_PARK] = PLUGIN_PARK};
    if (code < SLUICE_VERDICT_ACK || code > SLUICE_VERDICT_PARK) {
        snprintf(v->error, sizeof v->error, "the handler returned %d, which is no verdict", code);
        v->has_delay = false;
        code = SLUICE_VERDICT_RETRY;
    }
    struct plugin_packet p = {.kind = PLUGIN_VERDICT,
                              .verdict = {.id = t->id,
                                          .verdict = verdicts[code],
                                          .has_delay = v->has_delay,
                                          .delay_ms = v->delay_ms,
                                          .reason = text_in(v->reason, sizeof v->reason),
                                          .error = text_in(v->error, sizeof v->error)}};
    if (code == SLUICE_VERDICT_ACK)
        effects_tell(&t->effects, &p);
    send_with(&p, more);
}

/* ---- calls ---- */

static struct host_task *task_at(struct list_node *n)
{
    return container_of(n, struct host_task, node);
}

/* With all tasks that are still in it. */
static void call_free(struct call *c)
{
    LIST_EACH_SAFE (n, &c->tasks)
        host_task_free(task_at(n));
    mem_free(c);
}

static struct call *call_at(struct list_node *n)
{
    return n != NULL ? container_of(n, struct call, node) : NULL;
}

/* Under lock. Puts a task into the call that waits for it, or begins one. */
static void queue_task(struct host_task *t)
{
    struct call *c = call_at(list_last(&self.queue));
    if (c == NULL || c->missing == 0) {
        c = mem_zalloc(sizeof *c);
        list_init(&c->tasks);
        atomic_init(&c->deadline_ms, UINT64_MAX);
        list_push_back(&self.queue, &c->node);
    }
    c->count++;
    c->missing = t->follow;
    t->deadline_ms = &c->deadline_ms;
    list_push_back(&c->tasks, &t->node);
}

/* Under lock. */
static struct host_task *find_in(const struct call *c, uint64_t id)
{
    LIST_EACH (n, &c->tasks) {
        if (task_at(n)->id == id)
            return task_at(n);
    }
    return NULL;
}

/* Under lock. Takes a task that did not begin out of its call; NULL: there is none of that id. */
static struct host_task *unqueue_task(uint64_t id)
{
    LIST_EACH (n, &self.queue) {
        struct call *c = call_at(n);
        struct host_task *t = find_in(c, id);
        if (t == NULL)
            continue;
        list_remove(&t->node);
        if (--c->count == 0 && c->missing == 0) {
            list_remove(&c->node);
            call_free(c);
        }
        return t;
    }
    return NULL;
}

/* ---- the worker threads ---- */

/* Waits for a call whose tasks are all there and makes it the worker's; false: there will be none. */
static bool next_call(struct worker *w)
{
    struct call *c;
    pthread_mutex_lock(&self.lock);
    while (((c = call_at(list_first(&self.queue))) == NULL || c->missing > 0) && !self.stopping)
        pthread_cond_wait(&self.wake, &self.lock);
    if (c != NULL) {
        list_remove(&c->node);
        atomic_store(&c->deadline_ms, clock_mono_ms() + self.timeout_ms);
        w->running = c;
    }
    pthread_mutex_unlock(&self.lock);
    return c != NULL;
}

static void run_single(struct host_task *t, void *thread)
{
    struct sluice_verdict verdict = {.size = sizeof verdict};
    int code = self.handler.handle(&self.host.seen, self.process, thread, &t->seen, &verdict);
    send_verdict(t, code, &verdict, false);
}

static void make_room(struct worker *w, size_t count)
{
    if (count <= w->room)
        return;
    w->seen = mem_resize(w->seen, count, sizeof *w->seen);
    w->codes = mem_resize(w->codes, count, sizeof *w->codes);
    w->verdicts = mem_resize(w->verdicts, count, sizeof *w->verdicts);
    w->room = count;
}

static void run_batch(struct worker *w, const struct call *c)
{
    size_t i = 0;
    make_room(w, c->count);
    memset(w->verdicts, 0, c->count * sizeof *w->verdicts);
    LIST_EACH (n, &c->tasks) {
        w->seen[i] = task_at(n)->seen;
        w->codes[i] = SLUICE_VERDICT_RETRY;
        w->verdicts[i++].size = sizeof *w->verdicts;
    }
    self.handler.handle_batch(&self.host.seen, self.process, w->thread, w->seen, c->count, w->codes, w->verdicts);
    i = 0;
    LIST_EACH (n, &c->tasks) {
        send_verdict(task_at(n), w->codes[i], &w->verdicts[i], i + 1 < c->count);
        i++;
    }
}

static void run_call(struct worker *w)
{
    struct call *c = w->running;
    jail_task(&self.jail);
    if (self.handler.handle_batch != NULL) {
        run_batch(w, c);
    } else {
        LIST_EACH (n, &c->tasks)
            run_single(task_at(n), w->thread);
    }
    pthread_mutex_lock(&self.lock);
    w->running = NULL;
    pthread_mutex_unlock(&self.lock);
    call_free(c);
}

/* One that cannot begin ends the process, and is the only one to say so. */
static void begin_thread(struct worker *w)
{
    const struct sluice_handler *h = &self.handler;
    char error[ERR_TEXT_MAX] = "thread_init failed", text[ERR_TEXT_MAX + 40];
    pthread_mutex_lock(&self.turn);
    if (h->thread_init != NULL &&
        h->thread_init(&self.host.seen, self.process, &w->thread, error, sizeof error) != 0) {
        snprintf(text, sizeof text, "thread %u of %u: %s", w->number, self.threads, error);
        send_ready(E_INTERNAL, self.threads > 1 ? text : error);
        _exit(START_FAILED);
    }
    if (++self.begun == self.threads)
        send_ready(0, NULL);
    pthread_mutex_unlock(&self.turn);
}

static void end_thread(struct worker *w)
{
    pthread_mutex_lock(&self.turn);
    if (self.handler.thread_fini != NULL)
        self.handler.thread_fini(&self.host.seen, self.process, w->thread);
    bool last = ++self.ended == self.threads;
    pthread_mutex_unlock(&self.turn);
    if (!last)
        return;
    /* By the one descriptor that there must be: others a handler may have closed, and who reads would not hear of it. */
    atomic_store(&self.workers_done, true);
    shutdown(CHILD_PIPE_FD, SHUT_RD);
}

static void *work(void *worker)
{
    begin_thread(worker);
    while (next_call(worker))
        run_call(worker);
    end_thread(worker);
    return NULL;
}

/* Returns 0, or a code with a text. */
static int start_threads(struct err *e)
{
    self.workers = mem_array(self.threads, sizeof *self.workers);
    for (uint32_t i = 0; i < self.threads; i++) {
        self.workers[i].number = i + 1;
        if (pthread_create(&self.workers[i].id, NULL, work, &self.workers[i]) != 0)
            return err_set(e, E_NO_MEMORY, "thread %u of %u cannot be started: the limits of memory or processes are too low",
                           i + 1, self.threads);
    }
    return 0;
}

static void join_threads(void)
{
    for (uint32_t i = 0; i < self.threads; i++) {
        struct worker *w = &self.workers[i];
        pthread_join(w->id, NULL);
        mem_free(w->seen);
        mem_free(w->codes);
        mem_free(w->verdicts);
    }
    mem_free(self.workers);
}

/* ---- the main thread: packets ---- */

/* A task that was not started and will not be. */
static void give_back(struct host_task *t)
{
    send_packet(
        &(struct plugin_packet){.kind = PLUGIN_VERDICT, .verdict = {.id = t->id, .verdict = PLUGIN_BACK}});
    host_task_free(t);
}

static void take_task(struct view packet)
{
    uint8_t *bytes = mem_dup(packet.data, packet.size);
    struct host_task *t = host_task_new(bytes, packet.size);
    if (t == NULL)
        give_up("a damaged task");
    pthread_mutex_lock(&self.lock);
    bool stopping = self.stopping;
    if (!stopping)
        queue_task(t);
    if (t->follow == 0)
        pthread_cond_signal(&self.wake);
    pthread_mutex_unlock(&self.lock);
    if (stopping)
        give_back(t);
}

static void cancel_task(uint64_t id)
{
    pthread_mutex_lock(&self.lock);
    for (uint32_t i = 0; i < self.threads; i++) {
        const struct call *c = self.workers[i].running;
        struct host_task *running = c != NULL ? find_in(c, id) : NULL;
        if (running != NULL)
            atomic_store(&running->cancelled, true);
    }
    struct host_task *waiting = unqueue_task(id);
    pthread_mutex_unlock(&self.lock);
    if (waiting != NULL)
        give_back(waiting);
}

static void stop(void)
{
    struct list rest;
    list_init(&rest);
    pthread_mutex_lock(&self.lock);
    self.stopping = true;
    list_splice(&rest, &self.queue);
    pthread_cond_broadcast(&self.wake);
    pthread_mutex_unlock(&self.lock);
    LIST_EACH_SAFE (n, &rest) {
        struct call *c = call_at(n);
        for (struct list_node *first; (first = list_pop_front(&c->tasks)) != NULL;)
            give_back(task_at(first));
        call_free(c);
    }
}

static void decode(struct view packet, struct plugin_packet *out)
{
    struct arena arena;
    struct err e;
    arena_init(&arena, DECODED_BYTES_MAX);
    int code = codec_plugin_decode(packet, out, &arena, &e);
    arena_free(&arena); /* what comes to a child is all borrowed from the packet */
    if (code != 0)
        give_up(e.text);
}

static void take_packet(struct view packet)
{
    struct plugin_packet p;
    decode(packet, &p);
    switch (p.kind) {
    case PLUGIN_TASK:
        take_task(packet);
        return;
    case PLUGIN_CANCEL:
        cancel_task(p.cancel.id);
        return;
    case PLUGIN_STOP:
        stop();
        return;
    default:
        give_up("a packet that a child does not expect");
    }
}

/* Reads until there is a whole packet. */
static struct view next_packet(void)
{
    struct view packet;
    struct err e;
    for (;;) {
        if (pipe_next(&self.pipe, &packet, &e) != 0)
            give_up(e.text);
        if (packet.data != NULL)
            return packet;
        if (pipe_fill(&self.pipe, &e) != 0)
            _exit(PIPE_FAILED); /* the supervisor is gone */
    }
}

/* Takes packets until the workers are done. */
static void listen_to_supervisor(void)
{
    struct pollfd fd = {.fd = self.pipe.fd, .events = POLLIN};
    struct view packet;
    struct err e;
    for (;;) {
        int code;
        while ((code = pipe_next(&self.pipe, &packet, &e)) == 0 && packet.data != NULL)
            take_packet(packet);
        if (code != 0)
            give_up(e.text);
        while (poll(&fd, 1, -1) < 0)
            continue;
        if (pipe_fill(&self.pipe, &e) == 0)
            continue;
        if (atomic_load(&self.workers_done))
            return;
        _exit(PIPE_FAILED); /* the supervisor is gone */
    }
}

/* ---- a life ---- */

static void settle_in(const char *name)
{
    /* A supervisor that died before this took effect has closed the pipe, which the first read will find. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, name);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    fcntl(CHILD_PIPE_FD, F_SETFD, FD_CLOEXEC);
    self.file = fcntl(CHILD_FILE_FD, F_SETFD, FD_CLOEXEC) == 0 ? CHILD_FILE_FD : -1;
    close_range(CHILD_FILE_FD + 1, ~0u, 0);
    list_init(&self.queue);
    pipe_init(&self.pipe, CHILD_PIPE_FD, true);
}

/* Another file may have taken the name since the version was tried that we are to be of. The name is better if it did not: it is what
   debuggers, and a file that looks for its neighbours, make something of. */
static int load_file(const char *path, struct err *e)
{
    struct stat at_path, of_version;
    bool replaced = self.file >= 0 && fstat(self.file, &of_version) == 0 &&
                    (stat(path, &at_path) != 0 || at_path.st_dev != of_version.st_dev ||
                     at_path.st_ino != of_version.st_ino);
    char open_one[32];
    snprintf(open_one, sizeof open_one, "/proc/self/fd/%d", self.file);
    return handler_load(replaced ? open_one : path, &self.handler, e);
}

/* Returns 0, or a code with a text: CONFIG if the file is at fault. */
static int start_handler(struct err *e)
{
    struct plugin_packet p;
    decode(next_packet(), &p);
    if (p.kind != PLUGIN_START)
        give_up("the first packet is not START");
    self.name = packet_string(p.start.name);
    self.config = packet_string(p.start.config);
    self.timeout_ms = p.start.timeout_ms;
    self.threads = p.start.threads > 0 && p.start.exec.data == NULL ? p.start.threads : 1;
    self.jail = (struct jail){.memory_bytes = p.start.memory_bytes,
                              .file_bytes = p.start.file_bytes,
                              .cpu_ms = p.start.cpu_ms,
                              .open_files = p.start.open_files,
                              .tasks = p.start.tasks,
                              .user = packet_string(p.start.user),
                              .profile = (enum jail_profile)p.start.seccomp};
    host_init(&self.host, self.name, self.config, send_packet);
    char *path = packet_string(p.start.exec.data == NULL ? p.start.path : p.start.dir);
    int code = jail_enter(&self.jail, e);
    if (code == 0)
        code = p.start.exec.data == NULL ? load_file(path, e)
                                         : exec_load(p.start.exec, path, self.timeout_ms, &self.jail,
                                                     &self.handler, e);
    mem_free(path);
    if (self.file >= 0)
        close(self.file);
    self.file = -1;
    if (code != 0 || self.handler.process_init == NULL)
        return code;
    char error[ERR_TEXT_MAX] = "process_init failed";
    if (self.handler.process_init(&self.host.seen, &self.process, error, sizeof error) != 0)
        return err_set(e, E_INTERNAL, "%s", error);
    return 0;
}

int child_main(const char *name)
{
    settle_in(name);
    struct err e;
    int code = start_handler(&e);
    if (code != 0) {
        send_ready(code, e.text);
        return START_FAILED;
    }
    if (start_threads(&e) != 0) {
        pthread_mutex_lock(&self.turn); /* so that another that cannot begin does not say so too */
        send_ready(e.code, e.text);
        _exit(START_FAILED);
    }
    listen_to_supervisor();
    join_threads();
    if (self.handler.process_fini != NULL)
        self.handler.process_fini(&self.host.seen, self.process);
    return 0;
}
