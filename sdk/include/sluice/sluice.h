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
 *     struct sluice_unit *u;                                     // or: done, and what follows from it, in one atomic commit
 *     sluice_unit_begin(s, &u, &err);
 *     sluice_unit_ack(u, b, 0, &err);
 *     sluice_unit_publish(u, &(struct sluice_message){.size = sizeof(struct sluice_message), .topic = "sent",
 *                             .key = SLUICE_STR("4711")}, &err);
 *     sluice_unit_commit(u, NULL, &err);                         // whole, or absent with a code that says why
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
    SLUICE_WORKER_NOT_FOUND = 38,
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
    SLUICE_STALE_GENERATION = 62,
    SLUICE_UNKNOWN_MEMBER = 63,
    SLUICE_MEMBER_FENCED = 64,
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
    uint32_t connect_timeout_ms; /* of sluice_open; 0: 10,000. For how long a broker that is not there is waited for */
    size_t memory_max;           /* hard cap of this client on everything it holds: unsent and unconfirmed messages, received
                                    batches, replies. 0: 64 MiB. At the cap publish_async answers QUEUE_FULL, publish waits.
                                    Receiving needs room for the largest message of the topic, or is refused with LIMIT. */
    uint32_t linger_ms;          /* async: how long a batch may wait for more; 0: none, what gathers while a request is out */
    uint32_t batch_bytes_max;    /* 0: 256 KiB */
    uint32_t batch_records_max;  /* 0: 4,096 */
    int compression;             /* enum sluice_compression; 0: lz4 where it saves an eighth */
    void (*log)(void *user, int level, const char *text); /* NULL: silent. level as in enum sluice_level */
    void *log_user;
    bool connect_once;           /* sluice_open fails at once, UNREACHABLE, when nobody listens there; what listens and does not
                                    answer yet is waited for, and an open client dials again as ever */
    const char *tls_ca_file;     /* tls+tcp: PEM file of the authorities that may have signed the broker's certificate, which must
                                    be for the host that `broker` names, by name, not by address. NULL: $SLUICE_TLS_CA_FILE;
                                    without one none is believed */
    const char *tls_cert_file;   /* tls+tcp: PEM file of this client's certificate and its key, for a broker that asks for one.
                                    NULL: $SLUICE_TLS_CERT_FILE, then none */
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
    const char *message_id;       /* NULL: none. A second message with it, from whomever and also after restarts, is not stored
                                     while the topic's window (dedup_ms) is open: its receipt says `duplicate` */
    uint64_t delay_ms;            /* 0: now. Else it is appended that much later, and has its offset and its place in its key
                                     from then on. Of delay_ms, at_ms and cron one at most is given */
    uint64_t at_ms;               /* 0: now. Else it is appended at that time, by the broker's wall clock, ms since 1970 */
    const char *cron;             /* NULL: once. "minute hour day month weekday", UTC: a copy of it is appended each time */
    const char *schedule;         /* NULL: the broker makes one. The name under which it waits: what cancels and moves it. A
                                     name that waits in this topic already is replaced. At most 200 bytes */
};

enum sluice_durability { SLUICE_DISK = 1, SLUICE_OS = 2 };
enum { SLUICE_NAME_MAX = 200 };   /* bytes of a name: topic, group, schedule */

/* What the broker promised. */
struct sluice_receipt {
    uint32_t partition;           /* index in the topic, from 0 */
    uint64_t offset;              /* UINT64_MAX: it waits for its time, or is a duplicate of which the broker does not say it */
    int durability;               /* enum sluice_durability */
    bool duplicate;               /* a message of its message_id was there: nothing new was stored. `offset` is then that of the
                                     first message, as far as the broker says it */
    char schedule[SLUICE_NAME_MAX + 1]; /* it waits for its time, under this name; "": it was appended */
    uint64_t due_ms;              /* when it is due, wall; 0: it was appended */
};

/* Publishes one message and waits for the broker's acknowledgement. [blocks]
 * 0: it is as durable as `receipt->durability` says (`receipt` may be NULL). TIMEOUT and CLOSED leave the outcome unknown;
 * every other error means that it was not published. Many threads calling at once share batches. A message with a time waits at the
 * broker, on disk, and the receipt says under which name; times that are close share nothing: each is a request.
 * Errors: TOPIC_NOT_FOUND, TOO_LARGE, LIMIT, INVALID_ARGUMENT, OVERLOADED, DISK_FULL, UNREACHABLE, QUEUE_FULL (no room within
 * request_timeout_ms), TIMEOUT, SESSION_EXPIRED, CLOSED. OVERLOADED is repeated until the time is up; its error then says
 * retry_after_ms, depth and drain_ms. (Delay: SQS DelaySeconds; the id and its window: SQS MessageDeduplicationId.) */
SLUICE_API int sluice_publish(struct sluice *s, const struct sluice_message *m, struct sluice_receipt *receipt,
                              struct sluice_error *err);

/* Called once for each message given to sluice_publish_async, in order per partition. `error` is NULL on success. */
typedef void sluice_publish_fn(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt);

/* Gathers messages into a batch per partition and sends it when it is full, linger_ms has passed, or no request is out. Those without key and
 * id go to the partitions in turn, a batch each, and gather while the batch before theirs is out.
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
    const char *group;            /* the queue group it was leased from; NULL when read from the log */
    uint32_t grants;              /* times it was handed out, this one included, failed or not */
    bool redelivered;             /* handed out before: what it does may have been done already */
    uint64_t state_version;       /* the group's state of its key, as of this grant: the version, */
    struct sluice_bytes state;    /* and the value. Version 0: none came with it */
};

struct sluice_batch;
SLUICE_API size_t sluice_batch_count(const struct sluice_batch *b);
SLUICE_API const struct sluice_delivery *sluice_batch_message(const struct sluice_batch *b, size_t i); /* i < count */
/* Gives back (release, not a failure) every message of a received batch that was not settled, then frees it. NULL is fine. */
SLUICE_API void sluice_batch_free(struct sluice_batch *b);

/* What a message is called in effects outside of Sluice: "topic/partition/offset/group", the same in every attempt, so that who is
 * told twice can tell. Writes at most `size` bytes with the final zero, and returns how long the whole is, as snprintf does.
 * (The header of Stripe's API of that name.) */
SLUICE_API size_t sluice_idempotency_key(const struct sluice_delivery *d, char *out, size_t size);

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
    uint32_t prefetch;            /* so many messages of each group may be leased before a call asks for them; 0: none; at most 65,536 */
};

