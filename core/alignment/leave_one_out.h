// Leave-one-out rewards: the reward R(y) of the InfAlign theorem for any sample-then-select procedure, with
// no closed form needed (method, section 4). R(y) is the derivative of the inference-time value of the policy
// with respect to pi(y),
//
//     R(y) = E over Y_2..Y_N ~ pi of the sum over the N places that y can take among them of g(s(y,
//     Y_2..Y_N)),
//
// where s is the procedure's choice and g what an answer is worth (its win rate against the opponent's
// answers, or a verifier's verdict). It is estimated without bias from n >= N samples of one prompt, so the
// policy gradient on it is the gradient of the inference-time win rate itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

/// R_i of each of the n samples of one prompt; value [n] is g of each as an answer. For procedures with rank
/// weights (or an order_average) the average over all subsets in closed form, O(n log n), samples tied in the
/// selecting reward taken in every order; for other rules over all subsets (all arrangements where the order
/// matters) when these are at most `enumerated`, else over random ones, each sample equally often, drawn from
/// `seed` alone.
/// Errors: std::invalid_argument for n < N or sizes that differ, std::domain_error for NaN.
std::vector<double> leave_one_out_rewards(const Procedure& procedure, const Candidates& samples,
                                          std::span<const double> value, std::uint64_t seed = 0,
                                          std::int64_t enumerated = 4096);

/// The same for many prompts with equally many samples: what depends on (procedure, n) alone is computed
/// once.
class LeaveOneOut {
 public:
  /// Errors: std::invalid_argument for samples < N.
  LeaveOneOut(Procedure procedure, std::int64_t samples, std::int64_t enumerated = 4096);
  std::vector<double> rewards(const Candidates& samples, std::span<const double> value,
                              std::uint64_t seed = 0) const;
  std::vector<double> answer_probabilities(const Candidates& samples, std::uint64_t seed = 0) const;

 private:
  void check(const Candidates& samples) const;
  std::vector<float> ranked_by(const Candidates& samples) const;  // [n]

  Procedure procedure_;
  std::int64_t samples_, enumerated_;
  // Of procedures with rank weights, by the rank among the n samples: the chance to be the answer; and among
  // the n - 1 others, given that one sample is a candidate and lies below, or above, the answer.
  std::vector<double> chosen_;  // [n]
  std::vector<double> above_;   // [n-1]
  std::vector<double> below_;   // [n-1]
};

/// Turns leave-one-out rewards of one prompt into rewards on which REINFORCE with the usual baseline, the
/// mean of the others, is unbiased. Because R_j of the others was computed with sample i, that baseline
/// depends on i, and centred rewards come out too small by exactly (n - N)/(n - 1); the baseline that does
/// not see i, N times the value of the other n - 1 samples alone, gives n/(n - N) (R_i - mean) in the place
/// of n/(n - 1) (R_i - mean). (docs/method.md.) Multiplies by (n - 1)/(n - N) around the mean. Errors:
/// std::invalid_argument for n <= N.
void unbias_for_leave_one_out_baseline(std::int64_t candidates, std::span<double> reward);

/// The chance of each of M samples to be the answer when n are drawn without replacement, [M]: the average of
/// the rule over subsets, exact or random as above.
std::vector<double> answer_probabilities(const Procedure& procedure, const Candidates& samples,
                                         std::uint64_t seed = 0, std::int64_t enumerated = 4096);

}  // namespace infalign::alignment
