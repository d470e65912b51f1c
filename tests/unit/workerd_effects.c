/*
 * What a handler asks to be done with its acknowledgement: taken by the host, told in a packet, understood by
 * the daemon; what becomes of a task of which the broker refused it; and the helper of sluice/once.h, which
 * lives on it.
 */
#include "unit.h"

#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "workerd/host.h"
#include "workerd/pipe.h"
#include "workerd/refusal.h"

#define SLUICE_ONCE_IDS 4
#include <sluice/once.h>

#define HOST(type, name) ((type *)host.seen.function(&host.seen, name))
#define SLICE(s) ((struct sluice_slice){"" s, sizeof("" s) - 1})

static const struct sluice_slice none;
static struct host host;
static struct host_task *task;

static void send_nothing(const struct plugin_packet *packet)
{
    (void)packet;
}

/* A task as it comes out of a packet. */
static struct host_task *task_with(struct view key, uint64_t version, struct view state)
{
    struct plugin_packet p = {.kind = PLUGIN_TASK,
                              .task = {.id = 1,
                                       .topic = VIEW_LIT("t"),
                                       .group = VIEW_LIT("g"),
                                       .key = key,
                                       .value = VIEW_LIT("v"),
                                       .idempotency_key = VIEW_LIT("t/0/17/g"),
                                       .state_version = version,
                                       .state = state}};
    struct codec_space space = {.cap = codec_plugin_bound(&p)};
    space.data = mem_alloc(space.cap);
    assert_int_equal(codec_plugin_encode(&p, &space), 0);
    uint8_t *bytes = mem_dup(space.data + space.at, space.size);
    mem_free(space.data);
    struct host_task *t = host_task_new(bytes, space.size);
    assert_non_null(t);
    return t;
}

static void begin_with(uint64_t version, struct view state)
{
    host_task_free(task);
    task = task_with(VIEW_LIT("k"), version, state);
}

static int begin(void **state)
{
    (void)state;
    host_init(&host, "tester", "{}", send_nothing);
    begin_with(0, view_of(NULL, 0));
    return 0;
}

static int end(void **state)
{
    (void)state;
    host_task_free(task);
    task = NULL;
    return 0;
}

static int publish(struct sluice_slice key, struct sluice_slice value)
{
    return HOST(sluice_publish_output_fn, "publish")(&host.seen, &task->seen, "out", key, value, 0);
}

static int publish_message(const struct sluice_output *o)
{
    return HOST(sluice_publish_message_fn, "publish_message")(&host.seen, &task->seen, o);
}

static int put(struct sluice_slice value)
{
    return HOST(sluice_state_put_fn, "state_put")(&host.seen, &task->seen, value);
}

static int take_away(void)
{
    return HOST(sluice_state_remove_fn, "state_remove")(&host.seen, &task->seen);
}

static struct sluice_slice get(uint64_t *version)
{
    struct sluice_slice value;
    assert_int_equal(HOST(sluice_state_get_fn, "state_get")(&host.seen, &task->seen, &value, version),
                     SLUICE_HOST_OK);
    return value;
}

static void assert_slice(struct sluice_slice got, struct sluice_slice expected)
{
    assert_true(view_eq(view_of(got.data, got.size), view_of(expected.data, expected.size)));
}

/* What the daemon gets of the task as it is: through a packet, as a pipe would carry it. */
static struct effects *delivered(void)
{
    struct plugin_packet p = {.kind = PLUGIN_VERDICT, .verdict = {.id = 1, .verdict = PLUGIN_ACK}}, back;
    struct arena arena;
    effects_tell(&task->effects, &p);
    struct codec_space space = {.cap = codec_plugin_bound(&p)};
    assert_true(space.cap <= PIPE_PACKET_MAX);
    space.data = mem_alloc(space.cap);
    assert_int_equal(codec_plugin_encode(&p, &space), 0);
    uint8_t *bytes = mem_dup(space.data + space.at, space.size);
    arena_init(&arena, 1 << 20); /* the daemon's limit for one packet */
    assert_int_equal(codec_plugin_decode(view_of(bytes, space.size), &back, &arena, NULL), 0);
    struct effects *x = effects_of(&back);
    arena_free(&arena);
    mem_free(bytes);
    mem_free(space.data);
    return x;
}

/* ---- outputs ---- */

