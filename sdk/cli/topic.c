/* sluice topic create | ls | show | alter | rm */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/macros.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"

/* ---- settings ---- */

enum setting {
    SET_RETENTION,
    SET_RETENTION_BYTES,
    SET_HARD_CAP,
    SET_DURABILITY,
    SET_COMPACTED,
    SET_MESSAGE_BYTES_MAX,
    SET_BACKLOG_BYTES_MAX,
    SET_BACKLOG_AGE_MAX,
    SET_DEDUP,
    SET_TTL,
    SETTINGS
};

/* What --set knows; those that are options of `create` too have its name there. */
static const struct option settings[SETTINGS] = {
    [SET_RETENTION] = {"retention", 0, 0, OPTION_TERM, "D", NULL, 1, UINT64_MAX},
    [SET_RETENTION_BYTES] = {"retention-bytes", 0, 0, OPTION_SIZE, "S", NULL, 1, UINT64_MAX},
    [SET_HARD_CAP] = {"hard-cap", 0, 0, OPTION_TERM, "D", NULL, 1, UINT64_MAX},
    [SET_DURABILITY] = {"durability", 0, 0, OPTION_CHOICE, "disk|os", NULL, 0, 0},
    [SET_COMPACTED] = {"compacted", 0, 0, OPTION_CHOICE, "false|true", NULL, 0, 0},
    [SET_MESSAGE_BYTES_MAX] = {"message-bytes-max", 0, 0, OPTION_SIZE, "S", NULL, 1, 64 << 20},
    [SET_BACKLOG_BYTES_MAX] = {"backlog-bytes-max", 0, 0, OPTION_SIZE, "S", NULL, 1, UINT64_MAX},
    [SET_BACKLOG_AGE_MAX] = {"backlog-age-max", 0, 0, OPTION_TERM, "D", NULL, 1, UINT64_MAX},
    [SET_DEDUP] = {"dedup", 0, 0, OPTION_TERM, "D", NULL, 1, UINT64_MAX},
    [SET_TTL] = {"ttl", 0, 0, OPTION_TERM, "D", NULL, 1, UINT64_MAX},
};

/* What `alter` changes for each. */
static const uint64_t fields[SETTINGS] = {
    [SET_RETENTION] = SLUICE_TOPIC_RETENTION_MS,
    [SET_RETENTION_BYTES] = SLUICE_TOPIC_RETENTION_BYTES,
    [SET_HARD_CAP] = SLUICE_TOPIC_HARD_CAP_MS,
    [SET_DURABILITY] = SLUICE_TOPIC_DURABILITY,
    [SET_COMPACTED] = SLUICE_TOPIC_COMPACTED,
    [SET_MESSAGE_BYTES_MAX] = SLUICE_TOPIC_MESSAGE_BYTES_MAX,
    [SET_BACKLOG_BYTES_MAX] = SLUICE_TOPIC_BACKLOG_BYTES_MAX,
    [SET_BACKLOG_AGE_MAX] = SLUICE_TOPIC_BACKLOG_AGE_MAX_MS,
    [SET_DEDUP] = SLUICE_TOPIC_DEDUP_MS,
    [SET_TTL] = SLUICE_TOPIC_TTL_MS,
};

static void apply(struct sluice_topic_options *o, enum setting s, uint64_t n)
{
    switch (s) {
    case SET_RETENTION:
        o->retention_ms = n;
        break;
    case SET_RETENTION_BYTES:
        o->retention_bytes = n;
        break;
    case SET_HARD_CAP:
        o->hard_cap_ms = n;
        break;
    case SET_DURABILITY:
        o->durability = (int)n; /* the words are in the order of enum sluice_durability */
        break;
    case SET_COMPACTED:
        o->compacted = n == 2;
        break;
    case SET_MESSAGE_BYTES_MAX:
        o->message_bytes_max = (uint32_t)n;
        break;
    case SET_BACKLOG_BYTES_MAX:
        o->backlog_bytes_max = n;
        break;
    case SET_BACKLOG_AGE_MAX:
        o->backlog_age_max_ms = n != UINT64_MAX ? n : 0; /* which is no bound */
        break;
    case SET_DEDUP:
        o->dedup_ms = n;
        break;
    case SET_TTL:
        o->ttl_ms = n != UINT64_MAX ? n : 0; /* which is for ever */
        break;
    case SETTINGS:
        break;
    }
}

