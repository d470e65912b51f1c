/* Stream groups: members that own partitions, at most one each, and commit how far they are. */
#include "engine_kit.h"

enum { TIMEOUT = 3000 };

/* A member as it sees itself: what it was told last. */
struct reader {
    int who;
    uint32_t number, parts_n;
    uint64_t version;
    struct wire_place parts[16];
    struct call *waiting;
};

static struct kit_world begin(uint32_t partitions) { return kit_world_of(partitions, (struct wire_group_config){.mode = MODE_STREAM}); }

static int told(struct reader *r, const struct wire_reply *reply)
{
    if (reply->code != E_OK)
        return reply->code;
    r->version = reply->member.version;
    if (!reply->member.changed)
        return E_OK;
    r->parts_n = reply->member.assigned_n;
    assert_true(r->parts_n <= ARRAY_LEN(r->parts));
    for (uint32_t i = 0; i < r->parts_n; i++)
        r->parts[i] = reply->member.assigned[i];
    return E_OK;
}

static struct wire_request join_request(const struct kit_world *w, const struct reader *r, const char *name)
{
    struct wire_request q = kit_request(w->k, r->who, VERB_GROUP_JOIN);
    q.join = (struct wire_group_join){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .member = r->number, .timeout_ms = TIMEOUT};
    if (name != NULL)
        q.join.name = view_of_str(name);
    return q;
}

static int join_named(const struct kit_world *w, struct reader *r, int who, uint32_t number, const char *name)
{
    *r = (struct reader){.who = who, .number = number};
    return told(r, kit_ask(w->k, join_request(w, r, name), who));
}

static int join(const struct kit_world *w, struct reader *r, int who) { return join_named(w, r, who, 1, NULL); }

static struct wire_request beat_request(const struct kit_world *w, const struct reader *r, uint32_t wait_ms)
{
    struct wire_request q = kit_request(w->k, r->who, VERB_GROUP_HEARTBEAT);
    q.heartbeat = (struct wire_group_heartbeat){.group = w->g, .member = r->number, .version = r->version, .wait_ms = wait_ms};
    return q;
}

static int beat(const struct kit_world *w, struct reader *r) { return told(r, kit_ask(w->k, beat_request(w, r, 0), r->who)); }

/* Begins to wait for news. */
static void listen(const struct kit_world *w, struct reader *r) { r->waiting = kit_call(w->k, beat_request(w, r, 60000), r->who); }

static bool heard(struct reader *r)
{
    if (r->waiting == NULL || !r->waiting->answered)
        return false;
    assert_int_equal(told(r, kit_reply(r->waiting)), E_OK);
    r->waiting = NULL;
    return true;
}

/* Gives up what it is told to, in one heartbeat. */
static int release(const struct kit_world *w, struct reader *r)
{
    struct wire_place given[16];
    struct wire_request q = beat_request(w, r, 0);
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < r->parts_n; i++)
        if (r->parts[i].flags & PLACE_REVOKED)
            given[n++] = r->parts[i];
        else
            r->parts[kept++] = r->parts[i];
    r->parts_n = kept;
    q.heartbeat.released = given;
    q.heartbeat.released_n = n;
    return told(r, kit_ask(w->k, q, r->who));
}

/* What it owns by its own view: "0 1-": partitions by index, '-' is to be given up. */
static const char *owns(const struct kit_world *w, const struct reader *r)
{
    static char texts[4][64];
    static int next;
    char *text = texts[next++ % 4], *at = text;
    *at = '\0';
    for (uint32_t p = 0; p < 16; p++)
        for (uint32_t i = 0; i < r->parts_n; i++)
            if (r->parts[i].partition == w->p + p)
                at += sprintf(at, "%s%u%s", at > text ? " " : "", p, r->parts[i].flags & PLACE_REVOKED ? "-" : "");
    return text;
}

static const struct wire_place *part_of(const struct kit_world *w, const struct reader *r, uint32_t index)
{
    for (uint32_t i = 0; i < r->parts_n; i++)
        if (r->parts[i].partition == w->p + index)
            return &r->parts[i];
    fail_msg("it does not own %u", index);
    return NULL;
}

static struct wire_request commit_request_of(const struct kit_world *w, int who, const struct wire_place *items, uint32_t n)
{
    struct wire_request q = kit_request(w->k, who, VERB_GROUP_COMMIT);
    q.commit = (struct wire_group_commit){.group = w->g, .items = items, .items_n = n};
    return q;
}

static int commit_place(const struct kit_world *w, int who, struct wire_place item)
{
    const struct wire_reply *reply = kit_ask_numbered(w->k, commit_request_of(w, who, &item, 1), who);
    return reply->code != E_OK ? reply->code : reply->commit.codes_n == 0 ? E_OK : reply->commit.codes[0];
}

static int commit(const struct kit_world *w, const struct reader *r, uint32_t index, uint64_t offset)
{
    struct wire_place item = *part_of(w, r, index);
    item.offset = offset;
    return commit_place(w, r->who, item);
}

