/* Prometheus' text format, written into a buf. A family is announced once, then all its samples follow. */
#ifndef WEB_METRICS_H
#define WEB_METRICS_H

#include "base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name;
    struct view value; /* any bytes */
};

void metric_family(struct buf *out, const char *name, enum metric_type type, const char *help);
void metric_sample(struct buf *out, const char *name, const struct metric_label *labels, size_t labels_n,
                   double value);

/* A family of one sample without labels. */
void metric(struct buf *out, const char *name, enum metric_type type, const char *help, double value);

/* What every program says of itself; `program` is a noun ("broker"). */
void metrics_process(struct buf *out, const char *program);

#endif