/* The setting of a name of `size` bytes, or SETTINGS. */
static enum setting find_setting(const char *name, size_t size)
{
    for (enum setting s = 0; s < SETTINGS; s++) {
        if (strlen(settings[s].name) == size && memcmp(settings[s].name, name, size) == 0)
            return s;
    }
    return SETTINGS;
}

static int refuse_setting(const char *text, size_t size, struct err *e)
{
    const char *names[SETTINGS];
    for (size_t i = 0; i < SETTINGS; i++)
        names[i] = settings[i].name;
    char *name = mem_strndup(text, size);
    const char *near = nearest(name, names, SETTINGS);
    err_set(e, STATUS_USAGE, "there is no setting '%.60s'%s%s%s", name,
            near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
    mem_free(name);
    return STATUS_USAGE;
}

/* KEY=VALUE of --set. */
static int parse_set(const char *text, enum setting *s, uint64_t *n, struct err *e)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL)
        return err_set(e, STATUS_USAGE, "'%.60s' is not KEY=VALUE", text);
    *s = find_setting(text, (size_t)(equals - text));
    if (*s == SETTINGS)
        return refuse_setting(text, (size_t)(equals - text), e);
    if (option_parse(&settings[*s], equals + 1, n, e) == 0)
        return 0;
    err_prefix(e, "%s", settings[*s].name);
    return STATUS_USAGE;
}

/* Every option of the line that is a setting, and every --set; each at most once. `*given` has their fields. */
static int gather_settings(const struct args *a, struct sluice_topic_options *o, uint64_t *given,
                           struct err *e)
{
    bool seen[SETTINGS] = {false};
    for (size_t i = 0; i < a->given_count; i++) {
        const struct arg *g = &a->given[i];
        enum setting s = find_setting(g->option->name, strlen(g->option->name));
        uint64_t n = g->number;
        if (strcmp(g->option->name, "set") == 0 && parse_set(g->text, &s, &n, e) != 0) {
            err_prefix(e, "--set");
            return STATUS_USAGE;
        }
        if (s == SETTINGS)
            continue;
        if (seen[s])
            return err_set(e, STATUS_USAGE, "%s is given twice", settings[s].name);
        seen[s] = true;
        *given |= fields[s];
        apply(o, s, n);
    }
    if (args_has(a, "partitions")) {
        o->partitions = (uint32_t)args_number(a, "partitions", 0);
        *given |= SLUICE_TOPIC_PARTITIONS;
    }
    return 0;
}

int topic_create(const struct args *a)
{
    const char *name = args_operand(a, 0);
    struct sluice_topic_options options = {.size = sizeof options};
    uint64_t given = 0;
    struct err e;
    if (gather_settings(a, &options, &given, &e) != 0)
        return help_refuse(a, "%s", e.text);

    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    bool created = false;
    if (sluice_topic_create(s, name, &options, &created, &err) != 0)
        status = client_fail(&err, NULL, NULL);
    else if (args_json(a))
        out_json(json_pack("{s:s, s:b}", "topic", name, "created", created));
    else
        talk(created ? "created topic '%s'" : "topic '%s' exists with these settings", name);
    client_close(a, s);
    return status;
}

