/* The names of the families, as they stand on disk: never changed, never reused. */
#include "store/store.h"

#include <assert.h>

static const char *const names[FAM_COUNT] = {
    [FAM_META] = "meta",
    [FAM_GROUPS] = "groups",
    [FAM_LEASES] = "leases",
    [FAM_KEYS] = "keys",
    [FAM_HELD] = "held",
    [FAM_SCHED] = "sched",
    [FAM_SESSIONS] = "sessions",
    [FAM_DEDUP_A] = "dedup.a",
    [FAM_DEDUP_B] = "dedup.b",
    [FAM_STATE] = "state",
    [FAM_LOG_HOURS] = "log.hours",
    [FAM_LOG_DAYS] = "log.days",
    [FAM_LOG_WEEKS] = "log.weeks",
    [FAM_LOG_FOREVER] = "log.forever",
    [FAM_LOG_COMPACTED] = "log.compacted",
};

const char *store_family_name(enum store_family f)
{
    assert((unsigned)f < FAM_COUNT);
    return names[f];
}
