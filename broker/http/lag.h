/* The lag of groups as metrics: pages of rows come in, families of samples go out. One thread at a time. */
#ifndef HTTP_LAG_H
#define HTTP_LAG_H

#include "base/buf.h"
#include "schemas/codec.h"

enum { LAG_FAMILIES = 10 };

struct lag_metrics {
    struct buf samples[LAG_FAMILIES]; /* of each family; they must stand together */
    uint64_t groups;
};

/* Takes rows up to `groups_max` in all; false when there is room for no more. */
bool lag_metrics_add(struct lag_metrics *m, const struct wire_lag_reply *page, uint64_t groups_max);
void lag_metrics_put(const struct lag_metrics *m, struct buf *out);
void lag_metrics_free(struct lag_metrics *m);

#endif
