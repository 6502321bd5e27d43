#include "compute/cuda/kv_pool.h"

#include <algorithm>

#include "compute/cuda/kernels.h"

namespace driftwood::compute::cuda {

namespace {

constexpr size_t kSlabBytes = size_t{256} << 20;
constexpr size_t kReserveBytes = size_t{1} << 30;  // of the card's memory, for everything but blocks

}  // namespace

Result<std::unique_ptr<CudaKvPool>> CudaKvPool::create(const KvLayout& layout, uint32_t capacity,
                                                       const Stream& stream) {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    DW_TRY(check("ask for the card's free memory", cudaMemGetInfo(&free_bytes, &total_bytes)));
    const size_t room = (free_bytes - std::min(free_bytes, kReserveBytes)) / layout.block_bytes();
    if (room == 0) {
        return error(ErrorCode::kLimit, "[compute.cuda] KV blocks: want " + std::to_string(layout.block_bytes()) +
                                            " bytes for one, the card has " + std::to_string(free_bytes) + " free");
    }
    if (capacity == 0) capacity = static_cast<uint32_t>(std::min<size_t>(room, UINT32_MAX));
    DW_ASSIGN(auto host, HostKvPool::create(layout, capacity));
    return std::unique_ptr<CudaKvPool>(new CudaKvPool(std::move(host), stream));
}

CudaKvPool::CudaKvPool(std::unique_ptr<HostKvPool> host, const Stream& stream)
    : host_(std::move(host)),
      stream_(stream),
      slab_blocks_(
          static_cast<uint32_t>(std::clamp<size_t>(kSlabBytes / host_->layout().block_bytes(), 1, host_->capacity()))) {
}

void CudaKvPool::note(const char* what, cudaError_t code) const {
    if (code != cudaSuccess && !failure_) failure_ = cuda_error(what, code);
}

uint8_t* CudaKvPool::address(BlockId block) const {
    return slabs_[block / slab_blocks_].as<uint8_t>() + size_t{block % slab_blocks_} * layout().block_bytes();
}

Result<void> CudaKvPool::reach(BlockId block) {
    while (slabs_.size() <= block / slab_blocks_) {
        DeviceBytes slab;
        DW_TRY(slab.hold(slab_blocks_ * layout().block_bytes()));
        DW_TRY(check("clear blocks", cudaMemsetAsync(slab.as<void>(), 0, slab.size(), stream_.get())));
        slabs_.push_back(std::move(slab));
    }
    if (place_.size() <= block) place_.resize(block + 1);
    return {};
}

Result<BlockId> CudaKvPool::allocate() {
    if (failure_) return *failure_;
    DW_ASSIGN(const BlockId block, host_->allocate());
    if (auto reached = reach(block); !reached.ok()) {
        host_->release(block);
        return std::move(reached).error();
    }
    place_[block] = Place::kBoth;  // zeros
    return block;
}

void CudaKvPool::release(BlockId block) {
    // Cleared at once: nothing of one owner stays on the card.
    if (!failure_) note("clear a block", cudaMemsetAsync(address(block), 0, layout().block_bytes(), stream_.get()));
    host_->release(block);
}

uint8_t* CudaKvPool::on_card(BlockId block, Use use) {
    const uint8_t* mirror = host_->data(block);  // CHECKs the number
    uint8_t* there = address(block);
    if (place_[block] == Place::kHost && !failure_) {
        note("copy a block to the card",
             cudaMemcpyAsync(there, mirror, layout().block_bytes(), cudaMemcpyHostToDevice, stream_.get()));
        place_[block] = Place::kBoth;
    }
    if (use == Use::kWrite) place_[block] = Place::kCard;
    return there;
}

void CudaKvPool::copy(BlockId from, BlockId to, uint32_t rows) {
    CHECK(rows <= kBlockTokens && from != to);
    const uint8_t* source = on_card(from, Use::kRead);
    uint8_t* target = on_card(to, Use::kWrite);
    if (failure_) return;
    note("copy rows of a block", copy_block_rows(stream_.get(), source, target, heads(), layout().head_dim, rows));
}

void CudaKvPool::clear_rows(BlockId block, uint32_t first_row) {
    CHECK(first_row <= kBlockTokens);
    uint8_t* target = on_card(block, Use::kWrite);
    if (failure_) return;
    note("clear rows of a block", clear_block_rows(stream_.get(), target, heads(), layout().head_dim, first_row));
}

Result<std::vector<BlockId>> CudaKvPool::adopt(int fd, uint64_t file_offset, uint32_t count) {
    if (failure_) return *failure_;
    DW_ASSIGN(std::vector<BlockId> blocks, host_->adopt(fd, file_offset, count));
    for (const BlockId block : blocks) {
        if (auto reached = reach(block); !reached.ok()) {
            for (const BlockId mapped : blocks) host_->release(mapped);
            return std::move(reached).error();
        }
        place_[block] = Place::kHost;
    }
    return blocks;
}

std::span<const uint8_t> CudaKvPool::bytes(BlockId block) const {
    uint8_t* mirror = host_->data(block);
    if (place_[block] == Place::kCard && !failure_) {
        note("copy a block from the card",
             cudaMemcpyAsync(mirror, address(block), layout().block_bytes(), cudaMemcpyDeviceToHost, stream_.get()));
        note("copy a block from the card", cudaStreamSynchronize(stream_.get()));
        place_[block] = Place::kBoth;
    }
    return host_->bytes(block);
}

Result<void> CudaKvPool::validate(BlockId block) const {
    bytes(block);
    if (failure_) return *failure_;
    return host_->validate(block);
}

}  // namespace driftwood::compute::cuda
