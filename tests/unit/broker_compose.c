#include "unit.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>

#include "broker/compose.h"
#include "schemas/errors.h"
#include "store/store_mem.h"

/* ---- a whole broker within this process, on inproc and in RAM, and a client of it */

static void on_fatal(void *user, const struct err *why)
{
    (void)user;
    fail_msg("%s", why->text);
}

struct fixture {
    struct config config;
    struct compose *broker;
};

static void begin(struct fixture *f, const char *listen)
{
    struct err e;
    config_init(&f->config);
    assert_int_equal(config_set(&f->config, listen, &e), E_OK);
    assert_int_equal(config_set(&f->config, "publish=inproc://hints", &e), E_OK);
    assert_int_equal(config_set(&f->config, "http=", &e), E_OK);
    assert_int_equal(config_check(&f->config, false, &e), E_OK);
    const struct compose_options o = {.config = &f->config, .store = store_mem_new(), .fatal = on_fatal};
    if (compose_start(&f->broker, &o, &e) != E_OK)
        fail_msg("%s", e.text);
}

static void end(struct fixture *f)
{
    compose_stop(f->broker);
    config_free(&f->config);
}

static nng_socket dial(const char *url)
{
    nng_socket s;
    assert_int_equal(nng_req0_open(&s), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, 10000), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, 10000), 0);
    assert_int_equal(nng_dial(s, url, NULL, 0), 0);
    return s;
}

/* One request and the code of its reply. */
static int call(nng_socket s, struct wire_request r)
{
    r.session = (struct id128){1, 2};
    size_t cap = codec_request_bound(&r);
    nng_msg *m;
    assert_int_equal(nng_msg_alloc(&m, 4 + FRAME_SIZE + cap), 0);
    struct codec_space space = {.data = (uint8_t *)nng_msg_body(m) + 4 + FRAME_SIZE, .cap = cap};
    assert_int_equal(codec_request_encode(&r, &space), E_OK);
    nng_msg_trim(m, 4 + space.at);
    nng_msg_chop(m, cap - space.at - space.size);
    uint8_t *head = nng_msg_body(m);
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)r.verb}, head + FRAME_SIZE,
              space.size);
    assert_int_equal(nng_sendmsg(s, m, 0), 0);
    assert_int_equal(nng_recvmsg(s, &m, 0), 0);

    struct wire_reply reply;
    struct frame f;
    struct arena arena;
    struct err e;
    struct buf copy = {0};
    arena_init(&arena, 1 << 20);
    const uint8_t *bytes = nng_msg_body(m);
    assert_int_equal(frame_check(bytes, nng_msg_len(m), &f, &e), E_OK);
    struct view body = codec_aligned(view_of(bytes + FRAME_SIZE, nng_msg_len(m) - FRAME_SIZE), &copy);
    assert_int_equal(codec_reply_decode(body, &reply, &arena, &e), E_OK);
    int code = reply.code;
    arena_free(&arena);
    buf_free(&copy);
    nng_msg_free(m);
    return code;
}

static const struct wire_request hello = {.verb = VERB_HELLO, .hello = {.version_min = 1, .version_max = 1}};
static const struct wire_request health = {.verb = VERB_HEALTH};

/* ---- */

static void a_client_in_the_same_process_is_served(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "listen=inproc://broker");
    assert_string_equal(wire_listen_url(compose_wire(f.broker), 0), "inproc://broker");
    nng_socket s = dial("inproc://broker");
    assert_int_equal(call(s, health), E_NO_SESSION);
    assert_int_equal(call(s, hello), E_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(call(s, health), E_OK);
    nng_close(s);
    end(&f);
}

static void it_starts_again_after_it_was_stopped(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct fixture f;
        begin(&f, "listen=inproc://broker,tcp://127.0.0.1:0");
        nng_socket within = dial("inproc://broker"),
                   by_tcp = dial(wire_listen_url(compose_wire(f.broker), 1));
        assert_int_equal(call(within, hello), E_OK);
        assert_int_equal(call(by_tcp, health), E_NO_SESSION);
        nng_close(by_tcp);
        nng_close(within);
        end(&f);
    }
}

static void it_stops_while_clients_are_there(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "listen=inproc://broker,tcp://127.0.0.1:0");
    nng_socket within = dial("inproc://broker"), by_tcp = dial(wire_listen_url(compose_wire(f.broker), 1));
    assert_int_equal(call(within, hello), E_OK);
    assert_int_equal(call(by_tcp, health), E_NO_SESSION);
    end(&f);
    nng_close(by_tcp);
    nng_close(within);
}

static void lag_is_heard_within_the_process(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "listen=inproc://broker");
    nng_socket s = dial("inproc://broker"), ear;
    assert_int_equal(call(s, hello), E_OK);
    struct wire_request topic = {.verb = VERB_TOPIC_CREATE, .seq = 1, .topic = {.name = VIEW_LIT("t")}};
    struct wire_request group = {
        .verb = VERB_GROUP_CREATE, .seq = 2, .group = {.topic = VIEW_LIT("t"), .name = VIEW_LIT("g")}};
    assert_int_equal(call(s, topic), E_OK);
    assert_int_equal(call(s, group), E_OK);
    const uint8_t lag = PUB_LAG;
    nng_msg *m;
    assert_int_equal(nng_sub0_open(&ear), 0);
    assert_int_equal(nng_socket_set(ear, NNG_OPT_SUB_SUBSCRIBE, &lag, 1), 0);
    assert_int_equal(nng_socket_set_ms(ear, NNG_OPT_RECVTIMEO, 10000), 0);
    assert_int_equal(nng_dial(ear, "inproc://hints", NULL, 0), 0);
    assert_int_equal(nng_recvmsg(ear, &m, 0), 0);
    nng_msg_free(m);
    nng_close(ear);
    nng_close(s);
    end(&f);
}

static void an_address_that_cannot_be_had_leaves_nothing_behind(void **state)
{
    (void)state;
    struct fixture f;
    struct err e;
    begin(&f, "listen=tcp://127.0.0.1:0");
    struct config second;
    char listen[256];
    snprintf(listen, sizeof listen, "listen=inproc://other,%s", wire_listen_url(compose_wire(f.broker), 0));
    config_init(&second);
    assert_int_equal(config_set(&second, listen, &e), E_OK);
    assert_int_equal(config_set(&second, "publish=", &e), E_OK);
    assert_int_equal(config_set(&second, "http=", &e), E_OK);
    struct compose *broker;
    for (int i = 0; i < 3; i++) {
        const struct compose_options o = {.config = &second, .store = store_mem_new(), .fatal = on_fatal};
        assert_int_equal(compose_start(&broker, &o, &e), E_UNREACHABLE);
        assert_has(e.text, "tcp://127.0.0.1:");
    }
    config_free(&second);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_in_the_same_process_is_served),
        cmocka_unit_test(it_starts_again_after_it_was_stopped),
        cmocka_unit_test(it_stops_while_clients_are_there),
        cmocka_unit_test(lag_is_heard_within_the_process),
        cmocka_unit_test(an_address_that_cannot_be_had_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
