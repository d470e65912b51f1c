#include "unit.h"

#include "api/api.h"
#include "base/mem.h"
#include "schemas/errors.h"

/* ---- an api whose port keeps what comes, and operations that say how they ended */

struct fixture {
    struct api *api;
    int answer; /* of the port */
    unsigned submitted;
};

static int keep(void *ctx, struct op *op)
{
    (void)op;
    struct fixture *f = ctx;
    f->submitted++;
    return f->answer;
}

static unsigned finished;

static void finish(struct op *op)
{
    (void)op;
    finished++;
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){.answer = E_OK};
    finished = 0;
    const struct api_options o = {
        .limits = &engine_limits_default, .message_bytes_max = 8 << 20, .port = {keep, f}};
    f->api = api_new(&o);
}

static void end(struct fixture *f)
{
    api_free(f->api);
}

static const struct id128 session = {1, 2};

/* Submits a request; the code of its refusal, or OK when it reached the port. The text is left in `text`. */
static char text[ERR_TEXT_MAX];

static int submit(struct fixture *f, struct wire_request r)
{
    unsigned before = f->submitted, done = finished;
    struct op op = {.done = finish, .pipe = 1, .request = r};
    if (id128_is_zero(op.request.session))
        op.request.session = session;
    api_op_begin(&op);
    api_submit(f->api, &op);
    snprintf(text, sizeof text, "%s", op.error.text);
    int code = f->submitted > before && f->answer == E_OK ? E_OK : op.reply.code;
    assert_int_equal(finished - done, code == E_OK ? 0 : 1);
    api_op_end(&op);
    return code;
}

/* ---- the table */

static void every_verb_stands_in_the_table(void **state)
{
    (void)state;
    for (unsigned verb = VERB_HELLO; verb < VERB_COUNT; verb++)
        assert_non_null(api_verb(verb));
    assert_null(api_verb(VERB_NONE));
    assert_null(api_verb(VERB_COUNT));
    assert_null(api_verb(255));
}

static void what_changes_something_is_numbered_and_a_read_is_not(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request r = {.verb = VERB_TOPIC_DELETE, .topic = {.name = VIEW_LIT("t")}};
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "topic_delete.seq");
    r.seq = 1;
    assert_int_equal(submit(&f, r), E_OK);
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_HEALTH, .seq = 1}), E_INVALID_ARGUMENT);
    assert_has(text, "health.seq");
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_HEALTH}), E_OK);
    end(&f);
}

/* ---- the way through */

static struct wire_request fetch_of(uint32_t partition)
{
    static struct wire_fetch_from from;
    from = (struct wire_fetch_from){.partition = partition};
    return (struct wire_request){
        .verb = VERB_FETCH, .session = session, .fetch = {.from = &from, .from_n = 1}};
}

static void a_full_inbox_answers_overloaded_with_a_time(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.answer = E_OVERLOADED;
    struct op op = {.done = finish, .pipe = 1, .request = fetch_of(1)};
    api_op_begin(&op);
    api_submit(f.api, &op);
    assert_int_equal(op.reply.code, E_OVERLOADED);
    assert_true(op.reply.retry_after_ms > 0);
    assert_int_equal(finished, 1);
    api_op_end(&op);
    end(&f);
}

/* Encodes `r` and asks for it as `verb`. */
static int request(struct fixture *f, struct wire_request r, uint8_t verb, size_t cut)
{
    size_t cap = codec_request_bound(&r) + 16;
    uint8_t *room = mem_alloc(cap);
    struct codec_space space = {.data = room, .cap = cap};
    assert_int_equal(codec_request_encode(&r, &space), E_OK);
    struct op op = {.done = finish, .pipe = 1};
    api_op_begin(&op);
    op.hold = ref_new_copy(room + space.at, space.size - cut);
    unsigned before = f->submitted;
    api_request(f->api, &op, verb, ref_view(op.hold));
    int code = f->submitted > before ? E_OK : op.reply.code;
    snprintf(text, sizeof text, "%s", op.error.text);
    api_op_end(&op);
    mem_free(room);
    return code;
}

