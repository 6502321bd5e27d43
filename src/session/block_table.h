// Reference counts of an engine's KV blocks: sessions share immutable blocks, the last holder gives a block back.
// One per engine, outlives every session that uses it. It also has the helpers with which sessions check the hashes of
// what they adopted, a long conversation's in milliseconds. Threads: the engine's submitting thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/cpu/thread_pool.h"
#include "compute/kv.h"

namespace driftwood::session {

class BlockRefs {
  public:
    explicit BlockRefs(compute::KvPool& pool, uint32_t threads = 1) : pool_(pool), helpers_(threads, [] {}) {}
    compute::KvPool& pool() { return pool_; }
    compute::LazyPool& helpers() { return helpers_; }

    Result<compute::BlockId> allocate();  // count 1
    // As KvPool::adopt; count 1 each.
    Result<std::vector<compute::BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count);
    // Of the following, `block` must be held by somebody (CHECK).
    void share(compute::BlockId block);         // count + 1
    void release(compute::BlockId block);       // count - 1; 0 returns it to the pool
    bool shared(compute::BlockId block) const;  // count > 1

  private:
    void first(compute::BlockId block);
    uint32_t& count(compute::BlockId block);

    compute::KvPool& pool_;
    std::vector<uint32_t> counts_;  // by block; 0: the pool's
    compute::LazyPool helpers_;
};

// How many blocks hold this many tokens.
constexpr uint32_t blocks_for(uint32_t tokens) {
    return tokens / compute::kBlockTokens + (tokens % compute::kBlockTokens != 0 ? 1 : 0);
}

// Whether the rows of tokens [first_row, kBlockTokens) of a block are zeros: what a rewind leaves, and a file must
// have.
bool rows_are_zero(const compute::KvLayout& layout, std::span<const uint8_t> block, uint32_t first_row);

}  // namespace driftwood::session
