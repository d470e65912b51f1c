/* sluice dlq ls */
#include <inttypes.h>

#include "cli/client.h"
#include "cli/message.h"
#include "cli/out.h"

enum { PAGE_MAX = 1000 };

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

/* Page after page, until `left` are shown or there are no more. */
static int list(const struct args *a, struct sluice *s, struct table *t, uint64_t left)
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
        };
        int code = sluice_dlq_list(s, topic, group, &options, &next, &err);
        sluice_dlq_free(page);
        if (code != 0)
            return client_fail(&err, topic, group);
        page = next;
        for (size_t i = 0; i < sluice_dlq_count(page); i++) {
            if (args_json(a))
                out_json(letter_json(sluice_dlq_at(page, i)));
            else
                letter_text(t, sluice_dlq_at(page, i));
        }
        table_print(t);
        any = any || sluice_dlq_count(page) > 0;
        left -= sluice_dlq_count(page);
        more = out_flush() && sluice_dlq_more(page);
    }
    sluice_dlq_free(page);
    if (!any && !args_json(a))
        talk("group '%s' of topic '%s' has no dead letters", group, topic);
    return STATUS_OK;
}

int dlq_ls(const struct args *a)
{
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct table t;
    table_begin(&t, 7,
                (const char *const[]){">PARTITION", ">OFFSET", "KEY", ">ATTEMPTS", "PARKED AT", "REASON",
                                      "LAST ERROR"});
    status = list(a, s, &t, args_number(a, "count", UINT64_MAX));
    table_end(&t);
    client_close(a, s);
    return status;
}