static void a_request_is_decoded_and_submitted(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(request(&f, fetch_of(3), VERB_FETCH, 0), E_OK);
    assert_int_equal(finished, 0);
    end(&f);
}

static void a_body_of_another_verb_than_the_frame_says_is_a_bad_frame(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(request(&f, fetch_of(3), VERB_RECEIVE, 0), E_BAD_FRAME);
    assert_has(text, "receive");
    assert_int_equal(request(&f, fetch_of(3), 0, 0), E_BAD_FRAME);
    assert_int_equal(request(&f, fetch_of(3), VERB_FETCH, 8), E_BAD_FRAME);
    end(&f);
}

static void a_verb_that_is_not_known_is_unsupported(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(request(&f, fetch_of(3), 200, 0), E_UNSUPPORTED);
    assert_has(text, "200");
    end(&f);
}

/* ---- the checks: each refusal names the thing */

static void hello_must_share_a_version_and_name_a_session(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request r = {
        .verb = VERB_HELLO, .session = session, .hello = {.version_min = 1, .version_max = 3}};
    assert_int_equal(submit(&f, r), E_OK);
    r.hello.version_min = 2;
    assert_int_equal(submit(&f, r), E_BAD_VERSION);
    r.hello = (struct wire_hello){.version_min = 0, .version_max = 0};
    assert_int_equal(submit(&f, r), E_BAD_VERSION);
    char name[300];
    memset(name, 'n', sizeof name);
    r.hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = view_of(name, sizeof name)};
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "hello.name");
    end(&f);
}

static void names_are_names(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request r = {.verb = VERB_TOPIC_CREATE, .seq = 1, .topic = {.name = VIEW_LIT("a b")}};
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "a b");
    r.topic.name = view_of(NULL, 0);
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    r.topic.name = VIEW_LIT("photos.small-2");
    assert_int_equal(submit(&f, r), E_OK);
    struct wire_request g = {
        .verb = VERB_GROUP_CREATE, .seq = 1, .group = {.topic = VIEW_LIT("t"), .name = VIEW_LIT("x/y")}};
    assert_int_equal(submit(&f, g), E_INVALID_ARGUMENT);
    assert_has(text, "x/y");
    assert_has(text, "group");
    end(&f);
}

static void configurations_stay_within_the_limits(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request t = {.verb = VERB_TOPIC_CREATE, .seq = 1, .topic = {.name = VIEW_LIT("t")}};
    t.topic.config.message_bytes_max = (8 << 20) + 1;
    assert_int_equal(submit(&f, t), E_LIMIT);
    assert_has(text, "message_bytes_max");
    t.topic.config = (struct wire_topic_config){.partitions = 10001};
    assert_int_equal(submit(&f, t), E_LIMIT);
    assert_has(text, "topic_partitions_max");
    t.topic.config = (struct wire_topic_config){.durability = 3};
    assert_int_equal(submit(&f, t), E_INVALID_ARGUMENT);
    assert_has(text, "durability");
    t.topic.config = (struct wire_topic_config){.retention_ms = 100, .hard_cap_ms = 99};
    assert_int_equal(submit(&f, t), E_INVALID_ARGUMENT);
    assert_has(text, "hard_cap_ms");

    struct wire_request g = {
        .verb = VERB_GROUP_CREATE, .seq = 1, .group = {.topic = VIEW_LIT("t"), .name = VIEW_LIT("g")}};
    const struct {
        struct wire_group_config config;
        int code;
        const char *names;
    } cases[] = {
        {{.mode = 3}, E_INVALID_ARGUMENT, "group.mode"},
        {{.order = 3}, E_INVALID_ARGUMENT, "group.order"},
        {{.park = 3}, E_INVALID_ARGUMENT, "group.park"},
        {{.from = 3}, E_INVALID_ARGUMENT, "group.from"},
        {{.lease_ms = 99}, E_INVALID_ARGUMENT, "group.lease_ms"},
        {{.lease_ms = 43200001}, E_LIMIT, "lease_ms_max"},
        {{.max_deliveries = 1001}, E_LIMIT, "max_deliveries"},
        {{.backoff_min_ms = 20, .backoff_max_ms = 10}, E_INVALID_ARGUMENT, "backoff_max_ms"},
        {{.in_flight_max = 1000001}, E_LIMIT, "group_in_flight_max"},
        {{.lease_ms = 100, .max_deliveries = 1000, .park = PARK_KEY}, E_OK, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        g.group.config = cases[i].config;
        assert_int_equal(submit(&f, g), cases[i].code);
        assert_has(text, cases[i].names);
    }
    end(&f);
}

static void a_receive_names_groups_a_slot_and_a_counter(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const uint32_t groups[] = {1};
    struct wire_request r = {.verb = VERB_RECEIVE,
                             .receive = {.counter = 1, .groups = groups, .groups_n = 1}};
    assert_int_equal(submit(&f, r), E_OK);
    r.receive.slot = 60;
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "receive.slot");
    r.receive.slot = 59;
    r.receive.counter = 0;
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "receive.counter");
    r.receive.counter = 1;
    r.receive.lease_ms = 50;
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "receive.lease_ms");
    r.receive.lease_ms = 0;
    r.receive.groups_n = 0;
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "receive.groups");
    end(&f);
}

