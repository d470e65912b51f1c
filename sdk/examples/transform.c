/*
 * Exactly once, from one topic to another, with a count in between: for each message of a queue group its key and how many messages
 * of that key there were so far are published, in the same atomic commit that acknowledges it and remembers the count.
 *
 *     example-transform orders counter counts
 *
 * Kill it, or the broker, whenever you like: no count is left out and none is there twice.
 */
#include <sluice/sluice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *from, *group, *to;

/* The count of a message's key with it: state comes with the message. */
static unsigned long count_of(const struct sluice_delivery *d)
{
    char text[32] = "";
    if (d->state.size < sizeof text)
        memcpy(text, d->state.data != NULL ? d->state.data : "", d->state.size);
    return strtoul(text, NULL, 10) + 1;
}

/* One message, as one unit. */
static int transform(struct sluice *s, struct sluice_batch *b, size_t i, struct sluice_error *err)
{
    const struct sluice_delivery *d = sluice_batch_message(b, i);
    struct sluice_unit *u;
    char count[32];
    snprintf(count, sizeof count, "%lu", count_of(d));
    const struct sluice_message m = {
        .size = sizeof m, .topic = to, .key = d->key, .value = sluice_str(count)};
    int code = sluice_unit_begin(s, &u, err);
    if (code != 0)
        return code;
    code = sluice_unit_ack(u, b, i, err);
    if (code == 0)
        code = sluice_unit_publish(u, &m, err);
    if (code == 0 && d->key.data != NULL)
        code = sluice_unit_state_put(u, from, group, d->key, d->state_version, sluice_str(count), err);
    if (code == 0)
        return sluice_unit_commit(u, NULL, err);
    sluice_unit_free(u);
    return code;
}

int main(int argc, char **argv)
{
    struct sluice *s;
    struct sluice_error err;
    if (argc != 4) {
        fprintf(stderr, "usage: %s FROM GROUP TO\n", argv[0]);
        return 2;
    }
    from = argv[1];
    group = argv[2];
    to = argv[3];
    int code = sluice_open(&s, NULL, &err);
    while (code == 0) {
        struct sluice_batch *b;
        code = sluice_receive(s, from, group, NULL, &b, &err);
        for (size_t i = 0; code == 0 && i < sluice_batch_count(b); i++) {
            code = transform(s, b, i, &err);
            if (code == SLUICE_LEASE_LOST || code == SLUICE_CONFLICT)
                code = 0; /* nothing of it happened: it comes again, here or elsewhere */
        }
        if (code == 0)
            sluice_batch_free(b); /* gives back what was not settled */
    }
    fprintf(stderr, "%s\n", err.text);
    return 1;
}