int topic_alter(const struct args *a)
{
    const char *name = args_operand(a, 0);
    struct sluice_topic_options options = {.size = sizeof options};
    uint64_t given = 0;
    struct err e;
    if (gather_settings(a, &options, &given, &e) != 0)
        return help_refuse(a, "%s", e.text);
    if (given == 0)
        return help_refuse(a, "say what is to be changed");

    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    if (sluice_topic_alter(s, name, &options, given, &err) != 0)
        status = client_fail(&err, name, NULL);
    else if (args_json(a))
        out_json(json_pack("{s:s, s:b}", "topic", name, "altered", 1));
    else
        talk("altered topic '%s'", name);
    client_close(a, s);
    return status;
}

/* ---- what there is ---- */

struct totals {
    uint64_t messages, bytes;
};

static struct totals totals_of(const struct sluice_topic *t)
{
    struct totals sum = {0, 0};
    for (uint32_t i = 0; i < t->options.partitions; i++) {
        sum.messages += t->partitions[i].end - t->partitions[i].start;
        sum.bytes += t->partitions[i].bytes;
    }
    return sum;
}

static const char *durability_name(int durability)
{
    return durability == SLUICE_OS ? "os" : "disk";
}

/* A time or size that may have no bound: null. */
static json_t *bound_json(uint64_t n)
{
    return n == 0 || n == UINT64_MAX ? json_null() : json_integer((json_int_t)n);
}

/* Of what only compacted topics have. */
static json_t *compacted_json(const struct sluice_topic *t, uint64_t n)
{
    return t->options.compacted ? json_integer((json_int_t)n) : json_null();
}

/* Of what they have not. */
static json_t *retained_json(const struct sluice_topic *t, uint64_t n)
{
    return t->options.compacted ? json_null() : bound_json(n);
}

/* In percent, of all partitions; each is looked at by itself. */
static double dirty_share(const struct sluice_topic *t)
{
    uint64_t bytes = totals_of(t).bytes;
    return bytes > 0 ? 100.0 * (double)t->dirty_bytes / (double)bytes : 0;
}

static json_t *topic_json(const struct sluice_topic *t)
{
    const struct sluice_topic_options *o = &t->options;
    struct totals sum = totals_of(t);
    /* clang-format off */
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:b, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "topic", t->name,
                     "id", (json_int_t)t->id,
                     "partitions", (json_int_t)o->partitions,
                     "messages", (json_int_t)sum.messages,
                     "bytes", (json_int_t)sum.bytes,
                     "groups", (json_int_t)t->groups,
                     "durability", durability_name(o->durability),
                     "retention_ms", retained_json(t, o->retention_ms),
                     "retention_bytes", retained_json(t, o->retention_bytes),
                     "hard_cap_ms", retained_json(t, o->hard_cap_ms),
                     "compacted", o->compacted,
                     "message_bytes_max", (json_int_t)o->message_bytes_max,
                     "backlog_bytes_max", bound_json(o->backlog_bytes_max),
                     "backlog_age_max_ms", bound_json(o->backlog_age_max_ms),
                     "dedup_ms", bound_json(o->dedup_ms),
                     "ttl_ms", bound_json(o->ttl_ms),
                     "created_ms", (json_int_t)t->created_ms,
                     "dirty_bytes", compacted_json(t, t->dirty_bytes),
                     "compacted_ms", bound_json(t->compacted_ms),
                     "dirty_percent", o->compacted ? json_real(round(dirty_share(t) * 10) / 10) : json_null(),
                     "dirty_percent_min", compacted_json(t, t->dirty_min),
                     "compact_age_max_ms", compacted_json(t, t->compact_age_ms),
                     "tombstones", compacted_json(t, t->tombstones),
                     "tombstone_ms", compacted_json(t, t->tombstone_ms));
    /* clang-format on */
}

static void list_json(const struct sluice_topic_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        out_json(topic_json(&l->topics[i]));
}

