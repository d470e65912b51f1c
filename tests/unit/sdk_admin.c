/* The administrator's calls: what each asks of the broker, and what it makes of the answer. */
#include "sdk_fake.h"

#include <pthread.h>

#include "base/macros.h"
#include "schemas/errors.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

/* What was asked last, of one verb; texts are copied. The fake's thread writes it before it answers. */
static struct {
    enum wire_verb verb;
    struct wire_reply reply;
    size_t times;
    struct wire_request r;
    struct wire_held_filter filter;
    bool filtered;
    struct wire_worker_handler handlers[2];
    uint32_t handlers_n;
    char text[8][64];
    size_t texts;
} asked;

static struct view kept(struct view v)
{
    if (v.data == NULL || asked.texts == ARRAY_LEN(asked.text) || v.size >= sizeof asked.text[0])
        return v;
    char *to = asked.text[asked.texts++];
    memset(to, 0, sizeof asked.text[0]);
    memcpy(to, v.data, v.size);
    return view_of(to, v.size);
}

static void keep_filter(const struct wire_held_filter *f)
{
    asked.filtered = f != NULL;
    if (f == NULL)
        return;
    asked.filter = *f;
    asked.filter.key = kept(f->key);
    asked.filter.header = kept(f->header);
    asked.filter.header_value = kept(f->header_value);
    asked.filter.reason = kept(f->reason);
}

static void keep_report(const struct wire_worker *w)
{
    asked.handlers_n = w->handlers_n;
    asked.r.worker_report.worker.name = kept(w->name);
    for (uint32_t i = 0; i < w->handlers_n && i < ARRAY_LEN(asked.handlers); i++) {
        asked.handlers[i] = w->handlers[i];
        asked.handlers[i].name = kept(w->handlers[i].name);
        asked.handlers[i].why = kept(w->handlers[i].why);
    }
}

static enum fake_action listen_to(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    if (r->verb != asked.verb)
        return FAKE_DO;
    asked.texts = 0;
    asked.times++;
    asked.r = *r;
    switch (r->verb) {
    case VERB_HELD_CHANGE:
        keep_filter(r->held_change.filter);
        asked.r.held_change.topic = kept(r->held_change.topic);
        break;
    case VERB_HELD_LIST:
        keep_filter(r->held.filter);
        break;
    case VERB_SCHED_LIST:
    case VERB_SCHED_CHANGE:
        asked.r.sched.topic = kept(r->sched.topic);
        asked.r.sched.name = kept(r->sched.name);
        break;
    case VERB_WORKER_CONTROL:
        asked.r.worker_control.handler = kept(r->worker_control.handler);
        asked.r.worker_control.daemon = kept(r->worker_control.daemon);
        break;
    case VERB_WORKER_REPORT:
        keep_report(&r->worker_report.worker);
        break;
    case VERB_EXPLAIN:
        asked.r.explain.key = kept(r->explain.key);
        break;
    default:
        break;
    }
    *reply = asked.reply;
    return FAKE_ANSWER;
}

/* From now on requests of this verb are answered so. */
static void answer(enum wire_verb verb, struct wire_reply reply)
{
    fake_set_script(fake, NULL, NULL);
    asked.verb = verb;
    asked.reply = reply;
    asked.times = 0;
    fake_set_script(fake, listen_to, NULL);
}

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 4);
    fake_group(fake, "t", "g");
    struct sluice_options o = {.size = sizeof o, .broker = fake_url(fake), .request_timeout_ms = 20000};
    return sluice_open(&client, &o, &err);
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL);
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

/* ---- topics and groups */

