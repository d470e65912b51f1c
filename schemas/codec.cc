/* The structs of codec.h as FlatBuffers, and back. The only file that knows FlatBuffers, and the only C++ of the project;
 * it needs nothing of the C++ library but templates.
 *
 * Every table is described once, field by field, by a function `walk`. Walkers read the description:
 *
 *     Measure           how many bytes the table takes at most           codec_*_bound
 *     Children, Fields  first what the table points at, then the table   codec_*_encode
 *     Read              from verified bytes into the struct              codec_*_decode
 *
 * so a field that is written is also measured and read. What must hold beyond a field is said by `fault`.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>
#include <utility>

#include <flatbuffers/flatbuffers.h>

#include "batch_generated.h"
#include "plugin_generated.h"
#include "wire_generated.h"

#include "schemas/codec.h"
#include "schemas/columns.h"
#include "schemas/errors.h"

/* What FlatBuffers names of the C++ library: its default allocator and its destructors, none of which ever runs here. The
 * names are bound inside this object only; defined as C++ would have it, they would also be those of the program we are in. */
__attribute__((used, noreturn)) static void never() asm("codec_never");
static void never()
{
    abort();
}
asm(".set _Znam, codec_never");   /* operator new[](size_t) */
asm(".set _ZdaPv, codec_never");  /* operator delete[](void *) */
asm(".set _ZdlPv, codec_never");  /* operator delete(void *) */
asm(".set _ZdlPvm, codec_never"); /* operator delete(void *, size_t) */
asm(".set __cxa_pure_virtual, codec_never");

