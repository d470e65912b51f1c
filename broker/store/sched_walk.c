/* A walk over the rows of one kind in `sched`: see sched_walk.h. */
#include "store/sched_walk.h"

/* From wherever the iterator stands to a row of the kind. */
static void find(struct sched_walk *w)
{
    for (;;) {
        w->valid = false;
        if (!store_iter_valid(w->it)) {
            w->low_ms = UINT64_MAX;
            return;
        }
        struct cur c = cur_of(store_iter_key(w->it));
        uint64_t due = cur_u64be(&c);
        unsigned is = cur_u8(&c);
        w->low_ms = due;
        w->valid = is == (unsigned)w->kind;
        if (w->valid || w->seeks_left == 0)
            return;
        w->seeks_left--;
        if (is > (unsigned)w->kind && due == UINT64_MAX) {
            w->low_ms = UINT64_MAX;
            return;
        }
        struct key to = key_sched_from(is < (unsigned)w->kind ? due : due + 1, w->kind);
        store_iter_seek(w->it, key_view(&to));
    }
}

void sched_walk_open(struct sched_walk *w, struct store *s, enum sched_kind kind, const struct key *from, uint32_t seeks_max)
{
    *w = (struct sched_walk){.it = store_iter(s, FAM_SCHED), .kind = kind, .seeks_left = seeks_max};
    store_iter_seek(w->it, key_view(from));
    find(w);
}

void sched_walk_next(struct sched_walk *w)
{
    store_iter_next(w->it);
    find(w);
}

void sched_walk_close(struct sched_walk *w) { store_iter_close(w->it); }
