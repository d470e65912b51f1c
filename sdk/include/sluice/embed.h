/* A broker inside the caller's process: for tests of services, and for programs that want a queue without a server.
 *
 *     struct sluice_broker *b;
 *     sluice_broker_start(&b, &(struct sluice_broker_options){.size = sizeof(struct sluice_broker_options),
 *                         .data = "/tmp/q", .listen = "inproc://q"}, &err);
 *     ... sluice_open with .broker = "inproc://q" ...
 *     sluice_broker_stop(b);
 *
 * Link with libsluice-embed, which contains libsluice. One broker per process.
 */
#ifndef SLUICE_EMBED_H
#define SLUICE_EMBED_H

#include <sluice/sluice.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_broker;
struct sluice_broker_options {
    size_t size;
    const char *data;             /* directory; NULL: kept in memory only, gone with the process */
    const char *listen;           /* one URL; NULL: inproc://sluice */
    const char *publish;          /* NULL: none */
    const char *const *set;       /* "key=value" settings as of the broker's --set, NULL-terminated; NULL: none */
};
/* Ready when it returns 0. Errors: STORE_LOCKED, STORE_FAILED, CONFIG, INVALID_ARGUMENT, EXISTS (one runs already). [blocks] */
SLUICE_API int sluice_broker_start(struct sluice_broker **out, const struct sluice_broker_options *options, struct sluice_error *err);
/* Drains, syncs and stops. Clients of it are to be closed before. [blocks] */
SLUICE_API void sluice_broker_stop(struct sluice_broker *b);

#ifdef __cplusplus
}
#endif
#endif
