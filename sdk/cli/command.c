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
    TEXT("tls-ca", 0, 0, "FILE", "who may have signed a tls+tcp broker's certificate (PEM)"),
    TEXT("tls-cert", 0, 0, "FILE", "our own certificate and key, if it asks (PEM)"),
    CHOICE("output", 'o', "text|json", "text for people, or one JSON object a line"),
    NUMBER("timeout", 0, OPTION_DURATION, "D", 1, MS_MAX,
           "how long to wait for the broker; default 10s, health 1s; and not for one that is not there"),
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
    "which even a durable group holds nothing back (default 30d); compacted (true or false): of\n"
    "each key only the last message is kept, and each needs a key;\n"
    "message-bytes-max (default 1MiB, at most 64MiB); backlog-bytes-max and backlog-age-max, what\n"
    "queue groups may leave undone until producers are refused (or none); dedup, how long a\n"
    "message id is known (or off); ttl, after which messages expire that name no other (or none).";
static const char topic_alter_details[] =
    "Changes what is named and leaves the rest. The settings are those of `topic create`. What\n"
    "cannot change is refused by name. Partitions grow by a whole factor; keys keep their order,\n"
    "and who publishes or works meanwhile need not know.";

static const struct option destroy_options[] = {DRY_RUN, YES, END};

/* ---- messages ---- */

static const struct option produce_options[] = {
    TEXT("key", 'k', 0, "KEY", "the key of every message"),
    TEXT("key-separator", 'K', 0, "SEP", "the key stands before the first SEP of a line (\\t: tab)"),
    TEXT("header", 'H', OPTION_REPEAT, "NAME=VALUE", "a header of every message"),
    NUMBER("delay", 0, OPTION_DURATION, "D", 1, UINT64_MAX, "they come so much later"),
    NUMBER("at", 0, OPTION_TIME, "TIME", 0, 0, "they come then (2026-11-22T04:32:39Z)"),
    TEXT("cron", 0, 0, "EXPR", "a copy comes each time: minute hour day month weekday, UTC"),
    TEXT("name", 0, 0, "N", "what the one that waits is called, for sched rm and move"),
    NUMBER("ttl", 0, OPTION_DURATION, "D", 1, UINT32_MAX, "they expire after so long"),
    NUMBER("priority", 0, OPTION_COUNT, "N", 0, 9, "9 is handed out before 0; default 0"),
    TEXT("message-id", 0, 0, "ID", "a repeat of the message under this id has no effect"),
    END,
};
static const char produce_details[] =
    "Publishes each line of FILE, or of standard input (-), as a message, and prints where the\n"
    "acknowledged ones are. A line may hold any bytes; an empty one is an empty message, and the\n"
    "last one needs no newline. At the first line that fails it stops, prints what was\n"
    "acknowledged, and names the line.\n"
    "\n"
    "With --delay, --at or --cron each message waits at the broker, on disk, and is listed by\n"
    "`sched ls`; it has an offset, and its place in its key, only when it comes. A --name that\n"
    "waits already is replaced. --name and --message-id are for one message.";

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
    TEXT("member", 0, 0, "NAME", "stream group: come back under this name, to the same partitions"),
    NUMBER("session-timeout", 0, OPTION_DURATION, "D", 100, UINT32_MAX, "stream group: not heard of for so long, others take over; default 10s"),
    END,
};
static const char consume_details[] =
    "Without -g: reads the log and changes nothing. Each partition's messages come in order, and\n"
    "partitions that the topic gets meanwhile are read too, from their start.\n"
    "With -g: leases messages of a queue group, prints them, and acknowledges each once it is\n"
    "written. No more are leased than are handed out. Ctrl-C gives leases back, and is exit 0.\n"
    "\n"
    "--format: %t topic  %p partition  %o offset  %k key  %v value  %h headers  %T timestamp\n"
    "%a attempt  %% percent; \\n newline  \\t tab  \\r  \\0  \\\\  \\xHH a byte. No newline is added.\n"
    "\n"
    "--exec: /bin/sh runs CMD, with SLUICE_TOPIC, SLUICE_GROUP, SLUICE_PARTITION, SLUICE_OFFSET,\n"
    "SLUICE_ATTEMPT, SLUICE_IDEMPOTENCY_KEY, SLUICE_KEY (unset if there is no key) and\n"
    "SLUICE_HEADER_<NAME> in its environment. Exit 0 acknowledges the message, 75 retries it later,\n"
    "65 makes it a dead letter at once, anything else is a failure; the last line of its standard\n"
    "error is kept. The lease is extended while it runs; it is killed if this command ends, and\n"
    "what it was killed at is given back.";

