#include "core/stages/transformed_reward.h"

#include <cmath>

#include "core/alignment/theory.h"

namespace infalign::stages {

using alignment::TransformKind;

alignment::TransformSettings transform_settings(const experiment::Variant& variant, std::int64_t rollouts) {
  alignment::TransformSettings settings;
  settings.kind = alignment::transform_kind(variant.transform);
  settings.exponent = variant.exponent;
  settings.debiased = variant.debiased;
  settings.cut = variant.cut;
  settings.points = variant.points;
  settings.rollouts = rollouts;
  return settings;
}

TransformedReward::TransformedReward(const alignment::Deployment& deployment,
                                     const experiment::Variant& variant, std::int64_t rollouts,
                                     std::int64_t samples)
    : deployment_(deployment), variant_(variant), settings_(transform_settings(variant, rollouts)) {
  if (settings_.kind != TransformKind::kLeaveOneOut) return;
  for (const auto& matchup : deployment_.matchups()) {
    leave_one_out_.emplace_back(matchup.policy, samples);
    const bool by_wins = matchup.policy.value == alignment::Value::kWinRate;
    opponent_.emplace_back(by_wins ? matchup.opponent : alignment::make_procedure("standard", 1), rollouts);
  }
}

void TransformedReward::set_beta(double beta) {
  if (!alignment::is_calibrated(settings_.kind)) return;
  if (transform_ && (!alignment::depends_on_beta(settings_.kind) || beta == solved_for_)) return;
  solved_for_ = beta;
  transform_ = alignment::make_transform(settings_, deployment_, beta);
}

std::vector<double> TransformedReward::operator()(const PromptSamples& samples,
                                                  std::span<const double> calibrated) const {
  if (settings_.kind == TransformKind::kLeaveOneOut) return leave_one_out(samples);
  std::vector<double> transformed;
  for (std::size_t i = 0; i < samples.reward.size(); ++i) {
    const auto& table = samples.calibration;
    const double reward = samples.reward[i];
    transformed.push_back(settings_.kind == TransformKind::kRaw ? reward
                          : settings_.kind == TransformKind::kZScore
                              ? (reward - table.mean(samples.row)) / table.deviation(samples.row)
                              : transform_(calibrated[i]));
  }
  return transformed;
}

std::vector<double> TransformedReward::leave_one_out(const PromptSamples& samples) const {
  std::vector<double> sum(samples.reward.size());
  for (std::size_t m = 0; m < leave_one_out_.size(); ++m) {
    const auto& matchup = deployment_.matchups()[m];
    const std::vector<double> value =
        matchup.policy.value == alignment::Value::kReward
            ? std::vector<double>(samples.reward.begin(), samples.reward.end())
            : opponent_[m](samples.calibration.rewards(samples.row), samples.reward);
    auto rewards = leave_one_out_[m].rewards({samples.selecting, samples.answer}, value, samples.seed);
    alignment::unbias_for_leave_one_out_baseline(matchup.policy.n, rewards);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += matchup.share * rewards[i];
  }
  return sum;
}

double TransformedReward::initial_beta(const alignment::Calibration& calibration) const {
  if (variant_.beta) return *variant_.beta;
  const double kl = *variant_.target_kl;
  const bool grouped = settings_.kind == TransformKind::kLeaveOneOut;
  const bool by_wins = deployment_.matchups().front().policy.value == alignment::Value::kWinRate;
  if (alignment::is_calibrated(settings_.kind) || (grouped && by_wins && deployment_.is_calibrated())) {
    auto settings = settings_;
    if (grouped) settings.kind = TransformKind::kOptimal;  // their expectation is its fixed point
    const auto at = [&](double beta) { return alignment::make_transform(settings, deployment_, beta); };
    return alignment::predict_at_kl(at, alignment::make_procedure("standard", 1), kl).beta;
  }
  double deviation = 1;
  if (settings_.kind == TransformKind::kRaw) {
    deviation = 0;
    for (std::int64_t p = 0; p < calibration.prompts(); ++p)
      deviation += calibration.deviation(p) / static_cast<double>(calibration.prompts());
  } else if (grouped) {
    // R is N times a mean of values in [0, 1], and about as spread as they are.
    constexpr double kSpreadOfUniform = 0.29;
    deviation = kSpreadOfUniform * static_cast<double>(deployment_.policy_candidates());
  }
  return deviation / std::sqrt(2 * kl);
}

}  // namespace infalign::stages
