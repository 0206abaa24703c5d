#include "core/alignment/estimators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

namespace infalign::alignment {
namespace {

std::vector<float> drawn_with_ties(std::size_t count, unsigned values, std::mt19937_64& engine) {
  std::vector<float> rewards(count);
  for (float& reward : rewards) reward = static_cast<float>(engine() % values) - 1.5f;
  return rewards;
}

/// Every way to draw n of the samples, in every subset each of the tied candidates answering equally often.
std::vector<double> enumerated_probabilities(const Procedure& procedure,
                                             const std::vector<float>& selecting) {
  std::vector<double> probability(selecting.size());
  double subsets = 0;
  for (unsigned subset = 0; subset < (1u << selecting.size()); ++subset) {
    if (std::popcount(subset) != procedure.n) continue;
    ++subsets;
    std::vector<std::size_t> drawn;
    std::vector<float> rewards;
    for (std::size_t i = 0; i < selecting.size(); ++i) {
      if (subset >> i & 1) drawn.push_back(i), rewards.push_back(selecting[i]);
    }
    const float chosen = rewards[procedure.select(rewards)];
    const auto tied = static_cast<double>(std::count(rewards.begin(), rewards.end(), chosen));
    for (std::size_t i : drawn) {
      if (selecting[i] == chosen) probability[i] += 1 / tied;
    }
  }
  for (double& each : probability) each /= subsets;
  return probability;
}

double enumerated_win_rate(const Procedure& ours, const Procedure& theirs,
                           const std::vector<float>& policy_selecting,
                           const std::vector<float>& policy_judging,
                           const std::vector<float>& reference_selecting,
                           const std::vector<float>& reference_judging) {
  const auto p = enumerated_probabilities(ours, policy_selecting);
  const auto q = enumerated_probabilities(theirs, reference_selecting);
  double rate = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    for (std::size_t j = 0; j < q.size(); ++j) {
      const float y = policy_judging[i], z = reference_judging[j];
      rate += p[i] * q[j] * (y > z ? 1 : y == z ? 0.5 : 0);
    }
  }
  return rate;
}

TEST(SelectionWeights, AreTheOrderStatistics) {
  const std::vector<double> best = selection_weights(make_procedure("best_of_n", 2), 4);
  const std::vector<double> worst = selection_weights(make_procedure("worst_of_n", 2), 4);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(best[i], static_cast<double>(i) / 6, 1e-15);
    EXPECT_NEAR(worst[i], static_cast<double>(3 - i) / 6, 1e-15);
  }
  for (double weight : selection_weights(make_procedure("standard", 1), 8)) EXPECT_EQ(weight, 1.0 / 8);
}

TEST(SelectionWeights, SumToOne) {
  for (const std::string& name : procedure_names()) {
    for (std::int64_t n : {1, 2, 4, 32, 100}) {
      for (std::int64_t samples : {n, n + 1, 3 * n, std::int64_t{5'000}}) {
        const auto weights = selection_weights(make_procedure(name, n), samples);
        EXPECT_EQ(weights.size(), static_cast<std::size_t>(samples));
        EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1, 1e-12)
            << name << n << " " << samples;
      }
    }
  }
}

TEST(SelectionWeights, NeedAsManySamplesAsTheProcedureDraws) {
  EXPECT_THROW(selection_weights(make_procedure("best_of_n", 4), 3), std::invalid_argument);
  EXPECT_THROW(selection_weights(make_procedure("standard", 1), 0), std::invalid_argument);
}

TEST(WinRate, EqualsEnumerationWithTies) {
  std::mt19937_64 engine(7);
  for (const std::string& name : procedure_names()) {
    for (std::int64_t n = 1; n <= 4; ++n) {
      for (unsigned values : {1u, 2u, 4u, 1000u}) {
        const Procedure procedure = make_procedure(name, n);
        const auto ours = drawn_with_ties(7, values, engine), theirs = drawn_with_ties(5, values, engine);
        EXPECT_NEAR(win_rate(procedure, {ours, ours}, {theirs, theirs}),
                    enumerated_win_rate(procedure, procedure, ours, ours, theirs, theirs), 1e-12);
      }
    }
  }
}

TEST(WinRate, EqualsEnumerationWithAnotherJudgeAndAnotherOpponent) {
  std::mt19937_64 engine(8);
  const Procedure best = make_procedure("best_of_n", 3), worst = make_procedure("worst_of_n", 2);
  for (int repetition = 0; repetition < 20; ++repetition) {
    const auto ours = drawn_with_ties(6, 4, engine), ours_judged = drawn_with_ties(6, 3, engine);
    const auto theirs = drawn_with_ties(7, 4, engine), theirs_judged = drawn_with_ties(7, 3, engine);
    EXPECT_NEAR(win_rate(best, worst, {ours, ours_judged}, {theirs, theirs_judged}),
                enumerated_win_rate(best, worst, ours, ours_judged, theirs, theirs_judged), 1e-12);
  }
}

TEST(WinRate, IsOneHalfAgainstItselfAndTurnsAround) {
  std::mt19937_64 engine(9);
  const auto a = drawn_with_ties(32, 10, engine), b = drawn_with_ties(40, 10, engine);
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(name, 4);
    EXPECT_NEAR(win_rate(procedure, {a, a}, {a, a}), 0.5, 1e-12);
    EXPECT_NEAR(win_rate(procedure, {a, a}, {b, b}) + win_rate(procedure, {b, b}, {a, a}), 1, 1e-12);
  }
}

