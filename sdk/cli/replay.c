/* sluice group replay */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/task.h"

/* An offset, or a time. Returns 0, or a refusal. */
static int read_place(const struct args *a, const char *option, uint64_t *offset, uint64_t *time_ms, bool *is_time)
{
    const char *text = args_text(a, option, NULL);
    *is_time = false;
    if (text == NULL || count_parse(text, 0, UINT64_MAX - 1, offset, NULL) == 0)
        return 0;
    *is_time = true;
    if (time_parse(text, clock_wall_ms(), time_ms, NULL) == 0)
        return 0;
    return help_refuse(a, "--%s: '%.60s' is not an offset, or a time as 2026-11-22T04:32:39Z or -15m", option, text);
}

static int read_range(const struct args *a, struct sluice_replay *r)
{
    bool time;
    const char *from = args_text(a, "from", "start");
    r->from = SLUICE_FROM_START;
    if (strcmp(from, "start") != 0) {
        int status = read_place(a, "from", &r->from_offset, &r->from_ms, &time);
        if (status != 0)
            return status;
        r->from = time ? SLUICE_FROM_TIME : SLUICE_FROM_OFFSET;
    }
    int status = read_place(a, "to", &r->to_offset, &r->to_ms, &time);
    if (status == 0 && args_has(a, "to") && r->to_offset == 0 && r->to_ms == 0)
        return help_refuse(a, "--to: nothing lies before offset 0");
    return status;
}

/* Which messages, and where they go. `*header` is the room for the header's name, freed by the caller. */
static int read_replay(const struct args *a, struct sluice_replay *r, struct sluice_dlq_filter *f, char **header)
{
    const char *wanted = args_text(a, "header", NULL), *equals = wanted != NULL ? strchr(wanted, '=') : NULL;
    *f = (struct sluice_dlq_filter){.size = sizeof *f, .key = sluice_str(args_text(a, "key", NULL))};
    if (wanted != NULL && (wanted[0] == '\0' || equals == wanted))
        return help_refuse(a, "--header: '%.60s' is not NAME or NAME=VALUE", wanted);
    if (wanted != NULL) {
        *header = equals != NULL ? mem_strndup(wanted, (size_t)(equals - wanted)) : mem_strdup(wanted);
        f->header = *header;
        f->header_value = sluice_str(equals != NULL ? equals + 1 : NULL);
    }
    if (args_has(a, "follow") && !args_has(a, "into"))
        return help_refuse(a, "--follow is for a group that is made: --into NEW");
    if (args_has(a, "of") && !args_has(a, "parked") && !args_has(a, "failed"))
        return help_refuse(a, "--of names whose dead letters: say --parked or --failed, too");
    *r = (struct sluice_replay){
        .size = sizeof *r,
        .source = args_has(a, "failed")   ? SLUICE_REPLAY_FAILED
                  : args_has(a, "parked") ? SLUICE_REPLAY_PARKED
                                          : SLUICE_REPLAY_LOG,
        .of = args_text(a, "of", NULL),
        .into = args_text(a, "into", NULL),
        .follow = args_has(a, "follow"),
        .one_partition = args_has(a, "partition"),
        .partition = (uint32_t)args_number(a, "partition", 0),
        .filter = f->key.data != NULL || wanted != NULL ? f : NULL,
        .rate = (double)args_number(a, "rate", 0) / 1000,
        .limit = args_number(a, "limit", 0),
        .dry_run = args_has(a, "dry-run"),
    };
    return read_range(a, r);
}

static int replay(const struct args *a, struct sluice *s, const struct sluice_replay *r)
{
    struct sluice_group_list *list;
    int status = client_find_group(s, args_text(a, "topic", NULL), args_operand(a, 0), &list);
    if (status != 0)
        return status;
    const struct sluice_group *g = &list->groups[0];
    struct sluice_error err = {0};
    uint64_t task = 0;
    if (sluice_group_replay(s, g->topic, g->name, r, &task, &err) != 0)
        status = client_fail(&err, g->topic, r->of != NULL ? r->of : g->name);
    sluice_groups_free(list);
    return status == 0 ? task_follow(a, s, task) : status;
}

int group_replay(const struct args *a)
{
    struct sluice_replay r;
    struct sluice_dlq_filter filter;
    char *header = NULL;
    struct sluice *s = NULL;
    int status = task_begin() ? read_replay(a, &r, &filter, &header) : STATUS_ERROR;
    if (status == 0)
        status = client_open(a, &s);
    if (status == 0) {
        status = replay(a, s, &r);
        client_close(a, s);
    }
    mem_free(header);
    return status;
}
