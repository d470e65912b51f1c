/*
 * A publication of the broker, taken apart (docs/protocol.md, "Publish").
 */
#ifndef SDK_PUBLICATION_H
#define SDK_PUBLICATION_H

#include <sluice/sluice.h>

#include "schemas/codec.h"

enum { PUBLICATION_TOPIC_SIZE = 8 };

/* What publications of the lag begin with: kind, version, flags, channel. 8 bytes, static. */
struct view publication_lag_topic(void);

/*
 * The rows of one that publishes the lag; they live in `memory`, which takes no more than a small multiple of the frame's size.
 * UNSUPPORTED: it is another one. BAD_FRAME: it is damaged, or no such page. TOO_LARGE: it would take too much to decode.
 */
int publication_lag(struct view frame, struct arena *memory, const struct sluice_lag **rows, size_t *count, struct err *e);

/* One row; its texts live in `memory`. */
void lag_row(struct arena *memory, const struct wire_lag *w, struct sluice_lag *out);

#endif
