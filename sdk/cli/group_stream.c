/* Stream groups: sluice group seek, and the members that sluice group show tells of. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "cli/group_stream.h"
#include "cli/help.h"
#include "cli/out.h"

/* ---- members ---- */

static const char *state_name(int state)
{
    return state == SLUICE_MEMBER_AWAY ? "away" : state == SLUICE_MEMBER_FENCED_OUT ? "fenced" : "active";
}

static json_t *members_json(const struct sluice_member_list *l)
{
    json_t *members = json_array(), *partitions = json_array();
    for (size_t i = 0; i < l->members_count; i++) {
        const struct sluice_member *m = &l->members[i];
        json_array_append_new(members, json_pack("{s:o, s:s, s:I, s:s, s:I, s:I, s:I, s:I}",
                                                 "name", m->name[0] != '\0' ? json_string(m->name) : json_null(), "client", m->client, "number",
                                                 (json_int_t)m->number, "state", state_name(m->state), "partitions", (json_int_t)m->partitions,
                                                 "session_timeout_ms", (json_int_t)m->session_timeout_ms, "heard_ms", (json_int_t)m->heard_ms,
                                                 "joined_ms", (json_int_t)m->joined_ms));
    }
    for (size_t i = 0; i < l->partitions_count; i++) {
        const struct sluice_member_partition *p = &l->partitions[i];
        json_array_append_new(partitions, json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:b}",
                                                    "partition", (json_int_t)p->partition, "committed", (json_int_t)p->committed, "end",
                                                    (json_int_t)p->end, "committed_ms",
                                                    p->committed_ms != 0 ? json_integer((json_int_t)p->committed_ms) : json_null(), "owner",
                                                    p->owned ? json_string(p->owner_client) : json_null(), "owner_name",
                                                    p->owned && p->owner[0] != '\0' ? json_string(p->owner) : json_null(), "moving", p->moving));
    }
    return json_pack("{s:o, s:o}", "members", members, "partitions", partitions);
}

static void members_text(const struct sluice_member_list *l)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    out_text("\n");
    table_begin(&t, 6, (const char *const[]){"MEMBER", "CLIENT", "STATE", ">PARTITIONS", ">TIMEOUT", ">HEARD"});
    for (size_t i = 0; i < l->members_count; i++) {
        const struct sluice_member *m = &l->members[i];
        table_cell(&t, "%s", m->name[0] != '\0' ? m->name : "-");
        table_cell(&t, "%s", m->client[0] != '\0' ? m->client : "-");
        table_cell(&t, "%s", state_name(m->state));
        table_cell(&t, "%" PRIu32, m->partitions);
        table_cell(&t, "%s", duration_format(text, m->session_timeout_ms));
        table_cell(&t, "%s", short_seconds(text, (double)m->heard_ms / 1000));
    }
    table_end(&t);
    if (l->members_count == 0)
        out_text("no members\n");
    out_text("\n");
    table_begin(&t, 5, (const char *const[]){">PARTITION", ">COMMITTED", ">END", ">BEHIND", "OWNER"});
    for (size_t i = 0; i < l->partitions_count; i++) {
        const struct sluice_member_partition *p = &l->partitions[i];
        table_cell(&t, "%" PRIu32, p->partition);
        table_cell(&t, "%" PRIu64, p->committed);
        table_cell(&t, "%" PRIu64, p->end);
        table_cell(&t, "%" PRIu64, p->end - p->committed);
        table_cell(&t, "%s%s", p->owned ? p->owner[0] != '\0' ? p->owner : p->owner_client : "-", p->owned && p->moving ? " (to give it up)" : "");
    }
    table_end(&t);
}

int group_members(const struct args *a, struct sluice *s, const struct sluice_group *g, json_t *into)
{
    struct sluice_member_list *l;
    struct sluice_error err = {0};
    if (sluice_group_members(s, g->topic, g->name, &l, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    if (args_json(a)) {
        json_t *both = members_json(l);
        json_object_update(into, both);
        json_decref(both);
    } else {
        members_text(l);
    }
    sluice_group_members_free(l);
    return STATUS_OK;
}

/* ---- seek ---- */

/* start, end, an offset, a time, group:OTHER. */
static int parse_to(const struct args *a, struct sluice_seek *o)
{
    static const char group[] = "group:";
    const char *text = args_text(a, "to", "");
    if (strcmp(text, "start") == 0) {
        o->to = SLUICE_FROM_START;
    } else if (strcmp(text, "end") == 0) {
        o->to = SLUICE_FROM_END;
    } else if (strncmp(text, group, sizeof group - 1) == 0 && text[sizeof group - 1] != '\0') {
        o->to = SLUICE_TO_GROUP;
        o->group = text + sizeof group - 1;
    } else if (count_parse(text, 0, UINT64_MAX - 1, &o->offset, NULL) == 0) {
        o->to = SLUICE_FROM_OFFSET;
    } else if (time_parse(text, clock_wall_ms(), &o->time_ms, NULL) == 0) {
        o->to = SLUICE_FROM_TIME;
    } else {
        return help_refuse(a, "--to: '%.60s' is not start, end, an offset, a time as 2026-11-22T04:32:39Z or -15m, or group:NAME", text);
    }
    return 0;
}

static void sought_text(const struct sluice_seek_list *l)
{
    struct table t;
    table_begin(&t, 4, (const char *const[]){">PARTITION", ">FROM", ">TO", ">MESSAGES"});
    for (size_t i = 0; i < l->count; i++) {
        const struct sluice_sought *r = &l->rows[i];
        table_cell(&t, "%" PRIu32, r->partition);
        table_cell(&t, "%" PRIu64, r->from);
        table_cell(&t, "%" PRIu64, r->to);
        table_cell(&t, "%" PRId64, (int64_t)(r->to - r->from));
    }
    table_end(&t);
}

static int seek(const struct args *a, struct sluice *s, const struct sluice_group *g, struct sluice_seek *o)
{
    struct sluice_seek_list *l;
    struct sluice_error err = {0};
    if (sluice_group_seek(s, g->topic, g->name, o, &l, &err) != 0)
        return client_fail(&err, g->topic, err.code == SLUICE_GROUP_NOT_FOUND && o->group != NULL ? o->group : g->name);
    if (args_json(a)) {
        for (size_t i = 0; i < l->count; i++)
            out_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "topic", g->topic, "group", g->name, "partition",
                               (json_int_t)l->rows[i].partition, "from", (json_int_t)l->rows[i].from, "to", (json_int_t)l->rows[i].to, "sought",
                               !o->dry_run));
    } else {
        sought_text(l);
        talk("%s group '%s' of topic '%s'", o->dry_run ? "would set" : "set", g->name, g->topic);
    }
    sluice_seek_free(l);
    return STATUS_OK;
}

int group_seek(const struct args *a)
{
    struct sluice_seek o = {.size = sizeof o, .dry_run = args_has(a, "dry-run"), .one = args_has(a, "partition"),
                            .partition = (uint32_t)args_number(a, "partition", 0)};
    struct sluice *s;
    int status = parse_to(a, &o);
    if (status == 0)
        status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_group_list *list;
    status = client_find_group(s, args_text(a, "topic", NULL), args_operand(a, 0), &list);
    if (status == 0) {
        status = seek(a, s, &list->groups[0], &o);
        sluice_groups_free(list);
    }
    client_close(a, s);
    return status;
}