static const struct wire_reply *members(const struct kit_world *w)
{
    struct wire_request q = kit_request(w->k, A, VERB_GROUP_MEMBERS);
    q.members = (struct wire_group_members){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g")};
    return kit_ask(w->k, q, A);
}

static uint64_t committed(const struct kit_world *w, uint32_t index) { return members(w)->members.partitions[index].committed; }

static const struct wire_reply *seek(const struct kit_world *w, struct wire_group_seek s)
{
    struct wire_request q = kit_request(w->k, A, VERB_GROUP_SEEK);
    s.topic = VIEW_LIT("t");
    s.group = VIEW_LIT("g");
    q.seek = s;
    return kit_ask_numbered(w->k, q, A);
}

static int leave(const struct kit_world *w, const struct reader *r, bool keep)
{
    struct wire_request q = kit_request(w->k, r->who, VERB_GROUP_LEAVE);
    q.leave = (struct wire_group_leave){.group = w->g, .member = r->number, .keep = keep};
    return kit_ask(w->k, q, r->who)->code;
}

/* ---------------------------------------------------------------- coming and going */

static void the_first_member_owns_everything_from_where_the_group_begins(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2);
    kit_produce(k, p, "a b c");
    struct kit_world w = {k, p, kit_group(k, "t", "g", &(struct wire_group_config){.mode = MODE_STREAM, .from = FROM_END})};
    struct reader a;
    assert_int_equal(join(&w, &a, A), E_OK);
    assert_string_equal(owns(&w, &a), "0 1");
    assert_int_equal(part_of(&w, &a, 0)->offset, 3);
    assert_int_equal(part_of(&w, &a, 1)->offset, 0);
    kit_free(k);
}

static void a_repeated_join_has_one_effect(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, again;
    join(&w, &a, A);
    join(&w, &again, A);
    assert_int_equal(members(&w)->members.members_n, 1);
    assert_int_equal(part_of(&w, &again, 0)->generation, part_of(&w, &a, 0)->generation);
    kit_free(w.k);
}

static void a_partition_goes_to_another_only_when_its_owner_gave_it_up(void **state)
{
    (void)state;
    struct kit_world w = begin(4);
    struct reader a, b;
    join(&w, &a, A);
    listen(&w, &a);
    join(&w, &b, B);
    assert_string_equal(owns(&w, &b), "");
    assert_true(heard(&a)); /* at once, not with its next heartbeat */
    assert_string_equal(owns(&w, &a), "0 1 2- 3-");
    listen(&w, &b);
    kit_pass(w.k, 500);
    assert_false(heard(&b));
    assert_int_equal(release(&w, &a), E_OK);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "2 3");
    assert_string_equal(owns(&w, &a), "0 1");
    kit_free(w.k);
}

static void what_is_given_up_is_committed_by_its_owner_until_then_and_not_after(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    kit_produce(w.k, w.p + 1, "a b c");
    join(&w, &a, A);
    join(&w, &b, B);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1-");
    assert_int_equal(commit(&w, &a, 1, 2), E_OK);
    struct wire_place late = *part_of(&w, &a, 1);
    late.offset = 3;
    release(&w, &a);
    assert_int_equal(commit_place(&w, A, late), E_STALE_GENERATION);
    beat(&w, &b);
    assert_int_equal(part_of(&w, &b, 1)->offset, 2); /* it goes on where the other was */
    assert_int_equal(commit_place(&w, A, late), E_STALE_GENERATION);
    assert_int_equal(commit(&w, &b, 1, 3), E_OK);
    kit_free(w.k);
}

static void a_member_that_is_not_heard_of_loses_what_it_has_after_its_timeout_and_not_before(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    join(&w, &b, B);
    beat(&w, &a);
    release(&w, &a);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "1");
    kit_pass(w.k, TIMEOUT - 1000);
    beat(&w, &b);
    listen(&w, &b);
    kit_pass(w.k, 999);
    assert_false(heard(&b));
    kit_pass(w.k, 1);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "0 1");
    assert_int_equal(beat(&w, &a), E_UNKNOWN_MEMBER);
    assert_int_equal(commit(&w, &a, 0, 0), E_STALE_GENERATION);
    assert_int_equal(w.k->engine->counters.members_timed_out, 1);
    kit_free(w.k);
}

static void one_that_leaves_gives_everything_up_at_once(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    join(&w, &b, B);
    listen(&w, &b);
    assert_int_equal(leave(&w, &a, false), E_OK);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "0 1");
    assert_int_equal(leave(&w, &a, false), E_OK); /* again: it is gone already */
    kit_free(w.k);
}

static void bye_leaves_too_and_a_lost_pipe_does_not(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    join(&w, &b, B);
    listen(&w, &b);
    kit_lose_pipe(w.k, A);
    kit_pass(w.k, 900);
    assert_false(heard(&b));
    kit_hello(w.k, A, true);
    assert_int_equal(beat(&w, &a), E_OK);
    assert_string_equal(owns(&w, &a), "0 1-");
    assert_int_equal(kit_ask(w.k, kit_request(w.k, A, VERB_BYE), A)->code, E_OK);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "0 1");
    kit_free(w.k);
}

static void a_third_takes_its_share_and_nothing_else_moves(void **state)
{
    (void)state;
    struct kit_world w = begin(6);
    struct reader a, b, c;
    join(&w, &a, A);
    join(&w, &b, B);
    beat(&w, &a);
    release(&w, &a);
    beat(&w, &b);
    assert_string_equal(owns(&w, &a), "0 1 2");
    assert_string_equal(owns(&w, &b), "3 4 5");
    join(&w, &c, C);
    beat(&w, &a);
    beat(&w, &b);
    assert_string_equal(owns(&w, &a), "0 1 2-");
    assert_string_equal(owns(&w, &b), "3 4 5-");
    release(&w, &a);
    release(&w, &b);
    beat(&w, &c);
    assert_string_equal(owns(&w, &c), "2 5");
    leave(&w, &b, false);
    beat(&w, &a);
    beat(&w, &c);
    assert_true(a.parts_n == 3 && c.parts_n == 3);
    part_of(&w, &a, 0), part_of(&w, &a, 1), part_of(&w, &c, 2), part_of(&w, &c, 5);
    kit_free(w.k);
}