static void an_output_arrives_as_it_was_given(void **state)
{
    (void)state;
    char topic[8] = "audit", value[8] = "paid";
    struct sluice_output_header headers[] = {{"colour", SLICE("blue")}, {"size", none}};
    assert_int_equal(publish_message(&(struct sluice_output){.size = sizeof(struct sluice_output),
                                                             .topic = topic,
                                                             .key = SLICE("account"),
                                                             .value = {value, 4},
                                                             .headers = headers,
                                                             .headers_count = 2,
                                                             .delay_ms = 5,
                                                             .timestamp_ms = 6,
                                                             .ttl_ms = 7,
                                                             .priority = 8,
                                                             .message_id = "m-1"}),
                     SLUICE_HOST_OK);
    assert_int_equal(publish(none, SLICE("")), SLUICE_HOST_OK);
    assert_int_equal(publish(SLICE(""), none), SLUICE_HOST_OK);
    memset(topic, 'x', sizeof topic); /* all was copied */
    memset(value, 'x', sizeof value);
    struct effects *x = delivered();
    struct view found;
    assert_int_equal(x->outputs_n, 3);
    const struct plugin_output *o = x->outputs;
    assert_true(view_eq(o->topic, VIEW_LIT("audit")) && view_eq(o->key, VIEW_LIT("account")) &&
                view_eq(o->value, VIEW_LIT("paid")) && view_eq(o->message_id, VIEW_LIT("m-1")));
    assert_true(o->delay_ms == 5 && o->timestamp_ms == 6 && o->ttl_ms == 7 && o->priority == 8);
    assert_true(headers_find(o->headers, VIEW_LIT("colour"), &found) && view_eq(found, VIEW_LIT("blue")));
    assert_true(headers_find(o->headers, VIEW_LIT("size"), &found) && found.size == 0);
    assert_true(o[1].key.data == NULL && view_eq(o[1].value, VIEW_LIT("")));
    assert_true(o[2].value.data == NULL && view_eq(o[2].key, VIEW_LIT("")));
    assert_null(o[1].message_id.data);
    assert_false(x->has_state);
    effects_free(x);
}

static void a_task_that_asks_for_nothing_has_no_effects(void **state)
{
    (void)state;
    assert_null(delivered());
}

static void what_cannot_be_published_is_refused_and_nothing_of_it_taken(void **state)
{
    (void)state;
    static char long_name[WIRE_NAME_MAX + 2], long_key[WIRE_KEY_MAX + 1];
    struct sluice_output_header nameless = {NULL, none}, many[WIRE_HEADERS_MAX + 1];
    memset(long_name, 'n', sizeof long_name - 1);
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct sluice_output_header){"h", none};
    struct sluice_output good = {.size = sizeof good, .topic = "out"}, o;
    assert_int_equal(publish_message((o = good, o.topic = NULL, &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.topic = "", &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.topic = long_name, &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.size = 8, &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.priority = 10, &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.message_id = "", &o)), SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.headers = &nameless, o.headers_count = 1, &o)),
                     SLUICE_HOST_INVALID);
    assert_int_equal(publish_message((o = good, o.headers = many, o.headers_count = ARRAY_LEN(many), &o)),
                     SLUICE_HOST_TOO_LARGE);
    assert_int_equal(publish((struct sluice_slice){long_key, sizeof long_key}, none), SLUICE_HOST_TOO_LARGE);
    assert_null(delivered());
}

static void a_task_has_so_many_outputs_and_no_more(void **state)
{
    (void)state;
    for (int i = 0; i < EFFECTS_OUTPUTS_MAX; i++)
        assert_int_equal(publish(SLICE("key"), SLICE("value")), SLUICE_HOST_OK);
    assert_int_equal(publish(SLICE("key"), SLICE("value")), SLUICE_HOST_TOO_LARGE);
    struct effects *x = delivered(); /* fits the daemon's memory for a packet */
    assert_int_equal(x->outputs_n, 4096);
    effects_free(x);
}

