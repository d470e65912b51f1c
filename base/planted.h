/* Bugs that are planted on purpose, to see that the tests catch each of them.
 *
 *     if (PLANTED(skip_sync))
 *         return E_OK;
 *
 * In every build but that of the preset `planted`, PLANTED(..) is the constant false, and nothing of it is in what is built. There, the bug
 * that $SLUICE_PLANTED names is switched on, in every program. What there is: tests/planted/planted.def.
 */
#ifndef SLUICE_BASE_PLANTED_H
#define SLUICE_BASE_PLANTED_H

#ifdef SLUICE_PLANTED

#include <stdbool.h>

enum planted_bug {
#define X(name, part, what, tests) PLANTED_##name,
#include "planted.def"
#undef X
    PLANTED_COUNT
};

bool planted(enum planted_bug bug);
#define PLANTED(name) planted(PLANTED_##name)

#else

#define PLANTED(name) false

#endif
#endif
