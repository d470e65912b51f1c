/*
 * The n-th write, sync or allocation fails, for all n of a run. The run is the real store and loop in a process of its own, turn by turn
 * (driver.h), and the same every time: it produces, receives, acknowledges, fails, parks, commits units, delays, has the store flush and
 * compact, closes and opens again. Where something fails it ends, as it is, or the process does. Then the directory is opened by another
 * process without failures, and held against what had been acknowledged (reopen.h).
 *
 * SLUICE_FAILURES_STEP says that only each so manieth n is tried (10).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "crash.h"
#include "driver.h"
#include "recording.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "store/keys.h"

enum { ROUNDS = 5, STEP = 10, RUN_S_MAX = 60, TOLD_MAX = 10, RECEIVE_MAX = 10, FAILURES_MAX = 3 };

/* ---------------------------------------------------------------- what fails
 *
 * RocksDB is a shared library, so these stand before libc's for it.
 */
enum fault { FAULT_WRITE_EIO, FAULT_WRITE_ENOSPC, FAULT_WRITE_SHORT, FAULT_SYNC, FAULT_ALLOCATION, FAULTS };
static const char *const fault_names[FAULTS] = {"a write fails, EIO", "a write fails, no space", "half of a write fails", "a sync fails",
                                                "an allocation fails"};

static struct { char dir[64]; enum fault what; uint64_t at; _Atomic uint64_t writes, syncs; } faults; /* dir "": none, and nothing is counted */

static bool is_meant(int fd)
{
    char link[64], path[512];
    if (faults.dir[0] == '\0')
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    return size > 0 && (path[size] = '\0', strncmp(path, faults.dir, strlen(faults.dir)) == 0);
}

#define VISIBLE __attribute__((visibility("default")))

VISIBLE ssize_t write(int fd, const void *data, size_t size)
{
    if (!is_meant(fd) || ++faults.writes < faults.at || faults.what > FAULT_WRITE_SHORT || faults.at == 0)
        return syscall(SYS_write, fd, data, size);
    bool first = faults.writes == faults.at;
    if (faults.what == FAULT_WRITE_SHORT && first && size > 1)
        return syscall(SYS_write, fd, data, size / 2);
    if (faults.writes > faults.at + (faults.what == FAULT_WRITE_SHORT)) /* only one fails, or the rest of one */
        return syscall(SYS_write, fd, data, size);
    errno = faults.what == FAULT_WRITE_ENOSPC ? ENOSPC : EIO;
    return -1;
}

static int sync_by(long call, int fd)
{
    if (is_meant(fd) && ++faults.syncs == faults.at && faults.what == FAULT_SYNC) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

VISIBLE int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }
VISIBLE int fsync(int fd) { return sync_by(SYS_fsync, fd); }

/* ---------------------------------------------------------------- the run */

/* In memory that outlives the process. */
struct shared { struct script_ledger l; uint64_t clock, writes, syncs, allocations; bool ended; };
static struct shared *shared;

static struct {
    struct driver d;
    struct rng rng;
    char data[80];
    uint32_t partition[SCRIPT_TOPICS][4], group[SCRIPT_TOPICS];
} run;

static const uint32_t partitions_of[SCRIPT_TOPICS] = {3, 1, 2, 2, 1};

static void asked(struct script_act *a) { a->asked = shared->clock++; }
static void acked(struct script_act *a) { a->acked = shared->clock++; }

static uint32_t new_message(enum script_topic topic, uint32_t size)
{
    const struct script_act never = {SCRIPT_NEVER, SCRIPT_NEVER};
    uint32_t id = shared->l.messages_n++;
    shared->l.messages[id] = (struct script_message){.topic = topic, .key = (uint32_t)rng_below(&run.rng, SCRIPT_KEYS), .size = size, .publish = never,
                                                     .done = never, .parked = never, .redriven = never, .dropped = never, .unit = never,
                                                     .may_park = SCRIPT_NEVER};
    return id;
}

static uint32_t index_of(uint32_t id)
{
    char key[16];
    script_key(shared->l.messages[id].key, key);
    return key_partition(key_hash(view_of_str(key)), partitions_of[shared->l.messages[id].topic]);
}

/* A batch of one message. */
static struct ref *batch_of(uint32_t id, struct wire_produce *out)
{
    static char value[SCRIPT_VALUE_MAX];
    char key[16];
    const struct script_message *m = &shared->l.messages[id];
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e;
    script_key(m->key, key);
    script_value(id, m->size, value);
    if (batch_builder_add(b, &(struct record){.key = view_of_str(key), .value = view_of(value, m->size)}, &e) != E_OK ||
        batch_builder_finish(b, BATCH_NONE, &bytes, &out->batch_hash, &e) != E_OK)
        driver_wrong(&run.d, "the client has no memory"); /* then it asks for nothing */
    batch_builder_free(b);
    struct ref *r = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    out->partition = run.partition[m->topic][index_of(id)];
    out->count = 1;
    out->batch = ref_view(r);
    return r;
}

