/* The YAML file. libcyaml maps it onto a struct of strings, in which every key has its place: so a key that has none is refused
 * with its line, and what the strings mean stays in config.c. */
#include "broker/config_file.h"

#include <cyaml/cyaml.h>
#include <stdio.h>

#include "base/mem.h"
#include "broker/config.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- the shape of the file */

struct file_limits {
#define L(group, name, unit, def, min, max, help) char *name;
#include "broker/every_limit.def"
#undef L
};

struct file_tls {
    char *cert, *key, *ca;
};

struct file {
    char *data, *backup_dir, *http, *log_level;
    char **listen, **publish;
    unsigned listen_count, publish_count;
    struct file_tls *tls;
    struct file_limits *limits;
};

#define TEXT(type, name) \
    CYAML_FIELD_STRING_PTR(#name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, name, 0, CYAML_UNLIMITED)

static const cyaml_schema_field_t limits_fields[] = {
#define L(group, name, unit, def, min, max, help) TEXT(struct file_limits, name),
#include "broker/every_limit.def"
#undef L
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t tls_fields[] = {
    TEXT(struct file_tls, cert),
    TEXT(struct file_tls, key),
    TEXT(struct file_tls, ca),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t address = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

static const cyaml_schema_field_t file_fields[] = {
    TEXT(struct file, data),
    TEXT(struct file, backup_dir),
    TEXT(struct file, http),
    TEXT(struct file, log_level),
    CYAML_FIELD_SEQUENCE("listen", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file, listen, &address, 0,
                         CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE("publish", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file, publish, &address,
                         0, CYAML_UNLIMITED),
    CYAML_FIELD_MAPPING_PTR("tls", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file, tls, tls_fields),
    CYAML_FIELD_MAPPING_PTR("limits", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file, limits,
                            limits_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file, file_fields),
};

/* ---------------------------------------------------------------- what libcyaml complains about */

/* It says what is wrong to its log: first the complaint, then where, from the inside out. */
struct complaint {
    char text[160];
    char key[128];    /* of an unknown one */
    char section[32]; /* the innermost mapping field that it stands in */
    size_t line;
};

static void on_complaint(cyaml_log_t level, void *arg, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
static void on_complaint(cyaml_log_t level, void *arg, const char *fmt, va_list args)
{
    (void)level;
    struct complaint *c = arg;
    char text[160], field[32];
    size_t line;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    if (c->text[0] == '\0') {
        const char *said = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(c->text, sizeof c->text, "%s", said);
        sscanf(said, "Unexpected key: %127[^\n]", c->key);
    } else if (sscanf(text, " in mapping field '%31[^']' (line: %zu", field, &line) == 2 &&
               c->section[0] == '\0') {
        snprintf(c->section, sizeof c->section, "%s", field);
        c->line = c->line > 0 ? c->line : line;
    } else if (c->line == 0 && strchr(text, '(') != NULL &&
               sscanf(strchr(text, '('), "(line: %zu", &line) == 1) {
        c->line = line;
    }
}

/* The table knows the nearest key. */
static int refuse(struct config *c, const struct complaint *said, const char *why, struct err *e)
{
    char name[sizeof said->section + sizeof said->key + 1];
    if (said->key[0] == '\0')
        err_set(e, E_CONFIG, "%s", said->text[0] != '\0' ? said->text : why);
    else {
        snprintf(name, sizeof name, "%s%s%s", said->section, said->section[0] != '\0' ? "." : "", said->key);
        config_set_value(c, name, "", e);
    }
    return said->line > 0 ? err_prefix(e, "line %zu", said->line) : e->code;
}

/* ---------------------------------------------------------------- loading */

static int apply(struct config *c, const char *name, const char *value, struct err *e)
{
    return value != NULL ? config_set_value(c, name, value, e) : E_OK;
}

static void apply_list(struct strings *list, char **values, unsigned n)
{
    bool replaced = false;
    for (unsigned i = 0; values != NULL && i < n; i++)
        config_add(list, values[i], &replaced);
}

static int apply_file(struct config *c, const struct file *f, struct err *e)
{
    const struct file_tls no_tls = {0}, *t = f->tls != NULL ? f->tls : &no_tls;
    const struct file_limits no_limits = {0}, *l = f->limits != NULL ? f->limits : &no_limits;
    const char *const texts[][2] = {
        {"data", f->data},     {"http", f->http},   {"log_level", f->log_level}, {"backup_dir", f->backup_dir},
        {"tls.cert", t->cert}, {"tls.key", t->key}, {"tls.ca", t->ca},
#define L(group, name, unit, def, min, max, help) {"limits." #name, l->name},
#include "broker/every_limit.def"
#undef L
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (apply(c, texts[i][0], texts[i][1], e) != E_OK)
            return e->code;
    if (f->listen != NULL)
        apply_list(&c->listen, f->listen, f->listen_count);
    if (f->publish != NULL)
        apply_list(&c->publish, f->publish, f->publish_count);
    return E_OK;
}

int config_load(struct config *c, const char *path, struct err *e)
{
    struct complaint said = {.line = 0};
    const cyaml_config_t with = {
        .log_fn = on_complaint, .log_ctx = &said, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_WARNING};
    struct file *f = NULL;
    cyaml_err_t failed = cyaml_load_file(path, &with, &file_schema, (cyaml_data_t **)&f, NULL);
    int code = E_OK;
    if (failed != CYAML_OK)
        code = refuse(c, &said, cyaml_strerror(failed), e);
    else if (f != NULL)
        code = apply_file(c, f, e);
    cyaml_free(&with, &file_schema, f, 0);
    return code == E_OK ? E_OK : err_prefix(e, "%s", path);
}
