/* What a stream group promises to a user of libsluice, with the broker killed, stopped and restarted under him. */
#include <inttypes.h>
#include <signal.h>
#include <sluice/sluice.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "talk.h"

extern char **environ;

enum { PARTITIONS = 4, TIMEOUT_MS = 2500, MESSAGES_MAX = 4000, PATIENCE_MS = 30000 };

static struct broker_proc b;
static struct sluice *client;
static struct sluice_error err;

/* What was read, in all: how often, and up to where, by partition. */
static struct { uint32_t times[PARTITIONS][MESSAGES_MAX]; uint64_t next[PARTITIONS]; } seen;

struct member {
    struct sluice *client;
    struct sluice_stream *stream;
    unsigned assigned, revoked, lost;
};

static struct sluice *open_client(void)
{
    struct sluice *s;
    struct sluice_options o = {.size = sizeof o, .broker = b.url, .connect_timeout_ms = 30000, .request_timeout_ms = 60000};
    assert_int_equal(sluice_open(&s, &o, &err), 0);
    return s;
}

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    client = open_client();
    struct sluice_topic_options o = {.size = sizeof o, .partitions = PARTITIONS};
    assert_int_equal(sluice_topic_create(client, "work", &o, NULL, &err), 0);
    struct sluice_group_options g = {.size = sizeof g, .mode = SLUICE_STREAM};
    if (sluice_group_create(client, "work", "s", &g, NULL, &err) != 0)
        fail_msg("%s", err.text);
    memset(&seen, 0, sizeof seen);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&b);
    return 0;
}

/* `n` messages for each partition. */
static void publish(uint32_t n)
{
    for (uint32_t i = 0, left = n * PARTITIONS; left > 0; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i % 64);
        struct sluice_message m = {.size = sizeof m, .topic = "work", .key = sluice_str(key), .value = SLUICE_STR("v")};
        if (sluice_publish_async(client, &m, NULL, NULL, &err) != 0)
            fail_msg("%s", err.text);
        left--;
    }
    assert_int_equal(sluice_flush(client, PATIENCE_MS, &err), 0);
}

static uint64_t ends(uint64_t *of)
{
    struct sluice_topic_list *l;
    uint64_t sum = 0;
    assert_int_equal(sluice_topics(client, "work", &l, &err), 0);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        of[p] = l->topics[0].partitions[p].end;
        sum += of[p];
    }
    sluice_topics_free(l);
    return sum;
}

static void on_assigned(void *user, const uint32_t *partitions, size_t n)
{
    (void)partitions;
    ((struct member *)user)->assigned += (unsigned)n;
}

static void on_revoked(void *user, const uint32_t *partitions, size_t n, bool lost)
{
    (void)partitions;
    struct member *m = user;
    *(lost ? &m->lost : &m->revoked) += (unsigned)n;
}

static void join_named(struct member *m, const char *name)
{
    *m = (struct member){.client = open_client()};
    struct sluice_stream_options o = {.size = sizeof o, .name = name, .session_timeout_ms = TIMEOUT_MS, .auto_commit_ms = 100,
                                      .assigned = on_assigned, .revoked = on_revoked, .user = m};
    if (sluice_stream_open(m->client, "work", "s", &o, &m->stream, &err) != 0)
        fail_msg("%s", err.text);
}

static void join(struct member *m) { join_named(m, NULL); }

static void part(struct member *m)
{
    if (sluice_stream_close(m->stream, &err) != 0)
        fail_msg("%s", err.text);
    sluice_close(m->client, 1000, NULL, NULL);
}

/* A partition's messages come in order: one is behind the one before, or comes again. */
static void note(const struct sluice_delivery *d)
{
    assert_true(d->partition < PARTITIONS && d->offset < MESSAGES_MAX);
    assert_true(d->offset <= seen.next[d->partition]); /* none is left out */
    seen.times[d->partition][d->offset]++;
    if (d->offset == seen.next[d->partition])
        seen.next[d->partition]++;
}

static size_t poll_once(struct member *m, uint32_t wait_ms)
{
    struct sluice_batch *batch;
    if (sluice_stream_poll(m->stream, wait_ms, &batch, &err) != 0)
        fail_msg("%s", err.text);
    size_t n = sluice_batch_count(batch);
    for (size_t i = 0; i < n; i++)
        note(sluice_batch_message(batch, i));
    sluice_batch_free(batch);
    return n;
}

