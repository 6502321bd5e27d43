// Rule 3 for W16 weights (linear_w16_lanes.h): VPMADDWD multiplies pairs of weights by pairs of digits.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/cpu/linear_w16_lanes.h"

namespace driftwood::compute::avx2 {

namespace {

struct Isa {
    static constexpr uint32_t kValues = 16;
    using Int = __m256i;

    static Int zero() { return _mm256_setzero_si256(); }
    static Int widened(const int8_t* digits) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(digits)));
    }
    static Int load(const uint8_t* weights) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)); }
    static Int add_products(Int sum, Int a, Int b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
    static int32_t reduce_add(Int sum) { return avx2::reduce_add(sum); }
};

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) { w16_layer<Isa>(args, row_begin, row_end); }

}  // namespace driftwood::compute::avx2
