/* See report.h. */
#include "report.h"

#include <assert.h>
#include <math.h>
#include <sluice/sluice.h>
#include <string.h>

enum better { MORE, LESS };

static const struct row {
    const char *id, *what, *unit;
    double floor, aim;
    int better;
} rows[] = {
#define ROW(id, what, unit, floor, aim, better) {id, what, unit, floor, aim, better},
#include "rows.def"
#undef ROW
};

_Static_assert(sizeof rows / sizeof *rows <= 64, "report.told has a bit for each row");

const char *durability_name(int durability)
{
    return durability == SLUICE_OS ? "os" : "disk";
}

json_t *report_number(double value)
{
    if (!isfinite(value))
        return json_null();
    double step = fabs(value) >= 1000 || value == 0 ? 1 : pow(10, floor(log10(fabs(value))) - 3);
    double rounded = round(value / step) * step;
    return fabs(rounded - round(rounded)) < step / 2 ? json_integer((json_int_t)round(rounded)) : json_real(rounded);
}

static void add_share(json_t *object, double share, const char *of)
{
    if (of == NULL)
        return;
    json_object_set_new(object, "share", report_number(share));
    json_object_set_new(object, "of", json_string(of));
}

static void print_share(FILE *out, double share, const char *of)
{
    if (of != NULL && isfinite(share))
        fprintf(out, "; %.3g %% of %s", 100 * share, of);
}

static void print_json(FILE *out, const json_t *object)
{
    json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(4));
    fputc('\n', out);
    fflush(out);
}

static void print_value(FILE *out, const json_t *value)
{
    if (json_is_string(value))
        fputs(json_string_value(value), out);
    else if (json_is_null(value))
        fputs("-", out);
    else
        json_dumpf(value, out, JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
}

static void print_fields(FILE *out, json_t *object, int indent)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        fprintf(out, "%*s%-*s ", indent, "", 24 - indent, name);
        if (json_is_object(value)) {
            fputc('\n', out);
            print_fields(out, value, indent + 2);
            continue;
        }
        print_value(out, value);
        fputc('\n', out);
    }
}

void report_object(struct report *r, json_t *fields)
{
    if (r->json)
        print_json(r->out, fields);
    else
        print_fields(r->out, fields, 0);
    fflush(r->out);
    json_decref(fields);
}

static const struct row *find(const char *id)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].id, id) == 0)
            return &rows[i];
    assert(!"a row that rows.def does not have");
    return NULL;
}

static void print_text_row(FILE *out, const struct row *row, json_t *value, bool ok, const char *note, double share, const char *of)
{
    fprintf(out, "%-15s ", row->id);
    size_t width = 12;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
    fprintf(out, "%*s %-11s %-5s floor %-9g aim %-9g %s%s%s", (int)width, json_is_null(value) ? "-" : text, row->unit,
            ok ? "ok" : "BELOW", row->floor, row->aim, row->what, note != NULL ? "; " : "", note != NULL ? note : "");
    print_share(out, share, of);
    fputc('\n', out);
    free(text);
    fflush(out);
}

void report_row(struct report *r, const char *id, double value, const char *note)
{
    report_row_of(r, id, value, note, NAN, NULL);
}

void report_row_of(struct report *r, const char *id, double value, const char *note, double share, const char *of)
{
    const struct row *row = find(id);
    bool ok = isfinite(value) && (row->better == MORE ? value >= row->floor : value <= row->floor);
    json_t *number = report_number(value);
    r->below += !ok;
    r->told |= UINT64_C(1) << (row - rows);
    if (!r->json) {
        print_text_row(r->out, row, number, ok, note, share, of);
        json_decref(number);
        return;
    }
    json_t *what = note != NULL ? json_sprintf("%s; %s", row->what, note) : json_string(row->what);
    json_t *object = json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:b}", "id", row->id, "what", what, "value", number, "unit", row->unit,
                               "floor", report_number(row->floor), "aim", report_number(row->aim), "ok", ok);
    add_share(object, share, of);
    report_object(r, object);
}

/* "P8" is the id of P8.queue too. */
static bool is_of(const char *ids, const char *id)
{
    for (const char *at = ids; at != NULL; at = strchr(at, ' ')) {
        at += *at == ' ';
        size_t size = strcspn(at, " ");
        if (strncmp(at, id, size) == 0 && (id[size] == '\0' || id[size] == '.'))
            return true;
    }
    return false;
}

void report_failed(struct report *r, const char *ids, const char *why)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (is_of(ids, rows[i].id) && (r->told >> i & 1) == 0)
            report_row(r, rows[i].id, NAN, why);
}

void report_versus(struct report *r, const struct versus *v)
{
    json_t *ours = report_number(v->ours), *theirs = report_number(v->theirs), *ratio = report_number(v->ratio);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:o}", "what", v->what, "peer", v->peer, "version", v->version,
                            "durability", durability_name(v->durability), "ours", ours, "theirs", theirs, "unit", v->unit, "ratio", ratio);
    if (v->note != NULL)
        json_object_set_new(row, "note", json_string(v->note));
    add_share(row, v->share, v->of);
    if (r->json) {
        report_object(r, row);
        return;
    }
    fprintf(r->out, "%-24s %-14s %-12s %-5s ours ", v->what, v->peer, v->version, durability_name(v->durability));
    print_value(r->out, ours);
    fprintf(r->out, "  theirs ");
    print_value(r->out, theirs);
    fprintf(r->out, " %s  ratio ", v->unit);
    print_value(r->out, ratio);
    fprintf(r->out, "%s%s", v->note != NULL ? "  " : "", v->note != NULL ? v->note : "");
    print_share(r->out, v->share, v->of);
    fputc('\n', r->out);
    json_decref(row);
    fflush(r->out);
}
