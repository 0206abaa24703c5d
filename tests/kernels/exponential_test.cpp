// The shared exponential against the double one, over all of its range and at its edges.
#include "kernels/exponential.h"

#include <limits>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

TEST(Exponential, IsWithinTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (double x = -87.29; x < 88; x += 0.00037) {
    const float argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(exponential(argument)) - exact) / unit);
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Exponential, KnowsItsEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-0.0f), 1.0f);
  EXPECT_EQ(exponential(-87.4f), 0.0f);
  EXPECT_EQ(exponential(-1e30f), 0.0f);
  EXPECT_EQ(exponential(-kInfinity), 0.0f);
  EXPECT_GT(exponential(-87.2f), 0.0f);
  EXPECT_TRUE(std::isnan(exponential(NAN)));
}

}  // namespace
}  // namespace infalign::kernels
