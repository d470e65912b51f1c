/* The certificate of this broker, read from files into what nng wants. */
#ifndef WIRE_TLS_H
#define WIRE_TLS_H

#include "base/err.h"

/* PEM files; all NULL: none. With `ca`, clients must show a certificate that it signed. */
struct wire_tls {
    const char *cert, *key, *ca;
};

struct nng_tls_config;

/* OK, and the caller frees with nng_tls_config_free; CONFIG naming the file. */
int tls_open(struct nng_tls_config **out, const struct wire_tls *files, struct err *e);

#endif
