/*
 * The scaling policy alone, in virtual time: against a small model of a queue, of processes that work on it, and of
 * what stands behind them. Tasks come by a trace; what a trace must show stands beside it.
 */
#include "unit.h"

#include <math.h>

#include "base/macros.h"
#include "base/rng.h"
#include "workerd/scale.h"

enum {
    SAMPLE_MS = 250,
    PROCESSES_MAX = 64,
    UNSETTLED_MAX = 2048, /* verdicts that wait for the broker; then nothing is begun */
    RETRY_MS = 5000,
    RING = 1024, /* ticks that a commit or a retry may be away */
    MINUTE = 60 * 1000,
    HOUR = 60 * MINUTE,
    NONE = 1000, /* as an end: zero */
};

/* ---- the model ---- */

struct trace {
    const char *name;
    double (*load)(uint64_t ms); /* tasks a second */
    bool exact;                  /* as many as that; else chance has its part */
    double service_ms, spread;   /* a task takes service_ms * (1 - spread .. 1 + spread) */
    double downstream_per_s;     /* so many at most, whoever asks; 0: no limit */
    double commits_per_s;        /* 0: no limit */
    uint32_t commit_ms;          /* until a verdict is acknowledged */
    unsigned fail_percent;       /* of the runs of a task */
    uint32_t keys;               /* processes that can work at once; 0: all */
    uint32_t start_ms;           /* of a process */
    bool from_zero;              /* the least is 0, else 1 */
    uint32_t target_ms;
    uint32_t tick_ms;
    uint64_t ms; /* how long it is watched */

    /* what it must show */
    uint64_t burst_ms, over_ms;          /* from when to when more comes than usual; 0: no burst */
    uint64_t drained_ms;                 /* at most so long after that nothing waits */
    uint64_t reaction_ms;                /* from the burst's beginning; 0: from when the formula wants more */
    uint32_t peak_least, peak_most, end; /* end: at most so many then */
    unsigned changes_most;
};

/* What a trace does not say. */
static const struct trace usual = {.service_ms = 50,
                                   .spread = 0.5,
                                   .start_ms = 100,
                                   .target_ms = 30000,
                                   .tick_ms = 50,
                                   .ms = 10 * MINUTE,
                                   .end = 1};

#define OR_USUAL(t, member) ((t)->member != 0 ? (t)->member : usual.member)

struct process {
    bool there, leaving;
    double starts_in_ms, left_ms; /* left_ms: of its task; 0: it has none */
};

struct world {
    struct trace t;
    struct rng rng;
    uint64_t now_ms;
    struct scale scale;
    struct process processes[PROCESSES_MAX];
    uint64_t waiting, unsettled;
    double arriving, committing; /* fractions */
    uint64_t retries[RING], commits[RING], committed_late;
    size_t tick;
    uint64_t done, finished;
    double busy_ms, there_ms;
    uint64_t waited_ms; /* of what never gets done, a blocked key for one; 0: there is none */
    bool soon;          /* the next look is */

    /* what was seen */
    int direction; /* of the last move */
    unsigned moves, changes;
    uint32_t peak;
    uint64_t needed_ms, reacted_ms, drained_ms; /* 0: not yet */
    uint64_t whys[SCALE_WHYS_N];
};

/* -1 to 1. */
static double even(struct rng *r)
{
    return (double)rng_below(r, 2000001) / 1000000 - 1;
}

/* About normal, with a deviation of 1. */
static double bell(struct rng *r)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += even(r);
    return sum;
}

static void arrive(struct world *w)
{
    double mean = w->t.load(w->now_ms) * w->t.tick_ms / 1000;
    double n = mean + (w->t.exact ? 0 : sqrt(mean) * bell(&w->rng)) + w->arriving;
    uint64_t whole = n > 0 ? (uint64_t)n : 0;
    w->arriving = n > 0 ? n - (double)whole : n;
    w->waiting += whole + w->retries[w->tick % RING];
    w->retries[w->tick % RING] = 0;
}

