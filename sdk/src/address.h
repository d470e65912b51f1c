/*
 * Where a broker publishes, as seen from here: hello tells its addresses as the broker listens at them.
 */
#ifndef SDK_ADDRESS_H
#define SDK_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Of the addresses told, the one that goes the way of the session at `session`, or a nearer one to the same machine; never one without TLS
 * for a session with it. "Everywhere" (0.0.0.0, [::], *) is the host that the session dialled, and so is, by TLS, a number; a loopback address is none for a session that
 * goes elsewhere, where somebody else's broker may listen. False: there is none, or it does not fit; `out` is "" then.
 */
bool address_published(const char *session, const struct view *told, uint32_t n, char *out, size_t size);

#endif
