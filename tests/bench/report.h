/*
 * What the bench prints: a JSON object a line (-o json), or text that people read. Rows are those of rows.def; anything else is an
 * object of whatever fields. One thread at a time.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct report {
    FILE *out;
    bool json;
    unsigned below; /* rows that did not reach their floor, or have no value */
    uint64_t told;  /* rows that were reported, a bit each in the order of rows.def */
};

/* A row of rows.def: {"id","what","value","unit","floor","aim","ok"}. `note` (may be NULL) is put behind its text: what was done
 * otherwise than the text says. A value that is not finite is null, and not ok. */
void report_row(struct report *r, const char *id, double value, const char *note);
/* As that, with "share" and "of": which part of a limit of this machine it takes, 1 is all of it, and of which. NULL: of none. */
void report_row_of(struct report *r, const char *id, double value, const char *note, double share, const char *of);

/* All rows of these ids ("P8 P12": their parts too) that were not reported yet, without a value: `why`. */
void report_failed(struct report *r, const char *ids, const char *why);

/* A row of a comparison: {"what","peer","version","durability","ours","theirs","unit","ratio"}. What is not finite is null: the peer
 * lacks it. `note` says why, or NULL. */
struct versus {
    const char *what, *peer, *version, *unit, *note;
    int durability;
    double ours, theirs; /* medians */
    double ratio;        /* the median of the ratios, above 1 where ours is better */
    double share;        /* of ours, as in report_row_of */
    const char *of;      /* NULL: not known */
};
void report_versus(struct report *r, const struct versus *v);

/* Takes `fields`. As text a line each: name, value; a nested object is indented. */
void report_object(struct report *r, json_t *fields);

/* A number with at most 4 significant digits, or whole above 1000; null when it is not finite. */
json_t *report_number(double value);
const char *durability_name(int durability); /* "disk", "os" */

#endif