static void finish(struct world *w)
{
    const struct trace *t = &w->t;
    w->finished++;
    if (rng_below(&w->rng, 100) < t->fail_percent) {
        w->retries[(w->tick + RETRY_MS / t->tick_ms) % RING]++;
    } else {
        w->unsettled++;
        w->commits[(w->tick + t->commit_ms / t->tick_ms) % RING]++;
    }
}

/* One process for a tick; `speed` is less than 1 where it waits for what is behind it. */
static void work(struct world *w, struct process *p, bool may, double speed)
{
    double tick = w->t.tick_ms, left = tick;
    if (p->starts_in_ms > 0) {
        double d = fmin(p->starts_in_ms, left);
        p->starts_in_ms -= d;
        left -= d;
    }
    while (left > 0) {
        if (p->left_ms <= 0) {
            if (p->leaving || !may || w->waiting == 0 || w->unsettled >= UNSETTLED_MAX)
                break;
            w->waiting--;
            p->left_ms = w->t.service_ms * (1 + w->t.spread * even(&w->rng));
        }
        double d = fmin(p->left_ms, left * speed);
        p->left_ms -= d;
        left -= d / speed;
        w->busy_ms += d / speed;
        if (p->left_ms <= 1e-9) {
            p->left_ms = 0;
            finish(w);
        }
        if (left < 1e-9)
            break;
    }
    w->there_ms += tick;
    if (p->leaving && p->left_ms <= 0)
        *p = (struct process){0};
}

static void commit(struct world *w)
{
    uint64_t due = w->commits[w->tick % RING] + w->committed_late;
    w->commits[w->tick % RING] = 0;
    uint64_t now = due;
    if (w->t.commits_per_s > 0) {
        w->committing = fmin(w->committing + w->t.commits_per_s * w->t.tick_ms / 1000, 100);
        now = due < (uint64_t)w->committing ? due : (uint64_t)w->committing;
        w->committing -= (double)now;
    }
    w->committed_late = due - now;
    w->unsettled -= now;
    w->done += now;
}

static uint32_t count(const struct world *w, bool busy_only)
{
    uint32_t n = 0;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        const struct process *p = &w->processes[i];
        n += busy_only ? p->left_ms > 0 : p->there && !p->leaving && p->starts_in_ms <= 0;
    }
    return n;
}

static void follow(struct world *w, uint32_t wanted)
{
    uint32_t there = 0;
    for (size_t i = 0; i < PROCESSES_MAX; i++)
        there += w->processes[i].there && !w->processes[i].leaving;
    for (size_t i = 0; i < PROCESSES_MAX && there < wanted; i++) {
        struct process *p = &w->processes[i];
        if (p->there && !p->leaving)
            continue;
        if (!p->there)
            *p = (struct process){.there = true, .starts_in_ms = w->t.start_ms};
        p->leaving = false;
        there++;
    }
    for (int busy = 0; busy < 2; busy++) {
        for (size_t i = 0; i < PROCESSES_MAX && there > wanted; i++) {
            struct process *p = &w->processes[i];
            if (!p->there || p->leaving || (p->left_ms > 0) > busy)
                continue;
            p->leaving = true;
            there--;
        }
    }
}

static void look(struct world *w, const struct scale_decision *d)
{
    const struct trace *t = &w->t;
    int direction = d->wanted > d->had ? 1 : d->wanted < d->had ? -1 : 0;
    w->whys[d->why]++;
    w->moves += direction != 0;
    w->changes += direction != 0 && w->direction == -direction;
    w->direction = direction != 0 ? direction : w->direction;
    w->peak = d->wanted > w->peak ? d->wanted : w->peak;
    bool burst = t->burst_ms > 0 && w->now_ms > t->burst_ms;
    if (burst && (double)w->waiting * t->service_ms > (double)t->target_ms * d->had && w->needed_ms == 0)
        w->needed_ms = w->now_ms;
    if (burst && direction > 0 && w->reacted_ms == 0)
        w->reacted_ms = w->now_ms;
    if (direction != 0 && getenv("SCALE_TRACE") != NULL)
        print_message("%s %8.2f s: %u -> %u (enough %u) %s, waiting %llu, service %.1f ms, done %llu\n",
                      t->name, (double)w->now_ms / 1000, d->had, d->wanted, d->enough, scale_why_text(d->why),
                      (unsigned long long)w->waiting, d->service_us / 1000, (unsigned long long)w->done);
}