static void what_was_taken_back_before_it_was_given_up_stays(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    uint64_t generation = part_of(&w, &a, 1)->generation;
    join(&w, &b, B);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1-");
    leave(&w, &b, false);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1");
    assert_int_equal(part_of(&w, &a, 1)->generation, generation);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- heartbeats */

static void a_heartbeat_waits_a_third_of_the_timeout_and_says_that_nothing_changed(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    join(&w, &a, A);
    listen(&w, &a);
    kit_pass(w.k, TIMEOUT / 3 - 1);
    assert_false(a.waiting->answered);
    kit_pass(w.k, 1);
    assert_true(a.waiting->answered);
    assert_false(kit_reply(a.waiting)->member.changed);
    assert_int_equal(kit_reply(a.waiting)->member.version, a.version);
    kit_free(w.k);
}

static void a_newer_heartbeat_takes_the_place_of_one_that_waits(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    join(&w, &a, A);
    listen(&w, &a);
    struct call *first = a.waiting;
    listen(&w, &a);
    assert_int_equal(kit_reply(first)->code, E_AGAIN);
    assert_false(a.waiting->answered);
    kit_free(w.k);
}

static void an_old_release_of_what_came_back_is_ignored(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    join(&w, &b, B);
    beat(&w, &a);
    struct wire_place old = *part_of(&w, &a, 1);
    release(&w, &a);
    leave(&w, &b, false);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1"); /* under a new generation */
    struct wire_request q = beat_request(&w, &a, 0);
    q.heartbeat.released = &old;
    q.heartbeat.released_n = 1;
    assert_int_equal(told(&a, kit_ask(w.k, q, A)), E_OK);
    assert_string_equal(owns(&w, &a), "0 1");
    kit_free(w.k);
}

static void another_session_can_not_speak_for_a_member(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    join(&w, &a, A);
    struct reader false_a = a;
    false_a.who = B;
    assert_int_equal(beat(&w, &false_a), E_UNKNOWN_MEMBER);
    assert_int_equal(commit(&w, &false_a, 0, 0), E_STALE_GENERATION);
    assert_int_equal(leave(&w, &false_a, false), E_OK);
    assert_int_equal(beat(&w, &a), E_OK);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- commits */

static void commits_only_rise(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    kit_produce(w.k, w.p, "a b c d");
    join(&w, &a, A);
    assert_int_equal(commit(&w, &a, 0, 3), E_OK);
    assert_int_equal(commit(&w, &a, 0, 2), E_OK);
    assert_int_equal(committed(&w, 0), 3);
    assert_int_equal(commit(&w, &a, 0, 5), E_OFFSET_OUT_OF_RANGE);
    assert_int_equal(commit(&w, &a, 0, 4), E_OK);
    assert_int_equal(committed(&w, 0), 4);
    assert_int_equal(w.k->engine->counters.committed_messages, 4);
    kit_free(w.k);
}

static void each_item_of_a_commit_has_its_own_code_and_a_repeat_has_no_effect(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a;
    kit_produce(w.k, w.p, "a b");
    join(&w, &a, A);
    struct wire_place items[] = {*part_of(&w, &a, 0), *part_of(&w, &a, 1), {.partition = w.p + 2}};
    items[0].offset = 2;
    items[1].generation--;
    struct wire_request q = commit_request_of(&w, A, items, 3);
    q.seq = ++w.k->seq[A][0];
    q.replies_seen = q.seq - 1;
    const struct wire_commit_reply *r = &kit_ask(w.k, q, A)->commit;
    assert_true(r->codes_n == 3 && r->codes[0] == E_OK && r->codes[1] == E_STALE_GENERATION && r->codes[2] == E_PARTITION_NOT_FOUND);
    uint64_t committed_before = w.k->engine->counters.commits;
    r = &kit_ask(w.k, q, A)->commit;
    assert_true(r->codes_n == 3 && r->codes[0] == E_OK && r->codes[1] == E_STALE_GENERATION && r->codes[2] == E_PARTITION_NOT_FOUND);
    assert_int_equal(w.k->engine->counters.commits, committed_before);
    kit_free(w.k);
}

static void a_commit_is_as_durable_as_its_topic(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .durability = DURABILITY_OS});
    struct kit_world w = {k, p, kit_group(k, "t", "g", &(struct wire_group_config){.mode = MODE_STREAM})};
    struct reader a;
    join(&w, &a, A);
    struct wire_place item = *part_of(&w, &a, 0);
    assert_int_equal(kit_ask_numbered(k, commit_request_of(&w, A, &item, 1), A)->durability, DURABILITY_OS);
    kit_free(k);
    w = begin(1);
    join(&w, &a, A);
    item = *part_of(&w, &a, 0);
    assert_int_equal(kit_ask_numbered(w.k, commit_request_of(&w, A, &item, 1), A)->durability, DURABILITY_DISK);
    kit_free(w.k);
}

