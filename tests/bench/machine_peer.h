/* The other process of what is measured between two: a REP socket of nng, which may write and sync before it answers, and a tcp
 * port that echoes or swallows. One for the whole bench, started when it is first needed, ended with the bench. One thread. */
#ifndef BENCH_MACHINE_PEER_H
#define BENCH_MACHINE_PEER_H

#include <limits.h>

#include "base/err.h"

enum { PEER_REPLY = 64 };               /* bytes of a reply, and of what is echoed */
enum { PEER_ANSWERS = 'a', PEER_OPENS = 'o', PEER_WRITES = 'w' }; /* the first byte of a request: nothing else; opens the file whose
                                                                     path follows; writes the request at its end and syncs */
enum { PEER_ECHOES = 'e', PEER_SWALLOWS = 's' }; /* the first byte of a connection: what becomes of the others */

int peer_url(const char **url, struct err *e); /* nng's */
int peer_connect(char what, struct err *e);    /* a connected socket, Nagle's algorithm off; -1 and an error */

/* Where this program is, to start it again as another. */
int self_path(char path[PATH_MAX], struct err *e);
/* In a process that another started: ends with it. */
void end_with_parent(void);

#endif
