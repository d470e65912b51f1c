/*
 * PostgreSQL: a table of jobs. A batch is published by one COPY in its binary form, which is a transaction of its own; it is taken by
 * SELECT .. FOR UPDATE SKIP LOCKED and removed in the same transaction, whose commit is the acknowledgement and whose end without one
 * gives it back. `disk` is synchronous_commit on, `os` off.
 *
 * It refuses to run as root, so then it runs as the system user postgres, or else nobody.
 */
#include "peer.h"

#if !BENCH_HAS_LIBPQ
PEER_WITHOUT(postgresql, "postgresql", "PostgreSQL", "libpq");
#else

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

struct postgresql {
    struct server server;
    struct account account;
    uint16_t port;
    char version[40], sockets[32];
};

/* ---------------------------------------------------------------- a connection */

struct lane {
    const struct job *job;
    PGconn *c;
    struct feed feed;
    char *rows;                   /* a batch as COPY wants it */
    size_t row_size;
};

static int broken(PGconn *c, const char *what, struct err *e)
{
    const char *said = PQerrorMessage(c);
    return err_set(e, EPROTO, "postgresql: %s: %.*s", what, (int)strcspn(said, "\n"), said);
}

static int dial(const struct postgresql *p, PGconn **c, struct err *e)
{
    char where[128];
    snprintf(where, sizeof where, "host=127.0.0.1 port=%u user=bench dbname=postgres sslmode=disable gssencmode=disable", p->port);
    *c = PQconnectdb(where);
    return PQstatus(*c) == CONNECTION_OK ? 0 : broken(*c, "connect", e);
}

/* Runs what answers with no rows that matter. */
static int run_sql(PGconn *c, const char *sql, struct err *e)
{
    PGresult *r = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    PQclear(r);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : broken(c, sql, e);
}

/* ---------------------------------------------------------------- produce */

static const char copy_head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* with the final zero: signature, flags, no extension */

enum { COPY_HEAD = 19, ROW_HEAD = 6 };

/* Of each row: one column, its length, the payload. */
static void lay_out(struct lane *l, uint32_t messages)
{
    uint16_t columns = htons(1);
    uint32_t size = htonl(l->job->work->size);
    for (uint32_t i = 0; i < messages; i++) {
        char *row = l->rows + i * l->row_size;
        memcpy(row, &columns, sizeof columns);
        memcpy(row + sizeof columns, &size, sizeof size);
        feed_fill(&l->feed, row + ROW_HEAD);
    }
}

static int copy_batch(struct lane *l, uint32_t messages, struct err *e)
{
    PGresult *r = PQexec(l->c, "COPY jobs (payload) FROM STDIN (FORMAT binary)");
    bool good = PQresultStatus(r) == PGRES_COPY_IN;
    PQclear(r);
    static const char tail[] = {'\377', '\377'};
    lay_out(l, messages);
    good = good && PQputCopyData(l->c, copy_head, COPY_HEAD) == 1 && PQputCopyData(l->c, l->rows, (int)(messages * l->row_size)) == 1 &&
           PQputCopyData(l->c, tail, sizeof tail) == 1 && PQputCopyEnd(l->c, NULL) == 1;
    int code = good ? 0 : broken(l->c, "COPY", e);
    while ((r = PQgetResult(l->c)) != NULL) {
        if (PQresultStatus(r) != PGRES_COMMAND_OK && code == 0)
            code = broken(l->c, "COPY", e);
        PQclear(r);
    }
    return code;
}

static int produce_lane(struct load_lane *load, struct err *e)
{
    struct job *j = load->user;
    struct lane l = {.job = j, .row_size = ROW_HEAD + j->work->size};
    int code = dial(j->run, &l.c, e);
    l.rows = malloc(l.row_size * j->work->batch);
    if (l.rows == NULL)
        abort();
    if (code == 0) {
        feed_open(&l.feed, j, load->index);
        load_ready(load);
    }
    for (struct load_ticket t; code == 0 && load_next(load, &t);) {
        code = copy_batch(&l, t.messages, e);
        load_done(load, &t);
    }
    if (code == 0)
        feed_close(&l.feed);
    PQfinish(l.c);
    free(l.rows);
    return code;
}

static int postgresql_produce(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct postgresql *p = run;
    struct job j = {.run = p, .account = &p->account, .work = w};
    return job_produce(&j, &p->server, produce_lane, out, e);
}

/* ---------------------------------------------------------------- queue */

static const char take_sql[] =
    "DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING payload";

/* In one go: the commit of what is held, and what takes the next. */
static bool ask(struct lane *l, bool commit, bool more)
{
    char batch[16];
    const char *values[] = {batch};
    snprintf(batch, sizeof batch, "%u", l->job->work->batch);
    bool good = true;
    if (commit)
        good = PQsendQueryParams(l->c, "COMMIT", 0, NULL, NULL, NULL, NULL, 1) == 1;
    if (more)
        good = good && PQsendQueryParams(l->c, "BEGIN", 0, NULL, NULL, NULL, NULL, 1) == 1 &&
               PQsendQueryPrepared(l->c, "take", 1, values, NULL, NULL, 1) == 1;
    return good && PQpipelineSync(l->c) == 1;
}

