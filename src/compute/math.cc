#include "compute/math.h"

#include <algorithm>
#include <array>

namespace driftwood::compute {

namespace {

constexpr size_t kLanes = 32;

template <class Accumulate>
float sum_in_blocks(std::span<const float> x, Accumulate accumulate) {
    float sum = 0.0F;
    for (size_t begin = 0; begin < x.size(); begin += kSuperBlock) {
        const std::span<const float> block = x.subspan(begin, std::min<size_t>(kSuperBlock, x.size() - begin));
        std::array<float, kLanes> lane{};
        for (size_t i = 0; i < block.size(); ++i) lane[i % kLanes] = accumulate(block[i], lane[i % kLanes]);
        for (size_t half = kLanes / 2; half > 0; half /= 2) {
            for (size_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
        }
        sum = sum + lane[0];
    }
    return sum;
}

}  // namespace

float ordered_sum(std::span<const float> x) {
    return sum_in_blocks(x, [](float value, float lane) { return lane + value; });
}

float ordered_sum_of_squares(std::span<const float> x) {
    return sum_in_blocks(x, [](float value, float lane) { return std::fma(value, value, lane); });
}

}  // namespace driftwood::compute
