/* Backups of a broker that serves: what was acknowledged before is in one, what came later is in it whole or not at all, and a broker that begins
 * with it goes on from there. A broker that is killed while it makes one leaves whole ones, and starts. */
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "talk.h"

enum { KILLS = 12, KILLS_MAX = 200 };

static struct broker_proc b;
static char backups[100], setting[200];
static const char *args[] = {"--set", setting, "--set", "limits.backups_max=100", NULL};
static struct sluice_error err;

static struct sluice *client_of(const struct broker_proc *p)
{
    struct sluice *s;
    struct sluice_options o = {.size = sizeof o, .broker = p->url, .connect_timeout_ms = 30000, .request_timeout_ms = 60000};
    if (sluice_open(&s, &o, &err) != 0)
        fail_msg("%s", err.text);
    return s;
}

/* Beside the data, in the directory that goes with the broker. */
static int begin(void **state)
{
    (void)state;
    broker_prepare(&b, args);
    snprintf(backups, sizeof backups, "%s/backups", b.dir);
    snprintf(setting, sizeof setting, "backup_dir=%s", backups);
    broker_spawn(&b);
    broker_ready(&b);
    return 0;
}

static int end(void **state)
{
    (void)state;
    broker_end(&b);
    return 0;
}

/* A broker of its own on a copy. */
static void restore(struct broker_proc *r, const char *path)
{
    char command[800];
    broker_prepare(r, NULL);
    snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", r->data, path, r->data);
    assert_int_equal(system(command), 0);
    broker_spawn(r);
    broker_ready(r);
}

static void back_up(struct sluice *s, const char *name, struct sluice_backup *out)
{
    *out = (struct sluice_backup){.size = sizeof *out};
    if (sluice_backup(s, name, 60000, out, &err) != 0)
        fail_msg("%s", err.text);
}

