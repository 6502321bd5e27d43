// Rules 4, 6 and 10: RMSNorm, SILU, softmax and elementwise operations over rows of floats, for every instruction set.
//
// Written over `Isa`, what an instruction set brings:
//   kLanes, Float                     registers of kLanes floats
//   splat(x)                          Float
//   load_left(x, i, n)                Float, of what is left of n values from i on; +0 in the other lanes
//   store_left(y, i, n, value)        those lanes of value
//   keep_left(value, i, n)            Float, +0 in the other lanes
//   add(a, b), multiply(a, b), divide(a, b), fma(a, b, c) = a · b + c, negate(a)     Float
//   exp(a)                            Float, rule 6's EXP
//   one_nan(a)                        Float, every NaN as 0x7FC00000
//   fold(lanes)                       rule 4: the 32 lanes of a block, in 32 / kLanes registers, folded into one sum
//   root(x)                           the square root of one float
//   largest(x, n)                     of n values, and whether one of them is NaN
// Each Isa lies in an unnamed namespace, so everything here does too, in effect (see README.md).
#pragma once

#include "compute/constants.h"
#include "compute/cpu/float_bits.h"
#include "compute/rows.h"

namespace driftwood::compute {
namespace {  // each kernel file gets copies of its own

struct Largest {
    float value;  // -∞ of no values; any where one is NaN
    bool nan;
};

template <class Isa>
struct Rows {
    using Float = typename Isa::Float;

    // out[i] = lanes(x[i], y[i]); out may be x or y.
    template <class Lanes>
    static void each(const float* x, const float* y, float* out, uint32_t n, Lanes lanes) {
        for (uint32_t i = 0; i < n; i += Isa::kLanes) {
            Isa::store_left(out, i, n, lanes(Isa::load_left(x, i, n), Isa::load_left(y, i, n)));
        }
    }
    template <class Lanes>
    static void each(const float* x, float* out, uint32_t n, Lanes lanes) {
        for (uint32_t i = 0; i < n; i += Isa::kLanes) Isa::store_left(out, i, n, lanes(Isa::load_left(x, i, n)));
    }

    // Rule 4's order. `added(lane, i, end)` is the lane with the values of [i, end) that it takes.
    template <class Added>
    static float sum_of_blocks(uint32_t n, Added added) {
        constexpr uint32_t kRegisters = 32 / Isa::kLanes;
        float sum = 0.0F;
        for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
            const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
            Float lane[kRegisters];
            for (uint32_t l = 0; l < kRegisters; ++l) lane[l] = Isa::splat(0.0F);
            for (uint32_t i = begin, l = 0; i < end; i += Isa::kLanes, l = (l + 1) % kRegisters) {
                lane[l] = added(lane[l], i, end);
            }
            sum = sum + Isa::fold(lane);
        }
        return sum;
    }

    static bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
        const float sum = sum_of_blocks(n, [x](Float lane, uint32_t i, uint32_t end) {
            // Missing values are +0: fma(0, 0, lane) leaves a lane as it is.
            const Float value = Isa::load_left(x, i, end);
            return Isa::fma(value, value, lane);
        });
        const float mean = __builtin_fmaf(sum, 1.0F / static_cast<float>(n), eps);
        const Float factor = Isa::splat(1.0F / Isa::root(mean));
        each(x, weight, y, n, [factor](Float a, Float w) { return Isa::multiply(Isa::multiply(a, factor), w); });
        return (bits_of(sum) & 0x7FFFFFFFU) < kInfinityBits;
    }

    static Float silu(Float g) { return Isa::divide(g, Isa::add(Isa::splat(1.0F), Isa::exp(Isa::negate(g)))); }

    static void silu_multiply(const float* x, const float* y, float* out, uint32_t n) {
        each(x, y, out, n, [](Float a, Float b) { return Isa::multiply(silu(a), b); });
    }

    static void add(const float* x, const float* y, float* out, uint32_t n) {
        each(x, y, out, n, [](Float a, Float b) { return Isa::add(a, b); });
    }

    // GemmKernels::finish.
    static void finish(const float* sum, const float* old, float* out, uint32_t n) {
        if (old != nullptr) return add_row(old, sum, out, n, 0.0F);
        each(sum, out, n, [](Float a) { return Isa::one_nan(a); });
    }

    // ---- rule 10: RowFunctions

    static void add_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
        each(x, y, out, n, [](Float a, Float b) { return Isa::one_nan(Isa::add(a, b)); });
    }

    static void multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
        each(x, y, out, n, [](Float a, Float b) { return Isa::one_nan(Isa::multiply(a, b)); });
    }

    static void silu_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
        each(x, out, n, [](Float a) { return Isa::one_nan(silu(a)); });
    }

    static void silu_multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
        each(x, y, out, n, [](Float a, Float b) { return Isa::one_nan(Isa::multiply(silu(a), b)); });
    }

    // EXP(x - max) into out, and their sum in rule 4's order.
    static float exponentials(const float* x, float max, float* out, uint32_t n) {
        return sum_of_blocks(n, [x, max, out](Float lane, uint32_t i, uint32_t end) {
            const Float e = Isa::exp(Isa::add(Isa::load_left(x, i, end), Isa::splat(-max)));
            Isa::store_left(out, i, end, e);
            // Missing values are +0, which leaves a lane that is not negative as it is.
            return Isa::add(lane, Isa::keep_left(e, i, end));
        });
    }

    static void softmax_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
        const Largest largest = Isa::largest(x, n);
        const float sum = exponentials(x, largest.value, out, n);
        const Float divisor = Isa::splat(largest.nan ? __builtin_nanf("") : sum);
        each(out, out, n, [divisor](Float e) { return Isa::one_nan(Isa::divide(e, divisor)); });
    }

    static void rms_norm_row(const float* x, const float* weight, float* out, uint32_t n, float eps) {
        rms_norm(x, weight, n, eps, out);
        each(out, out, n, [](Float a) { return Isa::one_nan(a); });
    }

    static constexpr RowKernels kKernels = {
        {add_row, multiply_row, silu_row, silu_multiply_row, softmax_row, rms_norm_row}};
};

// Runs `whole` on kLanes values at a time, and on a copy of what is left.
template <uint32_t kLanes, class In, class Out, class Whole>
void by_registers(const In* in, Out* out, uint32_t n, Whole whole) {
    uint32_t i = 0;
    for (; i + kLanes <= n; i += kLanes) whole(in + i, out + i);
    if (i == n) return;
    In last_in[kLanes] = {};
    Out last_out[kLanes];
    for (uint32_t l = 0; l < n - i; ++l) last_in[l] = in[i + l];
    whole(last_in, last_out);
    for (uint32_t l = 0; l < n - i; ++l) out[i + l] = last_out[l];
}

}  // namespace
}  // namespace driftwood::compute
