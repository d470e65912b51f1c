/* A TCP socket that listens at HOST:PORT. */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "base/err.h"

enum { HTTP_ADDRESS_MAX = 300 };

/* OK: *fd is the caller's, and `bound` says where it listens. CONFIG (the address), UNREACHABLE (it cannot be had). */
int http_listen(const char *address, int *fd, char bound[HTTP_ADDRESS_MAX], struct err *e);

#endif
