/* Worker daemons: who is listed, who is gone, and what reaches whom. The table by hand, with time as the test wants it; and once in the loop. */
#include "loop_kit.h"

#include "base/macros.h"
#include "broker/workers.h"

/* ---------------------------------------------------------------- a table, and who talks to it */

static struct workers_bounds bounds;
static struct workers *table;
static uint64_t now;
static struct op op; /* the last one; its reply is good until the next */

static int begin(void **state)
{
    (void)state;
    bounds = (struct workers_bounds){.workers_max = 100, .worker_handlers_max = 4, .workers_bytes_max = 1 << 20, .worker_ttl_ms = 5000, .worker_gone_ms = 60000};
    now = 1000000;
    table = workers_new(&bounds, 7);
    arena_init(&op.arena, SIZE_MAX);
    return 0;
}

static int end(void **state)
{
    (void)state;
    workers_free(table);
    arena_free(&op.arena);
    return 0;
}

static int take(struct wire_request r)
{
    arena_free(&op.arena);
    op = (struct op){.request = r, .read = READ_WORKERS};
    arena_init(&op.arena, SIZE_MAX);
    workers_take(table, &op, now);
    assert_int_equal(op.read, READ_NONE);
    return op.reply.code;
}

static struct wire_worker_handler handler(const char *name, const char *topic, uint64_t taken)
{
    return (struct wire_worker_handler){.name = view_of_str(name), .topic = view_of_str(topic), .group = VIEW_LIT("g"), .version = VIEW_LIT("1.2"),
                                        .state = WORKER_RUNNING, .up = 2, .most = 4, .taken = taken};
}

/* A daemon on its host, of one session, with these handlers. What it hands over is gone when the call returns, as a request's bytes are. */
static int report_of(uint64_t session, const char *name, const struct wire_worker_handler *handlers, uint32_t n)
{
    char text[64];
    struct wire_worker_handler *lent = mem_dup(handlers, n * sizeof *lent);
    snprintf(text, sizeof text, "%s", name);
    int code = take((struct wire_request){
        .verb = VERB_WORKER_REPORT, .session = {.lo = session},
        .worker_report.worker = {.name = view_of_str(text), .host = VIEW_LIT("alpha"), .version = VIEW_LIT("0.1"), .pid = 100 + (uint32_t)session,
                                 .started_ms = 5, .handlers = lent, .handlers_n = n}});
    memset(text, 'x', sizeof text);
    memset(lent, 0x7f, n * sizeof *lent);
    mem_free(lent);
    return code;
}

/* With the handlers "email" of the topic "orders" and "sms" of "alarms". */
static int report(uint64_t session, const char *name, uint64_t email_taken, uint64_t sms_taken)
{
    const struct wire_worker_handler both[] = {handler("email", "orders", email_taken), handler("sms", "alarms", sms_taken)};
    return report_of(session, name, both, 2);
}

static int list_of(struct wire_worker_list l)
{
    l.limit = l.limit != 0 ? l.limit : 1000;
    return take((struct wire_request){.verb = VERB_WORKER_LIST, .worker_list = l});
}

/* "daemon:handler+handler daemon:..", with a mark behind a daemon that is gone. */
static const char *listed(struct wire_worker_list l)
{
    static char text[1024];
    size_t at = 0;
    assert_int_equal(list_of(l), E_OK);
    text[0] = '\0';
    for (uint32_t i = 0; i < op.reply.worker_list.workers_n; i++) {
        const struct wire_worker *w = &op.reply.worker_list.workers[i];
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s%s", i > 0 ? " " : "", (int)w->name.size, (const char *)w->name.data,
                               w->state == WORKER_GONE ? "!" : "");
        for (uint32_t n = 0; n < w->handlers_n; n++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s", n == 0 ? ":" : "+", (int)w->handlers[n].name.size,
                                   (const char *)w->handlers[n].name.data);
    }
    return text;
}

static const char *everybody(void) { return listed((struct wire_worker_list){0}); }

static uint64_t control(struct wire_worker_control c, uint32_t reached)
{
    if (take((struct wire_request){.verb = VERB_WORKER_CONTROL, .worker_control = c}) != E_OK)
        fail_msg("%s", op.error.text);
    assert_int_equal(op.reply.worker_control.reached, reached);
    return op.reply.worker_control.number;
}

static void nobody(struct wire_worker_control c, const char *words)
{
    assert_int_equal(take((struct wire_request){.verb = VERB_WORKER_CONTROL, .worker_control = c}), E_WORKER_NOT_FOUND);
    assert_has(op.error.text, words);
}