static void sample(struct world *w)
{
    const struct trace *t = &w->t;
    uint32_t busy = count(w, true);
    uint64_t in_flight = busy + w->unsettled;
    struct scale_decision d = scale_step(&w->scale,
                                         &(struct scale_sample){
                                             .known = true,
                                             .backlog = w->waiting + in_flight,
                                             .in_flight = in_flight,
                                             .held = in_flight,
                                             .waited_ms = w->waited_ms,
                                             .done = w->done,
                                             .finished = w->finished,
                                             .settling = w->unsettled,
                                             .busy_us = (uint64_t)(w->busy_ms * 1000),
                                             .running = busy,
                                             .up = count(w, false),
                                             .min = !t->from_zero,
                                             .max = PROCESSES_MAX,
                                             .target_drain_ms = t->target_ms,
                                             .down_after_ms = 30000,
                                         },
                                         w->now_ms);
    look(w, &d);
    follow(w, d.wanted);
    w->soon = d.soon;
}

static void tick(struct world *w)
{
    const struct trace *t = &w->t;
    arrive(w);
    uint32_t could = 0;
    for (size_t i = 0; i < PROCESSES_MAX; i++)
        could += w->processes[i].there && w->processes[i].starts_in_ms <= 0;
    double full_speed = t->downstream_per_s * t->service_ms / 1000;
    double speed = full_speed > 0 && could > full_speed ? full_speed / could : 1;
    for (uint32_t i = 0; i < PROCESSES_MAX; i++)
        if (w->processes[i].there)
            work(w, &w->processes[i], t->keys == 0 || i < t->keys, speed);
    commit(w);
    w->tick++;
    w->now_ms += t->tick_ms;
    if (w->waiting == 0 && w->now_ms > t->over_ms && t->burst_ms > 0 && w->drained_ms == 0)
        w->drained_ms = w->now_ms;
}

static void begin(struct world *w, const struct trace *t, uint64_t seed)
{
    *w = (struct world){.t = *t};
    w->t.service_ms = OR_USUAL(t, service_ms);
    w->t.spread = OR_USUAL(t, spread);
    w->t.start_ms = OR_USUAL(t, start_ms);
    w->t.target_ms = OR_USUAL(t, target_ms);
    w->t.tick_ms = OR_USUAL(t, tick_ms);
    w->t.ms = OR_USUAL(t, ms);
    w->t.end = OR_USUAL(t, end);
    w->scale.wanted = w->peak = !t->from_zero;
    w->waited_ms = seed % 2 != 0 ? HOUR : 0;
    rng_seed(&w->rng, seed);
    follow(w, w->scale.wanted);
}

static void run(struct world *w, uint64_t until_ms)
{
    while (w->now_ms < until_ms) {
        tick(w);
        if (w->now_ms % SAMPLE_MS == 0 || (w->soon && w->t.tick_ms >= SCALE_LOOK_MS))
            sample(w);
    }
}

/* ---- loads ---- */

static bool within(uint64_t ms, unsigned from_s, unsigned to_s)
{
    return ms >= from_s * UINT64_C(1000) && ms < to_s * UINT64_C(1000);
}

/* From one load to another and, after minutes, back. */
static double step_load(uint64_t ms)
{
    return within(ms, 60, 360) ? 200 : 20;
}