static void altering_names_the_fields_that_are_meant(void **state)
{
    (void)state;
    answer(VERB_TOPIC_ALTER, (struct wire_reply){.code = 0});
    struct sluice_topic_options o = {.size = sizeof o, .ttl_ms = 1000, .dedup_ms = UINT64_MAX};
    assert_int_equal(sluice_topic_alter(client, "t", &o, SLUICE_TOPIC_TTL_MS | SLUICE_TOPIC_DEDUP_MS, &err),
                     0);
    assert_true(asked.r.topic.mask == (TOPIC_SET_TTL_MS | TOPIC_SET_DEDUP_MS));
    assert_true(asked.r.topic.config.ttl_ms == 1000 && asked.r.topic.config.dedup_ms == UINT64_MAX);
    assert_true(asked.r.seq != 0); /* it is numbered: a repeat has one effect */
    assert_int_equal(sluice_topic_alter(client, "t", &o, 0, &err), SLUICE_INVALID_ARGUMENT);
    answer(VERB_TOPIC_ALTER, (struct wire_reply){.code = E_TOPIC_NOT_FOUND});
    assert_int_equal(sluice_topic_alter(client, "t", &o, SLUICE_TOPIC_TTL_MS, &err), SLUICE_TOPIC_NOT_FOUND);
    assert_has(err.text, "sluice topic create t");

    answer(VERB_GROUP_ALTER, (struct wire_reply){.code = 0});
    struct sluice_group_options g = {
        .size = sizeof g, .rate = 1.5, .key_rate = 0.001, .expired = SLUICE_EXPIRED_PARK};
    assert_int_equal(
        sluice_group_alter(client, "t", "g", &g, SLUICE_GROUP_RATE | SLUICE_GROUP_KEY_RATE, &err), 0);
    assert_true(asked.r.group.mask == (GROUP_SET_RATE_MILLI | GROUP_SET_KEY_RATE_MILLI));
    assert_true(asked.r.group.config.rate_milli == 1500 && asked.r.group.config.key_rate_milli == 1);
    g.rate = -1;
    assert_int_equal(sluice_group_alter(client, "t", "g", &g, SLUICE_GROUP_RATE, &err),
                     SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "rate");
}

static void pausing_and_purging_say_what_they_are(void **state)
{
    (void)state;
    answer(VERB_GROUP_CONTROL, (struct wire_reply){.depth = 17});
    uint64_t purged = 0;
    assert_int_equal(sluice_group_pause(client, "t", "g", &err), 0);
    assert_int_equal(asked.r.control.act, GROUP_PAUSE);
    assert_int_equal(sluice_group_resume(client, "t", "g", &err), 0);
    assert_int_equal(asked.r.control.act, GROUP_RESUME);
    assert_int_equal(sluice_group_purge(client, "t", "g", &purged, &err), 0);
    assert_int_equal(asked.r.control.act, GROUP_PURGE);
    assert_int_equal(purged, 17);
    answer(VERB_GROUP_CONTROL, (struct wire_reply){.code = E_GROUP_NOT_FOUND});
    assert_int_equal(sluice_group_purge(client, "t", "g", &purged, &err), SLUICE_GROUP_NOT_FOUND);
    assert_has(err.text, "sluice group create g");
}

/* ---- dead letters */

