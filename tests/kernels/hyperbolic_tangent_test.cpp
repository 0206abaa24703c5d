// The shared hyperbolic tangent against the double one, over all of its range and at its edges.
#include "kernels/hyperbolic_tangent.h"

#include <limits>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

TEST(HyperbolicTangent, IsWithinThreeUnitsInTheLastPlace) {
  double worst = 0;
  for (double x = -11; x < 11; x += 0.0000713) {
    const float argument = static_cast<float>(x);
    const double exact = std::tanh(static_cast<double>(argument));
    const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(hyperbolic_tangent(argument)) - exact) / unit);
  }
  EXPECT_LE(worst, 3.0);
}

TEST(HyperbolicTangent, KnowsItsEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(hyperbolic_tangent(0.0f), 0.0f);
  EXPECT_EQ(hyperbolic_tangent(1e-30f), 1e-30f);
  EXPECT_EQ(hyperbolic_tangent(kInfinity), 1.0f);
  EXPECT_EQ(hyperbolic_tangent(-kInfinity), -1.0f);
  EXPECT_EQ(hyperbolic_tangent(-1e30f), -1.0f);
  EXPECT_TRUE(std::isnan(hyperbolic_tangent(NAN)));
}

}  // namespace
}  // namespace infalign::kernels
