#include "compute/cpu/amx/amx.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/tiles_table.h"

namespace driftwood::compute::amx {

LinearKernel tiles_kernel(WeightType type, ActivationKind kind) {
    if (type == WeightType::kW16) return kind == ActivationKind::kA16 ? linear_w16 : nullptr;
    const LinearKernel kernel = groups_kernel(type, kind);
    return kernel != nullptr ? kernel : super_blocks_kernel(type, kind);
}

namespace {

struct Isa {
    static constexpr const char* kName = "amx";
    // From here on tiles are faster than vectors: unpacking weights for a tile is paid once per call.
    static constexpr uint32_t kManyTokens = 12;
    static LinearKernel tiles(WeightType type, ActivationKind kind) { return tiles_kernel(type, kind); }
    static const Kernels& others() { return avx512::kernels(); }
};

}  // namespace

const Kernels& kernels() {
    static const Kernels kTable = table_with_tiles<Isa>();
    return kTable;
}

}  // namespace driftwood::compute::amx
