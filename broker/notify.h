/* What systemd is told: the protocol of sd_notify, without its library. */
#ifndef BROKER_NOTIFY_H
#define BROKER_NOTIFY_H

/* Sends `state` ("READY=1") to $NOTIFY_SOCKET, if that is set. Nothing depends on it, so errors are not reported. */
void notify(const char *state);

#endif
