#include "core/alignment/procedures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "core/alignment/enumeration.h"

namespace infalign::alignment {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Every calibrated row at several n; with n = 1 above_quantile is the population's.
std::vector<Procedure> calibrated_procedures() {
  std::vector<Procedure> procedures;
  for (const std::string& name : procedure_names()) {
    for (std::int64_t n : {1, 2, 3, 4, 16, 65}) {
      ProcedureSettings settings = settings_of(name, n);
      if (name == "above_quantile") settings.quantile = 0.37;
      if (name == "soft_best_of_n") settings.strength = static_cast<double>(n);
      Procedure procedure = make_procedure(settings);
      if (procedure.is_calibrated()) procedures.push_back(std::move(procedure));
    }
  }
  return procedures;
}

std::vector<double> rank_weights(const std::string& name, std::int64_t n) {
  return make_procedure(settings_of(name, n)).rank_weights;
}

TEST(Procedures, AreFoundByName) {
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(settings_of(name, 4));
    EXPECT_EQ(procedure.name, name);
    EXPECT_FALSE(procedure_meaning(name).empty());
    if (name == "soft_best_of_n") continue;  // draws as many as its strength asks
    EXPECT_EQ(procedure.n, name == "standard" ? 1 : 4) << name;
  }
  EXPECT_THAT([] { make_procedure("best-of-n", 4); },
              testing::ThrowsMessage<std::invalid_argument>(
                  testing::AllOf(HasSubstr("best-of-n"), HasSubstr("standard, best_of_n, worst_of_n"))));
  EXPECT_THROW(procedure_meaning("best-of-n"), std::invalid_argument);
}

TEST(Procedures, RefuseSettingsOutOfRange) {
  const auto refused = [](const std::string& name, auto&& change) {
    ProcedureSettings settings = settings_of(name, 4);
    change(settings);
    EXPECT_THAT([&] { make_procedure(settings); },
                testing::ThrowsMessage<std::invalid_argument>(HasSubstr(name)));
  };
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  refused("best_of_n", [](auto& s) { s.n = 0; });
  refused("kth_of_n", [](auto& s) { s.k = 0; });
  refused("kth_of_n", [](auto& s) { s.k = 5; });
  for (double strength : {0.0, -1.0, 501.0, kNaN})
    refused("soft_best_of_n", [=](auto& s) { s.strength = strength; });
  refused("best_of_random_n", [](auto& s) { s.weights = {}; });
  refused("best_of_random_n", [](auto& s) { s.weights = {0, 0}; });
  refused("best_of_random_n", [](auto& s) { s.weights = {1, -0.5}; });
  refused("best_of_random_n", [](auto& s) { s.weights = {1, kNaN}; });
  for (double quantile : {-0.1, 1.0, kNaN})
    refused("above_quantile", [=](auto& s) { s.quantile = quantile; });
  refused("retry_until", [](auto& s) { s.threshold = kNaN; });
}

TEST(Procedures, DensityIsTheDerivativeOfTheCumulative) {
  for (const Procedure& procedure : calibrated_procedures()) {
    EXPECT_EQ(procedure.cumulative(0), 0) << procedure.name;
    EXPECT_EQ(procedure.cumulative(1), 1) << procedure.name;
    for (double q = 0.025; q < 1; q += 0.05) {
      constexpr double kStep = 1e-3;
      const bool jumps = std::any_of(procedure.breaks.begin(), procedure.breaks.end(),
                                     [q](double b) { return std::abs(b - q) <= 2 * kStep; });
      ASSERT_FALSE(jumps);
      // The stencil's own error is step^4/30 times the fifth derivative, below n^5 or so times h.
      const double n = static_cast<double>(procedure.n), error = 1e-13 * std::pow(n, 5) + 1e-10;
      EXPECT_NEAR(procedure.density(q), derivative(procedure.cumulative, q, kStep), error * (1 + n))
          << describe(procedure) << " " << q;
    }
  }
}

