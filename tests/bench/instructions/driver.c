/* The broker's paths in one thread: what instructions.sh counts.
 *
 *     bytes of a request -> frame_open -> api -> inbox -> loop_turn: engine, store_write
 *                               bytes of its reply <- frame_reply <- readers <- loop_sync
 *
 * The real wire code but for its sockets, the real api, loop, engine and readers, over the store in RAM and
 * in virtual time: the same instructions in every run. Each path has a broker of its own. What a client does
 * (making requests, reading replies) is not counted, and neither are the first rounds.
 *
 *     bench-instructions [--with-memory] [PATH..]
 *         prints path, messages, allocations, and nanoseconds (of no meaning under valgrind), a line each
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnu/libc-version.h>
#include <valgrind/callgrind.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/store_mem.h"
#include "wire/frame.h"

enum {
    BATCH = 100,      /* messages of a batch, of a receive and of a settle */
    VALUE_SIZE = 100, /* bytes that do not compress */
    TOGETHER = 8,     /* batches that arrive in one turn */
    SINGLES = 50,     /* single messages that do */
    KEYS = 500,
    WARM = 10,
    ROUNDS = 50,
    PIPE = 7
};

/* ---------------------------------------------------------------- what is counted */

static bool counting;
static uint64_t allocations, spent_ns, since_ns;

static void count_begin(void)
{
    counting = true;
    since_ns = clock_mono_ns();
    CALLGRIND_TOGGLE_COLLECT;
}

static void count_end(void)
{
    CALLGRIND_TOGGLE_COLLECT;
    spent_ns += clock_mono_ns() - since_ns;
    counting = false;
}

/* The linker puts these before the C library's in everything that is ours. What an allocation takes depends
 * on what was allocated before, be it by somebody else: they are counted, and what they take is not, unless it
 * is asked for. */
static bool with_memory;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

static void pause_count(void)
{
    if (counting && !with_memory)
        CALLGRIND_TOGGLE_COLLECT;
}

void *__wrap_malloc(size_t size)
{
    allocations += counting;
    pause_count();
    void *p = __real_malloc(size);
    pause_count();
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    allocations += counting;
    pause_count();
    void *p = __real_calloc(n, size);
    pause_count();
    return p;
}

void *__wrap_realloc(void *p, size_t size)
{
    allocations += counting;
    pause_count();
    void *moved = __real_realloc(p, size);
    pause_count();
    return moved;
}

void __wrap_free(void *p)
{
    pause_count();
    __real_free(p);
    pause_count();
}

/* ---------------------------------------------------------------- a broker, and the client that it has */

struct bench {
    struct store *store;
    struct api *api;
    struct loop *loop;
    struct engine_now now;
    struct rng rng;
    uint32_t partition, group;
    uint64_t seq[8]; /* by lane */
    uint64_t counter;
    size_t answered;
    struct packet *reply; /* the last one that was answered */
};

/* As the wire's: one allocation for each request on its way. */
struct exchange {
    struct op op;
    struct bench *bench;
    uint32_t id;
    uint8_t verb;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-instructions: %s: %s\n", what, why);
    exit(1);
}

static int submit(void *ctx, struct op *op)
{
    struct bench *b = ctx;
    return loop_submit(b->loop, op);
}

static void on_partition(void *user, const struct effect_partition *p)
{
    struct bench *b = user;
    api_partition_set(b->api, p->partition, p->index, p->count);
}

static void on_done(struct op *op)
{
    struct exchange *x = container_of(op, struct exchange, op);
    struct bench *b = x->bench;
    packet_drop(b->reply);
    b->reply = frame_reply(&op->reply, x->verb, x->id);
    b->answered++;
    api_op_end(op);
    mem_free(x);
}

static void arrive(struct bench *b, struct ref *message)
{
    struct frame_request f;
    struct err e = {0};
    struct exchange *x = mem_zalloc(sizeof *x);
    x->op.done = on_done;
    x->op.pipe = PIPE;
    x->op.bytes = sizeof *x + message->size;
    x->op.hold = message;
    x->bench = b;
    api_op_begin(&x->op);
    if (frame_open(ref_view(message), &f, &e) != E_OK)
        die("a request", e.text);
    x->id = f.id;
    x->verb = f.head.verb;
    api_request(b->api, &x->op, f.head.verb, f.body);
}

