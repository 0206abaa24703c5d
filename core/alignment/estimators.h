// Evaluation: exact order-statistic estimators of win rates from samples, and bootstrap intervals over
// prompts (method, section 6). Answers are drawn from the M samples without replacement, in closed form:
// nothing here is simulated but the bootstrap, and resampling with replacement, which is biased low, has no
// place.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

/// The probability that the i-th smallest of M samples is the procedure's choice when N are drawn without
/// replacement: C(i-1, N-1)/C(M, N) for best_of_n, C(M-i, N-1)/C(M, N) for worst_of_n, 1/M for standard. [M],
/// sums to 1. Errors: std::invalid_argument for M < N.
std::vector<double> selection_weights(const Procedure& procedure, std::int64_t samples);

/// One prompt's samples on one side: the reward that selects and the reward that judges (the same when no
/// judge is).
struct ScoredSamples {
  std::span<const float> selecting;  // [M]
  std::span<const float> judging;    // [M]
};

/// W_T for one prompt: double sum over both sides of selection weights times w (1, 1/2, 0) by the judging
/// reward. Samples tied in the selecting reward share their weights equally. O(M log M); the sides may differ
/// in M. Errors: std::invalid_argument for M < N or spans of unequal length, std::domain_error for NaN.
double win_rate(const Procedure& procedure, const ScoredSamples& policy, const ScoredSamples& reference);
double win_rate(const Procedure& policy_side, const Procedure& reference_side, const ScoredSamples& policy,
                const ScoredSamples& reference);

struct Interval95 {
  double value = 0, low = 0, high = 0;
};
/// Mean over prompts with a percentile bootstrap 95 % interval; the same seed gives the same resamples, so
/// paired quantities may be subtracted first. Errors: std::invalid_argument without prompts or resamples,
/// std::domain_error for a value that is not finite.
Interval95 bootstrap_mean(std::span<const double> per_prompt, std::uint64_t seed = 1, int resamples = 2000);

/// Largest distance between the empirical distribution of values in [0, 1] (mid-ranks) and the uniform, for
/// calibration checks. Mid-ranks, because perfectly calibrated rewards with ties are not uniform, but are
/// equal to their own mid-rank. Errors: std::domain_error for a value outside [0, 1], std::invalid_argument
/// without values.
double uniformity_distance(std::span<const double> values);

}  // namespace infalign::alignment