/* Leases messages of a queue group. [blocks for wait_ms at most, plus reconnects up to request_timeout_ms]
 * 0 with an empty batch (never NULL) when nothing came. Waiting calls of one client share one long poll; messages go to the
 * callers in the order of their calls. `options` NULL: defaults with wait_ms = UINT32_MAX.
 * With `prefetch` a call finds messages here and need not wait for the broker, as long as there are plenty: then the client leases ahead,
 * as many as the last call allowed. They count as in flight, nobody else gets them, and their leases run. What no call took for half of
 * its lease is given back and does not count as a delivery, and so is all of it by sluice_close. (RabbitMQ: the channel's prefetch.)
 * A message whose bytes are damaged is not delivered: the broker parks it as `damaged`.
 * Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE, TOPIC_DELETED, UNREACHABLE, QUEUE_FULL (batches that were received fill
 * the memory: free some), SESSION_EXPIRED, CLOSED, NO_MEMORY. */
SLUICE_API int sluice_receive(struct sluice *s, const char *topic, const char *group, const struct sluice_receive_options *options,
                              struct sluice_batch **out, struct sluice_error *err);

/* As sluice_receive, from whichever of several groups has messages: one long poll for all of them, and the bounds of `options` over
 * all of them. A batch may have messages of several; each says its topic and group. An error that concerns one of them names it, and
 * then nothing was received. 1 to 64 sources, each once. (RabbitMQ: one channel that consumes several queues.) */
struct sluice_source { const char *topic, *group; };
SLUICE_API int sluice_receive_from(struct sluice *s, const struct sluice_source *sources, size_t count,
                                   const struct sluice_receive_options *options, struct sluice_batch **out,
                                   struct sluice_error *err);

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

/* ---------------------------------------------------------------- units: one atomic commit
 *
 * A unit is a piece of work as the broker sees it: messages that it settles, messages that it publishes, state that it changes. It
 * is whole or absent, whatever is killed meanwhile, and committing it again after a lost connection has one effect. A unit that
 * settles nothing is a producer's transaction. (Kafka's transactions of consume, transform, produce; here the fence is the lease.)
 *
 * One thread at a time fills a unit. What is put in is copied, but batches must not be freed from two threads at once with it.
 */
struct sluice_unit;

/* Errors: NO_MEMORY, and what ended the session. Does not block, nor does any call below but those that say so. */
SLUICE_API int sluice_unit_begin(struct sluice *s, struct sluice_unit **out, struct sluice_error *err);

/* Settles message `i` of a batch that this client received, when the unit is committed; as sluice_ack, sluice_nack, sluice_park do.
 * From now on the message counts as settled: again is INVALID_ARGUMENT. The batch may be freed before the commit.
 * If the unit is refused or abandoned its messages are as they were: they can be settled otherwise, and those of a batch that was
 * freed are given back. */
SLUICE_API int sluice_unit_ack(struct sluice_unit *u, struct sluice_batch *b, size_t i, struct sluice_error *err);
SLUICE_API int sluice_unit_nack(struct sluice_unit *u, struct sluice_batch *b, size_t i, uint32_t delay_ms, const char *error,
                                struct sluice_error *err);
SLUICE_API int sluice_unit_park(struct sluice_unit *u, struct sluice_batch *b, size_t i, const char *reason, const char *error,
                                struct sluice_error *err);

/* Publishes a message when the unit is committed: with everything a message can have, its time too. Its partition is chosen by its
 * key, or id; those without either share one partition of their topic, so that a unit stays in order.
 * Errors, nothing is taken then: as sluice_publish_async. The first message to a topic asks for its partitions. [blocks then] */
SLUICE_API int sluice_unit_publish(struct sluice_unit *u, const struct sluice_message *m, struct sluice_error *err);

/* Writes the state of a key in a queue group when the unit is committed, if its version is still `version`: that of the delivery
 * (state_version) or of sluice_state_get; 0: there is none yet. Versions are never used twice. At most 256 KiB unless the broker
 * says otherwise. remove takes the row away under the same condition. `topic` and `group` that were not used before are asked for.
 * [blocks then] */
SLUICE_API int sluice_unit_state_put(struct sluice_unit *u, const char *topic, const char *group, struct sluice_bytes key,
                                     uint64_t version, struct sluice_bytes value, struct sluice_error *err);
SLUICE_API int sluice_unit_state_remove(struct sluice_unit *u, const char *topic, const char *group, struct sluice_bytes key,
                                        uint64_t version, struct sluice_error *err);

/* How many messages it publishes so far. */
SLUICE_API size_t sluice_unit_published(const struct sluice_unit *u);

/* Commits and waits, gathering with what other threads settle. [blocks] Always frees `u`. `receipts`: NULL, or room for
 * sluice_unit_published of them, filled on success in the order of the calls.
 *   LEASE_LOST  a message was granted again, parked or done meanwhile. Nothing of this unit happened; others are not concerned.
 *   CONFLICT    a state was not at the version given. Nothing happened, it is no failure: give the message back, and it comes again
 *               with the state as it is then.
 *   DUPLICATE   two of its messages have the same message_id. Nothing happened. (One that was produced before is left out, the
 *               rest is done, and its receipt says so.)
 *   TIMEOUT, SESSION_EXPIRED, CLOSED  the outcome is unknown, and the messages stay settled as far as this client is concerned.
 *   Every other error: nothing happened. INVALID_ARGUMENT: the unit is empty, or names a message twice. TOO_LARGE: more than one
 *   request can carry. */
SLUICE_API int sluice_unit_commit(struct sluice_unit *u, struct sluice_receipt *receipts, struct sluice_error *err);

/* As sluice_unit_commit, without waiting: `fn` (may be NULL) is called once. Takes `u` on success; on an error you still own it.
 * `receipts` are lent for the call, NULL on an error. */
typedef void sluice_unit_fn(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts, size_t count);
SLUICE_API int sluice_unit_commit_async(struct sluice_unit *u, sluice_unit_fn *fn, void *user, struct sluice_error *err);

/* Abandons a unit. NULL is fine. */
SLUICE_API void sluice_unit_free(struct sluice_unit *u);

/* The state of a key in a queue group, now. [blocks] Version 0: there is none. The caller frees `*out`, which the client need not
 * outlive. Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE, TOO_LARGE (the key), those of any call.
 * (Conditional on a version, as DynamoDB's writes.) */
struct sluice_state { uint64_t version; struct sluice_bytes value; };
SLUICE_API int sluice_state_get(struct sluice *s, const char *topic, const char *group, struct sluice_bytes key,
                                struct sluice_state **out, struct sluice_error *err);
SLUICE_API void sluice_state_free(struct sluice_state *state);

