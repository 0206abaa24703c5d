// Step 1 of CTRL: the calibrated reward C(x, y), the mid-rank of a reward among the reference policy's own rewards for the same prompt.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/alignment/sketch.h"

namespace infalign::alignment {

/// C = (1/K) sum over z of w_r(y, z): the share of `sorted` (ascending, K >= 1 values) below `reward`, ties counted one half. O(log K).
double calibrated_reward(std::span<const float> sorted, float reward);

/// The same for a reward that is itself one of the K (it is left out; K >= 2). Errors: std::invalid_argument if it is not in the table.
double calibrated_reward_leave_one_out(std::span<const float> sorted, float reward);

enum class CalibrationMode { kPrompt, kGlobal, kHierarchical };

/// The reference policy's rewards of every prompt, ready to calibrate others.
class Calibration {
 public:
  /// rewards [prompts, rollouts], ascending per prompt; `pooled` the sketch over all prompts of all ranks.
  /// kHierarchical: C = (K C_prompt + kappa C_global) / (K + kappa), kappa `prior_strength` (rollouts' worth of the pooled distribution).
  Calibration(CalibrationMode mode, std::vector<float> rewards, std::int64_t rollouts, RewardSketch pooled,
              double prior_strength = 8);

  double operator()(std::int64_t prompt, float reward) const;
  std::span<const float> rewards(std::int64_t prompt) const;
  std::int64_t prompts() const;
  std::int64_t rollouts() const { return rollouts_; }
  double mean(std::int64_t prompt) const;       // of the raw rewards, for z-scores
  double deviation(std::int64_t prompt) const;  // their standard deviation (n - 1), at least a tiny positive number
  const RewardSketch& pooled() const { return pooled_; }

 private:
  CalibrationMode mode_;
  std::vector<float> rewards_;
  std::int64_t rollouts_;
  RewardSketch pooled_;
  double prior_strength_;
  std::vector<double> mean_, deviation_;
};

}  // namespace infalign::alignment
