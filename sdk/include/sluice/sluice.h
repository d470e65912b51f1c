/* Sluice: the client's side of a message queue.
 *
 *     struct sluice *s;
 *     struct sluice_error err;
 *     if (sluice_open(&s, &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = "tcp://127.0.0.1:7400"}, &err))
 *         fprintf(stderr, "%s\n", err.text);
 *
 *     sluice_publish(s, &(struct sluice_message){.size = sizeof(struct sluice_message), .topic = "orders",
 *                        .key = SLUICE_STR("4711"), .value = SLUICE_STR("paid")}, NULL, &err);   // 0: it is on disk
 *
 *     struct sluice_batch *b;
 *     sluice_receive(s, "orders", "email", NULL, &b, &err);
 *     for (size_t i = 0; i < sluice_batch_count(b); i++)
 *         if (send_mail(sluice_batch_message(b, i)) == 0)
 *             sluice_ack(b, i, &err);
 *     sluice_batch_free(b);                                      // what was not settled is given back
 *
 *     sluice_close(s, 10000, NULL, &err);
 *
 * Conventions
 *   - Every call that can fail returns 0 or an enum sluice_code, and fills `err` when it is not NULL.
 *   - Structs that the caller fills begin with `size` = sizeof of the struct as the caller was compiled; fields left zero take
 *     their default. So a newer library understands an older caller.
 *   - Strings are UTF-8 with a final zero; bytes are a pointer and a length, where {NULL, 0} is absent and {ptr, 0} is empty.
 *   - On success a call that takes something owns it; on an error you still do. What a call lends says until when.
 *   - Durations are milliseconds, sizes are bytes.
 *   - A handle may be used from any number of threads at once, unless a call says otherwise. Callbacks run on a thread of the
 *     library: they must not block and must not call the blocking calls marked [blocks].
 *   - Fork: open after the fork, never before.
 *
 * Guarantees are in docs/concepts.md; the protocol in docs/protocol.md.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_API __attribute__((visibility("default")))
#define SLUICE_VERSION_MAJOR 0
#define SLUICE_VERSION_MINOR 1
#define SLUICE_VERSION_PATCH 0

/* The library's version, "0.1.0". Static. */
SLUICE_API const char *sluice_version(void);

/* ---------------------------------------------------------------- errors */

/* As in the broker's table (docs/protocol.md). A newer broker may answer codes that are not listed here. */
enum sluice_code {
    SLUICE_OK = 0,
    SLUICE_INTERNAL = 1,
    SLUICE_INVALID_ARGUMENT = 2,
    SLUICE_NO_MEMORY = 3,
    SLUICE_TIMEOUT = 4,
    SLUICE_CLOSED = 5,
    SLUICE_UNSUPPORTED = 6,
    SLUICE_CANCELLED = 7,
    SLUICE_AGAIN = 8,
    SLUICE_BAD_FRAME = 10,
    SLUICE_BAD_VERSION = 11,
    SLUICE_TOO_LARGE = 12,
    SLUICE_UNREACHABLE = 13,
    SLUICE_UNAUTHENTICATED = 14,
    SLUICE_FORBIDDEN = 15,
    SLUICE_SESSION_EXPIRED = 20,
    SLUICE_OUT_OF_ORDER = 21,
    SLUICE_NO_SESSION = 22,
    SLUICE_TOPIC_NOT_FOUND = 30,
    SLUICE_PARTITION_NOT_FOUND = 31,
    SLUICE_GROUP_NOT_FOUND = 32,
    SLUICE_EXISTS = 33,
    SLUICE_TOPIC_DELETED = 34,
    SLUICE_WRONG_MODE = 35,
    SLUICE_TASK_NOT_FOUND = 36,
    SLUICE_SCHEDULE_NOT_FOUND = 37,
    SLUICE_OVERLOADED = 40,
    SLUICE_DISK_FULL = 41,
    SLUICE_SHUTTING_DOWN = 42,
    SLUICE_LIMIT = 43,
    SLUICE_DAMAGED = 50,
    SLUICE_GAP = 51,
    SLUICE_WRONG_PARTITION = 52,
    SLUICE_UNROUTABLE = 53,
    SLUICE_OFFSET_OUT_OF_RANGE = 54,
    SLUICE_DUPLICATE = 55,
    SLUICE_LEASE_LOST = 60,
    SLUICE_CONFLICT = 61,
    SLUICE_STORE_FAILED = 70,
    SLUICE_STORE_LOCKED = 71,
    SLUICE_FORMAT_NEWER = 72,
    SLUICE_QUEUE_FULL = 80,
    SLUICE_NOT_DELIVERED = 81,
    SLUICE_CONFIG = 90
};