static size_t owned(const struct member *m) { return sluice_stream_partitions(m->stream, NULL, 0); }

static bool all_seen(void)
{
    uint64_t end_of[PARTITIONS];
    ends(end_of);
    return memcmp(end_of, seen.next, sizeof end_of) == 0;
}

/* Polls in turn until it is so. */
#define POLL_UNTIL(condition, ...)                                                     \
    do {                                                                               \
        struct member *all_[] = {__VA_ARGS__};                                         \
        uint64_t until_ = clock_mono_ms() + PATIENCE_MS;                               \
        while (!(condition)) {                                                         \
            if (clock_mono_ms() > until_)                                              \
                fail_msg("it never came to: %s", #condition);                          \
            for (size_t i_ = 0; i_ < sizeof all_ / sizeof all_[0]; i_++)               \
                poll_once(all_[i_], 20);                                               \
        }                                                                              \
    } while (0)

static uint64_t committed(void)
{
    struct sluice_member_list *l;
    uint64_t sum = 0;
    if (sluice_group_members(client, "work", "s", &l, &err) != 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < l->partitions_count; i++)
        sum += l->partitions[i].committed;
    sluice_group_members_free(l);
    return sum;
}

static bool each_came_once(void)
{
    uint64_t end_of[PARTITIONS];
    ends(end_of);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (uint64_t o = 0; o < end_of[p]; o++)
            if (seen.times[p][o] != 1)
                return false;
    return true;
}

/* ---------------------------------------------------------------- */

static void members_share_a_topic_and_each_message_comes_once_and_in_order(void **state)
{
    (void)state;
    struct member a, c;
    uint64_t end_of[PARTITIONS];
    join(&a);
    POLL_UNTIL(owned(&a) == PARTITIONS, &a);
    publish(50);
    POLL_UNTIL(all_seen(), &a);
    join(&c);
    POLL_UNTIL(owned(&a) == PARTITIONS / 2 && owned(&c) == PARTITIONS / 2, &a, &c);
    assert_int_equal(a.revoked, PARTITIONS / 2); /* only what had to move */
    assert_int_equal(c.assigned, PARTITIONS / 2);
    publish(50);
    POLL_UNTIL(all_seen(), &a, &c);
    assert_true(each_came_once());
    part(&a);
    POLL_UNTIL(owned(&c) == PARTITIONS, &c);
    publish(50);
    POLL_UNTIL(all_seen(), &c);
    assert_true(each_came_once());
    part(&c);
    assert_int_equal(committed(), ends(end_of)); /* closing commits */
}

static void a_restart_of_the_broker_moves_nothing_and_loses_nothing(void **state)
{
    (void)state;
    struct member a, c;
    join(&a);
    join(&c);
    POLL_UNTIL(owned(&a) == PARTITIONS / 2 && owned(&c) == PARTITIONS / 2, &a, &c);
    publish(100);
    POLL_UNTIL(all_seen(), &a, &c);
    unsigned assigned = a.assigned + c.assigned;
    broker_kill(&b);
    broker_restart(&b);
    publish(100);
    POLL_UNTIL(all_seen(), &a, &c);
    if (a.lost + c.lost == 0) { /* unless the restart took longer than their terms */
        assert_int_equal(a.assigned + c.assigned, assigned);
        assert_true(each_came_once());
    }
    part(&a);
    part(&c);
}

static void a_member_that_does_not_hear_of_the_broker_stops_and_goes_on_when_it_does(void **state)
{
    (void)state;
    struct member a;
    join(&a);
    POLL_UNTIL(owned(&a) == PARTITIONS, &a);
    broker_signal(&b, SIGSTOP);
    uint64_t until = clock_mono_ms() + 20 * TIMEOUT_MS;
    while (owned(&a) > 0 && clock_mono_ms() < until) {
        struct sluice_batch *batch;
        if (sluice_stream_poll(a.stream, 50, &batch, &err) == 0)
            sluice_batch_free(batch);
    }
    assert_int_equal(owned(&a), 0);
    assert_int_equal(a.lost, PARTITIONS);
    broker_signal(&b, SIGCONT);
    POLL_UNTIL(owned(&a) == PARTITIONS, &a);
    publish(20);
    POLL_UNTIL(all_seen(), &a);
    part(&a);
}

static pid_t spawn_consumer(int *out)
{
    int ends_of[2];
    assert_int_equal(pipe(ends_of), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends_of[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends_of[0]);
    char *argv[] = {(char *)"sluice", (char *)"-b", b.url, (char *)"consume", (char *)"work", (char *)"-g", (char *)"s",
                    (char *)"--format", (char *)"%p %o\n", (char *)"--session-timeout", (char *)"2500ms", NULL};
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, SLUICE, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends_of[1]);
    *out = ends_of[0];
    return pid;
}

/* The command is a member in a process of its own: it prints a while, and is killed in the middle. */
static void one_that_is_killed_is_followed_by_the_other_from_its_commit_and_nothing_is_lost(void **state)
{
    (void)state;
    struct member a;
    int out;
    publish(300);
    pid_t pid = spawn_consumer(&out);
    FILE *printed = fdopen(out, "r");
    unsigned partition;
    unsigned long long offset;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(fscanf(printed, "%u %llu", &partition, &offset), 2);
        note(&(struct sluice_delivery){.partition = partition, .offset = offset});
    }
    kill(pid, SIGKILL);
    while (fscanf(printed, "%u %llu", &partition, &offset) == 2)
        note(&(struct sluice_delivery){.partition = partition, .offset = offset});
    fclose(printed);
    waitpid(pid, NULL, 0);
    join(&a);
    POLL_UNTIL(all_seen() && owned(&a) == PARTITIONS, &a); /* note() says that none is left out */
    uint64_t end_of[PARTITIONS];
    part(&a);
    assert_int_equal(committed(), ends(end_of));
}