static void outputs_and_state_have_so_many_bytes_and_no_more(void **state)
{
    (void)state;
    size_t half = EFFECTS_BYTES_MAX / 2;
    struct sluice_slice large = {mem_zalloc(half), half}, huge = {large.data, SIZE_MAX};
    assert_int_equal(put(large), SLUICE_HOST_OK);
    assert_int_equal(publish(none, large),
                     SLUICE_HOST_TOO_LARGE); /* with the topic and what an output costs */
    assert_int_equal(publish(none, huge), SLUICE_HOST_TOO_LARGE);
    assert_int_equal(put(huge), SLUICE_HOST_TOO_LARGE);
    assert_slice(get(NULL), large); /* what was said before stands */
    assert_int_equal(put(SLICE("small")), SLUICE_HOST_OK);
    assert_int_equal(publish(none, large), SLUICE_HOST_OK); /* what a put replaced counts no more */
    assert_int_equal(put(large), SLUICE_HOST_TOO_LARGE);
    struct effects *x = delivered();
    assert_int_equal(x->outputs[0].value.size, half);
    assert_true(view_eq(x->state, VIEW_LIT("small")));
    effects_free(x);
    mem_free((void *)large.data);
}

/* ---- state ---- */

static void a_task_reads_the_state_that_came_with_it_and_writes_over_its_version(void **state)
{
    (void)state;
    uint64_t version;
    begin_with(12, VIEW_LIT("old"));
    assert_slice(get(&version), SLICE("old"));
    assert_int_equal(version, 12);
    assert_int_equal(put(SLICE("new")), SLUICE_HOST_OK);
    assert_slice(get(&version), SLICE("new"));
    assert_int_equal(version, 12);
    assert_int_equal(put(SLICE("")), SLUICE_HOST_OK);
    struct effects *x = delivered();
    assert_true(x->has_state && !x->state_remove && x->state_version == 12);
    assert_true(view_eq(x->state, VIEW_LIT("")));
    effects_free(x);
}

static void a_task_without_state_writes_the_first_one(void **state)
{
    (void)state;
    uint64_t version = 9;
    assert_slice(get(&version), none);
    assert_int_equal(version, 0);
    assert_int_equal(put(none), SLUICE_HOST_INVALID); /* to take it away is another call */
    assert_int_equal(put(SLICE("first")), SLUICE_HOST_OK);
    struct effects *x = delivered();
    assert_true(x->has_state && x->state_version == 0);
    effects_free(x);
}

static void a_state_can_be_taken_away(void **state)
{
    (void)state;
    begin_with(12, VIEW_LIT("old"));
    assert_int_equal(put(SLICE("new")), SLUICE_HOST_OK);
    assert_int_equal(take_away(), SLUICE_HOST_OK);
    assert_slice(get(NULL), none);
    struct effects *x = delivered();
    assert_true(x->has_state && x->state_remove && x->state_version == 12);
    effects_free(x);
}

static void a_task_without_a_key_has_no_state(void **state)
{
    (void)state;
    struct sluice_slice value;
    uint64_t version;
    host_task_free(task);
    task = task_with(view_of(NULL, 0), 0, view_of(NULL, 0));
    assert_int_equal(HOST(sluice_state_get_fn, "state_get")(&host.seen, &task->seen, &value, &version),
                     SLUICE_HOST_INVALID);
    assert_int_equal(put(SLICE("x")), SLUICE_HOST_INVALID);
    assert_int_equal(take_away(), SLUICE_HOST_INVALID);
    assert_int_equal(publish(none, SLICE("x")), SLUICE_HOST_OK); /* but outputs */
}

/* ---- refusals ---- */

static void what_becomes_of_a_refused_task_is_a_table(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum refusal unit, plain;
    } rows[] = {
        {E_QUEUE_FULL, REFUSAL_AGAIN, REFUSAL_AGAIN},    {E_OVERLOADED, REFUSAL_AGAIN, REFUSAL_AGAIN},
        {E_DISK_FULL, REFUSAL_AGAIN, REFUSAL_AGAIN},     {E_UNREACHABLE, REFUSAL_AGAIN, REFUSAL_AGAIN},
        {E_OUT_OF_ORDER, REFUSAL_AGAIN, REFUSAL_AGAIN},  {E_CONFLICT, REFUSAL_RELEASE, REFUSAL_LOST},
        {E_TOPIC_NOT_FOUND, REFUSAL_FAIL, REFUSAL_LOST}, {E_TOO_LARGE, REFUSAL_FAIL, REFUSAL_LOST},
        {E_DUPLICATE, REFUSAL_FAIL, REFUSAL_LOST},       {E_LEASE_LOST, REFUSAL_LOST, REFUSAL_LOST},
        {E_SESSION_EXPIRED, REFUSAL_LOST, REFUSAL_LOST}, {E_TIMEOUT, REFUSAL_LOST, REFUSAL_LOST},
        {E_CLOSED, REFUSAL_LOST, REFUSAL_LOST},
    };
    struct conflicts c = {0};
    struct effects x = {.outputs_n = 1};
    struct task unit = {.effects = &x}, plain = {0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(refusal_judge(&c, &unit, OUTCOME_ACK, rows[i].code), rows[i].unit);
        assert_int_equal(refusal_judge(&c, &plain, OUTCOME_ACK, rows[i].code), rows[i].plain);
        assert_int_equal(refusal_judge(&c, &plain, OUTCOME_RELEASE, rows[i].code), rows[i].plain);
    }
}

