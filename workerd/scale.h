/*
 * How many processes a handler should have: a pure function of samples, of the time that they were taken at,
 * and of what it remembers of those before. It starts nothing and stops nothing; pool.c does.
 *
 *     enough = ceil(backlog * mean service time / what is left of target_drain / concurrency)
 *
 *                    enough > had, and those there are busy
 *        +--------------------------------------------------> up: a step, at most to twice as many
 *        |                                                      | for as long as all are busy, the rate at
 *     steady <--- it rose ---------- on trial <-----------------+ which tasks get done is compared with
 *        ^ ^                            |                         the one before
 *        | +--- back, and no further ---+ it did not: "no gain"
 *        |      for 5 minutes, then 10, ..
 *        | enough < had for the whole of down_after: down to the most that was enough meanwhile, and to no less
 *        +- than the processes that were in use; to zero only if there was nothing to do in all that time
 *
 * - backlog is what could be worked on now and what is in flight. Of that a daemon sees to as much as it
 *   holds of what is in flight: several of them that share a group together want what one would.
 * - target_drain counts from when the backlog rose last, as far as it is more than those there are enough for: what went by
 *   since is not left for those that are started. A second of it, and a quarter of all, at most: it is meant for what is lost until
 *   there are more, and where more do not help, or cannot be had, it must not ask for more and more.
 * - Who wants more, and cannot tell yet whether those there are busy, looks again soon, not only when the lag is told next.
 * - Up at once, down late. Noise moves nothing: it is short against target_drain, and on the way down only
 *   the highest of a whole window counts. A backlog that is worked off stays the business of those who were
 *   started for it. What is in use is kept, with a quarter more, or a steady load whose backlog is always
 *   short would lose the processes that keep it short, and get them back, again and again.
 * - More processes are no use where something else is the limit: a database behind the handler, the commits
 *   of the broker, one key that has all the messages. So nobody is added while those there are not busy, and
 *   who was added must show in the rate. While that is open the service time of before counts: the one that
 *   is measured grows with the processes that stand in each other's way, and would ask for still more. It is
 *   open for as long as the difference may be chance, by the numbers of tasks behind both rates; until then
 *   further steps are allowed, which make it plainer.
 * - Service time: what threads of processes were busy, by the tasks they finished, those under way as half of one. Before
 *   any was finished it is twice what the first has taken so far; so one process begins, and tells.
 *
 * Where the ideas are from: the backlog by a target is what KEDA hands to Kubernetes' horizontal autoscaler; its
 * stabilisation window (the highest of the past, on the way down only) and limits for a step are here, and from
 * Knative's the start from zero, a first process to learn from, and the share in use as what speaks against
 * going down. A step on trial is the hill climbing of .NET's thread pool, with a test for chance.
 */
#ifndef WORKERD_SCALE_H
#define WORKERD_SCALE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SCALE_STEP_MS = 1000,              /* between two steps up, an eighth of target_drain if that is less */
    SCALE_STEP_MS_MAX = 5000,          /* if tasks are too long for enough of them to be counted */
    SCALE_STEP_LEAST = 4,              /* a step up adds as many as there are, or these */
    SCALE_TRIAL_MS = 1000,             /* the shortest */
    SCALE_LOOK_MS = 50,                /* until the next look, if it is to be soon; */
    SCALE_LOOKS_MS = 1000,             /* so long there are such */
    SCALE_UNSEEN_MS = 500,             /* so long before it was seen a backlog may have come */
    SCALE_LOST_MS_MAX = 1000,          /* of target_drain, as gone by */
    SCALE_NO_GAIN_MS_MIN = 300 * 1000, /* how long no more are tried after it did not help; doubles */
    SCALE_NO_GAIN_MS_MAX = 3600 * 1000,
    SCALE_PER_CORE = 16, /* processes for each core of the host, at most */
};

