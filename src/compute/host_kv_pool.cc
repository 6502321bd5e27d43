#include "compute/host_kv_pool.h"

#include <algorithm>
#include <limits>
#include <string>

#include "memory/available.h"
#include "memory/huge_pages.h"

namespace driftwood::compute {

namespace {

// A decode reads all of a conversation's keys and values, at places far apart: with pages of 4 KiB a kernel that does
// not ask ahead (cpu/ahead.h) spends a fifth of its time on looking up addresses. So blocks that are at least a huge
// page long ask for huge ones; shorter ones would get more memory than they hold. All committed slots ask, so that
// neighbours stay one mapping. A system that has none to give goes on as it was.
void prefer_huge_pages(std::span<uint8_t> slots, size_t block_bytes) {
    if (block_bytes >= memory::kHugePage) memory::prefer_huge_pages(slots.data(), slots.size());
}

}  // namespace

Result<std::unique_ptr<HostKvPool>> HostKvPool::create(const KvLayout& layout, uint32_t capacity) {
    const size_t block_bytes = layout.block_bytes();
    if (block_bytes == 0) return error(ErrorCode::kInvalidArgument, "[compute.kv] layout: want a size above 0, got 0");
    if (capacity == 0) {
        // Blocks that no memory stands behind would end the process, not the request that wants one.
        const uint64_t available = memory::available_bytes();
        const size_t bytes = available == 0 ? kMostReserved : std::min<uint64_t>(kMostReserved, available);
        const size_t fitting = std::max<size_t>(1, bytes / block_bytes);
        capacity = static_cast<uint32_t>(std::min<size_t>(fitting, std::numeric_limits<uint32_t>::max()));
    }
    if (capacity > std::numeric_limits<size_t>::max() / block_bytes) {
        return error(ErrorCode::kLimit, "[compute.kv] " + std::to_string(capacity) + " blocks of " +
                                            std::to_string(block_bytes) + " bytes: more than can be addressed");
    }
    DW_ASSIGN(memory::Region region, memory::Region::reserve(capacity * block_bytes));
    return std::unique_ptr<HostKvPool>(new HostKvPool(layout, capacity, std::move(region)));
}

HostKvPool::HostKvPool(const KvLayout& layout, uint32_t capacity, memory::Region region)
    : layout_(layout), capacity_(capacity), region_(std::move(region)) {}

Result<BlockId> HostKvPool::take(uint32_t count) {
    // First fit. A free run may reach past the slots that are committed.
    uint32_t begin = first_free_;
    uint32_t end = begin;
    while (end < used_.size() && end - begin < count) {
        if (used_[end]) begin = end + 1;
        ++end;
    }
    if (count > capacity_ || begin > capacity_ - count) {
        return error(ErrorCode::kLimit, "[compute.kv] " + std::to_string(count) + " block(s): the pool holds " +
                                            std::to_string(capacity_) + ", " + std::to_string(in_use_) +
                                            " are in use; end or rewind sessions, or start with more memory free");
    }
    const size_t committed = region_.size();
    DW_TRY(region_.grow(offset(begin + count)));
    prefer_huge_pages(region_.bytes().subspan(committed), layout_.block_bytes());
    if (used_.size() < begin + count) used_.resize(begin + count, false);
    return begin;
}

Result<BlockId> HostKvPool::allocate() {
    DW_ASSIGN(const BlockId block, take(1));
    used_[block] = true;
    first_free_ = block + 1;
    ++in_use_;
    return block;
}

void HostKvPool::release(BlockId block) {
    CHECK(is_used(block));
    // Whatever backed the slot, it is anonymous zero pages again: nothing of one owner reaches the next.
    region_.reset(offset(block), layout_.block_bytes()).value();
    prefer_huge_pages(region_.bytes().subspan(offset(block), layout_.block_bytes()), layout_.block_bytes());
    used_[block] = false;
    first_free_ = std::min(first_free_, block);
    --in_use_;
}

void HostKvPool::copy(BlockId from, BlockId to, uint32_t rows) {
    CHECK(rows <= kBlockTokens && from != to);
    copy_block_rows(layout_, data(from), data(to), rows);
}

void HostKvPool::clear_rows(BlockId block, uint32_t first_row) {
    CHECK(first_row <= kBlockTokens);
    if (first_row < kBlockTokens) clear_block_rows(layout_, data(block), first_row);
}

Result<std::vector<BlockId>> HostKvPool::adopt(int fd, uint64_t file_offset, uint32_t count) {
    if (count == 0) return std::vector<BlockId>{};
    DW_ASSIGN(const BlockId first, take(count));
    DW_TRY(region_.map_file(offset(first), fd, file_offset, count * layout_.block_bytes()));
    std::vector<BlockId> blocks(count);
    for (uint32_t i = 0; i < count; ++i) {
        blocks[i] = first + i;
        used_[first + i] = true;
    }
    if (first == first_free_) first_free_ = first + count;
    in_use_ += count;
    return blocks;
}

std::span<const uint8_t> HostKvPool::bytes(BlockId block) const {
    CHECK(is_used(block));
    return {region_.base() + offset(block), layout_.block_bytes()};
}

Result<void> HostKvPool::validate(BlockId block) const { return check_block_scales(layout_, bytes(block).data()); }

Result<void> HostKvPool::check_intact(BlockId block) const {
    CHECK(is_used(block));
    return region_.check_intact(offset(block), layout_.block_bytes());
}

uint8_t* HostKvPool::data(BlockId block) {
    CHECK(is_used(block));
    return region_.base() + offset(block);
}

}  // namespace driftwood::compute
