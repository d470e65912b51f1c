/*
 * Reading a topic as a member of a stream group.
 *
 *     told (membership) ──> slots: a reader for each partition that we own ──fetch──> data ──> poll ──> the user
 *                              │                                                                  │
 *                              └── revoked, lost <── commit of what was done ─────────────────────┘
 *
 * Everything but the fetches' coming back happens in the thread that polls: a partition is given up between two polls, when what was
 * handed out of it is done. What is not owned any more by our own clock is not handed out.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sdk/batch.h"
#include "sdk/membership.h"
#include "sdk/reader.h"

enum {
    TIMEOUT_MS = 10000,
    AUTO_COMMIT_MS = 5000,
    POLL_MS_MAX = 300000,
    FETCHES = 2,          /* that are out at once: a partition that is new need not wait for the others */
    FETCH_WAIT_MS = 1000,
    NO_ROOM_MS = 20
};

struct slot {
    uint32_t partition, index;
    uint64_t generation;
    uint64_t handed, done, committed; /* offsets: handed out up to; that was done, as far as we know; at the broker */
    struct sluice_reader *reader;
    bool fetching;
    struct sluice_error error; /* that its reader met and poll has not said yet; code 0: none */
};

struct sluice_stream {
    struct sluice *client;
    struct membership *m;
    struct topic *topic;
    char *topic_name;
    struct sluice_stream_options options;
    struct slot *slots;
    uint32_t slots_n, next;     /* next: whose turn it is */
    uint32_t max_bytes;
    uint64_t commit_ns;         /* when what was done is committed next */
    struct sluice_gap gap;      /* that the last poll said; count 0: none */
    unsigned fetches, changes;
    struct waiting *waiting;    /* shared with fetches that are out */
};

/* Fetches that came back, until the polling thread takes them. */
struct waiting {
    struct membership *m;       /* its lock is ours */
    struct list finished;
    bool abandoned;
    unsigned refs;
};

struct fetch {
    struct list_node node;
    struct waiting *to;
    struct answer *answer;
    struct sluice_error error;  /* code 0: none */
    uint64_t *generations;
    uint32_t *partitions;
    uint32_t n;
    size_t room;
};

/* ---------------------------------------------------------------- slots */

static struct slot *slot_of(struct sluice_stream *st, uint32_t partition)
{
    for (uint32_t i = 0; i < st->slots_n; i++)
        if (st->slots[i].partition == partition)
            return &st->slots[i];
    return NULL;
}

static struct slot *slot_at(struct sluice_stream *st, uint32_t index)
{
    for (uint32_t i = 0; i < st->slots_n; i++)
        if (st->slots[i].index == index)
            return &st->slots[i];
    return NULL;
}

/* The topic may have grown since we asked for it. */
static int index_of(struct sluice_stream *st, uint32_t partition, uint32_t *index, struct sluice_error *err)
{
    *index = topic_index(st->topic, partition);
    if (*index != UINT32_MAX)
        return 0;
    catalog_forget_topic(&st->client->catalog, st->topic);
    int code = catalog_topic(st->client, st->topic_name, &st->topic, err);
    if (code == 0 && (*index = topic_index(st->topic, partition)) == UINT32_MAX)
        code = fail(err, E_BAD_FRAME, "topic '%s': partition id %u is assigned and not the topic's", st->topic_name, partition);
    return code;
}

static void slot_drop(struct sluice_stream *st, struct slot *s)
{
    sluice_reader_close(s->reader);
    uint32_t i = (uint32_t)(s - st->slots);
    memmove(s, s + 1, (st->slots_n - i - 1) * sizeof *s);
    st->slots_n--;
}

static void slot_place(struct slot *s, uint64_t generation, uint64_t offset)
{
    s->generation = generation;
    s->handed = s->done = s->committed = offset;
    s->fetching = false;
    s->error.code = 0;
    reader_seek(s->reader, offset);
}

