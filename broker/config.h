/* The configuration of the broker: what may be set, from where, and what it is.
 *
 * One table of keys (config.c) serves the YAML file, `--set key=value`, --print-config and the documentation; limits come into it
 * from the limits.def of each layer. A key that is not known is refused with the nearest one that is.
 *
 *     data: /var/lib/sluice
 *     listen: [tcp://0.0.0.0:7400]
 *     limits:
 *       session_grace_ms: 30s          # --set limits.session_grace_ms=30s
 *       tail_cache_bytes: 128MiB
 */
#ifndef BROKER_CONFIG_H
#define BROKER_CONFIG_H

#include "base/log.h"
#include "broker/workers.h"
#include "http/http.h"
#include "wire/wire.h"

struct broker_limits {
#define X(name, unit, def, min, max, help) uint64_t name;
#include "broker/limits.def"
#undef X
};

struct strings {
    char **at;
    size_t n;
};

struct config {
    char *data; /* directory; NULL: not given */
    char *backup_dir;                  /* "": no backups */
    struct strings listen, publish;
    char *http;                        /* HOST:PORT; "": no HTTP */
    char *tls_cert, *tls_key, *tls_ca; /* "": none */
    char *log_level;
    struct engine_limits engine;
    struct wire_bounds wire;
    struct http_bounds http_limits;
    struct workers_bounds workers;
    struct broker_limits broker;
};

/* Defaults. The caller calls config_free, also after an error of the others. */
void config_init(struct config *c);
void config_free(struct config *c);

/* All of them: CONFIG, with a text that names file, key and value. */
int config_load(struct config *c, const char *path, struct err *e);
/* `setting` is "key=value"; a list is comma separated. */
int config_set(struct config *c, const char *setting, struct err *e);
/* One more entry for `listen` or `publish`; the first one replaces what was there before (*replaced is false then). */
void config_add(struct strings *list, const char *value, bool *replaced);
/* What can only be said of the whole: addresses, limits that must fit each other. `data` may be missing only if told so. */
int config_check(const struct config *c, bool need_data, struct err *e);

/* As a YAML file that config_load reads back to the same. */
void config_print(const struct config *c, struct buf *out);

struct wire_tls config_tls(const struct config *c);
/* The largest message that a topic may allow. */
uint64_t config_message_bytes_max(const struct config *c);

/* The table, for documentation and metrics. */
enum config_kind { CONFIG_TEXT, CONFIG_LIST, CONFIG_COUNT, CONFIG_MS, CONFIG_BYTES };
struct config_key {
    const char *name; /* "limits.session_grace_ms" */
    enum config_kind kind;
    size_t offset; /* in struct config */
    uint64_t min, max;
    const char *help;
};
extern const struct config_key config_keys[];
extern const size_t config_keys_n;
static inline bool config_is_number(const struct config_key *k)
{
    return k->kind >= CONFIG_COUNT;
}
uint64_t config_number(const struct config *c, const struct config_key *k);
/* The value as it would be written. */
void config_value(const struct config *c, const struct config_key *k, struct buf *out);

#endif
