// float32 to bfloat16, its upper half, rounded to the nearest and ties to even, and back.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/random/philox.h"

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

/// Rounded up or down at random, with the probabilities that make the mean the value itself; `bits` are 16
/// random ones. What is not finite becomes what it becomes above.
[[gnu::always_inline]] constexpr Bfloat16 to_bfloat16(float value, std::uint32_t bits) {
  const auto exact = std::bit_cast<std::uint32_t>(value);
  const bool finite = (exact & 0x7f800000) != 0x7f800000;
  return finite ? static_cast<Bfloat16>((exact + bits) >> 16) : to_bfloat16(value);
}

/// One draw of a step's rounding has bits for so many parameters that follow one another.
constexpr std::int64_t kOfOneDraw = 8;
constexpr std::array<std::uint32_t, 4> rounding_draw(std::uint64_t seed, std::uint32_t step,
                                                     std::int64_t parameter) {
  const auto number = static_cast<std::uint64_t>(parameter / kOfOneDraw);
  return philox4x32({static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), step,
                     static_cast<std::uint32_t>(Purpose::kRounding)},
                    {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}
/// The 16 that are this parameter's.
constexpr std::uint32_t rounding_bits(const std::array<std::uint32_t, 4>& draw, std::int64_t parameter) {
  const auto place = parameter % kOfOneDraw;
  const std::uint32_t left = place < 2 ? draw[0] : draw[1], right = place < 6 ? draw[2] : draw[3];
  const std::uint32_t word = place < 4 ? left : right;
  return place % 2 == 0 ? word & 0xffff : word >> 16;
}

/// to [count] = from [count].
void round_to_bfloat16(const Stream& on, std::int64_t count, const float* from, Bfloat16* to);
/// The same at random (Gupta et al. 2015), for the parameters from number `first` on at this step.
void round_at_random(const Stream& on, std::uint64_t seed, std::uint32_t step, std::int64_t first,
                     std::int64_t count, const float* from, Bfloat16* to);
void widen_bfloat16(const Stream& on, std::int64_t count, const Bfloat16* from, float* to);

}  // namespace infalign::kernels
