#include "workerd/unit.h"

#include <pthread.h>
#include <string.h>

#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "workerd/pipe.h"

enum { TOPICS_TOLD = 8 };

struct units {
    struct inbox *inbox;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list queue; /* of struct unit; this and `ending` under lock */
    bool ending;
};

/* ---- answers ---- */

/* Takes the text. */
static void answer(struct unit *one, int code, char *text)
{
    one->outcome->code = code;
    one->outcome->text = text;
    inbox_push(one->units->inbox, &one->outcome->event.node, 0);
}

static bool told_before(const struct effects *x, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        if (view_eq(x->outputs[k].topic, x->outputs[i].topic))
            return true;
    }
    return false;
}

/* What the broker refused names messages by partition; people know what they published. */
static char *refusal_text(const struct effects *x, const char *why)
{
    struct buf text = {0};
    buf_putf(&text, "%s", why);
    for (uint32_t i = 0, told = 0; i < x->outputs_n && told < TOPICS_TOLD; i++) {
        if (told_before(x, i))
            continue;
        buf_putf(&text, "%s '%.*s'", told++ == 0 ? "; outputs to" : ",", (int)x->outputs[i].topic.size,
                 (const char *)x->outputs[i].topic.data);
    }
    char *copy = mem_strdup(buf_str(&text));
    buf_free(&text);
    return copy;
}

/* On a thread of the library. */
static void committed(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts,
                      size_t count)
{
    struct unit *one = user;
    (void)receipts, (void)count;
    if (error == NULL)
        answer(one, 0, NULL);
    else
        answer(one, error->code, refusal_text(one->outcome->task->effects, error->text));
}

/* ---- a unit, built ---- */

/* One output as the library takes it; its strings are copies. */
struct output {
    struct sluice_message message;
    struct sluice_header headers[WIRE_HEADERS_MAX];
};

static struct sluice_bytes bytes_of(struct view v)
{
    return (struct sluice_bytes){v.data, v.size};
}

static void output_begin(struct output *o, const struct plugin_output *from)
{
    o->message = (struct sluice_message){
        .size = sizeof o->message,
        .topic = packet_string(from->topic),
        .key = bytes_of(from->key),
        .value = bytes_of(from->value),
        .headers = o->headers,
        .timestamp_ms = from->timestamp_ms,
        .ttl_ms = from->ttl_ms,
        .priority = from->priority,
        .message_id = from->message_id.data != NULL ? packet_string(from->message_id) : NULL,
        .delay_ms = from->delay_ms,
    };
    struct view rest = from->headers;
    struct header h;
    bool bad = false;
    while (o->message.headers_count < WIRE_HEADERS_MAX && headers_next(&rest, &h, &bad))
        o->headers[o->message.headers_count++] =
            (struct sluice_header){packet_string(h.name), bytes_of(h.value)};
}

static void output_end(struct output *o)
{
    mem_free((void *)o->message.topic);
    mem_free((void *)o->message.message_id);
    for (size_t i = 0; i < o->message.headers_count; i++)
        mem_free((void *)o->headers[i].name);
}

static int publish(struct sluice_unit *u, const struct plugin_output *from, struct sluice_error *err)
{
    struct output o;
    output_begin(&o, from);
    int code = sluice_unit_publish(u, &o.message, err);
    output_end(&o);
    return code;
}

static int put_state(struct sluice_unit *u, const struct unit *one, struct sluice_error *err)
{
    const struct task *t = one->outcome->task;
    const struct effects *x = t->effects;
    return x->state_remove
               ? sluice_unit_state_remove(u, one->topic, one->group, bytes_of(t->key), x->state_version, err)
               : sluice_unit_state_put(u, one->topic, one->group, bytes_of(t->key), x->state_version,
                                       bytes_of(x->state), err);
}

/* `failed`: the output that could not be published, if it is that. */
static int build(struct sluice_unit *u, const struct unit *one, const struct plugin_output **failed,
                 struct sluice_error *err)
{
    const struct effects *x = one->outcome->task->effects;
    int code = sluice_unit_ack(u, one->batch, one->index, err);
    for (uint32_t i = 0; i < x->outputs_n && code == 0; i++) {
        code = publish(u, &x->outputs[i], err);
        if (code != 0)
            *failed = &x->outputs[i];
    }
    if (code == 0 && x->has_state)
        code = put_state(u, one, err);
    return code;
}

static char *building_text(const struct plugin_output *failed, const char *why)
{
    struct buf text = {0};
    if (failed != NULL)
        buf_putf(&text, "output to '%.*s': ", (int)failed->topic.size, (const char *)failed->topic.data);
    buf_putf(&text, "%s", why);
    char *copy = mem_strdup(buf_str(&text));
    buf_free(&text);
    return copy;
}

static void commit(struct unit *one)
{
    struct sluice_unit *u = NULL;
    const struct plugin_output *failed = NULL;
    struct sluice_error err = {0};
    int code = sluice_unit_begin(one->sluice, &u, &err);
    if (code == 0)
        code = build(u, one, &failed, &err);
    if (code == 0)
        code = sluice_unit_commit_async(u, committed, one, &err);
    if (code == 0)
        return; /* `one` may be gone */
    sluice_unit_free(u);
    /* Nothing was sent, so what could not be asked for in time can be given again. */
    answer(one, code == E_TIMEOUT ? E_AGAIN : code, building_text(failed, err.text));
}

/* ---- the thread ---- */

static void *run(void *arg)
{
    struct units *u = arg;
    pthread_mutex_lock(&u->lock);
    for (;;) {
        struct list_node *n = list_pop_front(&u->queue);
        if (n == NULL && u->ending)
            break;
        if (n == NULL) {
            pthread_cond_wait(&u->changed, &u->lock);
            continue;
        }
        pthread_mutex_unlock(&u->lock);
        commit(container_of(n, struct unit, node));
        pthread_mutex_lock(&u->lock);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

struct units *units_new(struct inbox *inbox, struct err *e)
{
    struct units *u = mem_zalloc(sizeof *u);
    u->inbox = inbox;
    list_init(&u->queue);
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->changed, NULL);
    int code = pthread_create(&u->thread, NULL, run, u);
    if (code == 0)
        return u;
    pthread_cond_destroy(&u->changed);
    pthread_mutex_destroy(&u->lock);
    mem_free(u);
    err_set(e, E_NO_MEMORY, "cannot start a thread: %s", strerror(code));
    return NULL;
}

void units_give(struct units *u, struct unit *one)
{
    one->units = u;
    pthread_mutex_lock(&u->lock);
    list_push_back(&u->queue, &one->node);
    pthread_cond_signal(&u->changed);
    pthread_mutex_unlock(&u->lock);
}

void units_free(struct units *u)
{
    if (u == NULL)
        return;
    pthread_mutex_lock(&u->lock);
    u->ending = true;
    pthread_cond_signal(&u->changed);
    pthread_mutex_unlock(&u->lock);
    pthread_join(u->thread, NULL);
    pthread_cond_destroy(&u->changed);
    pthread_mutex_destroy(&u->lock);
    mem_free(u);
}
