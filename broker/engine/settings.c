/* The settings of topics and groups: their defaults, in what two differ, and which of them an alter may change. */
#include "engine/memory.h"

struct setting {
    const char *name;
    uint64_t bit;        /* in the mask of an alter */
    uint32_t at, size;   /* in the configuration */
    const char *fixed;   /* why it cannot be altered, and what to do; NULL: it can */
};

#define TOPIC_SETTING(name, bit, field, fixed) \
    {name, bit, offsetof(struct wire_topic_config, field), sizeof(((struct wire_topic_config *)0)->field), fixed}
#define GROUP_SETTING(name, bit, field, fixed) \
    {name, bit, offsetof(struct wire_group_config, field), sizeof(((struct wire_group_config *)0)->field), fixed}

static const struct setting of_topics[] = {
    TOPIC_SETTING("partitions", TOPIC_SET_PARTITIONS, partitions, NULL), /* growth.c says how many */
    TOPIC_SETTING("retention", TOPIC_SET_RETENTION_MS, retention_ms, NULL),
    TOPIC_SETTING("retention-bytes", TOPIC_SET_RETENTION_BYTES, retention_bytes, NULL),
    TOPIC_SETTING("hard-cap", TOPIC_SET_HARD_CAP_MS, hard_cap_ms, NULL),
    TOPIC_SETTING("durability", TOPIC_SET_DURABILITY, durability,
                  "what was acknowledged stands on it; make a topic with the other one and produce to that"),
    TOPIC_SETTING("compacted", TOPIC_SET_COMPACTED, compacted,
                  "compacted logs lie apart; make a topic that is, or is not, and produce to that"),
    TOPIC_SETTING("message-bytes-max", TOPIC_SET_MESSAGE_BYTES_MAX, message_bytes_max, NULL),
    TOPIC_SETTING("backlog-bytes-max", TOPIC_SET_BACKLOG_BYTES_MAX, backlog_bytes_max, NULL),
    TOPIC_SETTING("backlog-age-max", TOPIC_SET_BACKLOG_AGE_MAX_MS, backlog_age_max_ms, NULL),
    TOPIC_SETTING("dedup", TOPIC_SET_DEDUP_MS, dedup_ms, NULL),
    TOPIC_SETTING("ttl", TOPIC_SET_TTL_MS, ttl_ms, NULL),
};

static const char anew[] = "it decides what a group has done; make another group, from where this one is";

static const struct setting of_groups[] = {
    GROUP_SETTING("mode", GROUP_SET_MODE, mode, anew),
    GROUP_SETTING("order", GROUP_SET_ORDER, order, anew),
    GROUP_SETTING("park", GROUP_SET_PARK, park, NULL),
    GROUP_SETTING("from", GROUP_SET_FROM, from, "it was looked at when the group was made; make another group"),
    GROUP_SETTING("lease", GROUP_SET_LEASE_MS, lease_ms, NULL),
    GROUP_SETTING("max-deliveries", GROUP_SET_MAX_DELIVERIES, max_deliveries, NULL),
    GROUP_SETTING("backoff-min", GROUP_SET_BACKOFF_MIN_MS, backoff_min_ms, NULL),
    GROUP_SETTING("backoff-max", GROUP_SET_BACKOFF_MAX_MS, backoff_max_ms, NULL),
    GROUP_SETTING("run-max", GROUP_SET_RUN_MAX, run_max, NULL),
    GROUP_SETTING("in-flight-max", GROUP_SET_IN_FLIGHT_MAX, in_flight_max, NULL),
    GROUP_SETTING("expired", GROUP_SET_EXPIRED, expired, NULL),
    GROUP_SETTING("rate", GROUP_SET_RATE_MILLI, rate_milli, NULL),
    GROUP_SETTING("key-rate", GROUP_SET_KEY_RATE_MILLI, key_rate_milli, NULL),
    GROUP_SETTING("key-in-flight-max", GROUP_SET_KEY_IN_FLIGHT_MAX, key_in_flight_max, NULL),
    GROUP_SETTING("idle-expiry", GROUP_SET_IDLE_EXPIRY_MS, idle_expiry_ms, NULL),
};

struct wire_topic_config topic_defaults(struct wire_topic_config c)
{
    const uint64_t day = 86400000;
    c.partitions = c.partitions != 0 ? c.partitions : 1;
    c.retention_ms = c.retention_ms != 0 ? c.retention_ms : 7 * day;
    c.hard_cap_ms = c.hard_cap_ms != 0 ? c.hard_cap_ms : 30 * day;
    if (c.hard_cap_ms < c.retention_ms)
        c.hard_cap_ms = c.retention_ms;
    c.retention_bytes = c.retention_bytes != 0 ? c.retention_bytes : UINT64_MAX;
    c.durability = c.durability != 0 ? c.durability : DURABILITY_DISK;
    c.message_bytes_max = c.message_bytes_max != 0 ? c.message_bytes_max : 1 << 20;
    c.backlog_bytes_max = c.backlog_bytes_max != 0 ? c.backlog_bytes_max : UINT64_MAX;
    c.dedup_ms = c.dedup_ms != 0 ? c.dedup_ms : 600000;
    return c;
}

