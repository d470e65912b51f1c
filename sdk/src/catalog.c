#include "sdk/catalog.h"

#include <string.h>

#include "base/mem.h"
#include "schemas/records.h"
#include "sdk/client.h"
#include "sdk/growth.h"

/* Maps are by hash. Two names of one hash push each other out, which costs a question and nothing else. */
static uint64_t hash_of(const char *topic, const char *group)
{
    char both[2 * WIRE_NAME_MAX + 1];
    size_t n = strnlen(topic, WIRE_NAME_MAX);
    memcpy(both, topic, n);
    if (group != NULL) {
        both[n++] = '/'; /* in no name */
        size_t m = strnlen(group, WIRE_NAME_MAX);
        memcpy(both + n, group, m);
        n += m;
    }
    return key_hash(view_of(both, n));
}

void catalog_init(struct catalog *c)
{
    *c = (struct catalog){0};
    pthread_rwlock_init(&c->lock, NULL);
}

static void topic_free(struct topic *t)
{
    mem_free(t->name);
    mem_free((void *)t->partitions);
    mem_free(t->outlets);
    mem_free(t);
}

void catalog_free(struct catalog *c)
{
    for (struct map_it it = map_iter(&c->outlets); map_next(&it);)
        outlet_free(it.value);
    for (struct topic *t = c->all_topics, *next; t != NULL; t = next) {
        next = t->next;
        topic_free(t);
    }
    for (struct group *g = c->all_groups, *next; g != NULL; g = next) {
        next = g->next;
        mem_free(g->name);
        mem_free(g);
    }
    map_free(&c->topics);
    map_free(&c->groups);
    map_free(&c->routes);
    map_free(&c->outlets);
    pthread_rwlock_destroy(&c->lock);
}

/* ---------------------------------------------------------------- topics */

struct topic *catalog_known_topic(struct catalog *c, const char *name)
{
    pthread_rwlock_rdlock(&c->lock);
    struct topic *t = map_get(&c->topics, hash_of(name, NULL));
    pthread_rwlock_unlock(&c->lock);
    return t != NULL && strcmp(t->name, name) == 0 ? t : NULL;
}

/* The entry for what the broker told; NULL if that makes no sense. */
static struct topic *topic_new(const struct wire_topic *w)
{
    if (w->partitions_n == 0)
        return NULL;
    uint32_t *ids = mem_array(w->partitions_n, sizeof *ids);
    for (uint32_t i = 0; i < w->partitions_n; i++) {
        const struct wire_partition *p = &w->partitions[i];
        if (p->index >= w->partitions_n || p->id == 0 || ids[p->index] != 0) {
            mem_free(ids);
            return NULL;
        }
        ids[p->index] = p->id;
    }
    struct topic *t = mem_zalloc(sizeof *t);
    t->name = mem_strndup((const char *)w->name.data, w->name.size);
    t->id = w->id;
    t->partitions_n = w->partitions_n;
    t->message_bytes_max = w->config.message_bytes_max;
    t->partitions = ids;
    t->outlets = mem_array(w->partitions_n, sizeof *t->outlets);
    return t;
}

/* Makes an entry the current one of its name; one that says the same, current or forgotten, is used again. */
static struct topic *topic_add(struct catalog *c, struct topic *t)
{
    pthread_rwlock_wrlock(&c->lock);
    struct topic *same = c->all_topics;
    while (same != NULL && (same->id != t->id || same->partitions_n != t->partitions_n))
        same = same->next;
    if (same != NULL) {
        topic_free(t);
        t = same;
    } else {
        t->next = c->all_topics;
        c->all_topics = t;
    }
    map_put(&c->topics, hash_of(t->name, NULL), t);
    pthread_rwlock_unlock(&c->lock);
    return t;
}

struct topic *catalog_learn(struct catalog *c, const struct wire_topic *w)
{
    struct topic *t = topic_new(w);
    return t != NULL ? topic_add(c, t) : NULL;
}

struct topic *catalog_route(struct sluice *s, struct topic *t)
{
    struct catalog *c = &s->catalog;
    pthread_rwlock_rdlock(&c->lock);
    struct topic *route = map_get(&c->routes, t->id);
    pthread_rwlock_unlock(&c->lock);
    if (route == NULL) {
        pthread_rwlock_wrlock(&c->lock);
        route = map_get(&c->routes, t->id);
        if (route == NULL)
            map_put(&c->routes, t->id, route = t);
        pthread_rwlock_unlock(&c->lock);
    }
    if (t->partitions_n > route->partitions_n && !atomic_exchange(&t->announced, true))
        growth_announce(s, t);
    return route;
}

void catalog_route_set(struct catalog *c, struct topic *t)
{
    pthread_rwlock_wrlock(&c->lock);
    map_put(&c->routes, t->id, t);
    pthread_rwlock_unlock(&c->lock);
}

