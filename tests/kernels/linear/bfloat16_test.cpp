// Rounding to bfloat16 at random: to one of the two neighbours, without a bias, the same however many values
// are rounded together.
#include "kernels/linear/bfloat16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace infalign::kernels {
namespace {

std::vector<Bfloat16> rounded(std::uint32_t step, std::int64_t first, std::span<const float> values) {
  std::vector<Bfloat16> to(values.size());
  round_at_random({}, 11, step, first, std::ssize(values), values.data(), to.data());
  return to;
}

TEST(RoundAtRandom, IsRightOnAverage) {
  constexpr int kDraws = 100000;
  for (const float value : {1.0f, 1.001f, -1.0039f, 3.14159f, 1e-30f, -7e20f}) {
    const std::vector<float> values(kDraws, value);
    const float below = from_bfloat16(to_bfloat16(value, 0)),
                above = from_bfloat16(to_bfloat16(value, 0xffff));
    double sum = 0;
    for (const Bfloat16 each : rounded(1, 3, values)) {
      const float found = from_bfloat16(each);
      ASSERT_TRUE(found == below || found == above) << value;
      sum += double{found} / kDraws;
    }
    // Of a Bernoulli variable that is 0 or the distance: five standard errors, at most.
    const double error = 5 * std::fabs(double{above} - double{below}) / 2 / std::sqrt(kDraws);
    EXPECT_NEAR(sum, value, error + 1e-9 * std::fabs(value)) << "by chance once in two million runs";
  }
}

TEST(RoundAtRandom, DoesNotDependOnWhatIsRoundedWithIt) {
  std::vector<float> values;
  for (int i = 0; i < 40000; ++i) values.push_back(std::sin(static_cast<float>(i)));
  const auto whole = rounded(4, 100, values);
  for (const std::int64_t cut : {1, 7, 8, 1000, 16385}) {
    auto parts = rounded(4, 100, std::span(values).first(static_cast<std::size_t>(cut)));
    const auto rest = rounded(4, 100 + cut, std::span(values).subspan(static_cast<std::size_t>(cut)));
    parts.insert(parts.end(), rest.begin(), rest.end());
    EXPECT_EQ(parts, whole) << cut;
  }
  EXPECT_NE(rounded(5, 100, values), whole) << "each step has numbers of its own";
}

TEST(RoundAtRandom, KeepsWhatIsExactOrNotFinite) {
  for (const float value : {0.0f, -0.0f, 1.5f, -256.0f, std::numeric_limits<float>::infinity()})
    EXPECT_EQ(to_bfloat16(value, 0xffff), to_bfloat16(value)) << value;
  EXPECT_TRUE(std::isnan(from_bfloat16(to_bfloat16(std::numeric_limits<float>::quiet_NaN(), 0xffff))));
}

}  // namespace
}  // namespace infalign::kernels
