#include "core/alignment/estimators.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

#include "core/alignment/leave_one_out.h"

namespace infalign::alignment {
namespace {

void check(const ScoredSamples& samples) {
  if (samples.judging.size() != samples.selecting.size()) {
    throw std::invalid_argument("win rate: a sample lacks one of its two rewards");
  }
  for (std::size_t i = 0; i < samples.judging.size(); ++i) {
    if (std::isnan(samples.judging[i])) {
      throw std::domain_error("win rate: the judging reward of sample " + std::to_string(i) + " is NaN");
    }
  }
}

/// The judging rewards of one side's samples, ascending, with the chance of an answer at each or below.
class Judged {
 public:
  explicit Judged(std::span<const float> reward) : order_(reward.size()), reward_(reward.size()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::sort(order_.begin(), order_.end(),
              [&](std::size_t a, std::size_t b) { return reward[a] < reward[b]; });
    std::transform(order_.begin(), order_.end(), reward_.begin(), [&](std::size_t i) { return reward[i]; });
  }

  /// For each of `rewards` the chance that it wins against an answer of this side, whose samples are the
  /// answer with the chances `probability`. O(M log M).
  std::vector<double> chance_to_beat(std::span<const double> probability,
                                     std::span<const float> rewards) const {
    std::vector<double> below{0};
    for (std::size_t i : order_) below.push_back(below.back() + probability[i]);
    std::vector<double> chance;
    for (float reward : rewards) {
      const auto [first, last] = std::equal_range(reward_.begin(), reward_.end(), reward);
      chance.push_back(0.5 * (below[static_cast<std::size_t>(first - reward_.begin())] +
                              below[static_cast<std::size_t>(last - reward_.begin())]));
    }
    return chance;
  }

 private:
  std::vector<std::size_t> order_;
  std::vector<float> reward_;
};

Candidates candidates(const ScoredSamples& samples) { return {samples.selecting, samples.answer}; }

LeaveOneOut leave_one_out(const Procedure& procedure, const ScoredSamples& samples) {
  return {procedure, static_cast<std::int64_t>(samples.selecting.size())};
}

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// What each sample adds to the jackknife of one side: theta without sample i, minus theta.
class Influence {
 public:
  explicit Influence(std::size_t samples) : influence_(samples) {}

  /// From leave-one-out rewards: theta = mean/N is R_i/n + (n - N)/n times theta without i.
  void add(double share, std::int64_t candidates, std::span<const double> reward) {
    const auto left = static_cast<double>(static_cast<std::int64_t>(reward.size()) - candidates);
    const double mean =
        std::accumulate(reward.begin(), reward.end(), 0.0) / static_cast<double>(reward.size());
    for (std::size_t i = 0; i < reward.size(); ++i) influence_[i] += share * (mean - reward[i]) / left;
  }
  double variance() const {
    const auto samples = static_cast<double>(influence_.size());
    return (samples - 1) / samples * dot(influence_, influence_);
  }

