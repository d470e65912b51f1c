/* Stream groups: members and the partitions that they own. */
#ifndef ENGINE_STREAMS_H
#define ENGINE_STREAMS_H

#include "base/list.h"
#include "engine/timer.h"

struct group;
struct group_part;
struct session;

/* ---------------------------------------------------------------- stream groups (members.c, assign.c, commit.c)
 *
 *      join ──> ACTIVE ──leave, keep──> AWAY ──its session timeout──> gone
 *                 │  └─ another of its name joins ──> FENCED: owns what it owned until it says otherwise, or its time is over
 *                 └─ leave, bye, not heard of for its session timeout ──> gone
 *
 * A partition has an owner, and a target, who is to be the owner:   owner = target   it stays
 *                                                                   owner, another   the owner is told to give it up
 *                                                                   no owner         the target gets it when it listens
 */
struct member {
    struct stream *stream;
    struct list_node link;      /* in stream.members */
    struct id128 session_id;    /* (row) */
    uint32_t number;            /* (row) which the client chose */
    char *name;                 /* (row) "": none */
    uint32_t timeout_ms;        /* (row) */
    uint64_t order, joined_ms;  /* (row) order: of joining; wall */
    uint8_t state;              /* (row) enum member_state */
    struct session *session;    /* NULL: it is forgotten, and so is what it could say */
    struct list_node of_session;
    struct list owned;          /* of struct claim, by `of_owner` */
    uint32_t owned_n;
    uint64_t heard_ms;          /* mono */
    struct timer timer;         /* not heard of for its timeout */
    uint64_t version;           /* of what it is to be told */
    uint64_t turn;              /* what it is told stands on this turn */
    struct list waiting;        /* of struct place: its join or heartbeat, one at most */
    bool tell;                  /* ... is answered in this turn, whatever there is to say */
    uint32_t index;             /* while partitions are assigned, and members listed */
};

struct claim {
    struct member *owner, *target; /* (row: owner; target if it is away) */
    struct list_node of_owner;
    uint64_t generation;        /* (row) of the owner's, or the last one's, ownership */
    uint64_t committed_ms;      /* (row) wall; 0: never */
    uint64_t gap;               /* so many before the committed offset went at the hard cap, and nobody is known to have heard of it */
    uint32_t index;             /* of the partition */
    bool revoked;               /* the owner is told to give it up */
    bool open;                  /* as it was when partitions were assigned: the group has passed its fence */
};

struct stream {
    struct group *group;
    struct list members;        /* by order */
    uint32_t members_n;
    struct claim **claims;      /* by index of the partition */
    uint32_t claims_n;
    uint32_t free_n;            /* without an owner */
    bool unbalanced;            /* members or partitions came or went */
    bool stirred;               /* somebody is to be told something, perhaps */
};

/* ---------------------------------------------------------------- members.c, commit.c: stream groups */

/* The group is of this mode; else answered WRONG_MODE, saying what it is asked with instead. */
bool group_is(struct engine *en, struct op *op, const struct group *g, enum group_mode mode);
struct stream *members_new(struct group *g);
void members_grow(struct engine *en, struct stream *st);                 /* its topic has more partitions */
void members_moved(struct engine *en, const struct group_part *p);       /* how far the group is in a partition changed: it may open others */
void members_free(struct engine *en, struct stream *st);
void members_closed(struct engine *en, struct stream *st, int code);     /* its group goes: who waits is told */
void members_stir(struct engine *en, struct stream *st);
void members_stirred(struct engine *en, struct stream *st);              /* at the end of a turn: assigns, gives, answers */
void members_join(struct engine *en, struct op *op, struct session *s);
void members_heartbeat(struct engine *en, struct op *op, struct session *s);
void members_leave(struct engine *en, struct op *op, struct session *s);
void members_wait_over(struct engine *en, struct op *op);
void members_list(struct engine *en, struct op *op);
/* The session ended: by its own word (`left`), or it is forgotten, which says nothing of its members. */
void members_session_over(struct engine *en, struct session *s, bool left);
int members_load(struct engine *en, struct group *g, struct id128 session, uint32_t number, struct view value, struct err *e);
int members_load_claim(struct engine *en, struct group_part *p, struct view value, struct err *e);
void members_loaded(struct engine *en, struct stream *st);               /* members begin a full new term */
struct member *members_find(const struct stream *st, struct id128 session, uint32_t number); /* NULL: none */
/* The owner, if it is this session's, by whatever member. */
bool claim_is_of(const struct claim *c, const struct session *s);
/* What is told of a partition changed: its owner hears of it, standing on this turn. */
void claim_told(struct engine *en, struct claim *c);
uint64_t claim_generation(struct engine *en);                           /* a new one, higher than all before */
void commit_request(struct engine *en, struct op *op, struct session *s);
void commit_seek(struct engine *en, struct op *op, struct session *s);
void commit_write(struct engine *en, struct group_part *p);
/* Where a partition's readers go on, forward or back. */
void commit_set(struct engine *en, struct group_part *p, uint64_t offset);
/* As commit_set, by the hard cap: what it passes is a gap to who reads next, who begins before it. */
void commit_lost(struct engine *en, struct group_part *p, uint64_t to);
void commit_load_gap(struct group_part *p);                             /* after floor, loss and removals */
uint64_t commit_begin(const struct group_part *p);                      /* where its owner reads; the committed offset but for a gap */
void commit_explain(struct engine *en, struct op *op, struct group *g); /* op->reply.explain is begun */
uint64_t commit_purge(struct engine *en, struct group *g);              /* to the end; how many messages were skipped */

#endif
