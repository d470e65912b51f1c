/* Stream groups: members, and the partitions that they own.
 *
 * At most one member holds a partition at any time, by its own clock and by ours. It follows from this:
 *
 *   - a member is given a partition in the answer to a join or heartbeat of its own, and counts from when it sent that; we count from when
 *     we got it, which is later. So who is gone for us has stopped before;
 *   - a partition that has an owner is given to nobody. It has none when the owner said so, or was not heard of for its session timeout;
 *   - answers that give leave when the turn is on disk, where the owner stands. So a broker that begins anew knows every owner, and waits a
 *     full term for each.
 *
 * Joins and heartbeats are answered at the end of a turn: many of them cost one assignment.
 */
#include "engine/memory.h"
#include "base/planted.h"

#include "engine/assign.h"

enum { TIMEOUT_MS_DEFAULT = 10000 };

bool group_is(struct engine *en, struct op *op, const struct group *g, enum group_mode mode)
{
    if (g->config.mode == mode)
        return true;
    if (mode != MODE_STREAM)
        answer(en, op, E_WRONG_MODE, "'%s' of topic '%s' is a stream group: its members own partitions and commit", g->name, g->topic->name);
    else
        answer(en, op, E_WRONG_MODE, "'%s' of topic '%s' is a queue group: its messages are leased one by one%s", g->name, g->topic->name,
               op->request.verb == VERB_GROUP_SEEK ? "; move it back with: sluice group replay, forward with: sluice group purge" : "");
    return false;
}

/* ---------------------------------------------------------------- claims */

uint64_t claim_generation(struct engine *en) { return (uint64_t)en->epoch << 40 | ++en->token_last; }

static void claim_dirty(struct engine *en, const struct claim *c, const struct stream *st)
{
    mark_dirty(&en->dirty_parts, &st->group->parts[c->index]->dirty);
}

static void version_raise(struct engine *en, struct member *m)
{
    m->version = claim_generation(en);
    members_stir(en, m->stream);
}

void claim_told(struct engine *en, struct claim *c)
{
    if (c->owner == NULL)
        return;
    version_raise(en, c->owner);
    c->owner->turn = en->turn;
}

bool claim_is_of(const struct claim *c, const struct session *s)
{
    return c->owner != NULL && id128_eq(c->owner->session_id, s->id);
}

static void claim_give(struct engine *en, struct claim *c, struct member *m)
{
    assert(c->owner == NULL);
    c->owner = m;
    c->revoked = false;
    c->generation = claim_generation(en);
    list_push_back(&m->owned, &c->of_owner);
    m->owned_n++;
    m->stream->free_n--;
    en->counters.partitions_given++;
    claim_told(en, c);
    if (!PLANTED(owner_not_written))
        claim_dirty(en, c, m->stream);
}

static void claim_free(struct engine *en, struct claim *c)
{
    struct member *m = c->owner;
    list_remove(&c->of_owner);
    c->owner = NULL;
    c->revoked = false;
    m->owned_n--;
    m->stream->free_n++;
    claim_dirty(en, c, m->stream);
    version_raise(en, m);
}

/* The target stands in the row of a partition that waits for a static member. */
static void claim_aim(struct engine *en, struct stream *st, struct claim *c, struct member *target)
{
    bool kept = c->owner == NULL && ((c->target != NULL && c->target->state == MEMBER_AWAY) || (target != NULL && target->state == MEMBER_AWAY));
    if (kept && c->target != target)
        claim_dirty(en, c, st);
    c->target = target;
}

/* Whether what is meant for it waits for it changed. */
static void claims_meant_dirty(struct engine *en, const struct member *m)
{
    for (uint32_t i = 0; i < m->stream->claims_n; i++)
        if (m->stream->claims[i]->target == m)
            claim_dirty(en, m->stream->claims[i], m->stream);
}

/* ---------------------------------------------------------------- life of a stream, of a member */

