/* nng's own sockets as clients, as any language has them: on TCP, Unix sockets, TLS, and with certificates of their own. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>

#include <sluice/sluice.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "talk.h"

/* An authority, and a certificate for localhost that it signed, with its key: good for nothing but these tests, and for 100 years. */
static const char ca_pem[] = "-----BEGIN CERTIFICATE-----\n"
                             "MIIBlzCCAT2gAwIBAgIULaETA8oWhhZZW8XF/BAfh+flJCMwCgYIKoZIzj0EAwIw\n"
                             "IDEeMBwGA1UEAwwVc2x1aWNlIHRlc3QgYXV0aG9yaXR5MCAXDTI2MTEyMjA2Mzky\n"
                             "M1oYDzIxMjYxMDI5MDYzOTIzWjAgMR4wHAYDVQQDDBVzbHVpY2UgdGVzdCBhdXRo\n"
                             "b3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATQ6YiuE2Ul0FD/V0Z2aIrq\n"
                             "bw7II3sjxraiiL18pzvoQR1Fd2wCv1P7S/jPbW/s9y3++UIEj4Ew4/754M57ybVl\n"
                             "o1MwUTAdBgNVHQ4EFgQU3x/GWbMKkCEdMrJC07QiXKUYxXwwHwYDVR0jBBgwFoAU\n"
                             "3x/GWbMKkCEdMrJC07QiXKUYxXwwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\n"
                             "AgNIADBFAiBwzYKLhhz4mVc5wnVjF9L+fuTjQeB1aE4PEf9FDQEv0AIhAMlTGlJv\n"
                             "Pxw714T151g039tSOAQqjLOwHa5uSklAL7vl\n"
                             "-----END CERTIFICATE-----\n";
static const char cert_pem[] = "-----BEGIN CERTIFICATE-----\n"
                               "MIIBljCCATygAwIBAgIUAJ6UMFqSz9X+8AqiR97u/TWR6lQwCgYIKoZIzj0EAwIw\n"
                               "IDEeMBwGA1UEAwwVc2x1aWNlIHRlc3QgYXV0aG9yaXR5MCAXDTI2MTEyMjA2Mzky\n"
                               "M1oYDzIxMjYxMDI5MDYzOTIzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcq\n"
                               "hkjOPQIBBggqhkjOPQMBBwNCAAQm66QFI4wsXCAafYr/chcCjHzqQK4xQZy7Xwop\n"
                               "pcHEjVpVIZKEhMiZfzpp/ho5dacci6RHXwOHf0qkMfvpOVXWo14wXDAaBgNVHREE\n"
                               "EzARgglsb2NhbGhvc3SHBH8AAAEwHQYDVR0OBBYEFCpvwcmuPalBn1Ah/NjiD0xN\n"
                               "sJsrMB8GA1UdIwQYMBaAFN8fxlmzCpAhHTKyQtO0IlylGMV8MAoGCCqGSM49BAMC\n"
                               "A0gAMEUCIQDdHuiNu7ZMga+f5EzxSWrTGcZgKzM0xrHtJjgyzXg9xgIgLycOC8XA\n"
                               "agUFnLJTRVF9VkfaOVrzw2xYXiGoHbcahNk=\n"
                               "-----END CERTIFICATE-----\n";
static const char key_pem[] = "-----BEGIN EC PRIVATE KEY-----\n"
                              "MHcCAQEEIKS25CmvVkTvYOQ0dS2Oi4erLnqLnj6JJB2KS4feHy/noAoGCCqGSM49\n"
                              "AwEHoUQDQgAEJuukBSOMLFwgGn2K/3IXAox86kCuMUGcu18KKaXBxI1aVSGShITI\n"
                              "mX86af4aOXWnHIukR18Dh39KpDH76TlV1g==\n"
                              "-----END EC PRIVATE KEY-----\n";

