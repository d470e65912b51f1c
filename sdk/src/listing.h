/*
 * A list on its way to the user: asked for page by page, and one piece of memory of its own.
 */
#ifndef SDK_LISTING_H
#define SDK_LISTING_H

#include "sdk/client.h"

/* What the user gets stands first, so that its free call finds the rest. */
struct listing {
    union {
        struct sluice_topic_list topics;
        struct sluice_group_list groups;
        struct sluice_lag_list lag;
        struct sluice_task_list tasks;
        struct sluice_worker_list workers;
    } out;
    void *rows;
    size_t rows_n;
    struct arena memory; /* what the rows point at */
    struct buf after;    /* where the next page begins */
    uint64_t after_id;
    bool more;
};

/* Appends a page to the rows and says where the next one begins; false if it is no such page. */
typedef bool page_fn(struct listing *l, const struct wire_reply *reply);

/* All rows of a list of names. `topic`, `name` NULL: not asked for. */
int listing_of(struct sluice *s, enum wire_verb verb, const char *topic, const char *name, page_fn *take,
               struct listing **out, struct sluice_error *err);

/* All tasks, or that of an id. */
int listing_of_tasks(struct sluice *s, uint64_t id, page_fn *take, struct listing **out, struct sluice_error *err);

/* Room for `n` more rows of `size` bytes, zeroed. */
void *listing_rows(struct listing *l, size_t n, size_t size);

/* Lists of several topics' groups are in the order of "topic/group". */
void listing_after_group(struct listing *l, const char *topic, const char *group);

void listing_free(struct listing *l);

/* Submits a request about a topic, or a group of it, and drops its answer, but for `depth` of it (may be NULL). Names that are not
 * found are said with the command that makes them; they are forgotten. */
int ask_topic(struct sluice *s, struct request *r, const char *topic, struct sluice_error *err);
int ask_group(struct sluice *s, struct request *r, const char *topic, const char *group, uint64_t *depth,
              struct sluice_error *err);

/* The same for a request whose answer is wanted. */
int call_group(struct sluice *s, struct request *r, const char *topic, const char *group, struct answer **out,
               struct sluice_error *err);

/* A request about a group, with its names checked; NULL: `*code` says why not. */
struct request *group_request(struct sluice *s, enum wire_verb verb, enum lane_kind kind, const char *topic,
                              const char *group, int *code, struct sluice_error *err);

/* A rate per second as the wire has it; INVALID_ARGUMENT names the field. */
int rate_milli(const char *field, double rate, uint32_t *out, struct sluice_error *err);

#endif