/* ---- group ---- */

/* Those that can be changed. */
#define GROUP_SETTINGS                                                                                                    \
    NUMBER("backoff-min", 0, OPTION_DURATION, "D", 1, MS_MAX, "the first retry waits up to this; default 1s"),            \
    NUMBER("backoff-max", 0, OPTION_DURATION, "D", 1, MS_MAX, "no retry waits longer; default 5m"),                       \
    NUMBER("run-max", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "messages of a key that one consumer may hold; default 1"),    \
    NUMBER("max-in-flight", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "messages leased at once"),                              \
    NUMBER("key-max-in-flight", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "the same, of one key (order none)"),                \
    NUMBER("rate", 0, OPTION_RATE, "N/s", 0, 0, "how many are handed out (50/s, 100/m, none)"),                           \
    NUMBER("key-rate", 0, OPTION_RATE, "N/s", 0, 0, "the same, of one key"),                                              \
    CHOICE("expired", 0, "drop|park", "what happens to a message whose ttl passed; default drop"),                        \
    NUMBER("idle-expiry", 0, OPTION_TERM, "D", 1, UINT64_MAX, "the group goes when unused for so long; default forever")

static const struct option group_create_options[] = {
    NAME("topic", 0, OPTION_REQUIRED, "TOPIC", "the topic that it reads"),
    CHOICE("mode", 0, "queue|stream", "leased one by one (default), or partitions owned"),
    CHOICE("order", 0, "key|none", "messages of a key in order (default), or no order"),
    NUMBER("lease", 0, OPTION_DURATION, "D", LEASE_MS_MIN, LEASE_MS_MAX,
           "how long a message is a consumer's; default 30s"),
    NUMBER("max-deliveries", 0, OPTION_COUNT, "N", 1, 1000, "failures until it is a dead letter; default 5"),
    CHOICE("park", 0, "message|key", "a dead letter lets its key go on (default), or holds it"),
    CHOICE("from", 0, "start|end|replay", "where it begins; default start. replay: only what is replayed into it"),
    GROUP_SETTINGS,
    END,
};
static const struct option group_alter_options[] = {
    TOPIC,
    NUMBER("lease", 0, OPTION_DURATION, "D", LEASE_MS_MIN, LEASE_MS_MAX, "how long a message is a consumer's"),
    NUMBER("max-deliveries", 0, OPTION_COUNT, "N", 1, 1000, "failures until it is a dead letter"),
    CHOICE("park", 0, "message|key", "a dead letter lets its key go on, or holds it"),
    GROUP_SETTINGS,
    END,
};
static const char group_alter_details[] =
    "Changes what is named and leaves the rest; leases that are out keep what they were granted\n"
    "under. Mode, order and where it began cannot change.";
static const char group_purge_details[] =
    "Gives up everything that waits in the group now, for good: it is done. Dead letters stay, and\n"
    "so do the messages in the log and what other groups have of them.";
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
static const struct option group_seek_options[] = {
    TOPIC,
    TEXT("to", 0, OPTION_REQUIRED, "start|end|OFFSET|TIME|group:NAME", "where it reads on (2026-11-22T04:32:39Z, -15m)"),
    NUMBER("partition", 0, OPTION_COUNT, "P", 0, UINT32_MAX, "only this partition"),
    SWITCH("dry-run", 0, "say where each partition would be, and change nothing"),
    END,
};
static const char group_seek_details[] =
    "Sets where a stream group reads, for all partitions or one: the start or end of the log, an\n"
    "offset, the first message appended at a time or later, or where another group of the topic is.\n"
    "It may go back: then messages come again. Its members read anew from there, and what they\n"
    "were about to commit is refused.";

/* ---- dlq ---- */

