/*
 * What a handler publishes and remembers, with the real broker: in one commit with its acknowledgement, whole
 * or absent, whoever is killed. The handler is the example's, sdk/examples/payments/charge.c, or the obedient
 * one of the unit tests.
 *
 * SLUICE_PAYMENT_CHARGES and SLUICE_PAYMENT_KILLS say how much, SLUICE_PAYMENT_SEED repeats a run.
 */
#include "talk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "workerd_gate.h"
#include "workerd_proc.h"

enum { ACCOUNTS = 20, PROCESSES = 3, CHILDREN_MAX = 16, PAUSE_MS_MAX = 100 };

static struct broker_proc broker;
static struct sluice *client;
static char dir[32], config_path[64], log_path[64];

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void make_topic(const char *name, uint32_t partitions)
{
    struct sluice_error e;
    must(sluice_topic_create(client, name,
                             &(struct sluice_topic_options){.size = sizeof(struct sluice_topic_options),
                                                            .partitions = partitions},
                             NULL, &e),
         &e);
}

static void make_group(const char *topic, const char *group, uint32_t max_deliveries)
{
    struct sluice_error e;
    must(sluice_group_create(client, topic, group,
                             &(struct sluice_group_options){.size = sizeof(struct sluice_group_options),
                                                            .max_deliveries = max_deliveries,
                                                            .backoff_min_ms = 10,
                                                            .backoff_max_ms = 50},
                             NULL, &e),
         &e);
}

static int set_up(void **state)
{
    (void)state;
    static const char *const args[] = {"--set", "limits.session_grace_ms=300ms", NULL};
    struct sluice_error e;
    broker_start(&broker, args);
    must(sluice_open(&client,
                     &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url},
                     &e),
         &e);
    snprintf(dir, sizeof dir, "/tmp/sluice-talk-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(config_path, sizeof config_path, "%s/workerd.yaml", dir);
    snprintf(log_path, sizeof log_path, "%s/log", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    remove_tree(dir);
    return 0;
}

static void publish(const char *topic, const char *key, const char *value)
{
    struct sluice_error e;
    must(sluice_publish(client,
                        &(struct sluice_message){.size = sizeof(struct sluice_message),
                                                 .topic = topic,
                                                 .key = sluice_str(key),
                                                 .value = sluice_str(value)},
                        NULL, &e),
         &e);
}

static struct sluice_lag lag(const char *topic, const char *group)
{
    struct sluice_error e;
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, topic, group, &l, &e), &e);
    struct sluice_lag row = l->rows[0];
    sluice_lag_free(l);
    return row;
}

/* What a handler keeps in a state row, which may stand behind the ids of sluice/once.h. */
static const char *own_part(struct sluice_bytes row, size_t *size)
{
    const uint8_t *at = row.data;
    *size = row.size;
    if (row.size < 13 || memcmp(at, "sluonce1", 8) != 0)
        return row.data;
    size_t begin = 13 + get_u32(at + 8);
    assert_true(begin <= row.size);
    *size = row.size - begin;
    return (const char *)at + begin;
}

/* The value of a state row as text; "" if there is none. */
static uint64_t state_of(const char *topic, const char *group, const char *key, char *text, size_t size)
{
    struct sluice_error e;
    struct sluice_state *s;
    size_t n;
    must(sluice_state_get(client, topic, group, sluice_str(key), &s, &e), &e);
    uint64_t version = s->version;
    const char *own = own_part(s->value, &n);
    snprintf(text, size, "%.*s", (int)n, own != NULL ? own : "");
    sluice_state_free(s);
    return version;
}

/* A message counts as done as soon as that is decided, and what its unit published is seen once it is on the disk: when this is, which came
   later. */
static void see_outputs(void)
{
    static unsigned n;
    char name[16];
    snprintf(name, sizeof name, "seen-%u", n++);
    make_topic(name, 1);
}

/* Every message of a topic of one partition. */
static uint64_t read_log(const char *topic, void (*fn)(const struct sluice_delivery *d))
{
    struct sluice_error e;
    struct sluice_reader *r;
    struct sluice_batch *b;
    struct sluice_topic_list *l;
    uint64_t n = 0;
    see_outputs();
    must(sluice_topics(client, topic, &l, &e), &e);
    uint64_t end = l->topics[0].partitions[0].end;
    sluice_topics_free(l);
    must(sluice_reader_open(client, topic, 0, NULL, &r, &e), &e);
    while (sluice_reader_offset(r) < end) {
        must(sluice_reader_read(r, 60000, &b, &e), &e);
        for (size_t i = 0; i < sluice_batch_count(b); i++, n++)
            fn(sluice_batch_message(b, i));
        sluice_batch_free(b);
    }
    sluice_reader_close(r);
    return n;
}

/* ---- the charges, and what must come of them */

struct charge {
    unsigned account, amount;
    unsigned ledger; /* lines */
};