/* ---------------------------------------------------------------- reading the log */

struct sluice_reader; /* reads one partition by offset; one thread at a time */

enum { SLUICE_FROM_START = 1, SLUICE_FROM_END = 2, SLUICE_FROM_OFFSET = 3, SLUICE_FROM_TIME = 4,
       SLUICE_FROM_REPLAY = 5 /* of groups only */ };
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
 * DAMAGED names partition and offset; the reader then stands behind what is damaged. Of both sluice_reader_gap says what is missing. */
SLUICE_API int sluice_reader_read(struct sluice_reader *r, uint32_t wait_ms, struct sluice_batch **out, struct sluice_error *err);

/* What is missing in a log, and why. (Kafka's OFFSET_OUT_OF_RANGE leaves it to the consumer to find out.) */
enum sluice_gap_reason {
    SLUICE_GAP_RETENTION = 1,     /* older, or more, than the topic keeps */
    SLUICE_GAP_HARD_CAP = 2,      /* so old that not even a group that had not done it holds it */
    SLUICE_GAP_PURGED = 3,
    SLUICE_GAP_DAMAGED = 4        /* it cannot be read; the times are not known */
};
struct sluice_gap {
    size_t size;                  /* in: sizeof */
    uint32_t partition;           /* index in the topic */
    int reason;                   /* enum sluice_gap_reason; a newer broker may know others */
    uint64_t from, to;            /* offsets: the first that is missing, and the first behind it */
    uint64_t count;               /* of offsets in between; of what a group lost: of messages */
    uint64_t from_ms, to_ms;      /* when the first and the last of them were appended, wall; 0: not known. Removals that lie close
                                     together are remembered as one, so from_ms may be earlier */
};
/* What the last sluice_reader_read reported. False, and all zero: it reported none. */
SLUICE_API bool sluice_reader_gap(const struct sluice_reader *r, struct sluice_gap *out);
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
    bool compacted;               /* of each key only the last message is kept, for ever, and each needs a key; no value: the key goes */
    uint32_t message_bytes_max;   /* 0: 1 MiB; at most 64 MiB */
    uint64_t backlog_bytes_max;   /* 0: no bound. Of what its queue groups have not done; at it produces are refused */
    uint64_t backlog_age_max_ms;  /* 0: no bound. Of the oldest message that a queue group has not done; as above */
    uint64_t dedup_ms;            /* 0: 10 min; how long a message_id is known. UINT64_MAX: not at all */
    uint64_t ttl_ms;              /* 0: they do not expire. Of messages that name none of their own */
};
/* What sluice_topic_alter changes. */
enum sluice_topic_field {
    SLUICE_TOPIC_PARTITIONS = 1 << 0, SLUICE_TOPIC_RETENTION_MS = 1 << 1, SLUICE_TOPIC_RETENTION_BYTES = 1 << 2,
    SLUICE_TOPIC_HARD_CAP_MS = 1 << 3, SLUICE_TOPIC_DURABILITY = 1 << 4, SLUICE_TOPIC_COMPACTED = 1 << 5,
    SLUICE_TOPIC_MESSAGE_BYTES_MAX = 1 << 6, SLUICE_TOPIC_BACKLOG_BYTES_MAX = 1 << 7, SLUICE_TOPIC_BACKLOG_AGE_MAX_MS = 1 << 8,
    SLUICE_TOPIC_DEDUP_MS = 1 << 9, SLUICE_TOPIC_TTL_MS = 1 << 10
};
struct sluice_partition {
    uint32_t id;
    uint64_t start, end, bytes;   /* start: the oldest message, or, of a compacted topic, where that would be; end: offset of the next */
    uint64_t oldest_ms;           /* when what is at start was appended, wall; 0: there is none */
};
struct sluice_topic {
    const char *name;
    uint32_t id;
    struct sluice_topic_options options;
    const struct sluice_partition *partitions; /* options.partitions of them */
    uint64_t created_ms;
    uint32_t groups;
    uint64_t dirty_bytes;         /* of a compacted one: appended since the last pass of compaction */
    uint64_t compacted_ms;        /* when a pass over one of its partitions ended last; 0: none did */
    uint64_t tombstones;          /* messages without a value that the passes left, so that readers meet them; */
    uint64_t tombstone_ms;        /* they go so long after what was before them (the broker's limits.tombstone_ms) */
    uint32_t dirty_min;           /* a pass begins where so many percent of a partition are dirty (limits.compact_dirty_min), */
    uint64_t compact_age_ms;      /* or waited for so long (limits.compact_age_max_ms). All 0 where it is not compacted */
};
/* Creates a topic. One of the same name and options is fine (`created`, may be NULL, says which); EXISTS names the difference. */
SLUICE_API int sluice_topic_create(struct sluice *s, const char *name, const struct sluice_topic_options *options, bool *created,
                                   struct sluice_error *err);
/* Changes the fields named, bits of enum sluice_topic_field, to what `options` says (0 there is the default again); others stay.
 * [blocks] (Kafka's incrementalAlterConfigs.)
 * SLUICE_TOPIC_PARTITIONS: they grow by a whole factor, never less, and not where the topic is compacted. Keys keep their order and nobody is
 * disturbed: clients that publish find out by themselves. (Kafka's createPartitions loses the order of keys.)
 * Errors: TOPIC_NOT_FOUND, INVALID_ARGUMENT (no field, or one that cannot be so), UNSUPPORTED (one that cannot change). */
