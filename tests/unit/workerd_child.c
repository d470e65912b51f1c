/* Conversations with one child process over its pipe, as the supervisor has them. */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "workerd/pipe.h"
#include "workerd/process.h"
#include "workerd_gate.h"

static struct gate gate;
static struct process process;
static struct pipe pipe_to;
static uint32_t threads = 1; /* that START says */

/* ---- the conversation ---- */

static const char *bin(const char *variable, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv(variable), name);
    return path;
}

static int start(void **state)
{
    (void)state;
    struct err e;
    if (process_start(&process, bin("SLUICE_BIN", "sluice-workerd"), "obedient", -1, &e) != 0)
        fail_msg("%s", e.text);
    pipe_init(&pipe_to, process.pipe, true);
    return 0;
}

static int end(void **state)
{
    (void)state;
    threads = 1;
    if (process.pid != 0)
        process_drop(&process);
    pipe_free(&pipe_to);
    close(process.pidfd);
    close(process.output);
    return 0;
}

static void say(const struct plugin_packet *p)
{
    assert_int_equal(pipe_put(&pipe_to, p, NULL), 0);
    assert_int_equal(pipe_flush(&pipe_to, NULL), 0);
}

/* The next packet; good until the next call. */
static struct plugin_packet hear(void)
{
    static struct arena arena;
    struct view packet;
    struct plugin_packet p;
    struct err e;
    for (;;) {
        assert_int_equal(pipe_next(&pipe_to, &packet, NULL), 0);
        if (packet.data != NULL)
            break;
        if (pipe_fill(&pipe_to, &e) != 0)
            fail_msg("the child is gone: %s", e.text);
    }
    arena_free(&arena);
    arena_init(&arena, 65536);
    assert_int_equal(codec_plugin_decode(packet, &p, &arena, NULL), 0);
    return p;
}

static void say_start(const char *handler, const char *config)
{
    say(&(struct plugin_packet){.kind = PLUGIN_START,
                                .start = {.path = view_of_str(bin("TEST_HANDLERS", handler)),
                                          .name = VIEW_LIT("tester"),
                                          .config = view_of_str(config),
                                          .threads = threads,
                                          .timeout_ms = 60000}});
}

static void start_obedient(void)
{
    say_start("obedient.so", "{}");
    struct plugin_packet p = hear();
    assert_int_equal(p.kind, PLUGIN_READY);
    assert_int_equal(p.ready.code, 0);
    assert_true(view_eq(p.ready.name, VIEW_LIT("obedient")));
    assert_true(view_eq(p.ready.version, VIEW_LIT("1.2.3")));
}

static void say_task(uint64_t id, const char *value)
{
    say(&(struct plugin_packet){.kind = PLUGIN_TASK,
                                .task = {.id = id,
                                         .topic = VIEW_LIT("photos"),
                                         .group = VIEW_LIT("small"),
                                         .partition = 3,
                                         .offset = 99,
                                         .attempt = 2,
                                         .timestamp_ms = 1000,
                                         .append_time_ms = 2000,
                                         .key = VIEW_LIT("k1"),
                                         .value = view_of_str(value),
                                         .idempotency_key = VIEW_LIT("photos/3/99/small")}});
}

static struct plugin_packet hear_verdict(uint64_t id, enum plugin_verdict verdict)
{
    struct plugin_packet p = hear();
    assert_int_equal(p.kind, PLUGIN_VERDICT);
    assert_int_equal(p.verdict.id, id);
    assert_int_equal(p.verdict.verdict, verdict);
    return p;
}

static void assert_text(struct view v, const char *expected)
{
    char *text = packet_string(v);
    assert_string_equal(text, expected);
    mem_free(text);
}

/* Waits for the end of the process and tells how it was. */
static const char *how_it_ended(void)
{
    static struct process_end how;
    struct pollfd p = {.fd = process.pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    assert_true(process_reap(&process, &how));
    assert_int_equal(how.clean, strcmp(how.text, "exited with 0") == 0);
    process.pid = 0;
    return how.text;
}

static void wait_at_gate(void)
{
    struct pollfd p = {.fd = gate.in_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    assert_true(gate_reached(&gate));
}

/* ---- what is said ---- */

static void a_task_is_answered_with_the_handlers_verdict(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "ack");
    say_task(2, "retry 1500");
    say_task(3, "retry");
    say_task(4, "park too-blue");
    hear_verdict(1, PLUGIN_ACK);
    struct plugin_packet p = hear_verdict(2, PLUGIN_RETRY);
    assert_true(p.verdict.has_delay);
    assert_int_equal(p.verdict.delay_ms, 1500);
    assert_text(p.verdict.error, "because the message says so");
    p = hear_verdict(3, PLUGIN_RETRY);
    assert_false(p.verdict.has_delay);
    p = hear_verdict(4, PLUGIN_PARK);
    assert_text(p.verdict.reason, "too-blue");
    assert_text(p.verdict.error, "because the message says so");
}

static void a_return_that_is_no_verdict_is_a_retry_that_says_so(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "bad 7");
    say_task(2, "bad -1");
    struct plugin_packet p = hear_verdict(1, PLUGIN_RETRY);
    assert_text(p.verdict.error, "the handler returned 7, which is no verdict");
    p = hear_verdict(2, PLUGIN_RETRY);
    assert_text(p.verdict.error, "the handler returned -1, which is no verdict");
}

