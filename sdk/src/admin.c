/* Topics, groups, lag and health: one request each, or one per page. A list is one piece of memory of its own. */
#include <string.h>

#include "base/mem.h"
#include "sdk/client.h"

enum { PAGE = 500 }; /* rows asked for at once; the broker may give fewer */

/* ---------------------------------------------------------------- lists */

/* A list on its way to the user, page by page. What the user gets stands first, so that its free call finds the rest. */
struct listing {
    union {
        struct sluice_topic_list topics;
        struct sluice_group_list groups;
        struct sluice_lag_list lag;
    } out;
    void *rows;
    size_t rows_n;
    struct arena memory; /* what the rows point at */
    struct buf after;    /* where the next page begins */
    bool more;
};

/* Appends a page to the rows; false if it is no such page. */
typedef bool page_fn(struct listing *l, const struct wire_reply *reply);

static void *more_rows(struct listing *l, size_t n, size_t size)
{
    l->rows = mem_resize(l->rows, l->rows_n + n, size);
    void *first = (char *)l->rows + l->rows_n * size;
    l->rows_n += n;
    return first;
}

static void listing_free(struct listing *l)
{
    arena_free(&l->memory);
    buf_free(&l->after);
    mem_free(l->rows);
    mem_free(l);
}

/* One page: `name`, `topic` NULL and `after` absent where not asked for. */
static int ask_page(struct sluice *s, enum wire_verb verb, const char *topic, const char *name,
                    struct view after, struct answer **out, struct sluice_error *err)
{
    struct request *r = name != NULL && topic != NULL
                            ? client_request(s, verb, LANE_READS, "group '%s' of topic '%s'", name, topic)
                            : client_request(s, verb, LANE_READS, "list");
    r->wire.list = (struct wire_list){.topic = request_keep(r, view_of_str(topic)),
                                      .name = request_keep(r, view_of_str(name)),
                                      .after = request_keep(r, after),
                                      .limit = PAGE};
    int code = client_call(s, r, out, err);
    if (code == E_TOPIC_NOT_FOUND)
        return fail_no_topic(err, verb == VERB_TOPIC_LIST ? name : topic);
    if (code == E_GROUP_NOT_FOUND && topic != NULL && name != NULL)
        return fail_no_group(err, topic, name);
    return code;
}

/* Names that are given must be good ones. */
static int check_names(const char *topic, const char *group, struct sluice_error *err)
{
    int code = topic != NULL ? check_name("topic", topic, err) : 0;
    return code == 0 && group != NULL ? check_name("group", group, err) : code;
}

/* Without groups an unknown topic looks like one that has none: asks which it is. */
static int check_topic_exists(struct sluice *s, const char *topic, struct sluice_error *err)
{
    struct answer *a;
    int code = ask_page(s, VERB_TOPIC_LIST, NULL, topic, view_of(NULL, 0), &a, err);
    if (code == 0)
        answer_drop(a);
    return code;
}

static int list_all(struct sluice *s, enum wire_verb verb, const char *topic, const char *name, page_fn *take,
                    struct listing **out, struct sluice_error *err)
{
    *out = NULL;
    int code = check_names(topic, name, err);
    if (code != 0)
        return code;
    struct listing *l = mem_zalloc(sizeof *l);
    arena_init(&l->memory, SIZE_MAX);
    struct view after = view_of(NULL, 0);
    do {
        struct answer *a;
        size_t before = l->rows_n;
        code = ask_page(s, verb, topic, name, after, &a, err);
        if (code != 0)
            break;
        if (!take(l, &a->reply) || (l->more && l->rows_n == before))
            code = fail(err, E_BAD_FRAME, "list: the broker's answer makes no sense");
        answer_drop(a);
        after = buf_view(&l->after);
    } while (code == 0 && l->more);
    if (code == 0 && l->rows_n == 0 && topic != NULL)
        code = check_topic_exists(s, topic, err);
    if (code != 0)
        listing_free(l);
    else
        *out = l;
    return code;
}

/* Lists of several topics' groups are in the order of "topic/group". */
static void after_group(struct listing *l, const char *topic, const char *group)
{
    buf_clear(&l->after);
    buf_putf(&l->after, "%s/%s", topic, group);
}

/* ---------------------------------------------------------------- topics */

