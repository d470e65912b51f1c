/* Connections over sockets, and all that can become of one. */
#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sdk_fake.h"
#include "sdk_relay.h"

enum { LARGE = 1000 * 1000 };

static struct fake *fake;
static struct relay *relay;
static struct sluice *client;
static struct sluice_error err;
static char path[2][100]; /* of ipc: the broker's, the relay's */

static int setup(void **state)
{
    (void)state;
    snprintf(path[0], sizeof path[0], "ipc:///tmp/sluice-unit-%ld.sock", (long)getpid());
    snprintf(path[1], sizeof path[1], "ipc:///tmp/sluice-unit-%ld.relay", (long)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sluice_close(client, 0, NULL, NULL);
    client = NULL;
    relay_close(relay);
    relay = NULL;
    if (fake != NULL)
        fake_close(fake);
    fake = NULL;
    return 0;
}

static void broker_at(const char *url)
{
    fake = fake_open(&(struct fake_options){.url = url});
    fake_topic(fake, "t", 1);
    fake_group(fake, "t", "g");
}

static int open_at(const char *url, uint32_t connect_timeout_ms)
{
    struct sluice_options o = {.size = sizeof o,
                               .broker = url,
                               .connect_timeout_ms = connect_timeout_ms,
                               .request_timeout_ms = 30000,
                               .batch_bytes_max = 2 << 20};
    return sluice_open(&client, &o, &err);
}

static void publish(const void *value, size_t size)
{
    struct sluice_message m = {.size = sizeof m, .topic = "t", .value = {value, size}};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
}

static void publish_number(size_t i)
{
    publish(&i, sizeof i);
}

/* What is stored are the numbers from 0 to n-1, each once. */
static void numbers_are_stored(size_t n)
{
    assert_int_equal(fake_stored(fake, "t", 0), n);
    for (size_t i = 0; i < n; i++) {
        struct record r = fake_record(fake, "t", 0, i);
        assert_true(r.value.size >= sizeof i && memcmp(r.value.data, &i, sizeof i) == 0);
    }
}

/* Bytes that do not compress, and show any that are missing, double or in the wrong place. */
static uint8_t *large_value(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    uint8_t *value = mem_alloc(LARGE);
    rng_fill(&rng, value, LARGE);
    return value;
}

static void read_large(uint64_t seed)
{
    struct sluice_reader *reader;
    struct sluice_batch *b;
    struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_OFFSET, .max_bytes = 2 * LARGE};
    assert_int_equal(sluice_reader_open(client, "t", 0, &o, &reader, &err), 0);
    assert_int_equal(sluice_reader_read(reader, 20000, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 1);
    const struct sluice_delivery *d = sluice_batch_message(b, 0);
    uint8_t *value = large_value(seed);
    assert_int_equal(d->value.size, LARGE);
    assert_memory_equal(d->value.data, value, LARGE);
    mem_free(value);
    sluice_batch_free(b);
    sluice_reader_close(reader);
}

/* Publishes, leases, acknowledges. */
static void converse(void)
{
    for (size_t i = 0; i < 5; i++)
        publish_number(i);
    numbers_are_stored(5);
    fake_give(fake, "g", "hello", false);
    struct sluice_batch *b;
    assert_int_equal(sluice_receive(client, "t", "g", NULL, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 1);
    assert_memory_equal(sluice_batch_message(b, 0)->value.data, "hello", 5);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    sluice_batch_free(b);
}

/* How many entries a directory of this process has: descriptors, threads. */
static size_t entries(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* ---- ways to a broker */

static void both_kinds_of_address_and_names_reach_a_broker(void **state)
{
    (void)state;
    broker_at(NULL);
    const char *port = strrchr(fake_url(fake), ':');
    static const char *const hosts[] = {"tcp://127.0.0.1", "tcp4://127.0.0.1", "TCP://127.0.0.1",
                                        "tcp://localhost", "tcp4://localhost"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        char url[100];
        snprintf(url, sizeof url, "%s%s", hosts[i], port);
        assert_int_equal(open_at(url, 10000), 0);
        publish_number(i);
        sluice_close(client, 1000, NULL, NULL);
        client = NULL;
    }
    numbers_are_stored(ARRAY_LEN(hosts));
    relay = relay_open("tcp://[::1]", fake_url(fake));
    if (relay == NULL)
        return; /* a machine without IPv6 */
    assert_int_equal(open_at(relay_url(relay), 10000), 0);
    publish_number(ARRAY_LEN(hosts));
    numbers_are_stored(ARRAY_LEN(hosts) + 1);
}

static void addresses_that_cannot_be_fail_at_once(void **state)
{
    (void)state;
    char long_path[300];
    snprintf(long_path, sizeof long_path, "ipc:///%0200d", 7);
    const char *urls[] = {
        "tcp://127.0.0.1", "tcp://:7400",         "tcp://127.0.0.1:65536", "ipc://", "tcp:127.0.0.1:7400",
        "127.0.0.1:7400",  "ws://127.0.0.1:7400", "unix:///tmp/x",         long_path};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        assert_int_equal(open_at(urls[i], 60000), SLUICE_INVALID_ARGUMENT);
        assert_has(err.text, urls[i]);
    }
}

static void a_name_that_nobody_has_is_no_reason_to_wait(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) { /* each leaves a question behind that nobody waits for */
        assert_int_equal(open_at("tcp://no-such-host.invalid:7400", 5), SLUICE_UNREACHABLE);
        assert_has(err.text, "no-such-host.invalid");
    }
}

static void a_path_where_nobody_listens_says_so(void **state)
{
    (void)state;
    assert_int_equal(open_at(path[0], 500), SLUICE_UNREACHABLE);
    assert_has(err.text, "nobody listens there");
    broker_at(path[0]);
    fake_deaf(fake); /* the file is still there */
    assert_int_equal(open_at(path[0], 500), SLUICE_UNREACHABLE);
    assert_has(err.text, "nobody listens there");
}

static void a_client_has_one_thread(void **state)
{
    (void)state;
    broker_at(NULL);
    size_t before = entries("/proc/self/task");
    assert_int_equal(open_at(fake_url(fake), 10000), 0);
    converse();
    assert_int_equal(entries("/proc/self/task"), before + 1);
}

/* ---- who listens is no broker */

/* A listener that accepts one connection, writes something, and waits for its end. */
struct stranger {
    int listener;
    char url[64];
    const uint8_t *says;
    size_t size;
    pthread_t thread;
};

static void *stranger_main(void *arg)
{
    struct stranger *s = arg;
    int fd = accept(s->listener, NULL, NULL);
    char bytes[1024];
    close(s->listener);
    if (send(fd, s->says, s->size, MSG_NOSIGNAL) != (ssize_t)s->size)
        fail_msg("send");
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
    return NULL;
}

static void stranger_listens(struct stranger *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &size), 0);
    snprintf(s->url, sizeof s->url, "tcp://127.0.0.1:%d", ntohs(a.sin_port));
}

