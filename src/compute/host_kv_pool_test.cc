#include "compute/host_kv_pool.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/test_spec.h"
#include "memory/available.h"

namespace driftwood::compute {
namespace {

constexpr KvLayout kLayout{.layers = 2, .kv_heads = 2, .head_dim = 26};

std::unique_ptr<HostKvPool> make_pool(uint32_t capacity) { return HostKvPool::create(kLayout, capacity).value(); }

bool all_zero(std::span<const uint8_t> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// Fills every row of every head; the padding behind them stays zero.
void fill(uint8_t* block, uint64_t seed) {
    TestRandom random(seed);
    std::vector<int16_t> row(kLayout.head_dim);
    for (uint32_t i = 0; i < kLayout.layers * kLayout.kv_heads; ++i) {
        uint8_t* head = block + i * kLayout.head_bytes();
        for (uint32_t t = 0; t < kBlockTokens; ++t) {
            for (int16_t& x : row) x = static_cast<int16_t>(random.bits() | 1);
            store_k_row(head, kLayout.head_dim, t, row.data(), 1.0F + static_cast<float>(t));
            for (int16_t& x : row) x = static_cast<int16_t>(random.bits() | 1);
            store_v_row(head, kLayout.head_dim, t, row.data(), 2.0F + static_cast<float>(t));
        }
    }
}

// A file in memory with `bytes` after `offset` zeros.
int make_file(uint64_t offset, std::span<const uint8_t> bytes) {
    const int fd = memfd_create("kv", MFD_CLOEXEC);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)), static_cast<ssize_t>(bytes.size()));
    return fd;
}

TEST(kv_layout, is_what_the_header_says) {
    constexpr uint32_t kDim = 6;
    std::vector<uint8_t> head(KvLayout{.layers = 1, .kv_heads = 1, .head_dim = kDim}.head_bytes());
    std::vector<int16_t> k(kDim), v(kDim);
    for (uint32_t t = 0; t < kBlockTokens; ++t) {
        for (uint32_t d = 0; d < kDim; ++d) {
            k[d] = static_cast<int16_t>(100 * t + d);
            v[d] = static_cast<int16_t>(-100 * static_cast<int>(t) - static_cast<int>(d));
        }
        store_k_row(head.data(), kDim, t, k.data(), static_cast<float>(t));
        store_v_row(head.data(), kDim, t, v.data(), 1000.0F + static_cast<float>(t));
    }
    struct Head {
        int16_t k[2][kDim / 2][32][2];
        int16_t v[32][kDim][2];
        float ks[64], vs[64];
    };
    Head plain;
    ASSERT_EQ(sizeof(plain), head.size());
    std::memcpy(&plain, head.data(), sizeof(plain));
    const KvHeadView view(head.data(), kDim);
    for (uint32_t t = 0; t < kBlockTokens; ++t) {
        for (uint32_t d = 0; d < kDim; ++d) {
            EXPECT_EQ(plain.k[t / 32][d / 2][t % 32][d % 2], static_cast<int16_t>(100 * t + d));
            EXPECT_EQ(plain.v[t / 2][d][t % 2], -static_cast<int16_t>(100 * t + d));
            EXPECT_EQ(view.k(t, d), static_cast<int16_t>(100 * t + d));
            EXPECT_EQ(view.v(t, d), -static_cast<int16_t>(100 * t + d));
        }
        EXPECT_EQ(plain.ks[t], static_cast<float>(t));
        EXPECT_EQ(plain.vs[t], 1000.0F + static_cast<float>(t));
    }
}

TEST(kv_layout, a_block_is_padded_to_64_kib) {
    EXPECT_EQ(kLayout.block_bytes() % 65536, 0U);
    EXPECT_GE(kLayout.block_bytes(), 4 * kLayout.head_bytes());
    EXPECT_EQ((KvLayout{.layers = 16, .kv_heads = 8, .head_dim = 64}.block_bytes()), 2162688U);
}