static struct wire_topic_config topic_config(const struct sluice_topic_options *o)
{
    return (struct wire_topic_config){.partitions = o->partitions,
                                      .retention_ms = o->retention_ms,
                                      .retention_bytes = o->retention_bytes,
                                      .hard_cap_ms = o->hard_cap_ms,
                                      .durability = (uint8_t)o->durability,
                                      .compacted = o->compacted,
                                      .message_bytes_max = o->message_bytes_max,
                                      .backlog_bytes_max = o->backlog_bytes_max};
}

int sluice_topic_create(struct sluice *s, const char *name, const struct sluice_topic_options *options,
                        bool *created, struct sluice_error *err)
{
    struct sluice_topic_options o;
    int code = TAKE_STRUCT(&o, options, sluice_topic_options, backlog_bytes_max, err);
    if (code == 0)
        code = check_name("topic", name, err);
    if (code == 0 && (o.durability < 0 || o.durability > SLUICE_OS))
        code =
            fail(err, E_INVALID_ARGUMENT, "durability: %d is none of enum sluice_durability", o.durability);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_TOPIC_CREATE, LANE_FREE, "topic '%s'", name);
    r->wire.topic =
        (struct wire_topic_set){.name = request_keep(r, view_of_str(name)), .config = topic_config(&o)};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    if (created != NULL)
        *created = a->reply.body == BODY_TOPICS && a->reply.topics.created;
    answer_drop(a);
    return 0;
}

int sluice_topic_delete(struct sluice *s, const char *name, struct sluice_error *err)
{
    int code = check_name("topic", name, err);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_TOPIC_DELETE, LANE_FREE, "topic '%s'", name);
    r->wire.topic = (struct wire_topic_set){.name = request_keep(r, view_of_str(name))};
    struct answer *a;
    code = client_call(s, r, &a, err);
    struct topic *known = catalog_known_topic(&s->catalog, name);
    if (known != NULL)
        catalog_forget_topic(&s->catalog, known);
    if (code == E_TOPIC_NOT_FOUND)
        return fail_no_topic(err, name);
    if (code == 0)
        answer_drop(a);
    return code;
}

static void put_topic(struct listing *l, const struct wire_topic *w, struct sluice_topic *out)
{
    const struct wire_topic_config *c = &w->config;
    struct sluice_partition *partitions = arena_take(&l->memory, w->partitions_n * sizeof *partitions);
    for (uint32_t i = 0; i < w->partitions_n; i++) {
        const struct wire_partition *p = &w->partitions[i];
        if (p->index < w->partitions_n)
            partitions[p->index] = (struct sluice_partition){
                .id = p->id, .start = p->start, .end = p->visible, .bytes = p->bytes};
    }
    *out = (struct sluice_topic){
        .name = text_keep(&l->memory, w->name),
        .id = w->id,
        .options = {.size = sizeof out->options,
                    .partitions = w->partitions_n,
                    .retention_ms = c->retention_ms,
                    .retention_bytes = c->retention_bytes,
                    .hard_cap_ms = c->hard_cap_ms,
                    .durability = c->durability,
                    .compacted = c->compacted,
                    .message_bytes_max = c->message_bytes_max,
                    .backlog_bytes_max = c->backlog_bytes_max},
        .partitions = partitions,
        .created_ms = w->created_ms,
        .groups = w->groups,
    };
}

static bool topics_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_TOPICS)
        return false;
    const struct wire_topic_reply *page = &reply->topics;
    struct sluice_topic *rows = more_rows(l, page->topics_n, sizeof *rows);
    for (uint32_t i = 0; i < page->topics_n; i++)
        put_topic(l, &page->topics[i], &rows[i]);
    l->more = page->more;
    if (l->more && page->topics_n > 0) {
        buf_clear(&l->after);
        buf_putf(&l->after, "%s", rows[page->topics_n - 1].name);
    }
    return true;
}

int sluice_topics(struct sluice *s, const char *name, struct sluice_topic_list **out,
                  struct sluice_error *err)
{
    struct listing *l;
    int code = list_all(s, VERB_TOPIC_LIST, NULL, name, topics_page, &l, err);
    if (code == 0)
        l->out.topics = (struct sluice_topic_list){.count = l->rows_n, .topics = l->rows};
    *out = code == 0 ? &l->out.topics : NULL;
    return code;
}

