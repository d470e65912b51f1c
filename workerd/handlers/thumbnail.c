/*
 * thumbnail: a photo, small enough for a box.
 *
 *     config: {out: DIR, box: 320x240, root: DIR}
 *
 * The proportion stays, and a photo that fits already is not enlarged.
 */
#include <stdio.h>

#include "photo.h"

struct thumbnail {
    struct photo_place place;
    int width, height; /* of the box */
};

static struct thumbnail self; /* a process has one handler */

static int open_thumbnail(const struct sluice_host *host, void **process, char *error, size_t size)
{
    const char *out, *box = "320x240", *root = NULL;
    json_error_t wrong;
    json_t *config = json_loads(host->config, 0, NULL);
    struct thumbnail *t = &self;
    int code = -1;
    *process = t;
    if (json_unpack_ex(config, &wrong, JSON_STRICT, "{s:s, s?s, s?s}", "out", &out, "box", &box, "root",
                       &root) != 0)
        snprintf(error, size, "config: %s", wrong.text);
    else if (!photo_box_parse(box, &t->width, &t->height))
        snprintf(error, size, "config: box: '%s' is not like 320x240", box);
    else
        code = photo_place_open(&t->place, "thumbnail", out, root, error, size);
    json_decref(config);
    return code;
}

static void close_thumbnail(const struct sluice_host *host, void *process)
{
    (void)host;
    struct thumbnail *t = process;
    photo_place_close(&t->place);
}

/* The side that is too long by the larger factor gets the box's length, the other follows. */
static void fit(const struct thumbnail *t, int width, int height, int *to_width, int *to_height)
{
    int64_t by_width = (int64_t)width * t->height, by_height = (int64_t)height * t->width;
    *to_width = width;
    *to_height = height;
    if (width <= t->width && height <= t->height)
        return;
    if (by_width > by_height) {
        *to_width = t->width;
        *to_height = (int)(((int64_t)height * t->width + width / 2) / width);
    } else {
        *to_height = t->height;
        *to_width = (int)(((int64_t)width * t->height + height / 2) / height);
    }
    *to_width += *to_width == 0;
    *to_height += *to_height == 0;
}

static gdImagePtr shrink(const void *arg, gdImagePtr image)
{
    int width, height;
    fit(arg, gdImageSX(image), gdImageSY(image), &width, &height);
    gdImagePtr small = gdImageCreateTrueColor(width, height);
    if (small != NULL) {
        gdImageAlphaBlending(small, 0); /* copies transparency instead of painting with it */
        gdImageCopyResampled(small, image, 0, 0, 0, 0, width, height, gdImageSX(image), gdImageSY(image));
    }
    gdImageDestroy(image);
    return small;
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)thread;
    const struct thumbnail *t = process;
    return photo_change(&t->place, task, shrink, t, verdict);
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "thumbnail",
    .version = "1.0.0",
    .process_init = open_thumbnail,
    .process_fini = close_thumbnail,
    .handle = handle,
};
