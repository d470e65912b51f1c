/* A handler that does nothing, in batches. */
#include "empty.h"

static void handle_batch(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *tasks, size_t count,
                         int *codes, struct sluice_verdict *verdicts)
{
    (void)host, (void)process, (void)thread, (void)verdicts;
    for (size_t i = 0; i < count; i++) {
        empty_count(&tasks[i]);
        codes[i] = SLUICE_VERDICT_ACK;
    }
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "empty",
    .version = "1",
    .process_fini = empty_fini,
    .handle_batch = handle_batch,
};