/* The answer to one statement of the pipeline; NULL and an error when it is no good. */
static PGresult *answer(struct lane *l, struct err *e)
{
    PGresult *r = PQgetResult(l->c);
    ExecStatusType status = PQresultStatus(r);
    PGresult *end = PQgetResult(l->c);
    PQclear(end);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return r;
    broken(l->c, "take", e);
    PQclear(r);
    return NULL;
}

static int statement_done(struct lane *l, struct err *e)
{
    PGresult *r = answer(l, e);
    PQclear(r);
    return r != NULL ? 0 : EPROTO;
}

static int take_rows(struct lane *l, uint32_t *held, struct err *e)
{
    struct account *a = l->job->account;
    if (statement_done(l, e) != 0)
        return EPROTO;
    PGresult *r = answer(l, e);
    if (r == NULL)
        return EPROTO;
    *held = (uint32_t)PQntuples(r);
    account_lock(a);
    for (int i = 0; i < (int)*held; i++)
        account_seen(a, PQgetvalue(r, i, 0), (size_t)PQgetlength(r, i, 0));
    account_unlock(a);
    PQclear(r);
    return 0;
}

static int take_all(struct lane *l, struct load_lane *load, struct err *e)
{
    uint32_t held = 0;
    uint64_t since = 0;
    int code = 0;
    for (bool open = false, more = true; code == 0 && (open || more);) {
        more = intake_goes_on(l->job, load);
        if (!open && !more)
            break;
        uint64_t asked = clock_mono_ns();
        if (!ask(l, open, more))
            return broken(l->c, "send", e);
        if (open)
            code = statement_done(l, e);
        if (code == 0 && open && held > 0)
            intake_done(l->job, load, since, held);
        since = asked;
        open = more;
        held = 0;
        if (code == 0 && more)
            code = take_rows(l, &held, e);
        PQclear(PQgetResult(l->c)); /* of the sync */
    }
    return code;
}

static int queue_lane(struct load_lane *load, struct err *e)
{
    struct lane l = {.job = load->user};
    int code = dial(l.job->run, &l.c, e);
    if (code == 0) {
        PGresult *r = PQprepare(l.c, "take", take_sql, 1, NULL);
        code = PQresultStatus(r) == PGRES_COMMAND_OK ? 0 : broken(l.c, "prepare", e);
        PQclear(r);
    }
    if (code == 0 && PQenterPipelineMode(l.c) != 1)
        code = broken(l.c, "pipeline", e);
    if (code == 0) {
        load_ready(load);
        code = take_all(&l, load, e);
    }
    PQfinish(l.c);
    return code;
}

static int postgresql_queue(void *run, const struct work *w, struct outcome *out, struct err *e)
{
    struct postgresql *p = run;
    struct job j = {.run = p, .account = &p->account, .work = w};
    return job_queue(&j, &p->server, queue_lane, out, e);
}

/* ---------------------------------------------------------------- the server */

