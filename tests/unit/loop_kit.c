/* See loop_kit.h. */
#include "loop_kit.h"

#include "base/log.h"

/* ---------------------------------------------------------------- a store whose syncs can be held */

static struct slow_store *slow_of(struct store *s) { return container_of(s, struct slow_store, base); }

static int slow_get(struct store *s, enum store_family f, struct view key, struct buf *out, bool *found, struct err *e)
{
    return store_get(slow_of(s)->mem, f, key, out, found, e);
}
static struct store_iter *slow_iter(struct store *s, enum store_family f) { return store_iter(slow_of(s)->mem, f); }
static int slow_write(struct store *s, const struct puts *p, struct err *e) { return store_write(slow_of(s)->mem, p, e); }
static void slow_stats(struct store *s, struct store_stats *out) { store_stats(slow_of(s)->mem, out); }
static int slow_reclaim(struct store *s, enum store_family f, struct err *e) { return store_reclaim(slow_of(s)->mem, f, e); }
static void slow_close(struct store *s) { store_close(slow_of(s)->mem); }

static int slow_sync(struct store *base, struct err *e)
{
    struct slow_store *s = slow_of(base);
    pthread_mutex_lock(&s->lock);
    s->syncing++;
    pthread_cond_broadcast(&s->changed);
    while (s->held)
        pthread_cond_wait(&s->changed, &s->lock);
    s->syncing--;
    pthread_mutex_unlock(&s->lock);
    return store_sync(s->mem, e);
}

static const struct store_ops slow_ops = {.get = slow_get, .iter = slow_iter, .write = slow_write, .sync = slow_sync, .stats = slow_stats,
                                          .reclaim = slow_reclaim, .close = slow_close};

void kit_hold_sync(struct kit *k, bool held)
{
    pthread_mutex_lock(&k->slow.lock);
    k->slow.held = held;
    pthread_cond_broadcast(&k->slow.changed);
    pthread_mutex_unlock(&k->slow.lock);
}

/* ---------------------------------------------------------------- life */

static void on_fatal(void *user, const struct err *why)
{
    struct kit *k = user;
    k->fatal = *why;
    atomic_fetch_add(&k->fatals, 1);
}

static void on_hint(void *user, uint32_t group, const char *topic, const char *name)
{
    struct kit *k = user;
    (void)group, (void)topic, (void)name;
    atomic_fetch_add(&k->hints, 1);
}

static void on_drop(void *user, uint64_t pipe)
{
    struct kit *k = user;
    (void)pipe;
    atomic_fetch_add(&k->dropped, 1);
}

static void open_loop(struct kit *k)
{
    struct err e = {0};
    struct loop_options o = {.store = k->store, .limits = &k->limits, .tail_cache_bytes = k->tail_cache_bytes, .seed = 1,
                             .reader_threads = k->reader_threads, .fatal = on_fatal, .hint = on_hint, .drop_pipe = on_drop, .user = k};
    if (loop_open(&k->loop, &o, k->now, &e) != E_OK)
        fail_msg("the loop does not open: %s", e.text);
}

static struct call *numbered(struct kit *k, struct call *c, uint32_t lane)
{
    c->op.request.lane = lane;
    c->op.request.seq = ++k->seq[lane];
    c->op.request.replies_seen = k->seq[lane] - 1;
    return c;
}

static void make(struct kit *k, int topic, const char *name)
{
    struct call *c = numbered(k, kit_new_call(k, VERB_TOPIC_CREATE), 0);
    c->op.request.topic = (struct wire_topic_set){.name = view_of_str(name), .config = {.durability = topic == OS ? DURABILITY_OS : DURABILITY_DISK}};
    k->partition[topic] = kit_ask(k, c)->topics.topics[0].partitions[0].id;
    c = numbered(k, kit_new_call(k, VERB_GROUP_CREATE), 0);
    c->op.request.group = (struct wire_group_set){.topic = view_of_str(name), .name = VIEW_LIT("g")};
    k->group[topic] = kit_ask(k, c)->groups.groups[0].id;
}

