#include "workerd/host.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "workerd/pipe.h"

enum {
    EXTEND_MS_MAX = 12 * 3600 * 1000, /* the longest lease */
    ARENA_BYTES_MAX = 4096,           /* a TASK has nothing that needs more */
    TEXT_BYTES_MAX = 4096,            /* of a line for the log; what is behind it is cut */
};

static struct host *host_of(const struct sluice_host *seen)
{
    return seen->host_data;
}

static struct host_task *task_of(const struct sluice_task *seen)
{
    return (struct host_task *)(uintptr_t)seen->host_data;
}

static struct sluice_slice slice_of(struct view v)
{
    return (struct sluice_slice){v.data, v.size};
}

static struct view line_of(const char *text)
{
    return view_of(text, text != NULL ? strnlen(text, TEXT_BYTES_MAX) : 0);
}

/* ---- the functions, of the types and in the order of handler.h ---- */

static sluice_log_fn host_log;
static sluice_cancelled_fn host_cancelled;
static sluice_deadline_fn host_deadline;
static sluice_header_fn host_header;
static sluice_headers_fn host_headers;
static sluice_publish_output_fn host_publish;
static sluice_publish_message_fn host_publish_message;
static sluice_state_get_fn host_state_get;
static sluice_state_put_fn host_state_put;
static sluice_state_remove_fn host_state_remove;
static sluice_extend_fn host_extend;
static sluice_progress_fn host_progress;

static void host_log(const struct sluice_host *host, int level, const char *text)
{
    if (text == NULL)
        return;
    if (level < SLUICE_LOG_DEBUG || level > SLUICE_LOG_ERROR)
        level = SLUICE_LOG_INFO;
    host_of(host)->send(
        &(struct plugin_packet){.kind = PLUGIN_LOG, .log = {.level = (uint8_t)level, .text = line_of(text)}});
}

static uint64_t host_deadline(const struct sluice_host *host, const struct sluice_task *task)
{
    (void)host;
    uint64_t deadline = atomic_load(task_of(task)->deadline_ms), now = clock_mono_ms();
    return deadline > now ? deadline - now : 0;
}

static bool host_cancelled(const struct sluice_host *host, const struct sluice_task *task)
{
    return atomic_load(&task_of(task)->cancelled) || host_deadline(host, task) == 0;
}

static struct sluice_slice host_header(const struct sluice_host *host, const struct sluice_task *task,
                                       const char *name)
{
    (void)host;
    struct view value = {NULL, 0};
    headers_find(task_of(task)->headers, view_of_str(name), &value);
    return slice_of(value);
}

static bool host_headers(const struct sluice_host *host, const struct sluice_task *task, size_t *pos,
                         struct sluice_slice *name, struct sluice_slice *value)
{
    (void)host;
    struct view all = task_of(task)->headers;
    if (*pos >= all.size)
        return false;
    struct view rest = view_of(all.data + *pos, all.size - *pos);
    struct header found;
    bool bad = false;
    if (!headers_next(&rest, &found, &bad))
        return false;
    *pos = all.size - rest.size;
    *name = slice_of(found.name);
    *value = slice_of(found.value);
    return true;
}

/* The host's codes are of the same numbers. */
_Static_assert((int)SLUICE_HOST_TOO_LARGE == (int)E_TOO_LARGE &&
                   (int)SLUICE_HOST_INVALID == (int)E_INVALID_ARGUMENT,
               "passed on");

static int encode_headers(const struct sluice_output *o, struct buf *out)
{
    if (o->headers_count > WIRE_HEADERS_MAX)
        return SLUICE_HOST_TOO_LARGE;
    for (size_t i = 0; i < o->headers_count; i++) {
        const struct sluice_output_header *h = &o->headers[i];
        int code = headers_put(out, view_of_str(h->name), view_of(h->value.data, h->value.size), NULL);
        if (code != 0)
            return code == E_LIMIT ? SLUICE_HOST_TOO_LARGE : SLUICE_HOST_INVALID;
    }
    return SLUICE_HOST_OK;
}