TEST(WinRate, IsUnbiased) {
  // Uniform rewards against uniform rewards squared: W of Best-of-3 is P(max u > max v^2) with P(max v^2 < x)
  // = x^(3/2): E max(u)^(3/2) = 3/(3 + 3/2) = 2/3. The mean of 2,000 estimates in [0, 1] of deviation below
  // 0.3 has a standard error below 0.0067; five of them, a false alarm of 6e-7.
  std::mt19937_64 engine(10);
  std::uniform_real_distribution<float> uniform;
  const Procedure procedure = make_procedure("best_of_n", 3);
  double mean = 0;
  for (int repetition = 0; repetition < 2'000; ++repetition) {
    std::vector<float> ours(8), theirs(8);
    for (float& reward : ours) reward = uniform(engine);
    for (float& reward : theirs) reward = std::pow(uniform(engine), 2.0f);
    mean += win_rate(procedure, {ours, ours}, {theirs, theirs}) / 2'000;
  }
  EXPECT_NEAR(mean, 2.0 / 3, 0.033);
}

TEST(WinRate, RefusesNaNAndUnequalSpans) {
  const std::vector<float> good{1, 2}, bad{1, std::nanf("")}, longer{1, 2, 3};
  const Procedure procedure = make_procedure("best_of_n", 2);
  EXPECT_THROW(win_rate(procedure, {bad, good}, {good, good}), std::domain_error);
  EXPECT_THROW(win_rate(procedure, {good, good}, {good, bad}), std::domain_error);
  EXPECT_THROW(win_rate(procedure, {good, longer}, {good, good}), std::invalid_argument);
}

TEST(Bootstrap, IsTheSameForTheSameSeedAndCoversTheMean) {
  std::mt19937_64 engine(11);
  std::normal_distribution<double> normal(3, 1);
  std::vector<double> values(400);
  for (double& value : values) value = normal(engine);
  const Interval95 interval = bootstrap_mean(values, 5);
  const Interval95 again = bootstrap_mean(values, 5), other = bootstrap_mean(values, 6);
  EXPECT_EQ(interval.low, again.low);
  EXPECT_EQ(interval.high, again.high);
  EXPECT_NE(interval.low, other.low);
  EXPECT_NEAR(interval.value, std::accumulate(values.begin(), values.end(), 0.0) / 400, 1e-12);
  // 95 % of a mean's distribution is 2 * 1.96 standard errors wide; 2,000 resamples give its ends to a few
  // per cent.
  EXPECT_NEAR(interval.high - interval.low, 2 * 1.96 / 20, 0.03);
  EXPECT_LT(interval.low, interval.value);
  EXPECT_GT(interval.high, interval.value);
}

TEST(Bootstrap, CoversTheTruthAsOftenAsItSays) {
  // 300 experiments, nominal coverage 0.95 (0.94 for the percentile bootstrap at n = 60): outside [0.88,
  // 0.99] with probability below 1e-4.
  std::mt19937_64 engine(12);
  std::uniform_real_distribution<double> uniform;
  int covered = 0;
  for (int experiment = 0; experiment < 300; ++experiment) {
    std::vector<double> values(60);
    for (double& value : values) value = uniform(engine);
    const Interval95 interval = bootstrap_mean(values, 1, 400);
    covered += interval.low <= 0.5 && 0.5 <= interval.high;
  }
  EXPECT_GE(covered, 264);
  EXPECT_LE(covered, 297);
}

TEST(Bootstrap, RefusesWhatHasNoMean) {
  EXPECT_THROW(bootstrap_mean({}), std::invalid_argument);
  EXPECT_THROW(bootstrap_mean(std::vector<double>{1, std::nan("")}), std::domain_error);
  EXPECT_THROW(bootstrap_mean(std::vector<double>{1}, 1, 0), std::invalid_argument);
  const Interval95 single = bootstrap_mean(std::vector<double>{0.25});
  EXPECT_EQ(single.low, 0.25);
  EXPECT_EQ(single.high, 0.25);
}

TEST(UniformityDistance, IsZeroForCalibratedTiesAndLargeForAShift) {
  EXPECT_NEAR(uniformity_distance(std::vector<double>{0.125, 0.375, 0.625, 0.875}), 0, 1e-15);
  // A verifier: 6 of 8 wrong (C = 3/8), 2 right (C = 7/8). Perfectly calibrated, and not uniform.
  EXPECT_NEAR(uniformity_distance(std::vector<double>{.375, .375, .375, .375, .375, .375, .875, .875}), 0,
              1e-15);
  EXPECT_NEAR(uniformity_distance(std::vector<double>{0.9, 0.9, 0.9}), 0.4, 1e-15);
  EXPECT_THROW(uniformity_distance(std::vector<double>{1.1}), std::domain_error);
  EXPECT_THROW(uniformity_distance(std::vector<double>{std::nan("")}), std::domain_error);
  EXPECT_THROW(uniformity_distance({}), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
