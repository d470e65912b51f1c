#include "photo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { JPEG_QUALITY = 85 };

/* ---- verdicts ---- */

int photo_park(struct sluice_verdict *v, const char *reason, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->error, sizeof v->error, fmt, args);
    va_end(args);
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    return SLUICE_VERDICT_PARK;
}

int photo_retry(struct sluice_verdict *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->error, sizeof v->error, fmt, args);
    va_end(args);
    return SLUICE_VERDICT_RETRY;
}

/* ---- configuration ---- */

static int make_dirs(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int failed = mkdir(path, 0777) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed)
            return -1;
    }
    return mkdir(path, 0777) != 0 && errno != EEXIST ? -1 : 0;
}

int photo_place_open(struct photo_place *p, const char *handler, const char *out, const char *root,
                     char *error, size_t size)
{
    *p = (struct photo_place){0};
    if (asprintf(&p->dir, "%s/%s", out, handler) < 0)
        p->dir = NULL;
    if (root != NULL &&
        asprintf(&p->root, "%s%s", root, root[0] != '\0' && root[strlen(root) - 1] == '/' ? "" : "/") < 0)
        p->root = NULL;
    if (p->dir != NULL && (root == NULL || p->root != NULL) && make_dirs(p->dir) == 0)
        return 0;
    snprintf(error, size, "%s/%s: %s", out, handler, strerror(errno));
    photo_place_close(p);
    return -1;
}

void photo_place_close(struct photo_place *p)
{
    free(p->dir);
    free(p->root);
    *p = (struct photo_place){0};
}

bool photo_box_parse(const char *text, int *width, int *height)
{
    int end = -1;
    return sscanf(text, "%5dx%5d%n", width, height, &end) == 2 && text[end] == '\0' && *width >= 1 &&
           *width <= 10000 && *height >= 1 && *height <= 10000;
}

/* ---- the head of a file: dimensions without decoding ---- */

static uint32_t be16(const unsigned char *b)
{
    return (uint32_t)b[0] << 8 | b[1];
}

static uint32_t be32(const unsigned char *b)
{
    return be16(b) << 16 | be16(b + 2);
}

/* Signature, then the chunk IHDR: length, type, width, height. */
static bool png_head(const unsigned char *b, size_t size, uint32_t *width, uint32_t *height)
{
    if (size < 24 || memcmp(b, "\x89PNG\r\n\x1a\n", 8) != 0 || memcmp(b + 12, "IHDR", 4) != 0)
        return false;
    *width = be32(b + 16);
    *height = be32(b + 20);
    return true;
}

/*
 * A JPEG is a chain of markers, 0xff and a code. Most are followed by a length and that much; SOS also by
 * compressed data, in which 0xff is followed by 0 or by one of the restart codes.
 */
enum jpeg_marker { JPEG_RST0 = 0xd0, JPEG_RST7 = 0xd7, JPEG_SOI = 0xd8, JPEG_EOI = 0xd9, JPEG_SOS = 0xda };

struct jpeg {
    const unsigned char *at, *end;
};

static bool jpeg_begin(struct jpeg *j, const unsigned char *b, size_t size)
{
    *j = (struct jpeg){b + 2, b + size};
    return size > 3 && b[0] == 0xff && b[1] == JPEG_SOI && b[2] == 0xff;
}

/* The next marker's code, with its segment (without the length) in `body`; -1: the file ends before. */
static int jpeg_next(struct jpeg *j, const unsigned char **body, size_t *size)
{
    for (;;) {
        j->at = j->at < j->end ? memchr(j->at, 0xff, (size_t)(j->end - j->at)) : NULL;
        while (j->at != NULL && j->at < j->end && *j->at == 0xff)
            j->at++;
        if (j->at == NULL || j->at == j->end) {
            j->at = j->end;
            return -1;
        }
        int code = *j->at++;
        if (code == 0 || (code >= JPEG_RST0 && code <= JPEG_RST7))
            continue;
        *size = 0;
        if (code == JPEG_EOI)
            return code;
        if (j->end - j->at < 2 || be16(j->at) < 2 || be16(j->at) > j->end - j->at) {
            j->at = j->end;
            return -1;
        }
        *body = j->at + 2;
        *size = be16(j->at) - 2;
        j->at += be16(j->at);
        return code;
    }
}

/* The frame header is one of SOF0 to SOF15, among which are three other codes. */
static bool is_frame(int code)
{
    return code >= 0xc0 && code <= 0xcf && code != 0xc4 && code != 0xc8 && code != 0xcc;
}

