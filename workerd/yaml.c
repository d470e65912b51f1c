#include "workerd/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "schemas/errors.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    DEPTH_MAX = 32,  /* of mappings in mappings */
    FIELDS_MAX = 64, /* of one mapping of a schema */
};

struct yaml_file {
    char *path;
    struct buf text;
    yaml_document_t document;
    bool loaded; /* there is a document to delete */
    struct err first; /* error */
    struct buf errors;
};

/* ---- reading ---- */

static int read_all(struct yaml_file *f, struct err *e)
{
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, E_CONFIG, "%s: %s", f->path, strerror(errno));
    ssize_t n;
    do {
        n = read(fd, buf_reserve(&f->text, 65536), 65536);
        if (n > 0)
            f->text.size += (size_t)n;
    } while ((n > 0 && f->text.size <= FILE_BYTES_MAX) || (n < 0 && errno == EINTR));
    int failed = n < 0 ? errno : 0;
    close(fd);
    if (failed != 0)
        return err_set(e, E_CONFIG, "%s: %s", f->path, strerror(failed));
    if (f->text.size > FILE_BYTES_MAX)
        return err_set(e, E_CONFIG, "%s: larger than %d bytes", f->path, FILE_BYTES_MAX);
    return 0;
}

static int parser_error(struct yaml_file *f, const yaml_parser_t *parser, struct err *e)
{
    size_t line = (parser->error == YAML_READER_ERROR ? parser->mark.line : parser->problem_mark.line) + 1;
    return err_set(e, E_CONFIG, "%s:%zu: %s", f->path, line,
                   parser->problem != NULL ? parser->problem : "not YAML");
}

/* The events of the whole text: well formed, one document, and no aliases, with which a short text could
   mean a huge one. */
static int check_events(struct yaml_file *f, yaml_parser_t *parser, struct err *e)
{
    unsigned documents = 0;
    for (bool end = false; !end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return parser_error(f, parser, e);
        yaml_event_type_t type = event.type;
        size_t line = event.start_mark.line + 1;
        yaml_event_delete(&event);
        documents += type == YAML_DOCUMENT_START_EVENT;
        end = type == YAML_STREAM_END_EVENT;
        if (type == YAML_ALIAS_EVENT)
            return err_set(e, E_CONFIG, "%s:%zu: aliases are not supported", f->path, line);
        if (documents > 1)
            return err_set(e, E_CONFIG, "%s:%zu: a second document", f->path, line);
    }
    return documents == 1 ? 0 : err_set(e, E_CONFIG, "%s: empty", f->path);
}

static int with_parser(struct yaml_file *f,
                       int (*fn)(struct yaml_file *f, yaml_parser_t *parser, struct err *e), struct err *e)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return err_set(e, E_NO_MEMORY, "%s: no memory", f->path);
    yaml_parser_set_input_string(&parser, f->text.data, f->text.size);
    int code = fn(f, &parser, e);
    yaml_parser_delete(&parser);
    return code;
}

static int load_document(struct yaml_file *f, yaml_parser_t *parser, struct err *e)
{
    if (!yaml_parser_load(parser, &f->document))
        return parser_error(f, parser, e);
    f->loaded = true;
    return 0;
}

struct yaml_file *yaml_open(const char *path, struct err *e)
{
    struct yaml_file *f = mem_zalloc(sizeof *f);
    f->path = mem_strdup(path);
    if (read_all(f, e) == 0 && with_parser(f, check_events, e) == 0 && with_parser(f, load_document, e) == 0)
        return f;
    yaml_close(f);
    return NULL;
}

void yaml_close(struct yaml_file *f)
{
    if (f == NULL)
        return;
    if (f->loaded)
        yaml_document_delete(&f->document);
    buf_free(&f->text);
    buf_free(&f->errors);
    mem_free(f->path);
    mem_free(f);
}

/* ---- nodes ---- */