/* ---------------------------------------------------------------- committing */

static int commit_items(struct sluice_stream *st, const struct wire_place *items, uint32_t n, bool strict, struct sluice_error *err)
{
    if (n == 0)
        return 0;
    struct request *r = client_request(st->client, VERB_GROUP_COMMIT, LANE_FREE, "group '%s' of topic '%s'", st->m->group, st->m->topic);
    struct wire_place *copy = arena_take(&r->memory, n * sizeof *copy);
    memcpy(copy, items, n * sizeof *copy);
    pthread_mutex_lock(&st->m->lock);
    r->wire.commit = (struct wire_group_commit){.group = st->m->group_id, .items = copy, .items_n = n};
    pthread_mutex_unlock(&st->m->lock);
    struct answer *a;
    int code = client_call(st->client, r, &a, err);
    if (code != 0)
        return code;
    const struct wire_commit_reply *reply = &a->reply.commit;
    if (a->reply.body != BODY_COMMIT || (reply->codes_n != 0 && reply->codes_n != n))
        code = fail(err, E_BAD_FRAME, "group '%s': the broker's answer makes no sense", st->m->group);
    for (uint32_t i = 0; i < n && code == 0; i++) {
        int of_item = reply->codes_n != 0 ? reply->codes[i] : E_OK;
        struct slot *s = slot_of(st, items[i].partition);
        if (of_item == E_OK && s != NULL && s->generation == items[i].generation && s->committed < items[i].offset)
            s->committed = items[i].offset;
        if (of_item != E_OK && (strict || of_item != E_STALE_GENERATION))
            code = fail(err, of_item, "%s: topic '%s', group '%s', partition %u, offset %llu", error_text(of_item), st->topic_name, st->m->group,
                        topic_index(st->topic, items[i].partition), (unsigned long long)items[i].offset);
    }
    answer_drop(a);
    return code;
}

/* What was done, or with `all` what was handed out, of everything that is owned. */
static int commit_all(struct sluice_stream *st, bool all, bool strict, struct sluice_error *err)
{
    struct wire_place *items = mem_array(st->slots_n, sizeof *items);
    uint32_t n = 0;
    for (uint32_t i = 0; i < st->slots_n; i++) {
        const struct slot *s = &st->slots[i];
        uint64_t to = all ? s->handed : s->done;
        if (to > s->committed)
            items[n++] = (struct wire_place){.partition = s->partition, .generation = s->generation, .offset = to};
    }
    int code = commit_items(st, items, n, strict, err);
    mem_free(items);
    return code;
}

static bool commits_itself(const struct sluice_stream *st) { return st->options.auto_commit_ms != UINT32_MAX; }

int sluice_stream_commit(struct sluice_stream *st, const struct sluice_position *positions, size_t count, struct sluice_error *err)
{
    int code = client_may_block(st->client, "sluice_stream_commit", err);
    if (code != 0 || positions == NULL)
        return code != 0 ? code : commit_all(st, true, true, err);
    struct wire_place *items = mem_array(count, sizeof *items);
    for (size_t i = 0; i < count && code == 0; i++) {
        const struct slot *s = slot_at(st, positions[i].partition);
        if (s == NULL)
            code = fail(err, E_STALE_GENERATION, "%s: topic '%s', partition %u", error_text(E_STALE_GENERATION), st->topic_name, positions[i].partition);
        else
            items[i] = (struct wire_place){.partition = s->partition, .generation = s->generation, .offset = positions[i].offset};
    }
    if (code == 0)
        code = commit_items(st, items, (uint32_t)count, true, err);
    mem_free(items);
    return code;
}

/* ---------------------------------------------------------------- what is owned */

