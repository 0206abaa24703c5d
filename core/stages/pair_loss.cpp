#include "core/stages/pair_loss.h"

#include <cmath>
#include <cstddef>

namespace infalign::stages {
namespace {

/// log(1 + e^x) without overflow.
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

}  // namespace

PairSums PairLoss::sums(std::span<const float> rewards) const {
  PairSums sums;
  for (std::size_t i = 0; i < margins.size(); ++i) {
    const double chosen = rewards[2 * i], rejected = rewards[2 * i + 1], sum = chosen + rejected;
    sums.loss += softplus(margins[i] - (chosen - rejected)) + centre * sum * sum;
    sums.correct += chosen > rejected ? 1 : chosen == rejected ? 0.5 : 0;
  }
  return sums;
}

std::vector<float> PairLoss::gradient(std::span<const float> rewards, double count) const {
  std::vector<float> d_reward(rewards.size());
  for (std::size_t i = 0; i < margins.size(); ++i) {
    const double chosen = rewards[2 * i], rejected = rewards[2 * i + 1];
    const double apart = -1 / (1 + std::exp(chosen - rejected - margins[i]));
    const double together = 2 * centre * (chosen + rejected);
    d_reward[2 * i] = static_cast<float>((apart + together) / count);
    d_reward[2 * i + 1] = static_cast<float>((together - apart) / count);
  }
  return d_reward;
}

}  // namespace infalign::stages
