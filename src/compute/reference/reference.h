// The reference: the numerics contract as plain scalar code. See kernels.h for what each function takes and returns.
#pragma once

#include "compute/gemm.h"
#include "compute/kernels.h"
#include "compute/rows.h"

namespace driftwood::compute::reference {

// The table of all operations below.
const Kernels& kernels();

// The table with the reference's functions in its holes.
Kernels completed(const Kernels& table);

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y);
bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out);
bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale);
// Null for a pair that there is not.
LinearKernel linear_kernel(WeightType type, ActivationKind kind);
void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine);
void attention(const AttentionKvi& args);
void silu_multiply(const float* gate, const float* up, uint32_t n, float* out);
void add(float* x, const float* y, uint32_t n);
EmbedKernel embed_kernel(WeightType type);
bool all_finite(const float* x, uint32_t n);

// Rule 10.
void gemm(const GemmArgs& args);

// Rule 10, rows.
const RowKernels& row_kernels();

}  // namespace driftwood::compute::reference
