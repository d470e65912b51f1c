/*
 * The environment in which a command works on a message.
 */
#ifndef EXEC_ENV_H
#define EXEC_ENV_H

#include "base/buf.h"

/* What is known of a message, all borrowed. */
struct exec_message {
    const char *topic, *group;
    uint32_t partition, attempt;
    uint64_t offset;
    struct view key;
};

/*
 * Appends "NAME=value" with closing zeros: SLUICE_TOPIC, SLUICE_GROUP, SLUICE_PARTITION, SLUICE_OFFSET, SLUICE_ATTEMPT,
 * SLUICE_IDEMPOTENCY_KEY ("topic/partition/offset/group": the same in every attempt), and SLUICE_KEY if there is a key. A value that
 * holds a zero cannot stand in an environment; it goes in base64, as NAME_BASE64.
 */
void env_put_message(struct buf *env, const struct exec_message *m);

/* The same for a header: SLUICE_HEADER_CONTENT_TYPE of one called "content-type". Of headers that make one name the first counts. */
void env_put_header(struct buf *env, struct view name, struct view value);

/* Whether a "NAME=value" is one of these, and left out of what a command inherits. */
bool env_is_about_message(const char *variable);

#endif
