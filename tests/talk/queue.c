/* What a queue group promises to a user of libsluice, with the broker killed and restarted under him. */
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "schemas/records.h"
#include "talk.h"

static struct broker_proc b;
static struct sluice *client;
static struct sluice_error err;

static struct sluice *open_client(void)
{
    struct sluice *s;
    struct sluice_options o = {
        .size = sizeof o, .broker = b.url, .connect_timeout_ms = 30000, .request_timeout_ms = 60000};
    assert_int_equal(sluice_open(&s, &o, &err), 0);
    return s;
}

static void make_group(const char *name, struct sluice_group_options o)
{
    o.size = sizeof o;
    if (sluice_group_create(client, "work", name, &o, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    client = open_client();
    struct sluice_topic_options o = {.size = sizeof o, .partitions = 2};
    assert_int_equal(sluice_topic_create(client, "work", &o, NULL, &err), 0);
    assert_int_equal(sluice_topic_create(client, "out", &o, NULL, &err), 0);
    make_group("g", (struct sluice_group_options){.backoff_min_ms = 1, .backoff_max_ms = 1});
    return 0;
}

static int end(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&b);
    return 0;
}

static void kill_and_restart(void)
{
    broker_kill(&b);
    broker_restart(&b);
}

static struct sluice_message message(const char *topic, const char *key, const char *value)
{
    return (struct sluice_message){.size = sizeof(struct sluice_message),
                                   .topic = topic,
                                   .key = sluice_str(key),
                                   .value = sluice_str(value)};
}

static struct sluice_receipt publish(const struct sluice_message *m)
{
    struct sluice_receipt receipt;
    if (sluice_publish(client, m, &receipt, &err) != 0)
        fail_msg("%s", err.text);
    return receipt;
}

static void publish_work(const char *key, const char *value)
{
    struct sluice_message m = message("work", key, value);
    publish(&m);
}

/* Up to `most` messages that come within `wait_ms`. */
static struct sluice_batch *receive(struct sluice *s, const char *group, uint32_t most, uint32_t wait_ms)
{
    struct sluice_batch *batch;
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = most, .wait_ms = wait_ms};
    if (sluice_receive(s, "work", group, &o, &batch, &err) != 0)
        fail_msg("%s", err.text);
    return batch;
}

/* One message, which must come. */
static struct sluice_batch *receive_one(struct sluice *s, const char *group)
{
    struct sluice_batch *batch = receive(s, group, 1, 30000);
    assert_int_equal(sluice_batch_count(batch), 1);
    return batch;
}

static const struct sluice_delivery *only(const struct sluice_batch *batch)
{
    return sluice_batch_message(batch, 0);
}

static bool is(struct sluice_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

/* Receives and acknowledges a message, which must have this value and never have failed, or be redriven. */
static void expect(const char *group, const char *value)
{
    struct sluice_batch *batch = receive_one(client, group);
    if (!is(only(batch)->value, value))
        fail_msg("'%.*s' came instead of '%s'", (int)only(batch)->value.size,
                 (const char *)only(batch)->value.data, value);
    assert_int_equal(only(batch)->attempt, 1);
    assert_int_equal(sluice_ack(batch, 0, &err), 0);
    sluice_batch_free(batch);
}

static void expect_nothing(const char *group)
{
    struct sluice_batch *batch = receive(client, group, 1, 0);
    assert_int_equal(sluice_batch_count(batch), 0);
    sluice_batch_free(batch);
}

static struct sluice_unit *begin_unit(struct sluice *s)
{
    struct sluice_unit *u;
    assert_int_equal(sluice_unit_begin(s, &u, &err), 0);
    return u;
}

/* Calls `look` with each message of a topic, as the log has them; returns how many there are. */
static size_t read_all(const char *topic, void (*look)(const struct sluice_delivery *d, void *user),
                       void *user)
{
    struct sluice_topic_list *list;
    size_t n = 0;
    assert_int_equal(sluice_topics(client, topic, &list, &err), 0);
    for (uint32_t p = 0; p < list->topics[0].options.partitions; p++) {
        struct sluice_reader *r;
        struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_START};
        assert_int_equal(sluice_reader_open(client, topic, p, &o, &r, &err), 0);
        while (sluice_reader_offset(r) < list->topics[0].partitions[p].end) {
            struct sluice_batch *batch;
            assert_int_equal(sluice_reader_read(r, 10000, &batch, &err), 0);
            for (size_t i = 0; i < sluice_batch_count(batch); i++) {
                if (look != NULL)
                    look(sluice_batch_message(batch, i), user);
                n++;
            }
            sluice_batch_free(batch);
        }
        sluice_reader_close(r);
    }
    sluice_topics_free(list);
    return n;
}

