/*
 * Reading as a member of a stream group: poll, write or run a command, commit.
 *
 *     poll (one partition's messages) --> write ... write, flush --> commit now and then, before a partition goes, and at the end
 *                                     --> run CMD, one after the other: exit 0 is done, 75 is tried again, anything else stops
 *
 * What was written and not committed when we are killed comes again, here or at whoever gets the partition.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/consume.h"
#include "cli/out.h"
#include "cli/stop.h"

enum {
    COMMIT_MS = 200,      /* between commits while messages come */
    AGAIN_MS = 1000,      /* before a command that exited 75 is run again */
    KILL_AFTER_MS = 2000, /* from SIGTERM to SIGKILL */
};

struct follower {
    struct consumer *consumer;
    struct sluice_stream *stream;
    struct sluice_position *done; /* by partition, what was done and not committed */
    size_t done_n;
    uint64_t commit_ms;           /* when it is */
    int status;
};

/* ---- committing ---- */

static void note_done(struct follower *f, uint32_t partition, uint64_t offset)
{
    size_t i = 0;
    while (i < f->done_n && f->done[i].partition != partition)
        i++;
    if (i == f->done_n) {
        f->done = mem_resize(f->done, f->done_n + 1, sizeof *f->done);
        f->done_n++;
    }
    f->done[i] = (struct sluice_position){.partition = partition, .offset = offset};
}

static void commit(struct follower *f)
{
    struct sluice_error err = {0};
    f->commit_ms = clock_mono_ms() + COMMIT_MS;
    if (f->done_n == 0)
        return;
    int code = sluice_stream_commit(f->stream, f->done, f->done_n, &err);
    if (code == SLUICE_STALE_GENERATION)
        talk("%s: its last messages come again where it is read now", err.text);
    else if (code != 0 && !client_again(&err))
        f->status = client_fail(&err, f->consumer->topic, f->consumer->group);
    if (code == 0 || code == SLUICE_STALE_GENERATION)
        f->done_n = 0;
}

static void on_revoked(void *user, const uint32_t *partitions, size_t count, bool lost)
{
    struct follower *f = user;
    if (!lost) {
        commit(f);
        return;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < f->done_n; k++)
            if (f->done[k].partition == partitions[i])
                f->done[k--] = f->done[--f->done_n];
}

/* ---- running a command ---- */

/* Waits until it ended, passing on what it says; *status as waitpid gives it. False: the nursery is gone. */
static bool wait_ended(struct consumer *c, int stderr_fd, struct speech *speech, int *status)
{
    uint64_t kill_ms = UINT64_MAX;
    for (;;) {
        struct pollfd fds[] = {{.fd = c->nursery.fd, .events = POLLIN},
                               {.fd = kill_ms == UINT64_MAX ? stop_fd() : -1, .events = POLLIN},
                               {.fd = stderr_fd, .events = POLLIN}};
        uint64_t now = clock_mono_ms();
        int ready = poll(fds, 3, kill_ms == UINT64_MAX ? -1 : kill_ms > now ? (int)(kill_ms - now) : 0);
        if (ready > 0 && fds[2].revents != 0 && !speech_read(speech, stderr_fd))
            stderr_fd = -1;
        uint32_t slot;
        enum nursery_news news = nursery_next(&c->nursery, &slot, status);
        if (news != NURSERY_QUIET)
            return news == NURSERY_ENDED;
        if (fds[1].revents != 0) {
            nursery_kill(&c->nursery, 0, SIGTERM);
            kill_ms = clock_mono_ms() + KILL_AFTER_MS;
        } else if (kill_ms <= clock_mono_ms()) {
            nursery_kill(&c->nursery, 0, SIGKILL);
            kill_ms = clock_mono_ms() + KILL_AFTER_MS;
        }
    }
}

