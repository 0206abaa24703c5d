#include "core/alignment/quadrature.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace infalign::alignment {
namespace {

constexpr std::size_t kNodes = PanelRule::kNodes;

TEST(PanelRule, IsExactForPolynomials) {
  const PanelRule& rule = panel_rule();
  for (std::size_t degree = 0; degree < 2 * kNodes; ++degree) {
    double integral = 0;
    for (std::size_t i = 0; i < kNodes; ++i) {
      integral += rule.weight[i] * std::pow(rule.node[i], static_cast<double>(degree));
    }
    EXPECT_NEAR(integral, 1.0 / static_cast<double>(degree + 1), 1e-15) << degree;
  }
}

TEST(PanelRule, IntegratesToEachNodeAndAnywhere) {
  const PanelRule& rule = panel_rule();
  for (std::size_t degree = 0; degree < kNodes; ++degree) {
    const auto power = static_cast<double>(degree);
    PanelRule::Values values;
    for (std::size_t i = 0; i < kNodes; ++i) values[i] = std::pow(rule.node[i], power);
    for (std::size_t i = 0; i < kNodes; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < kNodes; ++j) sum += rule.to_node[i][j] * values[j];
      EXPECT_NEAR(sum, std::pow(rule.node[i], power + 1) / (power + 1), 1e-14);
    }
    for (double t : {0.0, 0.1, rule.node[3], 0.77, 1.0}) {
      EXPECT_NEAR(interpolate(values, t), std::pow(t, power), 1e-12);
      EXPECT_NEAR(integrate_to(values, t), std::pow(t, power + 1) / (power + 1), 1e-14);
    }
  }
}

TEST(Divergence, IsAccurateForSmallAndVanishingDensities) {
  EXPECT_EQ(divergence(0), 0);
  EXPECT_EQ(divergence(-std::numeric_limits<double>::infinity()), 1);
  EXPECT_EQ(divergence(-2000), 1);
  EXPECT_NEAR(divergence(1), 1, 1e-15);  // e - e + 1
  EXPECT_NEAR(divergence(1e-6), 0.5e-12, 1e-17);
}

}  // namespace
}  // namespace infalign::alignment
