/* A request of any bytes: refused, or every view of it can be read. */
#include "schemas/errors.h"
#include "schemas_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_request m;
    struct err e;
    struct arena a;
    arena_init(&a, 1 << 20);
    if (codec_request_decode(view_of(data, size), &m, &a, &e) == E_OK) {
        struct see v = {.mode = SEE_WRITE};
        see_request(&v, &m);
        buf_free(&v.out);
    }
    arena_free(&a);
    return 0;
}
