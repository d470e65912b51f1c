/* Keys: big endian, so that they sort by number. */
#include "store/keys.h"
#include "base/planted.h"

#include <assert.h>

/* ---------------------------------------------------------------- putting together */

static void add_u8(struct key *k, uint8_t v)
{
    assert(k->size + sizeof v <= sizeof k->bytes);
    k->bytes[k->size++] = v;
}

static void add_u32(struct key *k, uint32_t v)
{
    assert(k->size + sizeof v <= sizeof k->bytes);
    put_u32be(k->bytes + k->size, v);
    k->size += sizeof v;
}

static void add_u64(struct key *k, uint64_t v)
{
    assert(k->size + sizeof v <= sizeof k->bytes);
    put_u64be(k->bytes + k->size, PLANTED(key_little_endian) ? __builtin_bswap64(v) : v);
    k->size += sizeof v;
}

static struct key tagged(char tag)
{
    struct key k = {0};
    add_u8(&k, (uint8_t)tag);
    return k;
}

static struct key tagged_id(char tag, uint32_t id)
{
    struct key k = tagged(tag);
    add_u32(&k, id);
    return k;
}

static struct key tagged_id128(char tag, struct id128 id)
{
    struct key k = tagged(tag);
    add_u64(&k, id.hi);
    add_u64(&k, id.lo);
    return k;
}

static struct key plain_id(uint32_t id)
{
    struct key k = {0};
    add_u32(&k, id);
    return k;
}

struct key key_meta_format(void)
{
    return tagged('v');
}

struct key key_meta_epoch(void)
{
    return tagged('e');
}

struct key key_meta_next(void)
{
    return tagged('n');
}

struct key key_meta_prefix(char tag)
{
    return tagged(tag);
}

struct key key_topic(uint32_t topic)
{
    return tagged_id('t', topic);
}

struct key key_group(uint32_t group)
{
    return tagged_id('g', group);
}

struct key key_partition_row(uint32_t partition)
{
    return tagged_id('p', partition);
}

struct key key_trims(uint32_t partition)
{
    return tagged_id('r', partition);
}

struct key key_compaction(uint32_t partition)
{
    return tagged_id('c', partition);
}

struct key key_log_prefix(uint32_t partition)
{
    return plain_id(partition);
}

struct key key_log(uint32_t partition, uint64_t last_offset)
{
    struct key k = plain_id(partition);
    add_u64(&k, last_offset);
    return k;
}

struct key key_cursor_prefix(uint32_t group)
{
    return tagged_id('c', group);
}

struct key key_cursor(uint32_t group, uint32_t partition)
{
    struct key k = tagged_id('c', group);
    add_u32(&k, partition);
    return k;
}

struct key key_claim_prefix(uint32_t group) { return tagged_id('o', group); }

struct key key_claim(uint32_t group, uint32_t partition)
{
    struct key k = key_claim_prefix(group);
    add_u32(&k, partition);
    return k;
}

struct key key_member_prefix(uint32_t group) { return tagged_id('m', group); }

struct key key_member(uint32_t group, struct id128 session, uint32_t member)
{
    struct key k = key_member_prefix(group);
    add_u64(&k, session.hi);
    add_u64(&k, session.lo);
    add_u32(&k, member);
    return k;
}

struct key key_done_prefix(uint32_t group)
{
    return tagged_id('d', group);
}

struct key key_done_prefix_of(uint32_t group, uint32_t partition)
{
    struct key k = tagged_id('d', group);
    add_u32(&k, partition);
    return k;
}

struct key key_done(uint32_t group, uint32_t partition, uint64_t chunk)
{
    struct key k = key_done_prefix_of(group, partition);
    add_u64(&k, chunk);
    return k;
}

struct key key_group_prefix(uint32_t group)
{
    return plain_id(group);
}

struct key key_lease(uint32_t group, uint64_t token)
{
    struct key k = plain_id(group);
    add_u64(&k, token);
    return k;
}

struct key key_list(uint32_t group, uint64_t hash, uint32_t chunk)
{
    struct key k = plain_id(group);
    add_u64(&k, hash);
    add_u32(&k, chunk);
    return k;
}

