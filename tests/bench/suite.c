/* sluice-bench suite: everything that rows.def has, one after the other. What fails has rows without a value, and the rest goes on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "rows.h"

static const struct part {
    const char *ids; /* separated by blanks */
    rows_fn *fn;
} parts[] = {
#define ROWS(ids, function) {ids, function},
#include "suite.def"
#undef ROWS
};

/* Whether a list ("P8,P12") names the id of a row, or what that is a part of: P12 names P12.message. */
static bool names(const char *list, const char *id, size_t size)
{
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        size_t n = strcspn(at, ",");
        if (n <= size && strncmp(at, id, n) == 0 && (n == size || id[n] == '.'))
            return true;
    }
    return false;
}

static bool wanted(const struct options *o, const struct part *p)
{
    if (o->only == NULL)
        return true;
    for (const char *id = p->ids; id != NULL; id = strchr(id, ' ')) {
        id += *id == ' ';
        if (names(o->only, id, strcspn(id, " ")))
            return true;
    }
    return false;
}

int command_suite(struct bench *b, struct err *e)
{
    unsigned failed = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct err why = {0};
        uint64_t start = clock_mono_ms();
        if (!wanted(&b->o, &parts[i]))
            continue;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "%s ..\n", parts[i].ids);
        int code = parts[i].fn(b, &why);
        if (code != 0) {
            failed++;
            report_failed(&b->report, parts[i].ids, why.text);
        }
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "%s %s in %.1f s\n", parts[i].ids, code == 0 ? "measured" : "failed", (double)(clock_mono_ms() - start) / 1e3);
    }
    return failed == 0 ? 0 : err_set(e, EIO, "%u of the measurements failed", failed);
}