static void claims_grow(struct stream *st)
{
    uint32_t n = st->group->topic->config.partitions;
    if (n <= st->claims_n)
        return;
    st->claims = mem_resize(st->claims, n, sizeof(struct claim *));
    for (; st->claims_n < n; st->claims_n++) {
        st->claims[st->claims_n] = mem_zalloc(sizeof(struct claim));
        st->claims[st->claims_n]->index = st->claims_n;
        st->free_n++;
    }
    st->unbalanced = true;
}

void members_grow(struct engine *en, struct stream *st)
{
    claims_grow(st);
    members_stir(en, st);
}

struct stream *members_new(struct group *g)
{
    struct stream *st = mem_zalloc(sizeof *st);
    st->group = g;
    list_init(&st->members);
    claims_grow(st);
    return st;
}

static void member_free(struct engine *en, struct member *m)
{
    assert(list_empty(&m->waiting) && list_empty(&m->owned));
    timer_clear(en, &m->timer);
    list_remove(&m->link);
    list_remove(&m->of_session);
    m->stream->members_n--;
    mem_free(m->name);
    mem_free(m);
}

void members_free(struct engine *en, struct stream *st)
{
    for (uint32_t i = 0; i < st->claims_n; i++) {
        list_remove(&st->claims[i]->of_owner);
        mem_free(st->claims[i]);
    }
    for (struct list_node *n; (n = list_first(&st->members)) != NULL;)
        member_free(en, container_of(n, struct member, link));
    mem_free(st->claims);
    mem_free(st);
}

static struct op *member_op(const struct member *m)
{
    struct list_node *n = list_first(&m->waiting);
    return n != NULL ? container_of(n, struct place, queue)->op : NULL;
}

static void member_refuse(struct engine *en, struct member *m, int code, const char *why)
{
    struct op *op = member_op(m);
    if (op == NULL)
        return;
    wait_end(en, op);
    answer(en, op, code, "'%s'", why);
}

void members_closed(struct engine *en, struct stream *st, int code)
{
    const struct group *g = st->group;
    LIST_EACH (n, &st->members)
        member_refuse(en, container_of(n, struct member, link), code, code == E_TOPIC_DELETED ? g->topic->name : g->name);
}

static void member_write(struct engine *en, const struct member *m)
{
    struct key k = key_member(m->stream->group->id, m->session_id, m->number);
    buf_clear(&en->row);
    member_row_put(&en->row, &(struct member_row){.name = view_of_str(m->name), .timeout_ms = m->timeout_ms, .order = m->order,
                                                  .joined_ms = m->joined_ms, .state = m->state});
    row_put(en, FAM_GROUPS, &k);
}

static void member_frees(struct engine *en, struct member *m)
{
    for (struct list_node *n; (n = list_first(&m->owned)) != NULL;)
        claim_free(en, container_of(n, struct claim, of_owner));
}

static void member_gone(struct engine *en, struct member *m, int code)
{
    struct stream *st = m->stream;
    member_refuse(en, m, code, st->group->name);
    member_frees(en, m);
    for (uint32_t i = 0; i < st->claims_n; i++)
        if (st->claims[i]->target == m)
            claim_aim(en, st, st->claims[i], NULL);
    struct key k = key_member(st->group->id, m->session_id, m->number);
    row_remove(en, FAM_GROUPS, &k);
    st->unbalanced = true;
    members_stir(en, st);
    member_free(en, m);
}

/* It was not heard of for its session timeout, or did not come back within it. */
static void member_over(struct engine *en, struct timer *t)
{
    struct member *m = container_of(t, struct member, timer);
    en->counters.members_timed_out += m->state == MEMBER_ACTIVE;
    member_gone(en, m, E_UNKNOWN_MEMBER);
}

static void member_heard(struct engine *en, struct member *m)
{
    m->heard_ms = en->now.mono_ms;
    uint64_t term = PLANTED(two_owners) ? m->timeout_ms / 2 : m->timeout_ms;
    timer_set(en, &m->timer, en->now.mono_ms + term, member_over);
}

struct member *members_find(const struct stream *st, struct id128 session, uint32_t number)
{
    LIST_EACH (n, &st->members) {
        struct member *m = container_of(n, struct member, link);
        if (m->number == number && id128_eq(m->session_id, session))
            return m;
    }
    return NULL;
}

