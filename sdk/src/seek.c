/* Stream groups from outside: who its members are, and setting where it reads. */
#include "base/mem.h"
#include "sdk/listing.h"

_Static_assert((int)SLUICE_MEMBER_FENCED_OUT == (int)MEMBER_FENCED, "states of members");

/* What the user gets stands first. */
struct members {
    struct sluice_member_list out;
    struct arena memory;
};

static int members_page(struct sluice *s, const char *topic, const char *group, uint32_t from, struct answer **out, struct sluice_error *err)
{
    int code;
    struct request *r = group_request(s, VERB_GROUP_MEMBERS, LANE_READS, topic, group, &code, err);
    if (r == NULL)
        return code;
    r->wire.members = (struct wire_group_members){.topic = request_keep(r, view_of_str(topic)), .group = request_keep(r, view_of_str(group)), .from = from};
    code = call_group(s, r, topic, group, out, err);
    if (code == 0 && (*out)->reply.body != BODY_MEMBERS) {
        answer_drop(*out);
        code = fail(err, E_BAD_FRAME, "group '%s' of topic '%s': the broker's answer makes no sense", group, topic);
    }
    return code;
}

static const char *owner_of(const struct members *m, const struct wire_members_reply *r, uint32_t index, const char **client)
{
    *client = "";
    if (index >= r->members_n)
        return "";
    *client = m->out.members[index].client;
    return m->out.members[index].name;
}

/* The last page's members are those that partitions of all pages are of, as far as they are still there. */
static void members_take(struct members *m, const struct wire_members_reply *r)
{
    struct sluice_member *members = arena_take(&m->memory, (r->members_n + 1) * sizeof *members);
    for (uint32_t i = 0; i < r->members_n; i++) {
        const struct wire_member *w = &r->members[i];
        members[i] = (struct sluice_member){.name = text_keep(&m->memory, w->name), .client = text_keep(&m->memory, w->client), .number = w->member,
                                            .state = w->state, .partitions = w->partitions, .session_timeout_ms = w->timeout_ms,
                                            .heard_ms = w->heard_ms, .joined_ms = w->joined_ms};
    }
    m->out.members = members;
    m->out.members_count = r->members_n;
    struct sluice_member_partition *parts =
        arena_take(&m->memory, (m->out.partitions_count + r->partitions_n) * sizeof *parts + 1);
    for (size_t i = 0; i < m->out.partitions_count; i++)
        parts[i] = m->out.partitions[i];
    for (uint32_t i = 0; i < r->partitions_n; i++) {
        const struct wire_member_part *w = &r->partitions[i];
        struct sluice_member_partition *p = &parts[m->out.partitions_count + i];
        *p = (struct sluice_member_partition){.partition = w->index, .committed = w->committed, .end = w->end, .committed_ms = w->committed_ms,
                                              .owned = w->owner != UINT32_MAX, .moving = w->owner != w->target};
        p->owner = owner_of(m, r, w->owner, &p->owner_client);
        p->owner_number = w->owner < r->members_n ? r->members[w->owner].member : 0;
    }
    m->out.partitions = parts;
    m->out.partitions_count += r->partitions_n;
}

int sluice_group_members(struct sluice *s, const char *topic, const char *group, struct sluice_member_list **out, struct sluice_error *err)
{
    *out = NULL;
    struct members *m = mem_zalloc(sizeof *m);
    arena_init(&m->memory, SIZE_MAX);
    bool more = true;
    int code = 0;
    while (code == 0 && more) {
        struct answer *a;
        code = members_page(s, topic, group, (uint32_t)m->out.partitions_count, &a, err);
        if (code != 0)
            break;
        members_take(m, &a->reply.members);
        more = a->reply.members.more && a->reply.members.partitions_n > 0;
        answer_drop(a);
    }
    if (code != 0)
        sluice_group_members_free(&m->out);
    else
        *out = &m->out;
    return code;
}

void sluice_group_members_free(struct sluice_member_list *l)
{
    if (l == NULL)
        return;
    struct members *m = container_of(l, struct members, out);
    arena_free(&m->memory);
    mem_free(m);
}

/* ---------------------------------------------------------------- seeking */

struct sought {
    struct sluice_seek_list out;
    struct sluice_sought rows[];
};

