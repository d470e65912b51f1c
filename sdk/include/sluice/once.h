/* Seen before? A helper for handlers whose messages may say the same thing twice: a client that did not get its answer asks for a
 * charge again, with the same id; a topic is replayed.
 *
 *     static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
 *                       struct sluice_verdict *verdict)
 *     {
 *         struct sluice_once once;
 *         if (sluice_once_look(&once, host, task, charge_id, task->value) != SLUICE_HOST_OK)
 *             return SLUICE_VERDICT_RETRY;
 *         if (once.seen == SLUICE_ONCE_SEEN)
 *             return SLUICE_VERDICT_ACK;                        // it was done; nothing of it happens again
 *         ...                                                   // once.state is what was kept for this key before
 *         publish(host, task, "ledger", ...);
 *         sluice_once_keep(&once, balance);                     // the id, and what this handler keeps, with the verdict
 *         return SLUICE_VERDICT_ACK;
 *     }
 *
 * That a message is delivered again after a crash needs none of this: outputs, state and acknowledgement are one commit. It is for
 * two messages, or one that was redriven or replayed, with one effect. (Stripe's idempotency keys, which its API keeps for a day.)
 *
 * Ids are those of a key: two charges of the same id in messages of different keys are two. They stand in the state row of the
 * task's key, in front of what the handler itself keeps there, so the row must not be written past this helper. A row that was there
 * before a handler used the helper is taken over: it is the handler's own part, with no ids yet. The two are written in one commit,
 * over what was read: two handlers that have not seen an id cannot both do it, the second is run again.
 *
 * Limits: the last SLUICE_ONCE_IDS ids of each key are remembered, 128 unless it is defined before the include; an id that comes again
 * after more others of its key is new. Define it to twice what a key gets in the time in which it may be repeated. Each costs its
 * length and 9 bytes in a row that is read and written with each new message, and the whole row has at most the broker's
 * limits.state_bytes_max (256 KiB). An id is 1 to 255 bytes.
 */
#ifndef SLUICE_ONCE_H
#define SLUICE_ONCE_H

#include <stdlib.h>
#include <string.h>

#include <sluice/handler.h>

#ifndef SLUICE_ONCE_IDS
#define SLUICE_ONCE_IDS 128
#endif

/* DIFFERS: the id was seen, about something else. Its sender made a mistake; it is a case for the dead letters. */
enum sluice_once_seen { SLUICE_ONCE_NEW = 0, SLUICE_ONCE_SEEN = 1, SLUICE_ONCE_DIFFERS = 2 };

struct sluice_once {
    int seen;                         /* enum sluice_once_seen */
    struct sluice_slice state;        /* what the handler kept for this key; absent: nothing. Lent until keep, or the task's end */
    /* the helper's */
    const struct sluice_host *host;
    const struct sluice_task *task;
    struct sluice_slice id, ids;
    uint64_t sum;
};

/* Where the handler's own part of a state row is; absent: it kept nothing. `ids` (may be NULL) gets what is in front of it. Who reads
 * rows from outside, by sluice_state_get, finds it as follows; a row that begins otherwise is all the handler's.
 *
 *     0 "sluonce1"   8 size of the ids u32 LE   12 ids, the newest first: length u8, sum u64 LE, bytes   whether there is a part u8   part
 */
static inline int sluice_once_row(struct sluice_slice row, struct sluice_slice *ids, struct sluice_slice *state)
{
    const unsigned char *at = (const unsigned char *)row.data;
    struct sluice_slice none = {NULL, 0};
    size_t size = 0;
    if (ids != NULL)
        *ids = none;
    *state = row;
    if (row.size < 13 || memcmp(at, "sluonce1", 8) != 0)
        return SLUICE_HOST_OK; /* not ours: all of it is the handler's */
    for (int i = 3; i >= 0; i--)
        size = size << 8 | at[8 + i];
    if (size > row.size - 13)
        return SLUICE_HOST_INVALID;
    if (ids != NULL) {
        ids->data = at + 12;
        ids->size = size;
    }
    *state = none;
    if (at[12 + size] != 0) {
        state->data = at + 13 + size;
        state->size = row.size - 13 - size;
    }
    return SLUICE_HOST_OK;
}

/* What an id is about, as a number that differs if that does; 0: not said. (FNV-1a: it guards against mistakes, not against malice.) */
static inline uint64_t sluice_once_sum(struct sluice_slice about)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    if (about.data == NULL)
        return 0;
    for (size_t i = 0; i < about.size; i++)
        sum = (sum ^ ((const unsigned char *)about.data)[i]) * UINT64_C(0x100000001b3);
    return sum != 0 ? sum : 1;
}

