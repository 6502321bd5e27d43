// The operations of a step on the card, as plain functions that launch kernels: rules as in compute/kernels.h, bits as
// compute/reference/. All pointers are the card's; launches are asynchronous on the stream given and allocate nothing.
// What is returned is the launch's own error; an error inside a kernel shows at the next wait.
//
// Rows: a pass's tokens, one row each. Activations lie as layout.h says, everything else row-major.
//
// Where something is not finite, the row's entry of `fault` becomes the smallest code that any kernel brought: codes
// ascend in the order of the walk (1 + layer * places + place), and kNoFault is above all of them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/decoder_spec.h"

namespace driftwood::compute::cuda {

inline constexpr uint32_t kNoFault = 0xFFFFFFFFU;

// A weight matrix: in tiles (layout.h) with its scales apart, in records (records.cuh), or as a file has it (an
// embedding of plain floats).
struct TiledMatrix {
    const uint8_t* tiles = nullptr;
    const uint16_t* scales = nullptr;  // f16; of tiles only
    uint32_t rows = 0;
    uint32_t cols = 0;
    WeightType type = WeightType::kQ8_0;
    ActivationKind kind = ActivationKind::kA32P;  // of what it multiplies
};

// Q8_0 with A32P and Q4_0 with A256 lie in tiles and have kernels of their own. All else lies in records.
constexpr ActivationKind kind_of(WeightType type) {
    return type == WeightType::kQ8_0 ? ActivationKind::kA32P : ActivationKind::kA256;
}
constexpr bool in_tiles(WeightType type, ActivationKind kind) {
    return (type == WeightType::kQ8_0 || type == WeightType::kQ4_0) && kind == kind_of(type);
}
constexpr bool in_tiles(const TiledMatrix& matrix) { return in_tiles(matrix.type, matrix.kind); }

// How bytes lie in a tile of activations (layout.h).
enum class ActivationOrder : uint8_t { kLanes, kCores };

struct Activations {
    uint8_t* q = nullptr;
    float* scale = nullptr;
    uint32_t* large = nullptr;  // becomes 1 with the first scale of at least kLargeScale, for the rest of the pass
    ActivationOrder order = ActivationOrder::kLanes;
};
inline constexpr float kLargeScale = 0x1p100F;

// Rows of activations to be made: `rows` rows of `cols` values; row i is row source[i] of the inputs (i without it).
struct Quantise {
    ActivationKind kind = ActivationKind::kA32P;
    uint32_t rows = 0;
    uint32_t cols = 0;
    const uint32_t* source = nullptr;
    Activations out;
    uint32_t* fault = nullptr;  // by source row
    uint32_t code = 0;
};

// From the blocks of a file into tiles and scales, whose place and shape `out` says.
cudaError_t repack(cudaStream_t stream, const uint8_t* blocks, const TiledMatrix& out, uint8_t* tiles,
                   uint16_t* scales);

// The same into records; of W16 too. record_bytes: of 16 rows' super-block, 0 for plain floats, which have none.
size_t record_bytes(WeightType type);
cudaError_t repack_records(cudaStream_t stream, const uint8_t* bytes, size_t row_bytes, const TiledMatrix& out,
                           uint8_t* records);

// out[i] = row tokens[i] of the matrix, as floats; embed_records for what is not in tiles.
cudaError_t embed_records(cudaStream_t stream, const TiledMatrix& matrix, const uint32_t* tokens, uint32_t rows,
                          float* out);
cudaError_t embed(cudaStream_t stream, const TiledMatrix& matrix, const uint32_t* tokens, uint32_t rows, float* out);

cudaError_t norm_quantise(cudaStream_t stream, const Quantise& args, const float* x, const float* weight, float eps);
cudaError_t quantise(cudaStream_t stream, const Quantise& args, const float* x);
cudaError_t silu_quantise(cudaStream_t stream, const Quantise& args, const float* gate, const float* up);

// y[t, r] = (W x_t)[r], or y[t, r] + that, of up to three matrices of one type that share their input.
struct Linear {
    struct Product {
        TiledMatrix matrix;
        float* y = nullptr;  // [tokens, matrix.rows]
    };
    // The input as floats, made into activations by the layer itself, after RMSNorm where there is a weight; at most
    // kFusedCols or kFusedFloats values; at most kFusedTokens tokens.
    struct Norm {
        const float* x = nullptr;
        const float* weight = nullptr;
        float eps = 0.0F;
        uint32_t* fault = nullptr;
        uint32_t code = 0;
    };
    Product product[3];
    uint32_t products = 0;
    uint32_t tokens = 0;
    Activations x;
    Norm norm;  // where set: in place of x
    bool add = false;
    // With is_pair, products are gate and up, and the output is SILU(gate) · up; at most kPairTokens tokens. A32P: as
    // activations. Others, whose super-blocks no block has whole: as floats, in the first product's y.
    bool is_pair = false;
    Activations pair;
    // Where set: outputs are looked at, and what is not finite is noted for row source[t] (t for a pair).
    uint32_t* fault = nullptr;
    const uint32_t* source = nullptr;
    uint32_t code = 0;
    uint32_t row_tiles = 0;  // of all products; the launch fills it in
};
inline constexpr uint32_t kFusedTokens = 2;
inline constexpr uint32_t kFusedCols = 4096;     // after a norm
inline constexpr uint32_t kFusedFloats = 16384;  // without
inline constexpr uint32_t kPairTokens = 8;
// The order of activations that linear() takes for these weights.
ActivationOrder linear_order(const TiledMatrix& matrix, uint32_t tokens);
cudaError_t linear(cudaStream_t stream, const Linear& args);
cudaError_t linear_small(cudaStream_t stream, const Linear& args);  // up to kSmallTokens, kLanes
cudaError_t linear_wide(cudaStream_t stream, const Linear& args);   // where the card has_warpgroups(), kCores
inline constexpr uint32_t kSmallTokens = 32;
// Of records: A256 and A16.
cudaError_t linear_records_8(cudaStream_t stream, const Linear& args);
cudaError_t linear_records_16(cudaStream_t stream, const Linear& args);
// Compute capability 9.0 itself: what wgmma.cuh needs.
bool has_warpgroups();

// One layer's view of a pass's sequences.
struct Sequences {
    uint32_t rows = 0;
    const uint32_t* position = nullptr;  // [rows]
    const uint32_t* table = nullptr;     // [rows] where the row's table of blocks begins in `blocks`
    uint8_t* const* blocks = nullptr;    // first bytes of blocks
    uint32_t heads = 0;
    uint32_t kv_heads = 0;
    uint32_t head_dim = 0;
    uint32_t layer = 0;
};

// Turns q and k by their rows' positions, quantises them and v, stores k and v into the rows' blocks.
struct RopeStore {
    Sequences sequences;
    const float* q = nullptr;  // [rows, heads, head_dim]
    const float* k = nullptr;  // [rows, kv_heads, head_dim]
    const float* v = nullptr;
    const float* cosine = nullptr;  // [positions, head_dim / 2]
    const float* sine = nullptr;
    RopePairs pairs = RopePairs::kAdjacent;
    float query_scale = 0.0F;
    int16_t* q16 = nullptr;  // [rows, heads, head_dim]
    float* cq = nullptr;     // [rows, heads]
    uint32_t* fault = nullptr;
    uint32_t q_code = 0, k_code = 0, v_code = 0;
};
cudaError_t rope_store(cudaStream_t stream, const RopeStore& args);

// Queries [first_query, end_query) of one sequence, numbered token by token from first_row, head by head of those that
// share a KV head; at most prefill_queries.
struct AttentionTask {
    uint32_t first_row;
    uint32_t first_query;
    uint32_t end_query;
};
uint32_t prefill_queries(uint32_t head_dim);

struct Attention {
    Sequences sequences;
    const int16_t* q16 = nullptr;
    const float* cq = nullptr;
    float* out = nullptr;  // [rows, heads, head_dim]
    uint32_t* fault = nullptr;
    uint32_t code = 0;
    // attention_prefill
    const AttentionTask* task = nullptr;
    uint32_t tasks = 0;
    // attention_decode: rows decode_row[first_decode …], each alone in its step. No row sees more than max_chunks.
    const uint32_t* decode_row = nullptr;
    uint32_t first_decode = 0;
    uint32_t decode_rows = 0;
    uint32_t max_chunks = 0;
    void* part = nullptr;         // kAttentionPartBytes for each [decode row, head, chunk]
    int32_t* part_sum = nullptr;  // [decode rows, heads, max_chunks, head_dim]
    bool with_rope = false;       // rope_store's work too, for the decode rows, from `rope`
    RopeStore rope;
    // Where set: the output as activations of a kind that attention_makes(), and `out` stays as it was.
    Activations tiles;
    ActivationKind tiles_kind = ActivationKind::kA32P;
};
inline constexpr size_t kAttentionPartBytes = 12;
// Any shape: a warp per row and head.
cudaError_t attention(cudaStream_t stream, const Attention& args);
// On tensor cores, for the shapes that fast_attention takes; attention_wide where the card has_warpgroups().
cudaError_t attention_prefill(cudaStream_t stream, const Attention& args);
cudaError_t attention_wide(cudaStream_t stream, const Attention& args);
// attention_many for rows enough to fill the card, each walked by one block.
cudaError_t attention_decode(cudaStream_t stream, const Attention& args);
cudaError_t attention_many(cudaStream_t stream, const Attention& args);
// Whether so many decodes fill the card with a row's KV head to a block: none of `part` and `part_sum` is needed then.
constexpr bool many_decodes(size_t rows, uint32_t kv_heads) { return rows * kv_heads >= 512; }
// Whether attention_decode makes activations of this kind from a step's decodes by itself. A32P: a head is whole
// groups. A256: where the heads that share a KV head, which one block has, are a super-block.
constexpr bool attention_makes(ActivationKind kind, size_t rows, uint32_t kv_heads, uint32_t head_dim, uint32_t group) {
    return kind == ActivationKind::kA32P ||
           (kind == ActivationKind::kA256 && many_decodes(rows, kv_heads) && head_dim * group == kSuperBlock);
}
inline constexpr uint32_t kPrefillQueries = 64;                                            // of attention_prefill's own
constexpr uint32_t wide_queries(uint32_t head_dim) { return head_dim == 64 ? 192 : 128; }  // of attention_wide
constexpr bool fast_attention(uint32_t head_dim, uint32_t group) {
    return (head_dim == 64 || head_dim == 128) && group <= 16;
}

// Zeroes the rows of tokens [first_row, 64) of each of `heads` heads of a block; copies those of tokens [0, rows).
cudaError_t clear_block_rows(cudaStream_t stream, uint8_t* block, uint32_t heads, uint32_t head_dim,
                             uint32_t first_row);
cudaError_t copy_block_rows(cudaStream_t stream, const uint8_t* from, uint8_t* to, uint32_t heads, uint32_t head_dim,
                            uint32_t rows);

}  // namespace driftwood::compute::cuda
