#include "sdk/filter.h"

int partition_id(struct sluice *s, const char *topic, uint32_t index, uint32_t *id, struct sluice_error *err)
{
    struct topic *t;
    int code = catalog_topic(s, topic, &t, err);
    if (code == 0 && index >= t->partitions_n) {
        catalog_forget_topic(&s->catalog, t); /* it may have grown */
        code = catalog_topic(s, topic, &t, err);
    }
    if (code == 0 && index >= t->partitions_n)
        return fail(err, E_PARTITION_NOT_FOUND, "no such partition: %u of topic '%s', which has %u", index,
                    topic, t->partitions_n);
    if (code == 0)
        *id = t->partitions[index];
    return code;
}

int filter_put(struct sluice *s, struct request *r, const char *topic, const struct sluice_dlq_filter *given,
               const struct wire_held_filter **to, struct sluice_error *err)
{
    struct sluice_dlq_filter f;
    *to = NULL;
    if (given == NULL)
        return 0;
    int code = TAKE_STRUCT(&f, given, sluice_dlq_filter, offset, err);
    if (code == 0 && f.header_value.data != NULL && f.header == NULL)
        code = fail(err, E_INVALID_ARGUMENT, "header_value is given, and no header");
    if (code == 0 && f.header != NULL && f.header[0] == '\0')
        code = fail(err, E_INVALID_ARGUMENT, "header: is empty");
    uint32_t partition = 0;
    if (code == 0 && f.one)
        code = partition_id(s, topic, f.partition, &partition, err);
    if (code != 0)
        return code;
    struct wire_held_filter *w = arena_take(&r->memory, sizeof *w);
    *w = (struct wire_held_filter){
        .has_key = f.key.data != NULL,
        .key = request_keep(r, view_of(f.key.data, f.key.size)),
        .header = request_keep(r, view_of_str(f.header)),
        .has_header_value = f.header_value.data != NULL,
        .header_value = request_keep(r, view_of(f.header_value.data, f.header_value.size)),
        .reason = request_keep(r, view_of_str(f.reason)),
        .after_ms = f.since_ms,
        .before_ms = f.until_ms,
        .attempts_min = f.attempts_min,
        .attempts_max = f.attempts_max,
        .has_offset = f.one,
        .partition = partition,
        .offset = f.offset,
    };
    *to = w;
    return 0;
}
