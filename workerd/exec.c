#include "workerd/exec.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "exec/env.h"
#include "exec/exec.h"
#include "schemas/errors.h"

enum {
    LOOK_MS = 50, /* how often the host is asked whether the task should stop */
    PATIENCE_MS_MAX = 500,
};

/* One per process, as the child that runs it is. */
static struct {
    char *words, *dir;
    char label[64]; /* what people are told that it is */
    const char **argv; /* points into words */
    uint32_t timeout_ms;
    const struct jail *jail;
    struct nursery nursery;
} self = {.nursery = NURSERY_NONE};

/* ---- whether it is there ---- */

/* Returns 0, or an errno. */
static int check_file(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    return access(path, X_OK) == 0 ? 0 : errno;
}

static int check_path(const char *file, const char *dir, struct err *e)
{
    char whole[PATH_MAX];
    if (snprintf(whole, sizeof whole, "%s%s%s", file[0] == '/' ? "" : dir, file[0] == '/' ? "" : "/", file) >=
        (int)sizeof whole)
        return err_set(e, E_CONFIG, "%s: %s", file, strerror(ENAMETOOLONG));
    int code = check_file(whole);
    return code == 0 ? 0 : err_set(e, E_CONFIG, "%s: %s", whole, strerror(code));
}

static int look_in_path(const char *program, struct err *e)
{
    char whole[PATH_MAX];
    const char *path = getenv("PATH");
    for (const char *at = path != NULL ? path : ""; *at != '\0';) {
        int size = (int)strcspn(at, ":");
        if (snprintf(whole, sizeof whole, "%.*s/%s", size, at, program) < (int)sizeof whole && check_file(whole) == 0)
            return 0;
        at += size;
        at += *at == ':';
    }
    return err_set(e, E_CONFIG, "%s: not found in $PATH (%s)", program, path != NULL ? path : "");
}

/* The shell knows more than files: built-in commands, and words of its own. */
static int ask_shell(const char *word, struct err *e)
{
    const char *argv[] = {"sh", "-c", "command -v \"$0\" >/dev/null", word, NULL};
    pid_t pid;
    int status = 0;
    if (posix_spawn(&pid, "/bin/sh", NULL, NULL, (char *const *)argv, environ) != 0)
        return err_set(e, E_CONFIG, "/bin/sh cannot be started");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status == 0 ? 0 : err_set(e, E_CONFIG, "%s: the shell finds no such command", word);
}

/* The first word of a line, if it is plain: nothing that the shell would have to look into. Returns what is behind it, or NULL. */
static const char *take_word(const char *line, char word[PATH_MAX])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-/[";
    line += strspn(line, " \t\n");
    size_t size = strspn(line, plain);
    if (size == 0 || size >= PATH_MAX || strchr(" \t\n;|&", line[size]) == NULL)
        return NULL;
    memcpy(word, line, size);
    word[size] = '\0';
    return line + size;
}

static int check_line(const char *line, const char *dir, struct err *e)
{
    char word[PATH_MAX];
    if (take_word(line, word) == NULL)
        return 0;
    return strchr(word, '/') != NULL ? check_path(word, dir, e) : ask_shell(word, e);
}

/* The word behind this one; NULL: there is none. */
static const char *next_word(struct view words, const char *word)
{
    const char *next = word + strlen(word) + 1;
    return next < (const char *)words.data + words.size ? next : NULL;
}

/* What a shell is to run; NULL: the command is none of those. */
static const char *shell_line(struct view words)
{
    const char *program = (const char *)words.data, *option = next_word(words, program);
    return option != NULL && strcmp(program, "/bin/sh") == 0 && strcmp(option, "-c") == 0 ? next_word(words, option) : NULL;
}

int exec_check(struct view words, const char *dir, struct err *e)
{
    const char *program = (const char *)words.data, *line = shell_line(words);
    if (line != NULL)
        return check_line(line, dir, e);
    return strchr(program, '/') != NULL ? check_path(program, dir, e) : look_in_path(program, e);
}

