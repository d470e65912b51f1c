/*
 * The handlers of `sluice-bench neighbours`. Configuration: {"act": ACT, "file": PATH}
 *
 *     good    writes into a table in the file when it was done and how long after it was to be sent
 *     leak    keeps 10 MB
 *     hang    does not come back from a message that says so
 *     segv    crashes on a message that says so
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <sluice/handler.h>

#include "neighbour.h"

enum { LEAK_BYTES = 10000000 };

static char act[16];
static struct neighbour_table *table;
static char *volatile leaked; /* so that what is taken is really taken */

static int init(const struct sluice_host *host, void **process, char *error, size_t size)
{
    char path[256];
    *process = NULL;
    if (sscanf(host->config, "{\"act\":\"%15[a-z]\",\"file\":\"%255[^\"]\"}", act, path) != 2) {
        snprintf(error, size, "no act and file: %s", host->config);
        return 1;
    }
    int fd = open(path, O_RDWR);
    table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (table != MAP_FAILED)
        return 0;
    snprintf(error, size, "%s: no table", path);
    return 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)process, (void)thread;
    struct neighbour_message m;
    if (task->value.size != sizeof m) {
        snprintf(verdict->error, sizeof verdict->error, "not a message of the bench");
        return SLUICE_VERDICT_PARK;
    }
    memcpy(&m, task->value.data, sizeof m);
    if (strcmp(act, "good") == 0) {
        uint64_t i = atomic_fetch_add(&table->count, 1);
        if (i < NEIGHBOUR_ROWS_MAX)
            table->rows[i] = (struct neighbour_row){m.intended_ns, now_ns()};
    } else if (strcmp(act, "leak") == 0) {
        char *p = malloc(LEAK_BYTES);
        memset(p, 1, LEAK_BYTES); /* as somebody does who does not look */
        leaked = p;
    } else if (m.bad != 0 && strcmp(act, "hang") == 0) {
        for (;;)
            pause();
    } else if (m.bad != 0) {
        raise(SIGSEGV);
    }
    return SLUICE_VERDICT_ACK;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "neighbour",
    .version = "1",
    .process_init = init,
    .handle = handle,
};