/* ---- units */

enum { PIECES = 150, KILLS = 6 };

/* Two keys of different partitions of `out`, so that a unit has an output in each. */
static const char first_key[] = "a";
static char second_key[] = "b";

static void choose_keys(void)
{
    uint32_t first = key_partition(key_hash(view_of_str(first_key)), 2);
    while (key_partition(key_hash(view_of_str(second_key)), 2) == first)
        second_key[0]++;
}

/* Does the pieces of work one after another: each settles its message, publishes two and counts in a state, in one unit. */
static void *work(void *arg)
{
    atomic_int *done = arg;
    struct sluice *s = open_client();
    while (atomic_load(done) < PIECES) {
        struct sluice_batch *batch = receive(s, "g", 1, 1000);
        if (sluice_batch_count(batch) == 0) {
            sluice_batch_free(batch);
            continue;
        }
        const struct sluice_delivery *d = only(batch);
        struct sluice_state *sum;
        struct sluice_error e;
        char count[32], value[64];
        assert_int_equal(sluice_state_get(s, "work", "g", SLUICE_STR("sum"), &sum, &e), 0);
        snprintf(count, sizeof count, "%d", sum->version != 0 ? atoi(sum->value.data) + 1 : 1);
        snprintf(value, sizeof value, "%.*s", (int)d->value.size, (const char *)d->value.data);
        struct sluice_unit *u = begin_unit(s);
        struct sluice_message one = message("out", first_key, value), two = message("out", second_key, value);
        assert_int_equal(sluice_unit_ack(u, batch, 0, &e), 0);
        assert_int_equal(sluice_unit_publish(u, &one, &e), 0);
        assert_int_equal(sluice_unit_publish(u, &two, &e), 0);
        assert_int_equal(
            sluice_unit_state_put(u, "work", "g", SLUICE_STR("sum"), sum->version, sluice_str(count), &e), 0);
        int code = sluice_unit_commit(u, NULL, &e);
        if (code == 0)
            atomic_fetch_add(done, 1);
        else if (code != SLUICE_LEASE_LOST && code != SLUICE_CONFLICT)
            fail_msg("%s", e.text);
        sluice_state_free(sum);
        sluice_batch_free(batch);
    }
    sluice_close(s, 1000, NULL, NULL);
    return NULL;
}

struct tally {
    unsigned a[PIECES], b[PIECES];
};

static void count_piece(const struct sluice_delivery *d, void *user)
{
    struct tally *t = user;
    char text[16] = "";
    memcpy(text, d->value.data, d->value.size < sizeof text ? d->value.size : sizeof text - 1);
    int n = atoi(text);
    assert_true(n >= 0 && n < PIECES);
    (is(d->key, first_key) ? t->a : t->b)[n]++;
}

static void a_unit_is_whole_or_absent_when_the_broker_is_killed_in_it(void **state)
{
    (void)state;
    for (int i = 0; i < PIECES; i++) {
        char value[16], key[16];
        snprintf(value, sizeof value, "%d", i);
        snprintf(key, sizeof key, "k%d", i % 10);
        publish_work(key, value);
    }
    atomic_int done = 0;
    pthread_t worker;
    choose_keys();
    assert_int_equal(pthread_create(&worker, NULL, work, &done), 0);
    for (int i = 1; i <= KILLS; i++) {
        EVENTUALLY(60000, atomic_load(&done) >= i * PIECES / (KILLS + 1));
        kill_and_restart();
    }
    pthread_join(worker, NULL);

    struct tally t = {.a = {0}};
    struct sluice_state *sum;
    assert_int_equal(read_all("out", count_piece, &t), 2 * PIECES);
    for (int i = 0; i < PIECES; i++) {
        if (t.a[i] != 1 || t.b[i] != 1)
            fail_msg("piece %d has %u and %u outputs", i, t.a[i], t.b[i]);
    }
    assert_int_equal(sluice_state_get(client, "work", "g", SLUICE_STR("sum"), &sum, &err), 0);
    assert_true(is(sum->value, "150"));
    sluice_state_free(sum);
    expect_nothing("g");
}

struct told {
    atomic_int code; /* -1: not yet */
};

static void tell(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts,
                 size_t count)
{
    (void)receipts;
    (void)count;
    atomic_store(&((struct told *)user)->code, error != NULL ? error->code : 0);
}

