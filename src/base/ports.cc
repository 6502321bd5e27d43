#include "base/ports.h"

#include <sys/random.h>

#include <cerrno>
#include <ctime>

#include "base/check.h"
#include "base/random.h"

namespace driftwood {

int64_t SystemClock::now_ns() {
    timespec now{};
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void SystemEntropy::fill(std::span<uint8_t> out) {
    while (!out.empty()) {
        const ssize_t got = getrandom(out.data(), out.size(), 0);
        if (got < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        out = out.subspan(static_cast<size_t>(got));
    }
}

void SeededEntropy::fill(std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size(); i += 16) {
        const auto words = philox(seed_, counter_++);
        for (size_t j = i; j < out.size() && j < i + 16; ++j)
            out[j] = static_cast<uint8_t>(words[(j - i) / 4] >> (8 * ((j - i) % 4)));
    }
}

}  // namespace driftwood