/* The next of the ids behind *pos, which starts at 0; false at their end. */
static inline bool sluice_once_next(struct sluice_slice ids, size_t *pos, struct sluice_slice *id, uint64_t *sum)
{
    const unsigned char *at;
    if (ids.size - *pos < 9)
        return false;
    at = (const unsigned char *)ids.data + *pos;
    if (ids.size - *pos - 9 < at[0])
        return false;
    id->data = at + 9;
    id->size = at[0];
    *sum = 0;
    for (int i = 7; i >= 0; i--)
        *sum = *sum << 8 | at[1 + i];
    *pos += 9 + id->size;
    return true;
}

/* Whether `id` was kept for the key of this task; absent: the task's idempotency_key, which is that of the message. `about`: what must be
 * the same if the id is, say the message's value; absent: that is not looked at. Both are lent until keep. Returns SLUICE_HOST_OK;
 * INVALID: the task has no key, the id is of no good length, or the row is damaged; UNSUPPORTED: the host has no state. */
static inline int sluice_once_look(struct sluice_once *o, const struct sluice_host *host, const struct sluice_task *task,
                                   struct sluice_slice id, struct sluice_slice about)
{
    sluice_state_get_fn *get = (sluice_state_get_fn *)host->function(host, "state_get");
    struct sluice_slice row, kept;
    uint64_t version, sum;
    size_t pos = 0;
    int code;
    memset(o, 0, sizeof *o);
    o->host = host;
    o->task = task;
    o->id = id;
    if (id.data == NULL) {
        o->id.data = task->idempotency_key;
        o->id.size = strlen(task->idempotency_key);
    }
    o->sum = sluice_once_sum(about);
    if (get == NULL)
        return SLUICE_HOST_UNSUPPORTED;
    if (o->id.size == 0 || o->id.size > 255)
        return SLUICE_HOST_INVALID;
    code = get(host, task, &row, &version);
    if (code == SLUICE_HOST_OK)
        code = sluice_once_row(row, &o->ids, &o->state);
    if (code != SLUICE_HOST_OK)
        return code;
    while (sluice_once_next(o->ids, &pos, &kept, &sum)) {
        if (kept.size != o->id.size || memcmp(kept.data, o->id.data, kept.size) != 0)
            continue;
        o->seen = sum != 0 && o->sum != 0 && sum != o->sum ? SLUICE_ONCE_DIFFERS : SLUICE_ONCE_SEEN;
        break;
    }
    return SLUICE_HOST_OK;
}

/* Has the id remembered with the verdict ACK, and `state` as what the handler keeps for this key; absent: nothing. Of an id that was seen
 * only the state is written. Once for each look; several ids of a task are looked at and kept one after the other.
 * Errors: those of state_put, and NO_MEMORY. */
static inline int sluice_once_keep(struct sluice_once *o, struct sluice_slice state)
{
    sluice_state_put_fn *put = (sluice_state_put_fn *)o->host->function(o->host, "state_put");
    struct sluice_slice id, none = {NULL, 0}, row;
    uint64_t sum;
    size_t fresh = o->seen == SLUICE_ONCE_NEW ? 9 + o->id.size : 0, old = 0, end = 0, n = fresh != 0;
    unsigned char *bytes;
    int code;
    while (n < SLUICE_ONCE_IDS && sluice_once_next(o->ids, &end, &id, &sum)) {
        old = end;
        n++;
    }
    bytes = (unsigned char *)malloc(13 + fresh + old + state.size);
    if (put == NULL || bytes == NULL) {
        free(bytes);
        return put == NULL ? SLUICE_HOST_UNSUPPORTED : SLUICE_HOST_NO_MEMORY;
    }
    memcpy(bytes, "sluonce1", 8);
    for (int i = 0; i < 4; i++)
        bytes[8 + i] = (unsigned char)((fresh + old) >> (8 * i));
    if (fresh != 0) {
        bytes[12] = (unsigned char)o->id.size;
        for (int i = 0; i < 8; i++)
            bytes[13 + i] = (unsigned char)(o->sum >> (8 * i));
        memcpy(bytes + 21, o->id.data, o->id.size);
    }
    if (old != 0)
        memcpy(bytes + 12 + fresh, o->ids.data, old);
    bytes[12 + fresh + old] = state.data != NULL;
    if (state.size != 0)
        memcpy(bytes + 13 + fresh + old, state.data, state.size);
    row.data = bytes;
    row.size = 13 + fresh + old + state.size;
    code = put(o->host, o->task, row);
    free(bytes);
    o->ids = o->state = none;
    return code;
}

#endif
