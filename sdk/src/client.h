/*
 * A client: what sluice_open gives. It puts the parts together; each part has a file of its own.
 *
 *     callers                               the loop's thread
 *     publish  -> producer: a batch per      producer: batches into lanes  ---\
 *                 partition, under its lock                                     session -> wire -> carrier
 *     receive  -> waits                      consumer: shared long polls   ---/
 *     ack ..   -> waits, or not              settler: many into one request
 *     the rest -> one request, waits
 *
 * The handle is held by its user until sluice_close, and by every batch that was received until it is freed.
 */
#ifndef SDK_CLIENT_H
#define SDK_CLIENT_H

#include <stdatomic.h>

#include "sdk/budget.h"
#include "sdk/catalog.h"
#include "sdk/consumer.h"
#include "sdk/ear.h"
#include "sdk/error.h"
#include "sdk/loop.h"
#include "sdk/producer.h"
#include "sdk/session.h"
#include "sdk/settler.h"

struct client_counters {
    atomic_uint_fast64_t published, confirmed, failed, received, settled, repeated, reconnects;
    atomic_bool connected;
};

struct sluice {
    /* never changes once open */
    struct sluice_options options; /* with defaults in place */
    char *url, *name, *tls_ca_file, *tls_cert_file; /* files: NULL for none */
    struct wire *wire;
    /* any thread */
    atomic_uint refs;
    struct loop loop;
    struct budget budget;
    struct catalog catalog;
    struct client_counters counters;
    atomic_bool dead; /* then `fatal` does not change any more */
    struct sluice_error fatal;
    pthread_mutex_t lock;
    char http[128]; /* under lock: the broker's HTTP address, as its last hello told */
    /* the loop's thread, but for what they say is shared */
    struct session session;
    struct producer producer;
    struct consumer consumer;
    struct settler settler;
    struct ear ear;
    struct closing *closing; /* sluice_close is under way */
    struct opening *opening; /* sluice_open waits for the first hello */
    bool missed;             /* an attempt to reach the broker came to nothing */
};

void client_take(struct sluice *s);
void client_drop(struct sluice *s);

/* Whether `what`, which blocks, may be called here and now: not in a callback, not on a client that is dead. */
int client_may_block(struct sluice *s, const char *what, struct sluice_error *err);

/* The error that ended the session, or 0. */
int client_fatal(struct sluice *s, struct sluice_error *err);

void client_http(struct sluice *s, char *out, size_t size);

/* When a call that begins now times out. */
uint64_t client_deadline(const struct sluice *s);
uint64_t deadline_in(uint64_t ms);

/* Submits `r` (verb, body, lane, deadline and about are set) and waits. 0: the answer, which the caller drops. */
int client_call(struct sluice *s, struct request *r, struct answer **out, struct sluice_error *err);

/* A request of the free lane or of reads, with the deadline of a call. */
struct request *client_request(struct sluice *s, enum wire_verb verb, enum lane_kind kind,
                               const char *about_fmt, ...) PRINTF_LIKE(4, 5);

#endif