/* What went wrong. Declared by the caller, nothing in it needs freeing. (The manner is librdkafka's: an error can be asked.) */
struct sluice_error {
    int code;
    char text[256];            /* "no such topic: 'photo'; create it with: sluice topic create photo" */
    uint32_t retry_after_ms;   /* from the broker when it refused for load, else 0 */
    uint64_t depth;            /* messages waiting where the limit was reached, 0 = not said */
    uint64_t drain_ms;         /* estimated time until that is worked off, 0 = not said */
};
SLUICE_API const char *sluice_code_name(int code);            /* "LEASE_LOST"; static */
SLUICE_API const char *sluice_code_text(int code);            /* static */
SLUICE_API bool sluice_code_retriable(int code);              /* the same call may succeed later */
SLUICE_API bool sluice_code_fatal(int code);                  /* close this client and open a new one */

/* ---------------------------------------------------------------- bytes */

struct sluice_bytes { const void *data; size_t size; };       /* {NULL, 0}: absent */
#define SLUICE_STR(s) ((struct sluice_bytes){"" s, sizeof("" s) - 1})   /* a string literal */
SLUICE_API struct sluice_bytes sluice_str(const char *s);     /* a C string; NULL gives absent */

/* ---------------------------------------------------------------- a client */

struct sluice; /* one session at a broker */

struct sluice_options {
    size_t size;
    const char *broker;          /* "tcp://127.0.0.1:7400"; also tls+tcp://, ipc:///path, inproc://name. NULL: $SLUICE_BROKER, then that */
    const char *name;            /* a label shown by the broker; NULL: "program@host/pid" */
    uint32_t request_timeout_ms; /* of a blocking call, repeats and reconnects included; 0: 30,000 */
    uint32_t connect_timeout_ms; /* of sluice_open; 0: 10,000 */
    size_t memory_max;           /* hard cap of this client on everything it holds: unsent and unconfirmed messages, received
                                    batches, replies. 0: 64 MiB. At the cap publish_async answers QUEUE_FULL, publish waits. */
    uint32_t linger_ms;          /* async: how long a batch may wait for more; 0: none, what gathers while a request is out */
    uint32_t batch_bytes_max;    /* 0: 256 KiB */
    uint32_t batch_records_max;  /* 0: 4,096 */
    int compression;             /* enum sluice_compression; 0: lz4 where it saves an eighth */
    void (*log)(void *user, int level, const char *text); /* NULL: silent. level as in enum sluice_level */
    void *log_user;
};
enum sluice_compression { SLUICE_COMPRESSION_DEFAULT = 0, SLUICE_COMPRESSION_NONE = 1, SLUICE_COMPRESSION_LZ4 = 2, SLUICE_COMPRESSION_ZSTD = 3 };
enum sluice_level { SLUICE_DEBUG = 0, SLUICE_INFO = 1, SLUICE_WARN = 2, SLUICE_ERROR = 3 };

/* Opens a session: 128 random bits name it, the broker answers within connect_timeout_ms. [blocks]
 * A pipe that is lost is dialled again with backoff for as long as the client is open; within the broker's session grace its
 * leases and unconfirmed requests are kept, and requests are repeated under their numbers, so that a repeat has one effect.
 * Errors: UNREACHABLE, BAD_VERSION, UNAUTHENTICATED, INVALID_ARGUMENT (names the field), TIMEOUT. */
SLUICE_API int sluice_open(struct sluice **out, const struct sluice_options *options, struct sluice_error *err);