/* The first offset appended at or after a time. */
static int offset_at(struct sluice *s, const struct topic *t, uint32_t index, uint64_t time_ms, uint64_t *offset, struct sluice_error *err)
{
    struct request *r = client_request(s, VERB_OFFSET_FOR, LANE_READS, "topic '%s', partition %u", t->name, index);
    r->wire.offset_for = (struct wire_offset_for){.partition = t->partitions[index], .time_ms = time_ms};
    struct answer *a;
    int code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body == BODY_OFFSET)
        *offset = a->reply.offset.offset;
    else
        code = fail(err, E_BAD_FRAME, "topic '%s': the broker's answer makes no sense", t->name);
    answer_drop(a);
    return code;
}

static int seek_items(struct sluice *s, const struct topic *t, const struct sluice_seek *o, struct wire_place *items, uint32_t *n,
                      struct sluice_error *err)
{
    if (o->one && o->partition >= t->partitions_n)
        return fail(err, E_PARTITION_NOT_FOUND, "%s: topic '%s' has partitions 0 to %u, not %u", error_text(E_PARTITION_NOT_FOUND), t->name,
                    t->partitions_n - 1, o->partition);
    bool named = o->one || o->to == SLUICE_FROM_TIME || o->to == SLUICE_FROM_OFFSET;
    uint32_t first = o->one ? o->partition : 0, last = o->one ? o->partition : t->partitions_n - 1;
    *n = 0;
    for (uint32_t i = first; named && i <= last; i++) {
        struct wire_place *p = &items[(*n)++];
        *p = (struct wire_place){.partition = t->partitions[i], .offset = o->offset};
        int code = o->to == SLUICE_FROM_TIME ? offset_at(s, t, i, o->time_ms, &p->offset, err) : 0;
        if (code != 0)
            return code;
    }
    return 0;
}

static struct sluice_seek_list *sought_new(const struct wire_seek_reply *r)
{
    struct sought *x = mem_zalloc(sizeof *x + r->rows_n * sizeof x->rows[0]);
    for (uint32_t i = 0; i < r->rows_n; i++)
        x->rows[i] = (struct sluice_sought){.partition = r->rows[i].index, .from = r->rows[i].from, .to = r->rows[i].to};
    x->out = (struct sluice_seek_list){.count = r->rows_n, .rows = x->rows};
    return &x->out;
}

int sluice_group_seek(struct sluice *s, const char *topic, const char *group, const struct sluice_seek *seek, struct sluice_seek_list **out,
                      struct sluice_error *err)
{
    static const uint8_t tos[] = {[SLUICE_FROM_START] = SEEK_TO_START, [SLUICE_FROM_END] = SEEK_TO_END, [SLUICE_FROM_OFFSET] = SEEK_TO_OFFSETS,
                                  [SLUICE_FROM_TIME] = SEEK_TO_OFFSETS, [SLUICE_TO_GROUP] = SEEK_TO_GROUP};
    struct sluice_seek o;
    struct topic *t;
    if (out != NULL)
        *out = NULL;
    int code = TAKE_STRUCT(&o, seek, sluice_seek, dry_run, err);
    if (code == 0 && (o.to < SLUICE_FROM_START || o.to > SLUICE_TO_GROUP))
        code = fail(err, E_INVALID_ARGUMENT, "to: %d is none of SLUICE_FROM_*, SLUICE_TO_GROUP", o.to);
    if (code == 0 && o.to == SLUICE_TO_GROUP)
        code = check_name("group", o.group, err);
    if (code == 0)
        code = catalog_topic(s, topic, &t, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_GROUP_SEEK, LANE_FREE, topic, group, &code, err);
    if (r == NULL)
        return code;
    struct wire_group_seek *w = &r->wire.seek;
    struct wire_place *items = arena_take(&r->memory, t->partitions_n * sizeof *items);
    *w = (struct wire_group_seek){.topic = request_keep(r, view_of_str(topic)), .group = request_keep(r, view_of_str(group)), .to = tos[o.to],
                                  .other = o.to == SLUICE_TO_GROUP ? request_keep(r, view_of_str(o.group)) : view_of(NULL, 0),
                                  .items = items, .dry_run = o.dry_run};
    code = seek_items(s, t, &o, items, &w->items_n, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = call_group(s, r, topic, group, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body != BODY_SEEK)
        code = fail(err, E_BAD_FRAME, "group '%s' of topic '%s': the broker's answer makes no sense", group, topic);
    else if (out != NULL)
        *out = sought_new(&a->reply.seek);
    answer_drop(a);
    return code;
}

void sluice_seek_free(struct sluice_seek_list *l)
{
    if (l != NULL)
        mem_free(container_of(l, struct sought, out));
}
