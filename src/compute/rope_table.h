// Rule 5 of the numerics contract: the cosines and sines by which RoPE turns a head at a position. Computed in double
// with our own argument reduction and polynomials, no libm, so that every machine has the same table; an entry is a
// pure function of (theta, head_dim, factors, position).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace driftwood::compute {

class RopeTable {
  public:
    // theta in [1, 1e12]; factors empty or head_dim / 2 divisors of the frequencies, each at least 1/2.
    RopeTable(double theta, uint32_t head_dim, std::span<const float> factors);

    // cosine[i], sine[i] = cos, sin(position · frequency_i), rounded to float. position < 2^20; [head_dim / 2] each.
    void angles(uint32_t position, std::span<float> cosine, std::span<float> sine) const;

  private:
    std::vector<double> frequency_;  // theta^(-2i / head_dim) / factor_i
};

}  // namespace driftwood::compute
