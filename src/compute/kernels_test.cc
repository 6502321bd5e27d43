// Every kernel of every instruction set this machine has, against the reference, by memcmp (linear layers:
// linear_test.cc).
#include "compute/kernels_test.h"

#include "base/fp_environment.h"
#include "compute/kv.h"

namespace driftwood::compute {
namespace {

// ---- rows

TEST_P(KernelsOf, rms_norm_has_the_bits_of_the_reference) {
    TestRandom random(1);
    for_hard_rows({1, 15, 16, 31, 32, 33, 96, 255, 256, 257, 300, 1000}, [&](const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        const std::vector<float> weight = hard_floats(random, n, 0);
        std::vector<float> got(n), want(n);
        EXPECT_EQ(tested().rms_norm(x.data(), weight.data(), n, 1e-5F, got.data()),
                  reference_kernels().rms_norm(x.data(), weight.data(), n, 1e-5F, want.data()));
        EXPECT_TRUE(equal_bytes(got, want));
    });
}

TEST_P(KernelsOf, quantise_16_has_the_bits_of_the_reference) {
    for_hard_rows({2, 16, 26, 64, 80, 96, 128, 250, 256}, [&](const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        for (const float max : {kMaxQ16, kMaxV16}) {
            std::vector<int16_t> got(n), want(n);
            float got_scale = -1.0F, want_scale = -2.0F;
            EXPECT_TRUE(tested().quantise_16(x.data(), n, max, got.data(), &got_scale));
            EXPECT_TRUE(reference_kernels().quantise_16(x.data(), n, max, want.data(), &want_scale));
            EXPECT_TRUE(equal_bytes(got, want));
            EXPECT_TRUE(equal_bytes<float>({got_scale}, {want_scale}));
        }
    });
}

TEST_P(KernelsOf, a_single_nan_or_infinity_is_found_wherever_it_is) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
        for (uint32_t at = 0; at < 96; ++at) {
            std::vector<float> x(96, 0.5F), y(96), weight(96, 1.0F), scale(1);
            std::vector<int16_t> q16(96);
            x[at] = bad;
            for (const Kernels* kernels : {&tested(), &reference_kernels()}) {
                EXPECT_FALSE(kernels->rms_norm(x.data(), weight.data(), 96, 1e-5F, y.data())) << at;
                for (const ActivationKind kind : kKinds) EXPECT_FALSE(Quantised(*kernels, kind, x, 96).finite) << at;
                EXPECT_FALSE(kernels->quantise_16(x.data(), 96, kMaxQ16, q16.data(), scale.data())) << at;
                EXPECT_FALSE(kernels->all_finite(x.data(), 96)) << at;
            }
        }
    }
}

TEST_P(KernelsOf, rope_has_the_bits_of_the_reference) {
    TestRandom random(2);
    for_hard_rows({2, 6, 16, 26, 30, 34, 62, 64, 80, 96, 128, 256}, [&](const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        const std::vector<float> cosine = hard_floats(random, n / 2, 0);
        const std::vector<float> sine = hard_floats(random, n / 2, 0);
        std::vector<float> got = x, want = x;
        tested().rope_adjacent(got.data(), n, cosine.data(), sine.data());
        reference_kernels().rope_adjacent(want.data(), n, cosine.data(), sine.data());
        EXPECT_TRUE(equal_bytes(got, want));
        got = want = x;
        tested().rope_halves(got.data(), n, cosine.data(), sine.data());
        reference_kernels().rope_halves(want.data(), n, cosine.data(), sine.data());
        EXPECT_TRUE(equal_bytes(got, want));
    });
}

