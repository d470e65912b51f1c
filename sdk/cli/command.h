/*
 * What the command can do: one table of commands with their operands and options. Parsing, checks, help, usage lines
 * and completion all read it; nothing else lists a word.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the process ends with. */
enum status {
    STATUS_OK = 0,
    STATUS_ERROR = 1,
    STATUS_USAGE = 2,
    STATUS_NOT_FOUND = 3,
    STATUS_NOT_ALLOWED = 4,
    STATUS_TIMEOUT = 5,
    STATUS_CONFLICT = 6,
    STATUS_UNHEALTHY = 10,
};

/* How the text of a value becomes the number beside it. */
enum option_kind {
    OPTION_SWITCH,   /* takes no value */
    OPTION_TEXT,     /* any text; no number */
    OPTION_NAME,     /* of a topic or group, by `value`: TOPIC, GROUP or HANDLER; no number */
    OPTION_COUNT,    /* a whole number from min to max */
    OPTION_DURATION, /* milliseconds from min to max */
    OPTION_TERM,     /* a duration, or "forever", "none", "off": UINT64_MAX */
    OPTION_SIZE,     /* bytes from min to max; "none" is UINT64_MAX, if that is the max */
    OPTION_RATE,     /* "50/s", "0.5/s", "100/m": per 1,000 seconds; "none" is 0 */
    OPTION_TIME,     /* milliseconds since 1970 */
    OPTION_CHOICE,   /* one of the words in `value`; the number is its place, from 1 */
};

enum option_flag {
    OPTION_REPEAT = 1,   /* may be given more than once; otherwise the last one counts */
    OPTION_REQUIRED = 2, /* must be given */
};

struct option {
    const char *name; /* without dashes; NULL ends a list */
    char letter;      /* 0: none */
    int flags;        /* enum option_flag */
    enum option_kind kind;
    const char *value; /* as help shows it: "N", "D", "disk|os"; NULL for a switch */
    const char *help;
    uint64_t min, max;
};

struct args;

struct command {
    const char *noun;
    const char *verb;     /* NULL: the noun alone */
    const char *operands; /* "NAME", "TOPIC [FILE]", "SHELL [WORD...]"; "" for none */
    const char *summary;  /* a line of help */
    const char *details;  /* paragraphs of `help NOUN VERB`; NULL: the summary says it all */
    const struct option *options;
    int (*run)(const struct args *a); /* returns what the process ends with */
};

extern const struct command commands[];
extern const size_t commands_count;

/* The options that every command has. */
extern const struct option options_everywhere[];

/* The command of these words, or NULL. */
const struct command *command_find(const char *noun, const char *verb);

/* Whether the noun exists, and if so whether a verb follows it. */
bool noun_exists(const char *noun);
bool noun_has_verbs(const char *noun);

/* The option of this name or letter that the command has, its own or everybody's; NULL if it has none. A `command` of NULL
   stands for all of them: options of one name take a value in every command or in none. */
const struct option *command_option(const struct command *command, const char *name, size_t name_size);
const struct option *command_letter(const struct command *command, char letter);

/* What each file does. */
int topic_create(const struct args *a);
int topic_ls(const struct args *a);
int topic_show(const struct args *a);
int topic_alter(const struct args *a);
int topic_rm(const struct args *a);
int produce(const struct args *a);
int consume(const struct args *a);
int group_create(const struct args *a);
int group_ls(const struct args *a);
int group_show(const struct args *a);
int group_lag(const struct args *a);
int group_alter(const struct args *a);
int group_pause(const struct args *a);
int group_resume(const struct args *a);
int group_purge(const struct args *a);
int group_replay(const struct args *a);
int group_seek(const struct args *a);
int group_rm(const struct args *a);
int dlq_ls(const struct args *a);
int dlq_peek(const struct args *a);
int dlq_redrive(const struct args *a);
int dlq_drop(const struct args *a);
int task_ls(const struct args *a);
int task_cancel(const struct args *a);
int sched_ls(const struct args *a);
int sched_rm(const struct args *a);
int sched_move(const struct args *a);
int explain(const struct args *a);
int worker_ls(const struct args *a);
int worker_scale(const struct args *a);
int worker_pause(const struct args *a);
int worker_resume(const struct args *a);
int handler_check(const struct args *a);
int handler_run(const struct args *a);
int backup(const struct args *a);
int health(const struct args *a);
int completion(const struct args *a);
int help(const struct args *a);

#endif
