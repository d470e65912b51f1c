/* One block of a section: compressed alone, so that reading one record opens one block. */
#ifndef SCHEMAS_BLOCKS_H
#define SCHEMAS_BLOCKS_H

#include "schemas/records.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

/* Compresses `size` raw bytes, at most WIRE_BLOCK_RAW_MAX, and appends the result to `out` if that saves an eighth. False: it does
 * not, and `out` is as it was. `zstd` is made when first needed and freed by the caller. */
bool block_pack(enum batch_codec codec, const uint8_t *raw, uint32_t size, struct buf *out,
                struct ZSTD_CCtx_s **zstd);

/* Opens a compressed block into exactly `raw_size` bytes at `raw`; false: it is not one. Any bytes are safe. */
bool block_open(enum batch_codec codec, const uint8_t *stored, uint32_t stored_size, uint8_t *raw,
                uint32_t raw_size, struct ZSTD_DCtx_s **zstd);

void block_packer_free(struct ZSTD_CCtx_s *zstd);
void block_opener_free(struct ZSTD_DCtx_s *zstd);

#endif
