/* What must hold between the columns of a batch, beyond what each of them is. */
#ifndef SCHEMAS_COLUMNS_H
#define SCHEMAS_COLUMNS_H

#include "schemas/codec.h"

BASE_BEGIN

/* OK, or DAMAGED with what is wrong. The columns that are there have `count` entries each. */
int columns_check(const struct batch_columns *c, struct err *e);

BASE_END

#endif
