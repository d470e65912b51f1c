/* sluice task ls | cancel, and waiting for a task */
#include "cli/task.h"

#include <inttypes.h>

#include "base/units.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"
#include "cli/stop.h"

/* ---- as data and as text ---- */

static const char *act_name(int act)
{
    return act == SLUICE_TASK_DROP ? "drop" : act == SLUICE_TASK_REPLAY ? "replay" : "redrive";
}

static const char *state_name(int state)
{
    switch (state) {
    case SLUICE_TASK_RUNNING:
        return "running";
    case SLUICE_TASK_DONE:
        return "done";
    case SLUICE_TASK_CANCELLED:
        return "cancelled";
    default:
        return "failed";
    }
}

static json_t *task_json(const struct sluice_task *t)
{
    /* clang-format off */
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:I, s:o, s:s?}",
                     "task", (json_int_t)t->id,
                     "topic", t->topic,
                     "group", t->group,
                     "act", act_name(t->act),
                     "state", state_name(t->state),
                     "dry_run", t->dry_run,
                     "seen", (json_int_t)t->seen,
                     "matched", (json_int_t)t->matched,
                     "changed", (json_int_t)t->changed,
                     "rate", t->rate > 0 ? json_real(t->rate) : json_null(),
                     "started_ms", (json_int_t)t->started_ms,
                     "ended_ms", t->ended_ms != 0 ? json_integer((json_int_t)t->ended_ms) : json_null(),
                     "error", t->error[0] != '\0' ? t->error : NULL);
    /* clang-format on */
}

static const char *past_of(const struct sluice_task *t)
{
    if (t->act == SLUICE_TASK_REPLAY)
        return t->dry_run ? "would replay" : "replayed";
    if (t->dry_run)
        return t->act == SLUICE_TASK_DROP ? "would drop" : "would redrive";
    return t->act == SLUICE_TASK_DROP ? "dropped" : "redrove";
}

static const char *noun_of(const struct sluice_task *t)
{
    return t->act == SLUICE_TASK_REPLAY && t->source == SLUICE_REPLAY_LOG ? "message" : "dead letter";
}

/* The JSON of a replay says more. */
static json_t *with_replay(json_t *o, const struct sluice_task *t)
{
    static const char *const sources[] = {"log", "log", "parked", "failed"};
    if (t->act != SLUICE_TASK_REPLAY)
        return o;
    json_object_set_new(o, "source", json_string(t->source >= 0 && t->source <= SLUICE_REPLAY_FAILED ? sources[t->source] : "log"));
    json_object_set_new(o, "of", json_string(t->of));
    json_object_set_new(o, "left", json_integer((json_int_t)t->left));
    json_object_set_new(o, "lost", json_integer((json_int_t)t->lost));
    return o;
}

/* How many of a dry run would be, of another were. */
static uint64_t count_of(const struct sluice_task *t)
{
    return t->dry_run ? t->matched : t->changed;
}

/* ---- following one ---- */

bool task_begin(void)
{
    struct err e;
    if (stop_begin(&e) == 0)
        return true;
    talk("%s", e.text);
    return false;
}

/* What became of one that has ended. */
static int conclude(const struct args *a, const struct sluice_task *t)
{
    progress_end();
    if (args_json(a)) {
        out_json(with_replay(task_json(t), t));
    } else {
        out_text("%s %" PRIu64 " of %" PRIu64 " %s%s\n", past_of(t), count_of(t), t->seen, noun_of(t),
                 PLURAL(t->seen));
        if (t->left > 0)
            out_text("%" PRIu64 " that fitted %s not done, and come%s anyway\n", t->left, t->left == 1 ? "is" : "are",
                     t->left == 1 ? "s" : "");
        if (t->lost > 0)
            out_text("%" PRIu64 " %s not in the log any more\n", t->lost, t->lost == 1 ? "is" : "are");
        out_flush();
        if (t->state == SLUICE_TASK_CANCELLED)
            talk("task %" PRIu64 " was cancelled", t->id);
    }
    if (t->state == SLUICE_TASK_FAILED)
        talk("task %" PRIu64 " failed: %s", t->id, t->error);
    return t->state == SLUICE_TASK_DONE ? STATUS_OK : STATUS_ERROR;
}

