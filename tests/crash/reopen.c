/* See reopen.h.
 *
 * First the rows are read as they are: the logs without gaps, each message in one place, and there if its producer was told so. Then a
 * client receives and acknowledges, in virtual time, until nothing comes any more: what was done must not come, everything else must, or
 * lie among the dead letters where it may be.
 */
#include "reopen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "driver.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/keys.h"

enum { PARTITIONS_MAX = 64, RECEIVE_MAX = 500, };

struct place { enum script_topic topic; uint32_t index; uint64_t start, end; bool known; };
struct found { bool there, scheduled, delivered, held_parked; uint32_t partition; uint64_t offset; };

static struct {
    const struct script_ledger *l;
    struct reopen_promise promise;
    struct driver d;
    struct place parts[PARTITIONS_MAX];       /* by partition id */
    uint32_t topic_id[SCRIPT_TOPICS], group_id[SCRIPT_TOPICS]; /* 0: is not there */
    struct found found[SCRIPT_MESSAGES_MAX];
    uint64_t last_offset[SCRIPT_TOPICS][SCRIPT_KEYS]; /* delivered last, + 1 */
} w;

#define wrong(...) driver_wrong(&w.d, __VA_ARGS__)
static bool fine(void) { return driver_fine(&w.d); }
static bool asked(struct script_act a) { return a.asked < w.promise.asked_before; }
static bool acked(struct script_act a) { return a.acked <= w.promise.acked_by; }

/* ---------------------------------------------------------------- rows */

static void each_row(enum store_family f, struct view prefix, void (*fn)(struct view key, struct view value))
{
    struct store_iter *it = store_iter(w.d.store, f);
    struct err e = {0};
    for (store_iter_seek(it, prefix); fine() && store_iter_valid(it); store_iter_next(it)) {
        struct view key = store_iter_key(it);
        if (key.size < prefix.size || memcmp(key.data, prefix.data, prefix.size) != 0)
            break;
        fn(key, store_iter_value(it));
    }
    if (store_iter_status(it, &e) != E_OK)
        wrong("a row does not read: %s", e.text);
    store_iter_close(it);
}

static void see_topic(struct view key, struct view value)
{
    struct topic_row row;
    struct err e;
    uint32_t id;
    if (!key_read_id(key, 't', &id) || topic_row_get(value, &row, &e) != E_OK) {
        wrong("a topic's row does not read");
        return;
    }
    for (uint32_t t = 0; t < SCRIPT_TOPICS; t++) {
        if (!view_eq(row.name, view_of_str(script_topic_names[t])))
            continue;
        w.topic_id[t] = id;
        for (uint32_t i = 0; i < row.config.partitions; i++)
            w.parts[topic_row_partition(&row, i)] = (struct place){.topic = t, .index = i, .known = true};
    }
}

static void see_partition(struct view key, struct view value)
{
    struct partition_row row;
    struct err e;
    uint32_t id;
    if (!key_read_id(key, 'p', &id) || partition_row_get(value, &row, &e) != E_OK || !w.parts[id].known) {
        wrong("a partition's row does not read");
        return;
    }
    w.parts[id].start = row.start;
    w.parts[id].end = row.end;
}

static void see_group(struct view key, struct view value)
{
    struct group_row row;
    struct err e;
    uint32_t id;
    if (!key_read_id(key, 'g', &id) || group_row_get(value, &row, &e) != E_OK) {
        wrong("a group's row does not read");
        return;
    }
    for (uint32_t t = 0; t < SCRIPT_TOPICS; t++)
        if (w.topic_id[t] == row.topic)
            w.group_id[t] = id;
}

/* The message that a value is of; SCRIPT_MESSAGES_MAX: of none, as it was written. */
static uint32_t message_of(struct view value)
{
    static char expected[SCRIPT_VALUE_MAX];
    char text[12] = "";
    memcpy(text, value.data, value.size < sizeof text - 1 ? value.size : sizeof text - 1);
    unsigned long id = strtoul(text, NULL, 10);
    if (id >= w.l->messages_n || value.size != w.l->messages[id].size)
        return SCRIPT_MESSAGES_MAX;
    script_value((uint32_t)id, (uint32_t)value.size, expected);
    return memcmp(expected, value.data, value.size) == 0 ? (uint32_t)id : SCRIPT_MESSAGES_MAX;
}