static void what_a_client_gives_as_an_upper_bound_is_lowered_to_ours(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const uint32_t groups[] = {1};
    struct op op = {
        .done = finish,
        .request = {
            .verb = VERB_RECEIVE,
            .receive = {
                .counter = 1, .groups = groups, .groups_n = 1, .max_bytes = UINT32_MAX, .max_messages = 0}}};
    api_submit(f.api, &op);
    assert_int_equal(op.request.receive.max_bytes, engine_limits_default.reply_bytes_max);
    assert_int_equal(op.request.receive.max_messages, engine_limits_default.lease_messages_max);
    op.request = fetch_of(1);
    op.request.fetch.max_bytes = 100;
    api_submit(f.api, &op);
    assert_int_equal(op.request.fetch.max_bytes, 100);
    end(&f);
}

static void every_item_of_a_settle_says_something_that_can_be_done(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const struct wire_note notes[] = {{VIEW_LIT("reason"), VIEW_LIT("error")}};
    const struct {
        struct wire_settle_item item;
        int code;
        const char *names;
    } cases[] = {
        {{.verb = SETTLE_ACK}, E_OK, ""},
        {{.verb = SETTLE_PARK, .note = 1}, E_OK, ""},
        {{.verb = 0}, E_INVALID_ARGUMENT, "settle.singles[0]: verb 0"},
        {{.verb = 6}, E_INVALID_ARGUMENT, "settle.singles[0]: verb 6"},
        {{.verb = SETTLE_ACK, .flags = 2}, E_INVALID_ARGUMENT, "flags 0x02"},
        {{.verb = SETTLE_PARK, .note = 2}, E_INVALID_ARGUMENT, "note 2 of 1"},
        {{.verb = SETTLE_EXTEND, .delay_ms = 43200001}, E_LIMIT, "lease_ms_max"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct wire_request r = {
            .verb = VERB_SETTLE,
            .seq = 1,
            .settle = {.singles = &cases[i].item, .singles_n = 1, .notes = notes, .notes_n = 1}};
        assert_int_equal(submit(&f, r), cases[i].code);
        assert_has(text, cases[i].names);
    }
    end(&f);
}

static void units_are_checked_as_single_items_are(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const struct wire_settle_item items[] = {{.verb = SETTLE_ACK}, {.verb = 9}};
    const struct wire_unit units[] = {{.items = items, .items_n = 1}, {.items = items, .items_n = 2}};
    struct wire_request r = {.verb = VERB_SETTLE, .seq = 1, .settle = {.units = units, .units_n = 2}};
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "settle.units[1].items[1]: verb 9");
    r.settle.units_n = 1;
    assert_int_equal(submit(&f, r), E_OK);
    static uint8_t longer[262145];
    struct wire_state_put put = {.group = 1, .key = view_of(longer, 4096), .value = view_of(longer, 262144)};
    const struct wire_unit with_state = {.items = items, .items_n = 1, .state = &put, .state_n = 1};
    r.settle.units = &with_state;
    assert_int_equal(submit(&f, r), E_OK);
    put.value.size++;
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "settle.units[0]: state[0]: value");
    assert_has(text, "state_bytes_max");
    put.value.size = 0;
    put.key.size++;
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "settle.units[0]: state[0]: key");
    r.settle = (struct wire_settle){.singles = NULL};
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    end(&f);
}