static void make_all(void)
{
    asked(&shared->l.made);
    for (uint32_t t = 0; t < SCRIPT_TOPICS; t++) {
        struct call c;
        driver_call(&run.d, &c, VERB_TOPIC_CREATE);
        driver_number(&run.d, &c, 0);
        c.op.request.topic = (struct wire_topic_set){.name = view_of_str(script_topic_names[t]),
                                                     .config = {.partitions = partitions_of[t], .durability = t == FAST ? DURABILITY_OS : DURABILITY_DISK}};
        const struct wire_reply *r = driver_ask(&run.d, &c);
        for (uint32_t i = 0; r != NULL && i < partitions_of[t]; i++)
            run.partition[t][i] = r->topics.topics[0].partitions[i].id;
        if (r == NULL)
            return;
        driver_call_end(&c);
        if (!script_has_group(t))
            continue;
        driver_call(&run.d, &c, VERB_GROUP_CREATE);
        driver_number(&run.d, &c, 0);
        c.op.request.group = (struct wire_group_set){.topic = view_of_str(script_topic_names[t]), .name = VIEW_LIT(SCRIPT_GROUP),
                                                     .config = {.max_deliveries = FAILURES_MAX + 1, .park = t == STRICT ? PARK_KEY : PARK_MESSAGE}};
        r = driver_ask(&run.d, &c);
        if (r == NULL)
            return;
        run.group[t] = r->groups.groups[0].id;
        driver_call_end(&c);
    }
    acked(&shared->l.made);
}

static void publish(enum script_topic topic, uint32_t size, uint64_t delay_ms)
{
    struct call c;
    if (!driver_fine(&run.d))
        return;
    uint32_t id = new_message(topic, size);
    struct script_message *m = &shared->l.messages[id];
    driver_call(&run.d, &c, VERB_PRODUCE);
    c.op.hold = batch_of(id, &c.op.request.produce);
    driver_number(&run.d, &c, c.op.request.produce.partition);
    c.op.request.produce.delay_ms = delay_ms;
    m->delayed = delay_ms > 0;
    asked(&m->publish);
    const struct wire_reply *r = driver_ask(&run.d, &c);
    if (r == NULL)
        return;
    acked(&m->publish);
    m->placed = delay_ms == 0;
    m->partition = index_of(id);
    m->offset = r->produce.base_offset;
    driver_call_end(&c);
}

static struct script_message *message_of(struct view value)
{
    char text[12] = "";
    memcpy(text, value.data, value.size < sizeof text - 1 ? value.size : sizeof text - 1);
    return &shared->l.messages[strtoul(text, NULL, 10)];
}

/* What is done to a delivery: verbs in turn, and each fifth a unit. */
struct work {
    struct wire_settle_item items[RECEIVE_MAX], unit_item;
    struct script_act *acts[RECEIVE_MAX];
    struct wire_note note;
    uint32_t items_n;
    struct script_message *unit_of;
};

static void choose(struct work *k, const struct wire_delivery *x, uint32_t i, struct script_message *m)
{
    struct wire_settle_item item = {.token = x->token, .offset = x->records[i].offset, .partition = x->records[i].partition, .group = x->group,
                                    .verb = SETTLE_ACK};
    uint64_t dice = rng_below(&run.rng, 10);
    struct script_act *act = &m->done;
    if (dice < 3 && k->unit_of == NULL && m->topic == JOBS) {
        k->unit_of = m;
        k->unit_item = item;
        return;
    }
    if (dice == 3)
        return; /* stays leased */
    if (dice == 4 || dice == 5) {
        item.verb = SETTLE_NACK;
        item.flags = SETTLE_HAS_DELAY;
        item.delay_ms = 100;
        act = NULL;
        m->may_park = ++m->failures >= FAILURES_MAX && m->may_park == SCRIPT_NEVER ? shared->clock : m->may_park;
    } else if (dice == 6) {
        item.verb = SETTLE_PARK;
        item.note = 1;
        act = &m->parked;
        m->may_park = m->may_park == SCRIPT_NEVER ? shared->clock : m->may_park;
    }
    k->acts[k->items_n] = act;
    k->items[k->items_n++] = item;
}

