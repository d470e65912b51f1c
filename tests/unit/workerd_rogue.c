/*
 * A handler that does harm, as the value of its message says:
 *
 *     ack                        nothing of the kind
 *     segv | overflow | abort    as a bug would: through no memory, without an end, by an assertion
 *     exit N | kill N | leave    ends its process: by exit, by a signal, after it left its group
 *     hang | freeze | burn       does not come back: asleep and deaf to SIGTERM, stopped, computing
 *     drip                       keeps 10 MB, and acks
 *     leak | crowd               takes memory until there is none; in two processes
 *     bomb PATH                  forks until there are 150, in its group
 *     scatter PATH               forks 20 that leave its group and lose their parent, and crashes
 *     hide PATH                  the same, one that also changes its environment
 *     orphan PATH                leaves one that talks without end, in its group, and exits
 *     close                      every descriptor
 *     garbage                    writes to its pipe
 *     babble | line              prints without end; a line of a megabyte, and aborts
 *     brim | shout               a verdict without a closing zero; logs 100 MB, and acks
 *     files | grow PATH          opens files until it may not, and parks; writes one until it may not
 *     socket | spawn | thread    a new socket, program, thread, and acks
 *     try CALL                   parks with what came of a call: ptrace, unshare, clone, kill, device, fifo
 *     who | nice                 parks with who it is, with how nice each of its threads is and how many stand last
 *     pair                       starts one that only pauses, and hangs
 *
 * PATH is a FIFO: a byte is written to it first, and its writers are whoever lives.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/handler.h>

enum { MIB = 1 << 20, BOMB_MAX = 150, SCATTER_MAX = 20 };

static char *volatile kept; /* so that what is taken is really taken */

/* Sanitizers would rather say something. */
static void by_default(void)
{
    signal(SIGSEGV, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
}

static void crash(void)
{
    volatile uintptr_t nowhere = 8;
    by_default();
    *(volatile int *)nowhere = 1;
}

static int deeper(volatile char *above)
{
    volatile char here[4096];
    here[0] = above[0];
    return here[0] == 'x' ? 0 : deeper(here) + here[0];
}

static void leak(void)
{
    for (;;) {
        char *p = malloc(MIB);
        if (p == NULL)
            break;
        memset(p, 1, MIB);
        kept = p;
        usleep(1000);
    }
    by_default();
    fprintf(stderr, "no memory\n");
    abort();
}

static void crowd(void)
{
    fork();
    char *p = malloc(40 * MIB);
    memset(p, 1, 40 * MIB);
    kept = p;
    for (;;)
        pause();
}

/* Whoever has it open lives. */
static void show(const char *path)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, "x", 1) != 1)
        exit(9);
}

static void bomb(const char *path)
{
    atomic_int *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    show(path);
    while (atomic_fetch_add(made, 1) < BOMB_MAX)
        fork();
    for (;;)
        pause();
}

/* One that only pauses, in a session of its own, whose parent is gone. */
static void scatter(const char *path, int n, int hides)
{
    show(path);
    for (int i = 0; i < n; i++) {
        if (fork() != 0)
            continue;
        setsid();
        if (fork() != 0)
            _exit(0);
        close(3);
        if (hides)
            execl("/bin/sleep", "sleep", "1000", NULL);
        for (;;)
            pause();
    }
    crash();
}

static void orphan(const char *path)
{
    show(path);
    if (fork() == 0) {
        for (;;)
            puts("still here");
    }
    exit(4);
}

static int open_files(struct sluice_verdict *v)
{
    int first = open("/dev/null", O_RDONLY), last = first;
    for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;)
        last = fd;
    snprintf(v->error, sizeof v->error, "%s after %d", strerror(errno), last);
    close_range((unsigned)first, ~0u, 0);
    return SLUICE_VERDICT_PARK;
}

static void grow(const char *path)
{
    static char block[65536];
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 64; i++) {
        if (write(fd, block, sizeof block) < 0)
            exit(9);
    }
}

static void *in_thread(void *arg)
{
    int *seen = arg;
    FILE *f = fopen("/proc/self/statm", "r");
    *seen = f != NULL && fgetc(f) != EOF;
    if (f != NULL)
        fclose(f);
    return NULL;
}

static int thread(void)
{
    pthread_t t;
    int seen = 0;
    free(malloc(8 * MIB));
    if (pthread_create(&t, NULL, in_thread, &seen) != 0 || pthread_join(t, NULL) != 0)
        return SLUICE_VERDICT_PARK;
    return seen ? SLUICE_VERDICT_ACK : SLUICE_VERDICT_PARK;
}

static int one_call(const char *what)
{
    if (strcmp(what, "ptrace") == 0)
        return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    if (strcmp(what, "unshare") == 0)
        return unshare(CLONE_NEWUSER);
    if (strcmp(what, "kill") == 0)
        return kill(getppid(), 0) != 0 ? kill(-1, 0) : 0;
    if (strcmp(what, "device") == 0)
        return mknod("/dev/null/x", S_IFCHR | 0600, 0);
    return mkfifo("/dev/null/x", 0600);
}

