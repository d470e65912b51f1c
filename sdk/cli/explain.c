/* sluice explain */
#include <inttypes.h>

#include "base/macros.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"
#include "cli/place.h"

static const char *fact_name(int fact)
{
    static const char *const names[] = {
        [SLUICE_FACT_READY] = "ready",
        [SLUICE_FACT_DONE] = "done",
        [SLUICE_FACT_LEASED] = "leased",
        [SLUICE_FACT_RETRYING] = "retrying",
        [SLUICE_FACT_PARKED] = "parked",
        [SLUICE_FACT_BEHIND] = "behind",
        [SLUICE_FACT_THROTTLED] = "throttled",
        [SLUICE_FACT_EXPIRED] = "expired",
        [SLUICE_FACT_PAUSED] = "paused",
        [SLUICE_FACT_BACKLOG] = "backlog",
        [SLUICE_FACT_NO_RECEIVER] = "no_receiver",
        [SLUICE_FACT_NOT_VISIBLE] = "not_visible",
        [SLUICE_FACT_NO_SUCH_OFFSET] = "no_such_offset",
        [SLUICE_FACT_EMPTY] = "empty",
        [SLUICE_FACT_SCHEDULED] = "scheduled",
        [SLUICE_FACT_LOST] = "lost",
    };
    return fact > 0 && (size_t)fact < ARRAY_LEN(names) ? names[fact] : "unknown";
}

static json_t *number_json(uint64_t n)
{
    return n != 0 ? json_integer((json_int_t)n) : json_null();
}

static void print_json(const char *topic, const char *group, const struct sluice_explanation *e)
{
    bool placed = e->partition != UINT32_MAX;
    /* clang-format off */
    out_json(json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:s?, s:s?}",
                       "topic", topic,
                       "group", group,
                       "fact", fact_name(e->fact),
                       "text", e->text,
                       "partition", placed ? json_integer(e->partition) : json_null(),
                       "offset", placed ? json_integer((json_int_t)e->offset) : json_null(),
                       "since_ms", number_json(e->since_ms),
                       "until_ms", number_json(e->until_ms),
                       "depth", number_json(e->depth),
                       "attempts", (json_int_t)e->attempts,
                       "session", e->session[0] != '\0' ? e->session : NULL,
                       "reason", e->reason[0] != '\0' ? e->reason : NULL));
    /* clang-format on */
}

static void print_text(const char *topic, const struct sluice_explanation *e)
{
    char text[UNITS_TEXT_MAX];
    sheet_line("fact", "%s", fact_name(e->fact));
    sheet_line("because", "%s", e->text);
    if (e->partition != UINT32_MAX)
        sheet_line("message", "%s/%" PRIu32 "/%" PRIu64, topic, e->partition, e->offset);
    if (e->since_ms != 0)
        sheet_line("since", "%s", time_format(text, e->since_ms));
    if (e->until_ms != 0)
        sheet_line("until", "%s", time_format(text, e->until_ms));
    if (e->depth != 0)
        sheet_line("before it", "%" PRIu64 " message%s", e->depth, PLURAL(e->depth));
    if (e->attempts != 0)
        sheet_line("attempts", "%" PRIu32, e->attempts);
    if (e->session[0] != '\0')
        sheet_line("session", "%s", e->session);
    if (e->reason[0] != '\0')
        sheet_line("reason", "%s", e->reason);
}

int explain(const struct args *a)
{
    const char *topic = args_operand(a, 0), *group = args_text(a, "group", NULL);
    const char *offset = args_text(a, "offset", NULL);
    struct sluice_explain_options of = {
        .size = sizeof of, .key = sluice_str(args_text(a, "key", NULL)), .one = offset != NULL};
    struct err e;
    if (args_has(a, "key") && offset != NULL)
        return help_refuse(a, "of a key or of an offset, not of both");
    if (offset != NULL && place_parse(offset, &of.partition, &of.offset, &e) != 0)
        return help_refuse(a, "--offset: %s", e.text);
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_explanation why = {.size = sizeof why};
    struct sluice_error err = {0};
    if (sluice_explain(s, topic, group, &of, &why, &err) != 0)
        status = client_fail(&err, topic, group);
    else if (args_json(a))
        print_json(topic, group, &why);
    else
        print_text(topic, &why);
    client_close(a, s);
    return status;
}
