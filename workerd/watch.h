/*
 * The daemon over HTTP: how it is, for people and for machines.
 *
 *     /livez       200 while the process runs
 *     /readyz      200 or 503, with the reason in a line
 *     /metrics     Prometheus' text format
 *     /scale.json  how many processes each handler wants, for KEDA and for autoscalers of pods
 *
 * The server's thread sees only the copy that was published last.
 */
#ifndef WORKERD_WATCH_H
#define WORKERD_WATCH_H

#include "base/err.h"
#include "workerd/figures.h"

struct watch;

/* OK: it serves at HOST:PORT. CONFIG or UNREACHABLE naming the address. */
int watch_start(struct watch **out, const char *address, struct err *e);
/* NULL is fine. */
void watch_stop(struct watch *w);
/* "127.0.0.1:7480", with the port it really has. */
const char *watch_address(const struct watch *w);

/* Copies the figures. */
void watch_publish(struct watch *w, const struct figures *f);

#endif
