/*
 * What the photo handlers share: from the message to an image, from an image to a file, and every way in
 * which a photo can be no good.
 *
 * A message says which photo, as JSON: {"photo": "/pictures/cat.jpg"}. The format is told by the bytes, not
 * by the name: JPEG and PNG. A result is written beside its final name and renamed, so it is whole or not
 * there, and doing it twice does no harm.
 *
 * Functions that return a verdict code return SLUICE_VERDICT_ACK to go on, or else what the handler should
 * return; reason and error are then filled in, and name the photo.
 */
#ifndef HANDLERS_PHOTO_H
#define HANDLERS_PHOTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gd.h>
#include <jansson.h>

#include <sluice/handler.h>

enum {
    PHOTO_FILE_BYTES_MAX = 256 << 20,
    PHOTO_PIXELS_MAX = 100000000, /* checked before a pixel is decoded */
    PHOTO_NAME_MAX = 255,         /* bytes, of a result */
};

/* ---- configuration ---- */

/* Where results go: `out`/HANDLER, under the path of the photo below `root` with '/' as "%2F" and '%' as
   "%25", so that equal names in different directories stay apart. */
struct photo_place {
    char *dir;
    char *root; /* ends with '/'; NULL: "/" */
};

/* Makes the directory. Returns 0, or not with a text in `error`. `root` may be NULL. */
int photo_place_open(struct photo_place *p, const char *handler, const char *out, const char *root,
                     char *error, size_t size);
void photo_place_close(struct photo_place *p);

/* Reads "320x240", both 1 to 10,000. */
bool photo_box_parse(const char *text, int *width, int *height);

/* ---- a photo ---- */

enum photo_format { PHOTO_JPEG, PHOTO_PNG };

struct photo {
    char *path;
    unsigned char *bytes;
    int size;
    enum photo_format format;
    uint32_t width, height; /* from the head of the file */
};

/* Finds the photo of a task and reads the file and its head. Parks: bad-message, missing-file,
   unreadable-image, too-large; a file that cannot be read now is RETRY. */
int photo_open(struct photo *p, const struct sluice_task *task, struct sluice_verdict *v);
void photo_close(struct photo *p);

/* All pixels, as true colours; the caller destroys it. Parks: unreadable-image, also if the end of the file
   is missing. */
int photo_decode(const struct photo *p, gdImagePtr *out, struct sluice_verdict *v);

/* Format, width and height from the first bytes of a file; false: neither JPEG nor PNG. */
bool photo_head(const unsigned char *bytes, size_t size, enum photo_format *format, uint32_t *width,
                uint32_t *height);

/* ---- a result ---- */

/* All of a handler that changes a photo: opens it, decodes it, lets `change` make another image of it, and
   writes that. `change` takes the image and returns one, or NULL when there is no memory. */
int photo_change(const struct photo_place *place, const struct sluice_task *task,
                 gdImagePtr (*change)(const void *arg, gdImagePtr image), const void *arg,
                 struct sluice_verdict *v);

/* Writes an image in the photo's own format. */
int photo_write(const struct photo_place *place, const struct photo *p, gdImagePtr image,
                struct sluice_verdict *v);

/* Writes bytes under the photo's name and `suffix`. Parks: name-too-long; a disk that fails is RETRY. */
int photo_write_bytes(const struct photo_place *place, const struct photo *p, const char *suffix,
                      const void *bytes, size_t size, struct sluice_verdict *v);

/* Fills a verdict and returns its code. */
int photo_park(struct sluice_verdict *v, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int photo_retry(struct sluice_verdict *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
