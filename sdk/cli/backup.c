/* sluice backup [NAME] */
#include <inttypes.h>

#include "cli/client.h"
#include "cli/out.h"

int backup(const struct args *a)
{
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    struct sluice_backup b = {.size = sizeof b};
    char text[UNITS_TEXT_MAX];
    if (sluice_backup(s, args_operand(a, 0), client_timeout_ms(a), &b, &err) != 0) {
        status = client_fail(&err, NULL, NULL);
    } else if (args_json(a)) {
        out_json(json_pack("{s:s, s:I, s:I, s:I, s:f}", "path", b.path, "turn", (json_int_t)b.turn, "bytes", (json_int_t)b.bytes, "files",
                           (json_int_t)b.files, "seconds", (double)b.took_ms / 1000));
    } else {
        sheet_line("path", "%s", b.path);
        sheet_line("turn", "%" PRIu64, b.turn);
        sheet_line("size", "%s in %" PRIu64 " files", short_bytes(text, b.bytes), b.files);
        sheet_line("took", "%.3f s", (double)b.took_ms / 1000);
    }
    client_close(a, s);
    return status;
}