/* Takes those out for which `gone` says so, with one call of the user's. */
static void take_away(struct sluice_stream *st, const bool *gone, bool lost)
{
    uint32_t *indexes = mem_array(st->slots_n, sizeof *indexes), n = 0;
    for (uint32_t i = 0; i < st->slots_n; i++)
        if (gone[i])
            indexes[n++] = st->slots[i].index;
    if (n > 0 && st->options.revoked != NULL)
        st->options.revoked(st->options.user, indexes, n, lost); /* who commits by hand does it now */
    for (uint32_t i = 0; i < n; i++) {
        struct slot *s = slot_at(st, indexes[i]);
        pthread_mutex_lock(&st->m->lock);
        if (!lost)
            membership_gave_up(st->m, s->partition, s->generation);
        pthread_mutex_unlock(&st->m->lock);
        slot_drop(st, s);
    }
    mem_free(indexes);
}

static const struct wire_place *place_of(const struct wire_place *places, uint32_t n, uint32_t partition)
{
    for (uint32_t i = 0; i < n; i++)
        if (places[i].partition == partition)
            return &places[i];
    return NULL;
}

static int add_new(struct sluice_stream *st, const struct wire_place *places, uint32_t n, struct sluice_error *err)
{
    uint32_t *added = mem_array(n, sizeof *added), added_n = 0;
    int code = 0;
    for (uint32_t i = 0; i < n && code == 0; i++) {
        uint32_t index;
        if (slot_of(st, places[i].partition) != NULL)
            continue;
        if (places[i].flags & PLACE_REVOKED) { /* it is to go before we had it */
            pthread_mutex_lock(&st->m->lock);
            membership_gave_up(st->m, places[i].partition, places[i].generation);
            pthread_mutex_unlock(&st->m->lock);
            continue;
        }
        if ((code = index_of(st, places[i].partition, &index, err)) != 0)
            break;
        st->slots = mem_resize(st->slots, st->slots_n + 1, sizeof *st->slots);
        st->slots[st->slots_n] = (struct slot){.partition = places[i].partition, .index = index,
                                               .reader = reader_new(st->client, st->topic, index, places[i].offset, st->max_bytes)};
        slot_place(&st->slots[st->slots_n++], places[i].generation, places[i].offset);
        added[added_n++] = index;
    }
    if (added_n > 0 && st->options.assigned != NULL)
        st->options.assigned(st->options.user, added, added_n);
    mem_free(added);
    return code;
}

/* Makes what we have what we were told. */
static int follow(struct sluice_stream *st, const struct wire_place *places, uint32_t n, struct sluice_error *err)
{
    bool *lost = mem_array(st->slots_n, sizeof *lost), any_revoked = false;
    for (uint32_t i = 0; i < st->slots_n; i++) {
        const struct wire_place *p = place_of(places, n, st->slots[i].partition);
        lost[i] = p == NULL;
        if (p != NULL && p->generation != st->slots[i].generation)
            slot_place(&st->slots[i], p->generation, p->offset); /* it was set elsewhere */
        any_revoked |= p != NULL && (p->flags & PLACE_REVOKED) != 0;
    }
    take_away(st, lost, true);
    mem_free(lost);
    int code = 0;
    if (any_revoked) {
        if (commits_itself(st))
            code = commit_all(st, false, false, err);
        bool *revoked = mem_array(st->slots_n, sizeof *revoked);
        for (uint32_t i = 0; i < st->slots_n; i++)
            revoked[i] = (place_of(places, n, st->slots[i].partition)->flags & PLACE_REVOKED) != 0;
        take_away(st, revoked, false);
        mem_free(revoked);
    }
    int added = add_new(st, places, n, code == 0 ? err : NULL);
    return code != 0 ? code : added;
}

static void lose_all(struct sluice_stream *st)
{
    bool *all = mem_array(st->slots_n, sizeof *all);
    memset(all, 1, st->slots_n);
    take_away(st, all, true);
    mem_free(all);
}

