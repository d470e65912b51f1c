/* Groups: made, changed, paused, purged, deleted, listed. */
#include "sdk/listing.h"

/* What the header names is what the wire means. */
_Static_assert((int)SLUICE_GROUP_PARK == (int)GROUP_SET_PARK &&
                   (int)SLUICE_GROUP_IDLE_EXPIRY_MS == (int)GROUP_SET_IDLE_EXPIRY_MS &&
                   (int)SLUICE_FROM_REPLAY == (int)FROM_REPLAY && (int)SLUICE_GROUP_RUN_MAX == (int)GROUP_SET_RUN_MAX &&
                   (int)SLUICE_GROUP_RATE == (int)GROUP_SET_RATE_MILLI,
               "fields of groups");

static int check_group_options(const struct sluice_group_options *o, struct sluice_error *err)
{
    if (o->mode < 0 || o->mode > SLUICE_STREAM)
        return fail(err, E_INVALID_ARGUMENT, "mode: %d is none of enum sluice_mode", o->mode);
    if (o->order < 0 || o->order > SLUICE_ORDER_NONE)
        return fail(err, E_INVALID_ARGUMENT, "order: %d is none of enum sluice_order", o->order);
    if (o->park < 0 || o->park > SLUICE_PARK_KEY)
        return fail(err, E_INVALID_ARGUMENT, "park: %d is none of enum sluice_park_policy", o->park);
    if (o->from != SLUICE_FROM_REPLAY && (o->from < 0 || o->from > SLUICE_FROM_END))
        return fail(err, E_INVALID_ARGUMENT, "from: %d is none of SLUICE_FROM_START, _END and _REPLAY", o->from);
    if (o->expired < 0 || o->expired > SLUICE_EXPIRED_PARK)
        return fail(err, E_INVALID_ARGUMENT, "expired: %d is none of enum sluice_expired", o->expired);
    return 0;
}

static int group_config(const struct sluice_group_options *given, struct wire_group_config *c,
                        struct sluice_error *err)
{
    struct sluice_group_options o;
    int code = TAKE_STRUCT(&o, given, sluice_group_options, backoff_max_ms, err);
    if (code == 0)
        code = check_group_options(&o, err);
    *c = (struct wire_group_config){.mode = (uint8_t)o.mode,
                                    .order = (uint8_t)o.order,
                                    .park = (uint8_t)o.park,
                                    .from = (uint8_t)o.from,
                                    .lease_ms = o.lease_ms,
                                    .max_deliveries = o.max_deliveries,
                                    .backoff_min_ms = o.backoff_min_ms,
                                    .backoff_max_ms = o.backoff_max_ms,
                                    .run_max = o.run_max,
                                    .in_flight_max = o.in_flight_max,
                                    .expired = (uint8_t)o.expired,
                                    .key_in_flight_max = o.key_in_flight_max,
                                    .idle_expiry_ms = o.idle_expiry_ms};
    if (code == 0)
        code = rate_milli("rate", o.rate, &c->rate_milli, err);
    return code == 0 ? rate_milli("key_rate", o.key_rate, &c->key_rate_milli, err) : code;
}

int sluice_group_create(struct sluice *s, const char *topic, const char *name,
                        const struct sluice_group_options *options, bool *created, struct sluice_error *err)
{
    struct wire_group_config config;
    int code = group_config(options, &config, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_GROUP_CREATE, LANE_FREE, topic, name, &code, err);
    if (r == NULL)
        return code;
    r->wire.group = (struct wire_group_set){.topic = request_keep(r, view_of_str(topic)),
                                            .name = request_keep(r, view_of_str(name)),
                                            .config = config};
    struct answer *a;
    code = call_group(s, r, topic, name, &a, err);
    if (code != 0)
        return code;
    if (created != NULL)
        *created = a->reply.body == BODY_GROUPS && a->reply.groups.created;
    answer_drop(a);
    return 0;
}

