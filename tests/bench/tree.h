/* A process and its descendants, as /proc shows them; and directories that are removed when the bench ends. Behind server.h. */
#ifndef BENCH_TREE_H
#define BENCH_TREE_H

#include <sys/types.h>

void tree_kill(pid_t root); /* SIGKILL to all of them */
void workdirs_remove(void);

#endif