static void notes_have_a_length(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    static char longer[5000];
    memset(longer, 'x', sizeof longer);
    const struct wire_settle_item item = {.verb = SETTLE_PARK, .note = 1};
    struct wire_note note = {.reason = view_of(longer, 201)};
    struct wire_request r = {.verb = VERB_SETTLE,
                             .seq = 1,
                             .settle = {.singles = &item, .singles_n = 1, .notes = &note, .notes_n = 1}};
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "settle.notes[0].reason");
    note = (struct wire_note){.reason = view_of(longer, 200), .error = view_of(longer, 4097)};
    assert_int_equal(submit(&f, r), E_LIMIT);
    assert_has(text, "settle.notes[0].error");
    note.error.size = 4096;
    assert_int_equal(submit(&f, r), E_OK);
    end(&f);
}

static void a_receive_that_a_settle_carries_is_checked_too(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const uint32_t groups[] = {1};
    const struct wire_receive receive = {.slot = 61, .counter = 1, .groups = groups, .groups_n = 1};
    const struct wire_request r = {.verb = VERB_SETTLE, .seq = 1, .settle = {.receive = &receive}};
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "settle.receive.slot");
    end(&f);
}

static void a_fetch_reads_from_somewhere(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request r = fetch_of(1);
    assert_int_equal(submit(&f, r), E_OK);
    r.fetch.from_n = 0;
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    assert_has(text, "fetch.from");
    end(&f);
}

static void lists_select_by_names(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request r = {.verb = VERB_GROUP_LAG};
    assert_int_equal(submit(&f, r), E_OK);
    r.list.topic = VIEW_LIT("no/such");
    assert_int_equal(submit(&f, r), E_INVALID_ARGUMENT);
    struct wire_request h = {.verb = VERB_HELD_LIST,
                             .held = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .state = 3}};
    assert_int_equal(submit(&f, h), E_INVALID_ARGUMENT);
    assert_has(text, "held_list.state");
    h.held.state = HELD_PARKED;
    assert_int_equal(submit(&f, h), E_OK);
    end(&f);
}

/* ---- walking through the lag */

static struct lag_walk *walk_of;
static struct op *walk_op;

static int answer_later(void *ctx, struct op *op)
{
    (void)ctx;
    walk_op = op;
    return E_OK;
}

static unsigned pages;

static void page(struct lag_walk *w)
{
    walk_of = w;
    pages++;
}

static void a_backup_is_named_and_nothing_else(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    static const char *const bad[] = {"", ".", "..", ".partial", "../other", "a/b", "/tmp/x", "a b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_BACKUP, .backup = {view_of_str(bad[i])}}), E_INVALID_ARGUMENT);
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_BACKUP}), E_INVALID_ARGUMENT);
    assert_has(text, "backup");
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_BACKUP, .backup = {VIEW_LIT("2026.a-b_c")}}), E_OK);
    assert_int_equal(api_verb(VERB_BACKUP)->right, RIGHT_ADMIN);
    end(&f);
}

static int report(struct fixture *f, const struct wire_worker *w) { return submit(f, (struct wire_request){.verb = VERB_WORKER_REPORT, .worker_report.worker = *w}); }

static int order(struct fixture *f, struct wire_worker_control c) { return submit(f, (struct wire_request){.verb = VERB_WORKER_CONTROL, .worker_control = c}); }

