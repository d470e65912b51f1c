/* A handler: what does the work, in a shared object that the worker daemon loads into child processes of its own.
 *
 *     #include <sluice/handler.h>
 *
 *     static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
 *                       struct sluice_verdict *verdict)
 *     {
 *         return SLUICE_VERDICT_ACK;
 *     }
 *
 *     SLUICE_HANDLER = {
 *         .size = sizeof(struct sluice_handler), .abi = SLUICE_HANDLER_ABI,
 *         .name = "email", .version = "1.0.0", .handle = handle,
 *     };
 *
 * One symbol is looked for: `sluice_handler`, a struct whose first field is its size, so that an older handler keeps working
 * under a newer daemon and a newer one is understood as far as it goes. The host's functions are reached through a table that
 * is asked by name: what a host does not have is NULL.
 *
 * Nothing that a handler asks for is sent before its verdict: outputs, state and the acknowledgement leave in one atomic unit.
 * Effects outside of Sluice happen at least once; task->idempotency_key is the same in every attempt.
 *
 * A handler that crashes, hangs past its timeout or exits costs that one task one delivery; nothing else notices.
 *
 * A process has one thread for tasks, unless the daemon's configuration says `threads`: then the entry points are called in as many at
 * once, each with a task, or tasks, of its own and what thread_init stored in that thread. Two tasks of a key whose order is kept are never
 * under way at once.
 */
#ifndef SLUICE_HANDLER_H
#define SLUICE_HANDLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_HANDLER_ABI 1

struct sluice_slice { const void *data; size_t size; }; /* {NULL, 0}: absent; {ptr, 0}: empty */

/* One message to work on. Everything is lent until the entry point returns. Strings end with a zero. */
struct sluice_task {
    size_t size;                      /* sizeof as the host was compiled: fields beyond it are not there */
    const char *topic, *group;
    uint32_t partition;
    uint32_t attempt;                 /* 1 = first */
    uint64_t offset;
    struct sluice_slice key, value;
    uint64_t timestamp_ms;            /* the producer's */
    uint64_t append_time_ms;          /* the broker's */
    const char *idempotency_key;      /* "topic/partition/offset/group": stable over attempts */
    const void *host_data;            /* the host's */
};

enum sluice_verdict_code {
    SLUICE_VERDICT_ACK = 0,           /* done */
    SLUICE_VERDICT_RETRY = 1,         /* a failure: again later, see verdict->delay_ms */
    SLUICE_VERDICT_PARK = 2           /* to the dead letters at once, see verdict->reason */
};

/* Filled by the handler beside its return value; zeroed by the host before. The texts are copied when the entry returns. */
struct sluice_verdict {
    size_t size;
    uint32_t delay_ms;                /* with RETRY and has_delay: instead of the group's backoff */
    bool has_delay;
    char reason[128];                 /* with PARK: a short word that groups them, "unreadable-image" */
    char error[384];                  /* with RETRY and PARK: what went wrong, for people */
};

enum sluice_log_level { SLUICE_LOG_DEBUG = 0, SLUICE_LOG_INFO = 1, SLUICE_LOG_WARN = 2, SLUICE_LOG_ERROR = 3 };

/* Returned by the host's functions. */
enum sluice_host_code { SLUICE_HOST_OK = 0, SLUICE_HOST_UNSUPPORTED = 6, SLUICE_HOST_INVALID = 2, SLUICE_HOST_TOO_LARGE = 12,
                        SLUICE_HOST_CONFLICT = 61, SLUICE_HOST_NO_MEMORY = 3 };

/* The host. `function` gives a host function by name, NULL where it has none; cast it to the type named below. Good for the life
 * of the process, from any of its threads. */
struct sluice_host {
    size_t size;
    void *(*function)(const struct sluice_host *host, const char *name);
    const char *config;               /* the handler's `config:` section as JSON, "{}" when there is none */
    const char *name;                 /* the handler's name in the daemon's configuration */
    void *host_data;
};

/* "log" */
typedef void sluice_log_fn(const struct sluice_host *host, int level, const char *text);
/* "cancelled": true once the task should stop: its lease is lost, its deadline passed, or the daemon drains hard */
typedef bool sluice_cancelled_fn(const struct sluice_host *host, const struct sluice_task *task);
/* "deadline": milliseconds until the task's timeout; 0 when passed */
typedef uint64_t sluice_deadline_fn(const struct sluice_host *host, const struct sluice_task *task);
/* "header": a header's value by name; absent when there is none */
typedef struct sluice_slice sluice_header_fn(const struct sluice_host *host, const struct sluice_task *task, const char *name);
/* "headers": walks all; *pos starts at 0; false at the end. Name and value are lent, the name has no final zero */
typedef bool sluice_headers_fn(const struct sluice_host *host, const struct sluice_task *task, size_t *pos,
                               struct sluice_slice *name, struct sluice_slice *value);
