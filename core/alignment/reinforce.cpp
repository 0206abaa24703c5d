#include "core/alignment/reinforce.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace infalign::alignment {

void leave_one_out_advantages(std::span<const double> transformed_reward, std::span<const double> log_ratio,
                              double beta, std::span<double> advantage) {
  const std::size_t n = transformed_reward.size();
  if (n < 2 || log_ratio.size() != n || advantage.size() != n) {
    throw std::invalid_argument(
        "leave-one-out advantages need at least two samples, each with its log-ratio");
  }
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    advantage[i] = transformed_reward[i] - beta * log_ratio[i];
    if (!std::isfinite(advantage[i])) {
      throw std::domain_error("the penalised reward of sample " + std::to_string(i) + " is not finite");
    }
    sum += advantage[i];
  }
  // b_i - (sum - b_i)/(n - 1) = (b_i - mean) n/(n - 1), which does not cancel when the rewards are large and
  // close.
  const auto count = static_cast<double>(n);
  for (double& value : advantage) value = (value - sum / count) * (count / (count - 1));
}

double kl_k1(double log_ratio) { return log_ratio; }

double kl_k3(double log_ratio) { return std::expm1(-log_ratio) + log_ratio; }

namespace {

// Chosen by simulation (tests/core/alignment/reinforce_test.cpp): policies that follow beta 5 to 40 steps
// late, whose equilibrium KL is half to twice what theory says, with an elasticity to beta of -0.8 to -2, and
// a noise of 0.03.
constexpr double kProportional = 0.8;
constexpr double kIntegral = 0.07;
constexpr double kSmoothing = 0.2;       // weight of the newest KL
constexpr double kTrendSmoothing = 0.1;  // weight of the newest change
constexpr double kStepsAhead = 3;        // makes up for the smoothing's delay
constexpr double kRiseSteps = 20;      // the expected path is (1 - e^(-t/20))^2: 3/4 of the target at step 40
constexpr double kLargestMove = 0.06;  // |change of log beta| per step
constexpr double kFurthestFactor = 100;  // from theory's beta: beyond it something else is wrong

}  // namespace

KlController::KlController(double beta, double target_kl, std::int64_t steps)
    : beta_(beta),
      target_(target_kl),
      pace_(std::max(1.0, static_cast<double>(kUnhurriedSteps) / static_cast<double>(steps))),
      initial_beta_(beta) {
  if (!(beta > 0 && std::isfinite(beta) && target_kl >= 0 && std::isfinite(target_kl) && steps > 0)) {
    throw std::invalid_argument(
        "the KL controller needs a positive beta, a target that is not negative, and steps");
  }
}

void KlController::observe(double kl) {
  if (!std::isfinite(kl)) throw std::domain_error("the measured KL is not finite");
  if (target_ == 0) return;
  ++steps_;
  const double before = smoothed_;
  smoothed_ += kSmoothing * (kl - smoothed_);
  trend_ += kTrendSmoothing * (smoothed_ - before - trend_);

  const double level = (smoothed_ + kStepsAhead * trend_) / target_;
  const double risen = 1 - std::exp(-steps_ * pace_ / kRiseSteps);
  const double wanted =
      std::clamp(level, risen * risen, 1.0);  // between the path and the target nothing is wrong
  const double error = std::clamp(level - wanted, -1.0, 1.0);
  const double move = kIntegral * pace_ * error + kProportional * (error - error_);
  error_ = error;
  beta_ = std::clamp(beta_ * std::exp(std::clamp(move, -kLargestMove, kLargestMove)),
                     initial_beta_ / kFurthestFactor, initial_beta_ * kFurthestFactor);
}

std::vector<double> KlController::state() const {
  return {beta_, initial_beta_, smoothed_, trend_, error_, steps_};
}

void KlController::restore(std::span<const double> state) {
  const bool finite =
      std::all_of(state.begin(), state.end(), [](double value) { return std::isfinite(value); });
  if (state.size() != 6 || !finite || state[0] <= 0 || state[1] <= 0 || state[5] < 0) {
    throw std::invalid_argument("not the state of a KL controller");
  }
  beta_ = state[0], initial_beta_ = state[1], smoothed_ = state[2], trend_ = state[3], error_ = state[4];
  steps_ = state[5];
}

}  // namespace infalign::alignment
