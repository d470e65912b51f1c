#include "exec/env.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

static void put_env(struct buf *env, const char *name, struct view value)
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

void env_put_header(struct buf *env, struct view name, struct view value)
{
    struct buf variable = {0};
    buf_putf(&variable, "SLUICE_HEADER_");
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool lower = c >= 'a' && c <= 'z', plain = lower || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        buf_put_u8(&variable, lower ? (uint8_t)(c - 32) : plain ? c : '_');
    }
    if (!has_env(env, buf_str(&variable)))
        put_env(env, buf_str(&variable), value);
    buf_free(&variable);
}

void env_put_message(struct buf *env, const struct exec_message *m)
{
    buf_putf(env, "SLUICE_TOPIC=%s%c", m->topic, '\0');
    buf_putf(env, "SLUICE_GROUP=%s%c", m->group, '\0');
    buf_putf(env, "SLUICE_PARTITION=%" PRIu32 "%c", m->partition, '\0');
    buf_putf(env, "SLUICE_OFFSET=%" PRIu64 "%c", m->offset, '\0');
    buf_putf(env, "SLUICE_ATTEMPT=%" PRIu32 "%c", m->attempt, '\0');
    buf_putf(env, "SLUICE_IDEMPOTENCY_KEY=%s/%" PRIu32 "/%" PRIu64 "/%s%c", m->topic, m->partition, m->offset, m->group, '\0');
    if (m->key.data != NULL)
        put_env(env, "SLUICE_KEY", m->key);
}

bool env_is_about_message(const char *variable)
{
    static const char *const ours[] = {
        "SLUICE_TOPIC=", "SLUICE_GROUP=",      "SLUICE_PARTITION=", "SLUICE_OFFSET=",         "SLUICE_ATTEMPT=",
        "SLUICE_KEY=",   "SLUICE_KEY_BASE64=", "SLUICE_HEADER_",    "SLUICE_IDEMPOTENCY_KEY="};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    }
    return false;
}
