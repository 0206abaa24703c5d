#include "core/alignment/transform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

const Procedure kBest = make_procedure("best_of_n", 4), kWorst = make_procedure("worst_of_n", 4);

std::function<double(double)> exponential(double t, bool normalised = true) {
  return make_transform({.kind = TransformKind::kExponential, .exponent = t, .normalised = normalised}, kBest,
                        1);
}

TEST(TransformNames, ComeBack) {
  EXPECT_EQ(transform_names().size(), 7u);
  for (const std::string& name : transform_names()) EXPECT_EQ(transform_name(transform_kind(name)), name);
  EXPECT_THAT([] { transform_kind("exp"); },
              testing::ThrowsMessage<std::invalid_argument>(testing::HasSubstr(
                  "\"exp\"; known: identity, log, exponential, power, optimal, raw, zscore")));
}

TEST(TransformNames, SayWhatTheTransformSees) {
  EXPECT_FALSE(is_calibrated(TransformKind::kRaw));
  EXPECT_FALSE(is_calibrated(TransformKind::kZScore));
  EXPECT_TRUE(is_calibrated(TransformKind::kLog));
  EXPECT_TRUE(depends_on_beta(TransformKind::kOptimal));
  EXPECT_FALSE(depends_on_beta(TransformKind::kExponential));
  EXPECT_THROW(make_transform({.kind = TransformKind::kRaw}, kBest, 1), std::invalid_argument);
  EXPECT_THROW(make_transform({.kind = TransformKind::kZScore}, kBest, 1), std::invalid_argument);
}

TEST(Transforms, RiseOnTheWholeInterval) {
  for (const Procedure& procedure : {make_procedure("standard", 1), kBest, kWorst}) {
    for (TransformKind kind : {TransformKind::kIdentity, TransformKind::kLog, TransformKind::kExponential,
                               TransformKind::kPower, TransformKind::kOptimal}) {
      for (double exponent : {-10.0, 10.0}) {
        for (bool normalised : {true, false}) {
          const auto phi = make_transform({kind, exponent, 64, normalised}, procedure, 0.2);
          double previous = phi(0);
          EXPECT_TRUE(std::isfinite(previous));
          for (int i = 1; i <= 1000; ++i) {
            const double value = phi(i / 1000.0);
            ASSERT_LE(previous, value + 1e-15) << transform_name(kind) << " " << i;
            previous = value;
          }
          EXPECT_LT(phi(0), phi(1)) << transform_name(kind);
        }
      }
    }
  }
}

TEST(Log, UsesRanksWhenRolloutsAreGiven) {
  const auto ranked = make_transform({.kind = TransformKind::kLog, .rollouts = 64}, kBest, 1);
  for (int i = 0; i <= 64; ++i) EXPECT_NEAR(ranked(i / 64.0), std::log((i + 1) / 65.0), 1e-14);
  EXPECT_EQ(ranked(1), 0);
  const auto exact = make_transform({.kind = TransformKind::kLog}, kBest, 1);
  EXPECT_EQ(exact(0), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(exact(0.3), std::log(0.3));
  EXPECT_THROW(make_transform({.kind = TransformKind::kLog, .rollouts = -1}, kBest, 1),
               std::invalid_argument);
}

TEST(Exponential, IsNormalisedExactlyAtBothEnds) {
  for (double t : {-1000.0, -10.0, -1e-9, 1e-9, 0.3, 10.0, 1000.0}) {
    EXPECT_EQ(exponential(t)(0), 0) << t;
    EXPECT_EQ(exponential(t)(1), 1) << t;
  }
}

TEST(Exponential, IsTheFormulaForBothSigns) {
  for (double u : {0.0, 0.1, 0.5, 0.99, 1.0}) {
    for (double t : {0.5, 5.0, 10.0}) {
      EXPECT_NEAR(exponential(t)(u), (std::exp(t * u) - 1) / (std::exp(t) - 1), 1e-15);
      EXPECT_NEAR(exponential(-t)(u), (1 - std::exp(-t * u)) / (1 - std::exp(-t)), 1e-15);
      EXPECT_DOUBLE_EQ(exponential(t, false)(u), std::exp(t * u));
      EXPECT_DOUBLE_EQ(exponential(-t, false)(u), -std::exp(-t * u));
    }
    EXPECT_NEAR(exponential(1e-9)(u), u, 1e-8);
    EXPECT_NEAR(exponential(2000)(u), u == 1 ? 1 : 0, 1e-8);
  }
}

TEST(Exponential, RefusesWhatDoesNotRiseOrOverflows) {
  EXPECT_THROW(exponential(0), std::invalid_argument);
  EXPECT_THROW(exponential(std::nan("")), std::invalid_argument);
  EXPECT_THROW(exponential(1000, false), std::invalid_argument);
}

TEST(Power, IsTheSmallKlLimitOfTheFixedPoint) {
  // For beta to infinity p is uniform, so Phi' = h(u)^2: Phi -> N^2/(2N - 1) u^(2N - 1), and the mirror
  // image.
  for (const Procedure& procedure : {kBest, kWorst}) {
    const auto power = make_transform({.kind = TransformKind::kPower}, procedure, 1);
    const auto optimal = make_transform({.kind = TransformKind::kOptimal}, procedure, 1e5);
    for (double u = 0; u <= 1; u += 0.05)
      EXPECT_NEAR(optimal(u), 16.0 / 7 * power(u), 1e-4) << procedure.name << u;
  }
  const auto raw = make_transform({.kind = TransformKind::kPower, .normalised = false}, kWorst, 1);
  EXPECT_DOUBLE_EQ(raw(0), -1);
  EXPECT_DOUBLE_EQ(raw(0.5), -std::pow(0.5, 7));
  EXPECT_EQ(raw(1), 0);
}

TEST(Optimal, IsTheSolversCurveAndExactAtTheEnds) {
  for (const Procedure& procedure : {kBest, kWorst}) {
    for (double beta : {1e-3, 0.1, 1.0, 100.0}) {
      const FixedPoint point = solve_fixed_point(procedure, beta);
      const auto phi = make_transform({.kind = TransformKind::kOptimal}, procedure, beta);
      EXPECT_EQ(phi(0), 0);
      EXPECT_EQ(phi(1), point.phi.back());
      EXPECT_EQ(phi(-1e-9), phi(0));
      EXPECT_EQ(phi(1 + 1e-9), phi(1));
      for (std::size_t i = 0; i < point.u.size(); ++i) EXPECT_EQ(phi(point.u[i]), point.phi[i]);
      EXPECT_TRUE(std::isnan(phi(std::nan(""))));
    }
  }
}

TEST(Optimal, IsTheIdentityForOrdinarySampling) {
  const auto phi = make_transform({.kind = TransformKind::kOptimal}, make_procedure("standard", 1), 0.1);
  for (double u = 0; u <= 1; u += 0.01) EXPECT_NEAR(phi(u), u, 1e-15);
}

TEST(Optimal, NeedsAPositiveBeta) {
  EXPECT_THROW(make_transform({.kind = TransformKind::kOptimal}, kBest, 0), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
