/* sluice group create | ls | show | alter | lag | pause | resume | purge | rm; seek is in group_stream.c */
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

#include "base/macros.h"
#include "cli/client.h"
#include "cli/group_stream.h"
#include "cli/help.h"
#include "cli/message.h"
#include "cli/out.h"
#include "cli/stop.h"

/* ---- create ---- */

/* What can be set at any time. The words of each choice are in the order of the library's enum, so that a word's place is its value. */
static struct sluice_group_options settings_of(const struct args *a)
{
    uint64_t idle = args_number(a, "idle-expiry", 0); /* forever: 0, which is never */
    return (struct sluice_group_options){
        .size = sizeof(struct sluice_group_options),
        .park = (int)args_number(a, "park", 0),
        .lease_ms = (uint32_t)args_number(a, "lease", 0),
        .max_deliveries = (uint32_t)args_number(a, "max-deliveries", 0),
        .backoff_min_ms = (uint32_t)args_number(a, "backoff-min", 0),
        .backoff_max_ms = (uint32_t)args_number(a, "backoff-max", 0),
        .run_max = (uint32_t)args_number(a, "run-max", 0),
        .in_flight_max = (uint32_t)args_number(a, "max-in-flight", 0),
        .expired = (int)args_number(a, "expired", 0),
        .rate = (double)args_number(a, "rate", 0) / 1000,
        .key_rate = (double)args_number(a, "key-rate", 0) / 1000,
        .key_in_flight_max = (uint32_t)args_number(a, "key-max-in-flight", 0),
        .idle_expiry_ms = idle != UINT64_MAX ? idle : 0,
    };
}

int group_create(const struct args *a)
{
    const char *name = args_operand(a, 0), *topic = args_text(a, "topic", NULL);
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_group_options options = settings_of(a);
    options.mode = (int)args_number(a, "mode", 0);
    options.order = (int)args_number(a, "order", 0);
    options.from = (int)args_number(a, "from", 0);
    if (options.from > SLUICE_FROM_END)
        options.from = SLUICE_FROM_REPLAY;
    struct sluice_error err = {0};
    bool created = false;
    if (sluice_group_create(s, topic, name, &options, &created, &err) != 0)
        status = client_fail(&err, topic, NULL);
    else if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:b}", "topic", topic, "group", name, "created", created));
    else
        talk(created ? "created group '%s' of topic '%s'"
                     : "group '%s' of topic '%s' exists with these settings",
             name, topic);
    client_close(a, s);
    return status;
}

/* ---- alter ---- */

static uint64_t fields_of(const struct args *a)
{
    static const struct {
        const char *option;
        uint64_t field;
    } fields[] = {
        {"lease", SLUICE_GROUP_LEASE_MS},
        {"max-deliveries", SLUICE_GROUP_MAX_DELIVERIES},
        {"park", SLUICE_GROUP_PARK},
        {"backoff-min", SLUICE_GROUP_BACKOFF_MIN_MS},
        {"backoff-max", SLUICE_GROUP_BACKOFF_MAX_MS},
        {"run-max", SLUICE_GROUP_RUN_MAX},
        {"max-in-flight", SLUICE_GROUP_IN_FLIGHT_MAX},
        {"expired", SLUICE_GROUP_EXPIRED},
        {"rate", SLUICE_GROUP_RATE},
        {"key-rate", SLUICE_GROUP_KEY_RATE},
        {"key-max-in-flight", SLUICE_GROUP_KEY_IN_FLIGHT_MAX},
        {"idle-expiry", SLUICE_GROUP_IDLE_EXPIRY_MS},
    };
    uint64_t given = 0;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        given |= args_has(a, fields[i].option) ? fields[i].field : 0;
    return given;
}

/* Does something to the group that the line names, and returns the status. */
static int with_group(const struct args *a,
                      int (*does)(const struct args *a, struct sluice *s, const struct sluice_group *g))
{
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_group_list *list;
    status = client_find_group(s, args_text(a, "topic", NULL), args_operand(a, 0), &list);
    if (status == 0) {
        status = does(a, s, &list->groups[0]);
        sluice_groups_free(list);
    }
    client_close(a, s);
    return status;
}

