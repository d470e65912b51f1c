/* sluice dlq ls | peek | redrive | drop */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/message.h"
#include "cli/out.h"
#include "cli/place.h"
#include "cli/task.h"

enum { PAGE_MAX = 1000 };

/* ---- which ones ---- */

/* What the line says of them. `*header` is the room for its name, freed by the caller. */
static int read_filter(const struct args *a, struct sluice_dlq_filter *f, char **header)
{
    *header = NULL;
    *f = (struct sluice_dlq_filter){
        .size = sizeof *f,
        .key = sluice_str(args_text(a, "key", NULL)),
        .reason = args_text(a, "reason", NULL),
        .since_ms = args_number(a, "since", 0),
        .until_ms = args_number(a, "until", 0),
        .attempts_min = (uint32_t)args_number(a, "min-attempts", 0),
        .attempts_max = (uint32_t)args_number(a, "max-attempts", 0),
    };
    const char *wanted = args_text(a, "header", NULL), *offset = args_text(a, "offset", NULL);
    if (wanted != NULL) {
        const char *equals = strchr(wanted, '=');
        if (wanted[0] == '\0' || equals == wanted)
            return help_refuse(a, "--header: '%.60s' is not NAME or NAME=VALUE", wanted);
        *header = equals != NULL ? mem_strndup(wanted, (size_t)(equals - wanted)) : mem_strdup(wanted);
        f->header = *header;
        f->header_value = sluice_str(equals != NULL ? equals + 1 : NULL);
    }
    if (f->until_ms != 0 && f->until_ms <= f->since_ms)
        return help_refuse(a, "--until lies before --since");
    f->one = offset != NULL;
    struct err e;
    if (offset != NULL && place_parse(offset, &f->partition, &f->offset, &e) != 0)
        return help_refuse(a, "--offset: %s", e.text);
    return 0;
}

/* Whether the line says anything of them. */
static bool is_filtered(const struct sluice_dlq_filter *f)
{
    return f->key.data != NULL || f->header != NULL || f->reason != NULL || f->since_ms != 0 ||
           f->until_ms != 0 || f->attempts_min != 0 || f->attempts_max != 0 || f->one;
}

/* ---- ls, peek ---- */

static json_t *text_json(const char *text)
{
    json_t *string = text != NULL ? json_string(text) : NULL;
    return string != NULL ? string : json_null();
}

static json_t *letter_json(const struct sluice_dead_letter *d)
{
    json_t *o = message_json(&d->message);
    json_object_set_new(o, "group", json_string(d->group));
    json_object_set_new(o, "reason", text_json(d->reason));
    json_object_set_new(o, "last_error", text_json(d->last_error));
    json_object_set_new(o, "attempts", json_integer((json_int_t)d->message.attempt));
    json_object_set_new(o, "parked_at_ms", json_integer((json_int_t)d->parked_at_ms));
    return o;
}

static void letter_text(struct table *t, const struct sluice_dead_letter *d)
{
    const struct sluice_delivery *m = &d->message;
    struct buf key = {0};
    char text[UNITS_TEXT_MAX];
    put_shown(&key, m->key.data, m->key.size);
    table_cell(t, "%" PRIu32, m->partition);
    table_cell(t, "%" PRIu64, m->offset);
    table_cell(t, "%s", buf_str(&key));
    table_cell(t, "%" PRIu32, m->attempt);
    table_cell(t, "%s", time_format(text, d->parked_at_ms));
    table_cell(t, "%s", d->reason != NULL ? d->reason : "-");
    table_cell(t, "%s", d->last_error != NULL ? d->last_error : "-");
    buf_free(&key);
}

/* A message with everything that is known of it. */
static void letter_sheet(const struct sluice_dead_letter *d)
{
    const struct sluice_delivery *m = &d->message;
    struct buf text = {0};
    char time[UNITS_TEXT_MAX];
    size_t pos = 0;
    struct sluice_bytes name, value;
    sheet_line("message", "%s/%" PRIu32 "/%" PRIu64, m->topic, m->partition, m->offset);
    put_shown(&text, m->key.data, m->key.size);
    sheet_line("key", "%s", buf_str(&text));
    while (sluice_header_next(m, &pos, &name, &value)) {
        buf_clear(&text);
        put_shown(&text, name.data, name.size);
        buf_putf(&text, "=");
        put_shown(&text, value.data, value.size);
        sheet_line("header", "%s", buf_str(&text));
    }
    sheet_line("published", "%s", time_format(time, m->append_time_ms));
    sheet_line("parked", "%s", time_format(time, d->parked_at_ms));
    sheet_line("reason", "%s", d->reason != NULL ? d->reason : "-");
    sheet_line("last-error", "%s", d->last_error != NULL ? d->last_error : "-");
    sheet_line("attempts", "%" PRIu32, m->attempt);
    out_text("\n");
    out_bytes(m->value.data, m->value.size);
    if (m->value.size == 0 || ((const char *)m->value.data)[m->value.size - 1] != '\n')
        out_text("\n");
    buf_free(&text);
}

/* Shows one: in the table, or, without one, whole. */
static void show(const struct args *a, struct table *t, const struct sluice_dead_letter *d, bool first)
{
    if (args_json(a)) {
        out_json(letter_json(d));
    } else if (t != NULL) {
        letter_text(t, d);
    } else {
        if (!first)
            out_text("\n");
        letter_sheet(d);
    }
}

