/* A broker inside the caller's process: see sluice/embed.h. */
#include <sluice/embed.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "broker/compose.h"
#include "schemas/errors.h"
#include "store/store_mem.h"

struct sluice_broker {
    struct config config;
    struct compose *compose;
};

static atomic_flag one_runs = ATOMIC_FLAG_INIT;

/* Nothing that was not answered will be: clients see a broker that has gone silent, and its log says why. */
static void on_fatal(void *user, const struct err *why)
{
    (void)user;
    log_error("embedded broker stopped: %s", why->text);
}

static int configure(struct config *c, const struct sluice_broker_options *o, struct err *e)
{
    bool listening = false, publishing = false;
    int code = config_set(c, "http=", e);
    if (code == E_OK)
        code = config_set(c, "publish=", e);
    if (o->data != NULL) {
        mem_free(c->data);
        c->data = mem_strdup(o->data);
    }
    config_add(&c->listen, o->listen != NULL ? o->listen : "inproc://sluice", &listening);
    if (o->publish != NULL)
        config_add(&c->publish, o->publish, &publishing);
    for (size_t i = 0; code == E_OK && o->set != NULL && o->set[i] != NULL; i++)
        code = config_set(c, o->set[i], e);
    return code != E_OK ? code : config_check(c, o->data != NULL, e);
}

static void broker_free(struct sluice_broker *b)
{
    config_free(&b->config);
    mem_free(b);
    atomic_flag_clear(&one_runs);
}

static int fail(struct sluice_error *err, int code, const char *text)
{
    if (err != NULL) {
        *err = (struct sluice_error){.code = code};
        snprintf(err->text, sizeof err->text, "embedded broker: %.230s", text);
    }
    return code;
}

int sluice_broker_start(struct sluice_broker **out, const struct sluice_broker_options *options, struct sluice_error *err)
{
    const size_t least = offsetof(struct sluice_broker_options, set) + sizeof options->set;
    struct sluice_broker_options o = {.size = sizeof o};
    struct err e = {0};
    int code;
    if (out == NULL || (options != NULL && options->size < least))
        return fail(err, E_INVALID_ARGUMENT, out == NULL ? "out is NULL" : "the size of sluice_broker_options is not set");
    if (options != NULL)
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (atomic_flag_test_and_set(&one_runs))
        return fail(err, E_EXISTS, "one runs in this process already");
    struct sluice_broker *b = mem_zalloc(sizeof *b);
    config_init(&b->config);
    code = configure(&b->config, &o, &e);
    if (code == E_OK) {
        struct compose_options c = {.config = &b->config, .store = o.data == NULL ? store_mem_new() : NULL, .fatal = on_fatal, .user = b};
        code = compose_start(&b->compose, &c, &e);
    }
    if (code != E_OK) {
        broker_free(b);
        return fail(err, code, e.text);
    }
    *out = b;
    return E_OK;
}

void sluice_broker_stop(struct sluice_broker *b)
{
    if (b == NULL)
        return;
    compose_stop(b->compose);
    broker_free(b);
}
