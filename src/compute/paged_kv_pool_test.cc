// More blocks than a card holds, on a card in host memory that does what it is told only when it is waited for.
#include "compute/paged_kv_pool.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

constexpr KvLayout kLayout = {.layers = 2, .kv_heads = 2, .head_dim = 16};
const size_t kBytes = kLayout.block_bytes();

// Queued work happens at wait(). Copies of unpinned memory are as CUDA's: to the card, the bytes are taken at once; to
// the host, the call waits.
class FakeCard final : public KvCard {
  public:
    struct Budget {
        size_t card = SIZE_MAX, pinned = SIZE_MAX;
        int operations = INT32_MAX;  // then the card fails
    };
    explicit FakeCard(Budget& budget) : budget_(budget) {}

    Result<uint8_t*> card_memory(size_t size) override {
        DW_TRY(take(budget_.card, size));
        uint8_t* slab = keep(card_, size);
        DW_TRY(clear(slab, size));
        return slab;
    }
    Result<uint8_t*> pinned_memory(size_t size) override {
        DW_TRY(take(budget_.pinned, size));
        return keep(pinned_, size);
    }
    Result<void> to_card(uint8_t* card, const uint8_t* host, size_t size) override {
        if (is_in(pinned_, host)) return queue([=] { std::memcpy(card, host, size); });
        return queue(
            [card, bytes = std::vector<uint8_t>(host, host + size)] { std::memcpy(card, bytes.data(), bytes.size()); });
    }
    Result<void> to_host(uint8_t* host, const uint8_t* card, size_t size) override {
        DW_TRY(queue([=] { std::memcpy(host, card, size); }));
        return is_in(pinned_, host) ? Result<void>() : wait();
    }
    Result<void> clear(uint8_t* card, size_t size) override {
        return queue([=] { std::memset(card, 0, size); });
    }
    Result<void> copy_rows(const uint8_t* from, uint8_t* to, uint32_t rows) override {
        return queue([=] { copy_block_rows(kLayout, from, to, rows); });
    }
    Result<void> clear_rows(uint8_t* block, uint32_t first_row) override {
        return queue([=] { clear_block_rows(kLayout, block, first_row); });
    }
    Result<void> wait() override {
        for (; !queue_.empty(); queue_.pop_front()) queue_.front()();
        return {};
    }
    // Work of the engine's.
    Result<void> queue(std::function<void()> work) {
        if (budget_.operations-- <= 0) return error(ErrorCode::kInternal, "the card is on fire");
        queue_.push_back(std::move(work));
        return {};
    }

  private:
    using Slabs = std::deque<std::vector<uint8_t>>;
    static Result<void> take(size_t& budget, size_t size) {
        if (size > budget) return error(ErrorCode::kLimit, "no memory");
        budget -= size;
        return {};
    }
    static uint8_t* keep(Slabs& slabs, size_t size) {
        slabs.emplace_back(size, uint8_t{0xA5});
        return slabs.back().data();
    }
    static bool is_in(const Slabs& slabs, const uint8_t* at) {
        for (const auto& slab : slabs) {
            if (at >= slab.data() && at < slab.data() + slab.size()) return true;
        }
        return false;
    }

    Budget& budget_;
    Slabs card_, pinned_;
    std::deque<std::function<void()>> queue_;
};

struct World {
    explicit World(PagedKvPool::Limits limits, FakeCard::Budget b = {}) : budget(b) {
        limits.slab_bytes = 2 * kBytes;
        auto made = std::make_unique<FakeCard>(budget);
        card = made.get();
        auto created = PagedKvPool::create(kLayout, limits, std::move(made));
        if (created.ok()) pool = std::move(created).value();
    }
    // A step that fills blocks; waits, as engines do.
    void fill(std::span<const BlockId> blocks, uint8_t value) {
        pool->begin_step();
        ASSERT_TRUE(pool->bring(blocks).ok());
        for (const BlockId block : blocks) {
            uint8_t* at = pool->on_card(block, PagedKvPool::Use::kWrite);
            ASSERT_TRUE(card->queue([=] { std::memset(at, value, kBytes); }).ok());
        }
        settle();
    }
    // What a step would read.
    std::vector<uint8_t> seen(BlockId block) {
        std::vector<uint8_t> bytes(kBytes, uint8_t{0xEE});
        pool->begin_step();
        EXPECT_TRUE(pool->bring({&block, 1}).ok());
        const uint8_t* at = pool->on_card(block, PagedKvPool::Use::kRead);
        EXPECT_TRUE(card->queue([&] { std::memcpy(bytes.data(), at, kBytes); }).ok());
        settle();
        return bytes;
    }
    void settle() {
        ASSERT_TRUE(card->wait().ok());
        pool->waited();
    }