static void who_accepts_and_says_nothing_is_named(void **state)
{
    (void)state;
    struct stranger s;
    stranger_listens(&s);
    assert_int_equal(open_at(s.url, 500), SLUICE_UNREACHABLE);
    assert_has(err.text, "what listens there does not answer");
    close(s.listener);
}

/* Fails as soon as the stranger, who listens no more, was left: long before it would be for saying nothing. */
static void leaves_at_once(struct stranger *s)
{
    stranger_listens(s);
    assert_int_equal(pthread_create(&s->thread, NULL, stranger_main, s), 0);
    struct sluice_options o = {
        .size = sizeof o, .broker = s->url, .connect_timeout_ms = 60000, .connect_once = true};
    uint64_t begun = clock_mono_ms();
    assert_int_equal(sluice_open(&client, &o, &err), SLUICE_UNREACHABLE);
    assert_true(clock_mono_ms() - begun < 4000);
    pthread_join(s->thread, NULL);
}

static void who_speaks_something_else_is_left_at_once(void **state)
{
    (void)state;
    static const uint8_t http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static const uint8_t nearly[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    const struct view said[] = {view_of(http, sizeof http - 1), view_of(nearly, sizeof nearly),
                                view_of(http, 1)};
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct stranger s = {.says = said[i].data, .size = said[i].size};
        leaves_at_once(&s);
    }
}