struct kit *kit_new(const struct kit *options)
{
    struct kit *k = mem_zalloc(sizeof *k);
    log_setup("test", (enum log_level)(LOG_ERROR + 1));
    k->limits = options != NULL && options->limits.topics_max != 0 ? options->limits : engine_limits_default;
    k->tail_cache_bytes = options != NULL ? options->tail_cache_bytes : 0;
    k->reader_threads = options != NULL ? options->reader_threads : 0;
    k->now = (struct engine_now){.mono_ms = clock_mono_ms(), .wall_ms = clock_wall_ms()};
    k->slow.base.ops = &slow_ops;
    k->slow.mem = store_mem_new();
    pthread_mutex_init(&k->slow.lock, NULL);
    pthread_cond_init(&k->slow.changed, NULL);
    k->store = &k->slow.base;
    list_init(&k->calls);
    open_loop(k);
    assert_int_equal(kit_ask(k, kit_hello(k, false))->code, E_OK);
    make(k, DISK, "t");
    make(k, OS, "o");
    return k;
}

void kit_free(struct kit *k)
{
    loop_close(k->loop);
    for (struct list_node *n; (n = list_pop_front(&k->calls)) != NULL;) {
        struct call *c = container_of(n, struct call, link);
        assert_true(c->done); /* every operation comes back */
        ref_drop(c->batch);
        ref_drop(c->op.hold);
        buf_free(&c->op.payload);
        arena_free(&c->op.arena);
        mem_free(c);
    }
    store_close(k->store);
    pthread_mutex_destroy(&k->slow.lock);
    pthread_cond_destroy(&k->slow.changed);
    mem_free(k);
}

void kit_reopen(struct kit *k)
{
    loop_close(k->loop);
    open_loop(k);
    assert_int_equal(kit_ask(k, kit_hello(k, true))->code, E_OK);
}

/* ---------------------------------------------------------------- turns */

void kit_turn(struct kit *k) { loop_turn(k->loop, k->now); }

void kit_round(struct kit *k)
{
    for (int i = 0; i < 12; i++) {
        loop_turn(k->loop, k->now);
        loop_sync(k->loop);
    }
}

void kit_pass(struct kit *k, uint64_t ms)
{
    k->now.mono_ms += ms;
    k->now.wall_ms += ms;
    kit_round(k);
}

/* ---------------------------------------------------------------- requests */

static void on_done(struct op *op) { atomic_store(&container_of(op, struct call, op)->done, true); }

struct call *kit_new_call(struct kit *k, enum wire_verb verb)
{
    struct call *c = mem_zalloc(sizeof *c);
    list_push_back(&k->calls, &c->link);
    arena_init(&c->op.arena, SIZE_MAX);
    c->op.request = (struct wire_request){.session = {1, 2}, .verb = verb};
    c->op.pipe = 7;
    c->op.bytes = 100;
    c->op.done = on_done;
    c->done = true; /* nobody has it yet */
    return c;
}

struct call *kit_hello(struct kit *k, bool resume)
{
    struct call *c = kit_new_call(k, VERB_HELLO);
    c->op.request.hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = VIEW_LIT("A"), .resume = resume};
    return c;
}

struct buf kit_batch(const char *values, uint64_t *hash, uint32_t *count)
{
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    *count = 0;
    for (const char *at = values; *at != '\0'; ++*count) {
        size_t size = strcspn(at, " ");
        struct record r = {.value = view_of(at, size)};
        assert_int_equal(batch_builder_add(b, &r, &e), E_OK);
        at += size + (at[size] == ' ');
    }
    assert_int_equal(batch_builder_finish(b, BATCH_NONE, &bytes, hash, &e), E_OK);
    batch_builder_free(b);
    return bytes;
}

struct call *kit_produce(struct kit *k, int topic, const char *values)
{
    struct call *c = numbered(k, kit_new_call(k, VERB_PRODUCE), k->partition[topic]);
    struct wire_produce *p = &c->op.request.produce;
    struct buf bytes = kit_batch(values, &p->batch_hash, &p->count);
    c->op.hold = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    p->partition = k->partition[topic];
    p->batch = ref_view(c->op.hold);
    c->op.batch.last_delta = p->count - 1;
    return c;
}

struct call *kit_produce_as(struct kit *k, const char *words)
{
    struct call *c = kit_produce(k, DISK, words); /* numbered; its batch is replaced by ours */
    struct wire_produce *p = &c->op.request.produce;
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    for (const char *at = words; *at != '\0';) {
        char key[32], name[32], value[32], text[32];
        int n = 0;
        struct buf headers = {0};
        assert_int_equal(sscanf(at, "%31[^:]:%31[^=]=%31[^:]:%31[^ ]%n", key, name, value, text, &n), 4);
        if (name[0] != '-')
            assert_int_equal(headers_put(&headers, view_of_str(name), view_of_str(value), &e), E_OK);
        struct record r = {.value = view_of_str(text), .headers = buf_view(&headers)};
        if (key[0] != '-')
            r.key = view_of_str(key);
        assert_int_equal(batch_builder_add(b, &r, &e), E_OK);
        buf_free(&headers);
        at += n;
        at += *at == ' ';
    }
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &bytes, &p->batch_hash, &e), E_OK);
    batch_builder_free(b);
    ref_drop(c->op.hold);
    c->op.hold = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    p->batch = ref_view(c->op.hold);
    return c;
}

