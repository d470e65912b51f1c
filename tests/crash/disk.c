/* See disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"

enum { SECTOR = 512, NAME_BYTES = 64, NAMES_MAX = 4096, DIRS_MAX = 8 };

enum { NO_FILE = UINT32_MAX };

/* A record, with the file that it is about: a number that is not used again. */
struct step {
    enum tape_kind kind;
    uint32_t file;
    uint32_t size;
    uint64_t at;
    const uint8_t *data;
    char name[NAME_BYTES], to[NAME_BYTES];
};

struct disk {
    struct step *steps;
    uint64_t count;
    uint32_t files;          /* numbers given; those of directories among them */
    bool *is_dir;
};

static void die(const char *what, const char *name)
{
    fprintf(stderr, "disk: %s '%s': %s\n", what, name, strerror(errno));
    abort();
}

/* ---------------------------------------------------------------- reading the tape */

/* inode -> file, of those that have one now */
struct inode { uint64_t number; uint32_t file; };

/* The broker's stderr was not made by it: it is nobody's here. */
static uint32_t file_of(const struct inode *known, size_t n, uint64_t number)
{
    for (size_t i = n; i > 0; i--)
        if (known[i - 1].number == number)
            return known[i - 1].file;
    return NO_FILE;
}

static void take_names(struct step *s, const char *text, size_t size)
{
    size_t first = strnlen(text, size);
    if (first >= NAME_BYTES || size - first >= NAME_BYTES)
        die("too long a name", text);
    memcpy(s->name, text, first);
    if (s->kind == TAPE_RENAME)
        memcpy(s->to, text + first + 1, size - first - 1);
}

struct disk *disk_read(const struct tape *tape)
{
    struct disk *d = mem_zalloc(sizeof *d);
    d->count = atomic_load(&tape->ops);
    d->steps = mem_array(d->count + 1, sizeof *d->steps);
    d->is_dir = mem_array(d->count + 1, sizeof *d->is_dir);
    struct inode *known = mem_array(d->count + 1, sizeof *known);
    size_t known_n = 0;
    uint64_t at = 0;
    for (uint64_t i = 0; i < d->count; i++) {
        struct tape_op op;
        struct step *s = &d->steps[i];
        memcpy(&op, tape->data + at, sizeof op);
        *s = (struct step){.kind = op.kind, .file = NO_FILE, .size = op.size, .at = op.at, .data = tape->data + at + sizeof op};
        if (op.kind == TAPE_CREATE || op.kind == TAPE_RENAME || op.kind == TAPE_REMOVE || op.kind == TAPE_DIR_SYNC_BEGIN)
            take_names(s, (const char *)s->data, op.size);
        if (op.kind == TAPE_CREATE) {
            s->file = d->files++;
            d->is_dir[s->file] = op.file == 0;
            known[known_n++] = (struct inode){op.file, s->file};
        } else if (op.kind == TAPE_WRITE || op.kind == TAPE_RESIZE || op.kind == TAPE_SYNC_BEGIN) {
            s->file = file_of(known, known_n, op.file);
        } else if (op.kind == TAPE_SYNC_END) {
            s->file = d->steps[s->at].file;
        }
        at += tape_op_bytes(op.size);
    }
    mem_free(known);
    return d;
}

void disk_free(struct disk *d)
{
    mem_free(d->steps);
    mem_free(d->is_dir);
    mem_free(d);
}

uint64_t disk_ops(const struct disk *d) { return d->count; }

bool disk_turns_at(const struct disk *d, uint64_t op)
{
    return op < d->count && d->steps[op].kind != TAPE_WRITE && d->steps[op].kind != TAPE_RESIZE;
}

uint64_t disk_last(const struct disk *d, uint64_t op, enum tape_kind kind, const char *part)
{
    uint64_t last = 0;
    bool *meant = mem_array(d->count + 1, sizeof *meant); /* by file */
    for (uint64_t i = 0; i < op; i++) {
        const struct step *s = &d->steps[i];
        if (s->kind == TAPE_CREATE)
            meant[s->file] = strstr(s->name, part) != NULL;
        if (s->kind == kind && s->file != NO_FILE && meant[s->file])
            last = i;
    }
    mem_free(meant);
    return last;
}

uint64_t disk_first(const struct disk *d, enum tape_kind kind, const char *name)
{
    for (uint64_t i = 0; i < d->count; i++)
        if (d->steps[i].kind == kind && strcmp(d->steps[i].name, name) == 0)
            return i;
    return UINT64_MAX;
}

/* ---------------------------------------------------------------- names */

struct name { char text[NAME_BYTES]; uint32_t file; };
struct names { struct name *at; size_t n; };

static void parent_of(const char *name, char parent[NAME_BYTES])
{
    const char *slash = strrchr(name, '/');
    snprintf(parent, NAME_BYTES, "%.*s", slash != NULL ? (int)(slash - name) : 0, name);
}

static struct name *find(struct names *n, const char *text)
{
    for (size_t i = 0; i < n->n; i++)
        if (strcmp(n->at[i].text, text) == 0)
            return &n->at[i];
    return NULL;
}

