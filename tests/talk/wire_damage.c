/* Damaged frames by the hundred thousand, while a good client publishes and reads.
 *
 * Half of them have a damaged head or checksum. The other half pass for good: their checksum was computed again over a body of
 * every verb in which bits were flipped, bytes changed, or the end cut off. The broker may answer what it likes, or close the
 * connection; it must live, stay within bounds, and serve the good client as if nobody else were there.
 *
 * argv[1]: how many frames; argv[2]: the seed. */
#include <sys/resource.h>

#include "base/clock.h"
#include "base/rng.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "talk.h"

enum { WINDOW = 32, RESIDENT_BYTES_MAX = 512 << 20, GOOD_EVERY = 1000, GOOD_RECORDS = 10 };

static unsigned long frames = 100000;
static uint64_t seed = 1;
static struct broker_proc b;

/* ---------------------------------------------------------------- one good request of every verb */

static struct buf sample_batch;
static uint64_t sample_hash;

static void make_batch(void)
{
    struct batch_builder *builder = batch_builder_new();
    struct err e;
    for (int i = 0; i < 20; i++) {
        const struct record r = {.key = VIEW_LIT("key"),
                                 .value = VIEW_LIT("a value that is a little longer than the others"),
                                 .timestamp_ms = 1,
                                 .priority = 3,
                                 .ttl_ms = 1000,
                                 .message_id = {1, 2}};
        assert_int_equal(batch_builder_add(builder, &r, &e), E_OK);
    }
    assert_int_equal(batch_builder_finish(builder, BATCH_LZ4, &sample_batch, &sample_hash, &e), E_OK);
    batch_builder_free(builder);
}

static struct wire_request sample(enum wire_verb verb, uint32_t partition, uint32_t group, uint64_t seq)
{
    static struct wire_fetch_from from[2];
    static uint32_t groups[1];
    static const struct wire_note notes[] = {{{(const uint8_t *)"why", 3}, {(const uint8_t *)"how", 3}}};
    static struct wire_settle_item items[3];
    static struct wire_unit unit;
    static struct wire_receive carried;
    from[0] = from[1] = (struct wire_fetch_from){.partition = partition, .max_bytes = 1000};
    groups[0] = group;
    for (uint8_t i = 0; i < 3; i++)
        items[i] = (struct wire_settle_item){.token = seq,
                                             .offset = i,
                                             .group = group,
                                             .partition = partition,
                                             .verb = (uint8_t)(1 + (seq + i) % 5),
                                             .note = i % 2};
    unit = (struct wire_unit){.items = items, .items_n = 3};
    carried =
        (struct wire_receive){.slot = 3, .counter = seq, .groups = groups, .groups_n = 1, .max_messages = 5};

    struct wire_request r = {.verb = verb};
    switch (verb) {
    case VERB_HELLO:
        r.hello = (struct wire_hello){
            .version_min = 1, .version_max = 1, .resume = true, .name = VIEW_LIT("damage")};
        break;
    case VERB_PRODUCE:
        r.lane = partition;
        r.produce = (struct wire_produce){
            .partition = partition, .count = 20, .batch_hash = sample_hash, .batch = buf_view(&sample_batch)};
        break;
    case VERB_FETCH:
        r.fetch = (struct wire_fetch){.from = from, .from_n = 2, .max_bytes = 4000, .wait_ms = 1};
        break;
    case VERB_RECEIVE:
        r.receive = carried;
        r.receive.wait_ms = 1;
        break;
    case VERB_SETTLE:
        r.settle = (struct wire_settle){.singles = items,
                                        .singles_n = 3,
                                        .units = &unit,
                                        .units_n = 1,
                                        .notes = notes,
                                        .notes_n = 1,
                                        .receive = seq % 2 == 0 ? &carried : NULL};
        break;
    case VERB_TOPIC_CREATE:
    case VERB_TOPIC_ALTER:
    case VERB_TOPIC_DELETE:
        r.topic.name = VIEW_LIT("bad-topic");
        r.topic.config = (struct wire_topic_config){.partitions = 1, .durability = DURABILITY_OS};
        break;
    case VERB_GROUP_CREATE:
    case VERB_GROUP_ALTER:
    case VERB_GROUP_DELETE:
        r.group.topic = VIEW_LIT("damaged");
        r.group.name = VIEW_LIT("bad-group");
        break;
    case VERB_TOPIC_LIST:
    case VERB_GROUP_LIST:
    case VERB_GROUP_LAG:
        r.list = (struct wire_list){.after = VIEW_LIT("a"), .limit = 3};
        break;
    case VERB_OFFSET_FOR:
        r.offset_for = (struct wire_offset_for){.partition = partition, .time_ms = 1};
        break;
    case VERB_HELD_LIST:
        r.held = (struct wire_held_list){
            .topic = VIEW_LIT("damaged"), .group = VIEW_LIT("g"), .payload = true, .limit = 3};
        break;
    default:
        break;
    }
    bool numbered = verb == VERB_PRODUCE || verb == VERB_SETTLE ||
                    (verb >= VERB_TOPIC_CREATE && verb <= VERB_TOPIC_DELETE) ||
                    (verb >= VERB_GROUP_CREATE && verb <= VERB_GROUP_DELETE);
    r.seq = numbered ? seq : 0;
    return r;
}

/* ---------------------------------------------------------------- damage */