namespace {

namespace fb = flatbuffers;
namespace wire = sluice::wire;
namespace plugin = sluice::plugin;
namespace batch = sluice::batch;

/* ---------------------------------------------------------------- frozen structs
 *
 * A frozen struct and its C twin have the same fields in the same order without holes, so that an array of one is an array of
 * the other. */

static_assert(FLATBUFFERS_LITTLEENDIAN, "columns and frozen structs are laid over the wire's bytes");

struct Member {
    const char *name;
    size_t at, size;
};

constexpr bool same_name(const char *a, const char *b)
{
    while (*a != 0 && *a == *b)
        a++, b++;
    return *a == *b;
}

template <class W, size_t... I>
constexpr bool twins(const Member (&c)[sizeof...(I)], size_t c_size, std::index_sequence<I...>)
{
    const size_t sizes[] = {sizeof(typename W::Traits::template FieldType<I>)...};
    size_t at = 0;
    for (size_t i = 0; i < sizeof...(I); i++) {
        if (!same_name(W::Traits::field_names[i], c[i].name) || c[i].at != at || c[i].size != sizes[i])
            return false;
        at += sizes[i];
    }
    return at == sizeof(W) && at == c_size;
}

template <class W, class C, size_t N> constexpr bool twins(const Member (&c)[N])
{
    static_assert(N == W::Traits::fields_number && alignof(W) == alignof(C));
    return twins<W>(c, sizeof(C), std::make_index_sequence<N>());
}

#define M(member) {#member, offsetof(C, member), sizeof(C::member)}
#define TWINS(W, T, ...)                                                                                         \
    static_assert([] {                                                                                           \
        using C = struct T;                                                                                      \
        return twins<W, C>({__VA_ARGS__});                                                                       \
    }())

TWINS(wire::FetchFrom, wire_fetch_from, M(offset), M(partition), M(max_bytes));
TWINS(wire::SettleItem, wire_settle_item, M(token), M(offset), M(group), M(partition), M(delay_ms), M(verb), M(flags),
      M(note));
TWINS(wire::Limits, wire_limits, M(message_bytes_max), M(key_bytes_max), M(headers_max), M(headers_bytes_max),
      M(request_bytes_max), M(reply_bytes_max), M(requests_in_flight_max), M(requests_waiting_max),
      M(batch_records_max), M(session_grace_ms));
TWINS(wire::Record, wire_record, M(offset), M(append_time_ms), M(timestamp_ms), M(partition), M(grants), M(failures),
      M(sum), M(key_size), M(headers_size), M(value_size), M(flags));
TWINS(wire::Partition, wire_partition, M(start), M(end), M(visible), M(bytes), M(first_time_ms), M(id), M(index));
TWINS(wire::StreamPlace, wire_place, M(generation), M(offset), M(partition), M(flags));
TWINS(wire::SeekRow, wire_seek_row, M(from), M(to), M(partition), M(index));
TWINS(wire::GroupLoss, wire_group_loss, M(lost), M(from), M(to), M(from_time_ms), M(to_time_ms), M(partition), M(index));
TWINS(wire::MemberPart, wire_member_part, M(generation), M(committed), M(end), M(committed_ms), M(partition), M(index),
      M(owner), M(target));
TWINS(wire::Id128, id128, M(lo), M(hi));
TWINS(batch::Id128, id128, M(lo), M(hi));
TWINS(batch::Block, batch_block, M(raw_end), M(stored_end));

#undef M
#undef TWINS

/* ---------------------------------------------------------------- the tables
 *
 * A walker offers, each with the field (AT) and the C struct's members for it:
 *
 *     number      a scalar                          inlined     a frozen struct inside the table
 *     text        a string                          bytes       a vector of bytes, aligned
 *     marked      bytes, with a flag "present"      array       a vector of scalars or frozen structs, borrowed
 *     column      an array of exactly `count`       texts       a vector of strings
 *     table       a table that is always there      table_if    one that may be absent
 *     tables      a vector of tables                one_of      a union
 */

template <class T> struct Tag {
    using Table = T;
};

template <class T, class R> struct Field {
    const char *name;
    fb::voffset_t at;    /* in T's vtable */
    R (T::*get)() const; /* T's own reader of it */
};
template <class T, class R> Field(const char *, fb::voffset_t, R (T::*)() const) -> Field<T, R>;

#define TABLE(T) template <class W, class S> void walk(Tag<T>, W &w, S &s)
#define EMPTY_TABLE(T) template <class W, class S> void walk(Tag<T>, W &, S &) {}
#define AT(NAME, name) (Field{#name, W::Table::VT_##NAME, &W::Table::name})
#define NUMBER(NAME, name) w.number(AT(NAME, name), s.name)
#define INLINED(NAME, name) w.inlined(AT(NAME, name), s.name)
#define TEXT(NAME, name) w.text(AT(NAME, name), s.name)
#define BYTES(NAME, name, align) w.bytes(AT(NAME, name), s.name, align)
#define MARKED(NAME, name) w.marked(AT(HAS_##NAME, has_##name), AT(NAME, name), s.name)
#define ARRAY(NAME, name, max) w.array(AT(NAME, name), s.name, s.name##_n, max)
#define COLUMN(NAME, name) w.column(AT(NAME, name), s.name, s.count)
#define TABLES(NAME, name, max) w.tables(AT(NAME, name), s.name, s.name##_n, max)
#define ONE_OF(NAME, name, kind) w.one_of(AT(NAME##_TYPE, name##_type), AT(NAME, name), kind, s)

/* For vectors that are borrowed and belong to one answer, the message's size is limit enough. */
constexpr uint32_t ANY_NUMBER = UINT32_MAX;
constexpr uint32_t NOTES_MAX = UINT16_MAX; /* an item's `note` is 16 bits wide */
constexpr uint32_t URLS_MAX = 64;
constexpr uint32_t CODES_MAX = WIRE_ITEMS_MAX + WIRE_UNITS_MAX;
constexpr size_t BATCH_ALIGN = 16;
const uint8_t EMPTY[1] = {0}; /* what a view of no bytes may point at */

#include "schemas/tables.def"

#undef TABLE
#undef EMPTY_TABLE
#undef AT
#undef NUMBER
#undef INLINED
#undef TEXT
#undef BYTES
#undef MARKED
#undef ARRAY
#undef COLUMN
#undef TABLES
#undef ONE_OF

/* ---------------------------------------------------------------- the unions
 *
 * each_body calls `f` with the table and the struct's member that stand for `kind`; false: the kind is unknown. */

struct Nothing {
} nothing;

#define KIND(kind, traits, T, member)                                                                            \
    case kind:                                                                                                   \
        static_assert(static_cast<int>(kind) == static_cast<int>(traits<T>::enum_value));                        \
        f(Tag<T>(), member);                                                                                     \
        return true

#define REQUEST(kind, T, member) KIND(kind, wire::RequestBodyTraits, wire::T, member)
template <class S, class F> bool each_body(wire::RequestBody, int kind, S &s, F f)
{
    switch (kind) {
        REQUEST(VERB_HELLO, Hello, s.hello);
        REQUEST(VERB_BYE, Bye, nothing);
        REQUEST(VERB_PRODUCE, Produce, s.produce);
        REQUEST(VERB_FETCH, Fetch, s.fetch);
        REQUEST(VERB_RECEIVE, Receive, s.receive);
        REQUEST(VERB_SETTLE, Settle, s.settle);
        REQUEST(VERB_TOPIC_CREATE, TopicCreate, s.topic);
        REQUEST(VERB_TOPIC_ALTER, TopicAlter, s.topic);
        REQUEST(VERB_TOPIC_DELETE, TopicDelete, s.topic);
        REQUEST(VERB_TOPIC_LIST, TopicList, s.list);
        REQUEST(VERB_OFFSET_FOR, OffsetFor, s.offset_for);
        REQUEST(VERB_GROUP_CREATE, GroupCreate, s.group);
        REQUEST(VERB_GROUP_ALTER, GroupAlter, s.group);
        REQUEST(VERB_GROUP_DELETE, GroupDelete, s.group);
        REQUEST(VERB_GROUP_LIST, GroupList, s.list);
        REQUEST(VERB_GROUP_LAG, GroupLag, s.list);
        REQUEST(VERB_HELD_LIST, HeldList, s.held);
        REQUEST(VERB_HEALTH, Health, nothing);
        REQUEST(VERB_GROUP_CONTROL, GroupControl, s.control);
        REQUEST(VERB_HELD_CHANGE, HeldChange, s.held_change);
        REQUEST(VERB_TASK_LIST, TaskList, s.task);
        REQUEST(VERB_TASK_CANCEL, TaskCancel, s.task);
        REQUEST(VERB_SCHED_LIST, SchedList, s.sched);
        REQUEST(VERB_SCHED_CHANGE, SchedChange, s.sched);
        REQUEST(VERB_EXPLAIN, Explain, s.explain);
        REQUEST(VERB_STATE_GET, StateGet, s.state_get);
        REQUEST(VERB_GROUP_JOIN, GroupJoin, s.join);
        REQUEST(VERB_GROUP_HEARTBEAT, GroupHeartbeat, s.heartbeat);
        REQUEST(VERB_GROUP_LEAVE, GroupLeave, s.leave);
        REQUEST(VERB_GROUP_COMMIT, GroupCommit, s.commit);
        REQUEST(VERB_GROUP_SEEK, GroupSeek, s.seek);
        REQUEST(VERB_GROUP_MEMBERS, GroupMembers, s.members);
        REQUEST(VERB_BACKUP, Backup, s.backup);
        REQUEST(VERB_WORKER_REPORT, WorkerReport, s.worker_report);
        REQUEST(VERB_WORKER_LIST, WorkerList, s.worker_list);
        REQUEST(VERB_WORKER_CONTROL, WorkerControl, s.worker_control);
    }
    return false;
}
static_assert(VERB_COUNT - 1 == static_cast<int>(wire::RequestBody::MAX));

#define REPLY(kind, T, member) KIND(kind, wire::ReplyBodyTraits, wire::T, member)
template <class S, class F> bool each_body(wire::ReplyBody, int kind, S &s, F f)
{
    switch (kind) {
    case BODY_NONE:
        return true;
        REPLY(BODY_HELLO, HelloReply, s.hello);
        REPLY(BODY_PRODUCE, ProduceReply, s.produce);
        REPLY(BODY_FETCH, FetchReply, s.fetch);
        REPLY(BODY_RECEIVE, ReceiveReply, s.receive);
        REPLY(BODY_SETTLE, SettleReply, s.settle);
        REPLY(BODY_TOPICS, TopicReply, s.topics);
        REPLY(BODY_OFFSET, OffsetReply, s.offset);
        REPLY(BODY_GROUPS, GroupReply, s.groups);
        REPLY(BODY_LAG, LagReply, s.lag);
        REPLY(BODY_HELD, HeldReply, s.held);
        REPLY(BODY_HEALTH, HealthReply, s.health);
        REPLY(BODY_TASKS, TaskReply, s.tasks);
        REPLY(BODY_SCHED, SchedReply, s.sched);
        REPLY(BODY_EXPLAIN, ExplainReply, s.explain);
        REPLY(BODY_STATE, StateReply, s.state);
        REPLY(BODY_MEMBER, MemberReply, s.member);
        REPLY(BODY_COMMIT, CommitReply, s.commit);
        REPLY(BODY_SEEK, SeekReply, s.seek);
        REPLY(BODY_MEMBERS, MembersReply, s.members);
        REPLY(BODY_BACKUP, BackupReply, s.backup);
        REPLY(BODY_WORKER_REPORT, WorkerReportReply, s.worker_report);
        REPLY(BODY_WORKER_LIST, WorkerListReply, s.worker_list);
        REPLY(BODY_WORKER_CONTROL, WorkerControlReply, s.worker_control);
    }
    return false;
}
static_assert(BODY_WORKER_CONTROL == static_cast<int>(wire::ReplyBody::MAX));

#define PACKET(kind, T, member) KIND(kind, plugin::BodyTraits, plugin::T, member)
template <class S, class F> bool each_body(plugin::Body, int kind, S &s, F f)
{
    switch (kind) {
        PACKET(PLUGIN_START, Start, s.start);
        PACKET(PLUGIN_TASK, Task, s.task);
        PACKET(PLUGIN_CANCEL, Cancel, s.cancel);
        PACKET(PLUGIN_STOP, Stop, nothing);
        PACKET(PLUGIN_READY, Ready, s.ready);
        PACKET(PLUGIN_VERDICT, Verdict, s.verdict);
        PACKET(PLUGIN_LOG, Log, s.log);
        PACKET(PLUGIN_PROGRESS, Progress, s.progress);
        PACKET(PLUGIN_EXTEND, Extend, s.extend);
    }
    return false;
}
static_assert(PLUGIN_EXTEND == static_cast<int>(plugin::Body::MAX));

#undef KIND
#undef REQUEST
#undef REPLY
#undef PACKET

/* ---------------------------------------------------------------- Measure */

constexpr size_t LENGTH = sizeof(fb::uoffset_t); /* of an offset, and of the count before each vector */
constexpr size_t SPACE_ALIGN = 16;
constexpr size_t FIELDS_MAX = 21; /* of one table */

/* What one table costs besides its fields: the offset to its vtable, padding before the widest field and before that offset, the
 * vtable, and FlatBuffers' note of it, which it keeps at the low end of the space. */
template <class T>
constexpr size_t TABLE_ROOM = sizeof(fb::soffset_t) + 7 + 3 +
                              (2 + T::Traits::fields_number) * sizeof(fb::voffset_t) + sizeof(fb::uoffset_t);

/* And one message besides its tables: root, identifier, padding, and notes of the fields of the table in work. */
constexpr size_t MESSAGE_ROOM =
    LENGTH + fb::kFileIdentifierLength + SPACE_ALIGN + FIELDS_MAX * 2 * sizeof(uint32_t);

struct Room {
    size_t bytes = MESSAGE_ROOM;
    size_t slots = 0; /* offsets of tables that wait for the vector they go into; they lie below the message's bytes */

