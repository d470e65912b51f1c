/* What a produce is checked against, by the partition's id: written by the loop, read by the threads that receive. */
#include <pthread.h>
#include <string.h>

#include "api/checks.h"
#include "base/mem.h"
#include "base/table.h"

struct partitions {
    pthread_rwlock_t lock;
    struct table facts; /* id -> both facts, in the pointer itself: they are few bytes, and partitions many */
    uint32_t next;    /* ids below were given out, and are not again */
};
_Static_assert(sizeof(void *) == sizeof(struct partition_facts), "the facts fit in a pointer");

static void *facts_pack(struct partition_facts f) /* not NULL: the count is not 0 */
{
    void *packed;
    memcpy(&packed, &f, sizeof packed);
    return packed;
}

static struct partition_facts facts_of(void *packed)
{
    struct partition_facts f;
    memcpy(&f, &packed, sizeof f);
    return f;
}

struct partitions *partitions_new(void)
{
    struct partitions *p = mem_zalloc(sizeof *p);
    pthread_rwlock_init(&p->lock, NULL);
    return p;
}

void partitions_free(struct partitions *p)
{
    table_free(&p->facts);
    pthread_rwlock_destroy(&p->lock);
    mem_free(p);
}

int partitions_find(struct partitions *p, uint32_t id, struct partition_facts *out)
{
    pthread_rwlock_rdlock(&p->lock);
    void *facts = table_get(&p->facts, id);
    if (facts != NULL)
        *out = facts_of(facts);
    int code = facts != NULL ? E_OK : id != 0 && id < p->next ? E_TOPIC_DELETED : E_PARTITION_NOT_FOUND;
    pthread_rwlock_unlock(&p->lock);
    return code;
}

static void given_out(struct partitions *p, uint32_t id)
{
    if (id >= p->next)
        p->next = id + 1;
}

void api_partition_set(struct api *a, uint32_t id, uint32_t index, uint32_t count)
{
    assert(index < count);
    struct partitions *p = a->partitions;
    pthread_rwlock_wrlock(&p->lock);
    given_out(p, id);
    table_put(&p->facts, id, facts_pack((struct partition_facts){.index = index, .count = count}));
    pthread_rwlock_unlock(&p->lock);
}

void api_partition_gone(struct api *a, uint32_t id)
{
    struct partitions *p = a->partitions;
    pthread_rwlock_wrlock(&p->lock);
    given_out(p, id);
    table_del(&p->facts, id);
    pthread_rwlock_unlock(&p->lock);
}
