/*
 * A message as people and programs see it: JSON, a format of the user's, bytes in base64.
 */
#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include <jansson.h>
#include <sluice/sluice.h>

#include "base/buf.h"
#include "base/err.h"

/*
 * {topic, partition, offset, key, value, headers, timestamp_ms, attempt}. A key or value that is absent is null, one that is not
 * UTF-8 stands in key_base64 or value_base64 instead. `headers` maps names to strings, or to {"base64": ...}; a name that comes more
 * than once has an array of them. The caller owns the object.
 */
json_t *message_json(const struct sluice_delivery *d);

/* A format: text with %t %p %o %k %v %h %T %a %% and the escapes of `unescape`. */
struct format {
    struct buf text; /* pieces of plain text, one behind the other */
    struct piece {
        char what;   /* the letter behind %, or 0: plain text */
        size_t size; /* of the plain text */
    } * pieces;
    size_t count;
};

/* Returns 0, or STATUS_USAGE with a text. format_free is called either way. */
int format_parse(struct format *f, const char *text, struct err *e);
void format_free(struct format *f);

/* Appends the message in this format. */
void format_put(const struct format *f, const struct sluice_delivery *d, struct buf *to);

/* Reads over one escape that begins at `*at` with a backslash: \n \t \r \0 \\ \xHH. False if it is none. */
bool unescape(const char **at, uint8_t *byte);

/* What of a log is missing, as an object. */
json_t *gap_json(const struct sluice_gap *g);

/* The bytes as a JSON string, or NULL if they are not UTF-8; null if absent. */
json_t *utf8_json(struct sluice_bytes b);

#endif
