/* The photo handlers, loaded from their files as a child does, on pictures that are painted here. */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/macros.h"
#include "base/mem.h"
#include "base/rng.h"
#include "photo.h"
#include "workerd/host.h"
#include "workerd/load.h"

static char dir[] = "/tmp/sluice-unit-XXXXXX";

/* ---- pictures ---- */

static const char *in_dir(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* Left half red, right half blue. */
static gdImagePtr paint(int width, int height)
{
    gdImagePtr image = gdImageCreateTrueColor(width, height);
    gdImageFilledRectangle(image, 0, 0, width - 1, height - 1, gdTrueColor(255, 0, 0));
    gdImageFilledRectangle(image, width / 2, 0, width - 1, height - 1, gdTrueColor(0, 0, 255));
    return image;
}

/* Stores an image, or the first `keep` percent of its bytes. */
static void store(const char *name, gdImagePtr image, enum photo_format format, int keep)
{
    int size;
    void *bytes = format == PHOTO_PNG ? gdImagePngPtr(image, &size) : gdImageJpegPtr(image, &size, 90);
    write_bytes(name, bytes, (size_t)size * (size_t)keep / 100);
    gdFree(bytes);
    gdImageDestroy(image);
}

static void jpeg(const char *name, int width, int height)
{
    store(name, paint(width, height), PHOTO_JPEG, 100);
}

static unsigned char *read_all(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("%s is not there", path);
    unsigned char *bytes = mem_zalloc(1 << 20);
    *size = fread(bytes, 1, (1 << 20) - 1, f);
    fclose(f);
    return bytes;
}

/* A result as an image of the given format. */
static gdImagePtr result(const char *name, enum photo_format format)
{
    size_t size;
    enum photo_format found;
    uint32_t width, height;
    unsigned char *bytes = read_all(in_dir(name), &size);
    assert_true(photo_head(bytes, size, &found, &width, &height));
    assert_int_equal(found, format);
    gdImagePtr image = format == PHOTO_PNG ? gdImageCreateFromPngPtr((int)size, bytes)
                                           : gdImageCreateFromJpegPtr((int)size, bytes);
    mem_free(bytes);
    assert_non_null(image);
    return image;
}

static void assert_result_size(const char *name, int width, int height)
{
    gdImagePtr image = result(name, PHOTO_JPEG);
    assert_int_equal(gdImageSX(image), width);
    assert_int_equal(gdImageSY(image), height);
    gdImageDestroy(image);
}

static unsigned files_in(const char *name)
{
    DIR *d = opendir(in_dir(name));
    assert_non_null(d);
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

/* ---- handlers ---- */

static struct sluice_handler handler;
static struct host host;
static void *process;
static char config[1024], error[256];
static struct sluice_verdict verdict;

static void no_packets(const struct plugin_packet *packet)
{
    (void)packet;
}

/* `more`: what the configuration has beside `out`. Returns what process_init did. */
static int load(const char *name, const char *more)
{
    char path[512];
    struct err e;
    snprintf(path, sizeof path, "%s/%s.so", getenv("PHOTO_HANDLERS"), name);
    if (handler_load(path, &handler, &e) != 0)
        fail_msg("%s", e.text);
    assert_string_equal(handler.name, name);
    snprintf(config, sizeof config, "{\"out\":\"%s/out\"%s}", dir, more);
    host_init(&host, name, config, no_packets);
    return handler.process_init(&host.seen, &process, error, sizeof error);
}

static void unload(void)
{
    handler.process_fini(&host.seen, process);
}

static int handle_value(const char *value)
{
    struct sluice_task task = {.size = sizeof task, .value = {value, strlen(value)}};
    verdict = (struct sluice_verdict){.size = sizeof verdict};
    return handler.handle(&host.seen, process, NULL, &task, &verdict);
}

static int handle_path(const char *path)
{
    json_t *json = json_pack("{s:s}", "photo", path);
    char *value = json_dumps(json, 0);
    int code = handle_value(value);
    json_decref(json);
    free(value);
    return code;
}

static int handle(const char *name)
{
    return handle_path(in_dir(name));
}

static void assert_parked(int code, const char *reason, const char *why)
{
    assert_int_equal(code, SLUICE_VERDICT_PARK);
    assert_string_equal(verdict.reason, reason);
    assert_has(verdict.error, why);
}

/* The name of a result when there is no root: the whole path. */
static const char *flat(const char *handler_name, const char *name, const char *suffix)
{
    static char path[512];
    size_t n = (size_t)snprintf(path, sizeof path, "out/%s/", handler_name);
    for (const char *p = in_dir(name) + 1; *p != '\0'; p++)
        n += (size_t)snprintf(path + n, sizeof path - n, *p == '/' ? "%%2F" : "%c", *p);
    snprintf(path + n, sizeof path - n, "%s", suffix);
    return path;
}

/* ---- thumbnail ---- */

static void a_thumbnail_fits_its_box_and_keeps_the_proportion(void **state)
{
    (void)state;
    static const int sizes[][4] = {
        {640, 480, 320, 240}, {1000, 200, 320, 64}, {200, 1000, 48, 240}, {321, 240, 320, 239},
        {3000, 2, 320, 1},    {320, 240, 320, 240}, {100, 50, 100, 50}, /* never enlarged */
    };
    assert_int_equal(load("thumbnail", ",\"box\":\"320x240\""), 0);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        jpeg("a.jpg", sizes[i][0], sizes[i][1]);
        assert_int_equal(handle("a.jpg"), SLUICE_VERDICT_ACK);
        assert_result_size(flat("thumbnail", "a.jpg", ""), sizes[i][2], sizes[i][3]);
    }
    unload();
}

static void a_result_has_the_format_of_the_bytes_whatever_the_name_says(void **state)
{
    (void)state;
    assert_int_equal(load("thumbnail", ""), 0);
    store("png.jpg", paint(640, 480), PHOTO_PNG, 100);
    store("jpeg.png", paint(640, 480), PHOTO_JPEG, 100);
    assert_int_equal(handle("png.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("jpeg.png"), SLUICE_VERDICT_ACK);
    gdImageDestroy(result(flat("thumbnail", "png.jpg", ""), PHOTO_PNG));
    gdImageDestroy(result(flat("thumbnail", "jpeg.png", ""), PHOTO_JPEG));
    unload();
}

static void what_is_transparent_stays_so(void **state)
{
    (void)state;
    gdImagePtr image = gdImageCreateTrueColor(640, 480);
    gdImageAlphaBlending(image, 0);
    gdImageSaveAlpha(image, 1);
    gdImageFilledRectangle(image, 0, 0, 639, 479, gdTrueColorAlpha(0, 255, 0, gdAlphaTransparent));
    assert_int_equal(load("thumbnail", ""), 0);
    store("glass.png", image, PHOTO_PNG, 100);
    assert_int_equal(handle("glass.png"), SLUICE_VERDICT_ACK);
    image = result(flat("thumbnail", "glass.png", ""), PHOTO_PNG);
    assert_int_equal(gdTrueColorGetAlpha(gdImageGetTrueColorPixel(image, 100, 100)), gdAlphaTransparent);
    gdImageDestroy(image);
    unload();
}

static void a_picture_with_a_palette_is_a_picture(void **state)
{
    (void)state;
    gdImagePtr image = paint(640, 480);
    gdImageTrueColorToPalette(image, 0, 16);
    assert_int_equal(load("thumbnail", ""), 0);
    store("palette.png", image, PHOTO_PNG, 100);
    assert_int_equal(handle("palette.png"), SLUICE_VERDICT_ACK);
    image = result(flat("thumbnail", "palette.png", ""), PHOTO_PNG);
    assert_true(gdTrueColorGetRed(gdImageGetTrueColorPixel(image, 10, 10)) > 200);
    gdImageDestroy(image);
    unload();
}

static void doing_it_twice_does_no_harm_and_leaves_nothing_behind(void **state)
{
    (void)state;
    char more[128];
    snprintf(more, sizeof more, ",\"root\":\"%s\"", dir);
    assert_int_equal(load("thumbnail", more), 0);
    jpeg("a.jpg", 640, 480);
    unsigned before = files_in("out/thumbnail");
    assert_int_equal(handle("a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(files_in("out/thumbnail"), before + 1);
    assert_result_size("out/thumbnail/a.jpg", 320, 240);
    unload();
}

static void equal_names_in_different_directories_stay_apart(void **state)
{
    (void)state;
    char more[128];
    snprintf(more, sizeof more, ",\"root\":\"%s/\"", dir);
    mkdir(in_dir("x"), 0777);
    mkdir(in_dir("y"), 0777);
    mkdir(in_dir("x%2Fy"), 0777);
    assert_int_equal(load("thumbnail", more), 0);
    jpeg("a.jpg", 100, 10);
    jpeg("x/a.jpg", 100, 20);
    jpeg("y/a.jpg", 100, 30);
    jpeg("x%2Fy/a.jpg", 100, 40);
    jpeg("x/\xc3\xbc \"b\".jpg", 100, 50);
    assert_int_equal(handle("a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("x/a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("y/a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("x%2Fy/a.jpg"), SLUICE_VERDICT_ACK);
    assert_int_equal(handle("x/\xc3\xbc \"b\".jpg"), SLUICE_VERDICT_ACK);
    assert_result_size("out/thumbnail/a.jpg", 100, 10);
    assert_result_size("out/thumbnail/x%2Fa.jpg", 100, 20);
    assert_result_size("out/thumbnail/y%2Fa.jpg", 100, 30);
    assert_result_size("out/thumbnail/x%252Fy%2Fa.jpg", 100, 40);
    assert_result_size("out/thumbnail/x%2F\xc3\xbc \"b\".jpg", 100, 50);
    unload();
}

static void a_name_that_would_be_too_long_is_parked(void **state)
{
    (void)state;
    char name[400] = "", path[600];
    for (int i = 0; i < 5; i++) {
        memset(name + strlen(name), 'd', 60);
        mkdir(in_dir(name), 0777);
        strcat(name, "/");
    }
    snprintf(path, sizeof path, "%s%s", name, "a.jpg");
    jpeg(path, 64, 64);
    assert_int_equal(load("thumbnail", ""), 0);
    assert_parked(handle(path), "name-too-long", "a.jpg");
    unload();
}

/* ---- what is no good ---- */

/* A PNG that begins like one of this size, and goes no further. */
static void png_head_only(const char *name, uint32_t width, uint32_t height)
{
    unsigned char b[33] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    for (int i = 0; i < 4; i++) {
        b[16 + i] = (unsigned char)(width >> (24 - 8 * i));
        b[20 + i] = (unsigned char)(height >> (24 - 8 * i));
    }
    write_bytes(name, b, sizeof b);
}

static void what_cannot_be_read_is_parked_and_named_by_every_handler(void **state)
{
    (void)state;
    static const char *const handlers[] = {"thumbnail", "filter", "moderate"};
    static const unsigned char wide[] = {0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xff,
                                         0xff, 0xff, 0xff, 1,    0, 0,  0};
    write_bytes("text.jpg", "this is no picture\n", 19);
    write_bytes("empty.jpg", "", 0);
    store("half.jpg", paint(640, 480), PHOTO_JPEG, 50);
    store("half.png", paint(640, 480), PHOTO_PNG, 50);
    store("most.jpg", paint(640, 480), PHOTO_JPEG, 99);
    png_head_only("bomb.png", 100000, 100000);
    write_bytes("bomb.jpg", wide, sizeof wide);
    png_head_only("flat.png", 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
        assert_int_equal(load(handlers[i], ""), 0);
        assert_parked(handle("text.jpg"), "unreadable-image", "/text.jpg: not a JPEG or PNG image");
        assert_parked(handle("empty.jpg"), "unreadable-image", "/empty.jpg: ");
        assert_parked(handle("half.jpg"), "unreadable-image", "/half.jpg: the end of the file is missing");
        assert_parked(handle("most.jpg"), "unreadable-image", "/most.jpg: the end of the file is missing");
        assert_parked(handle("half.png"), "unreadable-image", "/half.png: ");
        assert_parked(handle("flat.png"), "unreadable-image", "/flat.png: ");
        assert_parked(handle(""), "unreadable-image", dir); /* a directory */
        assert_parked(handle("bomb.png"), "too-large",
                      "/bomb.png: 100000 x 100000 pixels; the limit is 100 megapixels");
        assert_parked(handle("bomb.jpg"), "too-large", "/bomb.jpg: 65535 x 65535 pixels");
        assert_parked(handle("nowhere.jpg"), "missing-file", "/nowhere.jpg: no such file");
        assert_parked(handle("text.jpg/x.jpg"), "missing-file", "/text.jpg/x.jpg: no such file");
        assert_parked(handle_value("no json"), "bad-message", "the value is not");
        assert_parked(handle_value(""), "bad-message", "the value is not");
        assert_parked(handle_value("{\"photo\": 7}"), "bad-message", "the value is not");
        assert_parked(handle_value("{\"photo\": \"\"}"), "bad-message", "the value is not");
        assert_parked(handle_value("[\"photo\"]"), "bad-message", "the value is not");
        unload();
    }
}

static void the_head_of_no_file_leads_astray(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    int size;
    gdImagePtr image = paint(64, 48);
    unsigned char *good = gdImageJpegPtr(image, &size, 90);
    gdImageDestroy(image);
    for (int i = 0; i < 100000; i++) {
        /* Of its own length, so that a sanitizer sees every step beyond. */
        size_t length = rng_below(&rng, (uint64_t)size + 1);
        unsigned char *bytes = mem_dup(good, length);
        for (uint64_t n = rng_below(&rng, 8); n > 0 && length > 0; n--)
            bytes[rng_below(&rng, length)] = (unsigned char)rng_next(&rng);
        enum photo_format format;
        uint32_t width, height;
        photo_head(bytes, length, &format, &width, &height);
        mem_free(bytes);
    }
    gdFree(good);
}

/* ---- filter ---- */

static void grey_has_no_colour(void **state)
{
    (void)state;
    assert_int_equal(load("filter", ",\"effect\":\"grey\""), 0);
    store("a.png", paint(40, 30), PHOTO_PNG, 100);
    assert_int_equal(handle("a.png"), SLUICE_VERDICT_ACK);
    gdImagePtr image = result(flat("filter", "a.png", ""), PHOTO_PNG);
    assert_int_equal(gdImageSX(image), 40);
    int left = gdImageGetTrueColorPixel(image, 5, 5), right = gdImageGetTrueColorPixel(image, 35, 5);
    assert_int_equal(gdTrueColorGetRed(left), gdTrueColorGetBlue(left));
    assert_int_equal(gdTrueColorGetRed(left), gdTrueColorGetGreen(left));
    assert_true(gdTrueColorGetRed(left) > gdTrueColorGetRed(right)); /* red is brighter than blue */
    gdImageDestroy(image);
    unload();
}

static void blur_softens_edges_and_keeps_the_size(void **state)
{
    (void)state;
    assert_int_equal(load("filter", ",\"effect\":\"blur\",\"radius\":4"), 0);
    store("a.png", paint(40, 30), PHOTO_PNG, 100);
    assert_int_equal(handle("a.png"), SLUICE_VERDICT_ACK);
    gdImagePtr image = result(flat("filter", "a.png", ""), PHOTO_PNG);
    assert_int_equal(gdImageSX(image), 40);
    assert_int_equal(gdImageSY(image), 30);
    int edge = gdImageGetTrueColorPixel(image, 20, 15);
    assert_in_range(gdTrueColorGetRed(edge), 50, 200);
    assert_in_range(gdTrueColorGetBlue(edge), 50, 200);
    gdImageDestroy(image);
    unload();
}

/* ---- moderate ---- */

static void moderate_writes_down_what_it_found(void **state)
{
    (void)state;
    gdImagePtr white = gdImageCreateTrueColor(64, 48);
    gdImageFilledRectangle(white, 0, 0, 63, 47, gdTrueColor(255, 255, 255));
    store("white.png", white, PHOTO_PNG, 100);
    assert_int_equal(load("moderate", ""), 0);
    assert_int_equal(handle("white.png"), SLUICE_VERDICT_ACK);
    size_t size;
    unsigned char *text = read_all(in_dir(flat("moderate", "white.png", ".json")), &size);
    json_t *json = json_loadb((const char *)text, size, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "photo")), in_dir("white.png"));
    assert_string_equal(json_string_value(json_object_get(json, "verdict")), "ok");
    assert_int_equal(json_integer_value(json_object_get(json, "width")), 64);
    assert_int_equal(json_integer_value(json_object_get(json, "height")), 48);
    assert_true(json_number_value(json_object_get(json, "brightness")) > 0.99);
    json_decref(json);
    mem_free(text);
    unload();
}

static void what_is_too_small_is_parked_before_it_is_decoded(void **state)
{
    (void)state;
    png_head_only("small.png", 31, 400); /* there is nothing to decode */
    png_head_only("low.png", 400, 31);
    jpeg("least.jpg", 32, 32);
    assert_int_equal(load("moderate", ""), 0);
    assert_parked(handle("small.png"), "too-small",
                  "/small.png: 31 x 400 pixels; at least 32 x 32 are wanted");
    assert_parked(handle("low.png"), "too-small", "/low.png: 400 x 31");
    assert_int_equal(handle("least.jpg"), SLUICE_VERDICT_ACK);
    unload();
}

/* ---- configuration ---- */

static void a_configuration_that_is_wrong_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const char *const wrong[][3] = {
        {"thumbnail", ",\"box\":\"320\"", "config: box: '320' is not like 320x240"},
        {"thumbnail", ",\"box\":\"320x240 \"", "config: box: "},
        {"thumbnail", ",\"box\":\"0x240\"", "config: box: "},
        {"thumbnail", ",\"bocks\":\"320x240\"", "bocks"},
        {"thumbnail", ",\"box\":320", "config: "},
        {"filter", ",\"effect\":\"sepia\"", "config: effect: 'sepia' is neither grey nor blur"},
        {"filter", ",\"radius\":0", "config: radius: 0 is not between 1 and 100"},
        {"moderate", ",\"least\":\"small\"", "config: least: 'small' is not like 32x32"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_not_equal(load(wrong[i][0], wrong[i][1]), 0);
        assert_has(error, wrong[i][2]);
    }
    write_bytes("file", "x", 1);
    snprintf(config, sizeof config, "{\"out\":\"%s/file\"}", dir);
    assert_int_not_equal(handler.process_init(&host.seen, &process, error, sizeof error), 0);
    assert_has(error, "/file/moderate: Not a directory");
    snprintf(config, sizeof config, "{}");
    assert_int_not_equal(handler.process_init(&host.seen, &process, error, sizeof error), 0);
    assert_has(error, "out");
}

/* ---- */

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thumbnail_fits_its_box_and_keeps_the_proportion),
        cmocka_unit_test(a_result_has_the_format_of_the_bytes_whatever_the_name_says),
        cmocka_unit_test(what_is_transparent_stays_so),
        cmocka_unit_test(a_picture_with_a_palette_is_a_picture),
        cmocka_unit_test(doing_it_twice_does_no_harm_and_leaves_nothing_behind),
        cmocka_unit_test(equal_names_in_different_directories_stay_apart),
        cmocka_unit_test(a_name_that_would_be_too_long_is_parked),
        cmocka_unit_test(what_cannot_be_read_is_parked_and_named_by_every_handler),
        cmocka_unit_test(the_head_of_no_file_leads_astray),
        cmocka_unit_test(grey_has_no_colour),
        cmocka_unit_test(blur_softens_edges_and_keeps_the_size),
        cmocka_unit_test(moderate_writes_down_what_it_found),
        cmocka_unit_test(what_is_too_small_is_parked_before_it_is_decoded),
        cmocka_unit_test(a_configuration_that_is_wrong_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
