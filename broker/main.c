/* sluice-broker: command line, configuration, signals. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <nng/nng.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/notify.h"
#include "broker/compose.h"
#include "schemas/errors.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: sluice-broker [-c FILE] --data DIR [--listen URL].. [--publish URL].. [--http HOST:PORT]\n"
    "                     [--set KEY=VALUE]..\n"
    "\n"
    "  -c, --config FILE      YAML configuration; options override it\n"
    "      --data DIR         where the data is; made if missing\n"
    "      --listen URL       address for clients, may be repeated (tcp://127.0.0.1:7400)\n"
    "      --publish URL      address for hints, may be repeated (tcp://127.0.0.1:7401)\n"
    "      --http HOST:PORT   health and metrics (127.0.0.1:7480)\n"
    "      --no-publish       no hints\n"
    "      --no-http          no health and metrics\n"
    "      --set KEY=VALUE    any key of the configuration, as limits.drain_ms=30s\n"
    "      --check            check the configuration and leave\n"
    "      --print-config     print the configuration with everything that was not given, and leave\n"
    "      --version, --help\n"
    "\n"
    "When it is ready it prints one line of JSON:\n"
    "  {\"ready\":true,\"listen\":[..],\"publish\":[..],\"http\":\"..\"}\n";

/* ---------------------------------------------------------------- the command line */

struct command {
    struct config config;
    bool listen_given, publish_given;
    bool check, print;
};

enum option_code {
    OPT_DATA = 256,
    OPT_LISTEN,
    OPT_PUBLISH,
    OPT_HTTP,
    OPT_NO_PUBLISH,
    OPT_NO_HTTP,
    OPT_SET,
    OPT_CHECK,
    OPT_PRINT,
    OPT_VERSION
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"data", required_argument, NULL, OPT_DATA},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"publish", required_argument, NULL, OPT_PUBLISH},
    {"http", required_argument, NULL, OPT_HTTP},
    {"no-publish", no_argument, NULL, OPT_NO_PUBLISH},
    {"no-http", no_argument, NULL, OPT_NO_HTTP},
    {"set", required_argument, NULL, OPT_SET},
    {"check", no_argument, NULL, OPT_CHECK},
    {"print-config", no_argument, NULL, OPT_PRINT},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void set_text(char **field, const char *value)
{
    mem_free(*field);
    *field = mem_strdup(value);
}

static int take_option(struct command *c, int code, const char *value, struct err *e)
{
    switch (code) {
    case OPT_DATA:
        set_text(&c->config.data, value);
        return E_OK;
    case OPT_LISTEN:
        config_add(&c->config.listen, value, &c->listen_given);
        return E_OK;
    case OPT_PUBLISH:
        config_add(&c->config.publish, value, &c->publish_given);
        return E_OK;
    case OPT_HTTP:
        set_text(&c->config.http, value);
        return E_OK;
    case OPT_NO_PUBLISH:
        return config_set(&c->config, "publish=", e);
    case OPT_NO_HTTP:
        return config_set(&c->config, "http=", e);
    case OPT_SET:
        return config_set(&c->config, value, e);
    case OPT_CHECK:
        c->check = true;
        return E_OK;
    case OPT_PRINT:
        c->print = true;
        return E_OK;
    case OPT_VERSION:
        printf("sluice-broker %s (nng %s)\n", SLUICE_VERSION, nng_version());
        exit(EXIT_SUCCESS);
    case 'h':
        fputs(usage, stdout);
        exit(EXIT_SUCCESS);
    default:
        fputs("try: sluice-broker --help\n", stderr);
        exit(EXIT_USAGE);
    }
}