/* What was done to a group, as data or talk. */
static int say_done(const struct args *a, const struct sluice_group *g, const char *what)
{
    if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:b}", "topic", g->topic, "group", g->name, what, 1));
    else
        talk("%s group '%s' of topic '%s'", what, g->name, g->topic);
    return STATUS_OK;
}

static int alter(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    const struct sluice_group_options options = settings_of(a);
    struct sluice_error err = {0};
    if (sluice_group_alter(s, g->topic, g->name, &options, fields_of(a), &err) != 0)
        return client_fail(&err, g->topic, g->name);
    return say_done(a, g, "altered");
}

int group_alter(const struct args *a)
{
    return fields_of(a) != 0 ? with_group(a, alter) : help_refuse(a, "say what is to be changed");
}

/* ---- pause, resume, purge ---- */

static int pause_group(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    struct sluice_error err = {0};
    if (sluice_group_pause(s, g->topic, g->name, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    return say_done(a, g, "paused");
}

int group_pause(const struct args *a)
{
    return with_group(a, pause_group);
}

static int resume_group(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    struct sluice_error err = {0};
    if (sluice_group_resume(s, g->topic, g->name, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    return say_done(a, g, "resumed");
}

int group_resume(const struct args *a)
{
    return with_group(a, resume_group);
}

/* What waits in a group now. */
static int waiting_in(struct sluice *s, const struct sluice_group *g, uint64_t *waiting)
{
    struct sluice_lag_list *list;
    struct sluice_error err = {0};
    if (sluice_group_lag(s, g->topic, g->name, &list, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    *waiting = list->count == 1 ? list->rows[0].lag_messages : 0;
    sluice_lag_free(list);
    return STATUS_OK;
}

static int purge_group(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    uint64_t messages = 0;
    bool dry = args_has(a, "dry-run");
    struct sluice_error err = {0};
    int status = waiting_in(s, g, &messages);
    if (status != 0)
        return status;
    if (!dry &&
        !confirm(a, &status, "purge group '%s' of topic '%s': give up %" PRIu64 " message%s that wait?",
                 g->name, g->topic, messages, PLURAL(messages)))
        return status;
    if (!dry && sluice_group_purge(s, g->topic, g->name, &messages, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:b, s:I}", "topic", g->topic, "group", g->name, "purged", !dry,
                           "messages", (json_int_t)messages));
    else
        talk("%s group '%s' of topic '%s': %" PRIu64 " message%s", dry ? "would purge" : "purged", g->name,
             g->topic, messages, PLURAL(messages));
    return STATUS_OK;
}

int group_purge(const struct args *a)
{
    return with_group(a, purge_group);
}

/* ---- what there is ---- */

static const char *mode_name(int mode)
{
    return mode == SLUICE_STREAM ? "stream" : "queue";
}

static const char *order_name(int order)
{
    return order == SLUICE_ORDER_NONE ? "none" : "key";
}

static const char *park_name(int park)
{
    return park == SLUICE_PARK_KEY ? "key" : "message";
}

static const char *from_name(int from)
{
    return from == SLUICE_FROM_END ? "end" : from == SLUICE_FROM_REPLAY ? "replay" : "start";
}

static const char *expired_name(int expired)
{
    return expired == SLUICE_EXPIRED_PARK ? "park" : "drop";
}

static json_t *group_json(const struct sluice_group *g)
{
    const struct sluice_group_options *o = &g->options;
    /* clang-format off */
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:I, s:I}",
                     "topic", g->topic,
                     "group", g->name,
                     "id", (json_int_t)g->id,
                     "mode", mode_name(o->mode),
                     "order", order_name(o->order),
                     "park", park_name(o->park),
                     "from", from_name(o->from),
                     "lease_ms", (json_int_t)o->lease_ms,
                     "max_deliveries", (json_int_t)o->max_deliveries,
                     "backoff_min_ms", (json_int_t)o->backoff_min_ms,
                     "backoff_max_ms", (json_int_t)o->backoff_max_ms,
                     "run_max", (json_int_t)o->run_max,
                     "in_flight_max", o->in_flight_max > 0 ? json_integer(o->in_flight_max) : json_null(),
                     "expired", expired_name(o->expired),
                     "rate", o->rate > 0 ? json_real(o->rate) : json_null(),
                     "key_rate", o->key_rate > 0 ? json_real(o->key_rate) : json_null(),
                     "key_in_flight_max", o->key_in_flight_max > 0 ? json_integer(o->key_in_flight_max) : json_null(),
                     "idle_expiry_ms", o->idle_expiry_ms > 0 ? json_integer((json_int_t)o->idle_expiry_ms) : json_null(),
                     "paused", g->paused,
                     "created_ms", (json_int_t)g->created_ms,
                     "lost", (json_int_t)g->lost);
    /* clang-format on */
}

static void list_text(const struct sluice_group_list *l)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    table_begin(
        &t, 7, (const char *const[]){"TOPIC", "GROUP", "MODE", "ORDER", ">LEASE", ">MAX DELIVERIES", "PARK"});
    for (size_t i = 0; i < l->count; i++) {
        const struct sluice_group *g = &l->groups[i];
        table_cell(&t, "%s", g->topic);
        table_cell(&t, "%s", g->name);
        table_cell(&t, "%s", mode_name(g->options.mode));
        if (g->options.mode == SLUICE_STREAM) {
            for (int column = 0; column < 4; column++)
                table_cell(&t, "-");
            continue;
        }
        table_cell(&t, "%s", order_name(g->options.order));
        table_cell(&t, "%s", duration_format(text, g->options.lease_ms));
        table_cell(&t, "%" PRIu32, g->options.max_deliveries);
        table_cell(&t, "%s", park_name(g->options.park));
    }
    table_end(&t);
    if (l->count == 0)
        talk("there are no groups");
}

static void sheet_rate(const char *name, double rate)
{
    if (rate > 0)
        sheet_line(name, "%.6g/s", rate);
    else
        sheet_line(name, "none");
}

static json_t *losses_json(const struct sluice_group *g)
{
    json_t *losses = json_array();
    for (size_t i = 0; i < g->losses_count; i++)
        json_array_append_new(losses, gap_json(&g->losses[i]));
    return losses;
}

/* What it will not get; nothing, of most. */
static void losses_text(const struct sluice_group *g)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    if (g->losses_count == 0)
        return;
    out_text("\n");
    table_begin(&t, 4, (const char *const[]){">PARTITION", ">LOST", ">BEFORE", "APPENDED UNTIL"});
    for (size_t i = 0; i < g->losses_count; i++) {
        const struct sluice_gap *loss = &g->losses[i];
        table_cell(&t, "%" PRIu32, loss->partition);
        table_cell(&t, "%" PRIu64, loss->count);
        table_cell(&t, "%" PRIu64, loss->to);
        table_cell(&t, "%s", loss->to_ms != 0 ? time_format(text, loss->to_ms) : "-");
    }
    table_end(&t);
}

static void show_text(const struct sluice_group *g)
{
    const struct sluice_group_options *o = &g->options;
    char text[UNITS_TEXT_MAX];
    sheet_line("group", "%s", g->name);
    sheet_line("topic", "%s", g->topic);
    sheet_line("created", "%s", time_format(text, g->created_ms));
    sheet_line("mode", "%s", mode_name(o->mode));
    if (o->mode == SLUICE_STREAM) { /* the rest is of leases, retries and keys */
        sheet_line("from", "%s", from_name(o->from));
        sheet_line("idle-expiry", "%s", o->idle_expiry_ms > 0 ? duration_format(text, o->idle_expiry_ms) : "never");
        sheet_line("lost", "%" PRIu64, g->lost);
        losses_text(g);
        return;
    }
    sheet_line("order", "%s", order_name(o->order));
    sheet_line("lease", "%s", duration_format(text, o->lease_ms));
    sheet_line("max-deliveries", "%" PRIu32, o->max_deliveries);
    sheet_line("park", "%s", park_name(o->park));
    sheet_line("from", "%s", from_name(o->from));
    sheet_line("backoff-min", "%s", duration_format(text, o->backoff_min_ms));
    sheet_line("backoff-max", "%s", duration_format(text, o->backoff_max_ms));
    sheet_line("run-max", "%" PRIu32, o->run_max);
    if (o->in_flight_max > 0)
        sheet_line("max-in-flight", "%" PRIu32, o->in_flight_max);
    sheet_line("expired", "%s", expired_name(o->expired));
    sheet_rate("rate", o->rate);
    sheet_rate("key-rate", o->key_rate);
    if (o->key_in_flight_max > 0)
        sheet_line("key-max-in-flight", "%" PRIu32, o->key_in_flight_max);
    sheet_line("idle-expiry", "%s",
               o->idle_expiry_ms > 0 ? duration_format(text, o->idle_expiry_ms) : "never");
    sheet_line("paused", "%s", g->paused ? "yes" : "no");
    sheet_line("lost", "%" PRIu64, g->lost);
    losses_text(g);
}

int group_ls(const struct args *a)
{
    const char *topic = args_text(a, "topic", NULL);
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_group_list *list = NULL;
    struct sluice_error err = {0};
    if (sluice_groups(s, topic, NULL, &list, &err) != 0) {
        status = client_fail(&err, topic, NULL);
    } else if (args_json(a)) {
        for (size_t i = 0; i < list->count; i++)
            out_json(group_json(&list->groups[i]));
    } else {
        list_text(list);
    }
    sluice_groups_free(list);
    client_close(a, s);
    return status;
}

static int show(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    json_t *object = NULL;
    if (args_json(a))
        json_object_set_new(object = group_json(g), "losses", losses_json(g));
    else
        show_text(g);
    int status = g->options.mode == SLUICE_STREAM ? group_members(a, s, g, object) : STATUS_OK;
    if (object != NULL && status == STATUS_OK)
        out_json(object);
    else
        json_decref(object);
    return status;
}

int group_show(const struct args *a)
{
    return with_group(a, show);
}

/* ---- lag ---- */

static const char *status_name(int status)
{
    return status == SLUICE_LAG_STALL ? "STALL" : status == SLUICE_LAG_WARN ? "WARN" : "OK";
}

/* To the thousandth: more digits than that are noise. */
static json_t *rounded_json(double n)
{
    return json_real(round(n * 1000) / 1000);
}

static json_t *lag_json(const struct sluice_lag *l)
{
    /* clang-format off */
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:s, s:I, s:I}",
                     "topic", l->topic,
                     "group", l->group,
                     "lag_messages", (json_int_t)l->lag_messages,
                     "lag_bytes", (json_int_t)l->lag_bytes,
                     "in_flight", (json_int_t)l->in_flight,
                     "delayed", (json_int_t)l->delayed,
                     "parked", (json_int_t)l->parked,
                     "oldest_age_seconds", rounded_json(l->oldest_age_seconds),
                     "ack_rate", rounded_json(l->ack_rate),
                     "drain_eta_seconds", l->drain_eta_seconds < 0 ? json_null() : rounded_json(l->drain_eta_seconds),
                     "status", status_name(l->status),
                     "scale_value", (json_int_t)l->scale_value,
                     "lost", (json_int_t)l->lost);
    /* clang-format on */
}

