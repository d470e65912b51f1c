/* The store in RAM: trees that share what they have in common.
 *
 * A family is a treap whose nodes are never changed once somebody else may see them: a write copies the path to what it
 * changes and leaves the rest where it is. So an image of the whole store is one root per family, and keeping one costs nothing:
 *
 *     synced            unsynced[0]       unsynced[1] = written
 *     (roots) --write-> (roots) --write-> (roots)
 *        ^ a power cut goes back to here, or to any of these
 *
 * An iterator holds a root, the synced image is a set of roots, and so is every list written since: syncing forgets all but the
 * last, a crash all behind the one it keeps. A node or a row that has one holder left is changed in place.
 *
 * The priority of a node is the hash of its key, so the shape of a tree follows from its rows alone, whatever the history.
 */
#include "store/store_mem.h"

#include <assert.h>
#include <pthread.h>
#include <xxhash.h>

#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "store/keys.h"
#include "store/puts.h"

/* A loop that never syncs would keep every row it ever removed: past this many lists the older half counts as written back, as
   a kernel does in time. */
enum { UNSYNCED_MAX = 1024 };

static const uint64_t plenty = 1ull << 40;

/* ---------------------------------------------------------------- rows and trees. All under the store's lock, but for reading
 * below a root that one holds. */

struct row {
    size_t holders;
    bool damaged;
    uint64_t priority;
    size_t key_size, value_size;
    uint8_t bytes[]; /* key, value */
};

struct node {
    size_t holders;
    struct node *left, *right;
    struct row *row;
    uint64_t bytes; /* keys and values of this tree */
};

static struct view row_key(const struct row *r)
{
    return view_of(r->bytes, r->key_size);
}

static struct view row_value(const struct row *r)
{
    return view_of(r->bytes + r->key_size, r->value_size);
}

static struct row *row_new(struct view key, const struct view *pieces, size_t n)
{
    size_t value_size = 0;
    for (size_t i = 0; i < n; i++)
        value_size += pieces[i].size;
    struct row *r = mem_alloc(sizeof *r + key.size + value_size);
    *r = (struct row){
        .holders = 1,
        .priority = XXH3_64bits(key.data, key.size),
        .key_size = key.size,
        .value_size = value_size,
    };
    if (key.size != 0)
        memcpy(r->bytes, key.data, key.size);
    uint8_t *to = r->bytes + key.size;
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].size != 0)
            memcpy(to, pieces[i].data, pieces[i].size);
        to += pieces[i].size;
    }
    return r;
}

static void row_drop(struct row *r)
{
    if (--r->holders == 0)
        mem_free(r);
}

static struct node *tree_take(struct node *t)
{
    if (t != NULL)
        t->holders++;
    return t;
}

static void tree_drop(struct node *t)
{
    while (t != NULL && --t->holders == 0) {
        struct node *right = t->right;
        tree_drop(t->left);
        row_drop(t->row);
        mem_free(t);
        t = right;
    }
}

static uint64_t tree_bytes(const struct node *t)
{
    return t != NULL ? t->bytes : 0;
}

/* The functions below consume the trees they are given and return trees that the caller holds. */

/* A node over two trees; takes the row. */
static struct node *node_new(struct row *row, struct node *left, struct node *right)
{
    struct node *t = mem_alloc(sizeof *t);
    *t = (struct node){.holders = 1, .left = left, .right = right, .row = row};
    return t;
}

/* The node for its one holder to change: itself, or a copy. */
static struct node *own(struct node *t)
{
    if (t->holders == 1)
        return t;
    t->row->holders++;
    struct node *copy = node_new(t->row, tree_take(t->left), tree_take(t->right));
    t->holders--;
    return copy;
}

static struct node *counted(struct node *t)
{
    t->bytes = t->row->key_size + t->row->value_size + tree_bytes(t->left) + tree_bytes(t->right);
    return t;
}

/* `a` is above `b`. Equal hashes of different keys are told apart by the key, so the shape has no ties. */
static bool above(const struct row *a, const struct row *b)
{
    return a->priority != b->priority ? a->priority > b->priority : view_cmp(row_key(a), row_key(b)) > 0;
}

/* Rows before `key` to the left, those at and behind it to the right. */
static void tree_split(struct node *t, struct view key, struct node **left, struct node **right)
{
    if (t == NULL) {
        *left = *right = NULL;
        return;
    }
    t = own(t);
    if (view_cmp(row_key(t->row), key) < 0) {
        tree_split(t->right, key, &t->right, right);
        *left = counted(t);
    } else {
        tree_split(t->left, key, left, &t->left);
        *right = counted(t);
    }
}

