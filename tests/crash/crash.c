#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

enum { CLOSE_MS = 10000, READ_MS = 10000 };

void crash_ok_at(int code, const struct sluice_error *err, const char *what, const char *file, int line)
{
    if (code == 0)
        return;
    print_error("%s: %s: %s\n", what, sluice_code_name(code), err->text);
    _fail(file, line);
}

struct sluice *crash_open(const char *url)
{
    struct sluice *s = NULL;
    struct sluice_error err;
    struct sluice_options o = {.size = sizeof o, .broker = url};
    crash_ok(sluice_open(&s, &o, &err), &err);
    return s;
}

void crash_close(struct sluice *s)
{
    struct sluice_error err;
    crash_ok(sluice_close(s, CLOSE_MS, NULL, &err), &err);
}

void crash_topic(struct sluice *s, const char *topic, int durability)
{
    struct sluice_error err;
    struct sluice_topic_options o = {.size = sizeof o, .durability = durability};
    crash_ok(sluice_topic_create(s, topic, &o, NULL, &err), &err);
}

int crash_publish(struct sluice *s, const char *topic, const char *value, struct sluice_error *err)
{
    struct sluice_message m = {.size = sizeof m, .topic = topic, .value = sluice_str(value)};
    return sluice_publish(s, &m, NULL, err);
}

/* The values of a batch, which begins with message `next`; what is next then. */
static uint32_t expect_batch(const struct sluice_batch *b, const char *prefix, uint32_t next, uint32_t count)
{
    for (size_t i = 0; i < sluice_batch_count(b) && next < count; i++, next++) {
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        char expected[64];
        size_t size = (size_t)snprintf(expected, sizeof expected, "%s%" PRIu32, prefix, next);
        assert_int_equal(d->offset, next);
        assert_int_equal(d->value.size, size);
        assert_memory_equal(d->value.data, expected, size);
    }
    return next;
}

void crash_expect_log(const char *url, const char *topic, const char *prefix, uint32_t count)
{
    struct sluice *s = crash_open(url);
    struct sluice_reader *r;
    struct sluice_error err;
    crash_ok(sluice_reader_open(s, topic, 0, NULL, &r, &err), &err);
    uint64_t until = clock_mono_ms() + READ_MS;
    for (uint32_t next = 0; next < count;) {
        struct sluice_batch *b;
        crash_ok(sluice_reader_read(r, 100, &b, &err), &err);
        next = expect_batch(b, prefix, next, count);
        sluice_batch_free(b);
        if (clock_mono_ms() > until)
            fail_msg("of %" PRIu32 " messages %" PRIu32 " are there", count, next);
    }
    sluice_reader_close(r);
    crash_close(s);
}

/* ---------------------------------------------------------------- the environment */

uint64_t crash_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

uint64_t crash_seed(void)
{
    uint64_t seed = crash_number("SLUICE_CRASH_SEED", clock_wall_ms() ^ (uint64_t)getpid() << 40);
    print_message("SLUICE_CRASH_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* ---------------------------------------------------------------- the shim */

struct syncshim *crash_shim(struct broker_proc *b)
{
    static char path[sizeof b->dir + 16], word[sizeof path + 16];
    static const char *const env[] = {"LD_PRELOAD=" CRASH_SHIM, word, NULL};
    snprintf(path, sizeof path, "%s/syncshim", b->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct syncshim)) != 0)
        fail_msg("%s: %s", path, strerror(errno));
    struct syncshim *shim = mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shim == MAP_FAILED)
        fail_msg("%s: %s", path, strerror(errno));
    char *dir = realpath(b->dir, NULL);
    if (dir == NULL)
        fail_msg("%s: %s", b->dir, strerror(errno));
    snprintf(shim->directory, sizeof shim->directory, "%s/data", dir);
    free(dir);
    atomic_store(&shim->space, INT64_MAX);
    snprintf(word, sizeof word, "%s=%s", SYNCSHIM_ENV, path);
    b->env = env;
    return shim;
}

void crash_shim_off(struct broker_proc *b, struct syncshim *shim)
{
    b->env = NULL;
    if (shim != NULL)
        munmap(shim, sizeof *shim);
}
