// Step 1 of CTRL: the calibrated reward C(x, y), the mid-rank of a reward among the reference policy's own
// rewards for the same prompt. Under the reference policy C averages 1/2 whatever the reward model, ties
// included, and any strictly increasing map of the rewards leaves it unchanged: that is what makes one
// transform right for every prompt.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/alignment/sketch.h"

namespace infalign::alignment {

/// C = (1/K) sum over z of w_r(y, z): the share of `sorted` (ascending, K >= 1 values) below `reward`, ties
/// counted one half. O(log K). Errors: std::invalid_argument for an empty table, std::domain_error for NaN.
double calibrated_reward(std::span<const float> sorted, float reward);

/// The same for a reward that is itself one of the K (it is left out; K >= 2).
/// Errors: std::invalid_argument if it is not in the table.
double calibrated_reward_leave_one_out(std::span<const float> sorted, float reward);

/// Whose rewards a reward is ranked among: its own prompt's (the paper), those of all prompts, or both.
enum class CalibrationMode { kPrompt, kGlobal, kHierarchical };

/// The reference policy's rewards of every prompt, ready to calibrate others.
class Calibration {
 public:
  /// rewards [prompts, rollouts], finite, ascending per prompt; `pooled` the sketch over all prompts of all
  /// ranks. kHierarchical: C = (K C_prompt + kappa C_global) / (K + kappa), kappa `prior_strength` (rollouts'
  /// worth of the pooled distribution). Errors: std::invalid_argument for rewards of another shape, unsorted
  /// or not finite, for a negative prior, and for an empty sketch in a mode that asks it.
  Calibration(CalibrationMode mode, std::vector<float> rewards, std::int64_t rollouts, RewardSketch pooled,
              double prior_strength = 8);

  /// C of a reward for a prompt. Errors: std::out_of_range for the prompt, std::domain_error for NaN.
  double operator()(std::int64_t prompt, float reward) const;
  std::span<const float> rewards(std::int64_t prompt) const;  // [rollouts], ascending
  std::int64_t prompts() const { return static_cast<std::int64_t>(mean_.size()); }
  std::int64_t rollouts() const { return rollouts_; }
  double mean(std::int64_t prompt) const;  // of the raw rewards, for z-scores
  double deviation(
      std::int64_t prompt) const;  // their standard deviation (n - 1), at least a tiny positive number
  const RewardSketch& pooled() const { return pooled_; }

 private:
  CalibrationMode mode_;
  std::vector<float> rewards_;
  std::int64_t rollouts_;
  RewardSketch pooled_;
  RewardDistribution pooled_distribution_;
  double prior_strength_;
  std::vector<double> mean_, deviation_;  // [prompts]
};

}  // namespace infalign::alignment
