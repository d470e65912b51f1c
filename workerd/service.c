#include "workerd/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/notify.h"

void service_init(struct service *s)
{
    *s = (struct service){.every_ms = notify_watchdog_ms()};
}

void service_beat(struct service *s, uint64_t now_ms)
{
    if (s->every_ms == 0 || now_ms < s->next_ms)
        return;
    s->next_ms = now_ms + s->every_ms;
    notify("WATCHDOG=1");
}

/* systemd waits for the second (Type=notify-reload). Handlers' new processes may still be starting: the old ones work meanwhile. */
static void tell_of_reload(struct service *s, const struct figures *f)
{
    char text[FIGURES_TEXT_MAX + 64];
    s->reloads = f->reloads;
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_mono_ns() / 1000);
    notify(text);
    if (s->ready)
        notify("READY=1");
}

void service_tell(struct service *s, const struct figures *f)
{
    if (f->reloads != s->reloads)
        tell_of_reload(s, f);
    bool ready = f->state == RUN_READY && !s->ready, stopping = f->state >= RUN_DRAINING && !s->stopping;
    if (!ready && !stopping && strcmp(s->status, f->text) == 0)
        return;
    char text[FIGURES_TEXT_MAX + 32];
    snprintf(text, sizeof text, "%s%sSTATUS=%s", ready ? "READY=1\n" : "", stopping ? "STOPPING=1\n" : "",
             f->text);
    notify(text);
    s->ready = s->ready || ready;
    s->stopping = s->stopping || stopping;
    snprintf(s->status, sizeof s->status, "%s", f->text);
}
