#include "http/lag.h"

#include "web/metrics.h"

/* One family per field; `per` turns the wire's unit into that of the metric. */
static const struct family {
    const char *name, *help;
    size_t offset;
    double per;
} families[LAG_FAMILIES] = {
#define FIELD(field) offsetof(struct wire_lag, field)
    {"sluice_group_lag_messages", "messages neither done nor parked: waiting, in flight, delayed", FIELD(lag_messages), 1},
    {"sluice_group_lag_bytes", "their bytes", FIELD(lag_bytes), 1},
    {"sluice_group_in_flight", "messages leased to a receiver", FIELD(in_flight), 1},
    {"sluice_group_delayed", "messages that wait for their retry or for their time to be appended", FIELD(delayed), 1},
    {"sluice_group_parked", "dead letters", FIELD(parked), 1},
    {"sluice_group_oldest_age_seconds", "age of the oldest message that is not done", FIELD(oldest_age_ms),
     1000},
    {"sluice_group_ack_rate", "acknowledgements a second, over the last minute", FIELD(ack_rate_milli), 1000},
    {"sluice_group_drain_eta_seconds", "time until the lag is gone at this rate; absent: never",
     FIELD(drain_eta_ms), 1000},
    {"sluice_group_scale_value", "messages that more workers would help with, and those in flight",
     FIELD(scale_value), 1},
    {"sluice_group_lost_messages", "messages that it had not done at its topic's hard cap, and lost", FIELD(lost), 1},
#undef FIELD
};

bool lag_metrics_add(struct lag_metrics *m, const struct wire_lag_reply *page, uint64_t groups_max)
{
    for (uint32_t i = 0; i < page->rows_n; i++) {
        const struct wire_lag *row = &page->rows[i];
        const struct metric_label labels[] = {{"topic", row->topic}, {"group", row->group}};
        if (m->groups++ >= groups_max)
            return false;
        for (size_t f = 0; f < LAG_FAMILIES; f++) {
            uint64_t value;
            memcpy(&value, (const uint8_t *)row + families[f].offset, sizeof value);
            if (value != UINT64_MAX)
                metric_sample(&m->samples[f], families[f].name, labels, ARRAY_LEN(labels),
                              (double)value / families[f].per);
        }
    }
    return true;
}

void lag_metrics_put(const struct lag_metrics *m, struct buf *out)
{
    for (size_t f = 0; f < LAG_FAMILIES; f++) {
        metric_family(out, families[f].name, METRIC_GAUGE, families[f].help);
        buf_append(out, m->samples[f].data, m->samples[f].size);
    }
}

void lag_metrics_free(struct lag_metrics *m)
{
    for (size_t f = 0; f < LAG_FAMILIES; f++)
        buf_free(&m->samples[f]);
}
