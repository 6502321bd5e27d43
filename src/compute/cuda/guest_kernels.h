// Rule 10 on the card: products and row operations over a guest's numbers. Pointers are the card's own or of registered
// host memory, which a card reads and writes where it lies. Launches are asynchronous on the stream given and allocate
// nothing; what is returned is the launch's own error.
#pragma once

#include <cuda_runtime_api.h>

#include "compute/gemm.h"
#include "compute/rows.h"

namespace driftwood::compute::cuda {

// Outputs of one block of threads: a row of A is read once for each tile of columns, a column of B once for each tile
// of rows.
inline constexpr uint32_t kGemmTiles[] = {32, 64, 128};
// Steps of k that come into shared memory together.
constexpr uint32_t gemm_depth(uint32_t tile) { return tile == 128 ? 16 : 32; }

// m, n > 0. `tile` is one of kGemmTiles.
cudaError_t guest_gemm(cudaStream_t stream, const GemmArgs& args, uint32_t tile);

struct RowsArgs {
    RowKind kind = RowKind::kAdd;
    const float* x = nullptr;
    const float* y = nullptr;  // null where the operation has none
    float* out = nullptr;      // may be x or y
    uint32_t rows = 0, cols = 0;
    uint32_t ldx = 0, ldy = 0, ldout = 0;  // in floats; ldy = 0: one row of y for all
    float eps = 0.0F;
};
inline constexpr uint32_t kCachedRow = 11 * 1024;  // a row of at most so many values is read once
// rows, cols > 0.
cudaError_t guest_rows(cudaStream_t stream, const RowsArgs& args);

// `rows` rows of row_bytes each, pitches apart; everything a multiple of 2.
struct CopyRows {
    const uint8_t* from = nullptr;
    uint8_t* to = nullptr;
    uint64_t rows = 0, row_bytes = 0, from_pitch = 0, to_pitch = 0;
};
cudaError_t copy_rows(cudaStream_t stream, const CopyRows& args);

}  // namespace driftwood::compute::cuda