/* What the last report was answered: "email:pause sms:scale(2..5)". */
static const char *commands(void)
{
    static char text[512];
    static const char *const acts[] = {[WORKER_SCALE] = "scale", [WORKER_PAUSE] = "pause", [WORKER_RESUME] = "resume"};
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < op.reply.worker_report.commands_n; i++) {
        const struct wire_worker_command *c = &op.reply.worker_report.commands[i];
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s:%s", i > 0 ? " " : "", (int)c->handler.size, (const char *)c->handler.data, acts[c->act]);
        if (c->has_least)
            at += (size_t)snprintf(text + at, sizeof text - at, ">=%u", c->least);
        if (c->has_most)
            at += (size_t)snprintf(text + at, sizeof text - at, "<=%u", c->most);
    }
    return text;
}

#define EMAIL .handler = VIEW_LIT("email")

/* ---------------------------------------------------------------- who is listed */

static void a_daemon_is_listed_as_it_reported_itself_and_two_of_one_name_are_two(void **state)
{
    (void)state;
    assert_string_equal(everybody(), "");
    assert_int_equal(report(1, "w", 0, 0), E_OK);
    assert_int_equal(op.reply.worker_report.ttl_ms, 5000);
    assert_string_equal(commands(), "");
    report(2, "w", 0, 0);
    now += 700;
    report(2, "w", 0, 0);
    assert_string_equal(everybody(), "w:email+sms w:email+sms");
    const struct wire_worker *w = &op.reply.worker_list.workers[0];
    assert_true(view_eq(w->host, VIEW_LIT("alpha")) && view_eq(w->version, VIEW_LIT("0.1")) && w->pid == 101 && w->started_ms == 5);
    assert_true(w->state == WORKER_LIVE && w->heard_ms == 700 && w->id < w[1].id && w[1].pid == 102 && w[1].heard_ms == 0);
    assert_true(view_eq(w->handlers[1].topic, VIEW_LIT("alarms")) && w->handlers[1].up == 2 && w->handlers[1].most == 4);
    assert_true(view_eq(w->handlers[1].version, VIEW_LIT("1.2")) && w->handlers[1].error.size == 0);
}

static void a_daemon_that_is_not_heard_of_is_gone_and_a_while_later_forgotten(void **state)
{
    (void)state;
    struct workers_counts n;
    report(1, "old", 0, 0);
    now += 3000;
    report(2, "new", 0, 0);
    now += 2000;
    assert_string_equal(everybody(), "old:email+sms new:email+sms"); /* 5,000 ms are not longer than 5,000 ms */
    now++;
    assert_string_equal(everybody(), "old!:email+sms new:email+sms");
    workers_counts(table, now, &n);
    assert_true(n.live == 1 && n.gone == 1 && n.bytes > 0);
    report(1, "old", 0, 0); /* and back, in its place */
    assert_string_equal(everybody(), "old:email+sms new:email+sms");
    now += 65000;
    assert_string_equal(everybody(), "old!:email+sms");
    now++;
    assert_string_equal(everybody(), "");
    workers_counts(table, now, &n);
    assert_true(n.live == 0 && n.gone == 0 && n.bytes == 0);
}

static void a_daemon_that_leaves_is_forgotten_at_once(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    report(2, "b", 0, 0);
    const struct wire_request bye = {.verb = VERB_WORKER_REPORT, .session = {.lo = 1}, .worker_report = {.leaving = true}};
    assert_int_equal(take(bye), E_OK);
    assert_int_equal(op.reply.body, BODY_WORKER_REPORT);
    assert_string_equal(everybody(), "b:email+sms");
    assert_int_equal(take(bye), E_OK); /* again is as once */
    assert_string_equal(everybody(), "b:email+sms");
}

static void a_daemon_that_lost_its_session_is_the_same_row_and_hears_what_it_was_asked(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1);
    const struct wire_worker_handler email = handler("email", "orders", 0);
    struct wire_request again = {.verb = VERB_WORKER_REPORT, .session = {.lo = 99}, /* but the same name, host, process and start */
                                 .worker_report.worker = {.name = VIEW_LIT("a"), .host = VIEW_LIT("alpha"), .pid = 101, .started_ms = 5,
                                                          .handlers = &email, .handlers_n = 1}};
    take(again);
    assert_string_equal(commands(), "email:pause");
    assert_string_equal(everybody(), "a:email");
    again.session.lo = 98;
    again.worker_report.worker.started_ms = 6; /* another process under that number */
    take(again);
    assert_string_equal(commands(), "");
    assert_string_equal(everybody(), "a:email a:email");
}