TEST(host_kv_pool, by_itself_has_no_more_blocks_than_memory_holds) {
    const uint64_t available = memory::available_bytes();
    if (available == 0) GTEST_SKIP() << "this system does not say what is free";
    const auto pool = make_pool(0);
    constexpr uint64_t kFreedMeanwhile = uint64_t{2} << 30;
    const uint64_t bytes = uint64_t{pool->capacity()} * kLayout.block_bytes();
    EXPECT_LE(bytes, std::min<uint64_t>(available + kFreedMeanwhile, HostKvPool::kMostReserved));
    EXPECT_GE(bytes, std::min<uint64_t>(available, HostKvPool::kMostReserved) / 2);
}

TEST(host_kv_pool, a_recycled_block_is_zero) {
    auto pool = make_pool(1);
    const BlockId block = pool->allocate().value();
    EXPECT_TRUE(all_zero(pool->bytes(block)));
    fill(pool->data(block), 1);
    EXPECT_FALSE(all_zero(pool->bytes(block)));
    pool->release(block);
    EXPECT_EQ(pool->allocate().value(), block);
    EXPECT_TRUE(all_zero(pool->bytes(block)));
}

TEST(host_kv_pool, a_full_pool_refuses_and_goes_on_after_a_release) {
    auto pool = make_pool(3);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool->allocate().ok());
    const auto fourth = pool->allocate();
    ASSERT_FALSE(fourth.ok());
    EXPECT_EQ(fourth.error().code, ErrorCode::kLimit);
    EXPECT_EQ(pool->blocks_in_use(), 3U);
    pool->release(1);
    EXPECT_EQ(pool->blocks_in_use(), 2U);
    EXPECT_EQ(pool->allocate().value(), 1U);
}

TEST(host_kv_pool, blocks_never_move) {
    auto pool = make_pool(100);
    const BlockId first = pool->allocate().value();
    const uint8_t* address = pool->data(first);
    for (int i = 0; i < 60; ++i) (void)pool->allocate().value();
    EXPECT_EQ(pool->data(first), address);
}

TEST(host_kv_pool, adopted_blocks_have_the_files_bytes_and_writes_stay_private) {
    const size_t block_bytes = kLayout.block_bytes();
    std::vector<uint8_t> content(3 * block_bytes);
    for (int i = 0; i < 3; ++i) fill(content.data() + i * block_bytes, 10 + i);
    const int fd = make_file(65536, content);
    auto pool = make_pool(8);
    (void)pool->allocate().value();
    const auto blocks = pool->adopt(fd, 65536, 3);
    ASSERT_TRUE(blocks.ok()) << blocks.error().message;
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ((*blocks)[i], (*blocks)[0] + i);
        const auto bytes = pool->bytes((*blocks)[i]);
        EXPECT_EQ(std::memcmp(bytes.data(), content.data() + i * block_bytes, block_bytes), 0);
    }
    pool->data((*blocks)[1])[0] ^= 1;
    uint8_t in_file = 0;
    ASSERT_EQ(pread(fd, &in_file, 1, static_cast<off_t>(65536 + block_bytes)), 1);
    EXPECT_EQ(in_file, content[block_bytes]);
    close(fd);
    EXPECT_EQ(pool->blocks_in_use(), 4U);
}

TEST(host_kv_pool, a_released_adopted_block_comes_back_as_zeros) {
    std::vector<uint8_t> content(kLayout.block_bytes(), 0x55);
    const int fd = make_file(0, content);
    auto pool = make_pool(1);
    const BlockId block = pool->adopt(fd, 0, 1).value()[0];
    close(fd);
    pool->release(block);
    EXPECT_EQ(pool->allocate().value(), block);
    EXPECT_TRUE(all_zero(pool->bytes(block)));
}

TEST(host_kv_pool, adopting_uses_consecutive_slots_between_used_ones) {
    std::vector<uint8_t> content(2 * kLayout.block_bytes(), 0x55);
    const int fd = make_file(0, content);
    auto pool = make_pool(6);
    for (int i = 0; i < 4; ++i) (void)pool->allocate().value();
    pool->release(0);
    pool->release(2);
    const auto blocks = pool->adopt(fd, 0, 2);
    ASSERT_TRUE(blocks.ok());
    EXPECT_EQ(*blocks, (std::vector<BlockId>{4, 5}));
    EXPECT_FALSE(pool->adopt(fd, 0, 2).ok());
    EXPECT_EQ(pool->allocate().value(), 0U);
    EXPECT_EQ(pool->allocate().value(), 2U);
    EXPECT_FALSE(pool->allocate().ok());
    close(fd);
}

