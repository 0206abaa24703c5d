#include "core/alignment/sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace infalign::alignment {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal_rewards(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.5f, 2.0f);
  std::vector<float> rewards(count);
  for (float& reward : rewards) reward = normal(engine);
  return rewards;
}

TEST(OrderedKey, OrdersAsFloatsDoAndComesBack) {
  const std::vector<float> ascending{-kInfinity,
                                     std::numeric_limits<float>::lowest(),
                                     -1.5f,
                                     -std::numeric_limits<float>::denorm_min(),
                                     -0.0f,
                                     0.0f,
                                     std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::min(),
                                     1.0f,
                                     std::nextafter(1.0f, 2.0f),
                                     std::numeric_limits<float>::max(),
                                     kInfinity};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    EXPECT_EQ(std::signbit(from_ordered_key(ordered_key(ascending[i]))), std::signbit(ascending[i]));
    EXPECT_EQ(from_ordered_key(ordered_key(ascending[i])), ascending[i]);
  }
  for (std::size_t i = 1; i < ascending.size(); ++i) {
    EXPECT_LT(ordered_key(ascending[i - 1]), ordered_key(ascending[i])) << ascending[i];
  }
}

TEST(OrderedKey, RefusesNaN) {
  EXPECT_THROW(ordered_key(kNaN), std::domain_error);
  EXPECT_THROW(ordered_key(-kNaN), std::domain_error);
}

TEST(RewardSketch, ARefusedBatchLeavesNoTrace) {
  RewardSketch sketch;
  EXPECT_THROW(sketch.add(std::vector<float>{1.0f, 2.0f, kNaN}), std::domain_error);
  EXPECT_THROW(sketch.add(kNaN), std::domain_error);
  EXPECT_EQ(sketch.total(), 0u);
}

