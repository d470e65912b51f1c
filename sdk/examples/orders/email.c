/*
 * Email: an effect outside of Sluice, which no commit covers. It may be asked for again after a crash, so it is made idempotent:
 * a mail is a file in a directory, named by the message's idempotency key, which is the same in every attempt. A file that is there
 * was sent.
 *
 *     orders-email DIRECTORY
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "orders.h"

static const char *directory;

/* Under a name of this process first, so that a mail is there whole or not at all. */
static int mail(const char *name, struct sluice_bytes to, struct sluice_bytes about, char why[WHY_SIZE])
{
    char draft[512], path[512];
    snprintf(draft, sizeof draft, "%s/draft-%ld", directory, (long)getpid());
    snprintf(path, sizeof path, "%s/%s.mail", directory, name);
    FILE *f = fopen(draft, "w");
    bool written = f != NULL && fprintf(f, "To: %.*s\n\nYour order was %.*s.\n", (int)to.size, (const char *)to.data, (int)about.size,
                                        (const char *)about.data) > 0;
    if (f != NULL && fclose(f) != 0)
        written = false;
    bool sent = written && (link(draft, path) == 0 || errno == EEXIST);
    if (!sent)
        snprintf(why, WHY_SIZE, "%s: %s", directory, strerror(errno));
    unlink(draft);
    return sent ? 0 : -1;
}

static int tell(struct sluice_unit *u, const struct sluice_delivery *d, const struct event *event,
                const struct order *before, const struct order *after, char why[WHY_SIZE])
{
    (void)u, (void)event, (void)before, (void)after;
    char name[256];
    sluice_idempotency_key(d, name, sizeof name);
    for (char *c = name; (c = strchr(c, '/')) != NULL;)
        *c = '-';
    return mail(name, d->key, d->value, why);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    directory = argv[1];
    return order_service("email", quantity_read, tell);
}
