// Small random decoders for tests and benches: a DecoderSpec with the bytes it views. Same shape and seed, same bytes,
// on every machine.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "compute/constants.h"
#include "compute/decoder_spec.h"

namespace driftwood::compute {

struct TestShape {
    uint32_t layers = 2;
    uint32_t d_model = 64;
    uint32_t heads = 4;
    uint32_t kv_heads = 2;
    uint32_t head_dim = 16;
    uint32_t d_ff = 96;
    uint32_t vocab = 100;
    uint32_t context = 512;
    RopePairs rope_pairs = RopePairs::kAdjacent;
    bool rope_factors = false;
    bool tied = false;  // the output matrix is the embedding
};

// SplitMix64 (Steele, Lea, Flood 2014): enough for test data.
class TestRandom {
  public:
    explicit TestRandom(uint64_t seed) : state_(seed) {}
    uint64_t bits() {
        uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31);
    }
    uint32_t below(uint32_t limit) { return static_cast<uint32_t>((bits() >> 32) * limit >> 32); }
    // Uniform in [-1, 1), a multiple of 2^-23.
    float uniform() { return static_cast<float>(static_cast<int32_t>(bits() >> 40) - (1 << 23)) * 0x1p-23F; }

  private:
    uint64_t state_;
};

// Truncates; for magnitudes that are normal numbers in both formats.
inline uint16_t test_float_to_half(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return static_cast<uint16_t>((bits >> 16 & 0x8000U) | ((bits & 0x7FFFFFFFU) - (112U << 23)) >> 13);
}

// Owns what `spec` views. May be moved, not copied.
struct TestModel {
    DecoderSpec spec;
    std::deque<std::vector<uint8_t>> matrices;
    std::deque<std::vector<float>> norms;

    TestModel() = default;
    TestModel(TestModel&&) = default;
    TestModel& operator=(TestModel&&) = default;
};

// A [rows, cols] Q8_0 matrix of values with a standard deviation of about 1 / sqrt(cols), times `gain`.
inline std::vector<uint8_t> test_matrix(TestRandom& random, uint32_t rows, uint32_t cols, float gain = 1.0F) {
    std::vector<uint8_t> bytes(rows * row_bytes(WeightType::kQ8_0, cols));
    const float scale = gain / (73.3F * std::sqrt(static_cast<float>(cols)));
    for (size_t at = 0; at < bytes.size(); at += 2 + kGroup) {
        const uint16_t half = test_float_to_half(scale * (1.0F + 0.5F * random.uniform()));
        std::memcpy(&bytes[at], &half, sizeof(half));
        for (uint32_t i = 0; i < kGroup; i += 8) {
            const uint64_t word = random.bits();
            std::memcpy(&bytes[at + 2 + i], &word, sizeof(word));
        }
    }
    return bytes;
}

inline TestModel make_test_model(const TestShape& shape, uint64_t seed) {
    TestModel model;
    TestRandom random(seed);
    const auto matrix = [&](uint32_t rows, uint32_t cols, float gain = 1.0F) {
        model.matrices.push_back(test_matrix(random, rows, cols, gain));
        return MatrixView{.type = WeightType::kQ8_0, .rows = rows, .cols = cols, .bytes = model.matrices.back()};
    };
    const auto norm = [&]() -> std::span<const float> {
        std::vector<float>& values = model.norms.emplace_back(shape.d_model);
        for (float& value : values) value = 1.0F + 0.25F * random.uniform();
        return values;
    };
    DecoderSpec& spec = model.spec;
    spec.layers = shape.layers;
    spec.d_model = shape.d_model;
    spec.heads = shape.heads;
    spec.kv_heads = shape.kv_heads;
    spec.head_dim = shape.head_dim;
    spec.d_ff = shape.d_ff;
    spec.vocab = shape.vocab;
    spec.context = shape.context;
    spec.rope_pairs = shape.rope_pairs;
    if (shape.rope_factors) {
        for (uint32_t i = 0; i < shape.head_dim / 2; ++i)
            spec.rope_factors.push_back(1.0F + 0.25F * static_cast<float>(i));
    }
    const uint32_t q_width = shape.heads * shape.head_dim;
    const uint32_t kv_width = shape.kv_heads * shape.head_dim;
    // An embedding of unit variance, so that the first layers see what later ones see.
    spec.embedding = matrix(shape.vocab, shape.d_model, std::sqrt(static_cast<float>(shape.d_model)));
    for (uint32_t i = 0; i < shape.layers; ++i) {
        DecoderLayer layer;
        layer.attn_norm = norm();
        layer.wq = matrix(q_width, shape.d_model);
        layer.wk = matrix(kv_width, shape.d_model);
        layer.wv = matrix(kv_width, shape.d_model);
        layer.wo = matrix(shape.d_model, q_width);
        layer.ffn_norm = norm();
        layer.w_gate = matrix(shape.d_ff, shape.d_model);
        layer.w_up = matrix(shape.d_ff, shape.d_model);
        layer.w_down = matrix(shape.d_model, shape.d_ff);
        spec.layer.push_back(layer);
    }
    spec.output_norm = norm();
    spec.output = shape.tied ? spec.embedding : matrix(shape.vocab, shape.d_model);
    return model;
}

// `count` tokens below the vocabulary's size.
inline std::vector<uint32_t> test_tokens(uint32_t vocab, uint32_t count, uint64_t seed) {
    TestRandom random(seed);
    std::vector<uint32_t> tokens(count);
    for (uint32_t& token : tokens) token = random.below(vocab);
    return tokens;
}

}  // namespace driftwood::compute
