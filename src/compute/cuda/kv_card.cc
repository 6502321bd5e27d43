#include "compute/cuda/kv_card.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compute/cuda/kernels.h"
#include "compute/engine.h"
#include "memory/available.h"

namespace driftwood::compute::cuda {

namespace {

class Card final : public KvCard {
  public:
    static Result<std::unique_ptr<KvCard>> create(const KvLayout& layout, const Stream& stream, ThreadPool& threads) {
        std::unique_ptr<Card> card(new Card(layout, stream, threads));
        for (Passage& passage : card->passage_) {
            DW_ASSIGN(Event done, Event::create());
            passage.done.emplace(std::move(done));
        }
        return std::unique_ptr<KvCard>(std::move(card));
    }

    Result<uint8_t*> card_memory(size_t size) override {
        DeviceBytes slab;
        DW_TRY(slab.hold(size));
        DW_TRY(clear(slab.as<uint8_t>(), size));
        card_.push_back(std::move(slab));
        return card_.back().as<uint8_t>();
    }
    Result<uint8_t*> pinned_memory(size_t size) override {
        PinnedBytes slab;
        DW_TRY(slab.hold(size));
        pinned_.push_back(std::move(slab));
        return pinned_.back().as<uint8_t>();
    }
    Result<void> to_card(uint8_t* card, const uint8_t* host, size_t size) override {
        if (is_pinned(host)) return copy(card, host, size, cudaMemcpyHostToDevice);
        Passage& passage = passage_[turn_ ^= 1];
        DW_TRY(check("wait for a copy", cudaEventSynchronize(passage.done->get())));
        DW_TRY(passage.bytes.hold(size));
        by_all_threads(passage.bytes.as<uint8_t>(), host, size);
        DW_TRY(copy(card, passage.bytes.as<uint8_t>(), size, cudaMemcpyHostToDevice));
        return check("note a copy", cudaEventRecord(passage.done->get(), stream_.get()));
    }
    Result<void> to_host(uint8_t* host, const uint8_t* card, size_t size) override {
        if (is_pinned(host)) return copy(host, card, size, cudaMemcpyDeviceToHost);
        Passage& passage = passage_[turn_ ^= 1];
        DW_TRY(passage.bytes.hold(size));
        DW_TRY(copy(passage.bytes.as<uint8_t>(), card, size, cudaMemcpyDeviceToHost));
        DW_TRY(wait());
        by_all_threads(host, passage.bytes.as<uint8_t>(), size);
        return {};
    }
    Result<void> clear(uint8_t* card, size_t size) override {
        return check("clear blocks", cudaMemsetAsync(card, 0, size, stream_.get()));
    }
    Result<void> copy_rows(const uint8_t* from, uint8_t* to, uint32_t rows) override {
        return check("copy rows of a block", copy_block_rows(stream_.get(), from, to, heads(), layout_.head_dim, rows));
    }
    Result<void> clear_rows(uint8_t* block, uint32_t first_row) override {
        return check("clear rows of a block",
                     clear_block_rows(stream_.get(), block, heads(), layout_.head_dim, first_row));
    }
    Result<void> wait() override { return stream_.wait(); }

  private:
    // Pinned memory for blocks on their way from or to memory that is not: two, so that threads fill one while the card
    // reads the other.
    struct Passage {
        PinnedBytes bytes;
        std::optional<Event> done;
    };

    Card(const KvLayout& layout, const Stream& stream, ThreadPool& threads)
        : layout_(layout), stream_(stream), threads_(threads) {}
    uint32_t heads() const { return layout_.layers * layout_.kv_heads; }
    bool is_pinned(const uint8_t* at) const {
        return std::any_of(pinned_.begin(), pinned_.end(), [at](const PinnedBytes& slab) {
            return at >= slab.as<uint8_t>() && at < slab.as<uint8_t>() + slab.size();
        });
    }
    Result<void> copy(uint8_t* to, const uint8_t* from, size_t size, cudaMemcpyKind kind) {
        return check("copy a block", cudaMemcpyAsync(to, from, size, kind, stream_.get()));
    }
    // One thread does not keep up with the bus, least of all where pages are touched for the first time.
    void by_all_threads(uint8_t* to, const uint8_t* from, size_t size) {
        constexpr size_t kPiece = size_t{128} << 10;
        threads_.run(static_cast<uint32_t>((size + kPiece - 1) / kPiece), [&](uint32_t i) {
            std::memcpy(to + i * kPiece, from + i * kPiece, std::min(kPiece, size - i * kPiece));
        });
    }

    KvLayout layout_;
    const Stream& stream_;
    ThreadPool& threads_;
    std::vector<DeviceBytes> card_;
    std::vector<PinnedBytes> pinned_;
    Passage passage_[2];
    uint32_t turn_ = 0;
};

}  // namespace

Result<std::unique_ptr<PagedKvPool>> make_kv_pool(const KvLayout& layout, uint32_t card_blocks, uint32_t host_blocks,
                                                  const Stream& stream, ThreadPool& threads) {
    constexpr uint64_t kMost = uint64_t{1} << 30;
    DW_ASSIGN(const size_t free_bytes, free_card_memory());
    const size_t room = (free_bytes - std::min(free_bytes, kReserveBytes)) / layout.block_bytes();
    if (room < 2) {
        return error(ErrorCode::kLimit, "[compute.cuda] KV blocks: want " + std::to_string(2 * layout.block_bytes()) +
                                            " bytes for two beside a reserve of " + std::to_string(kReserveBytes) +
                                            ", the card has " + std::to_string(free_bytes) +
                                            " free; end what else uses it, or take an engine of the CPU");
    }
    PagedKvPool::Limits limits{card_blocks, host_blocks};
    if (card_blocks == 0) limits.card_blocks = static_cast<uint32_t>(std::min<uint64_t>(room, kMost));
    limits.card_blocks = std::max(limits.card_blocks, 2U);
    if (host_blocks == kHostBlocksAuto) {
        limits.host_blocks =
            static_cast<uint32_t>(std::min<uint64_t>(memory::available_bytes() / 2 / layout.block_bytes(), kMost));
    }
    DW_ASSIGN(auto card, Card::create(layout, stream, threads));
    return PagedKvPool::create(layout, limits, std::move(card));
}

}  // namespace driftwood::compute::cuda
