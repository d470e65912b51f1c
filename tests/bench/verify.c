/* See verify.h. */
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = INT32_MAX }; /* of one stream; a bit for each */

struct stream {
    uint64_t *bits; /* by number: it came */
    uint64_t words, acknowledged, next;
};

struct verify {
    bool ordered;
    uint32_t count;
    uint64_t seen, repeated, reordered, damaged;
    struct stream streams[];
};

struct verify *verify_new(uint32_t streams, bool ordered)
{
    struct verify *v = calloc(1, sizeof *v + streams * sizeof *v->streams);
    if (v == NULL)
        abort();
    v->ordered = ordered;
    v->count = streams;
    return v;
}

void verify_free(struct verify *v)
{
    for (uint32_t i = 0; v != NULL && i < v->count; i++)
        free(v->streams[i].bits);
    free(v);
}

void verify_produced(struct verify *v, uint32_t stream, uint64_t count)
{
    v->streams[stream].acknowledged = count;
}

static void make_room(struct stream *s, uint64_t number)
{
    uint64_t need = number / 64 + 1;
    if (need <= s->words)
        return;
    uint64_t words = s->words * 2 > need ? s->words * 2 : need;
    s->bits = realloc(s->bits, words * sizeof *s->bits);
    if (s->bits == NULL)
        abort();
    memset(s->bits + s->words, 0, (words - s->words) * sizeof *s->bits);
    s->words = words;
}

static bool came(const struct stream *s, uint64_t number)
{
    return number / 64 < s->words && (s->bits[number / 64] >> (number % 64) & 1) != 0;
}

static void mark(struct verify *v, const struct payload_head *head)
{
    struct stream *s = &v->streams[head->stream];
    if (came(s, head->number)) {
        v->repeated++;
        return;
    }
    make_room(s, head->number);
    s->bits[head->number / 64] |= UINT64_C(1) << (head->number % 64);
    v->seen++;
    if (v->ordered && head->number < s->next)
        v->reordered++;
    if (head->number >= s->next)
        s->next = head->number + 1;
}

bool verify_seen(struct verify *v, const void *data, size_t size, struct payload_head *head)
{
    struct payload_head own;
    if (head == NULL)
        head = &own;
    if (!payload_read(data, size, head) || head->stream >= v->count || head->number > NUMBER_MAX) {
        v->damaged++;
        return false;
    }
    mark(v, head);
    return true;
}

uint64_t verify_count(const struct verify *v)
{
    return v->seen;
}

static uint64_t missing(const struct stream *s)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->acknowledged; i++)
        n += !came(s, i);
    return n;
}

struct verdict verify_end(const struct verify *v)
{
    struct verdict d = {.seen = v->seen, .repeated = v->repeated, .reordered = v->reordered, .damaged = v->damaged};
    for (uint32_t i = 0; i < v->count; i++) {
        d.expected += v->streams[i].acknowledged;
        d.lost += missing(&v->streams[i]);
    }
    return d;
}

bool verdict_good(const struct verdict *d)
{
    return d->lost + d->repeated + d->reordered + d->damaged == 0;
}

char *verdict_text(const struct verdict *d, char out[160])
{
    const struct { const char *what; uint64_t count; } parts[] = {
        {"lost", d->lost}, {"repeated", d->repeated}, {"out of order", d->reordered}, {"damaged", d->damaged}};
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].count > 0)
            n += (size_t)snprintf(out + n, 160 - n, "%s%llu %s", n > 0 ? ", " : "", (unsigned long long)parts[i].count, parts[i].what);
    return out;
}