/* Page after page, until `left` are shown or there are no more. */
static int list(const struct args *a, struct sluice *s, const struct sluice_dlq_filter *filter,
                struct table *t, uint64_t left)
{
    const char *topic = args_operand(a, 0), *group = args_text(a, "group", NULL);
    struct sluice_dlq *page = NULL;
    bool any = false, more = true;
    while (more && left > 0) {
        struct sluice_error err = {0};
        struct sluice_dlq *next = NULL;
        const struct sluice_dlq_options options = {
            .size = sizeof options,
            .limit = left < PAGE_MAX ? (size_t)left : PAGE_MAX,
            .after = page,
            .filter = filter,
        };
        int code = sluice_dlq_list(s, topic, group, &options, &next, &err);
        sluice_dlq_free(page);
        if (code != 0)
            return client_fail(&err, topic, group);
        page = next;
        for (size_t i = 0; i < sluice_dlq_count(page); i++)
            show(a, t, sluice_dlq_at(page, i), !any && i == 0);
        if (t != NULL)
            table_print(t);
        any = any || sluice_dlq_count(page) > 0;
        left -= sluice_dlq_count(page);
        more = out_flush() && sluice_dlq_more(page);
    }
    sluice_dlq_free(page);
    if (!any && !args_json(a))
        talk("group '%s' of topic '%s' has no %sdead letters", group, topic,
             is_filtered(filter) ? "such " : "");
    return STATUS_OK;
}

/* Opens a session, and does something with the letters that the line means. */
static int with_letters(const struct args *a, int (*does)(const struct args *a, struct sluice *s,
                                                          const struct sluice_dlq_filter *f))
{
    struct sluice_dlq_filter filter;
    char *header;
    struct sluice *s = NULL;
    int status = read_filter(a, &filter, &header);
    if (status == 0)
        status = client_open(a, &s);
    if (status == 0) {
        status = does(a, s, &filter);
        client_close(a, s);
    }
    mem_free(header);
    return status;
}

static int list_table(const struct args *a, struct sluice *s, const struct sluice_dlq_filter *f)
{
    struct table t;
    table_begin(&t, 7,
                (const char *const[]){">PARTITION", ">OFFSET", "KEY", ">ATTEMPTS", "PARKED AT", "REASON",
                                      "LAST ERROR"});
    int status = list(a, s, f, &t, args_number(a, "count", UINT64_MAX));
    table_end(&t);
    return status;
}

int dlq_ls(const struct args *a)
{
    return with_letters(a, list_table);
}

static int list_whole(const struct args *a, struct sluice *s, const struct sluice_dlq_filter *f)
{
    return list(a, s, f, NULL, args_number(a, "count", 1));
}

int dlq_peek(const struct args *a)
{
    return with_letters(a, list_whole);
}

/* ---- redrive, drop ---- */

static struct sluice_dlq_change change_of(const struct args *a, const struct sluice_dlq_filter *f)
{
    return (struct sluice_dlq_change){
        .size = sizeof(struct sluice_dlq_change),
        .filter = is_filtered(f) ? f : NULL,
        .rate = (double)args_number(a, "rate", 0) / 1000,
        .limit = args_number(a, "limit", 0),
        .dry_run = args_has(a, "dry-run"),
    };
}

static int redrive(const struct args *a, struct sluice *s, const struct sluice_dlq_filter *f)
{
    const char *topic = args_operand(a, 0), *group = args_text(a, "group", NULL);
    const struct sluice_dlq_change change = change_of(a, f);
    uint64_t task = 0;
    struct sluice_error err = {0};
    if (sluice_dlq_redrive(s, topic, group, &change, &task, &err) != 0)
        return client_fail(&err, topic, group);
    return task_follow(a, s, task);
}

int dlq_redrive(const struct args *a)
{
    return task_begin() ? with_letters(a, redrive) : STATUS_ERROR;
}

/* How many there are in all. */
static int count_parked(struct sluice *s, const char *topic, const char *group, uint64_t *parked)
{
    struct sluice_lag_list *list;
    struct sluice_error err = {0};
    if (sluice_group_lag(s, topic, group, &list, &err) != 0)
        return client_fail(&err, topic, group);
    *parked = list->count == 1 ? list->rows[0].parked : 0;
    sluice_lag_free(list);
    return STATUS_OK;
}

static int drop(const struct args *a, struct sluice *s, const struct sluice_dlq_filter *f)
{
    const char *topic = args_operand(a, 0), *group = args_text(a, "group", NULL);
    const struct sluice_dlq_change change = change_of(a, f);
    uint64_t task = 0, parked = 0;
    struct sluice_error err = {0};
    int status = count_parked(s, topic, group, &parked);
    if (status != 0)
        return status;
    if (!change.dry_run &&
        !confirm(a, &status, "drop %s %" PRIu64 " dead letter%s of group '%s' of topic '%s' for good?",
                 change.filter != NULL ? "those that match of" : "all", parked, PLURAL(parked), group, topic))
        return status;
    if (sluice_dlq_drop(s, topic, group, &change, &task, &err) != 0)
        return client_fail(&err, topic, group);
    return task_follow(a, s, task);
}

int dlq_drop(const struct args *a)
{
    return task_begin() ? with_letters(a, drop) : STATUS_ERROR;
}
