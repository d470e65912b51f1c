/*
 * What the command says: data to standard output, talk to standard error, progress to a terminal.
 *
 * Standard output is one thing of the process and so is this. A write that fails is remembered: nothing more is written, and
 * a reader that went away (`| head`) is no error, only a reason to end. Talk from any thread; data from one at a time.
 */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"
#include "base/units.h"

/* ---- data ---- */

void out_bytes(const void *data, size_t size);
void out_text(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* One object as one line. Takes the reference. */
void out_json(json_t *object);

/* Bytes written by the calls above and not handed to the system yet. */
size_t out_waiting(void);

/* Hands over everything written so far. False if standard output is closed or broken: then nothing is written any more. */
bool out_flush(void);

/* Ends the output: what the process ends with, given that it would have been `status`. */
int out_end(int status);

/* ---- tables and sheets ---- */

/*
 * Aligned columns, for people:
 *
 *     struct table t;
 *     table_begin(&t, 2, (const char *const[]){"TOPIC", ">MESSAGES"});     '>': to the right
 *     table_cell(&t, "%s", name);
 *     table_cell(&t, "%zu", count);
 *     table_end(&t);                                                       prints it
 *
 * Control characters in cells are shown as escapes, so that nobody's data plays with the terminal.
 */
enum { TABLE_COLUMNS_MAX = 13 };

struct table {
    size_t columns;
    const char *const *titles;
    char **cells;
    size_t cells_count, cells_cap;
    size_t width[TABLE_COLUMNS_MAX];
    bool titled; /* the titles were printed */
};

void table_begin(struct table *t, size_t columns, const char *const *titles);
void table_cell(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Prints the rows so far and goes on; columns keep the widths they had. */
void table_print(struct table *t);
void table_end(struct table *t);

/* "name:    value", one line of a sheet. */
void sheet_line(const char *name, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Bytes with control characters shown as escapes and cut at about 200; "-" if absent. Appended to `to`. */
void put_shown(struct buf *to, const void *data, size_t size);

/* ---- quantities as people read them, rounded ---- */

char *short_bytes(char out[UNITS_TEXT_MAX], uint64_t bytes); /* 1.2 MiB */
char *short_seconds(char out[UNITS_TEXT_MAX],
                    double seconds); /* 250ms, 4.2s, 3m12s, 2h05m, 3d04h; never if negative */
char *term_text(char out[UNITS_TEXT_MAX], uint64_t ms); /* 7d, forever */

/* ---- talk ---- */

/* A line to standard error: "sluice: ...". */
void talk(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* A line that replaces the one before, if standard error is a terminal; at most some each second. */
void progress(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Takes that line away. */
void progress_end(void);

#endif