/* A heartbeat that is answered before the disk has it stands on it too; later ones stand on nothing, and ask for no sync. */
static void a_partition_is_told_when_it_is_on_disk(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a = {.who = A, .number = 1};
    w.k->hold_syncs = true;
    struct call *c = kit_call(w.k, join_request(&w, &a, NULL), A);
    assert_int_equal(c->op.level, DURABILITY_DISK);
    uint64_t given = c->op.turn;
    a.version = 0;
    c = kit_call(w.k, beat_request(&w, &a, 0), A);
    assert_int_equal(c->op.level, DURABILITY_DISK);
    assert_int_equal(c->op.turn, given);
    w.k->hold_syncs = false;
    kit_pass(w.k, 10);
    kit_begin(w.k);
    kit_end(w.k);
    kit_begin(w.k);
    c = kit_call(w.k, beat_request(&w, &a, 0), A);
    engine_turn_end(w.k->engine);
    assert_false(engine_effects(w.k->engine)->need_sync);
    assert_int_equal(engine_effects(w.k->engine)->puts.count, 0);
    w.k->engine->in_turn = true;
    kit_end(w.k);
    assert_int_equal(c->op.level, DURABILITY_NONE);
    assert_int_equal(told(&a, &c->op.reply), E_OK);
    assert_string_equal(owns(&w, &a), "0");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- seeking */

static void a_seek_goes_back_and_what_the_owner_was_about_to_commit_is_refused(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a;
    kit_produce(w.k, w.p, "a b c d");
    join(&w, &a, A);
    commit(&w, &a, 0, 3);
    listen(&w, &a);
    const struct wire_place place = {.partition = w.p, .offset = 1};
    const struct wire_reply *r = seek(&w, (struct wire_group_seek){.to = SEEK_TO_OFFSETS, .items = &place, .items_n = 1});
    assert_int_equal(r->code, E_OK);
    assert_true(r->seek.rows_n == 1 && r->seek.rows[0].from == 3 && r->seek.rows[0].to == 1 && r->seek.rows[0].index == 0);
    assert_int_equal(commit(&w, &a, 0, 4), E_STALE_GENERATION);
    assert_int_equal(committed(&w, 0), 1);
    assert_true(heard(&a));
    assert_string_equal(owns(&w, &a), "0 1"); /* it keeps it, and reads anew */
    assert_int_equal(part_of(&w, &a, 0)->offset, 1);
    assert_int_equal(commit(&w, &a, 0, 2), E_OK);
    assert_int_equal(commit(&w, &a, 1, 0), E_OK); /* the other partition was not touched */
    kit_free(w.k);
}

static void a_seek_goes_to_start_end_and_another_group_and_stays_within_the_log(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    kit_produce(w.k, w.p, "a b c d");
    kit_produce(w.k, w.p + 1, "a b");
    uint32_t q = kit_group(w.k, "t", "queue", NULL);
    kit_receive(w.k, B, q, 2);
    kit_ack(w.k, B, q, "0 1");
    assert_int_equal(seek(&w, (struct wire_group_seek){.to = SEEK_TO_END})->seek.rows_n, 2);
    assert_true(committed(&w, 0) == 4 && committed(&w, 1) == 2);
    seek(&w, (struct wire_group_seek){.to = SEEK_TO_START});
    assert_true(committed(&w, 0) == 0 && committed(&w, 1) == 0);
    const struct wire_place place = {.partition = w.p + 1, .offset = 99};
    seek(&w, (struct wire_group_seek){.to = SEEK_TO_OFFSETS, .items = &place, .items_n = 1});
    assert_true(committed(&w, 0) == 0 && committed(&w, 1) == 2);
    assert_int_equal(seek(&w, (struct wire_group_seek){.to = SEEK_TO_GROUP, .other = VIEW_LIT("queue")})->code, E_OK);
    assert_true(committed(&w, 0) == 2 && committed(&w, 1) == 0);
    assert_int_equal(seek(&w, (struct wire_group_seek){.to = SEEK_TO_GROUP, .other = VIEW_LIT("none")})->code, E_GROUP_NOT_FOUND);
    const struct wire_reply *r = seek(&w, (struct wire_group_seek){.to = SEEK_TO_END, .dry_run = true});
    assert_true(r->seek.rows_n == 2 && r->seek.rows[0].from == 2 && r->seek.rows[0].to == 4);
    assert_true(committed(&w, 0) == 2 && committed(&w, 1) == 0);
    const struct wire_place other = {.partition = w.p + 7};
    assert_int_equal(seek(&w, (struct wire_group_seek){.to = SEEK_TO_END, .items = &other, .items_n = 1})->code, E_PARTITION_NOT_FOUND);
    kit_free(w.k);
}

static void a_repeated_seek_is_done_once(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    kit_produce(w.k, w.p, "a b c");
    join(&w, &a, A);
    struct wire_request q = kit_request(w.k, A, VERB_GROUP_SEEK);
    q.seek = (struct wire_group_seek){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .to = SEEK_TO_END};
    q.seq = ++w.k->seq[A][0];
    q.replies_seen = q.seq - 1;
    assert_int_equal(kit_ask(w.k, q, A)->seek.rows[0].to, 3);
    beat(&w, &a);
    uint64_t generation = part_of(&w, &a, 0)->generation;
    const struct wire_reply *again = kit_ask(w.k, q, A);
    assert_true(again->seek.rows_n == 1 && again->seek.rows[0].from == 0 && again->seek.rows[0].to == 3 && again->seek.rows[0].partition == w.p);
    beat(&w, &a);
    assert_int_equal(part_of(&w, &a, 0)->generation, generation);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- static members */

static void a_static_member_that_comes_back_has_what_it_had_and_nothing_moves(void **state)
{
    (void)state;
    struct kit_world w = begin(4);
    struct reader a, b, again;
    join_named(&w, &a, A, 1, "one");
    join_named(&w, &b, B, 1, "two");
    beat(&w, &a);
    release(&w, &a);
    beat(&w, &b);
    assert_string_equal(owns(&w, &a), "0 1");
    assert_int_equal(leave(&w, &a, true), E_OK);
    kit_pass(w.k, TIMEOUT - 1000);
    beat(&w, &b);
    kit_restart(w.k);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "2 3"); /* nobody took them, a restart between */
    assert_int_equal(join_named(&w, &again, C, 9, "one"), E_OK);
    assert_string_equal(owns(&w, &again), "0 1");
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "2 3");
    kit_free(w.k);
}

