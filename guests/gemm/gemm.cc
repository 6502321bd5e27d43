// The laboratory guest of `driftwood chain`: fills two matrices in its own memory, has the device multiply them in
// place, and says where all three lie.
#include <driftwood/actor.h>

namespace {

constexpr uint32_t kSize = 128;
float a[kSize * kSize];
float b[kSize * kSize];
float c[kSize * kSize];

// Values in [-1, 1) from a linear congruential generator (Numerical Recipes' constants).
void fill(float* matrix, uint32_t state) {
    for (uint32_t i = 0; i < kSize * kSize; ++i) {
        state = state * 1664525U + 1013904223U;
        matrix[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31F;
    }
}

uint32_t offset_of(const void* pointer) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer)); }

driftwood::Task multiply() {
    fill(a, 1);
    fill(b, 2);
    driftwood_gemm gemm = {};
    gemm.a = offset_of(a);
    gemm.b = offset_of(b);
    gemm.c = offset_of(c);
    gemm.m = gemm.n = gemm.k = kSize;
    gemm.lda = gemm.ldb = gemm.ldc = kSize;
    const int64_t status = co_await driftwood::Operation(driftwood_gemm_run(&gemm, sizeof gemm));
    const uint32_t answer[5] = {static_cast<uint32_t>(-status), gemm.a, gemm.b, gemm.c, kSize};
    driftwood_reply(answer, sizeof answer, 1);
}

}  // namespace

DRIFTWOOD_ACTOR(multiply)
