// Stage `evaluate`: win rates of every variant against the reference policy on held-out prompts, under the
// inference procedure and plainly, by exact order-statistic estimators, with bootstrap intervals over prompts
// and paired differences; beside them what theory predicts.
#pragma once

#include <string>
#include <vector>

#include "core/alignment/calibration.h"
#include "core/alignment/estimators.h"
#include "core/json/json.h"
#include "core/stages/problem.h"
#include "core/stages/run.h"

namespace infalign::stages {

/// Whose reward decides a win: the judge's where there is one, or that of the model trained on.
enum class Decides { kJudge, kReward };

/// Prompts whose fresh reference samples check the calibration: enough for a histogram.
inline constexpr std::int64_t kCalibrationCheckPrompts = 64;

/// One policy's measurements on the held-out prompts, on all ranks, in prompt order.
struct PolicySamples {
  std::vector<float> reward;           // [P, M]; of the model trained on
  std::vector<float> reranker_reward;  // [P, M]; selects; empty when the reward does
  std::vector<float> judge_reward;     // [P, M]; decides the win; empty when the reward does
  std::vector<std::int64_t> answer;    // [P, M]; voted on; empty when nothing is
  std::vector<double> log_ratio;       // [P, M]; log pi - log pi_ref
  std::vector<double> length;          // [P, M]
  std::vector<std::string> example;    // the procedure's choice for the first prompts, as text
  std::vector<float> example_reward;

  /// What the estimators ask of one prompt's samples.
  alignment::ScoredSamples scored(std::size_t prompt, std::size_t M, Decides who) const {
    const auto row = [&](const auto& all) { return std::span(all).subspan(prompt * M, M); };
    const bool own = who == Decides::kReward || judge_reward.empty();
    alignment::ScoredSamples samples{row(reranker_reward.empty() ? reward : reranker_reward),
                                     row(own ? reward : judge_reward)};
    if (!answer.empty()) samples.answer = row(answer);
    return samples;
  }
};

/// M = evaluation.samples_per_prompt samples of every held-out prompt. All policies are given the same random
/// numbers (those of `purpose`), which makes differences between them sharper than either alone.
PolicySamples sample_answerer(Run& run, Problem& problem, Answerer answerer, kernels::Purpose purpose);

/// The entry of `evaluation.json` for one policy; `previous` policies are compared with by paired
/// differences.
OrderedJson evaluate_variant(const Run& run, const experiment::Variant& variant, double beta,
                             const PolicySamples& policy, const PolicySamples& reference,
                             const std::vector<const PolicySamples*>& previous);

}  // namespace infalign::stages
