/*
 * sluice consume TOPIC
 *
 *     without -g           consume_log.c     reads partitions by offset
 *     -g                   consume_group.c   leases, prints, acknowledges
 *     -g --exec            consume_exec.c    leases, runs a command for each, settles by its exit status
 *     -g, a stream group   consume_stream.c  joins, prints or runs the command in order, commits
 */
#include "cli/consume.h"

#include <stdlib.h>

#include "cli/help.h"
#include "cli/out.h"
#include "cli/stop.h"

void consumer_put(const struct consumer *c, const struct sluice_delivery *d)
{
    if (args_json(c->args)) {
        out_json(message_json(d));
    } else if (c->format.count > 0) {
        struct buf text = {0};
        format_put(&c->format, d, &text);
        out_bytes(text.data, text.size);
        buf_free(&text);
    } else {
        out_bytes(d->value.data, d->value.size);
        out_bytes("\n", 1);
    }
}

void consumer_put_gap(const struct consumer *c, const struct sluice_gap *g)
{
    if (!args_json(c->args))
        return;
    json_t *gap = json_pack("{s:s}", "topic", c->topic), *rest = gap_json(g);
    json_object_update(gap, rest);
    json_decref(rest);
    out_json(json_pack("{s:o}", "gap", gap));
}

bool consumer_at_end(const struct consumer *c, int *status)
{
    struct sluice_error err = {0};
    struct sluice_lag_list *lag = NULL;
    if (sluice_group_lag(c->client, c->topic, c->group, &lag, &err) != 0) {
        if (!client_again(&err))
            *status = client_fail(&err, c->topic, c->group);
        return false;
    }
    bool end = lag->count == 0 || lag->rows[0].scale_value == 0;
    sluice_lag_free(lag);
    return end;
}

/* Options that make no sense without, or with, another. */
static const char *contradiction(const struct args *a)
{
    bool group = args_has(a, "group"), exec = args_has(a, "exec");
    if (group && args_has(a, "partition"))
        return "--partition is for reading the log; a group gives out messages of all partitions";
    if (group && args_has(a, "from"))
        return "--from is for reading the log; where a group begins is said when it is created";
    if (exec && !group)
        return "--exec needs -g GROUP: without a group nothing can be acknowledged";
    if (!group && (args_has(a, "member") || args_has(a, "session-timeout")))
        return "--member and --session-timeout need -g GROUP, a stream group";
    if (args_has(a, "parallel") && !exec)
        return "--parallel needs --exec CMD";
    if (exec && args_has(a, "format"))
        return "--format prints messages, --exec gives them to a command: one of both";
    if (args_json(a) && args_has(a, "format"))
        return "--format or -o json: one of both";
    return NULL;
}

/* The group must be there; its mode says how it is worked for. */
static int check_group(struct consumer *c)
{
    struct sluice_group_list *list;
    int status = client_find_group(c->client, c->topic, c->group, &list);
    if (status != 0)
        return status;
    c->stream = list->groups[0].options.mode == SLUICE_STREAM;
    if (c->stream && args_has(c->args, "parallel"))
        status = help_refuse(c->args, "--parallel: '%s' is a stream group, whose messages are worked on in order; start more consumers", c->group);
    if (!c->stream && (args_has(c->args, "member") || args_has(c->args, "session-timeout")))
        status = help_refuse(c->args, "--member and --session-timeout are for stream groups, '%s' is a queue group", c->group);
    c->lease_ms = list->groups[0].options.lease_ms;
    sluice_groups_free(list);
    return status;
}

static int read_options(struct consumer *c)
{
    struct err e;
    if (format_parse(&c->format, args_text(c->args, "format", ""), &e) != 0)
        return help_refuse(c->args, "--format: %s", e.text);
    return start_parse(c->args, &c->start);
}

static int run(struct consumer *c)
{
    if (c->group == NULL)
        return consume_log(c);
    int status = check_group(c);
    if (status != 0 || c->stream)
        return status != 0 ? status : consume_stream(c);
    return args_has(c->args, "exec") ? consume_exec(c) : consume_group(c);
}

/* The nursery comes first: once the library runs, this process must not fork. */
static int begin(struct consumer *c)
{
    struct err e;
    const char *command = args_text(c->args, "exec", NULL);
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    uint32_t slots = (uint32_t)args_number(c->args, "parallel", 1);
    setenv("SLUICE_BROKER", client_broker(c->args), true); /* for the commands */
    if ((command != NULL && nursery_start(&c->nursery, argv, NULL, slots, &e) != 0) || stop_begin(&e) != 0) {
        talk("%s", e.text);
        return STATUS_ERROR;
    }
    return client_open(c->args, &c->client);
}

int consume(const struct args *a)
{
    const char *wrong = contradiction(a);
    if (wrong != NULL)
        return help_refuse(a, "%s", wrong);
    struct consumer c = {
        .args = a,
        .topic = args_operand(a, 0),
        .group = args_text(a, "group", NULL),
        .left = args_number(a, "count", UINT64_MAX),
        .exit_at_end = args_has(a, "exit-at-end"),
        .nursery = NURSERY_NONE,
    };
    int status = read_options(&c);
    if (status == 0)
        status = begin(&c);
    if (status == 0)
        status = run(&c);
    client_close(a, c.client);
    nursery_stop(&c.nursery);
    format_free(&c.format);
    return status;
}
