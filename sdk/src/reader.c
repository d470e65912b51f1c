/*
 * Reading the log of one partition by offset.
 *
 *     fetch -> [entry][entry][entry]        an answer: stored batches, each with the broker's header
 *                 |  checked: header, hash
 *                 v
 *              batch_reader                 the entry being read: decompressed block by block, each record's sum checked
 *                 |  copied
 *                 v
 *              sluice_batch                 up to max_bytes of messages
 *
 * What was fetched and not yet read stays with the reader for its next call. A damage or a gap is reported alone: what comes
 * before it is handed out first, and the reader then stands behind it.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "sdk/ahead.h"
#include "sdk/batch.h"
#include "sdk/client.h"
#include "sdk/reader.h"

enum {
    BYTES_DEFAULT = 1 << 20,
    MESSAGES_MAX = 65536, /* of one read */
    DENIED_REST_MS = 100, /* between fetches when the broker does not let us wait */
};

/* The partition that the catalog names went with its topic; the name may stand for another by now. */
static bool gone(int code) { return code == E_PARTITION_NOT_FOUND || code == E_TOPIC_DELETED; }

struct sluice_reader {
    struct sluice *client;
    struct topic *topic;
    uint32_t index, partition;
    uint32_t max_bytes;
    struct ahead *ahead;   /* NULL: nothing was fetched by itself */
    uint64_t offset;       /* of the next message */
    struct answer *answer; /* what was fetched; NULL: nothing is left of it */
    struct view rest;      /* its entries that were not opened */
    bool open;             /* `entry` is being read, from its record `next` on */
    struct stored_header head;
    struct batch_reader entry;
    uint32_t next;
    struct sluice_gap gap; /* that was reported last; count 0: none */
};

_Static_assert((int)SLUICE_GAP_RETENTION == (int)GAP_RETENTION && (int)SLUICE_GAP_HARD_CAP == (int)GAP_HARD_CAP &&
                   (int)SLUICE_GAP_PURGED == (int)GAP_PURGED && (int)SLUICE_GAP_DAMAGED == (int)GAP_DAMAGED,
               "reasons go through as they are");

/* ---------------------------------------------------------------- what was fetched */

static void drop_entry(struct sluice_reader *r)
{
    if (r->open)
        batch_reader_close(&r->entry);
    r->open = false;
}

static void drop_fetched(struct sluice_reader *r)
{
    drop_entry(r);
    answer_drop(r->answer);
    r->answer = NULL;
    r->rest = view_of(NULL, 0);
}

static uint64_t offset_at(const struct sluice_reader *r, uint32_t i)
{
    return r->head.base_offset + batch_offset_delta(&r->entry.c, i);
}

/* From here to `to` something is missing; the reader goes on there. */
static void pass(struct sluice_reader *r, uint64_t to, int reason, uint64_t from_ms, uint64_t to_ms)
{
    r->gap = (struct sluice_gap){.partition = r->index, .reason = reason, .from = r->offset, .to = to, .count = to - r->offset,
                                 .from_ms = from_ms, .to_ms = to_ms};
    r->offset = to;
}

/* The reader goes on at `offset`. */
static int damaged(struct sluice_reader *r, uint64_t offset, const struct err *e, struct sluice_error *err)
{
    uint64_t from = r->offset;
    pass(r, offset > from ? offset : from + 1, SLUICE_GAP_DAMAGED, 0, 0);
    return fail(err, E_DAMAGED, "topic '%s', partition %u, offset %llu: stored data is damaged: %s",
                r->topic->name, r->index, (unsigned long long)from, e->text);
}

/* The header of the next entry is damaged, so its size is not known: goes on at the next header that is sound. */
static int bad_header(struct sluice_reader *r, const struct err *e, struct sluice_error *err)
{
    for (size_t at = STORED_ALIGN; at < r->rest.size; at += STORED_ALIGN) {
        struct view rest = view_of(r->rest.data + at, r->rest.size - at);
        struct stored_header h;
        if (stored_header_get(rest, &h, NULL) == 0 && h.base_offset > r->offset) {
            r->rest = rest;
            return damaged(r, h.base_offset, e, err);
        }
    }
    drop_fetched(r);
    return damaged(r, r->offset + 1, e, err);
}