/* Of an authority that signed nothing here. */
static const char other_pem[] = "-----BEGIN CERTIFICATE-----\n"
                                "MIIBmTCCAT+gAwIBAgIUeHoaEmfn9b8AAjwJilmp7MSG0DwwCgYIKoZIzj0EAwIw\n"
                                "ITEfMB0GA1UEAwwWYW5vdGhlciB0ZXN0IGF1dGhvcml0eTAgFw0yNjExMjIwOTA1\n"
                                "MDJaGA8yMTI2MTAyOTA5MDUwMlowITEfMB0GA1UEAwwWYW5vdGhlciB0ZXN0IGF1\n"
                                "dGhvcml0eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOCkc4E1jMvomJ6a4Uk9\n"
                                "aYTzWQoN7P7rJpsgd5EUoctYZ9PpKmW/ryv075845SnH/ZRhG+e9vL8QIZtFgirJ\n"
                                "EF+jUzBRMB0GA1UdDgQWBBQirfbyDBaH5txezI68Wa/uBc9jIDAfBgNVHSMEGDAW\n"
                                "gBQirfbyDBaH5txezI68Wa/uBc9jIDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49\n"
                                "BAMCA0gAMEUCIQDj38F35hUJ5tOeP9V2LFFxTzvU8roov2aRrMixb+PCGQIgFQVy\n"
                                "hR9rN7tvOqyap3c8tG6ufwAzoRJ5NWuGmrNATys=\n"
                                "-----END CERTIFICATE-----\n";

static struct broker_proc b;
static char ca[128], cert[128], key[128], dir[] = "/tmp/sluice-tls-XXXXXX";

static void save(char path[128], const char *name, const char *text)
{
    snprintf(path, 128, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

static int begin(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    save(ca, "ca.pem", ca_pem);
    save(cert, "cert.pem", cert_pem);
    save(key, "key.pem", key_pem);
    return 0;
}

static int end(void **state)
{
    (void)state;
    remove(ca);
    remove(cert);
    remove(key);
    remove(dir);
    return 0;
}

/* ---------------------------------------------------------------- a client on nng's REQ */

static nng_tls_config *client_tls(bool with_certificate)
{
    nng_tls_config *tls;
    assert_int_equal(nng_tls_config_alloc(&tls, NNG_TLS_MODE_CLIENT), 0);
    assert_int_equal(nng_tls_config_ca_chain(tls, ca_pem, NULL), 0);
    assert_int_equal(nng_tls_config_server_name(tls, "localhost"), 0);
    if (with_certificate)
        assert_int_equal(nng_tls_config_own_cert(tls, cert_pem, key_pem, NULL), 0);
    return tls;
}

/* Says hello by a REQ socket, waiting up to `ms` for the answer; the code, -1 if none comes. */
static int hello_by_nng(const char *url, nng_tls_config *tls, int ms)
{
    nng_socket s;
    nng_dialer d;
    nng_msg *m = NULL;
    struct talker t = {.session = {1, 2}};
    struct wire_request r = {.verb = VERB_HELLO,
                             .hello = {.version_min = 1, .version_max = 1, .name = VIEW_LIT("nng")}};
    size_t size;
    int code = -1;
    uint8_t *frame = talker_frame(&t, &r, &size);
    assert_int_equal(nng_req0_open(&s), 0);
    assert_int_equal(nng_dialer_create(&d, s, url), 0);
    if (tls != NULL)
        assert_int_equal(nng_dialer_set_ptr(d, NNG_OPT_TLS_CONFIG, tls), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, ms), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, ms), 0);
    nng_dialer_start(d, NNG_FLAG_NONBLOCK);
    if (nng_send(s, frame, size, 0) == 0 && nng_recvmsg(s, &m, 0) == 0) {
        struct arena arena;
        struct wire_reply reply;
        struct frame f;
        struct err e;
        struct buf copy = {0};
        const uint8_t *bytes = nng_msg_body(m);
        arena_init(&arena, 1 << 20);
        assert_int_equal(frame_check(bytes, nng_msg_len(m), &f, &e), E_OK);
        struct view body = codec_aligned(view_of(bytes + FRAME_SIZE, nng_msg_len(m) - FRAME_SIZE), &copy);
        assert_int_equal(codec_reply_decode(body, &reply, &arena, &e), E_OK);
        code = reply.code;
        arena_free(&arena);
        buf_free(&copy);
        nng_msg_free(m);
    }
    free(frame);
    nng_close(s);
    return code;
}

