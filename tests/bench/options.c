/* See options.h. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sluice/sluice.h>

#include "base/units.h"
#include "payload.h"

enum kind { TEXT, FLAG, COUNT, SIZE, REAL, DURABILITY, FORMAT };

static const struct option {
    const char *name, *shape, *help;
    size_t at;
    int kind;
    uint64_t min, max;
} table[] = {
#define AT(field) offsetof(struct options, field)
    {"-b", "URL", "a broker that runs; else one is started and stopped", AT(broker), TEXT, 0, 0},
    {"-o", "json|text", "one JSON object a line, or text", AT(json), FORMAT, 0, 0},
    {"--dir", "DIR", "where data is put, on a disk; /var/tmp", AT(dir), TEXT, 0, 0},
    {"--bin", "DIR", "where sluice-broker is; beside this program", AT(bin), TEXT, 0, 0},
    {"--size", "SIZE", "bytes of a message; 100", AT(size), SIZE, PAYLOAD_MIN, PAYLOAD_MAX},
    {"--batch", "N", "messages sent, or leased, together", AT(batch), COUNT, 1, 65536},
    {"--window", "N", "batches of a connection that are out at once", AT(window), COUNT, 1, 65536},
    {"--connections", "N", "connections, a thread each", AT(connections), COUNT, 1, 100000},
    {"--partitions", "N", "partitions of the topic; 1", AT(partitions), COUNT, 1, 1000000},
    {"--keys", "N", "keys; none", AT(keys), COUNT, 1, 100000000},
    {"--durability", "disk|os", "what an acknowledgement promises; disk", AT(durability), DURABILITY, 0, 0},
    {"--rate", "N", "messages per second, sent at their times whatever the broker does; as fast as it goes", AT(rate), REAL, 0, 0},
    {"--seconds", "S", "how long it is counted", AT(seconds), REAL, 0, 0},
    {"--warmup", "S", "how long it is not counted before", AT(warmup), REAL, 0, 0},
    {"--checkpoint-every", "S", "of steady: a backup each so many seconds; 60, 0: none", AT(checkpoint_every), REAL, 0, 0},
    {"--messages", "N", "so many instead of a time; or the size of the backlog", AT(messages), COUNT, 1, INT64_MAX},
    {"--compressible", NULL, "payloads that compress; else they do not", AT(compressible), FLAG, 0, 0},
    {"--seed", "N", "of the payloads; 1", AT(seed), COUNT, 0, UINT64_MAX},
    {"--hist", "FILE", "latencies: us, percentile, count", AT(hist), TEXT, 0, 0},
    {"--runs", "N", "runs of which the median is taken; 5", AT(runs), COUNT, 1, 64},
    {"--quick", NULL, "3 runs, shorter, and with less data", AT(quick), FLAG, 0, 0},
    {"--only", "ID,..", "of suite: these rows; of neighbours: these kinds", AT(only), TEXT, 0, 0},
    {"--points", "FILE,..", "of plot: files of two numbers a line (or --hist FILE,..)", AT(points), TEXT, 0, 0},
    {"--title", "TEXT", "of plot", AT(title), TEXT, 0, 0},
    {"--peers", "NAME,..", "of compare and suite: these peers", AT(peers), TEXT, 0, 0},
#undef AT
};

void options_help(FILE *out)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s %s", table[i].name, table[i].shape != NULL ? table[i].shape : "");
        fprintf(out, "  %-22s %s\n", name, table[i].help);
    }
}

static int read_real(const char *text, double *out, struct err *e)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0)
        return err_set(e, EINVAL, "'%s' is no number from 0 on", text);
    *out = value;
    return 0;
}

static int read_durability(const char *text, int *out, struct err *e)
{
    *out = strcmp(text, "disk") == 0 ? SLUICE_DISK : strcmp(text, "os") == 0 ? SLUICE_OS : 0;
    return *out != 0 ? 0 : err_set(e, EINVAL, "'%s' is neither disk nor os", text);
}

static int read_format(const char *text, bool *json, struct err *e)
{
    *json = strcmp(text, "json") == 0;
    return *json || strcmp(text, "text") == 0 ? 0 : err_set(e, EINVAL, "'%s' is neither json nor text", text);
}

static int read_size(const struct option *d, const char *text, uint64_t *out, struct err *e)
{
    int code = size_parse(text, out, e);
    if (code == 0 && (*out < d->min || *out > d->max))
        code = err_set(e, EINVAL, "'%s' is not from %llu to %llu", text, (unsigned long long)d->min, (unsigned long long)d->max);
    return code;
}

static int read_value(struct options *o, const struct option *d, const char *text, struct err *e)
{
    void *at = (char *)o + d->at;
    switch (d->kind) {
    case TEXT: *(const char **)at = text; return 0;
    case COUNT: return count_parse(text, d->min, d->max, at, e);
    case SIZE: return read_size(d, text, at, e);
    case REAL: return read_real(text, at, e);
    case DURABILITY: return read_durability(text, at, e);
    default: return read_format(text, at, e);
    }
}

static const struct option *find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

int options_read(struct options *o, int argc, char **argv, struct err *e)
{
    *o = (struct options){.seconds = -1, .warmup = -1, .checkpoint_every = -1, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const struct option *d = find(argv[i]);
        if (d == NULL)
            return err_set(e, EINVAL, "unknown option '%s'", argv[i]);
        if (d->kind == FLAG) {
            *(bool *)((char *)o + d->at) = true;
            continue;
        }
        if (i + 1 == argc)
            return err_set(e, EINVAL, "%s needs a value: %s", d->name, d->shape);
        int code = read_value(o, d, argv[++i], e);
        if (code != 0) {
            err_prefix(e, "%s", d->name);
            return code;
        }
    }
    return 0;
}