    size_t message() const { return (bytes + SPACE_ALIGN - 1) / SPACE_ALIGN * SPACE_ALIGN; }
    size_t total() const { return SPACE_ALIGN - 1 + message() + slots * sizeof(fb::uoffset_t); }
};

template <class T, class S> void measure(Room &room, const S &s);

template <class T> struct Measure {
    using Table = T;
    Room &room;

    void field(size_t size) { room.bytes += size; }
    void vector(size_t size, size_t align) { room.bytes += LENGTH + size + (align < LENGTH ? LENGTH : align); }
    void string(const view &v) { vector(v.size + 1, 1); }

    template <class R, class V> void number(const Field<T, R> &, const V &)
    {
        field(sizeof(V));
    }
    template <class R, class V> void inlined(const Field<T, R> &, const V &)
    {
        field(sizeof(V));
    }
    template <class R> void text(const Field<T, R> &, const view &v)
    {
        field(LENGTH);
        string(v);
    }
    template <class R> void bytes(const Field<T, R> &, const view &v, size_t align)
    {
        field(LENGTH);
        vector(v.size, align);
    }
    template <class R> void marked(const Field<T, bool> &, const Field<T, R> &f, const view &v)
    {
        field(sizeof(uint8_t));
        bytes(f, v, 1);
    }
    template <class R, class E> void array(const Field<T, R> &, const E *, uint32_t n, uint32_t)
    {
        field(LENGTH);
        vector(n * sizeof(E), alignof(E));
    }
    template <class R, class E> void column(const Field<T, R> &f, const E *p, uint32_t n)
    {
        array(f, p, p != nullptr ? n : 0, n);
    }
    template <class R> void texts(const Field<T, R> &, const view *p, uint32_t n, uint32_t)
    {
        field(LENGTH);
        vector(n * LENGTH, LENGTH);
        room.slots += n;
        for (uint32_t i = 0; i < n; i++)
            string(p[i]);
    }
    template <class X, class S> void table(const Field<T, const X *> &, const S &s)
    {
        field(LENGTH);
        measure<X>(room, s);
    }
    template <class X, class S> void table_if(const Field<T, const X *> &f, bool has, const S &s)
    {
        if (has)
            table(f, s);
    }
    template <class X, class S> void table_if(const Field<T, const X *> &f, const S *s)
    {
        if (s != nullptr)
            table(f, *s);
    }
    template <class X, class S>
    void tables(const Field<T, const fb::Vector<fb::Offset<X>> *> &, const S *p, uint32_t n, uint32_t)
    {
        field(LENGTH);
        vector(n * LENGTH, LENGTH);
        room.slots += n;
        for (uint32_t i = 0; i < n; i++)
            measure<X>(room, p[i]);
    }
    template <class U, class S>
    void one_of(const Field<T, U> &, const Field<T, const void *> &, int kind, const S &s)
    {
        field(sizeof(U));
        field(LENGTH);
        each_body(U(), kind, s, [this](auto tag, const auto &part) {
            measure<typename decltype(tag)::Table>(room, part);
        });
    }
};

template <class T, class S> void measure(Room &room, const S &s)
{
    static_assert(T::Traits::fields_number <= FIELDS_MAX);
    room.bytes += TABLE_ROOM<T>;
    Measure<T> w{room};
    walk(Tag<T>(), w, s);
}

/* ---------------------------------------------------------------- Children and Fields
 *
 * FlatBuffers builds from the end: what a table points at is finished before the table begins. So a table is walked once for
 * what it points at, whose offsets wait in `child`, and then for each width of its own fields, widest first, which packs
 * them without holes. */

/* Gives out the space once, whole; it was measured before, so nobody asks for more. */
class Space final : public fb::Allocator {
public:
    Space(uint8_t *at, size_t bytes) : begin(at), size(bytes) {}
    uint8_t *allocate(size_t wanted) override
    {
        if (wanted != size)
            abort();
        return begin;
    }
    uint8_t *reallocate_downward(uint8_t *, size_t, size_t, size_t, size_t) override { abort(); }
    void deallocate(uint8_t *, size_t) override {}

private:
    uint8_t *begin;
    size_t size;
};

struct Builder {
    fb::FlatBufferBuilder to;
    fb::uoffset_t *slots; /* the free ones */
};

template <class T, class S> fb::uoffset_t put(Builder &b, const S &s);

template <class T> struct Children {
    using Table = T;
    Builder &b;
    fb::uoffset_t *next; /* in `child` */

    template <class E> fb::uoffset_t vector(const E *p, size_t n, size_t align)
    {
        b.to.ForceVectorAlignment(n, sizeof(E), align);
        b.to.StartVector(n * (sizeof(E) / alignof(E)), alignof(E));
        b.to.PushBytes(reinterpret_cast<const uint8_t *>(p), n * sizeof(E));
        return b.to.EndVector(n);
    }
    fb::uoffset_t string(const view &v)
    {
        return v.data != nullptr ? b.to.CreateString(reinterpret_cast<const char *>(v.data), v.size).o : 0;
    }
    /* Elements are built from the last, so that they lie in the buffer as they are read. */
    template <class F> fb::uoffset_t offsets(uint32_t n, F element)
    {
        if (n == 0)
            return 0;
        fb::uoffset_t *offset = b.slots;
        b.slots += n;
        for (uint32_t i = n; i-- > 0;)
            offset[i] = element(i);
        b.to.StartVector(n, LENGTH);
        for (uint32_t i = n; i-- > 0;)
            b.to.PushElement(fb::Offset<void>(offset[i]));
        b.slots = offset;
        return b.to.EndVector(n);
    }

    template <class R, class V> void number(const Field<T, R> &, const V &) {}
    template <class R, class V> void inlined(const Field<T, R> &, const V &) {}
    template <class R> void text(const Field<T, R> &, const view &v)
    {
        *next++ = string(v);
    }
    template <class R> void bytes(const Field<T, R> &, const view &v, size_t align)
    {
        *next++ = v.data != nullptr ? vector(v.data, v.size, align) : 0;
    }
    template <class R> void marked(const Field<T, bool> &, const Field<T, R> &f, const view &v)
    {
        bytes(f, v, 1);
    }
    template <class R, class E> void array(const Field<T, R> &, const E *p, uint32_t n, uint32_t)
    {
        *next++ = n != 0 ? vector(p, n, alignof(E)) : 0;
    }
    template <class R, class E> void column(const Field<T, R> &f, const E *p, uint32_t n)
    {
        array(f, p, p != nullptr ? n : 0, n);
    }
    template <class R> void texts(const Field<T, R> &, const view *p, uint32_t n, uint32_t)
    {
        *next++ = offsets(n, [&](uint32_t i) { return string(p[i].data != nullptr ? p[i] : view{EMPTY, 0}); });
    }
    template <class X, class S> void table(const Field<T, const X *> &, const S &s)
    {
        *next++ = put<X>(b, s);
    }
    template <class X, class S> void table_if(const Field<T, const X *> &, bool has, const S &s)
    {
        *next++ = has ? put<X>(b, s) : 0;
    }
    template <class X, class S> void table_if(const Field<T, const X *> &, const S *s)
    {
        *next++ = s != nullptr ? put<X>(b, *s) : 0;
    }
    template <class X, class S>
    void tables(const Field<T, const fb::Vector<fb::Offset<X>> *> &, const S *p, uint32_t n, uint32_t)
    {
        *next++ = offsets(n, [&](uint32_t i) { return put<X>(b, p[i]); });
    }
    template <class U, class S>
    void one_of(const Field<T, U> &, const Field<T, const void *> &, int kind, const S &s)
    {
        fb::uoffset_t body = 0;
        bool known = each_body(U(), kind, s, [&](auto tag, const auto &part) {
            body = put<typename decltype(tag)::Table>(b, part);
        });
        assert(known);
        *next++ = body;
    }
};

template <class T, size_t WIDTH> struct Fields {
    using Table = T;
    Builder &b;
    const fb::uoffset_t *next;

    template <class R> void reference(const Field<T, R> &f)
    {
        if constexpr (WIDTH == LENGTH)
            b.to.AddOffset(f.at, fb::Offset<void>(*next++));
    }

    template <class R, class V> void number(const Field<T, R> &f, V v)
    {
        static_assert(sizeof(R) == sizeof(V) && (std::is_enum_v<R> || std::is_same_v<R, V>));
        if constexpr (sizeof(V) != WIDTH)
            return;
        else if constexpr (std::is_same_v<V, bool>)
            b.to.AddElement<uint8_t>(f.at, v, 0);
        else
            b.to.AddElement<V>(f.at, v, 0);
    }
    template <class X, class V> void inlined(const Field<T, const X *> &f, const V &v)
    {
        if constexpr (alignof(V) == WIDTH)
            b.to.AddStruct(f.at, reinterpret_cast<const X *>(&v));
    }
    template <class R> void text(const Field<T, R> &f, const view &)
    {
        reference(f);
    }
    template <class R> void bytes(const Field<T, R> &f, const view &, size_t)
    {
        reference(f);
    }
    template <class R> void marked(const Field<T, bool> &has, const Field<T, R> &f, const view &v)
    {
        number(has, v.data != nullptr);
        reference(f);
    }
    template <class R, class E> void array(const Field<T, R> &f, const E *, uint32_t, uint32_t)
    {
        reference(f);
    }
    template <class R, class E> void column(const Field<T, R> &f, const E *, uint32_t)
    {
        reference(f);
    }
    template <class R> void texts(const Field<T, R> &f, const view *, uint32_t, uint32_t)
    {
        reference(f);
    }
    template <class R, class S> void table(const Field<T, R> &f, const S &)
    {
        reference(f);
    }
    template <class R, class S> void table_if(const Field<T, R> &f, bool, const S &)
    {
        reference(f);
    }
    template <class R, class S> void table_if(const Field<T, R> &f, const S *)
    {
        reference(f);
    }
    template <class R, class S> void tables(const Field<T, R> &f, const S *, uint32_t, uint32_t)
    {
        reference(f);
    }
    template <class U, class S>
    void one_of(const Field<T, U> &type, const Field<T, const void *> &f, int kind, const S &)
    {
        number(type, static_cast<std::underlying_type_t<U>>(kind));
        reference(f);
    }
};

template <size_t WIDTH, class T, class S> void put_fields(Builder &b, const fb::uoffset_t *child, const S &s)
{
    Fields<T, WIDTH> w{b, child};
    walk(Tag<T>(), w, s);
}

template <class T, class S> fb::uoffset_t put(Builder &b, const S &s)
{
    fb::uoffset_t child[FIELDS_MAX];
    Children<T> below{b, child};
    walk(Tag<T>(), below, s);

    fb::uoffset_t start = b.to.StartTable();
    put_fields<8, T>(b, child, s);
    put_fields<4, T>(b, child, s);
    put_fields<2, T>(b, child, s);
    put_fields<1, T>(b, child, s);
    return b.to.EndTable(start);
}

template <class T, class S> size_t bound(const S &s)
{
    Room room;
    measure<T>(room, s);
    return room.total();
}

template <class T, class S> int encode(const S &s, codec_space *space, const char *identifier = nullptr)
{
    Room room;
    measure<T>(room, s);
    if (room.total() > space->cap || room.message() >= FLATBUFFERS_MAX_BUFFER_SIZE)
        return E_TOO_LARGE;

    uint8_t *end = space->data + space->cap;
    end -= reinterpret_cast<uintptr_t>(end) % SPACE_ALIGN;
    uint8_t *begin = end - room.message();
    Space whole(begin, room.message());
    Builder b{fb::FlatBufferBuilder(room.message(), &whole),
              reinterpret_cast<fb::uoffset_t *>(begin) - room.slots};

    b.to.Align(SPACE_ALIGN); /* the whole message will be a multiple of this, so it begins as aligned as it ends */
    b.to.Finish(fb::Offset<T>(put<T>(b, s)), identifier);
    space->at = static_cast<size_t>(b.to.GetBufferPointer() - space->data);
    space->size = b.to.GetSize();
    return E_OK;
}

/* ---------------------------------------------------------------- Read */

/* Tables inside each other; ours are at most 5 deep. */
constexpr fb::uoffset_t DEPTH_MAX = 8;

/* No message has more tables than this: each takes at least an offset to its vtable and one that points at it. */
constexpr size_t BYTES_PER_TABLE = sizeof(fb::soffset_t) + sizeof(fb::uoffset_t);

/* Vectors that share bytes would let a short message stand for a long one, whose size nobody has agreed to; so all that is
 * borrowed together is at most as long as the message. */
struct Decoding {
    view message;
    size_t borrowed;
    struct arena *arena;
    struct err *err;
    int blame; /* the code for what is wrong with the bytes */
    int code = E_OK;

