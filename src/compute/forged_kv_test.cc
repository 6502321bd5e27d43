// KV blocks as a forger of images may write them: any integers, and any scales that are valid. Sums wrap there, in
// every engine alike (docs/numerics.md, rule 7), and what is not a number is the same error.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "compute/engine_test.h"

namespace driftwood::compute {
namespace {

constexpr uint32_t kForgedBlocks = 2;
constexpr uint32_t kVocab = 50;
constexpr uint32_t kScaleStyles = 4;

float forged_scale(TestRandom& random, uint32_t style) {
    switch (style) {
        case 0: return random.below(2) == 0 ? 0.0F : 0x1p-15F;                     // as an engine writes them
        case 1: return std::ldexp(1.0F, static_cast<int>(random.below(60)) - 76);  // apart by any power of two
        case 2: return random.below(50) == 0 ? 0x1p100F : 0x1p-40F;                // a few that overflow
        default: return 0x1p-40F;
    }
}

// A file in memory with kForgedBlocks blocks; the caller closes it.
int forged_file(const KvLayout& layout, uint32_t style) {
    TestRandom random(160 + style);
    std::vector<uint8_t> all(kForgedBlocks * layout.block_bytes());
    for (uint32_t block = 0; block < kForgedBlocks; ++block) {
        for (uint32_t head = 0; head < layout.kv_heads; ++head) {
            uint8_t* const at = &all[block * layout.block_bytes() + layout.head_offset(0, head)];
            const size_t integers = 2 * layout.k_bytes();
            std::generate_n(at, integers,
                            [&] { return random.below(3) == 0 ? uint8_t{0x80} : static_cast<uint8_t>(random.bits()); });
            for (uint32_t i = 0; i < 2 * kBlockTokens; ++i) {
                const float scale = forged_scale(random, style);
                std::memcpy(at + integers + i * sizeof(scale), &scale, sizeof(scale));
            }
        }
    }
    const int fd = memfd_create("forged", MFD_CLOEXEC);
    EXPECT_EQ(pwrite(fd, all.data(), all.size(), 0), static_cast<ssize_t>(all.size()));
    return fd;
}

struct Outcome {
    std::vector<TestSequence> sequences;
    std::vector<std::optional<Error>> errors;
};

// One step of conversations that go on from the file, each with so many tokens.
Outcome go_on(Engine& engine, int fd, const std::vector<size_t>& counts) {
    static const std::vector<uint32_t> kTokens = test_tokens(kVocab, 40, 162);
    Outcome out;
    out.sequences.resize(counts.size());
    std::vector<BatchItem> batch;
    for (size_t i = 0; i < counts.size(); ++i) {
        TestSequence& one = out.sequences[i];
        one.blocks = engine.pool().adopt(fd, 0, kForgedBlocks).value();
        for (const BlockId block : one.blocks) EXPECT_TRUE(engine.pool().validate(block).ok());
        one.length = kForgedBlocks * kBlockTokens;
        one.logits.resize(size_t{one.length} * kVocab);  // of tokens that nobody computed
        batch.push_back(one.item(engine, std::span(kTokens).first(counts[i])));
    }
    engine.step(batch);
    for (const BatchItem& item : batch) out.errors.push_back(item.error);
    return out;
}

void release(Engine& engine, const Outcome& outcome) {
    for (const TestSequence& one : outcome.sequences) {
        for (const BlockId block : one.blocks) engine.pool().release(block);
    }
}

class ForgedKv : public ::testing::TestWithParam<std::string> {};

TEST_P(ForgedKv, gives_the_bits_and_the_errors_of_the_reference) {
    if (!engine_available(GetParam())) GTEST_SKIP() << "this machine cannot run the engine " << GetParam();
    uint32_t answered = 0, failed = 0;
    for (const uint32_t head_dim : {16U, 64U, 80U, 128U}) {
        const TestModel model = make_test_model(
            {.layers = 1, .heads = 8, .kv_heads = 2, .head_dim = head_dim, .d_ff = 64, .vocab = kVocab}, 161);
        const auto tested = test_engine(GetParam().c_str(), model.spec);
        const auto reference = test_engine("reference", model.spec);
        for (uint32_t style = 0; style < kScaleStyles; ++style) {
            const int fd = forged_file(reference->pool().layout(), style);
            for (const std::vector<size_t>& counts : {std::vector<size_t>{1}, {40}, {1, 1, 1}, {1, 20, 1}}) {
                SCOPED_TRACE(testing::Message() << "heads of " << head_dim << ", style " << style << ", "
                                                << counts.size() << " conversations, " << counts.back() << " tokens");
                const Outcome got = go_on(*tested, fd, counts), want = go_on(*reference, fd, counts);
                for (size_t i = 0; i < counts.size(); ++i) {
                    ASSERT_EQ(got.errors[i].has_value(), want.errors[i].has_value());
                    EXPECT_EQ(got.errors[i] ? got.errors[i]->message : "",
                              want.errors[i] ? want.errors[i]->message : "");
                    EXPECT_TRUE(same_bits(got.sequences[i].logits, want.sequences[i].logits));
                    EXPECT_TRUE(got.sequences[i].kv(*tested) == want.sequences[i].kv(*reference)) << "KV bytes differ";
                    ++(want.errors[i] ? failed : answered);
                }
                release(*tested, got);
                release(*reference, want);
            }
            close(fd);
        }
    }
    EXPECT_GT(answered, 20U);
    EXPECT_GT(failed, 0U);
}

std::vector<std::string> engines_beside_the_reference() {
    std::vector<std::string> names;
    for (const EngineInfo& info : engines().first(engines().size() - 1)) names.emplace_back(info.name);
    return names;
}

INSTANTIATE_TEST_SUITE_P(isa, ForgedKv, ::testing::ValuesIn(engines_beside_the_reference()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace driftwood::compute