static int interrupted(uint64_t id)
{
    progress_end();
    talk("task %" PRIu64 " goes on without us: sluice task ls %" PRIu64
         " says how far it is, sluice task cancel %" PRIu64 " ends it",
         id, id, id);
    return 128 + stop_signal();
}

int task_follow(const struct args *a, struct sluice *s, uint64_t id)
{
    enum { FIRST_MS = 10, LONGEST_MS = 500 };
    if (args_has(a, "detach")) {
        if (args_json(a))
            out_json(json_pack("{s:I}", "task", (json_int_t)id));
        else
            out_text("%" PRIu64 "\n", id);
        return STATUS_OK;
    }
    for (int pause_ms = FIRST_MS;; pause_ms = 2 * pause_ms < LONGEST_MS ? 2 * pause_ms : LONGEST_MS) {
        struct sluice_task_list *list;
        struct sluice_error err = {0};
        if (sluice_tasks(s, id, &list, &err) != 0)
            return client_fail(&err, NULL, NULL);
        const struct sluice_task *t = list->count > 0 ? &list->tasks[0] : NULL;
        int status = t == NULL || t->state != SLUICE_TASK_RUNNING ? STATUS_OK : -1;
        if (t != NULL && status == STATUS_OK)
            status = conclude(a, t);
        else if (t != NULL)
            progress("%s %" PRIu64 " of %" PRIu64 " looked at", past_of(t), count_of(t), t->seen);
        sluice_tasks_free(list);
        if (status >= 0)
            return status;
        if (stop_wait(pause_ms))
            return interrupted(id);
    }
}

/* ---- ls, cancel ---- */

/* The number of the line; 0: none. */
static int read_id(const struct args *a, uint64_t *id)
{
    struct err e;
    *id = 0;
    if (args_operand(a, 0) == NULL || count_parse(args_operand(a, 0), 1, UINT64_MAX, id, &e) == 0)
        return 0;
    return help_refuse(a, "%s", e.text);
}

static void list_text(const struct sluice_task_list *l)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    table_begin(&t, 9,
                (const char *const[]){">TASK", "TOPIC", "GROUP", "ACT", "STATE", ">SEEN", ">MATCHED",
                                      ">CHANGED", "STARTED"});
    for (size_t i = 0; i < l->count; i++) {
        const struct sluice_task *task = &l->tasks[i];
        table_cell(&t, "%" PRIu64, task->id);
        table_cell(&t, "%s", task->topic);
        table_cell(&t, "%s", task->group);
        table_cell(&t, "%s%s", act_name(task->act), task->dry_run ? " (dry run)" : "");
        table_cell(&t, "%s", state_name(task->state));
        table_cell(&t, "%" PRIu64, task->seen);
        table_cell(&t, "%" PRIu64, task->matched);
        table_cell(&t, "%" PRIu64, task->changed);
        table_cell(&t, "%s", time_format(text, task->started_ms));
    }
    table_end(&t);
    for (size_t i = 0; i < l->count; i++) {
        if (l->tasks[i].error[0] != '\0')
            talk("task %" PRIu64 " failed: %s", l->tasks[i].id, l->tasks[i].error);
    }
    if (l->count == 0)
        talk("there are no tasks");
}

int task_ls(const struct args *a)
{
    uint64_t id;
    struct sluice *s;
    int status = read_id(a, &id);
    if (status == 0)
        status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_task_list *list = NULL;
    struct sluice_error err = {0};
    if (sluice_tasks(s, id, &list, &err) != 0) {
        status = client_fail(&err, NULL, NULL);
    } else if (args_json(a)) {
        for (size_t i = 0; i < list->count; i++)
            out_json(with_replay(task_json(&list->tasks[i]), &list->tasks[i]));
    } else {
        list_text(list);
    }
    sluice_tasks_free(list);
    client_close(a, s);
    return status;
}

int task_cancel(const struct args *a)
{
    uint64_t id;
    struct sluice *s;
    int status = read_id(a, &id);
    if (status == 0)
        status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    if (sluice_task_cancel(s, id, &err) != 0)
        status = client_fail(&err, NULL, NULL);
    else if (args_json(a))
        out_json(json_pack("{s:I, s:b}", "task", (json_int_t)id, "cancelled", 1));
    else
        talk("cancelled task %" PRIu64, id);
    client_close(a, s);
    return status;
}
