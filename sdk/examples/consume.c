/*
 * Works on the messages of a queue group with a few threads, until it is interrupted:
 *
 *     example-consume orders email
 *
 * Any number of these programs may run at once: messages of one key are handled one after another, in order. What was received
 * and not settled goes back when the batch is freed, so the way out needs no care.
 */
#include <pthread.h>
#include <signal.h>
#include <sluice/sluice.h>
#include <stdio.h>

enum { THREADS = 4 };

static struct sluice *client;
static const char *topic, *group;
static volatile sig_atomic_t stopping;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

/* Does the work of one message: 0, or it failed. */
static int handle(const struct sluice_delivery *d)
{
    printf("%s/%u/%llu attempt %u: %.*s\n", d->topic, d->partition, (unsigned long long)d->offset, d->attempt,
           (int)d->value.size, d->value.data != NULL ? (const char *)d->value.data : "");
    return ferror(stdout);
}

static void *work(void *arg)
{
    (void)arg;
    struct sluice_receive_options options = {.size = sizeof options, .max_messages = 10, .wait_ms = 1000};
    struct sluice_error err;
    while (!stopping) {
        struct sluice_batch *b;
        if (sluice_receive(client, topic, group, &options, &b, &err) != 0) {
            fprintf(stderr, "%s\n", err.text);
            if (!sluice_code_retriable(err.code))
                break;
            continue;
        }
        for (size_t i = 0; i < sluice_batch_count(b) && !stopping; i++) {
            int code = handle(sluice_batch_message(b, i)) == 0
                           ? sluice_ack(b, i, &err)
                           : sluice_nack(b, i, SLUICE_BACKOFF, "cannot be printed", &err);
            if (code != 0)
                fprintf(stderr, "%s\n", err.text);
        }
        sluice_batch_free(b); /* gives back what was not settled */
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s TOPIC GROUP\n", argv[0]);
        return 2;
    }
    topic = argv[1];
    group = argv[2];
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    struct sluice_error err;
    if (sluice_open(&client, &(struct sluice_options){.size = sizeof(struct sluice_options)}, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return sluice_close(client, 5000, NULL, &err) == 0 ? 0 : 1;
}
