// Step 1 of CTRL: the calibrated reward C(x, y), the mid-rank of a reward among the reference policy's own
// rewards for the same prompt. Under the reference policy C averages 1/2 whatever the reward model, ties
// included, and any strictly increasing map of the rewards leaves it unchanged: that is what makes one
// transform right for every prompt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/alignment/sketch.h"

namespace infalign::alignment {

/// Where a reward lies in a table: so many below it, so many equal to it.
struct Ranks {
  std::size_t below = 0, ties = 0;
};
/// In `sorted` (ascending, K >= 1 values). O(log K). Errors: those of calibrated_reward.
Ranks ranks_among(std::span<const float> sorted, float reward);

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
  /// worth of the pooled distribution; none: estimated_prior_strength). Errors: std::invalid_argument for
  /// rewards of another shape, unsorted or not finite, for a negative prior, and for an empty sketch in a
  /// mode that asks it.
  Calibration(CalibrationMode mode, std::vector<float> rewards, std::int64_t rollouts, RewardSketch pooled,
              std::optional<double> prior_strength = std::nullopt);

  /// C of a reward for a prompt. Errors: std::out_of_range for the prompt, std::domain_error for NaN.
  double operator()(std::int64_t prompt, float reward) const;
  std::span<const float> rewards(std::int64_t prompt) const;  // [rollouts], ascending
  std::int64_t prompts() const { return static_cast<std::int64_t>(mean_.size()); }
  std::int64_t rollouts() const { return rollouts_; }
  double mean(std::int64_t prompt) const;  // of the raw rewards, for z-scores
  double deviation(
      std::int64_t prompt) const;  // their standard deviation (n - 1), at least a tiny positive number
  const RewardSketch& pooled() const { return pooled_; }
  double prior_strength() const { return prior_strength_; }

 private:
  CalibrationMode mode_;
  std::vector<float> rewards_;
  std::int64_t rollouts_;
  RewardSketch pooled_;
  RewardDistribution pooled_distribution_;
  double prior_strength_;
  std::vector<double> mean_, deviation_;  // [prompts]
};

/// kappa of kHierarchical from the rewards themselves [prompts, rollouts], ascending per prompt, by the
/// method of moments. If the prompts' distributions scatter around the pooled one G like a Dirichlet process
/// of strength kappa, a prompt's empirical share C_hat of rewards below some reward has the variance G (1-G)
/// (kappa + K)/(K (kappa + 1)), ties or not. The ratio S of the observed to G (1-G), over prompts and the
/// pooled deciles, gives kappa = K (1-S)/(KS - 1); the posterior mean is then the very formula of
/// kHierarchical. Infinite, returned as 1e9, if the prompts differ by no more than chance.
double estimated_prior_strength(std::span<const float> rewards, std::int64_t rollouts);

}  // namespace infalign::alignment
