// Rule 3 for W16 weights (linear_w16_lanes.h): SMLAL multiplies weights by digits.
#include <arm_neon.h>

#include "compute/cpu/linear_w16_lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

struct Isa {
    static constexpr uint32_t kValues = 8;
    using Int = int32x4_t;

    static Int zero() { return vdupq_n_s32(0); }
    static int16x8_t widened(const int8_t* digits) { return vmovl_s8(vld1_s8(digits)); }
    static int16x8_t load(const uint8_t* weights) { return vreinterpretq_s16_u8(vld1q_u8(weights)); }
    static Int add_products(Int sum, int16x8_t a, int16x8_t b) {
        return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b);
    }
    static int32_t reduce_add(Int sum) { return vaddvq_s32(sum); }
};

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) { w16_layer<Isa>(args, row_begin, row_end); }

}  // namespace driftwood::compute::neon