TEST(Procedures, DensityHasIntegralOneBetweenItsBreaks) {
  for (const Procedure& procedure : calibrated_procedures()) {
    std::vector<double> ends{0};
    ends.insert(ends.end(), procedure.breaks.begin(), procedure.breaks.end());
    ends.push_back(1);
    EXPECT_TRUE(std::is_sorted(ends.begin(), ends.end(), std::less_equal<>()));
    double whole = 0;
    for (std::size_t i = 1; i < ends.size(); ++i) {
      constexpr int kPanels = 400;  // Simpson; the ends, where h may jump, are approached from inside
      const double inside = 1e-12, from = ends[i - 1] + inside, step = (ends[i] - inside - from) / kPanels;
      double piece = 0;
      for (int k = 0; k < kPanels; ++k) {
        const double a = from + k * step;
        piece += step / 6 *
                 (procedure.density(a) + 4 * procedure.density(a + step / 2) + procedure.density(a + step));
      }
      EXPECT_NEAR(piece, procedure.cumulative(ends[i]) - procedure.cumulative(ends[i - 1]), 1e-6)
          << describe(procedure);
      whole += piece;
    }
    EXPECT_NEAR(whole, 1, 1e-6) << describe(procedure);
  }
}

TEST(Procedures, SelectionFollowsTheCumulative) {
  // The rank of the answer among uniform candidates: P(rank <= q) = H(q), for procedures whose formulas and
  // rule are written apart. 4,000 draws of exact probabilities, a standard error below 0.008; five of them
  // make a false alarm less likely than 1e-6 for each of about 150 comparisons.
  std::mt19937_64 engine(6);
  std::uniform_real_distribution<float> uniform;
  for (const Procedure& procedure : calibrated_procedures()) {
    if (procedure.rank_weights.empty()) continue;
    double below_a = 0, below_b = 0;
    for (int draw = 0; draw < 4'000; ++draw) {
      std::vector<float> rewards(static_cast<std::size_t>(procedure.n));
      for (float& reward : rewards) reward = uniform(engine);
      const auto probability = procedure.probabilities({rewards});
      for (std::size_t i = 0; i < rewards.size(); ++i) {
        below_a += rewards[i] <= 0.4f ? probability[i] / 4'000 : 0;
        below_b += rewards[i] <= 0.9f ? probability[i] / 4'000 : 0;
      }
    }
    EXPECT_NEAR(below_a, procedure.cumulative(0.4), 0.04) << describe(procedure);
    EXPECT_NEAR(below_b, procedure.cumulative(0.9), 0.04) << describe(procedure);
  }
}

TEST(Procedures, RulesAgreeWithRankWeights) {
  std::mt19937_64 engine(7);
  for (std::int64_t n : {1, 2, 3, 7}) {
    for (const std::string& name : procedure_names()) {
      const Procedure procedure = make_procedure(settings_of(name, n));
      if (procedure.rank_weights.empty()) continue;
      EXPECT_NEAR(std::accumulate(procedure.rank_weights.begin(), procedure.rank_weights.end(), 0.0), 1,
                  1e-12);
      std::vector<std::size_t> rank(static_cast<std::size_t>(procedure.n));
      std::iota(rank.begin(), rank.end(), std::size_t{0});
      std::shuffle(rank.begin(), rank.end(), engine);
      const std::vector<float> reward(rank.begin(), rank.end());
      const auto probability = procedure.probabilities({reward});
      for (std::size_t i = 0; i < rank.size(); ++i)
        EXPECT_NEAR(probability[i], procedure.rank_weights[rank[i]], 1e-13) << name;
    }
  }
}

TEST(Procedures, TiedCandidatesShare) {
  const std::vector<float> rewards{2, 5, -1, 5, -1};
  EXPECT_THAT(make_procedure("best_of_n", 5).probabilities({rewards}), ElementsAre(0, 0.5, 0, 0.5, 0));
  EXPECT_THAT(make_procedure("worst_of_n", 5).probabilities({rewards}), ElementsAre(0, 0, 0.5, 0, 0.5));
  EXPECT_THAT(make_procedure("median_of_n", 5).probabilities({rewards}), ElementsAre(1, 0, 0, 0, 0));
  EXPECT_THAT(make_procedure("kth_of_n", 5).probabilities({rewards}), ElementsAre(0, 0, 0.5, 0, 0.5));
  const std::vector<std::int64_t> answers{7, 8, 9, 8, 7};
  EXPECT_THAT(make_procedure("majority_vote", 5).probabilities({rewards, answers}),
              ElementsAre(0.25, 0.25, 0, 0.25, 0.25));
}

