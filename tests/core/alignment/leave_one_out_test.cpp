#include "core/alignment/leave_one_out.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "core/alignment/enumeration.h"
#include "core/alignment/reinforce.h"

namespace infalign::alignment {
namespace {

std::vector<double> values_of(const Tuple& tuple, const std::vector<double>& value) {
  std::vector<double> values;
  for (std::size_t y : tuple.response) values.push_back(value[y]);
  return values;
}

double binomial(std::int64_t n, std::int64_t k) {
  if (k < 0 || k > n) return 0;
  double result = 1;
  for (std::int64_t i = 1; i <= k; ++i)
    result = result * static_cast<double>(n - k + i) / static_cast<double>(i);
  return result;
}

/// The same rule with nothing known of it, so that its subsets are visited.
Procedure only_the_rule(const Procedure& procedure) {
  return procedure_from_rule(procedure.name, procedure.n, procedure.rule, procedure.order_matters);
}

TEST(LeaveOneOut, HasTheFormulasOfBestAndWorstOfN) {
  // Method, section 4.
  std::mt19937_64 engine(1);
  for (std::int64_t n : {1, 2, 5, 12}) {
    for (std::int64_t N = 1; N <= n; ++N) {
      std::vector<float> reward(static_cast<std::size_t>(n));
      std::iota(reward.begin(), reward.end(), 0.0f);
      std::vector<double> g(reward.size());
      for (double& value : g) value = static_cast<double>(engine() % 1000) / 1000;
      const auto best = leave_one_out_rewards(make_procedure("best_of_n", N), {reward}, g);
      const auto worst = leave_one_out_rewards(make_procedure("worst_of_n", N), {reward}, g);
      const double scale = static_cast<double>(N) / binomial(n - 1, N - 1);
      for (std::int64_t i = 1; i <= n; ++i) {
        const auto at = [&](std::int64_t j) { return g[static_cast<std::size_t>(j - 1)]; };
        double b = binomial(i - 1, N - 1) * at(i), w = binomial(n - i, N - 1) * at(i);
        for (std::int64_t j = i + 1; j <= n; ++j) b += N > 1 ? binomial(j - 2, N - 2) * at(j) : 0;
        for (std::int64_t j = 1; j < i; ++j) w += N > 1 ? binomial(n - j - 1, N - 2) * at(j) : 0;
        EXPECT_NEAR(best[static_cast<std::size_t>(i - 1)], scale * b, 1e-12) << n << " " << N << " " << i;
        EXPECT_NEAR(worst[static_cast<std::size_t>(i - 1)], scale * w, 1e-12) << n << " " << N << " " << i;
      }
    }
  }
}

TEST(LeaveOneOut, RanksInClosedFormAreTheAverageOverSubsetsWithTies) {
  // The values differ inside a group of tied samples, as they do when the judge is not the selector.
  std::mt19937_64 engine(2);
  for (std::int64_t N = 1; N <= 4; ++N) {
    for (const Procedure& procedure : small_procedures(N)) {
      if (procedure.rank_weights.empty()) continue;
      for (unsigned levels : {1u, 2u, 4u, 1000u}) {
        std::vector<float> reward(8);
        std::vector<double> value(8);
        for (float& each : reward) each = static_cast<float>(engine() % levels);
        for (double& each : value) each = static_cast<double>(engine() % 1000) / 1000;
        const auto closed = leave_one_out_rewards(procedure, {reward}, value);
        const auto visited = leave_one_out_rewards(only_the_rule(procedure), {reward}, value);
        const auto p = answer_probabilities(procedure, {reward});
        const auto p_visited = answer_probabilities(only_the_rule(procedure), {reward});
        for (std::size_t i = 0; i < 8; ++i) {
          EXPECT_NEAR(closed[i], visited[i], 1e-12) << procedure.name << N << " " << levels;
          EXPECT_NEAR(p[i], p_visited[i], 1e-13) << procedure.name << N << " " << levels;
        }
      }
    }
  }
}

TEST(LeaveOneOut, ARuleKnownOnAverageOverTheOrderIsTheAverageOverArrangements) {
  // retry_until: the values differ among those that pass, and the threshold parts them nowhere, somewhere or
  // everywhere.
  std::mt19937_64 engine(6);
  for (std::int64_t N = 1; N <= 4; ++N) {
    for (double threshold : {-1.0, 1.0, 2.0, 3.5, 9.0}) {
      ProcedureSettings settings = settings_of("retry_until", N);
      settings.threshold = threshold;
      const Procedure retry = make_procedure(settings);
      ASSERT_TRUE(retry.order_average.has_value());
      std::vector<float> reward(6);
      std::vector<double> value(6);
      for (float& each : reward) each = static_cast<float>(engine() % 5);
      for (double& each : value) each = static_cast<double>(engine() % 1000) / 1000;
      const auto closed = leave_one_out_rewards(retry, {reward}, value);
      const auto visited = leave_one_out_rewards(only_the_rule(retry), {reward}, value);
      const auto p = answer_probabilities(retry, {reward});
      const auto p_visited = answer_probabilities(only_the_rule(retry), {reward});
      for (std::size_t i = 0; i < 6; ++i) {
        EXPECT_NEAR(closed[i], visited[i], 1e-12) << N << " " << threshold;
        EXPECT_NEAR(p[i], p_visited[i], 1e-13) << N << " " << threshold;
      }
    }
  }
}

TEST(LeaveOneOut, IsTheDerivativeOfTheInferenceTimeValue) {
  // Theorem (A): E[R_i | y_i = y], over all tuples, is the derivative of the value with respect to the
  // unnormalised pi(y), for every procedure; so is that of random subsets, whatever the seed.
  std::mt19937_64 engine(3);
  constexpr std::size_t kSamples = 4;
  for (std::int64_t N : {1, 2, 3}) {
    for (const Procedure& procedure : small_procedures(N)) {
      for (std::int64_t enumerated : {4096, 0}) {
        const SmallPolicy policy = random_policy(3, engine);
        std::vector<double> value;
        for (std::size_t y = 0; y < policy.size(); ++y)
          value.push_back(static_cast<double>(engine() % 7) - 3);
        const LeaveOneOut leave_one_out(procedure, kSamples, enumerated);
        std::vector<double> mean(policy.size());
        for_each_tuple(policy, kSamples, [&](const Tuple& tuple) {
          const auto reward =
              leave_one_out.rewards({tuple.selecting, tuple.answer}, values_of(tuple, value), 5);
          const std::size_t y = tuple.response[2];
          mean[y] += tuple.probability / policy.probability[y] * reward[2];
        });
        for (std::size_t y = 0; y < policy.size(); ++y) {
          const double slope = derivative(
              [&](double p) {
                SmallPolicy moved = policy;
                moved.probability[y] = p;
                return expectation(answer_law(procedure, moved), value);
              },
              policy.probability[y], 0.05);
          EXPECT_NEAR(mean[y], slope, 1e-11) << procedure.name << N << " " << enumerated;
        }
      }
    }
  }
}

TEST(LeaveOneOut, ItsPolicyGradientIsThatOfTheWinRate) {
  // A softmax policy, over all tuples: REINFORCE on unbiased rewards with the mean of the others as baseline;
  // and without unbias_for_leave_one_out_baseline too small by (n - N)/(n - 1).
  std::mt19937_64 engine(4);
  constexpr std::size_t kSamples = 4;
  for (std::int64_t N : {1, 2, 3}) {
    for (const Procedure& procedure : small_procedures(N)) {
      SmallPolicy policy = random_policy(3, engine);
      const SmallPolicy opponent = random_policy(4, engine);
      std::vector<double> logit;
      for (double p : policy.probability) logit.push_back(std::log(p));
      const auto win = chances_to_win(policy, procedure, opponent);
      const auto win_rate_at = [&](std::size_t a, double x) {
        SmallPolicy moved = policy;
        double whole = 0;
        for (std::size_t y = 0; y < policy.size(); ++y)
          whole += moved.probability[y] = std::exp(y == a ? x : logit[y]);
        for (double& p : moved.probability) p /= whole;
        return exact_win_rate(procedure, moved, opponent);
      };

      const LeaveOneOut leave_one_out(procedure, kSamples);
      std::vector<double> gradient(policy.size()), biased(policy.size());
      const auto add = [&](std::vector<double>& sum, const Tuple& tuple, const std::vector<double>& reward) {
        const std::vector<double> log_ratio(kSamples);
        std::vector<double> advantage(kSamples);
        leave_one_out_advantages(reward, log_ratio, 0, advantage);
        for (std::size_t i = 0; i < kSamples; ++i)
          for (std::size_t a = 0; a < policy.size(); ++a) {
            const double score = (tuple.response[i] == a ? 1 : 0) - policy.probability[a];
            sum[a] += tuple.probability * score * advantage[i] / kSamples;
          }
      };
      for_each_tuple(policy, kSamples, [&](const Tuple& tuple) {
        auto reward = leave_one_out.rewards({tuple.selecting, tuple.answer}, values_of(tuple, win));
        add(biased, tuple, reward);
        unbias_for_leave_one_out_baseline(procedure.n, reward);
        add(gradient, tuple, reward);
      });
      const double factor = static_cast<double>(static_cast<std::int64_t>(kSamples) - procedure.n) /
                            static_cast<double>(kSamples - 1);
      for (std::size_t a = 0; a < policy.size(); ++a) {
        const double slope = derivative([&](double x) { return win_rate_at(a, x); }, logit[a], 1e-3);
        EXPECT_NEAR(gradient[a], slope, 1e-10) << procedure.name << N;
        EXPECT_NEAR(biased[a], factor * slope, 1e-10) << procedure.name << N;
      }
    }
  }
}

TEST(LeaveOneOut, TheBaselineKeepsTheMean) {
  std::vector<double> reward{1, 4, 4, 7};
  unbias_for_leave_one_out_baseline(2, reward);
  EXPECT_EQ(reward, (std::vector<double>{-0.5, 4, 4, 8.5}));
  unbias_for_leave_one_out_baseline(1, reward);
  EXPECT_EQ(reward, (std::vector<double>{-0.5, 4, 4, 8.5}));
  EXPECT_THROW(unbias_for_leave_one_out_baseline(4, reward), std::invalid_argument);
  EXPECT_THROW(unbias_for_leave_one_out_baseline(0, reward), std::invalid_argument);
}

TEST(LeaveOneOut, AveragesNTimesTheValueOfTheSamples) {
  // Exactly, for random subsets too: every sample is in equally many. It is what the jackknife rests on.
  std::mt19937_64 engine(5);
  for (const Procedure& procedure : small_procedures(3)) {
    for (std::int64_t enumerated : {100'000, 50}) {
      std::vector<float> reward(11);
      std::vector<double> value(11);
      std::vector<std::int64_t> answer(11);
      for (std::size_t i = 0; i < 11; ++i) {
        reward[i] = static_cast<float>(engine() % 5);
        answer[i] = static_cast<std::int64_t>(engine() % 3);
        value[i] = static_cast<double>(engine() % 1000) / 1000;
      }
      const LeaveOneOut leave_one_out(procedure, 11, enumerated);
      const auto r = leave_one_out.rewards({reward, answer}, value, 6);
      const auto p = leave_one_out.answer_probabilities({reward, answer}, 6);
      EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12) << procedure.name;
      EXPECT_NEAR(std::accumulate(r.begin(), r.end(), 0.0) / 11,
                  static_cast<double>(procedure.n) * expectation(p, value), 1e-12)
          << procedure.name;
    }
  }
}

TEST(LeaveOneOut, RandomSubsetsAgreeWithAllOfThem) {
  // 200 seeds, nine samples and four numbers for each procedure: 36 comparisons within 4 standard errors, a
  // false alarm of 36 * 6e-5 = 0.0023 over the seeds that might have been chosen here.
  std::mt19937_64 engine(7);
  std::vector<float> reward(9);
  std::vector<double> value(9);
  std::vector<std::int64_t> answer(9);
  for (std::size_t i = 0; i < 9; ++i) {
    reward[i] = static_cast<float>(engine() % 4);
    answer[i] = static_cast<std::int64_t>(engine() % 3);
    value[i] = static_cast<double>(engine() % 1000) / 1000;
  }
  const Candidates samples{reward, answer};
  for (const std::string name : {"majority_vote", "retry_until"}) {
    const Procedure procedure = only_the_rule(make_procedure(settings_of(name, 4)));
    const auto exact = leave_one_out_rewards(procedure, samples, value);
    const auto exact_p = answer_probabilities(procedure, samples);
    constexpr int kSeeds = 200;
    for (std::size_t i = 0; i < 9; ++i) {
      double sum = 0, squares = 0, sum_p = 0, squares_p = 0;
      for (int seed = 0; seed < kSeeds; ++seed) {
        const auto s = static_cast<std::uint64_t>(seed);
        const double r = leave_one_out_rewards(procedure, samples, value, s, 36)[i] - exact[i];
        const double p = answer_probabilities(procedure, samples, s, 36)[i] - exact_p[i];
        sum += r, squares += r * r, sum_p += p, squares_p += p * p;
      }
      EXPECT_GT(squares, 0) << "not random at all";
      EXPECT_LT(std::abs(sum), 4 * std::sqrt(squares)) << name;
      EXPECT_LT(std::abs(sum_p), 4 * std::sqrt(squares_p) + 1e-12) << name;
    }
  }
}

TEST(LeaveOneOut, RandomSubsetsFollowTheSeedAlone) {
  std::vector<float> reward(40);
  std::iota(reward.begin(), reward.end(), 0.0f);
  std::vector<double> value(reward.begin(), reward.end());
  const Procedure procedure = only_the_rule(make_procedure("best_of_n", 8));
  const auto once = leave_one_out_rewards(procedure, {reward}, value, 1);
  EXPECT_EQ(once, leave_one_out_rewards(procedure, {reward}, value, 1));
  EXPECT_NE(once, leave_one_out_rewards(procedure, {reward}, value, 2));
  EXPECT_EQ(once, LeaveOneOut(procedure, 40).rewards({reward}, value, 1));
  // Pinned, so that every machine and standard library draws the same subsets: the sum of squares.
  const double squares = std::inner_product(once.begin(), once.end(), once.begin(), 0.0);
  EXPECT_NEAR(squares, 3218686.9324158733, 1e-6);
}

TEST(LeaveOneOut, TheRuleIsCalledAboutAsOftenAsAllowed) {
  std::int64_t calls = 0;
  const Procedure first =
      procedure_from_rule("first", 5, [&](const Candidates&, std::span<double> probability) {
        ++calls;
        probability[0] = 1;
      });
  std::vector<float> reward(64);
  const std::vector<double> value(64, 1.0);
  leave_one_out_rewards(first, {reward}, value, 0, 1000);
  EXPECT_EQ(calls, 1024);  // 16 permutations, 64 windows each
  calls = 0;
  reward.resize(10);
  answer_probabilities(first, {reward}, 0, 1000);
  EXPECT_EQ(calls, 252);  // all of 10 over 5
  calls = 0;
  Procedure ordered = first;
  ordered.order_matters = true;
  answer_probabilities(ordered, {reward}, 0, 30'240);
  EXPECT_EQ(calls, 30'240);  // all arrangements
}

TEST(LeaveOneOut, RefusesWhatCannotBeAveraged) {
  const Procedure procedure = make_procedure("best_of_n", 3);
  const std::vector<float> two{1, 2}, three{1, 2, 3}, bad{1, 2, std::nanf("")};
  const std::vector<double> value{1, 2, 3}, bad_value{1, 2, std::nan("")};
  const std::vector<std::int64_t> answers{1, 2};
  EXPECT_THROW(leave_one_out_rewards(procedure, {two}, std::span(value).first(2)), std::invalid_argument);
  EXPECT_THROW(leave_one_out_rewards(procedure, {three}, std::span(value).first(2)), std::invalid_argument);
  EXPECT_THROW(leave_one_out_rewards(procedure, {three, answers}, value), std::invalid_argument);
  EXPECT_THROW(leave_one_out_rewards(procedure, {bad}, value), std::domain_error);
  EXPECT_THROW(leave_one_out_rewards(procedure, {three}, bad_value), std::domain_error);
  EXPECT_THROW(answer_probabilities(procedure, {two}), std::invalid_argument);
  EXPECT_THROW(answer_probabilities(procedure, {}), std::invalid_argument);
  EXPECT_THROW(LeaveOneOut(procedure, 4).answer_probabilities({three}), std::invalid_argument);
  EXPECT_THROW(answer_probabilities(make_procedure("majority_vote", 2), {three}), std::invalid_argument);
  ProcedureSettings theory;
  theory.name = "above_quantile";
  theory.quantile = 0.5;
  EXPECT_THROW(answer_probabilities(make_procedure(theory), {three}), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