/* Sends what is waiting, waits up to timeout_ms for confirmations, gives back leases that are not settled, says bye. [blocks]
 * Always frees `s`; NULL is fine. `undelivered` (may be NULL) counts messages that were not confirmed; then NOT_DELIVERED is
 * returned, and each of them has had its callback with that code. No other call on `s` may be running or follow. */
SLUICE_API int sluice_close(struct sluice *s, uint32_t timeout_ms, uint64_t *undelivered, struct sluice_error *err);

/* What the client holds and did. */
struct sluice_stats {
    size_t size;                 /* in: sizeof */
    uint64_t memory_bytes, memory_max;
    uint64_t published, confirmed, failed, received, settled, repeated, reconnects;
    bool connected;
};
SLUICE_API void sluice_stats(struct sluice *s, struct sluice_stats *out);

/* ---------------------------------------------------------------- publishing */

struct sluice_header { const char *name; struct sluice_bytes value; };

/* A message to publish. Bytes are copied before the call returns. */
struct sluice_message {
    size_t size;
    const char *topic;
    struct sluice_bytes key;      /* absent: round robin; messages of one key keep their order. At most 4 KiB */
    struct sluice_bytes value;    /* absent: a tombstone */
    const struct sluice_header *headers;
    size_t headers_count;         /* at most 64, 16 KiB in all */
    uint64_t timestamp_ms;        /* the producer's word; 0: now */
    uint32_t ttl_ms;              /* 0: none */
    uint8_t priority;             /* 0 to 9 */
    const char *message_id;       /* NULL: none */
    uint64_t delay_ms;            /* 0: now */
};

enum sluice_durability { SLUICE_DISK = 1, SLUICE_OS = 2 };

/* What the broker promised. */
struct sluice_receipt {
    uint32_t partition;           /* index in the topic, from 0 */
    uint64_t offset;
    int durability;               /* enum sluice_durability */
};

/* Publishes one message and waits for the broker's acknowledgement. [blocks]
 * 0: it is as durable as `receipt->durability` says (`receipt` may be NULL). TIMEOUT and CLOSED leave the outcome unknown;
 * every other error means that it was not published. Many threads calling at once share batches.
 * Errors: TOPIC_NOT_FOUND, TOO_LARGE, LIMIT, INVALID_ARGUMENT, OVERLOADED, DISK_FULL, UNREACHABLE, QUEUE_FULL (no room within
 * request_timeout_ms), TIMEOUT, SESSION_EXPIRED, CLOSED. */
SLUICE_API int sluice_publish(struct sluice *s, const struct sluice_message *m, struct sluice_receipt *receipt,
                              struct sluice_error *err);

/* Called once for each message given to sluice_publish_async, in order per partition. `error` is NULL on success. */
typedef void sluice_publish_fn(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt);

/* Gathers messages into a batch per partition and sends it when it is full, linger_ms has passed, or no request is out.
 * `fn` may be NULL. Errors, nothing is taken then: QUEUE_FULL (memory_max reached), INVALID_ARGUMENT, TOO_LARGE, LIMIT,
 * TOPIC_NOT_FOUND. The first message to a topic asks the broker for its partitions. [blocks then, up to request_timeout_ms] */
SLUICE_API int sluice_publish_async(struct sluice *s, const struct sluice_message *m, sluice_publish_fn *fn, void *user,
                                    struct sluice_error *err);

/* Waits until everything given to publish_async before was confirmed or failed. [blocks] TIMEOUT: some is still out. */
SLUICE_API int sluice_flush(struct sluice *s, uint32_t timeout_ms, struct sluice_error *err);

/* ---------------------------------------------------------------- messages received */

/* A message as delivered or read. Lent: good until the batch it came in is freed. */
struct sluice_delivery {
    const char *topic;
    uint32_t partition;           /* index in the topic */
    uint64_t offset;
    struct sluice_bytes key, value;
    uint64_t timestamp_ms;        /* the producer's */
    uint64_t append_time_ms;      /* the broker's */
    uint32_t attempt;             /* 1 = first delivery; 1 + failures so far. 0 when read from the log */
    struct sluice_bytes headers_raw; /* see sluice_header_next */
};

