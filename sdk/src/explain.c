/* The one fact that keeps a message, a key or a group from being delivered. */
#include <string.h>

#include "sdk/filter.h"
#include "sdk/listing.h"

_Static_assert((int)SLUICE_FACT_READY == (int)EXPLAIN_READY &&
                   (int)SLUICE_FACT_LOST == (int)EXPLAIN_LOST &&
                   (int)SLUICE_FACT_PAUSED == (int)EXPLAIN_PAUSED,
               "what the header names is what the wire means");

static int put_question(struct sluice *s, struct request *r, const char *topic,
                        const struct sluice_explain_options *o, struct sluice_error *err)
{
    struct wire_explain *w = &r->wire.explain;
    if (o->one) {
        w->has_offset = true;
        w->offset = o->offset;
        return partition_id(s, topic, o->partition, &w->partition, err);
    }
    w->has_key = o->key.data != NULL;
    w->key = request_keep(r, view_of(o->key.data, o->key.size));
    return 0;
}

/* Partitions of the answer are ids; 0: it speaks of none. */
static uint32_t index_of(struct sluice *s, const char *topic, uint32_t partition)
{
    struct topic *t;
    if (partition == 0 || catalog_topic(s, topic, &t, NULL) != 0)
        return UINT32_MAX;
    return topic_index(t, partition);
}

int sluice_explain(struct sluice *s, const char *topic, const char *group,
                   const struct sluice_explain_options *of, struct sluice_explanation *out,
                   struct sluice_error *err)
{
    if (out == NULL || out->size < offsetof(struct sluice_explanation, reason) + sizeof out->reason)
        return fail(err, E_INVALID_ARGUMENT,
                    "struct sluice_explanation: size must be sizeof(struct sluice_explanation)");
    struct sluice_explain_options o;
    int code = TAKE_STRUCT(&o, of, sluice_explain_options, offset, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_EXPLAIN, LANE_READS, topic, group, &code, err);
    if (r == NULL)
        return code;
    r->wire.explain.topic = request_keep(r, view_of_str(topic));
    r->wire.explain.group = request_keep(r, view_of_str(group));
    code = put_question(s, r, topic, &o, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = call_group(s, r, topic, group, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body != BODY_EXPLAIN) {
        answer_drop(a);
        return fail(err, E_BAD_FRAME, "explain: the broker's answer makes no sense");
    }
    const struct wire_explain_reply *w = &a->reply.explain;
    struct sluice_explanation e = {.size = out->size,
                                   .fact = w->fact,
                                   .partition = index_of(s, topic, w->partition),
                                   .offset = w->offset,
                                   .since_ms = w->since_ms,
                                   .until_ms = w->until_ms,
                                   .depth = w->depth,
                                   .attempts = w->attempts};
    text_copy(e.text, sizeof e.text, w->text);
    text_copy(e.session, sizeof e.session, w->session);
    text_copy(e.reason, sizeof e.reason, w->reason);
    answer_drop(a);
    memcpy(out, &e, sizeof e);
    return 0;
}
