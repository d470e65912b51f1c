/*
 * What the host has room for: cores, and memory that processes to come may take. In a container that has limits
 * of its own, what they leave.
 */
#ifndef WORKERD_ROOM_H
#define WORKERD_ROOM_H

#include <stdint.h>
#include <sys/types.h>

struct room {
    uint32_t cores;  /* that we may run on; 1 or more */
    uint64_t memory; /* bytes that may be taken; a sixteenth of all is left alone */
};

/* Looks anew. What cannot be found out is no limit. */
void room_read(struct room *r);

/* Bytes that only this process has in memory; 0: it is gone, or does not say. */
uint64_t room_of_process(pid_t pid);

#endif
