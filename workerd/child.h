/*
 * The child's side: `sluice-workerd --child NAME`, started by the supervisor with the pipe at descriptor 3.
 *
 *     main thread: reads the pipe                      worker thread: runs the handler
 *       START   load, init                               thread_init, READY
 *       TASK    into the queue; a call of         -->     handle or handle_batch, VERDICT each, the next
 *               several once all are there
 *       CANCEL  running: its flag; else VERDICT back
 *       STOP    the queue: VERDICT back each; the worker finishes what it runs
 *       end     the supervisor is gone: so are we
 *
 * A child knows no broker. It dies with its supervisor, and ignores the signals that are meant for that one.
 */
#ifndef WORKERD_CHILD_H
#define WORKERD_CHILD_H

enum {
    CHILD_PIPE_FD = 3,
    CHILD_FILE_FD = 4, /* the handler's file as its version has it; closed: whatever is at the path */
};

/* Lives the child's life; returns its exit status. `name` is for those who look at the process list. */
int child_main(const char *name);

#endif