/* What changed since the last look is done; OK, or what ended the membership. */
static int keep_up(struct sluice_stream *st, struct sluice_error *err)
{
    struct membership *m = st->m;
    pthread_mutex_lock(&m->lock);
    bool changed = m->changes != st->changes, over = clock_mono_ns() >= m->until_ns;
    st->changes = m->changes;
    struct sluice_error fatal = m->fatal;
    uint32_t n = m->assigned_n;
    struct wire_place *places = changed ? mem_dup(m->assigned, n * sizeof *places) : NULL;
    bool paused = m->paused;
    m->polled_ns = clock_mono_ns();
    if (over && st->slots_n > 0)
        membership_forget(m);
    size_t given_before = map_count(&m->given_up);
    pthread_mutex_unlock(&m->lock);
    int code = 0;
    bool poke = paused || (over && st->slots_n > 0);
    if (over || fatal.code != 0)
        lose_all(st);
    else if (changed)
        code = follow(st, places, n, err);
    mem_free(places);
    pthread_mutex_lock(&m->lock);
    poke |= map_count(&m->given_up) > given_before;
    pthread_mutex_unlock(&m->lock);
    if (fatal.code != 0)
        return fail_same(err, &fatal);
    if (poke)
        membership_poke(m);
    return code;
}

/* ---------------------------------------------------------------- fetching */

static void waiting_drop(struct waiting *w) /* under the lock */
{
    if (--w->refs == 0)
        mem_free(w);
}

static void fetch_free(struct fetch *f, struct sluice *s)
{
    answer_drop(f->answer);
    budget_give(&s->budget, f->room);
    mem_free(f->generations);
    mem_free(f->partitions);
    mem_free(f);
}

static void fetch_before(struct request *r, bool may_wait)
{
    if (!may_wait)
        r->wait_ms = r->wire.fetch.wait_ms = 0;
}

static void fetch_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct fetch *f = r->owner;
    struct waiting *w = f->to;
    struct membership *m = w->m;
    if (error != NULL)
        f->error = *error;
    else
        f->answer = answer_take(a);
    pthread_mutex_lock(&m->lock);
    bool abandoned = w->abandoned;
    if (!abandoned)
        list_push_back(&w->finished, &f->node);
    m->changes++;
    pthread_cond_broadcast(&m->changed);
    waiting_drop(w);
    pthread_mutex_unlock(&m->lock);
    if (abandoned)
        fetch_free(f, m->client);
    membership_drop(m);
}

static bool wants(const struct slot *s) { return !s->fetching && s->error.code == 0 && !reader_has(s->reader); }

/* Asks for what comes next of all partitions that have nothing and are not asked for. False: there is no room for it. */
static bool fetch_more(struct sluice_stream *st)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < st->slots_n; i++)
        n += wants(&st->slots[i]);
    if (n == 0 || st->fetches >= FETCHES)
        return true;
    if (!budget_take(&st->client->budget, st->max_bytes))
        return st->fetches > 0;
    struct request *r = client_request(st->client, VERB_FETCH, LANE_READS, "topic '%s'", st->topic_name);
    struct wire_fetch_from *from = arena_take(&r->memory, n * sizeof *from);
    struct fetch *f = mem_zalloc(sizeof *f);
    *f = (struct fetch){.to = st->waiting, .room = st->max_bytes, .generations = mem_array(n, sizeof *f->generations),
                        .partitions = mem_array(n, sizeof *f->partitions)};
    for (uint32_t i = 0; i < st->slots_n; i++) {
        struct slot *s = &st->slots[i];
        if (!wants(s))
            continue;
        from[f->n] = (struct wire_fetch_from){.partition = s->partition, .offset = sluice_reader_offset(s->reader), .max_bytes = st->max_bytes};
        f->partitions[f->n] = s->partition;
        f->generations[f->n++] = s->generation;
        s->fetching = true;
    }
    r->wire.fetch = (struct wire_fetch){.from = from, .from_n = n, .max_bytes = st->max_bytes, .wait_ms = FETCH_WAIT_MS};
    r->wait_ms = FETCH_WAIT_MS;
    r->before = fetch_before;
    r->done = fetch_done;
    r->owner = f;
    pthread_mutex_lock(&st->m->lock);
    st->waiting->refs++;
    pthread_mutex_unlock(&st->m->lock);
    membership_take(st->m);
    st->fetches++;
    session_post(&st->client->session, r);
    return true;
}