SLUICE_API int sluice_topic_alter(struct sluice *s, const char *name, const struct sluice_topic_options *options, uint64_t fields,
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
    int from;                     /* SLUICE_FROM_START or _END; 0: start. _REPLAY: nothing but what is replayed into it */
    uint32_t lease_ms;            /* 0: 30,000; 100 to 43,200,000 */
    uint32_t max_deliveries;      /* 0: 5; 1 to 1,000 */
    uint32_t backoff_min_ms;      /* 0: 1,000 */
    uint32_t backoff_max_ms;      /* 0: 300,000 */
    uint32_t run_max;             /* 0: 1. Messages of one key that one receiver may hold at once, in order; acknowledged in order */
    uint32_t in_flight_max;       /* 0: the broker's bound for any group; messages leased at once, over all receivers */
    int expired;                  /* enum sluice_expired; 0: drop. What happens to a message whose ttl passed before it was handed out */
    double rate;                  /* messages handed out per second, over all receivers; 0: no limit. To the thousandth */
    double key_rate;              /* the same, of one key */
    uint32_t key_in_flight_max;   /* the same as in_flight_max, of one key; 0: no limit but order. With order key: 0 or 1 */
    uint64_t idle_expiry_ms;      /* 0: never. The group goes when nobody has used it for so long */
};
enum sluice_expired { SLUICE_EXPIRED_DROP = 1, SLUICE_EXPIRED_PARK = 2 };
/* What sluice_group_alter changes. Mode, order and from cannot change. */
enum sluice_group_field {
    SLUICE_GROUP_PARK = 1 << 2, SLUICE_GROUP_LEASE_MS = 1 << 4, SLUICE_GROUP_MAX_DELIVERIES = 1 << 5,
    SLUICE_GROUP_BACKOFF_MIN_MS = 1 << 6, SLUICE_GROUP_BACKOFF_MAX_MS = 1 << 7, SLUICE_GROUP_RUN_MAX = 1 << 8,
    SLUICE_GROUP_IN_FLIGHT_MAX = 1 << 9, SLUICE_GROUP_EXPIRED = 1 << 10, SLUICE_GROUP_RATE = 1 << 11,
    SLUICE_GROUP_KEY_RATE = 1 << 12, SLUICE_GROUP_KEY_IN_FLIGHT_MAX = 1 << 13, SLUICE_GROUP_IDLE_EXPIRY_MS = 1 << 14
};
struct sluice_group {
    const char *topic, *name;
    uint32_t id;
    struct sluice_group_options options;
    uint64_t created_ms;
    bool paused;
    uint64_t lost;                /* messages that it had not done at the topic's hard cap, and will not get */
    const struct sluice_gap *losses; /* where they were, by partition, if the group was asked for by its name; `count` of them are */
    size_t losses_count;          /* among those between from and to */
};
SLUICE_API int sluice_group_create(struct sluice *s, const char *topic, const char *name, const struct sluice_group_options *options,
                                   bool *created, struct sluice_error *err);
/* As sluice_topic_alter, with bits of enum sluice_group_field. Leases that are out keep what they were granted under. */
SLUICE_API int sluice_group_alter(struct sluice *s, const char *topic, const char *name, const struct sluice_group_options *options,
                                  uint64_t fields, struct sluice_error *err);
/* pause: nothing is handed out any more, what is leased can still be settled. resume: again. Both are kept over restarts, and doing
 * them twice is fine. purge: everything appended so far is done but what is parked; leases of it are lost. `purged` (may be NULL) is
 * how many that were. [block] Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE. (SQS PurgeQueue.) */
SLUICE_API int sluice_group_pause(struct sluice *s, const char *topic, const char *name, struct sluice_error *err);
SLUICE_API int sluice_group_resume(struct sluice *s, const char *topic, const char *name, struct sluice_error *err);
SLUICE_API int sluice_group_purge(struct sluice *s, const char *topic, const char *name, uint64_t *purged, struct sluice_error *err);
SLUICE_API int sluice_group_delete(struct sluice *s, const char *topic, const char *name, struct sluice_error *err);
struct sluice_group_list { size_t count; const struct sluice_group *groups; };
/* `topic` NULL: of all topics; `name` NULL: all groups; both given: that one, or GROUP_NOT_FOUND. */
SLUICE_API int sluice_groups(struct sluice *s, const char *topic, const char *name, struct sluice_group_list **out,
                             struct sluice_error *err);
SLUICE_API void sluice_groups_free(struct sluice_group_list *l);

/* ---------------------------------------------------------------- stream groups
 *
 * A group of mode stream shares a topic by partition: each is read by one member at most, in order, which commits how far it is. A message
 * may come twice, when a partition changes hands with what was handed out and not committed; none is left out. (Kafka's consumer groups; the
 * assignment is the broker's, as in KIP-848, and a partition is given up before another gets it.)
 *
 *     struct sluice_stream *st;
 *     sluice_stream_open(s, "orders", "audit", NULL, &st, &err);
 *     while (running && sluice_stream_poll(st, 1000, &b, &err) == 0) {   // what the last poll gave is done: it is committed now and then
 *         for (size_t i = 0; i < sluice_batch_count(b); i++)
 *             record(sluice_batch_message(b, i));
 *         sluice_batch_free(b);
 *     }
 *     sluice_stream_close(st, &err);                                      // commits what was handed out, and leaves
 */
struct sluice_stream; /* a member; one thread at a time, close it before its client */

/* Called in the thread that polls or closes, from within that call; partitions by index. `revoked` may commit (sluice_stream_commit) what it
 * has done of them, unless they are lost: then another may have them already. */
typedef void sluice_assigned_fn(void *user, const uint32_t *partitions, size_t count);
typedef void sluice_revoked_fn(void *user, const uint32_t *partitions, size_t count, bool lost);

struct sluice_stream_options {
    size_t size;
    const char *name;             /* NULL: none. Of a static member: one that comes back under it within its session timeout gets the
                                     partitions that it had; the second of a name that lives takes the place of the first, whose calls then
                                     answer MEMBER_FENCED */
    uint32_t session_timeout_ms;  /* 0: 10,000; at least 100. Not heard of for so long, it loses what it has */
    uint32_t auto_commit_ms;      /* 0: 5,000: how often poll commits what polls before it gave. UINT32_MAX: never by itself */
    uint32_t poll_interval_max_ms;/* 0: 300,000. A member that does not poll for so long leaves, and joins again when it does.
                                     UINT32_MAX: no bound */
    uint32_t max_bytes;           /* of one batch; 0: 1 MiB */
    sluice_assigned_fn *assigned; /* may be NULL */
    sluice_revoked_fn *revoked;   /* may be NULL */
    void *user;
};
/* Joins, and waits for the broker's answer; partitions come with polls. [blocks] The library's own thread says that the member lives.
 * Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE (a queue group), LIMIT (too many members), INVALID_ARGUMENT, and those of any call. */
SLUICE_API int sluice_stream_open(struct sluice *s, const char *topic, const char *group, const struct sluice_stream_options *options,
                                  struct sluice_stream **out, struct sluice_error *err);

/* The next messages of one of its partitions, in order, waiting up to wait_ms; 0 with an empty batch when nothing came. The caller frees the
 * batch. [blocks] What earlier polls gave counts as done from now on. It is here that partitions come and go. Nothing is handed out of a
 * partition for longer than the member may be sure to own it, whatever the network does.
 * Errors: GAP and DAMAGED as in sluice_reader_read, after which it goes on behind (sluice_stream_gap says what of). Retention waits for
 * what a stream group has not done, up to the topic's hard cap: what it took then is a gap, also for who joins later; MEMBER_FENCED, GROUP_NOT_FOUND, TOPIC_DELETED and what
 * ended the session, after which it can only be closed; QUEUE_FULL (batches that were received fill the memory). */
