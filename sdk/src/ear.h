/*
 * What the broker publishes, heard: one connection for all subscriptions of a client, open while there are any.
 *
 *     hello's address --> carrier (SUB) --> publication: checked, taken apart --> every subscription's function
 *
 * A connection that fails is dialled again with a growing pause, and at once when the session is resumed: then the broker is back, maybe
 * at another address. What comes is a hint, so nothing here is repeated, ordered or waited for. All of it belongs to the loop's thread.
 */
#ifndef SDK_EAR_H
#define SDK_EAR_H

#include "base/list.h"
#include "sdk/carrier.h"

enum { EAR_URL_MAX = 512 };

struct ear {
    struct sluice *client;
    struct carrier *carrier; /* NULL: nobody listens, or there is no address */
    bool up;                 /* the connection is */
    bool blamed;             /* what was wrong on this connection was said */
    bool closed;
    char url[EAR_URL_MAX]; /* where it is to be heard; "": nowhere */
    struct list subscriptions;
};

void ear_init(struct ear *e, struct sluice *s);

/* The session says where the broker publishes now; "": nowhere. */
void ear_told(struct ear *e, const char *url);

/* Once the loop's thread has ended, before loop_finish and after it. */
void ear_close(struct ear *e);
void ear_free(struct ear *e);

#endif
