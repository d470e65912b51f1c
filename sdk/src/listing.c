#include "sdk/listing.h"

#include <string.h>

#include "base/mem.h"

enum { PAGE = 500 }; /* rows asked for at once; the broker may give fewer */

void *listing_rows(struct listing *l, size_t n, size_t size)
{
    l->rows = mem_resize(l->rows, l->rows_n + n, size);
    void *first = (char *)l->rows + l->rows_n * size;
    memset(first, 0, n * size);
    l->rows_n += n;
    return first;
}

void listing_free(struct listing *l)
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

int listing_of(struct sluice *s, enum wire_verb verb, const char *topic, const char *name, page_fn *take,
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

void listing_after_group(struct listing *l, const char *topic, const char *group)
{
    buf_clear(&l->after);
    buf_putf(&l->after, "%s/%s", topic, group);
}

int listing_of_tasks(struct sluice *s, uint64_t id, page_fn *take, struct listing **out,
                     struct sluice_error *err)
{
    *out = NULL;
    struct listing *l = mem_zalloc(sizeof *l);
    arena_init(&l->memory, SIZE_MAX);
    int code;
    do {
        struct answer *a;
        struct request *r =
            id != 0 ? client_request(s, VERB_TASK_LIST, LANE_READS, "task %llu", (unsigned long long)id)
                    : client_request(s, VERB_TASK_LIST, LANE_READS, "tasks");
        size_t before = l->rows_n;
        r->wire.task = (struct wire_task){.id = id, .after = l->after_id, .limit = PAGE};
        code = client_call(s, r, &a, err);
        if (code != 0)
            break;
        if (!take(l, &a->reply) || (l->more && l->rows_n == before))
            code = fail(err, E_BAD_FRAME, "tasks: the broker's answer makes no sense");
        answer_drop(a);
    } while (code == 0 && l->more);
    if (code != 0)
        listing_free(l);
    else
        *out = l;
    return code;
}

/* ---------------------------------------------------------------- one question */

static void forget(struct sluice *s, const char *topic)
{
    struct topic *known = catalog_known_topic(&s->catalog, topic);
    if (known != NULL)
        catalog_forget_topic(&s->catalog, known);
}

int ask_topic(struct sluice *s, struct request *r, const char *topic, struct sluice_error *err)
{
    struct answer *a;
    int code = client_call(s, r, &a, err);
    if (code == 0)
        answer_drop(a);
    forget(s, topic); /* it may have changed */
    return code == E_TOPIC_NOT_FOUND ? fail_no_topic(err, topic) : code;
}

int call_group(struct sluice *s, struct request *r, const char *topic, const char *group, struct answer **out,
               struct sluice_error *err)
{
    int code = client_call(s, r, out, err);
    if (code == E_TOPIC_NOT_FOUND) {
        forget(s, topic);
        return fail_no_topic(err, topic);
    }
    return code == E_GROUP_NOT_FOUND ? fail_no_group(err, topic, group) : code;
}

int ask_group(struct sluice *s, struct request *r, const char *topic, const char *group, uint64_t *depth,
              struct sluice_error *err)
{
    struct answer *a;
    int code = call_group(s, r, topic, group, &a, err);
    if (code != 0)
        return code;
    if (depth != NULL)
        *depth = a->reply.depth;
    answer_drop(a);
    return 0;
}

struct request *group_request(struct sluice *s, enum wire_verb verb, enum lane_kind kind, const char *topic,
                              const char *group, int *code, struct sluice_error *err)
{
    *code = check_name("topic", topic, err);
    if (*code == 0)
        *code = check_name("group", group, err);
    return *code == 0 ? client_request(s, verb, kind, "group '%s' of topic '%s'", group, topic) : NULL;
}

int rate_milli(const char *field, double rate, uint32_t *out, struct sluice_error *err)
{
    const double most = UINT32_MAX / 1000.0;
    if (!(rate >= 0 && rate <= most) || (rate > 0 && rate < 0.001))
        return fail(err, E_INVALID_ARGUMENT,
                    "%s: %g per second, 0.001 to %.0f are accepted, and 0 for no limit", field, rate, most);
    *out = (uint32_t)(rate * 1000 + 0.5);
    return 0;
}