static void set(struct names *n, const char *text, uint32_t file)
{
    struct name *x = find(n, text);
    if (x == NULL && n->n == NAMES_MAX)
        die("too many names, with", text);
    if (x == NULL)
        x = &n->at[n->n++];
    snprintf(x->text, sizeof x->text, "%s", text);
    x->file = file;
}

static void drop(struct names *n, const char *text)
{
    struct name *x = find(n, text);
    if (x != NULL)
        *x = n->at[--n->n];
}

static void change(struct names *n, const struct step *s, uint32_t renamed)
{
    if (s->kind == TAPE_CREATE)
        set(n, s->name, s->file);
    if (s->kind == TAPE_REMOVE || s->kind == TAPE_RENAME)
        drop(n, s->name);
    if (s->kind == TAPE_RENAME && renamed != NO_FILE)
        set(n, s->to, renamed);
}

static bool changes_names(const struct step *s)
{
    return s->kind == TAPE_CREATE || s->kind == TAPE_RENAME || s->kind == TAPE_REMOVE;
}

/* Up to where the names of a directory are on the disk: the begin of its last sync that ended. */
static uint64_t names_synced(const struct disk *d, const struct disk_cut *cut, const char *dir)
{
    for (uint64_t i = cut->lying_names ? 0 : cut->at; i > 0; i--) {
        const struct step *s = &d->steps[i - 1];
        if (s->kind == TAPE_SYNC_END && d->steps[s->at].kind == TAPE_DIR_SYNC_BEGIN && strcmp(d->steps[s->at].name, dir) == 0)
            return s->at;
    }
    return 0;
}

struct dirs { char name[DIRS_MAX][NAME_BYTES]; uint64_t synced[DIRS_MAX]; size_t n; };

static uint64_t synced_of(const struct disk *d, const struct disk_cut *cut, struct dirs *known, const char *name)
{
    char dir[NAME_BYTES];
    parent_of(name, dir);
    size_t i = 0;
    while (i < known->n && strcmp(known->name[i], dir) != 0)
        i++;
    if (i == known->n) {
        if (known->n++ == DIRS_MAX)
            die("too many directories, with", dir);
        snprintf(known->name[i], NAME_BYTES, "%s", dir);
        known->synced[i] = names_synced(d, cut, dir);
    }
    return known->synced[i];
}

/* Of so many changes that are not synced, how many are kept. */
static uint64_t kept_names(const struct disk_cut *cut, struct rng *rng, uint64_t pending)
{
    return cut->names == NAMES_NONE ? 0 : cut->names == NAMES_ALL ? pending : rng_below(rng, pending + 1);
}

/* `all` is what the names really were, for renames. */
static void names_at(const struct disk *d, const struct disk_cut *cut, struct rng *rng, struct names *out)
{
    struct names all = {.at = mem_array(NAMES_MAX, sizeof *all.at)};
    struct dirs dirs = {.n = 0};
    uint64_t pending = 0;
    for (uint64_t i = 0; i < cut->at; i++)
        pending += changes_names(&d->steps[i]) && i >= synced_of(d, cut, &dirs, d->steps[i].name);
    uint64_t kept = kept_names(cut, rng, pending);
    for (uint64_t i = 0; i < cut->at; i++) {
        const struct step *s = &d->steps[i];
        if (!changes_names(s))
            continue;
        const struct name *x = s->kind == TAPE_RENAME ? find(&all, s->name) : NULL;
        uint32_t renamed = x != NULL ? x->file : NO_FILE;
        change(&all, s, renamed);
        bool synced = i < synced_of(d, cut, &dirs, s->name);
        if (synced || kept > 0)
            change(out, s, renamed);
        kept -= !synced && kept > 0;
    }
    mem_free(all.at);
}

/* ---------------------------------------------------------------- bytes */

struct content { uint8_t *data; size_t size, cap; };

static void resize(struct content *c, size_t size)
{
    if (size > c->cap) {
        c->cap = size * 2;
        c->data = mem_realloc(c->data, c->cap);
    }
    if (size > c->size)
        memset(c->data + c->size, 0, size - c->size);
    c->size = size;
}

/* `part`: so many of its bytes. */
static void apply(struct content *c, const struct step *s, size_t part)
{
    if (s->kind == TAPE_RESIZE) {
        resize(c, s->at);
    } else if (s->kind == TAPE_WRITE && part > 0) {
        if (s->at + part > c->size)
            resize(c, s->at + part);
        memcpy(c->data + s->at, s->data, part);
    }
}

static struct content copy_of(const struct content *c)
{
    struct content x = {0};
    resize(&x, c->size);
    if (c->size > 0)
        memcpy(x.data, c->data, c->size);
    return x;
}

static size_t torn_at(const struct step *s, struct rng *rng)
{
    uint64_t part = rng_below(rng, s->size);
    if (rng_chance(rng, 1, 2)) { /* at the end of a sector, where there is one in it */
        uint64_t sector = (s->at + part) / SECTOR * SECTOR;
        part = sector > s->at ? sector - s->at : 0;
    }
    return (size_t)part;
}