static void nobody_gets_memory_for_more_than_a_frame_may_have(void **state)
{
    (void)state;
    uint8_t says[8 + 12] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    for (size_t i = 0; i < 3; i++) {
        static const uint64_t lengths[] = {3, (UINT64_C(66) << 20), UINT64_MAX};
        put_u64be(says + 8, lengths[i]);
        struct stranger s = {.says = says, .size = sizeof says};
        leaves_at_once(&s); /* else it would wait for the rest */
    }
}

/* ---- connections that are slow */

static void bytes_that_come_one_by_one_make_the_same_conversation(void **state)
{
    (void)state;
    for (int ipc = 0; ipc < 2; ipc++) {
        broker_at(ipc ? path[0] : NULL);
        relay = relay_open(ipc ? path[1] : "tcp://127.0.0.1", fake_url(fake));
        relay_set(relay, (struct relay_rules){.piece = {1, 1}});
        assert_int_equal(open_at(relay_url(relay), 20000), 0);
        converse();
        assert_int_equal(relay_connections(relay), 1);
        teardown(NULL);
    }
}

static void large_frames_come_whole_however_they_are_cut(void **state)
{
    (void)state;
    uint8_t *value = large_value(1);
    static const size_t pieces[] = {0, 1, 997};
    for (size_t i = 0; i < 2 * ARRAY_LEN(pieces); i++) {
        bool ipc = i % 2 == 1;
        broker_at(ipc ? path[0] : NULL);
        relay = relay_open(ipc ? path[1] : "tcp://127.0.0.1", fake_url(fake));
        relay_set(relay, (struct relay_rules){.piece = {0, pieces[i / 2] == 1 ? 4001 : pieces[i / 2]}});
        assert_int_equal(open_at(relay_url(relay), 20000), 0);
        publish(value, LARGE);
        read_large(1);
        assert_int_equal(relay_connections(relay), 1);
        teardown(NULL);
    }
    mem_free(value);
}

/* Far more than sockets hold. */
static void publish_much(size_t n)
{
    uint8_t *value = large_value(2);
    for (size_t i = 0; i < n; i++) {
        memcpy(value, &i, sizeof i);
        struct sluice_message m = {.size = sizeof m, .topic = "t", .value = {value, LARGE}};
        assert_int_equal(sluice_publish_async(client, &m, NULL, NULL, &err), 0);
    }
    mem_free(value);
}

static void what_a_broker_does_not_read_waits_and_then_comes_once_and_in_order(void **state)
{
    (void)state;
    enum { MANY = 40 };
    for (int ipc = 0; ipc < 2; ipc++) {
        broker_at(ipc ? path[0] : NULL);
        relay = relay_open(ipc ? path[1] : "tcp://127.0.0.1", fake_url(fake));
        assert_int_equal(open_at(relay_url(relay), 20000), 0);
        size_t first = 0;
        publish_number(first);
        relay_set(relay, (struct relay_rules){.held = {[RELAY_UP] = true}});
        publish_much(MANY);
        assert_int_equal(sluice_flush(client, 200, &err), SLUICE_TIMEOUT);
        relay_set(relay, (struct relay_rules){.piece = {0, 0}});
        assert_int_equal(sluice_flush(client, 30000, &err), 0);
        assert_int_equal(fake_stored(fake, "t", 0), 1 + MANY);
        for (size_t i = 0; i < MANY; i++) {
            struct record r = fake_record(fake, "t", 0, 1 + i);
            assert_int_equal(r.value.size, LARGE);
            assert_memory_equal(r.value.data, &i, sizeof i);
        }
        assert_int_equal(relay_connections(relay), 1);
        teardown(NULL);
    }
}

static void closing_does_not_wait_for_a_broker_that_does_not_read(void **state)
{
    (void)state;
    for (int ipc = 0; ipc < 2; ipc++) {
        broker_at(ipc ? path[0] : NULL);
        relay = relay_open(ipc ? path[1] : "tcp://127.0.0.1", fake_url(fake));
        assert_int_equal(open_at(relay_url(relay), 20000), 0);
        publish_number(0);
        relay_set(relay, (struct relay_rules){.held = {true, true}});
        publish_much(20);
        uint64_t begun = clock_mono_ms(), undelivered;
        assert_int_equal(sluice_close(client, 100, &undelivered, &err), SLUICE_NOT_DELIVERED);
        client = NULL;
        assert_true(clock_mono_ms() - begun < 10000);
        assert_int_equal(undelivered, 20);
        teardown(NULL);
    }
}

