// What a matrix product is, for kernels: pointers, shapes and types of one call (docs/numerics.md, rule 10).
//
// Files of `cpu/` that are compiled for more than the base instruction set include this: plain data and pointers, no
// inline functions (see kernels.h).
#pragma once

#include <cstdint>

namespace driftwood::compute {

// The numbers of a tensor: IEEE binary32, IEEE binary16, and the upper half of a binary32.
enum class ElementType : uint8_t { kF32, kF16, kBf16 };

enum class Transpose : uint8_t { kNo, kYes };

// C [m, n] = A [m, k] · B [k, n] (+ C). Matrices are row-major, leading dimensions in elements; a transposed A is
// stored as [k, m], a transposed B as [n, k]. C overlaps neither A nor B. Pointers are aligned to their elements.
struct GemmArgs {
    const void* a = nullptr;
    const void* b = nullptr;
    void* c = nullptr;
    uint32_t m = 0, n = 0, k = 0;
    uint32_t lda = 0, ldb = 0, ldc = 0;
    ElementType a_type = ElementType::kF32, b_type = ElementType::kF32, c_type = ElementType::kF32;
    Transpose a_transpose = Transpose::kNo, b_transpose = Transpose::kNo;
    bool accumulate = false;
};

// What one instruction set brings to cpu/gemm.h. Packed panels: a [k][tile_rows], b [k][tile_cols], both aligned to 64
// bytes; a tile of sums is [rows][tile_cols].
struct GemmKernels {
    uint32_t tile_rows;
    uint32_t tile_cols;

    // Moves the fma chains of a tile's `rows` <= tile_rows rows on by k steps. `first`: they start from +0.
    void (*tile)(const float* a, const float* b, float* sum, uint32_t rows, uint32_t k, bool first);

    // out = sum, or old + sum where there is an old; every NaN becomes 0x7FC00000. out may be old or sum.
    void (*finish)(const float* sum, const float* old, float* out, uint32_t n);

    // Exact; a NaN stays one.
    void (*widen_f16)(const uint16_t* in, float* out, uint32_t n);
    void (*widen_bf16)(const uint16_t* in, float* out, uint32_t n);

    // To nearest, ties to even. Every NaN among the inputs is 0x7FC00000.
    void (*narrow_f16)(const float* in, uint16_t* out, uint32_t n);
    void (*narrow_bf16)(const float* in, uint16_t* out, uint32_t n);
};

}  // namespace driftwood::compute
