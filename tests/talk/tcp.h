/* Bare TCP connections, for clients that are rude. */
#ifndef TALK_TCP_H
#define TALK_TCP_H

#include <stdbool.h>

/* Connects to "127.0.0.1:port" or "tcp://127.0.0.1:port". */
int tcp_connect(const char *address);
/* Connects to a Unix socket: "ipc:///path". */
int unix_connect(const char *url);
/* Closes so that the other side gets a reset instead of an end. */
void tcp_reset(int fd);
/* Whether the other side has hung up by `ms` from now; what it sends meanwhile is thrown away. */
bool tcp_closed_by(int fd, int ms);

#endif
