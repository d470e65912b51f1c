/*
 * What systemd is told: the protocol of sd_notify, without its library.
 *
 *     READY=1   STOPPING=1   STATUS=a text   WATCHDOG=1   RELOADING=1 with MONOTONIC_USEC=
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include <stdint.h>

/* Sends `state` ("READY=1"; several are lines of one text) to $NOTIFY_SOCKET, if that is set. Nothing depends on it, so errors are not
   reported. */
void notify(const char *state);

/* How often WATCHDOG=1 is to be sent, in ms: half of $WATCHDOG_USEC, if $WATCHDOG_PID is this process or not set. 0: nobody watches. */
uint64_t notify_watchdog_ms(void);

#endif