/* What came since the last turn, until all is answered; then the turn in which what is durable is seen. */
static void serve(struct bench *b, struct ref *const *messages, size_t n)
{
    b->answered = 0;
    for (size_t i = 0; i < n; i++)
        arrive(b, messages[i]);
    for (int turns = 0; b->answered < n; turns++) {
        if (turns > 20)
            die("a request", "it is not answered");
        loop_turn(b->loop, b->now);
        loop_sync(b->loop);
    }
    loop_turn(b->loop, b->now);
}

/* ---------------------------------------------------------------- requests as bytes, replies as structs */

static struct ref *message_of(const struct wire_request *r)
{
    size_t head = FRAME_ID_SIZE + FRAME_SIZE, cap = codec_request_bound(r);
    uint8_t *room = mem_alloc(head + cap);
    struct codec_space space = {.data = room + head, .cap = cap};
    if (codec_request_encode(r, &space) != E_OK)
        die("a request", "it does not encode");
    uint8_t *at = room + space.at; /* `head` before the message */
    memcpy(at, (const uint8_t[]){0x80, 0, 0, 1}, FRAME_ID_SIZE);
    frame_put(at + FRAME_ID_SIZE, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)r->verb},
              at + head, space.size);
    struct ref *message = ref_new_copy(at, head + space.size);
    mem_free(room);
    return message;
}

static struct wire_request request(struct bench *b, enum wire_verb verb, bool numbered, uint32_t lane)
{
    struct wire_request r = {.session = {1, 2}, .verb = verb, .lane = lane};
    if (numbered) {
        r.seq = ++b->seq[lane];
        r.replies_seen = b->seq[lane] - 1;
    }
    return r;
}

/* The last reply, good until the next. */
static struct wire_reply *reply_of(struct bench *b, struct arena *a)
{
    static struct wire_reply reply;
    struct err e = {0};
    arena_init(a, 1 << 30);
    struct view bytes =
        view_of(b->reply->data + FRAME_ID_SIZE + FRAME_SIZE, b->reply->size - FRAME_ID_SIZE - FRAME_SIZE);
    if (codec_reply_decode(bytes, &reply, a, &e) != E_OK)
        die("a reply", e.text);
    if (reply.code != E_OK)
        die("a reply", reply.detail.size > 0 ? (const char *)reply.detail.data : error_name(reply.code));
    return &reply;
}

static struct wire_reply *ask(struct bench *b, const struct wire_request *r, struct arena *a)
{
    struct ref *message = message_of(r);
    serve(b, &message, 1);
    b->now.mono_ms++;
    b->now.wall_ms++;
    return reply_of(b, a);
}

/* ---------------------------------------------------------------- life */

static struct bench *bench_open(void)
{
    struct bench *b = mem_zalloc(sizeof *b);
    struct err e = {0};
    struct arena a;
    rng_seed(&b->rng, 1);
    b->now = (struct engine_now){.mono_ms = 1000000, .wall_ms = 1800000000000};
    b->store = store_mem_new();
    b->api = api_new(&(struct api_options){
        .limits = &engine_limits_default, .message_bytes_max = 1 << 20, .port = {submit, b}});
    const struct loop_options o = {
        .store = b->store, .limits = &engine_limits_default, .seed = 1, .partition = on_partition, .user = b};
    if (loop_open(&b->loop, &o, b->now, &e) != E_OK)
        die("the loop does not open", e.text);

    struct wire_request r = request(b, VERB_HELLO, false, 0);
    r.hello = (struct wire_hello){
        .version_min = WIRE_VERSION, .version_max = WIRE_VERSION, .name = VIEW_LIT("bench")};
    ask(b, &r, &a);
    arena_free(&a);
    r = request(b, VERB_TOPIC_CREATE, true, 0);
    r.topic = (struct wire_topic_set){.name = VIEW_LIT("t")};
    b->partition = ask(b, &r, &a)->topics.topics[0].partitions[0].id;
    arena_free(&a);
    return b;
}