static void see_message(uint32_t partition, uint64_t offset, struct view value)
{
    uint32_t id = message_of(value);
    const struct place *p = &w.parts[partition];
    if (id == SCRIPT_MESSAGES_MAX || w.l->messages[id].topic != p->topic) {
        wrong("%s/%u/%" PRIu64 " is nobody's message", script_topic_names[p->topic], p->index, offset);
        return;
    }
    struct found *f = &w.found[id];
    if (f->there)
        wrong("message %u is there twice", id);
    *f = (struct found){.there = true, .partition = p->index, .offset = offset};
}

static uint64_t next_offset[PARTITIONS_MAX];

static void see_batch(uint32_t partition, const struct stored_header *h, struct view batch)
{
    struct batch_reader r;
    struct err e = {0};
    if (h->base_offset != next_offset[partition])
        wrong("%s/%u goes from offset %" PRIu64 " to %" PRIu64, script_topic_names[w.parts[partition].topic], w.parts[partition].index,
              next_offset[partition], h->base_offset);
    if (batch_hash(batch) != h->batch_hash || batch_reader_open(&r, batch, &e) != E_OK) {
        wrong("a batch does not read: %s", e.text);
        return;
    }
    for (uint32_t i = 0; fine() && i < r.c.count; i++) {
        struct record record;
        if (batch_reader_get(&r, i, &record, &e) != E_OK)
            wrong("a record does not read: %s", e.text);
        else
            see_message(partition, h->base_offset + i, record.value);
    }
    batch_reader_close(&r);
    next_offset[partition] = h->base_offset + h->count;
}

static void see_log_row(struct view key, struct view value)
{
    static struct buf row; /* aligned */
    uint32_t partition;
    uint64_t last;
    struct stored_header h;
    struct view batch;
    struct err e = {0};
    if (!key_read_log(key, &partition, &last) || partition >= PARTITIONS_MAX || !w.parts[partition].known) {
        wrong("a row of a log is nobody's");
        return;
    }
    buf_clear(&row);
    buf_append(&row, value.data, value.size);
    for (struct view rest = buf_view(&row); fine() && rest.size > 0;) {
        if (stored_next(&rest, &h, &batch, &e) != E_OK)
            wrong("a stored batch does not read: %s", e.text);
        else
            see_batch(partition, &h, batch);
    }
}

static void see_scheduled(struct view key, struct view value)
{
    uint64_t due;
    uint32_t topic;
    struct id128 id;
    struct sched_batch_row row;
    struct batch_reader r;
    struct record record;
    struct err e = {0};
    if (!key_read_sched_batch(key, &due, &topic, &id))
        return;
    static struct buf bytes;
    buf_clear(&bytes);
    buf_append(&bytes, value.data, value.size);
    struct view batch;
    if (sched_batch_row_get(buf_view(&bytes), &row, &e) != E_OK) {
        wrong("a batch that waits does not read: %s", e.text);
        return;
    }
    struct buf aligned = {0};
    buf_append(&aligned, row.batch.data, row.batch.size);
    batch = buf_view(&aligned);
    if (batch_hash(batch) != row.batch_hash || batch_reader_open(&r, batch, &e) != E_OK)
        wrong("a batch that waits does not fit its sum: %s", e.text);
    for (uint32_t i = 0; fine() && i < r.c.count; i++) {
        uint32_t n = batch_reader_get(&r, i, &record, &e) == E_OK ? message_of(record.value) : SCRIPT_MESSAGES_MAX;
        if (n == SCRIPT_MESSAGES_MAX)
            wrong("a message that waits is nobody's");
        else if (w.found[n].there)
            wrong("message %u waits, and is in its log", n);
        else
            w.found[n].scheduled = true;
    }
    buf_free(&aligned);
}

static void see_any(struct view key, struct view value)
{
    (void)key, (void)value;
}

