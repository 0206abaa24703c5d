// Evaluation: exact order-statistic estimators of win rates from samples, and bootstrap intervals over
// prompts (method, section 6). Answers are drawn from the M samples without replacement, in closed form:
// nothing here is simulated but the bootstrap, and resampling with replacement, which is biased low, has no
// place.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/alignment/deployment.h"

namespace infalign::alignment {

/// One prompt's samples on one side: the reward that selects and the reward that judges (the same when no
/// judge is), and the extracted answers for procedures that ask them.
struct ScoredSamples {
  std::span<const float> selecting;           // [M]
  std::span<const float> judging;             // [M]
  std::span<const std::int64_t> answer = {};  // [M], or empty
};

/// W for one prompt: double sum over both sides of answer probabilities times w (1, 1/2, 0) by the judging
/// reward, averaged over the deployment's matchups. Samples tied in the selecting reward share their weights
/// equally. O(M log M) for procedures with rank weights; the sides may differ in M. `seed`: of the subsets of
/// procedures that have to be averaged at random. Errors: std::invalid_argument for M < N or spans of unequal
/// length, std::domain_error for NaN.
double win_rate(const Deployment& deployment, const ScoredSamples& policy, const ScoredSamples& reference,
                std::uint64_t seed = 0);

/// The mean judging reward of the policy's answers (pass@N with a verifier that says 1 or 0), averaged over
/// the matchups.
double answer_reward(const Deployment& deployment, const ScoredSamples& policy, std::uint64_t seed = 0);

/// A prompt's win rate and the variance of its estimate over samples, the prompt being fixed: the jackknife
/// of a two-sample U-statistic, in closed form from leave-one-out rewards. Its expectation is at least the
/// variance (Efron and Stein 1981). Needs M > N on both sides.
struct Estimate {
  double value = 0, variance = 0;
};
Estimate win_rate_estimate(const Deployment& deployment, const ScoredSamples& policy,
                           const ScoredSamples& reference, std::uint64_t seed = 0);

struct Interval95 {
  double value = 0, low = 0, high = 0;
};
/// Mean over prompts with a percentile bootstrap 95 % interval; the same seed gives the same resamples, so
/// paired quantities may be subtracted first. Errors: std::invalid_argument without prompts or resamples,
/// std::domain_error for a value that is not finite.
Interval95 bootstrap_mean(std::span<const double> per_prompt, std::uint64_t seed = 1, int resamples = 2000);

/// `successes` of `n` independent trials as a share, with Wilson's 95 % interval (Wilson 1927), which stays
/// within [0, 1]; halves may be counted. Errors: std::invalid_argument unless 0 <= successes <= n and n > 0.
Interval95 share_of(double successes, double n);

/// Spearman's rank correlation of two rewards of the same samples, by mid-ranks; NaN where one of them is the
/// same for all. Errors: std::invalid_argument for spans of unequal length.
double rank_correlation(std::span<const float> a, std::span<const float> b);

/// Largest distance between the empirical distribution of values in [0, 1] (mid-ranks) and the uniform, for
/// calibration checks. Mid-ranks, because perfectly calibrated rewards with ties are not uniform, but are
/// equal to their own mid-rank. Errors: std::domain_error for a value outside [0, 1], std::invalid_argument
/// without values.
double uniformity_distance(std::span<const double> values);

}  // namespace infalign::alignment
