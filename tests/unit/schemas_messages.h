/*
 * The three kinds of message behind one face, so that what holds for each is tested once: made from samples, encoded, decoded and
 * written down.
 */
#ifndef TESTS_SCHEMAS_MESSAGES_H
#define TESTS_SCHEMAS_MESSAGES_H

#include "schemas_samples.h"

union message {
    struct wire_request request;
    struct wire_reply reply;
    struct plugin_packet packet;
};

struct kind {
    const char *name; /* "request-settle" */
    int family, which;
};

/* Every verb of a request, every body of a reply (none, too), every packet. */
extern const struct kind kinds[];
extern const size_t kinds_n;

void message_fill(const struct kind *k, union message *m, struct see *v);
void message_write(const struct kind *k, union message *m, struct see *v);
size_t message_bound(const struct kind *k, const union message *m);
int message_encode(const struct kind *k, const union message *m, struct codec_space *s);
int message_decode(const struct kind *k, struct view bytes, union message *m, struct arena *a, struct err *e);

#endif