    void fail(int why, const char *fmt, ...) PRINTF_LIKE(3, 4)
    {
        if (code != E_OK)
            return;
        va_list args;
        va_start(args, fmt);
        code = err_vset(err, why, fmt, args);
        va_end(args);
    }
    /* Memory for n structs of the message. */
    template <class E> E *take(const char *name, uint32_t n)
    {
        auto *p = static_cast<E *>(arena_take(arena, n * sizeof(E)));
        if (p == nullptr)
            fail(E_TOO_LARGE, "%s: %u entries need more memory than the limit of %zu bytes", name, n, arena->limit);
        return p;
    }
    bool within(const char *name, uint32_t n, uint32_t max)
    {
        if (n > max)
            fail(blame, "%s: %u entries, the limit is %u", name, n, max);
        return code == E_OK;
    }
    /* For `size` bytes of the message at `p`. The verifier looks at the alignment of a vector's count, not of its elements. */
    bool borrow(const char *name, const void *p, size_t size, size_t align)
    {
        borrowed += size;
        if (borrowed > message.size)
            fail(blame, "%s: shares bytes with another field", name);
        if (size != 0 && static_cast<size_t>(static_cast<const uint8_t *>(p) - message.data) % align != 0)
            fail(blame, "%s: not aligned to %zu bytes", name, align);
        return code == E_OK;
    }
};

/* What is wrong with a struct whose fields are each in order; NULL if nothing is. */
template <class S> const char *fault(const S &)
{
    return nullptr;
}

bool notes_exist(const wire_settle_item *items, uint32_t n, uint32_t notes_n)
{
    uint32_t highest = 0;
    for (uint32_t i = 0; i < n; i++)
        highest = items[i].note > highest ? items[i].note : highest;
    return highest <= notes_n;
}

const char *fault(const wire_settle &s)
{
    bool good = notes_exist(s.singles, s.singles_n, s.notes_n);
    for (uint32_t i = 0; i < s.units_n; i++)
        good &= notes_exist(s.units[i].items, s.units[i].items_n, s.notes_n);
    return good ? nullptr : "an item names a note that is not there";
}

const char *fault(const wire_delivery &s)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s.records_n; i++) {
        const wire_record &r = s.records[i];
        bytes += uint64_t(r.key_size) - (r.key_size != 0) + r.headers_size + r.value_size - (r.value_size != 0);
    }
    if (bytes != s.data.size)
        return "data is not as long as its records say";
    for (uint32_t i = 0; i < s.state_n; i++) {
        if (s.state[i].index >= s.records_n)
            return "a state belongs to no record";
    }
    return nullptr;
}

