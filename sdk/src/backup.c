/* A backup, made by the broker. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "sdk/client.h"

/* "20261122T175401.123Z": sorted by name is sorted by time. */
static void name_of_now(char out[32])
{
    uint64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t n = strftime(out, 24, "%Y%m%dT%H%M%S", &utc);
    snprintf(out + n, 32 - n, ".%03uZ", (unsigned)(ms % 1000));
}

int sluice_backup(struct sluice *s, const char *name, uint32_t timeout_ms, struct sluice_backup *out, struct sluice_error *err)
{
    char now[32];
    if (out == NULL || out->size < offsetof(struct sluice_backup, took_ms) + sizeof out->took_ms)
        return fail(err, E_INVALID_ARGUMENT, "struct sluice_backup: size must be sizeof(struct sluice_backup)");
    if (name == NULL) {
        name_of_now(now);
        name = now;
    }
    int code = check_name("backup", name, err);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_BACKUP, LANE_READS, "backup '%s'", name);
    r->wire.backup.name = request_keep(r, view_of_str(name));
    if (timeout_ms != 0)
        r->deadline_ns = deadline_in(timeout_ms);
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code == E_EXISTS) /* the table's sentence speaks of settings */
        return fail(err, code, "backup '%s' exists", name);
    if (code != 0)
        return code;
    const struct wire_backup_reply *w = &a->reply.backup;
    if (a->reply.body != BODY_BACKUP) {
        answer_drop(a);
        return fail(err, E_BAD_FRAME, "backup: the broker's answer makes no sense");
    }
    struct sluice_backup b = {.size = out->size, .turn = w->turn, .bytes = w->bytes, .files = w->files, .took_ms = w->took_ms};
    text_copy(b.path, sizeof b.path, w->path);
    answer_drop(a);
    memcpy(out, &b, sizeof b);
    return 0;
}
