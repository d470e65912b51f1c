#include "storm.h"

#include <inttypes.h>

enum {
    ACKED_MAX = 8000,
    PROGRESS_MS = 30000,
    FINISH_MS = 60000,
};

const char *storm_violation(struct storm *s)
{
    const char *text = NULL;
    for (size_t i = 0; i < s->loads_n && text == NULL; i++)
        text = ledger_violation(load_ledger(s->loads[i]));
    return text;
}

static void expect_no_violation(struct storm *s)
{
    const char *text = storm_violation(s);
    if (text != NULL)
        fail_msg("%s", text);
}

void storm_begin(struct storm *s, uint64_t seed, const struct load_options *topics, size_t n)
{
    rng_seed(&s->rng, seed);
    for (size_t i = 0; i < n; i++) {
        struct load_options o = topics[i];
        o.broker = s->broker.url;
        o.seed = rng_next(&s->rng);
        s->loads[s->loads_n++] = load_start(&o);
    }
}

void storm_work(struct storm *s)
{
    for (size_t i = 0; i < s->loads_n; i++) {
        struct ledger *l = load_ledger(s->loads[i]);
        struct ledger_totals now = ledger_totals(l);
        uint64_t more = rng_between(&s->rng, 1, s->acked_max != 0 ? s->acked_max : ACKED_MAX);
        uint64_t done = load_consumes(s->loads[i]) ? now.confirmed + 1 + more / 16 : 0;
        if (!ledger_wait(l, now.acked + more, done, PROGRESS_MS)) {
            struct ledger_totals then = ledger_totals(l);
            fail_msg("no progress: in %d ms %" PRIu64 " messages were acknowledged, %" PRIu64 " done", PROGRESS_MS,
                     then.acked - now.acked, then.confirmed - now.confirmed);
        }
    }
    expect_no_violation(s);
}

void storm_read(struct storm *s, bool all)
{
    for (size_t i = 0; i < s->loads_n; i++)
        load_read(s->loads[i], all);
    expect_no_violation(s);
}

struct storm_totals storm_finish(struct storm *s)
{
    struct storm_totals t = {0};
    for (size_t i = 0; i < s->loads_n; i++)
        load_finish(s->loads[i], FINISH_MS);
    expect_no_violation(s);
    storm_read(s, true);
    for (size_t i = 0; i < s->loads_n; i++) {
        struct ledger_totals l = ledger_totals(load_ledger(s->loads[i]));
        struct load_totals c = load_totals(s->loads[i]);
        load_expect_drained(s->loads[i]);
        t.ledger.published += l.published;
        t.ledger.acked += l.acked;
        t.ledger.delivered += l.delivered;
        t.ledger.again += l.again;
        t.ledger.confirmed += l.confirmed;
        t.clients.reconnects += c.reconnects;
        t.clients.repeated += c.repeated;
    }
    return t;
}

void storm_end(struct storm *s)
{
    if (!broker_runs(&s->broker)) { /* it ended when the test did not expect it */
        char *log = broker_log(&s->broker);
        print_error("the broker does not run; it said:\n%s\n", log);
        free(log);
    }
    for (size_t i = 0; i < s->loads_n; i++)
        load_free(s->loads[i]);
    s->loads_n = 0;
    broker_end(&s->broker);
}
