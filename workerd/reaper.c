#include "workerd/reaper.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/wait.h>

#include "base/macros.h"

/* Without a lock: the thread runs last, and who held one would be waited for as those are that it waits for. */
static struct {
    _Atomic pid_t pids[256]; /* 0: a free place */
    sem_t taken;             /* once for each */
    pthread_once_t once;
    bool runs; /* the thread; set once */
} self = {.once = PTHREAD_ONCE_INIT};

static void *reap(void *arg)
{
    (void)arg;
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &(struct sched_param){0});
    for (;;) {
        while (sem_wait(&self.taken) != 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(self.pids); i++) {
            pid_t pid = atomic_load(&self.pids[i]);
            if (pid == 0)
                continue;
            waitpid(pid, NULL, 0);
            atomic_store(&self.pids[i], 0);
            break;
        }
    }
    return NULL;
}

/* It stays for as long as this process. */
static void start(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sem_init(&self.taken, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    self.runs = pthread_create(&thread, &attributes, reap, NULL) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* False: all places are taken. */
static bool give(pid_t pid)
{
    for (size_t i = 0; i < ARRAY_LEN(self.pids); i++) {
        pid_t nobody = 0;
        if (atomic_compare_exchange_strong(&self.pids[i], &nobody, pid))
            return true;
    }
    return false;
}

void reaper_take(pid_t pid)
{
    pthread_once(&self.once, start);
    if (self.runs && give(pid))
        sem_post(&self.taken);
    else
        waitpid(pid, NULL, 0);
}

bool reaper_has(pid_t pid)
{
    for (size_t i = 0; i < ARRAY_LEN(self.pids); i++) {
        if (atomic_load(&self.pids[i]) == pid)
            return true;
    }
    return false;
}
