/*
 * The environment in which a command works on a message.
 */
#ifndef CLI_COMMAND_ENV_H
#define CLI_COMMAND_ENV_H

#include <sluice/sluice.h>

#include "base/buf.h"

/*
 * Appends "NAME=value" with closing zeros: SLUICE_BROKER, SLUICE_TOPIC, SLUICE_PARTITION, SLUICE_OFFSET, SLUICE_ATTEMPT, SLUICE_KEY if
 * there is a key, and SLUICE_HEADER_CONTENT_TYPE for a header "content-type": of headers that make one name the first counts. A
 * value that holds a zero cannot stand in an environment; it goes in base64, as NAME_BASE64.
 */
void put_message_env(struct buf *env, const char *broker, const struct sluice_delivery *d);

#endif
