/* See client.h. */
#include "client.h"

enum { BATCH_BYTES = 8 << 20 }; /* so that it is the records that bound a batch */

int client_err(struct err *e, const char *what, const struct sluice_error *from)
{
    return err_set(e, from->code, "%s: %s: %s", what, sluice_code_name(from->code), from->text);
}

int client_open(struct sluice **out, const char *url, uint32_t batch, size_t memory, int compression, struct err *e)
{
    struct sluice_error err;
    struct sluice_options o = {.size = sizeof o, .broker = url, .name = "sluice-bench", .request_timeout_ms = CLIENT_TIMEOUT_MS,
                               .memory_max = memory != 0 ? memory : (size_t)256 << 20, .batch_records_max = batch,
                               .batch_bytes_max = batch != 0 ? BATCH_BYTES : 0, .compression = compression};
    return sluice_open(out, &o, &err) == 0 ? 0 : client_err(e, "open", &err);
}

void client_close(struct sluice *s)
{
    sluice_close(s, CLIENT_TIMEOUT_MS, NULL, NULL);
}

int client_topic(struct sluice *s, const char *name, uint32_t partitions, int durability, struct err *e)
{
    struct sluice_error err;
    struct sluice_topic_options o = {.size = sizeof o, .partitions = partitions, .durability = durability,
                                     .message_bytes_max = 2 << 20};
    return sluice_topic_create(s, name, &o, NULL, &err) == 0 ? 0 : client_err(e, "create a topic", &err);
}

int client_group(struct sluice *s, const char *topic, const char *name, int order, struct err *e)
{
    struct sluice_error err;
    struct sluice_group_options o = {.size = sizeof o, .order = order, .lease_ms = 120000};
    return sluice_group_create(s, topic, name, &o, NULL, &err) == 0 ? 0 : client_err(e, "create a group", &err);
}