TEST(Procedures, SelectFollowsTheUniformNumber) {
  const std::vector<float> rewards{2, 5, -1, 5, -1};
  const Procedure best = make_procedure("best_of_n", 5);
  EXPECT_EQ(make_procedure("standard", 5).select(rewards), 0u);
  EXPECT_EQ(best.select(rewards), 1u);
  EXPECT_EQ(best.select(rewards, 0.49), 1u);
  EXPECT_EQ(best.select(rewards, 0.51), 3u);
  EXPECT_EQ(best.select(rewards, 1.0), 3u);
  EXPECT_EQ(make_procedure("worst_of_n", 5).select(rewards), 2u);
}

TEST(Procedures, RetryUntilTakesTheFirstThatIsGoodEnough) {
  ProcedureSettings settings = settings_of("retry_until", 4);
  settings.threshold = 3;
  const Procedure retry = make_procedure(settings);
  EXPECT_TRUE(retry.order_matters);
  EXPECT_FALSE(retry.is_calibrated());
  EXPECT_EQ(retry.select(std::vector<float>{1, 3, 9, 4}), 1u);
  EXPECT_EQ(retry.select(std::vector<float>{1, 2, 2.5, -4}), 3u);
}

TEST(Procedures, PassAtNAsksForTheRewardItself) {
  EXPECT_EQ(make_procedure("pass_at_n", 4).value, Value::kReward);
  EXPECT_EQ(make_procedure("best_of_n", 4).value, Value::kWinRate);
}

TEST(Procedures, SoftBestOfNHasItsClosedForm) {
  // Its n candidates and their weights against lambda e^(lambda q)/(e^lambda - 1) and its integral: the ranks
  // of a finite n are a polynomial, which the exponential's series is but for the 1e-12 that is cut off. For
  // the larger lambda that part weighs h by its last N.
  for (double lambda : {0.01, 0.5, 3.0, 10.0, 100.0, 500.0}) {
    ProcedureSettings settings = settings_of("soft_best_of_n", 1);
    settings.strength = lambda;
    const Procedure soft = make_procedure(settings);
    const Procedure ranks = procedure_from_rank_weights("ranks", soft.rank_weights);
    for (double q : {0.0, 0.1, 0.5, 0.9, 0.99, 1.0}) {
      const double density = lambda * std::exp(lambda * (q - 1)) / -std::expm1(-lambda);
      EXPECT_NEAR(soft.density(q), density, 1e-12 * lambda) << lambda << " " << q;
      EXPECT_NEAR(ranks.density(q), soft.density(q), 1e-9 * (1 + lambda)) << lambda << " " << q;
      EXPECT_NEAR(ranks.cumulative(q), soft.cumulative(q), 1e-10) << lambda << " " << q;
    }
    EXPECT_NEAR(soft.cumulative(0.5), std::expm1(lambda / 2) / std::expm1(lambda), 1e-13) << lambda;
  }
}

TEST(Procedures, RandomAndKthAndMedianHaveTheirFormulas) {
  ProcedureSettings settings = settings_of("best_of_random_n", 3);
  settings.weights = {1, 0, 3};
  const Procedure random = make_procedure(settings);
  settings = settings_of("kth_of_n", 5);
  settings.k = 2;
  const Procedure second = make_procedure(settings);
  for (double q : {0.0, 0.2, 0.7, 1.0}) {
    EXPECT_NEAR(random.density(q), 0.25 + 0.75 * 3 * q * q, 1e-13);
    EXPECT_NEAR(random.cumulative(q), 0.25 * q + 0.75 * q * q * q, 1e-13);
    EXPECT_NEAR(second.density(q), 20 * q * std::pow(1 - q, 3), 1e-13);
  }
  EXPECT_THAT(rank_weights("median_of_n", 3), ElementsAre(0, 1, 0));
  EXPECT_THAT(rank_weights("median_of_n", 4), ElementsAre(0, 0.5, 0.5, 0));
}