static void publish(struct sluice *s, const char *topic, uint32_t n)
{
    char value[16];
    snprintf(value, sizeof value, "%u", n);
    const struct sluice_message m = {.size = sizeof m, .topic = topic, .value = sluice_str(value)};
    if (sluice_publish(s, &m, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

static uint32_t number_of(struct sluice_bytes v)
{
    char text[16] = "";
    assert_in_range(v.size, 1, sizeof text - 1);
    memcpy(text, v.data, v.size);
    return (uint32_t)strtoul(text, NULL, 10);
}

/* The next of a queue group; `*n`: its number. The batch is the caller's. */
static struct sluice_batch *next(struct sluice *s, const char *topic, uint32_t *n)
{
    struct sluice_batch *batch;
    const struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 10000};
    if (sluice_receive(s, topic, "g", &o, &batch, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(sluice_batch_count(batch), 1);
    *n = number_of(sluice_batch_message(batch, 0)->value);
    return batch;
}

static void lag_is(struct sluice *s, const char *topic, uint64_t in_flight, uint64_t messages)
{
    struct sluice_lag_list *l;
    assert_int_equal(sluice_group_lag(s, topic, "g", &l, &err), 0);
    assert_int_equal(l->count, 1);
    assert_int_equal(l->rows[0].in_flight, in_flight);
    assert_int_equal(l->rows[0].lag_messages, messages);
    sluice_lag_free(l);
}

/* ---------------------------------------------------------------- what is in one */

static void a_broker_that_begins_with_one_has_what_was_done_leased_and_waiting_then(void **state)
{
    (void)state;
    struct sluice *s = client_of(&b);
    struct sluice_group_options g = {.size = sizeof g, .mode = SLUICE_QUEUE, .order = SLUICE_ORDER_NONE, .lease_ms = 600000};
    assert_int_equal(sluice_topic_create(s, "work", NULL, NULL, &err), 0);
    assert_int_equal(sluice_group_create(s, "work", "g", &g, NULL, &err), 0);
    for (uint32_t i = 0; i < 10; i++)
        publish(s, "work", i);
    uint32_t n;
    struct sluice_batch *done = next(s, "work", &n), *held = next(s, "work", &n);
    assert_int_equal(sluice_ack(done, 0, &err), 0);
    sluice_batch_free(done);
    assert_int_equal(n, 1);

    struct sluice_backup made;
    back_up(s, "then", &made);
    assert_true(made.bytes > 0 && made.files > 0 && made.turn > 0);
    assert_non_null(strstr(made.path, "/backups/then"));
    assert_int_equal(sluice_ack(held, 0, &err), 0); /* and what happened later is not there */
    sluice_batch_free(held);
    publish(s, "work", 10);
    assert_int_equal(broker_metric(&b, "sluice_backups_total"), 1);
    assert_int_equal(broker_metric(&b, "sluice_backups_failed_total"), 0);

    struct broker_proc r;
    restore(&r, made.path);
    struct sluice *c = client_of(&r);
    lag_is(c, "work", 1, 9);
    for (uint32_t i = 2; i < 10; i++) {
        struct sluice_batch *x = next(c, "work", &n);
        assert_int_equal(n, i);
        assert_int_equal(sluice_ack(x, 0, &err), 0);
        sluice_batch_free(x);
    }
    lag_is(c, "work", 1, 1);
    publish(c, "work", 99); /* it goes on its own way */
    sluice_close(c, 1000, NULL, NULL);
    assert_int_equal(broker_stop(&r), 0);
    broker_end(&r);
    lag_is(s, "work", 0, 9);
    sluice_close(s, 1000, NULL, NULL);
}

/* Numbers from 0 on, as fast as they go; how many are confirmed. */
static struct {
    pthread_t thread;
    atomic_bool stopping;
    atomic_uint confirmed;
    char url[BROKER_URL_MAX];
} load;

static void told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)user;
    (void)receipt;
    if (error == NULL)
        atomic_fetch_add(&load.confirmed, 1);
}

static void *publish_all(void *arg)
{
    struct sluice *s = arg;
    for (uint32_t i = 0; !atomic_load(&load.stopping); i++) {
        char value[16];
        struct sluice_error e;
        snprintf(value, sizeof value, "%u", i);
        const struct sluice_message m = {.size = sizeof m, .topic = "load", .value = sluice_str(value)};
        while (sluice_publish_async(s, &m, told, NULL, &e) == SLUICE_QUEUE_FULL)
            sluice_flush(s, 60000, NULL);
        if (i % 200 == 199)
            usleep(1000); /* there is something else on this machine */
    }
    return NULL;
}

static void load_begin(struct sluice *s)
{
    atomic_store(&load.stopping, false);
    atomic_store(&load.confirmed, 0);
    assert_int_equal(sluice_topic_create(s, "load", NULL, NULL, &err), 0);
    assert_int_equal(pthread_create(&load.thread, NULL, publish_all, s), 0);
}

static void load_end(void)
{
    atomic_store(&load.stopping, true);
    pthread_join(load.thread, NULL);
}

/* Each number once, in order. How many. */
static uint32_t in_the_log(struct sluice *s)
{
    struct sluice_reader *reader;
    struct sluice_topic_list *l;
    assert_int_equal(sluice_topics(s, "load", &l, &err), 0);
    uint32_t all = (uint32_t)l->topics[0].partitions[0].end, n = 0;
    sluice_topics_free(l);
    const struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_START};
    assert_int_equal(sluice_reader_open(s, "load", 0, &o, &reader, &err), 0);
    while (n < all) {
        struct sluice_batch *x;
        if (sluice_reader_read(reader, 10000, &x, &err) != 0)
            fail_msg("%s", err.text);
        for (size_t i = 0; i < sluice_batch_count(x); i++, n++)
            assert_int_equal(number_of(sluice_batch_message(x, i)->value), n);
        sluice_batch_free(x);
    }
    sluice_reader_close(reader);
    return all;
}

static void under_load_what_was_confirmed_before_is_in_it_in_order_and_without_a_hole(void **state)
{
    (void)state;
    enum { TIMES = 3 };
    struct sluice *s = client_of(&b);
    struct sluice_backup made[TIMES];
    uint32_t confirmed[TIMES];
    load_begin(s);
    for (int i = 0; i < TIMES; i++) {
        EVENTUALLY (60000, atomic_load(&load.confirmed) >= (unsigned)(i + 1) * 20000)
            ;
        confirmed[i] = atomic_load(&load.confirmed);
        back_up(s, NULL, &made[i]);
    }
    load_end();
    for (int i = 0; i < TIMES; i++) {
        struct broker_proc r;
        restore(&r, made[i].path);
        struct sluice *c = client_of(&r);
        assert_true(in_the_log(c) >= confirmed[i]);
        sluice_close(c, 1000, NULL, NULL);
        broker_end(&r);
    }
    sluice_close(s, 1000, NULL, NULL);
}

/* ---------------------------------------------------------------- killed meanwhile */

static atomic_bool asking;

static void *ask_all(void *arg)
{
    struct sluice *s = arg;
    while (atomic_load(&asking)) {
        struct sluice_error e;
        struct sluice_backup made = {.size = sizeof made};
        sluice_backup(s, NULL, 1000, &made, &e);
    }
    return NULL;
}

/* The newest that has a name: names are times. Of the others nothing more is wanted. False: there is none. */
static bool newest(char out[512])
{
    char best[256] = "";
    DIR *d = opendir(backups);
    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d)) != NULL;)
        if (x->d_name[0] != '.' && strcmp(x->d_name, best) > 0)
            snprintf(best, sizeof best, "%s", x->d_name);
    rewinddir(d);
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        snprintf(out, 512, "%s/%s", backups, x->d_name);
        if (x->d_name[0] != '.' && strcmp(x->d_name, best) != 0)
            remove_tree(out);
    }
    closedir(d);
    snprintf(out, 512, "%s/%s", backups, best);
    return best[0] != '\0';
}