static void the_handler_knows_its_task(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "task");
    struct plugin_packet p = hear_verdict(1, PLUGIN_PARK);
    assert_text(p.verdict.error, "photos small 3 99 attempt 2 key k1 times 1000 2000 photos/3/99/small");
}

static void the_handler_reads_headers(void **state)
{
    (void)state;
    struct buf headers = {0};
    assert_int_equal(headers_put(&headers, VIEW_LIT("colour"), VIEW_LIT("blue"), NULL), 0);
    assert_int_equal(headers_put(&headers, VIEW_LIT("size"), VIEW_LIT("42"), NULL), 0);
    start_obedient();
    struct plugin_packet task = {.kind = PLUGIN_TASK, .task = {.headers = buf_view(&headers)}};
    task.task.id = 1;
    task.task.value = VIEW_LIT("header size");
    say(&task);
    task.task.id = 2;
    task.task.value = VIEW_LIT("headers");
    say(&task);
    task.task.id = 3;
    task.task.value = VIEW_LIT("header taste");
    say(&task);
    assert_text(hear_verdict(1, PLUGIN_PARK).verdict.reason, "42");
    assert_text(hear_verdict(2, PLUGIN_PARK).verdict.error, "colour=blue;size=42;");
    assert_text(hear_verdict(3, PLUGIN_PARK).verdict.reason, "");
    buf_free(&headers);
}

static void what_the_host_does_not_have_is_null(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "unknown");
    hear_verdict(1, PLUGIN_ACK);
}

static void outputs_and_state_come_with_an_ack_and_with_nothing_else(void **state)
{
    (void)state;
    start_obedient();
    say(&(struct plugin_packet){.kind = PLUGIN_TASK,
                                .task = {.id = 1,
                                         .key = VIEW_LIT("k1"),
                                         .value = VIEW_LIT("publish audit count"),
                                         .state_version = 77,
                                         .state = VIEW_LIT("41")}});
    say_task(2, "publish audit retry");
    say_task(3, "publish audit park too-blue");
    say_task(4, "publish audit bad 7");
    struct plugin_packet p = hear_verdict(1, PLUGIN_ACK);
    assert_int_equal(p.verdict.outputs_n, 1);
    assert_true(view_eq(p.verdict.outputs[0].topic, VIEW_LIT("audit")));
    assert_true(view_eq(p.verdict.outputs[0].key, VIEW_LIT("k1")));
    assert_true(view_eq(p.verdict.outputs[0].value, VIEW_LIT("count")));
    assert_true(p.verdict.has_state && !p.verdict.state_remove);
    assert_int_equal(p.verdict.state_version, 77);
    assert_true(view_eq(p.verdict.state, VIEW_LIT("42")));
    for (uint64_t id = 2; id <= 4; id++) {
        p = hear_verdict(id, id == 3 ? PLUGIN_PARK : PLUGIN_RETRY);
        assert_int_equal(p.verdict.outputs_n, 0);
        assert_false(p.verdict.has_state);
    }
}

static void logging_and_progress_reach_the_supervisor(void **state)
{
    (void)state;
    char printed[64] = "";
    start_obedient();
    say_task(1, "say hello there");
    struct plugin_packet p = hear();
    assert_int_equal(p.kind, PLUGIN_LOG);
    assert_int_equal(p.log.level, 2);
    assert_text(p.log.text, "hello there");
    p = hear();
    assert_int_equal(p.kind, PLUGIN_PROGRESS);
    assert_int_equal(p.progress.id, 1);
    assert_int_equal(p.progress.percent, 50);
    assert_text(p.progress.note, "hello there");
    hear_verdict(1, PLUGIN_ACK);
    assert_int_equal(read(process.output, printed, sizeof printed - 1), 12);
    assert_string_equal(printed, "hello there\n");
}