/* ---- what it is called ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool is_file_in(const char *dir, const char *word)
{
    char whole[PATH_MAX];
    struct stat st;
    int n = snprintf(whole, sizeof whole, "%s%s%s", word[0] == '/' ? "" : dir, word[0] == '/' ? "" : "/", word);
    return n < (int)sizeof whole && stat(whole, &st) == 0 && S_ISREG(st.st_mode);
}

/* The program, with its script if it has one. Never the other words: a password may be among them. */
static void put_label(struct view words, const char *dir)
{
    const char *word = (const char *)words.data, *line = shell_line(words), *next = next_word(words, word);
    char program[PATH_MAX], script[PATH_MAX] = "";
    if (line != NULL && (line = take_word(line, program)) != NULL) {
        if (take_word(line, script) == NULL)
            script[0] = '\0';
    } else {
        snprintf(program, sizeof program, "%s", word);
        snprintf(script, sizeof script, "%s", next != NULL ? next : "");
    }
    if (script[0] != '\0' && is_file_in(dir, script))
        snprintf(self.label, sizeof self.label, "%.31s %.31s", base_name(program), base_name(script));
    else
        snprintf(self.label, sizeof self.label, "%.63s", base_name(program));
}

/* ---- one message ---- */

#define HOST(type, name) ((type *)host->function(host, name))

static int start(const struct sluice_host *host, const struct sluice_task *t, int *stderr_fd, struct err *e)
{
    struct buf env = {0};
    struct sluice_slice name, value;
    sluice_headers_fn *headers = HOST(sluice_headers_fn, "headers");
    env_put_message(&env, &(struct exec_message){.topic = t->topic,
                                                 .group = t->group,
                                                 .partition = t->partition,
                                                 .offset = t->offset,
                                                 .attempt = t->attempt,
                                                 .key = view_of(t->key.data, t->key.size)});
    for (size_t pos = 0; headers(host, t, &pos, &name, &value);)
        env_put_header(&env, view_of(name.data, name.size), view_of(value.data, value.size));
    int code = exec_start(&self.nursery, 0, &env, view_of(t->value.data, t->value.size), stderr_fd, e);
    buf_free(&env);
    return code;
}

/* From SIGTERM to SIGKILL: half of what the supervisor allows before it ends the child. */
static uint32_t patience_ms(void)
{
    uint32_t part = self.timeout_ms / 20;
    return part < PATIENCE_MS_MAX ? part : PATIENCE_MS_MAX;
}

/* A message's command. */
struct work {
    const struct sluice_host *host;
    const struct sluice_task *task;
    struct speech speech;
    int stderr_fd;    /* -1: closed */
    uint64_t kill_ms; /* when SIGKILL follows; UINT64_MAX: it was not told to end, or was killed */
    char why[UNITS_TEXT_MAX + 16]; /* it was told to end; "": it was not */
};

static void listen_to(struct work *w)
{
    if (w->stderr_fd < 0 || speech_read(&w->speech, w->stderr_fd))
        return;
    close(w->stderr_fd);
    w->stderr_fd = -1;
}

/* Ends the command if the task should stop. */
static void look_at_time(struct work *w)
{
    const struct sluice_host *host = w->host;
    char limit[UNITS_TEXT_MAX];
    if (w->kill_ms <= clock_mono_ms()) {
        nursery_kill(&self.nursery, 0, SIGKILL);
        w->kill_ms = UINT64_MAX;
    } else if (w->why[0] == '\0' && HOST(sluice_cancelled_fn, "cancelled")(host, w->task)) {
        if (HOST(sluice_deadline_fn, "deadline")(host, w->task) == 0)
            snprintf(w->why, sizeof w->why, "timeout after %s", duration_format(limit, self.timeout_ms));
        else
            snprintf(w->why, sizeof w->why, "cancelled");
        nursery_kill(&self.nursery, 0, SIGTERM);
        w->kill_ms = clock_mono_ms() + patience_ms();
    }
}

/* How long nothing will happen by itself. */
static int sleep_ms(const struct work *w)
{
    const struct sluice_host *host = w->host;
    uint64_t now = clock_mono_ms();
    uint64_t left = w->why[0] == '\0' ? HOST(sluice_deadline_fn, "deadline")(host, w->task)
                    : w->kill_ms > now ? w->kill_ms - now
                                       : 0;
    return left < LOOK_MS ? (int)left : LOOK_MS;
}