void sluice_topics_free(struct sluice_topic_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.topics));
}

/* ---------------------------------------------------------------- groups */

static int check_group_options(const struct sluice_group_options *o, struct sluice_error *err)
{
    if (o->mode < 0 || o->mode > SLUICE_STREAM)
        return fail(err, E_INVALID_ARGUMENT, "mode: %d is none of enum sluice_mode", o->mode);
    if (o->order < 0 || o->order > SLUICE_ORDER_NONE)
        return fail(err, E_INVALID_ARGUMENT, "order: %d is none of enum sluice_order", o->order);
    if (o->park < 0 || o->park > SLUICE_PARK_KEY)
        return fail(err, E_INVALID_ARGUMENT, "park: %d is none of enum sluice_park_policy", o->park);
    if (o->from < 0 || o->from > SLUICE_FROM_END)
        return fail(err, E_INVALID_ARGUMENT, "from: %d is neither SLUICE_FROM_START nor SLUICE_FROM_END",
                    o->from);
    return 0;
}

int sluice_group_create(struct sluice *s, const char *topic, const char *name,
                        const struct sluice_group_options *options, bool *created, struct sluice_error *err)
{
    struct sluice_group_options o;
    int code = TAKE_STRUCT(&o, options, sluice_group_options, backoff_max_ms, err);
    if (code == 0)
        code = check_name("topic", topic, err);
    if (code == 0)
        code = check_name("group", name, err);
    if (code == 0)
        code = check_group_options(&o, err);
    if (code != 0)
        return code;
    struct request *r =
        client_request(s, VERB_GROUP_CREATE, LANE_FREE, "group '%s' of topic '%s'", name, topic);
    r->wire.group = (struct wire_group_set){.topic = request_keep(r, view_of_str(topic)),
                                            .name = request_keep(r, view_of_str(name)),
                                            .config = {.mode = (uint8_t)o.mode,
                                                       .order = (uint8_t)o.order,
                                                       .park = (uint8_t)o.park,
                                                       .from = (uint8_t)o.from,
                                                       .lease_ms = o.lease_ms,
                                                       .max_deliveries = o.max_deliveries,
                                                       .backoff_min_ms = o.backoff_min_ms,
                                                       .backoff_max_ms = o.backoff_max_ms}};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_TOPIC_NOT_FOUND)
        return fail_no_topic(err, topic);
    if (code != 0)
        return code;
    if (created != NULL)
        *created = a->reply.body == BODY_GROUPS && a->reply.groups.created;
    answer_drop(a);
    return 0;
}

int sluice_group_delete(struct sluice *s, const char *topic, const char *name, struct sluice_error *err)
{
    int code = check_name("topic", topic, err);
    if (code == 0)
        code = check_name("group", name, err);
    if (code != 0)
        return code;
    struct request *r =
        client_request(s, VERB_GROUP_DELETE, LANE_FREE, "group '%s' of topic '%s'", name, topic);
    r->wire.group = (struct wire_group_set){.topic = request_keep(r, view_of_str(topic)),
                                            .name = request_keep(r, view_of_str(name))};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_TOPIC_NOT_FOUND)
        return fail_no_topic(err, topic);
    if (code == E_GROUP_NOT_FOUND)
        return fail_no_group(err, topic, name);
    if (code == 0)
        answer_drop(a);
    return code;
}

static void put_group(struct listing *l, const struct wire_group *w, struct sluice_group *out)
{
    const struct wire_group_config *c = &w->config;
    *out = (struct sluice_group){
        .topic = text_keep(&l->memory, w->topic),
        .name = text_keep(&l->memory, w->name),
        .id = w->id,
        .options = {.size = sizeof out->options,
                    .mode = c->mode,
                    .order = c->order,
                    .park = c->park,
                    .from = c->from,
                    .lease_ms = c->lease_ms,
                    .max_deliveries = c->max_deliveries,
                    .backoff_min_ms = c->backoff_min_ms,
                    .backoff_max_ms = c->backoff_max_ms},
        .created_ms = w->created_ms,
    };
}