const char *fault(const wire_held_reply &s)
{
    for (uint32_t i = 0; i < s.rows_n; i++) {
        if (s.rows[i].record != UINT32_MAX && s.rows[i].record >= s.delivery.records_n)
            return "a row names a record that is not there";
    }
    return nullptr;
}

template <class T, class S> void read(Decoding &d, const T &t, S &s);

template <class T> struct Read {
    using Table = T;
    Decoding &d;
    const T &t;

    view string(const char *name, const fb::String *p)
    {
        return p != nullptr && d.borrow(name, p->Data(), p->size(), 1) ? view{p->Data(), p->size()} : view{};
    }

    template <class R, class V> void number(const Field<T, R> &f, V &v)
    {
        v = static_cast<V>((t.*f.get)());
    }
    template <class X, class V> void inlined(const Field<T, const X *> &f, V &v)
    {
        if (const X *p = (t.*f.get)())
            memcpy(&v, p, sizeof v);
    }
    void text(const Field<T, const fb::String *> &f, view &v)
    {
        v = string(f.name, (t.*f.get)());
    }
    void bytes(const Field<T, const fb::Vector<uint8_t> *> &f, view &v, size_t align)
    {
        const fb::Vector<uint8_t> *p = (t.*f.get)();
        if (p != nullptr && d.borrow(f.name, p->data(), p->size(), align))
            v = view{p->data(), p->size()};
    }
    void marked(const Field<T, bool> &has, const Field<T, const fb::Vector<uint8_t> *> &f, view &v)
    {
        if (!(t.*has.get)())
            return;
        v = view{EMPTY, 0};
        bytes(f, v, 1);
    }
    template <class X, class E>
    void array(const Field<T, const fb::Vector<X> *> &f, const E *&to, uint32_t &n, uint32_t max)
    {
        const fb::Vector<X> *p = (t.*f.get)();
        if (p == nullptr || p->size() == 0 || !d.within(f.name, p->size(), max) ||
            !d.borrow(f.name, p->Data(), p->size() * sizeof(E), alignof(E)))
            return;
        static_assert(sizeof(std::remove_pointer_t<X>) == sizeof(E));
        to = reinterpret_cast<const E *>(p->Data());
        n = p->size();
    }
    template <class X, class E> void column(const Field<T, const fb::Vector<X> *> &f, const E *&to, uint32_t count)
    {
        uint32_t n = 0;
        array(f, to, n, ANY_NUMBER);
        if ((t.*f.get)() != nullptr && n != count)
            d.fail(d.blame, "%s: %u entries for %u records", f.name, n, count);
    }
    template <class X> void texts(const Field<T, const X *> &f, const view *&to, uint32_t &n, uint32_t max)
    {
        const X *p = (t.*f.get)();
        if (p == nullptr || p->size() == 0 || !d.within(f.name, p->size(), max))
            return;
        view *into = d.take<view>(f.name, p->size());
        if (into == nullptr)
            return;
        for (uint32_t i = 0; i < p->size(); i++)
            into[i] = string(f.name, p->Get(i));
        to = into;
        n = p->size();
    }
    template <class X, class S> void table(const Field<T, const X *> &f, S &s)
    {
        if (const X *p = (t.*f.get)())
            read(d, *p, s);
    }
    template <class X, class S> void table_if(const Field<T, const X *> &f, bool &has, S &s)
    {
        has = (t.*f.get)() != nullptr;
        table(f, s);
    }
    template <class X, class S> void table_if(const Field<T, const X *> &f, const S *&to)
    {
        if ((t.*f.get)() == nullptr)
            return;
        S *into = d.take<S>(f.name, 1);
        if (into == nullptr)
            return;
        table(f, *into);
        to = into;
    }
    template <class X, class S>
    void tables(const Field<T, const fb::Vector<fb::Offset<X>> *> &f, const S *&to, uint32_t &n, uint32_t max)
    {
        const fb::Vector<fb::Offset<X>> *p = (t.*f.get)();
        if (p == nullptr || p->size() == 0 || !d.within(f.name, p->size(), max))
            return;
        S *into = d.take<S>(f.name, p->size());
        if (into == nullptr)
            return;
        for (uint32_t i = 0; i < p->size(); i++)
            read(d, *p->Get(i), into[i]);
        to = into;
        n = p->size();
    }
    template <class U, class K, class S>
    void one_of(const Field<T, U> &type, const Field<T, const void *> &f, K &kind, S &s)
    {
        const int wanted = static_cast<int>((t.*type.get)());
        const void *body = (t.*f.get)();
        bool known = each_body(U(), wanted, s, [&](auto tag, auto &part) {
            if (body != nullptr)
                read(d, *static_cast<const typename decltype(tag)::Table *>(body), part);
            else
                d.fail(d.blame, "%s: of type %d, but not there", f.name, wanted);
        });
        if (!known)
            d.fail(d.blame, "%s: type %d is not known", f.name, wanted);
        else
            kind = static_cast<K>(wanted);
    }
};

