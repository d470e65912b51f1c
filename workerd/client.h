/*
 * The source of tasks over libsluice: one session for all handlers, a receiving thread for each.
 *
 * The library reconnects by itself. What it cannot mend, a session that has expired, is mended here: a new
 * one is opened, and the old one is closed when the last task that came over it is settled, which the
 * broker will then refuse.
 */
#ifndef WORKERD_CLIENT_H
#define WORKERD_CLIENT_H

#include "base/err.h"
#include "base/inbox.h"
#include "workerd/config.h"
#include "workerd/source.h"

struct client;
struct session;
struct sluice;

/* Starts the threads, which try to connect for as long as it takes and say so. Both are lent for the
   client's life. Returns NULL, with a text, if there is no memory for threads. */
struct client *client_new(const struct config *config, struct inbox *inbox, struct err *e);

struct source *client_source(struct client *c);

/* After `stop`, with no task left: waits for the threads and says goodbye to the broker. */
void client_free(struct client *c);

/* For gauge.c: the session that is open now, held until it is given back; NULL: none is. Any thread. */
struct session *client_hold(struct client *c);
void client_give_back(struct client *c, struct session *s);
struct sluice *client_sluice(const struct session *s);
/* For registry.c: the same, but where none is open it is waited for; NULL: none is, and we stop. client_let gives it back with the code of
   what was called with it, so that one that is over is opened anew. Any thread but the loop's. */
struct session *client_wait(struct client *c);
void client_let(struct client *c, struct session *s, int code);

#endif
