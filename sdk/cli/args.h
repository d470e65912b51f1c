/*
 * The command line, checked against the table of commands.
 *
 * Options stand anywhere, before, between and behind the words: --name VALUE, --name=VALUE, -x VALUE, -xVALUE; "--" ends
 * them. The first word is the noun, the second the verb if the noun has verbs, the others are operands. Values are parsed
 * here, each by its kind, and names are checked, so that a command begins with what is known to be good.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "base/err.h"
#include "cli/command.h"

/* One option as given. */
struct arg {
    const struct option *option;
    const char *text; /* borrowed from argv; NULL for a switch */
    uint64_t number;  /* by the option's kind */
};

struct args {
    const struct command *command; /* NULL: help or version without a command */
    const char *noun;              /* as given; NULL: none */
    const char *verb;
    bool wants_help, wants_version;
    struct arg *given; /* in the order of the line */
    size_t given_count;
    const char **operands; /* borrowed from argv */
    size_t operands_count;
};

/* Parses a whole line. Returns 0, or STATUS_USAGE with a text; then noun, verb and command are set as far as they were
   understood. With wants_help or wants_version nothing else is checked. Either way args_free is called afterwards. */
int args_parse(struct args *a, int argc, char **argv, struct err *e);
void args_free(struct args *a);

/* The last occurrence of an option that the command has (asserted), or NULL. */
const struct arg *args_find(const struct args *a, const char *name);

bool args_has(const struct args *a, const char *name);

/* Its text or number, or what stands for an option that was not given. */
const char *args_text(const struct args *a, const char *name, const char *otherwise);
uint64_t args_number(const struct args *a, const char *name, uint64_t otherwise);

/* The n-th operand, or NULL if there are fewer. */
const char *args_operand(const struct args *a, size_t n);

/* Whether -o json was given. */
bool args_json(const struct args *a);

/* Parses the text of a value by its option's kind. Returns 0, or STATUS_USAGE with a text that does not name the option. */
int option_parse(const struct option *o, const char *text, uint64_t *number, struct err *e);

/* A word of "a|b|c" or "A [B] [C...]": steps over it and returns its length, 0 at the end. `*word` is where it begins. */
size_t word_next(const char **at, const char *separators, const char **word);

#endif
