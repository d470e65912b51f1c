#include "workerd/scale.h"

#include <assert.h>

enum {
    FADE_TASKS = 128, /* the mean service time is one of the last so many tasks, */
    FADE_MS = 5000,   /* or of so long */
    LATENCY_MS_MAX = 10000,
    COUNTED_LEAST = 30, /* tasks, for a rate that says something */
    STEPS_IN_TARGET = 8,
};

static const double BUSY = 0.8;   /* in use from here on: more may help */
static const double UNUSED = 0.5; /* below, the backlog is nothing that processes are missing for */
static const double ROSE = 0.25;  /* of the rise that as many more processes could bring */
static const double SURE = 1.5;   /* standard deviations */
static const double PROCESSES_MOST = 1e9;
static const double LOST_MOST = 0.25; /* of the target */

const char *scale_why_text(enum scale_why why)
{
#define WHY(name, text) [SCALE_##name] = text,
    static const char *const texts[] = {SCALE_WHYS(WHY)};
#undef WHY
    assert((unsigned)why < SCALE_WHYS_N);
    return texts[why];
}

static uint32_t round_up(double x)
{
    if (x >= PROCESSES_MOST)
        return (uint32_t)PROCESSES_MOST;
    uint32_t whole = (uint32_t)x;
    return whole + (x > whole);
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t greater(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* ---- what the samples say ---- */

/* How many processes it is that were in use, as whole ones, in so many ms. */
static double used_processes(const struct scale_sample *in, uint64_t busy_us, uint64_t passed_ms)
{
    return (double)busy_us / (1000.0 * (double)passed_ms) / greater(in->concurrency, 1);
}

static void measure_service(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    s->busy_sum += (double)(in->busy_us - s->busy_us);
    s->finished_sum += (double)(in->finished - s->finished);
    s->running = in->running;
    if (s->finished_sum < 2 * FADE_TASKS || now_ms - s->halved_ms < FADE_MS)
        return;
    s->busy_sum /= 2;
    s->finished_sum /= 2;
    s->halved_ms = now_ms;
}

/* 0: nothing is known. */
static double measured_service_us(const struct scale *s)
{
    double tasks = s->finished_sum + s->running / 2.0;
    if (tasks <= 0)
        return 0;
    return s->busy_sum > tasks ? s->busy_sum / tasks : 1;
}

static double service_us(const struct scale *s)
{
    double now = measured_service_us(s);
    bool on_trial = s->base.processes != 0 && s->wanted > s->base.processes;
    return on_trial && s->base.service_us < now ? s->base.service_us : now;
}

static void end_full(struct scale *s)
{
    s->full = false;
}

/* The stretch in which the same processes were all busy. What gets done in it shows only after what the broker takes
   to answer. */
static void measure_full(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    uint64_t passed = now_ms - s->at_ms, done = in->done - s->done;
    if (in->up == 0 || in->up != s->up || s->share < BUSY) {
        end_full(s);
        return;
    }
    if (!s->full) {
        uint64_t latency = done > 0 ? in->settling * passed / done : 0;
        s->full = true;
        s->full_up = in->up;
        s->full_not_before_ms = now_ms + (latency < LATENCY_MS_MAX ? latency : LATENCY_MS_MAX);
        s->full_since_ms = now_ms;
        s->full_done = in->done;
    } else if (now_ms <= s->full_not_before_ms) {
        s->full_since_ms = now_ms;
        s->full_done = in->done;
    }
}

static void measure(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    assert(now_ms >= s->at_ms && in->busy_us >= s->busy_us && in->finished >= s->finished &&
           in->done >= s->done);
    if (!s->begun) {
        s->begun = true;
        s->halved_ms = now_ms;
        s->share = 0;
    } else if (now_ms > s->at_ms) {
        double used = used_processes(in, in->busy_us - s->busy_us, now_ms - s->at_ms);
        uint32_t up = greater(in->up, s->up);
        s->share = up > 0 ? used / up : 0;
        measure_service(s, in, now_ms);
        measure_full(s, in, now_ms);
    } else {
        return; /* the same moment: what came with it is seen in the next sample */
    }
    s->at_ms = now_ms;
    s->busy_us = in->busy_us;
    s->finished = in->finished;
    s->done = in->done;
    s->up = in->up;
}

/* ---- how many are enough ---- */

static double our_backlog(const struct scale_sample *in)
{
    double ours = (double)in->backlog, held = (double)in->held;
    if (!in->known)
        return held;
    if (in->in_flight > in->held)
        ours *= held / (double)in->in_flight;
    return ours > held ? ours : held;
}

static uint32_t enough_for(const struct scale *s, const struct scale_sample *in, uint32_t target_ms)
{
    double backlog = our_backlog(in), service = service_us(s);
    if (backlog <= 0)
        return 0;
    double target_us = 1000.0 * greater(target_ms, 1);
    return greater(1, round_up(backlog * service / target_us / greater(in->concurrency, 1)));
}

/* What is left of the target. */
static uint32_t target_left(const struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    uint32_t all = in->target_drain_ms, most = lesser((uint32_t)(LOST_MOST * all), SCALE_LOST_MS_MAX);
    uint64_t passed = s->behind ? now_ms - s->behind_since_ms : 0;
    return all - (passed < most ? (uint32_t)passed : most);
}

/* What is seen to have come may have come some time before: `unseen_ms` ago at most, that was the last look. While it is not known how long
   tasks take nothing follows from a backlog. */
static void look_behind(struct scale *s, const struct scale_sample *in, uint64_t unseen_ms, uint64_t now_ms)
{
    bool rose = in->backlog > s->backlog, was = s->behind;
    s->backlog = in->backlog;
    if (rose || !was) {
        uint64_t before = unseen_ms < SCALE_UNSEEN_MS ? unseen_ms : SCALE_UNSEEN_MS;
        s->behind_since_ms = now_ms - (in->waited_ms < before ? in->waited_ms : before);
    }
    if (!was || measured_service_us(s) > 0)
        s->behind = enough_for(s, in, was ? target_left(s, in, now_ms) : in->target_drain_ms) > s->wanted;
    if (!was)
        s->behind_seen_ms = now_ms;
}

/* Processes that work so much of the time need to be so many. */
static uint32_t enough_for_use(double processes)
{
    return greater(1, round_up(processes / BUSY));
}

/* ---- trials ---- */

static void end_trial(struct scale *s)
{
    s->base.processes = 0;
}

static void move(struct scale *s, uint32_t wanted)
{
    s->wanted = wanted;
    s->low = false;
}

enum trial { TRIAL_NONE, TRIAL_OPEN, TRIAL_GAIN, TRIAL_NO_GAIN };

/* Whether a difference between m and what it is held against is hardly chance. */
static bool is_sure(double difference, double m, double n0, double n1)
{
    return difference > 0 && difference * difference > SURE * SURE * m * m * (1 / n0 + 1 / n1);
}

/*
 * With h times the processes, m times as much gets done. Of the h - 1 that could be hoped for a quarter has to be
 * there. m is uncertain by m * sqrt(1/n0 + 1/n1), where n0 and n1 are the tasks that were counted. As long as that
 * leaves it open whether anything rose, or whether enough did, the trial goes on.
 */
static enum trial judge(const struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    if (s->base.processes == 0 || s->wanted <= s->base.processes)
        return TRIAL_NONE;
    if (!s->full || s->full_up <= s->base.processes || now_ms - s->full_since_ms < SCALE_TRIAL_MS)
        return TRIAL_OPEN;
    double count = (double)(in->done - s->full_done) + 1; /* the one that is nearly done */
    double m = count / (double)(now_ms - s->full_since_ms) / s->base.per_ms;
    double required = 1 + ROSE * ((double)s->full_up / s->base.processes - 1);
    if (m >= required && is_sure(m - 1, m, s->base.count, count))
        return TRIAL_GAIN;
    return is_sure(required - m, m, s->base.count, count) ? TRIAL_NO_GAIN : TRIAL_OPEN;
}

static void step_back(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    uint64_t doubled = 2 * s->no_gain_ms;
    s->no_gain_ms = doubled < SCALE_NO_GAIN_MS_MIN   ? SCALE_NO_GAIN_MS_MIN
                    : doubled > SCALE_NO_GAIN_MS_MAX ? SCALE_NO_GAIN_MS_MAX
                                                     : doubled;
    s->ceiling = greater(s->base.processes, greater(in->min, 1));
    s->ceiling_until_ms = now_ms + s->no_gain_ms;
    move(s, lesser(s->ceiling, s->wanted));
    end_trial(s);
    end_full(s);
}

/* What the next step is compared with, unless one is on trial. */
static void mark_base(struct scale *s, uint64_t now_ms)
{
    if (s->base.processes != 0 && s->wanted > s->base.processes)
        return;
    end_trial(s);
    if (!s->full || now_ms == s->full_since_ms || s->done == s->full_done)
        return;
    s->base.processes = s->full_up;
    s->base.count = (double)(s->done - s->full_done);
    s->base.per_ms = s->base.count / (double)(now_ms - s->full_since_ms);
    s->base.service_us = measured_service_us(s);
}

/* ---- up ---- */

static void bound(uint32_t limit, enum scale_why because, uint32_t *most, enum scale_why *why)
{
    if (limit >= *most)
        return;
    *most = limit;
    *why = because;
}

/* The most there may be, and what says so. */
static uint32_t most_of(const struct scale *s, const struct scale_sample *in, uint64_t now_ms,
                        enum scale_why *why)
{
    uint32_t most = in->max;
    *why = SCALE_MAX;
    if (in->cores > 0)
        bound(round_up((double)in->cores * SCALE_PER_CORE), SCALE_CORES, &most, why);
    if (in->memory_of_one > 0) {
        uint64_t more = in->memory_room / in->memory_of_one;
        bound(s->wanted + (more < in->max ? (uint32_t)more : in->max), SCALE_MEMORY, &most, why);
    }
    if (s->ceiling > 0 && now_ms < s->ceiling_until_ms)
        bound(s->ceiling, SCALE_CEILING, &most, why);
    return most;
}

/* After a step enough tasks are counted to compare the next one with, if that does not take too long. */
static bool too_soon(const struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    uint64_t passed = now_ms - s->stepped_ms;
    uint32_t longest = lesser(in->target_drain_ms / STEPS_IN_TARGET, SCALE_STEP_MS_MAX);
    if (s->stepped_ms == 0 || passed >= longest)
        return false;
    return passed < SCALE_STEP_MS || !s->full || in->done - s->full_done < COUNTED_LEAST;
}

static uint32_t step_to(uint32_t had, uint32_t enough)
{
    return lesser(enough, greater(2 * had, had + SCALE_STEP_LEAST));
}

static enum scale_why grow(struct scale *s, const struct scale_sample *in, uint32_t enough, uint64_t now_ms)
{
    enum scale_why why;
    enough = lesser(enough, most_of(s, in, now_ms, &why));
    s->low = false;
    if (enough <= s->wanted)
        return why;
    if (4 * (uint64_t)in->up < 3 * (uint64_t)s->wanted)
        return SCALE_STARTING;
    if (too_soon(s, in, now_ms))
        return SCALE_TRIAL;
    mark_base(s, now_ms);
    move(s, step_to(s->wanted, enough));
    s->stepped_ms = now_ms;
    return SCALE_LAG;
}

static enum scale_why from_zero(struct scale *s, const struct scale_sample *in, uint32_t enough,
                                uint64_t now_ms)
{
    enum scale_why why;
    if (enough == 0)
        return SCALE_STEADY;
    /* One is started whatever the host says: it is what was asked for with max. */
    move(s, greater(1, step_to(0, lesser(enough, most_of(s, in, now_ms, &why)))));
    s->stepped_ms = 0; /* how far the group is behind may not have been known; the next may follow at once */
    end_trial(s);
    return SCALE_FIRST;
}

/* ---- down ---- */

static void open_window(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    if (s->low)
        return;
    s->low = true;
    s->low_since_ms = now_ms;
    s->low_busy_us = in->busy_us;
    s->low_finished = in->finished;
    s->low_most = 0;
}

/* `enough` is less than there are. */
static enum scale_why shrink(struct scale *s, const struct scale_sample *in, uint32_t enough, uint64_t now_ms)
{
    open_window(s, in, now_ms);
    s->low_most = greater(s->low_most, enough);
    uint64_t passed = now_ms - s->low_since_ms;
    double used = passed > 0 ? used_processes(in, in->busy_us - s->low_busy_us, passed) : 0;
    bool nothing = s->low_most == 0 && in->finished == s->low_finished && in->running == 0;
    uint32_t wanted = greater(in->min, nothing ? 0 : greater(s->low_most, enough_for_use(used)));
    if (wanted >= s->wanted) {
        s->low = false; /* a window begins when they stop being in use */
        return SCALE_STEADY;
    }
    if (passed < in->down_after_ms)
        return SCALE_STEADY;
    move(s, wanted);
    end_trial(s);
    end_full(s);
    return wanted == 0 ? SCALE_IDLE : SCALE_LESS;
}

/* The formula wants no fewer, but those there are wait for something else. */
static enum scale_why unused(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    uint32_t used = enough_for_use(s->share * in->up);
    if (used >= s->wanted || in->up < s->wanted) {
        s->low = false;
        return SCALE_UNUSED;
    }
    enum scale_why why = shrink(s, in, used, now_ms);
    return why == SCALE_STEADY ? SCALE_UNUSED : why;
}

/* ---- a step ---- */

static enum scale_why decide(struct scale *s, const struct scale_sample *in, uint32_t enough, uint64_t now_ms)
{
    if (s->wanted < in->min || s->wanted > in->max) {
        move(s, s->wanted < in->min ? in->min : in->max);
        end_trial(s);
        return SCALE_LIMITS;
    }
    if (in->min == in->max)
        return SCALE_STEADY;
    if (s->wanted == 0)
        return from_zero(s, in, enough, now_ms);
    if (!in->known) {
        s->low = false;
        return SCALE_UNKNOWN;
    }
    switch (judge(s, in, now_ms)) {
    case TRIAL_NO_GAIN:
        step_back(s, in, now_ms);
        return SCALE_NO_GAIN;
    case TRIAL_GAIN:
        end_trial(s);
        s->no_gain_ms = 0;
        break;
    case TRIAL_NONE:
    case TRIAL_OPEN:
        break;
    }
    if (enough < s->wanted)
        return shrink(s, in, greater(enough, in->min), now_ms);
    if (s->share < UNUSED)
        return unused(s, in, now_ms);
    s->low = false;
    if (enough == s->wanted)
        return SCALE_STEADY;
    return s->share < BUSY ? SCALE_UNUSED : grow(s, in, enough, now_ms);
}

struct scale_decision scale_step(struct scale *s, const struct scale_sample *in, uint64_t now_ms)
{
    assert(in->min <= in->max && in->max > 0);
    struct scale_decision d = {.had = s->wanted};
    uint64_t unseen_ms = s->begun ? now_ms - s->at_ms : 0;
    measure(s, in, now_ms);
    look_behind(s, in, unseen_ms, now_ms);
    d.target_ms = target_left(s, in, now_ms);
    d.enough = enough_for(s, in, d.target_ms);
    d.service_us = service_us(s);
    d.why = decide(s, in, d.enough, now_ms);
    d.wanted = s->wanted;
    d.soon = s->behind && d.why == SCALE_UNUSED && now_ms - s->behind_seen_ms < SCALE_LOOKS_MS;
    return d;
}