static void a_late_unit_is_refused_alone(void **state)
{
    (void)state;
    publish_work("one", "1");
    publish_work("two", "2");
    struct sluice_receive_options o = {
        .size = sizeof o, .max_messages = 2, .wait_ms = 30000, .lease_ms = 1500};
    struct sluice_batch *batch, *late;
    size_t one = 0;
    bool both = false;
    while (!both) { /* a receive may answer before it has seen both */
        assert_int_equal(sluice_receive(client, "work", "g", &o, &batch, &err), 0);
        both = sluice_batch_count(batch) == 2;
        if (!both)
            sluice_batch_free(batch);
    }
    while (!is(sluice_batch_message(batch, one)->value, "1"))
        one++;
    assert_int_equal(sluice_extend(batch, 1 - one, 60000, &err), 0);
    struct sluice *other = open_client();
    late = receive_one(other, "g"); /* the lease ran out, and another has it */
    assert_true(is(only(late)->value, "1"));

    struct told told[2] = {{-1}, {-1}};
    for (size_t i = 0; i < 2; i++) {
        struct sluice_unit *u = begin_unit(client);
        struct sluice_message m = message("out", "k", i == one ? "late" : "good");
        assert_int_equal(sluice_unit_ack(u, batch, i, &err), 0);
        assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
        assert_int_equal(sluice_unit_commit_async(u, tell, &told[i], &err), 0);
    }
    EVENTUALLY(30000, atomic_load(&told[0].code) >= 0 && atomic_load(&told[1].code) >= 0);
    assert_int_equal(atomic_load(&told[one].code), SLUICE_LEASE_LOST);
    assert_int_equal(atomic_load(&told[1 - one].code), 0);
    assert_int_equal(read_all("out", NULL, NULL), 1);
    assert_int_equal(sluice_ack(late, 0, &err), 0); /* who has it now can still settle it */
    sluice_batch_free(late);
    sluice_batch_free(batch);
    sluice_close(other, 1000, NULL, NULL);
    expect_nothing("g");
}

static void two_that_write_the_same_state_at_once_one_gets_conflict(void **state)
{
    (void)state;
    publish_work("one", "1");
    publish_work("two", "2");
    struct sluice *other = open_client();
    struct sluice_batch *mine = receive_one(client, "g"), *theirs = receive_one(other, "g");
    struct sluice_unit *u = begin_unit(client), *v = begin_unit(other);
    assert_int_equal(sluice_unit_ack(u, mine, 0, &err), 0);
    assert_int_equal(sluice_unit_ack(v, theirs, 0, &err), 0);
    assert_int_equal(sluice_unit_state_put(u, "work", "g", SLUICE_STR("s"), 0, SLUICE_STR("mine"), &err), 0);
    assert_int_equal(sluice_unit_state_put(v, "work", "g", SLUICE_STR("s"), 0, SLUICE_STR("theirs"), &err),
                     0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    assert_int_equal(sluice_unit_commit(v, NULL, &err), SLUICE_CONFLICT);
    sluice_batch_free(theirs); /* gives it back */

    theirs = receive_one(other, "g");
    assert_int_equal(only(theirs)->attempt, 1); /* it was no failure */
    struct sluice_state *row;
    assert_int_equal(sluice_state_get(other, "work", "g", SLUICE_STR("s"), &row, &err), 0);
    assert_true(is(row->value, "mine"));
    v = begin_unit(other);
    assert_int_equal(sluice_unit_ack(v, theirs, 0, &err), 0);
    assert_int_equal(
        sluice_unit_state_put(v, "work", "g", SLUICE_STR("s"), row->version, SLUICE_STR("both"), &err), 0);
    assert_int_equal(sluice_unit_commit(v, NULL, &err), 0);
    sluice_state_free(row);
    sluice_batch_free(theirs);
    sluice_batch_free(mine);
    sluice_close(other, 1000, NULL, NULL);
    expect_nothing("g");
}

static void a_message_brings_the_state_of_its_key_over_a_restart(void **state)
{
    (void)state;
    publish_work("k", "1");
    struct sluice_batch *batch = receive_one(client, "g");
    assert_true(only(batch)->state_version == 0);
    struct sluice_unit *u = begin_unit(client);
    assert_int_equal(sluice_unit_ack(u, batch, 0, &err), 0);
    assert_int_equal(sluice_unit_state_put(u, "work", "g", only(batch)->key, 0, SLUICE_STR("seen 1"), &err),
                     0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), 0);
    sluice_batch_free(batch);
    publish_work("other", "2");
    publish_work("k", "3");
    kill_and_restart();
    for (int i = 0; i < 2; i++) {
        batch = receive_one(client, "g");
        bool its = is(only(batch)->key, "k");
        assert_true((only(batch)->state_version != 0) == its);
        assert_true(!its || is(only(batch)->state, "seen 1"));
        assert_int_equal(sluice_ack(batch, 0, &err), 0);
        sluice_batch_free(batch);
    }
}

