/*
 * A broker for tests of the client: small, in memory, and obedient. It speaks the protocol over real sockets, remembers every
 * request it saw, and does with any of them what the test says: answer, refuse, hold back, lose the connection before or after.
 * Its sockets are plain ones with nng's framing, so that connections can be lost at any byte; for inproc it has a REP socket.
 *
 * Its rules of sessions, lanes and slots are those of docs/protocol.md, so a client that breaks them is found out.
 */
#ifndef TESTS_SDK_FAKE_H
#define TESTS_SDK_FAKE_H

#include <sluice/sluice.h>

#include "base/buf.h"
#include "schemas/codec.h"
#include "schemas/records.h"
#include "unit.h"

struct fake;

/* What becomes of a request. */
enum fake_action {
    FAKE_DO,      /* what a broker does */
    FAKE_ANSWER,  /* only what `reply` says, which the script has filled in */
    FAKE_HOLD,    /* nothing yet: asked again at fake_release */
    FAKE_GARBLE,  /* what a broker does, but a bit of the answer flips on its way */
    FAKE_LOSE,    /* nothing at all, and the connection is closed */
    FAKE_DO_LOSE, /* what a broker does, but the connection is closed instead of the answer */
};

/* Called for each request, in the order of arrival; by the fake's thread, or by the one that calls fake_release. */
typedef enum fake_action fake_script(void *user, const struct wire_request *r, struct wire_reply *reply);

/* A request that was seen. */
struct fake_seen {
    enum wire_verb verb;
    uint32_t pipe;
    struct id128 session;
    uint32_t lane;
    uint64_t seq, replies_seen;
    union {
        struct {
            bool resume;
        } hello;
        struct {
            uint32_t partition, count;
            uint64_t hash;
            size_t size;
            uint64_t delay_ms, at_ms;
            char cron[64], name[64];
        } produce;
        struct {
            uint32_t slot, groups_n, max_messages, max_bytes, wait_ms;
            uint64_t counter;
        } receive;
        struct {
            uint32_t items, units, verbs[6];
            uint32_t unit_items, produces, state; /* of all units */
            char reason[64];
            bool carries; /* a receive */
            uint32_t slot, max_messages;
            uint64_t counter;
        } settle;
    };
};

struct fake_options {
    const char *url;           /* NULL: tcp, a free port. Also ipc and inproc */
    struct wire_limits limits; /* as hello tells; zero: none told */
    const char *http;          /* as hello tells; NULL: none */
};

struct fake *fake_open(const struct fake_options *o); /* NULL: defaults */
void fake_close(struct fake *f);
const char *fake_url(struct fake *f);

/* NULL: does everything. What `user` points to is used until another is set: not of a test's stack, which ends
   before its client does. */
void fake_set_script(struct fake *f, fake_script *script, void *user);

/* Asks the script again about everything it held back. */
void fake_release(struct fake *f);

/* Closes all connections, or one; forgets all sessions. */
void fake_cut(struct fake *f);
void fake_close_pipe(struct fake *f, uint32_t pipe);
void fake_forget_sessions(struct fake *f);

/* Stops listening and starts again on the same address. */
void fake_deaf(struct fake *f);
void fake_hear(struct fake *f);

/* Makes a topic, or a queue group; gives a message to a group. `damaged`: with the wrong sum. */
void fake_topic(struct fake *f, const char *name, uint32_t partitions);
void fake_forget_topic(struct fake *f, const char *name);
void fake_group(struct fake *f, const char *topic, const char *name);
void fake_forget_group(struct fake *f, const char *name);
void fake_give(struct fake *f, const char *group, const char *value, bool damaged);
void fake_give_key(struct fake *f, const char *group, const char *key, const char *value);

/* The version of a key's state in a group, 0: there is none; and its value, copied. Units change it as they do at a broker. */
uint64_t fake_state(struct fake *f, const char *group, const char *key, char *value, size_t size);

/* What was seen so far of a verb; VERB_NONE: of all. fake_await waits until there are `n` of them (and fails the test when they do
 * not come); the i-th, from 0. */
size_t fake_count(struct fake *f, enum wire_verb verb);
void fake_await(struct fake *f, enum wire_verb verb, size_t n);
struct fake_seen fake_seen(struct fake *f, enum wire_verb verb, size_t i);

/* Records stored in a partition (its index in the topic), and one of them; bytes are valid until fake_close. */
size_t fake_stored(struct fake *f, const char *topic, uint32_t partition);
struct record fake_record(struct fake *f, const char *topic, uint32_t partition, size_t i);

/* For tests of reading: flips a byte of a stored batch (0: of its header, else behind it); drops everything before an offset. */
void fake_damage(struct fake *f, const char *topic, uint32_t partition, size_t batch, size_t at);
void fake_trim(struct fake *f, const char *topic, uint32_t partition, uint64_t start);

#endif
