/*
 * Errors on their way to the user: a code, and a sentence that names the thing and helps.
 *
 * Every function here takes `err` NULL, returns the code it set, and may be called by any thread.
 */
#ifndef SDK_ERROR_H
#define SDK_ERROR_H

#include <sluice/sluice.h>

#include "base/err.h"
#include "base/macros.h"
#include "schemas/codec.h"
#include "schemas/errors.h"

/* The sentence alone is given. */
int fail(struct sluice_error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* "CONTEXT: what the layer below said". */
int fail_below(struct sluice_error *err, int code, const struct err *e, const char *context);

/* A copy of an error that was met elsewhere. */
int fail_same(struct sluice_error *err, const struct sluice_error *from);

/* What the broker refused: the table's text, what it was about (may be NULL), the broker's detail. */
int fail_reply(struct sluice_error *err, const struct wire_reply *reply, const char *about);

/* The two names that are asked for most, with the command that makes them. */
int fail_no_topic(struct sluice_error *err, const char *topic);
int fail_no_group(struct sluice_error *err, const char *topic, const char *group);

/*
 * A struct that the caller filled, as this library knows it: what an older caller does not have is zero. `least` is where the
 * struct ended in the first release. INVALID_ARGUMENT names a struct whose size was not set; UNSUPPORTED one with a field that
 * is newer than this library and not zero. `from` NULL gives all zero.
 */
int take_struct(void *to, size_t to_size, size_t least, const void *from, const char *name,
                struct sluice_error *err);

/* take_struct for `from` of type `struct NAME`, whose last field in the first release was LAST. */
#define TAKE_STRUCT(to, from, NAME, LAST, err)                                                              \
    take_struct((to), sizeof(struct NAME), offsetof(struct NAME, LAST) + sizeof((to)->LAST), (from), #NAME, \
                (err))

/* INVALID_ARGUMENT unless `name` is good for a topic or group; `what` is that noun. */
int check_name(const char *what, const char *name, struct sluice_error *err);

#endif
