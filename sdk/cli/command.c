#include "cli/command.h"

#include <string.h>

#include "base/macros.h"

enum { LEASE_MS_MIN = 100, LEASE_MS_MAX = 43200000, PARALLEL_MAX = 512, MS_MAX = 0xfffffffe };

/* clang-format off: tables */

#define SWITCH(name, letter, help)                       \
    {                                                    \
        name, letter, 0, OPTION_SWITCH, NULL, help, 0, 0 \
    }
#define TEXT(name, letter, flags, value, help)              \
    {                                                       \
        name, letter, flags, OPTION_TEXT, value, help, 0, 0 \
    }
#define NAME(name, letter, flags, value, help)              \
    {                                                       \
        name, letter, flags, OPTION_NAME, value, help, 0, 0 \
    }
#define CHOICE(name, letter, value, help)                 \
    {                                                     \
        name, letter, 0, OPTION_CHOICE, value, help, 0, 0 \
    }
#define NUMBER(name, letter, kind, value, min, max, help) \
    {                                                     \
        name, letter, 0, kind, value, help, min, max      \
    }
#define END \
    {       \
        0   \
    }

const struct option options_everywhere[] = {
    TEXT("broker", 'b', 0, "URL", "default $SLUICE_BROKER, then tcp://127.0.0.1:7400"),
    CHOICE("output", 'o', "text|json", "text for people, or one JSON object a line"),
    NUMBER("timeout", 0, OPTION_DURATION, "D", 1, MS_MAX,
           "how long to wait for the broker; default 10s, health 1s"),
    SWITCH("help", 'h', "what the command does"),
    SWITCH("version", 0, "which version this is"),
    END,
};

#define DRY_RUN SWITCH("dry-run", 0, "say what would be destroyed, and leave it")
#define YES SWITCH("yes", 0, "do it without asking")
#define TOPIC NAME("topic", 0, 0, "TOPIC", "the group's topic, where several have a group of that name")

static const struct option none[] = {END};

/* ---- topic ---- */

static const struct option topic_create_options[] = {
    NUMBER("partitions", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "how many logs it is spread over; default 1"),
    NUMBER("retention", 0, OPTION_TERM, "D", 1, UINT64_MAX,
           "how long messages are kept, or forever; default 7d"),
    NUMBER("retention-bytes", 0, OPTION_SIZE, "S", 1, UINT64_MAX,
           "how many bytes are kept; default no bound"),
    CHOICE("durability", 0, "disk|os", "what an ack means: synced (default), or written"),
    TEXT("set", 0, OPTION_REPEAT, "KEY=VALUE", "any setting by its name"),
    END,
};
static const char topic_create_details[] =
    "Makes a topic. One that exists with the same settings is left as it is; with other\n"
    "settings it is exit 6.\n"
    "\n"
    "Settings for --set: retention, retention-bytes, durability as below; hard-cap, the age at\n"
    "which even a durable group holds nothing back (default 30d); compacted (true or false);\n"
    "message-bytes-max (default 1MiB, at most 64MiB); backlog-bytes-max (default no bound).";

static const struct option destroy_options[] = {DRY_RUN, YES, END};

/* ---- messages ---- */

static const struct option produce_options[] = {
    TEXT("key", 'k', 0, "KEY", "the key of every message"),
    TEXT("key-separator", 'K', 0, "SEP", "the key stands before the first SEP of a line (\\t: tab)"),
    TEXT("header", 'H', OPTION_REPEAT, "NAME=VALUE", "a header of every message"),
    NUMBER("delay", 0, OPTION_DURATION, "D", 1, UINT64_MAX, "messages become visible only then"),
    TEXT("message-id", 0, 0, "ID", "a repeat of the message under this id has no effect"),
    END,
};
static const char produce_details[] =
    "Publishes each line of FILE, or of standard input (-), as a message, and prints where the\n"
    "acknowledged ones are. A line may hold any bytes; an empty one is an empty message, and the\n"
    "last one needs no newline. At the first line that fails it stops, prints what was\n"
    "acknowledged, and names the line.";

