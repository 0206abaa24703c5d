// Step 2 of CTRL at work: R(x, y), the reward as the policy gradient sees it, of all samples of a prompt.
// Most transforms are functions of the calibrated reward of each sample; leave_one_out looks at the samples
// together.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/alignment/calibration.h"
#include "core/alignment/deployment.h"
#include "core/alignment/leave_one_out.h"
#include "core/alignment/opponent.h"
#include "core/alignment/transform.h"
#include "core/experiment/experiment.h"

namespace infalign::stages {

/// The n samples of one prompt, and the row of the calibration that is the prompt's.
struct PromptSamples {
  const alignment::Calibration& calibration;
  std::int64_t row = 0;
  std::span<const float> reward;         // [n]
  std::span<const float> selecting;      // [n]; by which the procedure chooses
  std::span<const std::int64_t> answer;  // [n], or empty
  std::uint64_t seed = 0;                // of averages over random subsets
};

class TransformedReward {
 public:
  /// K `rollouts` a prompt of the calibration, n `samples` a prompt of a step.
  TransformedReward(const alignment::Deployment& deployment, const experiment::Variant& variant,
                    std::int64_t rollouts, std::int64_t samples);

  /// Solves the transform anew where it depends on beta.
  void set_beta(double beta);

  /// R [n], given C [n].
  std::vector<double> operator()(const PromptSamples& samples, std::span<const double> calibrated) const;

  /// Where beta starts: the variant's own, or what theory says for its target KL. For rewards without theory,
  /// what it says of a normal one of their deviation (of raw rewards in `calibration`).
  double initial_beta(const alignment::Calibration& calibration) const;

 private:
  std::vector<double> leave_one_out(const PromptSamples& samples) const;

  alignment::Deployment deployment_;
  experiment::Variant variant_;
  alignment::TransformSettings settings_;
  std::function<double(double)> transform_;
  double solved_for_ = 0;  // beta
  // Of leave_one_out, for each matchup.
  std::vector<alignment::LeaveOneOut> leave_one_out_;
  std::vector<alignment::OpponentValue> opponent_;
};

/// The settings of a variant's transform.
alignment::TransformSettings transform_settings(const experiment::Variant& variant, std::int64_t rollouts);

}  // namespace infalign::stages