/* Why there are as many as there are, or no more. */
#define SCALE_WHYS(X)                                                           \
    X(STEADY, "steady")     /* what is there is right */                        \
    X(FIRST, "first")       /* from zero: there is something to do */           \
    X(LAG, "lag")           /* more, by the formula */                          \
    X(NO_GAIN, "no gain")   /* back: with more of them no more got done */      \
    X(LESS, "less")         /* fewer have been enough for the whole window */   \
    X(IDLE, "idle")         /* to zero: there was nothing to do */              \
    X(LIMITS, "limits")     /* min or max say so */                             \
    X(MAX, "max")           /* the formula wants more; and so with all below */ \
    X(CORES, "cores")       /* the host has too few */                          \
    X(MEMORY, "memory")     /* the host has too little */                       \
    X(CEILING, "ceiling")   /* more did not help a while ago */                 \
    X(UNUSED, "unused")     /* those there are have not enough to do */         \
    X(STARTING, "starting") /* those that are to come are not up */             \
    X(TRIAL, "trial")       /* the step before was just taken */                \
    X(UNKNOWN, "unknown")   /* the broker does not say how far the group is behind */

enum scale_why {
#define WHY(name, text) SCALE_##name,
    SCALE_WHYS(WHY)
#undef WHY
    SCALE_WHYS_N,
};

const char *scale_why_text(enum scale_why why);

/* What is seen at one moment. "Ever" are counts that only grow. */
struct scale_sample {
    bool known;         /* the broker said backlog and in_flight, lately */
    uint64_t backlog;   /* of the group: drainable and in flight */
    uint64_t in_flight; /* of the group, whoever has it */
    uint64_t held;      /* of it ours, verdicts without an answer too: the most since the sample before */
    uint64_t waited_ms; /* the oldest of it; 0: not known */

    uint64_t done;     /* ever: acknowledged or parked, and the broker said so */
    uint64_t finished; /* ever: verdicts of any kind */
    uint64_t settling; /* verdicts that the broker has not answered */
    uint64_t busy_us;  /* ever: what threads of processes had something to do, summed */
    uint32_t running;  /* threads that have something to do now */
    uint32_t up;       /* processes that take tasks */

    uint32_t min, max; /* 0 to max; 1 or more */
    uint32_t target_drain_ms, down_after_ms;
    uint32_t concurrency;   /* threads of a process, each with a task at a time; 0 is as 1 */
    uint32_t cores;         /* of the host; 0: no limit */
    uint64_t memory_room;   /* bytes that processes to come may take */
    uint64_t memory_of_one; /* bytes; 0: no limit */
};

struct scale_decision {
    uint32_t wanted, had; /* had: wanted before */
    uint32_t enough;      /* by the formula alone */
    enum scale_why why;
    double service_us; /* the mean that the formula took; 0: not known */
    uint32_t target_ms; /* what was left of target_drain */
    bool soon;          /* the next step is wanted after SCALE_LOOK_MS, though nothing new is known of the backlog by then */
};

/* Its memory. All zero but `wanted`, what it begins with, is good. */
struct scale {
    uint32_t wanted;

    /* of the sample before */
    bool begun;
    uint64_t at_ms, busy_us, finished, done;
    uint32_t up;
    double share; /* of the processes up that was in use between the two; above 1: some are to stop */

    /* mean service time: sums that are halved now and then, so that the past fades */
    double busy_sum, finished_sum;
    uint32_t running;
    uint64_t halved_ms;

    /* there is more than those wanted are enough for: when that was seen, and since when it has not risen */
    bool behind;
    uint64_t behind_seen_ms, behind_since_ms;
    uint64_t backlog; /* of the sample before */

    /* for how long now the same number of processes were all busy */
    bool full;
    uint32_t full_up;
    uint64_t full_since_ms, full_not_before_ms, full_done;

    /* what got done before the step, or steps, on trial; processes 0: nothing is on trial */
    struct {
        uint32_t processes;
        double per_ms, count, service_us;
    } base;
    uint64_t stepped_ms;
    uint32_t ceiling;
    uint64_t ceiling_until_ms, no_gain_ms;

    /* for how long now fewer were enough */
    bool low;
    uint64_t low_since_ms, low_busy_us, low_finished;
    uint32_t low_most;
};

/* Time never goes back. In a state with `wanted` 0 this may be called as soon as there is a task. */
struct scale_decision scale_step(struct scale *s, const struct scale_sample *in, uint64_t now_ms);

#endif