#define LETTERS                                                                                                           \
    NAME("group", 'g', OPTION_REQUIRED, "GROUP", "the group that gave up on them"),                                       \
    TEXT("key", 'k', 0, "KEY", "only those of this key"),                                                                 \
    TEXT("header", 'H', 0, "NAME[=VALUE]", "only those with this header"),                                                \
    TEXT("reason", 0, 0, "R", "only those parked for this reason"),                                                       \
    NUMBER("since", 0, OPTION_TIME, "TIME", 0, 0, "parked then or later (2026-11-22T04:32:39Z, -15m)"),                   \
    NUMBER("until", 0, OPTION_TIME, "TIME", 0, 0, "parked before"),                                                       \
    NUMBER("min-attempts", 0, OPTION_COUNT, "N", 0, UINT32_MAX, "with so many failures or more"),                         \
    NUMBER("max-attempts", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "with so many failures or fewer"),                        \
    TEXT("offset", 0, 0, "P:O", "only the one at this partition and offset")
#define TASK                                                                                                              \
    NUMBER("rate", 0, OPTION_RATE, "N/s", 0, 0, "at most so many (50/s, 100/m); default as fast as it goes"),             \
    NUMBER("limit", 0, OPTION_COUNT, "N", 1, UINT64_MAX, "stop after so many"),                                           \
    SWITCH("detach", 0, "print the task's number and do not wait for it")

static const struct option dlq_ls_options[] = {
    LETTERS,
    NUMBER("count", 'n', OPTION_COUNT, "N", 1, UINT64_MAX, "at most so many"),
    END,
};
static const struct option dlq_redrive_options[] = {
    LETTERS,
    TASK,
    SWITCH("dry-run", 0, "count them, and leave them"),
    END,
};
static const struct option dlq_drop_options[] = {LETTERS, TASK, DRY_RUN, YES, END};
static const char dlq_redrive_details[] =
    "Makes dead letters present again, each at its old place in its key, with its attempts at 0.\n"
    "All of the group, or those for which everything that is said holds. The broker does it, as a\n"
    "task that goes on over its restarts; this command waits for it and shows how far it is. If it\n"
    "is interrupted the task goes on: see `task ls`.";
static const char dlq_drop_details[] =
    "Gives up dead letters for good: all of the group, or those for which everything that is said\n"
    "holds. A task of the broker, as `dlq redrive` is.";

static const struct option group_replay_options[] = {
    TOPIC,
    TEXT("from", 0, 0, "start|OFFSET|TIME", "from this offset, or appended then or later (-2h); default start"),
    TEXT("to", 0, 0, "OFFSET|TIME", "before this offset, or appended before; default where the group is now"),
    NUMBER("partition", 0, OPTION_COUNT, "P", 0, UINT32_MAX, "only of this partition"),
    TEXT("key", 'k', 0, "KEY", "only those of this key"),
    TEXT("header", 'H', 0, "NAME[=VALUE]", "only those with this header"),
    SWITCH("parked", 0, "only dead letters"),
    SWITCH("failed", 0, "only dead letters, and what failed and waits for its retry"),
    NAME("of", 0, 0, "OTHER", "with --parked or --failed: what this group has of them"),
    NAME("into", 0, 0, "NEW", "make this group for them, and leave GROUP alone"),
    SWITCH("follow", 0, "with --into: it goes on with what is published from now on"),
    TASK,
    SWITCH("dry-run", 0, "count them, and leave them"),
    END,
};
static const char group_replay_details[] =
    "Has a queue group see again what it has done, or gave up on: everything, or what all that is\n"
    "said holds for. Messages of a key come in order, and never beside another of the key that\n"
    "somebody holds. What the group has not done is left as it is: it comes anyway. With --into a\n"
    "new group with the settings of GROUP gets them, and nothing else unless --follow. The broker\n"
    "does it, as a task that goes on over its restarts, and rests while a thousand of them wait;\n"
    "this command waits for it and shows how far it is. See `task ls`.";

/* ---- task, sched, explain ---- */

