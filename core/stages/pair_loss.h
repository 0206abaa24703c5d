// The loss of a reward model on pairs, as TRL's RewardTrainer defines it: Bradley-Terry, -log
// sigmoid(r(chosen)
// - r(rejected) - margin), and coefficient x (r(chosen) + r(rejected))^2, which keeps the rewards near 0,
// since Bradley-Terry sees only their differences.
#pragma once

#include <span>
#include <vector>

namespace infalign::stages {

/// Sums over pairs.
struct PairSums {
  double loss = 0;
  double correct = 0;  // pairs whose chosen answer has the larger reward; equal rewards count half
};

struct PairLoss {
  std::span<const double> margins;  // [pairs]
  double centre = 0;                // the coefficient; TRL's center_rewards_coefficient

  /// `rewards` [pairs, 2]: chosen, rejected.
  PairSums sums(std::span<const float> rewards) const;

  /// d(mean loss over `count` pairs, of which these are some) / d reward, [pairs, 2].
  std::vector<float> gradient(std::span<const float> rewards, double count) const;
};

}  // namespace infalign::stages
