/* Whether the write-ahead logs hang together, looked at before RocksDB replays them.
 *
 * RocksDB takes whatever it can read of a log whose end is missing, and goes on with the next one; where a part of a log reads as zeros it
 * goes on behind it. So it would apply a turn whose predecessor is lost. But the lists of all logs are one chain: each has the number
 * (RocksDB's sequence) of its first put and their count, and so says which must follow. And each carries how far the chain was known to
 * be on disk when it was written (rocks_wal_mark). So where the chain breaks:
 *
 *     behind the break something says that more was on disk     a file was cut or damaged later: refused, with its name
 *     the break is no torn write: no zeros, no end of a file    likewise
 *     else                                                      a power cut; what was never synced reached the disk in another order.
 *                                                               The chain ends here, what lies behind is dropped before RocksDB sees it
 *
 * A manifest that was cut says less than it did, and RocksDB believes it: so each list also carries how long the manifest was known to be.
 *
 * Nothing that was synced is ever dropped: whatever lies behind the break was written after what is missing, so a sync of it that ended
 * was a sync of both.
 *
 * A file of RocksDB's logs (the manifest is one, too) is blocks of 32 KiB, in which pieces follow each other:
 *
 *     crc32c u32, masked, of kind and data | size u16 | kind u8 | data        kind: 1 whole, or 2 first, 3 middle, 4 last
 *
 * None crosses a block; where less than a head is left, zeros are. RocksDB has more kinds, for logs that are used again or compressed, and
 * with our options writes none of them. But it would take one for the end of the log, if a bit made a last list look like it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "store/rocks.h"

enum {
    BLOCK = 32768,
    PIECE_HEAD = 7,
    SECTOR = 512,
    RECORD_HEAD = 64,     /* so much of a record is looked at */
    SEQ_AHEAD_MAX = 1 << 26, /* puts that a list behind a break may be ahead: more than fit into all logs */
};

/* ---------------------------------------------------------------- one file */

enum piece_kind { PIECE_WHOLE = 1, PIECE_FIRST, PIECE_MIDDLE, PIECE_LAST };
enum reading { READ_RECORD, READ_END, READ_CUT, READ_BROKEN, READ_FAILED };

struct log_file {
    char name[NAME_MAX + 1];
    uint64_t number;
    int fd;
    uint64_t size, at;    /* the next piece */
    bool sums;            /* are looked at */
    uint64_t block_at;
    size_t block_n;       /* bytes of it that are there; 0: none is read */
    uint8_t block[BLOCK];
};

struct record {
    uint64_t at;          /* of its first piece */
    size_t size;          /* of its beginning */
    uint8_t head[RECORD_HEAD];
};

static bool log_open(struct log_file *f, const struct rocks_dir *d, const char *name, bool sums)
{
    struct stat st;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->number = strtoull(name, NULL, 10);
    f->at = f->block_n = 0;
    f->sums = sums;
    f->fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
    if (f->fd >= 0 && fstat(f->fd, &st) == 0) {
        f->size = (uint64_t)st.st_size;
        return true;
    }
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    return false;
}