/* Everything of the open entry was read: what compaction removed behind its last record is passed with it. */
static void end_entry(struct sluice_reader *r)
{
    uint64_t end = r->head.base_offset + r->head.count;
    if (end > r->offset)
        r->offset = end;
    drop_entry(r);
}

/* Opens the next entry that has something at or behind the reader's offset. False with code 0: there is none. With `quiet` a damage
 * is left where it is, for the next call. */
static bool open_entry(struct sluice_reader *r, bool quiet, int *code, struct sluice_error *err)
{
    *code = 0;
    while (!r->open && r->rest.size > 0) {
        struct view rest = r->rest, batch;
        struct err e;
        if (stored_next(&rest, &r->head, &batch, &e) != 0) {
            if (!quiet)
                *code = bad_header(r, &e, err);
            return false;
        }
        uint64_t end = r->head.base_offset + r->head.count; /* without the columns nothing better is known */
        int bad = 0;
        if (batch_hash(batch) != r->head.batch_hash)
            bad = err_set(&e, E_DAMAGED, "the hash of the batch is wrong");
        else
            bad = batch_reader_open(&r->entry, batch, &e);
        if (bad != 0) {
            if (quiet)
                return false;
            r->rest = rest;
            *code = damaged(r, end, &e, err);
            return false;
        }
        r->rest = rest;
        r->open = true;
        r->next = r->offset > r->head.base_offset ? batch_index_at(&r->entry.c, r->offset - r->head.base_offset) : 0;
        if (r->next == r->entry.c.count)
            end_entry(r);
    }
    return r->open;
}

/* ---------------------------------------------------------------- into a batch */

static size_t raw_size(const struct batch_columns *c, uint32_t i)
{
    size_t key = c->key_size != NULL && c->key_size[i] != 0 ? c->key_size[i] - 1 : 0;
    size_t headers = c->headers_size != NULL ? c->headers_size[i] : 0;
    return key + headers + (c->value_size[i] != 0 ? c->value_size[i] - 1 : 0);
}

/* Copies to `*to` and moves it on; absent stays absent. */
static struct sluice_bytes copy(uint8_t **to, struct view v)
{
    if (v.data == NULL)
        return (struct sluice_bytes){NULL, 0};
    struct sluice_bytes b = {*to, v.size};
    if (v.size > 0)
        memcpy(*to, v.data, v.size);
    *to += v.size;
    return b;
}

/* Adds records of the open entry until the batch has max_bytes or the entry ends; then it is closed. */
static int add_records(struct sluice_reader *r, struct sluice_batch *b, size_t *bytes, size_t *cap,
                       struct sluice_error *err)
{
    const struct batch_columns *c = &r->entry.c;
    uint32_t end = r->next;
    size_t size = 0;
    while (end < c->count && b->count + (end - r->next) < MESSAGES_MAX) {
        size_t more = raw_size(c, end);
        if (*bytes + size + more > r->max_bytes && b->count + (end - r->next) > 0)
            break;
        size += more;
        end++;
    }
    size_t count = b->count + (end - r->next);
    if (count > *cap) {
        *cap = count > 2 * *cap ? count : 2 * *cap;
        b->messages = mem_resize(b->messages, *cap, sizeof *b->messages);
    }
    struct chunk *chunk = mem_alloc(sizeof *chunk + size);
    chunk->next = b->chunks;
    b->chunks = chunk;
    uint8_t *to = chunk->bytes;
    for (; r->next < end; r->next++) {
        struct record record;
        struct err e;
        uint64_t offset = offset_at(r, r->next);
        if (batch_reader_get(&r->entry, r->next, &record, &e) != 0) {
            if (b->count > 0)
                return 0; /* found again by the next call */
            r->next++;
            return damaged(r, offset + 1, &e, err);
        }
        struct sluice_delivery *m = &b->messages[b->count++];
        *m = (struct sluice_delivery){.topic = r->topic->name,
                                      .partition = r->index,
                                      .offset = offset,
                                      .timestamp_ms = record.timestamp_ms,
                                      .append_time_ms = r->head.append_time_ms};
        m->key = copy(&to, record.key);
        m->headers_raw = copy(&to, record.headers);
        m->value = copy(&to, record.value);
        r->offset = offset + 1;
    }
    *bytes += size;
    if (r->next == c->count)
        end_entry(r);
    return 0;
}