/* Gives what came back to its readers. What they say against it is heard of one after another. */
static int take_fetched(struct sluice_stream *st, struct fetch *f, struct sluice_error *err)
{
    const struct wire_fetch_part *parts = f->answer != NULL && f->answer->reply.body == BODY_FETCH ? f->answer->reply.fetch.parts : NULL;
    uint32_t n = parts != NULL ? f->answer->reply.fetch.parts_n : 0;
    for (uint32_t i = 0; i < f->n; i++) {
        struct slot *s = slot_of(st, f->partitions[i]);
        if (s == NULL || s->generation != f->generations[i] || !s->fetching)
            continue; /* it was given up, or set elsewhere, since */
        s->fetching = false;
        if (i >= n || parts[i].partition != f->partitions[i])
            continue;
        reader_take(s->reader, f->answer, &parts[i], &s->error);
    }
    bool passes = f->error.code == E_AGAIN || f->error.code == E_TIMEOUT || f->error.code == E_UNREACHABLE;
    return f->error.code != 0 && !passes ? fail_same(err, &f->error) : 0;
}

static int take_finished(struct sluice_stream *st, struct sluice_error *err)
{
    int code = 0;
    for (;;) {
        pthread_mutex_lock(&st->m->lock);
        struct list_node *n = list_pop_front(&st->waiting->finished);
        pthread_mutex_unlock(&st->m->lock);
        if (n == NULL || code != 0)
            return code;
        struct fetch *f = container_of(n, struct fetch, node);
        st->fetches--;
        code = take_fetched(st, f, err);
        fetch_free(f, st->client);
    }
}

/* ---------------------------------------------------------------- polling */

/* A reader's error is said once; where it is a gap or a damage, the reader stands behind it. */
static int say(struct sluice_stream *st, struct slot *s, struct sluice_error *err)
{
    struct sluice_error error = s->error;
    st->gap.size = sizeof st->gap;
    if (error.code == E_GAP || error.code == E_DAMAGED)
        sluice_reader_gap(s->reader, &st->gap);
    if (error.code == E_GAP)
        s->handed = sluice_reader_offset(s->reader);
    s->error.code = 0;
    return fail_same(err, &error);
}

/* A batch of the next partition that has something; *out NULL: none has. */
static int next_batch(struct sluice_stream *st, struct sluice_batch **out, struct sluice_error *err)
{
    for (uint32_t i = 0; i < st->slots_n; i++) {
        struct slot *s = &st->slots[(st->next + i) % st->slots_n];
        if (s->error.code != 0)
            return say(st, s, err);
        if (!reader_has(s->reader))
            continue;
        struct sluice_batch *b;
        if (reader_read(s->reader, &b, &s->error) != 0)
            return say(st, s, err);
        s->handed = sluice_reader_offset(s->reader);
        if (b->count == 0) {
            sluice_batch_free(b);
            continue;
        }
        st->next = (uint32_t)(s - st->slots) + 1;
        *out = b;
        return 0;
    }
    return 0;
}

static int auto_commit(struct sluice_stream *st, struct sluice_error *err)
{
    if (!commits_itself(st) || clock_mono_ns() < st->commit_ns)
        return 0;
    st->commit_ns = deadline_in(st->options.auto_commit_ms);
    int code = commit_all(st, false, false, err);
    return code == E_TIMEOUT || code == E_UNREACHABLE ? 0 : code; /* again next time */
}