/* Some of the sectors that changed are as they were. */
static void mix_sectors(struct content *now, const struct content *before, struct rng *rng)
{
    for (size_t at = 0; at < now->size; at += SECTOR) {
        size_t size = now->size - at < SECTOR ? now->size - at : SECTOR;
        size_t old = before->size > at ? (before->size - at < size ? before->size - at : size) : 0;
        if (old == size && memcmp(now->data + at, before->data + at, size) == 0)
            continue;
        if (rng_chance(rng, 1, 2))
            continue;
        if (old > 0)
            memcpy(now->data + at, before->data + at, old);
        memset(now->data + at + old, 0, size - old);
    }
}

static struct content content_at(const struct disk *d, const struct disk_cut *cut, struct rng *rng, uint32_t file)
{
    struct content c = {0};
    uint64_t synced = 0, later = 0;
    for (uint64_t i = 0; i < cut->at && !cut->lying_files; i++)
        if (d->steps[i].file == file && d->steps[i].kind == TAPE_SYNC_END)
            synced = d->steps[i].at;
    for (uint64_t i = 0; i < cut->at; i++) {
        if (d->steps[i].file != file)
            continue;
        if (i < synced)
            apply(&c, &d->steps[i], d->steps[i].size);
        else
            later += d->steps[i].kind == TAPE_WRITE || d->steps[i].kind == TAPE_RESIZE;
    }
    if (later == 0 || cut->bytes == BYTES_NONE || (cut->bytes == BYTES_FILES && rng_chance(rng, 1, 2)))
        return c;
    struct content before = copy_of(&c);
    uint64_t whole = cut->bytes == BYTES_FIRST ? rng_below(rng, later) : later;
    for (uint64_t i = synced; i < cut->at; i++) {
        const struct step *s = &d->steps[i];
        if (s->file != file || (s->kind != TAPE_WRITE && s->kind != TAPE_RESIZE))
            continue;
        if (whole == 0) {
            if (s->kind == TAPE_WRITE)
                apply(&c, s, torn_at(s, rng));
            break;
        }
        apply(&c, s, s->size);
        whole--;
    }
    if (cut->bytes == BYTES_SECTORS)
        mix_sectors(&c, &before, rng);
    mem_free(before.data);
    return c;
}

/* ---------------------------------------------------------------- laid out */

static void write_file(const char *path, const struct content *c)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, c->data, c->size) != (ssize_t)c->size)
        die("cannot write", path);
    close(fd);
}

static int by_length(const void *a, const void *b)
{
    size_t x = strlen(((const struct name *)a)->text), y = strlen(((const struct name *)b)->text);
    return x < y ? -1 : x > y;
}

static bool parent_is_there(struct names *n, const char *name)
{
    char dir[NAME_BYTES];
    parent_of(name, dir);
    return dir[0] == '\0' || find(n, dir) != NULL;
}

void disk_lay_out(const struct disk *d, const struct disk_cut *cut, const char *path)
{
    struct rng rng;
    struct names names = {.at = mem_array(NAMES_MAX, sizeof *names.at)};
    rng_seed(&rng, cut->seed);
    names_at(d, cut, &rng, &names);
    qsort(names.at, names.n, sizeof *names.at, by_length); /* directories first */
    for (size_t i = 0; i < names.n; i++) {
        char full[512];
        snprintf(full, sizeof full, "%s/%s", path, names.at[i].text);
        if (!parent_is_there(&names, names.at[i].text))
            continue;
        if (d->is_dir[names.at[i].file]) {
            if (mkdir(full, 0700) != 0)
                die("cannot make", full);
            continue;
        }
        struct content c = content_at(d, cut, &rng, names.at[i].file);
        write_file(full, &c);
        mem_free(c.data);
    }
    mem_free(names.at);
}

/* ---------------------------------------------------------------- whether the recording tells the truth */

static bool holds(const char *path, const struct content *c)
{
    struct content there = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return false;
    resize(&there, (size_t)st.st_size);
    bool same = read(fd, there.data, there.size) == (ssize_t)there.size && there.size == c->size &&
                (c->size == 0 || memcmp(there.data, c->data, c->size) == 0);
    close(fd);
    mem_free(there.data);
    return same;
}

const char *disk_differs(const struct disk *d, const char *path)
{
    static char found[NAME_BYTES];
    struct rng rng;
    struct names names = {.at = mem_array(NAMES_MAX, sizeof *names.at)};
    const struct disk_cut cut = {.at = d->count, .names = NAMES_ALL, .bytes = BYTES_ALL};
    rng_seed(&rng, 0);
    names_at(d, &cut, &rng, &names);
    found[0] = '\0';
    for (size_t i = 0; i < names.n && found[0] == '\0'; i++) {
        char full[512];
        snprintf(full, sizeof full, "%s/%s", path, names.at[i].text);
        if (d->is_dir[names.at[i].file])
            continue;
        struct content c = content_at(d, &cut, &rng, names.at[i].file);
        if (!holds(full, &c))
            snprintf(found, sizeof found, "%s", names.at[i].text);
        mem_free(c.data);
    }
    mem_free(names.at);
    return found[0] != '\0' ? found : NULL;
}