struct wire_group_config group_defaults(struct wire_group_config c)
{
    c.mode = c.mode != 0 ? c.mode : MODE_QUEUE;
    c.order = c.order != 0 ? c.order : ORDER_KEY;
    c.park = c.park != 0 ? c.park : PARK_MESSAGE;
    c.from = c.from != 0 ? c.from : FROM_START;
    c.lease_ms = c.lease_ms != 0 ? c.lease_ms : 30000;
    c.max_deliveries = c.max_deliveries != 0 ? c.max_deliveries : 5;
    c.backoff_min_ms = c.backoff_min_ms != 0 ? c.backoff_min_ms : 1000;
    c.backoff_max_ms = c.backoff_max_ms != 0 ? c.backoff_max_ms : 300000;
    if (c.backoff_max_ms < c.backoff_min_ms)
        c.backoff_max_ms = c.backoff_min_ms;
    c.run_max = c.run_max != 0 ? c.run_max : 1;
    c.expired = c.expired != 0 ? c.expired : EXPIRED_DROP;
    return c;
}

/* ---------------------------------------------------------------- comparing */

static bool same(const struct setting *s, const void *a, const void *b)
{
    return memcmp((const char *)a + s->at, (const char *)b + s->at, s->size) == 0;
}

static const char *difference(const struct setting *s, size_t n, const void *a, const void *b)
{
    for (size_t i = 0; i < n; i++)
        if (!same(&s[i], a, b))
            return s[i].name;
    return NULL;
}

const char *topic_difference(const struct wire_topic_config *a, const struct wire_topic_config *b)
{
    return difference(of_topics, ARRAY_LEN(of_topics), a, b);
}

const char *group_difference(const struct wire_group_config *a, const struct wire_group_config *b)
{
    return difference(of_groups, ARRAY_LEN(of_groups), a, b);
}

/* ---------------------------------------------------------------- altering */

static const void *value(const struct setting *s, const void *from, const void *defaults)
{
    static const char zeros[8];
    assert(s->size <= sizeof zeros);
    const char *at = (const char *)from + s->at;
    return memcmp(at, zeros, s->size) != 0 ? at : (const char *)defaults + s->at;
}

/* Takes over what the mask names; 0 is the default, as when a thing is made. Naming what cannot be altered with the value that it has is
 * fine. */
static int alter(const struct setting *s, size_t n, void *to, const void *from, const void *defaults, uint64_t mask, struct err *e)
{
    uint64_t known = 0;
    for (size_t i = 0; i < n; i++)
        known |= s[i].bit;
    if ((mask & ~known) != 0)
        return err_set(e, E_INVALID_ARGUMENT, "mask has bits 0x%llx that this version does not know", (unsigned long long)(mask & ~known));
    if (mask == 0)
        return err_set(e, E_INVALID_ARGUMENT, "mask is 0: it names the settings that change");
    for (size_t i = 0; i < n; i++)
        if ((mask & s[i].bit) != 0 && s[i].fixed != NULL && memcmp((char *)to + s[i].at, value(&s[i], from, defaults), s[i].size) != 0)
            return err_set(e, E_UNSUPPORTED, "%s cannot be altered: %s", s[i].name, s[i].fixed);
    for (size_t i = 0; i < n; i++)
        if ((mask & s[i].bit) != 0)
            memcpy((char *)to + s[i].at, value(&s[i], from, defaults), s[i].size);
    return E_OK;
}

int topic_settings_alter(struct wire_topic_config *c, const struct wire_topic_config *to, uint64_t mask, struct err *e)
{
    struct wire_topic_config merged = *c, defaults = topic_defaults((struct wire_topic_config){0});
    if (alter(of_topics, ARRAY_LEN(of_topics), &merged, to, &defaults, mask, e) != E_OK)
        return e->code;
    if ((mask & TOPIC_SET_HARD_CAP_MS) != 0 && merged.hard_cap_ms < merged.retention_ms)
        return err_set(e, E_INVALID_ARGUMENT, "hard-cap is %llu ms, less than retention, %llu ms", (unsigned long long)merged.hard_cap_ms,
                       (unsigned long long)merged.retention_ms);
    *c = topic_defaults(merged);
    return E_OK;
}

/* What a stream group has: the rest is of leases, retries and keys. */
enum { OF_STREAMS = GROUP_SET_MODE | GROUP_SET_FROM | GROUP_SET_IDLE_EXPIRY_MS };

static int not_of_streams(const struct setting *s, struct err *e)
{
    return err_set(e, E_WRONG_MODE, "%s is a setting of queue groups; a stream group has mode, from and idle-expiry", s->name);
}

int group_settings_stream(const struct wire_group_config *c, struct err *e)
{
    static const struct wire_group_config zeros;
    for (size_t i = 0; i < ARRAY_LEN(of_groups); i++)
        if ((of_groups[i].bit & OF_STREAMS) == 0 && !same(&of_groups[i], c, &zeros))
            return not_of_streams(&of_groups[i], e);
    return E_OK;
}

int group_settings_alter(struct wire_group_config *c, const struct wire_group_config *to, uint64_t mask, struct err *e)
{
    struct wire_group_config merged = *c, defaults = group_defaults((struct wire_group_config){0});
    for (size_t i = 0; c->mode == MODE_STREAM && i < ARRAY_LEN(of_groups); i++)
        if ((of_groups[i].bit & mask & ~(uint64_t)OF_STREAMS) != 0)
            return not_of_streams(&of_groups[i], e);
    if (alter(of_groups, ARRAY_LEN(of_groups), &merged, to, &defaults, mask, e) != E_OK)
        return e->code;
    if ((mask & GROUP_SET_BACKOFF_MAX_MS) != 0 && merged.backoff_max_ms < merged.backoff_min_ms)
        return err_set(e, E_INVALID_ARGUMENT, "backoff-max is %u ms, less than backoff-min, %u ms", merged.backoff_max_ms, merged.backoff_min_ms);
    merged = group_defaults(merged);
    if (flow_check(&merged, e) != E_OK)
        return e->code;
    *c = merged;
    return E_OK;
}
