#include "exec/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static int value_file(struct view value)
{
    int fd = memfd_create("sluice-value", MFD_CLOEXEC);
    const uint8_t *at = value.data;
    size_t left = value.size;
    while (fd >= 0 && left > 0) {
        ssize_t n = write(fd, at, left);
        if (n < 0 && errno != EINTR) {
            int code = errno;
            close(fd);
            errno = code;
            return -1;
        }
        if (n > 0) {
            at += n;
            left -= (size_t)n;
        }
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}

int exec_start(struct nursery *n, uint32_t slot, const struct buf *env, struct view value, int *stderr_fd, struct err *e)
{
    int ends[2], file = value_file(value);
    if (file < 0)
        return err_set(e, errno, "cannot hold a value of %zu bytes: %s", value.size, strerror(errno));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        int code = errno;
        close(file);
        return err_set(e, code, "cannot make a pipe: %s", strerror(code));
    }
    int code = nursery_run(n, slot, env, file, ends[1], e);
    close(file);
    close(ends[1]);
    if (code != 0) {
        close(ends[0]);
        return code;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *stderr_fd = ends[0];
    return 0;
}

enum exec_verdict exec_verdict(int status)
{
    if (!WIFEXITED(status))
        return EXEC_FAILED;
    switch (WEXITSTATUS(status)) {
    case EX_OK:
        return EXEC_DONE;
    case EX_TEMPFAIL:
        return EXEC_AGAIN;
    case EX_DATAERR:
        return EXEC_PARK;
    default:
        return EXEC_FAILED;
    }
}

char *exec_error(char out[EXEC_ERROR_MAX], int status, const char *last)
{
    const char *colon = last[0] != '\0' ? ": " : "";
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
    if (name != NULL)
        snprintf(out, EXEC_ERROR_MAX, "killed by SIG%s%s%s", name, colon, last);
    else if (WIFSIGNALED(status))
        snprintf(out, EXEC_ERROR_MAX, "killed by signal %d%s%s", WTERMSIG(status), colon, last);
    else if (last[0] != '\0')
        snprintf(out, EXEC_ERROR_MAX, "%s", last);
    else
        snprintf(out, EXEC_ERROR_MAX, "exit status %d", WEXITSTATUS(status));
    return out;
}
