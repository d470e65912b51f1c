/*
 * Names to ids: the topics and groups that this client has used, asked of the broker at their first use.
 *
 * An entry is never changed and lives as long as the client, so what was found may be used without a lock and its names may be
 * lent. What turned out to be out of date is forgotten: the next use asks again and gets a new entry.
 *
 * Any thread; functions that say so ask the broker and block.
 */
#ifndef SDK_CATALOG_H
#define SDK_CATALOG_H

#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>

#include "base/map.h"
#include "schemas/codec.h"

struct sluice;
struct outlet;

struct topic {
    char *name;
    uint32_t id;
    uint32_t partitions_n;
    uint32_t message_bytes_max;
    const uint32_t *partitions;        /* ids, by index */
    _Atomic(struct outlet *) *outlets; /* by index; NULL until published to */
    atomic_uint turn;                  /* whose turn it is among partitions, for messages without a key */
    struct outlet *turn_last;          /* the loop's: to whom a batch of such messages went last; NULL: to nobody yet */
    atomic_bool announced;             /* the producer was told that there are more partitions than before */
    struct topic *next;                /* in the catalog's list of all */
};

struct group {
    struct topic *topic;
    char *name;
    uint32_t id;
    struct group *next;
};

struct catalog {
    pthread_rwlock_t lock;
    struct map topics, groups; /* by hash of the name; current entries only */
    struct map routes;         /* by id of the topic: the entry by which messages are published */
    struct topic *all_topics;
    struct group *all_groups;
    struct map
        outlets; /* by id of the partition: numbers of a lane go on when its topic is asked for again */
};

void catalog_init(struct catalog *c);
void catalog_free(struct catalog *c);

/* The topic of that name; asks the broker if it is not known. [blocks then] TOPIC_NOT_FOUND and those of a call. */
int catalog_topic(struct sluice *s, const char *name, struct topic **out, struct sluice_error *err);

/* What the broker told of a topic: the entry, current from now on. NULL: it makes no sense. */
struct topic *catalog_learn(struct catalog *c, const struct wire_topic *w);

/* The entry of this topic by which messages are published. One with more partitions than it has becomes that later: growth.h. */
struct topic *catalog_route(struct sluice *s, struct topic *t);
void catalog_route_set(struct catalog *c, struct topic *t);

/* As catalog_topic, but only if it is known. */
struct topic *catalog_known_topic(struct catalog *c, const char *name);

/* The group of that name; `asked` says whether the broker was asked just now. [blocks then] */
int catalog_group(struct sluice *s, const char *topic, const char *name, struct group **out, bool *asked,
                  struct sluice_error *err);

/* Out of date: forgotten if still current. */
void catalog_forget_topic(struct catalog *c, const struct topic *t);
void catalog_forget_group(struct catalog *c, const struct group *g);

/* Where messages for a partition gather. */
struct outlet *catalog_outlet(struct sluice *s, struct topic *t, uint32_t index);

/* The index in the topic of the partition of that id; UINT32_MAX if it is not known. */
uint32_t topic_index(const struct topic *t, uint32_t partition);

#endif