static void a_broker_that_is_killed_while_it_makes_one_starts_and_all_that_have_a_name_are_whole(void **state)
{
    (void)state;
    struct sluice *s = client_of(&b);
    struct rng rng;
    pthread_t asker;
    char partial[200], name[512];
    unsigned kills = 0, left = 0, named = 0;
    snprintf(partial, sizeof partial, "%s/.partial", backups);
    rng_seed(&rng, 1);
    load_begin(s);
    atomic_store(&asking, true);
    assert_int_equal(pthread_create(&asker, NULL, ask_all, s), 0);
    for (; kills < KILLS || (kills < KILLS_MAX && (left == 0 || named == 0)); kills++) { /* until both were met */
        unsigned before = atomic_load(&load.confirmed);
        EVENTUALLY (60000, atomic_load(&load.confirmed) > before)
            ;
        usleep((useconds_t)rng_between(&rng, 1000, kills < KILLS ? 60000 : 600000)); /* anywhere in making one, which may take long */
        broker_kill(&b);
        left += access(partial, F_OK) == 0;
        if (newest(name)) {
            struct broker_proc r;
            restore(&r, name);
            struct sluice *c = client_of(&r);
            in_the_log(c);
            sluice_close(c, 1000, NULL, NULL);
            broker_end(&r);
            named++;
        }
        broker_restart(&b);
    }
    atomic_store(&asking, false);
    pthread_join(asker, NULL);
    load_end();
    assert_int_equal(sluice_flush(s, 60000, &err), 0);
    EVENTUALLY (60000, access(partial, F_OK) != 0)
        ;
    assert_true(in_the_log(s) >= atomic_load(&load.confirmed));
    print_message("%u of %u kills left a part of a backup, at %u a whole one was there\n", left, kills, named);
    assert_true(left > 0 && named > 0);
    sluice_close(s, 1000, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_broker_that_begins_with_one_has_what_was_done_leased_and_waiting_then, begin, end),
        cmocka_unit_test_setup_teardown(under_load_what_was_confirmed_before_is_in_it_in_order_and_without_a_hole, begin, end),
        cmocka_unit_test_setup_teardown(a_broker_that_is_killed_while_it_makes_one_starts_and_all_that_have_a_name_are_whole, begin, end),
    };
    return cmocka_run_group_tests_name("talk-backup", tests, NULL, NULL);
}
