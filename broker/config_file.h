/* A configuration file is read into strings (config_file.c); what they mean is decided in one place (config.c). */
#ifndef BROKER_CONFIG_FILE_H
#define BROKER_CONFIG_FILE_H

#include "base/err.h"

struct config;

/* OK; CONFIG naming the key. `name` as in the table of keys. */
int config_set_value(struct config *c, const char *name, const char *value, struct err *e);

#endif
