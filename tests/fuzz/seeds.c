/*
 * Makes seeds of golden bytes: fuzz-seeds FILE PREFIX DIR writes each entry of FILE whose name begins with PREFIX to a file in DIR.
 */
#include <stdio.h>
#include <string.h>

#include "golden.h"

static int write_seed(const char *dir, const struct golden *g)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, g->name);
    FILE *to = fopen(path, "wb");
    if (to == NULL || fwrite(g->bytes, 1, g->size, to) != g->size || fclose(to) != 0) {
        perror(path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: fuzz-seeds FILE PREFIX DIR\n");
        return 2;
    }
    size_t n;
    int rc = 0;
    struct golden *all = golden_load(argv[1], &n);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (strncmp(all[i].name, argv[2], strlen(argv[2])) == 0)
            rc = write_seed(argv[3], &all[i]);
    }
    golden_free(all, n);
    return rc;
}