 private:
  std::vector<double> influence_;
};

void require_more_than_candidates(const Procedure& procedure, const ScoredSamples& samples) {
  if (static_cast<std::int64_t>(samples.selecting.size()) > procedure.n) return;
  throw std::invalid_argument("the variance of a win rate of " + describe(procedure) +
                              " needs more samples than " + std::to_string(samples.selecting.size()));
}

double quantile(std::span<const double> ascending, double level) {
  const double position = level * static_cast<double>(ascending.size() - 1);
  const auto lower = static_cast<std::size_t>(position);
  const std::size_t upper = std::min(lower + 1, ascending.size() - 1);
  return std::lerp(ascending[lower], ascending[upper], position - static_cast<double>(lower));
}

}  // namespace

double win_rate(const Deployment& deployment, const ScoredSamples& policy, const ScoredSamples& reference,
                std::uint64_t seed) {
  check(policy);
  check(reference);
  const Judged theirs(reference.judging);
  double rate = 0;
  for (const Matchup& matchup : deployment.matchups()) {
    const auto p = leave_one_out(matchup.policy, policy).answer_probabilities(candidates(policy), seed);
    const auto q =
        leave_one_out(matchup.opponent, reference).answer_probabilities(candidates(reference), seed);
    rate += matchup.share * dot(p, theirs.chance_to_beat(q, policy.judging));
  }
  return rate;
}

double answer_reward(const Deployment& deployment, const ScoredSamples& policy, std::uint64_t seed) {
  check(policy);
  const std::vector<double> judged(policy.judging.begin(), policy.judging.end());
  double reward = 0;
  for (const Matchup& matchup : deployment.matchups()) {
    const auto p = leave_one_out(matchup.policy, policy).answer_probabilities(candidates(policy), seed);
    reward += matchup.share * dot(p, judged);
  }
  return reward;
}

Estimate win_rate_estimate(const Deployment& deployment, const ScoredSamples& policy,
                           const ScoredSamples& reference, std::uint64_t seed) {
  check(policy);
  check(reference);
  const Judged ours(policy.judging), theirs(reference.judging);
  Influence our_influence(policy.judging.size()), their_influence(reference.judging.size());
  double rate = 0;
  for (const Matchup& matchup : deployment.matchups()) {
    require_more_than_candidates(matchup.policy, policy);
    require_more_than_candidates(matchup.opponent, reference);
    const LeaveOneOut our_side = leave_one_out(matchup.policy, policy);
    const LeaveOneOut their_side = leave_one_out(matchup.opponent, reference);
    const auto p = our_side.answer_probabilities(candidates(policy), seed);
    const auto q = their_side.answer_probabilities(candidates(reference), seed);
    const auto wins = theirs.chance_to_beat(q, policy.judging);
    const auto losses =
        ours.chance_to_beat(p, reference.judging);  // of the policy; their sign is squared away
    rate += matchup.share * dot(p, wins);
    our_influence.add(matchup.share, matchup.policy.n, our_side.rewards(candidates(policy), wins, seed));
    their_influence.add(matchup.share, matchup.opponent.n,
                        their_side.rewards(candidates(reference), losses, seed));
  }
  return {rate, our_influence.variance() + their_influence.variance()};
}

Interval95 share_of(double successes, double n) {
  if (!(n > 0 && successes >= 0 && successes <= n))
    throw std::invalid_argument("share: " + std::to_string(successes) + " of " + std::to_string(n));
  constexpr double z = 1.959963984540054;  // the normal distribution's 97.5 % quantile
  const double share = successes / n, scale = 1 + z * z / n;
  const double middle = (share + z * z / (2 * n)) / scale;
  const double half = z / scale * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  return {share, std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

Interval95 bootstrap_mean(std::span<const double> per_prompt, std::uint64_t seed, int resamples) {
  if (per_prompt.empty()) throw std::invalid_argument("bootstrap: no prompts");
  if (resamples < 1) throw std::invalid_argument("bootstrap: at least one resample");
  for (double value : per_prompt) {
    if (!std::isfinite(value)) throw std::domain_error("bootstrap: a prompt's value is not finite");
  }
  const std::size_t prompts = per_prompt.size();
  const auto mean_of = [prompts](double sum) { return sum / static_cast<double>(prompts); };
  std::mt19937_64 engine(
      seed);  // its stream is fixed by the standard; `%` keeps it so (bias below prompts/2^64)
  std::vector<double> means(static_cast<std::size_t>(resamples));
  for (double& mean : means) {
    double sum = 0;
    for (std::size_t draw = 0; draw < prompts; ++draw) sum += per_prompt[engine() % prompts];
    mean = mean_of(sum);
  }
  std::sort(means.begin(), means.end());
  return {mean_of(std::accumulate(per_prompt.begin(), per_prompt.end(), 0.0)), quantile(means, 0.025),
          quantile(means, 0.975)};
}

double rank_correlation(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) throw std::invalid_argument("rank correlation: spans of unequal length");
  const auto centred_ranks = [](std::span<const float> values) {
    std::vector<float> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<double> ranks;
    for (const float value : values) {
      const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), value);
      ranks.push_back(
          0.5 * static_cast<double>((first - sorted.begin()) + (last - sorted.begin()) - std::ssize(sorted)));
    }
    return ranks;
  };
  const auto x = centred_ranks(a), y = centred_ranks(b);
  return dot(x, y) / std::sqrt(dot(x, x) * dot(y, y));
}

double uniformity_distance(std::span<const double> values) {
  if (values.empty()) throw std::invalid_argument("uniformity distance: no values");
  std::vector<double> sorted(values.begin(), values.end());
  for (double value : sorted) {
    if (!(value >= 0 && value <= 1)) throw std::domain_error("uniformity distance: a value outside [0, 1]");
  }
  std::sort(sorted.begin(), sorted.end());
  double distance = 0;
  for (auto first = sorted.begin(); first != sorted.end();) {
    const auto last = std::upper_bound(first, sorted.end(), *first);
    const double middle = 0.5 * static_cast<double>((first - sorted.begin()) + (last - sorted.begin()));
    distance = std::max(distance, std::abs(middle / static_cast<double>(sorted.size()) - *first));
    first = last;
  }
  return distance;
}

}  // namespace infalign::alignment
