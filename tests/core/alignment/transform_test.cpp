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
  EXPECT_EQ(transform_names().size(), 12u);
  for (const std::string& name : transform_names()) EXPECT_EQ(transform_name(transform_kind(name)), name);
  EXPECT_THAT(
      [] { transform_kind("exp"); },
      testing::ThrowsMessage<std::invalid_argument>(testing::HasSubstr(
          "\"exp\"; known: identity, log, exponential, power, logit, normal, truncated, points, optimal, "
          "leave_one_out, raw, zscore")));
}

TEST(TransformNames, SayWhatTheTransformSees) {
  EXPECT_FALSE(is_calibrated(TransformKind::kRaw));
  EXPECT_FALSE(is_calibrated(TransformKind::kZScore));
  EXPECT_FALSE(is_calibrated(TransformKind::kLeaveOneOut));
  EXPECT_TRUE(is_calibrated(TransformKind::kLog));
  EXPECT_TRUE(depends_on_beta(TransformKind::kOptimal));
  EXPECT_FALSE(depends_on_beta(TransformKind::kExponential));
  EXPECT_THROW(make_transform({.kind = TransformKind::kRaw}, kBest, 1), std::invalid_argument);
  EXPECT_THROW(make_transform({.kind = TransformKind::kZScore}, kBest, 1), std::invalid_argument);
}

