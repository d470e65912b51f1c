/* Files below a directory, all of them: removed, counted. Names that are links are looked at, never followed. */
#ifndef BASE_FILES_H
#define BASE_FILES_H

#include <stdint.h>

#include "base/err.h"

/* The file, or the directory and whatever is in it. 0, also when there is none; else the errno, with a text that names what stays. */
int files_remove(const char *path, struct err *e);

/* Sizes of all regular files at and below it, and how many they are. What cannot be read counts nothing. Never NULL. */
void files_count(const char *path, uint64_t *bytes, uint64_t *files);

#endif
