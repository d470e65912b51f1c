/* What every program says of itself: its version, and how much memory it takes. */
#include <stdio.h>
#include <unistd.h>

#include "base/macros.h"
#include "web/metrics.h"

static double resident_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

void metrics_process(struct buf *out, const char *program)
{
    static const struct metric_label version = {"version",
                                                {(const uint8_t *)SLUICE_VERSION, sizeof SLUICE_VERSION - 1}};
    char help[80];
    snprintf(help, sizeof help, "1; the version of this %s is its label", program);
    metric_family(out, "sluice_build_info", METRIC_GAUGE, help);
    metric_sample(out, "sluice_build_info", &version, 1, 1);
    metric(out, "process_resident_memory_bytes", METRIC_GAUGE, "memory in RAM", resident_bytes());
}