static void see_rows(void)
{
    struct key topics = key_meta_prefix('t'), partitions = key_meta_prefix('p'), groups = key_meta_prefix('g'), all = {0};
    for (enum store_family f = 0; f < FAM_COUNT; f++)
        each_row(f, key_view(&all), see_any);
    each_row(FAM_META, key_view(&topics), see_topic);
    each_row(FAM_META, key_view(&partitions), see_partition);
    each_row(FAM_META, key_view(&groups), see_group);
    for (enum store_family f = FAM_LOG_HOURS; f < FAM_COUNT; f++)
        each_row(f, key_view(&all), see_log_row);
    each_row(FAM_SCHED, key_view(&all), see_scheduled);
    for (uint32_t p = 0; fine() && p < PARTITIONS_MAX; p++)
        if (w.parts[p].known && next_offset[p] != w.parts[p].end)
            wrong("%s/%u ends at %" PRIu64 ", its row says %" PRIu64, script_topic_names[w.parts[p].topic], w.parts[p].index, next_offset[p],
                  w.parts[p].end);
}

static void see_held(struct view key, struct view value)
{
    uint32_t group, partition;
    uint64_t offset;
    struct held_row row;
    struct err e;
    if (!key_read_held(key, &group, &partition, &offset) || partition >= PARTITIONS_MAX || held_row_get(value, &row, &e) != E_OK) {
        wrong("a held row does not read");
        return;
    }
    if (row.state != HELD_PARKED)
        return;
    for (uint32_t i = 0; i < w.l->messages_n; i++) {
        struct found *f = &w.found[i];
        if (f->there && w.l->messages[i].topic == w.parts[partition].topic && f->partition == w.parts[partition].index && f->offset == offset)
            f->held_parked = true;
    }
}

/* ---------------------------------------------------------------- promises that rows tell */

static void check_published(uint32_t id)
{
    const struct script_message *m = &w.l->messages[id];
    const struct found *f = &w.found[id];
    if ((f->there || f->scheduled) && !asked(m->publish))
        wrong("message %u is there before it was published", id);
    if (m->topic == FAST || !acked(m->publish))
        return;
    if (!f->there && !f->scheduled)
        wrong("message %u of %s was acknowledged, and is lost", id, script_topic_names[m->topic]);
    else if (m->placed && !m->delayed && (f->partition != m->partition || f->offset != m->offset))
        wrong("message %u was acknowledged at %u/%" PRIu64 ", and is at %u/%" PRIu64, id, m->partition, m->offset, f->partition, f->offset);
}

/* Messages of a key are in the log in the order in which they were published. */
static void check_log_order(void)
{
    static uint64_t last[SCRIPT_TOPICS][SCRIPT_KEYS];
    for (uint32_t id = 0; id < w.l->messages_n; id++) {
        const struct script_message *m = &w.l->messages[id];
        const struct found *f = &w.found[id];
        if (!f->there || m->delayed || m->topic == OUT)
            continue;
        if (f->offset < last[m->topic][m->key])
            wrong("message %u of %s stands before an older one of its key", id, script_topic_names[m->topic]);
        last[m->topic][m->key] = f->offset;
    }
}

static void check_made(void)
{
    for (uint32_t t = 0; t < SCRIPT_TOPICS && acked(w.l->made); t++)
        if (w.topic_id[t] == 0 || (script_has_group(t) && w.group_id[t] == 0))
            wrong("topic %s was made, and is lost, or its group is", script_topic_names[t]);
}

static void check_state(enum script_topic t, uint32_t key)
{
    char name[16];
    script_key(key, name);
    struct key k = key_state(w.group_id[t], state_key_hash(view_of_str(name)));
    struct buf row = {0};
    struct state_row state = {0};
    struct err e = {0};
    bool there;
    uint32_t least = 0, number = 0;
    if (store_get(w.d.store, FAM_STATE, key_view(&k), &row, &there, &e) != E_OK || (there && state_row_get(buf_view(&row), &state, &e) != E_OK)) {
        wrong("a state row does not read: %s", e.text);
        return;
    }
    if (there) {
        char text[12] = "";
        memcpy(text, state.value.data, state.value.size < sizeof text - 1 ? state.value.size : sizeof text - 1);
        number = (uint32_t)strtoul(text, NULL, 10);
    }
    bool known = number == 0;
    for (uint32_t id = 0; id < w.l->messages_n; id++) {
        const struct script_message *m = &w.l->messages[id];
        if (m->topic != t || m->key != key || m->unit_number == 0)
            continue;
        if (acked(m->unit) && m->unit_number > least)
            least = m->unit_number;
        known |= m->unit_number == number && asked(m->unit) && w.found[m->output[0]].there;
    }
    if (number < least || !known)
        wrong("the state of %s of %s is of unit %u, that of unit %u was acknowledged", name, script_topic_names[t], number, least);
    buf_free(&row);
}