static const struct option sched_ls_options[] = {
    TEXT("name", 0, 0, "N", "only the one of this name"),
    NUMBER("count", 'n', OPTION_COUNT, "N", 1, UINT64_MAX, "at most so many"),
    END,
};
static const struct option sched_move_options[] = {
    NUMBER("delay", 0, OPTION_DURATION, "D", 1, UINT64_MAX, "so much later than now"),
    NUMBER("at", 0, OPTION_TIME, "TIME", 0, 0, "then (2026-11-22T04:32:39Z)"),
    END,
};
static const struct option explain_options[] = {
    NAME("group", 'g', OPTION_REQUIRED, "GROUP", "the group that does not get it"),
    TEXT("key", 'k', 0, "KEY", "of the next message of this key"),
    TEXT("offset", 0, 0, "P:O", "of the message at this partition and offset"),
    END,
};
static const char explain_details[] =
    "Says the one fact that keeps a message, the messages of a key, or a whole group from being\n"
    "delivered, and changes nothing.";

#define ON TEXT("on", 0, 0, "DAEMON", "only daemons of this name or host (*: any text)")

static const struct option worker_ls_options[] = {
    NAME("topic", 0, 0, "TOPIC", "only handlers of this topic"),
    NAME("handler", 0, 0, "HANDLER", "only handlers of this name"),
    ON,
    END,
};
static const struct option worker_scale_options[] = {
    NUMBER("min", 0, OPTION_COUNT, "N", 0, 65536, "processes that there are at least"),
    NUMBER("max", 0, OPTION_COUNT, "N", 1, 65536, "processes that there are at most"),
    ON,
    END,
};
static const struct option worker_options[] = {ON, END};
static const char worker_ls_details[] =
    "What each worker daemon says of its handlers, once a second. PROCS is how many processes are up,\n"
    "of how many there may be; RATE is messages done a second, ERRORS failures since the daemon\n"
    "started. STATE is starting, until a process was up; running; paused, by people; resting, because\n"
    "all it did failed; stopping; or gone, a daemon that is not heard of any more. \"asked\" beside it:\n"
    "what people asked of it is on its way.";
static const char worker_scale_details[] =
    "Sets between how many processes each daemon runs for a handler, named or as TOPIC/GROUP, until\n"
    "the daemon ends. Waits until each daemon says that it took it, for as long as --timeout, and says\n"
    "which did: exit 5 if one did not, 1 if one could not, 3 if nobody runs such a handler.";
static const char worker_pause_details[] =
    "Each daemon that runs the handler, named or as TOPIC/GROUP, takes no more messages for it, and\n"
    "finishes what it has; until it is resumed, or the daemon ends. `group pause` is for good. Waits\n"
    "until each daemon says that it took it, as `worker scale` does.";

/* ---- handler ---- */

static const char handler_check_details[] =
    "Loads a handler's shared object in a process of its own, as sluice-workerd would, and prints\n"
    "name, version and entry points. Nothing of it is called but its constructors; if these crash\n"
    "that is said, and if they take longer than --timeout (default 10s) it is exit 5.";
static const struct option handler_run_options[] = {
    TEXT("config", 0, 0, "JSON", "what `config:` of sluice-workerd's file would be; default {}"),
    TEXT("key", 'k', 0, "KEY", "the key of every message"),
    TEXT("header", 'H', OPTION_REPEAT, "NAME=VALUE", "a header of every message"),
    NAME("topic", 0, 0, "TOPIC", "what messages say is their topic; default test"),
    NUMBER("attempt", 0, OPTION_COUNT, "N", 1, UINT32_MAX, "what they say is their attempt; default 1"),
    END,
};
static const char handler_run_details[] =
    "Hands each line of FILE, or of standard input (-), to a handler as a message, and prints what\n"
    "it makes of it: ack, retry, park, crash with the signal, or timeout. No broker is needed, and\n"
    "nothing is published or kept. The handler runs in a process of its own, which is started again\n"
    "after a crash; what it prints and logs goes to standard error. A message may take --timeout\n"
    "(default 30s).\n"
    "\n"
    "Exit 0 if every message was acknowledged, else 1.";

static const char completion_details[] =
    "Prints what makes a shell complete this command's words:\n"
    "\n"
    "  source <(sluice completion bash)                 in ~/.bashrc\n"
    "  source <(sluice completion zsh)                  in ~/.zshrc, after compinit\n"
    "  sluice completion fish | source                  in ~/.config/fish/config.fish";

