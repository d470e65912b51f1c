/* Topics: made, changed, deleted, listed. */
#include "sdk/listing.h"

/* What the header names is what the wire means. */
_Static_assert((int)SLUICE_TOPIC_PARTITIONS == (int)TOPIC_SET_PARTITIONS &&
                   (int)SLUICE_TOPIC_TTL_MS == (int)TOPIC_SET_TTL_MS &&
                   (int)SLUICE_TOPIC_DURABILITY == (int)TOPIC_SET_DURABILITY &&
                   (int)SLUICE_TOPIC_DEDUP_MS == (int)TOPIC_SET_DEDUP_MS,
               "fields of topics");

static struct wire_topic_config topic_config(const struct sluice_topic_options *o)
{
    return (struct wire_topic_config){.partitions = o->partitions,
                                      .retention_ms = o->retention_ms,
                                      .retention_bytes = o->retention_bytes,
                                      .hard_cap_ms = o->hard_cap_ms,
                                      .durability = (uint8_t)o->durability,
                                      .compacted = o->compacted,
                                      .message_bytes_max = o->message_bytes_max,
                                      .backlog_bytes_max = o->backlog_bytes_max,
                                      .backlog_age_max_ms = o->backlog_age_max_ms,
                                      .dedup_ms = o->dedup_ms,
                                      .ttl_ms = o->ttl_ms};
}

static int take_options(struct sluice_topic_options *o, const struct sluice_topic_options *given,
                        struct sluice_error *err)
{
    int code = TAKE_STRUCT(o, given, sluice_topic_options, backlog_bytes_max, err);
    if (code == 0 && (o->durability < 0 || o->durability > SLUICE_OS))
        code =
            fail(err, E_INVALID_ARGUMENT, "durability: %d is none of enum sluice_durability", o->durability);
    return code;
}

int sluice_topic_create(struct sluice *s, const char *name, const struct sluice_topic_options *options,
                        bool *created, struct sluice_error *err)
{
    struct sluice_topic_options o;
    int code = take_options(&o, options, err);
    if (code == 0)
        code = check_name("topic", name, err);
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

int sluice_topic_alter(struct sluice *s, const char *name, const struct sluice_topic_options *options,
                       uint64_t fields, struct sluice_error *err)
{
    struct sluice_topic_options o;
    int code = take_options(&o, options, err);
    if (code == 0)
        code = check_name("topic", name, err);
    if (code == 0 && fields == 0)
        code = fail(err, E_INVALID_ARGUMENT, "topic '%s': no field is to be changed", name);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_TOPIC_ALTER, LANE_FREE, "topic '%s'", name);
    r->wire.topic = (struct wire_topic_set){
        .name = request_keep(r, view_of_str(name)), .config = topic_config(&o), .mask = fields};
    return ask_topic(s, r, name, err);
}

int sluice_topic_delete(struct sluice *s, const char *name, struct sluice_error *err)
{
    int code = check_name("topic", name, err);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_TOPIC_DELETE, LANE_FREE, "topic '%s'", name);
    r->wire.topic = (struct wire_topic_set){.name = request_keep(r, view_of_str(name))};
    return ask_topic(s, r, name, err);
}

static void put_topic(struct listing *l, const struct wire_topic *w, struct sluice_topic *out)
{
    const struct wire_topic_config *c = &w->config;
    struct sluice_partition *partitions = arena_take(&l->memory, w->partitions_n * sizeof *partitions);
    for (uint32_t i = 0; i < w->partitions_n; i++) {
        const struct wire_partition *p = &w->partitions[i];
        if (p->index < w->partitions_n)
            partitions[p->index] = (struct sluice_partition){
                .id = p->id, .start = p->start, .end = p->visible, .bytes = p->bytes, .oldest_ms = p->visible > p->start ? p->first_time_ms : 0};
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
                    .backlog_bytes_max = c->backlog_bytes_max,
                    .backlog_age_max_ms = c->backlog_age_max_ms,
                    .dedup_ms = c->dedup_ms,
                    .ttl_ms = c->ttl_ms},
        .partitions = partitions,
        .created_ms = w->created_ms,
        .groups = w->groups,
        .dirty_bytes = w->dirty_bytes,
        .compacted_ms = w->compacted_ms,
        .tombstones = w->tombstones,
        .tombstone_ms = w->tombstone_ms,
        .dirty_min = w->dirty_min,
        .compact_age_ms = w->compact_age_ms,
    };
}

static bool topics_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_TOPICS)
        return false;
    const struct wire_topic_reply *page = &reply->topics;
    struct sluice_topic *rows = listing_rows(l, page->topics_n, sizeof *rows);
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
    int code = listing_of(s, VERB_TOPIC_LIST, NULL, name, topics_page, &l, err);
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
