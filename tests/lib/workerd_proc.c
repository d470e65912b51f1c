#include "workerd_proc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 8 };

/* Between fork and exec only what a signal handler may do: the test may have threads. */
pid_t workerd_proc_spawn(const char *const *arguments, int out, int err)
{
    char exe[512];
    const char *argv[ARGUMENTS_MAX + 2] = {"sluice-workerd"};
    snprintf(exe, sizeof exe, "%s/sluice-workerd", getenv("SLUICE_BIN"));
    for (int i = 0; i < ARGUMENTS_MAX && arguments[i] != NULL; i++)
        argv[i + 1] = arguments[i];
    pid_t parent = getpid(), child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0)
        execv(exe, (char *const *)(uintptr_t)argv);
    _exit(127);
}

void workerd_proc_start(struct workerd_proc *w, const char *const *arguments)
{
    int out[2], err[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    memset(w, 0, sizeof *w);
    w->pid = workerd_proc_spawn(arguments, out[1], err[1]);
    assert_true(w->pid > 0);
    close(out[1]);
    close(err[1]);
    w->out = out[0];
    w->err = err[0];
}

/* Reads once; false: the end. */
static bool read_more(int fd, char *text, size_t *size, size_t max)
{
    if (*size + 1 >= max)
        fail_msg("the daemon says too much");
    ssize_t n = read(fd, text + *size, max - 1 - *size);
    *size += n > 0 ? (size_t)n : 0;
    text[*size] = '\0';
    return n > 0;
}

void workerd_proc_ready(struct workerd_proc *w)
{
    while (strchr(w->printed, '\n') == NULL) {
        if (!read_more(w->out, w->printed, &w->printed_size, sizeof w->printed)) {
            workerd_proc_end(w);
            fail_msg("the daemon did not become ready: %s", w->said);
        }
    }
}

const char *workerd_proc_says(struct workerd_proc *w, const char *from, const char *text)
{
    from = from != NULL ? from : w->said;
    for (;;) {
        const char *found = strstr(from, text);
        if (found != NULL && strchr(found, '\n') != NULL)
            return found;
        if (!read_more(w->err, w->said, &w->said_size, sizeof w->said))
            return NULL;
    }
}

int workerd_proc_end(struct workerd_proc *w)
{
    int status;
    while (read_more(w->err, w->said, &w->said_size, sizeof w->said))
        continue;
    while (read_more(w->out, w->printed, &w->printed_size, sizeof w->printed))
        continue;
    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    close(w->out);
    close(w->err);
    w->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void workerd_proc_kill(struct workerd_proc *w)
{
    if (w->pid == 0)
        return;
    kill(w->pid, SIGKILL);
    workerd_proc_end(w);
}