static void lag_text(const struct sluice_lag_list *list)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    table_begin(&t, 13,
                (const char *const[]){"TOPIC", "GROUP", ">LAG", ">BYTES", ">IN FLIGHT", ">DELAYED", ">PARKED",
                                      ">OLDEST", ">ACKS/S", ">DRAINS IN", "STATUS", ">SCALE", ">LOST"});
    for (size_t i = 0; i < list->count; i++) {
        const struct sluice_lag *l = &list->rows[i];
        table_cell(&t, "%s", l->topic);
        table_cell(&t, "%s", l->group);
        table_cell(&t, "%" PRIu64, l->lag_messages);
        table_cell(&t, "%s", short_bytes(text, l->lag_bytes));
        table_cell(&t, "%" PRIu64, l->in_flight);
        table_cell(&t, "%" PRIu64, l->delayed);
        table_cell(&t, "%" PRIu64, l->parked);
        table_cell(&t, "%s", short_seconds(text, l->oldest_age_seconds));
        table_cell(&t, "%.1f", l->ack_rate);
        table_cell(&t, "%s", short_seconds(text, l->drain_eta_seconds));
        table_cell(&t, "%s", status_name(l->status));
        table_cell(&t, "%" PRIu64, l->scale_value);
        table_cell(&t, "%" PRIu64, l->lost);
    }
    table_end(&t);
    if (list->count == 0)
        talk("there are no groups");
}