/* ---- times */

static void a_delayed_message_comes_at_its_time_and_not_before_over_a_restart(void **state)
{
    (void)state;
    enum { DELAY_MS = 1500 };
    uint64_t before_ms = clock_mono_ms();
    struct sluice_message m = message("work", "k", "later");
    m.delay_ms = DELAY_MS;
    struct sluice_receipt receipt = publish(&m);
    assert_true(receipt.schedule[0] != '\0' && receipt.due_ms != 0 && receipt.offset == UINT64_MAX);
    publish_work("k", "now");
    kill_and_restart();
    expect("g", "now"); /* it has no place in its key yet */
    struct sluice_batch *batch = receive_one(client, "g");
    uint64_t came_ms = clock_mono_ms();
    assert_true(is(only(batch)->value, "later"));
    assert_true(came_ms - before_ms >= DELAY_MS);
    assert_true(only(batch)->append_time_ms >= receipt.due_ms);
    assert_true(only(batch)->append_time_ms < receipt.due_ms + 5000);
    assert_int_equal(sluice_ack(batch, 0, &err), 0);
    sluice_batch_free(batch);
    kill_and_restart();
    expect_nothing("g"); /* once */
    assert_int_equal(read_all("work", NULL, NULL), 2);
}

static void what_waits_can_be_moved_and_cancelled_until_it_comes(void **state)
{
    (void)state;
    struct sluice_message m = message("work", "k", "moved");
    m.delay_ms = 3600000;
    m.schedule = "a";
    publish(&m);
    m.value = SLUICE_STR("cancelled");
    m.schedule = "b";
    publish(&m);
    m.value = SLUICE_STR("replaced");
    publish(&m); /* the name waits already */
    struct sluice_schedule_list *list;
    assert_int_equal(sluice_schedules(client, "work", NULL, NULL, &list, &err), 0);
    assert_int_equal(list->count, 2);
    sluice_schedules_free(list);
    assert_int_equal(sluice_schedule_cancel(client, "work", "b", &err), 0);
    assert_int_equal(sluice_schedule_cancel(client, "work", "b", &err), SLUICE_SCHEDULE_NOT_FOUND);
    kill_and_restart();
    assert_int_equal(sluice_schedule_move(client, "work", "a", 0, 1, &err), 0);
    expect("g", "moved");
    assert_int_equal(sluice_schedules(client, NULL, NULL, NULL, &list, &err), 0);
    assert_int_equal(list->count, 0);
    sluice_schedules_free(list);
    expect_nothing("g");
}

