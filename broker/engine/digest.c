/* What survives a restart as one number, and where the messages of a group are: for tests that compare, and count again. */
#include "engine/memory.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + UINT64_C(0x9e3779b97f4a7c15) + (h << 6) + (h >> 2);
    h *= UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ h >> 29;
}

static uint64_t mix_text(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++)
        h = mix(h, (uint8_t)*text);
    return h;
}

static uint64_t entry_digest(const struct entry *e)
{
    uint64_t h = mix(e->offset, e->part->partition->id);
    h = mix(h, e->state == ENTRY_LEASED ? 1 : e->has_row ? 2 : 3);
    h = mix(mix(mix(mix(mix(h, e->token), e->grants), e->failures), e->priority), e->ttl_until_ms);
    if (e->state == ENTRY_LEASED)
        return mix(mix(mix(h, e->lease->session->id.lo), e->lease->slot), e->lease->counter);
    return mix(h, e->has_row ? e->due_ms : 0);
}

static uint64_t member_digest(const struct member *m)
{
    return m == NULL ? 0 : mix_text(mix(mix(mix(mix(m->session_id.lo, m->number), m->timeout_ms), m->order), m->state), m->name);
}

static uint64_t stream_digest(const struct stream *st)
{
    uint64_t h = st->members_n;
    LIST_EACH (n, &st->members)
        h = mix(h, member_digest(container_of(n, struct member, link)));
    for (uint32_t i = 0; i < st->claims_n; i++) {
        const struct claim *c = st->claims[i];
        const struct member *kept = c->owner == NULL && c->target != NULL && c->target->state == MEMBER_AWAY ? c->target : NULL;
        h = mix(mix(mix(mix(h, c->generation), c->committed_ms), member_digest(c->owner)), member_digest(kept));
    }
    return h;
}

static uint64_t group_digest(const struct group *g)
{
    uint64_t h = mix_text(g->id, g->name), set = 0;
    const struct wire_group_config *c = &g->config;
    h = mix(mix(mix(mix(mix(mix(h, c->mode), c->lease_ms), c->max_deliveries), c->order), c->park), c->from);
    h = mix(mix(mix(mix(mix(h, c->backoff_min_ms), c->backoff_max_ms), c->run_max), c->in_flight_max), c->expired);
    h = mix(mix(mix(mix(mix(h, c->rate_milli), c->key_rate_milli), c->key_in_flight_max), c->idle_expiry_ms), g->paused);
    const struct away_counts *a = &g->away;
    h = mix(mix(mix(mix(mix(mix(mix(h, a->retrying), a->blocked), a->waiting), a->behind), a->keys), a->purges), a->swept);
    h = mix(mix(h, g->blocked), g->redriven);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = g->parts[i];
        h = mix(mix(mix(mix(h, p->done.floor), p->done.count), p->parked), p->scanned);
        h = mix(mix(h, p->lost), p->stale);
        for (uint64_t o = p->done.floor, left = p->done.count; left > 0; o++)
            if (done_has(&p->done, o)) {
                h = mix(h, o);
                left--;
            }
        for (struct map_it it = map_iter(&p->entries); map_next(&it);) {
            const struct entry *e = it.value;
            if (e->state == ENTRY_LEASED || e->has_row) /* others are found again by the scan */
                set += entry_digest(e);
        }
    }
    for (struct map_it it = map_iter(&g->keys); map_next(&it);) {
        const struct key_queue *k = it.value;
        if (k->members_n > 0)
            continue; /* in memory for a moment */
        /* without order another may be head after a restart: what is due in memory, by its timer, may not be by the wall clock */
        bool head_in_list = k->list.head_in_list && group_keeps_order(g);
        if (k->list.count > 0)
            set += mix(mix(mix(mix(k->hash, k->list.first), k->list.skip), k->list.count), head_in_list);
        uint64_t run = k->hash;
        LIST_EACH (n, &k->run)
            run = mix(run, container_of(n, struct entry, of_key)->offset);
        set += run == k->hash ? 0 : mix(run, k->head->offset);
    }
    return mix(g->stream != NULL ? mix(h, stream_digest(g->stream)) : h, set);
}

static uint64_t compaction_digest(uint64_t h, const struct compactable *x)
{
    if (x == NULL)
        return h;
    const struct compaction_row *r = &x->row;
    h = mix(mix(mix(mix(mix(mix(h, r->clean), r->passed), r->passed_bytes), r->removed_bytes), r->tombstones), r->last_ms);
    for (uint32_t i = 0; i < r->marks_n; i++)
        h = mix(mix(h, r->marks[i].offset), r->marks[i].ms);
    for (uint32_t i = 0; i < r->left_n; i++)
        h = mix(h, r->left[i]);
    return h;
}

uint64_t engine_digest(const struct engine *en)
{
    uint64_t h = mix(mix(mix(0, en->next.topic), en->next.partition), en->next.group), set = 0;
    for (size_t i = 0; i < en->topics_n; i++) {
        const struct topic *t = en->topics[i];
        const struct wire_topic_config *c = &t->config;
        h = mix_text(mix(h, t->id), t->name);
        h = mix(mix(h, t->waiting.batches), t->waiting.messages);
        h = mix(mix(mix(mix(h, c->retention_ms), c->retention_bytes), c->hard_cap_ms), c->message_bytes_max);
        h = mix(mix(mix(mix(h, c->backlog_bytes_max), c->backlog_age_max_ms), c->dedup_ms), c->ttl_ms);
        for (uint32_t k = 0; k < t->config.partitions; k++) {
            const struct partition_row *r = &t->partitions[k]->row;
            h = mix(mix(mix(mix(h, t->partitions[k]->id), r->start), r->end), r->end_bytes);
            h = mix(mix(h, r->parent), r->fence);
            h = mix(h, retention_digest(t->partitions[k], mix));
            h = compaction_digest(h, t->partitions[k]->compact);
        }
        for (size_t k = 0; k < t->groups_n; k++)
            h = mix(h, group_digest(t->groups[k]));
    }
    for (struct map_it it = map_iter(&en->sessions); map_next(&it);)
        for (const struct session *s = it.value; s != NULL; s = s->collision)
            set += mix_text(mix(s->id.lo, s->id.hi), s->name);
    const struct dedup_generation_row *d = &en->dedup.row;
    h = mix(mix(mix(mix(h, d->current), d->began_ms), d->count), d->before_began_ms);
    return mix(task_digest(en, mix), mix(h, set));
}

bool engine_census(const struct engine *en, struct view topic, struct view group, struct engine_census *out)
{
    const struct topic *t = topic_find(en, topic);
    *out = (struct engine_census){0};
    for (size_t i = 0; t != NULL && i < t->groups_n; i++) {
        const struct group *g = t->groups[i];
        if (!view_eq(group, view_of_str(g->name)))
            continue;
        out->ready = g->ready;
        out->leased = g->leased;
        out->retrying = g->retrying;
        out->blocked = g->blocked;
        out->waiting = g->waiting;
        out->throttled = g->throttled;
        out->redriven = g->redriven;
        out->behind = g->behind;
        out->away = g->away.retrying + g->away.blocked + g->away.waiting;
        for (uint32_t k = 0; k < t->config.partitions; k++) {
            const struct group_part *p = g->parts[k];
            out->floor += p->done.floor;
            out->end += p->partition->row.end;
            out->done_above_floor += p->done.count;
            out->parked += p->parked;
            out->unscanned += p->partition->row.end - p->cursor;
            out->scanning_again |= p->cursor < p->scanned;
        }
        return true;
    }
    return false;
}
