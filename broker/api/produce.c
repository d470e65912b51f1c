/* The check of produce: a whole batch, of records that belong where they are sent.
 *
 * All of it is done per column, without decompressing anything (schemas/codec.h). The bytes of single records are covered by the
 * hash of the batch, which is computed here once, and by their own sums, which whoever takes the batch apart checks.
 */
#include "api/checks.h"
#include "base/planted.h"
#include "schemas/records.h"

/* Whether every key's hash gives this partition. No branches, so that several records are looked at at a time. */
static bool keys_fit(const struct batch_columns *c, const struct partition_facts *p)
{
    uint64_t wrong = 0;
    if ((p->count & (p->count - 1)) == 0) {
        for (uint32_t i = 0; i < c->count; i++)
            wrong |= ((c->key_hash[i] ^ p->index) & (p->count - 1)) * (c->key_size[i] != 0);
    } else {
        for (uint32_t i = 0; i < c->count; i++)
            wrong |= (c->key_hash[i] % p->count ^ p->index) * (c->key_size[i] != 0);
    }
    return wrong == 0;
}

/* The engine decides what that means: a repeat of what was done is answered with its result, however many partitions there are by now. */
static void look_at_keys(const struct batch_columns *c, const struct partition_facts *p, struct op_batch *out)
{
    if (c->key_hash == NULL || PLANTED(key_elsewhere))
        return;
    out->partitions = p->count;
    if (p->count == 1 || keys_fit(c, p))
        return;
    uint32_t i = 0;
    while (c->key_size[i] == 0 || key_partition(c->key_hash[i], p->count) == p->index)
        i++;
    out->misfit = i + 1;
}

/* Bytes of key, headers and value of one record. */
static uint64_t record_bytes(const struct batch_columns *c, uint32_t i)
{
    uint64_t key = c->key_size != NULL ? c->key_size[i] : 0;
    uint64_t headers = c->headers_size != NULL ? c->headers_size[i] : 0;
    uint64_t value = c->value_size[i];
    return key - (key != 0) + headers + value - (value != 0);
}

/* Whether it is too large says the engine: the repeat of what was done is no refusal, though the topic allows less by now. */
static void look_at_sizes(const struct batch_columns *c, struct op_batch *out)
{
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t bytes = record_bytes(c, i);
        out->largest = bytes > out->largest ? bytes : out->largest;
    }
    while (record_bytes(c, out->largest_at) != out->largest)
        out->largest_at++;
}

/* The batch is what the producer hashed, and is well formed. */
static int check_batch(const struct wire_produce *w, struct batch_columns *c, struct err *e)
{
    uint64_t hash = batch_hash(w->batch);
    if (hash != w->batch_hash && !PLANTED(batch_sum_unchecked))
        return err_set(e, E_INVALID_ARGUMENT,
                       "produce.batch has the hash %016llx, not %016llx as produce.batch_hash says",
                       (unsigned long long)hash, (unsigned long long)w->batch_hash);
    if (codec_batch_open(w->batch, c, e) != E_OK)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch: %s", e->text);
    if (c->count != w->count)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch has %u records, not %u as produce.count says",
                       c->count, w->count);
    if (c->offset_delta != NULL)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch.offset_delta is not a producer's to give");
    return E_OK;
}

/* Message ids that lie in the batch, not aligned for us there. */
static int take_ids(struct op *op, const struct batch_columns *c, struct op_batch *out, struct err *e)
{
    if (c->message_id == NULL)
        return E_OK;
    struct id128 *ids = arena_take(&op->arena, c->count * sizeof *ids);
    if (ids == NULL)
        return err_set(e, E_TOO_LARGE, "the message ids of %u records", c->count);
    memcpy(ids, c->message_id, c->count * sizeof *ids);
    out->message_ids = ids;
    return E_OK;
}

/* The number of the first record without a key, counted from 1; 0: each has one. Whether that matters, the topic says. */
static uint32_t first_keyless(const struct batch_columns *c)
{
    uint32_t i = 0;
    if (c->key_size == NULL)
        return 1;
    while (i < c->count && c->key_size[i] != 0)
        i++;
    return i < c->count ? i + 1 : 0;
}

int check_produced(struct api *a, struct op *op, const struct wire_produce *w, struct op_batch *out, struct err *e)
{
    struct partition_facts facts;
    struct batch_columns columns;
    int code = partitions_find(a->partitions, w->partition, &facts);
    if (code != E_OK)
        return err_set(e, code, "partition id %u", w->partition);
    code = check_at_most("produce.delay_ms", w->delay_ms, "delay_ms_max", a->limits->delay_ms_max, e);
    if (code == E_OK)
        code = check_at_most("produce.name", w->name.size, "of bytes", WIRE_NAME_MAX, e);
    if (code == E_OK)
        code = check_at_most("produce.cron", w->cron.size, "of bytes", WIRE_NAME_MAX, e);
    if (code == E_OK && (w->delay_ms != 0) + (w->at_ms != 0) + (w->cron.size != 0) > 1)
        return err_set(e, E_INVALID_ARGUMENT, "produce: only one of delay_ms, at_ms and cron can be given");
    if (code == E_OK && w->name.size != 0 && w->delay_ms == 0 && w->at_ms == 0 && w->cron.size == 0)
        return err_set(e, E_INVALID_ARGUMENT, "produce.name is given and no time: only what waits has a name");
    if (code == E_OK)
        code = check_batch(w, &columns, e);
    if (code == E_OK)
        code = take_ids(op, &columns, out, e);
    if (code == E_OK) {
        out->last_delta = columns.count - 1;
        look_at_sizes(&columns, out);
        look_at_keys(&columns, &facts, out);
        out->keyless = first_keyless(&columns);
    }
    return code;
}

int check_produce(struct api *a, struct op *op, struct err *e)
{
    const struct wire_produce *w = &op->request.produce;
    if (op->request.lane != w->partition)
        return err_set(e, E_INVALID_ARGUMENT, "produce.lane is %u: the lane of partition id %u is %u",
                       op->request.lane, w->partition, w->partition);
    return check_produced(a, op, w, &op->batch, e);
}

/* ---------------------------------------------------------------- what waits for its time */

static int check_sched_name(const struct wire_sched *s, bool name_needed, struct err *e)
{
    int code = check_name("topic", s->topic, !name_needed, e);
    if (code == E_OK && name_needed && s->name.size == 0)
        return err_set(e, E_INVALID_ARGUMENT, "sched_change.name is empty");
    return code == E_OK ? check_at_most("sched.name", s->name.size, "of bytes", WIRE_NAME_MAX, e) : code;
}

int check_sched_list(struct api *a, struct op *op, struct err *e)
{
    struct wire_sched *s = &op->request.sched;
    s->limit = lowered(s->limit, a->limits->page_max);
    return check_sched_name(s, false, e);
}

int check_sched_change(struct api *a, struct op *op, struct err *e)
{
    const struct wire_sched *s = &op->request.sched;
    if (s->act < SCHED_CANCEL || s->act > SCHED_MOVE)
        return err_set(e, E_INVALID_ARGUMENT, "sched_change.act is %u: 1 cancel, 2 move", s->act);
    if (s->at_ms != 0 && s->delay_ms != 0)
        return err_set(e, E_INVALID_ARGUMENT, "sched_change: only one of at_ms and delay_ms can be given");
    int code = check_at_most("sched_change.delay_ms", s->delay_ms, "delay_ms_max", a->limits->delay_ms_max, e);
    return code == E_OK ? check_sched_name(s, true, e) : code;
}
