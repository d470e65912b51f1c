/*
 * The child's side: `sluice-workerd --child NAME`, started by the supervisor with the pipe at descriptor 3.
 *
 *     main thread: reads the pipe                      worker threads: run the handler
 *       START   load, init                               thread_init, one after the other; the last: READY
 *       TASK    into the queue; a call of         -->     handle or handle_batch, VERDICT each, the next
 *               several once all are there
 *       CANCEL  running: its flag; else VERDICT back
 *       STOP    the queue: VERDICT back each; the workers finish what they run
 *       end     the supervisor is gone: so are we
 *
 * Calls begin in the order in which they came, each in the first thread that is free, after the verdicts of the one that it
 * had: so the supervisor knows which of them run. That two of one key do not is its matter.
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