static void what_worker_daemons_say_is_checked_and_bounded(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    static const uint8_t much[300];
    const struct wire_worker_handler good = {.name = VIEW_LIT("email"), .topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .state = WORKER_RUNNING};
    struct wire_worker_handler h = good;
    const struct wire_worker daemon = {.name = VIEW_LIT("prog@host/1"), .host = VIEW_LIT("host"), .handlers = &h, .handlers_n = 1};
    struct wire_worker w = daemon;
    assert_int_equal(report(&f, &w), E_OK);
    w.name = VIEW_LIT("");
    assert_int_equal(report(&f, &w), E_INVALID_ARGUMENT);
    assert_has(text, "worker_report.name");
    w.name = view_of(much, 201);
    assert_int_equal(report(&f, &w), E_LIMIT);
    w = daemon;
    w.host = view_of(NULL, 0);
    assert_int_equal(report(&f, &w), E_INVALID_ARGUMENT);
    w = daemon;
    h.error = view_of(much, WIRE_WORKER_TEXT_MAX);
    assert_int_equal(report(&f, &w), E_OK);
    struct view *const texts[] = {&h.error, &h.why, &h.taken_text, &h.version};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        h = good;
        *texts[i] = view_of(much, WIRE_WORKER_TEXT_MAX + 1);
        assert_int_equal(report(&f, &w), E_LIMIT);
    }
    struct view *const names[] = {&h.name, &h.topic, &h.group};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        h = good;
        *names[i] = VIEW_LIT("a/b");
        assert_int_equal(report(&f, &w), E_INVALID_ARGUMENT);
    }
    h = good;
    h.state = WORKER_STARTING + 1;
    assert_int_equal(report(&f, &w), E_INVALID_ARGUMENT);
    end(&f);
}

static void what_is_asked_of_worker_daemons_makes_sense(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const struct view email = VIEW_LIT("email"), topic = VIEW_LIT("t"), group = VIEW_LIT("g");
    assert_int_equal(order(&f, (struct wire_worker_control){.act = WORKER_PAUSE, .handler = email}), E_OK);
    assert_int_equal(order(&f, (struct wire_worker_control){.act = WORKER_RESUME, .topic = topic, .group = group}), E_OK);
    assert_int_equal(order(&f, (struct wire_worker_control){.act = WORKER_PAUSE, .topic = topic}), E_INVALID_ARGUMENT); /* not everything by mistake */
    assert_has(text, "which handler");
    assert_int_equal(order(&f, (struct wire_worker_control){.act = WORKER_PAUSE}), E_INVALID_ARGUMENT);
    assert_int_equal(order(&f, (struct wire_worker_control){.act = 4, .handler = email}), E_INVALID_ARGUMENT);
    assert_int_equal(order(&f, (struct wire_worker_control){.handler = email}), E_INVALID_ARGUMENT);
    assert_int_equal(order(&f, (struct wire_worker_control){.act = WORKER_PAUSE, .handler = email, .daemon = VIEW_LIT("")}), E_INVALID_ARGUMENT);
    struct wire_worker_control scale = {.act = WORKER_SCALE, .handler = email};
    assert_int_equal(order(&f, scale), E_INVALID_ARGUMENT);
    scale.has_least = scale.has_most = true;
    scale.most = 3;
    assert_int_equal(order(&f, scale), E_OK);
    scale.least = 4;
    assert_int_equal(order(&f, scale), E_INVALID_ARGUMENT);
    scale.least = scale.most = 0;
    assert_int_equal(order(&f, scale), E_INVALID_ARGUMENT);
    assert_has(text, "pause");
    scale.most = WIRE_PROCESSES_MAX + 1;
    assert_int_equal(order(&f, scale), E_LIMIT);
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_WORKER_LIST, .worker_list = {.topic = VIEW_LIT("a b")}}), E_INVALID_ARGUMENT);
    assert_int_equal(submit(&f, (struct wire_request){.verb = VERB_WORKER_LIST}), E_OK);
    assert_int_equal(api_verb(VERB_WORKER_CONTROL)->right, RIGHT_ADMIN);
    end(&f);
}

