#include "compute/rope_table.h"

#include <bit>

#include "base/check.h"

namespace driftwood::compute {

namespace {

// Sums of this file are written in the order that counts: left to right, no fma, all in binary64.

// Σ coefficient[i] · x^i by Horner's rule.
template <size_t N>
double polynomial(const double (&coefficient)[N], double x) {
    double sum = coefficient[N - 1];
    for (size_t i = N - 1; i > 0; --i) sum = sum * x + coefficient[i - 1];
    return sum;
}

// The nearest integer of x >= 0 (which of two equally near ones does not matter here).
int64_t nearest(double x) {
    const double shifted = x + 0.5;
    return static_cast<int64_t>(shifted);
}

constexpr double inverse_factorial(int n) {
    double product = 1.0;
    for (int i = 2; i <= n; ++i) product *= i;  // exact up to 18!, one rounding from there
    return 1.0 / product;
}

constexpr double kLn2High = 6.93147180369123816490e-01;  // 33 bits: n · kLn2High is exact
constexpr double kLn2Low = 1.90821492927058770002e-10;

// ln x for 1 <= x <= 1e12: x = m · 2^k, m in [1, 2); ln m = 2 artanh(s), s = (m - 1) / (m + 1) <= 1/3.
double natural_log(double x) {
    const uint64_t bits = std::bit_cast<uint64_t>(x);
    const auto k = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
    const double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFU) | 0x3FF0000000000000U);
    const double s = (m - 1.0) / (m + 1.0);
    const double square = s * s;
    double sum = 0.0;
    for (int i = 35; i >= 1; i -= 2) sum = sum * square + 1.0 / i;  // (1/3)^36 is below 2^-57
    return k * kLn2High + (k * kLn2Low + 2.0 * s * sum);
}

// e^-x for 0 <= x <= 30: n = round(x / ln 2), Taylor series of the rest, |rest| <= 0.35.
double exp_negative(double x) {
    static constexpr double kCoefficient[] = {inverse_factorial(0),  inverse_factorial(1),  inverse_factorial(2),
                                              inverse_factorial(3),  inverse_factorial(4),  inverse_factorial(5),
                                              inverse_factorial(6),  inverse_factorial(7),  inverse_factorial(8),
                                              inverse_factorial(9),  inverse_factorial(10), inverse_factorial(11),
                                              inverse_factorial(12), inverse_factorial(13), inverse_factorial(14)};
    const int64_t n = nearest(x / 0.69314718055994530942);
    const auto count = static_cast<double>(n);
    const double rest = (count * kLn2High - x) + count * kLn2Low;
    return polynomial(kCoefficient, rest) * std::bit_cast<double>(static_cast<uint64_t>(1023 - n) << 52);
}

struct CosSin {
    double cosine;
    double sine;
};

// cos and sin of an angle in [0, 2^21): n = round(angle · 2 / π), Cody and Waite's reduction with π/2 in three parts
// (33, 33 and 53 bits, so that n · part is exact or nearly so), Taylor series on |rest| <= π/4.
CosSin cos_sin(double angle) {
    static constexpr double kCosine[] = {inverse_factorial(0),  -inverse_factorial(2),  inverse_factorial(4),
                                         -inverse_factorial(6), inverse_factorial(8),   -inverse_factorial(10),
                                         inverse_factorial(12), -inverse_factorial(14), inverse_factorial(16)};
    static constexpr double kSine[] = {inverse_factorial(1),  -inverse_factorial(3),  inverse_factorial(5),
                                       -inverse_factorial(7), inverse_factorial(9),   -inverse_factorial(11),
                                       inverse_factorial(13), -inverse_factorial(15), inverse_factorial(17)};
    constexpr double kHalfPi1 = 1.57079632673412561417e+00;
    constexpr double kHalfPi2 = 6.07710050630396597660e-11;
    constexpr double kHalfPi3 = 2.02226624879595063154e-21;
    const int64_t n = nearest(angle * 0.63661977236758134308);
    const auto count = static_cast<double>(n);
    const double rest = ((angle - count * kHalfPi1) - count * kHalfPi2) - count * kHalfPi3;
    const double square = rest * rest;
    const double c = polynomial(kCosine, square);
    const double s = rest * polynomial(kSine, square);
    switch (n % 4) {
        case 0: return {c, s};
        case 1: return {-s, c};
        case 2: return {-c, -s};
        default: return {s, -c};
    }
}

}  // namespace

RopeTable::RopeTable(double theta, uint32_t head_dim, std::span<const float> factors) : frequency_(head_dim / 2) {
    CHECK(theta >= 1.0 && theta <= 1e12 && (factors.empty() || factors.size() == frequency_.size()));
    const double log_theta = natural_log(theta);
    for (size_t i = 0; i < frequency_.size(); ++i) {
        frequency_[i] = exp_negative(log_theta * static_cast<double>(2 * i) / static_cast<double>(head_dim));
        if (!factors.empty()) frequency_[i] = frequency_[i] / static_cast<double>(factors[i]);
    }
}

void RopeTable::angles(uint32_t position, std::span<float> cosine, std::span<float> sine) const {
    CHECK(cosine.size() == frequency_.size() && sine.size() == frequency_.size());
    for (size_t i = 0; i < frequency_.size(); ++i) {
        const CosSin at = cos_sin(static_cast<double>(position) * frequency_[i]);
        cosine[i] = static_cast<float>(at.cosine);
        sine[i] = static_cast<float>(at.sine);
    }
}

}  // namespace driftwood::compute