/* Returns the status of the command, as waitpid has it. */
static int wait_for_end(struct work *w)
{
    for (;;) {
        uint32_t slot;
        int status;
        struct pollfd fds[] = {{.fd = self.nursery.fd, .events = POLLIN}, {.fd = w->stderr_fd, .events = POLLIN}};
        poll(fds, ARRAY_LEN(fds), sleep_ms(w));
        if (fds[1].revents != 0)
            listen_to(w);
        switch (nursery_next(&self.nursery, &slot, &status)) {
        case NURSERY_ENDED:
            return status;
        case NURSERY_GONE: /* with threads, this process cannot fork another */
            fputs("the process that runs commands was killed\n", stderr);
            _exit(EXIT_FAILURE);
        case NURSERY_QUIET:
            look_at_time(w);
        }
    }
}

/* With what a signal says of the limits. */
static void put_error(struct sluice_verdict *v, const char *error, int status)
{
    struct buf text = {0};
    const struct process_end end = {.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    buf_putf(&text, "%s", error);
    jail_explain(self.jail, &end, &text);
    snprintf(v->error, sizeof v->error, "%s", buf_str(&text));
    buf_free(&text);
}

static int judge(const struct work *w, int status, struct sluice_verdict *v)
{
    char error[EXEC_ERROR_MAX];
    enum exec_verdict verdict = exec_verdict(status);
    if (verdict == EXEC_DONE)
        return SLUICE_VERDICT_ACK;
    if (w->why[0] != '\0') {
        const char *last = w->speech.last;
        snprintf(v->error, sizeof v->error, "%s%s%.300s", w->why, last[0] != '\0' ? ": " : "", last);
        return SLUICE_VERDICT_RETRY;
    }
    put_error(v, exec_error(error, status, w->speech.last), status);
    if (verdict != EXEC_PARK)
        return SLUICE_VERDICT_RETRY;
    snprintf(v->reason, sizeof v->reason, EXEC_PARK_REASON);
    return SLUICE_VERDICT_PARK;
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *v)
{
    (void)process, (void)thread;
    struct work w = {.host = host, .task = task, .stderr_fd = -1, .kill_ms = UINT64_MAX};
    struct err e;
    if (start(host, task, &w.stderr_fd, &e) != 0) {
        snprintf(v->error, sizeof v->error, "%s", e.text);
        return SLUICE_VERDICT_RETRY;
    }
    int status = wait_for_end(&w);
    listen_to(&w);
    speech_pass(&w.speech, true);
    int code = judge(&w, status, v);
    if (w.stderr_fd >= 0)
        close(w.stderr_fd);
    speech_free(&w.speech);
    return code;
}

/* ---- the handler ---- */

static int init(const struct sluice_host *host, void **process, char *error, size_t size)
{
    struct err e;
    (void)process;
    setenv("SLUICE_CONFIG", host->config, true);
    jail_task(self.jail); /* the nursery hands it on to each command, whose time begins at nothing */
    if (nursery_start(&self.nursery, self.argv, self.dir, 1, &e) == 0)
        return 0;
    snprintf(error, size, "%s", e.text);
    return 1;
}

static void fini(const struct sluice_host *host, void *process)
{
    (void)host, (void)process;
    nursery_stop(&self.nursery);
    mem_free(self.words);
    mem_free(self.dir);
    mem_free(self.argv);
}

int exec_load(struct view words, const char *dir, uint32_t timeout_ms, const struct jail *jail, struct sluice_handler *out,
              struct err *e)
{
    if (words.size == 0 || words.data[words.size - 1] != '\0')
        return err_set(e, E_CONFIG, "a command without words");
    int code = exec_check(words, dir, e);
    if (code != 0)
        return code;
    self.words = mem_dup(words.data, words.size);
    self.dir = mem_strdup(dir);
    self.timeout_ms = timeout_ms;
    self.jail = jail;
    self.argv = mem_array(words.size + 1, sizeof *self.argv); /* a word has a byte or more */
    size_t count = 0;
    for (const char *word = self.words; word != NULL; word = next_word(view_of(self.words, words.size), word))
        self.argv[count++] = word;
    put_label(words, dir);
    *out = (struct sluice_handler){.size = sizeof *out,
                                   .abi = SLUICE_HANDLER_ABI,
                                   .name = self.label,
                                   .version = self.label,
                                   .process_init = init,
                                   .process_fini = fini,
                                   .handle = handle};
    return 0;
}
