/* Runs seeds and adds up what happened in them: see sim.h.
 *
 *     sim-queue                 as many seeds as SLUICE_SIM_SEEDS says, 200 by default
 *     sim-queue --seeds N [--from S] [--events E]
 *     sim-queue --seed S        one seed, with its trace
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sim.h"

int main(int argc, char **argv)
{
    const char *seeds_env = getenv("SLUICE_SIM_SEEDS");
    uint64_t seeds = seeds_env != NULL ? strtoull(seeds_env, NULL, 10) : 200, from = 1;
    uint32_t events = 1000;
    bool trace = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seed") == 0) {
            from = n;
            seeds = 1;
            trace = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            seeds = n;
        } else if (strcmp(argv[i], "--from") == 0) {
            from = n;
        } else if (strcmp(argv[i], "--events") == 0) {
            events = (uint32_t)n;
        } else {
            fprintf(stderr, "sim-queue: unknown option '%s'\n", argv[i]);
            return 2;
        }
    }
    setvbuf(stdout, NULL, trace ? _IOFBF : _IOLBF, 1 << 16);
    log_setup("sim", trace ? LOG_INFO : (enum log_level)(LOG_ERROR + 1));
    struct sim_totals totals = {0};
    uint64_t failures = 0;
    for (uint64_t s = from; s < from + seeds && failures < 5; s++)
        if (!world_run(s, events, trace, &totals)) {
            printf("seed %llu failed; replay it with: sim-queue --seed %llu --events %u\n",
                   (unsigned long long)s, (unsigned long long)s, events);
            failures++;
        }
    bool missing = false;
    printf("%llu seeds of %u events\n", (unsigned long long)seeds, events);
#define X(name)                                                       \
    printf("  %-18s %llu\n", #name, (unsigned long long)totals.name); \
    if (totals.name == 0 && seeds >= 100) {                           \
        printf("  ^ never happened\n");                               \
        missing = true;                                               \
    }
    SIM_TOTALS(X)
#undef X
    printf("%llu passed, %llu failed\n", (unsigned long long)(seeds - failures),
           (unsigned long long)failures);
    return failures > 0 || missing ? 1 : 0;
}
