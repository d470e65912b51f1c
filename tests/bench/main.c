/* sluice-bench: measures a broker, ours or a peer's. See docs/performance.md. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "ours.h"

enum { EXIT_USAGE = 2 };

static const struct command {
    const char *name, *help;
    command_fn *fn;
} commands[] = {
#define COMMAND(name, help) {#name, help, command_##name},
#include "commands.def"
#undef COMMAND
};

static const size_t commands_count = sizeof commands / sizeof *commands;

static void help(FILE *out)
{
    fprintf(out, "Usage: sluice-bench COMMAND [OPTION]..\n\nCommands:\n");
    for (size_t i = 0; i < commands_count; i++)
        if (commands[i].help[0] != '\0') /* else it is what the bench starts itself */
            fprintf(out, "  %-22s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\nOptions:\n");
    options_help(out);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.report.out = stdout};
    struct err e = {0};
    if (argc == 2 && asks_for_help(argv[1])) {
        help(stdout);
        return 0;
    }
    const struct command *c = argc > 1 ? find(argv[1]) : NULL;
    if (c == NULL) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (options_read(&b.o, argc - 1, argv + 1, &e) != 0) {
        fprintf(stderr, "sluice-bench: %s\n", e.text);
        return EXIT_USAGE;
    }
    b.report.json = b.o.json;
    ours_bin = b.o.bin;
    servers_begin();
    if (c->fn(&b, &e) == 0)
        return 0;
    fprintf(stderr, "sluice-bench: %s\n", e.text);
    return 1;
}
