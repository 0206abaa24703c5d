#include "core/alignment/best_exponential.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/alignment/transform.h"

namespace infalign::alignment {
namespace {

Prediction exponential_at_kl(const Deployment& deployment, double exponent, double kl) {
  TransformSettings settings;
  settings.kind = TransformKind::kExponential;
  settings.exponent = exponent;
  return predict_at_kl([&](double beta) { return make_transform(settings, deployment, beta); }, deployment,
                       kl);
}

TEST(BestExponential, HasTheSignOfItsProcedureAndBeatsItsNeighbours) {
  for (const char* name : {"best_of_n", "worst_of_n"}) {
    const Procedure procedure = make_procedure(name, 4);
    const BestExponential best = best_exponential(procedure, 0.5);
    EXPECT_EQ(best.exponent > 0, procedure.name == "best_of_n");
    EXPECT_NEAR(best.prediction.kl, 0.5, 1e-9);
    for (double ratio : {0.8, 1.25}) {
      EXPECT_LT(exponential_at_kl(procedure, ratio * best.exponent, 0.5).inference_win_rate,
                best.prediction.inference_win_rate)
          << name << " " << ratio;
    }
    const double optimum = predict_optimal_at_kl(procedure, 0.5).inference_win_rate;
    EXPECT_LT(best.prediction.inference_win_rate, optimum) << name;
    EXPECT_GT(best.prediction.inference_win_rate, optimum - 0.001) << name;
  }
}

TEST(BestExponential, IsNearlyStraightForOrdinarySampling) {
  const Procedure standard = make_procedure("standard", 1);
  const BestExponential best = best_exponential(standard, 0.5);
  EXPECT_LT(std::abs(best.exponent), 0.2);
  EXPECT_NEAR(best.prediction.inference_win_rate, predict_optimal_at_kl(standard, 0.5).inference_win_rate,
              1e-5);
}

TEST(BestExponential, CanBeWrittenDownInThreeDigits) {
  const BestExponential best = best_exponential(make_procedure("best_of_n", 4), 0.5);
  EXPECT_EQ(best.exponent, std::round(best.exponent * 10) / 10);  // between 10 and 100
}

TEST(BestExponential, IsRefusedWithoutAClosedForm) {
  EXPECT_THROW(best_exponential(make_procedure("majority_vote", 4), 0.5), std::invalid_argument);
  EXPECT_THROW(best_exponential(make_procedure("best_of_n", 4), -1), std::runtime_error);
}

TEST(SaturationKl, IsWhereTheOptimumPullsAway) {
  const Procedure procedure = make_procedure("best_of_n", 4);
  const auto gap = [&](double kl) {
    return predict_optimal_at_kl(procedure, kl).inference_win_rate -
           exponential_at_kl(procedure, 5, kl).inference_win_rate;
  };
  const auto kl = saturation_kl(procedure, 5, 0.1);
  ASSERT_TRUE(kl);
  EXPECT_LT(gap(*kl / 1.06), 0.01);
  EXPECT_GT(gap(*kl * 1.06), 0.01);
}

TEST(SaturationKl, IsNowhereForASteepExponential) {
  EXPECT_FALSE(saturation_kl(make_procedure("best_of_n", 4), 12.6, 0.5));
}

}  // namespace
}  // namespace infalign::alignment