/* Options override the file wherever they stand, so the file is read in a pass of its own. */
static int parse(struct command *c, int argc, char **argv, struct err *e)
{
    int code = E_OK;
    for (int pass = 0; pass < 2 && code == E_OK; pass++) {
        optind = 1;
        opterr = pass == 0;
        for (int option; code == E_OK && (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
            bool is_file = option == 'c';
            if (pass == 0 && is_file)
                code = config_load(&c->config, optarg, e);
            else if (pass == 1 && !is_file)
                code = take_option(c, option, optarg, e);
            else if (option == '?')
                code = take_option(c, option, NULL, e);
        }
    }
    if (code == E_OK && optind < argc)
        code = err_set(e, E_CONFIG, "'%s' is not an option", argv[optind]);
    return code;
}

/* ---------------------------------------------------------------- the process */

/* Read by jemalloc, which the broker is linked with. Threads of the wire, the store and the loop free what others allocated: with a heap
 * for each, freed memory is kept many times over. What is free for a second goes back to the system. */
extern const char *malloc_conf;
__attribute__((visibility("default"))) const char *malloc_conf = "narenas:4,background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0";

/* A connection is a descriptor, and so is a file of the store. */
static void raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        log_warn("cannot raise the number of descriptors error=%s", LOG_STR(strerror(errno)));
}

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

/* Blocked in every thread; taken by sigwait in main. */
static void block_signals(sigset_t *set)
{
    stop_signals(set);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* What was not answered must not be: the client repeats it to the next broker. So nothing is closed or drained. */
static void on_fatal(void *user, const struct err *why)
{
    (void)user;
    log_error("the store failed, stopping at once code=%s error=%s", error_name(why->code),
              LOG_STR(why->text));
    _exit(EXIT_FAILURE);
}

/* It is never joined: main may return while it waits, so the set is its own. */
static void *second_signal(void *arg)
{
    (void)arg;
    static sigset_t set;
    int signal_number;
    stop_signals(&set);
    sigwait(&set, &signal_number);
    log_warn("second signal, stopping at once");
    _exit(EXIT_FAILURE);
}

static void print_ready(const struct compose *c)
{
    const struct wire *w = compose_wire(c);
    json_t *listen = json_array(), *publish = json_array();
    for (size_t i = 0; i < wire_listen_count(w); i++)
        json_array_append_new(listen, json_string(wire_listen_url(w, i)));
    for (size_t i = 0; i < wire_publish_count(w); i++)
        json_array_append_new(publish, json_string(wire_publish_url(w, i)));
    json_t *ready = json_pack("{s:b, s:o, s:o, s:s}", "ready", 1, "listen", listen, "publish", publish,
                              "http", compose_http(c));
    json_dumpf(ready, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(ready);
    notify("READY=1");
}

static int serve(const struct config *config)
{
    sigset_t signals;
    block_signals(&signals);
    raise_descriptors();
    struct compose *broker;
    struct err e;
    const struct compose_options o = {.config = config, .fatal = on_fatal};
    if (compose_start(&broker, &o, &e) != E_OK) {
        log_error("cannot start code=%s error=%s", error_name(e.code), LOG_STR(e.text));
        return EXIT_FAILURE;
    }
    print_ready(broker);
    int signal_number;
    sigwait(&signals, &signal_number);
    notify("STOPPING=1");
    log_info("stopping signal=%s", signal_number == SIGTERM ? "TERM" : "INT");
    pthread_t second;
    if (pthread_create(&second, NULL, second_signal, NULL) == 0)
        pthread_detach(second);
    compose_stop(broker);
    log_info("stopped");
    return EXIT_SUCCESS;
}

static int run(struct command *c, int argc, char **argv)
{
    struct err e;
    if (parse(c, argc, argv, &e) != E_OK || config_check(&c->config, !c->print, &e) != E_OK) {
        fprintf(stderr, "sluice-broker: %s\n", e.text);
        return EXIT_USAGE;
    }
    if (c->print) {
        struct buf out = {0};
        config_print(&c->config, &out);
        fwrite(out.data, 1, out.size, stdout);
        buf_free(&out);
        return EXIT_SUCCESS;
    }
    if (c->check)
        return EXIT_SUCCESS;
    enum log_level level = LOG_INFO;
    log_level_parse(c->config.log_level, &level, NULL);
    log_setup("broker", level);
    return serve(&c->config);
}

int main(int argc, char **argv)
{
    struct command c = {.check = false};
    config_init(&c.config);
    int status = run(&c, argc, argv);
    config_free(&c.config);
    return status;
}