    FakeCard::Budget budget;
    FakeCard* card = nullptr;
    std::unique_ptr<PagedKvPool> pool;
};

bool all_are(std::span<const uint8_t> bytes, uint8_t value) {
    return std::ranges::all_of(bytes, [value](uint8_t b) { return b == value; });
}

// Blocks of a model beside the pool, under everything that may happen to them in any order.
void live_through(World& world, uint64_t seed) {
    TestRandom random(seed);
    std::map<BlockId, std::vector<uint8_t>> want;
    const auto any = [&] { return std::next(want.begin(), random.below(static_cast<uint32_t>(want.size())))->first; };
    for (int round = 0; round < 600; ++round) {
        const uint32_t what = random.below(10);
        if (want.empty() || (what < 3 && want.size() < world.pool->capacity())) {
            const BlockId block = world.pool->allocate().value();
            ASSERT_TRUE(want.emplace(block, std::vector<uint8_t>(kBytes, 0)).second);
            if (random.below(2) == 0) {
                ASSERT_EQ(world.seen(block), want[block]) << "a recycled block is not zero";
            }
        } else if (what < 5) {
            const BlockId block = any(), other = any();
            const auto value = static_cast<uint8_t>(random.bits());
            const std::vector<BlockId> both = block == other ? std::vector{block} : std::vector{block, other};
            world.fill(both, value);
            for (const BlockId b : both) want[b].assign(kBytes, value);
        } else if (what == 5) {
            const BlockId from = any(), to = any();
            const uint32_t rows = random.below(kBlockTokens + 1);
            if (from == to) continue;
            world.pool->copy(from, to, rows);
            copy_block_rows(kLayout, want[from].data(), want[to].data(), rows);
        } else if (what == 6) {
            const BlockId block = any();
            const uint32_t row = 1 + random.below(kBlockTokens);
            world.pool->clear_rows(block, row);
            clear_block_rows(kLayout, want[block].data(), row);
        } else if (what == 7) {
            const BlockId block = any();
            const auto bytes = world.pool->bytes(block);
            ASSERT_TRUE(std::ranges::equal(bytes, want[block])) << "round " << round;
        } else if (what == 8) {
            const BlockId block = any();
            ASSERT_EQ(world.seen(block), want[block]) << "round " << round;
        } else {
            const BlockId block = any();
            world.pool->release(block);
            want.erase(block);
        }
        ASSERT_FALSE(world.pool->failure());
    }
    for (const auto& [block, bytes] : want) ASSERT_EQ(world.seen(block), bytes);
}

TEST(paged_kv_pool, more_blocks_than_the_card_holds_keep_their_bytes_and_recycled_ones_are_zero) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
        World world({.card_blocks = 3, .host_blocks = 9});
        live_through(world, seed);
        EXPECT_GT(world.pool->traffic().blocks_to_host, 20U);
        EXPECT_GT(world.pool->traffic().blocks_to_card, 20U);
        EXPECT_LE(world.pool->blocks_on_card(), 3U);
    }
}

TEST(paged_kv_pool, goes_on_with_less_of_the_card_and_without_pinned_memory) {
    World little_card({.card_blocks = 8, .host_blocks = 8}, {.card = 2 * kBytes});
    live_through(little_card, 6);
    EXPECT_EQ(little_card.pool->blocks_on_card(), 2U);
    World no_pinned({.card_blocks = 2, .host_blocks = 8}, {.pinned = 0});
    live_through(no_pinned, 7);
    EXPECT_EQ(no_pinned.pool->blocks_waiting(), 0U);
}

TEST(paged_kv_pool, moves_nothing_while_all_of_it_fits) {
    World world({.card_blocks = 12, .host_blocks = 4});
    std::vector<BlockId> blocks;
    for (int i = 0; i < 12; ++i) blocks.push_back(world.pool->allocate().value());
    for (int i = 0; i < 3; ++i) world.fill(blocks, static_cast<uint8_t>(i + 1));
    EXPECT_EQ(world.pool->traffic().blocks_to_card + world.pool->traffic().blocks_to_host, 0U);
    EXPECT_TRUE(all_are(world.pool->bytes(blocks[5]), 3));
}

TEST(paged_kv_pool, a_step_with_more_blocks_than_the_card_has_is_refused_and_the_next_is_not) {
    World world({.card_blocks = 3, .host_blocks = 9});
    std::vector<BlockId> blocks;
    for (uint8_t i = 0; i < 12; ++i) {
        blocks.push_back(world.pool->allocate().value());
        world.fill({&blocks.back(), 1}, i);
    }
    EXPECT_EQ(world.pool->allocate().error().code, ErrorCode::kLimit);
    world.pool->begin_step();
    const auto many = world.pool->bring(std::span(blocks).first(4));
    ASSERT_FALSE(many.ok());
    EXPECT_EQ(many.error().code, ErrorCode::kLimit);
    EXPECT_FALSE(world.pool->failure());
    for (uint8_t i = 0; i < 12; ++i) EXPECT_TRUE(all_are(world.seen(blocks[i]), i));
}