struct sluice_batch;
SLUICE_API size_t sluice_batch_count(const struct sluice_batch *b);
SLUICE_API const struct sluice_delivery *sluice_batch_message(const struct sluice_batch *b, size_t i); /* i < count */
/* Gives back (release, not a failure) every message of a received batch that was not settled, then frees it. NULL is fine. */
SLUICE_API void sluice_batch_free(struct sluice_batch *b);

/* The value of a header by name; absent when there is none. Lent by the delivery. */
SLUICE_API struct sluice_bytes sluice_header_get(const struct sluice_delivery *d, const char *name);
/* Walks headers: `*pos` starts at 0. The name is not zero-terminated. */
SLUICE_API bool sluice_header_next(const struct sluice_delivery *d, size_t *pos, struct sluice_bytes *name,
                                   struct sluice_bytes *value);

/* ---------------------------------------------------------------- queue groups */

struct sluice_receive_options {
    size_t size;
    uint32_t max_messages;        /* 0: 100; at most 65,536 */
    uint32_t max_bytes;           /* 0: 1 MiB; one message always fits */
    uint32_t wait_ms;             /* how long to wait for the first; 0: do not wait. UINT32_MAX: request_timeout_ms */
    uint32_t lease_ms;            /* 0: the group's */
};

/* Leases messages of a queue group. [blocks for wait_ms at most, plus reconnects up to request_timeout_ms]
 * 0 with an empty batch (never NULL) when nothing came. Waiting calls of one client share one long poll; messages go to the
 * callers in the order of their calls. `options` NULL: defaults with wait_ms = UINT32_MAX.
 * A message whose bytes are damaged is not delivered: the broker parks it as `damaged`.
 * Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE, TOPIC_DELETED, UNREACHABLE, QUEUE_FULL (batches that were received fill
 * the memory: free some), SESSION_EXPIRED, CLOSED, NO_MEMORY. */
SLUICE_API int sluice_receive(struct sluice *s, const char *topic, const char *group, const struct sluice_receive_options *options,
                              struct sluice_batch **out, struct sluice_error *err);

/* Settling one message of a received batch. Each waits until the broker has answered, gathering with what other threads settle
 * at the same moment. [blocks] A message can be settled once; again is INVALID_ARGUMENT. Any thread, also while others use `b`.
 * LEASE_LOST: the message was granted again, parked or done meanwhile; this settle had no effect. */
SLUICE_API int sluice_ack(struct sluice_batch *b, size_t i, struct sluice_error *err);
enum { SLUICE_BACKOFF = UINT32_MAX };
/* A failure: comes back after delay_ms (0: at once, SLUICE_BACKOFF: by the group's backoff), or is parked at max_deliveries. */
SLUICE_API int sluice_nack(struct sluice_batch *b, size_t i, uint32_t delay_ms, const char *error, struct sluice_error *err);
/* To the dead letters at once, with a reason. `error` may be NULL. */
SLUICE_API int sluice_park(struct sluice_batch *b, size_t i, const char *reason, const char *error, struct sluice_error *err);
/* Not started: goes back and its delivery is not counted. */
SLUICE_API int sluice_release(struct sluice_batch *b, size_t i, struct sluice_error *err);
/* The lease ends lease_ms from now (0: the group's term). The message stays unsettled. */
SLUICE_API int sluice_extend(struct sluice_batch *b, size_t i, uint32_t lease_ms, struct sluice_error *err);

/* Many at once, without waiting. `items` may be of several batches of one client. Each stands by itself unless `atomic`, then all
 * are one unit: whole or absent. `fn` (may be NULL) is called once per item, with its index. The batches may be freed at once:
 * what is named here counts as settled. Errors, nothing is taken then: INVALID_ARGUMENT (names the item), QUEUE_FULL, CLOSED. */
enum sluice_settle_verb { SLUICE_ACK = 1, SLUICE_NACK, SLUICE_PARK, SLUICE_RELEASE, SLUICE_EXTEND };
struct sluice_settle {
    struct sluice_batch *batch;
    size_t index;
    int verb;                     /* enum sluice_settle_verb */
    uint32_t delay_ms;            /* nack: as in sluice_nack; extend: lease_ms */
    const char *reason, *error;   /* copied */
};
typedef void sluice_settle_fn(void *user, size_t index, const struct sluice_error *error); /* error NULL: done */
SLUICE_API int sluice_settle_async(struct sluice *s, const struct sluice_settle *items, size_t count, bool atomic,
                                   sluice_settle_fn *fn, void *user, struct sluice_error *err);

