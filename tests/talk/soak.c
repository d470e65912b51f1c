/*
 * The worker daemon and the broker, for as long as one likes: handlers of all kinds come and go with the load, crash, hang and grow, and
 * afterwards both processes are what they were before.
 *
 *     SLUICE_SOAK_S=1800 ctest -R talk-soak -V        half an hour; without it three short rounds
 *
 * A round is a time of even load with a burst in it, then calm: all is done, and no process is left. What is looked at then must not grow.
 */
#include "talk.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/macros.h"
#include "workerd_proc.h"

enum {
    SHORT_S = 6, SHORT_ROUND_MS = 2000, LONG_ROUND_MS = 10000, TICK_MS = 20, GOOD_PER_TICK = 12, BURST = 1500,
    BAD_EVERY = 5 /* ticks */, SHELL_EVERY = 10, CALM_MS = 60000, ROUNDS_MAX = 10000, KEYS = 97
};

static struct broker_proc broker;
static struct workerd_proc daemon_proc, *w = &daemon_proc;
static struct sluice *client;
static char config_path[80];
static const char *const topics[] = {"good", "bad", "shell", "batch"};

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

/* ---------------------------------------------------------------- what is looked at */

struct sample {
    size_t broker_bytes, daemon_bytes;
    unsigned broker_files, daemon_files, broker_threads, daemon_threads;
};

