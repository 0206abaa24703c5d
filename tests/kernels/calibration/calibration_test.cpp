// The calibrated reward against counting one by one, and the sketch's buckets against what they promise.
// tests/core/stages/device_calibration_test.cpp holds both to core/alignment.
#include "kernels/calibration/calibration.h"

#include <bit>
#include <limits>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(Calibration, IsTheMidRankAmongThePromptsRewards) {
  for (const std::int64_t K : {1, 2, 5, 64}) {
    const std::int64_t prompts = 3;
    Floats sorted = normal(prompts * K, 1);
    for (float& value : sorted) value = std::round(2 * value) / 2;  // ties
    for (std::int64_t p = 0; p < prompts; ++p)
      std::sort(sorted.begin() + p * K, sorted.begin() + (p + 1) * K);
    Floats reward = sorted;
    reward.insert(reward.end(), {-100, 100, 0.25f});
    std::vector<std::int32_t> prompt;
    for (std::size_t i = 0; i < reward.size(); ++i) prompt.push_back(static_cast<std::int32_t>(i % 3));
    Doubles calibrated(reward.size());
    calibration_lookup({}, std::ssize(reward), K, sorted.data(), prompt.data(), reward.data(),
                       calibrated.data());
    for (std::size_t i = 0; i < reward.size(); ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const float other = sorted[static_cast<std::size_t>(prompt[i] * K + k)];
        sum += other < reward[i] ? 1 : other == reward[i] ? 0.5 : 0;
      }
      EXPECT_DOUBLE_EQ(calibrated[i], sum / static_cast<double>(K));
    }
  }
}

TEST(Calibration, OfNaNIsNaN) {
  const float sorted[] = {1, 2}, reward[] = {NAN};
  const std::int32_t prompt[] = {0};
  double calibrated = 0;
  calibration_lookup({}, 1, 2, sorted, prompt, reward, &calibrated);
  EXPECT_TRUE(std::isnan(calibrated));
}

TEST(SketchCounts, BucketsAreInTheOrderOfRewardsAndNaNIsInNone) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Floats ascending{-infinity, -3.5f, -1e-30f, -0.0f, 0.0f, 1e-30f, 0.75f, 0.76f, 1e30f, infinity};
  std::vector<std::uint64_t> counts(kSketchBuckets);
  Floats rewards = ascending;
  rewards.push_back(NAN);
  sketch_counts({}, std::ssize(rewards), rewards.data(), counts.data());
  std::uint32_t before = 0;
  for (const float reward : ascending) {
    const std::uint32_t bucket = sketch_bucket(std::bit_cast<std::uint32_t>(reward));
    EXPECT_GE(bucket, before);
    before = bucket;
    EXPECT_GE(counts[bucket], 1u);
  }
  std::uint64_t total = 0;
  for (const std::uint64_t count : counts) total += count;
  EXPECT_EQ(total, ascending.size());
}

}  // namespace
}  // namespace infalign::kernels
