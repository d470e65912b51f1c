#include "broker/config.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "base/units.h"
#include "broker/config_file.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- the table */

/* Units as the limits name them. */
enum { CONFIG_count = CONFIG_COUNT, CONFIG_ms = CONFIG_MS, CONFIG_bytes = CONFIG_BYTES };

#define KEY(name, kind, field, help)                           \
    {                                                          \
        name, kind, offsetof(struct config, field), 0, 0, help \
    }

const struct config_key config_keys[] = {
    KEY("data", CONFIG_TEXT, data, "directory of the broker's data"),
    KEY("backup_dir", CONFIG_TEXT, backup_dir, "directory that backups are made in, on the file system of the data and not within it; empty: none are made"),
    KEY("listen", CONFIG_LIST, listen,
        "addresses for clients: tcp://, tls+tcp://, ipc://, inproc://; port 0 is any free one"),
    KEY("publish", CONFIG_LIST, publish, "addresses for hints; may be empty"),
    KEY("http", CONFIG_TEXT, http, "HOST:PORT of /livez, /readyz and /metrics; empty: none"),
    KEY("tls.cert", CONFIG_TEXT, tls_cert, "PEM file with the certificate and its chain"),
    KEY("tls.key", CONFIG_TEXT, tls_key, "PEM file with its key"),
    KEY("tls.ca", CONFIG_TEXT, tls_ca,
        "PEM file with the authority that signed the clients' certificates; empty: none is asked for"),
    KEY("log_level", CONFIG_TEXT, log_level, "debug, info, warn or error"),
#define L(group, name, unit, def, min, max, help) \
    {"limits." #name, (enum config_kind)CONFIG_##unit, offsetof(struct config, group.name), min, max, help},
#include "broker/every_limit.def"
#undef L
};
const size_t config_keys_n = ARRAY_LEN(config_keys);

static const struct broker_limits broker_limits_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "broker/limits.def"
#undef X
};

/* ---------------------------------------------------------------- life */

void config_init(struct config *c)
{
    *c = (struct config){.engine = engine_limits_default,
                         .wire = wire_bounds_default,
                         .http_limits = http_bounds_default,
                         .workers = workers_bounds_default,
                         .broker = broker_limits_default,
                         .backup_dir = mem_strdup(""),
                         .http = mem_strdup("127.0.0.1:7480"),
                         .tls_cert = mem_strdup(""),
                         .tls_key = mem_strdup(""),
                         .tls_ca = mem_strdup(""),
                         .log_level = mem_strdup("info")};
    bool replaced = false;
    config_add(&c->listen, "tcp://127.0.0.1:7400", &replaced);
    replaced = false;
    config_add(&c->publish, "tcp://127.0.0.1:7401", &replaced);
}

static void strings_clear(struct strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->at[i]);
    mem_free(s->at);
    *s = (struct strings){0};
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < config_keys_n; i++) {
        uint8_t *field = (uint8_t *)c + config_keys[i].offset;
        if (config_keys[i].kind == CONFIG_TEXT)
            mem_free(*(char **)(void *)field);
        else if (config_keys[i].kind == CONFIG_LIST)
            strings_clear((struct strings *)(void *)field);
    }
    *c = (struct config){0};
}

void config_add(struct strings *list, const char *value, bool *replaced)
{
    if (!*replaced)
        strings_clear(list);
    *replaced = true;
    list->at = mem_resize(list->at, list->n + 1, sizeof *list->at);
    list->at[list->n++] = mem_strdup(value);
}

/* ---------------------------------------------------------------- setting */

