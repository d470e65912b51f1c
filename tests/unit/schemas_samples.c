#include "schemas_samples.h"

#include <assert.h>
#include <stdio.h>

/* ---- scalars and bytes */

static void line(struct see *v, const char *name, uint64_t value)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    text[--at] = '=';
    buf_append(&v->out, name, strlen(name));
    buf_append(&v->out, text + at, sizeof text - at);
    buf_append(&v->out, "\n", 1);
}

/* What a number is to be filled with. In full samples it tells its width and its place. */
static uint64_t sample(struct see *v, uint64_t base, uint64_t max)
{
    if (v->mode == SEE_FULL)
        return base + v->n;
    switch (rng_below(&v->rng, 4)) {
    case 0:
        return 0;
    case 1:
        return max;
    default:
        return rng_next(&v->rng) & max;
    }
}

#define SEE_NUMBER(suffix, type, base, max)                            \
    static void see_##suffix(struct see *v, const char *name, type *p) \
    {                                                                  \
        v->n++;                                                        \
        if (v->mode == SEE_WRITE)                                      \
            line(v, name, *p);                                         \
        else                                                           \
            *p = (type)sample(v, base, max);                           \
    }
SEE_NUMBER(u8, uint8_t, 1, UINT8_MAX)
SEE_NUMBER(u16, uint16_t, 0x1600, UINT16_MAX)
SEE_NUMBER(u32, uint32_t, 0x32000000, UINT32_MAX)
SEE_NUMBER(u64, uint64_t, 0x6400000000000000, UINT64_MAX)
SEE_NUMBER(bool, bool, 1, 1)

static uint8_t *fresh(struct see *v, size_t size)
{
    uint8_t *p = arena_take(v->arena, size);
    assert(p != NULL);
    return p;
}

static void see_bytes(struct see *v, const char *name, struct view *p)
{
    v->n++;
    if (v->mode == SEE_WRITE) {
        line(v, name, p->data == NULL ? 0 : p->size + 1);
        buf_append(&v->out, p->data, p->size);
        buf_append(&v->out, "\n", 1);
    } else if (v->mode == SEE_FULL) {
        char *text = (char *)fresh(v, 64);
        int size = snprintf(text, 64, "%s-%llu", name, (unsigned long long)v->n);
        *p = view_of(text, (size_t)size);
    } else {
        static const size_t below[] = {1, 1, 8, 40, 300};
        size_t size = rng_below(&v->rng, below[rng_below(&v->rng, 5)]);
        *p = rng_chance(&v->rng, 1, 4) ? view_of(NULL, 0) : view_of(fresh(v, size), size);
        rng_fill(&v->rng, (uint8_t *)p->data, p->size);
    }
}

/* Makes or only counts an array; its entries are the caller's to visit. */
static void *see_array(struct see *v, const char *name, const void *p, uint32_t *n, size_t size)
{
    if (v->mode == SEE_WRITE) {
        line(v, name, *n);
        return (void *)p;
    }
    *n = v->mode == SEE_FULL ? 2 : (uint32_t)rng_below(&v->rng, rng_chance(&v->rng, 1, 10) ? 30 : 4);
    return *n != 0 ? fresh(v, *n * size) : NULL;
}