static const struct option consume_options[] = {
    NAME("group", 'g', 0, "GROUP", "consume as this group; without it the log is read"),
    NUMBER("count", 'n', OPTION_COUNT, "N", 1, UINT64_MAX, "stop after so many messages"),
    NUMBER("partition", 0, OPTION_COUNT, "P", 0, UINT32_MAX, "read only this partition"),
    TEXT("from", 0, 0, "start|end|OFFSET|TIME",
         "where reading begins (2026-11-22T04:32:39Z, -15m); default end"),
    SWITCH("exit-at-end", 0, "stop where the log ended; with -g when there is no work left"),
    TEXT("format", 0, 0, "FORMAT", "what to print of a message; default '%v\\n'"),
    TEXT("exec", 0, 0, "CMD", "with -g: run CMD for each message, its value on stdin"),
    NUMBER("parallel", 0, OPTION_COUNT, "N", 1, PARALLEL_MAX, "with --exec: how many at once; default 1"),
    END,
};
static const char consume_details[] =
    "Without -g: reads the log and changes nothing. Each partition's messages come in order.\n"
    "With -g: leases messages of a queue group, prints them, and acknowledges each once it is\n"
    "written. No more are leased than are handed out. Ctrl-C gives leases back, and is exit 0.\n"
    "\n"
    "--format: %t topic  %p partition  %o offset  %k key  %v value  %h headers  %T timestamp\n"
    "%a attempt  %% percent; \\n newline  \\t tab  \\r  \\0  \\\\  \\xHH a byte. No newline is added.\n"
    "\n"
    "--exec: /bin/sh runs CMD, with SLUICE_TOPIC, SLUICE_PARTITION, SLUICE_OFFSET, SLUICE_ATTEMPT,\n"
    "SLUICE_KEY (unset if there is no key) and SLUICE_HEADER_<NAME> in its environment. Exit 0\n"
    "acknowledges the message, 75 retries it later, anything else is a failure with the last line\n"
    "of its standard error as the reason. The lease is extended while it runs; it is killed if this\n"
    "command ends, and what it was killed at is given back.";

/* ---- group ---- */

static const struct option group_create_options[] = {
    NAME("topic", 0, OPTION_REQUIRED, "TOPIC", "the topic that it reads"),
    CHOICE("mode", 0, "queue|stream", "leased one by one (default), or partitions owned"),
    CHOICE("order", 0, "key|none", "messages of a key in order (default), or no order"),
    NUMBER("lease", 0, OPTION_DURATION, "D", LEASE_MS_MIN, LEASE_MS_MAX,
           "how long a message is a consumer's; default 30s"),
    NUMBER("max-deliveries", 0, OPTION_COUNT, "N", 1, 1000, "failures until it is a dead letter; default 5"),
    CHOICE("park", 0, "message|key", "a dead letter lets its key go on (default), or holds it"),
    CHOICE("from", 0, "start|end", "where the group begins; default start"),
    NUMBER("backoff-min", 0, OPTION_DURATION, "D", 1, MS_MAX, "the first retry waits up to this; default 1s"),
    NUMBER("backoff-max", 0, OPTION_DURATION, "D", 1, MS_MAX, "no retry waits longer; default 5m"),
    END,
};
static const struct option group_options[] = {TOPIC, END};
static const struct option group_lag_options[] = {
    TOPIC,
    SWITCH("watch", 0, "again each second, until interrupted"),
    END,
};
static const char group_lag_details[] =
    "How far a group is behind; without GROUP, every group. LAG counts what is not done: waiting,\n"
    "in flight, delayed. SCALE is what a scaler looks at: what can be worked on now, and what is.\n"
    "STATUS is OK, WARN or STALL.";
static const struct option group_rm_options[] = {TOPIC, DRY_RUN, YES, END};

/* ---- dlq ---- */

static const struct option dlq_ls_options[] = {
    NAME("group", 'g', OPTION_REQUIRED, "GROUP", "the group that gave up on them"),
    NUMBER("count", 'n', OPTION_COUNT, "N", 1, UINT64_MAX, "at most so many"),
    END,
};

