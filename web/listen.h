/* A TCP socket that listens at HOST:PORT. */
#ifndef WEB_LISTEN_H
#define WEB_LISTEN_H

#include "base/err.h"

enum { WEB_ADDRESS_MAX = 300 };

/* OK: *fd is the caller's, and `bound` says where it listens. CONFIG (the address), UNREACHABLE (it cannot be had). */
int web_listen(const char *address, int *fd, char bound[WEB_ADDRESS_MAX], struct err *e);

/* OK, or CONFIG: it is not HOST:PORT. Nothing is looked up. */
int web_address_check(const char *address, struct err *e);

#endif