/* One tree of two; every row of the left one is before those of the right one. */
static struct node *tree_join(struct node *left, struct node *right)
{
    if (left == NULL)
        return right;
    if (right == NULL)
        return left;
    if (above(left->row, right->row)) {
        left = own(left);
        left->right = tree_join(left->right, right);
        return counted(left);
    }
    right = own(right);
    right->left = tree_join(left, right->left);
    return counted(right);
}

/* With `row`, which is taken, in place of the one of the same key. */
static struct node *tree_put(struct node *t, struct row *row)
{
    if (t == NULL)
        return counted(node_new(row, NULL, NULL));
    int side = view_cmp(row_key(row), row_key(t->row));
    if (side != 0 && above(row, t->row)) {
        struct node *n = node_new(row, NULL, NULL);
        tree_split(t, row_key(row), &n->left, &n->right);
        return counted(n);
    }
    t = own(t);
    if (side == 0) {
        row_drop(t->row);
        t->row = row;
    } else if (side < 0) {
        t->left = tree_put(t->left, row);
    } else {
        t->right = tree_put(t->right, row);
    }
    return counted(t);
}

/* The first row at or behind `key`; behind it only, if `strictly`. */
static const struct row *tree_seek(const struct node *t, struct view key, bool strictly)
{
    const struct row *best = NULL;
    while (t != NULL) {
        int side = view_cmp(key, row_key(t->row));
        if (side == 0 && !strictly)
            return t->row;
        if (side < 0)
            best = t->row;
        t = side < 0 ? t->left : t->right;
    }
    return best;
}

static const struct row *tree_get(const struct node *t, struct view key)
{
    const struct row *r = tree_seek(t, key, false);
    return r != NULL && view_cmp(row_key(r), key) == 0 ? r : NULL;
}

/* Without the row, which is there: asked before, so that removing nothing copies nothing. */
static struct node *tree_remove(struct node *t, struct view key)
{
    t = own(t);
    int side = view_cmp(key, row_key(t->row));
    if (side < 0) {
        t->left = tree_remove(t->left, key);
        return counted(t);
    }
    if (side > 0) {
        t->right = tree_remove(t->right, key);
        return counted(t);
    }
    struct node *rest = tree_join(t->left, t->right);
    t->left = t->right = NULL;
    tree_drop(t);
    return rest;
}

static struct node *tree_remove_range(struct node *t, struct view begin, struct view end)
{
    struct node *left, *middle, *right;
    tree_split(t, begin, &left, &middle);
    tree_split(middle, end, &middle, &right);
    tree_drop(middle);
    return tree_join(left, right);
}

/* ---------------------------------------------------------------- images */

struct image {
    struct node *family[FAM_COUNT];
};

static struct image *image_copy(const struct image *from)
{
    struct image *to = mem_alloc(sizeof *to);
    for (int f = 0; f < FAM_COUNT; f++)
        to->family[f] = tree_take(from->family[f]);
    return to;
}

static void image_free(struct image *im)
{
    for (int f = 0; f < FAM_COUNT; f++)
        tree_drop(im->family[f]);
    mem_free(im);
}

static void image_put(struct image *im, const struct put *put)
{
    struct node **t = &im->family[put->family];
    switch (put->kind) {
    case PUT_ROW:
        *t = tree_put(*t, row_new(put->key, put->pieces, put->pieces_n));
        break;
    case PUT_REMOVE:
        if (tree_get(*t, put->key) != NULL)
            *t = tree_remove(*t, put->key);
        break;
    case PUT_REMOVE_RANGE:
        *t = tree_remove_range(*t, put->key, put->pieces[0]);
        break;
    }
}

/* ---------------------------------------------------------------- the store */

struct store_mem {
    struct store base;
    pthread_mutex_t lock;                   /* everything below */
    struct image *images[1 + UNSYNCED_MAX]; /* [0] synced, then one per list; [unsynced] is what is read */
    size_t unsynced;
    bool failed;
    struct store_mem_faults faults;
    uint64_t writes, syncs, gets; /* since the faults were set */
};

struct mem_iter {
    struct store_iter base;
    struct store_mem *store;
    enum store_family family;
    struct node *root;
    const struct row *at;
    bool damaged; /* the walk ended at `at`, which is not shown */
};

static struct store_mem *mem_of(const struct store *s)
{
    return container_of(s, struct store_mem, base);
}

static struct image *written(const struct store_mem *m)
{
    return m->images[m->unsynced];
}

/* Makes images[n] the first, and so the synced one. */
static void forget_before(struct store_mem *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        image_free(m->images[i]);
    m->unsynced -= n;
    memmove(m->images, m->images + n, (m->unsynced + 1) * sizeof *m->images);
}