static void a_delayed_output_is_there_only_if_its_unit_was_committed(void **state)
{
    (void)state;
    publish_work("k", "1");
    struct sluice_batch *batch = receive_one(client, "g");
    struct sluice_message m = message("work", "reminder", "remind");
    m.delay_ms = 300;
    m.schedule = "remind";
    struct sluice_unit *u = begin_unit(client);
    assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
    assert_int_equal(sluice_unit_state_put(u, "work", "g", SLUICE_STR("k"), 77, SLUICE_STR("x"), &err), 0);
    assert_int_equal(sluice_unit_commit(u, NULL, &err), SLUICE_CONFLICT);
    struct sluice_schedule_list *list;
    assert_int_equal(sluice_schedules(client, "work", NULL, NULL, &list, &err), 0);
    assert_int_equal(list->count, 0);
    sluice_schedules_free(list);
    u = begin_unit(client);
    struct sluice_receipt receipt;
    assert_int_equal(sluice_unit_ack(u, batch, 0, &err), 0);
    assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
    if (sluice_unit_commit(u, &receipt, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(receipt.schedule, "remind");
    sluice_batch_free(batch);
    kill_and_restart();
    expect("g", "remind");
}

/* ---- dead letters */

/* Messages 1 to 5 of one key; 1 is done, 2 is a dead letter. */
static void park_the_second(const char *group)
{
    for (int i = 1; i <= 5; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        publish_work("k", value);
    }
    expect(group, "1");
    struct sluice_batch *batch = receive_one(client, group);
    assert_true(is(only(batch)->value, "2"));
    assert_int_equal(sluice_nack(batch, 0, 0, "broken", &err), 0);
    sluice_batch_free(batch);
}

static int task_state(uint64_t id)
{
    struct sluice_task_list *list;
    assert_int_equal(sluice_tasks(client, id, &list, &err), 0);
    int task = list->tasks[0].state;
    sluice_tasks_free(list);
    return task;
}

static void redrive(const char *group)
{
    uint64_t id;
    if (sluice_dlq_redrive(client, "work", group, NULL, &id, &err) != 0)
        fail_msg("%s", err.text);
    EVENTUALLY(30000, task_state(id) == SLUICE_TASK_DONE);
}

static void a_dead_letter_redriven_after_the_fix_comes_in_order(void **state)
{
    (void)state;
    make_group("lets-go", (struct sluice_group_options){.max_deliveries = 1, .park = SLUICE_PARK_MESSAGE});
    make_group("holds", (struct sluice_group_options){.max_deliveries = 1, .park = SLUICE_PARK_KEY});
    park_the_second("lets-go");
    expect("lets-go", "3"); /* its key goes on */
    expect("holds", "1");
    struct sluice_batch *batch = receive_one(client, "holds");
    assert_int_equal(sluice_nack(batch, 0, 0, "broken", &err), 0);
    sluice_batch_free(batch);
    expect_nothing("holds"); /* its key waits */
    kill_and_restart();

    struct sluice_dlq *letters;
    assert_int_equal(sluice_dlq_list(client, "work", "lets-go", NULL, &letters, &err), 0);
    assert_int_equal(sluice_dlq_count(letters), 1);
    assert_true(is(sluice_dlq_at(letters, 0)->message.value, "2"));
    assert_string_equal(sluice_dlq_at(letters, 0)->last_error, "broken");
    sluice_dlq_free(letters);

    redrive("lets-go");
    batch = receive_one(client, "lets-go");
    assert_true(is(only(batch)->value, "2")); /* before what is younger and was not delivered yet */
    assert_int_equal(only(batch)->attempt, 1);
    assert_int_equal(sluice_ack(batch, 0, &err), 0);
    sluice_batch_free(batch);
    expect("lets-go", "4");
    expect("lets-go", "5");
    redrive("holds");
    for (int i = 2; i <= 5; i++)
        expect("holds", (const char *[]){"2", "3", "4", "5"}[i - 2]);
    expect_nothing("lets-go");
    expect_nothing("holds");
}

/* ---- replay */

static uint64_t replay(const char *group, struct sluice_replay r)
{
    uint64_t id;
    r.size = sizeof r;
    if (sluice_group_replay(client, "work", group, &r, &id, &err) != 0)
        fail_msg("%s", err.text);
    return id;
}

/* How many a replay brought, or would have; it has ended. */
static uint64_t replayed(const char *group, struct sluice_replay r)
{
    uint64_t id = replay(group, r);
    struct sluice_task_list *list;
    EVENTUALLY(30000, task_state(id) == SLUICE_TASK_DONE);
    assert_int_equal(sluice_tasks(client, id, &list, &err), 0);
    assert_int_equal(list->tasks[0].act, SLUICE_TASK_REPLAY);
    uint64_t n = r.dry_run ? list->tasks[0].matched : list->tasks[0].changed;
    sluice_tasks_free(list);
    return n;
}

static void a_group_sees_again_one_key_a_time_or_what_it_parked_and_nothing_else(void **state)
{
    (void)state;
    struct sluice_dlq_filter k = {.size = sizeof k, .key = SLUICE_STR("k")};
    make_group("r", (struct sluice_group_options){.max_deliveries = 1});
    publish_work("k", "1");
    expect("r", "1");
    publish_work("l", "2");
    expect("r", "2");
    publish_work("k", "3");
    struct sluice_batch *batch = receive_one(client, "r");
    uint64_t third_ms = only(batch)->append_time_ms;
    assert_int_equal(sluice_nack(batch, 0, 0, "broken", &err), 0);
    sluice_batch_free(batch);
    publish_work("k", "4");
    expect("r", "4");

    for (int dry = 1; dry >= 0; dry--) /* a dry run says what then comes */
        assert_int_equal(replayed("r", (struct sluice_replay){.filter = &k, .dry_run = dry}), 3);
    expect("r", "1");
    expect("r", "3");
    expect("r", "4");
    expect_nothing("r");
    assert_int_equal(replayed("r", (struct sluice_replay){.from = SLUICE_FROM_TIME, .from_ms = third_ms, .filter = &k}), 2);
    expect("r", "3");
    expect("r", "4");
    expect_nothing("r");
    assert_int_equal(replayed("r", (struct sluice_replay){.to_ms = third_ms, .filter = &k}), 1);
    batch = receive_one(client, "r");
    assert_true(is(only(batch)->value, "1"));
    assert_int_equal(sluice_nack(batch, 0, 0, "broken", &err), 0);
    sluice_batch_free(batch);
    assert_int_equal(replayed("r", (struct sluice_replay){.source = SLUICE_REPLAY_PARKED}), 1);
    expect("r", "1");
    expect_nothing("r");
}

static void a_replay_of_one_key_goes_on_over_a_kill_and_keeps_its_order(void **state)
{
    (void)state;
    enum { N = 30 };
    char value[16];
    struct sluice_dlq_filter k = {.size = sizeof k, .key = SLUICE_STR("k")};
    make_group("r", (struct sluice_group_options){0});
    for (int i = 0; i < N; i++) {
        snprintf(value, sizeof value, "%d", i);
        publish_work(i % 2 == 0 ? "k" : "l", value);
    }
    for (int i = 0; i < N; i++) {
        struct sluice_batch *batch = receive_one(client, "r");
        assert_int_equal(sluice_ack(batch, 0, &err), 0);
        sluice_batch_free(batch);
    }
    uint64_t id = replay("r", (struct sluice_replay){.filter = &k, .rate = 20});
    for (int i = 0; i < N; i += 2) {
        if (i == N / 2 - 1)
            kill_and_restart();
        snprintf(value, sizeof value, "%d", i);
        expect("r", value);
    }
    EVENTUALLY(30000, task_state(id) == SLUICE_TASK_DONE);
    expect_nothing("r");
}

static void a_new_group_gets_what_is_replayed_into_it_and_the_old_one_is_left_alone(void **state)
{
    (void)state;
    make_group("r", (struct sluice_group_options){.max_deliveries = 1});
    publish_work("k", "1");
    publish_work("k", "2");
    struct sluice_batch *batch = receive_one(client, "r");
    assert_int_equal(sluice_nack(batch, 0, 0, "broken", &err), 0);
    sluice_batch_free(batch);
    expect("r", "2");
    replay("r", (struct sluice_replay){.source = SLUICE_REPLAY_PARKED, .into = "failed"});
    replay("r", (struct sluice_replay){.into = "all", .follow = true});
    publish_work("k", "3");
    kill_and_restart();
    expect("failed", "1");
    expect_nothing("failed");
    expect("all", "1");
    expect("all", "2");
    expect("all", "3");
    expect("r", "3");
    expect_nothing("r");
    assert_int_equal(sluice_group_replay(client, "work", "r", &(struct sluice_replay){.size = sizeof(struct sluice_replay), .into = "all"}, NULL,
                                         &err),
                     SLUICE_EXISTS);
    assert_non_null(strstr(err.text, "--of r"));
}

/* ---- what is said twice */

static void a_message_id_produced_twice_is_stored_once_over_a_restart(void **state)
{
    (void)state;
    struct sluice_message m = message("work", "k", "once");
    m.message_id = "order-4711";
    struct sluice_receipt first = publish(&m), second;
    assert_false(first.duplicate);
    kill_and_restart();
    sluice_close(client, 1000, NULL, NULL);
    client = open_client(); /* another session, as after a restart of the producer */
    second = publish(&m);
    assert_true(second.duplicate);
    assert_true(second.partition == first.partition && second.offset == first.offset);
    assert_int_equal(read_all("work", NULL, NULL), 1);
}

enum { TOLD_MAX = 300 };
static struct {
    pthread_mutex_t lock;
    size_t new, duplicates, errors;
} answers = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void count_answer(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)user;
    pthread_mutex_lock(&answers.lock);
    if (error != NULL)
        answers.errors++;
    else if (receipt->duplicate)
        answers.duplicates++;
    else
        answers.new++;
    pthread_mutex_unlock(&answers.lock);
}

/* One run of a program that publishes its file, a line a message with an id of its own; it ends at `last`. */
static void run_program(int last)
{
    struct sluice *s = open_client();
    for (int i = 0; i < last; i++) {
        char id[24], key[16];
        snprintf(id, sizeof id, "line-%d", i);
        snprintf(key, sizeof key, "k%d", i % 7);
        struct sluice_message m = message("work", key, id);
        m.message_id = id;
        assert_int_equal(sluice_publish_async(s, &m, count_answer, NULL, &err), 0);
    }
    assert_int_equal(sluice_flush(s, 30000, &err), 0);
    /* and its outcome, in a unit */
    struct sluice_unit *u = begin_unit(s);
    struct sluice_message m = message("out", "k", "outcome"), later = message("out", "k", "later");
    m.message_id = "outcome";
    later.delay_ms = 3600000;
    later.schedule = "report";
    assert_int_equal(sluice_unit_publish(u, &m, &err), 0);
    assert_int_equal(sluice_unit_publish(u, &later, &err), 0);
    if (sluice_unit_commit(u, NULL, &err) != 0)
        fail_msg("%s", err.text);
    sluice_close(s, 1000, NULL, NULL);
}

static void a_client_that_repeats_everything_has_each_effect_once(void **state)
{
    (void)state;
    answers.new = answers.duplicates = answers.errors = 0;
    run_program(TOLD_MAX / 3); /* fails in the middle of its file, */
    kill_and_restart();
    run_program(TOLD_MAX); /* and is run again from the start, */
    run_program(TOLD_MAX); /* twice */
    assert_int_equal(answers.errors, 0);
    assert_int_equal(answers.new, TOLD_MAX);
    assert_int_equal(answers.duplicates, TOLD_MAX / 3 + TOLD_MAX);
    assert_int_equal(read_all("work", NULL, NULL), TOLD_MAX);
    assert_int_equal(read_all("out", NULL, NULL), 1);
    struct sluice_schedule_list *list;
    assert_int_equal(sluice_schedules(client, NULL, NULL, NULL, &list, &err), 0);
    assert_int_equal(list->count, 1);
    sluice_schedules_free(list);
}

/* ---- several groups */

static void one_receive_takes_from_whichever_group_has_something(void **state)
{
    (void)state;
    make_group("h", (struct sluice_group_options){.from = SLUICE_FROM_END});
    assert_int_equal(sluice_group_create(client, "out", "o", NULL, NULL, &err), 0);
    const struct sluice_source sources[] = {{"work", "g"}, {"work", "h"}, {"out", "o"}};
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = 10, .wait_ms = 30000};
    struct sluice_message m = message("out", "k", "x");
    publish(&m);
    publish_work("k", "y");
    unsigned seen[3] = {0};
    while (seen[0] + seen[1] + seen[2] < 3) {
        struct sluice_batch *batch;
        assert_int_equal(sluice_receive_from(client, sources, 3, &o, &batch, &err), 0);
        for (size_t i = 0; i < sluice_batch_count(batch); i++) {
            const struct sluice_delivery *d = sluice_batch_message(batch, i);
            for (size_t k = 0; k < 3; k++)
                seen[k] += strcmp(d->topic, sources[k].topic) == 0 && strcmp(d->group, sources[k].group) == 0;
            assert_int_equal(sluice_ack(batch, i, &err), 0);
        }
        sluice_batch_free(batch);
    }
    assert_true(seen[0] == 1 && seen[1] == 1 && seen[2] == 1);
}