static unsigned entries(pid_t pid, const char *what)
{
    char path[64];
    unsigned n = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    DIR *d = opendir(path);
    if (d == NULL)
        fail_msg("%s does not read", path);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static size_t resident(pid_t pid)
{
    char path[64];
    unsigned long size = 0, pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL || fscanf(f, "%lu %lu", &size, &pages) != 2)
        fail_msg("%s does not read", path);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static pid_t parent_of(const char *pid)
{
    char path[300], stat[1024];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0; /* it has ended meanwhile */
    size_t n = fread(stat, 1, sizeof stat - 1, f);
    stat[n] = '\0';
    fclose(f);
    const char *name_end = strrchr(stat, ')');
    return name_end != NULL && sscanf(name_end, ") %*c %d", &parent) == 1 ? parent : 0;
}

/* Whatever it ran, ended or not, is its child. */
static unsigned children(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == w->pid;
    closedir(d);
    return n;
}

/* For a moment, each second and when a process ended, the daemon reads in /proc: the fewest files of many looks are what it holds. */
static unsigned files_held(pid_t pid)
{
    unsigned least = entries(pid, "fd");
    for (int i = 0; i < 20; i++) {
        usleep(5000);
        unsigned n = entries(pid, "fd");
        least = n < least ? n : least;
    }
    return least;
}

static struct sample look(void)
{
    return (struct sample){resident(broker.pid),     resident(w->pid),       entries(broker.pid, "fd"),
                           files_held(w->pid),       entries(broker.pid, "task"), entries(w->pid, "task")};
}

static void same_files(pid_t pid, unsigned now, unsigned before)
{
    if (now == before)
        return;
    for (int fd = 0; fd < 256; fd++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        ssize_t n = readlink(path, target, sizeof target);
        if (n > 0)
            print_error("%d: %.*s\n", fd, (int)n, target);
    }
    fail_msg("%u files are open, and %u were", now, before);
}

/* ---------------------------------------------------------------- what the daemon says */

static uint64_t acked; /* by its last words */
static pthread_t listener;

/* All the time, as it may be much: of it what each handler did in all is kept. */
static void *listen_to_it(void *arg)
{
    char line[4096];
    FILE *f = fdopen(dup(w->err), "r");
    (void)arg;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *at = strstr(line, " done=");
        if (strstr(line, "drained handler=") != NULL && at != NULL)
            acked += strtoull(at + strlen(" done="), NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return NULL;
}

/* ---------------------------------------------------------------- the load */

static uint64_t published, to_park;

static void publish(const char *topic, unsigned key, const char *value)
{
    struct sluice_error e;
    char name[16];
    snprintf(name, sizeof name, "k%u", key % KEYS);
    const struct sluice_message m = {
        .size = sizeof m, .topic = topic, .key = sluice_str(name), .value = sluice_str(value)};
    int code;
    while ((code = sluice_publish_async(client, &m, NULL, NULL, &e)) == SLUICE_QUEUE_FULL)
        must(sluice_flush(client, 60000, &e), &e);
    must(code, &e);
    published++;
}

static void good(unsigned i)
{
    static const char *const does[] = {"ack", "nap 1", "count", "publish out ack", "say something", "ack", "nap 2", "ack", "count", "ack"};
    publish("good", i, does[i % ARRAY_LEN(does)]);
}

/* Those that park end there after as many deliveries as the configuration allows. */
static void bad(unsigned i)
{
    static const char *const does[] = {"ack", "nap 3", "segv", "ack", "nap 1", "ack", "ack", "nap 2", "ack", "hang", "ack", "nap 2", "ack",
                                       "nap 1", "abort x", "ack", "ack", "ack", "nap 1", "exit 3", "ack", "nap 1", "ack", "park no", "ack"};
    const char *what = does[i % ARRAY_LEN(does)];
    publish("bad", i, what);
    publish("batch", i, what);
    if (strcmp(what, "ack") != 0 && strncmp(what, "nap", 3) != 0)
        to_park += 2;
}

static void load(unsigned ms)
{
    static unsigned tick;
    struct sluice_error e;
    uint64_t began = clock_mono_ms(), next = began;
    for (bool burst = false; next < began + ms; next += TICK_MS, tick++) {
        for (unsigned i = 0; i < GOOD_PER_TICK; i++)
            good(tick * GOOD_PER_TICK + i);
        if (tick % BAD_EVERY == 0)
            bad(tick / BAD_EVERY);
        if (tick % SHELL_EVERY == 0)
            publish("shell", tick, "something to read");
        for (unsigned i = 0; !burst && next >= began + ms / 2 && i < BURST; i++)
            good(i);
        burst = burst || next >= began + ms / 2;
        must(sluice_flush(client, 60000, &e), &e);
        for (uint64_t now; (now = clock_mono_ms()) < next + TICK_MS;) /* an even rate */
            usleep((useconds_t)(next + TICK_MS - now) * 1000);
    }
}

static bool all_is_done(void)
{
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        struct sluice_error e;
        struct sluice_lag_list *l;
        must(sluice_group_lag(client, topics[i], "g", &l, &e), &e);
        bool done = l->rows[0].lag_messages == 0;
        sluice_lag_free(l);
        if (!done)
            return false;
    }
    return children() == 0;
}

/* ---------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

/* The median of what `at` of some rounds is. */
static size_t median(const struct sample *from, unsigned n, size_t at)
{
    static size_t values[ROUNDS_MAX];
    for (unsigned i = 0; i < n; i++)
        values[i] = *(const size_t *)((const char *)&from[i] + at);
    qsort(values, n, sizeof *values, by_size);
    return values[n / 2];
}

static void is_flat(const char *what, const struct sample *s, unsigned rounds, size_t at, size_t slack)
{
    size_t before = median(s + rounds / 3, rounds / 3, at), after = median(s + rounds - rounds / 3, rounds / 3, at);
    print_message("%s: %.1f MB in the second third, %.1f MB in the last\n", what, (double)before / 1e6, (double)after / 1e6);
    if (after > before + before / 20 + slack)
        fail_msg("%s grows from %zu to %zu bytes", what, before, after);
}

static unsigned long seconds(void)
{
    const char *s = getenv("SLUICE_SOAK_S");
    return s != NULL ? strtoul(s, NULL, 10) : SHORT_S;
}

static void processes_files_threads_and_memory_stay_what_they_are(void **state)
{
    (void)state;
    static struct sample samples[ROUNDS_MAX];
    unsigned round_ms = seconds() * 1000 >= 6 * LONG_ROUND_MS ? LONG_ROUND_MS : SHORT_ROUND_MS, rounds = 0;
    uint64_t until = clock_mono_ms() + seconds() * 1000;
    load(round_ms / 2); /* the first time all is made that will be there */
    EVENTUALLY(CALM_MS, all_is_done());
    for (; rounds < 3 || (rounds < ROUNDS_MAX && clock_mono_ms() < until); rounds++) {
        load(round_ms);
        EVENTUALLY(CALM_MS, all_is_done());
        struct sample s = samples[rounds] = look();
        if (rounds % 10 == 0)
            print_message("round %u: %" PRIu64 " published; broker %.1f MB, %u files, %u threads; daemon %.1f MB, %u files, %u threads\n",
                          rounds, published, (double)s.broker_bytes / 1e6, s.broker_files, s.broker_threads,
                          (double)s.daemon_bytes / 1e6, s.daemon_files, s.daemon_threads);
        same_files(w->pid, s.daemon_files, samples[0].daemon_files);
        assert_int_equal(s.daemon_threads, samples[0].daemon_threads);
        assert_int_equal(s.broker_threads, samples[0].broker_threads);
        /* The store opens and closes files of its own as it flushes. */
        assert_in_range(s.broker_files, 1, samples[0].broker_files + 40);
    }
    if (broker_resident(&broker) != 0) { /* else a sanitizer keeps what was freed */
        is_flat("the daemon", samples, rounds, offsetof(struct sample, daemon_bytes), (size_t)2 << 20);
        is_flat("the broker", samples, rounds, offsetof(struct sample, broker_bytes),
                (size_t)(round_ms == LONG_ROUND_MS ? 4 : 16) << 20); /* the short run is over before they are full */
    }

    struct sluice_error e;
    struct sluice_lag_list *l;
    uint64_t parked = 0;
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        must(sluice_group_lag(client, topics[i], "g", &l, &e), &e);
        parked += l->rows[0].parked;
        sluice_lag_free(l);
    }
    kill(w->pid, SIGTERM);
    pthread_join(listener, NULL);
    assert_int_equal(workerd_proc_end(w), 0);
    print_message("%u rounds: %" PRIu64 " published, %" PRIu64 " acknowledged, %" PRIu64 " parked\n", rounds, published, acked, parked);
    assert_int_equal(parked, to_park);
    assert_int_equal(acked + parked, published);
}

