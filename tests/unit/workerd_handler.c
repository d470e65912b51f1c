/*
 * The handlers of these tests. The obedient one does what the value of its message says; "batches" does that
 * too, for each of a call, and "threaded", which has something of its own for each thread:
 *
 *     ack | bad N                  its verdict; `bad` returns N, which is none
 *     needs PATH                   as retry until there is a file at PATH; then as ack
 *     retry [MS] | park REASON     with the error "because the message says so"
 *     segv | abort | exit N        ends the process
 *     broken PATH LOG TEXT         as segv until there is a file at PATH; then as log
 *     log LOG TEXT                 appends TEXT to the file LOG, and acks
 *     nap MS                       takes so long, and acks
 *     deaf                         closes its pipe, and hangs
 *     hang                         does not come back, whatever it is told
 *     hold PATH                    waits at the gate PATH (workerd_gate.h)
 *     extend PATH                  the same, and asks for a minute more before
 *     patient                      says so, and comes back with "retry" when it is cancelled
 *     say TEXT                     prints a line
 *     header NAME                  parks with that header's value as the reason
 *     headers                      parks with all of them, as NAME=VALUE;, as the error
 *     version                      parks with that of the handler as the reason
 *     task                         parks with what it knows of its task as the error
 *     publish TOPIC WORD..         publishes what comes behind TOPIC, under the task's key, and then does it
 *     count [PATH]                 the state of its key is a number, which it makes one more; waits at the gate between
 *     forget                       takes that state away
 *     unknown                      acks if the host knows no "teleport", and refuses to extend by nothing
 *     place                        parks with its place in the call as the error, "2 of 5"
 *     thread                       parks with the number of its thread as the reason; "threaded" alone
 *
 * Its configuration: {"fail_unless": PATH} makes its start fail while that file is missing, and creates it. "threaded" has
 * {"log": PATH, "fail_at": N}: it logs how threads begin and end, and the N-th cannot begin.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sluice/handler.h>

#ifndef HANDLER_NO_SYMBOL

#ifdef HANDLER_OTHER_ABI
enum { ABI = SLUICE_HANDLER_ABI + 1 };
#else
enum { ABI = SLUICE_HANDLER_ABI };
#endif

#ifdef HANDLER_NO_ENTRY
enum { HAS_ENTRY = 0 };
#else
enum { HAS_ENTRY = 1 };
#endif

/* The newer one is the same, the worse one fails on everything in three ways. */
#if defined HANDLER_NEWER
#define VERSION "2.0.0"
#elif defined HANDLER_WORSE
#define VERSION "3.0.0"
#else
#define VERSION "1.2.3"
#endif

#define HOST(type, name) ((type *)host->function(host, name))

static int init(const struct sluice_host *host, void **process, char *error, size_t size)
{
    char path[256];
    *process = (void *)host;
    if (sscanf(host->config, "{\"fail_unless\":\"%255[^\"]\"}", path) != 1 || access(path, F_OK) == 0)
        return 0;
    close(open(path, O_CREAT | O_WRONLY, 0666));
    snprintf(error, size, "%s was missing", path);
    return 1;
}

static void crash(void)
{
    signal(SIGSEGV, SIG_DFL); /* also where a sanitizer would rather say something */
    raise(SIGSEGV);
}

static int log_line(const char *rest, bool fixed_by_file)
{
    char fix[128] = "", path[128] = "", text[64] = "";
    if (fixed_by_file)
        sscanf(rest, "%127s %127s %63s", fix, path, text);
    else
        sscanf(rest, "%127s %63s", path, text);
    if (fixed_by_file && access(fix, F_OK) != 0)
        crash();
    FILE *f = fopen(path, "a");
    if (f == NULL)
        exit(8);
    fprintf(f, "%s\n", text);
    fclose(f);
    return SLUICE_VERDICT_ACK;
}

