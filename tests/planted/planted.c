/* Which bug is planted: read once, before main. */
#include "base/planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum planted_bug chosen = PLANTED_COUNT;

bool planted(enum planted_bug bug)
{
    return bug == chosen;
}

__attribute__((constructor)) static void choose(void)
{
    static const char *const names[] = {
#define X(name, part, what, tests) #name,
#include "planted.def"
#undef X
    };
    const char *name = getenv("SLUICE_PLANTED");
    if (name == NULL || name[0] == '\0')
        return;
    for (int i = 0; i < PLANTED_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            chosen = i;
            return;
        }
    fprintf(stderr, "SLUICE_PLANTED=%s: there is no such bug\n", name);
    _Exit(125);
}