static bool jpeg_head(const unsigned char *b, size_t size, uint32_t *width, uint32_t *height)
{
    struct jpeg j;
    const unsigned char *body;
    size_t length;
    if (!jpeg_begin(&j, b, size))
        return false;
    for (int code; (code = jpeg_next(&j, &body, &length)) >= 0 && code != JPEG_SOS;) {
        if (!is_frame(code) || length < 5)
            continue;
        *height = be16(body + 1);
        *width = be16(body + 3);
        return true;
    }
    return false;
}

/* libgd fills what is missing of a JPEG with grey and calls it an image. */
static bool jpeg_is_whole(const unsigned char *b, size_t size)
{
    struct jpeg j;
    const unsigned char *body;
    size_t length;
    int code = jpeg_begin(&j, b, size) ? 0 : -1;
    while (code >= 0 && code != JPEG_EOI)
        code = jpeg_next(&j, &body, &length);
    return code == JPEG_EOI;
}

bool photo_head(const unsigned char *bytes, size_t size, enum photo_format *format, uint32_t *width,
                uint32_t *height)
{
    bool png = png_head(bytes, size, width, height);
    *format = png ? PHOTO_PNG : PHOTO_JPEG;
    return png || jpeg_head(bytes, size, width, height);
}

/* ---- reading ---- */

static char *path_of(const struct sluice_task *task)
{
    json_t *json = json_loadb(task->value.data != NULL ? task->value.data : "", task->value.size, 0, NULL);
    const char *path = json_string_value(json_object_get(json, "photo"));
    char *copy = path != NULL && path[0] != '\0' ? strdup(path) : NULL;
    json_decref(json);
    return copy;
}

/* The bytes of an open file; false with errno. */
static bool read_bytes(int fd, size_t size, unsigned char **out)
{
    *out = malloc(size);
    size_t got = 0;
    ssize_t n = *out != NULL ? 1 : -1;
    while (n > 0 && got < size) {
        n = read(fd, *out + got, size - got);
        got += n > 0 ? (size_t)n : 0;
    }
    if (n == 0)
        errno = EIO; /* it became shorter while we read */
    return got == size;
}

static int read_file(struct photo *p, struct sluice_verdict *v)
{
    int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return photo_park(v, "missing-file", "%s: no such file", p->path);
    if (fd < 0)
        return photo_retry(v, "%s: %s", p->path, strerror(errno));
    struct stat s;
    int code = SLUICE_VERDICT_ACK;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode) || s.st_size == 0)
        code = photo_park(v, "unreadable-image", "%s: not a file with an image in it", p->path);
    else if (s.st_size > PHOTO_FILE_BYTES_MAX)
        code = photo_park(v, "too-large", "%s: %lld bytes; the limit is %d", p->path, (long long)s.st_size,
                          PHOTO_FILE_BYTES_MAX);
    else if (!read_bytes(fd, (size_t)s.st_size, &p->bytes))
        code = photo_retry(v, "%s: %s", p->path, strerror(errno));
    p->size = (int)s.st_size;
    close(fd);
    return code;
}

static int read_head(struct photo *p, struct sluice_verdict *v)
{
    if (!photo_head(p->bytes, (size_t)p->size, &p->format, &p->width, &p->height) || p->width == 0 ||
        p->height == 0)
        return photo_park(v, "unreadable-image", "%s: not a JPEG or PNG image", p->path);
    if ((uint64_t)p->width * p->height > PHOTO_PIXELS_MAX)
        return photo_park(v, "too-large", "%s: %u x %u pixels; the limit is %d megapixels", p->path, p->width,
                          p->height, PHOTO_PIXELS_MAX / 1000000);
    return SLUICE_VERDICT_ACK;
}

int photo_open(struct photo *p, const struct sluice_task *task, struct sluice_verdict *v)
{
    *p = (struct photo){.path = path_of(task)};
    if (p->path == NULL)
        return photo_park(v, "bad-message", "the value is not {\"photo\": PATH}");
    int code = read_file(p, v);
    if (code == SLUICE_VERDICT_ACK)
        code = read_head(p, v);
    if (code != SLUICE_VERDICT_ACK)
        photo_close(p);
    return code;
}

void photo_close(struct photo *p)
{
    free(p->path);
    free(p->bytes);
    *p = (struct photo){0};
}

/* ---- decoding ---- */

/* The first thing libgd complained of, which it would else print. */
static _Thread_local char complaint[128];

static void keep_complaint(int priority, const char *fmt, va_list args)
{
    (void)priority;
    if (complaint[0] != '\0')
        return;
    vsnprintf(complaint, sizeof complaint, fmt, args);
    complaint[strcspn(complaint, "\n")] = '\0';
}

static int unreadable(const struct photo *p, const char *why, struct sluice_verdict *v)
{
    return photo_park(v, "unreadable-image", "%s: %s", p->path, why[0] != '\0' ? why : "cannot be decoded");
}