/* Up for four minutes, four minutes there, down as slowly. */
static double ramp_load(uint64_t ms)
{
    double s = (double)ms / 1000, up = (s - 60) / 240, down = (780 - s) / 240;
    return 10 + 190 * fmax(0, fmin(1, fmin(up, down)));
}

/* For ten seconds a hundred times as much. */
static double spike_load(uint64_t ms)
{
    return within(ms, 60, 70) ? 1000 : 10;
}

static double spike_alone_load(uint64_t ms)
{
    return within(ms, 60, 70) ? 1000 : 0;
}

static double long_spike_load(uint64_t ms)
{
    return within(ms, 60, 80) ? 50 : 0.5;
}

static double plenty_load(uint64_t ms)
{
    return within(ms, 60, 100) ? 200 : 5;
}

static double more_than_plenty_load(uint64_t ms)
{
    return within(ms, 60, 180) ? 200 : 5;
}

static double even_load(uint64_t ms)
{
    (void)ms;
    return 60;
}

static double rare_load(uint64_t ms)
{
    return within(ms, 100, 101) ? 10 : 0;
}

static double none_but_one_load(uint64_t ms)
{
    return ms == 60000 ? 20 : 0; /* one, with a tick of 50 ms */
}

/* ---- traces ---- */

#define SPIKE .load = spike_load, .burst_ms = 60000, .over_ms = 70000, .reaction_ms = 1000
#define PLENTY .load = plenty_load, .burst_ms = 60000, .over_ms = 100000

static const struct trace traces[] = {
    {.name = "step",
     .load = step_load,
     .burst_ms = 60000,
     .over_ms = 360000,
     .drained_ms = 33000,
     .ms = 12 * MINUTE,
     .peak_least = 10,
     .peak_most = 14,
     .changes_most = 1,
     .end = 2},
    {.name = "ramp",
     .load = ramp_load,
     .burst_ms = 60000,
     .over_ms = 780000,
     .drained_ms = 33000,
     .ms = 18 * MINUTE,
     .peak_least = 10,
     .peak_most = 14,
     .changes_most = 1},
    {.name = "spike", SPIKE, .drained_ms = 33000, .peak_least = 12, .peak_most = 17, .changes_most = 1},
    {.name = "spike from zero",
     .load = spike_alone_load,
     .burst_ms = 60000,
     .over_ms = 70000,
     .reaction_ms = 1000,
     .drained_ms = 33000,
     .from_zero = true,
     .peak_least = 12,
     .peak_most = 17,
     .changes_most = 1,
     .end = NONE},
    {.name = "spike, a short target",
     SPIKE,
     .drained_ms = 5500,
     .target_ms = 5000,
     .peak_least = 25,
     .peak_most = 64,
     .changes_most = 1},
    {.name = "spike of long tasks",
     .load = long_spike_load,
     .burst_ms = 60000,
     .over_ms = 80000,
     .drained_ms = 66000,
     .service_ms = 1000,
     .target_ms = 60000,
     .peak_least = 10,
     .peak_most = 20,
     .changes_most = 1},
    {.name = "spike, slow to start",
     SPIKE,
     .drained_ms = 36000,
     .start_ms = 3000,
     .peak_least = 10,
     .peak_most = 18,
     .changes_most = 1},
    {.name = "poison",
     SPIKE,
     .drained_ms = 60000,
     .fail_percent = 30,
     .peak_least = 12,
     .peak_most = 20,
     .changes_most = 1},
    {.name = "slow commits",
     SPIKE,
     .drained_ms = 35000,
     .commit_ms = 1000,
     .peak_least = 12,
     .peak_most = 20,
     .changes_most = 1},
    {.name = "very slow commits",
     SPIKE,
     .drained_ms = 40000,
     .commit_ms = 4000,
     .peak_least = 12,
     .peak_most = 20,
     .changes_most = 1},
    {.name = "few commits",
     PLENTY,
     .drained_ms = 250000,
     .commits_per_s = 50,
     .peak_least = 2,
     .peak_most = 12,
     .changes_most = 1},
    {.name = "downstream-limited",
     PLENTY,
     .drained_ms = 200000,
     .downstream_per_s = 60,
     .peak_least = 3,
     .peak_most = 12,
     .changes_most = 1},
    {.name = "downstream-limited for long",
     .load = more_than_plenty_load,
     .burst_ms = 60000,
     .over_ms = 180000,
     .drained_ms = 400000,
     .downstream_per_s = 60,
     .ms = 15 * MINUTE,
     .peak_least = 3,
     .peak_most = 12,
     .changes_most = 3},
    {.name = "one key",
     PLENTY,
     .drained_ms = 700000,
     .keys = 1,
     .ms = 20 * MINUTE,
     .peak_least = 1,
     .peak_most = 4,
     .changes_most = 1},
    {.name = "noise",
     .load = even_load,
     .spread = 1,
     .ms = HOUR,
     .peak_least = 3,
     .peak_most = 5,
     .changes_most = 0,
     .end = 4},
    {.name = "now and then",
     .load = rare_load,
     .burst_ms = 100000,
     .over_ms = 101000,
     .drained_ms = 3000,
     .from_zero = true,
     .peak_least = 1,
     .peak_most = 1,
     .changes_most = 1,
     .end = NONE},
    {.name = "one message",
     .load = none_but_one_load,
     .exact = true,
     .burst_ms = 60000,
     .over_ms = 60050,
     .drained_ms = 1000,
     .from_zero = true,
     .peak_least = 1,
     .peak_most = 1,
     .changes_most = 1,
     .end = NONE},
};