static const char completion_details[] =
    "Prints what makes a shell complete this command's words:\n"
    "\n"
    "  source <(sluice completion bash)                 in ~/.bashrc\n"
    "  source <(sluice completion zsh)                  in ~/.zshrc, after compinit\n"
    "  sluice completion fish | source                  in ~/.config/fish/config.fish";

const struct command commands[] = {
    {"topic", "create", "NAME", "make a topic", topic_create_details, topic_create_options, topic_create},
    {"topic", "ls", "", "list topics", NULL, none, topic_ls},
    {"topic", "show", "TOPIC", "a topic's settings and partitions", NULL, none, topic_show},
    {"topic", "alter", "TOPIC", "change a topic's settings (not in this version)", NULL, topic_create_options,
     topic_alter},
    {"topic", "rm", "TOPIC", "delete a topic, its messages and its groups", NULL, destroy_options, topic_rm},
    {"produce", NULL, "TOPIC [FILE]", "publish lines as messages", produce_details, produce_options, produce},
    {"consume", NULL, "TOPIC", "read messages, or work on them as a group", consume_details, consume_options,
     consume},
    {"group", "create", "NAME", "make a consumer group", NULL, group_create_options, group_create},
    {"group", "ls", "", "list groups", NULL, group_options, group_ls},
    {"group", "show", "GROUP", "a group's settings", NULL, group_options, group_show},
    {"group", "lag", "[GROUP]", "how far groups are behind", group_lag_details, group_lag_options, group_lag},
    {"group", "rm", "GROUP", "delete a group and what it knows", NULL, group_rm_options, group_rm},
    {"dlq", "ls", "TOPIC", "list a group's dead letters", NULL, dlq_ls_options, dlq_ls},
    {"health", NULL, "", "whether the broker is well: exit 0, or 10", NULL, none, health},
    {"completion", NULL, "bash|zsh|fish [WORD...]", "what makes a shell complete these words",
     completion_details, none, completion},
    {"help", NULL, "[NOUN] [VERB]", "this, or what a command does", NULL, none, help},
};
/* clang-format on */

const size_t commands_count = ARRAY_LEN(commands);

const struct command *command_find(const char *noun, const char *verb)
{
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        if (strcmp(c->noun, noun) == 0 &&
            (c->verb == NULL ? verb == NULL : verb != NULL && strcmp(c->verb, verb) == 0))
            return c;
    }
    return NULL;
}

static const struct command *noun_first(const char *noun)
{
    for (size_t i = 0; i < commands_count; i++) {
        if (strcmp(commands[i].noun, noun) == 0)
            return &commands[i];
    }
    return NULL;
}

bool noun_exists(const char *noun)
{
    return noun_first(noun) != NULL;
}

bool noun_has_verbs(const char *noun)
{
    const struct command *first = noun_first(noun);
    return first != NULL && first->verb != NULL;
}

/* Looks through one list, by name if that is not NULL, else by letter. */
static const struct option *list_option(const struct option *list, const char *name, size_t name_size,
                                        char letter)
{
    for (const struct option *o = list; o->name != NULL; o++) {
        if (name != NULL ? strncmp(o->name, name, name_size) == 0 && o->name[name_size] == '\0'
                         : o->letter != 0 && o->letter == letter)
            return o;
    }
    return NULL;
}

static const struct option *find_option(const struct command *command, const char *name, size_t name_size,
                                        char letter)
{
    const struct option *found = list_option(options_everywhere, name, name_size, letter);
    if (command != NULL)
        return found != NULL ? found : list_option(command->options, name, name_size, letter);
    for (size_t i = 0; found == NULL && i < commands_count; i++)
        found = list_option(commands[i].options, name, name_size, letter);
    return found;
}

const struct option *command_option(const struct command *command, const char *name, size_t name_size)
{
    return find_option(command, name, name_size, 0);
}

const struct option *command_letter(const struct command *command, char letter)
{
    return find_option(command, NULL, 0, letter);
}
