/* The checks of what members of stream groups ask. */
#include "api/checks.h"

enum { MEMBER_TIMEOUT_MS_MIN = 100 };

static int check_names(struct view topic, struct view group, struct err *e)
{
    int code = check_name("topic", topic, false, e);
    return code == E_OK ? check_name("group", group, false, e) : code;
}

int check_group_join(struct api *a, struct op *op, struct err *e)
{
    const struct wire_group_join *j = &op->request.join;
    int code = check_names(j->topic, j->group, e);
    if (code == E_OK)
        code = check_name("group_join.name", j->name, true, e);
    if (code != E_OK || j->timeout_ms == 0)
        return code;
    if (j->timeout_ms < MEMBER_TIMEOUT_MS_MIN)
        return err_set(e, E_INVALID_ARGUMENT, "group_join.timeout_ms is %u, the least is %d", j->timeout_ms, MEMBER_TIMEOUT_MS_MIN);
    return check_at_most("group_join.timeout_ms", j->timeout_ms, "member_timeout_ms_max", a->limits->member_timeout_ms_max, e);
}

int check_group_commit(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    if (op->request.commit.items_n == 0)
        return err_set(e, E_INVALID_ARGUMENT, "group_commit.items is empty: nothing to commit");
    return E_OK;
}

int check_group_seek(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_group_seek *s = &op->request.seek;
    int code = check_names(s->topic, s->group, e);
    if (code == E_OK && (s->to < SEEK_TO_START || s->to > SEEK_TO_GROUP))
        return err_set(e, E_INVALID_ARGUMENT, "group_seek.to is %u: 1 start, 2 end, 3 offsets, 4 another group", s->to);
    if (code == E_OK)
        code = check_name("group_seek.other", s->other, s->to != SEEK_TO_GROUP, e);
    if (code == E_OK && s->to == SEEK_TO_OFFSETS && s->items_n == 0)
        return err_set(e, E_INVALID_ARGUMENT, "group_seek.items is empty: the offsets are in them");
    return code;
}

int check_group_members(struct api *a, struct op *op, struct err *e)
{
    struct wire_group_members *m = &op->request.members;
    m->limit = lowered(m->limit, a->limits->page_max);
    return check_names(m->topic, m->group, e);
}
