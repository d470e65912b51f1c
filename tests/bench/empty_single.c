/* A handler that does nothing, with a call for each message. */
#include "empty.h"

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)process, (void)thread, (void)verdict;
    empty_count(task);
    return SLUICE_VERDICT_ACK;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "empty",
    .version = "1",
    .process_fini = empty_fini,
    .handle = handle,
};
