/* The table of verbs, and the way of an operation through it. */
#include <stdarg.h>

#include "api/checks.h"
#include "base/mem.h"
#include "base/units.h"

/* What one operation may hold in arrays beside its own bytes. Taken as needed. */
enum { ARENA_BYTES_MAX = 64 << 20 };

static const struct api_verb verbs[VERB_COUNT] = {
    [VERB_HELLO] = {"hello", RIGHT_NONE, false, check_hello},
    [VERB_BYE] = {"bye", RIGHT_NONE, false, check_nothing},
    [VERB_PRODUCE] = {"produce", RIGHT_WRITE, true, check_produce},
    [VERB_FETCH] = {"fetch", RIGHT_READ, false, check_fetch},
    [VERB_RECEIVE] = {"receive", RIGHT_READ, false, check_receive},
    [VERB_SETTLE] = {"settle", RIGHT_READ, true, check_settle},
    [VERB_TOPIC_CREATE] = {"topic_create", RIGHT_ADMIN, true, check_topic_set},
    [VERB_TOPIC_ALTER] = {"topic_alter", RIGHT_ADMIN, true, check_topic_set},
    [VERB_TOPIC_DELETE] = {"topic_delete", RIGHT_ADMIN, true, check_topic_name},
    [VERB_TOPIC_LIST] = {"topic_list", RIGHT_READ, false, check_list},
    [VERB_OFFSET_FOR] = {"offset_for", RIGHT_READ, false, check_nothing},
    [VERB_GROUP_CREATE] = {"group_create", RIGHT_ADMIN, true, check_group_set},
    [VERB_GROUP_ALTER] = {"group_alter", RIGHT_ADMIN, true, check_group_set},
    [VERB_GROUP_DELETE] = {"group_delete", RIGHT_ADMIN, true, check_group_name},
    [VERB_GROUP_LIST] = {"group_list", RIGHT_READ, false, check_list},
    [VERB_GROUP_LAG] = {"group_lag", RIGHT_READ, false, check_list},
    [VERB_HELD_LIST] = {"held_list", RIGHT_READ, false, check_held_list},
    [VERB_HEALTH] = {"health", RIGHT_NONE, false, check_nothing},
    [VERB_GROUP_CONTROL] = {"group_control", RIGHT_ADMIN, true, check_group_control},
    [VERB_HELD_CHANGE] = {"held_change", RIGHT_ADMIN, true, check_held_change},
    [VERB_TASK_LIST] = {"task_list", RIGHT_READ, false, check_nothing},
    [VERB_TASK_CANCEL] = {"task_cancel", RIGHT_ADMIN, true, check_nothing},
    [VERB_SCHED_LIST] = {"sched_list", RIGHT_READ, false, check_sched_list},
    [VERB_SCHED_CHANGE] = {"sched_change", RIGHT_WRITE, true, check_sched_change},
    [VERB_EXPLAIN] = {"explain", RIGHT_READ, false, check_explain},
    [VERB_STATE_GET] = {"state_get", RIGHT_READ, false, check_state_get},
    [VERB_GROUP_JOIN] = {"group_join", RIGHT_READ, false, check_group_join},
    [VERB_GROUP_HEARTBEAT] = {"group_heartbeat", RIGHT_READ, false, check_nothing},
    [VERB_GROUP_LEAVE] = {"group_leave", RIGHT_READ, false, check_nothing},
    [VERB_GROUP_COMMIT] = {"group_commit", RIGHT_READ, true, check_group_commit},
    [VERB_GROUP_SEEK] = {"group_seek", RIGHT_ADMIN, true, check_group_seek},
    [VERB_GROUP_MEMBERS] = {"group_members", RIGHT_READ, false, check_group_members},
    [VERB_BACKUP] = {"backup", RIGHT_ADMIN, false, check_backup},
    [VERB_WORKER_REPORT] = {"worker_report", RIGHT_READ, false, check_worker_report},
    [VERB_WORKER_LIST] = {"worker_list", RIGHT_READ, false, check_worker_list},
    [VERB_WORKER_CONTROL] = {"worker_control", RIGHT_ADMIN, false, check_worker_control},
};