TEST(host_kv_pool, adopting_more_than_the_file_has_is_an_error_and_takes_nothing) {
    std::vector<uint8_t> content(kLayout.block_bytes(), 0x55);
    const int fd = make_file(0, content);
    auto pool = make_pool(4);
    EXPECT_FALSE(pool->adopt(fd, 0, 2).ok());
    EXPECT_FALSE(pool->adopt(fd, 0, 0xFFFFFFFF).ok());
    close(fd);
    EXPECT_EQ(pool->blocks_in_use(), 0U);
    const BlockId block = pool->allocate().value();
    EXPECT_TRUE(all_zero(pool->bytes(block)));
}

// Rows of tokens >= first are zero, the others are those of `original`.
void expect_rows(const HostKvPool& pool, BlockId got, BlockId original, uint32_t first) {
    for (uint32_t i = 0; i < kLayout.layers * kLayout.kv_heads; ++i) {
        const KvHeadView a(pool.bytes(got).data() + i * kLayout.head_bytes(), kLayout.head_dim);
        const KvHeadView b(pool.bytes(original).data() + i * kLayout.head_bytes(), kLayout.head_dim);
        for (uint32_t t = 0; t < kBlockTokens; ++t) {
            EXPECT_EQ(a.k_scale(t), t < first ? b.k_scale(t) : 0.0F);
            EXPECT_EQ(a.v_scale(t), t < first ? b.v_scale(t) : 0.0F);
            for (uint32_t d = 0; d < kLayout.head_dim; ++d) {
                ASSERT_EQ(a.k(t, d), t < first ? b.k(t, d) : 0);
                ASSERT_EQ(a.v(t, d), t < first ? b.v(t, d) : 0);
            }
        }
    }
}

TEST(host_kv_pool, copy_takes_the_first_rows_and_no_more) {
    for (const uint32_t rows : {0U, 1U, 31U, 32U, 33U, 63U, 64U}) {
        auto pool = make_pool(2);
        const BlockId from = pool->allocate().value();
        const BlockId to = pool->allocate().value();
        fill(pool->data(from), 3);
        pool->copy(from, to, rows);
        expect_rows(*pool, to, from, rows);
    }
}

TEST(host_kv_pool, cleared_rows_leave_no_trace) {
    for (const uint32_t first : {0U, 1U, 32U, 47U, 64U}) {
        auto pool = make_pool(2);
        const BlockId block = pool->allocate().value();
        const BlockId original = pool->allocate().value();
        fill(pool->data(block), 4);
        fill(pool->data(original), 4);
        pool->clear_rows(block, first);
        expect_rows(*pool, block, original, first);
    }
}

TEST(host_kv_pool, validate_refuses_scales_no_engine_writes) {
    auto pool = make_pool(1);
    const BlockId block = pool->allocate().value();
    EXPECT_TRUE(pool->validate(block).ok());
    fill(pool->data(block), 5);
    EXPECT_TRUE(pool->validate(block).ok());
    const size_t last_scale = 3 * kLayout.head_bytes() + kLayout.head_bytes() - sizeof(float);
    for (const float good : {0.0F, 0x1p-76F, std::numeric_limits<float>::max()}) {
        std::memcpy(pool->data(block) + last_scale, &good, sizeof(good));
        EXPECT_TRUE(pool->validate(block).ok()) << good;
    }
    for (const float bad : {-1.0F, -0.0F, 0x1p-77F, 0x1p-140F, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
        std::memcpy(pool->data(block) + last_scale, &bad, sizeof(bad));
        const auto result = pool->validate(block);
        ASSERT_FALSE(result.ok()) << bad;
        EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
        EXPECT_NE(result.error().message.find("layer 1 kv head 1 token 63"), std::string::npos)
            << result.error().message;
    }
}

}  // namespace
}  // namespace driftwood::compute
