/*
 * Publishes the lines of its standard input to a topic, as fast as the broker takes them:
 *
 *     seq 100000 | example-publish numbers
 *
 * Lines go out in batches; each one's fate comes by callback. At the client's memory limit it waits for some to be confirmed.
 */
#define _POSIX_C_SOURCE 200809L /* getline */
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_ulong confirmed, failed;

/* On a thread of the library: must not block. */
static void told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)user;
    (void)receipt;
    if (error == NULL)
        atomic_fetch_add(&confirmed, 1);
    else if (atomic_fetch_add(&failed, 1) == 0)
        fprintf(stderr, "not published: %s\n", error->text);
}

static int publish_line(struct sluice *s, const char *topic, const char *line, size_t size,
                        struct sluice_error *err)
{
    struct sluice_message m = {.size = sizeof m, .topic = topic, .value = {line, size}};
    int code;
    while ((code = sluice_publish_async(s, &m, told, NULL, err)) == SLUICE_QUEUE_FULL)
        sluice_flush(s, 1000, NULL);
    return code;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s TOPIC\n", argv[0]);
        return 2;
    }
    struct sluice *s;
    struct sluice_error err;
    /* The broker is $SLUICE_BROKER, or the one on this machine. */
    if (sluice_open(&s, &(struct sluice_options){.size = sizeof(struct sluice_options)}, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    int code = 0;
    while (code == 0 && (size = getline(&line, &room, stdin)) > 0) {
        if (line[size - 1] == '\n')
            size--;
        code = publish_line(s, argv[1], line, (size_t)size, &err);
    }
    free(line);
    if (code != 0)
        fprintf(stderr, "%s\n", err.text);
    if (sluice_close(s, 30000, NULL, &err) != 0)
        fprintf(stderr, "%s\n", err.text);
    fprintf(stderr, "%lu on disk, %lu not\n", atomic_load(&confirmed), atomic_load(&failed));
    return code == 0 && atomic_load(&failed) == 0 ? 0 : 1;
}
