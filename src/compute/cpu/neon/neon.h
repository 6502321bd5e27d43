// Kernels for 64-bit Arm with NEON and its dot products. Callers check cpu_has_neon_dotprod() first. Functions are
// those of reference/reference.h, with the same bits; see kernels.h for what each takes and returns.
#pragma once

#include "compute/gemm.h"
#include "compute/kernels.h"
#include "compute/rows.h"

namespace driftwood::compute::neon {

const Kernels& kernels();
const GemmKernels& gemm_kernels();  // these two run on any 64-bit Arm
const RowKernels& row_kernels();

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y);
bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale);
// The kernel of a pair of types; null where there is none.
LinearKernel groups_kernel(WeightType type, ActivationKind kind);
LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind);
void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end);
void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void attention(const AttentionKvi& args);
void silu_multiply(const float* gate, const float* up, uint32_t n, float* out);
void add(float* x, const float* y, uint32_t n);
void embed_q8_0(const uint8_t* row, uint32_t n, float* out);
bool all_finite(const float* x, uint32_t n);

}  // namespace driftwood::compute::neon