static void check(const struct world *w)
{
    const struct trace *t = &w->t;
    if (t->burst_ms > 0) {
        uint64_t from_ms = t->reaction_ms > 0 ? t->burst_ms : w->needed_ms;
        if (t->peak_least > !t->from_zero && (w->reacted_ms == 0 || w->reacted_ms > from_ms + 1000))
            fail_msg("%s: reacted after %lld ms", t->name, (long long)(w->reacted_ms - from_ms));
        if (w->drained_ms == 0 || w->drained_ms > t->over_ms + t->drained_ms)
            fail_msg("%s: drained after %lld ms", t->name, (long long)(w->drained_ms - t->over_ms));
    }
    if (w->peak < t->peak_least || w->peak > t->peak_most)
        fail_msg("%s: at most %u processes", t->name, w->peak);
    if (w->changes > t->changes_most)
        fail_msg("%s: %u changes of direction", t->name, w->changes);
    if (w->scale.wanted > (t->end == NONE ? 0 : t->end))
        fail_msg("%s: %u processes at its end", t->name, w->scale.wanted);
}

static void each_trace_is_met_with_as_many_as_help_and_one_change_of_direction(void **state)
{
    (void)state;
    static struct world w;
    for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
        for (uint64_t seed = 0; seed < 5; seed++) {
            begin(&w, &traces[i], seed);
            run(&w, w.t.ms);
            check(&w);
        }
    }
}

/* ---- a day ---- */

enum { BURSTS_MAX = 16 };

static struct {
    uint64_t from_ms, to_ms;
    double times;
} bursts[BURSTS_MAX];
static size_t bursts_n;
static double drift[24 * 60]; /* minute by minute */

/* Little at night, and four times as much at noon; a drift of a tenth or so, and bursts. */
static double day_load(uint64_t ms)
{
    double hour = (double)ms / HOUR, load = 25 - 15 * cos(hour / 24 * 2 * 3.14159265);
    load *= drift[ms / MINUTE % ARRAY_LEN(drift)];
    for (size_t i = 0; i < bursts_n; i++)
        if (ms >= bursts[i].from_ms && ms < bursts[i].to_ms)
            load *= bursts[i].times;
    return load;
}

