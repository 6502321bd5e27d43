// CpuGemm: matrix products by blocks that fit the caches, spread over the cores, with one instruction set's kernels
// (rule 10). A task owns a block of C from its first k to its last: it packs pieces of A and B, widened to float, into
// panels that the tile kernel reads in sequence, and keeps the block's sums beside them, so that a chain that leaves
// the registers comes back as it was. Blocks of the same columns follow each other on a thread, and find B packed where
// it is not too deep. Neither blocks nor threads change a bit.
//
// Threads: one caller at a time; the pool's helpers are used where the product is worth it. 3.5 MiB of panels per
// thread that ever worked stay allocated.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "compute/gemm.h"

namespace driftwood::compute {

class CpuGemm {
  public:
    // `pool` outlives this.
    CpuGemm(const GemmKernels& kernels, LazyPool& pool);
    ~CpuGemm();

    void run(const GemmArgs& args);

  private:
    struct Scratch;
    struct Block;
    // Columns of B in one run.
    struct Strip {
        uint64_t run = 0;
        uint32_t first_col = 0;
        bool operator==(const Strip&) const = default;
    };

    void run_block(const GemmArgs& args, const Block& block, Scratch& scratch) const;
    std::unique_ptr<Scratch> take_scratch(const std::optional<Strip>& strip);

    const GemmKernels& kernels_;
    LazyPool& pool_;
    uint64_t run_ = 0;
    std::mutex mutex_;  // guards free_
    std::vector<std::unique_ptr<Scratch>> free_;
};

}  // namespace driftwood::compute
