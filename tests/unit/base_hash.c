#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"
#include "unit.h"

enum { BYTES = 5000 };

static uint8_t bytes[BYTES];

static void fill(void)
{
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 131 + i / 7);
}

static void many_bytes_hash_to_what_xxh3_says(void **state)
{
    (void)state;
    fill();
    for (size_t size = 0; size < BYTES; size += 1 + size / 50) {
        assert_int_equal(hash_bytes(bytes + size % 3, size, 0), XXH3_64bits(bytes + size % 3, size));
        assert_int_equal(hash_bytes(bytes, size, 77 + size), XXH3_64bits_withSeed(bytes, size, 77 + size));
    }
}

static void pieces_hash_as_if_they_lay_together(void **state)
{
    (void)state;
    fill();
    for (size_t size = 0; size < BYTES; size += 1 + size / 20)
        for (size_t first = 0; first <= size; first += 1 + first / 5) {
            const struct view pieces[] = {view_of(bytes, first), view_of(NULL, 0),
                                          view_of(bytes + first, (size - first) / 2),
                                          view_of(bytes + first + (size - first) / 2, size - first - (size - first) / 2)};
            assert_int_equal(hash_pieces(pieces, ARRAY_LEN(pieces), size), XXH3_64bits_withSeed(bytes, size, size));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_bytes_hash_to_what_xxh3_says),
        cmocka_unit_test(pieces_hash_as_if_they_lay_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
