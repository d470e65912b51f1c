/*
 * Numbers that look random and follow from a seed: for jitter and for simulations that can be run
 * again. Not for secrets or ids; those are entropy.h. xoshiro256** by Blackman and Vigna. One
 * thread per generator.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

/* The same seed gives the same numbers, on every machine and in every version. Any seed is good, 0 too. */
void rng_seed(struct rng *r, uint64_t seed);

/* 64 even bits. */
uint64_t rng_next(struct rng *r);

/* 0 to n-1, each as likely as the others. n is 1 or more. */
uint64_t rng_below(struct rng *r, uint64_t n);

/* lo to hi, both included. lo <= hi. */
uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi);

/* True in `of` cases out of `out_of`. */
bool rng_chance(struct rng *r, uint64_t of, uint64_t out_of);

void rng_fill(struct rng *r, void *out, size_t size);

#endif
