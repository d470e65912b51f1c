#include "wire/tls.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "schemas/errors.h"

enum { PEM_BYTES_MAX = 1 << 20 };

/* The whole file as a string in `out`. */
static int read_pem(const char *path, struct buf *out, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return err_set(e, E_CONFIG, "%s: %s", path, strerror(errno));
    size_t n = fread(buf_reserve(out, PEM_BYTES_MAX), 1, PEM_BYTES_MAX, f);
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    out->size += n;
    if (failed != 0)
        return err_set(e, E_CONFIG, "%s: %s", path, strerror(failed));
    if (n == PEM_BYTES_MAX || memchr(out->data, '\0', n) != NULL)
        return err_set(e, E_CONFIG, "%s: not a PEM file", path);
    buf_str(out);
    return E_OK;
}

static int refused(const char *path, int rv, struct err *e)
{
    return err_set(e, E_CONFIG, "%s: %s", path, nng_strerror(rv));
}

static int configure(nng_tls_config *tls, const struct wire_tls *files, struct buf pem[3], struct err *e)
{
    if (read_pem(files->cert, &pem[0], e) != E_OK || read_pem(files->key, &pem[1], e) != E_OK)
        return e->code;
    int rv = nng_tls_config_own_cert(tls, (const char *)pem[0].data, (const char *)pem[1].data, NULL);
    if (rv != 0)
        return refused(files->cert, rv, e);
    if (files->ca == NULL)
        return E_OK;
    if (read_pem(files->ca, &pem[2], e) != E_OK)
        return e->code;
    rv = nng_tls_config_ca_chain(tls, (const char *)pem[2].data, NULL);
    if (rv == 0)
        rv = nng_tls_config_auth_mode(tls, NNG_TLS_AUTH_MODE_REQUIRED);
    return rv == 0 ? E_OK : refused(files->ca, rv, e);
}

int tls_open(nng_tls_config **out, const struct wire_tls *files, struct err *e)
{
    nng_tls_config *tls;
    int rv = nng_tls_config_alloc(&tls, NNG_TLS_MODE_SERVER);
    if (rv != 0)
        return err_set(e, E_CONFIG, "TLS: %s", nng_strerror(rv));
    struct buf pem[3] = {{0}};
    int code = configure(tls, files, pem, e);
    for (size_t i = 0; i < ARRAY_LEN(pem); i++) {
        if (pem[i].data != NULL)
            explicit_bzero(pem[i].data, pem[i].cap); /* one of them is the key */
        buf_free(&pem[i]);
    }
    if (code != E_OK) {
        nng_tls_config_free(tls);
        return code;
    }
    *out = tls;
    return E_OK;
}