static void one_that_does_not_come_back_in_time_loses_its_place(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join_named(&w, &a, A, 1, "one");
    join(&w, &b, B);
    leave(&w, &a, true);
    kit_pass(w.k, TIMEOUT - 1000);
    beat(&w, &b);
    listen(&w, &b);
    assert_string_equal(owns(&w, &b), "1"); /* its share; the other waits for its member */
    kit_pass(w.k, 999);
    assert_false(heard(&b));
    kit_pass(w.k, 1);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "0 1");
    kit_free(w.k);
}

static void a_second_of_the_same_name_fences_the_first_and_waits_until_it_is_sure(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join_named(&w, &a, A, 1, "one");
    listen(&w, &a);
    assert_int_equal(join_named(&w, &b, B, 1, "one"), E_OK);
    assert_string_equal(owns(&w, &b), "");
    assert_int_equal(kit_reply(a.waiting)->code, E_MEMBER_FENCED);
    assert_int_equal(beat(&w, &a), E_MEMBER_FENCED);
    assert_int_equal(kit_ask(w.k, join_request(&w, &a, "one"), A)->code, E_MEMBER_FENCED);
    listen(&w, &b);
    kit_pass(w.k, 500);
    assert_false(heard(&b)); /* the first may not have heard of it yet */
    assert_int_equal(commit(&w, &a, 0, 0), E_OK); /* what it has done it may still say */
    assert_int_equal(leave(&w, &a, false), E_OK);
    assert_true(heard(&b));
    assert_string_equal(owns(&w, &b), "0 1");
    assert_int_equal(commit(&w, &a, 0, 0), E_STALE_GENERATION);
    kit_free(w.k);
}

static void a_fenced_member_that_says_nothing_is_waited_for_as_long_as_its_timeout(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a, b;
    join_named(&w, &a, A, 1, "one");
    kit_pass(w.k, 1000);
    join_named(&w, &b, B, 1, "one");
    kit_pass(w.k, 1000);
    assert_int_equal(beat(&w, &a), E_MEMBER_FENCED); /* which is no sign of life */
    kit_restart(w.k); /* it is still waited for, a full term */
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "");
    kit_pass(w.k, TIMEOUT - 1000);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "");
    kit_pass(w.k, 1000);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "0");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- a restart */

static void a_restart_moves_nothing_and_members_have_a_full_new_term(void **state)
{
    (void)state;
    struct kit_world w = begin(4);
    struct reader a, b;
    kit_produce(w.k, w.p, "a b");
    join(&w, &a, A);
    join(&w, &b, B);
    beat(&w, &a);
    release(&w, &a);
    beat(&w, &b);
    uint64_t generation = part_of(&w, &a, 0)->generation;
    kit_pass(w.k, TIMEOUT - 100);
    kit_restart(w.k);
    kit_pass(w.k, TIMEOUT - 100);
    assert_int_equal(commit(&w, &a, 0, 2), E_OK); /* under the generation of before */
    assert_int_equal(beat(&w, &a), E_OK);
    assert_int_equal(beat(&w, &b), E_OK);
    assert_string_equal(owns(&w, &a), "0 1");
    assert_string_equal(owns(&w, &b), "2 3");
    assert_int_equal(part_of(&w, &a, 0)->generation, generation);
    kit_pass(w.k, TIMEOUT - 1);
    beat(&w, &b);
    kit_pass(w.k, 1);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "0 1 2 3");
    kit_free(w.k);
}

static void what_was_to_be_given_up_before_a_restart_is_told_again(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    join(&w, &a, A);
    join(&w, &b, B);
    kit_restart(w.k);
    assert_int_equal(beat(&w, &b), E_OK);
    assert_string_equal(owns(&w, &b), "");
    assert_int_equal(beat(&w, &a), E_OK);
    assert_string_equal(owns(&w, &a), "0 1-");
    release(&w, &a);
    beat(&w, &b);
    assert_string_equal(owns(&w, &b), "1");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- growth */

static void grow(const struct kit_world *w, uint32_t partitions)
{
    struct wire_request q = kit_request(w->k, B, VERB_TOPIC_ALTER);
    q.topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = {.partitions = partitions}, .mask = TOPIC_SET_PARTITIONS};
    assert_int_equal(kit_ask_numbered(w->k, q, B)->code, E_OK);
}

