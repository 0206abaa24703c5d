// The natural logarithm beside the exponential: branch-free, so that loops which call it become vector code.
#pragma once

#include <bit>
#include <cstdint>

namespace infalign::kernels {

/// log(x) for positive normal x, within 2 units in the last place (or 1e-7 near 1). x = 2^n m with m between
/// sqrt(1/2) and sqrt(2), and log(m) = 2 artanh(s), s = (m - 1) / (m + 1), of which the series is taken to
/// s^9.
[[gnu::always_inline]] constexpr float logarithm(float x) {
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n * kLn2High is exact
  constexpr std::int32_t kRootOfHalf = 0x3f3504f3;
  const std::int32_t bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t exponent = (bits - kRootOfHalf) >> 23;
  const float m =
      std::bit_cast<float>(bits - static_cast<std::int32_t>(static_cast<std::uint32_t>(exponent) << 23));
  const float n = static_cast<float>(exponent);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  float tail = 2.0f / 9;
  tail = tail * z + 2.0f / 7;
  tail = tail * z + 2.0f / 5;
  tail = tail * z + 2.0f / 3;
  return n * kLn2High + (2.0f * s + (tail * z * s + n * kLn2Low));
}

}  // namespace infalign::kernels