int sluice_group_alter(struct sluice *s, const char *topic, const char *name,
                       const struct sluice_group_options *options, uint64_t fields, struct sluice_error *err)
{
    struct wire_group_config config;
    int code = group_config(options, &config, err);
    if (code == 0 && fields == 0)
        code =
            fail(err, E_INVALID_ARGUMENT, "group '%s': no field is to be changed", name != NULL ? name : "");
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_GROUP_ALTER, LANE_FREE, topic, name, &code, err);
    if (r == NULL)
        return code;
    r->wire.group = (struct wire_group_set){.topic = request_keep(r, view_of_str(topic)),
                                            .name = request_keep(r, view_of_str(name)),
                                            .config = config,
                                            .mask = fields};
    return ask_group(s, r, topic, name, NULL, err);
}

static int control(struct sluice *s, const char *topic, const char *name, enum group_act act, uint64_t *depth,
                   struct sluice_error *err)
{
    int code;
    struct request *r = group_request(s, VERB_GROUP_CONTROL, LANE_FREE, topic, name, &code, err);
    if (r == NULL)
        return code;
    r->wire.control = (struct wire_group_control){.topic = request_keep(r, view_of_str(topic)),
                                                  .name = request_keep(r, view_of_str(name)),
                                                  .act = (uint8_t)act};
    return ask_group(s, r, topic, name, depth, err);
}

int sluice_group_pause(struct sluice *s, const char *topic, const char *name, struct sluice_error *err)
{
    return control(s, topic, name, GROUP_PAUSE, NULL, err);
}

int sluice_group_resume(struct sluice *s, const char *topic, const char *name, struct sluice_error *err)
{
    return control(s, topic, name, GROUP_RESUME, NULL, err);
}

int sluice_group_purge(struct sluice *s, const char *topic, const char *name, uint64_t *purged,
                       struct sluice_error *err)
{
    return control(s, topic, name, GROUP_PURGE, purged, err);
}

int sluice_group_delete(struct sluice *s, const char *topic, const char *name, struct sluice_error *err)
{
    int code;
    struct request *r = group_request(s, VERB_GROUP_DELETE, LANE_FREE, topic, name, &code, err);
    if (r == NULL)
        return code;
    r->wire.group = (struct wire_group_set){.topic = request_keep(r, view_of_str(topic)),
                                            .name = request_keep(r, view_of_str(name))};
    return ask_group(s, r, topic, name, NULL, err);
}

static const struct sluice_gap *put_losses(struct listing *l, const struct wire_group *w)
{
    struct sluice_gap *gaps = arena_take(&l->memory, w->losses_n * sizeof *gaps);
    for (uint32_t i = 0; i < w->losses_n; i++) {
        const struct wire_group_loss *loss = &w->losses[i];
        gaps[i] = (struct sluice_gap){.size = sizeof *gaps, .partition = loss->index, .reason = SLUICE_GAP_HARD_CAP, .from = loss->from,
                                      .to = loss->to, .count = loss->lost, .from_ms = loss->from_time_ms, .to_ms = loss->to_time_ms};
    }
    return gaps;
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
                    .backoff_max_ms = c->backoff_max_ms,
                    .run_max = c->run_max,
                    .in_flight_max = c->in_flight_max,
                    .expired = c->expired,
                    .rate = c->rate_milli / 1000.0,
                    .key_rate = c->key_rate_milli / 1000.0,
                    .key_in_flight_max = c->key_in_flight_max,
                    .idle_expiry_ms = c->idle_expiry_ms},
        .created_ms = w->created_ms,
        .paused = w->paused,
        .lost = w->lost,
        .losses = put_losses(l, w),
        .losses_count = w->losses_n,
    };
}

static bool groups_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_GROUPS)
        return false;
    const struct wire_group_reply *page = &reply->groups;
    struct sluice_group *rows = listing_rows(l, page->groups_n, sizeof *rows);
    for (uint32_t i = 0; i < page->groups_n; i++)
        put_group(l, &page->groups[i], &rows[i]);
    l->more = page->more;
    if (l->more && page->groups_n > 0)
        listing_after_group(l, rows[page->groups_n - 1].topic, rows[page->groups_n - 1].name);
    return true;
}

int sluice_groups(struct sluice *s, const char *topic, const char *name, struct sluice_group_list **out,
                  struct sluice_error *err)
{
    struct listing *l;
    int code = listing_of(s, VERB_GROUP_LIST, topic, name, groups_page, &l, err);
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
