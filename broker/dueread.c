/* Reading what is due: see dueread.h. */
#include "broker/dueread.h"

#include "base/mem.h"
#include "base/planted.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/sched_walk.h"

/* What a reference to fetched batches stands for. */
struct fetched { struct buf batches, bytes; };

static void fetched_free(struct ref *r)
{
    struct fetched *f = r->owner;
    buf_free(&f->batches);
    buf_free(&f->bytes);
    mem_free(f);
}

/* One row's batch; its bytes go behind those there, aligned as batches are in a log. `batch.size` is right, `batch.data` is not yet. */
static int read_row(struct fetched *f, struct store_iter *it, struct err *e)
{
    struct due_batch b = {0};
    struct sched_batch_row row;
    static const uint8_t zeros[STORED_ALIGN];
    if (!key_read_sched_batch(store_iter_key(it), &b.due_ms, &b.topic, &b.id))
        return err_set(e, E_DAMAGED, "a key of a scheduled batch does not read");
    struct view value = store_iter_value(it);
    int code = store_iter_status(it, e);
    if (code == E_OK)
        code = sched_batch_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    b.partition = row.partition;
    b.count = row.count;
    b.last_delta = row.last_delta;
    b.batch_hash = row.batch_hash;
    b.batch.size = row.batch.size;
    b.code = batch_hash(row.batch) == row.batch_hash || PLANTED(due_sum_unchecked) ? E_OK : E_DAMAGED;
    buf_append(&f->batches, &b, sizeof b);
    buf_append(&f->bytes, row.batch.data, row.batch.size);
    buf_append(&f->bytes, zeros, (STORED_ALIGN - row.batch.size % STORED_ALIGN) % STORED_ALIGN);
    return E_OK;
}

/* Where it belongs follows from its key, and that can change while it waits. One of several keys stays where it was sent. */
static void look_at_keys(struct due_batch *b)
{
    struct batch_columns c;
    struct err ignored = {0};
    if (b->code != E_OK || codec_batch_open(b->batch, &c, &ignored) != E_OK || c.key_hash == NULL)
        return;
    b->one_key = true;
    b->key_hash = c.key_hash[0];
    for (uint32_t i = 0; i < c.count; i++)
        b->one_key = b->one_key && c.key_size[i] != 0 && c.key_hash[i] == b->key_hash;
}

/* The engine will ask for the name's row, which may be cold: not in its thread. What it is, the engine sees. */
static void warm_name(struct store *s, struct store_iter *it)
{
    uint64_t due;
    uint32_t topic;
    struct id128 id;
    struct buf row = {0};
    struct err ignored = {0};
    bool found;
    if (!key_read_sched_batch(store_iter_key(it), &due, &topic, &id))
        return;
    struct key name = key_sched_name(topic, id);
    (void)store_get(s, FAM_SCHED, key_view(&name), &row, &found, &ignored);
    buf_free(&row);
}

int due_read(struct store *s, const struct effect_due *want, struct due *out, struct err *e)
{
    struct fetched *f = mem_zalloc(sizeof *f);
    struct key from = key_sched_from(want->from_ms, SCHED_KIND_BATCH);
    struct sched_walk w;
    uint32_t n = 0;
    int code = E_OK;
    sched_walk_open(&w, s, SCHED_KIND_BATCH, &from);
    while (code == E_OK && sched_walk_valid(&w) && sched_walk_due(&w) <= want->to_ms && n < want->rows_max &&
           (n == 0 || f->bytes.size + store_iter_value(w.it).size <= want->bytes_max)) {
        code = read_row(f, w.it, e);
        if (code == E_OK)
            warm_name(s, w.it);
        n++;
        sched_walk_next(&w);
    }
    if (code == E_OK)
        code = sched_walk_status(&w, e);
    *out = (struct due){.next_ms = sched_walk_due(&w), .batches_n = n};
    sched_walk_close(&w);
    struct ref *hold = ref_wrap(f->bytes.data, f->bytes.size, fetched_free, f);
    if (code != E_OK) {
        ref_drop(hold);
        *out = (struct due){0};
        return code;
    }
    struct due_batch *batches = (struct due_batch *)(void *)f->batches.data;
    for (size_t i = 0, at = 0; i < n; at += (batches[i].batch.size + STORED_ALIGN - 1) / STORED_ALIGN * STORED_ALIGN, i++) {
        batches[i].batch.data = f->bytes.data + at; /* only now do they no longer move */
        look_at_keys(&batches[i]);
    }
    out->batches = batches;
    out->hold = hold;
    return E_OK;
}
