/* sluice health */
#include <inttypes.h>
#include <string.h>

#include "cli/client.h"
#include "cli/out.h"

enum { HEALTH_TIMEOUT_MS = 1000 };

static void print_json(const struct sluice_health *h)
{
    /* clang-format off */
    out_json(json_pack("{s:s, s:s?, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s?}",
                       "status", h->status,
                       "reason", h->reason[0] != '\0' ? h->reason : NULL,
                       "version", h->version,
                       "epoch", (json_int_t)h->epoch,
                       "turn", (json_int_t)h->turn,
                       "durable_turn", (json_int_t)h->durable_turn,
                       "uptime_ms", (json_int_t)h->uptime_ms,
                       "topics", (json_int_t)h->topics,
                       "groups", (json_int_t)h->groups,
                       "sessions", (json_int_t)h->sessions,
                       "http", h->http[0] != '\0' ? h->http : NULL));
    /* clang-format on */
}

static void print_text(const struct sluice_health *h)
{
    char text[UNITS_TEXT_MAX];
    sheet_line("status", "%s", h->status);
    if (h->reason[0] != '\0')
        sheet_line("reason", "%s", h->reason);
    sheet_line("version", "%s", h->version);
    sheet_line("uptime", "%s", short_seconds(text, (double)h->uptime_ms / 1000));
    sheet_line("epoch", "%" PRIu32, h->epoch);
    sheet_line("turn", "%" PRIu64 " (%" PRIu64 " on disk)", h->turn, h->durable_turn);
    sheet_line("topics", "%" PRIu32, h->topics);
    sheet_line("groups", "%" PRIu32, h->groups);
    sheet_line("sessions", "%" PRIu32, h->sessions);
    sheet_line("http", "%s", h->http[0] != '\0' ? h->http : "-");
}

/* A broker that does not answer is as unwell as one that says so. */
static int unreachable(const struct args *a, const struct sluice_error *err)
{
    if (args_json(a))
        out_json(json_pack("{s:s, s:s}", "status", "unreachable", "reason", err->text));
    talk("%s", err->text);
    return STATUS_UNHEALTHY;
}

int health(const struct args *a)
{
    uint32_t timeout_ms = (uint32_t)args_number(a, "timeout", HEALTH_TIMEOUT_MS);
    const struct sluice_options options = {
        .size = sizeof options,
        .broker = client_broker(a),
        .connect_timeout_ms = timeout_ms,
        .request_timeout_ms = timeout_ms,
    };
    struct sluice *s;
    struct sluice_error err = {0};
    int code = sluice_open(&s, &options, &err);
    if (code == SLUICE_UNAUTHENTICATED || code == SLUICE_FORBIDDEN)
        return client_fail(&err, NULL, NULL);
    if (code == SLUICE_INVALID_ARGUMENT) { /* the address is none */
        talk("%s", err.text);
        return STATUS_USAGE;
    }
    if (code != 0)
        return unreachable(a, &err);

    struct sluice_health h = {.size = sizeof h};
    int status;
    if (sluice_health(s, timeout_ms, &h, &err) != 0) {
        status = unreachable(a, &err);
    } else {
        status = strcmp(h.status, "ok") == 0 ? STATUS_OK : STATUS_UNHEALTHY;
        if (args_json(a))
            print_json(&h);
        else
            print_text(&h);
    }
    sluice_close(s, timeout_ms, NULL, NULL);
    return status;
}
