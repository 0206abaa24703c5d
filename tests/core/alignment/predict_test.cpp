// Predictions at a KL, and of transforms whose closed forms theory_test.cpp leaves out.
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "core/alignment/theory.h"
#include "core/alignment/transform.h"

namespace infalign::alignment {
namespace {

TransformAt transform_at(const TransformSettings& settings, const Deployment& deployment) {
  return [=](double beta) { return make_transform(settings, deployment, beta); };
}

TransformSettings exponential(double exponent) {
  TransformSettings settings;
  settings.kind = TransformKind::kExponential;
  settings.exponent = exponent;
  return settings;
}

TEST(Predict, FindsTheOptimalTransformFromTheFixedPointItself) {
  const Procedure best = make_procedure("best_of_n", 4), median = make_procedure("median_of_n", 5);
  const Deployment against_one(best, make_procedure("standard", 1));
  for (const Deployment& deployment : {Deployment(best), Deployment(median), against_one}) {
    TransformSettings optimal;
    optimal.kind = TransformKind::kOptimal;
    const Prediction direct = predict_optimal_at_kl(deployment, 0.5);
    const Prediction through_table = predict_at_kl(transform_at(optimal, deployment), deployment, 0.5);
    EXPECT_NEAR(direct.kl, 0.5, 1e-10) << deployment.name();
    EXPECT_NEAR(direct.beta, through_table.beta, 1e-8) << deployment.name();
    EXPECT_NEAR(direct.inference_win_rate, through_table.inference_win_rate, 1e-8) << deployment.name();
    EXPECT_NEAR(direct.standard_win_rate, through_table.standard_win_rate, 1e-8) << deployment.name();
    EXPECT_NEAR(direct.density_at_0, through_table.density_at_0, 1e-6) << deployment.name();
    EXPECT_NEAR(direct.density_at_1, through_table.density_at_1, 1e-6) << deployment.name();
  }
}

TEST(Predict, MatchesTheExponentialIntegralsOfAnExponential) {
  // With x = e^(tu)/(beta t) and u = log(beta t x)/t: Z = (Ei(b e^t) - Ei(b))/t, b = 1/beta, E[Phi] from
  // d log Z/db.
  for (double t : {0.7, 2.0, 3.0}) {
    for (double beta : {0.5, 2.0, 9.0}) {
      TransformSettings settings = exponential(t);
      settings.normalised = false;
      const OptimalPolicy policy(make_transform(settings, make_procedure("standard", 1), beta), beta);
      const double b = 1 / beta, top = b * std::exp(t);
      const double Z = (std::expint(top) - std::expint(b)) / t;
      const double mean = (std::exp(top) - std::exp(b)) / (t * b) / Z;
      EXPECT_NEAR(policy.kl(), b * mean - std::log(Z), 1e-9 * top) << t << " " << beta;
      EXPECT_NEAR(policy.cumulative(0.6), (std::expint(b * std::exp(0.6 * t)) - std::expint(b)) / (t * Z),
                  1e-9)
          << t << " " << beta;
    }
  }
}

TEST(BetaAtKl, GetsPastBetasThatAreTooSmall) {
  // -e^(-40u) is nearly flat: a KL of 0.5 needs a beta of 1e-7, and at 1e-8 it can no longer be integrated.
  const Procedure procedure = make_procedure("worst_of_n", 4);
  const auto at = transform_at(exponential(-40), procedure);
  EXPECT_NEAR(predict_at_kl(at, procedure, 0.5).kl, 0.5, 1e-9);
  EXPECT_THROW(predict_at_kl(at, procedure, 2), std::runtime_error);
}

TEST(BetaAtKl, ReturnsTheSameWhereverItStarts) {
  const auto kl_at = [](double beta) { return 1 / (beta + beta * beta); };
  for (double start : {1e-6, 0.1, 1e6})
    EXPECT_NEAR(beta_at_kl(kl_at, 0.5, {start, 1e-12}), 1, 1e-10) << start;
}

}  // namespace
}  // namespace infalign::alignment