int sluice_stream_poll(struct sluice_stream *st, uint32_t wait_ms, struct sluice_batch **out, struct sluice_error *err)
{
    *out = NULL;
    st->gap = (struct sluice_gap){0};
    int code = client_may_block(st->client, "sluice_stream_poll", err);
    uint64_t until = deadline_in(wait_ms);
    for (uint32_t i = 0; i < st->slots_n; i++)
        st->slots[i].done = st->slots[i].handed;
    while (code == 0) {
        bool room = true;
        code = keep_up(st, err);
        if (code == 0)
            code = auto_commit(st, err);
        if (code == 0)
            code = take_finished(st, err);
        if (code == 0)
            code = next_batch(st, out, err);
        if (code != 0 || *out != NULL)
            break;
        room = fetch_more(st);
        if (clock_mono_ns() >= until) {
            if (!room)
                return fail(err, E_QUEUE_FULL, "the client's memory limit is reached: memory_max is %zu; free batches that were received",
                            st->client->budget.max);
            *out = batch_new(st->client);
            break;
        }
        uint64_t wake = commits_itself(st) && st->commit_ns < until ? st->commit_ns : until, soon = deadline_in(NO_ROOM_MS);
        pthread_mutex_lock(&st->m->lock);
        if (st->slots_n > 0 && st->m->until_ns < wake)
            wake = st->m->until_ns;
        membership_wait(st->m, st->changes, !room && soon < wake ? soon : wake);
        pthread_mutex_unlock(&st->m->lock);
        code = client_fatal(st->client, err);
    }
    return code;
}

size_t sluice_stream_partitions(const struct sluice_stream *st, struct sluice_position *out, size_t count)
{
    for (size_t i = 0; i < count && i < st->slots_n; i++)
        out[i] = (struct sluice_position){.partition = st->slots[i].index, .offset = sluice_reader_offset(st->slots[i].reader)};
    return st->slots_n;
}

bool sluice_stream_gap(const struct sluice_stream *st, struct sluice_gap *out)
{
    gap_give(&st->gap, out);
    return st->gap.count != 0;
}

int sluice_stream_seek(struct sluice_stream *st, uint32_t partition, uint64_t offset, struct sluice_error *err)
{
    struct slot *s = slot_at(st, partition);
    if (s == NULL)
        return fail(err, E_STALE_GENERATION, "%s: topic '%s', partition %u", error_text(E_STALE_GENERATION), st->topic_name, partition);
    reader_seek(s->reader, offset);
    s->handed = s->done = offset;
    s->fetching = false;
    s->error.code = 0;
    return 0;
}

/* ---------------------------------------------------------------- life */

static int stream_leave(struct sluice_stream *st, struct sluice_error *err)
{
    struct membership *m = st->m;
    struct request *r = client_request(st->client, VERB_GROUP_LEAVE, LANE_READS, "group '%s' of topic '%s'", m->group, m->topic);
    r->wire.leave = (struct wire_group_leave){.group = m->group_id, .member = m->number, .keep = m->name != NULL};
    struct answer *a;
    int code = client_call(st->client, r, &a, err);
    if (code == 0)
        answer_drop(a);
    return code;
}

static void stream_free(struct sluice_stream *st)
{
    struct membership *m = st->m;
    pthread_mutex_lock(&m->lock);
    st->waiting->abandoned = true;
    struct list finished;
    list_init(&finished);
    for (struct list_node *n; (n = list_pop_front(&st->waiting->finished)) != NULL;)
        list_push_back(&finished, n);
    waiting_drop(st->waiting);
    pthread_mutex_unlock(&m->lock);
    for (struct list_node *n; (n = list_pop_front(&finished)) != NULL;)
        fetch_free(container_of(n, struct fetch, node), st->client);
    while (st->slots_n > 0)
        slot_drop(st, &st->slots[0]);
    mem_free(st->slots);
    mem_free(st->topic_name);
    membership_drop(m);
    mem_free(st);
}

