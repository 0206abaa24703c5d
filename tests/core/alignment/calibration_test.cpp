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