static void group_open(struct bench *b)
{
    struct arena a;
    struct wire_request r = request(b, VERB_GROUP_CREATE, true, 0);
    r.group = (struct wire_group_set){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g")};
    b->group = ask(b, &r, &a)->groups.groups[0].id;
    arena_free(&a);
}

static void bench_close(struct bench *b)
{
    loop_close(b->loop);
    api_free(b->api);
    store_close(b->store);
    packet_drop(b->reply);
    mem_free(b);
}

/* ---------------------------------------------------------------- produce */

static struct ref *produce_of(struct bench *b, uint32_t count, uint32_t keys)
{
    struct batch_builder *builder = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    struct wire_request r = request(b, VERB_PRODUCE, true, b->partition);
    r.produce = (struct wire_produce){.partition = b->partition, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        uint8_t value[VALUE_SIZE];
        char key[16];
        rng_fill(&b->rng, value, sizeof value);
        struct record record = {.value = view_of(value, sizeof value), .timestamp_ms = b->now.wall_ms};
        if (keys > 0)
            record.key = view_of(key, (size_t)snprintf(key, sizeof key, "key-%llu",
                                                       (unsigned long long)rng_below(&b->rng, keys)));
        if (batch_builder_add(builder, &record, &e) != E_OK)
            die("a batch", e.text);
    }
    if (batch_builder_finish(builder, BATCH_LZ4, &bytes, &r.produce.batch_hash, &e) != E_OK)
        die("a batch", e.text);
    r.produce.batch = buf_view(&bytes);
    struct ref *message = message_of(&r);
    buf_free(&bytes);
    batch_builder_free(builder);
    return message;
}

/* `together` requests of `count` messages in one turn. */
static void produce_round(struct bench *b, uint32_t together, uint32_t count, uint32_t keys, bool counted)
{
    struct ref *messages[SINGLES];
    struct arena a;
    for (uint32_t i = 0; i < together; i++)
        messages[i] = produce_of(b, count, keys);
    if (counted)
        count_begin();
    serve(b, messages, together);
    if (counted)
        count_end();
    reply_of(b, &a);
    arena_free(&a);
    b->now.mono_ms++;
    b->now.wall_ms++;
}

static uint64_t produce(uint32_t rounds, uint32_t together, uint32_t count)
{
    struct bench *b = bench_open();
    for (uint32_t i = 0; i < WARM + rounds; i++)
        produce_round(b, together, count, 0, i >= WARM);
    bench_close(b);
    return (uint64_t)rounds * together * count;
}

static uint64_t produce_batches(void)
{
    return produce(ROUNDS, TOGETHER, BATCH);
}
static uint64_t produce_singles(void)
{
    return produce(ROUNDS, SINGLES, 1);
}
static uint64_t produce_alone(void)
{
    return produce(4 * ROUNDS, 1, 1);
}

/* ---------------------------------------------------------------- fetch */

static uint64_t fetched(struct bench *b, uint64_t *next)
{
    struct arena a;
    struct err e = {0};
    uint64_t before = *next;
    for (struct view rest = reply_of(b, &a)->fetch.parts[0].data; rest.size > 0;) {
        struct stored_header h;
        struct view batch;
        if (stored_next(&rest, &h, &batch, &e) != E_OK)
            die("a fetched batch", e.text);
        *next = h.base_offset + h.count;
    }
    arena_free(&a);
    return *next - before;
}

static uint64_t fetch(void)
{
    struct bench *b = bench_open();
    uint64_t next = 0, messages = 0;
    for (int i = 0; i < WARM + ROUNDS; i++)
        produce_round(b, TOGETHER, BATCH, 0, false);
    for (int i = 0; i < WARM + ROUNDS; i++) {
        const struct wire_fetch_from from = {.partition = b->partition, .offset = next, .max_bytes = 1 << 16};
        struct wire_request r = request(b, VERB_FETCH, false, 0);
        r.fetch = (struct wire_fetch){.from = &from, .from_n = 1, .max_bytes = 1 << 16};
        struct ref *message = message_of(&r);
        if (i >= WARM)
            count_begin();
        serve(b, &message, 1);
        if (i >= WARM)
            count_end();
        uint64_t n = fetched(b, &next);
        messages += i >= WARM ? n : 0;
    }
    bench_close(b);
    return messages;
}

/* ---------------------------------------------------------------- receive and settle */

static struct ref *receive_of(struct bench *b)
{
    struct wire_request r = request(b, VERB_RECEIVE, false, 0);
    r.receive = (struct wire_receive){.counter = ++b->counter,
                                      .groups = &b->group,
                                      .groups_n = 1,
                                      .max_messages = BATCH,
                                      .max_bytes = 1 << 20,
                                      .wait_ms = 1000};
    return message_of(&r);
}

/* An ack of everything that the last reply brought. */
static struct ref *settle_of(struct bench *b)
{
    struct wire_settle_item items[BATCH];
    struct arena a;
    uint32_t n = 0;
    const struct wire_receive_reply *v = &reply_of(b, &a)->receive;
    for (uint32_t d = 0; d < v->deliveries_n; d++)
        for (uint32_t i = 0; i < v->deliveries[d].records_n; i++)
            items[n++] = (struct wire_settle_item){.token = v->deliveries[d].token,
                                                   .offset = v->deliveries[d].records[i].offset,
                                                   .group = b->group,
                                                   .partition = v->deliveries[d].records[i].partition,
                                                   .verb = SETTLE_ACK};
    if (n != BATCH)
        die("receive", "not a whole batch");
    struct wire_request r = request(b, VERB_SETTLE, true, 0);
    r.settle = (struct wire_settle){.singles = items, .singles_n = n};
    struct ref *message = message_of(&r);
    arena_free(&a);
    return message;
}

static uint64_t lease(uint32_t keys, bool receives, bool settles)
{
    struct bench *b = bench_open();
    group_open(b);
    for (int i = 0; i < 2 * (WARM + ROUNDS) / TOGETHER; i++) /* more than are asked for */
        produce_round(b, TOGETHER, BATCH, keys, false);
    for (int i = 0; i < WARM + ROUNDS; i++) {
        struct ref *message = receive_of(b);
        bool counted = i >= WARM;
        if (counted && receives)
            count_begin();
        serve(b, &message, 1);
        if (counted && receives)
            count_end();
        message = settle_of(b);
        if (counted && settles)
            count_begin();
        serve(b, &message, 1);
        if (counted && settles)
            count_end();
        struct arena a;
        if (reply_of(b, &a)->settle.codes != NULL)
            die("settle", "not everything was acknowledged");
        arena_free(&a);
        b->now.mono_ms++;
        b->now.wall_ms++;
    }
    bench_close(b);
    return (uint64_t)ROUNDS * BATCH;
}

static uint64_t receive(void)
{
    return lease(0, true, false);
}
static uint64_t settle(void)
{
    return lease(0, false, true);
}
static uint64_t receive_keyed(void)
{
    return lease(KEYS, true, false);
}
static uint64_t settle_keyed(void)
{
    return lease(KEYS, false, true);
}

/* ---------------------------------------------------------------- all of them */

static const struct path {
    const char *name;
    uint64_t (*run)(void);
} paths[] = {
    {"produce", produce_batches},
    {"produce-singles", produce_singles},
    {"produce-alone", produce_alone},
    {"fetch", fetch},
    {"receive", receive},
    {"settle", settle},
    {"receive-keyed", receive_keyed},
    {"settle-keyed", settle_keyed},
};

static bool wanted(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--with-memory") == 0) {
        with_memory = true;
        argc--, argv++;
    }
    log_setup("bench-instructions", LOG_ERROR);
    printf("gcc-%s-glibc-%s\n", __VERSION__, gnu_get_libc_version());
    CALLGRIND_START_INSTRUMENTATION;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (!wanted(argc, argv, paths[i].name))
            continue;
        allocations = spent_ns = 0;
        CALLGRIND_ZERO_STATS;
        uint64_t messages = paths[i].run();
        CALLGRIND_DUMP_STATS_AT(paths[i].name);
        printf("%s %llu %llu %llu\n", paths[i].name, (unsigned long long)messages,
               (unsigned long long)allocations, (unsigned long long)spent_ns);
    }
    CALLGRIND_STOP_INSTRUMENTATION;
    return 0;
}
