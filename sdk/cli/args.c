#include "cli/args.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/units.h"

size_t word_next(const char **at, const char *separators, const char **word)
{
    *word = *at + strspn(*at, separators);
    size_t size = strcspn(*word, separators);
    *at = *word + size;
    return size;
}

/* ---- values ---- */

/* The place of `text` among "a|b|c", from 1; 0: it is none of them. */
static uint64_t choice_place(const char *choices, const char *text)
{
    const char *word;
    uint64_t place = 1;
    for (size_t size; (size = word_next(&choices, "|", &word)) != 0; place++) {
        if (strlen(text) == size && memcmp(word, text, size) == 0)
            return place;
    }
    return 0;
}

/* A quantity that was parsed must lie in the option's range; `show` writes its ends. */
static int check_range(const struct option *o, const char *text, uint64_t n, char *(*show)(char *, uint64_t),
                       struct err *e)
{
    char min[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];
    if (n < o->min && o->max == UINT64_MAX)
        return err_set(e, STATUS_USAGE, "'%s' is too small: at least %s", text, show(min, o->min));
    if (n < o->min || n > o->max)
        return err_set(e, STATUS_USAGE, "'%s' is out of range: %s to %s", text, show(min, o->min),
                       show(max, o->max));
    return 0;
}

static int parse_duration(const struct option *o, const char *text, uint64_t *number, struct err *e)
{
    if (duration_parse(text, number, e) != 0)
        return STATUS_USAGE;
    return check_range(o, text, *number, duration_format, e);
}

/* How often, as messages per 1,000 seconds. */
static int parse_rate(const char *text, uint64_t *number, struct err *e)
{
    *number = 0;
    if (strcmp(text, "none") == 0)
        return 0;
    char *end = NULL;
    double n = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
    double per = end == NULL              ? 0
                 : strcmp(end, "/s") == 0 ? 1
                 : strcmp(end, "/m") == 0 ? 60
                 : strcmp(end, "/h") == 0 ? 3600
                                          : 0;
    double milli = per > 0 ? n * 1000 / per : -1;
    if (!(milli >= 0.5 && milli <= UINT32_MAX))
        return err_set(e, STATUS_USAGE, "'%s' is no rate: 50/s, 0.5/s, 100/m, or none", text);
    *number = (uint64_t)(milli + 0.5);
    return 0;
}

static const char *what_of(const char *metavariable)
{
    return strcmp(metavariable, "GROUP") == 0 ? "group" : strcmp(metavariable, "HANDLER") == 0 ? "handler" : "topic";
}

int option_parse(const struct option *o, const char *text, uint64_t *number, struct err *e)
{
    *number = 0;
    switch (o->kind) {
    case OPTION_SWITCH:
    case OPTION_TEXT:
        return 0;
    case OPTION_NAME:
        return name_check(what_of(o->value), view_of_str(text), e) != 0 ? STATUS_USAGE : 0;
    case OPTION_COUNT:
        return count_parse(text, o->min, o->max, number, e) != 0 ? STATUS_USAGE : 0;
    case OPTION_TERM:
        *number = UINT64_MAX;
        if (strcmp(text, "forever") == 0 || strcmp(text, "none") == 0 || strcmp(text, "off") == 0)
            return 0;
        return parse_duration(o, text, number, e);
    case OPTION_DURATION:
        return parse_duration(o, text, number, e);
    case OPTION_SIZE:
        *number = UINT64_MAX;
        if (o->max == UINT64_MAX && strcmp(text, "none") == 0)
            return 0;
        if (size_parse(text, number, e) != 0)
            return STATUS_USAGE;
        return check_range(o, text, *number, size_format, e);
    case OPTION_RATE:
        return parse_rate(text, number, e);
    case OPTION_TIME:
        return time_parse(text, clock_wall_ms(), number, e) != 0 ? STATUS_USAGE : 0;
    case OPTION_CHOICE:
        *number = choice_place(o->value, text);
        if (*number == 0)
            return err_set(e, STATUS_USAGE, "'%s' is not one of %s", text, o->value);
        return 0;
    }
    return 0;
}