static const char backup_details[] =
    "Makes a backup below the directory that the broker was given for it (backup_dir), named NAME or\n"
    "by the time, while the broker serves. What was acknowledged as on disk before is in it. It is a\n"
    "data directory: `sluice-broker --data` on a copy of it is the restore. It shares files with the\n"
    "broker's data, so it costs little space at first, and keeps what is deleted there later: copy it\n"
    "to another machine, and remove it. Large logs may need a longer --timeout.";

const struct command commands[] = {
    {"topic", "create", "NAME", "make a topic", topic_create_details, topic_create_options, topic_create},
    {"topic", "ls", "", "list topics", NULL, none, topic_ls},
    {"topic", "show", "TOPIC", "a topic's settings and partitions", NULL, none, topic_show},
    {"topic", "alter", "TOPIC", "change a topic's settings", topic_alter_details, topic_create_options, topic_alter},
    {"topic", "rm", "TOPIC", "delete a topic, its messages and its groups", NULL, destroy_options, topic_rm},
    {"produce", NULL, "TOPIC [FILE]", "publish lines as messages", produce_details, produce_options, produce},
    {"consume", NULL, "TOPIC", "read messages, or work on them as a group", consume_details, consume_options,
     consume},
    {"group", "create", "NAME", "make a consumer group", NULL, group_create_options, group_create},
    {"group", "ls", "", "list groups", NULL, group_options, group_ls},
    {"group", "show", "GROUP", "a group's settings, and a stream group's members", NULL, group_options, group_show},
    {"group", "alter", "GROUP", "change a group's settings", group_alter_details, group_alter_options, group_alter},
    {"group", "lag", "[GROUP]", "how far groups are behind", group_lag_details, group_lag_options, group_lag},
    {"group", "pause", "GROUP", "hand out nothing until it is resumed", NULL, group_options, group_pause},
    {"group", "resume", "GROUP", "hand out messages again", NULL, group_options, group_resume},
    {"group", "purge", "GROUP", "give up everything that waits", group_purge_details, group_rm_options, group_purge},
    {"group", "replay", "GROUP", "have it see messages again", group_replay_details, group_replay_options, group_replay},
    {"group", "seek", "GROUP", "set where a stream group reads", group_seek_details, group_seek_options, group_seek},
    {"group", "rm", "GROUP", "delete a group and what it knows", NULL, group_rm_options, group_rm},
    {"dlq", "ls", "TOPIC", "list a group's dead letters", NULL, dlq_ls_options, dlq_ls},
    {"dlq", "peek", "TOPIC", "show dead letters whole, one unless -n says more", NULL, dlq_ls_options, dlq_peek},
    {"dlq", "redrive", "TOPIC", "have them delivered again", dlq_redrive_details, dlq_redrive_options, dlq_redrive},
    {"dlq", "drop", "TOPIC", "give them up for good", dlq_drop_details, dlq_drop_options, dlq_drop},
    {"task", "ls", "[ID]", "redrives, drops and replays, and how far they are", NULL, none, task_ls},
    {"task", "cancel", "ID", "end a task; what it did stays done", NULL, none, task_cancel},
    {"sched", "ls", "[TOPIC]", "what waits for its time", NULL, sched_ls_options, sched_ls},
    {"sched", "rm", "TOPIC NAME", "it does not come any more", NULL, destroy_options, sched_rm},
    {"sched", "move", "TOPIC NAME", "it comes at another time", NULL, sched_move_options, sched_move},
    {"explain", NULL, "TOPIC", "what keeps a message from being delivered", explain_details, explain_options, explain},
    {"worker", "ls", "", "who runs which handlers", worker_ls_details, worker_ls_options, worker_ls},
    {"worker", "scale", "HANDLER", "set how many processes it has", worker_scale_details, worker_scale_options, worker_scale},
    {"worker", "pause", "HANDLER", "take no more messages for it", worker_pause_details, worker_options, worker_pause},
    {"worker", "resume", "HANDLER", "take messages again", NULL, worker_options, worker_resume},
    {"handler", "check", "X.so", "load a handler, and say what is in it", handler_check_details, none, handler_check},
    {"handler", "run", "X.so [FILE]", "try a handler on lines, without a broker", handler_run_details, handler_run_options, handler_run},
    {"backup", NULL, "[NAME]", "have the broker make a copy of its data", backup_details, none, backup},
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
