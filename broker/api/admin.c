/* The checks of what makes, changes and lists topics and groups, and of backups. */
#include "api/checks.h"

enum { DELIVERIES_MAX = 1000 };

/* One of a few words on the wire, 0 for the default. */
static int check_choice(const char *field, unsigned value, unsigned last, struct err *e)
{
    if (value <= last)
        return E_OK;
    return err_set(e, E_INVALID_ARGUMENT, "%s is %u: 0 (the default) to %u", field, value, last);
}

int check_topic_name(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    return check_name("topic", op->request.topic.name, false, e);
}

int check_topic_set(struct api *a, struct op *op, struct err *e)
{
    const struct wire_topic_config *c = &op->request.topic.config;
    int code = check_topic_name(a, op, e);
    if (code == E_OK)
        code = check_choice("topic.durability", c->durability, DURABILITY_OS, e);
    if (code == E_OK)
        code = check_at_most("topic.partitions", c->partitions, "topic_partitions_max",
                             a->limits->topic_partitions_max, e);
    if (code == E_OK)
        code = check_at_most("topic.message_bytes_max", c->message_bytes_max, "message_bytes_max",
                             a->message_bytes_max, e);
    if (code == E_OK && c->hard_cap_ms != 0 && c->hard_cap_ms < c->retention_ms)
        return err_set(e, E_INVALID_ARGUMENT, "topic.hard_cap_ms is %llu, less than retention_ms, %llu",
                       (unsigned long long)c->hard_cap_ms, (unsigned long long)c->retention_ms);
    return code;
}

int check_group_name(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    int code = check_name("topic", op->request.group.topic, false, e);
    return code == E_OK ? check_name("group", op->request.group.name, false, e) : code;
}

int check_group_set(struct api *a, struct op *op, struct err *e)
{
    const struct wire_group_config *c = &op->request.group.config;
    int code = check_group_name(a, op, e);
    if (code == E_OK)
        code = check_choice("group.mode", c->mode, MODE_STREAM, e);
    if (code == E_OK)
        code = check_choice("group.order", c->order, ORDER_NONE, e);
    if (code == E_OK)
        code = check_choice("group.park", c->park, PARK_KEY, e);
    if (code == E_OK)
        code = c->from == FROM_REPLAY ? E_OK : check_choice("group.from", c->from, FROM_END, e);
    if (code == E_OK)
        code = check_choice("group.expired", c->expired, EXPIRED_PARK, e);
    if (code == E_OK)
        code = check_at_most("group.lease_ms", c->lease_ms, "lease_ms_max", a->limits->lease_ms_max, e);
    if (code == E_OK)
        code = check_at_most("group.max_deliveries", c->max_deliveries, "of deliveries", DELIVERIES_MAX, e);
    if (code == E_OK)
        code = check_at_most("group.backoff_max_ms", c->backoff_max_ms, "delay_ms_max",
                             a->limits->delay_ms_max, e);
    if (code == E_OK)
        code = check_at_most("group.in_flight_max", c->in_flight_max, "group_in_flight_max",
                             a->limits->group_in_flight_max, e);
    if (code != E_OK)
        return code;
    if (c->lease_ms != 0 && c->lease_ms < LEASE_MS_MIN)
        return err_set(e, E_INVALID_ARGUMENT, "group.lease_ms is %u, the least is %d", c->lease_ms,
                       LEASE_MS_MIN);
    if (c->backoff_max_ms != 0 && c->backoff_max_ms < c->backoff_min_ms)
        return err_set(e, E_INVALID_ARGUMENT, "group.backoff_max_ms is %u, less than backoff_min_ms, %u",
                       c->backoff_max_ms, c->backoff_min_ms);
    return E_OK;
}

/* Names that select are names; `after` is one, or two with a slash between, and only compared. */
int check_list(struct api *a, struct op *op, struct err *e)
{
    struct wire_list *l = &op->request.list;
    l->limit = lowered(l->limit, a->limits->page_max);
    int code = check_name("topic", l->topic, true, e);
    if (code == E_OK)
        code = check_name(op->request.verb == VERB_TOPIC_LIST ? "topic" : "group", l->name, true, e);
    if (code == E_OK)
        code = check_at_most("list.after", l->after.size, "of bytes", 2 * WIRE_NAME_MAX + 1, e);
    return code;
}

int check_group_control(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_group_control *c = &op->request.control;
    int code = check_name("topic", c->topic, false, e);
    if (code == E_OK)
        code = check_name("group", c->name, false, e);
    if (code == E_OK && (c->act < GROUP_PAUSE || c->act > GROUP_PURGE))
        return err_set(e, E_INVALID_ARGUMENT, "group_control.act is %u: 1 pause, 2 resume, 3 purge", c->act);
    return code;
}

/* A name as others have, so no path; one that begins with a dot would be hidden, or is the directory itself. */
int check_backup(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    struct view name = op->request.backup.name;
    int code = check_name("backup", name, false, e);
    if (code == E_OK && name.data[0] == '.')
        return err_set(e, E_INVALID_ARGUMENT, "backup '%.*s': the name begins with a dot", (int)name.size, (const char *)name.data);
    return code;
}