const struct api_verb *api_verb(unsigned verb)
{
    return verb < ARRAY_LEN(verbs) && verbs[verb].name != NULL ? &verbs[verb] : NULL;
}

/* ---------------------------------------------------------------- life */

struct api *api_new(const struct api_options *o)
{
    struct api *a = mem_zalloc(sizeof *a);
    a->limits = o->limits;
    a->message_bytes_max = o->message_bytes_max;
    a->port = o->port;
    a->partitions = partitions_new();
    return a;
}

void api_free(struct api *a)
{
    if (a == NULL)
        return;
    partitions_free(a->partitions);
    mem_free(a);
}

void api_op_begin(struct op *op)
{
    arena_init(&op->arena, ARENA_BYTES_MAX);
}

void api_op_end(struct op *op)
{
    ref_drop(op->hold);
    op->hold = NULL;
    buf_free(&op->payload);
    arena_free(&op->arena);
}

/* ---------------------------------------------------------------- the way in */

static void refuse(struct op *op)
{
    op->reply = (struct wire_reply){.code = (uint16_t)op->error.code,
                                    .detail = view_of_str(op->error.text),
                                    .retry_after_ms = op->error.code == E_OVERLOADED ? 100 : 0};
    op->turn = 0;
    op->level = DURABILITY_NONE;
    op->read = READ_NONE;
    op->done(op);
}

void api_refuse(struct op *op, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err_vset(&op->error, code, fmt, args);
    va_end(args);
    refuse(op);
}

static int check_number(const struct api_verb *v, const struct wire_request *r, struct err *e)
{
    if (v->numbered && r->seq == 0)
        return err_set(e, E_INVALID_ARGUMENT, "%s.seq is 0: what changes something is numbered from 1",
                       v->name);
    if (!v->numbered && r->seq != 0)
        return err_set(e, E_INVALID_ARGUMENT, "%s.seq is not 0: it has no place in a lane", v->name);
    return E_OK;
}

void api_submit(struct api *a, struct op *op)
{
    struct err *e = &op->error;
    const struct api_verb *v = api_verb(op->request.verb);
    if (v == NULL) {
        api_refuse(op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
        return;
    }
    if (check_number(v, &op->request, e) != E_OK || v->check(a, op, e) != E_OK) {
        refuse(op);
        return;
    }
    int code = a->port.submit(a->port.ctx, op);
    if (code != E_OK)
        api_refuse(op, code, "%s", v->name);
}

void api_request(struct api *a, struct op *op, uint8_t verb, struct view body)
{
    if (verb == VERB_NONE) {
        api_refuse(op, E_BAD_FRAME, "verb 0");
        return;
    }
    if (api_verb(verb) == NULL) {
        api_refuse(op, E_UNSUPPORTED, "verb %u", verb);
        return;
    }
    if (codec_request_decode(body, &op->request, &op->arena, &op->error) != E_OK) {
        refuse(op);
        return;
    }
    if (op->request.verb != (enum wire_verb)verb) {
        api_refuse(op, E_BAD_FRAME, "the frame says %s, its body is of verb %u", api_verb(verb)->name,
                   (unsigned)op->request.verb);
        return;
    }
    api_submit(a, op);
}

/* ---------------------------------------------------------------- what checks share */

int check_at_most(const char *field, uint64_t value, const char *limit, uint64_t max, struct err *e)
{
    if (value <= max)
        return E_OK;
    return err_set(e, E_LIMIT, "%s is %llu, the limit %s is %llu", field, (unsigned long long)value, limit,
                   (unsigned long long)max);
}

int check_name(const char *what, struct view name, bool absent_ok, struct err *e)
{
    if (absent_ok && name.data == NULL)
        return E_OK;
    return name_check(what, name, e) == 0 ? E_OK : err_set(e, E_INVALID_ARGUMENT, "%s", e->text);
}

int check_nothing(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    (void)op;
    (void)e;
    return E_OK;
}
