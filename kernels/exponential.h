// The exponential that every softmax and gate of this folder uses. It is branch-free, so the compiler turns
// loops that call it into vector code, and it is ours, so that all kernels agree on it whatever mathematics
// library is installed.
#pragma once

#include <bit>
#include <cstdint>

namespace infalign::kernels {

/// exp(x) for x up to 88, within 2 units in the last place; exactly 0 below -87.3 (where float32 goes
/// subnormal); NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) is a polynomial of degree 6
/// (relative error 4e-9, fitted by least squares at Chebyshev nodes); 2^n is put together from its exponent
/// bits.
[[gnu::always_inline]] constexpr float exponential(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n * kLn2High is exact
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  const float shifted = x * kLog2E + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float q = 0.0013751382f;
  q = q * r + 0.00836892343f;
  q = q * r + 0.0416695342f;
  q = q * r + 0.166665184f;
  q = q * r + 0.499999886f;
  const float exp_r = q * (r * r) + r + 1.0f;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) << 23) + (std::uint32_t{127} << 23);
  const float result = exp_r * std::bit_cast<float>(power);
  return x < -87.3f ? 0.0f : result;
}

}  // namespace infalign::kernels
