/* The `sluice` command: reads its line, does what the table says, ends with its status. */
#include <signal.h>
#include <string.h>

#include "cli/args.h"
#include "cli/help.h"
#include "cli/out.h"
#include "workerd/child.h"

static int run(const struct args *a)
{
    if (a->wants_help) {
        help_page(a->noun, a->command);
        return STATUS_OK;
    }
    if (a->wants_version) {
        out_text("sluice %s\n", SLUICE_VERSION);
        return STATUS_OK;
    }
    return a->command->run(a);
}

int main(int argc, char **argv)
{
    /* A reader that went away is found by the write that fails. */
    signal(SIGPIPE, SIG_IGN);

    if (argc == 3 && strcmp(argv[1], "--child") == 0) /* of `sluice handler run` */
        return child_main(argv[2]);
    struct args a;
    struct err e;
    int status = args_parse(&a, argc, argv, &e);
    if (status != 0) {
        talk("%s", e.text);
        help_after_error(&a);
    } else {
        status = run(&a);
    }
    progress_end();
    status = out_end(status);
    args_free(&a);
    return status;
}
