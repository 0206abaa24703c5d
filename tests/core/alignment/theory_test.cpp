#include "core/alignment/theory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/alignment/shooting.h"
#include "core/alignment/transform.h"

namespace infalign::alignment {
namespace {

using Curve = std::function<double(double)>;

std::function<Curve(double)> transform_at(TransformKind kind, const Procedure& procedure,
                                          double exponent = 10) {
  return [=](double beta) { return make_transform({.kind = kind, .exponent = exponent}, procedure, beta); };
}

/// Every calibrated procedure of the registry, with settings of some kind.
std::vector<Procedure> each_calibrated_procedure() {
  std::vector<Procedure> procedures;
  for (const std::string& name : procedure_names()) {
    ProcedureSettings settings;
    settings.name = name;
    settings.n = 5;
    settings.k = 4;
    settings.strength = 3;
    settings.weights = {0.5, 0, 0, 0.25, 0.25};
    settings.quantile = 0.6;
    if (Procedure made = make_procedure(settings); made.is_calibrated())
      procedures.push_back(std::move(made));
  }
  ProcedureSettings population;
  population.name = "above_quantile";
  population.quantile = 0.75;
  procedures.push_back(make_procedure(population));
  return procedures;
}

TEST(OptimalPolicy, MatchesTheClosedFormsOfIdentity) {
  for (double beta : {1e-4, 1e-3, 0.02, 0.1, 0.5, 1.0, 7.0, 100.0}) {
    const OptimalPolicy policy([](double u) { return u; }, beta);
    const double b = 1 / beta;
    const double win_rate = 1 / -std::expm1(-b) - beta;
    EXPECT_NEAR(policy.win_rate(make_procedure("standard", 1)), win_rate, 1e-11 * std::max(1.0, beta))
        << beta;
    // KL = bW - log((e^b - 1)/b), with the maximum b shifted out of both terms.
    EXPECT_NEAR(policy.kl(), b * (win_rate - 1) - std::log(-std::expm1(-b) / b), 1e-10) << beta;
    for (double u : {0.0, 0.2, 0.5, 0.9, 1.0}) {
      EXPECT_NEAR(policy.cumulative(u), std::exp(b * (u - 1)) * std::expm1(-b * u) / std::expm1(-b), 1e-11)
          << beta;
      EXPECT_NEAR(policy.density(u), std::exp(b * (u - 1)) * b / -std::expm1(-b), 1e-9 * b + 1e-11) << beta;
    }
  }
}

TEST(OptimalPolicy, MatchesTheClosedFormsOfLog) {
  for (double beta : {1e-3, 0.05, 1.0 / 3, 1.0, 10.0, 1e3}) {
    const OptimalPolicy policy([](double u) { return std::log(u); }, beta);
    const double m = 1 + 1 / beta;
    EXPECT_NEAR(policy.kl(), std::log(m) - (m - 1) / m, 1e-10) << beta;
    EXPECT_NEAR(policy.win_rate(make_procedure("standard", 1)), m / (m + 1), 1e-10) << beta;
    for (std::int64_t n : {2, 4, 16, 64}) {
      EXPECT_NEAR(policy.win_rate(make_procedure("best_of_n", n)), m / (m + 1), 1e-10) << beta << " " << n;
    }
    for (double u : {0.0, 1e-6, 0.3, 0.99, 1.0}) EXPECT_NEAR(policy.cumulative(u), std::pow(u, m), 1e-11);
  }
}

TEST(OptimalPolicy, LogAtBetaOneThirdIsBestOfFour) {
  // M = 1 + 1/beta = 4 is exactly the Best-of-4 policy; against it, ordinary sampling from the reference is
  // one of five.
  const OptimalPolicy policy([](double u) { return std::log(u); }, 1.0 / 3);
  EXPECT_NEAR(policy.win_rate(Deployment(make_procedure("standard", 1), make_procedure("best_of_n", 4))), 0.5,
              1e-10);
  EXPECT_NEAR(policy.win_rate(Deployment(make_procedure("best_of_n", 3), make_procedure("best_of_n", 12))),
              0.5, 1e-10);
  EXPECT_NEAR(policy.win_rate(Deployment(make_procedure("best_of_n", 2), make_procedure("standard", 1))),
              8.0 / 9, 1e-10);
}

TEST(OptimalPolicy, IgnoresConstantsAndIsTheReferenceForAConstant) {
  const Curve phi = [](double u) { return std::exp(3 * u); };
  const OptimalPolicy policy(phi, 0.7), shifted([&](double u) { return phi(u) - 1e6; }, 0.7),
      flat([](double) { return 4.0; }, 0.1);
  EXPECT_NEAR(policy.kl(), shifted.kl(), 1e-8);
  EXPECT_NEAR(flat.kl(), 0, 1e-15);
  for (const Procedure& procedure : each_calibrated_procedure())
    EXPECT_NEAR(flat.win_rate(procedure), 0.5, 1e-12) << procedure.name;
}

TEST(OptimalPolicy, SurvivesUnnormalisedTransforms) {
  // exp(10u)/beta spans two million nats: all of p lies within 1e-7 of u = 1.
  const OptimalPolicy policy([](double u) { return std::exp(10 * u); }, 0.01);
  EXPECT_NEAR(policy.cumulative(1 - 1e-5), 0, 1e-9);
  EXPECT_NEAR(policy.kl(), std::log(10 * std::exp(10) / 0.01) - 1,
              1e-5);  // p is nearly exponential at its end
}

TEST(OptimalPolicy, RefusesWhatIsNoTransform) {
  EXPECT_THROW(OptimalPolicy([](double u) { return u; }, 0), std::invalid_argument);
  EXPECT_THROW(OptimalPolicy([](double u) { return u; }, std::nan("")), std::invalid_argument);
  EXPECT_THROW(OptimalPolicy([](double u) { return std::log(u - 0.5); }, 1), std::domain_error);
  EXPECT_THROW(OptimalPolicy([](double u) { return 1 / (1 - u); }, 1), std::domain_error);
}

struct PaperCase {
  const char* procedure;
  TransformKind transform;
  double exponent;
  double win_rate;  // method, section 6: at KL 0.5, N = 4
};

class WinRateAtKlOneHalf : public testing::TestWithParam<PaperCase> {};

TEST_P(WinRateAtKlOneHalf, IsTheMethodsNumberToFourDecimals) {
  const PaperCase& expected = GetParam();
  const Procedure procedure = make_procedure(expected.procedure, 4);
  const auto at = transform_at(expected.transform, procedure, expected.exponent);
  const Prediction reached = predict_at_kl(at, procedure, 0.5);
  EXPECT_NEAR(reached.inference_win_rate, expected.win_rate, 5e-5);
  EXPECT_NEAR(reached.kl, 0.5, 1e-9);
  const Prediction again = predict(at, procedure, reached.beta);
  EXPECT_EQ(again.kl, reached.kl);
  EXPECT_EQ(again.inference_win_rate, reached.inference_win_rate);
}

INSTANTIATE_TEST_SUITE_P(Method, WinRateAtKlOneHalf,
                         testing::Values(PaperCase{"best_of_n", TransformKind::kIdentity, 0, .7998},
                                         PaperCase{"best_of_n", TransformKind::kLog, 0, .7682},
                                         PaperCase{"best_of_n", TransformKind::kExponential, 5, .8566},
                                         PaperCase{"best_of_n", TransformKind::kExponential, 10, .8715},
                                         PaperCase{"best_of_n", TransformKind::kOptimal, 0, .8733},
                                         PaperCase{"worst_of_n", TransformKind::kIdentity, 0, .8860},
                                         PaperCase{"worst_of_n", TransformKind::kLog, 0, .9270},
                                         PaperCase{"worst_of_n", TransformKind::kExponential, -10, .9476},
                                         PaperCase{"worst_of_n", TransformKind::kOptimal, 0, .9479}));

struct FixedPointCase {
  const char* procedure;
  std::int64_t n;
};
void PrintTo(const FixedPointCase& c, std::ostream* out) { *out << c.procedure << " N=" << c.n; }

constexpr double kBetas[] = {1e-4, 1e-3, 0.01, 0.1, 0.5, 1, 10, 1e3};

class FixedPoints : public testing::TestWithParam<FixedPointCase> {
 protected:
  const Procedure procedure_ = make_procedure(GetParam().procedure, GetParam().n);
  const bool worst_ = procedure_.name == "worst_of_n";
};

/// Where a uniform grid resolves the fixed point, and every other transform reaches its KL.
class FixedPointsOfModestN : public FixedPoints {};

TEST_P(FixedPoints, SatisfyTheIdentityOfTheWinRate) {
  const auto n = static_cast<double>(procedure_.n);
  for (double beta : kBetas) {
    const FixedPoint point = solve_fixed_point(procedure_, beta);
    EXPECT_LT(point.residual, 1e-10) << beta;
    // The table alone, through the quadrature that knows nothing of the solver.
    const OptimalPolicy policy(make_transform({.kind = TransformKind::kOptimal}, procedure_, beta), beta);
    const double identity =
        worst_ ? 1 - beta / n * (1 - policy.density(0)) : beta / n * (policy.density(1) - 1);
    EXPECT_NEAR(policy.win_rate(procedure_), identity, 1e-7) << beta;
    EXPECT_NEAR(policy.win_rate(procedure_), point.inference_win_rate, 1e-8) << beta;
    EXPECT_NEAR(policy.kl(), point.kl, 2e-8) << beta;
    EXPECT_NEAR(policy.density(0), point.density_at_0, 1e-7 * (1 + point.density_at_0)) << beta;
    EXPECT_NEAR(policy.density(1), point.density_at_1, 1e-7 * point.density_at_1) << beta;
  }
}

TEST_P(FixedPoints, SatisfyTheConditionOfTheFixedPoint) {
  // Phi(b) - Phi(a) = integral of h(u) h(G(u)) from one knot to the next: G from the quadrature, the integral
  // by Simpson's rule.
  for (double beta : {0.05, 0.4, 3.0}) {
    const FixedPoint point = solve_fixed_point(procedure_, beta);
    const OptimalPolicy policy(make_transform({.kind = TransformKind::kOptimal}, procedure_, beta), beta);
    const auto slope = [&](double u) {
      return procedure_.density(u) * procedure_.density(policy.cumulative(u));
    };
    for (std::size_t i = 1; i < point.u.size(); ++i) {
      const double a = point.u[i - 1], b = point.u[i];
      const double integral = (b - a) / 6 * (slope(a) + 4 * slope((a + b) / 2) + slope(b));
      ASSERT_NEAR(point.phi[i] - point.phi[i - 1], integral, 1e-8 * (1 + point.phi.back()))
          << beta << " " << a;
      ASSERT_NEAR(point.slope[i], slope(b), 1e-6 * (1 + slope(b))) << beta << " " << b;
    }
  }
}

TEST_P(FixedPointsOfModestN, AgreeWithDampedMirrorAscent) {
  // The textbook solver, on a uniform grid: log p <- (1 - step) log p + step Phi[p]/beta. Its trapezoids
  // leave errors of the order of (N/cells)^2.
  constexpr int kCells = 1'000;
  const auto n = static_cast<double>(procedure_.n);
  for (double beta : {0.3, 2.0}) {
    std::vector<double> log_p(kCells + 1), cumulative(kCells + 1), phi(kCells + 1);
    const double step = std::min(0.5, beta) / n, width = 1.0 / kCells;
    double mass = 0, change = 1;
    for (int iteration = 0; iteration < 5'000 && change > 1e-12; ++iteration) {
      for (std::size_t k = 1; k <= kCells; ++k) {
        cumulative[k] = cumulative[k - 1] + 0.5 * width * (std::exp(log_p[k - 1]) + std::exp(log_p[k]));
      }
      mass = cumulative.back();
      const auto slope = [&](std::size_t k) {
        return procedure_.density(static_cast<double>(k) * width) * procedure_.density(cumulative[k] / mass);
      };
      double previous = slope(0);
      for (std::size_t k = 1; k <= kCells; ++k) {
        const double next = slope(k);
        phi[k] = phi[k - 1] + 0.5 * width * (previous + next);
        previous = next;
      }
      change = 0;
      for (std::size_t k = 0; k <= kCells; ++k) {
        const double updated = (1 - step) * log_p[k] + step * (phi[k] - phi.back()) / beta;
        change = std::max(change, std::abs(updated - log_p[k]));
        log_p[k] = updated;
      }
    }
    ASSERT_LE(change, 1e-12) << "mirror ascent has not settled";
    const FixedPoint point = solve_fixed_point(procedure_, beta);
    const double tolerance = 10 * n * n / kCells / kCells / std::min(1.0, beta);
    EXPECT_NEAR(std::exp(log_p.front()) / mass, point.density_at_0, tolerance * (1 + point.density_at_0))
        << beta;
    EXPECT_NEAR(std::exp(log_p.back()) / mass, point.density_at_1, tolerance * point.density_at_1) << beta;
    EXPECT_NEAR(phi.back(), point.phi.back(), tolerance * phi.back()) << beta;
  }
}

TEST_P(FixedPoints, AreRisingCurvesFromZero) {
  for (double beta : kBetas) {
    const FixedPoint point = solve_fixed_point(procedure_, beta);
    ASSERT_EQ(point.u.size(), point.phi.size());
    ASSERT_EQ(point.u.size(), point.slope.size());
    EXPECT_EQ(point.u.front(), 0);
    EXPECT_EQ(point.u.back(), 1);
    EXPECT_EQ(point.phi.front(), 0);
    for (std::size_t i = 1; i < point.u.size(); ++i) {
      ASSERT_LT(point.u[i - 1], point.u[i]) << beta;
      ASSERT_LE(point.phi[i - 1], point.phi[i]) << beta;
      ASSERT_GE(point.slope[i], 0) << beta;
    }
  }
}

TEST_P(FixedPointsOfModestN, AreTheBestOfTheirKl) {
  // W - beta KL is maximal at the fixed point, so at the same KL no other transform wins more often.
  for (double beta : {0.3, 3.0}) {
    const FixedPoint optimum = solve_fixed_point(procedure_, beta);
    const double sign = worst_ ? -1 : 1, n = static_cast<double>(procedure_.n);
    std::vector<std::function<Curve(double)>> others{transform_at(TransformKind::kIdentity, procedure_),
                                                     transform_at(TransformKind::kLog, procedure_),
                                                     transform_at(TransformKind::kPower, procedure_)};
    for (double t : {0.5, 1.0, 2.5, 5.0}) {
      others.push_back(transform_at(TransformKind::kExponential, procedure_, sign * t * n));
    }
    for (const auto& other : others) {
      const Prediction reached = predict_at_kl(other, procedure_, optimum.kl);
      EXPECT_LE(reached.inference_win_rate, optimum.inference_win_rate + 1e-9) << beta;
    }
  }
}

constexpr FixedPointCase kModest[] = {{"standard", 1},   {"best_of_n", 1},  {"best_of_n", 2},
                                      {"best_of_n", 4},  {"best_of_n", 16}, {"worst_of_n", 1},
                                      {"worst_of_n", 2}, {"worst_of_n", 4}, {"worst_of_n", 16}};
constexpr FixedPointCase kLarge[] = {
    {"best_of_n", 64}, {"best_of_n", 1024}, {"worst_of_n", 64}, {"worst_of_n", 1024}};
INSTANTIATE_TEST_SUITE_P(Modest, FixedPoints, testing::ValuesIn(kModest));
INSTANTIATE_TEST_SUITE_P(Large, FixedPoints, testing::ValuesIn(kLarge));
INSTANTIATE_TEST_SUITE_P(Modest, FixedPointsOfModestN, testing::ValuesIn(kModest));

std::vector<Deployment> deployments() {
  std::vector<Deployment> all;
  for (const Procedure& procedure : each_calibrated_procedure()) all.emplace_back(procedure);
  const auto best = [](std::int64_t n) { return make_procedure("best_of_n", n); };
  const auto worst = [](std::int64_t n) { return make_procedure("worst_of_n", n); };
  const Procedure standard = make_procedure("standard", 1);
  all.emplace_back(best(8), standard);
  all.emplace_back(best(4), worst(16));
  all.emplace_back(
      std::vector<Matchup>{{0.5, standard, standard}, {0.3, best(4), best(4)}, {0.2, best(16), best(16)}});
  all.emplace_back(std::vector<Matchup>{{0.5, best(4), best(4)}, {0.5, worst(16), worst(16)}});
  return all;
}

TEST(Shooting, AgreesWithTheUniversalCurve) {
  // Two solvers that share nothing but the integrator: one finds the end of a universal curve, one the
  // beginning.
  for (const char* name : {"best_of_n", "worst_of_n"}) {
    for (std::int64_t n : {2, 4, 64, 1024}) {
      const Procedure procedure = make_procedure(name, n);
      for (double beta : kBetas) {
        const FixedPoint one = solve_fixed_point(procedure, beta), other = shoot_fixed_point(procedure, beta);
        const double scale = 1 + one.phi.back();
        EXPECT_NEAR(one.inference_win_rate, other.inference_win_rate, 1e-9) << name << n << " " << beta;
        EXPECT_NEAR(one.kl, other.kl, 1e-8) << name << n << " " << beta;
        EXPECT_NEAR(one.phi.back(), other.phi.back(), 1e-9 * scale) << name << n << " " << beta;
        EXPECT_LT(other.residual, 1e-10) << name << n << " " << beta;
      }
    }
  }
}

TEST(Shooting, SolvesEveryDeployment) {
  for (const Deployment& deployment : deployments()) {
    const Matchup& first = deployment.matchups().front();
    for (double beta : {1e-4, 1e-3, 0.01, 0.1, 0.5, 2.0, 100.0}) {
      const FixedPoint point = solve_fixed_point(deployment, beta);
      EXPECT_LT(point.residual, 1e-9) << deployment.name() << " " << beta;
      // The table alone, through the quadrature that knows nothing of the solver.
      const OptimalPolicy policy(make_transform({.kind = TransformKind::kOptimal}, deployment, beta), beta);
      EXPECT_NEAR(policy.win_rate(deployment), point.inference_win_rate, 1e-7)
          << deployment.name() << " " << beta;
      EXPECT_NEAR(policy.kl(), point.kl, 1e-6 * (1 + point.kl)) << deployment.name() << " " << beta;
      EXPECT_GE(point.inference_win_rate,
                OptimalPolicy([](double) { return 0.0; }, 1).win_rate(deployment) - 1e-9)
          << describe(first.policy);
    }
  }
}

TEST(Shooting, NoCurveNearbyIsBetter) {
  // W - beta KL at the fixed point against policies tilted a little by smooth bumps: the first derivative
  // vanishes and the second is negative, so the difference falls with the square of the tilt.
  for (const Deployment& deployment : deployments()) {
    for (double beta : {0.1, 0.7}) {
      const auto phi = make_transform({.kind = TransformKind::kOptimal}, deployment, beta);
      const auto objective = [&](int bump, double size) {
        const OptimalPolicy policy(
            [&](double u) { return phi(u) + beta * size * std::sin(bump * 3.14159265358979 * u); }, beta);
        return policy.win_rate(deployment) - beta * policy.kl();
      };
      for (int bump : {1, 2, 3, 5}) {
        constexpr double kSize = 1e-3;
        const double here = objective(bump, 0), up = objective(bump, kSize), down = objective(bump, -kSize);
        EXPECT_NEAR((up - down) / (2 * kSize), 0, 2e-6) << deployment.name() << " " << beta << " " << bump;
        EXPECT_LT(up + down - 2 * here, 1e-12) << deployment.name() << " " << beta << " " << bump;
      }
    }
  }
}

TEST(FixedPoint, IsRefusedWhereItIsNotKnown) {
  EXPECT_THROW(solve_fixed_point(make_procedure("retry_until", 4), 0.1), std::invalid_argument);
  EXPECT_THROW(solve_fixed_point(make_procedure("majority_vote", 4), 0.1), std::invalid_argument);
  for (double beta : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(solve_fixed_point(make_procedure("best_of_n", 4), beta), std::invalid_argument);
  }
}

TEST(Predict, FindsTheBetaOfAKl) {
  const Procedure procedure = make_procedure("best_of_n", 4);
  const auto log = transform_at(TransformKind::kLog, procedure);
  for (double m : {1.001, 1.5, 4.0, 50.0}) {
    EXPECT_NEAR(predict_at_kl(log, procedure, std::log(m) - (m - 1) / m).beta, 1 / (m - 1), 1e-6 / (m - 1))
        << m;
  }
}

TEST(Predict, SaysWhereNoBetaReachesTheKl) {
  const Procedure procedure = make_procedure("best_of_n", 4);
  // Flat above 1/2: with beta to 0 the policy becomes uniform there, and KL never exceeds log 2.
  const auto truncated = [](double) { return [](double u) { return std::min(u, 0.5); }; };
  EXPECT_NEAR(predict_at_kl(truncated, procedure, 0.69).kl, 0.69, 1e-9);
  EXPECT_THROW(predict_at_kl(truncated, procedure, 0.7), std::runtime_error);
  EXPECT_THROW(predict_at_kl(truncated, procedure, 0), std::runtime_error);
  EXPECT_THROW(predict_at_kl(truncated, procedure, -1), std::runtime_error);
}

}  // namespace
}  // namespace infalign::alignment
