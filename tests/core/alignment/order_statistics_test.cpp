#include "core/alignment/order_statistics.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <random>

namespace infalign::alignment {
namespace {

std::vector<double> certain(std::int64_t n, std::int64_t i) {
  std::vector<double> weights(static_cast<std::size_t>(n));
  weights[static_cast<std::size_t>(i - 1)] = 1;
  return weights;
}

std::vector<double> random_weights(std::size_t count, std::mt19937_64& engine) {
  std::vector<double> weights(count);
  for (double& weight : weights) weight = static_cast<double>(engine() % 1000);
  const double whole = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= whole;
  return weights;
}

double sum(const std::vector<double>& weights) {
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

TEST(Elevate, IsTheAverageOverSubsets) {
  std::mt19937_64 engine(1);
  for (unsigned samples = 1; samples <= 9; ++samples) {
    for (unsigned n = 1; n <= samples; ++n) {
      const auto weights = random_weights(n, engine);
      std::vector<double> average(samples);
      double subsets = 0;
      for (unsigned subset = 0; subset < 1u << samples; ++subset) {
        if (std::popcount(subset) != static_cast<int>(n)) continue;
        ++subsets;
        std::size_t rank = 0;
        for (unsigned j = 0; j < samples; ++j)
          if (subset >> j & 1) average[j] += weights[rank++];
      }
      const auto elevated = elevate(weights, samples);
      for (unsigned j = 0; j < samples; ++j) EXPECT_NEAR(elevated[j], average[j] / subsets, 1e-14);
    }
  }
}

TEST(Elevate, HasTheHypergeometricFormulaOnManySamples) {
  // C(j-1, i-1) C(M-j, n-i)/C(M, n) by log gamma, whose own error at M = 5,000 is about 1e-11.
  const auto log_binomial = [](double n, double k) {
    return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
  };
  for (std::int64_t n : {1, 2, 7, 100, 4'990}) {
    for (std::int64_t i : {std::int64_t{1}, (n + 1) / 2, n}) {
      constexpr std::int64_t kSamples = 5'000;
      const auto weights = elevate(certain(n, i), kSamples);
      EXPECT_NEAR(sum(weights), 1, 1e-12);
      for (std::int64_t j = 1; j <= kSamples; j += 13) {
        double expected = 0;
        if (j >= i && kSamples - j >= n - i) {
          expected = std::exp(log_binomial(static_cast<double>(j - 1), static_cast<double>(i - 1)) +
                              log_binomial(static_cast<double>(kSamples - j), static_cast<double>(n - i)) -
                              log_binomial(static_cast<double>(kSamples), static_cast<double>(n)));
        }
        EXPECT_NEAR(weights[static_cast<std::size_t>(j - 1)], expected, 1e-9 * expected) << n << " " << i;
      }
    }
  }
}

TEST(Elevate, ComposesAndIsLinear) {
  // Through M = 40 and by one weight at a time: other branches of the code, the same numbers.
  std::mt19937_64 engine(2);
  const auto weights = random_weights(12, engine);
  const auto direct = elevate(weights, 300), twice = elevate(elevate(weights, 40), 300);
  std::vector<double> added(300);
  for (std::int64_t i = 1; i <= 12; ++i) {
    const auto one = elevate(certain(12, i), 300);
    for (std::size_t j = 0; j < 300; ++j) added[j] += weights[static_cast<std::size_t>(i - 1)] * one[j];
  }
  for (std::size_t j = 0; j < 300; ++j) {
    EXPECT_NEAR(direct[j], twice[j], 1e-15);
    EXPECT_NEAR(direct[j], added[j], 1e-15);
  }
}

TEST(Elevate, KeepsTheSumAndTheWeightsThemselves) {
  EXPECT_EQ(elevate(std::vector<double>{0.25, 0, 0.5}, 3), (std::vector<double>{0.25, 0, 0.5}));
  EXPECT_NEAR(sum(elevate(std::vector<double>{0.25, 0, 0.5}, 1'000)), 0.75, 1e-13);
  for (double weight : elevate(std::vector<double>{1}, 8)) EXPECT_EQ(weight, 1.0 / 8);
  for (double weight : elevate(std::vector<double>{0, 0}, 5)) EXPECT_EQ(weight, 0);
}

TEST(Elevate, NeedsAsManySamplesAsWeights) {
  EXPECT_THROW(elevate(std::vector<double>{0.5, 0.5}, 1), std::invalid_argument);
  EXPECT_THROW(elevate(std::vector<double>{1}, 0), std::invalid_argument);
}

TEST(BernsteinPolynomial, ReproducesConstantsAndLines) {
  for (std::size_t degree : {0u, 1u, 2u, 31u, 1024u}) {
    std::vector<double> line(degree + 1);
    for (std::size_t k = 0; k <= degree; ++k)
      line[k] = 2 - 3 * static_cast<double>(k) / static_cast<double>(std::max<std::size_t>(degree, 1));
    const BernsteinPolynomial constant(std::vector<double>(degree + 1, 7.0)), polynomial(line);
    for (double q : {0.0, 1e-9, 0.1, 0.5, 0.77, 1 - 1e-9, 1.0}) {
      EXPECT_NEAR(constant(q), 7, 1e-11) << degree << " " << q;
      EXPECT_NEAR(polynomial(q), degree == 0 ? 2 : 2 - 3 * q, 1e-11) << degree << " " << q;
    }
  }
}

TEST(BernsteinPolynomial, KeepsRelativeAccuracyInTheTails) {
  // q^1024 at 0.5 is 5.6e-309: still a number.
  std::vector<double> last(1025);
  last.back() = 1;
  const BernsteinPolynomial power(last);
  EXPECT_NEAR(power(0.9) / std::pow(0.9, 1024), 1, 1e-11);
  EXPECT_NEAR(power(0.6) / std::pow(0.6, 1024), 1, 1e-11);
  EXPECT_EQ(power(0), 0);
  EXPECT_EQ(power(1), 1);
  EXPECT_EQ(BernsteinPolynomial({0, 0, 0})(0.3), 0);
  EXPECT_THROW(BernsteinPolynomial({}), std::invalid_argument);
}

TEST(RankDensity, IsThatOfTheOrderStatistics) {
  for (double q : {0.0, 0.2, 0.5, 1.0}) {
    EXPECT_NEAR(rank_density(certain(4, 4))(q), 4 * q * q * q, 1e-14);
    EXPECT_NEAR(rank_density(certain(4, 2))(q), 12 * q * (1 - q) * (1 - q), 1e-14);
    EXPECT_NEAR(rank_cumulative(certain(4, 4))(q), q * q * q * q, 1e-14);
    EXPECT_NEAR(rank_cumulative(certain(2, 1))(q), 1 - (1 - q) * (1 - q), 1e-14);
    EXPECT_NEAR(rank_density(std::vector<double>{1})(q), 1, 1e-15);
  }
  EXPECT_EQ(rank_cumulative(std::vector<double>(7, 1.0 / 7))(1), 1);
}

}  // namespace
}  // namespace infalign::alignment
