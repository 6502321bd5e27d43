// What this processor and this operating system can run. x86-64 only.
#pragma once

namespace driftwood::compute {

// AVX-512 F, BW, DQ, VL and VNNI, with FMA, and an operating system that saves the wide registers (XCR0).
bool cpu_has_avx512();

// AVX2, FMA and F16C, likewise.
bool cpu_has_avx2();

}  // namespace driftwood::compute
