/* What a produce is checked against, by the partition's id: written by the loop, read by the threads that receive. */
#include <pthread.h>

#include "api/checks.h"
#include "base/map.h"
#include "base/mem.h"

struct partitions {
    pthread_rwlock_t lock;
    struct map facts; /* of struct partition_facts */
    uint32_t next;    /* ids below were given out, and are not again */
};

struct partitions *partitions_new(void)
{
    struct partitions *p = mem_zalloc(sizeof *p);
    pthread_rwlock_init(&p->lock, NULL);
    return p;
}

void partitions_free(struct partitions *p)
{
    for (struct map_it it = map_iter(&p->facts); map_next(&it);)
        mem_free(it.value);
    map_free(&p->facts);
    pthread_rwlock_destroy(&p->lock);
    mem_free(p);
}

int partitions_find(struct partitions *p, uint32_t id, struct partition_facts *out)
{
    pthread_rwlock_rdlock(&p->lock);
    const struct partition_facts *facts = map_get(&p->facts, id);
    if (facts != NULL)
        *out = *facts;
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
    struct partition_facts *facts = map_get(&p->facts, id);
    given_out(p, id);
    if (facts == NULL) {
        facts = mem_alloc(sizeof *facts);
        map_put(&p->facts, id, facts);
    }
    *facts = (struct partition_facts){.index = index, .count = count};
    pthread_rwlock_unlock(&p->lock);
}

void api_partition_gone(struct api *a, uint32_t id)
{
    struct partitions *p = a->partitions;
    pthread_rwlock_wrlock(&p->lock);
    given_out(p, id);
    mem_free(map_del(&p->facts, id));
    pthread_rwlock_unlock(&p->lock);
}