/* So what a key had before its partition was parted is read before what it has in the child. */
static void a_new_partition_is_owned_when_the_group_has_passed_its_fence_and_not_before(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a, b;
    kit_produce(w.k, w.p, "a b c");
    join(&w, &a, A);
    listen(&w, &a);
    grow(&w, 4);
    assert_true(heard(&a));
    assert_string_equal(owns(&w, &a), "0 1 3"); /* the fence of 3 is at the beginning of 1, which was empty */
    listen(&w, &a);
    commit(&w, &a, 0, 2);
    assert_false(a.waiting->answered);
    kit_restart(w.k);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 3");
    commit(&w, &a, 0, 3);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 2 3");
    const struct wire_place back = {.partition = w.p, .offset = 1};
    seek(&w, (struct wire_group_seek){.to = SEEK_TO_OFFSETS, .items = &back, .items_n = 1});
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 2- 3"); /* again what is older comes first */
    release(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 3");
    join(&w, &b, B);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 3-");
    kit_free(w.k);
}

static void nor_is_one_of_the_next_growth_where_the_one_between_got_nothing(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    kit_produce(w.k, w.p, "a b c");
    join(&w, &a, A);
    grow(&w, 2);
    grow(&w, 4);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0"); /* the fence of 3 is at the beginning of 1, which waits for 0 */
    commit(&w, &a, 0, 2);
    kit_restart(w.k);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0");
    commit(&w, &a, 0, 3);
    beat(&w, &a);
    assert_string_equal(owns(&w, &a), "0 1 2 3");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- around it */

static void the_limit_of_members_is_said_by_name(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a, b;
    w.k->limits.members_per_group_max = 1;
    assert_int_equal(join(&w, &a, A), E_OK);
    *&b = (struct reader){.who = B, .number = 1};
    const struct wire_reply *r = kit_ask(w.k, join_request(&w, &b, NULL), B);
    assert_int_equal(r->code, E_LIMIT);
    assert_has((const char *)r->detail.data, "members_per_group_max = 1");
    kit_free(w.k);
}

static void what_is_of_the_other_mode_is_refused(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    kit_group(w.k, "t", "queue", NULL);
    struct wire_request q = kit_request(w.k, A, VERB_GROUP_JOIN);
    q.join = (struct wire_group_join){.topic = VIEW_LIT("t"), .group = VIEW_LIT("queue")};
    assert_int_equal(kit_ask(w.k, q, A)->code, E_WRONG_MODE);
    join(&w, &a, A);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "WRONG_MODE");
    assert_int_equal(kit_control(w.k, "t", "g", GROUP_PAUSE)->code, E_WRONG_MODE);
    struct wire_settle_item item = {.group = w.g, .partition = w.p, .token = 1, .verb = SETTLE_ACK};
    assert_int_equal(kit_unit(w.k, A, &item, 1), E_WRONG_MODE);
    q = kit_request(w.k, A, VERB_HELD_LIST);
    q.held = (struct wire_held_list){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g")};
    assert_int_equal(kit_ask(w.k, q, A)->code, E_WRONG_MODE);
    q = kit_request(w.k, A, VERB_HELD_CHANGE);
    q.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_DROP};
    assert_int_equal(kit_ask_numbered(w.k, q, A)->code, E_WRONG_MODE);
    q = kit_request(w.k, A, VERB_GROUP_CREATE);
    q.group = (struct wire_group_set){.topic = VIEW_LIT("t"), .name = VIEW_LIT("other"), .config = {.mode = MODE_STREAM, .lease_ms = 5000}};
    const struct wire_reply *r = kit_ask_numbered(w.k, q, A);
    assert_int_equal(r->code, E_WRONG_MODE);
    assert_has((const char *)r->detail.data, "lease is a setting of queue groups");
    assert_int_equal(kit_alter_group(w.k, "t", "g", (struct wire_group_config){.max_deliveries = 3}, GROUP_SET_MAX_DELIVERIES)->code, E_WRONG_MODE);
    assert_int_equal(kit_alter_group(w.k, "t", "g", (struct wire_group_config){.idle_expiry_ms = 60000}, GROUP_SET_IDLE_EXPIRY_MS)->code, E_OK);
    kit_free(w.k);
}

static void a_purge_skips_to_the_end_and_lag_says_how_far_the_group_is_behind(void **state)
{
    (void)state;
    struct kit_world w = begin(2);
    struct reader a;
    kit_produce(w.k, w.p, "a b c");
    kit_produce(w.k, w.p + 1, "a b");
    join(&w, &a, A);
    assert_int_equal(commit(&w, &a, 0, 2), E_OK);
    struct wire_lag lag = kit_lag(w.k, "t", "g");
    assert_true(lag.lag_messages == 3 && lag.scale_value == 3 && lag.in_flight == 0 && lag.mode == MODE_STREAM);
    assert_true(lag.lag_bytes > 0);
    assert_int_equal(kit_control(w.k, "t", "g", GROUP_PURGE)->depth, 3);
    assert_int_equal(kit_lag(w.k, "t", "g").lag_messages, 0);
    assert_int_equal(commit(&w, &a, 0, 3), E_STALE_GENERATION);
    beat(&w, &a);
    assert_int_equal(part_of(&w, &a, 0)->offset, 3);
    kit_free(w.k);
}

static void a_group_that_is_deleted_tells_who_waits(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    join(&w, &a, A);
    listen(&w, &a);
    kit_delete_group(w.k, "t", "g");
    assert_int_equal(kit_reply(a.waiting)->code, E_GROUP_NOT_FOUND);
    assert_int_equal(beat(&w, &a), E_GROUP_NOT_FOUND);
    w.g = kit_group(w.k, "t", "g", &(struct wire_group_config){.mode = MODE_STREAM}); /* another of the name begins with nothing */
    assert_int_equal(members(&w)->members.members_n, 0);
    join(&w, &a, A);
    listen(&w, &a);
    kit_delete_topic(w.k, "t");
    assert_int_equal(kit_reply(a.waiting)->code, E_TOPIC_DELETED);
    assert_int_equal(beat(&w, &a), E_TOPIC_DELETED);
    kit_free(w.k);
}

static void members_are_use_enough_to_keep_a_group(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    kit_alter_group(w.k, "t", "g", (struct wire_group_config){.idle_expiry_ms = 60000}, GROUP_SET_IDLE_EXPIRY_MS);
    join(&w, &a, A);
    for (int i = 0; i < 100; i++) {
        kit_pass(w.k, TIMEOUT / 2);
        assert_int_equal(beat(&w, &a), E_OK);
    }
    leave(&w, &a, false);
    kit_pass(w.k, 130000);
    assert_int_equal(members(&w)->code, E_GROUP_NOT_FOUND);
    kit_free(w.k);
}

static const struct wire_reply *explained(const struct kit_world *w, const char *key, int64_t offset)
{
    struct wire_request q = kit_request(w->k, A, VERB_EXPLAIN);
    q.explain = (struct wire_explain){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .partition = w->p};
    if (key != NULL)
        q.explain.key = view_of_str(key), q.explain.has_key = true;
    if (offset >= 0)
        q.explain.offset = (uint64_t)offset, q.explain.has_offset = true;
    return kit_ask(w->k, q, A);
}

static void explain_says_who_reads_and_how_far_behind(void **state)
{
    (void)state;
    struct kit_world w = begin(1);
    struct reader a;
    assert_int_equal(explained(&w, NULL, -1)->explain.fact, EXPLAIN_EMPTY);
    kit_produce(w.k, w.p, "a b c");
    const struct wire_reply *r = explained(&w, NULL, -1);
    assert_int_equal(r->explain.fact, EXPLAIN_NO_RECEIVER);
    assert_has((const char *)r->explain.text.data, "1 of 1 partitions have no owner");
    join(&w, &a, A);
    commit(&w, &a, 0, 1);
    assert_int_equal(explained(&w, NULL, 0)->explain.fact, EXPLAIN_DONE);
    r = explained(&w, NULL, 2);
    assert_int_equal(r->explain.fact, EXPLAIN_BACKLOG);
    assert_int_equal(r->explain.depth, 1);
    assert_has((const char *)r->explain.text.data, "read by 'test'");
    assert_int_equal(explained(&w, NULL, 3)->explain.fact, EXPLAIN_NO_SUCH_OFFSET);
    assert_int_equal(explained(&w, "any", -1)->explain.depth, 2);
    kit_free(w.k);
}

static void the_list_of_members_says_who_owns_what(void **state)
{
    (void)state;
    struct kit_world w = begin(3);
    struct reader a, b;
    kit_produce(w.k, w.p, "a b");
    join_named(&w, &a, A, 7, "one");
    join_named(&w, &b, B, 8, NULL);
    kit_pass(w.k, 200);
    commit(&w, &a, 0, 1);
    const struct wire_members_reply *r = &members(&w)->members;
    assert_true(r->members_n == 2 && r->partitions_n == 3 && !r->more);
    assert_true(view_eq(r->members[0].name, VIEW_LIT("one")) && r->members[0].member == 7 && r->members[0].partitions == 3);
    assert_true(view_eq(r->members[0].client, VIEW_LIT("test")) && r->members[0].heard_ms == 200 && r->members[0].timeout_ms == TIMEOUT);
    assert_true(r->members[1].state == MEMBER_ACTIVE && r->members[1].partitions == 0);
    assert_true(r->partitions[0].committed == 1 && r->partitions[0].end == 2 && r->partitions[0].committed_ms == w.k->now.wall_ms);
    assert_true(r->partitions[2].owner == 0 && r->partitions[2].target == 1 && r->partitions[0].target == 0);
    struct wire_request q = kit_request(w.k, A, VERB_GROUP_MEMBERS);
    q.members = (struct wire_group_members){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .from = 1, .limit = 1};
    r = &kit_ask(w.k, q, A)->members;
    assert_true(r->partitions_n == 1 && r->partitions[0].index == 1 && r->more && r->members_n == 2);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- the hard cap */

enum { HOUR = 3600000 };

static struct kit_world begin_capped(void)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = 3 * HOUR});
    return (struct kit_world){k, p, kit_group(k, "t", "g", &(struct wire_group_config){.mode = MODE_STREAM})};
}

