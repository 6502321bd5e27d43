// Tensor operations as a guest meets them: in place in its own memory, bit for bit what the reference device gives.
#include <gtest/gtest.h>

#include <functional>

#include "actor/tensor_guest.h"
#include "base/random.h"
#include "compute/half.h"

namespace driftwood::actor {
namespace {

constexpr uint32_t kTensors = 4096;  // where they begin
constexpr uint32_t kRoom = 64 * 1024;

// Numbers of all sizes, an infinity and a NaN here and there; the same for the same seed.
void fill(uint8_t* memory, uint64_t seed) {
    for (uint32_t at = kTensors; at < kTensors + 3 * kRoom; at += 4) {
        const auto random = philox(seed, at);
        float value = static_cast<float>(static_cast<int32_t>(random[0])) * 0x1p-30F;
        if (random[1] % 64 == 0) value = std::bit_cast<float>(random[2]);
        std::memcpy(memory + at, &value, sizeof value);
    }
}

// Asks both actors for the same thing over the same memory; both must end with the same bytes, the operands' too.
template <class Struct>
void expect_same_bits(TensorActor& cpu, TensorActor& reference, const Struct& what, uint64_t seed) {
    for (TensorActor* each : {&cpu, &reference}) {
        fill(each->memory(), seed);
        const auto got = each->ask(what);
        ASSERT_EQ(got.size(), 2U) << got[0];
        ASSERT_EQ(got[1], 0);
    }
    ASSERT_EQ(std::memcmp(cpu.memory() + kTensors, reference.memory() + kTensors, 3 * kRoom), 0);
}

driftwood_gemm small_gemm() {
    return {.a = kTensors,
            .b = kTensors + kRoom,
            .c = kTensors + 2 * kRoom,
            .m = 4,
            .n = 5,
            .k = 6,
            .lda = 6,
            .ldb = 5,
            .ldc = 5,
            .a_type = DRIFTWOOD_F32,
            .b_type = DRIFTWOOD_F32,
            .c_type = DRIFTWOOD_F32,
            .flags = 0,
            .reserved = 0};
}

driftwood_rows small_rows() {
    return {.kind = DRIFTWOOD_ROWS_ADD,
            .x = kTensors,
            .y = kTensors + kRoom,
            .out = kTensors + 2 * kRoom,
            .rows = 3,
            .cols = 7,
            .ldx = 7,
            .ldy = 7,
            .ldout = 7,
            .eps = 1e-5F};
}

TEST(TensorTest, a_guests_gemm_has_the_bits_of_the_reference_for_every_type_and_transpose) {
    TensorActor cpu("cpu"), reference("reference");
    for (uint64_t i = 0; i < 27 * 8; ++i) {
        const auto random = philox(3, i);
        driftwood_gemm gemm = small_gemm();
        gemm.m = 1 + random[0] % 40;
        gemm.n = 1 + random[1] % 40;
        gemm.k = random[2] % 60;
        gemm.a_type = i % 3;
        gemm.b_type = i / 3 % 3;
        gemm.c_type = i / 9 % 3;
        gemm.flags = static_cast<uint32_t>(i / 27);
        const bool a_transposed = (gemm.flags & DRIFTWOOD_GEMM_TRANSPOSE_A) != 0;
        const bool b_transposed = (gemm.flags & DRIFTWOOD_GEMM_TRANSPOSE_B) != 0;
        gemm.lda = (a_transposed ? gemm.m : gemm.k) + random[3] % 3;
        gemm.ldb = (b_transposed ? gemm.k : gemm.n) + random[3] % 5;
        gemm.ldc = gemm.n + random[3] % 7;
        SCOPED_TRACE(i);
        expect_same_bits(cpu, reference, gemm, i);
    }
}

TEST(TensorTest, a_gemm_multiplies_what_the_guest_has_in_its_memory) {
    TensorActor cpu("cpu");
    driftwood_gemm gemm = small_gemm();
    gemm.m = gemm.n = 1;
    gemm.k = 2;
    gemm.b_type = DRIFTWOOD_BF16;
    gemm.flags = DRIFTWOOD_GEMM_ACCUMULATE;
    const float a[] = {3.0F, 0.5F};
    const uint16_t b[] = {compute::float_to_bf16(4.0F), 0, 0, 0, 0, compute::float_to_bf16(8.0F)};
    float c = 100.0F;
    std::memcpy(cpu.memory() + gemm.a, a, sizeof a);
    std::memcpy(cpu.memory() + gemm.b, b, sizeof b);
    std::memcpy(cpu.memory() + gemm.c, &c, sizeof c);
    ASSERT_EQ(cpu.ask(gemm).back(), 0);
    std::memcpy(&c, cpu.memory() + gemm.c, sizeof c);
    EXPECT_EQ(c, 116.0F);
}

TEST(TensorTest, a_guests_rows_have_the_bits_of_the_reference_for_every_kind) {
    TensorActor cpu("cpu"), reference("reference");
    for (uint32_t i = 0; i < 6 * 8; ++i) {
        const auto random = philox(5, i);
        driftwood_rows rows = small_rows();
        rows.kind = i % 6;
        rows.rows = 1 + random[0] % 9;
        rows.cols = 1 + random[1] % 200;
        rows.ldx = rows.cols + random[2] % 3;
        rows.ldy = i % 4 == 0 ? 0 : rows.cols + random[2] % 5;
        rows.ldout = rows.cols + random[3] % 7;
        if (i % 8 == 5) rows.out = rows.x, rows.ldout = rows.ldx;  // in place
        SCOPED_TRACE(i);
        expect_same_bits(cpu, reference, rows, i);
    }
}

template <class Struct>
struct Refusal {
    const char* why;
    std::function<void(Struct&)> change;
    int32_t error;
};

// Each refusal at the call, and not one byte of memory touched.
template <class Struct>
void expect_refused(const Struct& good, const std::vector<Refusal<Struct>>& refusals) {
    TensorActor cpu("cpu");
    fill(cpu.memory(), 1);
    const std::string before(cpu.memory() + kTensors, cpu.memory() + cpu.memory_bytes());
    for (const auto& refusal : refusals) {
        Struct bad = good;
        refusal.change(bad);
        EXPECT_EQ(cpu.ask(bad), std::vector<int64_t>{-refusal.error}) << refusal.why;
    }
    EXPECT_TRUE(before == std::string(cpu.memory() + kTensors, cpu.memory() + cpu.memory_bytes()));
    EXPECT_EQ(cpu.ask(good).back(), 0);
}

constexpr uint32_t kHuge = UINT32_MAX;
constexpr uint32_t kMemory = 4 * 65536;

TEST(TensorTest, a_gemm_that_cannot_be_is_refused_at_the_call) {
    using Gemm = driftwood_gemm;
    expect_refused<Gemm>(
        small_gemm(),
        {
            {"a misaligned", [](Gemm& g) { g.a += 2; }, DRIFTWOOD_EINVAL},
            {"c misaligned for f16", [](Gemm& g) { g.c_type = DRIFTWOOD_F16, g.c += 1; }, DRIFTWOOD_EINVAL},
            {"lda too small", [](Gemm& g) { g.lda = 5; }, DRIFTWOOD_EINVAL},
            {"lda of a transposed A", [](Gemm& g) { g.flags = 2, g.lda = 3; }, DRIFTWOOD_EINVAL},
            {"c over a", [](Gemm& g) { g.c = g.a + 4; }, DRIFTWOOD_EINVAL},
            {"c over the end of b", [](Gemm& g) { g.c = g.b + 4 * 29; }, DRIFTWOOD_EINVAL},
            {"a begins outside", [](Gemm& g) { g.a = kMemory + 4; }, DRIFTWOOD_EFAULT},
            {"a ends one element outside", [](Gemm& g) { g.a = kMemory - 4 * 23; }, DRIFTWOOD_EFAULT},
            {"c at the top of the address space", [](Gemm& g) { g.c = kHuge - 3; }, DRIFTWOOD_EFAULT},
            {"extents that overflow 64 bits", [](Gemm& g) { g.m = kHuge, g.k = 1, g.n = 1, g.lda = kHuge; },
             DRIFTWOOD_EFAULT},
            {"a product of hours", [](Gemm& g) { g.m = g.n = g.k = 1 << 12; }, DRIFTWOOD_EOVERFLOW},
            {"a product that overflows", [](Gemm& g) { g.m = g.n = g.k = kHuge; }, DRIFTWOOD_EOVERFLOW},
            {"rows without columns", [](Gemm& g) { g.m = kHuge, g.n = 0, g.k = 2; }, DRIFTWOOD_EOVERFLOW},
            {"a type of later", [](Gemm& g) { g.b_type = 3; }, DRIFTWOOD_ENOSYS},
            {"a type of much later", [](Gemm& g) { g.c_type = 256; }, DRIFTWOOD_ENOSYS},
            {"a flag of later", [](Gemm& g) { g.flags = 8; }, DRIFTWOOD_ENOSYS},
            {"a field of later", [](Gemm& g) { g.reserved = 1; }, DRIFTWOOD_ENOSYS},
        });
}

TEST(TensorTest, rows_that_cannot_be_are_refused_at_the_call) {
    using Rows = driftwood_rows;
    expect_refused<Rows>(small_rows(),
                         {
                             {"x misaligned", [](Rows& r) { r.x += 1; }, DRIFTWOOD_EINVAL},
                             {"ldout too small", [](Rows& r) { r.ldout = 6; }, DRIFTWOOD_EINVAL},
                             {"out beside x", [](Rows& r) { r.out = r.x + 4; }, DRIFTWOOD_EINVAL},
                             {"out over one y for all", [](Rows& r) { r.ldy = 0, r.out = r.y; }, DRIFTWOOD_EINVAL},
                             {"more columns than there can be", [](Rows& r) { r.cols = kHuge; }, DRIFTWOOD_EOVERFLOW},
                             {"y outside", [](Rows& r) { r.y = kMemory - 4 * 20; }, DRIFTWOOD_EFAULT},
                             {"rows that overflow 64 bits", [](Rows& r) { r.rows = r.ldx = kHuge; }, DRIFTWOOD_EFAULT},
                             {"a kind of later", [](Rows& r) { r.kind = 6; }, DRIFTWOOD_ENOSYS},
                             {"a kind of much later", [](Rows& r) { r.kind = 256; }, DRIFTWOOD_ENOSYS},
                         });
}

TEST(TensorTest, a_cancelled_operation_touches_nothing_and_completes_once) {
    TensorActor cpu("cpu");
    fill(cpu.memory(), 2);
    const std::string before(cpu.memory() + kTensors, cpu.memory() + cpu.memory_bytes());
    EXPECT_EQ(cpu.ask(small_gemm(), true).back(), -DRIFTWOOD_ECANCELED);
    EXPECT_EQ(cpu.ask(small_rows(), true).back(), -DRIFTWOOD_ECANCELED);
    EXPECT_TRUE(before == std::string(cpu.memory() + kTensors, cpu.memory() + cpu.memory_bytes()));
}

}  // namespace
}  // namespace driftwood::actor
