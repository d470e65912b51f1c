/*
 * Printing as a queue group: lease, write, flush, acknowledge.
 *
 *     receive (at most what -n leaves) --> write ... write, flush --> ack what was flushed --> ...
 *
 * An acknowledgement leaves only when its message left for standard output; it is not waited for, so that the next messages are on
 * their way meanwhile. Whoever reads our output may be slow: a thread beside extends what is held.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/consume.h"
#include "cli/out.h"
#include "cli/stop.h"

enum {
    RECEIVE_MAX = 100,       /* messages leased at once */
    FLUSH_BYTES = 16 * 1024, /* of output between acknowledgements */
    UNANSWERED_MAX = 4096,   /* acknowledgements on their way */
};

struct taker {
    struct consumer *consumer;
    int done_fd; /* readable: the keeper ends */
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct sluice_batch *batch; /* whose messages from `held` on are not settled */
    size_t held;
    uint64_t unanswered;
    uint64_t refused;            /* acknowledgements */
    struct sluice_error refusal; /* the first */
};

/* ---- leases while the reader of our output takes its time ---- */

static void extend_held(struct taker *t)
{
    struct sluice_settle items[RECEIVE_MAX];
    size_t count = 0;
    pthread_mutex_lock(&t->lock);
    for (size_t i = t->held; t->batch != NULL && i < sluice_batch_count(t->batch) && count < RECEIVE_MAX; i++)
        items[count++] = (struct sluice_settle){.batch = t->batch, .index = i, .verb = SLUICE_EXTEND};
    /* Unlucky ones are tried again at the next turn, or their acknowledgement says that the lease is lost. */
    if (count > 0)
        sluice_settle_async(t->consumer->client, items, count, false, NULL, NULL, NULL);
    pthread_mutex_unlock(&t->lock);
}

static void *keep_leases(void *arg)
{
    struct taker *t = arg;
    struct pollfd done = {.fd = t->done_fd, .events = POLLIN};
    while (poll(&done, 1, (int)(t->consumer->lease_ms / 3)) <= 0)
        extend_held(t);
    return NULL;
}

/* ---- acknowledging ---- */

static void on_acked(void *user, size_t index, const struct sluice_error *error)
{
    (void)index;
    struct taker *t = user;
    pthread_mutex_lock(&t->lock);
    t->unanswered--;
    if (error != NULL && t->refused++ == 0)
        t->refusal = *error;
    pthread_cond_signal(&t->answered);
    pthread_mutex_unlock(&t->lock);
}

/* Takes the next messages up to `end` out of what is held; waits while too many answers are out. */
static size_t take_items(struct taker *t, size_t end, struct sluice_settle items[RECEIVE_MAX])
{
    size_t count = 0;
    pthread_mutex_lock(&t->lock);
    while (t->unanswered > UNANSWERED_MAX)
        pthread_cond_wait(&t->answered, &t->lock);
    for (; t->held < end && count < RECEIVE_MAX; t->held++)
        items[count++] = (struct sluice_settle){.batch = t->batch, .index = t->held, .verb = SLUICE_ACK};
    t->unanswered += count;
    pthread_mutex_unlock(&t->lock);
    return count;
}

/* Acknowledges the messages that are held up to `end`, without waiting for the answers. */
static int ack_until(struct taker *t, size_t end)
{
    struct sluice_settle items[RECEIVE_MAX];
    struct sluice_error err = {0};
    for (size_t count; (count = take_items(t, end, items)) > 0;) {
        int code;
        while ((code = sluice_settle_async(t->consumer->client, items, count, false, on_acked, t, &err)) ==
               SLUICE_QUEUE_FULL)
            stop_wait(10);
        if (code == 0)
            continue;
        pthread_mutex_lock(&t->lock);
        t->unanswered -= count;
        pthread_mutex_unlock(&t->lock);
        return client_fail(&err, t->consumer->topic, t->consumer->group);
    }
    return 0;
}

/* ---- writing ---- */

static void hold(struct taker *t, struct sluice_batch *b)
{
    pthread_mutex_lock(&t->lock);
    t->batch = b;
    t->held = 0;
    pthread_mutex_unlock(&t->lock);
}

/* Writes a batch. What is not written, because of a request to stop or a reader that went away, is given back with it. */
static int write_batch(struct taker *t, struct sluice_batch *b)
{
    struct consumer *c = t->consumer;
    size_t count = sluice_batch_count(b);
    int status = STATUS_OK;
    hold(t, b);
    for (size_t i = 0; i < count && status == 0; i++) {
        consumer_put(c, sluice_batch_message(b, i));
        if (c->left != UINT64_MAX)
            c->left--;
        if (out_waiting() < FLUSH_BYTES && i + 1 < count && !stop_asked())
            continue;
        if (!out_flush()) {
            stop_ask();
            break;
        }
        status = ack_until(t, i + 1);
        if (stop_asked())
            break;
    }
    hold(t, NULL);
    sluice_batch_free(b);
    return status;
}

static int take_messages(struct taker *t)
{
    struct consumer *c = t->consumer;
    int status = STATUS_OK;
    while (status == 0 && c->left > 0 && !stop_asked()) {
        const struct sluice_receive_options options = {
            .size = sizeof options,
            .max_messages = c->left < RECEIVE_MAX ? (uint32_t)c->left : RECEIVE_MAX,
            .wait_ms = c->exit_at_end ? END_SLICE_MS : WAIT_SLICE_MS,
        };
        struct sluice_batch *b = NULL;
        struct sluice_error err = {0};
        if (sluice_receive(c->client, c->topic, c->group, &options, &b, &err) != 0) {
            if (!client_again(&err))
                status = client_fail(&err, c->topic, c->group);
        } else if (sluice_batch_count(b) > 0) {
            status = write_batch(t, b);
        } else {
            sluice_batch_free(b);
            if (c->exit_at_end && consumer_at_end(c, &status))
                break;
        }
    }
    return status;
}

/* ---- all of it ---- */

/* Waits for the answers that are out. Every request has its time limit, so this ends. */
static int conclude(struct taker *t, int status)
{
    pthread_mutex_lock(&t->lock);
    while (t->unanswered > 0)
        pthread_cond_wait(&t->answered, &t->lock);
    pthread_mutex_unlock(&t->lock);
    if (t->refused == 0)
        return status;
    talk("%" PRIu64 " acknowledgement%s had no effect, the message%s may come again: %s", t->refused,
         PLURAL(t->refused), PLURAL(t->refused), t->refusal.text);
    return status != 0 ? status : status_of(t->refusal.code);
}

int consume_group(struct consumer *c)
{
    struct taker t = {.consumer = c, .done_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.answered, NULL);
    pthread_t keeper;
    int code = pthread_create(&keeper, NULL, keep_leases, &t);
    if (code != 0) {
        talk("cannot start a thread: %s", strerror(code));
        return STATUS_ERROR;
    }
    int status = conclude(&t, take_messages(&t));
    eventfd_write(t.done_fd, 1);
    pthread_join(keeper, NULL);
    close(t.done_fd);
    return status;
}
