#include "core/alignment/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace infalign::alignment {
namespace {

/// A prompt whose rewards are all equal still has a z-score: zero for that reward, large and finite for
/// others.
constexpr double kSmallestDeviation = 1e-6;

/// Halves the table down to a few dozen rewards and counts those, which compilers do several at a time.
/// Without a branch on the data: rewards arrive in no order, and a mispredicted comparison costs more than
/// the search. (The product keeps compilers from turning the choice back into a branch.)
std::size_t count_below(std::span<const float> sorted, float reward) {
  constexpr std::size_t kCounted = 32;
  const float* first = sorted.data();
  std::size_t length = sorted.size();
  while (length > kCounted) {
    const std::size_t half = length / 2;
    first += static_cast<std::size_t>(first[half - 1] < reward) * half;
    length -= half;
  }
  int below = 0;
  for (std::size_t i = 0; i < length; ++i) below += first[i] < reward ? 1 : 0;
  return static_cast<std::size_t>(first - sorted.data()) + static_cast<std::size_t>(below);
}

double standard_deviation(std::span<const float> values, double mean) {
  if (values.size() < 2) return kSmallestDeviation;
  double squares = 0;
  for (float value : values) squares += (value - mean) * (value - mean);
  return std::max(kSmallestDeviation, std::sqrt(squares / static_cast<double>(values.size() - 1)));
}

}  // namespace

Ranks ranks_among(std::span<const float> sorted, float reward) {
  if (std::isnan(reward)) throw std::domain_error("a reward is NaN");
  if (sorted.empty()) throw std::invalid_argument("calibration needs at least one reference reward");
  Ranks result{count_below(sorted, reward), 0};
  const auto rest = sorted.subspan(result.below);
  if (!rest.empty() && rest.front() == reward) {  // ties are rare when rewards are continuous
    result.ties = static_cast<std::size_t>(std::upper_bound(rest.begin(), rest.end(), reward) - rest.begin());
  }
  return result;
}

double calibrated_reward(std::span<const float> sorted, float reward) {
  const Ranks r = ranks_among(sorted, reward);
  return (static_cast<double>(r.below) + 0.5 * static_cast<double>(r.ties)) /
         static_cast<double>(sorted.size());
}

double calibrated_reward_leave_one_out(std::span<const float> sorted, float reward) {
  const Ranks r = ranks_among(sorted, reward);
  if (sorted.size() < 2) throw std::invalid_argument("leaving one out needs at least two reference rewards");
  if (r.ties == 0) throw std::invalid_argument("the reward to leave out is not among the reference rewards");
  return (static_cast<double>(r.below) + 0.5 * static_cast<double>(r.ties - 1)) /
         static_cast<double>(sorted.size() - 1);
}

Calibration::Calibration(CalibrationMode mode, std::vector<float> rewards, std::int64_t rollouts,
                         RewardSketch pooled, std::optional<double> prior_strength)
    : mode_(mode),
      rewards_(std::move(rewards)),
      rollouts_(rollouts),
      pooled_(std::move(pooled)),
      pooled_distribution_(pooled_),
      prior_strength_(prior_strength.value_or(0)) {
  if (rollouts < 1 || rewards_.size() % static_cast<std::size_t>(rollouts) != 0) {
    throw std::invalid_argument("calibration: " + std::to_string(rewards_.size()) +
                                " rewards are not prompts x " + std::to_string(rollouts) + " rollouts");
  }
  if (!(prior_strength_ >= 0 && std::isfinite(prior_strength_))) {
    throw std::invalid_argument("calibration: prior_strength must be at least 0");
  }
  if (mode != CalibrationMode::kPrompt && pooled_.total() == 0) {
    throw std::invalid_argument("calibration: this mode needs the pooled sketch, and it is empty");
  }
  const auto k = static_cast<std::size_t>(rollouts);
  for (std::size_t prompt = 0; prompt < rewards_.size() / k; ++prompt) {
    const std::span<const float> row(rewards_.data() + prompt * k, k);
    const bool finite =
        std::all_of(row.begin(), row.end(), [](float reward) { return std::isfinite(reward); });
    if (!finite || !std::is_sorted(row.begin(), row.end())) {
      throw std::invalid_argument("calibration: the rewards of prompt " + std::to_string(prompt) +
                                  (finite ? " are not ascending" : " are not all finite"));
    }
    double sum = 0;
    for (float reward : row) sum += reward;
    mean_.push_back(sum / static_cast<double>(k));
    deviation_.push_back(standard_deviation(row, mean_.back()));
  }
  if (mode == CalibrationMode::kHierarchical && !prior_strength)
    prior_strength_ = estimated_prior_strength(rewards_, rollouts);
}

double estimated_prior_strength(std::span<const float> rewards, std::int64_t rollouts) {
  constexpr double kNoDifference = 1e9;
  std::vector<float> pooled(rewards.begin(), rewards.end());
  std::sort(pooled.begin(), pooled.end());
  const auto k = static_cast<std::size_t>(rollouts);
  // Both the share below a decile and that up to it: with ties either may be all or nothing.
  const auto shares = [](std::span<const float> sorted, float reward) {
    const Ranks ranks = ranks_among(sorted, reward);
    const auto count = static_cast<double>(sorted.size()), below = static_cast<double>(ranks.below);
    return std::array{below / count, (below + static_cast<double>(ranks.ties)) / count};
  };
  double observed = 0, possible = 0;
  for (std::size_t decile = 1; decile < 10; ++decile) {
    const float reward = pooled[pooled.size() * decile / 10];
    const auto G = shares(pooled, reward);
    for (std::size_t at = 0; at < rewards.size(); at += k) {
      const auto C = shares(rewards.subspan(at, k), reward);
      for (std::size_t i = 0; i < G.size(); ++i) {
        observed += (C[i] - G[i]) * (C[i] - G[i]);
        possible += G[i] * (1 - G[i]);
      }
    }
  }
  const auto K = static_cast<double>(rollouts);
  const double S = possible > 0 ? observed / possible : 0;
  if (K * S <= 1) return kNoDifference;
  return std::clamp(K * (1 - S) / (K * S - 1), 0.0, kNoDifference);
}

std::span<const float> Calibration::rewards(std::int64_t prompt) const {
  if (prompt < 0 || prompt >= prompts()) {
    throw std::out_of_range("calibration: prompt " + std::to_string(prompt) + " of " +
                            std::to_string(prompts()));
  }
  return {rewards_.data() + prompt * rollouts_, static_cast<std::size_t>(rollouts_)};
}

double Calibration::operator()(std::int64_t prompt, float reward) const {
  const std::span<const float> own = rewards(prompt);
  switch (mode_) {
    case CalibrationMode::kPrompt:
      return calibrated_reward(own, reward);
    case CalibrationMode::kGlobal:
      return pooled_distribution_.cumulative(reward);
    case CalibrationMode::kHierarchical: {
      const auto k = static_cast<double>(rollouts_);
      return (k * calibrated_reward(own, reward) +
              prior_strength_ * pooled_distribution_.cumulative(reward)) /
             (k + prior_strength_);
    }
  }
  throw std::logic_error("calibration: unknown mode");
}

double Calibration::mean(std::int64_t prompt) const { return mean_.at(static_cast<std::size_t>(prompt)); }
double Calibration::deviation(std::int64_t prompt) const {
  return deviation_.at(static_cast<std::size_t>(prompt));
}

}  // namespace infalign::alignment