static void plan_day(uint64_t seed)
{
    struct rng r;
    rng_seed(&r, 1000 + seed);
    bursts_n = 4 + rng_below(&r, 8);
    for (size_t i = 0; i < bursts_n; i++) {
        uint64_t room = 24 * (uint64_t)HOUR / bursts_n;
        bursts[i].from_ms = i * room + rng_below(&r, room - 20 * MINUTE);
        bursts[i].to_ms = bursts[i].from_ms + rng_between(&r, 5000, 60000);
        bursts[i].times = (double)rng_between(&r, 5, 100);
    }
    double at = 1;
    for (size_t i = 0; i < ARRAY_LEN(drift); i++) {
        at = 1 + 0.9 * (at - 1) + 0.05 * bell(&r);
        drift[i] = fmax(at, 0.2);
    }
}

static void a_day_has_no_more_changes_of_direction_than_reasons(void **state)
{
    (void)state;
    static const struct trace day = {
        .name = "day", .load = day_load, .service_ms = 100, .tick_ms = 250, .ms = 24 * (uint64_t)HOUR};
    static struct world w;
    for (uint64_t seed = 0; seed < 6; seed++) {
        plan_day(seed);
        begin(&w, &day, seed);
        run(&w, day.ms);
        double work_ms = (double)w.finished * w.t.service_ms;
        print_message(
            "day %u: %zu bursts, %u moves, %u changes of direction, at most %u processes, %.0f %% in use\n",
            (unsigned)seed, bursts_n, w.moves, w.changes, w.peak, 100 * work_ms / w.there_ms);
        /* Up and down for each burst, for the day, and for a drift that leaves the band now and then. */
        assert_in_range(w.changes, 2, 2 * bursts_n + 2 + 12);
        assert_true(w.waiting < 1000);
        assert_true(work_ms / w.there_ms > 0.4);
    }
}

/* ---- what it says ---- */

static const struct scale_sample quiet = {
    .known = true, .min = 1, .max = 16, .target_drain_ms = 10000, .down_after_ms = 30000};

/* A state that knows that tasks take 100 ms, with one process that was busy for a second. */
static struct scale_sample known_100_ms(struct scale *s, struct scale_sample in)
{
    *s = (struct scale){.wanted = 1};
    in.up = in.running = 1;
    scale_step(s, &in, 1000);
    in.busy_us = 1000000;
    in.finished = in.done = 10;
    return in;
}

static void as_many_are_wanted_as_drain_the_backlog_within_the_target(void **state)
{
    (void)state;
    static const struct {
        uint64_t backlog;
        uint32_t concurrency, enough;
    } rows[] = {{0, 0, 0}, {1, 0, 1}, {100, 0, 1}, {106, 0, 2}, {500, 0, 5}, {500, 2, 3}, {100000, 0, 953}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scale s;
        struct scale_sample in = known_100_ms(&s, quiet);
        in.backlog = rows[i].backlog; /* a task takes 95.2 ms: ten in a second, and half of one */
        in.concurrency = rows[i].concurrency;
        struct scale_decision d = scale_step(&s, &in, 2000);
        assert_int_equal(d.enough, rows[i].enough);
        assert_true(d.wanted <= 5); /* one step */
    }
}

static void a_process_is_busy_when_its_threads_are(void **state)
{
    (void)state;
    for (uint32_t busy = 1; busy <= 4; busy += 3) {
        struct scale s = {.wanted = 1};
        struct scale_sample in = quiet;
        in.concurrency = 4;
        in.up = 1;
        in.running = busy;
        in.backlog = in.in_flight = in.held = 10000;
        scale_step(&s, &in, 1000);
        in.busy_us = busy * UINT64_C(1000000); /* all through the second */
        in.finished = in.done = busy * 10;
        struct scale_decision d = scale_step(&s, &in, 2000);
        assert_true(d.enough > 1);
        assert_int_equal(d.why, busy == 1 ? SCALE_UNUSED : SCALE_LAG);
        assert_int_equal(d.wanted > 1, busy == 4);
    }
}

