/* The state that a queue group keeps for a key, as it is now. */
#include <string.h>

#include "base/mem.h"
#include "sdk/client.h"

/* What the user gets stands first; the value behind it. */
struct state {
    struct sluice_state out;
    uint8_t bytes[];
};

static struct sluice_state *state_new(const struct wire_state_reply *w)
{
    size_t size = w->found ? w->value.size : 0;
    struct state *state = mem_zalloc(sizeof *state + size + 1);
    if (w->found) {
        if (size > 0)
            memcpy(state->bytes, w->value.data, size);
        state->out = (struct sluice_state){.version = w->version, .value = {state->bytes, size}};
    }
    return &state->out;
}

int sluice_state_get(struct sluice *s, const char *topic, const char *group, struct sluice_bytes key,
                     struct sluice_state **out, struct sluice_error *err)
{
    *out = NULL;
    struct group *g;
    bool asked;
    if (key.data == NULL)
        return fail(err, E_INVALID_ARGUMENT, "state: the key is absent");
    if (key.size > WIRE_KEY_MAX)
        return fail(err, E_TOO_LARGE, "key: %zu bytes, at most %d are accepted", key.size, WIRE_KEY_MAX);
    for (;;) {
        int code = catalog_group(s, topic, group, &g, &asked, err);
        if (code != 0)
            return code;
        struct request *r =
            client_request(s, VERB_STATE_GET, LANE_READS, "group '%s' of topic '%s'", group, topic);
        r->wire.state_get =
            (struct wire_state_get){.group = g->id, .key = request_keep(r, view_of(key.data, key.size))};
        struct answer *a;
        code = client_call(s, r, &a, err);
        if (code == 0 && a->reply.body == BODY_STATE)
            *out = state_new(&a->reply.state);
        if (code == 0) {
            answer_drop(a);
            return *out != NULL ? 0 : fail(err, E_BAD_FRAME, "state: the broker's answer makes no sense");
        }
        if (code != E_GROUP_NOT_FOUND && code != E_TOPIC_NOT_FOUND && code != E_TOPIC_DELETED)
            return code;
        catalog_forget_group(&s->catalog, g); /* the name may stand for another one by now */
        if (asked)
            return code == E_GROUP_NOT_FOUND ? fail_no_group(err, topic, group) : code;
    }
}

void sluice_state_free(struct sluice_state *state)
{
    if (state != NULL)
        mem_free(container_of(state, struct state, out));
}