SLUICE_API int sluice_stream_poll(struct sluice_stream *st, uint32_t wait_ms, struct sluice_batch **out, struct sluice_error *err);

/* What the last sluice_stream_poll reported, of which of its partitions. False, and all zero: it reported none. A commit at `to` says that it
 * was heard; else the next owner of the partition hears of it again, as long as nobody has committed anything behind it. */
SLUICE_API bool sluice_stream_gap(const struct sluice_stream *st, struct sluice_gap *out);

struct sluice_position { uint32_t partition; uint64_t offset; }; /* by index; the first message that is not done */
/* Commits, as durable as the topic, and waits for it. [blocks] `positions` NULL: everything that was handed out. What is below the
 * committed offset changes nothing. Also from within `revoked`.
 * Errors: STALE_GENERATION names a partition that is not this member's any more, or was set elsewhere: whoever has it reads again what was
 * not committed. Others were committed. OFFSET_OUT_OF_RANGE; those of any call, which leave it unknown. */
SLUICE_API int sluice_stream_commit(struct sluice_stream *st, const struct sluice_position *positions, size_t count, struct sluice_error *err);

/* From where the next poll reads a partition that is owned: for this member, until it is given up; nothing is committed by it.
 * Does not block. STALE_GENERATION: it is not owned. (sluice_group_seek is for the group.) */
SLUICE_API int sluice_stream_seek(struct sluice_stream *st, uint32_t partition, uint64_t offset, struct sluice_error *err);

/* What is owned, as of the last poll: how many, of which at most `count` are put into `out` with the offset that is read next. */
SLUICE_API size_t sluice_stream_partitions(const struct sluice_stream *st, struct sluice_position *out, size_t count);

/* Commits what was handed out unless auto_commit_ms is UINT32_MAX, calls `revoked`, and leaves; what it had goes to others at once, or, of a
 * static member, waits for it for its session timeout. [blocks] Frees `st` in any case; NULL is fine. An error is that of the commit, or of
 * the leaving, which the session timeout makes good. */
SLUICE_API int sluice_stream_close(struct sluice_stream *st, struct sluice_error *err);

/* Who reads a stream group, and how far it is. */
enum sluice_member_state { SLUICE_MEMBER_ACTIVE = 1, SLUICE_MEMBER_AWAY, SLUICE_MEMBER_FENCED_OUT };
struct sluice_member {
    const char *name;             /* static, else "" */
    const char *client;           /* its session's name; "": that is gone */
    uint32_t number;              /* in its session */
    int state;                    /* enum sluice_member_state. Away: static, it left, and its partitions wait for it */
    uint32_t partitions, session_timeout_ms;
    uint64_t heard_ms;            /* how long ago */
    uint64_t joined_ms;           /* wall */
};
struct sluice_member_partition {
    uint32_t partition;           /* index */
    uint64_t committed, end;      /* offsets */
    uint64_t committed_ms;        /* wall; 0: never */
    bool owned, moving;           /* moving: it is with another than it is to be with */
    const char *owner, *owner_client; /* "": nobody, or it has no name */
    uint32_t owner_number;
};
struct sluice_member_list {
    size_t members_count, partitions_count;
    const struct sluice_member *members;
    const struct sluice_member_partition *partitions;
};
/* [blocks] The caller frees the list. Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE. */
SLUICE_API int sluice_group_members(struct sluice *s, const char *topic, const char *group, struct sluice_member_list **out,
                                    struct sluice_error *err);
SLUICE_API void sluice_group_members_free(struct sluice_member_list *l);

/* Sets where a stream group reads: the one way by which a committed offset goes back. Members read anew from there, and what they were about
 * to commit is refused. [blocks] `out` (may be NULL): where each partition was and is; the caller frees it. An offset outside of the log
 * becomes its start or end. Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND (also of `group`), PARTITION_NOT_FOUND, WRONG_MODE, INVALID_ARGUMENT. */
enum { SLUICE_TO_GROUP = 5 };
struct sluice_seek {
    size_t size;
    int to;                       /* SLUICE_FROM_START, _END, _OFFSET, _TIME, or SLUICE_TO_GROUP */
    uint64_t offset, time_ms;     /* time: the first message appended at or after */
    const char *group;            /* SLUICE_TO_GROUP: where this group of the topic is */
    bool one;                     /* only `partition`, its index */
    uint32_t partition;
    bool dry_run;                 /* says what would be, and changes nothing */
};
struct sluice_sought { uint32_t partition; uint64_t from, to; };
struct sluice_seek_list { size_t count; const struct sluice_sought *rows; };
SLUICE_API int sluice_group_seek(struct sluice *s, const char *topic, const char *group, const struct sluice_seek *seek,
                                 struct sluice_seek_list **out, struct sluice_error *err);
SLUICE_API void sluice_seek_free(struct sluice_seek_list *l);

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
    uint64_t lost;                /* messages that it had not done at the topic's hard cap, ever */
};
struct sluice_lag_list { size_t count; const struct sluice_lag *rows; };
SLUICE_API int sluice_group_lag(struct sluice *s, const char *topic, const char *name, struct sluice_lag_list **out,
                                struct sluice_error *err);
SLUICE_API void sluice_lag_free(struct sluice_lag_list *l);

/* ---------------------------------------------------------------- lag, as it is published
 *
 * The broker publishes how far groups are behind, of those that changed, some times a second (limits.lag_publish_ms) and of all once a
 * minute. Who looks at the lag again and again, to scale workers by it or to draw it, hears it without asking. (Kafka's clients ask every
 * broker for it in turn; here it comes by itself, as hints do.)
 *
 *     static void heard(void *user, const struct sluice_lag *rows, size_t count)
 *     {
 *         for (size_t i = 0; i < count; i++)
 *             printf("%s/%s: %llu\n", rows[i].topic, rows[i].group, (unsigned long long)rows[i].lag_messages);
 *     }
 *     struct sluice_lag_subscription *sub;
 *     sluice_lag_subscribe(s, heard, NULL, &sub, &err);
 *
 * These are hints. What was published while nobody was connected, or while the function took long, is not repeated, and a broker may publish
 * nothing at all (--no-publish), or where this client cannot get (a client by TLS hears by TLS only). So who hears nothing asks
 * sluice_group_lag: missing all of it costs time, never a message. What comes damaged is dropped.
 */
struct sluice_lag_subscription;
/* `rows`, lent for the call: groups that changed, in any order. NULL, count 0: the connection was lost; until rows come again what was heard may
 * be old. On a thread of the library. */
