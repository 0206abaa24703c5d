// float32 to bfloat16, its upper half, rounded to the nearest and ties to even, and back.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

using Bfloat16 = std::uint16_t;

[[gnu::always_inline]] constexpr Bfloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40;
  return static_cast<Bfloat16>((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

constexpr float from_bfloat16(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// to [count] = from [count].
void round_to_bfloat16(const Stream& on, std::int64_t count, const float* from, Bfloat16* to);
void widen_bfloat16(const Stream& on, std::int64_t count, const Bfloat16* from, float* to);

}  // namespace infalign::kernels