/* Whether the n-th of these calls is one that a fault, from `at` on `times` times, is meant for. */
static bool due(uint64_t n, uint64_t at, uint64_t times)
{
    return at != 0 && n >= at && n - at < times;
}

static int damaged(enum store_family f, struct view key, struct err *e)
{
    return err_set(e, E_DAMAGED, "memory:%s: row %s is damaged", store_family_name(f), key_text(key).hex);
}

static int mem_get(struct store *s, enum store_family f, struct view key, struct buf *out, bool *found,
                   struct err *e)
{
    struct store_mem *m = mem_of(s);
    int code = E_OK;
    *found = false;
    pthread_mutex_lock(&m->lock);
    bool fault = due(++m->gets, m->faults.fail_get_at, 1);
    const struct row *r = tree_get(written(m)->family[f], key);
    if (fault || (r != NULL && r->damaged)) {
        code = damaged(f, key, e);
    } else if (r != NULL) {
        *found = true;
        buf_clear(out);
        buf_append(out, row_value(r).data, r->value_size);
    }
    pthread_mutex_unlock(&m->lock);
    return code;
}

static int failed(struct err *e)
{
    return err_set(e, E_STORE_FAILED, "memory: the store failed before");
}

static int write_fault(struct store_mem *m, struct err *e)
{
    const struct store_mem_faults *f = &m->faults;
    if (m->failed)
        return failed(e);
    if (!due(++m->writes, f->fail_write_at, f->fail_writes != 0 ? f->fail_writes : 1))
        return E_OK;
    m->failed = f->write_code == E_STORE_FAILED;
    return err_set(e, f->write_code, "memory: write %llu was told to fail", (unsigned long long)m->writes);
}

static int mem_write(struct store *s, const struct puts *l, struct err *e)
{
    struct store_mem *m = mem_of(s);
    pthread_mutex_lock(&m->lock);
    int code = write_fault(m, e);
    if (code == E_OK) {
        if (m->unsynced == UNSYNCED_MAX)
            forget_before(m, UNSYNCED_MAX / 2);
        struct image *im = image_copy(written(m));
        for (size_t i = 0; i < l->count; i++) {
            struct put put;
            puts_at(l, i, &put);
            image_put(im, &put);
        }
        m->images[++m->unsynced] = im;
    }
    pthread_mutex_unlock(&m->lock);
    return code;
}

static int mem_sync(struct store *s, struct err *e)
{
    struct store_mem *m = mem_of(s);
    int code = E_OK;
    pthread_mutex_lock(&m->lock);
    if (m->failed) {
        code = failed(e);
    } else if (due(++m->syncs, m->faults.fail_sync_at, 1)) {
        m->failed = true;
        code = err_set(e, E_STORE_FAILED, "memory: sync %llu was told to fail", (unsigned long long)m->syncs);
    } else {
        forget_before(m, m->unsynced);
    }
    pthread_mutex_unlock(&m->lock);
    return code;
}

static uint64_t image_bytes(const struct image *im)
{
    uint64_t bytes = 0;
    for (int f = 0; f < FAM_COUNT; f++)
        bytes += tree_bytes(im->family[f]);
    return bytes;
}

static void mem_stats(struct store *s, struct store_stats *out)
{
    struct store_mem *m = mem_of(s);
    pthread_mutex_lock(&m->lock);
    uint64_t bytes = image_bytes(written(m));
    *out = (struct store_stats){
        .disk_free = m->faults.disk_free != 0 ? m->faults.disk_free : plenty,
        .disk_total = plenty,
        .live_bytes = bytes,
        .memory_bytes = bytes,
    };
    pthread_mutex_unlock(&m->lock);
}

static int mem_reclaim(struct store *s, enum store_family f, struct err *e)
{
    (void)s;
    (void)f;
    (void)e;
    return E_OK; /* what is removed and in no image is gone */
}

static void mem_close(struct store *s)
{
    struct store_mem *m = mem_of(s);
    for (size_t i = 0; i <= m->unsynced; i++)
        image_free(m->images[i]);
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
}

/* ---------------------------------------------------------------- iterators: no lock, as nothing below their root changes */

static struct mem_iter *iter_of(const struct store_iter *it)
{
    return container_of(it, struct mem_iter, base);
}

static void iter_place(struct mem_iter *i, const struct row *r)
{
    i->at = r;
    i->damaged = r != NULL && r->damaged;
}

static void iter_seek(struct store_iter *it, struct view key)
{
    struct mem_iter *i = iter_of(it);
    iter_place(i, tree_seek(i->root, key, false));
}

static bool iter_valid(const struct store_iter *it)
{
    const struct mem_iter *i = iter_of(it);
    return i->at != NULL && !i->damaged;
}

