#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = {
            .name = "reference",
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
        for (uint32_t type = 0; type < kWeightTypes; ++type) {
            table.embed[type] = embed_kernel(static_cast<WeightType>(type));
            for (uint32_t kind = 0; kind < kActivationKinds; ++kind) {
                table.linear[type][kind] =
                    linear_kernel(static_cast<WeightType>(type), static_cast<ActivationKind>(kind));
            }
        }
        return table;
    }();
    return kTable;
}

Kernels completed(const Kernels& table) {
    Kernels out = table;
    const Kernels& all = kernels();
    const auto fill = [](auto& hole, auto with) {
        if (hole == nullptr) hole = with;
    };
    fill(out.rms_norm, all.rms_norm);
    fill(out.quantise_16, all.quantise_16);
    fill(out.rope_adjacent, all.rope_adjacent);
    fill(out.rope_halves, all.rope_halves);
    fill(out.attention, all.attention);
    fill(out.silu_multiply, all.silu_multiply);
    fill(out.add, all.add);
    fill(out.all_finite, all.all_finite);
    for (uint32_t kind = 0; kind < kActivationKinds; ++kind) fill(out.quantise[kind], all.quantise[kind]);
    for (uint32_t type = 0; type < kWeightTypes; ++type) {
        fill(out.embed[type], all.embed[type]);
        for (uint32_t kind = 0; kind < kActivationKinds; ++kind) {
            fill(out.linear[type][kind], all.linear[type][kind]);
        }
    }
    return out;
}

}  // namespace driftwood::compute::reference