template <class T, class S> void read(Decoding &d, const T &t, S &s)
{
    Read<T> w{d, t};
    walk(Tag<T>(), w, s);
    if (d.code != E_OK)
        return;
    if (const char *why = fault(s))
        d.fail(d.blame, "%s", why);
}

template <class T, class S>
int decode(view bytes, S *out, struct arena *a, struct err *e, int blame, const char *what, const char *identifier = nullptr)
{
    assert(reinterpret_cast<uintptr_t>(bytes.data) % 8 == 0);
    memset(out, 0, sizeof *out);
    if (bytes.size >= FLATBUFFERS_MAX_BUFFER_SIZE)
        return err_set(e, blame, "%s: %zu bytes are too many", what, bytes.size);
    fb::Verifier verifier(bytes.data, bytes.size, DEPTH_MAX, static_cast<fb::uoffset_t>(bytes.size / BYTES_PER_TABLE));
    if (!verifier.VerifyBuffer<T>(identifier))
        return err_set(e, blame, "%s: %zu bytes that do not hold together", what, bytes.size);
    Decoding d{bytes, 0, a, e, blame};
    read(d, *fb::GetRoot<T>(bytes.data), *out);
    if (d.code != E_OK)
        err_prefix(e, "%s", what);
    return d.code;
}

} // namespace

