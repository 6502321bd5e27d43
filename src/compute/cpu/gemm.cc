#include "compute/cpu/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "base/check.h"

namespace driftwood::compute {

namespace {

// A block of C and its packed parts of A and B: 0.5 + 0.5 + 1 MiB, which a second-level cache of 1 to 2 MiB holds well
// enough (the sums are touched once per kBlockDepth). A panel of B, 16 or 32 KiB, stays in the first level.
// kBlockRows and kBlockCols are multiples of every tile.
constexpr uint32_t kBlockRows = 516;
constexpr uint32_t kBlockCols = 512;
constexpr uint32_t kBlockDepth = 256;

// Columns of B that are packed once and kept for the next block below, from the first k to the last: 2 MiB.
constexpr uint32_t kKeptNumbers = 512 * 1024;
constexpr uint32_t kFewestKeptCols = 128;

// Blocks for each thread: cores are not equally fast where others use them too, and the slowest one's last block is
// what all wait for.
constexpr uint32_t kBlocksPerThread = 6;
constexpr uint32_t kPackCost = 16;  // packing a number takes about as long as so many multiplications
constexpr uint32_t kPrefetchRows = 4;
constexpr uint32_t kMaxTileCols = 32;

// Fewer multiplications than this are done before a sleeping helper is awake.
constexpr uint64_t kWorthThreads = uint64_t{1} << 20;

uint32_t divide_up(uint32_t x, uint32_t by) { return x / by + (x % by != 0 ? 1 : 0); }
uint32_t round_up(uint32_t x, uint32_t to) { return divide_up(x, to) * to; }

// One operand: `lines` is the dimension across panels (rows of A, columns of B), the other one is k.
struct Operand {
    const void* base;
    ElementType type;
    uint32_t stride;
    bool lines_are_rows;  // as stored: a line's numbers lie next to each other along k
};

// `count` numbers from element `at` on as floats: where they are, or widened into `buffer`.
const float* as_floats(const GemmKernels& kernels, const Operand& x, size_t at, uint32_t count, float* buffer) {
    if (x.type == ElementType::kF32) return static_cast<const float*>(x.base) + at;
    const uint16_t* in = static_cast<const uint16_t*>(x.base) + at;
    (x.type == ElementType::kF16 ? kernels.widen_f16 : kernels.widen_bf16)(in, buffer, count);
    return buffer;
}

struct Range {
    uint32_t begin;
    uint32_t count;
};

void prefetch(const Operand& x, size_t at, uint32_t count) {
    const size_t element = x.type == ElementType::kF32 ? sizeof(float) : sizeof(uint16_t);
    const char* begin = static_cast<const char*>(x.base) + at * element;
    for (size_t byte = 0; byte < count * element; byte += 64) __builtin_prefetch(begin + byte);
}

// Four lines of `count` steps into four neighbouring columns of a panel [count][width].
void interleave_four(const float* const in[4], uint32_t count, uint32_t width, float* out) {
    uint32_t p = 0;
#if defined(__SSE2__)
    for (; p + 4 <= count; p += 4) {
        __m128 x[4];
#pragma GCC unroll 4
        for (int l = 0; l < 4; ++l) x[l] = _mm_loadu_ps(in[l] + p);
        _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
#pragma GCC unroll 4
        for (int l = 0; l < 4; ++l) _mm_storeu_ps(out + size_t{p + l} * width, x[l]);
    }
#endif
    for (; p < count; ++p) {
        for (int l = 0; l < 4; ++l) out[size_t{p} * width + l] = in[l][p];
    }
}

// Packs lines x steps of k into panels [k][Width]; lines that are missing from the last panel become +0.
template <uint32_t Width>
void pack_panels(const GemmKernels& kernels, const Operand& x, Range lines, Range steps, float* out) {
    const size_t panel = size_t{steps.count} * Width;
    const uint32_t tail = lines.count % Width;
    if (tail != 0) std::fill_n(out + lines.count / Width * panel, panel, 0.0F);
    if (x.lines_are_rows) {
        float buffer[4][kBlockDepth];
        const auto line = [&](uint32_t l, float* widened) {
            return as_floats(kernels, x, size_t{lines.begin + l} * x.stride + steps.begin, steps.count, widened);
        };
        for (uint32_t l = 0; l < lines.count;) {
            float* to = out + l / Width * panel + l % Width;
            if (l % Width + 4 <= Width && l + 4 <= lines.count) {
                for (uint32_t next = l + 4; next < std::min(l + 8, lines.count); ++next) {
                    prefetch(x, size_t{lines.begin + next} * x.stride + steps.begin, steps.count);
                }
                const float* const in[4] = {line(l, buffer[0]), line(l + 1, buffer[1]), line(l + 2, buffer[2]),
                                            line(l + 3, buffer[3])};
                interleave_four(in, steps.count, Width, to);
                l += 4;
            } else {
                const float* in = line(l, buffer[0]);
                for (uint32_t p = 0; p < steps.count; ++p) to[size_t{p} * Width] = in[p];
                l += 1;
            }
        }
        return;
    }
    float buffer[kBlockCols];
    for (uint32_t p = 0; p < steps.count; ++p) {
        const size_t at = size_t{steps.begin + p} * x.stride + lines.begin;
        const float* in = as_floats(kernels, x, at, lines.count, buffer);
        // Rows are far apart: the processor's own prefetching ends with each page.
        if (p + kPrefetchRows < steps.count) prefetch(x, at + size_t{kPrefetchRows} * x.stride, lines.count);
        float* to = out + size_t{p} * Width;
        uint32_t l = 0;
        for (; l + Width <= lines.count; l += Width, to += panel) std::memcpy(to, in + l, Width * sizeof(float));
        std::memcpy(to, in + l, tail * sizeof(float));
    }
}

void pack(const GemmKernels& kernels, uint32_t width, const Operand& x, Range lines, Range steps, float* out) {
    switch (width) {
        case 6: return pack_panels<6>(kernels, x, lines, steps, out);
        case 12: return pack_panels<12>(kernels, x, lines, steps, out);
        case 16: return pack_panels<16>(kernels, x, lines, steps, out);
        case 32: return pack_panels<32>(kernels, x, lines, steps, out);
        default: CHECK(false && "a tile of another width");
    }
}

// C in row_blocks x col_blocks blocks of rows x cols, those at the edges smaller.
struct Grid {
    uint32_t row_blocks, col_blocks;
    uint32_t rows, cols;
};

Grid grid_of(const GemmArgs& g, const GemmKernels& kernels, uint32_t row_blocks, uint32_t col_blocks) {
    const uint32_t rows = round_up(divide_up(g.m, row_blocks), kernels.tile_rows);
    const uint32_t cols = round_up(divide_up(g.n, col_blocks), kernels.tile_cols);
    // Rounding up to tiles may leave fewer blocks than asked for.
    return {divide_up(g.m, rows), divide_up(g.n, cols), rows, cols};
}

bool keeps_b(const GemmArgs& g, const GemmKernels& kernels, const Grid& grid) {
    return uint64_t{round_up(grid.cols, kernels.tile_cols)} * g.k <= kKeptNumbers;
}

// Flat blocks, many for each thread: a thread goes down a strip of columns, for which it packs B once. The strips are
// as wide as keeps what is packed in all small: about the width that a square share of C would have.
Grid divide_flat(const GemmArgs& g, const GemmKernels& kernels, uint32_t threads) {
    const auto square = static_cast<uint32_t>(std::lround(std::sqrt(1.0 * threads * g.n / g.m)));
    const uint32_t widest =
        std::min(kBlockCols, kKeptNumbers / std::max(g.k, 1U) / kernels.tile_cols * kernels.tile_cols);
    uint32_t col_blocks = std::max(std::clamp(square, 1U, threads), divide_up(g.n, widest));
    const uint32_t row_tiles = divide_up(g.m, kernels.tile_rows);
    const uint32_t row_blocks =
        std::clamp(divide_up(kBlocksPerThread * threads, col_blocks), divide_up(g.m, kBlockRows), row_tiles);
    if (row_blocks * col_blocks < kBlocksPerThread * threads) {  // few rows
        col_blocks = std::max(
            col_blocks, std::min(divide_up(kBlocksPerThread * threads, row_blocks), divide_up(g.n, kernels.tile_cols)));
    }
    return grid_of(g, kernels, row_blocks, col_blocks);
}

// The largest blocks that fit, or smaller ones where that spreads better over the threads.
Grid divide(const GemmArgs& g, const GemmKernels& kernels, uint32_t threads) {
    const Grid largest = grid_of(g, kernels, divide_up(g.m, kBlockRows), divide_up(g.n, kBlockCols));
    const uint64_t enough = uint64_t{4} * threads;
    const auto blocks = [](const Grid& x) { return uint64_t{x.row_blocks} * x.col_blocks; };
    if (threads == 1 || blocks(largest) >= enough) return largest;
    if (g.k <= kKeptNumbers / kFewestKeptCols) return divide_flat(g, kernels, threads);
    // Blocks that the busiest thread gets, each with its multiplications and its packing.
    const auto cost = [&](const Grid& x) {
        const uint64_t rounds = (blocks(x) + threads - 1) / threads;
        return rounds * (uint64_t{x.rows} * x.cols + kPackCost * (x.rows + x.cols));
    };
    Grid best = largest;
    for (uint32_t r = largest.row_blocks; uint64_t{r} * largest.col_blocks <= enough; ++r) {
        for (uint32_t c = largest.col_blocks; uint64_t{r} * c <= enough; ++c) {
            const Grid x = grid_of(g, kernels, r, c);
            if (cost(x) < cost(best)) best = x;
        }
    }
    return best;
}

}  // namespace

struct CpuGemm::Scratch {
    alignas(64) float a[kBlockRows * kBlockDepth];
    alignas(64) float b[kKeptNumbers];  // kBlockDepth steps, or all of them
    alignas(64) float sum[kBlockRows * kBlockCols];
    Strip strip;  // whose columns of B are in `b` from the first k to the last
};
static_assert(kBlockCols * kBlockDepth <= kKeptNumbers);

struct CpuGemm::Block {
    Range rows;
    Range cols;
    std::optional<Strip> strip;  // where B is kept
};

CpuGemm::CpuGemm(const GemmKernels& kernels, LazyPool& pool) : kernels_(kernels), pool_(pool) {}

CpuGemm::~CpuGemm() = default;

// One that holds the strip; else one that holds no other strip of this run, which somebody may want.
std::unique_ptr<CpuGemm::Scratch> CpuGemm::take_scratch(const std::optional<Strip>& strip) {
    const std::lock_guard lock(mutex_);
    auto best = std::find_if(free_.begin(), free_.end(), [&](const auto& s) { return strip == s->strip; });
    if (best == free_.end()) {
        best = std::find_if(free_.begin(), free_.end(), [&](const auto& s) { return s->strip.run != run_; });
    }
    if (best == free_.end() && !free_.empty()) best = free_.begin();
    // Not value-initialised: every number is written before it is read.
    if (best == free_.end()) return std::unique_ptr<Scratch>(new Scratch);
    std::swap(*best, free_.back());
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
}

void CpuGemm::run(const GemmArgs& g) {
    if (g.m == 0 || g.n == 0) return;
    const bool threaded = pool_.threads() > 1 && uint64_t{g.m} * g.n >= kWorthThreads / std::max(g.k, 1U);
    const Grid grid = divide(g, kernels_, threaded ? pool_.threads() : 1);
    const bool kept = grid.row_blocks > 1 && keeps_b(g, kernels_, grid);
    ++run_;
    const auto run_one = [&](uint64_t index) {
        const uint32_t row = static_cast<uint32_t>(index % grid.row_blocks) * grid.rows;
        const uint32_t col = static_cast<uint32_t>(index / grid.row_blocks) * grid.cols;
        Block block{{row, std::min(grid.rows, g.m - row)}, {col, std::min(grid.cols, g.n - col)}, {}};
        if (kept) block.strip = Strip{run_, col};
        auto scratch = take_scratch(block.strip);
        run_block(g, block, *scratch);
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(scratch));
    };
    const uint64_t blocks = uint64_t{grid.row_blocks} * grid.col_blocks;
    if (!threaded || blocks == 1) {
        for (uint64_t i = 0; i < blocks; ++i) run_one(i);
        return;
    }
    // 2^32 blocks would be petabytes of C.
    pool_.run(static_cast<uint32_t>(blocks), run_one);
}