/* ---------------------------------------------------------------- reading the log */

struct sluice_reader; /* reads one partition by offset; one thread at a time */

enum { SLUICE_FROM_START = 1, SLUICE_FROM_END = 2, SLUICE_FROM_OFFSET = 3, SLUICE_FROM_TIME = 4 };
struct sluice_reader_options {
    size_t size;
    int from;                     /* SLUICE_FROM_*; 0: start */
    uint64_t offset;              /* with SLUICE_FROM_OFFSET */
    uint64_t time_ms;             /* with SLUICE_FROM_TIME: first message appended at or after */
    uint32_t max_bytes;           /* per read; 0: 1 MiB */
};
/* Errors: TOPIC_NOT_FOUND, PARTITION_NOT_FOUND, and those of receive. [blocks] */
SLUICE_API int sluice_reader_open(struct sluice *s, const char *topic, uint32_t partition, const struct sluice_reader_options *options,
                                  struct sluice_reader **out, struct sluice_error *err);
/* The next messages, waiting up to wait_ms for the first; 0 with an empty batch when there is none. [blocks]
 * GAP: messages from the reader's offset up to `err->depth` further are gone; the reader then stands behind the gap.
 * DAMAGED names partition and offset; the reader then stands behind what is damaged. */
SLUICE_API int sluice_reader_read(struct sluice_reader *r, uint32_t wait_ms, struct sluice_batch **out, struct sluice_error *err);
SLUICE_API uint64_t sluice_reader_offset(const struct sluice_reader *r); /* of the next message */
SLUICE_API void sluice_reader_close(struct sluice_reader *r);

/* ---------------------------------------------------------------- topics and groups */

struct sluice_topic_options {
    size_t size;
    uint32_t partitions;          /* 0: 1 */
    uint64_t retention_ms;        /* 0: 7 d; UINT64_MAX: forever */
    uint64_t retention_bytes;     /* 0: no bound */
    uint64_t hard_cap_ms;         /* 0: 30 d; what even a durable group cannot hold back */
    int durability;               /* 0: disk */
    bool compacted;
    uint32_t message_bytes_max;   /* 0: 1 MiB; at most 64 MiB */
    uint64_t backlog_bytes_max;   /* 0: no bound */
};
struct sluice_partition { uint32_t id; uint64_t start, end, bytes; }; /* end: offset of the next message */
struct sluice_topic {
    const char *name;
    uint32_t id;
    struct sluice_topic_options options;
    const struct sluice_partition *partitions; /* options.partitions of them */
    uint64_t created_ms;
    uint32_t groups;
};
/* Creates a topic. One of the same name and options is fine (`created`, may be NULL, says which); EXISTS names the difference. */
SLUICE_API int sluice_topic_create(struct sluice *s, const char *name, const struct sluice_topic_options *options, bool *created,
                                   struct sluice_error *err);
SLUICE_API int sluice_topic_delete(struct sluice *s, const char *name, struct sluice_error *err);

/* Lists come as an array that the caller frees with the list's free call. `name` NULL: all, sorted by name; else that one or
 * TOPIC_NOT_FOUND. [blocks], as do all calls of this section. */
struct sluice_topic_list { size_t count; const struct sluice_topic *topics; };
SLUICE_API int sluice_topics(struct sluice *s, const char *name, struct sluice_topic_list **out, struct sluice_error *err);
SLUICE_API void sluice_topics_free(struct sluice_topic_list *l);