/* ---------------------------------------------------------------- what C sees */

size_t codec_request_bound(const struct wire_request *r)
{
    return bound<wire::Request>(*r);
}

int codec_request_encode(const struct wire_request *r, struct codec_space *s)
{
    return encode<wire::Request>(*r, s);
}

/* With as much of the batch as keeps everything where it belongs. A vector that was built first lies last. */
static wire_request beheaded(const wire_request *r)
{
    wire_request head = *r;
    assert(r->verb == VERB_PRODUCE && r->produce.batch.size >= SPACE_ALIGN && r->produce.batch.size % SPACE_ALIGN == 0);
    head.produce.batch.size = SPACE_ALIGN;
    return head;
}

size_t codec_produce_head_bound(const struct wire_request *r)
{
    wire_request head = beheaded(r);
    return bound<wire::Request>(head);
}

int codec_produce_head(const struct wire_request *r, struct codec_space *s)
{
    wire_request head = beheaded(r);
    if (r->produce.batch.size >= FLATBUFFERS_MAX_BUFFER_SIZE - codec_produce_head_bound(r))
        return E_TOO_LARGE;
    int rc = encode<wire::Request>(head, s);
    if (rc != E_OK)
        return rc;
    s->size -= SPACE_ALIGN;
    uint8_t *end = s->data + s->at + s->size;
    assert(memcmp(end, head.produce.batch.data, SPACE_ALIGN) == 0 && fb::ReadScalar<uint32_t>(end - LENGTH) == SPACE_ALIGN);
    fb::WriteScalar(end - LENGTH, static_cast<uint32_t>(r->produce.batch.size));
    return E_OK;
}

