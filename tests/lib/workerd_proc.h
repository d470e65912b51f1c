/*
 * sluice-workerd in a process of its own: started, listened to, and ended by its pid.
 *
 *     struct workerd_proc w;
 *     workerd_proc_start(&w, (const char *const[]){"-c", path, NULL});
 *     workerd_proc_ready(&w);
 *     ...
 *     kill(w.pid, SIGTERM);
 *     assert_int_equal(workerd_proc_end(&w), 0);
 *
 * Calls that cannot do what they say fail the test. What it says is read only by the calls below, so it
 * must not say more than fits a pipe in between; 64 KiB do. It dies with the thread that started it.
 */
#ifndef TESTS_WORKERD_PROC_H
#define TESTS_WORKERD_PROC_H

#include <sys/types.h>

enum { WORKERD_SAID_MAX = 1 << 20 };

struct workerd_proc {
    pid_t pid;                   /* 0: it does not run */
    int out, err;                /* where its stdout and stderr are read */
    char printed[4096];          /* on stdout, as far as it was read */
    char said[WORKERD_SAID_MAX]; /* on stderr, as far as it was read */
    size_t printed_size, said_size;
};

/* The process alone, for who looks after it himself. `arguments` end with NULL. */
pid_t workerd_proc_spawn(const char *const *arguments, int out, int err);

void workerd_proc_start(struct workerd_proc *w, const char *const *arguments);

/* Waits for the line that it prints when it is ready. */
void workerd_proc_ready(struct workerd_proc *w);

/* The place of a text in the log behind `from` (NULL: the start), its line being whole; waits for it.
   NULL: it ended without. */
const char *workerd_proc_says(struct workerd_proc *w, const char *from, const char *text);

/* Waits for its end; what it printed and said is complete then. Returns its exit status, or minus the
   signal. */
int workerd_proc_end(struct workerd_proc *w);

/* SIGKILL, if it runs, and waits. */
void workerd_proc_kill(struct workerd_proc *w);

#endif
