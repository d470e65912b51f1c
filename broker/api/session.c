/* The check of hello. */
#include "api/checks.h"

int check_hello(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_hello *h = &op->request.hello;
    if (h->version_min > WIRE_VERSION || h->version_max < WIRE_VERSION)
        return err_set(e, E_BAD_VERSION, "the client speaks versions %u to %u, this broker speaks %d",
                       h->version_min, h->version_max, WIRE_VERSION);
    if (id128_is_zero(op->request.session))
        return err_set(e, E_INVALID_ARGUMENT, "hello.session is zero: it must be 128 random bits");
    if (h->name.size > WIRE_NAME_MAX)
        return err_set(e, E_LIMIT, "hello.name has %zu bytes, the limit is %d", h->name.size, WIRE_NAME_MAX);
    return E_OK;
}