TEST(Procedures, AboveQuantileApproachesThePopulations) {
  ProcedureSettings settings = settings_of("above_quantile", 1);
  settings.quantile = 0.3;
  const Procedure population = make_procedure(settings);
  EXPECT_THAT(population.breaks, ElementsAre(0.3));
  double last = 1;
  for (std::int64_t n : {25, 100, 400}) {
    settings.n = n;
    const Procedure finite = make_procedure(settings);
    // The n-th part of a candidates' quantile deviates by sqrt(q0 (1 - q0)/n) = 0.023 at n = 400: away from
    // the jump by 4 deviations the densities agree, and the cumulatives within a deviation everywhere.
    double largest = 0;
    for (double q = 0; q <= 1; q += 0.01)
      largest = std::max(largest, std::abs(finite.cumulative(q) - population.cumulative(q)));
    EXPECT_LT(largest, last / 1.9) << n;  // as 1/sqrt(n)
    last = largest;
  }
  EXPECT_LT(last, 0.023);
  const Procedure finite = make_procedure(settings);
  EXPECT_NEAR(finite.density(0.2), 0, 1e-3);
  EXPECT_NEAR(finite.density(0.4), 1 / 0.7, 1e-3);
  settings.quantile = 0.25;
  settings.n = 8;  // 2 of 8 are dropped, the others share
  const auto weights = make_procedure(settings).rank_weights;
  EXPECT_EQ(weights[1], 0);
  EXPECT_NEAR(weights[2], 1.0 / 6, 1e-15);
}

TEST(Procedures, OrderWeightsAreTheOrderStatistics) {
  const std::vector<double> best = make_procedure("best_of_n", 2).order_weights(4);
  const std::vector<double> worst = make_procedure("worst_of_n", 2).order_weights(4);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(best[i], static_cast<double>(i) / 6, 1e-15);
    EXPECT_NEAR(worst[i], static_cast<double>(3 - i) / 6, 1e-15);
  }
  EXPECT_THROW(make_procedure("best_of_n", 4).order_weights(3), std::invalid_argument);
  EXPECT_THROW(make_procedure("majority_vote", 2).order_weights(3), std::invalid_argument);
}

TEST(Procedures, ARankRuleOfTheUserIsCalibrated) {
  const SelectionRule second_best = [](const Candidates& c, std::span<double> probability) {
    std::vector<std::size_t> order(c.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return c.reward[a] < c.reward[b]; });
    probability[order[order.size() - 2]] = 1;
  };
  const Procedure procedure = procedure_from_rank_rule("second_best", 4, second_best);
  EXPECT_THAT(procedure.rank_weights, ElementsAre(0, 0, 1, 0));
  EXPECT_TRUE(procedure.is_calibrated());
  EXPECT_NEAR(procedure.density(0.6), 12 * 0.6 * 0.6 * 0.4, 1e-13);
  EXPECT_EQ(procedure.select(std::vector<float>{4, 1, 3, 2}), 2u);
}

TEST(Procedures, ARankRuleMustLookAtRanksAlone) {
  const SelectionRule softmax = [](const Candidates& c, std::span<double> probability) {
    double whole = 0;
    for (std::size_t i = 0; i < c.size(); ++i) whole += probability[i] = std::exp(c.reward[i]);
    for (double& each : probability) each /= whole;
  };
  const SelectionRule first = [](const Candidates&, std::span<double> probability) { probability[0] = 1; };
  const SelectionRule lossy = [](const Candidates&, std::span<double>) {};
  EXPECT_THROW(procedure_from_rank_rule("softmax", 3, softmax), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_rule("first", 3, first), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_rule("lossy", 3, lossy), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_rule("none", 0, first), std::invalid_argument);
  EXPECT_NO_THROW(procedure_from_rule("first", 3, first, true));
  EXPECT_THROW(procedure_from_rule("none", 0, first), std::invalid_argument);
}

TEST(Procedures, RankWeightsMustBeProbabilities) {
  EXPECT_THROW(procedure_from_rank_weights("mine", {}), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_weights("mine", {0.5, 0.4}), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_weights("mine", {1.5, -0.5}), std::invalid_argument);
  EXPECT_THROW(procedure_from_rank_weights("mine", {1, std::nan("")}), std::invalid_argument);
  EXPECT_EQ(procedure_from_rank_weights("mine", {0.25, 0.75}).n, 2);
}

TEST(Procedures, RefuseNoCandidatesAndNaN) {
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(settings_of(name, 2));
    EXPECT_THROW(procedure.select(std::span<const float>{}), std::invalid_argument);
    EXPECT_THROW(procedure.select(std::vector<float>{1, std::nanf("")}), std::domain_error);
  }
  EXPECT_THAT(
      [] {
        make_procedure("majority_vote", 2).select(std::vector<float>{1, 2});
      },
      testing::ThrowsMessage<std::invalid_argument>(HasSubstr("answers")));
}

}  // namespace
}  // namespace infalign::alignment
