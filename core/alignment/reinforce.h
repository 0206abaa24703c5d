// Step 3 of CTRL: from transformed rewards to the advantages of KL-regularised REINFORCE with a leave-one-out baseline, and the
// controllers of beta (method, section 5).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace infalign::alignment {

/// Advantage of each of the n >= 2 samples of one prompt: A_i = b_i - mean of b_j over j != i, b = R - beta (log pi - log pi_ref), the KL as a reward penalty
/// on whole responses. Nothing is divided by a deviation: that would change beta from prompt to prompt.
void leave_one_out_advantages(std::span<const double> transformed_reward, std::span<const double> log_ratio, double beta,
                              std::span<double> advantage);

/// Per-response estimators of KL(pi || pi_ref) from samples of pi (Schulman 2020): k1 = log ratio, k3 = e^-k1 - 1 + k1.
double kl_k1(double log_ratio);
double kl_k3(double log_ratio);

/// Moves beta so that the measured KL settles at the target: a proportional-integral controller on log beta.
class KlController {
 public:
  KlController(double beta, double target_kl);
  double beta() const { return beta_; }
  /// One step's measured KL (all ranks).
  void observe(double kl);
  /// Its whole state, for checkpoints.
  std::vector<double> state() const;
  void restore(std::span<const double> state);

 private:
  double beta_, target_, smoothed_ = -1;
};

}  // namespace infalign::alignment
