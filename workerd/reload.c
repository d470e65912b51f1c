#include "workerd/reload.h"

#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- the configuration ---- */

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool refuse(const char *path, const char *handler, const char *what)
{
    log_error("reload refused: a restart is needed file=%s handler=%s changed=%s", LOG_STR(path), handler,
              what);
    return false;
}

static bool may_become(const char *path, const struct handler_config *was, const struct handler_config *is)
{
    if (strcmp(was->name, is->name) != 0)
        return refuse(path, was->name, "name");
    if (strcmp(was->topic, is->topic) != 0)
        return refuse(path, was->name, "topic");
    if (strcmp(was->group, is->group) != 0)
        return refuse(path, was->name, "group");
    if (was->lease_ms != is->lease_ms)
        return refuse(path, was->name, "lease");
    return true;
}

static bool may_replace(const char *path, const struct config *was, const struct config *is)
{
    if (!same(was->broker, is->broker))
        return refuse(path, "-", "broker");
    if (!same(was->name, is->name))
        return refuse(path, "-", "name");
    if (!same(was->http, is->http))
        return refuse(path, "-", "http");
    if (was->log_level != is->log_level)
        return refuse(path, "-", "log_level");
    if (was->memory_bytes_max != is->memory_bytes_max)
        return refuse(path, "-", "memory");
    if (was->handlers_n != is->handlers_n)
        return refuse(path, "-", "handlers");
    for (size_t i = 0; i < was->handlers_n; i++) {
        if (!may_become(path, &was->handlers[i], &is->handlers[i]))
            return false;
    }
    return true;
}

static void log_errors(struct buf *errors)
{
    for (const char *line = buf_str(errors), *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        struct log_text text;
        log_error("reload refused error=%s", log_value(&text, line, (size_t)(end - line)));
    }
}

struct config *reload_config(const char *path, const struct config *in_force)
{
    struct buf errors = {0};
    struct config *c = mem_zalloc(sizeof *c);
    bool good = config_load_all(path, c, &errors, NULL) == 0;
    if (!good)
        log_errors(&errors);
    buf_free(&errors);
    if (good && may_replace(path, in_force, c))
        return c;
    reload_free(c);
    return NULL;
}

void reload_free(struct config *c)
{
    if (c == NULL)
        return;
    config_free(c);
    mem_free(c);
}

/* ---- files ---- */

static bool mark(const char *path, struct file_mark *out)
{
    struct stat s;
    if (path == NULL || stat(path, &s) != 0) /* a command has no file */
        return false;
    *out = (struct file_mark){.device = s.st_dev,
                              .inode = s.st_ino,
                              .size = (uint64_t)s.st_size,
                              .changed_ns =
                                  (uint64_t)s.st_mtim.tv_sec * 1000000000 + (uint64_t)s.st_mtim.tv_nsec};
    return true;
}

static bool equal(const struct file_mark *a, const struct file_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_ns == b->changed_ns;
}

void file_watch_begin(struct file_watch *w, const char *path)
{
    *w = (struct file_watch){.known.device = 0};
    mark(path, &w->known);
    w->seen = w->known;
}

bool file_watch_look(struct file_watch *w, const char *path)
{
    struct file_mark now;
    if (!mark(path, &now))
        return false;
    bool rests = equal(&now, &w->seen), changed = !equal(&now, &w->known);
    w->seen = now;
    if (!rests || !changed)
        return false;
    w->known = now;
    return true;
}
