/* Handlers that go wrong before anybody calls them: MODE is "crash", "hang" or "exit", of the constructor. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/handler.h>

__attribute__((constructor)) static void go_wrong(void)
{
    printf("in the constructor\n");
    fflush(stdout);
    if (strcmp(MODE, "exit") == 0)
        _exit(3);
    if (strcmp(MODE, "hang") == 0)
        pause();
    signal(SIGSEGV, SIG_DFL); /* also where a sanitizer would rather say something */
    raise(SIGSEGV);
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)process, (void)thread, (void)task, (void)verdict;
    return SLUICE_VERDICT_ACK;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler), .abi = SLUICE_HANDLER_ABI, .name = MODE, .version = "0", .handle = handle};