static const char *scalar(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

/* How many values are in a mapping or a sequence; 0 in a scalar. */
static size_t count_of(const yaml_node_t *n)
{
    if (n->type == YAML_MAPPING_NODE)
        return (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
    if (n->type == YAML_SEQUENCE_NODE)
        return (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
    return 0;
}

static yaml_node_t *value_at(struct yaml_file *f, const yaml_node_t *n, size_t i)
{
    bool mapping = n->type == YAML_MAPPING_NODE;
    int index = mapping ? n->data.mapping.pairs.start[i].value : n->data.sequence.items.start[i];
    return yaml_document_get_node(&f->document, index);
}

static yaml_node_t *key_at(struct yaml_file *f, const yaml_node_t *mapping, size_t i)
{
    return yaml_document_get_node(&f->document, mapping->data.mapping.pairs.start[i].key);
}

/* The value of a key, or NULL; `key_node` (may be NULL) gets where the key stands. */
static yaml_node_t *lookup(struct yaml_file *f, yaml_node_t *mapping, const char *key, yaml_node_t **key_node)
{
    if (mapping == NULL || mapping->type != YAML_MAPPING_NODE)
        return NULL;
    for (size_t i = 0; i < count_of(mapping); i++) {
        yaml_node_t *k = key_at(f, mapping, i);
        if (scalar(k) == NULL || strcmp(scalar(k), key) != 0)
            continue;
        if (key_node != NULL)
            *key_node = k;
        return value_at(f, mapping, i);
    }
    return NULL;
}

static yaml_node_t *entry_of(struct yaml_file *f, struct yaml_place at)
{
    yaml_node_t *top = yaml_document_get_root_node(&f->document);
    if (at.list == NULL)
        return top;
    yaml_node_t *list = lookup(f, top, at.list, NULL);
    if (list == NULL || list->type != YAML_SEQUENCE_NODE)
        return NULL;
    return at.index < count_of(list) ? value_at(f, list, at.index) : NULL;
}

/* ---- what is wrong ---- */

static int add_error(struct yaml_file *f, const struct err *e)
{
    if (f->errors.size == 0)
        f->first = *e;
    buf_putf(&f->errors, "%s\n", e->text);
    return E_CONFIG;
}

const char *yaml_errors(struct yaml_file *f, struct err *first)
{
    if (first != NULL)
        *first = f->first;
    return buf_str(&f->errors);
}

int yaml_blame(struct yaml_file *f, struct yaml_place at, const struct err *e)
{
    struct err whole = *e;
    yaml_node_t *where = entry_of(f, at);
    if (at.key != NULL)
        lookup(f, where, at.key, &where);
    err_prefix(&whole, "%s:%zu%s%s", f->path, where != NULL ? where->start_mark.line + 1 : 0,
               at.key != NULL ? ": " : "", at.key != NULL ? at.key : "");
    whole.code = E_CONFIG;
    return add_error(f, &whole);
}

/* ---- against a schema ---- */

PRINTF_LIKE(3, 4)
static int refuse(struct yaml_file *f, const yaml_node_t *at, const char *fmt, ...)
{
    struct err e;
    va_list args;
    va_start(args, fmt);
    err_vset(&e, E_CONFIG, fmt, args);
    va_end(args);
    err_prefix(&e, "%s:%zu", f->path, at->start_mark.line + 1);
    return add_error(f, &e);
}

static int unknown_key(struct yaml_file *f, const yaml_node_t *key, const cyaml_schema_field_t *fields)
{
    const char *names[FIELDS_MAX];
    size_t count = 0;
    for (; fields->key != NULL && count < FIELDS_MAX; fields++)
        names[count++] = fields->key;
    const char *near = nearest(scalar(key), names, count);
    if (near == NULL)
        return refuse(f, key, "unknown key '%s'", scalar(key));
    return refuse(f, key, "unknown key '%s'; did you mean '%s'?", scalar(key), near);
}

/* Of two codes the one that is none. */
static int either(int a, int b)
{
    return a != 0 ? a : b;
}

/* Keys are scalars and each is there once: true of all mappings, also of those that no schema describes. */
static int check_keys(struct yaml_file *f, yaml_node_t *mapping)
{
    int code = 0;
    for (size_t i = 0; i < count_of(mapping); i++) {
        yaml_node_t *key = key_at(f, mapping, i), *first = NULL;
        if (scalar(key) == NULL)
            return refuse(f, key, "a key must be one word");
        lookup(f, mapping, scalar(key), &first);
        if (first != key)
            code = refuse(f, key, "key '%s' is given twice", scalar(key));
    }
    return code;
}

static int check_any(struct yaml_file *f, yaml_node_t *n, unsigned depth)
{
    if (depth > DEPTH_MAX)
        return refuse(f, n, "nested deeper than %d levels", DEPTH_MAX);
    int code = n->type == YAML_MAPPING_NODE ? check_keys(f, n) : 0;
    for (size_t i = 0; i < count_of(n); i++)
        code = either(code, check_any(f, value_at(f, n, i), depth + 1));
    return code;
}

static int check_value(struct yaml_file *f, yaml_node_t *n, const char *name,
                       const cyaml_schema_value_t *schema);

static int check_mapping(struct yaml_file *f, yaml_node_t *n, const cyaml_schema_field_t *fields)
{
    int code = 0;
    for (size_t i = 0; i < count_of(n); i++) {
        yaml_node_t *key = key_at(f, n, i);
        const cyaml_schema_field_t *field = fields;
        while (field->key != NULL && strcmp(field->key, scalar(key)) != 0)
            field++;
        int wrong = field->key == NULL ? unknown_key(f, key, fields)
                                       : check_value(f, value_at(f, n, i), field->key, &field->value);
        code = either(code, wrong);
    }
    for (const cyaml_schema_field_t *field = fields; field->key != NULL; field++) {
        if ((field->value.flags & CYAML_FLAG_OPTIONAL) == 0 && lookup(f, n, field->key, NULL) == NULL)
            code = refuse(f, n, "key '%s' is missing", field->key);
    }
    return code;
}

static int check_value(struct yaml_file *f, yaml_node_t *n, const char *name,
                       const cyaml_schema_value_t *schema)
{
    int code = 0;
    switch (schema->type) {
    case CYAML_IGNORE:
        return 0;
    case CYAML_MAPPING:
        if (n->type != YAML_MAPPING_NODE)
            return refuse(f, n, "%s must be keys with values", name);
        return check_mapping(f, n, schema->mapping.fields);
    case CYAML_SEQUENCE:
        if (n->type != YAML_SEQUENCE_NODE)
            return refuse(f, n, "%s must be a list", name);
        for (size_t i = 0; i < count_of(n); i++)
            code = either(code, check_value(f, value_at(f, n, i), name, schema->sequence.entry));
        return code;
    default:
        return n->type == YAML_SCALAR_NODE ? 0 : refuse(f, n, "%s must be one value", name);
    }
}

static const cyaml_config_t quiet = {.mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS};

int yaml_load(struct yaml_file *f, const cyaml_schema_value_t *schema, void **out)
{
    yaml_node_t *top = yaml_document_get_root_node(&f->document);
    int code = check_any(f, top, 0);
    if (code == 0)
        code = check_value(f, top, "the file", schema);
    if (code != 0)
        return code;
    *out = NULL;
    cyaml_err_t failed = cyaml_load_data(f->text.data, f->text.size, &quiet, schema, out, NULL);
    return failed == CYAML_OK ? 0 : refuse(f, top, "%s", cyaml_strerror(failed));
}

void yaml_free(const cyaml_schema_value_t *schema, void *data)
{
    cyaml_free(&quiet, schema, data, 0);
}

/* ---- as JSON ---- */

static json_t *scalar_json(const yaml_node_t *n)
{
    const char *text = (const char *)n->data.scalar.value;
    size_t size = n->data.scalar.length;
    if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (size == 0 || strcmp(text, "~") == 0)
            return json_null();
        json_t *plain = json_loadb(text, size, JSON_DECODE_ANY, NULL);
        if (plain != NULL)
            return plain;
    }
    return json_stringn(text, size);
}

static json_t *node_json(struct yaml_file *f, const yaml_node_t *n)
{
    if (n->type == YAML_SCALAR_NODE)
        return scalar_json(n);
    bool mapping = n->type == YAML_MAPPING_NODE;
    json_t *json = mapping ? json_object() : json_array();
    for (size_t i = 0; i < count_of(n); i++) {
        json_t *value = node_json(f, value_at(f, n, i));
        if (mapping)
            json_object_set_new(json, scalar(key_at(f, n, i)), value);
        else
            json_array_append_new(json, value);
    }
    return json;
}

int yaml_json(struct yaml_file *f, struct yaml_place at, char **out)
{
    *out = NULL;
    yaml_node_t *n = at.key != NULL ? lookup(f, entry_of(f, at), at.key, NULL) : entry_of(f, at);
    if (n == NULL)
        return 0;
    json_t *json = node_json(f, n);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    if (text == NULL)
        return refuse(f, n, "this cannot be written as JSON");
    *out = mem_strdup(text);
    free(text);
    return 0;
}