/* ---- settles that carry a receive */

enum { TAKEN_MAX = 1500 };
static unsigned taken[TAKEN_MAX];
static atomic_uint settled;

static void count_settled(void *user, size_t index, const struct sluice_error *error)
{
    (void)user;
    (void)index;
    atomic_fetch_add(&settled, error == NULL);
}

/* Takes messages one by one and acknowledges each without waiting. Three times on the way it posts. */
static void *take_all(void *on_the_way)
{
    for (int n = 0; n < TAKEN_MAX; n++) {
        struct sluice_batch *batch = receive_one(client, "g");
        struct sluice_settle ack = {.batch = batch, .index = 0, .verb = SLUICE_ACK};
        int i = atoi((const char *)only(batch)->value.data);
        assert_in_range(i, 0, TAKEN_MAX - 1);
        taken[i]++;
        assert_int_equal(sluice_settle_async(client, &ack, 1, false, count_settled, NULL, &err), 0);
        sluice_batch_free(batch);
        if (n % (TAKEN_MAX / 4) == TAKEN_MAX / 4 - 1 && n < TAKEN_MAX - 1)
            sem_post(on_the_way);
    }
    return NULL;
}

static void a_settle_that_takes_the_next_receive_along_has_each_effect_once_over_restarts(void **state)
{
    (void)state;
    sem_t on_the_way;
    pthread_t taker;
    settled = 0;
    memset(taken, 0, sizeof taken);
    assert_int_equal(sem_init(&on_the_way, 0, 0), 0);
    for (int i = 0; i < TAKEN_MAX; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d ", i);
        struct sluice_message m = message("work", NULL, value);
        m.key = (struct sluice_bytes){NULL, 0};
        assert_int_equal(sluice_publish_async(client, &m, NULL, NULL, &err), 0);
    }
    assert_int_equal(sluice_flush(client, 30000, &err), 0);
    assert_int_equal(pthread_create(&taker, NULL, take_all, &on_the_way), 0);
    for (int i = 0; i < 3; i++) {
        sem_wait(&on_the_way);
        kill_and_restart(); /* while it goes on */
    }
    pthread_join(taker, NULL);
    EVENTUALLY(30000, atomic_load(&settled) == TAKEN_MAX);
    for (int i = 0; i < TAKEN_MAX; i++)
        if (taken[i] != 1)
            fail_msg("message %d was delivered %u times", i, taken[i]);
    expect_nothing("g");
    sem_destroy(&on_the_way);
}

