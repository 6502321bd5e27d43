// Small random decoders for tests and benches: a DecoderSpec with the bytes it views. Same shape and seed, same bytes,
// on every machine.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "compute/constants.h"
#include "compute/decoder_spec.h"
#include "compute/half.h"

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
    WeightType type = WeightType::kQ8_0;
    WeightType second_type = WeightType::kQ8_0;  // of wv, w_down and the output: as files mix types
    ActivationBits activation_bits = ActivationBits::k8;
    bool layers_alike = false;  // all layers view the first one's weights: a large model is made in a moment
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

// Owns what `spec` views. May be moved, not copied.
struct TestModel {
    DecoderSpec spec;
    std::deque<std::vector<uint8_t>> matrices;
    std::deque<std::vector<float>> norms;

    TestModel() = default;
    TestModel(TestModel&&) = default;
    TestModel& operator=(TestModel&&) = default;
};

inline void put_half(uint8_t* at, float x) {
    const uint16_t half = float_to_half(x);
    std::memcpy(at, &half, sizeof(half));
}

inline bool has_min(WeightType type) {
    return type == WeightType::kQ4_1 || type == WeightType::kQ5_1 || type == WeightType::kQ4_K ||
           type == WeightType::kQ5_K;
}

// Sets the scales of one block so that values deviate by about `deviation` around 0.
inline void scale_test_block(TestRandom& random, WeightType type, uint8_t* block, float deviation) {
    const float vary = 1.0F + 0.5F * random.uniform();
    const auto scaled = [&](float deviation_of_integers) { return deviation * vary / deviation_of_integers; };
    switch (type) {
        case WeightType::kQ8_0: put_half(block, scaled(73.3F)); break;
        case WeightType::kQ4_0: put_half(block, scaled(4.6F)); break;
        case WeightType::kQ5_0: put_half(block, scaled(9.2F)); break;
        case WeightType::kQ4_1:
        case WeightType::kQ5_1: {
            const float middle = type == WeightType::kQ4_1 ? 7.5F : 15.5F;
            const float d = scaled(type == WeightType::kQ4_1 ? 4.6F : 9.2F);
            put_half(block, d);
            put_half(block + 2, -middle * d);
            break;
        }
        case WeightType::kQ4_K:
        case WeightType::kQ5_K: {  // scales and minima of about 32
            const float middle = type == WeightType::kQ4_K ? 7.5F : 15.5F;
            const float d = scaled(middle * 32.0F);
            put_half(block, d);
            put_half(block + 2, middle * d);
            break;
        }
        case WeightType::kQ6_K: put_half(block + offsetof(BlockQ6_K, d), scaled(18.5F * 73.3F)); break;
        case WeightType::kQ4S: put_half(block, scaled(4.6F * 8.0F)); break;
        default: CHECK(false);
    }
}

// A [rows, cols] matrix of values with a standard deviation of about 1 / sqrt(cols), times `gain`.
inline std::vector<uint8_t> test_matrix(TestRandom& random, WeightType type, uint32_t rows, uint32_t cols,
                                        float gain = 1.0F) {
    const float deviation = gain / std::sqrt(static_cast<float>(cols));
    std::vector<uint8_t> bytes(rows * row_bytes(type, cols));
    if (type == WeightType::kW16 || type == WeightType::kF32) {
        std::vector<float> values(size_t{rows} * cols);
        for (float& value : values) value = deviation * 1.73F * random.uniform();
        const std::span from(reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float));
        if (type == WeightType::kF32) return {from.begin(), from.end()};
        CHECK(weights_to_w16({.type = WeightType::kF32, .rows = rows, .cols = cols, .bytes = from}, bytes).ok());
        return bytes;
    }
    if (is_plain_float(type)) {
        for (size_t at = 0; at < bytes.size(); at += 2) {
            const float value = deviation * 1.73F * random.uniform();
            const uint16_t bits = type == WeightType::kF16 ? float_to_half(value) : float_to_bf16(value);
            std::memcpy(&bytes[at], &bits, sizeof(bits));
        }
        return bytes;
    }
    const size_t block_bytes = kWeightFormats[static_cast<size_t>(type)].bytes;
    for (size_t at = 0; at < bytes.size(); at += block_bytes) {
        scale_test_block(random, type, &bytes[at], deviation);
        // Integers everywhere but in the scales, which are at either end.
        const size_t begin = type == WeightType::kQ6_K ? 0 : has_min(type) ? 4 : 2;
        const size_t end = type == WeightType::kQ6_K ? offsetof(BlockQ6_K, d) : block_bytes;
        for (size_t i = begin; i < end; i += 8) {
            const uint64_t word = random.bits();
            std::memcpy(&bytes[at + i], &word, std::min<size_t>(sizeof(word), end - i));
        }
    }
    return bytes;
}

inline TestModel make_test_model(const TestShape& shape, uint64_t seed) {
    TestModel model;
    TestRandom random(seed);
    const auto matrix_of = [&](WeightType type, uint32_t rows, uint32_t cols, float gain = 1.0F) {
        model.matrices.push_back(test_matrix(random, type, rows, cols, gain));
        return MatrixView{.type = type, .rows = rows, .cols = cols, .bytes = model.matrices.back()};
    };
    const auto matrix = [&](uint32_t rows, uint32_t cols) { return matrix_of(shape.type, rows, cols); };
    const auto second = [&](uint32_t rows, uint32_t cols) { return matrix_of(shape.second_type, rows, cols); };
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
    spec.activation_bits = shape.activation_bits;
    if (shape.rope_factors) {
        for (uint32_t i = 0; i < shape.head_dim / 2; ++i)
            spec.rope_factors.push_back(1.0F + 0.25F * static_cast<float>(i));
    }
    const uint32_t q_width = shape.heads * shape.head_dim;
    const uint32_t kv_width = shape.kv_heads * shape.head_dim;
    // An embedding of unit variance, so that the first layers see what later ones see.
    spec.embedding = matrix_of(shape.type, shape.vocab, shape.d_model, std::sqrt(static_cast<float>(shape.d_model)));
    for (uint32_t i = 0; i < shape.layers; ++i) {
        if (shape.layers_alike && i > 0) {
            spec.layer.push_back(spec.layer[0]);
            continue;
        }
        DecoderLayer layer;
        layer.attn_norm = norm();
        layer.wq = matrix(q_width, shape.d_model);
        layer.wk = matrix(kv_width, shape.d_model);
        layer.wv = second(kv_width, shape.d_model);
        layer.wo = matrix(shape.d_model, q_width);
        layer.ffn_norm = norm();
        layer.w_gate = matrix(shape.d_ff, shape.d_model);
        layer.w_up = matrix(shape.d_ff, shape.d_model);
        layer.w_down = second(shape.d_model, shape.d_ff);
        spec.layer.push_back(layer);
    }
    spec.output_norm = norm();
    spec.output = shape.tied ? spec.embedding : second(shape.vocab, shape.d_model);
    return model;
}

// `count` tokens below the vocabulary's size.
inline std::vector<uint32_t> test_tokens(uint32_t vocab, uint32_t count, uint64_t seed) {
    TestRandom random(seed);
    std::vector<uint32_t> tokens(count);
    for (uint32_t& token : tokens) token = random.below(vocab);
    return tokens;
}

// The weights of `matrix`, which the model owns, for a test to spoil.
inline uint8_t* mutable_bytes(const MatrixView& matrix) { return const_cast<uint8_t*>(matrix.bytes.data()); }

}  // namespace driftwood::compute
