/* What every command gets, and the table of commands. */
#ifndef BENCH_H
#define BENCH_H

#include "broker.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "rival.h"
#include "verify.h"

struct bench {
    struct options o;
    struct report report;
};

/* 0, BENCH_VOID, or a code and a text. What it lost or repeated makes a run void: its figures say nothing. */
typedef int command_fn(struct bench *b, struct err *e);
enum { BENCH_VOID = -1 };

#define COMMAND(name, help) command_fn command_##name;
#include "commands.def"
#undef COMMAND

/* The work that the options ask for; of what they leave open that of `base`. */
struct work bench_work(const struct options *o, const struct work *base);

/* The broker of -b, or one started in a directory of its own. */
struct place {
    struct broker broker;
    char dir[PATH_MAX]; /* "": none */
};
int place_open(struct place *p, const struct options *o, struct err *e);
void place_close(struct place *p);

/* The fields of a measured work, ready for report_object: settings, rate, latencies, CPU and bytes. The caller adds and reports. */
json_t *bench_fields(const char *command, const struct work *w, const struct outcome *out);
/* Adds "share" and "of", if it is known. */
void bench_share(json_t *fields, struct share s);
void bench_row(struct bench *b, const char *id, double value, const char *note, struct share s); /* report_row_of */
/* Adds what the verification said to `fields`, unless they are NULL; BENCH_VOID and a text when it was not good. */
int bench_verdict(json_t *fields, const struct verdict *d, struct err *e);
uint32_t bench_partitions(const struct options *o);                             /* --partitions, else 1 */
unsigned bench_runs(const struct options *o);                                    /* --runs, else 5, quick 3 */
double bench_seconds(const struct options *o, double full, double quick);        /* --seconds, else these */
bool bench_owns(const struct place *p, struct err *e);                           /* false and an error with -b: its process is not ours */
/* --hist */
int bench_hist(const struct options *o, const struct outcome *out, struct err *e);

#endif
