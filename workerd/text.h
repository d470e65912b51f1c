/*
 * Texts that handlers wrote, on their way into the broker and onto terminals.
 */
#ifndef WORKERD_TEXT_H
#define WORKERD_TEXT_H

#include "base/buf.h"

/* A copy, for mem_free, in which what is not UTF-8 and what controls a terminal became '?', and line ends
   and tabs blanks. NULL if it is empty. */
char *text_clean(struct view v);

#endif