typedef void sluice_lag_fn(void *user, const struct sluice_lag *rows, size_t count);
/* From now on, even before it returns, `fn` is called with what is published; first with all groups, soon after a connection of its own came
 * about, which is made in the background and again whenever it is lost. All subscriptions of a client share that one, and one more subscription
 * makes it anew. The session need not be connected. Errors: INVALID_ARGUMENT, and what ended the session. */
SLUICE_API int sluice_lag_subscribe(struct sluice *s, sluice_lag_fn *fn, void *user, struct sluice_lag_subscription **out,
                                    struct sluice_error *err);
/* [blocks, but may be called in a callback] `fn` is not called any more when it returns; in its own call: after that. Frees the subscription;
 * so does sluice_close for those that are left, which are not to be touched after that. NULL is good. */
SLUICE_API void sluice_lag_unsubscribe(struct sluice_lag_subscription *sub);

/* ---------------------------------------------------------------- dead letters */

struct sluice_dead_letter {
    struct sluice_delivery message;   /* key and value as stored; `attempt` = attempts made */
    const char *group, *reason, *last_error;
    uint64_t parked_at_ms;
};
/* Which dead letters are meant. Everything that is given must hold; all zero: each of them. Lent for the call. */
struct sluice_dlq_filter {
    size_t size;
    struct sluice_bytes key;      /* absent: any */
    const char *header;           /* NULL: any; the message has a header of that name, */
    struct sluice_bytes header_value; /* and, unless absent, it has this value */
    const char *reason;           /* NULL: any; "max_deliveries", or what it was parked with */
    uint64_t since_ms, until_ms;  /* parked at or after, wall; before. until 0: no bound */
    uint32_t attempts_min, attempts_max; /* failures; max 0: no bound */
    bool one;                     /* only the message at partition (its index), offset */
    uint32_t partition;
    uint64_t offset;
};
struct sluice_dlq; /* a page of dead letters */
struct sluice_dlq_options {
    size_t size;
    size_t limit;                 /* messages in this page; 0: 100; at most 1,000 */
    const struct sluice_dlq *after; /* continue behind the last one of this page; NULL: from the start */
    const struct sluice_dlq_filter *filter; /* NULL: all. The broker looks at a bounded number for a page, so a page may be empty
                                               and there be more */
};
/* A page, in order of partition and offset. [blocks] It changes nothing. The caller frees it.
 * Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE, INVALID_ARGUMENT. */
SLUICE_API int sluice_dlq_list(struct sluice *s, const char *topic, const char *group, const struct sluice_dlq_options *options,
                               struct sluice_dlq **out, struct sluice_error *err);
SLUICE_API size_t sluice_dlq_count(const struct sluice_dlq *d);
SLUICE_API const struct sluice_dead_letter *sluice_dlq_at(const struct sluice_dlq *d, size_t i);
SLUICE_API bool sluice_dlq_more(const struct sluice_dlq *d);
SLUICE_API void sluice_dlq_free(struct sluice_dlq *d);

/* Redrive and drop are tasks of the broker: they go on without the client and over restarts.
 * redrive: the message is present again at its old place in its key, with its counts at 0. drop: it is done, for good. */
struct sluice_dlq_change {
    size_t size;
    const struct sluice_dlq_filter *filter; /* NULL: all */
    double rate;                  /* messages per second; 0: as fast as it goes */
    uint64_t limit;               /* messages in all; 0: no bound */
    bool dry_run;                 /* counts what would be changed, and changes nothing */
};
/* Begin a task and return; `task` is its number. `change` NULL: all. [block]
 * Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, WRONG_MODE, INVALID_ARGUMENT, LIMIT (too many tasks run). (SQS StartMessageMoveTask.) */
SLUICE_API int sluice_dlq_redrive(struct sluice *s, const char *topic, const char *group, const struct sluice_dlq_change *change,
                                  uint64_t *task, struct sluice_error *err);
SLUICE_API int sluice_dlq_drop(struct sluice *s, const char *topic, const char *group, const struct sluice_dlq_change *change,
                               uint64_t *task, struct sluice_error *err);

/* Replay: messages that a queue group has done, or parked, are present again at their old places, without a copy of the log. Those of a
 * key come in order, and never beside another of the key that somebody holds; what is present already is left as it is. A task, too.
 * (Kafka's reset of offsets; but for one key, of what failed, into a new group, and while the group goes on.) */
enum sluice_replay_source {
    SLUICE_REPLAY_LOG = 1,        /* everything that the group has done or parked */
    SLUICE_REPLAY_PARKED = 2,     /* dead letters */
    SLUICE_REPLAY_FAILED = 3      /* dead letters, and what failed and waits for its retry */
};
struct sluice_replay {
    size_t size;
    int source;                   /* 0: the log */
    const char *of;               /* whose dead letters; NULL: the group's own */
    const char *into;             /* a group that is made for it, with the settings of the group that is named, which is left alone; NULL: that */
    bool follow;                  /* with `into`: goes on with what is published from now on, behind the replay; else it gets nothing else */
    bool one_partition;           /* only `partition` (its index) */
    uint32_t partition;
    int from;                     /* SLUICE_FROM_START, _OFFSET (in each partition) or _TIME (of appending); 0: start */
    uint64_t from_offset, from_ms;
    uint64_t to_offset, to_ms;    /* before these; 0: no bound. In any case it ends where the group is now */
    const struct sluice_dlq_filter *filter; /* NULL: all. Of the log only key, header and `one` */
    double rate;                  /* messages per second; 0: as fast as it goes */
    uint64_t limit;               /* messages in all; 0: no bound */
    bool dry_run;                 /* counts what would be changed, and changes nothing */
};
/* Begins the task and returns; `replay` NULL: everything. [blocks] Errors: TOPIC_NOT_FOUND, GROUP_NOT_FOUND, PARTITION_NOT_FOUND, EXISTS (into),
 * WRONG_MODE, INVALID_ARGUMENT, OVERLOADED (too many tasks run). */
SLUICE_API int sluice_group_replay(struct sluice *s, const char *topic, const char *group, const struct sluice_replay *replay,
                                   uint64_t *task, struct sluice_error *err);