static void who(struct sluice_verdict *v)
{
    struct rlimit core, tasks;
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NPROC, &tasks);
    snprintf(v->error, sizeof v->error, "uid %u gid %u groups %d home %s core %d nproc %s",
             (unsigned)getuid(), (unsigned)getgid(), getgroups(0, NULL), getenv("HOME"), (int)core.rlim_cur,
             tasks.rlim_cur < 100000 ? "limited" : "not limited");
}

static void niceness(struct sluice_verdict *v)
{
    DIR *dir = opendir("/proc/self/task");
    int least = 19, most = -20, idle = 0, n_all = 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        int n = getpriority(PRIO_PROCESS, (id_t)atoi(d->d_name));
        least = n < least ? n : least;
        most = n > most ? n : most;
        idle += sched_getscheduler(atoi(d->d_name)) == SCHED_IDLE;
        n_all++;
    }
    closedir(dir);
    snprintf(v->error, sizeof v->error, "%d to %d, %s", least, most, idle == 0 ? "none last" : idle == n_all ? "all last" : "some last");
}

static int harm(const struct sluice_host *host, void *process, void *of_thread,
                const struct sluice_task *task, struct sluice_verdict *v)
{
    (void)process, (void)of_thread;
    char value[256], *at = value;
    snprintf(value, sizeof value, "%.*s", (int)task->value.size, (const char *)task->value.data);
    const char *word = strsep(&at, " "), *rest = at != NULL ? at : "";
    char start = 0;

#define IS(name) (strcmp(word, name) == 0)
    if (IS("ack"))
        return SLUICE_VERDICT_ACK;
    if (IS("segv"))
        crash();
    if (IS("overflow")) {
        by_default();
        return deeper(&start);
    }
    if (IS("abort")) {
        by_default();
        fprintf(stderr, "assertion failed\n");
        abort();
    }
    if (IS("exit"))
        exit(atoi(rest));
    if (IS("kill"))
        raise(atoi(rest));
    if (IS("leave")) {
        if (fork() == 0)
            pause();
        setpgid(0, getpgid(getppid()));
    }
    if (IS("hang") || IS("leave")) {
        signal(SIGTERM, SIG_IGN);
        ((sluice_progress_fn *)host->function(host, "progress"))(host, task, 40, "halfway");
        for (;;)
            pause();
    }
    if (IS("pair")) {
        fork();
        for (;;)
            pause();
    }
    if (IS("freeze"))
        raise(SIGSTOP);
    if (IS("burn")) {
        for (volatile unsigned n = 0;;)
            n = n + 1;
    }
    if (IS("drip")) {
        char *p = malloc(10 * MIB);
        by_default();
        memset(p, 1, 10 * MIB); /* as somebody does who does not look */
        memcpy(p, (void *)&kept, sizeof kept); /* a chain: nobody calls it lost */
        kept = p;
    }
    if (IS("leak"))
        leak();
    if (IS("crowd"))
        crowd();
    if (IS("bomb"))
        bomb(rest);
    if (IS("scatter"))
        scatter(rest, SCATTER_MAX, 0);
    if (IS("hide")) {
        unsetenv("SLUICE_FAMILY");
        scatter(rest, 1, 1);
    }
    if (IS("orphan"))
        orphan(rest);
    if (IS("close"))
        close_range(0, ~0u, 0);
    if (IS("garbage")) {
        for (int i = 0; i < 1000; i++)
            if (write(3, "no packet of any kind", 21) < 0)
                break;
        for (;;)
            pause();
    }
    if (IS("babble")) {
        for (;;)
            puts("and another thing");
    }
    if (IS("line")) {
        for (int i = 0; i < MIB; i++)
            putchar('a' + i % 26);
        fflush(stdout);
        by_default();
        abort();
    }
    if (IS("brim")) {
        memset(v->error, 'x', sizeof v->error);
        return SLUICE_VERDICT_RETRY;
    }
    if (IS("shout")) {
        char *text = malloc(100 * MIB + 1);
        memset(text, 'y', 100 * MIB);
        text[100 * MIB] = '\0';
        ((sluice_log_fn *)host->function(host, "log"))(host, SLUICE_LOG_INFO, text);
        ((sluice_progress_fn *)host->function(host, "progress"))(host, task, 1, text);
        free(text);
    }
    if (IS("files"))
        return open_files(v);
    if (IS("grow"))
        grow(rest);
    if (IS("socket"))
        close(socket(AF_UNIX, SOCK_STREAM, 0));
    if (IS("spawn") && system("exit 0") != 0)
        return SLUICE_VERDICT_RETRY;
    if (IS("thread"))
        return thread();
    if (IS("try")) {
        int code = one_call(rest);
        snprintf(v->error, sizeof v->error, "%s: %s", rest, code == 0 ? "done" : strerrorname_np(errno));
        return SLUICE_VERDICT_PARK;
    }
    if (IS("nice")) {
        niceness(v);
        return SLUICE_VERDICT_PARK;
    }
    if (IS("who")) {
        who(v);
        return SLUICE_VERDICT_PARK;
    }
    return SLUICE_VERDICT_ACK;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "rogue",
    .version = "6.6.6",
    .handle = harm,
};
