#include "compute/cpu/avx512/avx512.h"

namespace driftwood::compute::avx512 {

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = {
            .name = "avx512",
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
        for (uint32_t i = 0; i < kWeightTypes * kActivationKinds; ++i) {
            const auto type = static_cast<WeightType>(i / kActivationKinds);
            const auto kind = static_cast<ActivationKind>(i % kActivationKinds);
            LinearKernel& kernel = table.linear[i / kActivationKinds][i % kActivationKinds];
            kernel = linear_groups(type, kind);
            if (kernel == nullptr) kernel = linear_super_blocks(type, kind);
            if (type == WeightType::kQ8_0 && kind == ActivationKind::kA32P) kernel = linear_q8_0;
            if (type == WeightType::kW16 && kind == ActivationKind::kA16) kernel = linear_w16;
        }
        table.embed[static_cast<uint32_t>(WeightType::kQ8_0)] = embed_q8_0;
        return table;
    }();
    return kTable;
}

}  // namespace driftwood::compute::avx512
