// Kernels: the operations of one decoder step, as a table of functions. `reference/` fills it with the contract as
// plain code, each folder of `cpu/` with one instruction set; host_engine.cc walks the decoder through a table and does
// not know which one it is. All tables give the same bits (docs/numerics.md, whose rules are named below).
//
// Functions are pure in their arguments and may run on any thread at once on distinct outputs. Outputs overlap no
// inputs unless stated. A function that returns bool says whether all its inputs were finite; when not, its outputs are
// some values and nobody may use them.
//
// Files of `cpu/` are compiled for more than the base instruction set, so this header has plain pointers and no inline
// functions: a copy of a shared inline function made there could be the one that the linker keeps for everybody.
#pragma once

#include <cstdint>

namespace driftwood::compute {

// Rows of activations in 8 bits with a power of two per 32 values (A32P). Row t of `cols` values starts at q + t *
// cols, its groups at scale + t * cols / 32 and sum + t * cols / 32.
struct ActivationsA32P {
    const int8_t* q;
    const float* scale;  // 2^e of each group, 0 where the group counts as zero
    const int32_t* sum;  // of the group's q: what a kernel needs that shifts weights to unsigned numbers
};

// y[t * y_stride + r] = (W x_t)[r] for all `tokens` rows of x and the rows [row_begin, row_end) of W.
struct LinearQ8_0 {
    const uint8_t* weights;  // [rows, cols] in Q8_0; rows of cols / 32 * 34 bytes
    uint32_t cols;           // a multiple of 32
    uint32_t tokens;
    ActivationsA32P x;
    float* y;
    uint32_t y_stride;
};

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
    uint32_t row_count;  // at most kMaxAttentionRows
};

inline constexpr uint32_t kMaxAttentionRows = 16;

struct Kernels {
    const char* name;

    // Rule 4. y = x / rms(x) * weight, n values; y may be x. False also when the sum of squares overflows.
    bool (*rms_norm)(const float* x, const float* weight, uint32_t n, float eps, float* y);

    // Rule 2, A32P, of n values (a multiple of 32).
    bool (*quantise_a32p)(const float* x, uint32_t n, int8_t* q, float* scale, int32_t* sum);

    // Rule 7: a row of n values as 16-bit integers with maximum `max` (kMaxQ16 or kMaxV16) and one scale.
    bool (*quantise_16)(const float* x, uint32_t n, float max, int16_t* q, float* scale);

    // Rule 3.
    void (*linear_q8_0)(const LinearQ8_0& args, uint32_t row_begin, uint32_t row_end);

    // Rule 5, in place on one head: pairs (2i, 2i + 1) or (i, i + head_dim / 2); cosine and sine are [head_dim / 2].
    void (*rope_adjacent)(float* head, uint32_t head_dim, const float* cosine, const float* sine);
    void (*rope_halves)(float* head, uint32_t head_dim, const float* cosine, const float* sine);

    // Rule 7.
    void (*attention)(const AttentionKvi& args);

    // Rule 6. out = SILU(gate) * up; out may be gate or up.
    void (*silu_multiply)(const float* gate, const float* up, uint32_t n, float* out);

    // x += y.
    void (*add)(float* x, const float* y, uint32_t n);

    // Rule 9: a row of the embedding as floats.
    void (*embed_q8_0)(const uint8_t* row, uint32_t n, float* out);

    // Whether n values are all finite.
    bool (*all_finite)(const float* x, uint32_t n);
};

}  // namespace driftwood::compute
