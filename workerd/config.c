#include "workerd/config.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/macros.h"
#include "base/mem.h"
#include "base/units.h"
#include "schemas/errors.h"
#include "web/listen.h"
#include "workerd/yaml.h"

enum { HOUR_MS = 3600 * 1000 };
#define MIB (UINT64_C(1) << 20)

/*
 * Every key with one value: what it is, default, range (ms, bytes). A key without a default must be given;
 * with NULL it may be left out and the member stays NULL.
 *
 *     X(key, member of the config, kind, presence, default, min, max)
 */
#define TOP_KEYS(X)                                           \
    X(broker, broker, TEXT, OPTIONAL, NULL, 0, 0)             \
    X(name, name, TEXT, OPTIONAL, NULL, 0, 0)                 \
    X(http, http, ADDRESS, OPTIONAL, NULL, 0, 0)              \
    X(log_level, log_level, LEVEL, OPTIONAL, "info", 0, 0)    \
    X(reload_on_change, reload_on_change, SWITCH, OPTIONAL, "off", 0, 0) \
    X(grace, grace_ms, DURATION, OPTIONAL, "20s", 0, HOUR_MS) \
    X(memory, memory_bytes_max, SIZE, OPTIONAL, "256MiB", MIB, MIB << 20)

/* A lease shorter than a second would be over before it is extended. */
#define HANDLER_KEYS(X)                                                                     \
    X(name, name, NAME, DEFAULT, NULL, 0, 0)                                                \
    X(file, file, TEXT, OPTIONAL, NULL, 0, 0)                                               \
    X(topic, topic, NAME, DEFAULT, NULL, 0, 0)                                              \
    X(group, group, NAME, OPTIONAL, NULL, 0, 0)                                             \
    X(processes, processes, COUNT, OPTIONAL, "1", 1, CONFIG_PROCESSES_MAX)                  \
    X(processes_min, processes_min, COUNT, OPTIONAL, "1", 0, CONFIG_PROCESSES_MAX)          \
    X(processes_max, processes_max, COUNT, OPTIONAL, "1", 1, CONFIG_PROCESSES_MAX)          \
    X(target_drain, target_drain_ms, DURATION, OPTIONAL, "30s", 100, 24 * HOUR_MS)          \
    X(scale_down_after, scale_down_after_ms, DURATION, OPTIONAL, "30s", 1000, 24 * HOUR_MS) \
    X(threads, threads, COUNT, OPTIONAL, "1", 1, CONFIG_THREADS_MAX)                        \
    X(pipeline, pipeline, COUNT, OPTIONAL, "8", 1, CONFIG_PIPELINE_MAX)                     \
    X(timeout, timeout_ms, DURATION, OPTIONAL, "30s", 10, 12 * HOUR_MS)                     \
    X(lease, lease_ms, DURATION, OPTIONAL, "30s", 1000, 12 * HOUR_MS)                       \
    X(breaker, breaker.on, SWITCH, OPTIONAL, "on", 0, 0)                                    \
    X(breaker_window, breaker.window, COUNT, OPTIONAL, "20", 2, BREAKER_WINDOW_MAX)         \
    X(breaker_percent, breaker.percent, COUNT, OPTIONAL, "80", 1, 100)                      \
    X(breaker_pause, breaker.pause_ms, DURATION, OPTIONAL, "5s", 10, HOUR_MS)               \
    X(breaker_pause_max, breaker.pause_ms_max, DURATION, OPTIONAL, "1m", 10, 12 * HOUR_MS)  \
    X(canary, canary_percent, COUNT, OPTIONAL, "0", 0, 99)                                  \
    X(canary_time, canary_ms, DURATION, OPTIONAL, "1m", 100, 24 * HOUR_MS)                           \
    X(memory, jail.memory_bytes, SIZE, OPTIONAL, "2GiB", 32 * MIB, MIB << 20)               \
    X(cpu_time, jail.cpu_ms, DURATION, OPTIONAL, NULL, 1000, 12 * HOUR_MS)                  \
    X(open_files, jail.open_files, COUNT, OPTIONAL, "1024", 16, 1 << 20)                    \
    X(file_size, jail.file_bytes, SIZE, OPTIONAL, NULL, 1024, MIB << 20)                    \
    X(processes_limit, jail.tasks, COUNT, OPTIONAL, "512", 4, 1 << 15)                      \
    X(user, jail.user, USER, OPTIONAL, NULL, 0, 0)                                          \
    X(seccomp, jail.profile, PROFILE, OPTIONAL, "default", 0, 0)                            \
    X(batch_max, batch.max, COUNT, OPTIONAL, "100", 1, CONFIG_BATCH_MAX)                    \
    X(batch_bytes, batch.bytes, SIZE, OPTIONAL, "1MiB", 1, MIB << 6)                        \
    X(batch_window, batch.window_ms, DURATION, OPTIONAL, "0ms", 0, 60000)

