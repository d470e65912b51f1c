#include "workerd/room.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_BACK = 16, PATH_BYTES = 512, LINE_BYTES = 512 };

static uint32_t cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? (uint32_t)n : 1;
}

/* The number behind `name` at the beginning of a line. */
static bool read_named(const char *path, const char *name, uint64_t *out)
{
    char line[LINE_BYTES];
    bool found = false;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), "%" SCNu64, out) == 1;
    fclose(f);
    return found;
}

/* The directory of the control group that we are in; version 2 only. */
static bool own_group(char path[PATH_BYTES])
{
    char line[PATH_BYTES - 32] = "";
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = strncmp(line, "0::/", 4) == 0;
    fclose(f);
    if (!found)
        return false;
    line[strcspn(line, "\n")] = '\0';
    snprintf(path, PATH_BYTES, "/sys/fs/cgroup%s", line + 3);
    return true;
}

static bool group_number(const char *group, const char *file, const char *name, uint64_t *out)
{
    char path[PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/%s", group, file);
    return read_named(path, name, out);
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t room_of(uint64_t all, uint64_t free)
{
    return less(free, all / KEPT_BACK);
}

/* What the control group leaves; UINT64_MAX if it has no limit. Files that nobody uses give way. */
static uint64_t group_room(void)
{
    char group[PATH_BYTES];
    uint64_t max, current, files = 0;
    if (!own_group(group) || !group_number(group, "memory.max", "", &max) ||
        !group_number(group, "memory.current", "", &current))
        return UINT64_MAX;
    group_number(group, "memory.stat", "inactive_file ", &files);
    return room_of(max, less(max, less(current, files)));
}

void room_read(struct room *r)
{
    uint64_t all_kib, free_kib, of_group = group_room();
    r->cores = cores();
    r->memory = UINT64_MAX;
    if (read_named("/proc/meminfo", "MemTotal:", &all_kib) &&
        read_named("/proc/meminfo", "MemAvailable:", &free_kib))
        r->memory = room_of(all_kib << 10, free_kib << 10);
    r->memory = of_group < r->memory ? of_group : r->memory;
}

uint64_t room_of_process(pid_t pid)
{
    char path[64];
    uint64_t resident, shared;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    int n = fscanf(f, "%*u %" SCNu64 " %" SCNu64, &resident, &shared);
    fclose(f);
    return n == 2 ? less(resident, shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
