/* The one fact that keeps a message, a key or a group from being delivered. */
#include "engine/memory.h"

void explain(struct engine *en, struct op *op)
{
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}