static struct member *member_named(const struct stream *st, const char *name)
{
    LIST_EACH (n, &st->members) {
        struct member *m = container_of(n, struct member, link);
        if (m->state != MEMBER_FENCED && strcmp(m->name, name) == 0)
            return m;
    }
    return NULL;
}

static struct member *member_add(struct stream *st, struct id128 session, uint32_t number, struct view name)
{
    struct member *m = mem_zalloc(sizeof *m);
    m->stream = st;
    m->session_id = session;
    m->number = number;
    m->name = mem_strndup((const char *)name.data, name.size);
    m->state = MEMBER_ACTIVE;
    list_init(&m->owned);
    list_init(&m->waiting);
    list_push_back(&st->members, &m->link);
    st->members_n++;
    return m;
}

/* A member of the same name is there: what is meant for it is meant for the new one. If it is away it goes; else it is fenced, and what it
 * owns comes when it gives it up or its time is over. */
static void member_succeeds(struct engine *en, struct member *m, struct member *before)
{
    struct stream *st = m->stream;
    for (uint32_t i = 0; i < st->claims_n; i++)
        if (st->claims[i]->target == before)
            claim_aim(en, st, st->claims[i], m);
    if (before->state == MEMBER_AWAY) {
        member_gone(en, before, E_UNKNOWN_MEMBER);
        return;
    }
    en->counters.members_fenced++;
    before->state = MEMBER_FENCED;
    member_write(en, before);
    member_refuse(en, before, E_MEMBER_FENCED, before->name);
}

/* ---------------------------------------------------------------- answering */

static void member_tell(struct engine *en, struct member *m, struct op *op, bool changed)
{
    struct wire_member_reply *r = &op->reply.member;
    wait_end(en, op);
    m->tell = false;
    op->reply.body = BODY_MEMBER;
    *r = (struct wire_member_reply){.group = m->stream->group->id, .timeout_ms = m->timeout_ms, .version = m->version, .changed = changed};
    if (changed) {
        struct wire_place *assigned = op_take(en, op, m->owned_n, sizeof *assigned);
        LIST_EACH (n, &m->owned) {
            const struct claim *c = container_of(n, struct claim, of_owner);
            const struct group_part *p = m->stream->group->parts[c->index];
            assigned[r->assigned_n++] = (struct wire_place){.generation = c->generation, .offset = commit_begin(p),
                                                            .partition = p->partition->id, .flags = c->revoked ? PLACE_REVOKED : 0};
        }
        r->assigned = assigned;
    }
    answer_on(en, op, m->turn);
}

static bool member_news(const struct member *m, const struct op *op)
{
    return op->request.verb == VERB_GROUP_JOIN || op->request.heartbeat.version != m->version;
}

/* It is answered at the end of the turn, which may still give it something. */
void members_wait_over(struct engine *en, struct op *op)
{
    struct member *m = container_of(list_first(&op->waits), struct place, of_op)->member;
    heap_remove(&en->waits, &op->timer);
    m->tell = true;
    members_stir(en, m->stream);
}

/* The request waits, for the end of this turn at least: a newer one takes the place of one that waits. */
static void member_waits(struct engine *en, struct member *m, struct op *op, struct session *s, uint32_t wait_ms)
{
    struct op *before = member_op(m);
    if (before != NULL) {
        wait_end(en, before);
        answer(en, before, E_AGAIN, "a newer request of this member came");
    }
    wait_begin(en, op, s, wait_ms);
    struct place *place = op_take(en, op, 1, sizeof *place);
    place->member = m;
    wait_at(op, place, &m->waiting);
    members_stir(en, m->stream);
}

/* ---------------------------------------------------------------- the end of a turn */

void members_moved(struct engine *en, const struct group_part *p)
{
    struct stream *st = p->group->stream;
    for (uint32_t i = st->claims_n; i > 0 && st->group->parts[i - 1]->partition->parent != NULL; i--) {
        if (part_open(st->group->parts[i - 1]) == st->claims[i - 1]->open)
            continue;
        st->unbalanced = true;
        members_stir(en, st);
    }
}