TEST_P(KernelsOf, silu_multiply_and_add_have_the_bits_of_the_reference) {
    TestRandom random(3);
    for_hard_rows({1, 16, 33, 320}, [&](const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        // Also stretched over the whole range of EXP and beyond both ends.
        for (const float factor : {1.0F, 100.0F}) {
            std::vector<float> gate = x;
            for (float& g : gate) g = std::isfinite(g * factor) ? g * factor : g;
            const std::vector<float> up = hard_floats(random, n, 0);
            std::vector<float> got(n), want(n);
            tested().silu_multiply(gate.data(), up.data(), n, got.data());
            reference_kernels().silu_multiply(gate.data(), up.data(), n, want.data());
            EXPECT_TRUE(equal_bytes(got, want));
            got = want = gate;
            tested().add(got.data(), up.data(), n);
            reference_kernels().add(want.data(), up.data(), n);
            EXPECT_TRUE(equal_bytes(got, want));
        }
    });
}

// ---- attention

// The KV of one head over some blocks, and queries on it.
struct AttentionCase {
    uint32_t head_dim = 0;
    std::vector<std::vector<uint8_t>> blocks;
    std::vector<const uint8_t*> pointers;
    std::vector<int16_t> q;  // [rows, head_dim]
    std::vector<float> cq;
    std::vector<uint32_t> visible;

    std::vector<float> run(const Kernels& kernels, std::vector<uint8_t>* finite) const {
        std::vector<float> out(q.size(), -1.0F);
        std::vector<AttentionRow> rows;
        for (size_t r = 0; r < cq.size(); ++r) {
            rows.push_back({&q[r * head_dim], cq[r], visible[r], &out[r * head_dim], false});
        }
        kernels.attention(
            {head_dim, pointers.data(), rows.data(), static_cast<uint32_t>(rows.size()), pointers.back()});
        for (const AttentionRow& row : rows) finite->push_back(row.finite ? 1 : 0);
        return out;
    }
};

AttentionCase attention_case(TestRandom& random, uint32_t head_dim, uint32_t tokens, uint32_t rows, uint32_t style) {
    AttentionCase c;
    c.head_dim = head_dim;
    const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = head_dim};
    std::vector<int16_t> ints(head_dim);
    float scale = 0.0F;
    for (uint32_t t = 0; t < tokens; ++t) {
        if (t % kBlockTokens == 0) c.blocks.emplace_back(layout.block_bytes(), uint8_t{0});
        EXPECT_TRUE(reference::quantise_16(hard_floats(random, head_dim, style).data(), head_dim, kMaxQ16, ints.data(),
                                           &scale));
        store_k_row(c.blocks.back().data(), head_dim, t % kBlockTokens, ints.data(), scale);
        EXPECT_TRUE(reference::quantise_16(hard_floats(random, head_dim, style).data(), head_dim, kMaxV16, ints.data(),
                                           &scale));
        store_v_row(c.blocks.back().data(), head_dim, t % kBlockTokens, ints.data(), scale);
    }
    for (const auto& block : c.blocks) c.pointers.push_back(block.data());
    for (uint32_t r = 0; r < rows; ++r) {
        EXPECT_TRUE(
            reference::quantise_16(hard_floats(random, head_dim, 0).data(), head_dim, kMaxQ16, ints.data(), &scale));
        c.q.insert(c.q.end(), ints.begin(), ints.end());
        c.cq.push_back(scale * static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim))));
        c.visible.push_back(tokens - (rows - 1 - r) % tokens);
    }
    return c;
}

void expect_same_attention(const Kernels& kernels, const AttentionCase& c) {
    std::vector<uint8_t> got_finite, want_finite;
    std::vector<float> got = c.run(kernels, &got_finite);
    std::vector<float> want = c.run(reference::kernels(), &want_finite);
    EXPECT_TRUE(equal_bytes(got_finite, want_finite));
    for (size_t r = 0; r < c.cq.size(); ++r) {
        if (want_finite[r] != 0) continue;  // nobody may use what such a row has
        std::fill_n(got.begin() + r * c.head_dim, c.head_dim, 0.0F);
        std::fill_n(want.begin() + r * c.head_dim, c.head_dim, 0.0F);
    }
    EXPECT_TRUE(equal_bytes(got, want)) << "head_dim " << c.head_dim << ", rows " << c.cq.size() << ", visible "
                                        << c.visible.back();
}