static void a_list_is_of_what_is_asked_for_and_comes_in_pages(void **state)
{
    (void)state;
    const struct wire_worker_handler sms = handler("sms", "alarms", 0);
    report(1, "paris-1", 0, 0);
    report(2, "paris-2", 0, 0);
    report_of(3, "rome-1", &sms, 1);
    assert_string_equal(listed((struct wire_worker_list){EMAIL}), "paris-1:email paris-2:email");
    assert_string_equal(listed((struct wire_worker_list){.topic = VIEW_LIT("alarms"), .daemon = VIEW_LIT("*-1")}), "paris-1:sms rome-1:sms");
    assert_string_equal(listed((struct wire_worker_list){.group = VIEW_LIT("other")}), "");
    assert_string_equal(listed((struct wire_worker_list){.daemon = VIEW_LIT("alpha")}), "paris-1:email+sms paris-2:email+sms rome-1:sms"); /* a host */
    assert_string_equal(listed((struct wire_worker_list){.limit = 2}), "paris-1:email+sms"); /* is two handlers */
    assert_true(op.reply.worker_list.more);
    uint64_t after = op.reply.worker_list.workers[0].id;
    assert_string_equal(listed((struct wire_worker_list){.limit = 3, .after = after}), "paris-2:email+sms rome-1:sms");
    assert_false(op.reply.worker_list.more);
    assert_string_equal(listed((struct wire_worker_list){.limit = 1, EMAIL, .after = after}), "paris-2:email");
    assert_false(op.reply.worker_list.more); /* who is left has none */
}

/* ---------------------------------------------------------------- what is asked of them */

static void what_is_asked_is_answered_to_reports_until_one_confirms_it(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    report(2, "b", 0, 0);
    uint64_t first = control((struct wire_worker_control){.act = WORKER_SCALE, EMAIL, .has_least = true, .least = 2, .has_most = true, .most = 5}, 2);
    uint64_t second = control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL, .daemon = VIEW_LIT("a")}, 1);
    assert_true(second > first);
    report(1, "a", 0, 0);
    assert_string_equal(commands(), "email:scale>=2<=5 email:pause");
    assert_true(op.reply.worker_report.commands[0].number == first && op.reply.worker_report.commands[1].number == second);
    report(1, "a", 0, 0); /* it did not say that it took any */
    assert_string_equal(commands(), "email:scale>=2<=5 email:pause");
    report(2, "b", 0, 0);
    assert_string_equal(commands(), "email:scale>=2<=5");
    report(1, "a", first, 0);
    assert_string_equal(commands(), "email:pause");
    report(1, "a", second, 0);
    assert_string_equal(commands(), "");

    assert_int_equal(list_of((struct wire_worker_list){EMAIL}), E_OK);
    const struct wire_worker *w = op.reply.worker_list.workers;
    assert_true(w[0].handlers[0].asked == second && w[0].handlers[0].taken == second);
    assert_true(w[1].handlers[0].asked == first && w[1].handlers[0].taken == 0);
    assert_int_equal(list_of((struct wire_worker_list){.handler = VIEW_LIT("sms")}), E_OK);
    assert_int_equal(op.reply.worker_list.workers[0].handlers[0].asked, 0);
}

static void what_is_asked_stays_with_its_handler_when_a_daemon_names_them_in_another_order(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1);
    const struct wire_worker_handler turned[] = {handler("new", "n", 0), handler("sms", "alarms", 0), handler("email", "orders", 0)};
    report_of(1, "a", turned, 3);
    assert_string_equal(commands(), "email:pause");
    report_of(1, "a", turned, 2); /* it has that one no more */
    assert_string_equal(commands(), "");
    report_of(1, "a", turned, 3);
    assert_string_equal(commands(), "");
}

