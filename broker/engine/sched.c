/* Batches that wait for their time before they are appended: delays and cron. */
#include "engine/memory.h"

void sched_list(struct engine *en, struct op *op)
{
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}

void sched_change(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)op->request.verb);
}
