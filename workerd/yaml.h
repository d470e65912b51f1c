/*
 * A YAML file into structs: libcyaml with better manners.
 *
 * libcyaml loads by a schema of the caller, but says of a key it does not know only that it does not. So
 * the file is looked over first, by the same schema: a key that is unknown, given twice, or has a value of
 * the wrong kind is refused with its line and with the name that was probably meant. What is wrong is
 * gathered, so that who mends a file sees all of it at once. A field of type
 * CYAML_IGNORE may hold anything and is read with yaml_json.
 */
#ifndef WORKERD_YAML_H
#define WORKERD_YAML_H

#include <cyaml/cyaml.h>

#include "base/err.h"

struct yaml_file;

/* Reads a file of at most 1 MiB. Returns NULL with a text that begins with the path (and line). */
struct yaml_file *yaml_open(const char *path, struct err *e);
void yaml_close(struct yaml_file *f);

/* Loads by a schema whose top is a mapping. `*out` is freed with yaml_free. Returns 0, or CONFIG: see yaml_errors. */
int yaml_load(struct yaml_file *f, const cyaml_schema_value_t *schema, void **out);
void yaml_free(const cyaml_schema_value_t *schema, void *data);

/* A place in the file: `key` at the top, or in entry `index` of the sequence `list` at the top; without a
   key that entry. */
struct yaml_place {
    const char *list; /* NULL: at the top */
    size_t index;
    const char *key;
};

/* What stands there, as JSON; NULL if nothing does. Freed with mem_free. A plain scalar becomes null, a
   bool or a number if JSON would read it so, else a string. Returns 0, or CONFIG: see yaml_errors. */
int yaml_json(struct yaml_file *f, struct yaml_place at, char **out);

/* Adds an error of the caller's: "PATH:LINE: KEY: ", with the place's line and key, in front of its text. Returns CONFIG. */
int yaml_blame(struct yaml_file *f, struct yaml_place at, const struct err *e);

/* Everything that was found wrong so far, a line each; `first` (may be NULL) gets the first. */
const char *yaml_errors(struct yaml_file *f, struct err *first);

#endif
