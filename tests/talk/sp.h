/* A client of nng without nng: the SP greeting and its frames over a bare TCP connection. For clients that send and do not read, or
 * stop in the middle. */
#ifndef TALK_SP_H
#define TALK_SP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connects and greets as REQ does. */
int sp_connect(const char *url);
/* -1 when it does not greet, instead of a failed test. */
int sp_try(const char *url);
/* One message: length, request id, bytes. False when the connection is gone. Waits while the other side does not read, up to
 * `ms`; then false too. */
bool sp_send(int fd, uint32_t id, const void *bytes, size_t size, int ms);
/* The next message behind its request id; freed with free(). NULL: none began within `ms`, or the connection is gone. */
uint8_t *sp_hear(int fd, uint32_t *id, size_t *size, int ms);

#endif
