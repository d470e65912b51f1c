#include "cli/command_env.h"

#include <inttypes.h>
#include <string.h>

#include "cli/message.h"

static void put_env(struct buf *env, const char *name, struct sluice_bytes value)
{
    bool plain = value.size == 0 || memchr(value.data, '\0', value.size) == NULL;
    buf_putf(env, plain ? "%s=" : "%s_BASE64=", name);
    if (plain)
        buf_append(env, value.data, value.size);
    else
        put_base64(env, value.data, value.size);
    buf_put_u8(env, '\0');
}

static bool has_env(const struct buf *env, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = (const char *)env->data, *end = at + env->size; at < end; at += strlen(at) + 1) {
        if (strncmp(at, name, size) == 0 && (at[size] == '=' || strncmp(at + size, "_BASE64=", 8) == 0))
            return true;
    }
    return false;
}

static void put_header_env(struct buf *env, struct sluice_bytes name, struct sluice_bytes value)
{
    const uint8_t *bytes = name.data;
    struct buf variable = {0};
    buf_putf(&variable, "SLUICE_HEADER_");
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = bytes[i];
        bool lower = c >= 'a' && c <= 'z', plain = lower || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        buf_put_u8(&variable, lower ? (uint8_t)(c - 32) : plain ? c : '_');
    }
    if (!has_env(env, buf_str(&variable)))
        put_env(env, buf_str(&variable), value);
    buf_free(&variable);
}

void put_message_env(struct buf *env, const char *broker, const struct sluice_delivery *d)
{
    buf_putf(env, "SLUICE_BROKER=%s%c", broker, '\0');
    buf_putf(env, "SLUICE_TOPIC=%s%c", d->topic, '\0');
    buf_putf(env, "SLUICE_PARTITION=%" PRIu32 "%c", d->partition, '\0');
    buf_putf(env, "SLUICE_OFFSET=%" PRIu64 "%c", d->offset, '\0');
    buf_putf(env, "SLUICE_ATTEMPT=%" PRIu32 "%c", d->attempt, '\0');
    if (d->key.data != NULL)
        put_env(env, "SLUICE_KEY", d->key);
    struct sluice_bytes name, value;
    for (size_t pos = 0; sluice_header_next(d, &pos, &name, &value);)
        put_header_env(env, name, value);
}
