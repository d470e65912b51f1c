#include "broker/measures.h"

#include "web/metrics.h"

struct row {
    const char *name;
    enum metric_type type;
    const char *help;
    double value;
};

static void put_rows(const struct row *rows, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++)
        metric(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
}

/* ---------------------------------------------------------------- limits */

void measures_limits(const struct config *c, struct buf *out)
{
    static const char *const units[] = {
        [CONFIG_COUNT] = "count", [CONFIG_MS] = "ms", [CONFIG_BYTES] = "bytes"};
    metric_family(out, "sluice_limit", METRIC_GAUGE, "what is configured: limits.NAME");
    for (size_t i = 0; i < config_keys_n; i++) {
        const struct config_key *k = &config_keys[i];
        if (!config_is_number(k))
            continue;
        const struct metric_label labels[] = {{"name", view_of_str(strchr(k->name, '.') + 1)},
                                              {"unit", view_of_str(units[k->kind])}};
        metric_sample(out, "sluice_limit", labels, ARRAY_LEN(labels), (double)config_number(c, k));
    }
}

/* ---------------------------------------------------------------- the loop */

static void put_counters(const struct engine_counters *c, struct buf *out)
{
#define X(name, help) metric(out, "sluice_" #name "_total", METRIC_COUNTER, help, (double)c->name);
#include "engine/counters.def"
#undef X
}

void measures_loop(const struct loop_status *s, struct buf *out)
{
    const struct engine_totals *t = &s->totals;
    const struct row rows[] = {
        {"sluice_epoch", METRIC_GAUGE, "rises at each start", s->epoch},
        {"sluice_turn", METRIC_GAUGE, "the loop's last turn", (double)s->turn},
        {"sluice_durable_turn", METRIC_GAUGE, "the last turn that is on disk", (double)s->durable_turn},
        {"sluice_syncs_total", METRIC_COUNTER, "syncs of the write-ahead log", (double)s->syncs},
        {"sluice_sync_seconds_total", METRIC_COUNTER, "time spent in them", (double)s->sync_ns / 1e9},
        {"sluice_writes_total", METRIC_COUNTER, "turns written to the store", (double)s->writes},
        {"sluice_write_seconds_total", METRIC_COUNTER, "time spent in that", (double)s->write_ns / 1e9},
        {"sluice_inbox_bytes", METRIC_GAUGE, "requests received and not yet taken up",
         (double)s->inbox_bytes},
        {"sluice_tail_cache_bytes", METRIC_GAUGE, "recent batches in memory", (double)s->tail_cache_bytes},
        {"sluice_start_time_seconds", METRIC_GAUGE, "when this broker started, since 1970",
         (double)s->started_wall_ms / 1000},
        {"sluice_read_only", METRIC_GAUGE, "1 while the disk is full and changes are refused", s->read_only},
        {"sluice_below_reserve", METRIC_GAUGE,
         "1 while the disk is below its reserve and produces are refused", s->below_reserve},
        {"sluice_stopping", METRIC_GAUGE, "1 once it drains", s->stopping},
        {"sluice_topics", METRIC_GAUGE, "topics", t->topics},
        {"sluice_partitions", METRIC_GAUGE, "partitions of all topics", t->partitions},
        {"sluice_groups", METRIC_GAUGE, "groups of all topics", t->groups},
        {"sluice_sessions", METRIC_GAUGE, "sessions, connected or not", t->sessions},
        {"sluice_ready_messages", METRIC_GAUGE, "messages read ahead and ready, of all groups",
         (double)t->ready},
        {"sluice_leased_messages", METRIC_GAUGE, "messages leased", (double)t->leased},
        {"sluice_waiting_requests", METRIC_GAUGE, "long polls that wait", (double)t->waiting},
        {"sluice_held_messages", METRIC_GAUGE, "messages retrying or parked that are in memory",
         (double)t->held},
        {"sluice_scheduled_waiting_messages", METRIC_GAUGE, "messages that wait for their time to be appended",
         (double)t->scheduled_messages},
        {"sluice_scheduled_waiting_batches", METRIC_GAUGE, "the batches that they stand in",
         (double)t->scheduled_batches},
        {"sluice_clock_stepped", METRIC_GAUGE,
         "1 while the wall clock is not believed, and schedule, ttl and retention pause", t->clock_stepped},
        {"sluice_disk_free_bytes", METRIC_GAUGE, "free space where the data is", (double)s->store.disk_free},
        {"sluice_disk_total_bytes", METRIC_GAUGE, "size of the file system there",
         (double)s->store.disk_total},
        {"sluice_store_live_bytes", METRIC_GAUGE, "what the store keeps on disk",
         (double)s->store.live_bytes},
        {"sluice_reclaims_total", METRIC_COUNTER, "compactions that gave space of removed messages back", (double)s->reclaims},
        {"sluice_reclaimed_bytes_total", METRIC_COUNTER, "disk space given back by them", (double)s->reclaimed_bytes},
        {"sluice_backups_total", METRIC_COUNTER, "backups made", (double)s->backups.made},
        {"sluice_backups_failed_total", METRIC_COUNTER, "backups that were asked for and not made", (double)s->backups.failed},
        {"sluice_backup_seconds", METRIC_GAUGE, "how long the last one took", (double)s->backups.last_ns / 1e9},
        {"sluice_workers", METRIC_GAUGE, "worker daemons that report", (double)s->workers.live},
        {"sluice_workers_gone", METRIC_GAUGE, "worker daemons that were heard of and are not any more", (double)s->workers.gone},
        {"sluice_workers_bytes", METRIC_GAUGE, "what is kept of them", (double)s->workers.bytes},
        {"sluice_store_wal_bytes", METRIC_GAUGE, "its write-ahead log", (double)s->store.wal_bytes},
        {"sluice_store_memory_bytes", METRIC_GAUGE, "its caches and write buffers",
         (double)s->store.memory_bytes},
        {"sluice_store_background_errors", METRIC_GAUGE, "errors of its own threads",
         (double)s->store.background_errors},
    };
    put_counters(&s->counters, out);
    put_rows(rows, ARRAY_LEN(rows), out);
}

/* ---------------------------------------------------------------- connections */

void measures_wire(const struct wire_stats *s, struct buf *out)
{
    const struct row rows[] = {
        {"sluice_pipes", METRIC_GAUGE, "connections", s->pipes.pipes},
        {"sluice_unauthenticated_pipes", METRIC_GAUGE, "connections that have not said hello",
         s->pipes.not_open},
        {"sluice_requests_in_flight", METRIC_GAUGE, "requests received and not answered", s->pipes.requests},
        {"sluice_unread_bytes", METRIC_GAUGE, "replies not taken by their clients, at most",
         (double)s->pipes.unread_bytes},
        {"sluice_subscribers", METRIC_GAUGE, "connections that listen to hints", s->subscribers},
    };
#define X(name, help) metric(out, "sluice_wire_" #name "_total", METRIC_COUNTER, help, (double)s->name);
#include "wire/counters.def"
#undef X
    put_rows(rows, ARRAY_LEN(rows), out);
}