static void asking_again_replaces_and_keeps_what_is_not_said(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1);
    control((struct wire_worker_control){.act = WORKER_RESUME, EMAIL}, 1);
    control((struct wire_worker_control){.act = WORKER_SCALE, EMAIL, .has_least = true, .least = 3}, 1);
    control((struct wire_worker_control){.act = WORKER_SCALE, EMAIL, .has_most = true, .most = 8}, 1);
    report(1, "a", 0, 0);
    assert_string_equal(commands(), "email:resume email:scale>=3<=8");
    uint64_t last = control((struct wire_worker_control){.act = WORKER_SCALE, EMAIL, .has_most = true, .most = 2}, 1);
    report(1, "a", 0, 0);
    assert_string_equal(commands(), "email:resume email:scale<=2"); /* 3 to 2 is no range: the newer word counts */
    report(1, "a", last, 0);
    control((struct wire_worker_control){.act = WORKER_SCALE, EMAIL, .has_least = true, .least = 1}, 1);
    report(1, "a", last, 0);
    assert_string_equal(commands(), "email:scale>=1"); /* what was taken is not asked again */
}

static void a_control_reaches_those_who_are_there_and_else_names_what_was_asked_for(void **state)
{
    (void)state;
    nobody((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, "handler 'email'");
    report(1, "paris-1", 0, 0);
    report(2, "paris-2", 0, 0);
    now += 5001;
    report(2, "paris-2", 0, 0);
    control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1); /* who is gone is not reached */
    control((struct wire_worker_control){.act = WORKER_PAUSE, .topic = VIEW_LIT("alarms"), .group = VIEW_LIT("g")}, 1);
    report(2, "paris-2", 0, 0);
    assert_string_equal(commands(), "email:pause sms:pause");
    nobody((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL, .daemon = VIEW_LIT("paris-1")}, "handler 'email' on 'paris-1': 1 daemon had it");
    nobody((struct wire_worker_control){.act = WORKER_PAUSE, .topic = VIEW_LIT("orders"), .group = VIEW_LIT("h")}, "topic 'orders' and group 'h'");
    nobody((struct wire_worker_control){.act = WORKER_PAUSE, .handler = VIEW_LIT("nothing"), .daemon = VIEW_LIT("*")}, "handler 'nothing' on '*'");
    report(1, "paris-1", 0, 0);
    assert_string_equal(commands(), ""); /* it was gone when that was asked */
}

static void a_broker_that_starts_knows_nobody_and_its_numbers_are_above_those_before(void **state)
{
    (void)state;
    report(1, "a", 0, 0);
    uint64_t before = control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1);
    workers_free(table);
    table = workers_new(&bounds, 8);
    assert_string_equal(everybody(), "");
    report(1, "a", 0, 0);
    assert_string_equal(commands(), "");
    assert_true(control((struct wire_worker_control){.act = WORKER_PAUSE, EMAIL}, 1) > before);
}

/* ---------------------------------------------------------------- bounds */

static void more_than_a_limit_is_refused_and_what_was_kept_stays(void **state)
{
    (void)state;
    bounds.workers_max = 2;
    report(1, "a", 0, 0);
    report(2, "b", 0, 0);
    assert_int_equal(report(3, "c", 0, 0), E_LIMIT);
    assert_has(op.error.text, "workers_max");
    assert_string_equal(everybody(), "a:email+sms b:email+sms");
    assert_int_equal(report(1, "a", 0, 0), E_OK);
    now += 5001;
    report(1, "a", 0, 0);
    assert_int_equal(report(3, "c", 0, 0), E_OK); /* one that is gone makes room */
    assert_string_equal(everybody(), "a:email+sms c:email+sms");

    const struct wire_worker_handler many[5] = {handler("1", "t", 0), handler("2", "t", 0), handler("3", "t", 0), handler("4", "t", 0), handler("5", "t", 0)};
    assert_int_equal(report_of(1, "a", many, 5), E_LIMIT);
    assert_has(op.error.text, "worker_handlers_max");
    assert_has(op.error.text, "'a' has 5");
    assert_int_equal(report_of(1, "a", many, 4), E_OK);
    assert_string_equal(everybody(), "a:1+2+3+4 c:email+sms");

    struct workers_counts n;
    workers_counts(table, now, &n);
    bounds.workers_bytes_max = n.bytes;
    assert_int_equal(report_of(1, "a", many, 4), E_OK); /* in the place of what it said before */
    assert_int_equal(report_of(3, "c", many, 4), E_LIMIT);
    assert_has(op.error.text, "workers_bytes_max");
    assert_int_equal(report_of(1, "a", many, 2), E_OK);
    assert_int_equal(report_of(3, "c", many, 4), E_OK);
    workers_counts(table, now, &n);
    assert_true(n.bytes <= bounds.workers_bytes_max);
}

