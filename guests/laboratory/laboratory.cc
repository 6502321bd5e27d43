// The guest of `driftwood chain`. Told "gemm N", it fills two N x N matrices in its own memory and has the device
// multiply them there; told "fill BYTES", it writes so many bytes. Each time it says where everything lies. Its other
// exports are loops over one call, to be timed from outside.
#include <driftwood/actor.h>

#include <algorithm>
#include <cstring>

namespace {

constexpr uint32_t kCalls = 1'000'000;              // of each loop
constexpr uint64_t kMostSteps = uint64_t{1} << 32;  // m · n · k of one GEMM call

// As cli/chain_guest.h reads it.
struct Answer {
    uint32_t error;  // a driftwood_errno, or 0
    uint32_t a, b, c;
};

uint32_t offset_of(const void* pointer) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer)); }

// Values in [-1, 1) from a linear congruential generator (Numerical Recipes' constants).
void fill(float* numbers, size_t count, uint32_t state) {
    for (size_t i = 0; i < count; ++i) {
        state = state * 1664525U + 1013904223U;
        numbers[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31F;
    }
}

// Freed by the next one: what the answer names stays there while the host looks at it.
float* numbers(size_t count) {
    static float* held = nullptr;
    std::free(held);
    return held = static_cast<float*>(std::malloc(count * sizeof(float)));
}

// C = A · B in as many calls as the runtime wants for so large a product.
driftwood::Task multiply(uint32_t n, float* a, Answer& answer) {
    const size_t matrix = size_t{n} * n;
    fill(a, matrix, 1);
    fill(a + matrix, matrix, 2);
    answer = {0, offset_of(a), offset_of(a + matrix), offset_of(a + 2 * matrix)};
    const auto rows = static_cast<uint32_t>(std::min<uint64_t>(n, kMostSteps / (uint64_t{n} * n)));
    for (uint32_t row = 0; row < n && answer.error == 0; row += rows) {
        driftwood_gemm gemm = {};
        gemm.a = offset_of(a + size_t{row} * n);
        gemm.b = answer.b;
        gemm.c = offset_of(a + 2 * matrix + size_t{row} * n);
        gemm.m = std::min(rows, n - row);
        gemm.n = gemm.k = gemm.lda = gemm.ldb = gemm.ldc = n;
        const int64_t status = co_await driftwood::Operation(driftwood_gemm_run(&gemm, sizeof gemm));
        answer.error = static_cast<uint32_t>(-status);
    }
}

driftwood::Task work() {
    for (;;) {
        const std::string message = (co_await driftwood::receive()).value_or("");
        const size_t space = std::min(message.find(' '), message.size());
        const auto size = static_cast<uint32_t>(std::strtoul(message.c_str() + space, nullptr, 10));
        const bool product = message.starts_with("gemm");
        const size_t count = product ? 3 * size_t{size} * size : size / sizeof(float);
        float* const at = numbers(count);
        Answer answer = {DRIFTWOOD_ENOSPC, 0, 0, 0};
        if (at != nullptr && product) co_await multiply(size, at, answer);
        if (at != nullptr && !product) {
            fill(at, count, 3);
            answer = {0, offset_of(at), 0, 0};
        }
        driftwood_reply(&answer, sizeof answer, 1);
    }
}

volatile uint32_t counter;
const char text[32] = {};

}  // namespace

extern "C" {

DRIFTWOOD_EXPORT(loop_of_nothing) void loop_of_nothing() {
    for (uint32_t i = 0; i < kCalls; ++i) counter = i;
}

// A number in, a number out; looked up in the actor's sessions, and there is none of that name.
DRIFTWOOD_EXPORT(loop_of_numbers) void loop_of_numbers() {
    for (uint32_t i = 0; i < kCalls; ++i) counter = static_cast<uint32_t>(driftwood_session_tokens(0));
}

// A range of memory, checked; then refused for its level, so that nothing is logged.
DRIFTWOOD_EXPORT(loop_of_ranges) void loop_of_ranges() {
    for (uint32_t i = 0; i < kCalls; ++i) counter = static_cast<uint32_t>(driftwood_log(-1, text, sizeof text));
}

}  // extern "C"

DRIFTWOOD_ACTOR(work)