/* Everything that is there, up to max_bytes. */
static int read_fetched(struct sluice_reader *r, struct sluice_batch *b, struct sluice_error *err)
{
    int code = 0;
    size_t bytes = 0, cap = 0, before;
    do {
        before = b->count;
        if (open_entry(r, b->count > 0, &code, err))
            code = add_records(r, b, &bytes, &cap, err);
    } while (code == 0 && b->count > before && bytes < r->max_bytes && b->count < MESSAGES_MAX);
    if (!r->open && r->rest.size == 0)
        drop_fetched(r);
    b->charged = sizeof *b + bytes + cap * sizeof *b->messages;
    budget_charge(&r->client->budget, b->charged);
    return code;
}

/* ---------------------------------------------------------------- fetching */

static int gap(struct sluice_reader *r, const struct wire_gap *g, uint64_t start, struct sluice_error *err)
{
    static const char *const whys[] = {"for an unknown reason", "by retention", "by the topic's hard cap",
                                       "purged", "damaged"};
    uint64_t from = r->offset;
    uint64_t to = g->to > start ? g->to : start;
    if (to <= from)
        to = from + 1;
    pass(r, to, g->why, g->from_time_ms, g->to_time_ms);
    char first[UNITS_TEXT_MAX] = "", last[UNITS_TEXT_MAX] = "";
    bool times = g->to_time_ms != 0;
    if (times) {
        time_format(first, g->from_time_ms);
        time_format(last, g->to_time_ms);
    }
    fail(err, E_GAP, "topic '%s', partition %u: messages %llu to %llu are gone, %s%s%s%s%s", r->topic->name, r->index,
         (unsigned long long)from, (unsigned long long)to - 1, whys[g->why < ARRAY_LEN(whys) ? g->why : 0],
         times ? ", appended from " : "", first, times ? " to " : "", last);
    if (err != NULL)
        err->depth = to - from;
    return E_GAP;
}

static int refused_part(struct sluice_reader *r, const struct wire_fetch_part *part, struct sluice_error *err)
{
    if (part->code == E_DAMAGED && part->has_gap) {
        struct err e;
        err_set(&e, E_DAMAGED, "nothing can be read before offset %llu", (unsigned long long)part->gap.to);
        return damaged(r, part->gap.to, &e, err);
    }
    if (part->code == E_OFFSET_OUT_OF_RANGE)
        return fail(err, part->code, "%s: topic '%s', partition %u ends at %llu, the reader stands at %llu",
                    error_text(part->code), r->topic->name, r->index, (unsigned long long)part->end,
                    (unsigned long long)r->offset);
    if (gone(part->code))
        catalog_forget_topic(&r->client->catalog, r->topic);
    return fail(err, part->code, "%s: topic '%s', partition %u, offset %llu", error_text(part->code),
                r->topic->name, r->index, (unsigned long long)r->offset);
}

void gap_give(const struct sluice_gap *g, struct sluice_gap *out)
{
    struct sluice_gap now = *g;
    now.size = out->size;
    memcpy(out, &now, now.size < sizeof now ? now.size : sizeof now);
}

bool sluice_reader_gap(const struct sluice_reader *r, struct sluice_gap *out)
{
    gap_give(&r->gap, out);
    return r->gap.count != 0;
}

int reader_take(struct sluice_reader *r, struct answer *a, const struct wire_fetch_part *part, struct sluice_error *err)
{
    if (part->code != 0)
        return refused_part(r, part, err);
    if (part->data.size > 0) {
        r->answer = answer_take(a);
        r->rest = part->data;
    }
    return part->has_gap ? gap(r, &part->gap, part->start, err) : 0;
}

