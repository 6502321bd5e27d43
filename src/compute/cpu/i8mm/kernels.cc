#include "compute/cpu/i8mm/i8mm.h"
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/tiles_table.h"

namespace driftwood::compute::i8mm {

namespace {

struct Isa {
    static constexpr const char* kName = "i8mm";
    // From here on a tile is full. With fewer tokens it takes as many instructions, and SDOT hardly more.
    static constexpr uint32_t kManyTokens = 4;
    static LinearKernel tiles(WeightType type, ActivationKind kind) {
        if (type == WeightType::kW16) return kind == ActivationKind::kA16 ? linear_w16 : nullptr;
        const LinearKernel kernel = groups_kernel(type, kind);
        return kernel != nullptr ? kernel : super_blocks_kernel(type, kind);
    }
    static const Kernels& others() { return neon::kernels(); }
};

}  // namespace

const Kernels& kernels() {
    static const Kernels kTable = table_with_tiles<Isa>();
    return kTable;
}

}  // namespace driftwood::compute::i8mm
