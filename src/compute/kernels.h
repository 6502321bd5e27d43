// Kernels: the operations of one decoder step, as a table of functions. `reference/` fills it with the contract as
// plain code, each folder of `cpu/` with one instruction set; host_engine.cc walks the decoder through a table and does
// not know which one it is. All tables give the same bits (docs/numerics.md, whose rules are named below).
//
// Functions are pure in their arguments and may run on any thread at once on distinct outputs. Outputs overlap no
// inputs unless stated. A function that returns bool says whether all its inputs were finite; when not, its outputs are
// some values and nobody may use them.
//
// A table may have holes (null): completed() puts the reference's functions there, so an instruction set can grow.
//
// Files of `cpu/` are compiled for more than the base instruction set, so this header has plain pointers and no inline
// functions: a copy of a shared inline function made there could be the one that the linker keeps for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/formats.h"

namespace driftwood::compute {

// Rows of quantised activations: planes, each without gaps, of which row t has cols values, ceil(cols / group) scales
// (group: 32 for A32P, else 256) and cols / 16 sums.
struct Activations {
    const int8_t* high;       // the number itself, or (A16) its high digit: number = 256 high + low
    const int8_t* low;        // A16 only
    const float* scale;       // of each group, 0 where all of it counts as zero
    const int32_t* high_sum;  // of each 16 values of `high`: for minima, and for weights shifted to unsigned numbers
    const int32_t* low_sum;   // A16 only
};

// Where one row of them is written; planes that the kind has not may be null.
struct ActivationRow {
    int8_t* high;
    int8_t* low;
    float* scale;
    int32_t* high_sum;
    int32_t* low_sum;
};

// y[t * y_stride + r] = (W x_t)[r] for all `tokens` rows of x.
struct Linear {
    const uint8_t* weights;  // [rows, cols], rows of row_bytes
    size_t row_bytes;
    uint32_t cols;  // a multiple of 32, and of 256 for types whose blocks are never short
    uint32_t tokens;
    Activations x;
    float* y;
    uint32_t y_stride;
};

// For the rows [row_begin, row_end) of W.
using LinearKernel = void (*)(const Linear& args, uint32_t row_begin, uint32_t row_end);
// Whether all n values (a multiple of 32) were finite.
using QuantiseKernel = bool (*)(const float* x, uint32_t n, const ActivationRow& out);
// A row of n values as floats.
using EmbedKernel = void (*)(const uint8_t* row, uint32_t n, float* out);

// A query of one head at one position: 16-bit values, their scale times log2(e) / sqrt(head_dim), and what it sees.
struct AttentionRow {
    const int16_t* q;  // [head_dim]
    float cq;
    uint32_t visible;  // keys [0, visible), at least 1
    float* out;        // [head_dim]
    bool finite;       // out: whether all scores and weights were inside the contract's range
};

// Rows that share the keys and values of one KV head.
struct AttentionKvi {
    uint32_t head_dim;
    const uint8_t* const* blocks;  // blocks[i]: this head's part (kv.h) of the block of keys [64 i, 64 i + 64)
    AttentionRow* rows;
    uint32_t row_count;             // at most kMaxAttentionRows
    const uint8_t* next = nullptr;  // such a part that the thread will probably read next, to be asked for meanwhile
};

inline constexpr uint32_t kMaxAttentionRows = 16;

struct Kernels {
    const char* name;

    // Rule 4. y = x / rms(x) * weight, n values; y may be x. False also when the sum of squares overflows.
    bool (*rms_norm)(const float* x, const float* weight, uint32_t n, float eps, float* y);

    // Rule 2, by ActivationKind.
    QuantiseKernel quantise[kActivationKinds];

    // Rule 7: a row of n values as 16-bit integers with maximum `max` (kMaxQ16 or kMaxV16) and one scale.
    bool (*quantise_16)(const float* x, uint32_t n, float max, int16_t* q, float* scale);

    // Rule 3, by WeightType and ActivationKind; which pairs there are: activation_kind() in weights.h.
    LinearKernel linear[kWeightTypes][kActivationKinds];

    // Rule 5, in place on one head: pairs (2i, 2i + 1) or (i, i + head_dim / 2); cosine and sine are [head_dim / 2].
    void (*rope_adjacent)(float* head, uint32_t head_dim, const float* cosine, const float* sine);
    void (*rope_halves)(float* head, uint32_t head_dim, const float* cosine, const float* sine);

    // Rule 7.
    void (*attention)(const AttentionKvi& args);

    // Rule 6. out = SILU(gate) * up; out may be gate or up.
    void (*silu_multiply)(const float* gate, const float* up, uint32_t n, float* out);

    // x += y.
    void (*add)(float* x, const float* y, uint32_t n);

    // Rule 9: a row of the embedding, by WeightType.
    EmbedKernel embed[kWeightTypes];

    // Whether n values are all finite.
    bool (*all_finite)(const float* x, uint32_t n);
};

}  // namespace driftwood::compute