TEST(Transforms, RiseOnTheWholeInterval) {
  for (const Procedure& procedure : {make_procedure("standard", 1), kBest, kWorst}) {
    for (TransformKind kind : {TransformKind::kIdentity, TransformKind::kLog, TransformKind::kExponential,
                               TransformKind::kPower, TransformKind::kLogit, TransformKind::kNormal,
                               TransformKind::kTruncated, TransformKind::kPoints, TransformKind::kOptimal}) {
      for (double exponent : {-10.0, 10.0}) {
        for (bool normalised : {true, false}) {
          const auto phi = make_transform({.kind = kind,
                                           .exponent = exponent,
                                           .cut = 0.3,
                                           .points = {0, -1, 0.2, 0, 0.9, 0.5, 1, 7},
                                           .rollouts = 64,
                                           .normalised = normalised},
                                          procedure, 0.2);
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

TEST(Power, IsTheSmallKlLimitForEveryDeployment) {
  const Deployment against_one(make_procedure("best_of_n", 8), make_procedure("standard", 1));
  const Deployment mixture(std::vector<Matchup>{{0.5, kBest, kBest}, {0.5, kWorst, kWorst}});
  ProcedureSettings above;
  above.name = "above_quantile";
  above.quantile = 0.75;  // a density that jumps
  for (const Deployment& deployment : {Deployment(make_procedure("median_of_n", 5)), against_one, mixture,
                                       Deployment(make_procedure(above))}) {
    constexpr double kBeta = 1e5;
    const auto power = make_transform({.kind = TransformKind::kPower, .normalised = false}, deployment, 1);
    const auto optimal = make_transform({.kind = TransformKind::kOptimal}, deployment, kBeta);
    for (double u = 0; u <= 1; u += 0.05)
      EXPECT_NEAR(optimal(u), power(u), 1e-4 * (1 + power(1))) << deployment.name() << " " << u;
    EXPECT_EQ(make_transform({.kind = TransformKind::kPower}, deployment, 1)(1), 1);
  }
  EXPECT_THROW(make_transform({.kind = TransformKind::kPower}, make_procedure("majority_vote", 3), 1),
               std::invalid_argument);
}

TEST(LogitAndNormal, AreTheInversesOfTheirDistributions) {
  const auto logit = make_transform({.kind = TransformKind::kLogit}, kBest, 1);
  const auto normal = make_transform({.kind = TransformKind::kNormal}, kBest, 1);
  for (double u : {1e-300, 1e-12, 1e-3, 0.2, 0.5, 0.7, 0.999, 1 - 1e-9}) {
    EXPECT_NEAR(1 / (1 + std::exp(-logit(u))), u, 1e-14 * (1 + u));
    EXPECT_NEAR(0.5 * std::erfc(-normal(u) / std::sqrt(2)), u, 1e-13 * u) << u;
  }
  EXPECT_NEAR(normal(0.5), 0, 1e-15);
  EXPECT_NEAR(normal(0.975), 1.959963984540054, 1e-13);
}

TEST(LogitAndNormal, UseRanksThatAreNeverTheEnds) {
  for (TransformKind kind : {TransformKind::kLogit, TransformKind::kNormal}) {
    const auto phi = make_transform({.kind = kind, .rollouts = 8}, kBest, 1);
    EXPECT_TRUE(std::isfinite(phi(0)));
    for (int i = 0; i <= 8; ++i) EXPECT_NEAR(phi(i / 8.0), -phi(1 - i / 8.0), 1e-14);
  }
}

TEST(Truncated, IsFlatAndThenRises) {
  const auto phi = make_transform({.kind = TransformKind::kTruncated, .cut = 0.75}, kBest, 1);
  EXPECT_EQ(phi(0.6), 0);
  EXPECT_DOUBLE_EQ(phi(0.875), 0.5);
  EXPECT_EQ(phi(1), 1);
  EXPECT_DOUBLE_EQ(
      make_transform({.kind = TransformKind::kTruncated, .cut = 0.75, .normalised = false}, kBest, 1)(1),
      0.25);
  EXPECT_THROW(make_transform({.kind = TransformKind::kTruncated, .cut = 1}, kBest, 1),
               std::invalid_argument);
}

TEST(Points, AreMetAndNormalised) {
  const std::vector<double> points{0, 2, 0.25, 3, 0.5, 3, 1, 6};
  const auto raw =
      make_transform({.kind = TransformKind::kPoints, .points = points, .normalised = false}, kBest, 1);
  for (std::size_t i = 0; i < points.size(); i += 2) EXPECT_DOUBLE_EQ(raw(points[i]), points[i + 1]);
  EXPECT_DOUBLE_EQ(raw(0.3), 3);  // flat between equal points
  const auto phi = make_transform({.kind = TransformKind::kPoints, .points = points}, kBest, 1);
  for (double u = 0; u <= 1; u += 0.01) EXPECT_NEAR(phi(u), (raw(u) - 2) / 4, 1e-15);
  for (const std::vector<double>& bad : {std::vector<double>{},
                                         {0, 1},
                                         {0, 1, 1},
                                         {0, 1, 0.9, 2},
                                         {0.1, 1, 1, 2},
                                         {0, 1, 1, 1},
                                         {0, 2, 1, 1}}) {
    EXPECT_THROW(make_transform({.kind = TransformKind::kPoints, .points = bad}, kBest, 1),
                 std::invalid_argument);
  }
}

TEST(DebiasedExponential, HasTheExpectationThatThePlugInMisses) {
  for (std::int64_t K : {8, 64}) {
    for (double t : {-5.0, -1.0, 0.5, 3.0}) {
      const auto table = debiased_exponential(t, K);
      ASSERT_EQ(table.size(), static_cast<std::size_t>(K + 1));
      for (double C : {0.0, 0.1, 0.5, 0.93, 1.0}) {
        double debiased = 0, plug_in = 0;
        const auto k = static_cast<double>(K);
        for (std::int64_t m = 0; m <= K; ++m) {
          const auto x = static_cast<double>(m);
          const double choose = std::exp(std::lgamma(k + 1) - std::lgamma(x + 1) - std::lgamma(k - x + 1));
          const double binomial = choose * std::pow(C, x) * std::pow(1 - C, k - x);
          debiased += binomial * table[static_cast<std::size_t>(m)];
          plug_in += binomial * std::exp(t * x / k);
        }
        // What the series leaves out: less than |t|^(K+1)/(K+1)! e^|t|.
        const double left = std::exp((k + 1) * std::log(std::abs(t)) - std::lgamma(k + 2) + std::abs(t));
        EXPECT_NEAR(debiased, std::exp(t * C), 1e-12 * std::exp(std::abs(t)) + left)
            << K << " " << t << " " << C;
        EXPECT_NEAR(plug_in, std::pow(1 - C + C * std::exp(t / k), k), 1e-11 * std::exp(std::abs(t)));
      }
    }
  }
  EXPECT_THROW(debiased_exponential(1, 0), std::invalid_argument);
}

TEST(DebiasedExponential, IsATransformLikeThePlainOne) {
  const auto phi = make_transform(
      {.kind = TransformKind::kExponential, .exponent = 5, .rollouts = 1 << 14, .debiased = true}, kBest, 1);
  const auto plain = make_transform({.kind = TransformKind::kExponential, .exponent = 5}, kBest, 1);
  for (double u = 0; u <= 1; u += 0.01) EXPECT_NEAR(phi(u), plain(u), 2e-3);
  EXPECT_EQ(phi(0), 0);
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
