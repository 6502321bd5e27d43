#include "compute/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "compute/fp_environment.h"

namespace driftwood::compute {

namespace {

// A block of C and its packed parts of A and B: 0.5 + 0.5 + 1 MiB, which a second-level cache of 1 to 2 MiB holds well
// enough (the sums are touched once per kBlockDepth). A panel of B, 16 or 32 KiB, stays in the first level.
// kBlockRows and kBlockCols are multiples of every tile.
constexpr uint32_t kBlockRows = 504;
constexpr uint32_t kBlockCols = 512;
constexpr uint32_t kBlockDepth = 256;
constexpr uint32_t kSmallestBlock = 96;  // blocks are not halved below this to feed more threads
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

// Packs lines x steps of k into panels [k][Width]; lines that are missing from the last panel become +0.
template <uint32_t Width>
void pack_panels(const GemmKernels& kernels, const Operand& x, Range lines, Range steps, float* out) {
    float buffer[kBlockCols];
    const size_t panel = size_t{steps.count} * Width;
    const uint32_t tail = lines.count % Width;
    if (tail != 0) std::fill_n(out + lines.count / Width * panel, panel, 0.0F);
    if (x.lines_are_rows) {
        for (uint32_t l = 0; l < lines.count; ++l) {
            const size_t at = size_t{lines.begin + l} * x.stride + steps.begin;
            const float* in = as_floats(kernels, x, at, steps.count, buffer);
            float* to = out + l / Width * panel + l % Width;
            for (uint32_t p = 0; p < steps.count; ++p) to[size_t{p} * Width] = in[p];
        }
        return;
    }
    for (uint32_t p = 0; p < steps.count; ++p) {
        const size_t at = size_t{steps.begin + p} * x.stride + lines.begin;
        const float* in = as_floats(kernels, x, at, lines.count, buffer);
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

}  // namespace

struct CpuGemm::Scratch {
    alignas(64) float a[kBlockRows * kBlockDepth];
    alignas(64) float b[kBlockCols * kBlockDepth];
    alignas(64) float sum[kBlockRows * kBlockCols];
};

struct CpuGemm::Block {
    Range rows;
    Range cols;
};

CpuGemm::CpuGemm(const GemmKernels& kernels, uint32_t threads) : kernels_(kernels), threads_(threads) {}

CpuGemm::~CpuGemm() = default;

std::unique_ptr<CpuGemm::Scratch> CpuGemm::take_scratch() {
    const std::lock_guard lock(mutex_);
    // Not value-initialised: every number is written before it is read.
    if (free_.empty()) return std::unique_ptr<Scratch>(new Scratch);
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
}

void CpuGemm::run(const GemmArgs& g) {
    if (g.m == 0 || g.n == 0) return;
    uint32_t row_blocks = divide_up(g.m, kBlockRows);
    uint32_t col_blocks = divide_up(g.n, kBlockCols);
    const bool threaded = threads_ > 1 && uint64_t{g.m} * g.n >= divide_up(kWorthThreads, std::max(g.k, 1U));
    const auto rows = [&] { return round_up(divide_up(g.m, row_blocks), kernels_.tile_rows); };
    const auto cols = [&] { return round_up(divide_up(g.n, col_blocks), kernels_.tile_cols); };
    while (threaded && uint64_t{row_blocks} * col_blocks < threads_ && std::max(rows(), cols()) >= 2 * kSmallestBlock) {
        ++(rows() >= cols() ? row_blocks : col_blocks);
    }
    const uint32_t block_rows = rows();
    const uint32_t block_cols = cols();
    // Rounding up to tiles may leave fewer blocks than asked for.
    row_blocks = divide_up(g.m, block_rows);
    col_blocks = divide_up(g.n, block_cols);
    const auto run_one = [&](uint64_t index) {
        const uint32_t row = static_cast<uint32_t>(index % row_blocks) * block_rows;
        const uint32_t col = static_cast<uint32_t>(index / row_blocks) * block_cols;
        auto scratch = take_scratch();
        run_block(g, {{row, std::min(block_rows, g.m - row)}, {col, std::min(block_cols, g.n - col)}}, *scratch);
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(scratch));
    };
    const uint64_t blocks = uint64_t{row_blocks} * col_blocks;
    if (!threaded || blocks == 1) {
        for (uint64_t i = 0; i < blocks; ++i) run_one(i);
        return;
    }
    if (pool_ == nullptr)
        pool_ = std::make_unique<ThreadPool>(threads_, [] { FpEnvironment::enter(Subnormals::kKeep); });
    // 2^32 blocks would be petabytes of C.
    pool_->run(static_cast<uint32_t>(blocks), run_one);
}

void CpuGemm::run_block(const GemmArgs& g, const Block& block, Scratch& s) const {
    const auto [rows, cols] = block;
    const uint32_t tile_rows = kernels_.tile_rows;
    const uint32_t tile_cols = kernels_.tile_cols;
    const Operand a{g.a, g.a_type, g.lda, g.a_transpose == Transpose::kNo};
    const Operand b{g.b, g.b_type, g.ldb, g.b_transpose == Transpose::kYes};
    const auto sums = [&](uint32_t row, uint32_t col) {
        return s.sum + size_t{col} * kBlockRows + size_t{row} * tile_cols;
    };
    uint32_t k = 0;
    do {  // once for k = 0 too: that is where sums become +0
        const Range steps{k, std::min(kBlockDepth, g.k - k)};
        pack(kernels_, tile_rows, a, rows, steps, s.a);
        pack(kernels_, tile_cols, b, cols, steps, s.b);
        for (uint32_t col = 0; col < cols.count; col += tile_cols) {
            for (uint32_t row = 0; row < rows.count; row += tile_rows) {
                kernels_.tile(s.a + size_t{row} * steps.count, s.b + size_t{col} * steps.count, sums(row, col),
                              std::min(tile_rows, rows.count - row), steps.count, k == 0);
            }
        }
        k += steps.count;
    } while (k < g.k);

    const Operand c{g.c, g.c_type, g.ldc, true};
    float old[kMaxTileCols];
    float out[kMaxTileCols];
    for (uint32_t row = 0; row < rows.count; ++row) {
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
