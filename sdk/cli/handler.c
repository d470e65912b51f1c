/*
 * sluice handler check FILE: loads a handler's file as the worker daemon would, and says what is in it.
 *
 * It is loaded in a process that is forked for that, so what its constructors do harms nobody and can be told.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/handler.h"
#include "cli/out.h"
#include "exec/exec.h"
#include "workerd/load.h"

enum { LOAD_MS = 10000 };

int handler_path(const struct args *a, char path[PATH_MAX])
{
    const char *file = args_operand(a, 0);
    if (realpath(file, path) != NULL)
        return STATUS_OK;
    talk("%s: %s", file, strerror(errno));
    return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_ERROR;
}

/* ---- in the process that loads it ---- */

static json_t *entries_of(const struct sluice_handler *h)
{
    json_t *names = json_array();
#define ENTRY(name)     \
    if (h->name != NULL) \
    json_array_append_new(names, json_string(#name))
    ENTRY(process_init);
    ENTRY(process_fini);
    ENTRY(thread_init);
    ENTRY(thread_fini);
    ENTRY(handle);
    ENTRY(handle_batch);
    ENTRY(reconfigure);
#undef ENTRY
    return names;
}

/* What it found, as a line of JSON: the handler, or {"error": ..}. */
static _Noreturn void load(const char *path, int to)
{
    struct sluice_handler h;
    struct err e;
    dup2(STDERR_FILENO, STDOUT_FILENO); /* what it prints is none of our data */
    json_t *found = handler_load(path, &h, &e) != 0
                        ? json_pack("{s:s}", "error", e.text)
                        : json_pack("{s:s, s:s, s:s, s:i, s:I, s:o}", "file", path, "name", h.name, "version", h.version,
                                    "abi", (int)h.abi, "size", (json_int_t)h.size, "entries", entries_of(&h));
    if (found == NULL)
        found = json_pack("{s:s}", "error", "the handler's name or version is not UTF-8");
    json_dumpfd(found, to, JSON_COMPACT);
    json_decref(found);
    fflush(NULL);
    _exit(0);
}

/* ---- and in the one that asked ---- */

/* Reads until the end or the deadline; false: it is late. */
static bool gather(int fd, uint64_t deadline_ms, struct buf *text)
{
    for (;;) {
        uint64_t now = clock_mono_ms();
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ms || poll(&readable, 1, (int)(deadline_ms - now)) == 0)
            return false;
        ssize_t n = read(fd, buf_reserve(text, 4096), 4096);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        if (n > 0)
            text->size += (size_t)n;
    }
}

static void print(const struct args *a, json_t *found)
{
    if (args_json(a)) {
        out_json(json_incref(found));
        return;
    }
    struct buf entries = {0};
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(found, "entries"), i, name)
        buf_putf(&entries, "%s%s", i > 0 ? " " : "", json_string_value(name));
    sheet_line("name", "%s", json_string_value(json_object_get(found, "name")));
    sheet_line("version", "%s", json_string_value(json_object_get(found, "version")));
    sheet_line("abi", "%d", (int)json_integer_value(json_object_get(found, "abi")));
    sheet_line("entries", "%s", buf_str(&entries));
    buf_free(&entries);
}

/* What became of the process that loaded it, and what it wrote. */
static int conclude(const struct args *a, const char *path, int status, const struct buf *text)
{
    char how[EXEC_ERROR_MAX];
    json_t *found = json_loadb((const char *)text->data, text->size, 0, NULL);
    const char *error = json_string_value(json_object_get(found, "error"));
    bool good = found != NULL && error == NULL && status == 0;
    if (good)
        print(a, found);
    else if (error != NULL && status == 0)
        talk("%s", error);
    else
        talk("%s: the process that loaded it ended: %s", path, exec_error(how, status, ""));
    json_decref(found);
    return good ? STATUS_OK : STATUS_ERROR;
}

int handler_check(const struct args *a)
{
    char path[PATH_MAX];
    int ends[2], status = handler_path(a, path);
    if (status != STATUS_OK)
        return status;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        talk("cannot make a pipe: %s", strerror(errno));
        return STATUS_ERROR;
    }
    pid_t pid = fork();
    if (pid == 0)
        load(path, ends[1]);
    int code = errno;
    close(ends[1]);
    if (pid < 0) {
        talk("cannot start a process: %s", strerror(code));
        close(ends[0]);
        return STATUS_ERROR;
    }
    struct buf text = {0};
    int ended = 0;
    bool in_time = gather(ends[0], clock_mono_ms() + args_number(a, "timeout", LOAD_MS), &text);
    if (!in_time)
        kill(pid, SIGKILL);
    close(ends[0]);
    while (waitpid(pid, &ended, 0) < 0 && errno == EINTR)
        continue;
    if (in_time)
        status = conclude(a, path, ended, &text);
    else
        talk("%s: loading it takes too long", path);
    buf_free(&text);
    return in_time ? status : STATUS_TIMEOUT;
}
