#include "golden.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static _Noreturn void bad(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(1);
}

static void load_one(FILE *from, const char *path, struct golden *g)
{
    g->bytes = mem_alloc(g->size);
    for (size_t i = 0; i < g->size; i++) {
        unsigned byte;
        if (fscanf(from, " %2x", &byte) != 1)
            bad(path, "bytes are missing");
        g->bytes[i] = (uint8_t)byte;
    }
}

struct golden *golden_load(const char *path, size_t *n)
{
    FILE *from = fopen(path, "r");
    if (from == NULL)
        bad(path, "does not open");
    struct golden *all = NULL;
    *n = 0;
    char line[256];
    while (fgets(line, sizeof line, from) != NULL) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        all = mem_resize(all, *n + 1, sizeof *all);
        struct golden *g = &all[(*n)++];
        if (sscanf(line, "%63s %zu", g->name, &g->size) != 2)
            bad(path, "a line is neither a name with a size nor bytes");
        load_one(from, path, g);
    }
    fclose(from);
    return all;
}

void golden_free(struct golden *g, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free(g[i].bytes);
    mem_free(g);
}

const struct golden *golden_find(const struct golden *g, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(g[i].name, name) == 0)
            return &g[i];
    }
    return NULL;
}

void golden_put(FILE *to, const char *name, struct view bytes)
{
    enum { PER_LINE = 48 };
    fprintf(to, "\n%s %zu\n", name, bytes.size);
    for (size_t i = 0; i < bytes.size; i++)
        fprintf(to, "%02x%s", bytes.data[i], i % PER_LINE == PER_LINE - 1 || i + 1 == bytes.size ? "\n" : "");
}
