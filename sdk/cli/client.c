#include "cli/client.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/out.h"

const char *client_broker(const struct args *a)
{
    const char *set = getenv("SLUICE_BROKER");
    const char *otherwise = set != NULL && set[0] != '\0' ? set : "tcp://127.0.0.1:7400";
    return args_text(a, "broker", otherwise);
}

uint32_t client_timeout_ms(const struct args *a)
{
    return (uint32_t)args_number(a, "timeout", TIMEOUT_MS);
}

enum { MEMORY_MAX = 256 << 20 }; /* a few of the largest messages there can be */

static atomic_bool closing; /* what the library says about that is of no interest */

static void pass_on(void *user, int level, const char *text)
{
    (void)user;
    if (level >= SLUICE_WARN && !atomic_load(&closing))
        talk("%s", text);
}

int client_open(const struct args *a, struct sluice **out)
{
    struct sluice_error err = {0};
    const struct sluice_options options = {
        .size = sizeof options,
        .broker = client_broker(a),
        .request_timeout_ms = client_timeout_ms(a),
        .connect_timeout_ms = client_timeout_ms(a),
        .memory_max = MEMORY_MAX,
        .log = pass_on,
        .connect_once = !args_has(a, "timeout"), /* who says how long to wait, waits */
        .tls_ca_file = args_text(a, "tls-ca", NULL),
        .tls_cert_file = args_text(a, "tls-cert", NULL),
    };
    if (sluice_open(out, &options, &err) == 0)
        return 0;
    int status = client_fail(&err, NULL, NULL);
    return err.code == SLUICE_INVALID_ARGUMENT ? STATUS_USAGE : status; /* the address is none */
}

void client_close(const struct args *a, struct sluice *s)
{
    atomic_store(&closing, true);
    if (s != NULL)
        sluice_close(s, client_timeout_ms(a), NULL, NULL);
}

int status_of(int code)
{
    switch (code) {
    case SLUICE_OK:
        return STATUS_OK;
    case SLUICE_TOPIC_NOT_FOUND:
    case SLUICE_GROUP_NOT_FOUND:
    case SLUICE_PARTITION_NOT_FOUND:
    case SLUICE_TOPIC_DELETED:
    case SLUICE_TASK_NOT_FOUND:
    case SLUICE_SCHEDULE_NOT_FOUND:
    case SLUICE_WORKER_NOT_FOUND:
        return STATUS_NOT_FOUND;
    case SLUICE_UNAUTHENTICATED:
    case SLUICE_FORBIDDEN:
        return STATUS_NOT_ALLOWED;
    case SLUICE_TIMEOUT:
    case SLUICE_UNREACHABLE:
        return STATUS_TIMEOUT;
    case SLUICE_EXISTS:
    case SLUICE_CONFLICT:
        return STATUS_CONFLICT;
    default:
        return STATUS_ERROR;
    }
}

int client_fail(const struct sluice_error *err, const char *topic, const char *group)
{
    talk("%s", err->text[0] != '\0' ? err->text : sluice_code_text(err->code));
    bool hinted = strstr(err->text, "sluice ") != NULL; /* the broker said it already */
    if (err->code == SLUICE_TOPIC_NOT_FOUND && topic != NULL && !hinted)
        talk("create it with: sluice topic create %s", topic);
    if (err->code == SLUICE_GROUP_NOT_FOUND && group != NULL && !hinted)
        talk("create it with: sluice group create %s --topic %s --mode queue", group,
             topic != NULL ? topic : "TOPIC");
    client_say_when(err);
    return status_of(err->code);
}

void client_say_when(const struct sluice_error *err)
{
    char text[UNITS_TEXT_MAX];
    if (err->depth != 0 && err->drain_ms != 0)
        talk("%" PRIu64 " message%s wait there; at the present rate that is worked off in %s", err->depth,
             PLURAL(err->depth),
             short_seconds(text, err->drain_ms == UINT64_MAX ? -1 : (double)err->drain_ms / 1000));
    else if (err->depth != 0)
        talk("%" PRIu64 " message%s wait there", err->depth, PLURAL(err->depth));
    if (err->retry_after_ms != 0)
        talk("it may succeed again in %s", short_seconds(text, err->retry_after_ms / 1000.0));
}

bool client_again(const struct sluice_error *err)
{
    enum { PAUSE_MS = 100, PAUSE_MS_MAX = 1000 };
    switch (err->code) {
    case SLUICE_AGAIN:
        return true;
    case SLUICE_OVERLOADED:
    case SLUICE_SHUTTING_DOWN:
    case SLUICE_QUEUE_FULL: /* what we hold is being worked on */
        break;
    default:
        return false;
    }
    long ms = err->retry_after_ms != 0 ? (long)err->retry_after_ms : PAUSE_MS;
    if (ms > PAUSE_MS_MAX)
        ms = PAUSE_MS_MAX;
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    return true;
}

int client_find_group(struct sluice *s, const char *topic, const char *group,
                      struct sluice_group_list **found)
{
    struct sluice_error err = {0};
    *found = NULL;
    if (sluice_groups(s, topic, group, found, &err) != 0)
        return client_fail(&err, topic, group);
    if ((*found)->count == 1)
        return 0;

    int status = (*found)->count == 0 ? STATUS_NOT_FOUND : STATUS_USAGE;
    if ((*found)->count == 0) {
        talk("no such group: '%s'", group);
        talk("create it with: sluice group create %s --topic TOPIC --mode queue", group);
    } else {
        talk("%zu topics have a group '%s', '%s' and '%s' among them: say which one with --topic",
             (*found)->count, group, (*found)->groups[0].topic, (*found)->groups[1].topic);
    }
    sluice_groups_free(*found);
    *found = NULL;
    return status;
}

static bool ask(const char *question)
{
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    char answer[16];
    if (fgets(answer, sizeof answer, stdin) == NULL)
        return false;
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0;
}

bool confirm(const struct args *a, int *status, const char *fmt, ...)
{
    if (args_has(a, "yes"))
        return true;
    if (isatty(STDIN_FILENO) == 0) {
        talk("there is nobody to ask: --yes does it, --dry-run says what it would do");
        *status = STATUS_USAGE;
        return false;
    }
    va_list args;
    va_start(args, fmt);
    char *question = NULL;
    bool yes = vasprintf(&question, fmt, args) >= 0 && ask(question);
    va_end(args);
    mem_free(question);
    if (!yes) {
        talk("nothing was done");
        *status = STATUS_ERROR;
    }
    return yes;
}