static int check_output(const struct sluice_output *o)
{
    if (o->topic == NULL || o->topic[0] == '\0' || strlen(o->topic) > WIRE_NAME_MAX)
        return SLUICE_HOST_INVALID;
    if (o->priority > BATCH_PRIORITY_MAX || (o->message_id != NULL && o->message_id[0] == '\0'))
        return SLUICE_HOST_INVALID;
    return o->key.size > WIRE_KEY_MAX ? SLUICE_HOST_TOO_LARGE : SLUICE_HOST_OK;
}

static int publish(const struct sluice_host *host, const struct sluice_task *task,
                   const struct sluice_output *o)
{
    struct buf headers = {0};
    int code = check_output(o);
    if (code == SLUICE_HOST_OK)
        code = encode_headers(o, &headers);
    if (code == SLUICE_HOST_OK) {
        pthread_mutex_lock(&host_of(host)->lock);
        code = effects_publish(
            &task_of(task)->effects,
            &(struct plugin_output){.topic = view_of_str(o->topic),
                                    .key = view_of(o->key.data, o->key.size),
                                    .value = view_of(o->value.data, o->value.size),
                                    .headers = headers.size > 0 ? buf_view(&headers) : view_of(NULL, 0),
                                    .message_id = view_of_str(o->message_id),
                                    .delay_ms = o->delay_ms,
                                    .timestamp_ms = o->timestamp_ms,
                                    .ttl_ms = o->ttl_ms,
                                    .priority = o->priority});
        pthread_mutex_unlock(&host_of(host)->lock);
    }
    buf_free(&headers);
    return code;
}

static int host_publish(const struct sluice_host *host, const struct sluice_task *task, const char *topic,
                        struct sluice_slice key, struct sluice_slice value, uint64_t delay_ms)
{
    return publish(host, task,
                   &(struct sluice_output){.topic = topic, .key = key, .value = value, .delay_ms = delay_ms});
}

static int host_publish_message(const struct sluice_host *host, const struct sluice_task *task,
                                const struct sluice_output *output)
{
    struct sluice_output copy = {0};
    if (output->size < offsetof(struct sluice_output, headers))
        return SLUICE_HOST_INVALID;
    memcpy(&copy, output, output->size < sizeof copy ? output->size : sizeof copy);
    return publish(host, task, &copy);
}

static int host_state_get(const struct sluice_host *host, const struct sluice_task *task,
                          struct sluice_slice *value, uint64_t *version)
{
    const struct host_task *t = task_of(task);
    if (task->key.data == NULL)
        return SLUICE_HOST_INVALID;
    pthread_mutex_lock(&host_of(host)->lock);
    *value = slice_of(t->effects.has_state ? t->effects.state : t->state);
    pthread_mutex_unlock(&host_of(host)->lock);
    if (version != NULL)
        *version = t->state_version;
    return SLUICE_HOST_OK;
}

/* Over the version that came with the task, which is what it read if it read any. */
static int change_state(const struct sluice_host *host, const struct sluice_task *task, struct view value)
{
    struct host_task *t = task_of(task);
    if (task->key.data == NULL)
        return SLUICE_HOST_INVALID;
    pthread_mutex_lock(&host_of(host)->lock);
    int code = effects_state(&t->effects, t->state_version, value);
    pthread_mutex_unlock(&host_of(host)->lock);
    return code;
}

static int host_state_put(const struct sluice_host *host, const struct sluice_task *task,
                          struct sluice_slice value)
{
    if (value.data == NULL)
        return SLUICE_HOST_INVALID;
    return change_state(host, task, view_of(value.data, value.size));
}

static int host_state_remove(const struct sluice_host *host, const struct sluice_task *task)
{
    return change_state(host, task, view_of(NULL, 0));
}

