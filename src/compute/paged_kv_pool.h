// PagedKvPool: the KV blocks of an engine on a card. There may be more blocks than the card holds: those that were not
// used for longest then wait in pinned host memory (in the mirror where that is full), and come back by themselves
// before a step that reads them. A HostKvPool gives out the numbers and mirrors blocks for whoever wants their bytes
// (freeze), and maps those of images.
//
// Bytes move only when somebody wants them where they are not. Blocks keep the documented layout everywhere. What a
// step reads and writes is fixed on the card by bring() until the next begin_step(). A block's slot is cleared when the
// block is released, and one that a waiting block has left is overwritten or cleared before another block is seen in
// it: nothing of one owner is seen by the next.
//
// A card that fails leaves its error in failure(); everything afterwards does nothing, and check_intact() says which
// blocks went with it. Threads: the engine's one submitting thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "compute/host_kv_pool.h"
#include "compute/kv_card.h"

namespace driftwood::compute {

class PagedKvPool final : public KvPool {
  public:
    struct Limits {
        uint32_t card_blocks = 0;  // at least 2: a copy needs both of its blocks
        uint32_t host_blocks = 0;  // beside those, waiting in pinned memory, which is taken as it is needed
        size_t slab_bytes = size_t{256} << 20;  // what is taken at once
    };
    static Result<std::unique_ptr<PagedKvPool>> create(const KvLayout& layout, const Limits& limits,
                                                       std::unique_ptr<KvCard> card);

    const KvLayout& layout() const override { return host_->layout(); }
    Result<BlockId> allocate() override;
    void release(BlockId block) override;
    void copy(BlockId from, BlockId to, uint32_t rows) override;
    void clear_rows(BlockId block, uint32_t first_row) override;
    // The file's pages are mapped into the mirror; the card gets a copy before the first step that reads them.
    Result<std::vector<BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count) override;
    std::span<const uint8_t> bytes(BlockId block) const override;
    Result<void> validate(BlockId block) const override;
    Result<void> check_intact(BlockId block) const override;
    uint32_t blocks_in_use() const override { return host_->blocks_in_use(); }
    uint32_t capacity() const override { return host_->capacity(); }

    // ---- For the engine.
    void begin_step();
    // Puts blocks on the card, beside all that this step has brought already. kLimit when they do not fit beside those;
    // then some of them may be there.
    Result<void> bring(std::span<const BlockId> blocks);
    enum class Use : uint8_t { kRead, kWrite };
    // Where a block of this step is. Null after a failure.
    uint8_t* on_card(BlockId block, Use use);
    // All that was queued so far is known to be done.
    void waited();
    const std::optional<Error>& failure() const { return failure_; }
    // The card failed at something else.
    void fail(Error failure);

    struct Traffic {
        uint64_t blocks_to_card = 0, blocks_to_host = 0;
    };
    const Traffic& traffic() const { return traffic_; }
    const Limits& limits() const { return limits_; }
    uint32_t blocks_on_card() const { return static_cast<uint32_t>(card_.used()); }
    uint32_t blocks_waiting() const { return static_cast<uint32_t>(pinned_.used()); }

  private:
    static constexpr uint32_t kNone = 0xFFFFFFFFU;

    // Places for blocks in memory that is taken slab by slab.
    class Slots {
      public:
        Slots(size_t block_bytes, uint32_t limit, size_t slab_bytes);
        size_t free() const { return free_.size(); }
        uint32_t take();
        void give(uint32_t slot) { free_.push_back(slot); }
        // The bytes of one more slab, 0 when the limit is reached; then add() takes it.
        size_t next_slab() const;
        void add(uint8_t* slab);
        void stop_growing() { limit_ = static_cast<uint32_t>(count_); }
        uint8_t* at(uint32_t slot) const;
        size_t used() const { return count_ - free_.size(); }
        size_t size() const { return count_; }

      private:
        size_t block_bytes_;
        uint32_t slab_blocks_;
        uint32_t limit_;
        size_t count_ = 0;
        std::vector<uint8_t*> slabs_;
        std::vector<uint32_t> free_;
    };

    // Where a block's numbers are; at least one place has them.
    struct Block {
        uint32_t slot = kNone;                 // on the card
        uint32_t pinned = kNone;               // in pinned memory
        bool mirrored = false;                 // in the mirror
        bool zero = false;                     // … where all of it is zeros
        uint64_t step = 0;                     // that used it last
        uint64_t copied = 0;                   // the eviction that is its pinned copy
        BlockId older = kNone, newer = kNone;  // of those on the card
    };

    PagedKvPool(std::unique_ptr<HostKvPool> host, const Limits& limits, std::unique_ptr<KvCard> card);
    Block& use(BlockId block);
    Result<void> free_slots(size_t count);
    Result<void> place(BlockId block);
    void touch(BlockId block);
    uint32_t free_pinned();  // kNone when there is none
    Result<void> save_from_card(BlockId block);
    Result<void> evict_oldest();
    Result<void> grow_card();
    bool arrived(const Block& b) const;
    void link(BlockId block);
    void unlink(BlockId block);
    // Keeps the error of a card that failed; kLimit is nobody's failure.
    Result<void> noted(Result<void> done) const;
    size_t block_bytes() const { return layout().block_bytes(); }

    std::unique_ptr<HostKvPool> host_;
    std::unique_ptr<KvCard> gpu_;
    const Limits limits_;
    Slots card_;
    Slots pinned_;
    mutable std::vector<Block> blocks_;  // by number
    std::vector<bool> left_;             // by slot on the card: whether a waiting block's bytes are still there
    BlockId oldest_ = kNone, newest_ = kNone;
    uint64_t step_ = 1;
    uint64_t evictions_ = 0;
    mutable uint64_t evictions_done_ = 0;  // known to have arrived
    Traffic traffic_;
    mutable std::optional<Error> failure_;
};

}  // namespace driftwood::compute
