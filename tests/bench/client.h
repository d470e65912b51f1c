/* A client of the public library, with the errors of the bench. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <sluice/sluice.h>

#include "base/err.h"

enum { CLIENT_TIMEOUT_MS = 60000 };

/* "publish: NO_SUCH_TOPIC: .."; returns the code. */
int client_err(struct err *e, const char *what, const struct sluice_error *from);

/* `batch`: records of a batch, whatever its bytes, 0: as the library does; `memory`: its cap, 0: 256 MiB. */
int client_open(struct sluice **out, const char *url, uint32_t batch, size_t memory, int compression, struct err *e);
void client_close(struct sluice *s);

int client_topic(struct sluice *s, const char *name, uint32_t partitions, int durability, struct err *e);
int client_group(struct sluice *s, const char *topic, const char *name, int order, struct err *e);

#endif