/* A backlog that the one process is not enough for comes between 1000 and 2000. */
static struct scale_sample fall_behind(struct scale *s, uint32_t target_ms, uint64_t waited_ms, uint32_t target_left)
{
    struct scale_sample in = known_100_ms(s, quiet);
    in.target_drain_ms = target_ms;
    in.backlog = 50000;
    in.waited_ms = waited_ms;
    assert_int_equal(scale_step(s, &in, 2000).target_ms, target_left);
    return in;
}

static void what_went_by_since_a_backlog_rose_is_not_left_of_the_target(void **state)
{
    (void)state;
    struct scale s;
    struct scale_sample in = fall_behind(&s, 10000, 0, 10000);
    struct scale_decision d = scale_step(&s, &in, 2400);
    assert_int_equal(d.target_ms, 9600);
    assert_int_equal(d.enough, (uint32_t)ceil(50000 * d.service_us / 1000 / 9600));
    assert_int_equal(scale_step(&s, &in, 4400).target_ms, 9000); /* a second of it, at most */
    in.backlog++;
    assert_int_equal(scale_step(&s, &in, 4650).target_ms, 10000); /* more comes: these have all of it */
    assert_int_equal(scale_step(&s, &in, 4700).target_ms, 9950);
    in.backlog = 10;
    assert_int_equal(scale_step(&s, &in, 4950).target_ms, 10000); /* it is met */

    in = fall_behind(&s, 1000, 0, 1000);
    assert_int_equal(scale_step(&s, &in, 4000).target_ms, 750); /* a quarter, at most */
    fall_behind(&s, 10000, 300, 9700);
    fall_behind(&s, 10000, HOUR, 9500); /* it is another that waits for so long: this came since the last look */
}

static void who_cannot_tell_yet_whether_more_would_help_looks_again_soon(void **state)
{
    (void)state;
    struct scale s;
    struct scale_sample in = known_100_ms(&s, quiet);
    assert_false(scale_step(&s, &in, 2000).soon);
    in.backlog = 10;
    assert_false(scale_step(&s, &in, 2250).soon); /* nobody else is needed */
    in.backlog = 50000;
    for (uint64_t ms = 2500; ms < 3500; ms += SCALE_LOOK_MS) {
        struct scale_decision d = scale_step(&s, &in, ms);
        assert_int_equal(d.wanted, 1);
        assert_true(d.soon);
    }
    assert_false(scale_step(&s, &in, 3500).soon); /* it waits for something else */
    in = known_100_ms(&s, quiet);
    scale_step(&s, &in, 2000);
    in.backlog = 50000;
    assert_true(scale_step(&s, &in, 2250).soon);
    in.busy_us += 50000;
    struct scale_decision d = scale_step(&s, &in, 2300);
    assert_int_equal(d.why, SCALE_LAG);
    assert_int_equal(d.wanted, 5);
    assert_false(d.soon);
}

static void where_nothing_is_known_one_process_begins(void **state)
{
    (void)state;
    struct scale s = {0};
    struct scale_sample in = quiet;
    in.min = 0;
    struct scale_decision d = scale_step(&s, &in, 1000);
    assert_int_equal(d.wanted, 0);
    in.backlog = in.in_flight = 1000;
    in.held = 1;
    d = scale_step(&s, &in, 1001);
    assert_int_equal(d.wanted, 1);
    assert_int_equal(d.why, SCALE_FIRST);
    in.up = in.running = 1;
    d = scale_step(&s, &in, 1250);
    assert_int_equal(d.wanted, 1);
    /* It has been at its first task for two seconds: that is not nothing. */
    in.busy_us = 2000000;
    in.in_flight = 1;
    d = scale_step(&s, &in, 3250);
    assert_in_range(d.wanted, 2, 5);
}