/* No group has these ids. */
#define HEADERS UINT32_MAX
#define AWAY (UINT32_MAX - 1)

static struct key of_key(uint32_t place, uint32_t group, uint64_t hash)
{
    struct key k = plain_id(place);
    add_u32(&k, group);
    add_u64(&k, hash);
    return k;
}

static struct key of_keys(uint32_t place, uint32_t group)
{
    struct key k = plain_id(place);
    add_u32(&k, group);
    return k;
}

struct key key_list_header(uint32_t group, uint64_t hash) { return of_key(HEADERS, group, hash); }
struct key key_list_header_prefix(uint32_t group) { return of_keys(HEADERS, group); }
struct key key_list_headers(void) { return plain_id(HEADERS); }
struct key key_away(uint32_t group, uint64_t hash) { return of_key(AWAY, group, hash); }
struct key key_away_prefix(uint32_t group) { return of_keys(AWAY, group); }

struct key key_held(uint32_t group, uint32_t partition, uint64_t offset)
{
    struct key k = plain_id(group);
    add_u32(&k, partition);
    add_u64(&k, offset);
    return k;
}

struct key key_sched_retry(uint64_t due_ms, uint32_t group, uint32_t partition, uint64_t offset)
{
    struct key k = {0};
    add_u64(&k, due_ms);
    add_u8(&k, SCHED_KIND_RETRY);
    add_u32(&k, group);
    add_u32(&k, partition);
    add_u64(&k, offset);
    return k;
}

struct key key_sched_away(uint64_t due_ms, uint32_t group, uint32_t partition, uint64_t offset)
{
    struct key k = key_sched_from(due_ms, SCHED_KIND_AWAY);
    add_u32(&k, group);
    add_u32(&k, partition);
    add_u64(&k, offset);
    return k;
}

struct key key_sched_batch(uint64_t due_ms, uint32_t topic, struct id128 id)
{
    struct key k = key_sched_from(due_ms, SCHED_KIND_BATCH);
    add_u32(&k, topic);
    add_u64(&k, id.hi);
    add_u64(&k, id.lo);
    return k;
}

/* Rows of these kinds stand behind one byte, in order of time, where none of the others can. */
static bool apart(enum sched_kind kind) { return kind == SCHED_KIND_BATCH || kind == SCHED_KIND_AWAY; }

struct key key_sched_from(uint64_t due_ms, enum sched_kind kind)
{
    struct key k = {0};
    if (apart(kind))
        add_u8(&k, (uint8_t)kind);
    add_u64(&k, due_ms);
    if (!apart(kind))
        add_u8(&k, (uint8_t)kind);
    return k;
}

struct key key_sched_name_prefix(uint32_t topic)
{
    struct key k = key_sched_from(0, SCHED_KIND_NAME);
    add_u32(&k, topic);
    return k;
}

struct key key_sched_count_prefix(void) { return key_sched_from(0, SCHED_KIND_COUNT); }
struct key key_sched_away_low(void) { return key_sched_from(0, SCHED_KIND_AWAY_LOW); }
struct key key_sched_low(void) { return key_sched_from(0, SCHED_KIND_LOW); }

struct key key_copy_prefix(uint32_t group)
{
    return tagged_id(SCHED_KIND_COPY, group);
}

struct key key_copy(uint32_t group, uint32_t partition, uint64_t offset)
{
    struct key k = tagged_id(SCHED_KIND_COPY, group);
    add_u32(&k, partition);
    add_u64(&k, offset);
    return k;
}

struct key key_lost_prefix(uint32_t group)
{
    return tagged_id('l', group);
}

struct key key_lost(uint32_t group, uint32_t partition)
{
    struct key k = tagged_id('l', group);
    add_u32(&k, partition);
    return k;
}

struct key key_sched_count(uint32_t topic)
{
    struct key k = key_sched_count_prefix();
    add_u32(&k, topic);
    return k;
}

struct key key_sched_name(uint32_t topic, struct id128 id)
{
    struct key k = key_sched_name_prefix(topic);
    add_u64(&k, id.hi);
    add_u64(&k, id.lo);
    return k;
}