static uint64_t start_of(const struct kit_world *w) { return ((struct partition *)table_get(&w->k->engine->partitions, w->p))->row.start; }

static uint64_t told_from(const struct kit_world *w, struct reader *r, int who)
{
    assert_int_equal(join(w, r, who), E_OK);
    return part_of(w, r, 0)->offset;
}

static void who_joins_after_a_loss_at_the_hard_cap_begins_where_the_group_was_and_so_is_told_until_that_is_committed(void **state)
{
    (void)state;
    struct kit_world w = begin_capped();
    struct reader a, b;
    kit_produce(w.k, w.p, "a b c");
    kit_produce(w.k, w.p, "d e");
    join(&w, &a, A);
    commit(&w, &a, 0, 1);
    uint64_t committed_ms = w.k->now.wall_ms;
    leave(&w, &a, false);
    kit_pass(w.k, 4 * HOUR);
    assert_int_equal(start_of(&w), 5);
    assert_int_equal(members(&w)->members.partitions[0].committed, 5);
    assert_int_equal(members(&w)->members.partitions[0].committed_ms, committed_ms); /* nobody did since */
    assert_int_equal(told_from(&w, &a, A), 1);
    kit_produce(w.k, w.p, "f");
    leave(&w, &a, false); /* it said nothing of it */
    kit_restart(w.k);
    assert_int_equal(told_from(&w, &b, B), 1);
    commit(&w, &b, 0, 5); /* it goes on behind */
    leave(&w, &b, false);
    assert_int_equal(told_from(&w, &a, A), 5);
    commit(&w, &a, 0, 6);
    leave(&w, &a, false);
    kit_restart(w.k);
    assert_int_equal(told_from(&w, &b, B), 6);
    kit_free(w.k);
}

