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

TEST(MonotoneCubic, FindsItsPieceWhereverPointsCrowd) {
  // Each piece rises by its own amount, so that a neighbour's would show. Points crowd at both ends.
  std::vector<double> x{0}, y{0};
  for (double step = 1e-12; x.back() < 0.5; step *= 1.3) x.push_back(x.back() + step);
  const std::vector<double> left = x;
  for (std::size_t i = left.size(); i-- > 0;)
    if (1.25 - left[i] > x.back()) x.push_back(1.25 - left[i]);
  for (std::size_t i = 1; i < x.size(); ++i)
    y.push_back(y.back() + (x[i] - x[i - 1]) * static_cast<double>(1 + i % 5));
  std::vector<double> slope(x.size());  // 0: the cubic is then y + secant (3 t^2 - 2 t^3)
  const MonotoneCubic curve(x, y, slope);
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    EXPECT_EQ(curve(x[i]), y[i]);
    for (double share : {0.01, 0.5, 0.99}) {
      const double at = x[i] + share * (x[i + 1] - x[i]), t = (at - x[i]) / (x[i + 1] - x[i]);
      EXPECT_NEAR(curve(at), y[i] + (y[i + 1] - y[i]) * t * t * (3 - 2 * t),
                  1e-14 * (y[i + 1] - y[i]) + 1e-15);
    }
    EXPECT_GE(curve(std::nextafter(x[i + 1], 0)), y[i]);
  }
  EXPECT_EQ(curve(x.back()), y.back());
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
