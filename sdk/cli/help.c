/* sluice help [NOUN] [VERB] */
#include "cli/help.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/out.h"

enum { SUMMARY_COLUMN = 30, HELP_COLUMN = 30 };

/* "-b, --broker URL" */
static void put_option(struct buf *to, const struct option *o)
{
    if (o->letter != 0)
        buf_putf(to, "-%c, --%s", o->letter, o->name);
    else
        buf_putf(to, "    --%s", o->name);
    if (o->value != NULL)
        buf_putf(to, " %s", o->value);
}

/* Adds a part of a usage line, on a new line if it has no room on this one. */
static void put_part(struct buf *to, size_t *column, const char *part)
{
    enum { COLUMNS = 90, INDENT = 11 };
    if (*column + 1 + strlen(part) > COLUMNS) {
        buf_putf(to, "\n%*s", INDENT, "");
        *column = INDENT;
    }
    buf_putf(to, " %s", part);
    *column += 1 + strlen(part);
}

void help_usage(struct buf *to, const struct command *c)
{
    struct buf part = {0};
    buf_putf(&part, "sluice %s%s%s%s%s", c->noun, c->verb != NULL ? " " : "", c->verb != NULL ? c->verb : "",
             c->operands[0] != '\0' ? " " : "", c->operands);
    buf_putf(to, "usage:");
    size_t column = 6;
    put_part(to, &column, buf_str(&part));
    for (const struct option *o = c->options; o->name != NULL; o++) {
        bool required = (o->flags & OPTION_REQUIRED) != 0;
        buf_clear(&part);
        buf_putf(&part, "%s", required ? "" : "[");
        if (o->letter != 0)
            buf_putf(&part, "-%c", o->letter);
        else
            buf_putf(&part, "--%s", o->name);
        if (o->value != NULL)
            buf_putf(&part, " %s", o->value);
        buf_putf(&part, "%s%s", required ? "" : "]", (o->flags & OPTION_REPEAT) != 0 ? ".." : "");
        put_part(to, &column, buf_str(&part));
    }
    buf_free(&part);
    buf_putf(to, "\n");
}

/* "  left           right", with `right` at a column, or on a line of its own if `left` reaches over it. */
static void put_entry(struct buf *to, const char *left, size_t column, const char *right)
{
    size_t width = strlen(left) + 2;
    buf_putf(to, "  %s", left);
    if (width + 2 > column) {
        buf_putf(to, "\n");
        width = 0;
    }
    buf_putf(to, "%*s%s\n", (int)(column - width), "", right);
}

static void put_options(struct buf *to, const struct option *list)
{
    for (const struct option *o = list; o->name != NULL; o++) {
        struct buf left = {0};
        put_option(&left, o);
        put_entry(to, buf_str(&left), HELP_COLUMN, o->help);
        buf_free(&left);
    }
}

/* Every command of a noun (NULL: of all), a line each. */
static void put_commands(struct buf *to, const char *noun)
{
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        if (noun != NULL && strcmp(c->noun, noun) != 0)
            continue;
        struct buf left = {0};
        buf_putf(&left, "%s%s%s%s%s", c->noun, c->verb != NULL ? " " : "", c->verb != NULL ? c->verb : "",
                 c->operands[0] != '\0' ? " " : "", c->operands);
        put_entry(to, buf_str(&left), SUMMARY_COLUMN, c->summary);
        buf_free(&left);
    }
}

static void put_command_page(struct buf *to, const struct command *c)
{
    help_usage(to, c);
    buf_putf(to, "\n%s\n", c->details != NULL ? c->details : c->summary);
    if (c->options->name != NULL) {
        buf_putf(to, "\nOptions:\n");
        put_options(to, c->options);
    }
}

void help_page(const char *noun, const struct command *c)
{
    struct buf text = {0};
    if (c != NULL) {
        put_command_page(&text, c);
    } else {
        buf_putf(&text, "usage: sluice [-b URL] [-o text|json] [--timeout D] %s ...\n\n",
                 noun != NULL ? noun : "NOUN [VERB]");
        put_commands(&text, noun);
    }
    buf_putf(&text, "\nOptions everywhere on the line:\n");
    put_options(&text, options_everywhere);
    if (noun == NULL)
        buf_putf(&text, "\n"
                        "Durations: ms s m h d w. Sizes: kB MB GB (1000), KiB MiB GiB (1024).\n"
                        "Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 not allowed, 5 timeout, 6 "
                        "conflict, 10 unhealthy.\n");
    if (c == NULL)
        buf_putf(&text, "\n`sluice help NOUN VERB` says more.\n");
    out_bytes(text.data, text.size);
    buf_free(&text);
}

void help_after_error(const struct args *a)
{
    struct buf text = {0};
    if (a->command != NULL) {
        help_usage(&text, a->command);
    } else {
        put_commands(&text, a->noun != NULL && noun_exists(a->noun) ? a->noun : NULL);
    }
    fwrite(text.data, 1, text.size, stderr);
    buf_free(&text);
}

int help_refuse(const struct args *a, const char *fmt, ...)
{
    va_list args;
    struct err e;
    va_start(args, fmt);
    err_vset(&e, STATUS_USAGE, fmt, args);
    va_end(args);
    talk("%s%s%s: %s", a->noun, a->verb != NULL ? " " : "", a->verb != NULL ? a->verb : "", e.text);
    help_after_error(a);
    return STATUS_USAGE;
}

int help(const struct args *a)
{
    const char *noun = args_operand(a, 0), *verb = args_operand(a, 1);
    if (noun == NULL || (verb == NULL && noun_has_verbs(noun))) {
        help_page(noun, NULL);
        return STATUS_OK;
    }
    const struct command *c = command_find(noun, verb);
    if (c == NULL)
        return help_refuse(&(struct args){.noun = noun, .verb = verb}, "there is no such command");
    help_page(noun, c);
    return STATUS_OK;
}