/* ---- the line, taken apart ---- */

/* One step through argv: a word, or an option with its value. */
struct token {
    bool is_option;
    const struct option *option; /* NULL: there is no such option */
    const char *shown;           /* the option as it was written, for errors */
    size_t shown_size;
    const char *value; /* NULL: none, though one may be needed */
    const char *word;
};

struct line {
    int argc;
    char **argv;
    int at;
    const char *letters; /* what is left of "-abc" */
    bool ended;          /* "--" was passed */
};

/* Takes the value that an option needs: attached, or the next argument, whatever that looks like. */
static const char *take_value(struct line *l, const char *attached)
{
    if (attached != NULL)
        return attached;
    return l->at < l->argc ? l->argv[l->at++] : NULL;
}

static void next_letter(struct line *l, const struct command *command, struct token *t)
{
    t->is_option = true;
    t->shown = l->letters;
    t->shown_size = 1;
    t->option = command_letter(command, *l->letters++);
    const char *rest = *l->letters != '\0' ? l->letters : NULL;
    if (t->option == NULL || t->option->kind == OPTION_SWITCH) {
        l->letters = rest;
        return;
    }
    l->letters = NULL;
    t->value = take_value(l, rest);
}

static void next_long(struct line *l, const struct command *command, const char *arg, struct token *t)
{
    const char *name = arg + 2, *equals = strchr(name, '=');
    t->is_option = true;
    t->shown = arg;
    t->shown_size = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    t->option = command_option(command, name, t->shown_size - 2);
    const char *attached = equals != NULL ? equals + 1 : NULL;
    if (t->option == NULL || t->option->kind == OPTION_SWITCH)
        t->value = attached;
    else
        t->value = take_value(l, attached);
}

/* The next token, options as `command` has them (NULL: as any command does); false at the end of the line. */
static bool next_token(struct line *l, const struct command *command, struct token *t)
{
    memset(t, 0, sizeof *t);
    if (l->letters != NULL) {
        next_letter(l, command, t);
        return true;
    }
    if (!l->ended && l->at < l->argc && strcmp(l->argv[l->at], "--") == 0) {
        l->ended = true;
        l->at++;
    }
    if (l->at >= l->argc)
        return false;
    const char *arg = l->argv[l->at++];
    if (l->ended || arg[0] != '-' || arg[1] == '\0') {
        t->word = arg;
    } else if (arg[1] == '-') {
        next_long(l, command, arg, t);
    } else {
        l->letters = arg + 1;
        next_letter(l, command, t);
    }
    return true;
}

/* Finds noun, verb and whether help or version is asked for, before it is known which options the command has. `unknown`
   is set to the first option that no command has: what follows it may be its value, and no word. */
static void find_words(struct args *a, int argc, char **argv, struct token *unknown)
{
    struct line l = {.argc = argc, .argv = argv, .at = 1};
    for (struct token t; next_token(&l, NULL, &t);) {
        if (t.word != NULL) {
            if (a->noun == NULL)
                a->noun = t.word;
            else if (a->verb == NULL && noun_has_verbs(a->noun))
                a->verb = t.word;
        } else if (t.option == NULL) {
            if (!unknown->is_option)
                *unknown = t;
        } else if (strcmp(t.option->name, "help") == 0) {
            a->wants_help = true;
        } else if (strcmp(t.option->name, "version") == 0) {
            a->wants_version = true;
        }
    }
}

/* ---- refusals ---- */

/* "unknown verb 'creat'; did you mean 'create'?" */
static int refuse_word(struct err *e, const char *what, const char *word, const char *const *known,
                       size_t known_count)
{
    const char *near = nearest(word, known, known_count);
    if (near != NULL)
        return err_set(e, STATUS_USAGE, "unknown %s '%.60s'; did you mean '%s'?", what, word, near);
    return err_set(e, STATUS_USAGE, "unknown %s '%.60s'", what, word);
}

