// The shared logarithm against the double one.
#include "kernels/logarithm.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

TEST(Logarithm, IsWithinTwoUnitsInTheLastPlaceOfTheLargerPart) {
  double worst = 0;
  for (double x = 1.2e-38; x < 3e38; x *= 1.000173) {
    const float argument = static_cast<float>(x);
    const double exact = std::log(static_cast<double>(argument));
    const double unit = std::ldexp(1.0, std::ilogb(std::max(std::abs(exact), 0.5)) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(logarithm(argument)) - exact) / unit);
  }
  EXPECT_LE(worst, 2.0);
}

// A softmax of one score has a sum of one, and its logarithm is to be nothing at all.
TEST(Logarithm, OfOneIsZero) { EXPECT_EQ(logarithm(1.0f), 0.0f); }

}  // namespace
}  // namespace infalign::kernels