/* ---------------------------------------------------------------- */

static void any_req_socket_is_a_client(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    assert_int_equal(hello_by_nng(b.url, NULL, 10000), E_OK);
    assert_int_equal(hello_by_nng(b.ipc, NULL, 10000), E_OK);
    broker_end(&b);
}

static void start_tls(const char *authority)
{
    static char cert_set[256], key_set[256], ca_set[256];
    static const char *const args[] = {
        "--listen", "tls+tcp://127.0.0.1:0", "--publish", "tls+tcp://127.0.0.1:0", "--set", cert_set, "--set", key_set, "--set", ca_set, NULL};
    snprintf(cert_set, sizeof cert_set, "tls.cert=%s", cert);
    snprintf(key_set, sizeof key_set, "tls.key=%s", key);
    snprintf(ca_set, sizeof ca_set, "tls.ca=%s", authority);
    broker_start(&b, args);
}

static void tls_is_served_beside_the_rest(void **state)
{
    (void)state;
    start_tls("");
    assert_true(strncmp(b.other, "tls+tcp://127.0.0.1:", 20) == 0);
    nng_tls_config *tls = client_tls(false);
    assert_int_equal(hello_by_nng(b.other, tls, 10000), E_OK);
    assert_int_equal(hello_by_nng(b.url, NULL, 10000), E_OK);
    nng_tls_config_free(tls);
    broker_end(&b);
}

static void with_an_authority_only_those_it_signed_come_in(void **state)
{
    (void)state;
    start_tls(ca);
    nng_tls_config *known = client_tls(true), *unknown = client_tls(false);
    assert_int_equal(hello_by_nng(b.other, unknown, 1000), -1);
    assert_int_equal(hello_by_nng(b.other, known, 10000), E_OK);
    nng_tls_config_free(known);
    nng_tls_config_free(unknown);
    broker_end(&b);
}

/* Opens a session by libsluice, within `ms`. */
static int library_client(struct sluice **s, const char *ca_file, const char *cert_file, uint32_t ms, struct sluice_error *err)
{
    char url[BROKER_URL_MAX]; /* certificates are for names, not for addresses */
    snprintf(url, sizeof url, "tls+tcp://localhost:%s", strrchr(b.other, ':') + 1);
    struct sluice_options o = {.size = sizeof o,
                               .broker = url,
                               .connect_timeout_ms = ms,
                               .tls_ca_file = ca_file,
                               .tls_cert_file = cert_file};
    return sluice_open(s, &o, err);
}

static int open_by_library(const char *ca_file, const char *cert_file, uint32_t ms, struct sluice_error *err)
{
    struct sluice *s;
    int code = library_client(&s, ca_file, cert_file, ms, err);
    if (code == 0)
        sluice_close(s, 1000, NULL, NULL);
    return code;
}

