/*
 * A program under measurement: ours or a peer's. Started in a directory of its own, stopped by its own pid, and what it and its
 * children use is read from /proc. What runs when the bench ends, in whatever way it is asked to, is killed. One thread at a time.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct server_spec {
    const char *name;             /* "broker": DIR/NAME.log gets its stderr, and its stdout without ready_line */
    const char *const *argv;      /* argv[0] a path, or a name that is looked for in $PATH; NULL-terminated */
    const char *const *env;       /* further "NAME=value", NULL-terminated; NULL: none */
    const char *dir;              /* exists; its working directory */
    bool ready_line;              /* waits for a first line on stdout: server.line */
};

struct server {
    pid_t pid;                    /* 0: does not run. Leads a process group of its own */
    char log[PATH_MAX];
    char line[4096];
};

int server_start(struct server *s, const struct server_spec *spec, struct err *e);
/* SIGTERM, waits, and kills it and its descendants when that takes longer than 30 s. */
void server_stop(struct server *s);
void server_kill(struct server *s); /* SIGKILL, it and its descendants, and waits for it */
bool server_runs(struct server *s);

/* For a server that says nothing when it is ready: waits until 127.0.0.1:port accepts. Fails when the process ends before. */
int server_wait_port(struct server *s, uint16_t port, double seconds, struct err *e);
/* A port of 127.0.0.1 that was free a moment ago, for those that cannot choose one themselves. */
uint16_t server_free_port(void);

/* What a process and its descendants used since each was started, those that have ended included. */
struct usage {
    double cpu_seconds;           /* all threads, user and system */
    uint64_t rss_bytes;           /* now */
    uint64_t written_bytes;       /* given to the disk */
};
void usage_of(pid_t pid, struct usage *out); /* zeros for pid 0 */
void usage_since(struct usage *now, const struct usage *before); /* subtracts, but for rss */

/* A directory of the bench's own below `parent` (NULL: /var/tmp, which is on disk), removed when the bench ends. ENOTSUP: that is
 * no disk. */
int workdir_make(const char *parent, char out[PATH_MAX], struct err *e);
int workdir_below(const char *dir, const char *name, char out[PATH_MAX], struct err *e); /* DIR/NAME, empty: what was there is removed */
void workdir_remove(const char *path);
uint64_t workdir_bytes(const char *path); /* on disk, of all files in it */

/* Before any thread: SIGINT and SIGTERM end the bench as exit does. */
void servers_begin(void);

#endif
