#include "workerd/effects.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/errors.h"

static size_t output_bytes(const struct plugin_output *o)
{
    return o->topic.size + o->key.size + o->value.size + o->headers.size + o->message_id.size;
}

/* Moves a view's bytes to `at`, which goes on behind them. Absent stays absent, empty stays empty. */
static struct view moved(struct view v, uint8_t **at)
{
    if (v.data == NULL)
        return v;
    struct view to = view_of(*at, v.size);
    if (v.size > 0)
        memcpy(*at, v.data, v.size);
    *at += v.size;
    return to;
}

/* A copy whose bytes are one allocation, which begins with the topic. */
static struct plugin_output copied(const struct plugin_output *o)
{
    struct plugin_output copy = *o;
    uint8_t *at = mem_alloc(output_bytes(o));
    copy.topic = moved(view_of(o->topic.data != NULL ? o->topic.data : at, o->topic.size), &at);
    copy.key = moved(o->key, &at);
    copy.value = moved(o->value, &at);
    copy.headers = moved(o->headers, &at);
    copy.message_id = moved(o->message_id, &at);
    return copy;
}

static void add(struct effects *x, const struct plugin_output *output)
{
    if (x->outputs_n == x->outputs_cap) {
        x->outputs_cap = x->outputs_cap != 0 ? 2 * x->outputs_cap : 4;
        x->outputs = mem_resize(x->outputs, x->outputs_cap, sizeof *x->outputs);
    }
    x->outputs[x->outputs_n++] = copied(output);
    x->bytes += output_bytes(output) + EFFECTS_OUTPUT_BYTES;
}

int effects_publish(struct effects *x, const struct plugin_output *output)
{
    size_t left = EFFECTS_BYTES_MAX - x->bytes;
    assert(x->bytes <= EFFECTS_BYTES_MAX && output->topic.data != NULL);
    if (x->outputs_n == EFFECTS_OUTPUTS_MAX || output->value.size > left ||
        output_bytes(output) + EFFECTS_OUTPUT_BYTES > left)
        return E_TOO_LARGE;
    add(x, output);
    return 0;
}

static void set_state(struct effects *x, uint64_t version, struct view value)
{
    struct view copy = value;
    if (value.data != NULL)
        copy = view_of(mem_dup(value.data, value.size), value.size);
    x->bytes += value.size - x->state.size;
    mem_free((void *)x->state.data);
    x->has_state = true;
    x->state_remove = value.data == NULL;
    x->state_version = version;
    x->state = copy;
}

int effects_state(struct effects *x, uint64_t version, struct view value)
{
    if (value.size > EFFECTS_BYTES_MAX - (x->bytes - x->state.size))
        return E_TOO_LARGE;
    set_state(x, version, value);
    return 0;
}

void effects_tell(const struct effects *x, struct plugin_packet *verdict)
{
    assert(verdict->kind == PLUGIN_VERDICT);
    verdict->verdict.outputs = x->outputs;
    verdict->verdict.outputs_n = x->outputs_n;
    verdict->verdict.has_state = x->has_state;
    verdict->verdict.state_remove = x->state_remove;
    verdict->verdict.state_version = x->state_version;
    verdict->verdict.state = x->state;
}

struct effects *effects_of(const struct plugin_packet *verdict)
{
    assert(verdict->kind == PLUGIN_VERDICT);
    if (verdict->verdict.outputs_n == 0 && !verdict->verdict.has_state)
        return NULL;
    struct effects *x = mem_zalloc(sizeof *x);
    for (uint32_t i = 0; i < verdict->verdict.outputs_n; i++)
        add(x, &verdict->verdict.outputs[i]);
    if (verdict->verdict.has_state)
        set_state(x, verdict->verdict.state_version,
                  verdict->verdict.state_remove ? view_of(NULL, 0) : verdict->verdict.state);
    return x;
}

void effects_clear(struct effects *x)
{
    for (uint32_t i = 0; i < x->outputs_n; i++)
        mem_free((void *)x->outputs[i].topic.data);
    mem_free(x->outputs);
    mem_free((void *)x->state.data);
    *x = (struct effects){0};
}

void effects_free(struct effects *x)
{
    if (x != NULL)
        effects_clear(x);
    mem_free(x);
}
