// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

float32x4_t silu_lanes(float32x4_t g) { return vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.0F), exp_lanes(vnegq_f32(g)))); }

template <class Lanes>
void each(const float* x, const float* y, float* out, uint32_t n, Lanes lanes) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const float32x4_t a = load_left(x, i, n);
        const float32x4_t b = y == nullptr ? vdupq_n_f32(0.0F) : load_left(y, i, n);
        store_left(out, i, n, one_nan(lanes(a, b)));
    }
}

void add_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); });
}

void multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); });
}

void silu_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    each(x, nullptr, out, n, [](float32x4_t a, float32x4_t) { return silu_lanes(a); });
}

void silu_multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](float32x4_t a, float32x4_t b) { return vmulq_f32(silu_lanes(a), b); });
}

// EXP(x - max) into out, and their sum in rule 4's order.
float exponentials(const float* x, float max, float* out, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        float32x4_t lane[8];
        for (float32x4_t& zero : lane) zero = vdupq_n_f32(0.0F);
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l = (l + 1) % 8) {
            store_left(out, i, end, exp_lanes(vsubq_f32(load_left(x, i, end), vdupq_n_f32(max))));
            // Missing values are +0, which leaves a lane that is not negative as it is.
            lane[l] = vaddq_f32(lane[l], load_left(out, i, end));
        }
        sum = sum + fold(lane);
    }
    return sum;
}

void softmax_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    float max = float_of(0xFF800000U);
    bool nan = false;
    for (uint32_t i = 0; i < n; ++i) {
        max = x[i] > max ? x[i] : max;
        nan = nan || x[i] != x[i];
    }
    float sum = exponentials(x, max, out, n);
    if (nan) sum = __builtin_nanf("");
    const float32x4_t divisor = vdupq_n_f32(sum);
    each(out, nullptr, out, n, [divisor](float32x4_t e, float32x4_t) { return vdivq_f32(e, divisor); });
}

void rms_norm_row(const float* x, const float* y, float* out, uint32_t n, float eps) {
    rms_norm(x, y, n, eps, out);
    each(out, nullptr, out, n, [](float32x4_t a, float32x4_t) { return a; });
}

}  // namespace

const RowKernels& row_kernels() {
    static constexpr RowKernels kKernels = {
        {add_row, multiply_row, silu_row, silu_multiply_row, softmax_row, rms_norm_row}};
    return kKernels;
}

}  // namespace driftwood::compute::neon
