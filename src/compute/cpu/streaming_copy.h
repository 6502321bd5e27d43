// memcpy that leaves the caches alone, for more bytes than they hold: each line would be read only to be overwritten.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace driftwood::compute {

inline void streaming_copy(float* to, const float* from, size_t count) {
#if defined(__SSE2__)
    constexpr size_t kEach = sizeof(__m128i) / sizeof(float);
    size_t i = std::min(count, (kEach - reinterpret_cast<uintptr_t>(to) / sizeof(float) % kEach) % kEach);
    std::memcpy(to, from, i * sizeof(float));
    for (; i + kEach <= count; i += kEach) {
        const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), words);
    }
    _mm_sfence();
    std::memcpy(to + i, from + i, (count - i) * sizeof(float));
#else
    std::memcpy(to, from, count * sizeof(float));
#endif
}

}  // namespace driftwood::compute
