// Reference counts of an engine's KV blocks: sessions share immutable blocks, the last holder gives a block back.
// Blocks that hold beginnings of conversations are in an index (prefix_index.h), which keeps some of them when nobody
// holds them: those are given back when there are more than it may keep, or when somebody needs a block.
//
// One per engine, outlives every session that uses it. It also has the helpers with which sessions check the hashes of
// what they adopted, a long conversation's in milliseconds. Threads: the engine's submitting thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/cpu/thread_pool.h"
#include "compute/kv.h"
#include "session/prefix_index.h"

namespace driftwood::session {

class BlockRefs {
  public:
    // `idle_prefixes`: how many blocks of beginnings are kept that nobody holds; nullopt: beginnings are not shared.
    explicit BlockRefs(compute::KvPool& pool, uint32_t threads = 1,
                       std::optional<uint32_t> idle_prefixes = std::nullopt)
        : pool_(pool), idle_limit_(idle_prefixes), helpers_(threads, [] {}) {}
    // Blocks that the index alone holds go back to the pool.
    ~BlockRefs();
    BlockRefs(const BlockRefs&) = delete;
    BlockRefs& operator=(const BlockRefs&) = delete;

    compute::KvPool& pool() { return pool_; }
    const compute::KvPool& pool() const { return pool_; }
    compute::LazyPool& helpers() { return helpers_; }

    Result<compute::BlockId> allocate();  // count 1
    // As KvPool::adopt; count 1 each.
    Result<std::vector<compute::BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count);
    // Of the following, `block` must be held by somebody (CHECK).
    void share(compute::BlockId block);         // count + 1
    void release(compute::BlockId block);       // count - 1; 0 returns it to the pool
    bool shared(compute::BlockId block) const;  // count > 1
    // Blocks that allocate() can give: the pool's free ones and the idle ones.
    uint32_t available() const;

    // ---- Beginnings of conversations.
    bool shares_prefixes() const { return idle_limit_.has_value(); }
    // The block of that key, held once more; nothing when there is none.
    std::optional<compute::BlockId> take_prefix(const PrefixKey& key);
    // `block`, which the caller holds, is full and this node computed it, is found under that key from now on. Where
    // another one is found there already, the caller holds that one instead; the block to go on with.
    compute::BlockId publish_prefix(const PrefixKey& key, compute::BlockId block);
    // The block, which the caller holds, is about to change: it is found no more.
    void forget_prefix(compute::BlockId block) { prefixes_.remove(block); }

    struct PrefixCounts {
        uint64_t blocks_reused = 0;   // times that a block was found and taken
        uint64_t blocks_dropped = 0;  // idle ones that were given back
    };
    const PrefixCounts& prefix_counts() const { return prefix_counts_; }
    uint32_t idle_prefixes() const { return static_cast<uint32_t>(prefixes_.idle()); }

  private:
    void first(compute::BlockId block);
    uint32_t& count(compute::BlockId block);
    bool drop_oldest_idle();  // whether there was one

    compute::KvPool& pool_;
    std::vector<uint32_t> counts_;  // by block; 0: the pool's, or idle
    std::optional<uint32_t> idle_limit_;
    PrefixIndex prefixes_;
    PrefixCounts prefix_counts_;
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