TEST(paged_kv_pool, those_used_for_longest_ago_wait_first) {
    World world({.card_blocks = 3, .host_blocks = 3});
    std::vector<BlockId> blocks;
    for (uint8_t i = 0; i < 3; ++i) {
        blocks.push_back(world.pool->allocate().value());
        world.fill({&blocks.back(), 1}, i);
    }
    world.seen(blocks[0]);
    const BlockId fourth = world.pool->allocate().value();
    world.fill({&fourth, 1}, 9);  // in place of the second
    world.seen(blocks[0]);
    world.seen(blocks[2]);
    EXPECT_EQ(world.pool->traffic().blocks_to_card, 0U);
    world.seen(blocks[1]);
    EXPECT_EQ(world.pool->traffic().blocks_to_card, 1U);
}

TEST(paged_kv_pool, a_card_that_fails_takes_what_only_it_had_and_nothing_else) {
    World world({.card_blocks = 2, .host_blocks = 6});
    std::vector<BlockId> blocks;
    for (uint8_t i = 0; i < 4; ++i) {
        blocks.push_back(world.pool->allocate().value());
        world.fill({&blocks.back(), 1}, static_cast<uint8_t>(i + 1));
    }
    EXPECT_TRUE(all_are(world.pool->bytes(blocks[3]), 4));  // has a mirror now
    world.budget.operations = 0;
    world.pool->begin_step();
    EXPECT_FALSE(world.pool->bring({blocks.data(), 1}).ok());
    ASSERT_TRUE(world.pool->failure());
    // The first two wait in host memory, the third was on the card alone.
    for (const uint8_t i : {0, 1, 3}) {
        EXPECT_TRUE(world.pool->check_intact(blocks[i]).ok()) << int{i};
        EXPECT_TRUE(all_are(world.pool->bytes(blocks[i]), static_cast<uint8_t>(i + 1))) << int{i};
    }
    EXPECT_EQ(world.pool->check_intact(blocks[2]).error().message, "the card is on fire");
    EXPECT_FALSE(world.pool->validate(blocks[2]).ok());
    EXPECT_FALSE(world.pool->allocate().ok());
    for (const BlockId block : blocks) world.pool->release(block);
    EXPECT_EQ(world.pool->blocks_in_use(), 0U);
}

TEST(paged_kv_pool, what_was_still_on_its_way_when_the_card_failed_is_lost) {
    World world({.card_blocks = 2, .host_blocks = 6});
    std::vector<BlockId> blocks;
    for (uint8_t i = 0; i < 3; ++i) blocks.push_back(world.pool->allocate().value());
    world.fill(std::span(blocks).first(2), 1);
    world.pool->begin_step();
    ASSERT_TRUE(world.pool->bring({&blocks[2], 1}).ok());  // the first goes to the host, and nobody waits
    world.pool->fail(error(ErrorCode::kInternal, "a kernel failed"));
    EXPECT_FALSE(world.pool->check_intact(blocks[0]).ok());
    EXPECT_TRUE(world.pool->check_intact(blocks[2]).ok());  // zeros from the start
}

TEST(paged_kv_pool, no_memory_for_two_blocks_is_an_error_at_the_start) {
    EXPECT_EQ(World({.card_blocks = 2, .host_blocks = 6}, {.card = kBytes}).pool, nullptr);
}

TEST(paged_kv_pool, blocks_of_a_file_come_to_the_card_and_leave_it_without_being_copied_back) {
    World world({.card_blocks = 2, .host_blocks = 6});
    const int fd = memfd_create("blocks", MFD_CLOEXEC);
    std::vector<uint8_t> bytes(3 * kBytes);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(1 + i / kBytes);
    ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    const std::vector<BlockId> blocks = world.pool->adopt(fd, 0, 3).value();
    close(fd);
    for (int round = 0; round < 2; ++round) {
        for (uint8_t i = 0; i < 3; ++i) EXPECT_TRUE(all_are(world.seen(blocks[i]), static_cast<uint8_t>(i + 1)));
    }
    EXPECT_EQ(world.pool->traffic().blocks_to_host, 0U);
    EXPECT_EQ(world.pool->traffic().blocks_to_card, 6U);
}

}  // namespace
}  // namespace driftwood::compute