static const struct config_key *find(const char *name)
{
    for (size_t i = 0; i < config_keys_n; i++)
        if (strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

static int unknown(const char *name, struct err *e)
{
    const char *names[ARRAY_LEN(config_keys)];
    for (size_t i = 0; i < config_keys_n; i++)
        names[i] = config_keys[i].name;
    const char *near = nearest(name, names, config_keys_n);
    return near != NULL ? err_set(e, E_CONFIG, "unknown key '%s'; did you mean '%s'?", name, near)
                        : err_set(e, E_CONFIG, "unknown key '%s'; --print-config shows them all", name);
}

static void set_list(struct strings *list, const char *value)
{
    strings_clear(list);
    bool replaced = true;
    for (const char *at = value; *at != '\0';) {
        size_t n = strcspn(at, ",");
        char *one = mem_strndup(at, n);
        if (n > 0)
            config_add(list, one, &replaced);
        mem_free(one);
        at += n + (at[n] == ',');
    }
}

static int parse_number(const struct config_key *k, const char *value, uint64_t *out, struct err *e)
{
    switch (k->kind) {
    case CONFIG_MS:
        return duration_parse(value, out, e);
    case CONFIG_BYTES:
        return size_parse(value, out, e);
    default:
        return count_parse(value, k->min, k->max, out, e);
    }
}

static void format_number(const struct config_key *k, uint64_t n, char out[UNITS_TEXT_MAX])
{
    if (k->kind == CONFIG_MS)
        duration_format(out, n);
    else if (k->kind == CONFIG_BYTES)
        size_format(out, n);
    else
        snprintf(out, UNITS_TEXT_MAX, "%llu", (unsigned long long)n);
}

static int set_number(struct config *c, const struct config_key *k, const char *value, struct err *e)
{
    uint64_t n;
    if (parse_number(k, value, &n, e) != 0)
        return err_set(e, E_CONFIG, "%s: %s", k->name, e->text);
    if (n < k->min || n > k->max) {
        char min[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];
        format_number(k, k->min, min);
        format_number(k, k->max, max);
        return err_set(e, E_CONFIG, "%s: '%s' is out of range: %s to %s", k->name, value, min, max);
    }
    memcpy((uint8_t *)c + k->offset, &n, sizeof n);
    return E_OK;
}

int config_set_value(struct config *c, const char *name, const char *value, struct err *e)
{
    const struct config_key *k = find(name);
    if (k == NULL)
        return unknown(name, e);
    if (config_is_number(k))
        return set_number(c, k, value, e);
    void *field = (uint8_t *)c + k->offset;
    if (k->kind == CONFIG_LIST) {
        set_list(field, value);
    } else {
        mem_free(*(char **)field);
        *(char **)field = mem_strdup(value);
    }
    return E_OK;
}

int config_set(struct config *c, const char *setting, struct err *e)
{
    const char *equals = strchr(setting, '=');
    if (equals == NULL)
        return err_set(e, E_CONFIG, "'%s' is not key=value", setting);
    char *name = mem_strndup(setting, (size_t)(equals - setting));
    int code = config_set_value(c, name, equals + 1, e);
    mem_free(name);
    return code;
}

/* ---------------------------------------------------------------- the whole */

/* What a message of the largest size needs beside its own bytes: its frame, the columns of one record, the table of its blocks. */
enum { MESSAGE_OVERHEAD_BYTES = 64 << 10 };

uint64_t config_message_bytes_max(const struct config *c)
{
    uint64_t fits = c->wire.request_bytes_max - MESSAGE_OVERHEAD_BYTES;
    return fits < WIRE_MESSAGE_MAX ? fits : WIRE_MESSAGE_MAX;
}

struct wire_tls config_tls(const struct config *c)
{
    return (struct wire_tls){.cert = c->tls_cert[0] != '\0' ? c->tls_cert : NULL,
                             .key = c->tls_key[0] != '\0' ? c->tls_key : NULL,
                             .ca = c->tls_ca[0] != '\0' ? c->tls_ca : NULL};
}

static int check_addresses(const struct config *c, const char *key, const struct strings *list, struct err *e)
{
    const struct wire_tls tls = config_tls(c);
    for (size_t i = 0; i < list->n; i++)
        if (wire_check(list->at[i], &tls, e) != E_OK)
            return err_prefix(e, "%s", key);
    return E_OK;
}

/* A limit that is only good if another leaves room for it. */
static int check_room(const char *name, uint64_t value, const char *of, uint64_t need, struct err *e)
{
    char has[UNITS_TEXT_MAX], needs[UNITS_TEXT_MAX];
    if (value >= need)
        return E_OK;
    return err_set(e, E_CONFIG, "limits.%s is %s: with %s it must be at least %s", name,
                   size_format(has, value), of, size_format(needs, need));
}

static int check_limits(const struct config *c, struct err *e)
{
    const struct wire_bounds *w = &c->wire;
    int code = check_room("pipe_unread_bytes_max", w->pipe_unread_bytes_max, "limits.reply_bytes_max",
                          2 * c->engine.reply_bytes_max, e);
    if (code == E_OK)
        code = check_room("pipe_unread_bytes_max", w->pipe_unread_bytes_max, "limits.fetch_bytes_max",
                          2 * c->engine.fetch_bytes_max, e);
    if (code == E_OK)
        code = check_room("pipe_unread_bytes_max", w->pipe_unread_bytes_max, "limits.request_bytes_max",
                          2 * w->request_bytes_max, e);
    if (code == E_OK)
        code = check_room("unread_bytes_max", w->unread_bytes_max, "limits.pipe_unread_bytes_max",
                          w->pipe_unread_bytes_max, e);
    if (code == E_OK)
        code = check_room("inbox_bytes_max", c->broker.inbox_bytes_max, "limits.request_bytes_max",
                          w->request_bytes_max, e);
    return code;
}

/* Below the data it would be in every copy of them, and taken for theirs. By name only: what links lead to, nobody sees here. */
static int check_backup_dir(const struct config *c, struct err *e)
{
    const char *dir = c->backup_dir;
    size_t data = c->data != NULL ? strlen(c->data) : 0;
    if (dir[0] == '\0')
        return E_OK;
    if (dir[0] != '/')
        return err_set(e, E_CONFIG, "backup_dir: '%s' is no absolute path", dir);
    while (data > 1 && c->data[data - 1] == '/')
        data--;
    if (data > 0 && strncmp(dir, c->data, data) == 0 && (dir[data] == '/' || dir[data] == '\0'))
        return err_set(e, E_CONFIG, "backup_dir: '%s' is within the data directory, '%s'", dir, c->data);
    return E_OK;
}

int config_check(const struct config *c, bool need_data, struct err *e)
{
    enum log_level level;
    if (need_data && (c->data == NULL || c->data[0] == '\0'))
        return err_set(e, E_CONFIG, "no data directory: give --data DIR, or data: in the configuration file");
    if (c->listen.n == 0)
        return err_set(e, E_CONFIG, "listen: no address");
    if (log_level_parse(c->log_level, &level, e) != 0)
        return err_set(e, E_CONFIG, "log_level: %s", e->text);
    if (check_addresses(c, "listen", &c->listen, e) != E_OK ||
        check_addresses(c, "publish", &c->publish, e) != E_OK)
        return e->code;
    if (check_backup_dir(c, e) != E_OK)
        return e->code;
    return check_limits(c, e);
}

/* ---------------------------------------------------------------- showing */

uint64_t config_number(const struct config *c, const struct config_key *k)
{
    uint64_t n;
    memcpy(&n, (const uint8_t *)c + k->offset, sizeof n);
    return n;
}

/* A YAML string in single quotes, in which only they are special. */
static void put_quoted(struct buf *out, const char *text)
{
    buf_put_u8(out, '\'');
    for (; *text != '\0'; text++)
        buf_putf(out, *text == '\'' ? "''" : "%c", *text);
    buf_put_u8(out, '\'');
}

void config_value(const struct config *c, const struct config_key *k, struct buf *out)
{
    const void *field = (const uint8_t *)c + k->offset;
    if (config_is_number(k)) {
        char text[UNITS_TEXT_MAX];
        format_number(k, config_number(c, k), text);
        buf_putf(out, "%s", text);
    } else if (k->kind == CONFIG_LIST) {
        const struct strings *list = field;
        buf_putf(out, "[");
        for (size_t i = 0; i < list->n; i++) {
            buf_putf(out, i > 0 ? ", " : "");
            put_quoted(out, list->at[i]);
        }
        buf_putf(out, "]");
    } else {
        const char *text = *(char *const *)field;
        put_quoted(out, text != NULL ? text : "");
    }
}

/* Keys of one section stand together in the table: "tls.cert" is `cert` under `tls`. */
void config_print(const struct config *c, struct buf *out)
{
    char section[32] = "";
    for (size_t i = 0; i < config_keys_n; i++) {
        const struct config_key *k = &config_keys[i];
        const char *dot = strchr(k->name, '.');
        size_t n = dot != NULL ? (size_t)(dot - k->name) : 0;
        if (n > 0 && (strncmp(section, k->name, n) != 0 || section[n] != '\0'))
            buf_putf(out, "%.*s:\n", (int)n, k->name);
        snprintf(section, sizeof section, "%.*s", (int)n, k->name);
        buf_putf(out, "%s%s: ", n > 0 ? "  " : "", n > 0 ? dot + 1 : k->name);
        config_value(c, k, out);
        buf_putf(out, " # %s\n", k->help);
    }
}