static void a_cancelled_task_that_did_not_begin_comes_back(void **state)
{
    (void)state;
    char value[80];
    start_obedient();
    snprintf(value, sizeof value, "hold %s", gate.path);
    say_task(1, value);
    wait_at_gate();
    say_task(2, "ack");
    say_task(3, "ack");
    say(&(struct plugin_packet){.kind = PLUGIN_CANCEL, .cancel = {.id = 2}});
    hear_verdict(2, PLUGIN_BACK);
    gate_pass(&gate);
    hear_verdict(1, PLUGIN_ACK);
    hear_verdict(3, PLUGIN_ACK);
}

static void a_cancelled_task_that_runs_is_told(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "patient");
    assert_int_equal(hear().kind, PLUGIN_LOG); /* it runs */
    say(&(struct plugin_packet){.kind = PLUGIN_CANCEL, .cancel = {.id = 1}});
    hear_verdict(1, PLUGIN_RETRY);
}

static void stop_finishes_what_runs_gives_back_the_rest_and_ends(void **state)
{
    (void)state;
    char value[80];
    start_obedient();
    snprintf(value, sizeof value, "hold %s", gate.path);
    say_task(1, value);
    wait_at_gate();
    say_task(2, "ack");
    say_task(3, "ack");
    say(&(struct plugin_packet){.kind = PLUGIN_STOP});
    say_task(4, "ack");
    hear_verdict(2, PLUGIN_BACK);
    hear_verdict(3, PLUGIN_BACK);
    hear_verdict(4, PLUGIN_BACK);
    gate_pass(&gate);
    hear_verdict(1, PLUGIN_ACK);
    assert_string_equal(how_it_ended(), "exited with 0");
}

static void the_end_of_the_supervisor_is_the_end_of_the_child(void **state)
{
    (void)state;
    start_obedient();
    say_task(1, "hang");
    shutdown(pipe_to.fd, SHUT_RDWR);
    assert_string_equal(how_it_ended(), "exited with 2");
}

static void damaged_bytes_end_the_child(void **state)
{
    (void)state;
    static const uint8_t garbage[] = {16, 0, 0, 0, 0, 0,  0,  0,  1,  2,  3,  4,
                                      5,  6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    start_obedient();
    assert_int_equal(send(pipe_to.fd, garbage, sizeof garbage, 0), sizeof garbage);
    assert_string_equal(how_it_ended(), "exited with 2");
}

static void signals_of_a_shell_or_an_init_do_not_end_a_child(void **state)
{
    (void)state;
    start_obedient();
    kill(process.pid, SIGTERM);
    kill(process.pid, SIGINT);
    kill(process.pid, SIGHUP);
    say_task(1, "ack");
    hear_verdict(1, PLUGIN_ACK);
}

static void a_file_that_cannot_be_loaded_is_told_by_name(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"not-there.so", "not-there.so: cannot open shared object file: No such file or directory"},
        {"no-symbol.so", "no-symbol.so: no symbol 'sluice_handler'"},
        {"other-abi.so", "other-abi.so: made for version 2 of handler.h; this daemon has version 1"},
        {"no-entry.so", "no-entry.so: the handler has neither handle nor handle_batch"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        start(state);
        say_start(files[i][0], "{}");
        struct plugin_packet p = hear();
        assert_int_equal(p.kind, PLUGIN_READY);
        assert_int_equal(p.ready.code, E_CONFIG);
        char *text = packet_string(p.ready.error);
        assert_has(text, files[i][1]);
        mem_free(text);
        assert_string_equal(how_it_ended(), "exited with 1");
        end(state);
    }
}

static void a_handler_that_cannot_start_tells_why(void **state)
{
    (void)state;
    char config[128];
    snprintf(config, sizeof config, "{\"fail_unless\":\"%s/good\"}", gate.dir);
    say_start("obedient.so", config);
    struct plugin_packet p = hear();
    assert_int_equal(p.ready.code, E_INTERNAL);
    char *text = packet_string(p.ready.error);
    assert_has(text, "good was missing");
    mem_free(text);
    assert_string_equal(how_it_ended(), "exited with 1");
}

/* ---- with threads ---- */

static char thread_log[80];

static void start_threaded(uint32_t n, const char *more)
{
    char config[160];
    snprintf(config, sizeof config, "{\"log\":\"%s\"%s}", thread_log, more);
    unlink(thread_log);
    threads = n;
    say_start("threaded.so", config);
}