static void a_seek_of_the_group_makes_its_members_read_anew_and_refuses_what_they_were_about_to_commit(void **state)
{
    (void)state;
    struct member a;
    struct sluice_seek to = {.size = sizeof to, .to = SLUICE_FROM_START, .dry_run = true};
    struct sluice_seek_list *rows;
    uint64_t end_of[PARTITIONS], sum;
    publish(30);
    join(&a);
    POLL_UNTIL(all_seen(), &a);
    assert_int_equal(sluice_stream_commit(a.stream, NULL, 0, &err), 0);
    sum = ends(end_of);
    assert_int_equal(committed(), sum);
    assert_int_equal(sluice_group_seek(client, "work", "s", &to, &rows, &err), 0);
    assert_int_equal(rows->count, PARTITIONS);
    assert_true(rows->rows[1].partition == 1 && rows->rows[1].from == end_of[1] && rows->rows[1].to == 0);
    sluice_seek_free(rows);
    assert_int_equal(committed(), sum);
    to.dry_run = false;
    assert_int_equal(sluice_group_seek(client, "work", "s", &to, NULL, &err), 0);
    struct sluice_position at = {.partition = 0, .offset = end_of[0]};
    assert_int_equal(sluice_stream_commit(a.stream, &at, 1, &err), SLUICE_STALE_GENERATION);
    assert_int_equal(committed(), 0);
    size_t again = 0;
    uint64_t until = clock_mono_ms() + PATIENCE_MS;
    while (again < sum && clock_mono_ms() < until)
        again += poll_once(&a, 50);
    assert_int_equal(again, sum);
    struct sluice_seek time = {.size = sizeof time, .to = SLUICE_FROM_TIME, .time_ms = UINT64_MAX / 4};
    assert_int_equal(sluice_group_seek(client, "work", "s", &time, NULL, &err), 0);
    assert_int_equal(committed(), sum);
    part(&a);
}

