#include "compute/cpu/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace driftwood::compute {

#if defined(__x86_64__)

// The compiler's run time reads CPUID, and XCR0 through XGETBV: a feature whose registers are not saved counts as
// absent.

bool cpu_has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

namespace {

bool may_use_tiles() {
#if defined(__linux__)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    constexpr unsigned kTilesAndInt8 = 1U << 24 | 1U << 25;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTilesAndInt8) != kTilesAndInt8) return false;
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): fails where the kernel does not save the tiles.
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

}  // namespace

bool cpu_has_amx_int8() {
    static const bool kHas = cpu_has_avx512() && may_use_tiles();
    return kHas;
}

bool cpu_has_avx2() {
    // F16C is not among the names that every compiler knows here; its registers are AVX's.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool cpu_has_neon_dotprod() { return false; }
bool cpu_has_i8mm() { return false; }

#else

bool cpu_has_avx512() { return false; }
bool cpu_has_amx_int8() { return false; }
bool cpu_has_avx2() { return false; }

#if defined(__linux__)
bool cpu_has_neon_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
bool cpu_has_i8mm() { return cpu_has_neon_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#elif defined(__APPLE__)
namespace {

bool has_feature(const char* name) {
    int has = 0;
    size_t size = sizeof(has);
    return sysctlbyname(name, &has, &size, nullptr, 0) == 0 && has != 0;
}

}  // namespace

bool cpu_has_neon_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool cpu_has_i8mm() { return cpu_has_neon_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#endif

#endif

}  // namespace driftwood::compute
