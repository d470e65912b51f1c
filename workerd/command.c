#include "workerd/command.h"

#include <inttypes.h>

#include "schemas/errors.h"
#include "workerd/config.h"

int command_limits(const struct command *c, uint32_t *min, uint32_t *max, struct err *e)
{
    uint32_t least = c->has_least ? c->least : *min, most = c->has_most ? c->most : *max;
    if (most == 0 || most > CONFIG_PROCESSES_MAX)
        return err_set(e, E_INVALID_ARGUMENT, "at most %" PRIu32 " processes: 1 to %d can be", most,
                       CONFIG_PROCESSES_MAX);
    if (least > most && !c->has_most)
        return err_set(e, E_INVALID_ARGUMENT,
                       "at least %" PRIu32 " processes: there are at most %" PRIu32 " here; give --max too",
                       least, most);
    if (least > most && !c->has_least)
        return err_set(e, E_INVALID_ARGUMENT,
                       "at most %" PRIu32 " processes: there are at least %" PRIu32 " here; give --min too",
                       most, least);
    if (least > most)
        return err_set(e, E_INVALID_ARGUMENT, "at least %" PRIu32 " processes are more than at most %" PRIu32,
                       least, most);
    *min = least;
    *max = most;
    return 0;
}
