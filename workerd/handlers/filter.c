/*
 * filter: a photo in grey, or blurred.
 *
 *     config: {out: DIR, effect: grey | blur, radius: 3, root: DIR}
 */
#include <stdio.h>
#include <string.h>

#include "photo.h"

enum { RADIUS_MAX = 100 };

struct filter {
    struct photo_place place;
    bool blur;  /* else grey */
    int radius; /* pixels, of the blur */
};

static struct filter self; /* a process has one handler */

static int open_filter(const struct sluice_host *host, void **process, char *error, size_t size)
{
    const char *out, *effect = "grey", *root = NULL;
    json_error_t wrong;
    json_t *config = json_loads(host->config, 0, NULL);
    struct filter *f = &self;
    int code = -1;
    *process = f;
    f->radius = 3;
    if (json_unpack_ex(config, &wrong, JSON_STRICT, "{s:s, s?s, s?i, s?s}", "out", &out, "effect", &effect,
                       "radius", &f->radius, "root", &root) != 0)
        snprintf(error, size, "config: %s", wrong.text);
    else if (strcmp(effect, "grey") != 0 && strcmp(effect, "blur") != 0)
        snprintf(error, size, "config: effect: '%s' is neither grey nor blur", effect);
    else if (f->radius < 1 || f->radius > RADIUS_MAX)
        snprintf(error, size, "config: radius: %d is not between 1 and %d", f->radius, RADIUS_MAX);
    else
        code = photo_place_open(&f->place, "filter", out, root, error, size);
    f->blur = code == 0 && strcmp(effect, "blur") == 0;
    json_decref(config);
    return code;
}

static void close_filter(const struct sluice_host *host, void *process)
{
    (void)host;
    struct filter *f = process;
    photo_place_close(&f->place);
}

static gdImagePtr apply(const void *arg, gdImagePtr image)
{
    const struct filter *f = arg;
    gdImagePtr result = image;
    if (f->blur)
        result = gdImageCopyGaussianBlurred(image, f->radius, -1);
    else if (!gdImageGrayScale(image))
        result = NULL;
    if (result != image)
        gdImageDestroy(image);
    return result;
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)thread;
    const struct filter *f = process;
    return photo_change(&f->place, task, apply, f, verdict);
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "filter",
    .version = "1.0.0",
    .process_init = open_filter,
    .process_fini = close_filter,
    .handle = handle,
};