static void several_losses_that_nobody_heard_of_are_one_gap_and_a_seek_ends_it(void **state)
{
    (void)state;
    struct kit_world w = begin_capped();
    struct reader a;
    for (int i = 0; i < 4; i++) {
        kit_produce(w.k, w.p, "a b");
        kit_pass(w.k, HOUR);
    }
    assert_int_equal(told_from(&w, &a, A), 0);
    leave(&w, &a, false);
    kit_pass(w.k, HOUR);
    kit_restart(w.k);
    assert_int_equal(told_from(&w, &a, A), 0);
    assert_int_equal(members(&w)->members.partitions[0].committed, start_of(&w));
    assert_true(start_of(&w) >= 4);
    seek(&w, (struct wire_group_seek){.to = SEEK_TO_START});
    beat(&w, &a);
    assert_int_equal(part_of(&w, &a, 0)->offset, start_of(&w));
    kit_free(w.k);
}

#define TEST(name) cmocka_unit_test(name)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_member_owns_everything_from_where_the_group_begins),
        TEST(a_repeated_join_has_one_effect),
        TEST(a_partition_goes_to_another_only_when_its_owner_gave_it_up),
        TEST(what_is_given_up_is_committed_by_its_owner_until_then_and_not_after),
        TEST(a_member_that_is_not_heard_of_loses_what_it_has_after_its_timeout_and_not_before),
        TEST(one_that_leaves_gives_everything_up_at_once),
        TEST(bye_leaves_too_and_a_lost_pipe_does_not),
        TEST(a_third_takes_its_share_and_nothing_else_moves),
        TEST(what_was_taken_back_before_it_was_given_up_stays),
        TEST(a_heartbeat_waits_a_third_of_the_timeout_and_says_that_nothing_changed),
        TEST(a_newer_heartbeat_takes_the_place_of_one_that_waits),
        TEST(an_old_release_of_what_came_back_is_ignored),
        TEST(another_session_can_not_speak_for_a_member),
        TEST(commits_only_rise),
        TEST(each_item_of_a_commit_has_its_own_code_and_a_repeat_has_no_effect),
        TEST(a_commit_is_as_durable_as_its_topic),
        TEST(a_partition_is_told_when_it_is_on_disk),
        TEST(a_seek_goes_back_and_what_the_owner_was_about_to_commit_is_refused),
        TEST(a_seek_goes_to_start_end_and_another_group_and_stays_within_the_log),
        TEST(a_repeated_seek_is_done_once),
        TEST(a_static_member_that_comes_back_has_what_it_had_and_nothing_moves),
        TEST(one_that_does_not_come_back_in_time_loses_its_place),
        TEST(a_second_of_the_same_name_fences_the_first_and_waits_until_it_is_sure),
        TEST(a_fenced_member_that_says_nothing_is_waited_for_as_long_as_its_timeout),
        TEST(a_restart_moves_nothing_and_members_have_a_full_new_term),
        TEST(what_was_to_be_given_up_before_a_restart_is_told_again),
        TEST(a_new_partition_is_owned_when_the_group_has_passed_its_fence_and_not_before),
        TEST(nor_is_one_of_the_next_growth_where_the_one_between_got_nothing),
        TEST(the_limit_of_members_is_said_by_name),
        TEST(what_is_of_the_other_mode_is_refused),
        TEST(a_purge_skips_to_the_end_and_lag_says_how_far_the_group_is_behind),
        TEST(a_group_that_is_deleted_tells_who_waits),
        TEST(members_are_use_enough_to_keep_a_group),
        TEST(explain_says_who_reads_and_how_far_behind),
        TEST(the_list_of_members_says_who_owns_what),
        TEST(who_joins_after_a_loss_at_the_hard_cap_begins_where_the_group_was_and_so_is_told_until_that_is_committed),
        TEST(several_losses_that_nobody_heard_of_are_one_gap_and_a_seek_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