static struct charge *charges;
static uint64_t charges_n, asked_twice, balances[ACCOUNTS];

static void ask_for(uint64_t i)
{
    char key[24], value[64];
    snprintf(key, sizeof key, "account-%u", charges[i].account);
    snprintf(value, sizeof value, "ch_%" PRIu64 " %u", i, charges[i].amount);
    publish("charges", key, value);
}

/* One in eight is asked for again, at once or after others. */
static void ask_for_charges(uint64_t from, uint64_t to, struct rng *rng)
{
    for (uint64_t i = from; i < to; i++) {
        charges[i] = (struct charge){.account = (unsigned)rng_below(rng, ACCOUNTS),
                                     .amount = 1 + (unsigned)rng_below(rng, 500)};
        balances[charges[i].account] += charges[i].amount;
        ask_for(i);
        if (rng_chance(rng, 1, 8)) {
            ask_for(from + rng_below(rng, i - from + 1));
            asked_twice++;
        }
    }
}

static void see_line(const struct sluice_delivery *d)
{
    char line[80], account[24];
    uint64_t i;
    unsigned amount;
    long balance;
    snprintf(line, sizeof line, "%.*s", (int)d->value.size, (const char *)d->value.data);
    if (sscanf(line, "ch_%" SCNu64 " %u %ld", &i, &amount, &balance) != 3 || i >= charges_n)
        fail_msg("the ledger has '%s'", line);
    snprintf(account, sizeof account, "account-%u", charges[i].account);
    assert_int_equal(d->key.size, strlen(account));
    assert_memory_equal(d->key.data, account, d->key.size);
    assert_int_equal(amount, charges[i].amount);
    charges[i].ledger++;
}

static void expect_books(void)
{
    assert_int_equal(lag("charges", "charge").parked, 0);
    uint64_t lines = read_log("ledger", see_line);
    for (uint64_t i = 0; i < charges_n; i++) {
        if (charges[i].ledger != 1)
            fail_msg("ch_%" PRIu64 " stands %u times in the ledger", i, charges[i].ledger);
    }
    assert_int_equal(lines, charges_n);
    for (unsigned a = 0; a < ACCOUNTS; a++) {
        char key[24], balance[24];
        snprintf(key, sizeof key, "account-%u", a);
        uint64_t version = state_of("charges", "charge", key, balance, sizeof balance);
        assert_true((version != 0) == (balances[a] != 0));
        assert_int_equal(strtoull(balance, NULL, 10), balances[a]);
    }
}

/* ---- the daemon and its children */

static pid_t daemon_pid;

static void write_config(const char *handlers, const char *more)
{
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    fprintf(f, "broker: %s\nhandlers:\n%s%s", broker.url, handlers, more);
    fclose(f);
}

/* Its log is a file: nobody would read it while it is killed. */
static void start_daemon(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(null >= 0 && log >= 0);
    daemon_pid = workerd_proc_spawn((const char *const[]){"-c", config_path, NULL}, null, log);
    assert_true(daemon_pid > 0);
    close(null);
    close(log);
}

static int end_daemon(int how)
{
    int status;
    kill(daemon_pid, how);
    assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
    daemon_pid = 0;
    return status;
}

/* The daemon's children by now. */
static size_t children(pid_t pids[CHILDREN_MAX])
{
    char path[64], text[1024];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)daemon_pid, (int)daemon_pid);
    FILE *f = fopen(path, "r");
    size_t size = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    text[size] = '\0';
    if (f != NULL)
        fclose(f);
    for (char *at = text, *end; n < CHILDREN_MAX; at = end) {
        pids[n] = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        n++;
    }
    return n;
}

static bool kill_child(struct rng *rng)
{
    pid_t pids[CHILDREN_MAX];
    size_t n = children(pids);
    return n > 0 && kill(pids[rng_below(rng, n)], SIGKILL) == 0;
}

