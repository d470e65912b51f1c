/* Finding what is due and away: see backread.h. */
#include "broker/backread.h"

#include "schemas/errors.h"
#include "store/sched_walk.h"

/* What it says the engine will see. */
static void warm(struct store *s, const struct back_place *p, struct buf *row)
{
    struct key k = key_held(p->group, p->partition, p->offset);
    struct held_row held;
    struct err ignored = {0};
    bool found;
    if (store_get(s, FAM_HELD, key_view(&k), row, &found, &ignored) != E_OK || !found || held_row_get(buf_view(row), &held, &ignored) != E_OK ||
        !held.has_key)
        return;
    k = key_away(p->group, held.key_hash);
    (void)store_get(s, FAM_KEYS, key_view(&k), row, &found, &ignored);
}

int back_read(struct store *s, const struct effect_back *want, struct back *out, struct buf *places, struct err *e)
{
    struct key from = key_sched_from(want->from_ms, SCHED_KIND_AWAY);
    struct sched_walk w;
    struct buf row = {0};
    uint32_t n = 0;
    int code = E_OK;
    buf_clear(places);
    sched_walk_open(&w, s, SCHED_KIND_AWAY, &from);
    for (; code == E_OK && sched_walk_valid(&w) && sched_walk_due(&w) <= want->to_ms && n < want->rows_max; sched_walk_next(&w)) {
        struct back_place p;
        if (!key_read_sched_away(store_iter_key(w.it), &p.due_ms, &p.group, &p.partition, &p.offset)) {
            code = err_set(e, E_DAMAGED, "a key of a retry that is away does not read");
            break;
        }
        warm(s, &p, &row);
        buf_append(places, &p, sizeof p);
        n++;
    }
    if (code == E_OK)
        code = sched_walk_status(&w, e);
    *out = (struct back){.places = (const struct back_place *)(void *)places->data, .places_n = n, .next_ms = sched_walk_due(&w)};
    sched_walk_close(&w);
    buf_free(&row);
    return code;
}