static void iter_next(struct store_iter *it)
{
    assert(iter_valid(it));
    struct mem_iter *i = iter_of(it);
    iter_place(i, tree_seek(i->root, row_key(i->at), true));
}

static struct view iter_key(const struct store_iter *it)
{
    assert(iter_valid(it));
    return row_key(iter_of(it)->at);
}

static struct view iter_value(struct store_iter *it)
{
    assert(iter_valid(it));
    return row_value(iter_of(it)->at);
}

static int iter_status(const struct store_iter *it, struct err *e)
{
    const struct mem_iter *i = iter_of(it);
    return i->damaged ? damaged(i->family, row_key(i->at), e) : E_OK;
}

static void iter_close(struct store_iter *it)
{
    struct mem_iter *i = iter_of(it);
    pthread_mutex_lock(&i->store->lock);
    tree_drop(i->root);
    pthread_mutex_unlock(&i->store->lock);
    mem_free(i);
}

static const struct store_iter_ops iter_ops = {
    .seek = iter_seek,
    .next = iter_next,
    .valid = iter_valid,
    .key = iter_key,
    .value = iter_value,
    .status = iter_status,
    .close = iter_close,
};

static struct store_iter *mem_iter(struct store *s, enum store_family f)
{
    struct store_mem *m = mem_of(s);
    struct mem_iter *i = mem_zalloc(sizeof *i);
    i->base.ops = &iter_ops;
    i->store = m;
    i->family = f;
    pthread_mutex_lock(&m->lock);
    i->root = tree_take(written(m)->family[f]);
    pthread_mutex_unlock(&m->lock);
    return &i->base;
}

/* ---------------------------------------------------------------- made, and made to fail */

static const struct store_ops mem_ops = {
    .get = mem_get,
    .iter = mem_iter,
    .write = mem_write,
    .sync = mem_sync,
    .stats = mem_stats,
    .reclaim = mem_reclaim,
    .close = mem_close,
};

struct store *store_mem_new(void)
{
    struct store_mem *m = mem_zalloc(sizeof *m);
    m->base.ops = &mem_ops;
    pthread_mutex_init(&m->lock, NULL);
    m->images[0] = mem_zalloc(sizeof *m->images[0]);
    return &m->base;
}

void store_mem_faults(struct store *s, const struct store_mem_faults *f)
{
    struct store_mem *m = mem_of(s);
    pthread_mutex_lock(&m->lock);
    m->faults = *f;
    m->writes = m->syncs = m->gets = 0;
    pthread_mutex_unlock(&m->lock);
}

uint64_t store_mem_unsynced(const struct store *s)
{
    struct store_mem *m = mem_of(s);
    pthread_mutex_lock(&m->lock);
    uint64_t n = m->unsynced;
    pthread_mutex_unlock(&m->lock);
    return n;
}

void store_mem_crash(struct store *s, uint64_t keep)
{
    struct store_mem *m = mem_of(s);
    pthread_mutex_lock(&m->lock);
    while (m->unsynced > keep)
        image_free(m->images[m->unsynced--]);
    forget_before(m, m->unsynced);
    m->failed = false;
    pthread_mutex_unlock(&m->lock);
}

/* The row is the disk's, so it is damaged in every image that has it. */
bool store_mem_damage(struct store *s, enum store_family f, struct view key)
{
    struct store_mem *m = mem_of(s);
    bool found = false;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i <= m->unsynced; i++) {
        struct node **t = &m->images[i]->family[f];
        const struct row *r = tree_get(*t, key);
        if (r == NULL)
            continue;
        struct view value = row_value(r);
        struct row *bad = row_new(key, &value, 1);
        bad->damaged = true;
        *t = tree_put(*t, bad);
        found = i == m->unsynced;
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

static void digest_sized(XXH3_state_t *state, struct view v)
{
    uint8_t size[8];
    put_u64(size, v.size);
    XXH3_64bits_update(state, size, sizeof size);
    XXH3_64bits_update(state, v.data, v.size);
}

static void digest_tree(XXH3_state_t *state, const struct node *t)
{
    for (; t != NULL; t = t->right) {
        digest_tree(state, t->left);
        digest_sized(state, row_key(t->row));
        digest_sized(state, row_value(t->row));
    }
}

uint64_t store_mem_digest(const struct store *s)
{
    struct store_mem *m = mem_of(s);
    XXH3_state_t *state = XXH3_createState();
    assert(state != NULL);
    XXH3_64bits_reset(state);
    pthread_mutex_lock(&m->lock);
    for (int f = 0; f < FAM_COUNT; f++) {
        digest_sized(state, view_of_str(store_family_name(f)));
        digest_tree(state, written(m)->family[f]);
    }
    pthread_mutex_unlock(&m->lock);
    uint64_t digest = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return digest;
}
