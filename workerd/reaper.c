#include "workerd/reaper.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

#include "base/mem.h"

static struct {
    pthread_mutex_t lock;
    pid_t *pids; /* the first is the one it waits for */
    size_t n, cap;
    bool runs; /* the thread; it ends when there is nothing left */
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under lock. */
static void take_out(void)
{
    self.n--;
    for (size_t i = 0; i < self.n; i++)
        self.pids[i] = self.pids[i + 1];
    if (self.n > 0)
        return;
    mem_free(self.pids);
    self.pids = NULL;
    self.cap = 0;
}

static void *reap(void *arg)
{
    (void)arg;
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &(struct sched_param){0});
    pthread_mutex_lock(&self.lock);
    while (self.n > 0) {
        pid_t pid = self.pids[0];
        pthread_mutex_unlock(&self.lock);
        waitpid(pid, NULL, 0);
        pthread_mutex_lock(&self.lock);
        take_out();
    }
    self.runs = false;
    pthread_mutex_unlock(&self.lock);
    return NULL;
}

static bool start(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attributes, reap, NULL) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

void reaper_take(pid_t pid)
{
    pthread_mutex_lock(&self.lock);
    if (self.n == self.cap) {
        self.cap = self.cap != 0 ? 2 * self.cap : 16;
        self.pids = mem_resize(self.pids, self.cap, sizeof *self.pids);
    }
    self.pids[self.n++] = pid;
    if (!self.runs)
        self.runs = start();
    if (!self.runs) {
        waitpid(pid, NULL, 0);
        take_out();
    }
    pthread_mutex_unlock(&self.lock);
}

bool reaper_has(pid_t pid)
{
    bool has = false;
    pthread_mutex_lock(&self.lock);
    for (size_t i = 0; i < self.n && !has; i++)
        has = self.pids[i] == pid;
    pthread_mutex_unlock(&self.lock);
    return has;
}