/* Asks once and prints the rows. `*lines` is how many lines a terminal now shows. */
static int lag_once(const struct args *a, struct sluice *s, const char *topic, const char *group,
                    size_t *lines)
{
    struct sluice_lag_list *list = NULL;
    struct sluice_error err = {0};
    if (sluice_group_lag(s, topic, group, &list, &err) != 0)
        return client_fail(&err, topic, group);
    if (*lines > 0 && isatty(STDOUT_FILENO) != 0)
        out_text("\033[%zuA\033[J", *lines); /* over the table before */
    if (args_json(a)) {
        for (size_t i = 0; i < list->count; i++)
            out_json(lag_json(&list->rows[i]));
    } else {
        lag_text(list);
        *lines = list->count > 0 ? list->count + 1 : 0;
    }
    sluice_lag_free(list);
    return STATUS_OK;
}

static int lag_watch(const struct args *a, struct sluice *s, const char *topic, const char *group)
{
    enum { EVERY_MS = 1000 };
    size_t lines = 0;
    do {
        int status = lag_once(a, s, topic, group, &lines);
        if (status != 0)
            return status;
    } while (out_flush() && !stop_wait(EVERY_MS));
    return STATUS_OK;
}

/* With a name and no topic, the topic is looked up first. */
static int lag_of(const struct args *a, struct sluice *s)
{
    const char *group = args_operand(a, 0), *topic = args_text(a, "topic", NULL);
    struct sluice_group_list *found = NULL;
    if (group != NULL && topic == NULL) {
        int status = client_find_group(s, NULL, group, &found);
        if (status != 0)
            return status;
        topic = found->groups[0].topic;
    }
    size_t lines = 0;
    int status = args_has(a, "watch") ? lag_watch(a, s, topic, group) : lag_once(a, s, topic, group, &lines);
    sluice_groups_free(found);
    return status;
}

int group_lag(const struct args *a)
{
    struct err e;
    if (args_has(a, "watch") && stop_begin(&e) != 0) {
        talk("%s", e.text);
        return STATUS_ERROR;
    }
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    status = lag_of(a, s);
    client_close(a, s);
    return status;
}

/* ---- rm ---- */

static int remove_group(const struct args *a, struct sluice *s, const struct sluice_group *g)
{
    int status = STATUS_OK;
    bool dry = args_has(a, "dry-run");
    struct sluice_error err = {0};
    if (!dry && !confirm(a, &status, "delete group '%s' of topic '%s', with its place and its dead letters?",
                         g->name, g->topic))
        return status;
    if (!dry && sluice_group_delete(s, g->topic, g->name, &err) != 0)
        return client_fail(&err, g->topic, g->name);
    if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:b}", "topic", g->topic, "group", g->name, "deleted", !dry));
    else
        talk("%s group '%s' of topic '%s'", dry ? "would delete" : "deleted", g->name, g->topic);
    return STATUS_OK;
}

int group_rm(const struct args *a)
{
    return with_group(a, remove_group);
}
