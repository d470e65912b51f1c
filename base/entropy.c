#include "base/entropy.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void entropy_fill(void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("getrandom");
            abort();
        }
        at += n;
        size -= (size_t)n;
    }
}