static int refuse_noun(const struct args *a, struct err *e)
{
    const char *known[64];
    size_t count = 0;
    for (size_t i = 0; i < commands_count && count < ARRAY_LEN(known); i++)
        known[count++] = commands[i].noun;
    return refuse_word(e, "command", a->noun, known, count);
}

static int refuse_verb(const struct args *a, struct err *e)
{
    const char *known[64];
    size_t count = 0;
    for (size_t i = 0; i < commands_count && count < ARRAY_LEN(known); i++) {
        if (strcmp(commands[i].noun, a->noun) == 0)
            known[count++] = commands[i].verb;
    }
    if (a->verb == NULL)
        return err_set(e, STATUS_USAGE, "%s: a verb is missing", a->noun);
    if (refuse_word(e, "verb", a->verb, known, count) != 0)
        err_prefix(e, "%s", a->noun);
    return STATUS_USAGE;
}

/* Names of options, gathered to look for the nearest. */
struct known {
    const char *names[128];
    size_t count;
};

static void know(struct known *k, const struct option *list)
{
    for (; list->name != NULL && k->count < ARRAY_LEN(k->names); list++)
        k->names[k->count++] = list->name;
}

static int refuse_option(const struct args *a, const struct token *t, struct err *e)
{
    if (t->shown[0] != '-')
        return err_set(e, STATUS_USAGE, "unknown option '-%c'", t->shown[0]);
    struct known known = {.count = 0};
    know(&known, options_everywhere);
    for (size_t i = 0; i < commands_count; i++) {
        if (a->command == NULL || a->command == &commands[i])
            know(&known, commands[i].options);
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(t->shown_size - 2), t->shown + 2);
    const char *near = nearest(name, known.names, known.count);
    if (near != NULL)
        return err_set(e, STATUS_USAGE, "unknown option '--%s'; did you mean '--%s'?", name, near);
    return err_set(e, STATUS_USAGE, "unknown option '--%s'", name);
}

/* ---- the line, checked ---- */

static int add_option(struct args *a, const struct token *t, struct err *e)
{
    if (t->option == NULL)
        return refuse_option(a, t, e);
    const char *name = t->option->name;
    if (t->option->kind == OPTION_SWITCH && t->value != NULL)
        return err_set(e, STATUS_USAGE, "--%s takes no value", name);
    if (t->option->kind != OPTION_SWITCH && t->value == NULL)
        return err_set(e, STATUS_USAGE, "--%s needs a value: %s", name, t->option->value);
    struct arg arg = {.option = t->option, .text = t->value};
    if (t->value != NULL && option_parse(t->option, t->value, &arg.number, e) != 0) {
        err_prefix(e, "--%s", name);
        return STATUS_USAGE;
    }
    a->given = mem_resize(a->given, a->given_count + 1, sizeof *a->given);
    a->given[a->given_count++] = arg;
    return 0;
}

/* Whether a NAME of the noun follows the rule of names; what a schedule is called does not. */
static bool noun_is_named(const char *noun)
{
    return strcmp(noun, "sched") != 0;
}

/* An operand by its name in the table: those that are names are checked as names. */
static int check_operand(const struct args *a, const char *word, size_t word_size, const char *operand,
                         struct err *e)
{
    const char *what = NULL;
    if (word_size == 4 && memcmp(word, "NAME", 4) == 0 && noun_is_named(a->noun))
        what = a->noun;
    else if (word_size == 5 && memcmp(word, "TOPIC", 5) == 0)
        what = "topic";
    else if (word_size == 5 && memcmp(word, "GROUP", 5) == 0)
        what = "group";
    return what != NULL && name_check(what, view_of_str(operand), e) != 0 ? STATUS_USAGE : 0;
}

