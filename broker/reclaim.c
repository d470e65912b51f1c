/* Giving disk space back: see reclaim.h. */
#include "broker/reclaim.h"

#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"

struct reclaim {
    struct reclaim_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t log_bytes[FAM_COUNT];
    uint64_t times, bytes;
    bool told, stopping;
    uint64_t left[FAM_COUNT]; /* the thread's: garbage that the last compaction left */
};

bool reclaim_worth(uint64_t garbage, uint64_t kept, uint64_t index, uint64_t bytes_min)
{
    return garbage >= bytes_min && garbage >= kept / 8 && garbage >= index / 2;
}

static uint64_t garbage_of(struct reclaim *r, enum store_family f, uint64_t logs, struct store_family_stats *stats)
{
    store_family_stats(r->o.store, f, stats);
    return stats->bytes > logs ? stats->bytes - logs : 0;
}

/* False: the store failed. */
static bool look(struct reclaim *r, enum store_family f, uint64_t logs)
{
    struct store_family_stats stats;
    struct err e = {0};
    uint64_t garbage = garbage_of(r, f, logs, &stats);
    if (garbage < r->left[f])
        r->left[f] = garbage;
    if (!reclaim_worth(garbage - r->left[f], logs, stats.index_bytes, r->o.bytes_min))
        return true;
    uint64_t began = clock_mono_ms(), before = stats.bytes;
    int code = store_reclaim(r->o.store, f, &e);
    if (code != E_OK) {
        log_warn("space of %s is not given back: %s", store_family_name(f), e.text);
        if (code == E_STORE_FAILED)
            r->o.failed(r->o.user, &e);
        r->left[f] = garbage; /* not again until there is more */
        return code != E_STORE_FAILED;
    }
    r->left[f] = garbage_of(r, f, logs, &stats);
    uint64_t freed = before > stats.bytes ? before - stats.bytes : 0;
    log_info("space given back of %s: bytes=%" PRIu64 " ms=%" PRIu64, store_family_name(f), freed, clock_mono_ms() - began);
    pthread_mutex_lock(&r->lock);
    r->times++;
    r->bytes += freed;
    pthread_mutex_unlock(&r->lock);
    return true;
}

static void *reclaim_main(void *arg)
{
    struct reclaim *r = arg;
    uint64_t logs[FAM_COUNT];
    bool good = true;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping && good) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)(r->o.interval_ms / 1000);
        until.tv_nsec += (long)(r->o.interval_ms % 1000) * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (!r->stopping && pthread_cond_timedwait(&r->wake, &r->lock, &until) == 0)
            ;
        for (enum store_family f = FAM_LOG_HOURS; r->told && !r->stopping && good && f < FAM_COUNT; f++) {
            memcpy(logs, r->log_bytes, sizeof logs);
            pthread_mutex_unlock(&r->lock);
            good = look(r, f, logs[f]);
            pthread_mutex_lock(&r->lock);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int reclaim_start(struct reclaim **out, const struct reclaim_options *options, struct err *e)
{
    struct reclaim *r = mem_zalloc(sizeof *r);
    pthread_condattr_t mono;
    r->o = *options;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &mono);
    pthread_condattr_destroy(&mono);
    int code = pthread_create(&r->thread, NULL, reclaim_main, r);
    if (code != 0) {
        mem_free(r);
        return err_set(e, code, "the thread that gives space back: %s", strerror(code));
    }
    pthread_setname_np(r->thread, "reclaim");
    *out = r;
    return 0;
}

void reclaim_tell(struct reclaim *r, const uint64_t log_bytes[FAM_COUNT])
{
    pthread_mutex_lock(&r->lock);
    memcpy(r->log_bytes, log_bytes, sizeof r->log_bytes);
    r->told = true;
    pthread_mutex_unlock(&r->lock);
}

void reclaim_counts(struct reclaim *r, uint64_t *times, uint64_t *bytes)
{
    pthread_mutex_lock(&r->lock);
    *times = r->times;
    *bytes = r->bytes;
    pthread_mutex_unlock(&r->lock);
}

void reclaim_stop(struct reclaim *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    mem_free(r);
}