/* What is asked for and settled by turns costs one request a message, not two. */
static void whoever_settles_and_asks_for_more_needs_fewer_requests(void **state)
{
    (void)state;
    sem_t unused;
    assert_int_equal(sem_init(&unused, 0, 0), 0);
    for (int i = 0; i < TAKEN_MAX; i++) {
        struct sluice_message m = message("work", "k", "0 ");
        assert_int_equal(sluice_publish_async(client, &m, NULL, NULL, &err), 0);
    }
    assert_int_equal(sluice_flush(client, 30000, &err), 0);
    take_all(&unused);
    double carried = 0;
    EVENTUALLY(60000, (carried = broker_metric(&b, "sluice_receives_carried_total")) +
                              broker_metric(&b, "sluice_receives_total") >=
                          TAKEN_MAX);
    if (carried < TAKEN_MAX / 4)
        fail_msg("%.0f of %d receives came with a settle", carried, TAKEN_MAX);
    sem_destroy(&unused);
}

/* ---- limits by key */

/* Receives, as one of two clients in turn, until `n` messages are held; they stay leased. How many have this key, of all. */
static size_t hold(struct sluice *clients[2], const char *group, const char *key, struct sluice_batch *batches[], size_t n)
{
    size_t held = 0, of_key = 0;
    for (int i = 0; held < n; i++) {
        struct sluice_batch *batch = receive(clients[i % 2], group, 1, 30000);
        assert_int_equal(sluice_batch_count(batch), 1);
        of_key += is(only(batch)->key, key);
        batches[held++] = batch;
    }
    return of_key;
}