TEST(RewardSketch, MergesToTheSameBitsInAnySplitAndOrder) {
  std::vector<float> rewards = normal_rewards(10'000, 1);
  RewardSketch whole;
  whole.add(rewards);
  ASSERT_EQ(whole.total(), rewards.size());

  std::mt19937_64 engine(2);
  for (std::size_t ranks : {1u, 2u, 3u, 7u, 64u}) {
    std::shuffle(rewards.begin(), rewards.end(), engine);
    std::vector<RewardSketch> shares(ranks);
    for (std::size_t i = 0; i < rewards.size(); ++i) shares[(i * i + i / 3) % ranks].add(rewards[i]);
    std::shuffle(shares.begin(), shares.end(), engine);
    RewardSketch merged;
    for (const RewardSketch& share : shares) {
      std::transform(share.counts().begin(), share.counts().end(), merged.counts().begin(),
                     merged.counts().begin(), std::plus<>());
    }
    EXPECT_TRUE(std::ranges::equal(std::as_const(merged).counts(), std::as_const(whole).counts())) << ranks;
    EXPECT_EQ(merged.cumulative(0.7f), whole.cumulative(0.7f));
    EXPECT_EQ(merged.quantile(0.3), whole.quantile(0.3));
  }
}

TEST(RewardSketch, CumulativeIsCloseToTheExactRank) {
  std::vector<float> rewards = normal_rewards(20'000, 3);
  RewardSketch sketch;
  sketch.add(rewards);
  const RewardDistribution distribution(sketch);
  std::sort(rewards.begin(), rewards.end());
  double previous = 0;
  for (float reward = -9; reward < 9; reward += 0.01f) {
    const auto below = std::lower_bound(rewards.begin(), rewards.end(), reward) - rewards.begin();
    // A bucket is 2^-8 to 2^-7 of the reward wide and the density at most 0.2: 0.2 * 5 / 128 < 0.008 of the
    // mass is in one, and interpolation leaves a small part of that.
    EXPECT_NEAR(sketch.cumulative(reward), static_cast<double>(below) / 20'000, 1e-3) << reward;
    EXPECT_EQ(distribution.cumulative(reward), sketch.cumulative(reward));
    EXPECT_GE(sketch.cumulative(reward), previous);
    previous = sketch.cumulative(reward);
  }
}

TEST(RewardSketch, TiesOfBfloat16RewardsGetTheirMidRank) {
  RewardSketch sketch;
  sketch.add(std::vector<float>{-1, 0, 0, 0, 1, 1, 3.25f, 3.25f});
  constexpr double kHalfKey = 1.0 / 65536;  // a bucket has no exact middle among its keys
  EXPECT_NEAR(sketch.cumulative(-1), 0.5 / 8, kHalfKey);
  EXPECT_NEAR(sketch.cumulative(0), 2.5 / 8, kHalfKey);
  EXPECT_NEAR(sketch.cumulative(1), 5.0 / 8, kHalfKey);
  EXPECT_NEAR(sketch.cumulative(3.25f), 7.0 / 8, kHalfKey);
  EXPECT_EQ(sketch.cumulative(-2), 0);
  EXPECT_EQ(sketch.cumulative(2), 6.0 / 8);
  EXPECT_EQ(sketch.cumulative(kInfinity), 1);
}

TEST(RewardSketch, IsSymmetricUnderNegation) {
  RewardSketch sketch;
  sketch.add(std::vector<float>{-1, 1, -0.3f, 0.3f, 7.77f, -7.77f});
  for (float reward : {0.3f, 1.0f, 2.0f, 7.77f}) {
    EXPECT_DOUBLE_EQ(sketch.cumulative(reward) + sketch.cumulative(-reward), 1) << reward;
  }
}

TEST(RewardSketch, KnowsNothingWithoutData) {
  const RewardSketch sketch;
  EXPECT_EQ(sketch.cumulative(3.0f), 0.5);
  EXPECT_EQ(RewardDistribution(sketch).cumulative(-3.0f), 0.5);
  EXPECT_THROW(sketch.quantile(0.5), std::domain_error);
  EXPECT_THROW(sketch.cumulative(kNaN), std::domain_error);
}

TEST(RewardSketch, QuantilesAreWithinABucket) {
  std::vector<float> rewards = normal_rewards(5'000, 4);
  RewardSketch sketch;
  sketch.add(rewards);
  std::sort(rewards.begin(), rewards.end());
  for (double level = 0; level <= 1; level += 1.0 / 64) {
    const float exact = rewards[std::min<std::size_t>(4'999, static_cast<std::size_t>(level * 5'000))];
    EXPECT_NEAR(sketch.quantile(level), exact, std::abs(exact) / 64 + 1e-3) << level;
  }
  EXPECT_THROW(sketch.quantile(1.5), std::domain_error);
  EXPECT_THROW(sketch.quantile(std::nan("")), std::domain_error);
}

TEST(RewardSketch, HoldsTheLargestFloats) {
  RewardSketch sketch;
  sketch.add(std::vector<float>{-kInfinity, std::numeric_limits<float>::lowest(),
                                std::numeric_limits<float>::max(), kInfinity});
  EXPECT_EQ(sketch.total(), 4u);
  EXPECT_EQ(sketch.quantile(0), -kInfinity);
  EXPECT_EQ(sketch.quantile(1), kInfinity);
  EXPECT_FALSE(std::isnan(sketch.quantile(0.5)));
}

class QuantileRefinementAgainstSorting : public testing::TestWithParam<std::vector<float>> {};

TEST_P(QuantileRefinementAgainstSorting, IsExactInAnySplit) {
  std::vector<float> rewards = GetParam();
  const auto n = static_cast<double>(rewards.size());
  RewardSketch sketch;
  sketch.add(rewards);
  std::vector<double> levels{0, 1, 0.5, 0.25, 0.25, 0.999};
  for (int i = 0; i <= 50; ++i) levels.push_back(i / 50.0);
  QuantileRefinement refinement(sketch, levels), other(sketch, levels);
  const std::size_t half = rewards.size() / 2;
  refinement.add(std::span(rewards).subspan(half));
  other.add(std::span(rewards).first(half));
  std::transform(other.counts().begin(), other.counts().end(), refinement.counts().begin(),
                 refinement.counts().begin(), std::plus<>());
  const std::vector<float> quantiles = refinement.quantiles();
  std::sort(rewards.begin(), rewards.end());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto rank = static_cast<std::size_t>(std::min(n - 1, std::floor(levels[i] * n)));
    EXPECT_EQ(quantiles[i], rewards[rank]) << levels[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Rewards, QuantileRefinementAgainstSorting,
                         testing::Values(normal_rewards(10'001, 5), std::vector<float>{2.5f},
                                         std::vector<float>{0, 1, 1, 0, 0, 1, 1, 1, 1, 1},
                                         std::vector<float>{-kInfinity, 1, kInfinity, -1, 1e-42f, -1e-42f,
                                                            3e38f}));

TEST(QuantileRefinement, NoticesAnotherSetOfRewards) {
  RewardSketch sketch;
  sketch.add(std::vector<float>{1, 2, 3});
  QuantileRefinement refinement(sketch, std::vector<double>{0.5});
  EXPECT_THROW(refinement.quantiles(), std::logic_error);
  EXPECT_THROW(refinement.add(std::vector<float>{kNaN}), std::domain_error);
  EXPECT_THROW(QuantileRefinement(RewardSketch(), std::vector<double>{0.5}), std::domain_error);
  EXPECT_THROW(QuantileRefinement(sketch, std::vector<double>{-0.1}), std::domain_error);
}

}  // namespace
}  // namespace infalign::alignment