TEST_P(KernelsOf, attention_has_the_bits_of_the_reference_for_any_head_size) {
    TestRandom random(7);
    for (const uint32_t head_dim : {2U, 6U, 16U, 26U, 64U, 80U, 96U, 128U, 130U, 256U}) {
        for (const uint32_t rows : {1U, 3U, 4U, 8U, 16U}) {
            expect_same_attention(tested(), attention_case(random, head_dim, 150, rows, 0));
        }
    }
}

TEST_P(KernelsOf, attention_has_the_bits_of_the_reference_for_any_length) {
    TestRandom random(8);
    for (uint32_t tokens = 1; tokens <= 200; ++tokens) {
        expect_same_attention(tested(), attention_case(random, 16, tokens, 1 + tokens % 6, 0));
    }
}

TEST_P(KernelsOf, attention_has_the_bits_of_the_reference_for_hard_values) {
    TestRandom random(9);
    for (uint32_t style = 0; style <= kStyles; ++style) {
        for (const uint32_t tokens : {5U, 64U, 140U}) {
            for (const uint32_t head_dim : {32U, 32U, 64U, 80U, 96U, 128U, 256U}) {
                expect_same_attention(tested(), attention_case(random, head_dim, tokens, 4, style));
            }
        }
    }
}

// Every integer sum at its bound: the largest digits of queries by the largest keys over 256 dimensions, and 64 weights
// of 8192 by the largest values. The result is known: a sum that wrapped would be far from it.
TEST_P(KernelsOf, attention_sums_are_exact_when_all_numbers_are_largest) {
    constexpr uint32_t kDim = 256, kKeys = 128;
    const float scale = std::nextafter(2.0F, 0.0F);  // weights round up to 8192
    for (const int16_t q : {int16_t{32767}, int16_t{-32767}, int16_t{255}, int16_t{-32513}}) {
        for (const int16_t k : {int16_t{32767}, int16_t{-32767}}) {
            AttentionCase c;
            c.head_dim = kDim;
            const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = kDim};
            const std::vector<int16_t> key(kDim, k), value(kDim, k > 0 ? int16_t{4095} : int16_t{-4095});
            for (uint32_t t = 0; t < kKeys; ++t) {
                if (t % kBlockTokens == 0) c.blocks.emplace_back(layout.block_bytes(), uint8_t{0});
                store_k_row(c.blocks.back().data(), kDim, t % kBlockTokens, key.data(), 1.0F);
                store_v_row(c.blocks.back().data(), kDim, t % kBlockTokens, value.data(), scale);
            }
            for (const auto& block : c.blocks) c.pointers.push_back(block.data());
            for (uint32_t row = 0; row < 5; ++row) {
                c.q.insert(c.q.end(), kDim, q);
                c.cq.push_back(0x1p-37F);  // scores of about 2
                c.visible.push_back(kKeys);
            }
            expect_same_attention(tested(), c);
            for (const Kernels* kernels : {&tested(), &reference_kernels()}) {
                std::vector<uint8_t> finite;
                for (const float out : c.run(*kernels, &finite)) {
                    ASSERT_NEAR(out / (static_cast<float>(value[0]) * scale), 1.0F, 1e-3F) << q << " by " << k;
                }
                EXPECT_EQ(std::count(finite.begin(), finite.end(), 1), 5);
            }
        }
    }
}