enum sluice_task_act { SLUICE_TASK_REDRIVE = 1, SLUICE_TASK_DROP = 2, SLUICE_TASK_REPLAY = 3 };
enum sluice_task_state { SLUICE_TASK_RUNNING = 1, SLUICE_TASK_DONE, SLUICE_TASK_CANCELLED, SLUICE_TASK_FAILED };
struct sluice_task {
    uint64_t id;
    const char *topic, *group;
    int act;                      /* enum sluice_task_act */
    int state;                    /* enum sluice_task_state */
    bool dry_run;
    uint64_t seen, matched, changed; /* messages looked at; that the filter took; redriven, dropped or replayed */
    uint64_t started_ms, ended_ms; /* wall; ended 0: it has not */
    double rate;                  /* as it was asked for */
    const char *error;            /* why it failed, else "" */
    uint64_t left, lost;          /* of a replay: fitted and were not done; offsets of its range that the log has no more */
    int source;                   /* of a replay: enum sluice_replay_source */
    const char *of;               /* of a replay of dead letters: the group that has them; else "" */
};
struct sluice_task_list { size_t count; const struct sluice_task *tasks; };
/* `id` 0: all that run and those that ended lately, in order of their numbers; else that one, or TASK_NOT_FOUND. [blocks] */
SLUICE_API int sluice_tasks(struct sluice *s, uint64_t id, struct sluice_task_list **out, struct sluice_error *err);
SLUICE_API void sluice_tasks_free(struct sluice_task_list *l);
/* Ends a task after its present step; what it did stays done. One that has ended is fine. [blocks] TASK_NOT_FOUND. */
SLUICE_API int sluice_task_cancel(struct sluice *s, uint64_t id, struct sluice_error *err);

/* ---------------------------------------------------------------- what waits for its time */

struct sluice_scheduled {
    const char *topic, *name;     /* the name is unique in the topic */
    const char *cron;             /* "": once */
    uint32_t partition;           /* index in the topic; UINT32_MAX: not known */
    uint32_t count;               /* messages */
    uint64_t due_ms, created_ms;  /* wall */
    uint64_t bytes;
};
struct sluice_schedule_list {
    size_t count;
    const struct sluice_scheduled *rows; /* in order of due_ms */
    bool more;
};
struct sluice_schedule_options {
    size_t size;
    size_t limit;                 /* rows of this page; 0: 100; at most 1,000 */
    const struct sluice_schedule_list *after; /* continue behind the last one of this page; NULL: from the start */
};
/* (RabbitMQ's delayed exchange and SQS's timers, but with a name by which they are seen, moved and cancelled.)
 * A page of what waits, which the caller frees. `topic` NULL: of all; `name` given (then `topic` too): that one, or
 * SCHEDULE_NOT_FOUND. [blocks] */
SLUICE_API int sluice_schedules(struct sluice *s, const char *topic, const char *name, const struct sluice_schedule_options *options,
                                struct sluice_schedule_list **out, struct sluice_error *err);
SLUICE_API void sluice_schedules_free(struct sluice_schedule_list *l);
/* It does not come any more; or comes at at_ms (wall), or delay_ms from now: one of them. Both are as durable as a publish.
 * Errors: TOPIC_NOT_FOUND, SCHEDULE_NOT_FOUND (it was appended, or never waited), INVALID_ARGUMENT. [block] */
SLUICE_API int sluice_schedule_cancel(struct sluice *s, const char *topic, const char *name, struct sluice_error *err);
SLUICE_API int sluice_schedule_move(struct sluice *s, const char *topic, const char *name, uint64_t at_ms, uint64_t delay_ms,
                                    struct sluice_error *err);

/* ---------------------------------------------------------------- why does it not come? */

/* The one fact that keeps a message, a key or a group from being delivered. (As a database explains a query.) */
enum sluice_fact {
    SLUICE_FACT_READY = 1,        /* nothing: the next receive gets it */
    SLUICE_FACT_DONE,             /* acknowledged or dropped */
    SLUICE_FACT_LEASED,           /* `session` holds it until until_ms */
    SLUICE_FACT_RETRYING,         /* it failed, and waits until until_ms */
    SLUICE_FACT_PARKED,           /* a dead letter, for `reason` */
    SLUICE_FACT_BEHIND,           /* an older message of its key blocks: partition and offset say which */
    SLUICE_FACT_THROTTLED,        /* a limit of rate or concurrency, of its group or key */
    SLUICE_FACT_EXPIRED,          /* its ttl passed */
    SLUICE_FACT_PAUSED,           /* the group is paused */
    SLUICE_FACT_BACKLOG,          /* not read ahead yet: `depth` messages before it */
    SLUICE_FACT_NO_RECEIVER,      /* nobody asks */
    SLUICE_FACT_NOT_VISIBLE,      /* appended, not yet on disk */
    SLUICE_FACT_NO_SUCH_OFFSET,   /* never appended, or gone */
    SLUICE_FACT_EMPTY,            /* of a key or a group: nothing of it waits */
    SLUICE_FACT_SCHEDULED,        /* waits for its time before it is appended */
    SLUICE_FACT_LOST              /* the group had not done it at the topic's hard cap; text says whether that is sure. depth: how many
                                     it lost of the partition */
};
struct sluice_explanation {
    size_t size;                  /* in: sizeof */
    int fact;                     /* enum sluice_fact; a newer broker may know others */
    char text[256];               /* a sentence. What follows is 0 or "" where it says nothing of the fact */
    uint32_t partition;           /* index in the topic; UINT32_MAX: none */
    uint64_t offset;
    uint64_t since_ms, until_ms;  /* wall */
    uint64_t depth;
    uint32_t attempts;            /* failures so far */
    char session[SLUICE_NAME_MAX + 1], reason[SLUICE_NAME_MAX + 1];
};
/* Of the message at (partition, offset) if `one`, else of the key unless it is absent, else of the group. [blocks] Changes nothing. */
struct sluice_explain_options {
    size_t size;
    struct sluice_bytes key;
    bool one;
    uint32_t partition;           /* its index */
    uint64_t offset;
};
SLUICE_API int sluice_explain(struct sluice *s, const char *topic, const char *group, const struct sluice_explain_options *of,
                              struct sluice_explanation *out, struct sluice_error *err);

/* ---------------------------------------------------------------- the broker */

struct sluice_health {
    size_t size;                  /* in: sizeof */
    char status[16];              /* "ok", "read_only", "stopping" */
    char reason[128];             /* why not ok, else "" */
    char version[32];
    uint32_t epoch, topics, groups, sessions;
    uint64_t turn, durable_turn, uptime_ms;
    char http[128];               /* "127.0.0.1:7480", "" when there is none; a broker that listens everywhere is given the host
                                     that this client dialled */
};
SLUICE_API int sluice_health(struct sluice *s, uint32_t timeout_ms, struct sluice_health *out, struct sluice_error *err);

