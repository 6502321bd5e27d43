#include "compute/paged_kv_pool.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace driftwood::compute {

// ---- slots

PagedKvPool::Slots::Slots(size_t block_bytes, uint32_t limit, size_t slab_bytes)
    : block_bytes_(block_bytes),
      slab_blocks_(static_cast<uint32_t>(std::max<size_t>(slab_bytes / block_bytes, 1))),
      limit_(limit) {}

uint32_t PagedKvPool::Slots::take() {
    CHECK(!free_.empty());
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
}

size_t PagedKvPool::Slots::next_slab() const { return std::min<size_t>(slab_blocks_, limit_ - count_) * block_bytes_; }

void PagedKvPool::Slots::add(uint8_t* slab) {
    const size_t blocks = next_slab() / block_bytes_;
    CHECK(blocks > 0);
    slabs_.push_back(slab);
    for (size_t i = blocks; i > 0; --i) free_.push_back(static_cast<uint32_t>(count_ + i - 1));
    count_ += blocks;
}

uint8_t* PagedKvPool::Slots::at(uint32_t slot) const {
    return slabs_[slot / slab_blocks_] + size_t{slot % slab_blocks_} * block_bytes_;
}

// ---- the pool

Result<std::unique_ptr<PagedKvPool>> PagedKvPool::create(const KvLayout& layout, const Limits& limits,
                                                         std::unique_ptr<KvCard> card) {
    CHECK(limits.card_blocks >= 2);
    const uint64_t all = uint64_t{limits.card_blocks} + limits.host_blocks;
    const auto capacity = static_cast<uint32_t>(std::min<uint64_t>(all, std::numeric_limits<uint32_t>::max() - 1));
    DW_ASSIGN(auto host, HostKvPool::create(layout, capacity));
    std::unique_ptr<PagedKvPool> pool(new PagedKvPool(std::move(host), limits, std::move(card)));
    // From here on, two blocks at a time always have a place.
    while (pool->card_.size() < 2) DW_TRY(pool->grow_card());
    return pool;
}

PagedKvPool::PagedKvPool(std::unique_ptr<HostKvPool> host, const Limits& limits, std::unique_ptr<KvCard> card)
    : host_(std::move(host)),
      gpu_(std::move(card)),
      limits_(limits),
      card_(host_->layout().block_bytes(), limits.card_blocks, limits.slab_bytes),
      pinned_(host_->layout().block_bytes(), limits.host_blocks, limits.slab_bytes) {}

Result<void> PagedKvPool::noted(Result<void> done) const {
    if (!done.ok() && done.error().code != ErrorCode::kLimit && !failure_) failure_ = done.error();
    return done;
}

void PagedKvPool::fail(Error failure) {
    if (!failure_) failure_ = std::move(failure);
}

PagedKvPool::Block& PagedKvPool::use(BlockId block) {
    host_->data(block);  // CHECKs the number
    return blocks_[block];
}

void PagedKvPool::link(BlockId block) {
    blocks_[block].older = newest_;
    blocks_[block].newer = kNone;
    (newest_ == kNone ? oldest_ : blocks_[newest_].newer) = block;
    newest_ = block;
}

void PagedKvPool::unlink(BlockId block) {
    const Block& b = blocks_[block];
    (b.older == kNone ? oldest_ : blocks_[b.older].newer) = b.newer;
    (b.newer == kNone ? newest_ : blocks_[b.newer].older) = b.older;
}

Result<BlockId> PagedKvPool::allocate() {
    if (failure_) return *failure_;
    DW_ASSIGN(const BlockId block, host_->allocate());
    if (blocks_.size() <= block) blocks_.resize(size_t{block} + 1);
    blocks_[block] = Block{.mirrored = true, .zero = true};
    return block;
}

Result<std::vector<BlockId>> PagedKvPool::adopt(int fd, uint64_t file_offset, uint32_t count) {
    if (failure_) return *failure_;
    DW_ASSIGN(std::vector<BlockId> blocks, host_->adopt(fd, file_offset, count));
    for (const BlockId block : blocks) {
        if (blocks_.size() <= block) blocks_.resize(size_t{block} + 1);
        blocks_[block] = Block{.mirrored = true};
    }
    return blocks;
}

void PagedKvPool::release(BlockId block) {
    Block& b = use(block);
    if (b.slot != kNone) {
        // Cleared at once: nothing of one owner stays on the card.
        if (!failure_) static_cast<void>(noted(gpu_->clear(card_.at(b.slot), block_bytes())));
        unlink(block);
        card_.give(b.slot);
    }
    if (b.pinned != kNone) pinned_.give(b.pinned);
    b = Block{};
    host_->release(block);
}

void PagedKvPool::begin_step() { ++step_; }

void PagedKvPool::waited() {
    if (!failure_) evictions_done_ = evictions_;
}

uint32_t PagedKvPool::free_pinned() {
    if (pinned_.free() == 0 && pinned_.next_slab() > 0) {
        if (auto slab = gpu_->pinned_memory(pinned_.next_slab()); slab.ok()) {
            pinned_.add(*slab);
        } else {
            pinned_.stop_growing();
        }
    }
    return pinned_.free() > 0 ? pinned_.take() : kNone;
}

Result<void> PagedKvPool::save_from_card(BlockId block) {
    Block& b = blocks_[block];
    b.pinned = free_pinned();
    uint8_t* const to = b.pinned != kNone ? pinned_.at(b.pinned) : host_->data(block);
    auto queued = noted(gpu_->to_host(to, card_.at(b.slot), block_bytes()));
    if (queued.ok() && b.pinned == kNone) queued = noted(gpu_->wait());  // the mirror is read without waiting
    if (!queued.ok()) {
        if (b.pinned != kNone) pinned_.give(std::exchange(b.pinned, kNone));
        return queued;
    }
    b.mirrored = b.pinned == kNone;
    b.copied = ++evictions_;
    ++traffic_.blocks_to_host;
    return {};
}

