#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = {
            .name = "neon",
            .rms_norm = rms_norm,
            .quantise = {quantise_a32p, quantise_a256, quantise_a16},
            .quantise_16 = quantise_16,
            .linear = {},
            .rope_adjacent = rope_adjacent,
            .rope_halves = rope_halves,
            .attention = attention,
            .silu_multiply = silu_multiply,
            .add = add,
            .embed = {},
            .all_finite = all_finite,
        };
        for (uint32_t t = 0; t < kWeightTypes; ++t) {
            for (uint32_t k = 0; k < kActivationKinds; ++k) {
                const auto type = static_cast<WeightType>(t);
                const auto kind = static_cast<ActivationKind>(k);
                const LinearKernel groups = groups_kernel(type, kind);
                table.linear[t][k] = groups != nullptr ? groups : super_blocks_kernel(type, kind);
            }
        }
        table.linear[static_cast<uint32_t>(WeightType::kW16)][static_cast<uint32_t>(ActivationKind::kA16)] = linear_w16;
        table.embed[static_cast<uint32_t>(WeightType::kQ8_0)] = embed_q8_0;
        return table;
    }();
    return kTable;
}

}  // namespace driftwood::compute::neon
