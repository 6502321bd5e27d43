// Rule 9: rows of embeddings in Q8_0. The other types are the reference's: a step reads one row per token.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/formats.h"

namespace driftwood::compute::avx2 {

void embed_q8_0(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const uint8_t* block = row + size_t{group} * sizeof(BlockQ8_0);
        uint16_t half = 0;
        __builtin_memcpy(&half, block, sizeof(half));
        const __m256 scale = _mm256_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + 2 + i));
            const __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            _mm256_storeu_ps(out + size_t{group} * kGroup + i, _mm256_mul_ps(scale, value));
        }
    }
}

}  // namespace driftwood::compute::avx2
