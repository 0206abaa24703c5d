// Step 3 of CTRL: from transformed rewards to the advantages of KL-regularised REINFORCE with a leave-one-out
// baseline, the estimators of KL, and the controller of beta (method, section 5).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace infalign::alignment {

/// Advantage of each of the n >= 2 samples of one prompt: A_i = b_i - mean of b_j over j != i, with
/// b = R - beta (log pi - log pi_ref), the KL as a reward penalty on whole responses. Nothing is divided by a
/// deviation: that would change beta from prompt to prompt. All spans are [n]. Errors: std::invalid_argument
/// for their sizes, std::domain_error naming the sample whose reward or log-ratio is not finite.
void leave_one_out_advantages(std::span<const double> transformed_reward, std::span<const double> log_ratio,
                              double beta, std::span<double> advantage);

/// Per-response estimators of KL(pi || pi_ref) from samples of pi (Schulman 2020), with
/// log_ratio = log pi - log pi_ref: k1 = log_ratio, k3 = e^-k1 - 1 + k1, which is never negative.
double kl_k1(double log_ratio);
double kl_k3(double log_ratio);

/// Moves beta so that the measured KL settles at the target: a proportional-integral controller on log beta,
/// for runs whose KL starts at 0 and follows beta some 5 to 40 steps late, or, where a run is shorter than
/// `kUnhurriedSteps`, as much sooner. Until the policy has had time to learn, a KL below the target is no
/// error: it is held against a rising path and not against the target, so that beta stays where theory put
/// it while the policy is on its way. The KL is smoothed, taken a few steps ahead along its trend, and beta
/// moves by no more than 6 % a step and a factor of 100 in all.
class KlController {
 public:
  static constexpr std::int64_t kUnhurriedSteps = 120;

  /// `beta` where to start: theory's value for the target; `steps` of the whole run, after which the KL is to
  /// be at the target. Errors: std::invalid_argument unless all are positive.
  KlController(double beta, double target_kl, std::int64_t steps = kUnhurriedSteps);
  double beta() const { return beta_; }
  /// One step's measured KL (all ranks). Errors: std::domain_error if it is not finite.
  void observe(double kl);
  /// Its whole state, for checkpoints; restored, it goes on bit for bit.
  std::vector<double> state() const;
  /// Errors: std::invalid_argument for a vector that state() cannot have returned.
  void restore(std::span<const double> state);

 private:
  double beta_, target_;
  double pace_;  // how much faster than a run of kUnhurriedSteps
  double initial_beta_;
  double smoothed_ = 0, trend_ = 0;  // of the measured KL: level, and change per step
  double error_ = 0;                 // the last step's, relative to the target
  double steps_ = 0;
};

}  // namespace infalign::alignment
