#include "core/storage/element_type.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace infalign::storage {
namespace {

/// The value of a half by the definition of IEEE 754.
double float16_by_definition(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double magnitude = std::ldexp(fraction + (exponent ? 1024 : 0), (exponent ? exponent : 1) - 25);
  if (exponent == 31) magnitude = fraction ? std::nan("") : std::numeric_limits<double>::infinity();
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST(Float16, EveryValueIsReadAndWrittenExactly) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float value = float16_to_float(bits);
    const double expected = float16_by_definition(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << i;
      EXPECT_TRUE(std::isnan(float16_to_float(float_to_float16(value)))) << i;
    } else {
      EXPECT_EQ(value, expected) << i;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << i;
      EXPECT_EQ(float_to_float16(value), bits) << i;
    }
  }
}

TEST(BFloat16, EveryValueIsReadAndWrittenExactly) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float value = bfloat16_to_float(bits);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), i << 16);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(value)))) << i;
    } else {
      EXPECT_EQ(float_to_bfloat16(value), bits) << i;
    }
  }
}

/// Between each two neighbours: the middle goes to the even one, what is next to the middle goes to the
/// nearer one. The last finite value's upper neighbour is infinity, and the middle between them (as if the
/// format went on) rounds to it.
template <typename Narrow, typename Widen>
void check_rounding(std::uint16_t infinity, double beyond_largest, Narrow narrow, Widen widen) {
  for (std::uint16_t low = 0; low < infinity; ++low) {
    const auto high = static_cast<std::uint16_t>(low + 1);
    const double upper = high == infinity ? beyond_largest : widen(high);
    const auto middle = static_cast<float>((double{widen(low)} + upper) / 2);
    const std::uint16_t even = low % 2 == 0 ? low : high;
    EXPECT_EQ(narrow(middle), even) << low;
    EXPECT_EQ(narrow(-middle), even | 0x8000) << low;
    EXPECT_EQ(narrow(std::nextafter(middle, 0.0F)), low) << low;
    EXPECT_EQ(narrow(std::nextafter(middle, std::numeric_limits<float>::infinity())), high) << low;
  }
}

TEST(Float16, RoundsToNearestEven) {
  check_rounding(0x7c00, 65536, float_to_float16, float16_to_float);
  EXPECT_EQ(float_to_float16(std::numeric_limits<float>::max()), 0x7c00);
}

TEST(BFloat16, RoundsToNearestEven) {
  check_rounding(0x7f80, std::ldexp(1.0, 128), float_to_bfloat16, bfloat16_to_float);
}

}  // namespace
}  // namespace infalign::storage
