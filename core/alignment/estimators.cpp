#include "core/alignment/estimators.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

namespace infalign::alignment {
namespace {

/// A possible answer: its judging reward, and the chance that the procedure gives it.
struct Answer {
  float judged;
  double probability;
};

/// The distinct answers of one side, ascending in the judging reward.
std::vector<Answer> answers(const Procedure& procedure, const ScoredSamples& samples) {
  const std::size_t count = samples.selecting.size();
  if (samples.judging.size() != count)
    throw std::invalid_argument("win rate: a sample lacks one of its two rewards");
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(samples.selecting[i]) || std::isnan(samples.judging[i])) {
      throw std::domain_error("win rate: the reward of sample " + std::to_string(i) + " is NaN");
    }
  }
  const std::vector<double> weight = selection_weights(procedure, static_cast<std::int64_t>(count));
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return samples.selecting[a] < samples.selecting[b]; });

  std::vector<Answer> result;
  for (std::size_t first = 0, last = 0; first < count; first = last) {
    double shared = 0;
    while (last < count && samples.selecting[order[last]] == samples.selecting[order[first]])
      shared += weight[last++];
    for (std::size_t i = first; i < last; ++i) {
      result.push_back({samples.judging[order[i]], shared / static_cast<double>(last - first)});
    }
  }
  std::sort(result.begin(), result.end(),
            [](const Answer& a, const Answer& b) { return a.judged < b.judged; });
  std::vector<Answer> distinct;
  for (const Answer& answer : result) {
    if (distinct.empty() || distinct.back().judged != answer.judged) {
      distinct.push_back(answer);
    } else {
      distinct.back().probability += answer.probability;
    }
  }
  return distinct;
}

double quantile(std::span<const double> ascending, double level) {
  const double position = level * static_cast<double>(ascending.size() - 1);
  const auto lower = static_cast<std::size_t>(position);
  const std::size_t upper = std::min(lower + 1, ascending.size() - 1);
  return std::lerp(ascending[lower], ascending[upper], position - static_cast<double>(lower));
}

}  // namespace

std::vector<double> selection_weights(const Procedure& procedure, std::int64_t samples) {
  if (samples < procedure.n) {
    throw std::invalid_argument(procedure.name + " of " + std::to_string(procedure.n) +
                                " cannot be estimated from " + std::to_string(samples) + " samples");
  }
  return procedure.order_weights(samples);
}

double win_rate(const Procedure& policy_side, const Procedure& reference_side, const ScoredSamples& policy,
                const ScoredSamples& reference) {
  const std::vector<Answer> ours = answers(policy_side, policy);
  const std::vector<Answer> theirs = answers(reference_side, reference);
  double rate = 0, worse = 0;  // worse: the probability of a reference answer below the present one
  auto next = theirs.begin();
  for (const Answer& answer : ours) {
    while (next != theirs.end() && next->judged < answer.judged) worse += (next++)->probability;
    const double tied = next != theirs.end() && next->judged == answer.judged ? next->probability : 0;
    rate += answer.probability * (worse + 0.5 * tied);
  }
  return rate;
}

double win_rate(const Procedure& procedure, const ScoredSamples& policy, const ScoredSamples& reference) {
  return win_rate(procedure, procedure, policy, reference);
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