/* ---- the file as libcyaml loads it: every value a string ---- */

#define MEMBER(key, member, kind, presence, otherwise, min, max) char *key;
struct raw_handler {
    HANDLER_KEYS(MEMBER)
};
struct raw {
    TOP_KEYS(MEMBER)
    struct raw_handler *handlers;
    unsigned handlers_count;
};
#undef MEMBER

#define FIELD(of, key, presence)                                                                \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER | CYAML_FLAG_##presence, struct of, key, 0, \
                           CYAML_UNLIMITED)
#define HANDLER_FIELD(key, member, kind, presence, otherwise, min, max) FIELD(raw_handler, key, presence),
#define TOP_FIELD(key, member, kind, presence, otherwise, min, max) FIELD(raw, key, presence),

static const cyaml_schema_field_t handler_fields[] = {
    HANDLER_KEYS(HANDLER_FIELD) CYAML_FIELD_IGNORE("exec", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_IGNORE("config", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t handler_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_handler, handler_fields),
};

static const cyaml_schema_field_t top_fields[] = {
    TOP_KEYS(TOP_FIELD) CYAML_FIELD_SEQUENCE("handlers", CYAML_FLAG_POINTER, struct raw, handlers,
                                             &handler_schema, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t top_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, top_fields),
};

/* ---- from the string to the value ---- */

enum kind { TEXT, NAME, ADDRESS, USER, LEVEL, SWITCH, PROFILE, COUNT, DURATION, SIZE };

struct key {
    const char *name;
    enum kind kind;
    const char *otherwise;
    uint64_t min, max;
    size_t from, to; /* places in the raw struct and in the checked one */
};

#define KEY(raw_type, type, key, member, kind, otherwise, min, max) \
    {#key, kind, otherwise, min, max, offsetof(raw_type, key), offsetof(type, member)},
#define TOP_KEY(key, member, kind, presence, otherwise, min, max) \
    KEY(struct raw, struct config, key, member, kind, otherwise, min, max)
#define HANDLER_KEY(key, member, kind, presence, otherwise, min, max) \
    KEY(struct raw_handler, struct handler_config, key, member, kind, otherwise, min, max)

static const struct key top_keys[] = {TOP_KEYS(TOP_KEY)};
static const struct key handler_keys[] = {HANDLER_KEYS(HANDLER_KEY)};

static int out_of_range(const struct key *k, const char *text, struct err *e)
{
    char least[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];
    char *(*format)(char *, uint64_t) = k->kind == SIZE ? size_format : duration_format;
    return err_set(e, E_CONFIG, "'%s' is not between %s and %s", text, format(least, k->min),
                   format(most, k->max));
}

static int take_value(const struct key *k, const char *text, void *to, struct err *e)
{
    uint64_t n = 0;
    if (text == NULL && k->kind >= COUNT)
        return 0; /* no limit */
    switch (k->kind) {
    case NAME:
    case USER:
    case TEXT:
    case ADDRESS:
        *(char **)to = mem_strdup(text);
        if (text != NULL && text[0] == '\0')
            return err_set(e, E_CONFIG, "a value is needed");
        if (k->kind == USER && text != NULL)
            return jail_user_check(text, e);
        if (k->kind == ADDRESS && text != NULL)
            return web_address_check(text, e);
        return k->kind == NAME && text != NULL ? name_check(k->name, view_of_str(text), e) : 0;
    case LEVEL:
        return log_level_parse(text, to, e);
    case SWITCH:
        *(bool *)to = strcmp(text, "on") == 0;
        if (!*(bool *)to && strcmp(text, "off") != 0)
            return err_set(e, E_CONFIG, "'%s' is neither on nor off", text);
        return 0;
    case PROFILE:
        return jail_profile_parse(text, to, e);
    case COUNT:
        if (count_parse(text, k->min, k->max, &n, e) != 0)
            return E_CONFIG;
        *(uint32_t *)to = (uint32_t)n;
        return 0;
    case DURATION:
        if (duration_parse(text, &n, e) != 0)
            return E_CONFIG;
        *(uint32_t *)to = (uint32_t)n;
        break;
    case SIZE:
        if (size_parse(text, &n, e) != 0)
            return E_CONFIG;
        *(uint64_t *)to = n;
        break;
    }
    return n < k->min || n > k->max ? out_of_range(k, text, e) : 0;
}

static int take_keys(const struct key *keys, size_t count, struct yaml_file *f, struct yaml_place at,
                     const void *raw, void *out)
{
    int code = 0;
    for (size_t i = 0; i < count; i++) {
        const struct key *k = &keys[i];
        const char *text = *(char *const *)((const char *)raw + k->from);
        struct err e;
        at.key = k->name;
        if (take_value(k, text != NULL ? text : k->otherwise, (char *)out + k->to, &e) != 0)
            code = yaml_blame(f, at, &e);
    }
    return code;
}

PRINTF_LIKE(3, 4)
static int blame(struct yaml_file *f, struct yaml_place at, const char *fmt, ...)
{
    struct err e;
    va_list args;
    va_start(args, fmt);
    err_vset(&e, E_CONFIG, fmt, args);
    va_end(args);
    return yaml_blame(f, at, &e);
}

/* ---- one handler ---- */

/* Paths are relative to the directory of the configuration file, so that it does not matter where the
   daemon is started. */
static char *directory_of(const char *config_path)
{
    char whole[PATH_MAX];
    if (realpath(config_path, whole) == NULL)
        return mem_strdup(".");
    char *slash = strrchr(whole, '/');
    slash[slash == whole ? 1 : 0] = '\0';
    return mem_strdup(whole);
}

static void resolve(char **file, const char *dir)
{
    char whole[PATH_MAX];
    if (*file == NULL || (*file)[0] == '/' ||
        snprintf(whole, sizeof whole, "%s/%s", dir, *file) >= (int)sizeof whole)
        return;
    mem_free(*file);
    *file = mem_strdup(whole);
}

static int put_word(struct buf *words, const json_t *word, struct err *e)
{
    const char *text = json_string_value(word);
    if (text != NULL)
        buf_append(words, text, strlen(text));
    else if (json_is_integer(word))
        buf_putf(words, "%lld", (long long)json_integer_value(word));
    else
        return err_set(e, E_CONFIG, "must be a line for the shell or a list of words; quote what looks like something else");
    buf_put_u8(words, '\0');
    return 0;
}

/* A line for the shell, or a list of words: words either way. */
static int put_words(struct buf *words, const json_t *exec, struct err *e)
{
    static const char shell[] = "/bin/sh\0-c";
    const char *first = json_string_value(json_is_array(exec) ? json_array_get(exec, 0) : exec);
    if (json_is_array(exec) ? json_array_size(exec) == 0 : first != NULL && first[0] == '\0')
        return err_set(e, E_CONFIG, "a value is needed");
    if (!json_is_array(exec)) {
        buf_append(words, shell, sizeof shell);
        return put_word(words, exec, e);
    }
    for (size_t i = 0; i < json_array_size(exec); i++) {
        if (put_word(words, json_array_get(exec, i), e) != 0)
            return E_CONFIG;
    }
    return words->data[0] != '\0' ? 0 : err_set(e, E_CONFIG, "its first word is empty");
}

static int take_exec(struct handler_config *h, struct yaml_file *f, struct yaml_place at)
{
    char *text;
    struct buf words = {0};
    struct err e;
    at.key = "exec";
    if (yaml_json(f, at, &text) != 0)
        return E_CONFIG;
    if ((text == NULL) == (h->file == NULL)) {
        at.key = text == NULL ? NULL : "exec";
        mem_free(text);
        return blame(f, at, "one of 'file' and 'exec' is needed, and not both");
    }
    if (text == NULL)
        return 0;
    json_t *exec = json_loads(text, JSON_DECODE_ANY, NULL);
    int code = put_words(&words, exec, &e);
    json_decref(exec);
    mem_free(text);
    if (code == 0) {
        h->exec_size = words.size;
        h->exec = mem_dup(words.data, words.size);
    }
    buf_free(&words);
    return code != 0 ? yaml_blame(f, at, &e) : 0;
}

/* The free mapping `config`, for the handler to read. */
static int take_free(struct handler_config *h, struct yaml_file *f, struct yaml_place at)
{
    at.key = "config";
    if (yaml_json(f, at, &h->config) != 0)
        return E_CONFIG;
    if (h->config == NULL || strcmp(h->config, "null") == 0) {
        mem_free(h->config);
        h->config = mem_strdup("{}");
    }
    if (h->config[0] == '{')
        return 0;
    return blame(f, at, "must be keys with values");
}

/* Either a number of processes or a range. */
static int take_range(struct handler_config *h, const struct raw_handler *raw, struct yaml_file *f,
                      struct yaml_place at)
{
    if (raw->processes_min == NULL && raw->processes_max == NULL) {
        h->processes_min = h->processes_max = 0;
        return 0;
    }
    at.key = raw->processes_max != NULL ? "processes_max" : "processes_min";
    if (raw->processes != NULL)
        return blame(f, at, "there is 'processes' already, which is a fixed number");
    if (raw->processes_max == NULL)
        return blame(f, at, "'processes_max' is needed too");
    if (h->processes_min > h->processes_max)
        return blame(f, at, "less than processes_min, which is %u", h->processes_min);
    return 0;
}

static int check_pauses(const struct handler_config *h, struct yaml_file *f, struct yaml_place at)
{
    at.key = "breaker_pause_max";
    if (h->breaker.pause_ms <= h->breaker.pause_ms_max)
        return 0;
    return blame(f, at, "shorter than breaker_pause");
}

static int check_profile(const struct handler_config *h, struct yaml_file *f, struct yaml_place at)
{
    at.key = "seccomp";
    if (h->exec == NULL || h->jail.profile != JAIL_STRICT)
        return 0;
    return blame(f, at, "under 'strict' no program can be started, and 'exec' is one; a handler with a 'file' can be strict");
}

/* What is bounded for each message must be one process's, or cannot be known apart. */
static int check_threads(const struct handler_config *h, struct yaml_file *f, struct yaml_place at)
{
    at.key = "threads";
    if (h->threads == 1)
        return 0;
    if (h->exec != NULL)
        return blame(f, at, "a command has a process for each message; 'processes' says how many run at once");
    if (h->jail.cpu_ms != 0)
        return blame(f, at, "with 'cpu_time' a process works on one message at a time, as its threads cannot be told apart; use 'processes'");
    if (h->jail.tasks > h->threads)
        return 0;
    at.key = "processes_limit";
    return blame(f, at, "a process with %u threads for its messages has %u", h->threads, h->threads + 1);
}

static int check_unique(const struct config *c, struct yaml_file *f, struct yaml_place at)
{
    at.key = "name";
    for (size_t i = 0; i < at.index; i++) {
        if (strcmp(c->handlers[i].name, c->handlers[at.index].name) == 0)
            return blame(f, at, "there is a handler '%s' already", c->handlers[i].name);
    }
    return 0;
}

static int take_handlers(struct config *c, const char *path, struct yaml_file *f, const struct raw *raw)
{
    int code = 0;
    if (raw->handlers_count < 1 || raw->handlers_count > CONFIG_HANDLERS_MAX)
        return blame(f, (struct yaml_place){.key = "handlers"}, "there are %u; 1 to %d can be",
                     raw->handlers_count, CONFIG_HANDLERS_MAX);
    c->handlers = mem_array(raw->handlers_count, sizeof *c->handlers);
    struct yaml_place at = {.list = "handlers"};
    for (; at.index < raw->handlers_count; at.index++) {
        struct handler_config *h = &c->handlers[c->handlers_n++];
        bool bad = take_keys(handler_keys, ARRAY_LEN(handler_keys), f, at, &raw->handlers[at.index], h) != 0;
        bad |= take_range(h, &raw->handlers[at.index], f, at) != 0;
        bad |= take_exec(h, f, at) != 0;
        bad |= take_free(h, f, at) != 0;
        bad |= check_unique(c, f, at) != 0;
        bad = bad || check_pauses(h, f, at) != 0;
        bad = bad || check_profile(h, f, at) != 0;
        bad = bad || check_threads(h, f, at) != 0;
        code = bad ? E_CONFIG : code;
        h->dir = directory_of(path);
        resolve(&h->file, h->dir);
        if (h->group == NULL)
            h->group = mem_strdup(h->name);
    }
    return code;
}

/* ---- the whole ---- */

/* All errors are the file's. */
static int take_file(struct config *c, const char *path, struct yaml_file *f)
{
    void *raw = NULL;
    int code = yaml_load(f, &top_schema, &raw);
    if (code == 0) {
        code = take_keys(top_keys, ARRAY_LEN(top_keys), f, (struct yaml_place){0}, raw, c);
        int handlers = take_handlers(c, path, f, raw);
        code = code != 0 ? code : handlers;
    }
    yaml_free(&top_schema, raw);
    return code;
}

int config_load_all(const char *path, struct config *out, struct buf *errors, struct err *first)
{
    struct err e;
    *out = (struct config){0};
    struct yaml_file *f = yaml_open(path, &e);
    if (f == NULL) {
        buf_putf(errors, "%s\n", e.text);
        if (first != NULL)
            *first = e;
        return E_CONFIG;
    }
    int code = take_file(out, path, f);
    if (code != 0) {
        buf_putf(errors, "%s", yaml_errors(f, first));
        config_free(out);
    }
    yaml_close(f);
    return code;
}

int config_load(const char *path, struct config *out, struct err *e)
{
    struct buf errors = {0};
    int code = config_load_all(path, out, &errors, e);
    buf_free(&errors);
    return code;
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < c->handlers_n; i++) {
        struct handler_config *h = &c->handlers[i];
        mem_free(h->name);
        mem_free(h->file);
        mem_free(h->exec);
        mem_free(h->dir);
        mem_free(h->topic);
        mem_free(h->group);
        mem_free(h->config);
        mem_free(h->jail.user);
    }
    mem_free(c->handlers);
    mem_free(c->broker);
    mem_free(c->name);
    mem_free(c->http);
    *c = (struct config){0};
}
