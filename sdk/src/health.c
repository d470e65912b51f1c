/* Whether the broker is well. */
#include <string.h>

#include "sdk/client.h"

int sluice_health(struct sluice *s, uint32_t timeout_ms, struct sluice_health *out, struct sluice_error *err)
{
    if (out == NULL || out->size < offsetof(struct sluice_health, http) + sizeof out->http)
        return fail(err, E_INVALID_ARGUMENT,
                    "struct sluice_health: size must be sizeof(struct sluice_health)");
    struct request *r = client_request(s, VERB_HEALTH, LANE_READS, "health");
    if (timeout_ms != 0)
        r->deadline_ns = deadline_in(timeout_ms);
    struct answer *a;
    int code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    const struct wire_health_reply *w = &a->reply.health;
    if (a->reply.body != BODY_HEALTH) {
        answer_drop(a);
        return fail(err, E_BAD_FRAME, "health: the broker's answer makes no sense");
    }
    struct sluice_health h = {.size = out->size,
                              .epoch = w->epoch,
                              .topics = w->topics,
                              .groups = w->groups,
                              .sessions = w->sessions,
                              .turn = w->turn,
                              .durable_turn = w->durable_turn,
                              .uptime_ms = w->uptime_ms};
    text_copy(h.status, sizeof h.status, w->status);
    text_copy(h.reason, sizeof h.reason, w->reason);
    text_copy(h.version, sizeof h.version, w->version);
    client_http(s, h.http, sizeof h.http);
    answer_drop(a);
    memcpy(out, &h, sizeof h);
    return 0;
}
