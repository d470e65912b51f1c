/* sluice-workerd: arguments, and the parts put together. */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/inbox.h"
#include "base/log.h"
#include "workerd/child.h"
#include "workerd/client.h"
#include "workerd/config.h"
#include "workerd/exec.h"
#include "workerd/load.h"
#include "workerd/pool.h"
#include "workerd/registry.h"
#include "workerd/run.h"
#include "workerd/service.h"
#include "workerd/watch.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

static const char usage[] = "usage: sluice-workerd -c FILE [--check]\n"
                            "\n"
                            "Takes messages from a Sluice broker and has handlers (.so files) work on them "
                            "in processes of their own.\n"
                            "\n"
                            "  -c, --config FILE  the configuration, in YAML\n"
                            "      --check        read the configuration and load every handler, then exit\n"
                            "      --version      print the version\n"
                            "  -h, --help         print this\n"
                            "\n"
                            "See sluice-workerd(1).\n";

static int complain(const struct err *e)
{
    fprintf(stderr, "sluice-workerd: %s\n", e->text);
    return EXIT_ERROR;
}

/* Each line is an error. */
static int complain_all(struct buf *errors)
{
    for (const char *line = buf_str(errors), *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        fprintf(stderr, "sluice-workerd: %.*s\n", (int)(end - line), line);
    return EXIT_ERROR;
}

/* Everything that is wrong, as far as it can be known without the broker. */
static int check(const char *path)
{
    struct config c;
    struct buf errors = {0};
    if (config_load_all(path, &c, &errors, NULL) == 0) {
        for (size_t i = 0; i < c.handlers_n; i++) {
            const struct handler_config *h = &c.handlers[i];
            struct sluice_handler loaded;
            struct err e;
            if ((h->file != NULL ? handler_load(h->file, &loaded, &e)
                                 : exec_check(view_of(h->exec, h->exec_size), h->dir, &e)) != 0)
                buf_putf(&errors, "%s: handler '%s': %s\n", path, h->name, e.text);
        }
        config_free(&c);
    }
    int status = EXIT_OK;
    if (errors.size > 0)
        status = complain_all(&errors);
    else
        printf("%s: ok\n", path);
    buf_free(&errors);
    return status;
}

/* For those who started us: everything is up. */
static void say_ready(struct run *r, const struct config *c, const struct watch *watch)
{
    json_t *handlers = json_array();
    for (size_t i = 0; i < c->handlers_n; i++) {
        struct pool_figures now;
        pool_figures(run_pool(r, i), &now);
        json_array_append_new(handlers,
                              json_pack("{s:s, s:i}", "name", c->handlers[i].name, "processes", (int)now.up));
    }
    json_t *line = json_pack("{s:b, s:o}", "ready", 1, "handlers", handlers);
    if (watch != NULL)
        json_object_set_new(line, "http", json_string(watch_address(watch)));
    json_dumpf(line, stdout, JSON_COMPACT);
    json_decref(line);
    putchar('\n');
    fflush(stdout);
}

/* Signals come by descriptor, to every thread's peace; threads that are started later inherit it. */
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Handlers that are programs reach the broker by it, with `sluice` for instance. */
static void pass_on_broker(const struct config *c)
{
    setenv("SLUICE_BROKER", c->broker != NULL ? c->broker : "tcp://127.0.0.1:7400", c->broker != NULL);
}

static enum run_state run_until_over(struct run *r, const struct config *c, struct service *service,
                                     struct watch *watch, struct registry *registry)
{
    bool said = false;
    for (;;) {
        run_turn(r);
        service_beat(service, clock_mono_ms());
        enum run_state state = run_state(r);
        const struct figures *figures = run_figures(r);
        if (figures != NULL) {
            service_tell(service, figures);
            registry_publish(registry, figures);
            if (watch != NULL)
                watch_publish(watch, figures);
        }
        if (state == RUN_READY && !said)
            say_ready(r, c, watch);
        said = said || state == RUN_READY;
        if (state >= RUN_DONE)
            return state;
    }
}

static int serve(const char *path, const struct config *c)
{
    struct inbox inbox;
    struct err e;
    int signals = open_signals();
    pass_on_broker(c);
    log_setup("workerd", c->log_level);
    if (inbox_init(&inbox, 0, &e) != 0)
        return complain(&e);
    struct watch *watch = NULL;
    if (c->http != NULL && watch_start(&watch, c->http, &e) != 0)
        return complain(&e);
    struct client *client = client_new(c, &inbox, &e);
    if (client == NULL)
        return complain(&e);
    struct registry *registry = registry_start(c, client, &inbox, &e);
    if (registry == NULL)
        return complain(&e);
    struct service service;
    service_init(&service);
    struct run *r = run_new(&(struct run_options){.config = c,
                                                  .config_path = path,
                                                  .exe = "/proc/self/exe",
                                                  .source = client_source(client),
                                                  .inbox = &inbox,
                                                  .signals = signals,
                                                  .turn_ms_max = service.every_ms});
    enum run_state state = run_until_over(r, c, &service, watch, registry);
    if (state == RUN_FAILED)
        log_error("%s", run_error(r));
    bool clean = state == RUN_DONE && run_clean(r);
    bool leaves = clean || (state == RUN_FAILED && run_cannot_start(r));
    run_free(r);
    watch_stop(watch);
    if (leaves) {
        client_source(client)->stop(client_source(client));
        registry_stop(registry);
    }
    if (clean) {
        client_free(client);
        inbox_free(&inbox);
    } else {
        _exit(state == RUN_DONE ? EXIT_OK
                                : EXIT_ERROR); /* threads may wait for a broker that does not answer */
    }
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    if (argc == 3 && strcmp(argv[1], "--child") == 0)
        return child_main(argv[2]);

    const char *path = NULL;
    bool check_only = false;
    for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'k':
            check_only = true;
            break;
        case 'v':
            puts("sluice-workerd " SLUICE_VERSION);
            return EXIT_OK;
        case 'h':
            fputs(usage, stdout);
            return EXIT_OK;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    if (path == NULL || optind < argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }

    if (check_only)
        return check(path);
    struct config config;
    struct err e;
    if (config_load(path, &config, &e) != 0)
        return complain(&e);
    int status = serve(path, &config);
    config_free(&config);
    return status;
}