struct key key_task(uint32_t group, uint64_t task)
{
    struct key k = {0};
    add_u8(&k, 'k');
    add_u32(&k, group);
    add_u64(&k, task);
    return k;
}

struct key key_task_ends(uint32_t group, uint64_t task)
{
    struct key k = key_task(group, task);
    k.bytes[0] = 'e';
    return k;
}

struct key key_dedup_generation(void)
{
    struct key k = {0};
    add_u8(&k, 'm');
    return k;
}

/* A u32 and 128 bits: dedup and state. */
static struct key owned_id128(uint32_t owner, struct id128 id)
{
    struct key k = {0};
    add_u32(&k, owner);
    add_u64(&k, id.hi);
    add_u64(&k, id.lo);
    return k;
}

struct key key_dedup(uint32_t topic, struct id128 id) { return owned_id128(topic, id); }
struct key key_state(uint32_t group, struct id128 key_hash) { return owned_id128(group, key_hash); }

struct key key_session(struct id128 id)
{
    return tagged_id128('s', id);
}

struct key key_lane_prefix(struct id128 id)
{
    return tagged_id128('l', id);
}

struct key key_lane(struct id128 id, uint32_t lane)
{
    struct key k = tagged_id128('l', id);
    add_u32(&k, lane);
    return k;
}

struct key key_after(const struct key *prefix)
{
    struct key k = *prefix;
    while (k.size > 0 && k.bytes[k.size - 1] == 0xff)
        k.size--;
    if (k.size > 0) {
        k.bytes[k.size - 1]++;
        return k;
    }
    /* All ones, or empty: nothing of a key's size is behind it but the longest key of ones. */
    memset(k.bytes, 0xff, sizeof k.bytes);
    k.size = sizeof k.bytes;
    return k;
}

bool key_has_prefix(struct view key, const struct key *prefix)
{
    return key.size >= prefix->size && memcmp(key.data, prefix->bytes, prefix->size) == 0;
}

/* ---------------------------------------------------------------- taking apart */

/* What is left behind the tag; bad when it is another's. */
static struct cur behind_tag(struct view key, char tag)
{
    struct cur c = cur_of(key);
    if (cur_u8(&c) != (uint8_t)tag)
        c.bad = true;
    return c;
}

static struct id128 read_id128(struct cur *c)
{
    struct id128 id;
    id.hi = cur_u64be(c);
    id.lo = cur_u64be(c);
    return id;
}

struct key_text key_text(struct view key)
{
    struct key_text t = {""};
    for (size_t i = 0; i < key.size && 2 * i + 2 < sizeof t.hex; i++) {
        t.hex[2 * i] = "0123456789abcdef"[key.data[i] >> 4];
        t.hex[2 * i + 1] = "0123456789abcdef"[key.data[i] & 15];
    }
    return t;
}