/* ---- connections that end */

static void wherever_a_connection_ends_nothing_is_lost_or_doubled(void **state)
{
    (void)state;
    for (int ipc = 0; ipc < 2; ipc++) {
        broker_at(ipc ? path[0] : NULL);
        relay = relay_open(ipc ? path[1] : "tcp://127.0.0.1", fake_url(fake));
        assert_int_equal(open_at(relay_url(relay), 20000), 0);
        size_t n = 0;
        publish_number(n++);
        for (size_t at = 0; at < 400; at += 1 + at / 8) {
            for (int way = 0; way < 2; way++) {
                relay_set(relay, (struct relay_rules){.cuts = 1, .cut_at = at, .cut_way = way});
                fake_cut(fake); /* the next connection is one that ends there */
                for (int i = 0; i < 3; i++)
                    publish_number(n++);
            }
        }
        numbers_are_stored(n);
        teardown(NULL);
    }
}

static void a_large_frame_that_ends_in_the_midst_is_sent_or_asked_for_again(void **state)
{
    (void)state;
    uint8_t *value = large_value(3);
    for (int way = 0; way < 2; way++) {
        for (size_t at = 1000; at < LARGE; at += 160000) {
            broker_at(NULL);
            relay = relay_open("tcp://127.0.0.1", fake_url(fake));
            relay_set(relay, (struct relay_rules){.cuts = 1, .cut_at = at, .cut_way = way});
            assert_int_equal(open_at(relay_url(relay), 20000), 0);
            publish(value, LARGE);
            read_large(3);
            assert_int_equal(fake_stored(fake, "t", 0), 1);
            assert_int_equal(relay_connections(relay), 2);
            teardown(NULL);
        }
    }
    mem_free(value);
}

static void a_thousand_connections_leave_no_descriptor_and_no_thread(void **state)
{
    (void)state;
    enum { CLIENTS = 10, CUTS = 100 };
    broker_at(NULL);
    struct sluice *clients[CLIENTS];
    size_t before[2] = {entries("/proc/self/fd"), entries("/proc/self/task")};
    for (size_t i = 0; i < CLIENTS; i++) {
        char url[64]; /* some by name, which is looked up each time */
        snprintf(url, sizeof url, "tcp://%s%s", i % 2 == 0 ? "localhost" : "127.0.0.1",
                 strrchr(fake_url(fake), ':'));
        assert_int_equal(open_at(url, 10000), 0);
        clients[i] = client;
        client = NULL;
    }
    size_t fds = entries("/proc/self/fd");
    for (size_t i = 1; i <= CUTS; i++) {
        fake_cut(fake);
        fake_await(fake, VERB_HELLO, CLIENTS * (i + 1));
    }
    assert_int_equal(entries("/proc/self/fd"), fds);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(sluice_close(clients[i], 10000, NULL, &err), 0);
    fake_cut(fake); /* its ends */
    assert_int_equal(entries("/proc/self/fd"), before[0]);
    for (int i = 0; i < 1000 && entries("/proc/self/task") > before[1]; i++)
        poll(NULL, 0, 1); /* a thread that was let go ends a moment later */
    assert_int_equal(entries("/proc/self/task"), before[1]);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_client_has_one_thread),
        TEST(both_kinds_of_address_and_names_reach_a_broker),
        TEST(addresses_that_cannot_be_fail_at_once),
        TEST(a_path_where_nobody_listens_says_so),
        TEST(who_accepts_and_says_nothing_is_named),
        TEST(who_speaks_something_else_is_left_at_once),
        TEST(nobody_gets_memory_for_more_than_a_frame_may_have),
        TEST(bytes_that_come_one_by_one_make_the_same_conversation),
        TEST(large_frames_come_whole_however_they_are_cut),
        TEST(what_a_broker_does_not_read_waits_and_then_comes_once_and_in_order),
        TEST(closing_does_not_wait_for_a_broker_that_does_not_read),
        TEST(wherever_a_connection_ends_nothing_is_lost_or_doubled),
        TEST(a_large_frame_that_ends_in_the_midst_is_sent_or_asked_for_again),
        TEST(a_thousand_connections_leave_no_descriptor_and_no_thread),
        TEST(a_name_that_nobody_has_is_no_reason_to_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