static void a_static_member_that_comes_back_has_what_it_had(void **state)
{
    (void)state;
    struct member a, c;
    join_named(&a, "one");
    join_named(&c, "two");
    POLL_UNTIL(owned(&a) == PARTITIONS / 2 && owned(&c) == PARTITIONS / 2, &a, &c);
    struct sluice_position had[PARTITIONS], has[PARTITIONS];
    sluice_stream_partitions(a.stream, had, PARTITIONS);
    part(&a);
    unsigned assigned = c.assigned;
    join_named(&a, "one");
    POLL_UNTIL(owned(&a) == PARTITIONS / 2, &a, &c);
    sluice_stream_partitions(a.stream, has, PARTITIONS);
    for (int i = 0; i < PARTITIONS / 2; i++) /* in the order in which they were given, which may be another */
        assert_true(has[i].partition == had[0].partition || has[i].partition == had[1].partition);
    assert_int_equal(c.assigned, assigned);
    assert_int_equal(c.revoked + c.lost, 0);
    struct member other; /* a second of the name takes the place of the first */
    join_named(&other, "one");
    struct sluice_batch *batch;
    uint64_t until = clock_mono_ms() + PATIENCE_MS;
    int code = 0;
    while (code == 0 && clock_mono_ms() < until)
        if ((code = sluice_stream_poll(a.stream, 50, &batch, &err)) == 0)
            sluice_batch_free(batch);
    assert_int_equal(code, SLUICE_MEMBER_FENCED);
    assert_int_equal(owned(&a), 0);
    POLL_UNTIL(owned(&other) == PARTITIONS / 2, &other, &c);
    sluice_stream_close(a.stream, NULL);
    sluice_close(a.client, 1000, NULL, NULL);
    part(&other);
    part(&c);
}

static void a_member_that_does_not_poll_leaves_and_joins_again_when_it_does(void **state)
{
    (void)state;
    struct member a = {.client = open_client()}, c;
    struct sluice_stream_options o = {.size = sizeof o, .session_timeout_ms = TIMEOUT_MS, .poll_interval_max_ms = 2000, .assigned = on_assigned,
                                      .revoked = on_revoked, .user = &a};
    assert_int_equal(sluice_stream_open(a.client, "work", "s", &o, &a.stream, &err), 0);
    POLL_UNTIL(owned(&a) == PARTITIONS, &a);
    join(&c);
    POLL_UNTIL(owned(&c) == PARTITIONS, &c); /* nobody polls `a` */
    POLL_UNTIL(owned(&a) == PARTITIONS / 2 && owned(&c) == PARTITIONS / 2, &a, &c);
    assert_int_equal(a.lost, PARTITIONS);
    part(&a);
    part(&c);
}

static void what_is_of_the_other_mode_is_refused_by_name(void **state)
{
    (void)state;
    struct sluice_stream *st;
    struct sluice_batch *batch;
    struct sluice_group_options g = {.size = sizeof g, .mode = SLUICE_QUEUE};
    assert_int_equal(sluice_group_create(client, "work", "q", &g, NULL, &err), 0);
    assert_int_equal(sluice_stream_open(client, "work", "q", NULL, &st, &err), SLUICE_WRONG_MODE);
    assert_non_null(strstr(err.text, "is a queue group"));
    assert_int_equal(sluice_stream_open(client, "work", "none", NULL, &st, &err), SLUICE_GROUP_NOT_FOUND);
    assert_int_equal(sluice_stream_open(client, "none", "s", NULL, &st, &err), SLUICE_TOPIC_NOT_FOUND);
    assert_int_equal(sluice_receive(client, "work", "s", NULL, &batch, &err), SLUICE_WRONG_MODE);
    g = (struct sluice_group_options){.size = sizeof g, .mode = SLUICE_STREAM, .lease_ms = 1000};
    assert_int_equal(sluice_group_create(client, "work", "t", &g, NULL, &err), SLUICE_WRONG_MODE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(members_share_a_topic_and_each_message_comes_once_and_in_order),
        TEST(a_restart_of_the_broker_moves_nothing_and_loses_nothing),
        TEST(a_member_that_does_not_hear_of_the_broker_stops_and_goes_on_when_it_does),
        TEST(one_that_is_killed_is_followed_by_the_other_from_its_commit_and_nothing_is_lost),
        TEST(a_seek_of_the_group_makes_its_members_read_anew_and_refuses_what_they_were_about_to_commit),
        TEST(a_static_member_that_comes_back_has_what_it_had),
        TEST(a_member_that_does_not_poll_leaves_and_joins_again_when_it_does),
        TEST(what_is_of_the_other_mode_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
