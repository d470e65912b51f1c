/* See tree.h. */
#include "tree.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

struct process {
    pid_t pid, parent;
    double cpu_ticks; /* with those of children that it waited for */
    uint64_t rss_pages;
    bool within;
};

static bool read_process(pid_t pid, struct process *p)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *rest = strrchr(text, ')'); /* the name may have blanks and brackets */
    int parent;
    unsigned long long user, system;
    long long child_user, child_system, rss;
    if (rest == NULL || sscanf(rest + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %lld %lld %*d %*d %*d %*d %*u %*u %lld",
                               &parent, &user, &system, &child_user, &child_system, &rss) != 6)
        return false;
    *p = (struct process){.pid = pid, .parent = parent, .rss_pages = (uint64_t)rss};
    p->cpu_ticks = (double)user + (double)system + (double)child_user + (double)child_system;
    return true;
}

/* All processes; the caller frees. */
static size_t processes(struct process **out)
{
    size_t n = 0, cap = 0;
    DIR *proc = opendir("/proc");
    *out = NULL;
    for (struct dirent *d; proc != NULL && (d = readdir(proc)) != NULL;) {
        pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);
        if (pid <= 0)
            continue;
        if (n == cap) {
            cap = cap == 0 ? 256 : cap * 2;
            *out = realloc(*out, cap * sizeof **out);
            if (*out == NULL)
                abort();
        }
        n += read_process(pid, &(*out)[n]);
    }
    if (proc != NULL)
        closedir(proc);
    return n;
}

/* Marks `root` and what descends from it. */
static void mark(struct process *p, size_t n, pid_t root)
{
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            bool within = p[i].pid == root;
            for (size_t k = 0; k < n && !within; k++)
                within = p[k].within && p[k].pid == p[i].parent;
            more |= within && !p[i].within;
            p[i].within = within;
        }
    }
}

void tree_kill(pid_t root)
{
    struct process *p;
    size_t n = processes(&p);
    mark(p, n, root);
    kill(root, SIGKILL);
    for (size_t i = 0; i < n; i++)
        if (p[i].within)
            kill(p[i].pid, SIGKILL);
    free(p);
}

static uint64_t written(pid_t pid)
{
    char path[64], line[128];
    unsigned long long bytes = 0, n;
    snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "write_bytes: %llu", &n) == 1)
            bytes = n;
    if (f != NULL)
        fclose(f);
    return bytes;
}

void usage_of(pid_t pid, struct usage *out)
{
    *out = (struct usage){0};
    if (pid == 0)
        return;
    struct process *p;
    size_t n = processes(&p);
    mark(p, n, pid);
    for (size_t i = 0; i < n; i++) {
        if (!p[i].within)
            continue;
        out->cpu_seconds += p[i].cpu_ticks / (double)sysconf(_SC_CLK_TCK);
        out->rss_bytes += p[i].rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
        out->written_bytes += written(p[i].pid);
    }
    free(p);
}

void usage_since(struct usage *now, const struct usage *before)
{
    now->cpu_seconds -= before->cpu_seconds;
    now->written_bytes -= before->written_bytes;
}
