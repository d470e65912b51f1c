/* Blocks by LZ4 and Zstd. */
#include "schemas/blocks.h"

#include <assert.h>
#include <lz4.h>
#include <stdlib.h>
#include <zstd.h>

/* Compression stops as soon as the result would not save an eighth, so what cannot be compressed costs little. */
static uint32_t worth(uint32_t size)
{
    return size - (size + 7) / 8;
}

static size_t lz4_pack(const uint8_t *raw, uint32_t size, uint8_t *to, uint32_t room)
{
    int n = LZ4_compress_default((const char *)raw, (char *)to, (int)size, (int)room);
    return n > 0 ? (size_t)n : 0;
}

static size_t zstd_pack(const uint8_t *raw, uint32_t size, uint8_t *to, uint32_t room, ZSTD_CCtx **zstd)
{
    if (*zstd == NULL)
        *zstd = ZSTD_createCCtx();
    if (*zstd == NULL)
        return 0;
    size_t n = ZSTD_compressCCtx(*zstd, to, room, raw, size, ZSTD_CLEVEL_DEFAULT);
    return !ZSTD_isError(n) ? n : 0;
}

bool block_pack(enum batch_codec codec, const uint8_t *raw, uint32_t size, struct buf *out, ZSTD_CCtx **zstd)
{
    assert(size <= WIRE_BLOCK_RAW_MAX);
    uint32_t room = worth(size);
    uint8_t *to = buf_reserve(out, size);
    size_t n = 0;
    if (codec == BATCH_LZ4)
        n = lz4_pack(raw, size, to, room);
    else if (codec == BATCH_ZSTD)
        n = zstd_pack(raw, size, to, room, zstd);
    out->size += n;
    return n != 0;
}

bool block_open(enum batch_codec codec, const uint8_t *stored, uint32_t stored_size, uint8_t *raw,
                uint32_t raw_size, ZSTD_DCtx **zstd)
{
    assert(raw_size <= WIRE_BLOCK_RAW_MAX);
    if (codec == BATCH_LZ4)
        return LZ4_decompress_safe((const char *)stored, (char *)raw, (int)stored_size, (int)raw_size) ==
               (int)raw_size;
    if (codec != BATCH_ZSTD)
        return false;
    if (*zstd == NULL)
        *zstd = ZSTD_createDCtx();
    return *zstd != NULL && ZSTD_decompressDCtx(*zstd, raw, raw_size, stored, stored_size) == raw_size;
}

void block_packer_free(ZSTD_CCtx *zstd)
{
    ZSTD_freeCCtx(zstd);
}

void block_opener_free(ZSTD_DCtx *zstd)
{
    ZSTD_freeDCtx(zstd);
}