/* What was made. A broker's data directory of its own: start one with it, or with a copy, and everything is as it was then. */
struct sluice_backup {
    size_t size;                  /* in: sizeof */
    char path[512];               /* on the broker's machine */
    uint64_t turn;                /* everything that the broker had on disk up to this turn is in it */
    uint64_t bytes, files;        /* those included that it shares with the broker's data, as links */
    uint64_t took_ms;
};
/* Has the broker make a backup below the directory that its operator set for that (`backup_dir`), while it goes on serving. `name`: NULL
 * for the time. Whatever was acknowledged at `disk` before the call is in it. [blocks] CONFIG: no such directory is set, or it cannot be used;
 * EXISTS; LIMIT: there are as many as are kept; DISK_FULL; OVERLOADED: another is being made (waited for up to the timeout); UNSUPPORTED: a
 * broker that keeps nothing on disk. */
SLUICE_API int sluice_backup(struct sluice *s, const char *name, uint32_t timeout_ms, struct sluice_backup *out, struct sluice_error *err);

/* ---------------------------------------------------------------- worker daemons */

/* A daemon that runs handlers (sluice-workerd; or a program of your own) says each second who it is and what it runs, and hears what people
 * asked of it. The broker keeps that in memory only, so every daemon is known again a second after it restarts, and what was asked and
 * not taken by then has to be asked again. (As workers register at Celery's or Temporal's console.) */
enum sluice_worker_handler_state {
    SLUICE_WORKER_RUNNING = 1,
    SLUICE_WORKER_PAUSED,         /* people said so */
    SLUICE_WORKER_RESTING,        /* by itself: all that it did failed; `error` says how */
    SLUICE_WORKER_STOPPING,
    SLUICE_WORKER_STARTING        /* none of its processes was up yet; `error` says why, if one tried */
};
struct sluice_worker_handler {
    size_t size;
    const char *name, *topic, *group;
    const char *version;          /* of the handler; NULL: none */
    int state;                    /* enum sluice_worker_handler_state */
    uint32_t up, busy;            /* processes; those of them that work */
    uint32_t wanted, least, most; /* how many there are to be, between */
    uint64_t in_flight;           /* messages leased */
    uint64_t done, failed;        /* messages, since the daemon started */
    double done_rate, failed_rate; /* per second, lately */
    const char *why;              /* as many are wanted; cut at 256 bytes, as the next; NULL: nothing to say */
    const char *error;            /* the last one */
    uint64_t taken;               /* number of the last command that was carried out; 0: none. Numbers rise */
    int taken_code;               /* 0, or why not: enum sluice_code */
    const char *taken_text;       /* what there is to say of it; NULL: nothing */
    uint64_t asked;               /* of a list: the number of the last command given; above `taken`: it is on its way */
};
struct sluice_worker {
    size_t size;
    const char *name, *host;      /* 1 to 200 bytes; names need not be unique: a daemon is a session */
    const char *version;          /* of the daemon; NULL: none */
    uint32_t pid;
    uint64_t started_ms;          /* wall */
    const struct sluice_worker_handler *handlers; /* of handlers[0].size bytes each */
    size_t handlers_count;
    /* of a list */
    uint64_t id;                  /* rises with each registration at this broker */
    bool gone;                    /* not heard of for longer than it should be (worker_ttl_ms); forgotten a minute later */
    uint64_t heard_ms;            /* how long ago */
};
enum sluice_worker_act { SLUICE_WORKER_SCALE = 1, SLUICE_WORKER_PAUSE, SLUICE_WORKER_RESUME };
struct sluice_worker_command {
    uint64_t number;
    const char *handler;
    int act;                      /* enum sluice_worker_act */
    bool has_least, has_most;     /* scale: which of the two is meant */
    uint32_t least, most;
};
struct sluice_worker_commands {
    size_t count;
    const struct sluice_worker_command *rows; /* in order of their numbers; of one handler at most a scale and a pause or resume */
    uint32_t ttl_ms;              /* a daemon that does not report for so long is shown as gone */
};
/* Says all of a daemon and its handlers: lent for the call. `out` (may be NULL) is everything that was asked of it and that it has not said
 * it took, by `taken` of the handler; the caller frees it. `leaving`: it ends, and is forgotten at once. `timeout_ms` 0: that
 * of the session. [blocks] LIMIT: the broker has too many daemons, or this one too many handlers; INVALID_ARGUMENT; UNSUPPORTED: an older broker. */
SLUICE_API int sluice_worker_report(struct sluice *s, const struct sluice_worker *me, bool leaving, uint32_t timeout_ms,
                                    struct sluice_worker_commands **out, struct sluice_error *err);
SLUICE_API void sluice_worker_commands_free(struct sluice_worker_commands *c);

/* Which daemons and handlers are meant; all that is given must hold. */
struct sluice_worker_filter {
    size_t size;
    const char *daemon;           /* for the daemon's name or its host: '*' is any text, '?' any byte. NULL: all */
    const char *handler, *topic, *group; /* NULL: all */
};
struct sluice_worker_list {
    size_t count;
    const struct sluice_worker *rows; /* each with those of its handlers that are meant; in the order in which they came */
};
/* Who runs what. `which` NULL: all; else daemons with a handler that is meant. [blocks] The caller frees it. */
SLUICE_API int sluice_workers(struct sluice *s, const struct sluice_worker_filter *which, struct sluice_worker_list **out, struct sluice_error *err);
SLUICE_API void sluice_workers_free(struct sluice_worker_list *l);

struct sluice_worker_control {
    size_t size;
    int act;                      /* enum sluice_worker_act */
    bool has_least, has_most;     /* scale: what is not given stays */
    uint32_t least, most;         /* processes of each daemon; most 1 or more */
};
/* Asks it of each handler that is meant, of the daemons that are there now; `which` names it, or its topic and group. It holds until the
 * daemon ends or is asked something else; asking twice is as asking once. `number` (may be NULL) is what they will say they took,
 * `reached` (may be NULL) how many handlers that is. [blocks]
 * Errors: WORKER_NOT_FOUND names what was asked for; INVALID_ARGUMENT.
 *
 *     sluice_worker_control(s, &(struct sluice_worker_filter){.size = sizeof(struct sluice_worker_filter), .handler = "email"},
 *                           &(struct sluice_worker_control){.size = sizeof(struct sluice_worker_control), .act = SLUICE_WORKER_PAUSE},
 *                           &number, &reached, &err);           // then sluice_workers until `taken` of each is `number` or more */
SLUICE_API int sluice_worker_control(struct sluice *s, const struct sluice_worker_filter *which, const struct sluice_worker_control *what,
                                     uint64_t *number, uint32_t *reached, struct sluice_error *err);

#ifdef __cplusplus
}
#endif
#endif
