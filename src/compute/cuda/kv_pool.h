// CudaKvPool: KV blocks on the card, each with the same number in a HostKvPool that mirrors it. Bytes move only when
// somebody wants them where they are not: an adopted block goes to the card before its first step, a block that a step
// wrote comes back when bytes() is asked for (freeze). Blocks keep the documented layout on both sides.
//
// The card's memory is taken in slabs as blocks are first used, never inside a step. Threads: the engine's one
// submitting thread. A failing card leaves its error in failure(), and everything afterwards does nothing.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "compute/cuda/runtime.h"
#include "compute/host_kv_pool.h"

namespace driftwood::compute::cuda {

class CudaKvPool final : public KvPool {
  public:
    // `capacity` in blocks; 0: what is free on the card, but for a reserve. The stream outlives the pool.
    static Result<std::unique_ptr<CudaKvPool>> create(const KvLayout& layout, uint32_t capacity, const Stream& stream);

    const KvLayout& layout() const override { return host_->layout(); }
    Result<BlockId> allocate() override;
    void release(BlockId block) override;
    void copy(BlockId from, BlockId to, uint32_t rows) override;
    void clear_rows(BlockId block, uint32_t first_row) override;
    // The file's pages are mapped into the mirror; the card gets a copy before the first step that reads them.
    Result<std::vector<BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count) override;
    std::span<const uint8_t> bytes(BlockId block) const override;
    Result<void> validate(BlockId block) const override;
    Result<void> check_intact(BlockId block) const override { return host_->check_intact(block); }
    uint32_t blocks_in_use() const override { return host_->blocks_in_use(); }
    uint32_t capacity() const override { return host_->capacity(); }

    enum class Use : uint8_t { kRead, kWrite };
    // The block's first byte on the card, where its numbers are by the time later work of the stream runs.
    uint8_t* on_card(BlockId block, Use use);
    const std::optional<Error>& failure() const { return failure_; }

  private:
    // Where a block's current numbers are.
    enum class Place : uint8_t { kCard, kHost, kBoth };

    CudaKvPool(std::unique_ptr<HostKvPool> host, const Stream& stream);
    // Takes slabs until `block` has its place on the card.
    Result<void> reach(BlockId block);
    uint8_t* address(BlockId block) const;
    void note(const char* what, cudaError_t code) const;
    uint32_t heads() const { return layout().layers * layout().kv_heads; }

    std::unique_ptr<HostKvPool> host_;
    const Stream& stream_;
    uint32_t slab_blocks_;
    std::vector<DeviceBytes> slabs_;
    mutable std::vector<Place> place_;  // by block
    mutable std::optional<Error> failure_;
};

}  // namespace driftwood::compute::cuda