static int check_operands(const struct args *a, struct err *e)
{
    const char *at = a->command->operands, *word;
    size_t n = 0;
    bool any = false;
    for (size_t size; (size = word_next(&at, " ", &word)) != 0;) {
        bool optional = word[0] == '[';
        any = any || memmem(word, size, "...", 3) != NULL;
        if (n == a->operands_count) {
            if (optional)
                continue;
            return err_set(e, STATUS_USAGE, "%.*s is missing", (int)size, word);
        }
        if (check_operand(a, word + optional, size - 2 * optional, a->operands[n++], e) != 0)
            return STATUS_USAGE;
    }
    if (n < a->operands_count && !any)
        return err_set(e, STATUS_USAGE, "'%.60s' is one word too many", a->operands[n]);
    return 0;
}

static int check_required(const struct args *a, struct err *e)
{
    for (const struct option *o = a->command->options; o->name != NULL; o++) {
        if ((o->flags & OPTION_REQUIRED) != 0 && args_find(a, o->name) == NULL)
            return err_set(e, STATUS_USAGE, "--%s %s is missing", o->name, o->value);
    }
    return 0;
}

/* Reads the line again, now as the command's: the words that name it were seen. */
static int check_line(struct args *a, int argc, char **argv, struct err *e)
{
    struct line l = {.argc = argc, .argv = argv, .at = 1};
    size_t names = a->command->verb != NULL ? 2 : 1;
    for (struct token t; next_token(&l, a->command, &t);) {
        if (t.is_option) {
            if (add_option(a, &t, e) != 0)
                return STATUS_USAGE;
        } else if (names > 0) {
            names--;
        } else {
            a->operands[a->operands_count++] = t.word;
        }
    }
    return check_operands(a, e) != 0 || check_required(a, e) != 0 ? STATUS_USAGE : 0;
}

int args_parse(struct args *a, int argc, char **argv, struct err *e)
{
    memset(a, 0, sizeof *a);
    a->operands = mem_array((size_t)argc + 1, sizeof *a->operands);

    struct token unknown = {0};
    find_words(a, argc, argv, &unknown);
    if (a->noun == NULL && (a->wants_help || a->wants_version))
        return 0;
    if (a->noun == NULL)
        return err_set(e, STATUS_USAGE, "a command is missing");
    if (!noun_exists(a->noun))
        return unknown.is_option ? refuse_option(a, &unknown, e) : refuse_noun(a, e);
    a->command = command_find(a->noun, a->verb);
    if (a->wants_help && (a->command != NULL || a->verb == NULL))
        return 0;
    if (a->command == NULL)
        return refuse_verb(a, e);
    if (a->wants_version)
        return 0;
    if (check_line(a, argc, argv, e) == 0)
        return 0;
    err_prefix(e, "%s%s%s", a->noun, a->verb != NULL ? " " : "", a->verb != NULL ? a->verb : "");
    return STATUS_USAGE;
}

void args_free(struct args *a)
{
    mem_free(a->given);
    mem_free(a->operands);
    memset(a, 0, sizeof *a);
}

/* ---- questions ---- */

const struct arg *args_find(const struct args *a, const char *name)
{
    const struct option *o = command_option(a->command, name, strlen(name));
    assert(o != NULL);
    for (size_t i = a->given_count; i > 0; i--) {
        if (a->given[i - 1].option == o)
            return &a->given[i - 1];
    }
    return NULL;
}

bool args_has(const struct args *a, const char *name)
{
    return args_find(a, name) != NULL;
}

const char *args_text(const struct args *a, const char *name, const char *otherwise)
{
    const struct arg *arg = args_find(a, name);
    return arg != NULL ? arg->text : otherwise;
}

uint64_t args_number(const struct args *a, const char *name, uint64_t otherwise)
{
    const struct arg *arg = args_find(a, name);
    return arg != NULL ? arg->number : otherwise;
}

const char *args_operand(const struct args *a, size_t n)
{
    return n < a->operands_count ? a->operands[n] : NULL;
}

bool args_json(const struct args *a)
{
    return args_number(a, "output", 1) == 2;
}