static void conflicts_in_a_row_are_bounded_for_each_message(void **state)
{
    (void)state;
    struct conflicts c = {0};
    struct effects x = {.has_state = true};
    struct task a = {.offset = 7, .effects = &x}, b = {.offset = 8, .effects = &x};
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i < CONFLICTS_MAX; i++)
            assert_int_equal(refusal_judge(&c, &a, OUTCOME_ACK, E_CONFLICT), REFUSAL_RELEASE);
        assert_int_equal(refusal_judge(&c, &a, OUTCOME_ACK, E_CONFLICT), REFUSAL_FAIL);
        assert_int_equal(refusal_judge(&c, &b, OUTCOME_ACK, E_CONFLICT), REFUSAL_RELEASE); /* its own */
    }
    for (int i = 0; i < 2 * CONFLICTS_MAX; i++) {
        assert_int_equal(refusal_judge(&c, &a, OUTCOME_ACK, E_CONFLICT), REFUSAL_RELEASE);
        conflicts_forget(&c, &a); /* in between it was done */
    }
}

/* ---- once ---- */

static struct sluice_once once;

static int look(const char *id, struct sluice_slice about)
{
    struct sluice_slice bytes = {id, id != NULL ? strlen(id) : 0};
    int code = sluice_once_look(&once, &host.seen, &task->seen, bytes, about);
    assert_int_equal(code, SLUICE_HOST_OK);
    return once.seen;
}

/* The task is over, and the next one of the key begins. */
static void commit(void)
{
    static uint64_t version;
    struct effects *x = delivered();
    if (x == NULL)
        return;
    assert_true(x->has_state);
    begin_with(++version, x->state);
    effects_free(x);
}

static void keep(struct sluice_slice own)
{
    assert_int_equal(sluice_once_keep(&once, own), SLUICE_HOST_OK);
    commit();
}

static void an_id_is_new_once(void **state)
{
    (void)state;
    assert_int_equal(look("ch_1", none), SLUICE_ONCE_NEW);
    assert_slice(once.state, none);
    keep(SLICE("100"));
    assert_int_equal(look("ch_1", none), SLUICE_ONCE_SEEN);
    assert_slice(once.state, SLICE("100"));
    assert_int_equal(look("ch_10", none), SLUICE_ONCE_NEW);
    assert_int_equal(look("ch_", none), SLUICE_ONCE_NEW);
}

static void an_id_that_was_looked_at_and_not_kept_is_new(void **state)
{
    (void)state;
    look("ch_1", none);
    commit();
    assert_int_equal(look("ch_1", none), SLUICE_ONCE_NEW);
}

static void without_an_id_the_message_is_meant(void **state)
{
    (void)state;
    assert_int_equal(look(NULL, none), SLUICE_ONCE_NEW);
    keep(none);
    assert_int_equal(look(NULL, none), SLUICE_ONCE_SEEN);
    assert_slice(once.state, none);
    assert_int_equal(look("t/0/17/g", none), SLUICE_ONCE_SEEN);
}

static void an_id_about_something_else_differs(void **state)
{
    (void)state;
    look("ch_1", SLICE("250"));
    keep(none);
    assert_int_equal(look("ch_1", SLICE("250")), SLUICE_ONCE_SEEN);
    assert_int_equal(look("ch_1", SLICE("205")), SLUICE_ONCE_DIFFERS);
    assert_int_equal(look("ch_1", none), SLUICE_ONCE_SEEN); /* not asked */
}