enum sluice_mode { SLUICE_QUEUE = 1, SLUICE_STREAM = 2 };
enum sluice_order { SLUICE_ORDER_KEY = 1, SLUICE_ORDER_NONE = 2 };
enum sluice_park_policy { SLUICE_PARK_MESSAGE = 1, SLUICE_PARK_KEY = 2 };
struct sluice_group_options {
    size_t size;
    int mode;                     /* 0: queue */
    int order;                    /* 0: key */
    int park;                     /* 0: message */
    int from;                     /* SLUICE_FROM_START or _END; 0: start */
    uint32_t lease_ms;            /* 0: 30,000; 100 to 43,200,000 */
    uint32_t max_deliveries;      /* 0: 5; 1 to 1,000 */
    uint32_t backoff_min_ms;      /* 0: 1,000 */
    uint32_t backoff_max_ms;      /* 0: 300,000 */
};
struct sluice_group { const char *topic, *name; uint32_t id; struct sluice_group_options options; uint64_t created_ms; };
SLUICE_API int sluice_group_create(struct sluice *s, const char *topic, const char *name, const struct sluice_group_options *options,
                                   bool *created, struct sluice_error *err);
SLUICE_API int sluice_group_delete(struct sluice *s, const char *topic, const char *name, struct sluice_error *err);
struct sluice_group_list { size_t count; const struct sluice_group *groups; };
/* `topic` NULL: of all topics; `name` NULL: all groups; both given: that one, or GROUP_NOT_FOUND. */
SLUICE_API int sluice_groups(struct sluice *s, const char *topic, const char *name, struct sluice_group_list **out,
                             struct sluice_error *err);
SLUICE_API void sluice_groups_free(struct sluice_group_list *l);

enum sluice_lag_status { SLUICE_LAG_OK, SLUICE_LAG_WARN, SLUICE_LAG_STALL };
struct sluice_lag {
    const char *topic, *group;
    uint64_t lag_messages;        /* not yet done: waiting, in flight, delayed */
    uint64_t lag_bytes;
    uint64_t in_flight, delayed, parked;
    double oldest_age_seconds;    /* of the oldest message that is not done; 0 when none */
    double ack_rate;              /* per second, over the last minute */
    double drain_eta_seconds;     /* -1: never at this rate */
    int status;                   /* enum sluice_lag_status */
    uint64_t scale_value;         /* drainable lag + in flight: what a scaler looks at */
};
struct sluice_lag_list { size_t count; const struct sluice_lag *rows; };
SLUICE_API int sluice_group_lag(struct sluice *s, const char *topic, const char *name, struct sluice_lag_list **out,
                                struct sluice_error *err);
SLUICE_API void sluice_lag_free(struct sluice_lag_list *l);

/* ---------------------------------------------------------------- dead letters */

struct sluice_dead_letter {
    struct sluice_delivery message;   /* key and value as stored; `attempt` = attempts made */
    const char *group, *reason, *last_error;
    uint64_t parked_at_ms;
};
struct sluice_dlq; /* a page of dead letters */
struct sluice_dlq_options {
    size_t size;
    size_t limit;                 /* messages in this page; 0: 100; at most 1,000 */
    const struct sluice_dlq *after; /* continue behind the last one of this page; NULL: from the start */
};
SLUICE_API int sluice_dlq_list(struct sluice *s, const char *topic, const char *group, const struct sluice_dlq_options *options,
                               struct sluice_dlq **out, struct sluice_error *err);
SLUICE_API size_t sluice_dlq_count(const struct sluice_dlq *d);
SLUICE_API const struct sluice_dead_letter *sluice_dlq_at(const struct sluice_dlq *d, size_t i);
SLUICE_API bool sluice_dlq_more(const struct sluice_dlq *d);
SLUICE_API void sluice_dlq_free(struct sluice_dlq *d);

/* ---------------------------------------------------------------- the broker */

struct sluice_health {
    size_t size;                  /* in: sizeof */
    char status[16];              /* "ok", "read_only", "stopping" */
    char reason[128];             /* why not ok, else "" */
    char version[32];
    uint32_t epoch, topics, groups, sessions;
    uint64_t turn, durable_turn, uptime_ms;
    char http[128];               /* "127.0.0.1:7480", "" when there is none */
};
SLUICE_API int sluice_health(struct sluice *s, uint32_t timeout_ms, struct sluice_health *out, struct sluice_error *err);

#ifdef __cplusplus
}
#endif
#endif
