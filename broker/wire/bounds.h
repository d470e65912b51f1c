/* The limits of connections as a struct (limits.def). */
#ifndef WIRE_BOUNDS_H
#define WIRE_BOUNDS_H

#include <stdint.h>

struct wire_bounds {
#define X(name, unit, def, min, max, help) uint64_t name;
#include "wire/limits.def"
#undef X
};
extern const struct wire_bounds wire_bounds_default;

#endif