static size_t logged(const char *text)
{
    char line[8192];
    size_t n = 0;
    FILE *f = fopen(log_path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

/* ---- */

static void every_charge_is_in_the_ledger_once_and_in_its_balance_whoever_is_killed(void **state)
{
    (void)state;
    uint64_t kills = number("SLUICE_PAYMENT_KILLS", 9), killed[3] = {0};
    uint64_t seed = number("SLUICE_PAYMENT_SEED", clock_wall_ms());
    char handler[1024];
    struct rng rng;
    charges_n = number("SLUICE_PAYMENT_CHARGES", 300);
    charges = mem_array(charges_n, sizeof *charges);
    rng_seed(&rng, seed);
    printf("SLUICE_PAYMENT_SEED=%" PRIu64 "\n", seed);
    make_topic("charges", 4);
    make_topic("ledger", 1);
    make_group("charges", "charge", 1000); /* who kills the handler is to blame, not the charge */
    snprintf(handler, sizeof handler,
             "  - name: charge\n    file: %s/charge.so\n    topic: charges\n    processes: %d\n    lease: "
             "2s\n    config:\n      bank_ms: 10\n",
             getenv("PAYMENT_HANDLERS"), PROCESSES);
    write_config(handler, "");
    start_daemon();
    uint64_t began = clock_mono_ms();
    for (uint64_t i = 0; i < kills; i++) {
        ask_for_charges(charges_n * i / kills, charges_n * (i + 1) / kills, &rng);
        poll(NULL, 0, (int)rng_below(&rng, PAUSE_MS_MAX)); /* anywhere in their work */
        uint64_t victim = rng_below(&rng, 3);
        if (victim == 0) {
            killed[0] += kill_child(&rng);
        } else if (victim == 1) {
            end_daemon(SIGKILL);
            start_daemon();
            killed[1]++;
        } else {
            broker_kill(&broker);
            broker_restart(&broker);
            killed[2]++;
        }
    }
    EVENTUALLY(120000, lag("charges", "charge").lag_messages == 0);
    printf("%" PRIu64 " charges, %" PRIu64 " of them asked for twice; killed: handlers %" PRIu64
           ", daemon %" PRIu64 ", broker %" PRIu64 "; crashed %zu, lost %zu, %" PRIu64 " ms\n",
           charges_n, asked_twice, killed[0], killed[1], killed[2], logged("outcome=crash"),
           logged("outcome not taken"), clock_mono_ms() - began);
    expect_books();
    assert_int_equal(end_daemon(SIGTERM), 0);
    mem_free(charges);
}

/* ---- what can go wrong with one task */

static struct workerd_proc daemon_proc, *w = &daemon_proc;
static struct gate gate;

static void start_obedient(const char *more)
{
    char handler[1024];
    make_topic("t", 1);
    make_group("t", "g", 2);
    snprintf(handler, sizeof handler,
             "  - name: tester\n    file: %s/obedient.so\n    topic: t\n    group: g\n",
             getenv("TEST_HANDLERS"));
    write_config(handler, more);
    workerd_proc_start(w, (const char *const[]){"-c", config_path, NULL});
    workerd_proc_ready(w);
}

static void stop_obedient(void)
{
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
}

static void an_output_to_a_topic_that_is_not_there_is_a_failure_that_names_it(void **state)
{
    (void)state;
    struct sluice_error e;
    struct sluice_dlq *d;
    start_obedient("");
    publish("t", "k", "publish nowhere count");
    EVENTUALLY(60000, lag("t", "g").lag_messages == 0);
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    assert_int_equal(sluice_dlq_count(d), 1);
    assert_has(sluice_dlq_at(d, 0)->last_error, "output to 'nowhere': ");
    assert_has(sluice_dlq_at(d, 0)->last_error, "no such topic");
    sluice_dlq_free(d);
    char text[24];
    assert_int_equal(state_of("t", "g", "k", text, sizeof text), 0); /* nothing of it happened */
    stop_obedient();
    assert_has(w->said, "done=0 retried=2 parked=0 crashed=0");
}

static void count_line(const struct sluice_delivery *d)
{
    assert_int_equal(d->key.size, 1);
}

static void a_state_that_another_changed_meanwhile_has_the_task_run_again_with_it(void **state)
{
    (void)state;
    char value[128], text[24];
    struct sluice_error e;
    struct sluice_unit *u;
    assert_int_equal(gate_make(&gate), 0);
    make_topic("out", 1);
    start_obedient("");
    snprintf(value, sizeof value, "publish out count %s", gate.path);
    publish("t", "k", value);
    EVENTUALLY(60000, gate_reached(&gate)); /* it has read that there is none */
    must(sluice_unit_begin(client, &u, &e), &e);
    must(sluice_unit_state_put(u, "t", "g", SLUICE_STR("k"), 0, SLUICE_STR("10"), &e), &e);
    must(sluice_unit_commit(u, NULL, &e), &e);
    gate_pass(&gate);
    gate_pass(&gate);
    EVENTUALLY(60000, lag("t", "g").lag_messages == 0);
    assert_true(state_of("t", "g", "k", text, sizeof text) != 0);
    assert_string_equal(text, "11");
    assert_int_equal(read_log("out", count_line), 1);
    publish("t", "k", "forget");
    EVENTUALLY(60000, lag("t", "g").lag_messages == 0);
    assert_int_equal(state_of("t", "g", "k", text, sizeof text), 0);
    stop_obedient();
    assert_has(w->said, "done=2 retried=0 parked=0 crashed=0 given_back=0 lost=0 conflicts=1");
    gate_remove(&gate);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(every_charge_is_in_the_ledger_once_and_in_its_balance_whoever_is_killed),
        TALK(an_output_to_a_topic_that_is_not_there_is_a_failure_that_names_it),
        TALK(a_state_that_another_changed_meanwhile_has_the_task_run_again_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
