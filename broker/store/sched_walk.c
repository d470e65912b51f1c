/* A walk over the rows of one kind in `sched`: see sched_walk.h. */
#include "store/sched_walk.h"

/* Where a row of the kind may stand behind one that is none. False: nowhere. */
static bool behind(enum sched_kind kind, struct view other, struct key *to)
{
    uint64_t due;
    enum sched_kind is = key_read_sched_kind(other, &due);
    if (kind == SCHED_KIND_BATCH || kind == SCHED_KIND_AWAY) {
        *to = key_sched_from(0, kind);
        return view_cmp(other, key_view(to)) < 0;
    }
    if (is == SCHED_KIND_BATCH || is == SCHED_KIND_AWAY || is == SCHED_KIND_COPY) { /* they stand together */
        *to = key_meta_prefix((char)(is + 1));
        return true;
    }
    *to = key_sched_from(is < kind ? due : due + 1, kind);
    return is < kind || due < UINT64_MAX;
}

/* From wherever the iterator stands to a row of the kind. */
static void find(struct sched_walk *w)
{
    struct key to;
    do {
        w->valid = store_iter_valid(w->it) && key_read_sched_kind(store_iter_key(w->it), &w->due_ms) == w->kind;
        if (w->valid)
            return;
        w->due_ms = UINT64_MAX;
        if (!store_iter_valid(w->it) || !behind(w->kind, store_iter_key(w->it), &to))
            return;
        store_iter_seek(w->it, key_view(&to));
    } while (true);
}

void sched_walk_open(struct sched_walk *w, struct store *s, enum sched_kind kind, const struct key *from)
{
    *w = (struct sched_walk){.it = store_iter(s, FAM_SCHED), .kind = kind};
    store_iter_seek(w->it, key_view(from));
    find(w);
}

void sched_walk_next(struct sched_walk *w)
{
    store_iter_next(w->it);
    find(w);
}

void sched_walk_close(struct sched_walk *w) { store_iter_close(w->it); }