void members_stir(struct engine *en, struct stream *st)
{
    st->stirred = true;
    group_stir(en, st->group);
}

/* The member that stands for the owner: it, or who took its name. */
static const struct member *stands_for(const struct stream *st, const struct member *m)
{
    return m == NULL || m->state != MEMBER_FENCED ? m : member_named(st, m->name);
}

static uint32_t members_index(struct stream *st, struct member **by_index)
{
    uint32_t n = 0;
    LIST_EACH (at, &st->members) {
        struct member *m = container_of(at, struct member, link);
        if (m->state == MEMBER_FENCED)
            continue;
        m->index = n;
        by_index[n++] = m;
    }
    return n;
}

static void claim_revoke(struct engine *en, struct claim *c)
{
    bool revoked = c->owner != NULL && c->owner != c->target;
    if (revoked == c->revoked)
        return;
    c->revoked = revoked;
    version_raise(en, c->owner);
}

/* A partition that was born at a fence which the group has not passed is nobody's yet. */
static void balance(struct engine *en, struct stream *st)
{
    uint32_t n = 0, *has = mem_array(st->claims_n, sizeof *has), *target = mem_array(st->claims_n, sizeof *target);
    bool *firm = mem_array(st->claims_n, sizeof *firm);
    struct claim **open = mem_array(st->claims_n, sizeof(struct claim *));
    struct member **by_index = mem_array(st->members_n, sizeof(struct member *));
    uint32_t members = members_index(st, by_index);
    for (uint32_t i = 0; i < st->claims_n; i++) {
        struct claim *c = st->claims[i];
        c->open = part_open(st->group->parts[i]);
        if (!c->open) {
            claim_aim(en, st, c, NULL);
            claim_revoke(en, c);
            continue;
        }
        const struct member *m = c->owner != NULL ? stands_for(st, c->owner) : c->target;
        has[n] = m != NULL ? m->index : ASSIGN_NONE;
        firm[n] = c->owner != NULL;
        open[n++] = c;
    }
    assign(members, n, has, firm, target);
    for (uint32_t i = 0; i < n; i++) {
        claim_aim(en, st, open[i], target[i] != ASSIGN_NONE ? by_index[target[i]] : NULL);
        claim_revoke(en, open[i]);
    }
    mem_free(has);
    mem_free(target);
    mem_free(firm);
    mem_free(open);
    mem_free(by_index);
    st->unbalanced = false;
    en->counters.assignments++;
}

void members_stirred(struct engine *en, struct stream *st)
{
    if (!st->stirred)
        return;
    if (st->unbalanced)
        balance(en, st);
    for (uint32_t i = 0; i < st->claims_n && st->free_n > 0; i++) {
        struct claim *c = st->claims[i];
        if (c->owner == NULL && c->target != NULL && c->target->state == MEMBER_ACTIVE && member_op(c->target) != NULL)
            claim_give(en, c, c->target);
    }
    LIST_EACH (n, &st->members) {
        struct member *m = container_of(n, struct member, link);
        struct op *op = member_op(m);
        if (op != NULL && (m->tell || member_news(m, op)))
            member_tell(en, m, op, member_news(m, op));
    }
    st->stirred = false;
}

/* ---------------------------------------------------------------- requests */

/* The group of an id, of mode stream; NULL: answered. */
static struct group *group_of(struct engine *en, struct op *op, uint32_t id)
{
    struct group *g = map_get(&en->groups, id);
    if (g == NULL)
        answer(en, op, group_missing(en, id), "group id %u", id);
    return g != NULL && group_is(en, op, g, MODE_STREAM) ? g : NULL;
}