void CpuGemm::run_block(const GemmArgs& g, const Block& block, Scratch& s) const {
    const auto& [rows, cols, strip] = block;
    const bool packed = strip.has_value() && s.strip == *strip;
    s.strip = strip.value_or(Strip{});
    const uint32_t tile_rows = kernels_.tile_rows;
    const uint32_t tile_cols = kernels_.tile_cols;
    const Operand a{g.a, g.a_type, g.lda, g.a_transpose == Transpose::kNo};
    const Operand b{g.b, g.b_type, g.ldb, g.b_transpose == Transpose::kYes};
    const auto sums = [&](uint32_t row, uint32_t col) {
        const uint32_t in_tile = row % tile_rows;
        return s.sum + size_t{row - in_tile} * kBlockCols + size_t{col} * tile_rows + size_t{in_tile} * tile_cols;
    };
    uint32_t k = 0;
    do {  // once for k = 0 too: that is where sums become +0
        const Range steps{k, std::min(kBlockDepth, g.k - k)};
        float* const panels = s.b + (strip.has_value() ? size_t{k} * round_up(cols.count, tile_cols) : 0);
        pack(kernels_, tile_rows, a, rows, steps, s.a);
        if (!packed) pack(kernels_, tile_cols, b, cols, steps, panels);
        for (uint32_t col = 0; col < cols.count; col += tile_cols) {
            for (uint32_t row = 0; row < rows.count; row += tile_rows) {
                kernels_.tile(s.a + size_t{row} * steps.count, panels + size_t{col} * steps.count, sums(row, col),
                              std::min(tile_rows, rows.count - row), steps.count, k == 0);
            }
        }
        k += steps.count;
    } while (k < g.k);

    const Operand c{g.c, g.c_type, g.ldc, true};
    float old[kMaxTileCols];
    float out[kMaxTileCols];
    for (uint32_t row = 0; row < rows.count; ++row) {
        if (row + 2 < rows.count) prefetch(c, size_t{rows.begin + row + 2} * g.ldc + cols.begin, cols.count);
        for (uint32_t col = 0; col < cols.count; col += tile_cols) {
            const uint32_t count = std::min(tile_cols, cols.count - col);
            const size_t at = size_t{rows.begin + row} * g.ldc + cols.begin + col;
            const float* before = g.accumulate ? as_floats(kernels_, c, at, count, old) : nullptr;
            if (g.c_type == ElementType::kF32) {
                kernels_.finish(sums(row, col), before, static_cast<float*>(g.c) + at, count);
                continue;
            }
            kernels_.finish(sums(row, col), before, out, count);
            const auto narrow = g.c_type == ElementType::kF16 ? kernels_.narrow_f16 : kernels_.narrow_bf16;
            narrow(out, static_cast<uint16_t*>(g.c) + at, count);
        }
    }
}

}  // namespace driftwood::compute
