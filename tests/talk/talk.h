/* What every conversation includes: cmocka with the headers that it wants before it, and the helpers of this directory.
 *
 *     struct broker_proc b;
 *     broker_start(&b, NULL);                       the real broker, free ports, a directory of its own
 *     struct talker t;
 *     talker_open(&t, b.url);
 *     talker_hello(&t);
 *     ...
 *     talker_close(&t);
 *     broker_end(&b);                               also stops it
 *
 * A helper that cannot do its work fails the test. Nothing here sleeps to wait for something: it waits for the thing, with a
 * deadline.
 */
#ifndef TALK_TALK_H
#define TALK_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker_proc.h"
#include "http_get.h"
#include "sp.h"
#include "talker.h"
#include "tcp.h"

#define assert_has(text, part)                               \
    do {                                                     \
        if (strstr((text), (part)) == NULL)                  \
            fail_msg("'%s' is not in '%s'", (part), (text)); \
    } while (0)

/* True as soon as `expression` is; looks every few ms, for at most `ms`. For states that can only be asked for. */
#define EVENTUALLY(ms, expression) \
    eventually_begin(ms);          \
    while (!(expression))          \
    eventually_again(#expression, __FILE__, __LINE__)

void eventually_begin(unsigned ms);
void eventually_again(const char *what, const char *file, int line);

#endif
