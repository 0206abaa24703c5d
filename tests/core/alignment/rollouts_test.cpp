#include "core/alignment/rollouts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

TransformSettings transform(TransformKind kind, double exponent = 10) {
  TransformSettings settings;
  settings.kind = kind;
  settings.exponent = exponent;
  return settings;
}

const Procedure kBestOfFour = make_procedure("best_of_n", 4);

TEST(FixedRollouts, CarryAtMostTheHarmonicNumberOfKl) {
  for (std::int64_t K : {1, 2, 8, 64}) {
    const double prompts = std::max(64.0, 131'072.0 / static_cast<double>(K));
    const double five_sigma = 5 * 1.29 / std::sqrt(prompts);  // the variance of -log is below pi^2/6
    double smaller = 0;
    for (double beta : {1.0, 0.1, 0.01, 1e-3, 1e-5}) {
      const double kl =
          rollouts_loss(transform(TransformKind::kIdentity), kBestOfFour, beta, K, Rollouts::kFixed).kl;
      EXPECT_LE(kl, harmonic_number(K) + five_sigma) << K << " " << beta;
      EXPECT_GE(kl, smaller) << K << " " << beta;
      smaller = kl;
    }
    EXPECT_NEAR(smaller, harmonic_number(K), five_sigma) << K;
  }
  EXPECT_NEAR(harmonic_number(4), 25.0 / 12, 1e-15);
}

TEST(FixedRollouts, OneRolloutSplitsTheAnswersInTwo) {
  // As beta vanishes p is uniform above V, V uniform: it beats a fresh answer with chance 1 - (1 - V)/2.
  const auto reached = rollouts_loss(transform(TransformKind::kIdentity), make_procedure("standard", 1), 1e-4,
                                     1, Rollouts::kFixed);
  EXPECT_NEAR(reached.inference_win_rate, 0.75, 5 * 0.145 / std::sqrt(131'072.0));
}

TEST(FixedRollouts, ApproachTheExactCalibration) {
  for (auto kind : {TransformKind::kIdentity, TransformKind::kLog, TransformKind::kExponential,
                    TransformKind::kOptimal}) {
    const auto few = rollouts_loss_at_kl(transform(kind), kBestOfFour, 0.5, 8, Rollouts::kFixed);
    const auto many = rollouts_loss_at_kl(transform(kind), kBestOfFour, 0.5, 4096, Rollouts::kFixed);
    ASSERT_TRUE(few && many) << transform_name(kind);
    EXPECT_GT(few->loss, 0.01) << transform_name(kind);
    EXPECT_NEAR(many->loss, 0, 0.001) << transform_name(kind);
    EXPECT_NEAR(many->kl, 0.5, 1e-4) << transform_name(kind);
  }
}

TEST(FreshRollouts, AverageTheExponentialInClosedForm) {
  const double beta = 0.2;
  for (double t : {-10.0, 3.0, 10.0}) {
    for (std::int64_t K : {1, 8, 100}) {
      const auto average = [t, K](double u) {
        const auto k = static_cast<double>(K);
        return std::pow(1 - u + u * std::exp(t / k), k) / std::expm1(t);
      };
      const OptimalPolicy expected(average, beta);
      const auto reached =
          rollouts_loss(transform(TransformKind::kExponential, t), kBestOfFour, beta, K, Rollouts::kFresh);
      EXPECT_NEAR(reached.kl, expected.kl(), 1e-9) << t << " " << K;
      EXPECT_NEAR(reached.inference_win_rate, expected.win_rate(kBestOfFour), 1e-9) << t << " " << K;
    }
  }
}

TEST(FreshRollouts, LoseNothingOfAStraightLine) {
  for (std::int64_t K : {1, 2, 64}) {
    const auto reached =
        rollouts_loss_at_kl(transform(TransformKind::kIdentity), kBestOfFour, 0.5, K, Rollouts::kFresh);
    ASSERT_TRUE(reached) << K;
    EXPECT_NEAR(reached->loss, 0, 1e-6) << K;
  }
}

TEST(RecommendedRollouts, AreTheFewestThatLoseLittle) {
  for (auto kind : {Rollouts::kFixed, Rollouts::kFresh}) {
    const auto enough = recommended_rollouts(transform(TransformKind::kOptimal), kBestOfFour, 0.5, kind);
    ASSERT_TRUE(enough);
    EXPECT_LE(enough->loss, 0.005);
    EXPECT_GT(enough->rollouts, 8);
    const auto half =
        rollouts_loss_at_kl(transform(TransformKind::kOptimal), kBestOfFour, 0.5, enough->rollouts / 2, kind);
    ASSERT_TRUE(half);
    EXPECT_GT(half->loss, 0.005);
  }
}

TEST(RecommendedRollouts, AreFewerWhenTheyAreFresh) {
  for (const char* name : {"best_of_n", "worst_of_n"}) {
    const Procedure procedure = make_procedure(name, 4);
    const auto fixed =
        recommended_rollouts(transform(TransformKind::kOptimal), procedure, 0.5, Rollouts::kFixed);
    const auto fresh =
        recommended_rollouts(transform(TransformKind::kOptimal), procedure, 0.5, Rollouts::kFresh);
    ASSERT_TRUE(fixed && fresh) << name;
    EXPECT_LT(fresh->rollouts, fixed->rollouts) << name;
  }
}

TEST(RolloutsLoss, SaysWhenAKlIsOutOfReach) {
  EXPECT_GT(3.0, harmonic_number(8));
  EXPECT_FALSE(rollouts_loss_at_kl(transform(TransformKind::kIdentity), kBestOfFour, 3, 8, Rollouts::kFixed));
  EXPECT_TRUE(rollouts_loss_at_kl(transform(TransformKind::kIdentity), kBestOfFour, 3, 64, Rollouts::kFixed));
}

TEST(RolloutsLoss, RefusesWhatHasNoClosedForm) {
  const auto identity = transform(TransformKind::kIdentity);
  EXPECT_THROW(rollouts_loss(identity, kBestOfFour, 0.1, 0, Rollouts::kFixed), std::invalid_argument);
  EXPECT_THROW(rollouts_loss(identity, make_procedure("majority_vote", 4), 0.1, 8, Rollouts::kFixed),
               std::invalid_argument);
  EXPECT_THROW(rollouts_loss(transform(TransformKind::kZScore), kBestOfFour, 0.1, 8, Rollouts::kFresh),
               std::invalid_argument);
  EXPECT_THROW(harmonic_number(0), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