Result<void> PagedKvPool::evict_oldest() {
    const BlockId block = oldest_;
    if (block == kNone || blocks_[block].step == step_) {
        return error(ErrorCode::kLimit, "[compute.kv] blocks of one step: the card holds " +
                                            std::to_string(card_.used()) +
                                            " and all of them are in use; step shorter sessions, or on the host");
    }
    Block& b = blocks_[block];
    if (!b.mirrored && b.pinned == kNone) DW_TRY(save_from_card(block));
    unlink(block);
    left_[b.slot] = true;
    card_.give(std::exchange(b.slot, kNone));
    return {};
}

// One more slab on the card. kLimit when somebody else has the memory.
Result<void> PagedKvPool::grow_card() {
    DW_ASSIGN(uint8_t* const slab, gpu_->card_memory(card_.next_slab()));
    card_.add(slab);
    left_.resize(card_.size());
    return {};
}

// Evictions come one after another, and what is brought after them: copies of one kind follow each other faster.
Result<void> PagedKvPool::free_slots(size_t count) {
    while (card_.free() < count) {
        if (card_.next_slab() > 0) {
            const auto grown = noted(grow_card());
            if (failure_) return *failure_;
            if (!grown.ok()) card_.stop_growing();  // blocks take turns in what there is
        } else {
            DW_TRY(evict_oldest());
        }
    }
    return {};
}

void PagedKvPool::touch(BlockId block) {
    Block& b = blocks_[block];
    if (b.step == step_) return;
    unlink(block);
    b.step = step_;
    link(block);
}

Result<void> PagedKvPool::place(BlockId block) {
    Block& b = blocks_[block];
    const uint32_t slot = card_.take();
    uint8_t* const to = card_.at(slot);
    const uint8_t* from = b.mirrored ? host_->data(block) : pinned_.at(b.pinned);
    Result<void> queued;
    if (!b.zero) queued = noted(gpu_->to_card(to, from, block_bytes()));
    if (b.zero && left_[slot]) queued = noted(gpu_->clear(to, block_bytes()));
    if (!queued.ok()) {
        card_.give(slot);
        return queued;
    }
    if (!b.zero) ++traffic_.blocks_to_card;
    left_[slot] = false;
    // What overwrites the pinned copy is queued behind this.
    if (b.pinned != kNone) pinned_.give(std::exchange(b.pinned, kNone));
    b.slot = slot;
    b.step = step_;
    link(block);
    return {};
}

Result<void> PagedKvPool::bring(std::span<const BlockId> blocks) {
    if (failure_) return *failure_;
    size_t missing = 0;
    for (const BlockId block : blocks) {
        if (use(block).slot == kNone) {
            ++missing;
        } else {
            touch(block);
        }
    }
    DW_TRY(free_slots(missing));
    for (const BlockId block : blocks) {
        if (blocks_[block].slot == kNone) DW_TRY(place(block));
    }
    return {};
}

uint8_t* PagedKvPool::on_card(BlockId block, Use how) {
    Block& b = use(block);
    if (failure_) return nullptr;
    CHECK(b.slot != kNone && b.step == step_);
    if (how == Use::kWrite) b.mirrored = b.zero = false;
    return card_.at(b.slot);
}

void PagedKvPool::copy(BlockId from, BlockId to, uint32_t rows) {
    CHECK(rows <= kBlockTokens && from != to);
    begin_step();
    const BlockId both[] = {from, to};
    if (auto there = bring(both); !there.ok()) return fail(std::move(there).error());
    const uint8_t* source = on_card(from, Use::kRead);
    static_cast<void>(noted(gpu_->copy_rows(source, on_card(to, Use::kWrite), rows)));
}

void PagedKvPool::clear_rows(BlockId block, uint32_t first_row) {
    CHECK(first_row <= kBlockTokens);
    begin_step();
    if (auto there = bring({&block, 1}); !there.ok()) return fail(std::move(there).error());
    static_cast<void>(noted(gpu_->clear_rows(on_card(block, Use::kWrite), first_row)));
}

bool PagedKvPool::arrived(const Block& b) const { return b.pinned != kNone && b.copied <= evictions_done_; }

std::span<const uint8_t> PagedKvPool::bytes(BlockId block) const {
    uint8_t* mirror = host_->data(block);
    Block& b = blocks_[block];
    if (b.mirrored) return host_->bytes(block);
    if (!failure_) {
        if (b.slot != kNone) static_cast<void>(noted(gpu_->to_host(mirror, card_.at(b.slot), block_bytes())));
        if (noted(gpu_->wait()).ok() && !failure_) evictions_done_ = evictions_;
        b.mirrored = b.slot != kNone && !failure_;
    }
    if (!b.mirrored && arrived(b)) {
        std::memcpy(mirror, pinned_.at(b.pinned), block_bytes());
        b.mirrored = true;
    }
    return host_->bytes(block);
}

Result<void> PagedKvPool::validate(BlockId block) const {
    bytes(block);
    DW_TRY(check_intact(block));
    return host_->validate(block);
}

Result<void> PagedKvPool::check_intact(BlockId block) const {
    DW_TRY(host_->check_intact(block));
    const Block& b = blocks_[block];
    if (!failure_ || b.mirrored || arrived(b)) return {};
    return *failure_;
}

}  // namespace driftwood::compute
