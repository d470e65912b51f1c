/* sluice-broker as a process of the test: started on free ports with a directory of its own, killed, restarted, stopped. */
#ifndef TALK_BROKER_PROC_H
#define TALK_BROKER_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { BROKER_URL_MAX = 128, BROKER_DEADLINE_MS = 60000 };

struct broker_proc {
    pid_t pid;                  /* 0: does not run */
    char dir[64];               /* made by broker_start, removed by broker_end */
    char data[96], log[96];     /* in it: the data, what it wrote to stderr */
    char url[BROKER_URL_MAX];   /* tcp, as it said when it was ready */
    char ipc[BROKER_URL_MAX];   /* the same broker by ipc */
    char other[BROKER_URL_MAX]; /* and by a --listen among `args`, if there is one */
    char publish[BROKER_URL_MAX], http[BROKER_URL_MAX];
    const char *const *args;
    const char *const *env; /* further "NAME=value", NULL-terminated, borrowed; NULL: none */
    int out;                /* its stdout until it is ready */
    int ports[3];           /* have its ports bound, so that nobody else gets them while it does not run */
};

/* Waits until it is ready. `args`: further options, NULL-terminated, borrowed until broker_end; NULL: none. Options come after
 * ours, so they can override: but url, ipc, publish and http must stay. */
void broker_start(struct broker_proc *b, const char *const *args);
/* The directory and everything but the start, which is then broker_restart's. */
void broker_prepare(struct broker_proc *b, const char *const *args);
/* Again, on the same data and the same addresses, after broker_kill or broker_stop. */
void broker_restart(struct broker_proc *b);
/* The two halves of broker_restart. */
void broker_spawn(struct broker_proc *b);
void broker_ready(struct broker_proc *b);
/* SIGKILL: as if the machine's plug was pulled, but for what the system has in its caches. */
void broker_kill(struct broker_proc *b);
/* SIGTERM, and waits. Returns the exit status; 128 + signal if one ended it. */
int broker_stop(struct broker_proc *b);
void broker_signal(struct broker_proc *b, int signal_number);
/* Waits for it to end by itself. As broker_stop. */
int broker_wait(struct broker_proc *b);
bool broker_runs(struct broker_proc *b);
/* Kills it if it runs, and removes the directory. */
void broker_end(struct broker_proc *b);

/* Runs it with exactly these options until it ends, which it must do by itself; its exit status. stdout and stderr are left in
 * `said`, cut at its size. */
int broker_run(const char *const *args, char *said, size_t size);

/* Removes a directory and all in it. */
void remove_tree(const char *path);

/* What it logged so far; freed by the caller. */
char *broker_log(const struct broker_proc *b);
/* Bytes of it that are in RAM; 0 under a sanitizer, which keeps what was freed. */
size_t broker_resident(const struct broker_proc *b);
/* A sample of /metrics by its whole name, labels included, as "sluice_pipes". Fails the test if there is none. */
double broker_metric(const struct broker_proc *b, const char *name);

#endif