int codec_request_decode(struct view bytes, struct wire_request *out, struct arena *a, struct err *e)
{
    return decode<wire::Request>(bytes, out, a, e, E_BAD_FRAME, "request");
}

size_t codec_reply_bound(const struct wire_reply *r)
{
    return bound<wire::Reply>(*r);
}

int codec_reply_encode(const struct wire_reply *r, struct codec_space *s)
{
    return encode<wire::Reply>(*r, s);
}

int codec_reply_decode(struct view bytes, struct wire_reply *out, struct arena *a, struct err *e)
{
    return decode<wire::Reply>(bytes, out, a, e, E_BAD_FRAME, "reply");
}

size_t codec_plugin_bound(const struct plugin_packet *p)
{
    return bound<plugin::Packet>(*p);
}

int codec_plugin_encode(const struct plugin_packet *p, struct codec_space *s)
{
    return encode<plugin::Packet>(*p, s);
}

int codec_plugin_decode(struct view bytes, struct plugin_packet *out, struct arena *a, struct err *e)
{
    return decode<plugin::Packet>(bytes, out, a, e, E_BAD_FRAME, "packet");
}

size_t codec_batch_bound(const struct batch_columns *c)
{
    return bound<batch::Batch>(*c);
}

int codec_batch_encode(const struct batch_columns *c, struct codec_space *s)
{
    return encode<batch::Batch>(*c, s, batch::BatchIdentifier());
}

int codec_batch_open(struct view bytes, struct batch_columns *out, struct err *e)
{
    int rc = decode<batch::Batch>(bytes, out, nullptr, e, E_DAMAGED, "batch", batch::BatchIdentifier());
    return rc != E_OK ? rc : columns_check(out, e);
}