static void host_and_limits_are_kept(void **state)
{
    (void)state;
    static const struct {
        uint32_t max, cores;
        uint64_t room, of_one;
        uint32_t wanted;
        enum scale_why why;
    } rows[] = {
        {16, 0, 0, 0, 5, SCALE_LAG},          {2, 0, 0, 0, 2, SCALE_LAG},
        {16, 0, 1000, 400, 3, SCALE_LAG},     {16, 0, 100, 400, 1, SCALE_MEMORY},
        {16, 4, UINT64_MAX, 1, 5, SCALE_LAG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scale s;
        struct scale_sample in = known_100_ms(&s, quiet);
        in.backlog = 10000;
        in.max = rows[i].max;
        in.cores = rows[i].cores;
        in.memory_room = rows[i].room;
        in.memory_of_one = rows[i].of_one;
        struct scale_decision d = scale_step(&s, &in, 2000);
        assert_int_equal(d.wanted, rows[i].wanted);
        assert_int_equal(d.why, rows[i].why);
    }
    struct scale s = {.wanted = 20};
    struct scale_sample in = quiet;
    in.min = in.max = 3;
    struct scale_decision d = scale_step(&s, &in, 1000);
    assert_int_equal(d.wanted, 3);
    assert_int_equal(d.why, SCALE_LIMITS);
    in.min = in.max = 7;
    assert_int_equal(scale_step(&s, &in, 1000).wanted, 7);
}

static void cores_bound_what_is_wanted(void **state)
{
    (void)state;
    struct scale s = {.wanted = SCALE_PER_CORE};
    struct scale_sample in = quiet;
    in.max = 256;
    in.cores = 1;
    in.up = in.running = SCALE_PER_CORE;
    in.backlog = 1000000;
    scale_step(&s, &in, 1000);
    in.busy_us = SCALE_PER_CORE * 1000000;
    in.finished = in.done = 100;
    struct scale_decision d = scale_step(&s, &in, 2000);
    assert_int_equal(d.wanted, SCALE_PER_CORE);
    assert_int_equal(d.why, SCALE_CORES);
}

static void daemons_that_share_a_group_want_together_what_one_would(void **state)
{
    (void)state;
    static const struct {
        uint64_t held;
        uint32_t enough;
    } rows[] = {{30, 4}, {10, 2}, {0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scale s;
        struct scale_sample in = known_100_ms(&s, quiet);
        in.backlog = 500;
        in.in_flight = 40;
        in.held = rows[i].held;
        assert_int_equal(scale_step(&s, &in, 2000).enough, rows[i].enough);
    }
}

static void without_an_answer_of_the_broker_nothing_moves(void **state)
{
    (void)state;
    struct scale s = {.wanted = 5};
    struct scale_sample in = quiet;
    in.known = false;
    in.up = 5;
    for (uint64_t ms = 0; ms < 10 * MINUTE; ms += SAMPLE_MS) {
        struct scale_decision d = scale_step(&s, &in, ms);
        assert_int_equal(d.wanted, 5);
        assert_int_equal(d.why, SCALE_UNKNOWN);
    }
}

static void every_reason_has_a_text(void **state)
{
    (void)state;
    for (int why = 0; why < SCALE_WHYS_N; why++)
        assert_true(strlen(scale_why_text((enum scale_why)why)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_trace_is_met_with_as_many_as_help_and_one_change_of_direction),
        cmocka_unit_test(a_day_has_no_more_changes_of_direction_than_reasons),
        cmocka_unit_test(as_many_are_wanted_as_drain_the_backlog_within_the_target),
        cmocka_unit_test(a_process_is_busy_when_its_threads_are),
        cmocka_unit_test(what_went_by_since_a_backlog_rose_is_not_left_of_the_target),
        cmocka_unit_test(who_cannot_tell_yet_whether_more_would_help_looks_again_soon),
        cmocka_unit_test(where_nothing_is_known_one_process_begins),
        cmocka_unit_test(host_and_limits_are_kept),
        cmocka_unit_test(cores_bound_what_is_wanted),
        cmocka_unit_test(daemons_that_share_a_group_want_together_what_one_would),
        cmocka_unit_test(without_an_answer_of_the_broker_nothing_moves),
        cmocka_unit_test(every_reason_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