int photo_decode(const struct photo *p, gdImagePtr *out, struct sluice_verdict *v)
{
    bool png = p->format == PHOTO_PNG;
    if (!png && !jpeg_is_whole(p->bytes, (size_t)p->size))
        return unreadable(p, "the end of the file is missing", v);
    complaint[0] = '\0';
    gdSetErrorMethod(keep_complaint);
    gdImagePtr image =
        png ? gdImageCreateFromPngPtr(p->size, p->bytes) : gdImageCreateFromJpegPtr(p->size, p->bytes);
    if (image == NULL)
        return unreadable(p, complaint, v);
    if (!gdImagePaletteToTrueColor(image)) {
        gdImageDestroy(image);
        return photo_retry(v, "%s: no memory for its colours", p->path);
    }
    *out = image;
    return SLUICE_VERDICT_ACK;
}

/* ---- writing ---- */

/* The name of a result; false: it is too long. */
static bool result_name(char name[PHOTO_NAME_MAX + 1], const struct photo_place *place, const char *path,
                        const char *suffix)
{
    size_t root = place->root != NULL ? strlen(place->root) : 0, n = 0;
    const char *at = root > 0 && strncmp(path, place->root, root) == 0 ? path + root : path;
    at += strspn(at, "/");
    for (; *at != '\0' && n + 3 <= PHOTO_NAME_MAX; at++) {
        if (*at == '/' || *at == '%')
            n += (size_t)sprintf(name + n, "%%%02X", *at);
        else
            name[n++] = *at;
    }
    if (*at != '\0' || n + strlen(suffix) > PHOTO_NAME_MAX)
        return false;
    strcpy(name + n, suffix);
    return true;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return true;
}

/* Writes a file of a name that nobody else has, then gives it the name it should have. On the disk when it
   returns 0. */
static int write_and_rename(int dir, const char *name, const void *bytes, size_t size)
{
    uint64_t random;
    char temporary[32];
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -1;
    snprintf(temporary, sizeof temporary, ".%016llx.tmp", (unsigned long long)random);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    bool good = write_all(fd, bytes, size) && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    if (good && renameat(dir, temporary, dir, name) == 0 && fsync(dir) == 0)
        return 0;
    int code = errno;
    unlinkat(dir, temporary, 0);
    errno = code;
    return -1;
}

int photo_write_bytes(const struct photo_place *place, const struct photo *p, const char *suffix,
                      const void *bytes, size_t size, struct sluice_verdict *v)
{
    char name[PHOTO_NAME_MAX + 1];
    if (!result_name(name, place, p->path, suffix))
        return photo_park(v, "name-too-long", "%s: its result would need a name of more than %d bytes",
                          p->path, PHOTO_NAME_MAX);
    int dir = open(place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = dir < 0 ? -1 : write_and_rename(dir, name, bytes, size);
    int why = errno;
    if (dir >= 0)
        close(dir);
    return code == 0 ? SLUICE_VERDICT_ACK : photo_retry(v, "%s/%s: %s", place->dir, name, strerror(why));
}

int photo_write(const struct photo_place *place, const struct photo *p, gdImagePtr image,
                struct sluice_verdict *v)
{
    int size = 0;
    gdImageSaveAlpha(image, 1);
    void *bytes =
        p->format == PHOTO_PNG ? gdImagePngPtr(image, &size) : gdImageJpegPtr(image, &size, JPEG_QUALITY);
    if (bytes == NULL)
        return photo_retry(v, "%s: the result cannot be encoded", p->path);
    int code = photo_write_bytes(place, p, "", bytes, (size_t)size, v);
    gdFree(bytes);
    return code;
}

static int change_open(const struct photo_place *place, const struct photo *p,
                       gdImagePtr (*change)(const void *, gdImagePtr), const void *arg,
                       struct sluice_verdict *v)
{
    gdImagePtr image;
    int code = photo_decode(p, &image, v);
    if (code != SLUICE_VERDICT_ACK)
        return code;
    image = change(arg, image);
    if (image == NULL)
        return photo_retry(v, "%s: no memory for the result", p->path);
    code = photo_write(place, p, image, v);
    gdImageDestroy(image);
    return code;
}

int photo_change(const struct photo_place *place, const struct sluice_task *task,
                 gdImagePtr (*change)(const void *arg, gdImagePtr image), const void *arg,
                 struct sluice_verdict *v)
{
    struct photo photo;
    int code = photo_open(&photo, task, v);
    if (code != SLUICE_VERDICT_ACK)
        return code;
    code = change_open(place, &photo, change, arg, v);
    photo_close(&photo);
    return code;
}
