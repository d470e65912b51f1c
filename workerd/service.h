/*
 * What the service manager is told: that we are ready, how it goes, that we live, that we stop.
 *
 * WATCHDOG=1 is sent by the loop's own thread, between two turns: a loop that hangs is silent, and the service manager starts us again.
 */
#ifndef WORKERD_SERVICE_H
#define WORKERD_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "workerd/figures.h"

struct service {
    uint64_t every_ms, next_ms; /* of WATCHDOG=1; 0: nobody watches */
    bool ready, stopping;       /* said so */
    uint64_t reloads;           /* of which it was told */
    char status[FIGURES_TEXT_MAX];
};

void service_init(struct service *s);
/* After every turn, which must not be further apart than every_ms. */
void service_beat(struct service *s, uint64_t now_ms);
/* Something changed, perhaps. */
void service_tell(struct service *s, const struct figures *f);

#endif
