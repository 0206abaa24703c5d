#include "core/stages/tabular_problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/stages/calibrate.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

experiment::Synthetic synthetic(const std::string& rewards, std::int64_t prompts = 400,
                                std::int64_t responses = 256) {
  experiment::Synthetic settings;
  settings.rewards = rewards;
  settings.prompts = prompts;
  settings.responses = responses;
  return settings;
}

/// Largest distance between the empirical distribution of all rewards and `cumulative`. Over 102,400 draws it
/// exceeds 2.8/sqrt(102400) = 0.00875 with probability 2 e^(-2 2.8^2) = 3e-7 (Massart 1990).
template <class Cumulative>
double distance(const Tables& tables, Cumulative&& cumulative) {
  std::vector<float> all;
  for (const auto& row : tables.reward) all.insert(all.end(), row.begin(), row.end());
  std::sort(all.begin(), all.end());
  double largest = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double below = static_cast<double>(i) / static_cast<double>(all.size());
    largest = std::max(largest, std::abs(cumulative(static_cast<double>(all[i])) - below));
  }
  return largest;
}

double mean_of(const std::vector<float>& row) {
  return std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(row.size());
}
double deviation_of(const std::vector<float>& row) {
  const double mean = mean_of(row);
  double squares = 0;
  for (float reward : row) squares += (reward - mean) * (reward - mean);
  return std::sqrt(squares / static_cast<double>(row.size()));
}

TEST(Tables, HaveTheDistributionsThatWereAskedFor) {
  EXPECT_LT(distance(make_tables(synthetic("normal"), 1),
                     [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }),
            0.00875);
  EXPECT_LT(distance(make_tables(synthetic("uniform"), 1), [](double x) { return x; }), 0.00875);
  EXPECT_LT(distance(make_tables(synthetic("heavy"), 1),  // Cauchy
                     [](double x) { return 0.5 + std::atan(x) / std::acos(-1.0); }),
            0.00875);
  const auto tables = make_tables(synthetic("normal", 3, 17), 1);
  ASSERT_EQ(tables.reward.size(), 3u);
  EXPECT_EQ(tables.reward[2].size(), 17u);
  EXPECT_TRUE(tables.answer.empty());
}

