// Rule 10: matrix product over a guest's numbers. One fma chain per output over ascending k, from +0; one addition of
// the old value; one rounding to the output's type.
#include <cmath>
#include <cstddef>

#include "compute/half.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

float load(const void* base, ElementType type, size_t i) {
    if (type == ElementType::kF32) return static_cast<const float*>(base)[i];
    const uint16_t bits = static_cast<const uint16_t*>(base)[i];
    return type == ElementType::kF16 ? half_to_float(bits) : bf16_to_float(bits);
}

void store(void* base, ElementType type, size_t i, float x) {
    if (type == ElementType::kF32) {
        // Which operand's payload a NaN keeps differs between instructions: one NaN for all.
        static_cast<float*>(base)[i] = std::isnan(x) ? __builtin_nanf("") : x;
    } else {
        static_cast<uint16_t*>(base)[i] = type == ElementType::kF16 ? float_to_half(x) : float_to_bf16(x);
    }
}

}  // namespace

void gemm(const GemmArgs& g) {
    const size_t a_row = g.a_transpose == Transpose::kYes ? 1 : g.lda;
    const size_t a_k = g.a_transpose == Transpose::kYes ? g.lda : 1;
    const size_t b_k = g.b_transpose == Transpose::kYes ? 1 : g.ldb;
    const size_t b_col = g.b_transpose == Transpose::kYes ? g.ldb : 1;
    for (size_t i = 0; i < g.m; ++i) {
        for (size_t j = 0; j < g.n; ++j) {
            float sum = 0.0F;
            for (size_t p = 0; p < g.k; ++p) {
                sum = std::fma(load(g.a, g.a_type, i * a_row + p * a_k), load(g.b, g.b_type, p * b_k + j * b_col), sum);
            }
            const size_t out = i * g.ldc + j;
            if (g.accumulate) sum = load(g.c, g.c_type, out) + sum;
            store(g.c, g.c_type, out, sum);
        }
    }
}

}  // namespace driftwood::compute::reference