void members_join(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_group_join *j = &op->request.join;
    struct group *g = group_find(en, op, j->topic, j->group);
    if (g == NULL || !group_is(en, op, g, MODE_STREAM))
        return;
    struct stream *st = g->stream;
    struct member *m = members_find(st, s->id, j->member);
    if (m != NULL && m->state == MEMBER_FENCED) {
        answer(en, op, E_MEMBER_FENCED, "'%s'", m->name);
        return;
    }
    if (m == NULL && st->members_n >= en->limits->members_per_group_max) {
        answer(en, op, E_LIMIT, "group '%s' of topic '%s': limit members_per_group_max = %llu", g->name, g->topic->name,
               (unsigned long long)en->limits->members_per_group_max);
        return;
    }
    if (m == NULL) {
        struct view name = j->name.data != NULL ? j->name : VIEW_LIT("");
        m = member_add(st, s->id, j->member, name);
        m->session = s;
        list_push_back(&s->members, &m->of_session);
        m->order = m->version = claim_generation(en);
        m->joined_ms = en->wall_ms;
        struct member *before = NULL;
        LIST_EACH (n, &st->members) {
            struct member *other = container_of(n, struct member, link);
            if (other != m && name.size > 0 && other->state != MEMBER_FENCED && strcmp(other->name, m->name) == 0)
                before = other;
        }
        if (before != NULL)
            member_succeeds(en, m, before);
        st->unbalanced = true;
        en->counters.members_joined++;
    }
    if (m->state == MEMBER_AWAY)
        claims_meant_dirty(en, m);
    m->state = MEMBER_ACTIVE;
    m->timeout_ms = j->timeout_ms != 0 ? j->timeout_ms : TIMEOUT_MS_DEFAULT;
    m->turn = en->turn;
    member_write(en, m);
    member_heard(en, m);
    group_used(en, g);
    m->tell = true;
    member_waits(en, m, op, s, 0);
}

void members_heartbeat(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_group_heartbeat *h = &op->request.heartbeat;
    struct group *g = group_of(en, op, h->group);
    if (g == NULL)
        return;
    struct member *m = members_find(g->stream, s->id, h->member);
    if (m == NULL || m->state != MEMBER_ACTIVE) {
        answer(en, op, m != NULL && m->state == MEMBER_FENCED ? E_MEMBER_FENCED : E_UNKNOWN_MEMBER, "member %u of group '%s'", h->member, g->name);
        return;
    }
    en->counters.heartbeats++;
    member_heard(en, m);
    for (uint32_t i = 0; i < h->released_n; i++) {
        const struct partition *p = table_get(&en->partitions, h->released[i].partition);
        struct claim *c = p != NULL && p->topic == g->topic && p->index < g->stream->claims_n ? g->stream->claims[p->index] : NULL;
        if (c != NULL && c->owner == m && (c->generation == h->released[i].generation || PLANTED(old_claim_released)))
            claim_free(en, c);
    }
    m->tell |= h->wait_ms == 0 || en->stopping;
    uint32_t most = m->timeout_ms / 3;
    member_waits(en, m, op, s, h->wait_ms < most ? h->wait_ms : most);
}

void members_leave(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_group_leave *l = &op->request.leave;
    struct group *g = group_of(en, op, l->group);
    if (g == NULL)
        return;
    struct member *m = members_find(g->stream, s->id, l->member);
    if (m != NULL && l->keep && m->name[0] != '\0' && m->state == MEMBER_ACTIVE) {
        member_refuse(en, m, E_UNKNOWN_MEMBER, g->name);
        m->state = MEMBER_AWAY;
        member_frees(en, m);
        claims_meant_dirty(en, m);
        member_write(en, m);
        member_heard(en, m);
        members_stir(en, g->stream);
    } else if (m != NULL && m->state != MEMBER_AWAY) {
        member_gone(en, m, E_UNKNOWN_MEMBER);
    }
    answer_change(en, op, DURABILITY_DISK);
}

void members_session_over(struct engine *en, struct session *s, bool left)
{
    for (struct list_node *n; (n = list_pop_front(&s->members)) != NULL;) {
        struct member *m = container_of(n, struct member, of_session);
        m->session = NULL;
        if (left && m->state != MEMBER_AWAY)
            member_gone(en, m, E_CLOSED);
    }
}

/* ---------------------------------------------------------------- looking at it */

