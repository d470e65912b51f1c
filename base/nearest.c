#include "base/nearest.h"

#include <string.h>

enum { WORD_MAX = 64 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * Slips between two words: Levenshtein's distance, where swapping two neighbours counts as one. Row
 * i holds the distances of the first i letters of `a` to every beginning of `b`; a swap looks two
 * rows back, so three are kept.
 */
static size_t distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b_size; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t wrong = up[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least(wrong, least(up[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], up2[j - 2] + 1);
        }
    }
    return rows[a_size % 3][b_size];
}

const char *nearest(const char *word, const char *const *names, size_t count)
{
    size_t size = strlen(word);
    if (size > WORD_MAX)
        return NULL;
    size_t best_distance = size / 3 > 1 ? size / 3 : 1;
    const char *best = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t name_size = strlen(names[i]);
        if (name_size > WORD_MAX)
            continue;
        size_t d = distance(word, size, names[i], name_size);
        if (d < best_distance || (d == best_distance && best == NULL)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