static void unit_fill(struct work *k, struct wire_unit *u, struct wire_produce produces[SCRIPT_OUTPUTS], struct ref *holds[SCRIPT_OUTPUTS],
                      struct wire_state_put *state, char key[16], char number[16])
{
    struct script_message *m = k->unit_of;
    m->unit_number = ++shared->l.units;
    for (int i = 0; i < SCRIPT_OUTPUTS; i++) {
        m->output[i] = new_message(OUT, 600);
        holds[i] = batch_of(m->output[i], &produces[i]);
    }
    script_key(m->key, key);
    snprintf(number, 16, "%" PRIu32, m->unit_number);
    *state = (struct wire_state_put){.group = run.group[JOBS], .key = view_of_str(key), .value = view_of_str(number)};
    struct key row = key_state(run.group[JOBS], state_key_hash(view_of_str(key)));
    struct buf bytes = {0};
    struct state_row was;
    bool found;
    struct err e;
    if (store_get(run.d.store, FAM_STATE, key_view(&row), &bytes, &found, &e) == E_OK && found && state_row_get(buf_view(&bytes), &was, &e) == E_OK)
        state->version = was.version;
    buf_free(&bytes);
    *u = (struct wire_unit){.items = &k->unit_item, .items_n = 1, .produces = produces, .produces_n = SCRIPT_OUTPUTS, .state = state, .state_n = 1};
}

static void settle(struct work *k)
{
    static const struct op_batch checked[SCRIPT_OUTPUTS] = {{0}};
    struct wire_produce produces[SCRIPT_OUTPUTS] = {{0}};
    struct ref *holds[SCRIPT_OUTPUTS] = {NULL};
    struct wire_state_put state;
    struct wire_unit u;
    struct call c;
    char key[16], number[16];
    k->note = (struct wire_note){.reason = VIEW_LIT("bad")};
    driver_call(&run.d, &c, VERB_SETTLE);
    driver_number(&run.d, &c, 0);
    c.op.request.settle = (struct wire_settle){.singles = k->items, .singles_n = k->items_n, .notes = &k->note, .notes_n = 1};
    if (k->unit_of != NULL) {
        unit_fill(k, &u, produces, holds, &state, key, number);
        c.op.request.settle.units = &u;
        c.op.request.settle.units_n = 1;
        c.op.unit_batches = checked;
        asked(&k->unit_of->unit);
        for (int i = 0; i < SCRIPT_OUTPUTS; i++)
            shared->l.messages[k->unit_of->output[i]].publish.asked = k->unit_of->unit.asked;
    }
    for (uint32_t i = 0; i < k->items_n; i++)
        if (k->acts[i] != NULL)
            asked(k->acts[i]);
    const struct wire_reply *r = driver_ask(&run.d, &c);
    if (r == NULL)
        return;
    for (uint32_t i = 0; i < r->settle.codes_n; i++)
        if (r->settle.codes[i] != E_OK)
            driver_wrong(&run.d, "item %u is refused: %s", i, error_name(r->settle.codes[i]));
    for (uint32_t i = 0; i < k->items_n && driver_fine(&run.d); i++)
        if (k->acts[i] != NULL)
            acked(k->acts[i]);
    if (k->unit_of != NULL && driver_fine(&run.d)) {
        acked(&k->unit_of->unit);
        for (int i = 0; i < SCRIPT_OUTPUTS; i++) {
            shared->l.messages[k->unit_of->output[i]].publish = k->unit_of->unit;
            ref_drop(holds[i]);
        }
    }
    driver_call_end(&c);
}

static void receive(enum script_topic topic)
{
    struct call c;
    struct work k = {.items_n = 0};
    if (!driver_fine(&run.d))
        return;
    driver_call(&run.d, &c, VERB_RECEIVE);
    c.op.request.receive = (struct wire_receive){.counter = ++run.d.counter, .groups = &run.group[topic], .groups_n = 1, .max_messages = RECEIVE_MAX,
                                                 .max_bytes = 1 << 20};
    const struct wire_reply *r = driver_ask(&run.d, &c);
    for (uint32_t d = 0; r != NULL && d < r->receive.deliveries_n; d++) {
        size_t at = 0;
        for (uint32_t i = 0; i < r->receive.deliveries[d].records_n; i++)
            choose(&k, &r->receive.deliveries[d], i, message_of(driver_value(&r->receive.deliveries[d], i, &at)));
    }
    if (r == NULL)
        return;
    if (k.items_n > 0 || k.unit_of != NULL)
        settle(&k);
    driver_call_end(&c);
}

static void flush(enum store_family f)
{
    struct err e = {0};
    if (driver_fine(&run.d) && store_reclaim(run.d.store, f, &e) != E_OK)
        driver_wrong(&run.d, "no flush: %s", e.text);
}