static void check_rows(void)
{
    check_made();
    for (uint32_t id = 0; id < w.l->messages_n; id++)
        check_published(id);
    check_log_order();
    for (uint32_t t = 0; fine() && t < SCRIPT_TOPICS; t++)
        for (uint32_t key = 0; w.group_id[t] != 0 && key < SCRIPT_KEYS; key++)
            check_state(t, key);
}

/* ---------------------------------------------------------------- deliveries */

static void redrive(enum script_topic t)
{
    struct call c;
    driver_call(&w.d, &c, VERB_HELD_CHANGE);
    driver_number(&w.d, &c, 0);
    c.op.request.held_change = (struct wire_held_change){.topic = view_of_str(script_topic_names[t]), .group = VIEW_LIT(SCRIPT_GROUP),
                                                         .act = TASK_REDRIVE};
    driver_ask(&w.d, &c);
    driver_call_end(&c);
}

static void see_delivery(const struct wire_record *x, struct view value, bool parked_come_too)
{
    uint32_t id = message_of(value);
    const struct place *p = &w.parts[x->partition];
    if (id == SCRIPT_MESSAGES_MAX || w.l->messages[id].topic != p->topic) {
        wrong("what is delivered from %s is nobody's message", script_topic_names[p->topic]);
        return;
    }
    const struct script_message *m = &w.l->messages[id];
    struct found *f = &w.found[id];
    bool delivered = f->delivered;
    f->delivered = true;
    if (m->topic != FAST && (acked(m->done) || acked(m->unit)))
        wrong("message %u of %s was done, and comes again", id, script_topic_names[m->topic]);
    if (m->topic != FAST && acked(m->dropped))
        wrong("message %u of %s was dropped, and comes again", id, script_topic_names[m->topic]);
    if (m->topic != FAST && acked(m->parked) && !asked(m->redriven) && !parked_come_too)
        wrong("message %u of %s was parked, and comes again", id, script_topic_names[m->topic]);
    if (asked(m->unit) && w.found[m->output[0]].there)
        wrong("message %u of %s comes again, and what its unit produced is there", id, script_topic_names[m->topic]);
    if (delivered)
        wrong("message %u of %s is delivered twice", id, script_topic_names[m->topic]);
    uint64_t *last = &w.last_offset[m->topic][m->key];
    if (x->offset < *last && !asked(m->redriven) && !parked_come_too)
        wrong("message %u of %s comes behind a younger one of its key", id, script_topic_names[m->topic]);
    if (x->offset + 1 > *last)
        *last = x->offset + 1;
}

static uint32_t see_all(const struct wire_receive_reply *r, struct wire_settle_item *items, bool parked_come_too)
{
    uint32_t n = 0;
    for (uint32_t d = 0; d < r->deliveries_n; d++) {
        const struct wire_delivery *x = &r->deliveries[d];
        size_t at = 0;
        for (uint32_t i = 0; fine() && i < x->records_n; i++) {
            const struct wire_record *rec = &x->records[i];
            see_delivery(rec, driver_value(x, i, &at), parked_come_too);
            items[n++] = (struct wire_settle_item){.token = x->token, .offset = rec->offset, .group = x->group, .partition = rec->partition,
                                                   .verb = SETTLE_ACK};
        }
    }
    return n;
}

static void ack(const struct wire_settle_item *items, uint32_t n)
{
    struct call c;
    driver_call(&w.d, &c, VERB_SETTLE);
    driver_number(&w.d, &c, 0);
    c.op.request.settle = (struct wire_settle){.singles = items, .singles_n = n};
    const struct wire_reply *r = driver_ask(&w.d, &c);
    for (uint32_t i = 0; fine() && i < r->settle.codes_n; i++)
        if (r->settle.codes[i] != E_OK)
            wrong("an ack is refused: %s", error_name(r->settle.codes[i]));
    driver_call_end(&c);
}

