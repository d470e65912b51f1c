/* State rows of handlers, written in the unit that acknowledges, conditional on the version read. */
#include "engine/memory.h"

void state_get(struct engine *en, struct op *op)
{
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}