/* Flips, changes, cuts: what a bad cable, a bad program and a bad person do. `size` may become smaller. */
static void damage(struct rng *rng, uint8_t *bytes, size_t *size)
{
    static const uint8_t extremes[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe};
    if (*size == 0)
        return;
    for (uint64_t i = 0, n = rng_between(rng, 1, 6); i < n; i++) {
        size_t at = rng_below(rng, *size);
        switch (rng_below(rng, 4)) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << rng_below(rng, 8));
            break;
        case 1:
            bytes[at] = (uint8_t)rng_next(rng);
            break;
        case 2: /* a number that is large, or zero */
            memset(bytes + at, extremes[rng_below(rng, sizeof extremes)], at + 4 <= *size ? 4 : 1);
            break;
        default:
            bytes[at] = extremes[rng_below(rng, sizeof extremes)];
            break;
        }
    }
    if (rng_chance(rng, 1, 10))
        *size = rng_below(rng, *size);
}

struct attacker {
    struct talker t;
    struct rng rng;
    uint32_t partition, group;
    uint64_t sent, closed, answered;
    unsigned out; /* not answered */
};

static void attacker_connect(struct attacker *a)
{
    talker_open(&a->t, b.url);
    talker_hello(&a->t);
    a->out = 0;
}

static void attack(struct attacker *a)
{
    size_t size;
    enum wire_verb verb = (enum wire_verb)(1 + a->sent % (VERB_COUNT - 1));
    struct wire_request r = sample(verb, a->partition, a->group, 1 + rng_below(&a->rng, 4));
    uint8_t *frame = talker_frame(&a->t, &r, &size);
    if (a->sent / (VERB_COUNT - 1) % 2 == 0) { /* every verb in turn, damaged either way */
        size_t body = size - FRAME_SIZE;
        damage(&a->rng, frame + FRAME_SIZE, &body);
        size = FRAME_SIZE + body;
        frame_put(frame, (struct frame){.version = WIRE_VERSION, .verb = (uint8_t)verb}, frame + FRAME_SIZE,
                  body);
    } else {
        damage(&a->rng, frame, &size);
    }
    talker_send_bytes(&a->t, frame, size);
    free(frame);
    a->sent++;
    a->out++;
}

/* Takes what was answered; with a full window waits for it. A connection that was closed, or that lost its session to a damaged
 * bye or hello, is made anew. */
static void drain(struct attacker *a)
{
    struct heard h;
    bool again = false;
    while (a->out > 0 && talker_hear(&a->t, a->out >= WINDOW ? 10000 : 0, &h)) {
        again |= h.reply.code == E_NO_SESSION;
        a->out--;
        a->answered++;
        heard_free(&h);
    }
    again |= a->out >= WINDOW; /* no answer: closed */
    if (!again)
        return;
    a->closed++;
    talker_close(&a->t);
    attacker_connect(a);
}

/* ---------------------------------------------------------------- the good client */

struct good {
    struct talker t;
    uint32_t partition;
    uint64_t seq, offset;
};

/* Produces, then reads what it produced. */
static void good_turn(struct good *g)
{
    uint64_t begin = clock_mono_ms();
    assert_int_equal(talker_produce(&g->t, g->partition, ++g->seq, GOOD_RECORDS, 100), E_OK);
    const struct wire_fetch_from from = {.partition = g->partition, .offset = g->offset};
    struct wire_request r = {.verb = VERB_FETCH,
                             .fetch = {.from = &from, .from_n = 1, .max_bytes = 1 << 20, .wait_ms = 10000}};
    struct heard h;
    assert_int_equal(talker_call(&g->t, &r, &h), E_OK);
    struct view rest = h.reply.fetch.parts[0].data, batch;
    struct stored_header header;
    struct err e;
    assert_int_equal(stored_next(&rest, &header, &batch, &e), E_OK);
    assert_int_equal(header.base_offset, g->offset);
    assert_int_equal(header.count, GOOD_RECORDS);
    assert_int_equal(batch_hash(batch), header.batch_hash);
    g->offset += header.count;
    heard_free(&h);
    assert_in_range(clock_mono_ms() - begin, 0, 10000);
}

static void damaged_frames_harm_nobody(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    make_batch();
    struct good good = {.seq = 0};
    talker_open(&good.t, b.url);
    talker_hello(&good.t);
    good.partition = talker_topic(&good.t, "good", 1, DURABILITY_OS);
    struct attacker a = {.partition = talker_topic(&good.t, "damaged", 1, DURABILITY_OS)};
    a.group = talker_group(&good.t, "damaged", "g");
    rng_seed(&a.rng, seed);
    attacker_connect(&a);

    uint64_t begin = clock_mono_ms();
    while (a.sent < frames) {
        attack(&a);
        drain(&a);
        if (a.sent % GOOD_EVERY == 0) {
            good_turn(&good);
            assert_in_range(broker_resident(&b), 0, RESIDENT_BYTES_MAX);
        }
    }
    print_message(
        "seed %llu: %llu frames in %.1f s, %llu answered, %llu connections lost; the good client read %llu; "
        "%zu MiB resident\n",
        (unsigned long long)seed, (unsigned long long)a.sent, (double)(clock_mono_ms() - begin) / 1000,
        (unsigned long long)a.answered, (unsigned long long)a.closed, (unsigned long long)good.offset,
        broker_resident(&b) >> 20);
    assert_true(a.answered > frames / 4);
    assert_int_equal(good.offset, GOOD_RECORDS * good.seq);
    talker_close(&a.t);
    talker_close(&good.t);
    assert_int_equal(broker_stop(&b), 0);
    broker_restart(&b); /* and what was stored of it can be opened */
    assert_true(talker_is_served(b.url));
    broker_end(&b);
    buf_free(&sample_batch);
}

int main(int argc, char **argv)
{
    frames = argc > 1 ? strtoul(argv[1], NULL, 10) : frames;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : seed;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_frames_harm_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
