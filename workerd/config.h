/*
 * The daemon's configuration: one YAML file, read at the start, and again on SIGHUP (reload.h).
 *
 * Everything in it is checked here: an unknown key, a value out of range or a file that is not there is an
 * error that names place and thing, and nothing is started. docs/man/sluice-workerd.1 has the keys.
 */
#ifndef WORKERD_CONFIG_H
#define WORKERD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "workerd/batch.h"
#include "workerd/breaker.h"
#include "workerd/jail.h"

enum {
    CONFIG_HANDLERS_MAX = 256,
    CONFIG_PROCESSES_MAX = 256, /* of one handler */
    CONFIG_THREADS_MAX = 64,    /* of one process */
    CONFIG_PIPELINE_MAX = 256,  /* tasks of one thread */
    CONFIG_BATCH_MAX = 4096,    /* tasks of one call */
};

struct handler_config {
    char *name; /* unique */
    char *file; /* absolute; NULL: `exec` */
    char *exec; /* the words of a command, each with its closing zero; NULL: `file` */
    size_t exec_size;
    char *dir; /* of the configuration file: where the command runs */
    char *topic, *group;
    uint32_t processes;                    /* 1 to CONFIG_PROCESSES_MAX, if processes_max is 0 */
    uint32_t processes_min, processes_max; /* 0 to CONFIG_PROCESSES_MAX; max 0: always `processes` */
    uint32_t target_drain_ms, scale_down_after_ms;
    uint32_t threads;   /* of a process: calls that it has at once, 1 to CONFIG_THREADS_MAX; 0 is as 1 */
    uint32_t pipeline;  /* for each of them, 1 to CONFIG_PIPELINE_MAX */
    uint32_t timeout_ms;
    uint32_t lease_ms;
    struct breaker_config breaker;
    uint32_t canary_percent; /* of the keys, for a new version at first; 0: it gets all at once */
    uint32_t canary_ms;
    struct jail jail;
    struct batch_limits batch; /* of a handler that takes several tasks at once */
    char *config; /* JSON, "{}" if there is none */
};

struct config {
    char *broker; /* NULL: $SLUICE_BROKER, then the SDK's default */
    char *name;   /* NULL: the SDK's default */
    char *http;   /* HOST:PORT; NULL: nobody may look */
    enum log_level log_level;
    bool reload_on_change; /* of a handler's file */
    uint32_t grace_ms;
    uint64_t memory_bytes_max;
    struct handler_config *handlers;
    size_t handlers_n; /* 1 or more */
};

/* Reads and checks the file. Returns 0, or CONFIG with "FILE:LINE: ..." in the text; `out` then needs no
   freeing. */
int config_load(const char *path, struct config *out, struct err *e);
/* As config_load; everything that is wrong goes to `errors`, a line each, and the first (may be NULL) to `first`. */
int config_load_all(const char *path, struct config *out, struct buf *errors, struct err *first);
void config_free(struct config *c);

#endif
