/*
 * moderate: looks at a photo and writes down what it found; parks what is too small to be looked at.
 *
 *     config: {out: DIR, least: 32x32, root: DIR}
 *
 * The result is a JSON file: {"photo": PATH, "verdict": "ok", "width": W, "height": H, "brightness": 0 to 1}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "photo.h"

struct moderate {
    struct photo_place place;
    int width, height; /* a photo with less of either is parked */
};

static struct moderate self; /* a process has one handler */

static int open_moderate(const struct sluice_host *host, void **process, char *error, size_t size)
{
    const char *out, *least = "32x32", *root = NULL;
    json_error_t wrong;
    json_t *config = json_loads(host->config, 0, NULL);
    struct moderate *m = &self;
    int code = -1;
    *process = m;
    if (json_unpack_ex(config, &wrong, JSON_STRICT, "{s:s, s?s, s?s}", "out", &out, "least", &least, "root",
                       &root) != 0)
        snprintf(error, size, "config: %s", wrong.text);
    else if (!photo_box_parse(least, &m->width, &m->height))
        snprintf(error, size, "config: least: '%s' is not like 32x32", least);
    else
        code = photo_place_open(&m->place, "moderate", out, root, error, size);
    json_decref(config);
    return code;
}

static void close_moderate(const struct sluice_host *host, void *process)
{
    (void)host;
    struct moderate *m = process;
    photo_place_close(&m->place);
}

/* The mean of all pixels, 0 black to 1 white. */
static double brightness(gdImagePtr image)
{
    int64_t sum = 0;
    for (int y = 0; y < gdImageSY(image); y++) {
        for (int x = 0; x < gdImageSX(image); x++) {
            int c = gdImageTrueColorPixel(image, x, y);
            sum += 299 * gdTrueColorGetRed(c) + 587 * gdTrueColorGetGreen(c) + 114 * gdTrueColorGetBlue(c);
        }
    }
    return (double)sum / 255000.0 / gdImageSX(image) / gdImageSY(image);
}

static int write_finding(const struct moderate *m, const struct photo *p, double bright,
                         struct sluice_verdict *v)
{
    json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:f}", "photo", p->path, "verdict", "ok", "width",
                             (int)p->width, "height", (int)p->height, "brightness", bright);
    char *text = json_dumps(json, JSON_REAL_PRECISION(4));
    json_decref(json);
    if (text == NULL)
        return photo_retry(v, "no memory");
    size_t size = strlen(text);
    text[size] = '\n'; /* in place of the final zero */
    int code = photo_write_bytes(&m->place, p, ".json", text, size + 1, v);
    free(text);
    return code;
}

/* Size comes first: it is known before anything is decoded. */
static int look_at(const struct moderate *m, const struct photo *p, struct sluice_verdict *v)
{
    if (p->width < (uint32_t)m->width || p->height < (uint32_t)m->height)
        return photo_park(v, "too-small", "%s: %u x %u pixels; at least %d x %d are wanted", p->path,
                          p->width, p->height, m->width, m->height);
    gdImagePtr image;
    int code = photo_decode(p, &image, v);
    if (code != SLUICE_VERDICT_ACK)
        return code;
    code = write_finding(m, p, brightness(image), v);
    gdImageDestroy(image);
    return code;
}

static int handle(const struct sluice_host *host, void *process, void *thread, const struct sluice_task *task,
                  struct sluice_verdict *verdict)
{
    (void)host, (void)thread;
    struct photo photo;
    int code = photo_open(&photo, task, verdict);
    if (code != SLUICE_VERDICT_ACK)
        return code;
    code = look_at(process, &photo, verdict);
    photo_close(&photo);
    return code;
}

SLUICE_HANDLER = {
    .size = sizeof(struct sluice_handler),
    .abi = SLUICE_HANDLER_ABI,
    .name = "moderate",
    .version = "1.0.0",
    .process_init = open_moderate,
    .process_fini = close_moderate,
    .handle = handle,
};