/* Receives, and acknowledges, from all groups; how many. */
static uint32_t receive(bool parked_come_too)
{
    struct call c;
    uint32_t groups[SCRIPT_TOPICS], groups_n = 0;
    for (uint32_t t = 0; t < SCRIPT_TOPICS; t++)
        if (w.group_id[t] != 0)
            groups[groups_n++] = w.group_id[t];
    if (groups_n == 0)
        return 0;
    driver_call(&w.d, &c, VERB_RECEIVE);
    c.op.request.receive = (struct wire_receive){.counter = ++w.d.counter, .groups = groups, .groups_n = groups_n, .max_messages = RECEIVE_MAX,
                                                 .max_bytes = 4 << 20};
    const struct wire_reply *r = driver_ask(&w.d, &c);
    static struct wire_settle_item items[RECEIVE_MAX];
    uint32_t n = fine() ? see_all(&r->receive, items, parked_come_too) : 0;
    if (n > 0 && fine())
        ack(items, n);
    driver_call_end(&c);
    return n;
}

/* Until nothing comes, however long one waits: leases and sessions of before end, retries and batches become due. */
static void drain(bool parked_come_too)
{
    static const uint64_t waits_ms[] = {0, 1000, 15000, 60000, 4000000, 60000, 60000};
    for (size_t i = 0; fine() && i < sizeof waits_ms / sizeof waits_ms[0];) {
        driver_pass(&w.d, waits_ms[i]);
        i = receive(parked_come_too) > 0 ? 1 : i + 1;
    }
}

static void check_delivered(uint32_t id)
{
    const struct script_message *m = &w.l->messages[id];
    const struct found *f = &w.found[id];
    if (!script_has_group(m->topic) || (!f->there && !f->scheduled) || f->delivered)
        return;
    bool perhaps_done = asked(m->done) || asked(m->dropped);
    bool unit_there = asked(m->unit) && w.found[m->output[0]].there;
    if (perhaps_done || unit_there)
        return;
    if (f->held_parked && m->may_park < w.promise.asked_before)
        return;
    wrong("message %u of %s is %s, and is not delivered", id, script_topic_names[m->topic], f->held_parked ? "parked" : "not done");
}

static void check_parked(uint32_t id)
{
    const struct script_message *m = &w.l->messages[id];
    const struct found *f = &w.found[id];
    if (m->topic != FAST && acked(m->parked) && !asked(m->redriven) && !asked(m->dropped) && !f->held_parked)
        wrong("message %u of %s was parked, and is not among the dead letters", id, script_topic_names[m->topic]);
    if (f->held_parked && acked(m->dropped))
        wrong("message %u of %s was dropped, and is a dead letter still", id, script_topic_names[m->topic]);
}

/* Its outputs are there all or none, and all if it was acknowledged. */
static void check_unit(uint32_t id)
{
    const struct script_message *m = &w.l->messages[id];
    if (m->unit.asked == SCRIPT_NEVER)
        return;
    uint32_t there = 0;
    for (int k = 0; k < SCRIPT_OUTPUTS; k++)
        there += w.found[m->output[k]].there;
    if (there != 0 && there != SCRIPT_OUTPUTS)
        wrong("of unit %u %u outputs are there", m->unit_number, there);
    if (there == 0 && acked(m->unit))
        wrong("unit %u was acknowledged, and is lost", m->unit_number);
}

static void check_all(void)
{
    struct key all = {0};
    each_row(FAM_HELD, key_view(&all), see_held);
    for (uint32_t id = 0; fine() && id < w.l->messages_n; id++) {
        check_parked(id);
        check_unit(id);
    }
    if (w.group_id[STRICT] != 0) { /* what stands behind dead letters comes too */
        redrive(STRICT);
        drain(true);
    }
    for (uint32_t id = 0; fine() && id < w.l->messages_n; id++)
        check_delivered(id);
}

/* ---------------------------------------------------------------- */

const char *reopen_check(const char *path, const struct script_ledger *l, struct reopen_promise promise)
{
    log_setup("power", (enum log_level)(LOG_ERROR + 1));
    w.l = l;
    w.promise = promise;
    w.d.session = (struct id128){9, 9};
    w.d.now = (struct engine_now){.mono_ms = 1000, .wall_ms = l->ended_ms + 1000};
    driver_open_store(&w.d, path);
    if (fine())
        see_rows();
    if (fine())
        check_rows();
    if (fine())
        driver_open_loop(&w.d);
    driver_hello(&w.d, "after", false);
    drain(false);
    if (fine())
        check_all();
    return fine() ? NULL : w.d.wrong;
}