// A file may hold any 16-bit numbers and any scales that pass check_block_scales: wrapped sums, the same everywhere.
TEST_P(KernelsOf, attention_has_the_bits_of_the_reference_for_hostile_blocks) {
    TestRandom random(10);
    for (int repeat = 0; repeat < 40; ++repeat) {
        AttentionCase c = attention_case(random, 64, 130, 4, 0);
        for (auto& block : c.blocks) {
            for (uint32_t i = 0; i < 64 * 64 * 4; ++i)
                block[i] = random.below(3) == 0 ? 0x80 : static_cast<uint8_t>(random.bits());
            for (uint32_t i = 0; i < 128; ++i) {
                const float scale = repeat % 4 == 0   ? std::ldexp(1.0F, static_cast<int>(random.below(203)) - 76)
                                    : repeat % 4 == 1 ? std::numeric_limits<float>::max()
                                    : random.below(2) ? 0.0F
                                                      : 0x1p-40F;
                std::memcpy(&block[64 * 64 * 4 + 4 * i], &scale, 4);
            }
        }
        expect_same_attention(tested(), c);
    }
}

// Rule 12, where it matters: what the next integers are made from. A value that is flushed on its way counts as zero
// anyway.
TEST_P(KernelsOf, what_is_quantised_does_not_depend_on_subnormals_being_flushed) {
    TestRandom random(13);
    const auto quantised_bytes = [](const Kernels& kernels, const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        std::vector<uint8_t> all;
        const auto append = [&](const auto& values) {
            const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
            all.insert(all.end(), bytes, bytes + values.size() * sizeof(values[0]));
        };
        for (const ActivationKind kind : kKinds) {
            const Quantised row(kernels, kind, x, n);
            append(row.high);
            append(row.low);
            append(row.scale);
        }
        std::vector<float> scales(2);
        std::vector<int16_t> k(n), v(n);
        kernels.quantise_16(x.data(), n, kMaxQ16, k.data(), &scales[0]);
        kernels.quantise_16(x.data(), n, kMaxV16, v.data(), &scales[1]);
        append(k);
        append(v);
        append(scales);
        return all;
    };
    for (const Kernels* kernels : {&tested(), &reference_kernels()}) {
        for (uint32_t style = 0; style <= kStyles; ++style) {
            const std::vector<float> x = hard_floats(random, 256, style);
            const std::vector<float> weight = hard_floats(random, 256, style);
            const AttentionCase attention = attention_case(random, 64, 140, 4, style);
            std::vector<uint8_t> seen[2];
            for (const Subnormals mode : {Subnormals::kKeep, Subnormals::kFlush}) {
                const FpEnvironment environment(mode);
                std::vector<uint8_t>& all = seen[mode == Subnormals::kFlush ? 1 : 0];
                const auto append = [&](const std::vector<float>& values) {
                    const std::vector<uint8_t> bytes = quantised_bytes(*kernels, values);
                    all.insert(all.end(), bytes.begin(), bytes.end());
                };
                append(x);
                std::vector<float> y(256);
                if (kernels->rms_norm(x.data(), weight.data(), 256, 1e-5F, y.data())) append(y);
                std::vector<uint8_t> finite;
                y = attention.run(*kernels, &finite);
                if (std::count(finite.begin(), finite.end(), 0) == 0) append(y);
            }
            EXPECT_TRUE(equal_bytes(seen[1], seen[0])) << kernels->name << ", style " << style;
        }
    }
}

TEST_P(KernelsOf, scores_beyond_the_range_are_found) {
    TestRandom random(12);
    AttentionCase c = attention_case(random, 64, 70, 2, 0);
    c.cq[1] = 1e30F;
    for (const Kernels* kernels : {&tested(), &reference_kernels()}) {
        std::vector<uint8_t> finite;
        c.run(*kernels, &finite);
        EXPECT_EQ(finite, (std::vector<uint8_t>{1, 0}));
    }
}

INSTANTIATE_TEST_SUITE_P(isa, KernelsOf, ::testing::ValuesIn(tested_tables()),
                         [](const auto& info) { return std::string(info.param.kernels->name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KernelsOf);

}  // namespace
}  // namespace driftwood::compute