static void what_members_of_stream_groups_ask_is_checked(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct wire_request join = {.verb = VERB_GROUP_JOIN, .join = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g")}};
    assert_int_equal(submit(&f, join), E_OK);
    join.join.timeout_ms = 99;
    assert_int_equal(submit(&f, join), E_INVALID_ARGUMENT);
    assert_has(text, "group_join.timeout_ms");
    join.join.timeout_ms = 3600001;
    assert_int_equal(submit(&f, join), E_LIMIT);
    assert_has(text, "member_timeout_ms_max");
    join.join.timeout_ms = 3600000;
    join.join.name = VIEW_LIT("a/b");
    assert_int_equal(submit(&f, join), E_INVALID_ARGUMENT);
    assert_has(text, "group_join.name");

    struct wire_request commit = {.verb = VERB_GROUP_COMMIT, .seq = 1, .commit = {.group = 1}};
    assert_int_equal(submit(&f, commit), E_INVALID_ARGUMENT);
    assert_has(text, "group_commit.items");
    const struct wire_place place = {.partition = 1, .offset = 7};
    commit.commit.items = &place;
    commit.commit.items_n = 1;
    assert_int_equal(submit(&f, commit), E_OK);

    struct wire_request seek = {.verb = VERB_GROUP_SEEK, .seq = 1, .seek = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .to = 5}};
    assert_int_equal(submit(&f, seek), E_INVALID_ARGUMENT);
    assert_has(text, "group_seek.to");
    seek.seek.to = SEEK_TO_OFFSETS;
    assert_int_equal(submit(&f, seek), E_INVALID_ARGUMENT);
    assert_has(text, "group_seek.items");
    seek.seek.items = &place;
    seek.seek.items_n = 1;
    assert_int_equal(submit(&f, seek), E_OK);
    seek.seek.to = SEEK_TO_GROUP;
    assert_int_equal(submit(&f, seek), E_INVALID_ARGUMENT);
    assert_has(text, "group_seek.other");
    end(&f);
}

static void a_walk_goes_on_behind_the_last_row(void **state)
{
    (void)state;
    const struct api_options o = {
        .limits = &engine_limits_default, .message_bytes_max = 1, .port = {answer_later, NULL}};
    struct api *api = api_new(&o);
    struct lag_walk w;
    api_lag_begin(api, &w, page);
    api_lag_next(&w);
    assert_int_equal(walk_op->pipe, 0);
    assert_null(walk_op->request.list.after.data);

    const struct wire_lag row = {.topic = VIEW_LIT("photos"), .group = VIEW_LIT("thumbnail")};
    walk_op->reply = (struct wire_reply){.body = BODY_LAG, .lag = {.rows = &row, .rows_n = 1, .more = true}};
    walk_op->done(walk_op);
    assert_int_equal(pages, 1);
    assert_true(api_lag_more(&w));
    api_lag_next(&w);
    assert_true(view_eq(walk_op->request.list.after, VIEW_LIT("photos/thumbnail")));
    walk_op->reply = (struct wire_reply){.body = BODY_LAG};
    walk_op->done(walk_op);
    assert_false(api_lag_more(&w));
    api_lag_end(&w);
    api_free(api);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_stands_in_the_table),
        cmocka_unit_test(what_changes_something_is_numbered_and_a_read_is_not),
        cmocka_unit_test(a_full_inbox_answers_overloaded_with_a_time),
        cmocka_unit_test(a_request_is_decoded_and_submitted),
        cmocka_unit_test(a_body_of_another_verb_than_the_frame_says_is_a_bad_frame),
        cmocka_unit_test(a_verb_that_is_not_known_is_unsupported),
        cmocka_unit_test(hello_must_share_a_version_and_name_a_session),
        cmocka_unit_test(names_are_names),
        cmocka_unit_test(configurations_stay_within_the_limits),
        cmocka_unit_test(a_receive_names_groups_a_slot_and_a_counter),
        cmocka_unit_test(what_a_client_gives_as_an_upper_bound_is_lowered_to_ours),
        cmocka_unit_test(every_item_of_a_settle_says_something_that_can_be_done),
        cmocka_unit_test(units_are_checked_as_single_items_are),
        cmocka_unit_test(notes_have_a_length),
        cmocka_unit_test(a_receive_that_a_settle_carries_is_checked_too),
        cmocka_unit_test(a_fetch_reads_from_somewhere),
        cmocka_unit_test(lists_select_by_names),
        cmocka_unit_test(a_backup_is_named_and_nothing_else),
        cmocka_unit_test(what_worker_daemons_say_is_checked_and_bounded),
        cmocka_unit_test(what_is_asked_of_worker_daemons_makes_sense),
        cmocka_unit_test(what_members_of_stream_groups_ask_is_checked),
        cmocka_unit_test(a_walk_goes_on_behind_the_last_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
