#include "cli/place.h"

#include <string.h>

#include "base/mem.h"
#include "base/units.h"
#include "cli/command.h"

int place_parse(const char *text, uint32_t *partition, uint64_t *offset, struct err *e)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return err_set(e, STATUS_USAGE, "'%.60s' is not P:O, a partition and an offset", text);
    char *first = mem_strndup(text, (size_t)(colon - text));
    uint64_t p = 0;
    int code = count_parse(first, 0, UINT32_MAX, &p, e);
    mem_free(first);
    if (code == 0)
        code = count_parse(colon + 1, 0, UINT64_MAX, offset, e);
    *partition = (uint32_t)p;
    return code != 0 ? STATUS_USAGE : 0;
}