TEST(Tables, OfLevelsHaveTies) {
  auto settings = synthetic("levels");
  settings.levels = 5;
  std::vector<double> count(5);
  for (const auto& row : make_tables(settings, 1).reward)
    for (float reward : row) {
      ASSERT_EQ(reward, std::floor(reward));
      ASSERT_GE(reward, 0);
      ASSERT_LT(reward, 5);
      ++count[static_cast<std::size_t>(reward)];
    }
  // A share of 1/5 among 102,400 deviates by 0.00125; five of them.
  for (double each : count) EXPECT_NEAR(each / 102'400, 0.2, 0.00625);
}

TEST(Tables, SpreadScalesAndOffsetsOverPrompts) {
  auto settings = synthetic("normal", 2'000, 64);
  settings.scale_spread = 0.7;
  settings.offset_spread = 3;
  std::vector<float> log_scale, offset;
  for (const auto& row : make_tables(settings, 2).reward) {
    log_scale.push_back(static_cast<float>(std::log(deviation_of(row))));
    offset.push_back(static_cast<float>(mean_of(row)));
  }
  // The logarithm of 64 rewards' deviation is low by about 3/(4 * 64) and off by sqrt(1/128) = 0.09: with 0.7
  // together 0.706. Deviations of 2,000 have a relative error of 1.6 %; five of them.
  EXPECT_NEAR(mean_of(log_scale), -0.012, 5 * 0.706 / std::sqrt(2'000.0));
  EXPECT_NEAR(deviation_of(log_scale), 0.706, 5 * 0.016 * 0.706);
  EXPECT_NEAR(mean_of(offset), 0, 5 * 3 / std::sqrt(2'000.0));
  EXPECT_NEAR(deviation_of(offset), 3, 5 * 0.016 * 3);
}

TEST(Tables, OfAVerifierPassAtTheMeanRate) {
  for (const double rate : {0.05, 0.2, 0.6}) {
    auto settings = synthetic("verifier", 2'000, 64);
    settings.pass_rate = rate;
    std::vector<float> rates;
    for (const auto& row : make_tables(settings, 3).reward) {
      for (float reward : row) ASSERT_TRUE(reward == 0 || reward == 1);
      rates.push_back(static_cast<float>(mean_of(row)));
    }
    EXPECT_NEAR(mean_of(rates), rate, 5 * deviation_of(rates) / std::sqrt(2'000.0));
    // Prompts differ: q^(1/r - 1) has the second moment r/(2 - r), and 64 verdicts add a binomial's variance.
    const double second = rate / (2 - rate), variance = second - rate * rate + (rate - second) / 64;
    EXPECT_NEAR(deviation_of(rates), std::sqrt(variance), 0.1 * std::sqrt(variance));
  }
}

TEST(Tables, AnswersAreRightExactlyWhereTheVerifierPasses) {
  auto settings = synthetic("verifier", 200, 64);
  settings.answers = 4;
  settings.scale_spread = 1;  // the verdict is told whatever the scale
  settings.offset_spread = 1;
  const auto tables = make_tables(settings, 4);
  std::set<std::int64_t> wrong;
  for (std::size_t p = 0; p < tables.reward.size(); ++p) {
    const auto [worst, best] = std::minmax_element(tables.reward[p].begin(), tables.reward[p].end());
    if (*worst == *best) continue;  // all alike: which, the table alone does not say
    for (std::size_t i = 0; i < 64; ++i) {
      EXPECT_EQ(tables.answer[p][i] == 0, tables.reward[p][i] == *best);
      if (tables.answer[p][i] != 0) wrong.insert(tables.answer[p][i]);
    }
  }
  EXPECT_EQ(wrong, (std::set<std::int64_t>{1, 2, 3}));

  settings.rewards = "normal";  // nothing is right: all four are drawn
  std::set<std::int64_t> drawn;
  for (const auto& row : make_tables(settings, 4).answer) drawn.insert(row.begin(), row.end());
  EXPECT_EQ(drawn, (std::set<std::int64_t>{0, 1, 2, 3}));
}

TEST(Tables, AreThoseOfTheSeed) {
  auto settings = synthetic("normal", 8, 32);
  settings.answers = 3;
  const auto tables = make_tables(settings, 5), again = make_tables(settings, 5),
             other = make_tables(settings, 6);
  EXPECT_EQ(tables.reward, again.reward);
  EXPECT_EQ(tables.answer, again.answer);
  EXPECT_NE(tables.reward, other.reward);
  EXPECT_NE(tables.answer, other.answer);
  // More prompts and responses leave those that were there as they are.
  settings.prompts = 10, settings.responses = 40;
  const auto larger = make_tables(settings, 5);
  for (std::size_t p = 0; p < 8; ++p)
    EXPECT_TRUE(std::equal(tables.reward[p].begin(), tables.reward[p].end(), larger.reward[p].begin()));
}

TEST(TabularProblem, ItsFingerprintIsThatOfRewardsAndAnswers) {
  const Tables tables{{{1, 2}, {3, 4}}, {{0, 1}, {1, 1}}};
  const std::string fingerprint = TabularProblem(tables).reward_fingerprint();
  EXPECT_EQ(TabularProblem(tables).reward_fingerprint(), fingerprint);
  auto other = tables;
  other.reward[1][0] = 3.0000002f;
  EXPECT_NE(TabularProblem(other).reward_fingerprint(), fingerprint);
  other = tables;
  other.answer[1][0] = 2;
  EXPECT_NE(TabularProblem(other).reward_fingerprint(), fingerprint);
  other = tables;
  other.answer.clear();
  EXPECT_NE(TabularProblem(other).reward_fingerprint(), fingerprint);
}

TEST(TabularProblem, RefusesRaggedTables) {
  EXPECT_THROW(TabularProblem(Tables{}), std::invalid_argument);
  EXPECT_THROW(TabularProblem({{1, 2}, {3}}), std::invalid_argument);
  EXPECT_THROW(TabularProblem(Tables{{{1, 2}}, {{0}}}), std::invalid_argument);
}

/// A calibration over tables without ties.
class FreshCalibration : public testing::Test {
 protected:
  static constexpr std::int64_t kPrompts = 6, kRollouts = 32;
  FreshCalibration() {
    experiment_.seed = 3;
    experiment_.calibration.rollouts_per_prompt = kRollouts;
    experiment_.distributed.micro_batch_prompts = 2;
    experiment_.synthetic = synthetic("normal", kPrompts, 512);
    experiment_.output = folder_.path();
  }

  /// The rewards of all prompts at a step, each micro-batch by itself.
  std::vector<std::vector<float>> fresh(distributed::Communicator& ranks, std::int64_t step,
                                        std::int64_t per_batch) const {
    stages::Run run{experiment_, ranks};
    const auto problem = make_problem(run);
    std::vector<std::int64_t> prompts(kPrompts);
    std::iota(prompts.begin(), prompts.end(), 0);
    std::vector<std::vector<float>> rewards;
    for (const auto& batch : micro_batches(prompts, per_batch)) {
      const auto calibration = fresh_calibration(run, *problem, batch, step);
      EXPECT_EQ(calibration.prompts(), static_cast<std::int64_t>(batch.size()));
      EXPECT_EQ(calibration.rollouts(), kRollouts);
      for (std::size_t row = 0; row < batch.size(); ++row) {
        const auto own = calibration.rewards(static_cast<std::int64_t>(row));
        rewards.emplace_back(own.begin(), own.end());
      }
    }
    return rewards;
  }
  std::vector<std::vector<float>> fresh(std::int64_t step, std::int64_t per_batch = 2) const {
    return fresh(*distributed::make_local(), step, per_batch);
  }

  ScratchFolder folder_;
  experiment::Experiment experiment_;
};

TEST_F(FreshCalibration, IsNewAtEveryStepAndNotTheFiles) {
  const auto ranks = distributed::make_local();
  stages::Run run{experiment_, *ranks};
  run.progress = false;
  const auto problem = make_problem(run);
  const auto file = sample_calibration(run, *problem, experiment_.output);
  const auto tables = make_tables(*experiment_.synthetic, experiment_.seed);
  const auto first = fresh(1), second = fresh(2);
  for (std::size_t p = 0; p < kPrompts; ++p) {
    const auto begin = file.rewards.begin() + static_cast<std::ptrdiff_t>(p) * kRollouts;
    const std::vector<float> of_file(begin, begin + kRollouts);
    EXPECT_NE(first[p], of_file) << "prompt " << p;
    EXPECT_NE(second[p], of_file) << "prompt " << p;
    EXPECT_NE(second[p], first[p]) << "prompt " << p;
    EXPECT_TRUE(std::is_sorted(first[p].begin(), first[p].end()));
    for (float reward : first[p])  // of this prompt's table
      EXPECT_NE(std::find(tables.reward[p].begin(), tables.reward[p].end(), reward), tables.reward[p].end());
  }
}

TEST_F(FreshCalibration, IsTheSameOnAnyRanksAndInAnyMicroBatches) {
  const auto expected = fresh(5);
  EXPECT_EQ(fresh(5, 1), expected);
  EXPECT_EQ(fresh(5, 6), expected);
  for (const int ranks : {2, 3}) {
    distributed::run_threads(ranks, [&](distributed::Communicator& communicator) {
      EXPECT_EQ(fresh(communicator, 5, 2), expected) << "rank " << communicator.rank() << " of " << ranks;
    });
  }
}

}  // namespace
}  // namespace infalign::stages