static void a_filter_says_to_the_broker_all_that_it_was_given(void **state)
{
    (void)state;
    static const struct wire_task_row row = {.id = 7, .act = TASK_REDRIVE, .state = TASK_RUNNING};
    answer(VERB_HELD_CHANGE, (struct wire_reply){.body = BODY_TASKS, .tasks = {.tasks = &row, .tasks_n = 1}});
    struct sluice_dlq_filter f = {.size = sizeof f,
                                  .key = SLUICE_STR(""),
                                  .header = "colour",
                                  .header_value = SLUICE_STR("blue"),
                                  .reason = "odd",
                                  .since_ms = 5,
                                  .until_ms = 6,
                                  .attempts_min = 2,
                                  .attempts_max = 3,
                                  .one = true,
                                  .partition = 2,
                                  .offset = 99};
    struct sluice_dlq_change change = {
        .size = sizeof change, .filter = &f, .rate = 10, .limit = 5, .dry_run = true};
    uint64_t task = 0;
    assert_int_equal(sluice_dlq_redrive(client, "t", "g", &change, &task, &err), 0);
    assert_int_equal(task, 7);
    const struct wire_held_filter *w = &asked.filter;
    assert_true(asked.filtered && w->has_key && w->key.data != NULL &&
                w->key.size == 0); /* empty, not absent */
    assert_true(view_eq(w->header, VIEW_LIT("colour")) && w->has_header_value);
    assert_true(view_eq(w->header_value, VIEW_LIT("blue")) && view_eq(w->reason, VIEW_LIT("odd")));
    assert_true(w->after_ms == 5 && w->before_ms == 6 && w->attempts_min == 2 && w->attempts_max == 3);
    assert_true(w->has_offset && w->offset == 99 && w->partition > 100); /* the fake's ids are */
    assert_true(asked.r.held_change.rate_milli == 10000 && asked.r.held_change.limit == 5 &&
                asked.r.held_change.dry_run);
    assert_int_equal(asked.r.held_change.act, TASK_REDRIVE);

    assert_int_equal(sluice_dlq_drop(client, "t", "g", NULL, &task, &err), 0);
    assert_false(asked.filtered);
    assert_int_equal(asked.r.held_change.act, TASK_DROP);
    f.partition = 4;
    assert_int_equal(sluice_dlq_drop(client, "t", "g", &change, &task, &err), SLUICE_PARTITION_NOT_FOUND);
    f.one = false;
    f.header = NULL;
    assert_int_equal(sluice_dlq_drop(client, "t", "g", &change, &task, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "header_value");
}

static void a_page_of_dead_letters_goes_on_where_the_broker_stopped_looking(void **state)
{
    (void)state;
    answer(VERB_HELD_LIST,
           (struct wire_reply){.body = BODY_HELD,
                               .held = {.more = true, .next_partition = 104, .next_offset = 1000}});
    struct sluice_dlq_filter f = {.size = sizeof f, .reason = "odd"};
    struct sluice_dlq_options o = {.size = sizeof o, .filter = &f};
    struct sluice_dlq *page, *next;
    assert_int_equal(sluice_dlq_list(client, "t", "g", &o, &page, &err), 0);
    assert_true(sluice_dlq_count(page) == 0 && sluice_dlq_more(page));
    assert_true(view_eq(asked.filter.reason, VIEW_LIT("odd")));
    o.after = page;
    assert_int_equal(sluice_dlq_list(client, "t", "g", &o, &next, &err), 0);
    assert_true(asked.r.held.has_after && asked.r.held.after_partition == 104 &&
                asked.r.held.after_offset == 1000);
    sluice_dlq_free(page);
    sluice_dlq_free(next);
}

static void tasks_are_shown_as_the_broker_tells_them(void **state)
{
    (void)state;
    static const struct wire_task_row row = {.id = 7,
                                             .topic = VIEW_LIT("t"),
                                             .group = VIEW_LIT("g"),
                                             .act = TASK_DROP,
                                             .state = TASK_FAILED,
                                             .seen = 10,
                                             .matched = 5,
                                             .changed = 3,
                                             .started_ms = 1,
                                             .ended_ms = 2,
                                             .rate_milli = 500,
                                             .error = VIEW_LIT("broken")};
    answer(VERB_TASK_LIST, (struct wire_reply){.body = BODY_TASKS, .tasks = {.tasks = &row, .tasks_n = 1}});
    struct sluice_task_list *list;
    assert_int_equal(sluice_tasks(client, 7, &list, &err), 0);
    assert_int_equal(asked.r.task.id, 7);
    const struct sluice_task *t = &list->tasks[0];
    assert_true(list->count == 1 && t->id == 7 && t->act == SLUICE_TASK_DROP &&
                t->state == SLUICE_TASK_FAILED);
    assert_true(t->seen == 10 && t->matched == 5 && t->changed == 3 && t->started_ms == 1 &&
                t->ended_ms == 2);
    assert_true(t->rate == 0.5);
    assert_string_equal(t->topic, "t");
    assert_string_equal(t->error, "broken");
    sluice_tasks_free(list);
    answer(VERB_TASK_CANCEL, (struct wire_reply){.code = E_TASK_NOT_FOUND});
    assert_int_equal(sluice_task_cancel(client, 8, &err), SLUICE_TASK_NOT_FOUND);
    assert_int_equal(asked.r.task.id, 8);
    assert_has(err.text, "task 8");
}

/* ---- what waits */

static void what_waits_is_paged_by_its_time_and_id(void **state)
{
    (void)state;
    static const struct wire_scheduled rows[] = {
        {.name = VIEW_LIT("one"),
         .topic = VIEW_LIT("t"),
         .partition = 103,
         .count = 1,
         .due_ms = 10,
         .id = {1, 2}},
        {.name = VIEW_LIT("two"),
         .topic = VIEW_LIT("t"),
         .cron = VIEW_LIT("* * * * *"),
         .due_ms = 10,
         .id = {3, 4}},
    };
    answer(VERB_SCHED_LIST,
           (struct wire_reply){.body = BODY_SCHED, .sched = {.rows = rows, .rows_n = 2, .more = true}});
    struct sluice_schedule_list *page, *next;
    assert_int_equal(sluice_schedules(client, NULL, NULL, NULL, &page, &err), 0);
    assert_true(page->count == 2 && page->more && page->rows[0].due_ms == 10 && page->rows[0].partition == 1);
    assert_string_equal(page->rows[0].cron, "");
    assert_string_equal(page->rows[1].cron, "* * * * *");
    struct sluice_schedule_options o = {.size = sizeof o, .after = page, .limit = 5};
    assert_int_equal(sluice_schedules(client, "t", NULL, &o, &next, &err), 0);
    assert_true(asked.r.sched.after_ms == 10 && id128_eq(asked.r.sched.after_id, (struct id128){3, 4}));
    assert_int_equal(asked.r.sched.limit, 5);
    sluice_schedules_free(page);
    sluice_schedules_free(next);
}

static void what_waits_is_cancelled_or_moved_by_its_name(void **state)
{
    (void)state;
    answer(VERB_SCHED_CHANGE, (struct wire_reply){.code = 0});
    assert_int_equal(sluice_schedule_cancel(client, "t", "one", &err), 0);
    assert_int_equal(asked.r.sched.act, SCHED_CANCEL);
    assert_true(view_eq(asked.r.sched.name, VIEW_LIT("one")) && view_eq(asked.r.sched.topic, VIEW_LIT("t")));
    assert_int_equal(sluice_schedule_move(client, "t", "one", 0, 5000, &err), 0);
    assert_true(asked.r.sched.act == SCHED_MOVE && asked.r.sched.delay_ms == 5000 &&
                asked.r.sched.at_ms == 0);
    assert_int_equal(sluice_schedule_move(client, "t", "one", 1, 5000, &err), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(sluice_schedule_cancel(client, "t", "", &err), SLUICE_INVALID_ARGUMENT);
    answer(VERB_SCHED_CHANGE, (struct wire_reply){.code = E_SCHEDULE_NOT_FOUND});
    assert_int_equal(sluice_schedule_cancel(client, "t", "one", &err), SLUICE_SCHEDULE_NOT_FOUND);
    assert_has(err.text, "'one' of topic 't'");
}

/* ---- why it does not come */

static void an_explanation_is_of_a_message_a_key_or_the_group(void **state)
{
    (void)state;
    answer(VERB_EXPLAIN, (struct wire_reply){.body = BODY_EXPLAIN,
                                             .explain = {.fact = EXPLAIN_BEHIND,
                                                         .text = VIEW_LIT("an older one blocks"),
                                                         .partition = 104,
                                                         .offset = 5,
                                                         .session = VIEW_LIT("me"),
                                                         .attempts = 2}});
    struct sluice_explanation e = {.size = sizeof e};
    struct sluice_explain_options of = {.size = sizeof of, .one = true, .partition = 3, .offset = 9};
    assert_int_equal(sluice_explain(client, "t", "g", &of, &e, &err), 0);
    assert_true(asked.r.explain.has_offset && asked.r.explain.partition == 105 &&
                asked.r.explain.offset == 9);
    assert_true(e.fact == SLUICE_FACT_BEHIND && e.partition == 2 && e.offset == 5 && e.attempts == 2);
    assert_string_equal(e.text, "an older one blocks");
    assert_string_equal(e.session, "me");
    of = (struct sluice_explain_options){.size = sizeof of, .key = SLUICE_STR("k")};
    assert_int_equal(sluice_explain(client, "t", "g", &of, &e, &err), 0);
    assert_true(asked.r.explain.has_key && view_eq(asked.r.explain.key, VIEW_LIT("k")) &&
                !asked.r.explain.has_offset);
    assert_int_equal(sluice_explain(client, "t", "g", NULL, &e, &err), 0);
    assert_true(!asked.r.explain.has_key && !asked.r.explain.has_offset);
    e.size = 4;
    assert_int_equal(sluice_explain(client, "t", "g", NULL, &e, &err), SLUICE_INVALID_ARGUMENT);
}

/* ---- worker daemons */

static void a_report_says_all_of_a_daemon_and_brings_what_was_asked_of_it(void **state)
{
    (void)state;
    static const struct wire_worker_command commands[] = {{.number = 7, .handler = VIEW_LIT("b"), .act = WORKER_SCALE, .has_most = true, .most = 3},
                                                          {.number = 8, .handler = VIEW_LIT("a"), .act = WORKER_PAUSE}};
    answer(VERB_WORKER_REPORT,
           (struct wire_reply){.body = BODY_WORKER_REPORT, .worker_report = {.commands = commands, .commands_n = 2, .ttl_ms = 5000}});
    char error[301]; /* more than the broker takes, and a character of two bytes would be cut in two */
    memset(error, 'e', 300);
    memcpy(error + WIRE_WORKER_TEXT_MAX - 1, "\xc3\xa9", 2);
    error[300] = '\0';
    struct sluice_worker_handler handlers[2] = {
        {.size = sizeof handlers[0], .name = "a", .topic = "t", .group = "g", .state = SLUICE_WORKER_PAUSED, .up = 2, .most = 4, .done_rate = 12.5, .taken = 6},
        {.size = sizeof handlers[0], .name = "b", .topic = "t", .group = "g", .state = SLUICE_WORKER_RUNNING, .why = "lag", .error = error, .failed = 9}};
    struct sluice_worker me = {.size = sizeof me, .name = "prog@h/1", .host = "h", .pid = 5, .handlers = handlers, .handlers_count = 2};
    struct sluice_worker_commands *c;
    assert_int_equal(sluice_worker_report(client, &me, false, 0, &c, &err), 0);
    assert_int_equal(c->count, 2);
    assert_true(c->ttl_ms == 5000 && c->rows[0].number == 7 && c->rows[0].act == SLUICE_WORKER_SCALE && c->rows[0].has_most && !c->rows[0].has_least);
    assert_true(c->rows[0].most == 3 && c->rows[1].act == SLUICE_WORKER_PAUSE);
    assert_string_equal(c->rows[1].handler, "a");
    sluice_worker_commands_free(c);
    assert_true(asked.handlers_n == 2 && !asked.r.worker_report.leaving && view_eq(asked.r.worker_report.worker.name, VIEW_LIT("prog@h/1")));
    assert_true(asked.handlers[0].state == WORKER_PAUSED && asked.handlers[0].up == 2 && asked.handlers[0].done_rate_milli == 12500);
    assert_true(asked.handlers[0].taken == 6 && asked.handlers[1].failed == 9 && view_eq(asked.handlers[1].why, VIEW_LIT("lag")));
    assert_int_equal(asked.handlers[1].error.size, WIRE_WORKER_TEXT_MAX - 1);

    assert_int_equal(sluice_worker_report(client, &me, true, 0, NULL, &err), 0);
    assert_true(asked.r.worker_report.leaving);
    handlers[1].size = 8;
    assert_int_equal(sluice_worker_report(client, &me, false, 0, NULL, &err), SLUICE_INVALID_ARGUMENT);
    handlers[1].size = sizeof handlers[0];
    handlers[1].topic = "a b";
    assert_int_equal(sluice_worker_report(client, &me, false, 0, NULL, &err), SLUICE_INVALID_ARGUMENT);
    me.host = NULL;
    assert_int_equal(sluice_worker_report(client, &me, false, 0, NULL, &err), SLUICE_INVALID_ARGUMENT);
}

static void workers_are_listed_page_by_page(void **state)
{
    (void)state;
    static const struct wire_worker_handler h = {.name = VIEW_LIT("a"), .topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .done_rate_milli = 1500, .asked = 9};
    static const struct wire_worker rows[] = {{.id = 3, .name = VIEW_LIT("x"), .host = VIEW_LIT("h"), .state = WORKER_LIVE, .handlers = &h, .handlers_n = 1},
                                              {.id = 5, .name = VIEW_LIT("y"), .host = VIEW_LIT("h"), .state = WORKER_GONE, .heard_ms = 6000}};
    answer(VERB_WORKER_LIST, (struct wire_reply){.body = BODY_WORKER_LIST, .worker_list = {.workers = rows, .workers_n = 2}});
    struct sluice_worker_list *l;
    assert_int_equal(sluice_workers(client, NULL, &l, &err), 0);
    assert_int_equal(l->count, 2);
    assert_string_equal(l->rows[0].handlers[0].name, "a");
    assert_true(l->rows[0].handlers[0].done_rate == 1.5 && l->rows[0].handlers[0].asked == 9 && !l->rows[0].gone);
    assert_true(l->rows[1].gone && l->rows[1].heard_ms == 6000 && l->rows[1].handlers_count == 0);
    sluice_workers_free(l);
    /* a broker that says the same page again and again is not believed */
    answer(VERB_WORKER_LIST, (struct wire_reply){.body = BODY_WORKER_LIST, .worker_list = {.workers = rows, .workers_n = 2, .more = true}});
    assert_int_equal(sluice_workers(client, NULL, &l, &err), SLUICE_BAD_FRAME);
    assert_true(asked.times == 2 && asked.r.worker_list.after == 5);
    const struct sluice_worker_filter odd = {.size = sizeof odd, .topic = "a b"};
    assert_int_equal(sluice_workers(client, &odd, &l, &err), SLUICE_INVALID_ARGUMENT);
}

static void a_control_says_whom_it_means_and_how_many_it_reached(void **state)
{
    (void)state;
    answer(VERB_WORKER_CONTROL, (struct wire_reply){.body = BODY_WORKER_CONTROL, .worker_control = {.number = 77, .reached = 3}});
    struct sluice_worker_filter which = {.size = sizeof which, .handler = "a", .daemon = "paris-*"};
    struct sluice_worker_control what = {.size = sizeof what, .act = SLUICE_WORKER_SCALE, .has_least = true, .least = 2};
    uint64_t number = 0;
    uint32_t reached = 0;
    assert_int_equal(sluice_worker_control(client, &which, &what, &number, &reached, &err), 0);
    assert_true(number == 77 && reached == 3);
    const struct wire_worker_control *c = &asked.r.worker_control;
    assert_true(c->act == WORKER_SCALE && c->has_least && c->least == 2 && !c->has_most && view_eq(c->daemon, VIEW_LIT("paris-*")) && c->topic.data == NULL);
    answer(VERB_WORKER_CONTROL, (struct wire_reply){.code = E_WORKER_NOT_FOUND, .detail = VIEW_LIT("handler 'a' on 'paris-*'")});
    assert_int_equal(sluice_worker_control(client, &which, &what, NULL, NULL, &err), SLUICE_WORKER_NOT_FOUND);
    assert_string_equal(err.text, "no such worker: handler 'a' on 'paris-*'");
    which.handler = NULL;
    assert_int_equal(sluice_worker_control(client, &which, &what, NULL, NULL, &err), SLUICE_INVALID_ARGUMENT);
}

static void an_answer_without_sense_is_an_error(void **state)
{
    (void)state;
    const struct wire_reply odd = {.body = BODY_OFFSET};
    struct sluice_worker_list *workers;
    answer(VERB_WORKER_LIST, odd);
    assert_int_equal(sluice_workers(client, NULL, &workers, &err), SLUICE_BAD_FRAME);
    struct sluice_task_list *tasks;
    struct sluice_schedule_list *rows;
    struct sluice_state *row;
    struct sluice_explanation e = {.size = sizeof e};
    uint64_t task;
    answer(VERB_HELD_CHANGE, odd);
    assert_int_equal(sluice_dlq_drop(client, "t", "g", NULL, &task, &err), SLUICE_BAD_FRAME);
    answer(VERB_TASK_LIST, odd);
    assert_int_equal(sluice_tasks(client, 0, &tasks, &err), SLUICE_BAD_FRAME);
    answer(VERB_SCHED_LIST, odd);
    assert_int_equal(sluice_schedules(client, NULL, NULL, NULL, &rows, &err), SLUICE_BAD_FRAME);
    answer(VERB_EXPLAIN, odd);
    assert_int_equal(sluice_explain(client, "t", "g", NULL, &e, &err), SLUICE_BAD_FRAME);
    answer(VERB_STATE_GET, odd);
    assert_int_equal(sluice_state_get(client, "t", "g", SLUICE_STR("k"), &row, &err), SLUICE_BAD_FRAME);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(altering_names_the_fields_that_are_meant),
        TEST(pausing_and_purging_say_what_they_are),
        TEST(a_filter_says_to_the_broker_all_that_it_was_given),
        TEST(a_page_of_dead_letters_goes_on_where_the_broker_stopped_looking),
        TEST(tasks_are_shown_as_the_broker_tells_them),
        TEST(what_waits_is_paged_by_its_time_and_id),
        TEST(what_waits_is_cancelled_or_moved_by_its_name),
        TEST(an_explanation_is_of_a_message_a_key_or_the_group),
        TEST(a_report_says_all_of_a_daemon_and_brings_what_was_asked_of_it),
        TEST(workers_are_listed_page_by_page),
        TEST(a_control_says_whom_it_means_and_how_many_it_reached),
        TEST(an_answer_without_sense_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
