/* The error table, indexed by code. */
#include "schemas/errors.h"

#include <stddef.h>

#include "base/macros.h"

static const struct {
    const char *name; /* NULL: no error has this code */
    const char *text;
    bool retriable, fatal;
} errors[] = {
#define X(code, name, text, retriable, fatal) [code] = {#name, text, retriable, fatal},
#include "schemas/errors.def"
#undef X
};

static bool known(int code)
{
    return code >= 0 && (size_t)code < ARRAY_LEN(errors) && errors[code].name != NULL;
}

const char *error_name(int code)
{
    return known(code) ? errors[code].name : "UNKNOWN";
}

const char *error_text(int code)
{
    return known(code) ? errors[code].text : "error unknown to this version";
}

bool error_retriable(int code)
{
    return known(code) && errors[code].retriable;
}

bool error_fatal(int code)
{
    return known(code) && errors[code].fatal;
}
