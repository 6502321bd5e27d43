// HostKvPool: the KV blocks of a CPU engine, in one memory::Region. Block i lies at i * layout.block_bytes(), so a
// number is an address for as long as the pool lives. Memory is committed when first used and goes back to the system
// when a block is released, which is also what clears it.
//
// Threads: one at a time; kernels may read and write blocks in use while nobody calls the pool.
#pragma once

#include <memory>
#include <vector>

#include "compute/kv.h"
#include "memory/region.h"

namespace driftwood::compute {

class HostKvPool final : public KvPool {
  public:
    // `capacity` in blocks; 0: as many as the memory holds that is free now, up to kMostReserved. kLimit when their
    // addresses cannot be reserved.
    static Result<std::unique_ptr<HostKvPool>> create(const KvLayout& layout, uint32_t capacity);

    static constexpr size_t kMostReserved = size_t{64} << 30;

    const KvLayout& layout() const override { return layout_; }
    Result<BlockId> allocate() override;
    void release(BlockId block) override;
    void copy(BlockId from, BlockId to, uint32_t rows) override;
    void clear_rows(BlockId block, uint32_t first_row) override;
    Result<std::vector<BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count) override;
    std::span<const uint8_t> bytes(BlockId block) const override;
    Result<void> validate(BlockId block) const override;
    Result<void> check_intact(BlockId block) const override;
    uint32_t blocks_in_use() const override { return in_use_; }
    uint32_t capacity() const override { return capacity_; }

    // The block's first byte, for the engine. CHECKs that the block is in use.
    uint8_t* data(BlockId block);

  private:
    HostKvPool(const KvLayout& layout, uint32_t capacity, memory::Region region);
    // The first of `count` consecutive free slots, committed; kLimit when there are none.
    Result<BlockId> take(uint32_t count);
    size_t offset(BlockId block) const { return size_t{block} * layout_.block_bytes(); }
    bool is_used(BlockId block) const { return block < used_.size() && used_[block]; }

    KvLayout layout_;
    uint32_t capacity_;
    memory::Region region_;
    std::vector<bool> used_;   // one for each slot committed so far; free slots are zero pages
    uint32_t first_free_ = 0;  // no slot below it is free
    uint32_t in_use_ = 0;
};

}  // namespace driftwood::compute