#define U8(f) see_u8(v, #f, &s->f)
#define U16(f) see_u16(v, #f, &s->f)
#define U32(f) see_u32(v, #f, &s->f)
#define U64(f) see_u64(v, #f, &s->f)
#define BOOL(f) see_bool(v, #f, &s->f)
#define BYTES(f) see_bytes(v, #f, &s->f)
#define EACH(type, f, see_one)                                    \
    do {                                                          \
        type *p_ = see_array(v, #f, s->f, &s->f##_n, sizeof *p_); \
        s->f = p_;                                                \
        for (uint32_t i_ = 0; i_ < s->f##_n; i_++)                \
            see_one(v, &p_[i_]);                                  \
    } while (0)
#define SEE(type) static void see_##type(struct see *v, struct type *s)

static void see_u32_entry(struct see *v, uint32_t *p)
{
    see_u32(v, "entry", p);
}

static void see_u16_entry(struct see *v, uint16_t *p)
{
    see_u16(v, "entry", p);
}

static void see_view_entry(struct see *v, struct view *p)
{
    see_bytes(v, "entry", p);
    if (p->data == NULL) /* an entry of an array of strings is always there */
        *p = VIEW_LIT("");
}

/* ---- requests */

SEE(wire_hello)
{
    U16(version_min);
    U16(version_max);
    BOOL(resume);
    BYTES(name);
    BYTES(user);
    BYTES(credentials);
}

SEE(wire_produce)
{
    U32(partition);
    U32(count);
    U64(batch_hash);
    BYTES(batch);
    U64(delay_ms);
    U64(at_ms);
    BYTES(cron);
    BYTES(name);
}

SEE(wire_fetch_from)
{
    U64(offset);
    U32(partition);
    U32(max_bytes);
}

SEE(wire_fetch)
{
    EACH(struct wire_fetch_from, from, see_wire_fetch_from);
    U32(max_bytes);
    U32(wait_ms);
}

SEE(wire_receive)
{
    U32(slot);
    U64(counter);
    EACH(uint32_t, groups, see_u32_entry);
    U32(max_messages);
    U32(max_bytes);
    U32(wait_ms);
    U32(lease_ms);
}

SEE(wire_settle_item)
{
    U64(token);
    U64(offset);
    U32(group);
    U32(partition);
    U32(delay_ms);
    U8(verb);
    U8(flags);
    U16(note);
}

SEE(wire_note)
{
    BYTES(reason);
    BYTES(error);
}

SEE(wire_state_put)
{
    U32(group);
    BYTES(key);
    U64(version);
    BYTES(value);
    BOOL(remove);
}

SEE(wire_unit)
{
    EACH(struct wire_settle_item, items, see_wire_settle_item);
    EACH(struct wire_produce, produces, see_wire_produce);
    EACH(struct wire_state_put, state, see_wire_state_put);
}

static void notes_exist(const struct wire_settle_item *items, uint32_t n, uint32_t notes)
{
    for (uint32_t i = 0; i < n; i++)
        ((struct wire_settle_item *)items)[i].note %= notes + 1;
}

SEE(wire_settle)
{
    EACH(struct wire_settle_item, singles, see_wire_settle_item);
    EACH(struct wire_unit, units, see_wire_unit);
    EACH(struct wire_note, notes, see_wire_note);
    bool has_receive = s->receive != NULL;
    see_bool(v, "has_receive", &has_receive);
    if (v->mode != SEE_WRITE) {
        notes_exist(s->singles, s->singles_n, s->notes_n);
        for (uint32_t i = 0; i < s->units_n; i++)
            notes_exist(s->units[i].items, s->units[i].items_n, s->notes_n);
        s->receive = has_receive ? (struct wire_receive *)fresh(v, sizeof *s->receive) : NULL;
    }
    if (s->receive != NULL)
        see_wire_receive(v, (struct wire_receive *)s->receive);
}

SEE(wire_topic_config)
{
    U32(partitions);
    U64(retention_ms);
    U64(retention_bytes);
    U64(hard_cap_ms);
    U8(durability);
    BOOL(compacted);
    U32(message_bytes_max);
    U64(backlog_bytes_max);
    U64(backlog_age_max_ms);
    U64(dedup_ms);
    U64(ttl_ms);
}

SEE(wire_group_config)
{
    U8(mode);
    U8(order);
    U8(park);
    U8(from);
    U32(lease_ms);
    U32(max_deliveries);
    U32(backoff_min_ms);
    U32(backoff_max_ms);
    U32(run_max);
    U32(in_flight_max);
    U8(expired);
    U32(rate_milli);
    U32(key_rate_milli);
    U32(key_in_flight_max);
    U64(idle_expiry_ms);
}

SEE(wire_held_filter)
{
    BOOL(has_key);
    BYTES(key);
    BYTES(header);
    BOOL(has_header_value);
    BYTES(header_value);
    BYTES(reason);
    U64(after_ms);
    U64(before_ms);
    U32(attempts_min);
    U32(attempts_max);
    BOOL(has_offset);
    U32(partition);
    U64(offset);
}

/* A filter that may be absent. */
static void see_filter(struct see *v, const struct wire_held_filter **at)
{
    bool has_filter = *at != NULL;
    see_bool(v, "has_filter", &has_filter);
    if (v->mode != SEE_WRITE)
        *at = has_filter ? (struct wire_held_filter *)fresh(v, sizeof **at) : NULL;
    if (*at != NULL)
        see_wire_held_filter(v, (struct wire_held_filter *)*at);
}

SEE(wire_held_change)
{
    BYTES(topic);
    BYTES(group);
    U8(act);
    see_filter(v, &s->filter);
    U32(rate_milli);
    U64(limit);
    BOOL(dry_run);
    U8(source);
    BOOL(has_partition);
    U32(partition);
    BOOL(has_from);
    U64(from_offset);
    U64(to_offset);
    U64(from_ms);
    U64(to_ms);
    BYTES(of);
    BYTES(into);
    BOOL(follow);
}

SEE(wire_explain)
{
    BYTES(topic);
    BYTES(group);
    BOOL(has_key);
    BYTES(key);
    BOOL(has_offset);
    U32(partition);
    U64(offset);
}

SEE(wire_held_list)
{
    BYTES(topic);
    BYTES(group);
    U8(state);
    U32(after_partition);
    U64(after_offset);
    BOOL(has_after);
    BOOL(payload);
    U32(limit);
    U32(max_bytes);
    see_filter(v, &s->filter);
}

SEE(wire_place)
{
    U64(generation);
    U64(offset);
    U32(partition);
    U32(flags);
}

SEE(wire_worker_handler)
{
    BYTES(name);
    BYTES(topic);
    BYTES(group);
    BYTES(version);
    U8(state);
    U32(up);
    U32(busy);
    U32(wanted);
    U32(least);
    U32(most);
    U64(in_flight);
    U64(done);
    U64(failed);
    U64(done_rate_milli);
    U64(failed_rate_milli);
    BYTES(why);
    BYTES(error);
    U64(taken);
    U16(taken_code);
    BYTES(taken_text);
    U64(asked);
}

SEE(wire_worker)
{
    U64(id);
    BYTES(name);
    BYTES(host);
    U32(pid);
    BYTES(version);
    U64(started_ms);
    U8(state);
    U64(heard_ms);
    EACH(struct wire_worker_handler, handlers, see_wire_worker_handler);
}

void see_request(struct see *v, struct wire_request *s)
{
    U64(session.lo);
    U64(session.hi);
    U32(lane);
    U64(seq);
    U64(replies_seen);
    if (v->mode == SEE_WRITE)
        line(v, "verb", s->verb);
    switch (s->verb) {
    case VERB_HELLO:
        see_wire_hello(v, &s->hello);
        break;
    case VERB_PRODUCE:
        see_wire_produce(v, &s->produce);
        break;
    case VERB_FETCH:
        see_wire_fetch(v, &s->fetch);
        break;
    case VERB_RECEIVE:
        see_wire_receive(v, &s->receive);
        break;
    case VERB_SETTLE:
        see_wire_settle(v, &s->settle);
        break;
    case VERB_TOPIC_ALTER:
        U64(topic.mask);
        __attribute__((fallthrough));
    case VERB_TOPIC_CREATE:
        see_wire_topic_config(v, &s->topic.config);
        __attribute__((fallthrough));
    case VERB_TOPIC_DELETE:
        BYTES(topic.name);
        break;
    case VERB_GROUP_LIST:
    case VERB_GROUP_LAG:
        BYTES(list.topic);
        __attribute__((fallthrough));
    case VERB_TOPIC_LIST:
        BYTES(list.name);
        BYTES(list.after);
        U32(list.limit);
        break;
    case VERB_OFFSET_FOR:
        U32(offset_for.partition);
        U64(offset_for.time_ms);
        break;
    case VERB_GROUP_ALTER:
        U64(group.mask);
        __attribute__((fallthrough));
    case VERB_GROUP_CREATE:
        see_wire_group_config(v, &s->group.config);
        __attribute__((fallthrough));
    case VERB_GROUP_DELETE:
        BYTES(group.topic);
        BYTES(group.name);
        break;
    case VERB_HELD_LIST:
        see_wire_held_list(v, &s->held);
        break;
    case VERB_GROUP_CONTROL:
        BYTES(control.topic);
        BYTES(control.name);
        U8(control.act);
        break;
    case VERB_HELD_CHANGE:
        see_wire_held_change(v, &s->held_change);
        break;
    case VERB_TASK_LIST:
        U64(task.after);
        U32(task.limit);
        __attribute__((fallthrough));
    case VERB_TASK_CANCEL:
        U64(task.id);
        break;
    case VERB_SCHED_LIST:
        BYTES(sched.topic);
        BYTES(sched.name);
        U64(sched.after_ms);
        U64(sched.after_id.lo);
        U64(sched.after_id.hi);
        U32(sched.limit);
        break;
    case VERB_SCHED_CHANGE:
        BYTES(sched.topic);
        BYTES(sched.name);
        U8(sched.act);
        U64(sched.at_ms);
        U64(sched.delay_ms);
        break;
    case VERB_EXPLAIN:
        see_wire_explain(v, &s->explain);
        break;
    case VERB_STATE_GET:
        U32(state_get.group);
        BYTES(state_get.key);
        break;
    case VERB_GROUP_JOIN:
        BYTES(join.topic);
        BYTES(join.group);
        U32(join.member);
        BYTES(join.name);
        U32(join.timeout_ms);
        break;
    case VERB_GROUP_HEARTBEAT:
        U32(heartbeat.group);
        U32(heartbeat.member);
        U64(heartbeat.version);
        EACH(struct wire_place, heartbeat.released, see_wire_place);
        U32(heartbeat.wait_ms);
        break;
    case VERB_GROUP_LEAVE:
        U32(leave.group);
        U32(leave.member);
        BOOL(leave.keep);
        break;
    case VERB_GROUP_COMMIT:
        U32(commit.group);
        EACH(struct wire_place, commit.items, see_wire_place);
        break;
    case VERB_GROUP_SEEK:
        BYTES(seek.topic);
        BYTES(seek.group);
        U8(seek.to);
        EACH(struct wire_place, seek.items, see_wire_place);
        BYTES(seek.other);
        BOOL(seek.dry_run);
        break;
    case VERB_BACKUP:
        BYTES(backup.name);
        break;
    case VERB_WORKER_REPORT:
        see_wire_worker(v, &s->worker_report.worker);
        BOOL(worker_report.leaving);
        break;
    case VERB_WORKER_LIST:
        BYTES(worker_list.daemon);
        BYTES(worker_list.handler);
        BYTES(worker_list.topic);
        BYTES(worker_list.group);
        U64(worker_list.after);
        U32(worker_list.limit);
        break;
    case VERB_WORKER_CONTROL:
        BYTES(worker_control.daemon);
        BYTES(worker_control.handler);
        BYTES(worker_control.topic);
        BYTES(worker_control.group);
        U8(worker_control.act);
        BOOL(worker_control.has_least);
        U32(worker_control.least);
        BOOL(worker_control.has_most);
        U32(worker_control.most);
        break;
    case VERB_GROUP_MEMBERS:
        BYTES(members.topic);
        BYTES(members.group);
        U32(members.from);
        U32(members.limit);
        break;
    case VERB_BYE:
    case VERB_HEALTH:
        break;
    case VERB_NONE:
    case VERB_COUNT:
        assert(!"a verb that a request has");
    }
}

/* ---- replies */

SEE(wire_hello_reply)
{
    U16(version);
    BOOL(resumed);
    EACH(struct view, publish, see_view_entry);
    BYTES(http);
    BYTES(product);
    U32(limits.message_bytes_max);
    U32(limits.key_bytes_max);
    U32(limits.headers_max);
    U32(limits.headers_bytes_max);
    U32(limits.request_bytes_max);
    U32(limits.reply_bytes_max);
    U32(limits.requests_in_flight_max);
    U32(limits.requests_waiting_max);
    U32(limits.batch_records_max);
    U32(limits.session_grace_ms);
    U32(epoch);
}

SEE(wire_produced)
{
    U32(partition);
    U32(count);
    U64(base_offset);
    U64(append_time_ms);
    BOOL(duplicate);
    BYTES(name);
    U64(due_ms);
    EACH(uint32_t, duplicates, see_u32_entry);
}

SEE(wire_fetch_part)
{
    U32(partition);
    U16(code);
    U64(start);
    U64(end);
    BYTES(data);
    BOOL(has_gap);
    if (!s->has_gap)
        return;
    U64(gap.from);
    U64(gap.to);
    U64(gap.from_time_ms);
    U64(gap.to_time_ms);
    U8(gap.why);
}

SEE(wire_record)
{
    U64(offset);
    U64(append_time_ms);
    U64(timestamp_ms);
    U32(partition);
    U32(grants);
    U32(failures);
    U32(sum);
    U32(key_size);
    U32(headers_size);
    U32(value_size);
    U32(flags);
}

SEE(wire_state_row)
{
    U32(index);
    U64(version);
    BYTES(value);
}

/* Gives the records sizes that add up to some data. */
static void fit_records(struct see *v, struct wire_delivery *s)
{
    size_t total = 0;
    for (uint32_t i = 0; i < s->records_n; i++) {
        struct wire_record *r = (struct wire_record *)&s->records[i];
        r->key_size %= 9;
        r->headers_size %= 30;
        r->value_size %= 100;
        total += r->key_size - (r->key_size != 0) + r->headers_size + r->value_size - (r->value_size != 0);
    }
    uint8_t *data = fresh(v, total);
    for (size_t i = 0; i < total; i++)
        data[i] = (uint8_t)(v->n + i);
    s->data = view_of(data, total);
    if (s->records_n == 0)
        s->state_n = 0;
    for (uint32_t i = 0; i < s->state_n; i++)
        ((struct wire_state_row *)s->state)[i].index %= s->records_n;
}

SEE(wire_delivery)
{
    U32(group);
    U32(lease_ms);
    U64(token);
    EACH(struct wire_record, records, see_wire_record);
    BYTES(data);
    EACH(struct wire_state_row, state, see_wire_state_row);
    if (v->mode != SEE_WRITE)
        fit_records(v, s);
}

SEE(wire_receive_reply)
{
    EACH(struct wire_delivery, deliveries, see_wire_delivery);
    U64(counter);
}

SEE(wire_settle_reply)
{
    EACH(uint16_t, codes, see_u16_entry);
    EACH(struct wire_produced, outputs, see_wire_produced);
    BOOL(has_receive);
    if (s->has_receive)
        see_wire_receive_reply(v, &s->receive);
}

SEE(wire_partition)
{
    U64(start);
    U64(end);
    U64(visible);
    U64(bytes);
    U64(first_time_ms);
    U32(id);
    U32(index);
}

SEE(wire_topic)
{
    BYTES(name);
    U32(id);
    see_wire_topic_config(v, &s->config);
    EACH(struct wire_partition, partitions, see_wire_partition);
    U64(created_ms);
    U32(groups);
    U64(dirty_bytes);
    U64(compacted_ms);
    U64(tombstones);
    U64(tombstone_ms);
    U32(dirty_min);
    U64(compact_age_ms);
}

SEE(wire_topic_reply)
{
    EACH(struct wire_topic, topics, see_wire_topic);
    BOOL(more);
    BOOL(created);
}

SEE(wire_group_loss)
{
    U64(lost);
    U64(from);
    U64(to);
    U64(from_time_ms);
    U64(to_time_ms);
    U32(partition);
    U32(index);
}

SEE(wire_group)
{
    BYTES(topic);
    BYTES(name);
    U32(id);
    U32(topic_id);
    see_wire_group_config(v, &s->config);
    U64(created_ms);
    BOOL(paused);
    U64(lost);
    EACH(struct wire_group_loss, losses, see_wire_group_loss);
}

SEE(wire_group_reply)
{
    EACH(struct wire_group, groups, see_wire_group);
    BOOL(more);
    BOOL(created);
}

SEE(wire_lag)
{
    BYTES(topic);
    BYTES(group);
    U32(group_id);
    U64(lag_messages);
    U64(lag_bytes);
    U64(in_flight);
    U64(delayed);
    U64(parked);
    U64(oldest_age_ms);
    U64(ack_rate_milli);
    U64(drain_eta_ms);
    U64(scale_value);
    U8(status);
    U8(mode);
    U64(lost);
}

SEE(wire_lag_reply)
{
    EACH(struct wire_lag, rows, see_wire_lag);
    BOOL(more);
}

SEE(wire_held)
{
    U8(state);
    U64(due_ms);
    U64(at_ms);
    U64(offset);
    BYTES(reason);
    BYTES(error);
    U32(record);
    U32(partition);
    U32(grants);
    U32(failures);
}

SEE(wire_held_reply)
{
    BYTES(topic);
    BYTES(group);
    EACH(struct wire_held, rows, see_wire_held);
    BOOL(more);
    U32(next_partition);
    U64(next_offset);
    BOOL(has_delivery);
    if (s->has_delivery)
        see_wire_delivery(v, &s->delivery);
    for (uint32_t i = 0; v->mode != SEE_WRITE && i < s->rows_n; i++) {
        struct wire_held *row = (struct wire_held *)&s->rows[i];
        row->record = row->record % (s->delivery.records_n + 1) - 1; /* UINT32_MAX: none */
    }
}

SEE(wire_health_reply)
{
    BYTES(status);
    BYTES(version);
    BYTES(reason);
    U32(epoch);
    U32(topics);
    U32(groups);
    U32(sessions);
    U64(turn);
    U64(durable_turn);
    U64(uptime_ms);
}

SEE(wire_task_row)
{
    U64(id);
    BYTES(topic);
    BYTES(group);
    U8(act);
    U8(state);
    BOOL(dry_run);
    U64(seen);
    U64(matched);
    U64(changed);
    U64(started_ms);
    U64(ended_ms);
    U32(rate_milli);
    BYTES(error);
    U64(left);
    U64(lost);
    U8(source);
    BYTES(of);
}

SEE(wire_scheduled)
{
    BYTES(name);
    BYTES(topic);
    U32(partition);
    U32(count);
    U64(due_ms);
    U64(created_ms);
    U64(bytes);
    BYTES(cron);
    U64(id.lo);
    U64(id.hi);
}

SEE(wire_explain_reply)
{
    U8(fact);
    BYTES(text);
    U32(partition);
    U64(offset);
    U64(since_ms);
    U64(until_ms);
    U64(depth);
    U32(attempts);
    BYTES(session);
    BYTES(reason);
}

SEE(wire_seek_row)
{
    U64(from);
    U64(to);
    U32(partition);
    U32(index);
}

SEE(wire_member)
{
    BYTES(name);
    BYTES(client);
    U32(member);
    U8(state);
    U32(timeout_ms);
    U64(heard_ms);
    U64(joined_ms);
    U32(partitions);
}

SEE(wire_member_part)
{
    U64(generation);
    U64(committed);
    U64(end);
    U64(committed_ms);
    U32(partition);
    U32(index);
    U32(owner);
    U32(target);
}

SEE(wire_worker_command)
{
    U64(number);
    BYTES(handler);
    U8(act);
    BOOL(has_least);
    U32(least);
    BOOL(has_most);
    U32(most);
}

void see_reply(struct see *v, struct wire_reply *s)
{
    U16(code);
    BYTES(detail);
    U8(durability);
    U32(retry_after_ms);
    U64(depth);
    U64(drain_ms);
    if (v->mode == SEE_WRITE)
        line(v, "body", s->body);
    switch (s->body) {
    case BODY_NONE:
        break;
    case BODY_HELLO:
        see_wire_hello_reply(v, &s->hello);
        break;
    case BODY_PRODUCE:
        see_wire_produced(v, &s->produce);
        break;
    case BODY_FETCH:
        EACH(struct wire_fetch_part, fetch.parts, see_wire_fetch_part);
        break;
    case BODY_RECEIVE:
        see_wire_receive_reply(v, &s->receive);
        break;
    case BODY_SETTLE:
        see_wire_settle_reply(v, &s->settle);
        break;
    case BODY_TOPICS:
        see_wire_topic_reply(v, &s->topics);
        break;
    case BODY_OFFSET:
        U64(offset.offset);
        U64(offset.start);
        U64(offset.end);
        break;
    case BODY_GROUPS:
        see_wire_group_reply(v, &s->groups);
        break;
    case BODY_LAG:
        see_wire_lag_reply(v, &s->lag);
        break;
    case BODY_HELD:
        see_wire_held_reply(v, &s->held);
        break;
    case BODY_HEALTH:
        see_wire_health_reply(v, &s->health);
        break;
    case BODY_TASKS:
        EACH(struct wire_task_row, tasks.tasks, see_wire_task_row);
        BOOL(tasks.more);
        break;
    case BODY_SCHED:
        EACH(struct wire_scheduled, sched.rows, see_wire_scheduled);
        BOOL(sched.more);
        break;
    case BODY_EXPLAIN:
        see_wire_explain_reply(v, &s->explain);
        break;
    case BODY_STATE:
        BOOL(state.found);
        U64(state.version);
        BYTES(state.value);
        break;
    case BODY_MEMBER:
        U32(member.group);
        U64(member.version);
        U32(member.timeout_ms);
        BOOL(member.changed);
        EACH(struct wire_place, member.assigned, see_wire_place);
        break;
    case BODY_COMMIT:
        EACH(uint16_t, commit.codes, see_u16_entry);
        break;
    case BODY_SEEK:
        EACH(struct wire_seek_row, seek.rows, see_wire_seek_row);
        break;
    case BODY_WORKER_REPORT:
        EACH(struct wire_worker_command, worker_report.commands, see_wire_worker_command);
        U32(worker_report.ttl_ms);
        break;
    case BODY_WORKER_LIST:
        EACH(struct wire_worker, worker_list.workers, see_wire_worker);
        BOOL(worker_list.more);
        break;
    case BODY_WORKER_CONTROL:
        U64(worker_control.number);
        U32(worker_control.reached);
        break;
    case BODY_BACKUP:
        BYTES(backup.path);
        U64(backup.turn);
        U64(backup.bytes);
        U64(backup.files);
        U64(backup.took_ms);
        break;
    case BODY_MEMBERS:
        EACH(struct wire_member, members.members, see_wire_member);
        EACH(struct wire_member_part, members.partitions, see_wire_member_part);
        BOOL(members.more);
        break;
    }
}

/* ---- packets */

SEE(plugin_output)
{
    BYTES(topic);
    BYTES(key);
    BYTES(value);
    BYTES(headers);
    U64(delay_ms);
    BYTES(message_id);
    U64(timestamp_ms);
    U32(ttl_ms);
    U8(priority);
}

void see_packet(struct see *v, struct plugin_packet *s)
{
    if (v->mode == SEE_WRITE)
        line(v, "kind", s->kind);
    switch (s->kind) {
    case PLUGIN_START:
        BYTES(start.path);
        BYTES(start.name);
        BYTES(start.config);
        U32(start.threads);
        U32(start.timeout_ms);
        BYTES(start.exec);
        BYTES(start.dir);
        U64(start.memory_bytes);
        U64(start.file_bytes);
        U32(start.cpu_ms);
        U32(start.open_files);
        U32(start.tasks);
        BYTES(start.user);
        U8(start.seccomp);
        break;
    case PLUGIN_TASK:
        U64(task.id);
        U64(task.offset);
        U64(task.timestamp_ms);
        U64(task.append_time_ms);
        U64(task.deadline_ms);
        U32(task.partition);
        U32(task.attempt);
        U32(task.batch);
        BYTES(task.topic);
        BYTES(task.group);
        BYTES(task.key);
        BYTES(task.value);
        BYTES(task.headers);
        BYTES(task.idempotency_key);
        U64(task.state_version);
        BYTES(task.state);
        break;
    case PLUGIN_CANCEL:
        U64(cancel.id);
        break;
    case PLUGIN_STOP:
        break;
    case PLUGIN_READY:
        BYTES(ready.name);
        BYTES(ready.version);
        BYTES(ready.error);
        U16(ready.code);
        U32(ready.abi);
        BOOL(ready.batches);
        break;
    case PLUGIN_VERDICT:
        U64(verdict.id);
        U8(verdict.verdict);
        BOOL(verdict.has_delay);
        BOOL(verdict.has_state);
        U32(verdict.delay_ms);
        BYTES(verdict.reason);
        BYTES(verdict.error);
        EACH(struct plugin_output, verdict.outputs, see_plugin_output);
        if (!s->verdict.has_state)
            break;
        U64(verdict.state_version);
        BYTES(verdict.state);
        BOOL(verdict.state_remove);
        break;
    case PLUGIN_LOG:
        U8(log.level);
        BYTES(log.text);
        U64(log.task);
        break;
    case PLUGIN_PROGRESS:
        U64(progress.id);
        U32(progress.percent);
        BYTES(progress.note);
        break;
    case PLUGIN_EXTEND:
        U64(extend.id);
        U32(extend.ms);
        break;
    }
}

/* ---- batches */

static void column(struct see *v, const char *name, const void *p, uint32_t count, size_t size)
{
    struct view bytes = view_of(p, p != NULL ? count * size : 0);
    see_bytes(v, name, &bytes);
}

void see_columns(struct see *v, struct batch_columns *s)
{
    assert(v->mode == SEE_WRITE);
    U32(count);
    U8(codec);
    U64(timestamp_ms);
    column(v, "timestamp_delta", s->timestamp_delta, s->count, sizeof *s->timestamp_delta);
    column(v, "key_hash", s->key_hash, s->count, sizeof *s->key_hash);
    column(v, "key_size", s->key_size, s->count, sizeof *s->key_size);
    column(v, "headers_size", s->headers_size, s->count, sizeof *s->headers_size);
    column(v, "value_size", s->value_size, s->count, sizeof *s->value_size);
    column(v, "sum", s->sum, s->count, sizeof *s->sum);
    column(v, "ttl_ms", s->ttl_ms, s->count, sizeof *s->ttl_ms);
    column(v, "offset_delta", s->offset_delta, s->count, sizeof *s->offset_delta);
    column(v, "priority", s->priority, s->count, sizeof *s->priority);
    column(v, "message_id", s->message_id, s->count, sizeof *s->message_id);
    column(v, "meta_blocks", s->meta_blocks, s->meta_blocks_n, sizeof *s->meta_blocks);
    column(v, "value_blocks", s->value_blocks, s->value_blocks_n, sizeof *s->value_blocks);
    BYTES(meta);
    BYTES(values);
}