static void start_threads(uint32_t n)
{
    start_threaded(n, "");
    struct plugin_packet p = hear();
    assert_int_equal(p.kind, PLUGIN_READY);
    assert_int_equal(p.ready.code, 0);
}

static void say_hold(uint64_t id)
{
    char value[80];
    snprintf(value, sizeof value, "hold %s", gate.path);
    say_task(id, value);
}

static void say_cancel(uint64_t id)
{
    say(&(struct plugin_packet){.kind = PLUGIN_CANCEL, .cancel = {.id = id}});
}

static void as_many_tasks_run_at_once_as_there_are_threads_and_no_more(void **state)
{
    (void)state;
    start_threads(4);
    for (uint64_t id = 1; id <= 6; id++)
        say_hold(id);
    for (int i = 0; i < 4; i++)
        wait_at_gate();
    say_cancel(5); /* it did not begin */
    hear_verdict(5, PLUGIN_BACK);
    gate_pass(&gate);
    struct plugin_packet p = hear();
    assert_in_range(p.verdict.id, 1, 4);
    wait_at_gate(); /* the sixth, in its place */
    for (int i = 0; i < 4; i++)
        gate_pass(&gate);
    for (int i = 0; i < 4; i++)
        assert_int_equal(hear().verdict.verdict, PLUGIN_ACK);
}

static void each_thread_has_what_its_init_made_and_ends_before_the_process(void **state)
{
    (void)state;
    char text[256] = "";
    bool seen[4] = {false};
    start_threads(3);
    for (uint64_t id = 1; id <= 3; id++)
        say_hold(id);
    for (int i = 0; i < 3; i++)
        wait_at_gate();
    for (uint64_t id = 4; id <= 6; id++)
        say_task(id, "thread");
    for (int i = 0; i < 3; i++)
        gate_pass(&gate);
    for (int i = 0; i < 6; i++) {
        struct plugin_packet p = hear();
        if (p.verdict.id > 3)
            assert_in_range(p.verdict.reason.size == 1 ? p.verdict.reason.data[0] : 0, '1', '3');
    }
    say(&(struct plugin_packet){.kind = PLUGIN_STOP});
    assert_string_equal(how_it_ended(), "exited with 0");
    FILE *f = fopen(thread_log, "r");
    assert_non_null(f);
    int number = 0;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(fscanf(f, " begin %d", &number), 1);
        assert_int_equal(number, i);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fscanf(f, " end %d", &number), 1);
        assert_in_range(number, 1, 3);
        assert_false(seen[number]);
        seen[number] = true;
    }
    assert_int_equal(fscanf(f, " %15[a-z]", text), 1);
    assert_string_equal(text, "over");
    fclose(f);
}

static void one_thread_that_cannot_begin_is_why_the_process_does_not(void **state)
{
    (void)state;
    start_threaded(4, ",\"fail_at\":3");
    struct plugin_packet p = hear();
    assert_int_equal(p.kind, PLUGIN_READY);
    assert_int_equal(p.ready.code, E_INTERNAL);
    char *text = packet_string(p.ready.error);
    assert_has(text, " of 4: no connection");
    mem_free(text);
    assert_string_equal(how_it_ended(), "exited with 1");
    assert_int_equal(pipe_fill(&pipe_to, NULL), E_CLOSED); /* and it said no more */
}

static void of_several_that_run_the_one_that_is_meant_is_cancelled(void **state)
{
    (void)state;
    start_threads(3);
    for (uint64_t id = 1; id <= 3; id++)
        say_task(id, "patient");
    for (int i = 0; i < 3; i++)
        assert_int_equal(hear().kind, PLUGIN_LOG); /* they run */
    say_cancel(2);
    hear_verdict(2, PLUGIN_RETRY);
    say_cancel(3);
    hear_verdict(3, PLUGIN_RETRY);
    say_cancel(1);
    hear_verdict(1, PLUGIN_RETRY);
}

static void stop_waits_for_all_threads(void **state)
{
    (void)state;
    start_threads(2);
    for (uint64_t id = 1; id <= 3; id++)
        say_hold(id);
    for (int i = 0; i < 2; i++)
        wait_at_gate();
    say(&(struct plugin_packet){.kind = PLUGIN_STOP});
    hear_verdict(3, PLUGIN_BACK);
    gate_pass(&gate);
    assert_int_equal(hear().verdict.verdict, PLUGIN_ACK);
    say_task(4, "ack"); /* it still listens */
    hear_verdict(4, PLUGIN_BACK);
    gate_pass(&gate);
    assert_int_equal(hear().verdict.verdict, PLUGIN_ACK);
    assert_string_equal(how_it_ended(), "exited with 0");
}

