// Fixed-point sums: the same in any order, exact to their resolution, refusing what they cannot hold.
#include "kernels/reproducible_sum/reproducible_sum.h"

#include <limits>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;
using Integers = std::vector<std::int64_t>;

/// Whether the CPU took the values.
bool added(std::int64_t n, std::int64_t terms, const float* value, std::int64_t* sum) {
  std::uint32_t refused = 0;
  add_fixed_point({}, n, terms, value, sum, &refused);
  return refused == 0;
}

TEST(FixedPoint, RoundsToTheNearest) {
  const double resolution = std::ldexp(1.0, -kFractionBits);
  const Floats value{0.0f,
                     1.0f,
                     -1.0f,
                     0.1f,
                     static_cast<float>(0.4 * resolution),
                     static_cast<float>(-0.6 * resolution),
                     1000.25f,
                     std::numeric_limits<float>::denorm_min()};
  Integers sum(value.size(), 5);
  ASSERT_TRUE(added(std::ssize(value), 1, value.data(), sum.data()));
  for (std::size_t i = 0; i < value.size(); ++i)
    EXPECT_EQ(sum[i], 5 + std::llrint(std::ldexp(static_cast<double>(value[i]), kFractionBits))) << value[i];
}

TEST(FixedPoint, SumIsTheSameInAnyOrder) {
  const std::int64_t n = 1031, terms = 9;
  std::vector<Floats> addends;
  for (std::uint32_t term = 0; term < terms; ++term)
    addends.push_back(normal(n, term, std::pow(10.0, term % 5 - 2.0)));
  Integers forwards(static_cast<std::size_t>(n)), backwards(forwards.size());
  for (auto term = addends.begin(); term != addends.end(); ++term)
    ASSERT_TRUE(added(n, terms, term->data(), forwards.data()));
  for (auto term = addends.rbegin(); term != addends.rend(); ++term)
    ASSERT_TRUE(added(n, terms, term->data(), backwards.data()));
  EXPECT_EQ(forwards, backwards);
  Floats value(forwards.size());
  from_fixed_point({}, n, forwards.data(), value.data());
  Doubles expected(forwards.size());
  for (const Floats& term : addends)
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(term[i]);
  for (std::size_t i = 0; i < expected.size(); ++i)  // relative: rounding happens once, at the end
    ASSERT_NEAR(expected[i], static_cast<double>(value[i]), 6.1e-8 * std::abs(expected[i]) + 1e-12);
}

TEST(FixedPoint, RefusesAndLeavesTheSum) {
  const float limit = 524288.0f;  // 2^(63 - 44)
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), limit, -limit}) {
    Floats value(100, 1.0f);
    value[77] = bad;
    Integers sum(100, 3);
    EXPECT_FALSE(added(100, 1, value.data(), sum.data())) << bad;
    EXPECT_EQ(sum, Integers(100, 3));
  }
  const float below = std::nextafter(limit, 0.0f), quarter = std::nextafter(limit / 4, 0.0f);
  std::int64_t sum = 0;
  EXPECT_TRUE(added(1, 1, &below, &sum));
  sum = 0;
  EXPECT_FALSE(added(1, 4, &below, &sum));
  for (int term = 0; term < 4; ++term) EXPECT_TRUE(added(1, 4, &quarter, &sum));
  EXPECT_EQ(sum, 4 * std::llrint(std::ldexp(static_cast<double>(quarter), kFractionBits)));
}

TEST(SumOfSquares, AgreesWithReferenceAndDoesNotDependOnShards) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{17}, kSumBlock, 5 * kSumBlock + 13}) {
    const Floats value = normal(n, 7);
    const std::int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
    Doubles partial(static_cast<std::size_t>(blocks)), sharded(partial.size());
    sum_of_squares({}, n, value.data(), partial.data());
    for (std::int64_t block = 0; block < blocks; ++block) {
      double expected = 0;
      const std::int64_t begin = block * kSumBlock, end = std::min(n, begin + kSumBlock);
      for (std::int64_t i = begin; i < end; ++i)
        expected += std::pow(static_cast<double>(value[static_cast<std::size_t>(i)]), 2);
      EXPECT_NEAR(partial[static_cast<std::size_t>(block)], expected, 1e-13 * expected);
      sum_of_squares({}, end - begin, value.data() + begin, sharded.data() + block);
    }
    EXPECT_EQ(partial, sharded);
  }
}

}  // namespace
}  // namespace infalign::kernels