static bool groups_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_GROUPS)
        return false;
    const struct wire_group_reply *page = &reply->groups;
    struct sluice_group *rows = more_rows(l, page->groups_n, sizeof *rows);
    for (uint32_t i = 0; i < page->groups_n; i++)
        put_group(l, &page->groups[i], &rows[i]);
    l->more = page->more;
    if (l->more && page->groups_n > 0)
        after_group(l, rows[page->groups_n - 1].topic, rows[page->groups_n - 1].name);
    return true;
}

int sluice_groups(struct sluice *s, const char *topic, const char *name, struct sluice_group_list **out,
                  struct sluice_error *err)
{
    struct listing *l;
    int code = list_all(s, VERB_GROUP_LIST, topic, name, groups_page, &l, err);
    if (code == 0)
        l->out.groups = (struct sluice_group_list){.count = l->rows_n, .groups = l->rows};
    *out = code == 0 ? &l->out.groups : NULL;
    return code;
}

void sluice_groups_free(struct sluice_group_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.groups));
}

/* ---------------------------------------------------------------- lag */

static void put_lag(struct listing *l, const struct wire_lag *w, struct sluice_lag *out)
{
    *out = (struct sluice_lag){
        .topic = text_keep(&l->memory, w->topic),
        .group = text_keep(&l->memory, w->group),
        .lag_messages = w->lag_messages,
        .lag_bytes = w->lag_bytes,
        .in_flight = w->in_flight,
        .delayed = w->delayed,
        .parked = w->parked,
        .oldest_age_seconds = (double)w->oldest_age_ms / 1000,
        .ack_rate = (double)w->ack_rate_milli / 1000,
        .drain_eta_seconds = w->drain_eta_ms == UINT64_MAX ? -1 : (double)w->drain_eta_ms / 1000,
        .status = w->status,
        .scale_value = w->scale_value,
    };
}

static bool lag_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_LAG)
        return false;
    const struct wire_lag_reply *page = &reply->lag;
    struct sluice_lag *rows = more_rows(l, page->rows_n, sizeof *rows);
    for (uint32_t i = 0; i < page->rows_n; i++)
        put_lag(l, &page->rows[i], &rows[i]);
    l->more = page->more;
    if (l->more && page->rows_n > 0)
        after_group(l, rows[page->rows_n - 1].topic, rows[page->rows_n - 1].group);
    return true;
}

int sluice_group_lag(struct sluice *s, const char *topic, const char *name, struct sluice_lag_list **out,
                     struct sluice_error *err)
{
    struct listing *l;
    int code = list_all(s, VERB_GROUP_LAG, topic, name, lag_page, &l, err);
    if (code == 0)
        l->out.lag = (struct sluice_lag_list){.count = l->rows_n, .rows = l->rows};
    *out = code == 0 ? &l->out.lag : NULL;
    return code;
}

void sluice_lag_free(struct sluice_lag_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.lag));
}

/* ---------------------------------------------------------------- health */

int sluice_health(struct sluice *s, uint32_t timeout_ms, struct sluice_health *out, struct sluice_error *err)
{
    if (out == NULL || out->size < offsetof(struct sluice_health, http) + sizeof out->http)
        return fail(err, E_INVALID_ARGUMENT,
                    "struct sluice_health: size must be sizeof(struct sluice_health)");
    struct request *r = client_request(s, VERB_HEALTH, LANE_READS, "health");
    if (timeout_ms != 0)
        r->deadline_ns = deadline_in(timeout_ms);
    struct answer *a;
    int code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    const struct wire_health_reply *w = &a->reply.health;
    if (a->reply.body != BODY_HEALTH) {
        answer_drop(a);
        return fail(err, E_BAD_FRAME, "health: the broker's answer makes no sense");
    }
    struct sluice_health h = {.size = out->size,
                              .epoch = w->epoch,
                              .topics = w->topics,
                              .groups = w->groups,
                              .sessions = w->sessions,
                              .turn = w->turn,
                              .durable_turn = w->durable_turn,
                              .uptime_ms = w->uptime_ms};
    text_copy(h.status, sizeof h.status, w->status);
    text_copy(h.reason, sizeof h.reason, w->reason);
    text_copy(h.version, sizeof h.version, w->version);
    client_http(s, h.http, sizeof h.http);
    answer_drop(a);
    memcpy(out, &h, sizeof h);
    return 0;
}