static void what_a_task_publishes_and_remembers_goes_with_it_whatever_runs_beside_it(void **state)
{
    (void)state;
    enum { TASKS = 400 };
    static bool answered[TASKS];
    char value[64], expected[16];
    start_threads(4);
    memset(answered, 0, sizeof answered);
    for (int i = 0; i < TASKS; i++) {
        snprintf(value, sizeof value, "publish audit count");
        snprintf(expected, sizeof expected, "%d", 1000 + i);
        say(&(struct plugin_packet){.kind = PLUGIN_TASK,
                                    .task = {.id = (uint64_t)i + 1,
                                             .key = view_of_str(expected),
                                             .value = view_of_str(value),
                                             .state_version = 5000 + (uint64_t)i,
                                             .state = view_of_str(expected)}});
    }
    for (int i = 0; i < TASKS; i++) {
        struct plugin_packet p = hear();
        assert_int_equal(p.verdict.verdict, PLUGIN_ACK);
        size_t n = p.verdict.id - 1;
        assert_true(n < TASKS && !answered[n]);
        answered[n] = true;
        assert_int_equal(p.verdict.outputs_n, 1);
        snprintf(expected, sizeof expected, "%zu", 1000 + n);
        assert_true(view_eq(p.verdict.outputs[0].key, view_of_str(expected)));
        snprintf(expected, sizeof expected, "%zu", 1001 + n);
        assert_true(view_eq(p.verdict.state, view_of_str(expected)));
        assert_int_equal(p.verdict.state_version, 5000 + n);
    }
}

static void how_it_ended_has_a_name(void **state)
{
    (void)state;
    static const char *const ends[][2] = {
        {"segv", "killed by SIGSEGV"}, {"abort x", "killed by SIGABRT"}, {"exit 3", "exited with 3"}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        start(state);
        start_obedient();
        say_task(1, ends[i][0]);
        assert_string_equal(how_it_ended(), ends[i][1]);
        end(state);
    }
}

/* By a thread of its own: nothing here waits for it. */
static void what_ended_leaves_the_table_of_processes(void **state)
{
    (void)state;
    pid_t pid = process.pid;
    process_kill(&process);
    assert_string_equal(how_it_ended(), "killed by SIGKILL");
    for (uint64_t deadline = clock_mono_ms() + 60000; kill(pid, 0) == 0; sched_yield())
        assert_true(clock_mono_ms() < deadline);
    assert_int_equal(errno, ESRCH);
}

/* ---- */

static int make_gate(void **state)
{
    (void)state;
    int code = gate_make(&gate);
    snprintf(thread_log, sizeof thread_log, "%s/threads", gate.dir);
    return code;
}

static int remove_gate(void **state)
{
    (void)state;
    char good[64];
    snprintf(good, sizeof good, "%s/good", gate.dir);
    unlink(good);
    unlink(thread_log);
    return gate_remove(&gate);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(a_task_is_answered_with_the_handlers_verdict),
        TALK(a_return_that_is_no_verdict_is_a_retry_that_says_so),
        TALK(the_handler_knows_its_task),
        TALK(the_handler_reads_headers),
        TALK(what_the_host_does_not_have_is_null),
        TALK(outputs_and_state_come_with_an_ack_and_with_nothing_else),
        TALK(logging_and_progress_reach_the_supervisor),
        TALK(a_cancelled_task_that_did_not_begin_comes_back),
        TALK(a_cancelled_task_that_runs_is_told),
        TALK(stop_finishes_what_runs_gives_back_the_rest_and_ends),
        TALK(the_end_of_the_supervisor_is_the_end_of_the_child),
        TALK(damaged_bytes_end_the_child),
        TALK(signals_of_a_shell_or_an_init_do_not_end_a_child),
        cmocka_unit_test(a_file_that_cannot_be_loaded_is_told_by_name),
        TALK(a_handler_that_cannot_start_tells_why),
        cmocka_unit_test(how_it_ended_has_a_name),
        TALK(what_ended_leaves_the_table_of_processes),
        TALK(as_many_tasks_run_at_once_as_there_are_threads_and_no_more),
        TALK(each_thread_has_what_its_init_made_and_ends_before_the_process),
        TALK(one_thread_that_cannot_begin_is_why_the_process_does_not),
        TALK(of_several_that_run_the_one_that_is_meant_is_cancelled),
        TALK(stop_waits_for_all_threads),
        TALK(what_a_task_publishes_and_remembers_goes_with_it_whatever_runs_beside_it),
    };
    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}