static void a_client_of_the_library_believes_only_whom_its_authorities_signed(void **state)
{
    (void)state;
    start_tls("");
    struct sluice_error err;
    char other[128];
    save(other, "other.pem", other_pem);
    if (open_by_library(ca, NULL, 10000, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(open_by_library(NULL, NULL, 500, &err), SLUICE_UNREACHABLE);
    assert_int_equal(open_by_library(other, NULL, 500, &err), SLUICE_UNREACHABLE);
    assert_int_equal(open_by_library("/nowhere/ca.pem", NULL, 10000, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "/nowhere/ca.pem");
    remove(other);
    broker_end(&b);
}

static void a_client_of_the_library_shows_its_certificate_where_one_is_asked_for(void **state)
{
    (void)state;
    start_tls(ca);
    struct sluice_error err;
    char both[128], text[4096];
    snprintf(text, sizeof text, "%s%s", cert_pem, key_pem);
    save(both, "both.pem", text);
    assert_int_equal(open_by_library(ca, NULL, 500, &err), SLUICE_UNREACHABLE);
    if (open_by_library(ca, both, 10000, &err) != 0)
        fail_msg("%s", err.text);
    remove(both);
    broker_end(&b);
}

static void lag_came(void *user, const struct sluice_lag *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atomic_store((atomic_uint *)user, (unsigned)rows[i].lag_messages + 1);
}

static void a_client_by_tls_hears_the_lag_by_tls(void **state)
{
    (void)state;
    start_tls("");
    struct sluice *s;
    struct sluice_error err;
    struct sluice_lag_subscription *sub;
    atomic_uint lag = 0; /* and one */
    const struct sluice_message m = {.size = sizeof m, .topic = "t", .value = SLUICE_STR("x")};
    if (library_client(&s, ca, NULL, 10000, &err) != 0 || sluice_topic_create(s, "t", NULL, NULL, &err) != 0 ||
        sluice_group_create(s, "t", "g", NULL, NULL, &err) != 0 || sluice_lag_subscribe(s, lag_came, &lag, &sub, &err) != 0)
        fail_msg("%s", err.text);
    EVENTUALLY(60000, atomic_load(&lag) == 1);
    assert_int_equal(sluice_publish(s, &m, NULL, &err), 0);
    EVENTUALLY(60000, atomic_load(&lag) == 2);
    sluice_close(s, 1000, NULL, NULL);
    broker_end(&b);
}

static void who_does_not_speak_tls_keeps_nobody_out(void **state)
{
    (void)state;
    start_tls("");
    static const char no_tls[] = "\0SP\0\0\x30\0\0 and more that is no handshake";
    int fds[50];
    for (size_t i = 0; i < 50; i++) {
        fds[i] = tcp_connect(b.other);
        send(fds[i], no_tls, sizeof no_tls, MSG_NOSIGNAL);
        if (i % 2 == 0)
            tcp_reset(fds[i]);
    }
    nng_tls_config *tls = client_tls(false);
    assert_int_equal(hello_by_nng(b.other, tls, 10000), E_OK);
    nng_tls_config_free(tls);
    for (size_t i = 1; i < 50; i += 2)
        close(fds[i]);
    EVENTUALLY(60000, broker_metric(&b, "sluice_pipes") == 0);
    broker_end(&b);
}

static void a_certificate_that_does_not_read_is_named(void **state)
{
    (void)state;
    char said[4096], data[128], set[256];
    snprintf(data, sizeof data, "%s/data", dir);
    snprintf(set, sizeof set, "tls.cert=%s", ca);
    const char *const wrong_key[] = {
        "--data", data, "--listen", "tls+tcp://127.0.0.1:0",    "--no-http", "--no-publish",
        "--set",  set,  "--set",    "tls.key=/nowhere/key.pem", NULL};
    assert_int_equal(broker_run(wrong_key, said, sizeof said), 1);
    assert_has(said, "/nowhere/key.pem");
    remove_tree(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_req_socket_is_a_client),
        cmocka_unit_test(tls_is_served_beside_the_rest),
        cmocka_unit_test(with_an_authority_only_those_it_signed_come_in),
        cmocka_unit_test(a_client_of_the_library_believes_only_whom_its_authorities_signed),
        cmocka_unit_test(a_client_of_the_library_shows_its_certificate_where_one_is_asked_for),
        cmocka_unit_test(a_client_by_tls_hears_the_lag_by_tls),
        cmocka_unit_test(who_does_not_speak_tls_keeps_nobody_out),
        cmocka_unit_test(a_certificate_that_does_not_read_is_named),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
