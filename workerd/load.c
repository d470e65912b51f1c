#include "workerd/load.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "schemas/errors.h"

/* Whatever else a struct leaves out, it reaches to its entry point. */
enum { SIZE_MIN = offsetof(struct sluice_handler, handle) + sizeof(void *) };

static int check(const struct sluice_handler *h, const char *path, struct err *e)
{
    if (h->abi != SLUICE_HANDLER_ABI)
        return err_set(e, E_CONFIG, "%s: made for version %u of handler.h; this daemon has version %d", path,
                       h->abi, SLUICE_HANDLER_ABI);
    if (h->flags != 0)
        return err_set(e, E_CONFIG, "%s: asks for what this daemon does not have (flags 0x%x)", path,
                       h->flags);
    if (h->name == NULL || h->version == NULL)
        return err_set(e, E_CONFIG, "%s: the handler has no name or no version", path);
    if (h->handle == NULL && h->handle_batch == NULL)
        return err_set(e, E_CONFIG, "%s: the handler has neither handle nor handle_batch", path);
    return 0;
}

int handler_load(const char *path, struct sluice_handler *out, struct err *e)
{
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (file == NULL)
        return err_set(e, E_CONFIG, "%s", dlerror());
    const struct sluice_handler *h = dlsym(file, "sluice_handler");
    if (h == NULL)
        return err_set(e, E_CONFIG,
                       "%s: no symbol 'sluice_handler'; export it with SLUICE_HANDLER of sluice/handler.h",
                       path);
    if (h->size < SIZE_MIN)
        return err_set(e, E_CONFIG, "%s: sluice_handler.size is %zu; at least %d is needed", path, h->size,
                       SIZE_MIN);
    *out = (struct sluice_handler){0};
    memcpy(out, h, h->size < sizeof *out ? h->size : sizeof *out);
    return check(out, path, e);
}
