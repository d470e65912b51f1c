/* A batch of any bytes: refused, or every record of it is refused or can be read, and its headers walked. */
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_record(struct see *v, const struct record *record)
{
    struct view rest = record->headers;
    struct header h;
    bool bad;
    buf_append(&v->out, record->key.data, record->key.size);
    buf_append(&v->out, record->value.data, record->value.size);
    while (headers_next(&rest, &h, &bad)) {
        buf_append(&v->out, h.name.data, h.name.size);
        buf_append(&v->out, h.value.data, h.value.size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_reader r;
    struct record record = {.headers = view_of(data, size)};
    struct see v = {.mode = SEE_WRITE};
    read_record(&v, &record);
    if (batch_reader_open(&r, view_of(data, size), NULL) == E_OK) {
        see_columns(&v, &r.c);
        for (uint32_t i = 0; i < r.c.count; i++) {
            buf_clear(&v.out);
            if (batch_reader_get(&r, i, &record, NULL) == E_OK)
                read_record(&v, &record);
        }
        batch_reader_close(&r);
    }
    buf_free(&v.out);
    return 0;
}
