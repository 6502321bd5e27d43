// Kernels for AVX-512 (F, BW, DQ, VL, VNNI). Callers check cpu_has_avx512() first. Functions are those of
// reference/reference.h, with the same bits; see kernels.h for what each takes and returns.
#pragma once

#include "compute/gemm.h"
#include "compute/kernels.h"
#include "compute/rows.h"

namespace driftwood::compute::avx512 {

const Kernels& kernels();

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y);
bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale);
// Null for pairs that they do not multiply.
LinearKernel linear_groups(WeightType type, ActivationKind kind);        // Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
LinearKernel linear_super_blocks(WeightType type, ActivationKind kind);  // Q4_K, Q5_K, Q6_K, Q4S
void linear_q8_0(const Linear& args, uint32_t row_begin, uint32_t row_end);
void linear_q4_0(const Linear& args, uint32_t row_begin, uint32_t row_end);
void linear_q4_k(const Linear& args, uint32_t row_begin, uint32_t row_end);
void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end);
void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void attention(const AttentionKvi& args);
void silu_multiply(const float* gate, const float* up, uint32_t n, float* out);
void add(float* x, const float* y, uint32_t n);
void embed_q8_0(const uint8_t* row, uint32_t n, float* out);
bool all_finite(const float* x, uint32_t n);

// Rule 10, for cpu/gemm.h.
const GemmKernels& gemm_kernels();

// Rule 10, rows.
const RowKernels& row_kernels();

// For cpu/peak.h: does multiply-adds of 8-bit numbers in registers and says how many.
uint64_t multiply_adds(uint64_t rounds);

}  // namespace driftwood::compute::avx512
