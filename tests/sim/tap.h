/* A store in front of the store: what is written through it is shown to the model, list by list. */
#ifndef SIM_TAP_H
#define SIM_TAP_H

#include "store/puts.h"
#include "store/store.h"

/* Forwards all to `inner`, which stays the caller's. `written`: after each list that was applied. */
struct store *tap_new(struct store *inner, void (*written)(void *user, const struct puts *p), void *user);

#endif
