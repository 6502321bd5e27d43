#include "compute/cpu/avx512/avx512.h"

namespace driftwood::compute::avx512 {

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = {
            .name = "avx512",
            .rms_norm = rms_norm,
            .quantise = {quantise_a32p, quantise_a256, nullptr},
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
        const auto set = [&](WeightType type, ActivationKind kind, LinearKernel kernel) {
            table.linear[static_cast<uint32_t>(type)][static_cast<uint32_t>(kind)] = kernel;
        };
        set(WeightType::kQ8_0, ActivationKind::kA32P, linear_q8_0);
        set(WeightType::kQ4_0, ActivationKind::kA256, linear_q4_0);
        set(WeightType::kQ4_K, ActivationKind::kA256, linear_q4_k);
        table.embed[static_cast<uint32_t>(WeightType::kQ8_0)] = embed_q8_0;
        return table;
    }();
    return kTable;
}

}  // namespace driftwood::compute::avx512