static int check_options(struct sluice_stream_options *o, struct sluice_error *err)
{
    if (o->name != NULL && check_name("member", o->name, err) != 0)
        return E_INVALID_ARGUMENT;
    if (o->session_timeout_ms == 0)
        o->session_timeout_ms = TIMEOUT_MS;
    if (o->session_timeout_ms < 100)
        return fail(err, E_INVALID_ARGUMENT, "session_timeout_ms: %u, at least 100 are needed", o->session_timeout_ms);
    if (o->auto_commit_ms == 0)
        o->auto_commit_ms = AUTO_COMMIT_MS;
    if (o->poll_interval_max_ms == 0)
        o->poll_interval_max_ms = POLL_MS_MAX;
    return 0;
}

int sluice_stream_open(struct sluice *s, const char *topic, const char *group, const struct sluice_stream_options *options,
                       struct sluice_stream **out, struct sluice_error *err)
{
    *out = NULL;
    struct sluice_stream_options o;
    int code = TAKE_STRUCT(&o, options, sluice_stream_options, user, err);
    if (code == 0)
        code = check_options(&o, err);
    if (code == 0)
        code = check_name("group", group, err);
    struct topic *t = NULL;
    if (code == 0)
        code = catalog_topic(s, topic, &t, err);
    if (code != 0)
        return code;
    struct sluice_stream *st = mem_zalloc(sizeof *st);
    st->client = s;
    st->topic = t;
    st->topic_name = mem_strdup(topic);
    st->options = o;
    st->max_bytes = reader_bytes(s, o.max_bytes);
    st->commit_ns = deadline_in(o.auto_commit_ms);
    st->m = membership_new(s, topic, group, o.name, o.session_timeout_ms, o.poll_interval_max_ms);
    st->options.name = NULL; /* the caller's */
    st->waiting = mem_zalloc(sizeof *st->waiting);
    st->waiting->m = st->m;
    st->waiting->refs = 1;
    list_init(&st->waiting->finished);
    membership_start(st->m);
    /* the first answer says whether there is such a group, and of that mode */
    uint64_t until = client_deadline(s);
    pthread_mutex_lock(&st->m->lock);
    while (!st->m->joined && st->m->fatal.code == 0 && clock_mono_ns() < until)
        membership_wait(st->m, st->m->changes, until);
    struct sluice_error fatal = st->m->fatal;
    bool joined = st->m->joined;
    pthread_mutex_unlock(&st->m->lock);
    if (fatal.code != 0)
        code = fatal.code == E_GROUP_NOT_FOUND ? fail_no_group(err, topic, group) : fail_same(err, &fatal);
    else if (!joined)
        code = fail(err, E_TIMEOUT, "timed out: joining group '%s' of topic '%s'", group, topic);
    if (code != 0) {
        membership_stop(st->m);
        stream_free(st);
        return code;
    }
    *out = st;
    return 0;
}

int sluice_stream_close(struct sluice_stream *st, struct sluice_error *err)
{
    if (st == NULL)
        return 0;
    int code = client_may_block(st->client, "sluice_stream_close", err);
    bool owner;
    pthread_mutex_lock(&st->m->lock);
    owner = clock_mono_ns() < st->m->until_ns && st->m->fatal.code == 0;
    bool joined = st->m->joined;
    pthread_mutex_unlock(&st->m->lock);
    if (code == 0 && owner && commits_itself(st))
        code = commit_all(st, true, false, err);
    bool *all = mem_array(st->slots_n, sizeof *all);
    memset(all, 1, st->slots_n);
    take_away(st, all, !owner);
    mem_free(all);
    membership_stop(st->m);
    if (joined && client_fatal(st->client, NULL) == 0) {
        int left = stream_leave(st, code == 0 ? err : NULL);
        code = code != 0 ? code : left;
    }
    stream_free(st);
    return code;
}
