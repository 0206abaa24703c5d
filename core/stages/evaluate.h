// Stage `evaluate`: win rates of every variant against the reference policy on held-out prompts, under the
// inference procedure and plainly, by exact order-statistic estimators, with bootstrap intervals over prompts
// and paired differences; beside them what theory predicts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/alignment/calibration.h"
#include "core/stages/problem.h"
#include "core/stages/run.h"

namespace infalign::stages {

/// Prompts whose fresh reference samples check the calibration: enough for a histogram.
inline constexpr std::int64_t kCalibrationCheckPrompts = 64;

/// One policy's measurements on the held-out prompts, on all ranks, in prompt order.
struct PolicySamples {
  std::vector<float> reward;         // [P, M]; selects
  std::vector<float> judge_reward;   // [P, M]; decides the win; empty when the reward does
  std::vector<double> log_ratio;     // [P, M]; log pi - log pi_ref
  std::vector<double> length;        // [P, M]
  std::vector<std::string> example;  // the procedure's choice for the first prompts, as text
  std::vector<float> example_reward;

  std::span<const float> selecting(std::size_t prompt, std::size_t M) const {
    return {&reward[prompt * M], M};
  }
  std::span<const float> judging(std::size_t prompt, std::size_t M) const {
    return {&(judge_reward.empty() ? reward : judge_reward)[prompt * M], M};
  }
};

/// M = evaluation.samples_per_prompt samples of every held-out prompt. All policies are given the same random
/// numbers (those of `purpose`), which makes differences between them sharper than either alone.
PolicySamples sample_policy(Run& run, Problem& problem, std::span<const float> parameters,
                            kernels::Purpose purpose);

/// The entry of `evaluation.json` for one policy; `previous` policies are compared with by paired
/// differences.
nlohmann::ordered_json evaluate_variant(const Run& run, const experiment::Variant& variant, double beta,
                                        const PolicySamples& policy, const PolicySamples& reference,
                                        const std::vector<const PolicySamples*>& previous);

}  // namespace infalign::stages
