#include "core/alignment/monotone_cubic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace infalign::alignment {
namespace {

TEST(MonotoneCubic, ReproducesACubic) {
  const auto f = [](double x) { return x * x * x + x; };
  const std::vector<double> x{-1, -0.2, 0.5, 2};
  std::vector<double> y, slope;
  for (double each : x) y.push_back(f(each)), slope.push_back(3 * each * each + 1);
  const MonotoneCubic curve(x, y, slope);
  for (double at = -1; at <= 2; at += 0.01) EXPECT_NEAR(curve(at), f(at), 1e-13);
  EXPECT_EQ(curve(-5), f(-1));
  EXPECT_EQ(curve(5), f(2));
  EXPECT_TRUE(std::isnan(curve(std::nan(""))));
}

TEST(MonotoneCubic, NeverOvershootsSteepSlopes) {
  const std::vector<double> x{0, 1, 2, 3}, y{0, 0, 1, 1}, slope{5, 50, 50, 0};
  const MonotoneCubic curve(x, y, slope);
  double previous = 0;
  for (double at = 0; at <= 3; at += 0.001) {
    EXPECT_GE(curve(at), previous - 1e-15);
    EXPECT_LE(curve(at), 1 + 1e-15);
    previous = curve(at);
  }
}

TEST(MonotoneCubic, RefusesWhatDoesNotAscend) {
  const auto make = [](std::vector<double> x, std::vector<double> y, std::vector<double> slope) {
    MonotoneCubic curve(x, y, slope);
  };
  EXPECT_THROW(make({0}, {0}, {0}), std::invalid_argument);
  EXPECT_THROW(make({0, 1}, {0, 1}, {0}), std::invalid_argument);
  EXPECT_THROW(make({1, 0}, {0, 1}, {0, 0}), std::invalid_argument);
  EXPECT_THROW(make({0, 1}, {1, 0}, {0, 0}), std::invalid_argument);
  EXPECT_THROW(make({0, 1}, {0, 1}, {-1, 0}), std::invalid_argument);
  EXPECT_THROW(make({0, 1}, {0, std::nan("")}, {0, 0}), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
