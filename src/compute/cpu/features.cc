#include "compute/cpu/features.h"

namespace driftwood::compute {

// The compiler's run time reads CPUID, and XCR0 through XGETBV: a feature whose registers are not saved counts as
// absent.

bool cpu_has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

bool cpu_has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace driftwood::compute