static void open_all(bool resume)
{
    driver_open_store(&run.d, run.data);
    driver_open_loop(&run.d);
    driver_hello(&run.d, "A", resume);
}

static void the_run(void)
{
    open_all(false);
    if (driver_fine(&run.d))
        make_all();
    for (int round = 0; round < ROUNDS && driver_fine(&run.d); round++) {
        for (int i = 0; i < 6; i++)
            publish(JOBS, 100 + (uint32_t)i * 150, 0);
        publish(STRICT, 40, 0);
        publish(FAST, 40, 0);
        publish(BULK, 2000, 0);
        publish(JOBS, 50, round % 2 == 0 ? 150 : 3600000);
        receive(JOBS);
        receive(STRICT);
        receive(FAST);
        driver_pass(&run.d, 200);
        if (round == 1)
            flush(FAM_LOG_DAYS);
        if (round == 2 && driver_fine(&run.d)) {
            driver_close(&run.d);
            open_all(true);
        }
        if (round == 3) {
            flush(FAM_LOG_DAYS);
            flush(FAM_GROUPS);
        }
    }
    if (driver_fine(&run.d))
        driver_close(&run.d);
}

/* In a process of its own, which may be ended by it. `n` 0: nothing fails. */
static void run_with(const char *dir, enum fault what, uint64_t n)
{
    memset(shared, 0, sizeof *shared);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        alarm(RUN_S_MAX);
        dup2(null, STDERR_FILENO); /* what assertions of RocksDB say is known here */
        log_setup("failures", (enum log_level)(LOG_ERROR + 1));
        rng_seed(&run.rng, 1);
        shared->l.began_ms = UINT64_C(1800000000000);
        shared->l.made = (struct script_act){SCRIPT_NEVER, SCRIPT_NEVER};
        run.d.session = (struct id128){1, 2};
        run.d.now = (struct engine_now){.mono_ms = 1000, .wall_ms = shared->l.began_ms};
        snprintf(run.data, sizeof run.data, "%s/data", dir);
        snprintf(faults.dir, sizeof faults.dir, "%s", dir);
        faults.what = what;
        faults.at = n;
        unsigned long most = n == 0 ? 1000000000 : 0;
        mem_fail_at(what == FAULT_ALLOCATION && n > 0 ? n : most);
        the_run();
        shared->ended = driver_fine(&run.d);
        shared->writes = faults.writes;
        shared->syncs = faults.syncs;
        shared->allocations = most - mem_fail_at(0);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    shared->l.ended_ms = shared->l.began_ms + 3600000;
}

/* ---------------------------------------------------------------- tests */

static void whatever_fails_what_was_acknowledged_is_so(void **state)
{
    (void)state;
    uint64_t step = crash_number("SLUICE_FAILURES_STEP", STEP), tried = 0, all = 0, lost = 0, only = crash_number("SLUICE_FAILURES_N", 0);
    char dir[64], why[512];
    recording_make_dir(dir);
    run_with(dir, FAULT_WRITE_EIO, 0);
    if (!shared->ended)
        fail_msg("the run does not end without failures");
    const uint64_t counts[FAULTS] = {shared->writes, shared->writes, shared->writes, shared->syncs, shared->allocations};
    print_message("the run: %" PRIu64 " writes, %" PRIu64 " syncs, %" PRIu64 " allocations, %u messages\n", shared->writes, shared->syncs,
                  shared->allocations, shared->l.messages_n);
    remove_tree(dir);
    for (enum fault f = 0; f < FAULTS; f++) {
        uint64_t ended = 0, n_tried = 0;
        for (uint64_t n = only != 0 ? only : 1 + f % step; n <= counts[f]; n += only != 0 ? UINT32_MAX : step) {
            recording_make_dir(dir);
            run_with(dir, f, n);
            ended += shared->ended;
            n_tried++;
            const struct reopen_promise promise = {shared->clock, shared->clock};
            if (!recording_try(&shared->l, dir, promise, why, sizeof why) && ++lost <= TOLD_MAX)
                print_error("%s, the %" PRIu64 "th of %" PRIu64 ": %s\n", fault_names[f], n, counts[f], why);
            remove_tree(dir);
        }
        print_message("%s: %" PRIu64 " of %" PRIu64 ", %" PRIu64 " did no harm\n", fault_names[f], n_tried, counts[f], ended);
        tried += n_tried;
        all += counts[f];
    }
    print_message("failures: %" PRIu64 " of %" PRIu64 ", %" PRIu64 " lost\n", tried, all, lost);
    assert_int_equal(lost, 0);
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_fails_what_was_acknowledged_is_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
