/* Tasks over the parked messages of a group: redrive and drop, a step each turn, with progress that survives a restart. */
#include "engine/memory.h"

void held_change(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}

void task_list(struct engine *en, struct op *op)
{
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}

void task_cancel(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}