static void of_a_key_without_order_no_more_than_its_limit_is_out_over_a_restart(void **state)
{
    (void)state;
    make_group("k", (struct sluice_group_options){.order = SLUICE_ORDER_NONE, .key_in_flight_max = 2, .lease_ms = 600000});
    for (int i = 0; i < 6; i++)
        publish_work("a", "a");
    const char *others[] = {"b", "c", "d"};
    for (int i = 0; i < 3; i++)
        publish_work(others[i], others[i]);
    struct sluice *clients[2] = {client, open_client()};
    struct sluice_batch *batches[5], *none;
    assert_int_equal(hold(clients, "k", "a", batches, 5), 2);
    kill_and_restart();
    for (int i = 0; i < 2; i++) {
        none = receive(clients[i], "k", 10, 200);
        assert_int_equal(sluice_batch_count(none), 0);
        sluice_batch_free(none);
    }
    struct sluice_explain_options of = {.size = sizeof of, .key = sluice_str("a")};
    struct sluice_explanation why = {.size = sizeof why};
    assert_int_equal(sluice_explain(client, "work", "k", &of, &why, &err), 0);
    assert_int_equal(why.fact, SLUICE_FACT_THROTTLED);
    assert_non_null(strstr(why.text, "2 of 2 in flight"));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(sluice_ack(batches[i], 0, &err), 0);
        sluice_batch_free(batches[i]);
    }
    for (int i = 0; i < 4; i++)
        expect("k", "a");
    sluice_close(clients[1], 1000, NULL, NULL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_unit_is_whole_or_absent_when_the_broker_is_killed_in_it),
        TEST(a_late_unit_is_refused_alone),
        TEST(two_that_write_the_same_state_at_once_one_gets_conflict),
        TEST(a_message_brings_the_state_of_its_key_over_a_restart),
        TEST(a_delayed_message_comes_at_its_time_and_not_before_over_a_restart),
        TEST(what_waits_can_be_moved_and_cancelled_until_it_comes),
        TEST(a_delayed_output_is_there_only_if_its_unit_was_committed),
        TEST(a_dead_letter_redriven_after_the_fix_comes_in_order),
        TEST(a_group_sees_again_one_key_a_time_or_what_it_parked_and_nothing_else),
        TEST(a_replay_of_one_key_goes_on_over_a_kill_and_keeps_its_order),
        TEST(a_new_group_gets_what_is_replayed_into_it_and_the_old_one_is_left_alone),
        TEST(a_message_id_produced_twice_is_stored_once_over_a_restart),
        TEST(a_client_that_repeats_everything_has_each_effect_once),
        TEST(one_receive_takes_from_whichever_group_has_something),
        TEST(a_settle_that_takes_the_next_receive_along_has_each_effect_once_over_restarts),
        TEST(whoever_settles_and_asks_for_more_needs_fewer_requests),
        TEST(of_a_key_without_order_no_more_than_its_limit_is_out_over_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