/* The newest version that Debian has put somewhere. */
static bool find_programs(char dir[PATH_MAX])
{
    glob_t found;
    bool any = glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (any) {
        snprintf(dir, PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
        *strrchr(dir, '/') = '\0';
    }
    globfree(&found);
    return any;
}

static bool postgresql_present(char why[160])
{
    char dir[PATH_MAX];
    bool any = find_programs(dir);
    if (!any)
        snprintf(why, 160, "there is no PostgreSQL in /usr/lib/postgresql");
    return any;
}

/* Whom it runs as: 0 when as we do. */
static uid_t other_user(gid_t *group)
{
    if (getuid() != 0)
        return 0;
    const struct passwd *user = getpwnam("postgres");
    if (user == NULL)
        user = getpwnam("nobody");
    *group = user != NULL ? user->pw_gid : 0;
    return user != NULL ? user->pw_uid : 0;
}

enum { ARGV_MAX = 32, PREFIX = 4 };

/* Puts what changes the user in front, if that is needed; returns where the command begins. */
static size_t put_user(const char *argv[ARGV_MAX], char user[2][32])
{
    gid_t group = 0;
    uid_t uid = other_user(&group);
    if (uid == 0)
        return 0;
    snprintf(user[0], 32, "--reuid=%u", uid);
    snprintf(user[1], 32, "--regid=%u", group);
    argv[0] = "setpriv";
    argv[1] = user[0];
    argv[2] = user[1];
    argv[3] = "--clear-groups";
    return PREFIX;
}

/* Its directory belongs to whom it runs as, who must be able to get there. */
static int give_away(const char *dir, struct err *e)
{
    gid_t group = 0;
    uid_t uid = other_user(&group);
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", dir);
    if (uid != 0 && chown(dir, uid, group) != 0)
        return err_set(e, errno, "%s: %s", dir, strerror(errno));
    *strrchr(parent, '/') = '\0';
    if (uid != 0 && chmod(parent, 0711) != 0)
        return err_set(e, errno, "%s: %s", parent, strerror(errno));
    return 0;
}

static int make_cluster(const char *programs, const char *dir, const char *data, struct err *e)
{
    char initdb[PATH_MAX + 16], user[2][32];
    const char *argv[ARGV_MAX] = {0};
    size_t n = put_user(argv, user);
    snprintf(initdb, sizeof initdb, "%s/initdb", programs);
    const char *const words[] = {initdb, "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    memcpy(argv + n, words, sizeof words);
    struct server once;
    int code = server_start(&once, &(struct server_spec){.name = "initdb", .argv = argv, .dir = dir}, e);
    while (code == 0 && server_runs(&once))
        usleep(1000);
    return code;
}

static int start_server(struct postgresql *p, const char *programs, const char *dir, const char *data, bool disk, struct err *e)
{
    char program[PATH_MAX + 16], conf[PATH_MAX], file[PATH_MAX + 16], port[16], user[2][32], commit[40];
    const char *argv[ARGV_MAX] = {0};
    size_t n = put_user(argv, user);
    int code = workdir_below(dir, "conf", conf, e);
    if (code != 0)
        return code;
    chmod(conf, 0755);
    snprintf(file, sizeof file, "%s/postgresql.conf", conf);
    snprintf(program, sizeof program, "%s/postgres", programs);
    snprintf(port, sizeof port, "%u", p->port);
    snprintf(commit, sizeof commit, "synchronous_commit=%s", disk ? "on" : "off");
    code = peer_configure("postgresql.conf", file, "", e);
    const char *words[] = {program, "-D", data, "-c", NULL, "-c", commit, "-c", "listen_addresses=127.0.0.1", "-c",
                           "unix_socket_directories=", "-p", port, NULL};
    char conf_word[PATH_MAX + 40];
    snprintf(conf_word, sizeof conf_word, "config_file=%s", file);
    words[4] = conf_word;
    memcpy(argv + n, words, sizeof words);
    if (code == 0)
        code = server_start(&p->server, &(struct server_spec){.name = "postgresql", .argv = argv, .dir = dir}, e);
    return code != 0 ? code : server_wait_port(&p->server, p->port, 60, e);
}

/* It listens before it lets anybody in. */
static int prepare(struct postgresql *p, struct err *e)
{
    PGconn *c = NULL;
    int code = ETIMEDOUT;
    for (int i = 0; i < 300 && code != 0; i++) {
        PQfinish(c);
        code = dial(p, &c, e);
        if (code != 0)
            usleep(50000);
    }
    if (code == 0)
        code = run_sql(c, "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)", e);
    if (code == 0) {
        const char *version = PQparameterStatus(c, "server_version");
        snprintf(p->version, sizeof p->version, "%.*s", (int)strcspn(version, " "), version);
    }
    PQfinish(c);
    return code;
}

static void postgresql_stop(void *run)
{
    struct postgresql *p = run;
    server_stop(&p->server);
    account_close(&p->account);
    free(p);
}

static int postgresql_start(const char *dir, const struct work *w, void **run, struct err *e)
{
    char programs[PATH_MAX], data[PATH_MAX];
    struct postgresql *p = calloc(1, sizeof *p);
    if (p == NULL)
        abort();
    account_open(&p->account);
    p->port = server_free_port();
    int code = find_programs(programs) ? give_away(dir, e) : err_set(e, ENOENT, "there is no PostgreSQL");
    if (code == 0)
        code = workdir_below(dir, "data", data, e);
    if (code == 0)
        code = give_away(data, e);
    if (code == 0)
        code = make_cluster(programs, dir, data, e);
    if (code == 0)
        code = start_server(p, programs, dir, data, w->durability == SLUICE_DISK, e);
    if (code == 0)
        code = prepare(p, e);
    if (code != 0)
        postgresql_stop(p);
    else
        *run = p;
    return code;
}

static const char *postgresql_version(void *run)
{
    return ((struct postgresql *)run)->version;
}

static const struct server *postgresql_server(void *run)
{
    return &((struct postgresql *)run)->server;
}

const struct rival rival_postgresql = {
    .name = "postgresql",
    .title = "PostgreSQL",
    .kind = RIVAL_PEER,
    .disk = true,
    .os = true,
    .connections = 10,
    .present = postgresql_present,
    .start = postgresql_start,
    .stop = postgresql_stop,
    .version = postgresql_version,
    .server = postgresql_server,
    .produce = postgresql_produce,
    .queue = postgresql_queue,
};

#endif