static int set_up(void **state)
{
    (void)state;
    struct sluice_error e;
    /* Caches and write buffers that are full within the first minute: what grows after that is something else. */
    static const char *const small[] = {"--set", "limits.store_memory_bytes=16MiB", NULL};
    broker_start(&broker, small);
    must(sluice_open(&client, &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url}, &e), &e);
    must(sluice_topic_create(client, "out", NULL, NULL, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        const struct sluice_group_options g = {.size = sizeof g, .max_deliveries = 2, .backoff_min_ms = 50, .backoff_max_ms = 50};
        must(sluice_topic_create(client, topics[i], NULL, NULL, &e), &e);
        must(sluice_group_create(client, topics[i], "g", &g, NULL, &e), &e);
    }
    snprintf(config_path, sizeof config_path, "%s/workerd.yaml", broker.dir);
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    const char *handlers = getenv("TEST_HANDLERS");
    fprintf(f, "broker: %s\nhandlers:\n", broker.url);
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        fprintf(f, "  - name: %s\n    topic: %s\n    group: g\n    processes_min: 0\n    processes_max: 4\n    target_drain: 1s\n"
                   "    scale_down_after: 1s\n    timeout: 1s\n",
                topics[i], topics[i]);
        if (strcmp(topics[i], "shell") == 0)
            fprintf(f, "    exec: [sh, -c, \"cat > /dev/null\"]\n");
        else
            fprintf(f, "    file: %s/%s.so\n", handlers, strcmp(topics[i], "batch") == 0 ? "batches" : "obedient");
    }
    fclose(f);
    workerd_proc_start(w, (const char *const[]){"-c", config_path, NULL});
    workerd_proc_ready(w);
    assert_int_equal(pthread_create(&listener, NULL, listen_to_it, NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    workerd_proc_kill(w);
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(processes_files_threads_and_memory_stay_what_they_are, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
