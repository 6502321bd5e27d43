// KV cache as blocks. A block holds kBlockTokens tokens of all layers: K, V and their scales (numerics contract, rule
// 7), contiguous, padded to 64 KiB, in the layout that the CPU kernels read in place and that images store.
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
#include "compute/constants.h"

namespace driftwood::compute {

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

// One head's part of a block, read number by number: how the layout above is addressed, for whoever is in no hurry.
class KvHeadView {
  public:
    KvHeadView(const uint8_t* head, uint32_t head_dim) : head_(head), head_dim_(head_dim) {}
    uint32_t head_dim() const { return head_dim_; }
    int16_t k(uint32_t token, uint32_t d) const { return ints()[k_index(head_dim_, token, d)]; }
    int16_t v(uint32_t token, uint32_t d) const { return ints()[v_index(head_dim_, token, d)]; }
    float k_scale(uint32_t token) const { return scales()[token]; }
    float v_scale(uint32_t token) const { return scales()[kBlockTokens + token]; }

    // Where a number lies, in int16 from the head's start.
    static size_t k_index(uint32_t head_dim, uint32_t token, uint32_t d) {
        const size_t half_start = size_t{token / 32} * head_dim * 32;
        return half_start + size_t{d / 2} * 64 + size_t{token % 32} * 2 + d % 2;
    }
    static size_t v_index(uint32_t head_dim, uint32_t token, uint32_t d) {
        return size_t{kBlockTokens} * head_dim + (size_t{token / 2} * head_dim + d) * 2 + token % 2;
    }

  private:
    const int16_t* ints() const { return reinterpret_cast<const int16_t*>(head_); }
    const float* scales() const { return reinterpret_cast<const float*>(head_ + size_t{4} * kBlockTokens * head_dim_); }
    const uint8_t* head_;
    uint32_t head_dim_;
};

// Write one token's K or V row (head_dim numbers and their scale) into a head's part of a block.
void store_k_row(uint8_t* head, uint32_t head_dim, uint32_t token, const int16_t* k, float scale);
void store_v_row(uint8_t* head, uint32_t head_dim, uint32_t token, const int16_t* v, float scale);

// Zeroes the rows of tokens [first_token, kBlockTokens) of every head of a block.
void clear_block_rows(const KvLayout& layout, uint8_t* block, uint32_t first_token);

// Copies the rows of tokens [0, tokens) of every head.
void copy_block_rows(const KvLayout& layout, const uint8_t* from, uint8_t* to, uint32_t tokens);

// Whether every scale of the block is finite, not negative, and 0 or at least kMinKvScale (contract, rule 9).
Result<void> check_block_scales(const KvLayout& layout, const uint8_t* block);

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
    // The caller has checked that the file is long enough and whose it is; hashes and scales are checked before first
    // use.
    virtual Result<std::vector<BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count) = 0;
    // The block in the documented layout. CPU pools return their own bytes; valid until the block is released.
    virtual std::span<const uint8_t> bytes(BlockId block) const = 0;
    // Checks what a file claims: every scale is finite, not negative, and 0 or >= 2^-76 (contract, rule 9).
    virtual Result<void> validate(BlockId block) const = 0;
    // kIo when the block was adopted and its file has become shorter or unreadable: it may read as zeros, and so may
    // have what was computed from it. Pools that copy what they adopt lose nothing.
    virtual Result<void> check_intact(BlockId) const { return {}; }
    virtual uint32_t blocks_in_use() const = 0;
    virtual uint32_t capacity() const = 0;
};

}  // namespace driftwood::compute
