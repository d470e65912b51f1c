/* sluice sched ls | rm | move */
#include <inttypes.h>

#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"

enum { PAGE_MAX = 1000 };

/* ---- ls ---- */

static json_t *row_json(const struct sluice_scheduled *r)
{
    /* clang-format off */
    return json_pack("{s:s, s:s, s:I, s:s?, s:o, s:I, s:I, s:I}",
                     "topic", r->topic,
                     "name", r->name,
                     "due_ms", (json_int_t)r->due_ms,
                     "cron", r->cron[0] != '\0' ? r->cron : NULL,
                     "partition", r->partition != UINT32_MAX ? json_integer(r->partition) : json_null(),
                     "count", (json_int_t)r->count,
                     "bytes", (json_int_t)r->bytes,
                     "created_ms", (json_int_t)r->created_ms);
    /* clang-format on */
}

static void row_text(struct table *t, const struct sluice_scheduled *r)
{
    char text[UNITS_TEXT_MAX];
    table_cell(t, "%s", time_format(text, r->due_ms));
    table_cell(t, "%s", r->topic);
    table_cell(t, "%s", r->name);
    table_cell(t, "%s", r->cron[0] != '\0' ? r->cron : "-");
    table_cell(t, "%" PRIu32, r->count);
    table_cell(t, "%s", short_bytes(text, r->bytes));
}

/* Page after page, until `left` are shown or there are no more. */
static int list(const struct args *a, struct sluice *s, struct table *t, uint64_t left)
{
    const char *topic = args_operand(a, 0);
    struct sluice_schedule_list *page = NULL;
    bool any = false, more = true;
    while (more && left > 0) {
        struct sluice_error err = {0};
        struct sluice_schedule_list *next = NULL;
        const struct sluice_schedule_options options = {
            .size = sizeof options,
            .limit = left < PAGE_MAX ? (size_t)left : PAGE_MAX,
            .after = page,
        };
        int code = sluice_schedules(s, topic, args_text(a, "name", NULL), &options, &next, &err);
        sluice_schedules_free(page);
        if (code != 0)
            return client_fail(&err, topic, NULL);
        page = next;
        for (size_t i = 0; i < page->count; i++) {
            if (args_json(a))
                out_json(row_json(&page->rows[i]));
            else
                row_text(t, &page->rows[i]);
        }
        table_print(t);
        any = any || page->count > 0;
        left -= page->count;
        more = out_flush() && page->more;
    }
    sluice_schedules_free(page);
    if (!any && !args_json(a))
        talk("nothing waits for its time");
    return STATUS_OK;
}

int sched_ls(const struct args *a)
{
    if (args_has(a, "name") && args_operand(a, 0) == NULL)
        return help_refuse(a, "--name is unique in a topic: say which TOPIC");
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct table t;
    table_begin(&t, 6, (const char *const[]){"DUE", "TOPIC", "NAME", "CRON", ">MESSAGES", ">BYTES"});
    status = list(a, s, &t, args_number(a, "count", UINT64_MAX));
    table_end(&t);
    client_close(a, s);
    return status;
}

/* ---- rm, move ---- */

/* The row of that name, which the caller frees with its list. */
static int find(struct sluice *s, const char *topic, const char *name, struct sluice_schedule_list **list)
{
    struct sluice_error err = {0};
    if (sluice_schedules(s, topic, name, NULL, list, &err) != 0)
        return client_fail(&err, topic, NULL);
    if ((*list)->count == 1)
        return STATUS_OK;
    talk("'%s' of topic '%s' does not wait", name, topic);
    sluice_schedules_free(*list);
    *list = NULL;
    return STATUS_NOT_FOUND;
}

static int remove_row(const struct args *a, struct sluice *s, const struct sluice_scheduled *r)
{
    int status = STATUS_OK;
    bool dry = args_has(a, "dry-run");
    char due[UNITS_TEXT_MAX];
    struct sluice_error err = {0};
    time_format(due, r->due_ms);
    if (!dry &&
        !confirm(a, &status, "cancel '%s' of topic '%s', which is due at %s?", r->name, r->topic, due))
        return status;
    if (!dry && sluice_schedule_cancel(s, r->topic, r->name, &err) != 0)
        return client_fail(&err, r->topic, NULL);
    if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:b}", "topic", r->topic, "name", r->name, "cancelled", !dry));
    else
        talk("%s '%s' of topic '%s', which %s due at %s", dry ? "would cancel" : "cancelled", r->name,
             r->topic, dry ? "is" : "was", due);
    return STATUS_OK;
}

int sched_rm(const struct args *a)
{
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_schedule_list *list;
    status = find(s, args_operand(a, 0), args_operand(a, 1), &list);
    if (status == 0) {
        status = remove_row(a, s, &list->rows[0]);
        sluice_schedules_free(list);
    }
    client_close(a, s);
    return status;
}

int sched_move(const struct args *a)
{
    const char *topic = args_operand(a, 0), *name = args_operand(a, 1);
    if (args_has(a, "at") == args_has(a, "delay"))
        return help_refuse(a, "say when: --at TIME or --delay D");
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    struct sluice_schedule_list *list = NULL;
    char due[UNITS_TEXT_MAX];
    if (sluice_schedule_move(s, topic, name, args_number(a, "at", 0), args_number(a, "delay", 0), &err) != 0)
        status = client_fail(&err, topic, NULL);
    else if (sluice_schedules(s, topic, name, NULL, &list, &err) != 0 || list->count != 1)
        talk("moved '%s' of topic '%s'", name, topic); /* and it came meanwhile */
    else if (args_json(a))
        out_json(row_json(&list->rows[0]));
    else
        talk("'%s' of topic '%s' is due at %s", name, topic, time_format(due, list->rows[0].due_ms));
    sluice_schedules_free(list);
    client_close(a, s);
    return status;
}
