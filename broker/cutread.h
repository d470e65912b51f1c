/* Where a log may be cut: what readers do for retention, without their threads. */
#ifndef BROKER_CUTREAD_H
#define BROKER_CUTREAD_H

#include "engine/engine.h"

/* Halves its way through the rows, of which it reads about as many as the offset has bits. out->to = want->from: no row can go, out->code says why
 * if that is because none could be read. A store that fails otherwise than by damage: that code, `e` filled. */
int cut_find(struct store *s, const struct effect_cut *want, struct cut *out, struct err *e);

#endif
