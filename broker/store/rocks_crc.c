/* CRC32C: what RocksDB sums its logs and blob files with. Eight bytes a step, by the CPU's own instruction where it has one, else by tables.
 *
 * RocksDB has it too; but built for any x86-64, as Debian builds it, it takes four bytes a step by tables, which was a quarter of what
 * the broker did for a produce and half of a read. Its function is looked up by name when it is first called, and a program's own goes
 * before a library's: so the program has one, which is ours. Where a RocksDB binds its own inside, or on another CPU, it is as before.
 */
#include <pthread.h>
#include <string.h>

#include "store/rocks.h"

static uint32_t tables[8][256];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
}

static uint32_t by_tables(uint32_t crc, const uint8_t *data, size_t size)
{
    pthread_once(&made, make_tables);
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = crc ^ get_u32(data), high = get_u32(data + 4);
        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^ tables[4][low >> 24] ^
              tables[3][high & 255] ^ tables[2][high >> 8 & 255] ^ tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
    }
    for (; size > 0; data++, size--)
        crc = crc >> 8 ^ tables[0][(crc ^ *data) & 255];
    return crc;
}

#ifdef __x86_64__

__attribute__((target("sse4.2"))) static uint32_t by_cpu(uint32_t crc, const uint8_t *data, size_t size)
{
    uint64_t wide = crc;
    for (; size >= sizeof wide; data += sizeof wide, size -= sizeof wide) {
        uint64_t word;
        memcpy(&word, data, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; size > 0; data++, size--)
        crc = __builtin_ia32_crc32qi(crc, *data);
    return crc;
}

uint32_t rocks_crc32c(uint32_t crc, const uint8_t *data, size_t size)
{
    return ~(__builtin_cpu_supports("sse4.2") ? by_cpu : by_tables)(~crc, data, size);
}

/* rocksdb::crc32c::Extend */
uint32_t rocks_extend(uint32_t crc, const char *data, size_t size) __asm__("_ZN7rocksdb6crc32c6ExtendEjPKcm") __attribute__((visibility("default")));

uint32_t rocks_extend(uint32_t crc, const char *data, size_t size) { return rocks_crc32c(crc, (const uint8_t *)data, size); }

#else

uint32_t rocks_crc32c(uint32_t crc, const uint8_t *data, size_t size) { return ~by_tables(~crc, data, size); }

#endif

uint32_t rocks_crc_masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }
