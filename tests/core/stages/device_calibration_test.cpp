// core/alignment, which may know nothing of devices, and the kernels that do its work where the rewards are,
// hold to the same formulas.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "core/alignment/calibration.h"
#include "kernels/calibration/calibration.h"

namespace infalign {
namespace {

TEST(DeviceCalibration, AgreesWithAlignment) {
  constexpr std::int64_t kPrompts = 5, kRollouts = 37, kRewards = 400;
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> sorted(kPrompts * kRollouts), reward(kRewards);
  for (float& value : sorted) value = std::round(4 * normal(engine)) / 4;
  for (float& value : reward) value = std::round(4 * normal(engine)) / 4;
  for (std::int64_t p = 0; p < kPrompts; ++p)
    std::sort(sorted.begin() + p * kRollouts, sorted.begin() + (p + 1) * kRollouts);
  std::vector<std::int32_t> prompt;
  for (std::int64_t i = 0; i < kRewards; ++i) prompt.push_back(static_cast<std::int32_t>(i % kPrompts));

  std::vector<double> calibrated(kRewards);
  kernels::calibration_lookup({}, kRewards, kRollouts, sorted.data(), prompt.data(), reward.data(),
                              calibrated.data());
  std::vector<std::uint64_t> counts(kernels::kSketchBuckets);
  kernels::sketch_counts({}, kRewards, reward.data(), counts.data());

  alignment::RewardSketch sketch;
  sketch.add(reward);
  ASSERT_EQ(sketch.counts().size(), counts.size());
  EXPECT_TRUE(std::equal(counts.begin(), counts.end(), sketch.counts().begin()));
  for (std::size_t i = 0; i < reward.size(); ++i) {
    const std::span row(sorted.data() + prompt[i] * kRollouts, kRollouts);
    EXPECT_DOUBLE_EQ(calibrated[i], alignment::calibrated_reward(row, reward[i]));
  }
}

}  // namespace
}  // namespace infalign
