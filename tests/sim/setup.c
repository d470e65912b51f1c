/* The topics and groups of a history. */
#include <stdio.h>

#include "client.h"

void setup_names(int group, struct view *topic, struct view *name)
{
    static const char *topics[] = {"t0", "t1", "t2"}, *groups[] = {"g0", "g1"};
    *topic = view_of_str(topics[group / GROUPS_PER_TOPIC]);
    *name = view_of_str(groups[group % GROUPS_PER_TOPIC]);
}

struct view key_name(int key)
{
    static const char *names[KEYS] = {"k6", "k1", "k3", "k0", "k4"}; /* of four partitions each has one, the last has two */
    return view_of_str(names[key]);
}

struct view header_value(int header)
{
    static const char *values[HEADERS] = {"0", "1", "2", "3"};
    return view_of_str(values[header]);
}

struct view header_bytes(int header)
{
    static struct buf encoded[HEADERS];
    struct err e = {0};
    if (encoded[header].size == 0 &&
        headers_put(&encoded[header], VIEW_LIT("h"), header_value(header), &e) != E_OK)
        buf_clear(&encoded[header]);
    return buf_view(&encoded[header]);
}

static void make(struct world *w, struct request *r)
{
    struct client *c = &w->clients[0];
    r->seq = c->lanes[PARTS].next++;
    for (int i = 0; i < 100 && !list_empty(&c->requests) && !w->failed; i++) {
        w->now.mono_ms += 100;
        w->now.wall_ms += 100;
        if (c->pipe == 0)
            client_connect(w, c);
        client_send_due(w, c);
        world_turn(w);
        world_sync(w);
    }
    if (!list_empty(&c->requests))
        world_fail(w, "a topic or group was not made");
}

static void make_topic(struct world *w, int topic)
{
    struct request *r = client_request(&w->clients[0], R_ADMIN, VERB_TOPIC_CREATE);
    snprintf(r->topic, sizeof r->topic, "t%d", topic);
    r->topic_config =
        (struct wire_topic_config){.partitions = 1U << rng_below(&w->rng, 3), /* some grow, up to PARTITIONS */
                                   .durability = topic == 2 ? DURABILITY_OS : DURABILITY_DISK,
                                   .dedup_ms = topic == 0                  ? 60000
                                               : topic == 1                ? 30000
                                               : rng_chance(&w->rng, 1, 2) ? UINT64_MAX
                                                                           : 45000,
                                   .ttl_ms = topic == 1 && rng_chance(&w->rng, 1, 3) ? 60000 : 0};
    r->topic_config.compacted = rng_chance(&w->rng, 1, 4);
    if (r->topic_config.compacted) /* and such topics do not */
        r->topic_config.partitions = PARTITIONS;
    if (rng_chance(&w->rng, 1, 2)) /* the others keep all */
        r->topic_config.retention_ms = rng_between(&w->rng, 5000, 60000);
    if (rng_chance(&w->rng, 1, 4))
        r->topic_config.retention_bytes = rng_between(&w->rng, 1000, 20000);
    r->topic_config.hard_cap_ms =
        rng_chance(&w->rng, 1, 3) || r->topic_config.retention_ms == 0 ? UINT64_MAX : r->topic_config.retention_ms + rng_below(&w->rng, 60000);
    make(w, r);
}

static void make_group(struct world *w, int topic, int group)
{
    struct rng *rng = &w->rng;
    struct request *r = client_request(&w->clients[0], R_ADMIN, VERB_GROUP_CREATE);
    snprintf(r->topic, sizeof r->topic, "t%d", topic);
    snprintf(r->group, sizeof r->group, "g%d", group);
    r->group_config = (struct wire_group_config){
        .lease_ms = group == 0 ? 5000 : 2000,
        .max_deliveries = (uint32_t)rng_between(rng, 2, 5),
        .backoff_min_ms = 100,
        .backoff_max_ms = 3000,
        .order = rng_chance(rng, 1, 5) ? ORDER_NONE : ORDER_KEY,
        .park = rng_chance(rng, 1, 3) ? PARK_KEY : PARK_MESSAGE,
        .expired = rng_chance(rng, 1, 2) ? EXPIRED_DROP : EXPIRED_PARK,
        .run_max = rng_chance(rng, 1, 3) ? 3 : 1,
        .in_flight_max = rng_chance(rng, 1, 5) ? (uint32_t)rng_between(rng, 2, 20) : 0};
    if (rng_chance(rng, 1, r->group_config.order == ORDER_KEY ? 5 : 3))
        r->group_config.key_rate_milli = (uint32_t)rng_between(rng, 500, 4000);
    if (r->group_config.order == ORDER_NONE && rng_chance(rng, 1, 2))
        r->group_config.key_in_flight_max = (uint32_t)rng_between(rng, 1, 3);
    if (rng_chance(rng, 1, 6))
        r->group_config.rate_milli = (uint32_t)rng_between(rng, 2000, 20000);
    make(w, r);
}

void setup(struct world *w)
{
    for (int t = 0; t < TOPICS && !w->failed; t++) {
        make_topic(w, t);
        for (int g = 0; g < GROUPS_PER_TOPIC && !w->failed; g++)
            make_group(w, t, g);
    }
}