/* "publish": an output, sent with the verdict ACK and only then. The bytes are copied. key absent: all of a task's such outputs
 * to a topic go to one of its partitions. TOO_LARGE: the key is over 4 KiB, or this would be more than 4,096 outputs or, with the
 * state, 32 MiB of a task; nothing is taken then */
typedef int sluice_publish_output_fn(const struct sluice_host *host, const struct sluice_task *task, const char *topic,
                                     struct sluice_slice key, struct sluice_slice value, uint64_t delay_ms);
/* "publish_message": the same with everything that a message can have. Fields left zero take their default */
struct sluice_output_header { const char *name; struct sluice_slice value; };
struct sluice_output {
    size_t size;                      /* sizeof as the handler was compiled */
    const char *topic;
    struct sluice_slice key, value;   /* value absent: a tombstone */
    const struct sluice_output_header *headers;
    size_t headers_count;             /* at most 64, 16 KiB in all */
    uint64_t delay_ms;                /* 0: now */
    uint64_t timestamp_ms;            /* 0: when it is committed */
    uint32_t ttl_ms;                  /* 0: none */
    uint8_t priority;                 /* 0 to 9 */
    const char *message_id;           /* NULL: none. Stored once within the topic's dedup window, whoever else publishes it */
};
typedef int sluice_publish_message_fn(const struct sluice_host *host, const struct sluice_task *task,
                                      const struct sluice_output *output);
/* "state_get", "state_put", "state_remove": the state row of the task's own key in its group; written with the verdict ACK, and only
 * if nobody else changed it since it was read: else the task is run again with what it is then, and that counts as no failure.
 * A task without a key has no state: INVALID. get: what was put in this task, else what was there when it was handed out; absent, with
 * version 0, if there is none. Lent until the next put or remove of this task, or its end. put: copied, TOO_LARGE as with publish */
typedef int sluice_state_get_fn(const struct sluice_host *host, const struct sluice_task *task, struct sluice_slice *value,
                                uint64_t *version);
typedef int sluice_state_put_fn(const struct sluice_host *host, const struct sluice_task *task, struct sluice_slice value);
typedef int sluice_state_remove_fn(const struct sluice_host *host, const struct sluice_task *task);
/* "extend": ask for more time than `timeout`, in ms from now */
typedef int sluice_extend_fn(const struct sluice_host *host, const struct sluice_task *task, uint32_t ms);
/* "progress": for people who look */
typedef int sluice_progress_fn(const struct sluice_host *host, const struct sluice_task *task, uint32_t percent, const char *note);

/* What a handler exports. Every pointer but `handle` or `handle_batch` may be NULL. Returns of init: 0, or not: the process ends,
 * is started again with backoff, and `error` (size bytes) is logged. Those of a thread are called in it, one thread after the other. */
struct sluice_handler {
    size_t size;                      /* sizeof(struct sluice_handler) */
    uint32_t abi;                     /* SLUICE_HANDLER_ABI */
    uint32_t flags;                   /* 0 */
    const char *name, *version;
    int (*process_init)(const struct sluice_host *host, void **process, char *error, size_t size);
    void (*process_fini)(const struct sluice_host *host, void *process);
    int (*thread_init)(const struct sluice_host *host, void *process, void **thread, char *error, size_t size);
    void (*thread_fini)(const struct sluice_host *host, void *process, void *thread);
    /* One task; returns enum sluice_verdict_code. Anything else counts as RETRY with an error that says so. */
    int (*handle)(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict);
    /* Several at once; one verdict each: codes[i] and verdicts[i]. Preferred over `handle` where both are given. */
    void (*handle_batch)(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *tasks,
                         size_t count, int *codes, struct sluice_verdict *verdicts);
    /* New configuration for a running process: 0, or the old one stays. */
    int (*reconfigure)(const struct sluice_host *host, void *process, char *error, size_t size);
};

#ifdef __cplusplus
#define SLUICE_HANDLER extern "C" __attribute__((visibility("default"))) const struct sluice_handler sluice_handler
#else
#define SLUICE_HANDLER __attribute__((visibility("default"))) const struct sluice_handler sluice_handler
#endif

#ifdef __cplusplus
}
#endif
#endif