static void list_text(const struct sluice_topic_list *l)
{
    struct table t;
    char text[UNITS_TEXT_MAX];
    table_begin(&t, 7,
                (const char *const[]){"TOPIC", ">PARTITIONS", ">MESSAGES", ">BYTES", ">GROUPS", "RETENTION",
                                      "DURABILITY"});
    for (size_t i = 0; i < l->count; i++) {
        const struct sluice_topic *topic = &l->topics[i];
        struct totals sum = totals_of(topic);
        table_cell(&t, "%s", topic->name);
        table_cell(&t, "%" PRIu32, topic->options.partitions);
        table_cell(&t, "%" PRIu64, sum.messages);
        table_cell(&t, "%s", short_bytes(text, sum.bytes));
        table_cell(&t, "%" PRIu32, topic->groups);
        table_cell(&t, "%s", topic->options.compacted ? "compacted" : term_text(text, topic->options.retention_ms));
        table_cell(&t, "%s", durability_name(topic->options.durability));
    }
    table_end(&t);
    if (l->count == 0)
        talk("there are no topics");
}

static void show_json(const struct sluice_topic *t)
{
    json_t *o = topic_json(t), *log = json_array();
    for (uint32_t i = 0; i < t->options.partitions; i++) {
        const struct sluice_partition *p = &t->partitions[i];
        json_array_append_new(log, json_pack("{s:I, s:I, s:I, s:I, s:o}", "partition", (json_int_t)i, "start",
                                             (json_int_t)p->start, "end", (json_int_t)p->end, "bytes",
                                             (json_int_t)p->bytes, "oldest_ms", bound_json(p->oldest_ms)));
    }
    json_object_set_new(o, "log", log);
    out_json(o);
}

static void sheet_size(const char *name, uint64_t bytes)
{
    char text[UNITS_TEXT_MAX];
    sheet_line(name, "%s", bytes != 0 && bytes != UINT64_MAX ? size_format(text, bytes) : "none");
}

static void sheet_term(const char *name, uint64_t ms, const char *unbounded)
{
    char text[UNITS_TEXT_MAX];
    sheet_line(name, "%s", ms != 0 && ms != UINT64_MAX ? duration_format(text, ms) : unbounded);
}

static void show_retention(const struct sluice_topic_options *o)
{
    sheet_term("retention", o->retention_ms, "forever");
    sheet_size("retention-bytes", o->retention_bytes);
    sheet_term("hard-cap", o->hard_cap_ms, "forever");
    sheet_line("compacted", "false");
}

/* Instead of retention, which such a topic has not. */
static void show_compaction(const struct sluice_topic *topic)
{
    char text[UNITS_TEXT_MAX];
    sheet_line("compacted", "true");
    sheet_line("last pass", "%s", topic->compacted_ms != 0 ? time_format(text, topic->compacted_ms) : "none");
    sheet_line("since then", "%s, %.0f %%", short_bytes(text, topic->dirty_bytes), dirty_share(topic));
    sheet_line("next pass", "at %" PRIu32 " %% of a partition, or after %s", topic->dirty_min, duration_format(text, topic->compact_age_ms));
    sheet_line("tombstones", "%" PRIu64 " left; kept for %s", topic->tombstones, duration_format(text, topic->tombstone_ms));
}