bool key_read_id(struct view key, char tag, uint32_t *id)
{
    struct cur c = behind_tag(key, tag);
    *id = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_log(struct view key, uint32_t *partition, uint64_t *last_offset)
{
    struct cur c = cur_of(key);
    *partition = cur_u32be(&c);
    *last_offset = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_cursor(struct view key, uint32_t *group, uint32_t *partition)
{
    struct cur c = behind_tag(key, 'c');
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_claim(struct view key, uint32_t *group, uint32_t *partition)
{
    struct cur c = behind_tag(key, 'o');
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_member(struct view key, uint32_t *group, struct id128 *session, uint32_t *member)
{
    struct cur c = behind_tag(key, 'm');
    *group = cur_u32be(&c);
    *session = read_id128(&c);
    *member = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_done(struct view key, uint32_t *group, uint32_t *partition, uint64_t *chunk)
{
    struct cur c = behind_tag(key, 'd');
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    *chunk = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_lease(struct view key, uint32_t *group, uint64_t *token)
{
    struct cur c = cur_of(key);
    *group = cur_u32be(&c);
    *token = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_list(struct view key, uint32_t *group, uint64_t *hash, uint32_t *chunk)
{
    struct cur c = cur_of(key);
    *group = cur_u32be(&c);
    *hash = cur_u64be(&c);
    *chunk = cur_u32be(&c);
    return cur_done(&c);
}

static bool read_of_key(struct view key, uint32_t place, uint32_t *group, uint64_t *hash)
{
    struct cur c = cur_of(key);
    if (cur_u32be(&c) != place)
        c.bad = true;
    *group = cur_u32be(&c);
    *hash = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_list_header(struct view key, uint32_t *group, uint64_t *hash) { return read_of_key(key, HEADERS, group, hash); }
bool key_read_away(struct view key, uint32_t *group, uint64_t *hash) { return read_of_key(key, AWAY, group, hash); }

bool key_read_held(struct view key, uint32_t *group, uint32_t *partition, uint64_t *offset)
{
    struct cur c = cur_of(key);
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    *offset = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_sched_retry(struct view key, uint64_t *due_ms, uint32_t *group, uint32_t *partition,
                          uint64_t *offset)
{
    struct cur c = cur_of(key);
    *due_ms = cur_u64be(&c);
    if (cur_u8(&c) != SCHED_KIND_RETRY || key.data[0] == SCHED_KIND_AWAY)
        c.bad = true;
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    *offset = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_sched_away(struct view key, uint64_t *due_ms, uint32_t *group, uint32_t *partition, uint64_t *offset)
{
    struct cur c = behind_tag(key, SCHED_KIND_AWAY);
    *due_ms = cur_u64be(&c);
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    *offset = cur_u64be(&c);
    return cur_done(&c);
}

enum sched_kind key_read_sched_kind(struct view key, uint64_t *due_ms)
{
    struct cur c = cur_of(key);
    if (key.size > 0 && apart((enum sched_kind)key.data[0])) {
        enum sched_kind kind = (enum sched_kind)cur_u8(&c);
        *due_ms = cur_u64be(&c);
        return c.bad ? SCHED_KIND_NONE : kind;
    }
    *due_ms = 0;
    if (key.size > 0 && key.data[0] == SCHED_KIND_COPY)
        return SCHED_KIND_COPY;
    *due_ms = cur_u64be(&c);
    uint8_t kind = cur_u8(&c);
    bool known = !c.bad && kind != SCHED_KIND_NONE && strchr("riclw", kind) != NULL;
    return known ? (enum sched_kind)kind : SCHED_KIND_NONE;
}

bool key_read_sched_batch(struct view key, uint64_t *due_ms, uint32_t *topic, struct id128 *id)
{
    struct cur c = behind_tag(key, SCHED_KIND_BATCH);
    *due_ms = cur_u64be(&c);
    *topic = cur_u32be(&c);
    id->hi = cur_u64be(&c);
    id->lo = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_sched_count(struct view key, uint32_t *topic)
{
    struct cur c = cur_of(key);
    if (cur_u64be(&c) != 0 || cur_u8(&c) != SCHED_KIND_COUNT)
        c.bad = true;
    *topic = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_copy(struct view key, uint32_t *group, uint32_t *partition, uint64_t *offset)
{
    struct cur c = behind_tag(key, SCHED_KIND_COPY);
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    *offset = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_lost(struct view key, uint32_t *group, uint32_t *partition)
{
    struct cur c = behind_tag(key, 'l');
    *group = cur_u32be(&c);
    *partition = cur_u32be(&c);
    return cur_done(&c);
}

bool key_read_task(struct view key, uint32_t *group, uint64_t *task)
{
    struct cur c = cur_of(key);
    if (cur_u8(&c) != 'k')
        c.bad = true;
    *group = cur_u32be(&c);
    *task = cur_u64be(&c);
    return cur_done(&c);
}

bool key_read_session(struct view key, struct id128 *id)
{
    struct cur c = behind_tag(key, 's');
    *id = read_id128(&c);
    return cur_done(&c);
}

bool key_read_lane(struct view key, struct id128 *id, uint32_t *lane)
{
    struct cur c = behind_tag(key, 'l');
    *id = read_id128(&c);
    *lane = cur_u32be(&c);
    return cur_done(&c);
}
