// Rule 3: linear layers with Q8_0 weights and A32P activations; rule 9: embedding rows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "compute/half.h"
#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

constexpr uint32_t kBlockBytes = 2 + kGroup;  // f16 scale, 32 int8

float block_scale(const uint8_t* block) {
    uint16_t half = 0;
    std::memcpy(&half, block, sizeof(half));
    return half_to_float(half);
}

int32_t block_value(const uint8_t* block, uint32_t i) { return static_cast<int8_t>(block[2 + i]); }

// Exact: 32 products of at most 128 · 127.
int32_t group_sum(const uint8_t* block, const int8_t* q) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < kGroup; ++i) sum += block_value(block, i) * q[i];
    return sum;
}

float row_times_activations(const uint8_t* row, const int8_t* q, const float* scale, uint32_t groups) {
    constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
    float acc = 0.0F;
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        float t = 0.0F;
        for (uint32_t j = begin; j < std::min(begin + kGroupsPerSuperBlock, groups); ++j) {
            const uint8_t* block = row + size_t{j} * kBlockBytes;
            const float f = static_cast<float>(group_sum(block, q + size_t{j} * kGroup)) * scale[j];
            t = std::fma(block_scale(block), f, t);
        }
        acc = acc + t;
    }
    return acc;
}

}  // namespace

void linear_q8_0(const LinearQ8_0& args, uint32_t row_begin, uint32_t row_end) {
    const uint32_t groups = args.cols / kGroup;
    for (uint32_t r = row_begin; r < row_end; ++r) {
        const uint8_t* row = args.weights + size_t{r} * groups * kBlockBytes;
        for (uint32_t t = 0; t < args.tokens; ++t) {
            args.y[size_t{t} * args.y_stride + r] =
                row_times_activations(row, args.x.q + size_t{t} * args.cols, args.x.scale + size_t{t} * groups, groups);
        }
    }
}

void embed_q8_0(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t i = 0; i < n; ++i) {
        const uint8_t* block = row + size_t{i / kGroup} * kBlockBytes;
        out[i] = block_scale(block) * static_cast<float>(block_value(block, i % kGroup));
    }
}

}  // namespace driftwood::compute::reference
