/* The error table (errors.def) as an enum and three questions. */
#ifndef SCHEMAS_ERRORS_H
#define SCHEMAS_ERRORS_H

#include <stdbool.h>

enum error_code {
#define X(code, name, text, retriable, fatal) E_##name = code,
#include "schemas/errors.def"
#undef X
};

const char *error_name(int code); /* "LEASE_LOST"; "UNKNOWN" for a code of a newer peer */
const char *error_text(int code);
bool error_retriable(int code);
bool error_fatal(int code);

#endif