/* Whether the message is done; if not, f->status says whether that ends all, or it is to be tried again. */
static bool run_command(struct follower *f, const struct sluice_delivery *d)
{
    struct consumer *c = f->consumer;
    struct speech speech = {0};
    struct err e;
    int stderr_fd, status = 0;
    if (consumer_exec(c, 0, d, &stderr_fd, &e) != 0) {
        talk("%s", e.text);
        f->status = STATUS_ERROR;
        return false;
    }
    bool ran = wait_ended(c, stderr_fd, &speech, &status);
    speech_read(&speech, stderr_fd);
    speech_pass(&speech, true);
    close(stderr_fd);
    enum exec_verdict verdict = exec_verdict(status);
    bool done = ran && verdict == EXEC_DONE;
    if (!ran) {
        talk("the process that runs commands was killed");
        f->status = STATUS_ERROR;
    } else if (!done && !stop_asked() && verdict != EXEC_AGAIN) {
        char error[EXEC_ERROR_MAX];
        exec_error(error, status, speech.last);
        talk("%s/%" PRIu32 " offset %" PRIu64 " was not done, and is not committed: %s", c->topic, d->partition, d->offset, error);
        f->status = STATUS_ERROR;
    }
    speech_free(&speech);
    return done;
}

/* ---- messages ---- */

static bool goes_on(const struct follower *f) { return f->status == 0 && f->consumer->left > 0 && !stop_asked(); }

static void take_message(struct follower *f, const struct sluice_delivery *d)
{
    struct consumer *c = f->consumer;
    if (c->nursery.fd >= 0) {
        while (!run_command(f, d))
            if (f->status != 0 || stop_wait(AGAIN_MS))
                return;
    } else {
        consumer_put(c, d);
    }
    note_done(f, d->partition, d->offset + 1);
    if (c->left != UINT64_MAX)
        c->left--;
    if (c->nursery.fd >= 0 && clock_mono_ms() >= f->commit_ms)
        commit(f);
}

static void take_batch(struct follower *f, const struct sluice_batch *b)
{
    for (size_t i = 0; i < sluice_batch_count(b) && goes_on(f); i++)
        take_message(f, sluice_batch_message(b, i));
    if (!out_flush()) { /* what was not written is not done */
        f->done_n = 0;
        stop_ask();
    } else if (clock_mono_ms() >= f->commit_ms) {
        commit(f);
    }
}

/* What is gone was said, and need not be again; what is damaged is as long as it lies there. */
static void pass_gap(struct follower *f, const struct sluice_error *err)
{
    struct sluice_gap gap = {.size = sizeof gap};
    talk("%s", err->text);
    if (!sluice_stream_gap(f->stream, &gap))
        return;
    if (f->consumer->nursery.fd < 0)
        consumer_put_gap(f->consumer, &gap);
    if (err->code == SLUICE_GAP)
        note_done(f, gap.partition, gap.to);
}

static void follow(struct follower *f)
{
    struct consumer *c = f->consumer;
    while (goes_on(f)) {
        struct sluice_batch *b = NULL;
        struct sluice_error err = {0};
        int code = sluice_stream_poll(f->stream, c->exit_at_end ? END_SLICE_MS : WAIT_SLICE_MS, &b, &err);
        if (code == SLUICE_GAP || code == SLUICE_DAMAGED) {
            pass_gap(f, &err);
        } else if (code != 0 && !client_again(&err)) {
            f->status = client_fail(&err, c->topic, c->group);
        } else if (code == 0 && sluice_batch_count(b) > 0) {
            take_batch(f, b);
        } else if (code == 0) {
            commit(f);
            if (c->exit_at_end && f->status == 0 && consumer_at_end(c, &f->status))
                code = SLUICE_CLOSED;
        }
        sluice_batch_free(b);
        if (code == SLUICE_CLOSED)
            break;
    }
}

int consume_stream(struct consumer *c)
{
    struct follower f = {.consumer = c};
    const struct sluice_stream_options o = {.size = sizeof o,
                                            .name = args_text(c->args, "member", NULL),
                                            .session_timeout_ms = (uint32_t)args_number(c->args, "session-timeout", 0),
                                            .auto_commit_ms = UINT32_MAX,
                                            .poll_interval_max_ms = UINT32_MAX, /* a command may take its time */
                                            .max_bytes = c->left != UINT64_MAX ? 64 << 10 : 0,
                                            .revoked = on_revoked,
                                            .user = &f};
    struct sluice_error err = {0};
    if (sluice_stream_open(c->client, c->topic, c->group, &o, &f.stream, &err) != 0)
        return client_fail(&err, c->topic, c->group);
    follow(&f);
    int status = f.status;
    commit(&f);
    if (sluice_stream_close(f.stream, &err) != 0 && status == 0)
        status = client_fail(&err, c->topic, c->group);
    mem_free(f.done);
    return status != 0 ? status : f.status;
}