void members_list(struct engine *en, struct op *op)
{
    const struct wire_group_members *w = &op->request.members;
    struct group *g = group_find(en, op, w->topic, w->group);
    if (g == NULL || !group_is(en, op, g, MODE_STREAM))
        return;
    struct stream *st = g->stream;
    struct wire_members_reply *r = &op->reply.members;
    struct wire_member *members = op_take(en, op, st->members_n, sizeof *members);
    op->reply.body = BODY_MEMBERS;
    LIST_EACH (n, &st->members) {
        struct member *m = container_of(n, struct member, link);
        m->index = r->members_n;
        members[r->members_n++] = (struct wire_member){.name = op_text(op, m->name), .client = op_text(op, m->session != NULL ? m->session->name : ""),
                                                       .member = m->number, .timeout_ms = m->timeout_ms, .partitions = m->owned_n, .state = m->state,
                                                       .heard_ms = en->now.mono_ms - m->heard_ms, .joined_ms = m->joined_ms};
    }
    uint32_t from = w->from < st->claims_n ? w->from : st->claims_n, most = w->limit != 0 ? w->limit : (uint32_t)en->limits->page_max;
    uint32_t n = st->claims_n - from < most ? st->claims_n - from : most;
    struct wire_member_part *parts = op_take(en, op, n, sizeof *parts);
    for (uint32_t i = 0; i < n; i++) {
        const struct claim *c = st->claims[from + i];
        const struct group_part *p = g->parts[from + i];
        parts[i] = (struct wire_member_part){.generation = c->generation, .committed = p->done.floor, .end = p->partition->row.end,
                                             .committed_ms = c->committed_ms, .partition = p->partition->id, .index = from + i,
                                             .owner = c->owner != NULL ? c->owner->index : UINT32_MAX,
                                             .target = c->target != NULL ? c->target->index : UINT32_MAX};
    }
    r->members = members;
    r->partitions = parts;
    r->partitions_n = n;
    r->more = from + n < st->claims_n;
    answer_now(en, op);
}

/* ---------------------------------------------------------------- a restart */

int members_load(struct engine *en, struct group *g, struct id128 session, uint32_t number, struct view value, struct err *e)
{
    struct member_row row;
    int code = member_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    struct member *m = member_add(g->stream, session, number, row.name);
    m->timeout_ms = row.timeout_ms;
    m->order = row.order;
    m->joined_ms = row.joined_ms;
    m->state = row.state;
    m->session = session_find(en, session);
    if (m->session != NULL)
        list_push_back(&m->session->members, &m->of_session);
    list_remove(&m->link); /* by order of joining */
    struct list_node *at = &g->stream->members.head;
    while (at->prev != &g->stream->members.head && container_of(at->prev, struct member, link)->order > m->order)
        at = at->prev;
    list_insert_before(at, &m->link);
    return E_OK;
}

int members_load_claim(struct engine *en, struct group_part *p, struct view value, struct err *e)
{
    (void)en;
    struct stream *st = p->group->stream;
    struct claim *c = st->claims[p->partition->index];
    struct claim_row row;
    int code = claim_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    done_all(&p->done, row.committed);
    p->cursor = p->scanned = row.committed;
    c->generation = row.generation;
    c->committed_ms = row.committed_ms;
    struct member *m = row.held != CLAIM_FREE ? members_find(st, row.session, row.member) : NULL;
    if (row.held != CLAIM_FREE && (m == NULL || (row.held == CLAIM_KEPT) != (m->state == MEMBER_AWAY)))
        return err_set(e, E_DAMAGED, "group %u: the owner of partition %u is no member", p->group->id, p->partition->id);
    c->target = m;
    if (row.held != CLAIM_OWNED)
        return E_OK;
    c->owner = m;
    list_push_back(&m->owned, &c->of_owner);
    m->owned_n++;
    st->free_n--;
    return E_OK;
}

/* Versions are of the epoch that begins, so whatever a member was told before, it is told again. */
void members_loaded(struct engine *en, struct stream *st)
{
    LIST_EACH (n, &st->members) {
        struct member *m = container_of(n, struct member, link);
        m->version = (uint64_t)(en->epoch + 1) << 40 | ++en->token_last;
        member_heard(en, m);
    }
    st->unbalanced = true;
    members_stir(en, st);
}
