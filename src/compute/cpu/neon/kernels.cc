#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static constexpr Kernels kTable = {
        .name = "neon",
        .rms_norm = rms_norm,
        .quantise_a32p = quantise_a32p,
        .quantise_16 = quantise_16,
        .linear_q8_0 = linear_q8_0,
        .rope_adjacent = rope_adjacent,
        .rope_halves = rope_halves,
        .attention = attention,
        .silu_multiply = silu_multiply,
        .add = add,
        .embed_q8_0 = embed_q8_0,
        .all_finite = all_finite,
    };
    return kTable;
}

}  // namespace driftwood::compute::neon
