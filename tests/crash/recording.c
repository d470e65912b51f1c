/* See recording.h. */
#include "recording.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"

enum { TRY_S_MAX = 60 };

static struct recording *recording;
static char recording_path[256];

const char *recording_scratch(void) { return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; }

void recording_make_dir(char dir[64])
{
    snprintf(dir, 64, "%s/sluice-power-XXXXXX", recording_scratch());
    assert_non_null(mkdtemp(dir));
}

/* ---------------------------------------------------------------- the run */

static void map_recording(void)
{
    const char *given = getenv("SLUICE_POWER_RECORDING");
    snprintf(recording_path, sizeof recording_path, "%s/sluice-tape-XXXXXX", recording_scratch());
    if (given != NULL)
        snprintf(recording_path, sizeof recording_path, "%s", given);
    int fd = given != NULL ? open(given, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : mkstemp(recording_path);
    if (fd < 0 || ftruncate(fd, sizeof *recording) != 0)
        fail_msg("%s: %s", recording_path, strerror(errno));
    recording = mmap(NULL, sizeof *recording, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    assert_true(recording != MAP_FAILED);
    close(fd);
}

static void the_run(void **state)
{
    (void)state;
    script_run(&recording->tape, recording_path, &recording->ledger, recording->seed);
    recording->whole = true;
}

static void record(void)
{
    pid_t child = fork();
    if (child == 0) {
        cmocka_set_test_filter(NULL); /* which is meant for the tests of the recording */
        const struct CMUnitTest run[] = {cmocka_unit_test(the_run)};
        exit(cmocka_run_group_tests_name("the run that is recorded", run, NULL, NULL));
    }
    int status;
    waitpid(child, &status, 0);
    if (!recording->whole)
        fail_msg("the run failed");
}

struct recording *recording_begin(void)
{
    setenv("TMPDIR", recording_scratch(), 1);
    map_recording();
    recording->seed = crash_seed();
    if (!recording->whole)
        record();
    const struct script_ledger *l = &recording->ledger;
    print_message("recorded: %" PRIu64 " operations, %" PRIu64 " bytes; %u messages, %" PRIu64 " settled, %u units, %" PRIu64 " nacks, %" PRIu64
                  " parked, %" PRIu64 " redriven, %" PRIu64 " dropped, %" PRIu64 " killed, %" PRIu64 " restarted\n",
                  (uint64_t)atomic_load(&recording->tape.ops), (uint64_t)atomic_load(&recording->tape.bytes), l->messages_n, l->settled, l->units,
                  l->nacks, l->parked, l->redriven, l->dropped, l->kills, l->restarts);
    return recording;
}

void recording_end(struct recording *r)
{
    if (getenv("SLUICE_POWER_RECORDING") == NULL)
        unlink(recording_path);
    munmap(r, sizeof *r);
}

/* ---------------------------------------------------------------- a state */

/* In a process of its own, which may be ended by what it opens. */
bool recording_try(const struct script_ledger *l, const char *dir, struct reopen_promise promise, char *why, size_t why_size)
{
    int out[2], status;
    char data[300];
    snprintf(data, sizeof data, "%s/data", dir);
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(TRY_S_MAX);
        const char *wrong = reopen_check(data, l, promise);
        if (wrong != NULL && write(out[1], wrong, strlen(wrong)) < 0)
            _exit(2);
        _exit(wrong != NULL);
    }
    close(out[1]);
    ssize_t n = read(out[0], why, why_size - 1);
    close(out[0]);
    why[n > 0 ? n : 0] = '\0';
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(why, why_size, "it was ended by signal %d", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