static void the_last_ids_of_a_key_are_remembered_and_no_more(void **state)
{
    (void)state;
    char id[16];
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "ch_%d", i);
        assert_int_equal(look(id, none), SLUICE_ONCE_NEW);
        keep(SLICE("own"));
    }
    assert_int_equal(task->state.size, 13 + 4 * (9 + 4) + 3);
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "ch_%d", i);
        assert_int_equal(look(id, none), i < 10 - SLUICE_ONCE_IDS ? SLUICE_ONCE_NEW : SLUICE_ONCE_SEEN);
    }
    keep(SLICE("other")); /* of one that was seen: the ids stay as they are */
    assert_int_equal(look("ch_6", none), SLUICE_ONCE_SEEN);
    assert_int_equal(look("ch_9", none), SLUICE_ONCE_SEEN);
    assert_slice(once.state, SLICE("other"));
}

static void several_ids_of_one_task_are_kept_one_after_the_other(void **state)
{
    (void)state;
    assert_int_equal(look("a", none), SLUICE_ONCE_NEW);
    assert_int_equal(sluice_once_keep(&once, SLICE("1")), SLUICE_HOST_OK);
    assert_int_equal(look("a", none), SLUICE_ONCE_SEEN);
    assert_int_equal(look("b", none), SLUICE_ONCE_NEW);
    keep(once.state);
    assert_int_equal(look("a", none), SLUICE_ONCE_SEEN);
    assert_int_equal(look("b", none), SLUICE_ONCE_SEEN);
    assert_slice(once.state, SLICE("1"));
}

static void a_row_from_before_the_helper_is_taken_over(void **state)
{
    (void)state;
    begin_with(3, VIEW_LIT("sluonce-looks-like-it"));
    assert_int_equal(look("a", none), SLUICE_ONCE_NEW);
    assert_slice(once.state, SLICE("sluonce-looks-like-it"));
    keep(once.state);
    assert_int_equal(look("a", none), SLUICE_ONCE_SEEN);
    assert_slice(once.state, SLICE("sluonce-looks-like-it"));
}

static void what_is_no_id_or_no_row_is_refused(void **state)
{
    (void)state;
    char text[257] = "";
    memset(text, 'i', 256);
    assert_int_equal(sluice_once_look(&once, &host.seen, &task->seen, (struct sluice_slice){text, 256}, none),
                     SLUICE_HOST_INVALID);
    assert_int_equal(sluice_once_look(&once, &host.seen, &task->seen, SLICE(""), none), SLUICE_HOST_INVALID);
    text[255] = '\0';
    assert_int_equal(look(text, none), SLUICE_ONCE_NEW);
    begin_with(3, VIEW_LIT("sluonce1\xff\xff\xff\xff...."));
    assert_int_equal(sluice_once_look(&once, &host.seen, &task->seen, SLICE("a"), none), SLUICE_HOST_INVALID);
    /* ids that say to be longer than they are */
    begin_with(3, VIEW_LIT("sluonce1\x0a\0\0\0\x05"
                           "12345678x\0"));
    assert_int_equal(look("a", none), SLUICE_ONCE_NEW);
    host_task_free(task);
    task = task_with(view_of(NULL, 0), 0, view_of(NULL, 0));
    assert_int_equal(sluice_once_look(&once, &host.seen, &task->seen, SLICE("a"), none), SLUICE_HOST_INVALID);
}

/* ---- */

#define RUN(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(an_output_arrives_as_it_was_given),
        RUN(a_task_that_asks_for_nothing_has_no_effects),
        RUN(what_cannot_be_published_is_refused_and_nothing_of_it_taken),
        RUN(a_task_has_so_many_outputs_and_no_more),
        RUN(outputs_and_state_have_so_many_bytes_and_no_more),
        RUN(a_task_reads_the_state_that_came_with_it_and_writes_over_its_version),
        RUN(a_task_without_state_writes_the_first_one),
        RUN(a_state_can_be_taken_away),
        RUN(a_task_without_a_key_has_no_state),
        RUN(what_becomes_of_a_refused_task_is_a_table),
        RUN(conflicts_in_a_row_are_bounded_for_each_message),
        RUN(an_id_is_new_once),
        RUN(an_id_that_was_looked_at_and_not_kept_is_new),
        RUN(without_an_id_the_message_is_meant),
        RUN(an_id_about_something_else_differs),
        RUN(the_last_ids_of_a_key_are_remembered_and_no_more),
        RUN(several_ids_of_one_task_are_kept_one_after_the_other),
        RUN(a_row_from_before_the_helper_is_taken_over),
        RUN(what_is_no_id_or_no_row_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
