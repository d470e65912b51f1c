/* Dead letters: pages of the messages that a queue group parked, with their bytes. */
#include "base/mem.h"
#include "sdk/batch.h"
#include "sdk/filter.h"

enum { LETTERS_DEFAULT = 100, LETTERS_MAX = 1000, PAGE_BYTES_MAX = 8 << 20 };

/* Bytes of messages stay in the answer; texts are copied, as strings. */
struct sluice_dlq {
    struct sluice *client;
    struct answer *answer;
    struct arena memory;
    struct sluice_dead_letter *letters;
    size_t count;
    bool more;
    uint32_t last_partition; /* the id */
    uint64_t last_offset;
};

/* Where each record's bytes begin; NULL if they do not fit into what came. */
static const uint8_t **find_records(struct arena *memory, const struct wire_delivery *d)
{
    const uint8_t **at = arena_take(memory, d->records_n * sizeof *at);
    size_t end = 0;
    for (uint32_t i = 0; i < d->records_n; i++) {
        at[i] = d->data.data + end;
        size_t size = record_bytes(&d->records[i]);
        if (size > d->data.size - end)
            return NULL;
        end += size;
    }
    return at;
}

static bool fill(struct sluice_dlq *q, const struct topic *t)
{
    const struct wire_held_reply *h = &q->answer->reply.held;
    const struct wire_delivery *d = h->has_delivery ? &h->delivery : NULL;
    const uint8_t **at = d != NULL ? find_records(&q->memory, d) : NULL;
    if (d != NULL && at == NULL)
        return false;
    const char *topic = text_keep(&q->memory, h->topic), *group = text_keep(&q->memory, h->group);
    q->letters = arena_take(&q->memory, h->rows_n * sizeof *q->letters);
    for (uint32_t i = 0; i < h->rows_n; i++) {
        const struct wire_held *row = &h->rows[i];
        struct sluice_dead_letter *l = &q->letters[q->count++];
        *l = (struct sluice_dead_letter){.group = group,
                                         .reason = text_keep(&q->memory, row->reason),
                                         .last_error = text_keep(&q->memory, row->error),
                                         .parked_at_ms = row->at_ms};
        l->message = (struct sluice_delivery){.topic = topic,
                                              .group = group,
                                              .partition = topic_index(t, row->partition),
                                              .offset = row->offset,
                                              .attempt = row->failures,
                                              .grants = row->grants};
        q->last_partition = row->partition;
        q->last_offset = row->offset;
        if (d == NULL || row->record >= d->records_n)
            continue;
        const struct wire_record *r = &d->records[row->record];
        l->message.timestamp_ms = r->timestamp_ms;
        l->message.append_time_ms = r->append_time_ms;
        if ((r->flags & RECORD_DAMAGED) == 0)
            record_views(r, at[row->record], &l->message);
    }
    q->more = h->more;
    if (h->more && h->next_partition != 0) { /* the broker may have looked further than the last that it gives */
        q->last_partition = h->next_partition;
        q->last_offset = h->next_offset;
    }
    return true;
}

int sluice_dlq_list(struct sluice *s, const char *topic, const char *group,
                    const struct sluice_dlq_options *options, struct sluice_dlq **out,
                    struct sluice_error *err)
{
    *out = NULL;
    struct sluice_dlq_options o;
    int code = TAKE_STRUCT(&o, options, sluice_dlq_options, after, err);
    if (code == 0 && o.limit > LETTERS_MAX)
        code = fail(err, E_INVALID_ARGUMENT, "limit: %zu, at most %d are accepted", o.limit, LETTERS_MAX);
    struct topic *t;
    if (code == 0)
        code = catalog_topic(s, topic, &t, err);
    if (code == 0)
        code = check_name("group", group, err);
    if (code != 0)
        return code;
    struct request *r =
        client_request(s, VERB_HELD_LIST, LANE_READS, "group '%s' of topic '%s'", group, topic);
    size_t room = s->budget.bulk_max / 4;
    r->wire.held =
        (struct wire_held_list){.topic = request_keep(r, view_of_str(topic)),
                                .group = request_keep(r, view_of_str(group)),
                                .state = HELD_PARKED,
                                .limit = o.limit != 0 ? (uint32_t)o.limit : LETTERS_DEFAULT,
                                .max_bytes = room < PAGE_BYTES_MAX ? (uint32_t)room : PAGE_BYTES_MAX,
                                .payload = true};
    if (o.after != NULL && (o.after->count > 0 || o.after->more)) {
        r->wire.held.has_after = true;
        r->wire.held.after_partition = o.after->last_partition;
        r->wire.held.after_offset = o.after->last_offset;
    }
    code = filter_put(s, r, topic, o.filter, &r->wire.held.filter, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_TOPIC_NOT_FOUND) {
        catalog_forget_topic(&s->catalog, t);
        return fail_no_topic(err, topic);
    }
    if (code == E_GROUP_NOT_FOUND)
        return fail_no_group(err, topic, group);
    if (code != 0)
        return code;
    struct sluice_dlq *q = mem_zalloc(sizeof *q);
    client_take(s);
    q->client = s;
    q->answer = a;
    arena_init(&q->memory, SIZE_MAX);
    if (a->reply.body != BODY_HELD || !fill(q, t)) {
        sluice_dlq_free(q);
        return fail(err, E_BAD_FRAME, "dead letters: the broker's answer makes no sense");
    }
    *out = q;
    return 0;
}

size_t sluice_dlq_count(const struct sluice_dlq *d)
{
    return d->count;
}

const struct sluice_dead_letter *sluice_dlq_at(const struct sluice_dlq *d, size_t i)
{
    return i < d->count ? &d->letters[i] : NULL;
}

bool sluice_dlq_more(const struct sluice_dlq *d)
{
    return d->more;
}

void sluice_dlq_free(struct sluice_dlq *d)
{
    if (d == NULL)
        return;
    struct sluice *s = d->client;
    answer_drop(d->answer);
    arena_free(&d->memory);
    mem_free(d);
    client_drop(s);
}
