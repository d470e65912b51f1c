/*
 * What every unit test includes: cmocka with the headers it wants before it, and a way to watch a
 * process die.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_has(text, part)                               \
    do {                                                     \
        if (strstr((text), (part)) == NULL)                  \
            fail_msg("'%s' is not in '%s'", (part), (text)); \
    } while (0)

/*
 * Runs `fn(arg)` in a child process and returns the signal that killed it, or 0. What the child
 * wrote to stderr is left in `said`, cut at its size.
 */
static inline int death_of(void (*fn)(void *arg), void *arg, char *said, size_t said_size)
{
    int ends[2];
    if (pipe(ends) != 0)
        fail_msg("pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    char byte;
    while (read(ends[0], &byte, 1) == 1) {
        if (size + 1 < said_size)
            said[size++] = byte;
    }
    if (said_size > 0)
        said[size] = '\0';
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

#endif