static void log_close(struct log_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static bool load_block(struct log_file *f)
{
    uint64_t at = f->at / BLOCK * BLOCK;
    if (f->block_n > 0 && f->block_at == at)
        return true;
    size_t want = f->size - at < BLOCK ? (size_t)(f->size - at) : BLOCK;
    f->block_n = 0;
    for (size_t have = 0; have < want;) {
        ssize_t n = pread(f->fd, f->block + have, want - have, (off_t)(at + have));
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    f->block_at = at;
    f->block_n = want;
    return true;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Its sum fits when its data has this size. */
static bool piece_fits(const uint8_t *piece, size_t size)
{
    return rocks_crc_masked(rocks_crc32c(0, piece + 6, 1 + size)) == get_u32(piece);
}

/* The piece at f->at, and over it. */
static enum reading next_piece(struct log_file *f, uint8_t *kind, struct view *data)
{
    for (;;) {
        if (f->at >= f->size)
            return READ_END;
        if (!load_block(f))
            return READ_FAILED;
        size_t in = (size_t)(f->at % BLOCK), left = BLOCK - in, there = f->block_n - in;
        const uint8_t *p = f->block + in;
        if (left < PIECE_HEAD) {
            if (!all_zero(p, there))
                return READ_BROKEN;
            f->at += left;
            continue;
        }
        if (there < PIECE_HEAD)
            return READ_CUT;
        size_t size = (size_t)p[4] | (size_t)p[5] << 8;
        *kind = p[6];
        if (size > left - PIECE_HEAD || (*kind == 0 && size == 0))
            return READ_BROKEN;
        if (size > there - PIECE_HEAD)
            return READ_CUT;
        if (f->sums && !piece_fits(p, size))
            return READ_BROKEN;
        *data = view_of(p + PIECE_HEAD, size);
        f->at += PIECE_HEAD + size;
        return READ_RECORD;
    }
}

static void record_add(struct record *r, struct view data)
{
    size_t n = data.size < sizeof r->head - r->size ? data.size : sizeof r->head - r->size;
    memcpy(r->head + r->size, data.data, n);
    r->size += n;
}

/* `skipping`: pieces that belong to none, because what was in front of them is lost, are passed over. Where it is not READ_RECORD, f->at is
 * at the piece that says so, r->at where its record began. */
static enum reading next_record(struct log_file *f, struct record *r, bool skipping)
{
    bool begun = false;
    r->at = f->at;
    for (;;) {
        uint64_t at = f->at;
        uint8_t kind;
        struct view data;
        enum reading got = next_piece(f, &kind, &data);
        if (got != READ_RECORD) {
            if (!begun)
                r->at = f->at;
            return got == READ_END && begun ? READ_CUT : got;
        }
        bool begins = kind == PIECE_WHOLE || kind == PIECE_FIRST, goes_on = kind == PIECE_MIDDLE || kind == PIECE_LAST;
        if ((!begins && !goes_on) || (begins == begun && !(goes_on && skipping))) {
            f->at = at;
            if (!begun)
                r->at = at;
            return READ_BROKEN;
        }
        if (begins) {
            r->at = f->at - PIECE_HEAD - data.size;
            r->size = 0;
            begun = true;
        }
        if (begun)
            record_add(r, data);
        if (begun && (kind == PIECE_WHOLE || kind == PIECE_LAST))
            return READ_RECORD;
    }
}

/* ---------------------------------------------------------------- what a list says of itself
 *
 *     number of its first put u64 | puts u32 | 3, size, mark | puts
 */
enum { LIST_HEAD = 12, LIST_NOTE = 3, MARK_SIZE = 18 };

void rocks_wal_mark(rocksdb_writebatch_t *b, struct rocks_known known)
{
    uint8_t mark[MARK_SIZE] = {'S', 'Q'};
    put_u64(mark + 2, known.synced);
    put_u64(mark + 10, known.manifest);
    rocksdb_writebatch_put_log_data(b, (const char *)mark, sizeof mark);
}

struct list_head { uint64_t first, next; struct rocks_known known; };

static bool list_head_get(const struct record *r, struct list_head *l)
{
    if (r->size < LIST_HEAD)
        return false;
    l->first = get_u64(r->head);
    l->next = l->first + get_u32(r->head + 8);
    const uint8_t *note = r->head + LIST_HEAD;
    bool marked = r->size >= LIST_HEAD + 2 + MARK_SIZE && note[0] == LIST_NOTE && note[1] == MARK_SIZE && note[2] == 'S' && note[3] == 'Q';
    l->known = marked ? (struct rocks_known){get_u64(note + 4), get_u64(note + 12)} : (struct rocks_known){0};
    return true;
}

/* ---------------------------------------------------------------- what a break looks like */

/* Behind f->at, in its block, the place of a list that is whole and may follow number `next` (UINT64_MAX: of any record); 0: none. */
static uint64_t list_behind(struct log_file *f, uint64_t next)
{
    size_t in = (size_t)(f->at % BLOCK);
    for (size_t i = in + 1; i + PIECE_HEAD + LIST_HEAD <= f->block_n; i++) {
        const uint8_t *p = f->block + i;
        size_t size = (size_t)p[4] | (size_t)p[5] << 8;
        if ((p[6] != PIECE_WHOLE && p[6] != PIECE_FIRST) || size < LIST_HEAD || size > f->block_n - i - PIECE_HEAD)
            continue;
        uint64_t first = get_u64(p + PIECE_HEAD);
        if ((next == UINT64_MAX || (first >= next && first - next < SEQ_AHEAD_MAX)) && piece_fits(p, size))
            return f->block_at + i;
    }
    return 0;
}

/* The file ends within the piece at f->at. A size that was damaged looks the same, but then the piece fits what is there, or a list stands
 * behind it. */
static bool is_cut(struct log_file *f, uint64_t next)
{
    if (!load_block(f) || f->size - f->at < PIECE_HEAD)
        return true;
    const uint8_t *p = f->block + f->at % BLOCK;
    size_t there = (size_t)(f->size - f->at) - PIECE_HEAD;
    return !piece_fits(p, there) && list_behind(f, next) == 0;
}

/* Whether a sector of the piece at f->at, or its rest of one, was never written: it is zero. */
static bool lacks_sector(struct log_file *f)
{
    if (!load_block(f))
        return false;
    size_t in = (size_t)(f->at % BLOCK), end = f->block_n;
    if (end - in >= PIECE_HEAD && !all_zero(f->block + in, PIECE_HEAD)) {
        size_t size = (size_t)f->block[in + 4] | (size_t)f->block[in + 5] << 8;
        end = size < end - in - PIECE_HEAD ? in + PIECE_HEAD + size : end;
    }
    for (size_t at = in; at < end;) {
        size_t stop = (at / SECTOR + 1) * SECTOR;
        stop = stop < f->block_n ? stop : f->block_n;
        if (all_zero(f->block + at, stop - at))
            return true;
        at = stop;
    }
    return false;
}

/* ---------------------------------------------------------------- the manifest: which logs are needed
 *
 * Its records are edits: fields, each behind its number, in a fixed order. Those that may stand in front of what is looked for are
 * known here.
 */
enum {
    EDIT_COMPARATOR = 1, EDIT_LOG = 2, EDIT_NEXT_FILE = 3, EDIT_LAST_PUT = 4, EDIT_LOG_BEFORE = 9, EDIT_FIRST_LOG = 10, EDIT_FAMILIES = 203,
    EDIT_DB = 8193,
};

struct manifest {
    uint64_t first_log;   /* those before hold nothing that is not in tables */
    uint64_t last_put;    /* number of the last put when that was written: the logs that are needed begin at the next one, or before */
    uint64_t whole;       /* as in rocks_known: its number, and where its last whole record ends */
    uint64_t torn_at;     /* where to end it, for a sector behind is missing; 0: nowhere */
    char name[64];
};

static void edit_take(const struct record *r, struct manifest *m)
{
    for (struct cur c = cur_of(view_of(r->head, r->size)); cur_left(&c) > 0;) {
        uint64_t field = cur_varint(&c), number = 0;
        if (field == EDIT_COMPARATOR || field == EDIT_DB)
            cur_bytes(&c);
        else if (field <= EDIT_LAST_PUT || field == EDIT_LOG_BEFORE || field == EDIT_FIRST_LOG || field == EDIT_FAMILIES)
            number = cur_varint(&c);
        else
            return;
        if (!c.bad && field == EDIT_FIRST_LOG && number > m->first_log)
            m->first_log = number;
        if (!c.bad && field == EDIT_LAST_PUT && number > m->last_put)
            m->last_put = number;
    }
}

static int damaged(const struct rocks_dir *d, const struct log_file *f, const char *why, struct err *e)
{
    return err_set(e, E_DAMAGED, "'%s/%s' is damaged: %s at byte %" PRIu64, d->path, f->name, why, f->at);
}

static int io_failed(const struct rocks_dir *d, const char *doing, const char *name, struct err *e)
{
    return err_set(e, E_STORE_FAILED, "cannot %s '%s/%s': %s", doing, d->path, name, strerror(errno));
}

/* The first `size` bytes of a file become one of their own under its name. */
static bool part_from_others(const struct rocks_dir *d, const char *name, int from, uint64_t size)
{
    char beside[NAME_MAX + 1];
    snprintf(beside, sizeof beside, "%.64s.cut", name);
    int to = openat(d->fd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = to >= 0;
    uint8_t bytes[SECTOR * 8];
    for (uint64_t at = 0; good && at < size;) {
        size_t want = size - at < sizeof bytes ? (size_t)(size - at) : sizeof bytes;
        ssize_t n = pread(from, bytes, want, (off_t)at);
        good = n > 0 && write(to, bytes, (size_t)n) == n;
        at += good ? (uint64_t)n : 0;
    }
    good = good && fsync(to) == 0 && renameat(d->fd, beside, d->fd, name) == 0 && fsync(d->fd) == 0;
    if (to >= 0)
        close(to);
    return good;
}

/* Ends a file at `size`, on the disk; for us only, where a checkpoint shares it. */
static int shorten(const struct rocks_dir *d, const char *name, uint64_t size, struct err *e)
{
    struct stat st;
    int fd = openat(d->fd, name, O_RDWR | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &st) == 0;
    if (good && st.st_nlink > 1)
        good = part_from_others(d, name, fd, size);
    else
        good = good && ftruncate(fd, (off_t)size) == 0 && fsync(fd) == 0;
    int code = good ? E_OK : io_failed(d, "shorten", name, e);
    if (fd >= 0)
        close(fd);
    return code;
}

/* CURRENT holds the manifest's name and a line's end, and that file is there. */
static int manifest_name(const struct rocks_dir *d, char name[64], struct err *e)
{
    char text[64] = "";
    int fd = openat(d->fd, "CURRENT", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return io_failed(d, "read", "CURRENT", e);
    size_t digits = strspn(text + (strncmp(text, "MANIFEST-", 9) == 0 ? 9 : 0), "0123456789");
    struct stat st;
    if (digits == 0 || strcmp(text + 9 + digits, "\n") != 0)
        return err_set(e, E_DAMAGED, "'%s/CURRENT' is damaged: it does not hold the name of a manifest", d->path);
    text[9 + digits] = '\0';
    if (fstatat(d->fd, text, &st, 0) != 0)
        return err_set(e, E_DAMAGED, "'%s/CURRENT' names '%s', which is not there: one of them is damaged", d->path, text);
    snprintf(name, 64, "%s", text);
    return E_OK;
}

/* The manifest may be torn, at its end, and where a sector of what was not synced is missing: RocksDB syncs it before it does what it says,
 * so whatever is in front of the tear is enough. */
static int look_at_manifest(const struct rocks_dir *d, struct log_file *f, struct manifest *m, struct err *e)
{
    char *name = m->name;
    struct record r;
    int code = manifest_name(d, name, e);
    if (code != E_OK)
        return code;
    if (!log_open(f, d, name, true))
        return io_failed(d, "open", name, e);
    enum reading got;
    bool any = false;
    while ((got = next_record(f, &r, false)) == READ_RECORD) {
        edit_take(&r, m);
        m->whole = rocks_manifest_known(strtoull(name + 9, NULL, 10), f->at);
        any = true;
    }
    if (got == READ_FAILED)
        code = io_failed(d, "read", name, e);
    else if (!any)
        code = damaged(d, f, "nothing can be read of it", e);
    else if (got == READ_CUT && !is_cut(f, UINT64_MAX))
        code = damaged(d, f, "a size", e);
    else if (got == READ_BROKEN && lacks_sector(f))
        m->torn_at = r.at;
    else if (got == READ_BROKEN)
        code = damaged(d, f, "a checksum", e);
    log_close(f);
    return code;
}

/* ---------------------------------------------------------------- the chain over all logs */

struct names { uint64_t *numbers; size_t n, cap; };

static void log_name(uint64_t number, char name[32]) { snprintf(name, 32, "%06" PRIu64 ".log", number); }

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The logs from `first` on, in order. */
static int list_logs(const struct rocks_dir *d, uint64_t first, struct names *out, struct err *e)
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int code = io_failed(d, "read", ".", e);
        if (fd >= 0)
            close(fd);
        return code;
    }
    struct dirent *x;
    while (errno = 0, (x = readdir(dir)) != NULL) {
        size_t digits = strspn(x->d_name, "0123456789");
        uint64_t number = strtoull(x->d_name, NULL, 10);
        if (digits == 0 || strcmp(x->d_name + digits, ".log") != 0 || number < first)
            continue;
        if (out->n == out->cap)
            out->numbers = mem_resize(out->numbers, out->cap = 2 * out->cap + 8, sizeof *out->numbers);
        out->numbers[out->n++] = number;
    }
    int code = errno == 0 ? E_OK : io_failed(d, "read", ".", e);
    closedir(dir);
    if (out->n > 0)
        qsort(out->numbers, out->n, sizeof *out->numbers, by_number);
    return code;
}

enum broken_by { BY_NOTHING, BY_CUT, BY_GAP, BY_ORDER, BY_DAMAGE, BY_START };

struct chain {
    bool begun;
    uint64_t next;        /* number of the put that follows; at the beginning, it may be an older one */
    uint64_t reached;     /* behind the last list that was seen, broken or not */
    size_t last;          /* the file of the list before it, */
    uint64_t last_end;    /* and where that ends */
    uint64_t manifest;    /* how much of which is known to be on the disk: see rocks_known */
    /* the first break */
    enum broken_by broken;
    size_t file;          /* in which all from */
    uint64_t from;        /* on is behind it */
    uint64_t seen_at;     /* where it was noticed */
    /* what is behind it */
    bool more;
    uint64_t synced;      /* known to be on the disk */
};

static void chain_break(struct chain *c, enum broken_by by, size_t file, uint64_t from, uint64_t seen_at)
{
    if (c->broken != BY_NOTHING)
        return;
    c->broken = by;
    c->file = file;
    c->from = from;
    c->seen_at = seen_at;
}

static void chain_add(struct chain *c, size_t file, const struct log_file *f, const struct record *r)
{
    struct list_head l;
    if (!list_head_get(r, &l)) {
        chain_break(c, BY_DAMAGE, file, r->at, r->at);
        return;
    }
    c->manifest = l.known.manifest > c->manifest ? l.known.manifest : c->manifest;
    if (l.first < c->reached && c->broken != BY_DAMAGE) { /* whatever is broken in front of it */
        c->broken = BY_NOTHING;
        chain_break(c, BY_ORDER, file, r->at, r->at);
    }
    c->reached = l.next;
    if (c->broken == BY_NOTHING && c->begun && l.first != c->next)
        chain_break(c, BY_GAP, file, r->at, r->at);
    if (c->broken == BY_NOTHING && !c->begun && l.first > c->next)
        chain_break(c, BY_START, file, r->at, r->at);
    if (c->broken != BY_NOTHING) {
        c->more = true;
        c->synced = l.known.synced > c->synced ? l.known.synced : c->synced;
        return;
    }
    c->begun = true;
    c->next = l.next;
    c->last = file;
    c->last_end = f->at;
}

/* Walks one log to its end, over what is broken. */
static bool chain_walk(struct chain *c, size_t file, struct log_file *f)
{
    struct record r;
    for (;;) {
        enum reading got = next_record(f, &r, c->broken != BY_NOTHING);
        uint64_t next = c->begun ? c->next : UINT64_MAX;
        switch (got) {
        case READ_RECORD:
            chain_add(c, file, f, &r);
            continue;
        case READ_END:
            return true;
        case READ_FAILED:
            return false;
        case READ_CUT:
            chain_break(c, !f->sums || is_cut(f, next) ? BY_CUT : BY_DAMAGE, file, r.at, f->at);
            break;
        case READ_BROKEN:
            chain_break(c, lacks_sector(f) ? BY_CUT : BY_DAMAGE, file, r.at, f->at);
            break;
        }
        uint64_t behind = load_block(f) ? list_behind(f, next) : 0;
        f->at = behind != 0 ? behind : (f->at / BLOCK + 1) * BLOCK;
    }
}

static int chain_all(const struct rocks_dir *d, const struct manifest *m, const struct names *logs, struct log_file *f, bool sums,
                     struct chain *c, struct err *e)
{
    *c = (struct chain){.next = m->last_put + 1};
    for (size_t i = 0; i < logs->n; i++) {
        char name[32];
        log_name(logs->numbers[i], name);
        if (!log_open(f, d, name, sums))
            return io_failed(d, "open", name, e);
        bool good = chain_walk(c, i, f);
        log_close(f);
        if (!good)
            return io_failed(d, "read", name, e);
    }
    return E_OK;
}

/* What was never synced goes, the last log first: who is interrupted finds a break where it was. */
static int chain_end(const struct rocks_dir *d, const struct names *logs, const struct chain *c, struct err *e)
{
    int code = E_OK;
    for (size_t i = logs->n; i > c->file && code == E_OK; i--) {
        char name[32];
        log_name(logs->numbers[i - 1], name);
        code = shorten(d, name, i - 1 == c->file ? c->from : 0, e);
    }
    return code;
}

static int judge(const struct rocks_dir *d, const struct manifest *m, const struct names *logs, const struct chain *c, bool *dropped,
                 struct err *e)
{
    char name[32];
    log_name(c->broken != BY_NOTHING ? logs->numbers[c->file] : 0, name);
    if (c->broken == BY_DAMAGE)
        return err_set(e, E_DAMAGED, "'%s/%s' is damaged at byte %" PRIu64, d->path, name, c->seen_at);
    if (c->broken == BY_ORDER) /* numbers only grow, whatever a power cut does */
        return err_set(e, E_DAMAGED, "'%s/%s' goes back at byte %" PRIu64 " to what is in front of it: another log had this name", d->path, name, c->seen_at);
    if (c->manifest >> 32 > m->whole >> 32)
        return err_set(e, E_DAMAGED, "'%s/CURRENT' is damaged: it names '%s', and there was a later one", d->path, m->name);
    if (c->manifest > m->whole)
        return err_set(e, E_DAMAGED, "'%s/%s' lacks what was on the disk behind byte %" PRIu64, d->path, m->name, m->whole & UINT32_MAX);
    if (c->broken == BY_START)
        return err_set(e, E_DAMAGED, "'%s/%s' does not follow what '%s' knows: a log before it is missing, or the end of that", d->path, name, m->name);
    if (c->more && (!c->begun || c->synced >= c->next)) { /* with nothing in front of the break nobody knows what is missing */
        if (c->begun)
            log_name(logs->numbers[c->last], name);
        return err_set(e, E_DAMAGED, "'%s/%s' lacks what was on the disk behind byte %" PRIu64, d->path, name, c->begun ? c->last_end : c->from);
    }
    int code = m->torn_at != 0 ? shorten(d, m->name, m->torn_at, e) : E_OK;
    if (code == E_OK && (c->more || c->broken == BY_CUT))
        code = chain_end(d, logs, c, e);
    *dropped = code == E_OK && c->more;
    return code;
}

/* ---------------------------------------------------------------- what is known of the manifest */

void rocks_manifest_hold(struct store_rocks *s, bool held)
{
    pthread_mutex_lock(&s->manifest_lock);
    s->manifest_held = held;
    pthread_mutex_unlock(&s->manifest_lock);
}

static void note_manifest(struct store_rocks *s)
{
    struct stat st;
    struct err e;
    char name[64];
    uint64_t before = atomic_load(&s->manifest);
    if (s->manifest_fd < 0 || fstat(s->manifest_fd, &st) != 0 || st.st_nlink == 0) { /* there is another by now */
        if (s->manifest_fd >= 0)
            close(s->manifest_fd);
        s->manifest_fd = manifest_name(&s->dir, name, &e) == E_OK ? openat(s->dir.fd, name, O_RDONLY | O_CLOEXEC) : -1;
        if (s->manifest_fd < 0 || fstat(s->manifest_fd, &st) != 0)
            return;
        before = rocks_manifest_known(strtoull(name + 9, NULL, 10), 0);
    }
    uint64_t now = rocks_manifest_known(before >> 32, (uint64_t)st.st_size);
    if (now != before && fdatasync(s->manifest_fd) == 0)
        atomic_store(&s->manifest, now);
}

void rocks_manifest_note(struct store_rocks *s)
{
    pthread_mutex_lock(&s->manifest_lock);
    if (!s->manifest_held)
        note_manifest(s);
    pthread_mutex_unlock(&s->manifest_lock);
}

int rocks_wal_look(const struct rocks_dir *d, bool sums, bool *dropped, struct err *e)
{
    struct log_file *f = mem_alloc(sizeof *f);
    struct manifest m = {0};
    struct names logs = {0};
    struct chain c = {0};
    *dropped = false;
    int code = look_at_manifest(d, f, &m, e);
    if (code == E_OK)
        code = list_logs(d, m.first_log, &logs, e);
    if (code == E_OK)
        code = chain_all(d, &m, &logs, f, sums, &c, e);
    if (code == E_OK && !sums && (c.broken != BY_NOTHING || c.manifest > m.whole))
        code = chain_all(d, &m, &logs, f, true, &c, e);
    if (code == E_OK)
        code = judge(d, &m, &logs, &c, dropped, e);
    mem_free(logs.numbers);
    mem_free(f);
    return code;
}
