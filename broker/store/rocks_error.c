/* What RocksDB says, as a code. Its C interface hands out sentences, so this is where they are read.
 *
 *     IO error: No space left on device: While appending to file: /data/000012.log: No space left on device
 *     ~~~~~~~~  ~~~~~~~~~~~~~~~~~~~~~~~  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~  ~~~~~~~~~~~~~~~~~~~~~~~
 *     code      subcode, where it has one context, file                              errno
 */
#include <string.h>

#include "schemas/errors.h"
#include "store/rocks.h"

static const struct {
    const char *part;
    bool at_start;
    int code;
} rules[] = {
    /* the first that fits */
    /* no_slowdown: refused rather than delayed. */
    {"Result incomplete: Write stall", true, E_OVERLOADED},
    /* Also in front of every write refused until RocksDB has seen that there is space again. */
    {"No space left on device", false, E_DISK_FULL},
    {"IO error: lock hold by current process", true, E_STORE_LOCKED},
    {"IO error: While lock file", true, E_STORE_LOCKED},
    /* Where a checksum fits and the content is not understood. */
    {"created with newer version of RocksDB", false, E_FORMAT_NEWER},
    {"VersionEdit: unknown tag", false, E_FORMAT_NEWER},
    {"Column families not opened", false, E_FORMAT_NEWER},
    {"Column family not found", false, E_DAMAGED},
    {"Corruption: ", true, E_DAMAGED},
    {"No such file or directory", false, E_DAMAGED},
    /* Anything else, a refused argument or an input/output error, is the end of this store. */
    {"", true, E_STORE_FAILED},
};

int rocks_error_code(const char *text)
{
    for (size_t i = 0;; i++) {
        const char *at = strstr(text, rules[i].part);
        if (at != NULL && (at == text || !rules[i].at_start))
            return rules[i].code;
    }
}

int rocks_error(const char *path, const char *file, char *text, struct err *e)
{
    int code = rocks_error_code(text);
    char *old_name =
        strstr(text, ".ldb: "); /* a table that is missing is looked for under this ending last */
    if (old_name != NULL)
        memcpy(old_name, ".sst", 4);
    if (strstr(text, path) != NULL)
        err_set(e, code, "%s", text);
    else if (file != NULL)
        err_set(e, code, "%s/%s: %s", path, file, text);
    else
        err_set(e, code, "%s: %s", path, text);
    rocksdb_free(text);
    return code;
}
