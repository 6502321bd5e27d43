// KV cache as blocks. A block holds kBlockTokens tokens of all layers: K, V and their scales (numerics contract, rule 7),
// contiguous, padded to 64 KiB, in the layout that the CPU kernels read in place and that images store.
//
// Per layer, per kv head, in this order (L = layout.head_bytes() bytes):
//   int16 k[2][head_dim / 2][32][2]   key half (32 keys each), pair of dimensions, key, dimension in the pair
//   int16 v[32][head_dim][2]          pair of keys, dimension, key in the pair
//   f32   ks[64], f32 vs[64]          scale of each key's K row and V row
// so the head (layer l, kv head h) starts at (l * kv_heads + h) * L. Rows of tokens not yet written are zero.
//
// A pool hands out numbers of blocks; tables, lengths and reference counts belong to `session/`. Full blocks never
// change, so whoever holds a number may share it. Threads: the engine's one submitting thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/region.h"

namespace driftwood::compute {

inline constexpr uint32_t kBlockTokens = 64;
inline constexpr uint32_t kKvLayoutVersion = 1;

using BlockId = uint32_t;

struct KvLayout {
    uint32_t layers = 0;
    uint32_t kv_heads = 0;
    uint32_t head_dim = 0;

    size_t k_bytes() const { return size_t{kBlockTokens} * head_dim * 2; }
    size_t head_bytes() const { return 2 * k_bytes() + size_t{2} * kBlockTokens * sizeof(float); }
    size_t head_offset(uint32_t layer, uint32_t kv_head) const {
        return (size_t{layer} * kv_heads + kv_head) * head_bytes();
    }
    // Bytes of one block: all heads, padded to 64 KiB.
    size_t block_bytes() const;
    bool operator==(const KvLayout&) const = default;
};

// The pool of an engine. Blocks are zero when handed out.
class KvPool {
  public:
    virtual ~KvPool() = default;
    virtual const KvLayout& layout() const = 0;
    // A zeroed block; kLimit when the pool is full.
    virtual Result<BlockId> allocate() = 0;
    // Gives a block back; its bytes are cleared before anyone sees them again. CHECKs that it was allocated.
    virtual void release(BlockId block) = 0;
    // Copies the rows of the first `rows` tokens of `from` into `to` (a fork that writes into a shared partial block).
    virtual void copy(BlockId from, BlockId to, uint32_t rows) = 0;
    // Zeroes the rows of tokens [first_row, kBlockTokens): rewound rows leave no trace.
    virtual void clear_rows(BlockId block, uint32_t first_row) = 0;
    // Maps `count` consecutive blocks from a file (private, copy-on-write; CPU pools) and returns their numbers.
    // The caller has checked that the file is long enough and whose it is; hashes and scales are checked before first use.
    virtual Result<std::vector<BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count) = 0;
    // The block in the documented layout. CPU pools return their own bytes; valid until the block is released.
    virtual std::span<const uint8_t> bytes(BlockId block) const = 0;
    // Checks what a file claims: every scale is finite, not negative, and 0 or >= 2^-76 (contract, rule 9).
    virtual Result<void> validate(BlockId block) const = 0;
    virtual uint32_t blocks_in_use() const = 0;
    virtual uint32_t capacity() const = 0;
};

}  // namespace driftwood::compute
