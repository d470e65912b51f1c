/*
 * What a handler sees of us: its task, and the host's functions.
 *
 * A host belongs to one child process and lives as long. Its functions may be called from any thread, with
 * tasks that are under way. What a task is to publish and to remember is gathered in it until its verdict.
 */
#ifndef WORKERD_HOST_H
#define WORKERD_HOST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sluice/handler.h>

#include "base/list.h"
#include "schemas/codec.h"
#include "workerd/effects.h"

struct host {
    struct sluice_host seen;
    pthread_mutex_t lock; /* over the effects of all tasks */
    /* Sends a packet to the supervisor; any thread. */
    void (*send)(const struct plugin_packet *packet);
};

/* name and config are lent for the life of the host. */
void host_init(struct host *h, const char *name, const char *config,
               void (*send)(const struct plugin_packet *packet));

/* One task in the child: the packet it came in, and what the handler sees of it. */
struct host_task {
    struct list_node node; /* the child's queue */
    struct sluice_task seen;
    uint64_t id;
    uint32_t follow; /* tasks of the same call that come behind it */
    struct view headers;
    struct view state; /* as it was when the task was handed out */
    uint64_t state_version;
    struct effects effects; /* under the host's lock until the entry point has returned */
    atomic_bool cancelled;
    _Atomic uint64_t *deadline_ms; /* of the call that it is part of: monotonic; UINT64_MAX until that runs */
    uint8_t *bytes;                /* the packet, ours */
    char *topic, *group, *idempotency_key;
};

/* Takes the packet's bytes (from mem_dup, 8-aligned). NULL if they are not a TASK. */
struct host_task *host_task_new(uint8_t *bytes, size_t size);
void host_task_free(struct host_task *t);

#endif