static void hold(const char *gate)
{
    char in[256], byte = 'x';
    snprintf(in, sizeof in, "%s.in", gate);
    int in_fd = open(in, O_WRONLY), fd = open(gate, O_RDONLY);
    if (write(in_fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        exit(9);
    close(in_fd);
    close(fd);
}

static void all_headers(const struct sluice_host *host, const struct sluice_task *task,
                        struct sluice_verdict *v)
{
    struct sluice_slice name, value;
    size_t n = 0;
    for (size_t pos = 0; HOST(sluice_headers_fn, "headers")(host, task, &pos, &name, &value);)
        n += (size_t)snprintf(v->error + n, sizeof v->error - n, "%.*s=%.*s;", (int)name.size,
                              (const char *)name.data, (int)value.size, (const char *)value.data);
}

static void describe(const struct sluice_task *t, struct sluice_verdict *v)
{
    snprintf(v->error, sizeof v->error, "%s %s %u %llu attempt %u key %s%.*s times %llu %llu %s", t->topic,
             t->group, t->partition, (unsigned long long)t->offset, t->attempt,
             t->key.data == NULL ? "absent" : "", (int)t->key.size, (const char *)t->key.data,
             (unsigned long long)t->timestamp_ms, (unsigned long long)t->append_time_ms, t->idempotency_key);
}

static int count(const struct sluice_host *host, const struct sluice_task *task, const char *gate,
                 struct sluice_verdict *v)
{
    struct sluice_slice state;
    char text[24];
    uint64_t version;
    int code = HOST(sluice_state_get_fn, "state_get")(host, task, &state, &version);
    snprintf(text, sizeof text, "%.*s", (int)state.size, state.data != NULL ? (const char *)state.data : "");
    snprintf(text, sizeof text, "%d", atoi(text) + 1);
    if (gate[0] != '\0')
        hold(gate);
    if (code == SLUICE_HOST_OK)
        code = HOST(sluice_state_put_fn, "state_put")(host, task, (struct sluice_slice){text, strlen(text)});
    snprintf(v->reason, sizeof v->reason, "host-%d", code);
    return code == SLUICE_HOST_OK ? SLUICE_VERDICT_ACK : SLUICE_VERDICT_PARK;
}

static int unknown(const struct sluice_host *host, const struct sluice_task *task)
{
    return HOST(sluice_extend_fn, "extend")(host, task, 0) == SLUICE_HOST_INVALID &&
                   host->function(host, "teleport") == NULL
               ? SLUICE_VERDICT_ACK
               : SLUICE_VERDICT_PARK;
}

#ifdef HANDLER_THREADED
/* Without a lock: of these calls there is one at a time. */
static struct { pthread_t id; int number; } threads[64];
static int threads_n;

static void log_thread(const struct sluice_host *host, const char *what, int number)
{
    char path[256] = "";
    FILE *f;
    if (sscanf(host->config, "{\"log\":\"%255[^\"]\"", path) != 1 || (f = fopen(path, "a")) == NULL)
        return;
    fprintf(f, "%s %d\n", what, number);
    fclose(f);
}

static int thread_begin(const struct sluice_host *host, void *process, void **thread, char *error, size_t size)
{
    const char *fail = strstr(host->config, "\"fail_at\":");
    threads[threads_n].id = pthread_self();
    threads[threads_n].number = threads_n + 1;
    *thread = &threads[threads_n++];
    if (process != (void *)host || (fail != NULL && atoi(fail + strlen("\"fail_at\":")) == threads_n)) {
        snprintf(error, size, "no connection");
        return 1;
    }
    log_thread(host, "begin", threads_n);
    return 0;
}

static int number_of(const void *thread)
{
    int i = 0;
    while (i < threads_n && &threads[i] != thread)
        i++;
    return i < threads_n && pthread_equal(threads[i].id, pthread_self()) ? threads[i].number : 0;
}

static void thread_end(const struct sluice_host *host, void *process, void *thread)
{
    (void)process;
    log_thread(host, "end", number_of(thread));
}

static void process_end(const struct sluice_host *host, void *process)
{
    (void)process;
    log_thread(host, "over", 0);
}
#endif

static _Thread_local size_t place = 1, places = 1; /* of the task in its call */

static int obey(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                struct sluice_verdict *v)
{
    (void)thread;
    char value[512], *at = value;
    size_t size = task->value.size < sizeof value ? task->value.size : sizeof value - 1;
    memcpy(value, task->value.data, size);
    value[size] = '\0';
    const char *word = strsep(&at, " "), *rest = at != NULL ? at : "";
    snprintf(v->error, sizeof v->error, "because the message says so");
    if (process != (void *)host || v->size != sizeof *v || task->size != sizeof *task)
        return 99;

#ifdef HANDLER_WORSE
    if (strcmp(word, "nap") == 0)
        abort();
    return strcmp(word, "ack") == 0 ? SLUICE_VERDICT_PARK : SLUICE_VERDICT_RETRY;
#endif
#ifdef HANDLER_THREADED
    if (strcmp(word, "thread") == 0) {
        snprintf(v->reason, sizeof v->reason, "%d", number_of(thread));
        return SLUICE_VERDICT_PARK;
    }
#endif
    if (strcmp(word, "publish") == 0) {
        const char *topic = strsep(&at, " ");
        if (at == NULL || HOST(sluice_publish_output_fn, "publish")(
                              host, task, topic, task->key, (struct sluice_slice){at, strlen(at)}, 0) != 0)
            return 99;
        word = strsep(&at, " ");
        rest = at != NULL ? at : "";
    }
    if (strcmp(word, "count") == 0)
        return count(host, task, rest, v);
    if (strcmp(word, "forget") == 0)
        return HOST(sluice_state_remove_fn, "state_remove")(host, task) == 0 ? SLUICE_VERDICT_ACK
                                                                             : SLUICE_VERDICT_PARK;
    if (strcmp(word, "ack") == 0)
        return SLUICE_VERDICT_ACK;
    if (strcmp(word, "bad") == 0)
        return atoi(rest);
    if (strcmp(word, "retry") == 0) {
        v->has_delay = rest[0] != '\0';
        v->delay_ms = (uint32_t)atoi(rest);
        return SLUICE_VERDICT_RETRY;
    }
    if (strcmp(word, "needs") == 0)
        return access(rest, F_OK) == 0 ? SLUICE_VERDICT_ACK : SLUICE_VERDICT_RETRY;
    if (strcmp(word, "segv") == 0)
        crash();
    if (strcmp(word, "broken") == 0 || strcmp(word, "log") == 0)
        return log_line(rest, word[0] == 'b');
    if (strcmp(word, "nap") == 0) {
        usleep((useconds_t)atoi(rest) * 1000);
        return SLUICE_VERDICT_ACK;
    }
    if (strcmp(word, "abort") == 0) {
        signal(SIGABRT, SIG_DFL);
        fprintf(stderr, "something is rotten\nassertion failed: %s\n", rest);
        abort();
    }
    if (strcmp(word, "exit") == 0)
        exit(atoi(rest));
    if (strcmp(word, "deaf") == 0)
        shutdown(3, SHUT_WR);
    if (strcmp(word, "hang") == 0 || strcmp(word, "deaf") == 0) {
        for (;;)
            pause();
    }
    if (strcmp(word, "hold") == 0) {
        hold(rest);
        return SLUICE_VERDICT_ACK;
    }
    if (strcmp(word, "extend") == 0) {
        HOST(sluice_extend_fn, "extend")(host, task, 60000);
        hold(rest);
        return SLUICE_VERDICT_ACK;
    }
    if (strcmp(word, "patient") == 0) {
        HOST(sluice_log_fn, "log")(host, SLUICE_LOG_INFO, "patient");
        while (!HOST(sluice_cancelled_fn, "cancelled")(host, task))
            usleep(1000);
        return SLUICE_VERDICT_RETRY;
    }
    if (strcmp(word, "say") == 0) {
        printf("%s\n", rest);
        HOST(sluice_log_fn, "log")(host, SLUICE_LOG_WARN, rest);
        HOST(sluice_progress_fn, "progress")(host, task, 50, rest);
        return SLUICE_VERDICT_ACK;
    }
    if (strcmp(word, "unknown") == 0)
        return unknown(host, task);
    if (strcmp(word, "header") == 0) {
        struct sluice_slice found = HOST(sluice_header_fn, "header")(host, task, rest);
        snprintf(v->reason, sizeof v->reason, "%.*s", (int)found.size, (const char *)found.data);
    } else if (strcmp(word, "headers") == 0) {
        all_headers(host, task, v);
    } else if (strcmp(word, "version") == 0) {
        snprintf(v->reason, sizeof v->reason, VERSION);
    } else if (strcmp(word, "task") == 0) {
        describe(task, v);
    } else if (strcmp(word, "place") == 0) {
        snprintf(v->error, sizeof v->error, "%zu of %zu", place, places);
    } else {
        snprintf(v->reason, sizeof v->reason, "%s", rest);
    }
    return SLUICE_VERDICT_PARK;
}

#ifdef HANDLER_BATCHES
static void obey_all(const struct sluice_host *host, void *process, void *thread,
                     const struct sluice_task *tasks, size_t count, int *codes,
                     struct sluice_verdict *verdicts)
{
    places = count;
    for (size_t i = 0; i < count; i++) {
        place = i + 1;
        codes[i] = obey(host, process, thread, &tasks[i], &verdicts[i]);
    }
}
#endif

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = ABI,
    .name = "obedient",
    .version = VERSION,
    .process_init = init,
    .handle = HAS_ENTRY ? obey : NULL,
#ifdef HANDLER_BATCHES
    .handle_batch = obey_all,
#endif
#ifdef HANDLER_THREADED
    .process_fini = process_end,
    .thread_init = thread_begin,
    .thread_fini = thread_end,
#endif
};

#endif
