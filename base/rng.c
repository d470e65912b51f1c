#include "base/rng.h"

#include <assert.h>

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    assert(n > 0);
    /* 2^64 mod n: with that many of the lowest values left out, every remainder is as likely as the
       others. */
    uint64_t uneven = -n % n;
    uint64_t x;
    do {
        x = rng_next(r);
    } while (x < uneven);
    return x % n;
}

uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi)
{
    assert(lo <= hi);
    uint64_t span = hi - lo;
    return span == UINT64_MAX ? rng_next(r) : lo + rng_below(r, span + 1);
}

bool rng_chance(struct rng *r, uint64_t of, uint64_t out_of)
{
    return rng_below(r, out_of) < of;
}

void rng_fill(struct rng *r, void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        uint64_t x = rng_next(r);
        for (int i = 0; i < 8 && size > 0; i++, size--)
            *at++ = (uint8_t)(x >> (8 * i));
    }
}
