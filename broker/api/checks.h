/* What the checks of the verbs share. Inside the api only. */
#ifndef API_CHECKS_H
#define API_CHECKS_H

#include "api/api.h"
#include "schemas/errors.h"

enum { LEASE_MS_MIN = 100 }; /* of a group, and of one receive */

struct partition_facts {
    uint32_t index, count;
};

struct partitions; /* partitions.c */
struct partitions *partitions_new(void);
void partitions_free(struct partitions *p);
/* OK; TOPIC_DELETED: there was such a partition; PARTITION_NOT_FOUND. */
int partitions_find(struct partitions *p, uint32_t id, struct partition_facts *out);

struct api {
    const struct engine_limits *limits;
    uint64_t message_bytes_max;
    struct api_port port;
    struct partitions *partitions;
};

/* OK, or LIMIT: "fetch.from has 70000 entries, the limit is 65536". */
int check_at_most(const char *field, uint64_t value, const char *limit, uint64_t max, struct err *e);

/* OK, or INVALID_ARGUMENT: the name of a topic or group; `absent_ok`: none given is fine. */
int check_name(const char *what, struct view name, bool absent_ok, struct err *e);

/* An upper bound that a client gave: 0 and everything above the broker's own bound become the broker's own. */
static inline uint32_t lowered(uint32_t asked, uint64_t max)
{
    return asked == 0 || asked > max ? (uint32_t)(max < UINT32_MAX ? max : UINT32_MAX) : asked;
}

/* One per verb, or per family of verbs. */
int check_hello(struct api *a, struct op *op, struct err *e);
int check_nothing(struct api *a, struct op *op, struct err *e);
int check_produce(struct api *a, struct op *op, struct err *e);
int check_fetch(struct api *a, struct op *op, struct err *e);
int check_receive(struct api *a, struct op *op, struct err *e);
int check_settle(struct api *a, struct op *op, struct err *e);
int check_topic_set(struct api *a, struct op *op, struct err *e);
int check_topic_name(struct api *a, struct op *op, struct err *e);
int check_group_set(struct api *a, struct op *op, struct err *e);
int check_group_name(struct api *a, struct op *op, struct err *e);
int check_list(struct api *a, struct op *op, struct err *e);
int check_held_list(struct api *a, struct op *op, struct err *e);
int check_held_change(struct api *a, struct op *op, struct err *e);
int check_group_control(struct api *a, struct op *op, struct err *e);
int check_sched_list(struct api *a, struct op *op, struct err *e);
int check_sched_change(struct api *a, struct op *op, struct err *e);
int check_explain(struct api *a, struct op *op, struct err *e);
int check_state_get(struct api *a, struct op *op, struct err *e);
int check_group_join(struct api *a, struct op *op, struct err *e);
int check_group_commit(struct api *a, struct op *op, struct err *e);
int check_group_seek(struct api *a, struct op *op, struct err *e);
int check_group_members(struct api *a, struct op *op, struct err *e);
int check_backup(struct api *a, struct op *op, struct err *e);
int check_worker_report(struct api *a, struct op *op, struct err *e);
int check_worker_list(struct api *a, struct op *op, struct err *e);
int check_worker_control(struct api *a, struct op *op, struct err *e);

/* A produce, alone or in a unit; `out` is what the engine wants to know of its batch. */
int check_produced(struct api *a, struct op *op, const struct wire_produce *w, struct op_batch *out, struct err *e);

/* A receive, alone or carried by a settle: bounds lowered, the rest checked. `field` is what errors call it. */
int check_receive_args(struct api *a, struct wire_receive *r, const char *field, struct err *e);

#endif