struct call *kit_receive(struct kit *k, int topic, uint32_t most, uint32_t wait_ms)
{
    struct call *c = kit_new_call(k, VERB_RECEIVE);
    c->group = k->group[topic];
    c->op.request.receive = (struct wire_receive){.counter = ++k->counter, .groups = &c->group, .groups_n = 1, .max_messages = most, .wait_ms = wait_ms};
    return c;
}

struct call *kit_fetch(struct kit *k, uint32_t partition, uint64_t offset, uint32_t wait_ms)
{
    struct call *c = kit_new_call(k, VERB_FETCH);
    c->from = (struct wire_fetch_from){.partition = partition, .offset = offset};
    c->op.request.fetch = (struct wire_fetch){.from = &c->from, .from_n = 1, .wait_ms = wait_ms};
    return c;
}

struct call *kit_send(struct kit *k, struct call *c)
{
    atomic_store(&c->done, false);
    assert_int_equal(loop_submit(k->loop, &c->op), E_OK);
    return c;
}

const struct wire_reply *kit_ask(struct kit *k, struct call *c)
{
    kit_send(k, c);
    kit_round(k);
    if (!c->done)
        kit_pass(k, 50); /* a receive that does not wait is given a moment */
    assert_true(c->done);
    return &c->op.reply;
}

bool kit_wait(struct call *c, int ms)
{
    for (; !atomic_load(&c->done) && ms > 0; ms--)
        usleep(1000);
    return atomic_load(&c->done);
}

/* ---------------------------------------------------------------- looking */

static char values_text[1 << 20];

static void add_value(size_t *at, uint64_t offset, struct view value)
{
    *at += (size_t)snprintf(values_text + *at, sizeof values_text - *at, "%s%llu=%.*s", *at > 0 ? " " : "", (unsigned long long)offset,
                            (int)value.size, (const char *)value.data);
}

static void add_batches(size_t *at, struct view data)
{
    struct err e = {0};
    for (struct view rest = data; rest.size > 0;) {
        struct stored_header h;
        struct view batch;
        struct batch_reader r;
        assert_int_equal(stored_next(&rest, &h, &batch, &e), E_OK);
        assert_int_equal(batch_hash(batch), h.batch_hash);
        assert_int_equal(batch_reader_open(&r, batch, &e), E_OK);
        for (uint32_t i = 0; i < r.c.count; i++) {
            struct record record;
            assert_int_equal(batch_reader_get(&r, i, &record, &e), E_OK);
            add_value(at, h.base_offset + batch_offset_delta(&r.c, i), record.value);
        }
        batch_reader_close(&r);
    }
}

const char *kit_values(const struct wire_reply *r)
{
    size_t at = 0;
    values_text[0] = '\0';
    if (r->body == BODY_FETCH) {
        for (uint32_t i = 0; i < r->fetch.parts_n; i++)
            add_batches(&at, r->fetch.parts[i].data);
        return values_text;
    }
    for (uint32_t d = 0; d < r->receive.deliveries_n; d++) {
        const uint8_t *bytes = r->receive.deliveries[d].data.data;
        for (uint32_t i = 0; i < r->receive.deliveries[d].records_n; i++) {
            const struct wire_record *x = &r->receive.deliveries[d].records[i];
            size_t size = x->value_size > 0 ? x->value_size - 1 : 0;
            assert_int_equal(x->sum, record_sum(x->key_size, x->headers_size, x->value_size, bytes, bytes, bytes));
            add_value(&at, x->offset, view_of(bytes, size));
            bytes += size;
        }
    }
    return values_text;
}

struct key kit_log_row(struct store *s, uint32_t partition, uint64_t offset)
{
    struct store_iter *it = store_iter(s, FAM_LOG_DAYS);
    struct key k = key_log(partition, offset);
    store_iter_seek(it, key_view(&k));
    assert_true(store_iter_valid(it));
    uint64_t last;
    assert_true(key_read_log(store_iter_key(it), &partition, &last));
    store_iter_close(it);
    return key_log(partition, last);
}
