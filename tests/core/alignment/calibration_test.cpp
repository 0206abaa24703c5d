#include "core/alignment/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace infalign::alignment {
namespace {

/// w_r(y, z) of the method, the definition that the binary search has to reproduce.
double w(float y, float z) { return y > z ? 1 : y == z ? 0.5 : 0; }

double by_definition(const std::vector<float>& reference, float reward) {
  double sum = 0;
  for (float z : reference) sum += w(reward, z);
  return sum / static_cast<double>(reference.size());
}

std::vector<float> sorted_with_ties(std::size_t count, int values, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<float> rewards(count);
  for (float& reward : rewards)
    reward = static_cast<float>(engine() % static_cast<unsigned>(values)) * 0.37f - 1;
  std::sort(rewards.begin(), rewards.end());
  return rewards;
}

TEST(CalibratedReward, IsTheMeanOfW) {
  for (std::size_t k : {1u, 2u, 3u, 5u, 16u, 31u, 32u, 33u, 64u, 65u, 100u, 256u, 257u}) {
    for (int values : {1, 2, 5, 1000}) {
      const std::vector<float> reference = sorted_with_ties(k, values, k);
      for (float reward : reference)
        EXPECT_EQ(calibrated_reward(reference, reward), by_definition(reference, reward));
      for (float reward = -2; reward < 3; reward += 0.17f) {
        EXPECT_EQ(calibrated_reward(reference, reward), by_definition(reference, reward));
      }
    }
  }
}

TEST(CalibratedReward, AveragesOneHalfUnderTheReferencePolicy) {
  // y and z from the same distribution: averaged over the table itself C is 1/2 exactly, ties or not.
  for (int values : {1, 2, 7, 100'000}) {
    const std::vector<float> reference = sorted_with_ties(64, values, 3);
    double all = 0, others = 0;
    for (float reward : reference) {
      all += calibrated_reward(reference, reward) / 64;
      others += calibrated_reward_leave_one_out(reference, reward) / 64;
    }
    EXPECT_NEAR(all, 0.5, 1e-14);
    EXPECT_NEAR(others, 0.5, 1e-14);
  }
}

TEST(CalibratedReward, IsUnchangedByIncreasingMapsOfTheReward) {
  const std::vector<float> reference = sorted_with_ties(33, 20, 4);
  for (const auto& map : {+[](float r) { return 1000 * r - 7; }, +[](float r) { return std::exp(r); },
                          +[](float r) { return r * r * r; }, +[](float r) { return std::atan(r); }}) {
    std::vector<float> mapped(reference.size());
    std::transform(reference.begin(), reference.end(), mapped.begin(), map);
    for (float reward = -2; reward < 8; reward += 0.37f) {
      EXPECT_EQ(calibrated_reward(mapped, map(reward)), calibrated_reward(reference, reward));
    }
    for (float reward : reference) {
      EXPECT_EQ(calibrated_reward(mapped, map(reward)), calibrated_reward(reference, reward));
    }
  }
}

TEST(CalibratedReward, LeavesOneOutExactly) {
  const std::vector<float> reference{-1, 0, 0, 0, 2};
  for (std::size_t i = 0; i < reference.size(); ++i) {
    std::vector<float> others = reference;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(calibrated_reward_leave_one_out(reference, reference[i]), by_definition(others, reference[i]));
  }
  EXPECT_THROW(calibrated_reward_leave_one_out(reference, 1), std::invalid_argument);
  EXPECT_THROW(calibrated_reward_leave_one_out(std::vector<float>{1}, 1), std::invalid_argument);
}

TEST(CalibratedReward, RefusesNaNAndAnEmptyTable) {
  const std::vector<float> reference{0, 1};
  EXPECT_THROW(calibrated_reward(reference, std::nanf("")), std::domain_error);
  EXPECT_THROW(calibrated_reward_leave_one_out(reference, std::nanf("")), std::domain_error);
  EXPECT_THROW(calibrated_reward({}, 1), std::invalid_argument);
}

TEST(CalibratedReward, MissesTheTrueRankByTheExpectedError) {
  // Mean |C_hat - C| is about 0.313/sqrt(K) for uniform rewards. 40,000 independent terms of deviation below
  // 0.24/8: five standard errors are 7.5e-4, a false alarm has probability 6e-7.
  constexpr int kTables = 400, kRewards = 100, k = 64;
  std::mt19937_64 engine(5);
  std::uniform_real_distribution<float> uniform;
  double error = 0;
  for (int table = 0; table < kTables; ++table) {
    for (int i = 0; i < kRewards; ++i) {
      std::vector<float> reference(k);
      for (float& reward : reference) reward = uniform(engine);
      std::sort(reference.begin(), reference.end());
      const float reward = uniform(engine);
      error += std::abs(calibrated_reward(reference, reward) - reward) / (kTables * kRewards);
    }
  }
  EXPECT_NEAR(error, 0.313 / std::sqrt(k), 7.5e-4);
}

RewardSketch sketch_of(const std::vector<float>& rewards) {
  RewardSketch sketch;
  sketch.add(rewards);
  return sketch;
}

class CalibrationModes : public testing::Test {
 protected:
  // Two prompts that the reward model scores on different scales.
  const std::vector<float> rewards_{0, 1, 2, 3, 100, 101, 102, 103};
  const RewardSketch pooled_ = sketch_of(rewards_);
};

TEST_F(CalibrationModes, PromptRanksAmongThePromptsOwn) {
  const Calibration calibrated(CalibrationMode::kPrompt, rewards_, 4, pooled_);
  EXPECT_EQ(calibrated.prompts(), 2);
  EXPECT_EQ(calibrated.rollouts(), 4);
  EXPECT_EQ(calibrated(0, 1.5f), 0.5);
  EXPECT_EQ(calibrated(1, 101.5f), 0.5);
  EXPECT_EQ(calibrated(1, 1.5f), 0.0);
  EXPECT_EQ(calibrated.rewards(1)[0], 100);
}

TEST_F(CalibrationModes, GlobalRanksAmongAll) {
  const Calibration calibrated(CalibrationMode::kGlobal, rewards_, 4, pooled_);
  EXPECT_EQ(calibrated(0, 50), 0.5);
  EXPECT_EQ(calibrated(1, 50), 0.5);
  EXPECT_EQ(calibrated(0, 1.5f), pooled_.cumulative(1.5f));
}

TEST_F(CalibrationModes, HierarchicalShrinksTowardsThePool) {
  for (double kappa : {0.0, 1.0, 8.0, 1e9}) {
    const Calibration calibrated(CalibrationMode::kHierarchical, rewards_, 4, pooled_, kappa);
    for (float reward : {-1.0f, 0.0f, 1.5f, 3.0f, 50.0f, 102.0f}) {
      const double expected =
          (4 * by_definition({0, 1, 2, 3}, reward) + kappa * pooled_.cumulative(reward)) / (4 + kappa);
      EXPECT_NEAR(calibrated(0, reward), expected, 1e-15);
    }
  }
}

TEST_F(CalibrationModes, GlobalAveragesOneHalfOverThePoolWithTies) {
  const std::vector<float> verified{0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0};
  const Calibration calibrated(CalibrationMode::kGlobal, verified, 4, sketch_of(verified));
  double mean = 0;
  for (float reward : verified) mean += calibrated(0, reward) / 12;
  EXPECT_NEAR(mean, 0.5, 1.0 / 65536);
}

/// Rollouts [prompts, K] of prompts whose reward distributions scatter around the uniform one like a
/// Dirichlet process of strength kappa, drawn by Blackwell and MacQueen's urn: the next is new with
/// probability kappa/ (kappa + drawn), else one of those before. `next` are further rewards of each prompt,
/// not in the table.
struct Urns {
  std::vector<float> rewards;            // [prompts, K], ascending per prompt
  std::vector<std::vector<float>> next;  // [prompts][more]
  Urns(std::size_t prompts, std::size_t K, double kappa, std::size_t more, std::uint64_t seed) {
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<double> uniform;
    for (std::size_t p = 0; p < prompts; ++p) {
      std::vector<float> urn;
      for (std::size_t i = 0; i < K + more; ++i) {
        const auto drawn = static_cast<double>(i);
        const bool fresh = uniform(engine) * (kappa + drawn) < kappa;
        urn.push_back(fresh ? static_cast<float>(uniform(engine)) : urn[engine() % i]);
      }
      const auto end_of_table = urn.begin() + static_cast<std::ptrdiff_t>(K);
      next.emplace_back(end_of_table, urn.end());
      std::sort(urn.begin(), end_of_table);
      rewards.insert(rewards.end(), urn.begin(), end_of_table);
    }
  }
};

TEST(EstimatedPriorStrength, RecoversKappaOfDirichletProcesses) {
  // 2,000 prompts. The observed share S = (kappa + K)/(K (kappa + 1)) is a mean over prompts of a squared
  // deviation summed over deciles, whose relative deviation from prompt to prompt is below 1.6 (a single
  // decile's square has sqrt(2), and they are strongly correlated); five standard errors of S are therefore
  // 5 * 1.6/sqrt(2000) = 18 %, a false alarm of 6e-7 each, and kappa's bounds are where S's are.
  for (const double kappa : {0.5, 2.0, 8.0, 20.0}) {
    for (const std::size_t K : {4u, 16u, 64u}) {
      const Urns urns(2'000, K, kappa, 0, K);
      const auto k = static_cast<double>(K);
      const double S = (kappa + k) / (k * (kappa + 1));
      const auto kappa_at = [&](double s) { return k * s > 1 ? k * (1 - s) / (k * s - 1) : 1e9; };
      const double found = estimated_prior_strength(urns.rewards, static_cast<std::int64_t>(K));
      EXPECT_GE(found, kappa_at(1.18 * S)) << "kappa " << kappa << ", K " << K;
      EXPECT_LE(found, kappa_at(0.82 * S)) << "kappa " << kappa << ", K " << K;
    }
  }
  // A verifier's verdicts are shares of two values alone: Bernoulli with Beta(kappa r, kappa (1 - r)) rates.
  for (const float passes : {0.04f, 0.5f}) {
    Urns verdicts(8'000, 16, 4, 0, 7);
    for (float& reward : verdicts.rewards) reward = reward < 1 - passes ? 0.0f : 1.0f;
    EXPECT_NEAR(estimated_prior_strength(verdicts.rewards, 16), 4, 1) << passes;
  }
  // Where rollouts are many the bounds are narrow.
  const Urns urns(2'000, 64, 8, 0, 1);
  EXPECT_NEAR(estimated_prior_strength(urns.rewards, 64), 8, 1.5);
}

TEST(EstimatedPriorStrength, IsInfiniteForPromptsThatDoNotDiffer) {
  // Every prompt the very same rewards: less scatter than chance has.
  std::vector<float> same;
  for (int p = 0; p < 50; ++p)
    for (int i = 0; i < 16; ++i) same.push_back(static_cast<float>(i));
  EXPECT_EQ(estimated_prior_strength(same, 16), 1e9);
  // Independent draws from one distribution: no more scatter than chance has, and the estimate is far above
  // K. K S is 1 with a standard deviation below 1.6/sqrt(2000); kappa = (K - KS)/(KS - 1) is then above
  // 15/0.18.
  const Urns independent(2'000, 16, 1e12, 0, 3);
  EXPECT_GT(estimated_prior_strength(independent.rewards, 16), 80);
  const std::vector<float> equal(64, 1.0f);  // no spread at all
  EXPECT_EQ(estimated_prior_strength(equal, 8), 1e9);
}

TEST(EstimatedPriorStrength, MakesHierarchicalCalibrationTheBestOfThree) {
  // Against each prompt's true distribution, which its next 4,000 rewards tell, at few rollouts. By theory
  // the mean squared errors are, in units of G (1-G): prompt a = kappa/(K (kappa+1)), global b = 1/(kappa+1),
  // and the mixture at kappa ab/(a+b): for kappa 4 and K 4 half of either, so a margin of 25 % is wide.
  const std::size_t K = 4, prompts = 400;
  const Urns urns(prompts, K, 4, 4'000, 5);
  const auto pooled = sketch_of(urns.rewards);
  const auto error_of = [&](CalibrationMode mode) {
    const Calibration calibration(mode, urns.rewards, static_cast<std::int64_t>(K), pooled);
    double sum = 0;
    for (std::size_t p = 0; p < prompts; ++p) {
      auto truth = urns.next[p];
      std::sort(truth.begin(), truth.end());
      for (float reward = 0.05f; reward < 1; reward += 0.1f) {
        const double miss =
            calibration(static_cast<std::int64_t>(p), reward) - calibrated_reward(truth, reward);
        sum += miss * miss;
      }
    }
    return sum;
  };
  const double hierarchical = error_of(CalibrationMode::kHierarchical);
  EXPECT_LT(hierarchical, 0.75 * error_of(CalibrationMode::kPrompt));
  EXPECT_LT(hierarchical, 0.75 * error_of(CalibrationMode::kGlobal));
}

TEST(Calibration, KnowsMeanAndDeviationForZScores) {
  const Calibration calibrated(CalibrationMode::kPrompt, {1, 2, 3, 6, 5, 5, 5, 5}, 4, RewardSketch());
  EXPECT_DOUBLE_EQ(calibrated.mean(0), 3);
  EXPECT_DOUBLE_EQ(calibrated.deviation(0), std::sqrt(14.0 / 3));
  EXPECT_DOUBLE_EQ(calibrated.mean(1), 5);
  EXPECT_GT(calibrated.deviation(1), 0);
  EXPECT_LT(calibrated.deviation(1), 1e-3);
}

TEST(Calibration, RefusesWhatItCannotRank) {
  const auto make = [](std::vector<float> rewards, std::int64_t rollouts, double prior = 8,
                       CalibrationMode mode = CalibrationMode::kPrompt) {
    return Calibration(mode, std::move(rewards), rollouts, RewardSketch(), prior);
  };
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THROW(make({1, 2, 3}, 2), std::invalid_argument);
  EXPECT_THROW(make({1, 2}, 0), std::invalid_argument);
  EXPECT_THROW(make({2, 1}, 2), std::invalid_argument);
  EXPECT_THROW(make({1, std::nanf("")}, 2), std::invalid_argument);
  EXPECT_THROW(make({1, infinity}, 2), std::invalid_argument);
  EXPECT_THROW(make({1, 2}, 2, -1), std::invalid_argument);
  EXPECT_THROW(make({1, 2}, 2, 8, CalibrationMode::kGlobal), std::invalid_argument);
  EXPECT_THROW(make({1, 2}, 2, 8, CalibrationMode::kHierarchical), std::invalid_argument);
  const Calibration calibrated = make({1, 2}, 2);
  EXPECT_THROW(calibrated(-1, 0), std::out_of_range);
  EXPECT_THROW(calibrated(1, 0), std::out_of_range);
  EXPECT_THROW(calibrated(0, std::nanf("")), std::domain_error);
}

}  // namespace
}  // namespace infalign::alignment
