/* CRC32C: ours is RocksDB's, and RocksDB uses ours. */
#include "unit.h"

#include <dlfcn.h>

#include "base/rng.h"
#include "store/rocks.h"

static const char name[] = "_ZN7rocksdb6crc32c6ExtendEjPKcm";

typedef uint32_t extend_fn(uint32_t crc, const char *data, size_t size);

/* RocksDB's own, whoever's is used. */
static extend_fn *theirs(void)
{
    Dl_info of;
    assert_int_not_equal(dladdr((void *)(uintptr_t)rocksdb_open, &of), 0);
    void *lib = dlopen(of.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    assert_non_null(lib);
    extend_fn *f;
    *(void **)(void *)&f = dlsym(lib, name);
    dlclose(lib);
    Dl_info found;
    if (f != NULL && (dladdr((void *)(uintptr_t)f, &found) == 0 || found.dli_fbase != of.dli_fbase))
        fail_msg("%s is not RocksDB's own", name);
    return f;
}

static void the_sum_of_known_bytes_is_the_known_one(void **state)
{
    (void)state;
    assert_int_equal(rocks_crc32c(0, (const uint8_t *)"123456789", 9), 0xe3069283);
    assert_int_equal(rocks_crc32c(rocks_crc32c(0, (const uint8_t *)"1234", 4), (const uint8_t *)"56789", 5), 0xe3069283);
    assert_int_equal(rocks_crc32c(0, NULL, 0), 0);
}

static void ours_and_rocksdbs_are_the_same_function(void **state)
{
    (void)state;
    extend_fn *f = theirs();
    if (f == NULL) {
        print_message("this RocksDB does not show its own\n");
        return;
    }
    struct rng rng;
    uint8_t bytes[4096];
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rng_below(&rng, 256);
    for (int i = 0; i < 2000; i++) {
        size_t at = rng_below(&rng, 64), size = rng_below(&rng, sizeof bytes - 64);
        uint32_t crc = (uint32_t)rng_below(&rng, UINT32_MAX);
        assert_int_equal(rocks_crc32c(crc, bytes + at, size), f(crc, (const char *)bytes + at, size));
    }
}

#ifdef __x86_64__
static void rocksdb_finds_ours_first(void **state)
{
    (void)state;
    Dl_info of, self;
    void *found = dlsym(RTLD_DEFAULT, name);
    assert_non_null(found);
    assert_int_not_equal(dladdr(found, &of), 0);
    assert_int_not_equal(dladdr((void *)(uintptr_t)rocks_crc32c, &self), 0);
    assert_ptr_equal(of.dli_fbase, self.dli_fbase);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_of_known_bytes_is_the_known_one),
        cmocka_unit_test(ours_and_rocksdbs_are_the_same_function),
#ifdef __x86_64__
        cmocka_unit_test(rocksdb_finds_ours_first),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