int catalog_topic(struct sluice *s, const char *name, struct topic **out, struct sluice_error *err)
{
    int code = check_name("topic", name, err);
    if (code != 0)
        return code;
    *out = catalog_known_topic(&s->catalog, name);
    if (*out != NULL)
        return 0;

    struct request *r = client_request(s, VERB_TOPIC_LIST, LANE_READS, "topic '%s'", name);
    r->wire.list = (struct wire_list){.name = request_keep(r, view_of_str(name)), .limit = 1};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_TOPIC_NOT_FOUND)
        return fail_no_topic(err, name);
    if (code != 0)
        return code;
    if (a->reply.body == BODY_TOPICS && a->reply.topics.topics_n == 1)
        *out = catalog_learn(&s->catalog, &a->reply.topics.topics[0]);
    answer_drop(a);
    return *out != NULL ? 0 : fail(err, E_BAD_FRAME, "topic '%s': the broker's answer makes no sense", name);
}

void catalog_forget_topic(struct catalog *c, const struct topic *t)
{
    uint64_t hash = hash_of(t->name, NULL);
    pthread_rwlock_wrlock(&c->lock);
    if (map_get(&c->topics, hash) == t)
        map_del(&c->topics, hash);
    pthread_rwlock_unlock(&c->lock);
}

struct outlet *catalog_outlet(struct sluice *s, struct topic *t, uint32_t index)
{
    struct outlet *o = atomic_load(&t->outlets[index]);
    if (o != NULL)
        return o;
    struct catalog *c = &s->catalog;
    pthread_rwlock_wrlock(&c->lock);
    o = map_get(&c->outlets, t->partitions[index]);
    if (o == NULL) {
        o = outlet_new(s, t, index);
        map_put(&c->outlets, t->partitions[index], o);
    }
    atomic_store(&t->outlets[index], o);
    pthread_rwlock_unlock(&c->lock);
    return o;
}

uint32_t topic_index(const struct topic *t, uint32_t partition)
{
    uint32_t guess = partition - t->partitions[0]; /* a new topic's ids are in one row */
    if (guess < t->partitions_n && t->partitions[guess] == partition)
        return guess;
    for (uint32_t i = 0; i < t->partitions_n; i++) {
        if (t->partitions[i] == partition)
            return i;
    }
    return UINT32_MAX;
}

/* ---------------------------------------------------------------- groups */

static struct group *known_group(struct catalog *c, const char *topic, const char *name)
{
    pthread_rwlock_rdlock(&c->lock);
    struct group *g = map_get(&c->groups, hash_of(topic, name));
    pthread_rwlock_unlock(&c->lock);
    return g != NULL && strcmp(g->name, name) == 0 && strcmp(g->topic->name, topic) == 0 ? g : NULL;
}

static struct group *group_add(struct catalog *c, struct topic *t, const char *name, uint32_t id)
{
    uint64_t hash = hash_of(t->name, name);
    pthread_rwlock_wrlock(&c->lock);
    struct group *g = c->all_groups;
    while (g != NULL && (g->id != id || g->topic != t))
        g = g->next;
    if (g == NULL) {
        g = mem_alloc(sizeof *g);
        *g = (struct group){.topic = t, .name = mem_strdup(name), .id = id, .next = c->all_groups};
        c->all_groups = g;
    }
    map_put(&c->groups, hash, g);
    pthread_rwlock_unlock(&c->lock);
    return g;
}

int catalog_group(struct sluice *s, const char *topic, const char *name, struct group **out, bool *asked,
                  struct sluice_error *err)
{
    *asked = false;
    int code = check_name("topic", topic, err);
    if (code == 0)
        code = check_name("group", name, err);
    if (code != 0)
        return code;
    *out = known_group(&s->catalog, topic, name);
    if (*out != NULL)
        return 0;
    *asked = true;
    struct topic *t;
    code = catalog_topic(s, topic, &t, err);
    if (code != 0)
        return code;

    struct request *r =
        client_request(s, VERB_GROUP_LIST, LANE_READS, "group '%s' of topic '%s'", name, topic);
    r->wire.list = (struct wire_list){
        .topic = request_keep(r, view_of_str(topic)), .name = request_keep(r, view_of_str(name)), .limit = 1};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_TOPIC_NOT_FOUND) {
        catalog_forget_topic(&s->catalog, t);
        return fail_no_topic(err, topic);
    }
    if (code == E_GROUP_NOT_FOUND)
        return fail_no_group(err, topic, name);
    if (code != 0)
        return code;
    const struct wire_group_reply *list = &a->reply.groups;
    if (a->reply.body != BODY_GROUPS || list->groups_n != 1) {
        code = fail(err, E_BAD_FRAME, "group '%s' of topic '%s': the broker's answer makes no sense", name,
                    topic);
    } else if (list->groups[0].config.mode != MODE_QUEUE) {
        code = fail(err, E_WRONG_MODE, "group '%s' of topic '%s' is not a queue: its messages are not leased",
                    name, topic);
    } else {
        if (list->groups[0].topic_id != t->id) { /* made anew since we asked for the topic */
            catalog_forget_topic(&s->catalog, t);
            code = catalog_topic(s, topic, &t, err);
        }
        if (code == 0)
            *out = group_add(&s->catalog, t, name, list->groups[0].id);
    }
    answer_drop(a);
    return code;
}

void catalog_forget_group(struct catalog *c, const struct group *g)
{
    uint64_t hash = hash_of(g->topic->name, g->name);
    pthread_rwlock_wrlock(&c->lock);
    if (map_get(&c->groups, hash) == g)
        map_del(&c->groups, hash);
    pthread_rwlock_unlock(&c->lock);
    catalog_forget_topic(c, g->topic);
}