static void show_text(const struct sluice_topic *topic)
{
    const struct sluice_topic_options *o = &topic->options;
    struct totals sum = totals_of(topic);
    char text[UNITS_TEXT_MAX];
    sheet_line("topic", "%s", topic->name);
    sheet_line("created", "%s", time_format(text, topic->created_ms));
    sheet_line("partitions", "%" PRIu32, o->partitions);
    sheet_line("messages", "%" PRIu64, sum.messages);
    sheet_line("bytes", "%s", short_bytes(text, sum.bytes));
    sheet_line("groups", "%" PRIu32, topic->groups);
    sheet_line("durability", "%s", durability_name(o->durability));
    if (o->compacted)
        show_compaction(topic);
    else
        show_retention(o);
    sheet_size("message-bytes-max", o->message_bytes_max);
    sheet_size("backlog-bytes-max", o->backlog_bytes_max);
    sheet_term("backlog-age-max", o->backlog_age_max_ms, "none");
    sheet_term("dedup", o->dedup_ms, "off");
    sheet_term("ttl", o->ttl_ms, "none");

    struct table t;
    out_text("\n");
    table_begin(&t, 5, (const char *const[]){">PARTITION", ">START", ">END", ">BYTES", "OLDEST"});
    for (uint32_t i = 0; i < o->partitions; i++) {
        uint64_t oldest_ms = topic->partitions[i].oldest_ms;
        table_cell(&t, "%" PRIu32, i);
        table_cell(&t, "%" PRIu64, topic->partitions[i].start);
        table_cell(&t, "%" PRIu64, topic->partitions[i].end);
        table_cell(&t, "%s", short_bytes(text, topic->partitions[i].bytes));
        table_cell(&t, "%s", oldest_ms != 0 ? time_format(text, oldest_ms) : "-");
    }
    table_end(&t);
}

/* Opens a session and lists topics (NULL: all). On success the caller frees the list and closes the session. */
static int open_and_list(const struct args *a, const char *name, struct sluice **s,
                         struct sluice_topic_list **list)
{
    int status = client_open(a, s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    if (sluice_topics(*s, name, list, &err) == 0)
        return 0;
    status = client_fail(&err, name, NULL);
    client_close(a, *s);
    return status;
}

int topic_ls(const struct args *a)
{
    struct sluice *s;
    struct sluice_topic_list *list;
    int status = open_and_list(a, NULL, &s, &list);
    if (status != 0)
        return status;
    if (args_json(a))
        list_json(list);
    else
        list_text(list);
    sluice_topics_free(list);
    client_close(a, s);
    return STATUS_OK;
}

int topic_show(const struct args *a)
{
    struct sluice *s;
    struct sluice_topic_list *list;
    int status = open_and_list(a, args_operand(a, 0), &s, &list);
    if (status != 0)
        return status;
    if (args_json(a))
        show_json(&list->topics[0]);
    else
        show_text(&list->topics[0]);
    sluice_topics_free(list);
    client_close(a, s);
    return STATUS_OK;
}

/* ---- rm ---- */

static void say_removed(const struct args *a, const struct sluice_topic *t, bool deleted)
{
    struct totals sum = totals_of(t);
    char text[UNITS_TEXT_MAX];
    if (args_json(a))
        out_json(json_pack("{s:s, s:b, s:I, s:I, s:I}", "topic", t->name, "deleted", deleted, "messages",
                           (json_int_t)sum.messages, "bytes", (json_int_t)sum.bytes, "groups",
                           (json_int_t)t->groups));
    else
        talk("%s topic '%s': %" PRIu64 " message%s (%s), %" PRIu32 " group%s",
             deleted ? "deleted" : "would delete", t->name, sum.messages, PLURAL(sum.messages),
             short_bytes(text, sum.bytes), t->groups, PLURAL(t->groups));
}

int topic_rm(const struct args *a)
{
    const char *name = args_operand(a, 0);
    struct sluice *s;
    struct sluice_topic_list *list;
    int status = open_and_list(a, name, &s, &list);
    if (status != 0)
        return status;
    const struct sluice_topic *t = &list->topics[0];
    uint64_t messages = totals_of(t).messages;
    struct sluice_error err = {0};
    if (args_has(a, "dry-run"))
        say_removed(a, t, false);
    else if (!confirm(a, &status, "delete topic '%s' with %" PRIu64 " message%s and %" PRIu32 " group%s?",
                      name, messages, PLURAL(messages), t->groups, PLURAL(t->groups)))
        ;
    else if (sluice_topic_delete(s, name, &err) != 0)
        status = client_fail(&err, name, NULL);
    else
        say_removed(a, t, true);
    sluice_topics_free(list);
    client_close(a, s);
    return status;
}