static void a_pattern_is_any_text_for_a_star_and_a_byte_for_a_question_mark(void **state)
{
    (void)state;
    static const struct { const char *pattern, *text; bool fits; } all[] = {
        {"a", "a", true},        {"a", "b", false},        {"a", "ab", false},      {"*", "", true},           {"*", "anything", true},
        {"a*", "a", true},       {"a*c", "abcbc", true},   {"a*c", "abcb", false},  {"*b*", "abc", true},      {"?", "", false},
        {"a?c", "abc", true},    {"a?c", "ac", false},     {"*ab*ab", "abab", true}, {"*ab*ab", "aab", false}, {"", "", true},
        {"", "a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (workers_fits(view_of_str(all[i].pattern), view_of_str(all[i].text)) != all[i].fits)
            fail_msg("'%s' '%s'", all[i].pattern, all[i].text);
    assert_true(workers_fits(view_of(NULL, 0), VIEW_LIT("x")));
    char stars[201] = "", text[201]; /* the worst that a client can send: it must not take longer than its length times the text's */
    memset(text, 'a', 200);
    for (int i = 0; i < 198; i += 2)
        memcpy(stars + i, "*a", 3);
    memcpy(stars + 198, "*b", 3);
    text[200] = '\0';
    for (int i = 0; i < 1000; i++)
        assert_false(workers_fits(view_of_str(stars), view_of_str(text)));
}

/* ---------------------------------------------------------------- in the loop */

static struct call *report_to(struct kit *k)
{
    static const struct wire_worker_handler email = {.name = VIEW_LIT("email"), .topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .state = WORKER_RUNNING};
    struct call *c = kit_new_call(k, VERB_WORKER_REPORT);
    c->op.request.worker_report.worker = (struct wire_worker){.name = VIEW_LIT("a"), .host = VIEW_LIT("h"), .handlers = &email, .handlers_n = 1};
    return c;
}

static void a_report_waits_for_no_disk_and_is_answered_while_it_is_full(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct loop_status s;
    kit_hold_sync(k, true);
    struct call *first = kit_send(k, report_to(k));
    kit_turn(k);
    assert_true(first->done && first->op.reply.code == E_OK && first->op.reply.worker_report.ttl_ms == workers_bounds_default.worker_ttl_ms);
    kit_hold_sync(k, false);

    store_mem_faults(k->slow.mem, &(struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL, .fail_writes = 1});
    kit_send(k, kit_produce(k, DISK, "x"));
    kit_turn(k);
    struct call *second = kit_send(k, report_to(k)), *list = kit_send(k, kit_new_call(k, VERB_WORKER_LIST));
    kit_turn(k);
    assert_true(second->done && second->op.reply.code == E_OK);
    assert_true(list->done && list->op.reply.worker_list.workers_n == 1);
    kit_pass(k, 1000);
    kit_round(k);
    loop_status(k->loop, &s);
    assert_int_equal(s.workers.live, 1);
    kit_pass(k, 6000);
    kit_round(k);
    loop_status(k->loop, &s);
    assert_true(s.workers.live == 0 && s.workers.gone == 1);

    struct call *stranger = report_to(k);
    stranger->op.request.session.lo++;
    assert_int_equal(kit_ask(k, stranger)->code, E_NO_SESSION);
    kit_reopen(k);
    assert_int_equal(kit_ask(k, kit_new_call(k, VERB_WORKER_LIST))->worker_list.workers_n, 0);
    kit_free(k);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_daemon_is_listed_as_it_reported_itself_and_two_of_one_name_are_two),
        TEST(a_daemon_that_is_not_heard_of_is_gone_and_a_while_later_forgotten),
        TEST(a_daemon_that_leaves_is_forgotten_at_once),
        TEST(a_daemon_that_lost_its_session_is_the_same_row_and_hears_what_it_was_asked),
        TEST(a_list_is_of_what_is_asked_for_and_comes_in_pages),
        TEST(what_is_asked_is_answered_to_reports_until_one_confirms_it),
        TEST(what_is_asked_stays_with_its_handler_when_a_daemon_names_them_in_another_order),
        TEST(asking_again_replaces_and_keeps_what_is_not_said),
        TEST(a_control_reaches_those_who_are_there_and_else_names_what_was_asked_for),
        TEST(a_broker_that_starts_knows_nobody_and_its_numbers_are_above_those_before),
        TEST(more_than_a_limit_is_refused_and_what_was_kept_stays),
        TEST(a_pattern_is_any_text_for_a_star_and_a_byte_for_a_question_mark),
        cmocka_unit_test(a_report_waits_for_no_disk_and_is_answered_while_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