static int host_extend(const struct sluice_host *host, const struct sluice_task *task, uint32_t ms)
{
    struct host_task *t = task_of(task);
    if (ms == 0 || ms > EXTEND_MS_MAX)
        return SLUICE_HOST_INVALID;
    uint64_t wanted = clock_mono_ms() + ms, now = atomic_load(t->deadline_ms);
    while (wanted > now && !atomic_compare_exchange_weak(t->deadline_ms, &now, wanted))
        continue;
    host_of(host)->send(&(struct plugin_packet){.kind = PLUGIN_EXTEND, .extend = {.id = t->id, .ms = ms}});
    return SLUICE_HOST_OK;
}

static int host_progress(const struct sluice_host *host, const struct sluice_task *task, uint32_t percent,
                         const char *note)
{
    if (percent > 100)
        return SLUICE_HOST_INVALID;
    host_of(host)->send(&(struct plugin_packet){
        .kind = PLUGIN_PROGRESS,
        .progress = {.id = task_of(task)->id, .percent = percent, .note = line_of(note)}});
    return SLUICE_HOST_OK;
}

/* ---- the table ---- */

static void *host_function(const struct sluice_host *host, const char *name)
{
    static const struct {
        const char *name;
        void *function;
    } table[] = {
        {"log", (void *)host_log},
        {"cancelled", (void *)host_cancelled},
        {"deadline", (void *)host_deadline},
        {"header", (void *)host_header},
        {"headers", (void *)host_headers},
        {"publish", (void *)host_publish},
        {"publish_message", (void *)host_publish_message},
        {"state_get", (void *)host_state_get},
        {"state_put", (void *)host_state_put},
        {"state_remove", (void *)host_state_remove},
        {"extend", (void *)host_extend},
        {"progress", (void *)host_progress},
    };
    (void)host;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].name, name) == 0)
            return table[i].function;
    }
    return NULL;
}

void host_init(struct host *h, const char *name, const char *config,
               void (*send)(const struct plugin_packet *packet))
{
    h->seen = (struct sluice_host){
        .size = sizeof h->seen, .function = host_function, .config = config, .name = name, .host_data = h};
    h->send = send;
    pthread_mutex_init(&h->lock, NULL);
}

/* ---- tasks ---- */

struct host_task *host_task_new(uint8_t *bytes, size_t size)
{
    struct plugin_packet p;
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    int code = codec_plugin_decode(view_of(bytes, size), &p, &arena, NULL);
    arena_free(&arena);
    if (code != 0 || p.kind != PLUGIN_TASK)
        return NULL;
    struct host_task *t = mem_zalloc(sizeof *t);
    t->bytes = bytes;
    t->id = p.task.id;
    t->follow = p.task.batch;
    t->headers = p.task.headers;
    t->state_version = p.task.state_version;
    t->state = p.task.state;
    t->topic = packet_string(p.task.topic);
    t->group = packet_string(p.task.group);
    t->idempotency_key = packet_string(p.task.idempotency_key);
    atomic_init(&t->cancelled, false);
    t->seen = (struct sluice_task){
        .size = sizeof t->seen,
        .topic = t->topic,
        .group = t->group,
        .partition = p.task.partition,
        .attempt = p.task.attempt,
        .offset = p.task.offset,
        .key = slice_of(p.task.key),
        .value = slice_of(p.task.value),
        .timestamp_ms = p.task.timestamp_ms,
        .append_time_ms = p.task.append_time_ms,
        .idempotency_key = t->idempotency_key,
        .host_data = t,
    };
    return t;
}

void host_task_free(struct host_task *t)
{
    if (t == NULL)
        return;
    mem_free(t->topic);
    mem_free(t->group);
    mem_free(t->idempotency_key);
    effects_clear(&t->effects);
    mem_free(t->bytes);
    mem_free(t);
}
