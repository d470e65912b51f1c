/* See readback.h. */
#include "readback.h"

#include <errno.h>

#include "client.h"

enum { WAIT_MS = 1000, EMPTY_MAX = 30, READ_BYTES = 4 << 20 };

static int read_partition(struct sluice *s, const char *topic, uint32_t index, uint64_t end, struct verify *v, struct err *e)
{
    struct sluice_error err;
    struct sluice_reader *r;
    struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_START, .max_bytes = READ_BYTES};
    if (end == 0)
        return 0;
    if (sluice_reader_open(s, topic, index, &o, &r, &err) != 0)
        return client_err(e, "open a reader", &err);
    int code = 0;
    for (unsigned empty = 0; code == 0 && sluice_reader_offset(r) < end;) {
        struct sluice_batch *b;
        code = sluice_reader_read(r, WAIT_MS, &b, &err);
        if (code != 0) {
            client_err(e, "read", &err);
            break;
        }
        for (size_t i = 0; i < sluice_batch_count(b); i++) {
            const struct sluice_delivery *d = sluice_batch_message(b, i);
            verify_seen(v, d->value.data, d->value.size, NULL);
        }
        empty = sluice_batch_count(b) == 0 ? empty + 1 : 0;
        sluice_batch_free(b);
        if (empty == EMPTY_MAX)
            code = err_set(e, ETIMEDOUT, "partition %u ends at %llu, and nothing comes behind %llu", index, (unsigned long long)end,
                           (unsigned long long)sluice_reader_offset(r));
    }
    sluice_reader_close(r);
    return code;
}

int readback(const char *url, const char *topic, struct verify *v, struct err *e)
{
    struct sluice *s;
    struct sluice_topic_list *list;
    struct sluice_error err;
    int code = client_open(&s, url, 0, 0, 0, e);
    if (code != 0)
        return code;
    if (sluice_topics(s, topic, &list, &err) != 0) {
        code = client_err(e, "topics", &err);
        client_close(s);
        return code;
    }
    const struct sluice_topic *t = &list->topics[0];
    for (uint32_t i = 0; i < t->options.partitions && code == 0; i++)
        code = read_partition(s, topic, i, t->partitions[i].end, v, e);
    sluice_topics_free(list);
    client_close(s);
    return code;
}
