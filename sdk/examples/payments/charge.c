/*
 * A handler that charges accounts, each charge once: the balance of the account, the line in the ledger and
 * the acknowledgement are one commit, and a charge that is asked for twice is known by its id.
 *
 *     message   key ACCOUNT   value "CHARGE AMOUNT", amount in cents: "ch_17 250"
 *     output    the same to the topic `ledger`, with the balance after it: "ch_17 250 4210"
 *     state     of the account: its balance, as text, behind the ids of its last charges (sluice/once.h)
 *
 * Its configuration: `ledger`, the topic of that name by default; `bank_ms`, how long the bank takes,
 * 0 by default.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <sluice/once.h>

enum { ID_SIZE = 64 };

struct charge {
    char id[ID_SIZE];
    long amount;
};

/* Of the process, as it has one handler. */
static char ledger[200] = "ledger";
static unsigned bank_ms;

static int start(const struct sluice_host *host, void **process, char *error, size_t size)
{
    json_error_t why;
    const char *topic = ledger;
    int ms = 0;
    (void)process;
    json_t *config = json_loads(host->config, 0, &why);
    if (config == NULL ||
        json_unpack_ex(config, &why, JSON_STRICT, "{s?s, s?i}", "ledger", &topic, "bank_ms", &ms) != 0 ||
        ms < 0) {
        snprintf(error, size, "config: %s", ms < 0 ? "bank_ms is below 0" : why.text);
        json_decref(config);
        return 1;
    }
    if (topic != ledger)
        snprintf(ledger, sizeof ledger, "%s", topic);
    bank_ms = (unsigned)ms;
    json_decref(config);
    return 0;
}

static struct sluice_slice text(const char *s)
{
    return (struct sluice_slice){s, strlen(s)};
}

static bool charge_read(struct sluice_slice value, struct charge *out)
{
    char line[ID_SIZE + 32];
    int end = 0;
    snprintf(line, sizeof line, "%.*s", value.size < sizeof line ? (int)value.size : (int)sizeof line,
             (const char *)value.data);
    return sscanf(line, "%63s %ld%n", out->id, &out->amount, &end) == 2 && (size_t)end == value.size &&
           out->amount > 0;
}

static long balance_read(struct sluice_slice state)
{
    char line[32];
    snprintf(line, sizeof line, "%.*s", (int)state.size, state.data != NULL ? (const char *)state.data : "");
    return strtol(line, NULL, 10);
}

/* Stands for the bank. It is outside of Sluice, so it may be asked again after a crash: it is told the
   charge's id each time, as any payment service wants it, and moves the money once. */
static void ask_bank(const struct charge *c)
{
    (void)c;
    if (bank_ms > 0)
        usleep(bank_ms * 1000);
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    sluice_publish_output_fn *publish = (sluice_publish_output_fn *)host->function(host, "publish");
    struct sluice_once once;
    struct charge c;
    char balance[32], line[ID_SIZE + 64];
    (void)process, (void)thread;

    if (!charge_read(task->value, &c)) {
        snprintf(verdict->reason, sizeof verdict->reason, "unreadable-charge");
        return SLUICE_VERDICT_PARK;
    }
    int code = sluice_once_look(&once, host, task, text(c.id), task->value);
    if (code == SLUICE_HOST_OK && once.seen == SLUICE_ONCE_SEEN)
        return SLUICE_VERDICT_ACK;
    if (code == SLUICE_HOST_OK && once.seen == SLUICE_ONCE_DIFFERS) {
        snprintf(verdict->reason, sizeof verdict->reason, "reused-id");
        snprintf(verdict->error, sizeof verdict->error, "the account was charged another amount as '%s'",
                 c.id);
        return SLUICE_VERDICT_PARK;
    }
    if (code == SLUICE_HOST_OK) {
        ask_bank(&c);
        snprintf(balance, sizeof balance, "%ld", balance_read(once.state) + c.amount);
        snprintf(line, sizeof line, "%s %ld %s", c.id, c.amount, balance);
        code = publish(host, task, ledger, task->key, text(line), 0);
    }
    if (code == SLUICE_HOST_OK)
        code = sluice_once_keep(&once, text(balance));
    if (code == SLUICE_HOST_OK)
        return SLUICE_VERDICT_ACK;
    snprintf(verdict->error, sizeof verdict->error, "the host answered %d", code);
    return SLUICE_VERDICT_RETRY;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "charge",
    .version = "1.0.0",
    .process_init = start,
    .handle = handle,
};