/* Asks for what comes next, and keeps it. `*denied`: the broker did not let us wait. */
static int fetch(struct sluice_reader *r, uint32_t wait_ms, size_t *room, bool *denied, struct sluice_error *err)
{
    struct answer *a;
    if (r->ahead == NULL)
        r->ahead = ahead_new(r->client, r->topic->name, r->index, r->partition, r->max_bytes);
    int code = ahead_fetch(r->ahead, r->offset, wait_ms, room, &a, denied, err);
    if (code != 0 || a == NULL)
        return code;
    const struct wire_fetch_part *part =
        a->reply.body == BODY_FETCH && a->reply.fetch.parts_n == 1 ? a->reply.fetch.parts : NULL;
    if (part == NULL)
        code = fail(err, E_BAD_FRAME, "topic '%s': the broker's answer makes no sense", r->topic->name);
    else
        code = reader_take(r, a, part, err);
    answer_drop(a);
    return code;
}

static void sleep_ms(uint64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS)},
              NULL);
}

/* Fetches until there is something or the time is up; rests where the broker had no place for one more that waits. */
static int fetch_until(struct sluice_reader *r, uint64_t until_ns, size_t *room, struct sluice_error *err)
{
    for (;;) {
        uint64_t now = deadline_in(0);
        uint64_t left_ms = until_ns > now ? (until_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
        bool denied;
        int code = fetch(r, left_ms < UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX, room, &denied, err);
        now = deadline_in(0);
        if (code != 0 || r->answer != NULL || now >= until_ns)
            return code;
        left_ms = (until_ns - now) / NS_PER_MS;
        if (denied)
            sleep_ms(left_ms < DENIED_REST_MS ? left_ms : DENIED_REST_MS);
        if (*room < 2 * (size_t)r->max_bytes) { /* what the last fetch took along came back with its answer */
            budget_charge(&r->client->budget, 2 * (size_t)r->max_bytes - *room);
            *room = 2 * (size_t)r->max_bytes;
        }
    }
}

/* ---------------------------------------------------------------- the calls */

int sluice_reader_read(struct sluice_reader *r, uint32_t wait_ms, struct sluice_batch **out,
                       struct sluice_error *err)
{
    *out = NULL;
    r->gap = (struct sluice_gap){0};
    struct sluice *s = r->client;
    int code = client_may_block(s, "sluice_reader_read", err);
    if (code != 0)
        return code;
    uint64_t until_ns = deadline_in(wait_ms);
    /* Room for what is handed out, and for what is fetched. */
    size_t room = (r->answer == NULL ? 2 : 1) * (size_t)r->max_bytes;
    if (!budget_wait(&s->budget, room, until_ns))
        return fail(
            err, E_QUEUE_FULL,
            "the client's memory limit is reached: memory_max is %zu; free batches that were received",
            s->budget.max);
    struct sluice_batch *b = batch_new(s);
    if (r->answer == NULL)
        code = fetch_until(r, until_ns, &room, err);
    if (code == 0)
        code = read_fetched(r, b, err);
    budget_give(&s->budget, room);
    if (code != 0) {
        sluice_batch_free(b);
        return code;
    }
    *out = b;
    return 0;
}

/* Where the partition starts and ends, and the first offset at or after a time. */
static int ask_offsets(struct sluice_reader *r, uint64_t time_ms, struct wire_offset_reply *out,
                       struct sluice_error *err)
{
    struct request *q = client_request(r->client, VERB_OFFSET_FOR, LANE_READS, "topic '%s', partition %u",
                                       r->topic->name, r->index);
    q->wire.offset_for = (struct wire_offset_for){.partition = r->partition, .time_ms = time_ms};
    struct answer *a;
    int code = client_call(r->client, q, &a, err);
    if (gone(code))
        catalog_forget_topic(&r->client->catalog, r->topic);
    if (code != 0)
        return code;
    if (a->reply.body == BODY_OFFSET)
        *out = a->reply.offset;
    else
        code = fail(err, E_BAD_FRAME, "topic '%s': the broker's answer makes no sense", r->topic->name);
    answer_drop(a);
    return code;
}

/* Finds the reader's first offset. The catalog may know a topic that was deleted since; then TOPIC_DELETED comes once. */
static int place(struct sluice_reader *r, const struct sluice_reader_options *o, struct sluice_error *err)
{
    struct wire_offset_reply offsets = {0};
    int code = ask_offsets(r, o->from == SLUICE_FROM_TIME ? o->time_ms : UINT64_MAX, &offsets, err);
    if (code != 0)
        return code;
    switch (o->from) {
    case SLUICE_FROM_END:
        r->offset = offsets.end;
        return 0;
    case SLUICE_FROM_OFFSET:
        r->offset = o->offset;
        return 0;
    case SLUICE_FROM_TIME:
        r->offset = offsets.offset;
        return 0;
    default:
        r->offset = offsets.start;
        return 0;
    }
}

static int find_partition(struct sluice_reader *r, const char *topic, uint32_t index,
                          struct sluice_error *err)
{
    int code = catalog_topic(r->client, topic, &r->topic, err);
    if (code == 0 && index >= r->topic->partitions_n) { /* it may have grown since we asked */
        catalog_forget_topic(&r->client->catalog, r->topic);
        code = catalog_topic(r->client, topic, &r->topic, err);
    }
    if (code != 0)
        return code;
    if (index >= r->topic->partitions_n)
        return fail(err, E_PARTITION_NOT_FOUND, "%s: topic '%s' has partitions 0 to %u, not %u",
                    error_text(E_PARTITION_NOT_FOUND), topic, r->topic->partitions_n - 1, index);
    r->index = index;
    r->partition = r->topic->partitions[index];
    return 0;
}

uint32_t reader_bytes(const struct sluice *s, uint32_t asked)
{
    uint32_t bytes = asked != 0 ? asked : BYTES_DEFAULT;
    return bytes < s->budget.bulk_max / 4 ? bytes : (uint32_t)(s->budget.bulk_max / 4);
}

struct sluice_reader *reader_new(struct sluice *s, struct topic *t, uint32_t index, uint64_t offset, uint32_t max_bytes)
{
    struct sluice_reader *r = mem_zalloc(sizeof *r);
    client_take(s);
    *r = (struct sluice_reader){.client = s, .topic = t, .index = index, .offset = offset, .max_bytes = max_bytes};
    if (t != NULL)
        r->partition = t->partitions[index];
    return r;
}

bool reader_has(const struct sluice_reader *r) { return r->answer != NULL; }

void reader_seek(struct sluice_reader *r, uint64_t offset)
{
    drop_fetched(r);
    r->offset = offset;
}

int reader_read(struct sluice_reader *r, struct sluice_batch **out, struct sluice_error *err)
{
    struct sluice_batch *b = batch_new(r->client);
    int code = read_fetched(r, b, err);
    *out = code == 0 ? b : NULL;
    if (code != 0)
        sluice_batch_free(b);
    return code;
}

int sluice_reader_open(struct sluice *s, const char *topic, uint32_t partition,
                       const struct sluice_reader_options *options, struct sluice_reader **out,
                       struct sluice_error *err)
{
    *out = NULL;
    struct sluice_reader_options o;
    int code = TAKE_STRUCT(&o, options, sluice_reader_options, max_bytes, err);
    if (code != 0)
        return code;
    if (o.from < 0 || o.from > SLUICE_FROM_TIME)
        return fail(err, E_INVALID_ARGUMENT, "from: %d is none of SLUICE_FROM_*", o.from);
    struct sluice_reader *r = reader_new(s, NULL, 0, 0, reader_bytes(s, o.max_bytes));
    for (int again = 0; again < 2; again++) {
        code = find_partition(r, topic, partition, err);
        if (code == 0)
            code = place(r, &o, err);
        else
            break;
        if (!gone(code))
            break; /* else the name stands for another topic by now */
    }
    if (code != 0) {
        sluice_reader_close(r);
        return code;
    }
    *out = r;
    return 0;
}

uint64_t sluice_reader_offset(const struct sluice_reader *r)
{
    return r->offset;
}

void sluice_reader_close(struct sluice_reader *r)
{
    if (r == NULL)
        return;
    struct sluice *s = r->client;
    drop_fetched(r);
    ahead_close(r->ahead);
    mem_free(r);
    client_drop(s);
}
