// Both averages, of rewards and of answers, run over the subsets of N among n samples. Where ranks alone
// decide, the subsets are counted: each sample's weight is that of its order statistic (order_statistics.h).
// Where they do not, subsets are visited, all of them or a balanced random selection.
#include "core/alignment/leave_one_out.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/alignment/order_statistics.h"

namespace infalign::alignment {
namespace {

using Indices = std::vector<std::size_t>;

Indices ascending(std::span<const float> reward) {
  Indices order(reward.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return reward[a] < reward[b]; });
  return order;
}

/// visit(first, last) for each group of samples tied in the reward, as positions in `order`.
template <class Visit>
void for_each_tie(const Indices& order, std::span<const float> reward, Visit&& visit) {
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    while (last < order.size() && reward[order[last]] == reward[order[first]]) ++last;
    visit(first, last);
  }
}

/// How many draws of `candidates` among `samples` there are, or limit + 1 if they are more than `limit`.
std::int64_t count_draws(std::int64_t samples, std::int64_t candidates, bool ordered, std::int64_t limit) {
  double count = 1;  // exact while it matters: limits are far below 2^53
  for (std::int64_t k = 1; k <= candidates; ++k) {
    count *= static_cast<double>(samples - candidates + k);
    if (!ordered) count /= static_cast<double>(k);
    if (count > static_cast<double>(limit)) return limit + 1;
  }
  return std::llround(count);
}

/// The next combination of `indices` (ascending, below `samples`) in lexicographic order; false after the
/// last.
bool next_combination(Indices& indices, std::size_t samples) {
  for (std::size_t i = indices.size(); i-- > 0;) {
    if (indices[i] == samples - indices.size() + i) continue;
    std::iota(indices.begin() + static_cast<std::ptrdiff_t>(i), indices.end(), indices[i] + 1);
    return true;
  }
  return false;
}

/// visit(indices) for each draw that is averaged over, every sample being in equally many; returns their
/// number.
template <class Visit>
std::int64_t for_each_draw(const Procedure& procedure, std::int64_t samples, std::int64_t enumerated,
                           std::uint64_t seed, Visit&& visit) {
  const auto n = static_cast<std::size_t>(samples), N = static_cast<std::size_t>(procedure.n);
  const std::int64_t all = count_draws(samples, procedure.n, procedure.order_matters, enumerated);
  if (all <= enumerated) {
    Indices subset(N);
    std::iota(subset.begin(), subset.end(), std::size_t{0});
    do {
      Indices draw = subset;
      do {
        visit(std::span<const std::size_t>(draw));
      } while (procedure.order_matters && std::next_permutation(draw.begin(), draw.end()));
    } while (next_combination(subset, n));
    return all;
  }
  // Windows of N consecutive samples around the circle of a random permutation: every sample is in N of n.
  std::mt19937_64 engine(seed);  // its stream is fixed by the standard; `%` keeps it so (bias below n/2^64)
  Indices circle(n), draw(N);
  std::iota(circle.begin(), circle.end(), std::size_t{0});
  const std::int64_t permutations = std::max<std::int64_t>(1, (enumerated + samples - 1) / samples);
  for (std::int64_t repetition = 0; repetition < permutations; ++repetition) {
    for (std::size_t i = n; i > 1; --i) std::swap(circle[i - 1], circle[engine() % i]);
    for (std::size_t start = 0; start < n; ++start) {
      for (std::size_t k = 0; k < N; ++k) draw[k] = circle[(start + k) % n];
      visit(std::span<const std::size_t>(draw));
    }
  }
  return permutations * samples;
}

/// One draw at a time under the selection rule.
class Drawn {
 public:
  Drawn(const Procedure& procedure, const Candidates& samples)
      : procedure_(procedure),
        samples_(samples),
        reward_(static_cast<std::size_t>(procedure.n)),
        answer_(samples.answer.empty() ? 0 : reward_.size()),
        probability_(reward_.size()) {}

  /// The chance of each candidate of the draw to be the answer, [N], valid until the next call.
  std::span<const double> probabilities(std::span<const std::size_t> draw) {
    for (std::size_t k = 0; k < draw.size(); ++k) {
      reward_[k] = samples_.reward[draw[k]];
      if (!answer_.empty()) answer_[k] = samples_.answer[draw[k]];
    }
    std::fill(probability_.begin(), probability_.end(), 0.0);
    procedure_.rule({reward_, answer_}, probability_);
    return probability_;
  }

 private:
  const Procedure& procedure_;
  const Candidates& samples_;
  std::vector<float> reward_;
  std::vector<std::int64_t> answer_;
  std::vector<double> probability_;
};

}  // namespace

LeaveOneOut::LeaveOneOut(Procedure procedure, std::int64_t samples, std::int64_t enumerated)
    : procedure_(std::move(procedure)), samples_(samples), enumerated_(enumerated) {
  if (samples < procedure_.n) {
    throw std::invalid_argument(procedure_.name + " of " + std::to_string(procedure_.n) +
                                " cannot be estimated from " + std::to_string(samples) + " samples");
  }
  const std::span<const double> weights =
      procedure_.order_average ? procedure_.order_average->rank_weights : procedure_.rank_weights;
  if (weights.empty()) return;
  chosen_ = elevate(weights, samples);
  if (weights.size() == 1) return;  // alone, a sample is the answer
  above_ = elevate(weights.subspan(1), samples - 1);
  below_ = elevate(weights.first(weights.size() - 1), samples - 1);
}

void LeaveOneOut::check(const Candidates& samples) const {
  const auto count = static_cast<std::size_t>(samples_);
  if (samples.reward.size() != count || (!samples.answer.empty() && samples.answer.size() != count)) {
    throw std::invalid_argument(procedure_.name + ": rewards and answers must be those of " +
                                std::to_string(samples_) + " samples");
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(samples.reward[i])) {
      throw std::domain_error(procedure_.name + ": the reward of sample " + std::to_string(i) + " is NaN");
    }
  }
}

std::vector<float> LeaveOneOut::ranked_by(const Candidates& samples) const {
  std::vector<float> reward(samples.reward.begin(), samples.reward.end());
  if (procedure_.order_average)
    std::transform(reward.begin(), reward.end(), reward.begin(), procedure_.order_average->view);
  return reward;
}

std::vector<double> LeaveOneOut::rewards(const Candidates& samples, std::span<const double> value,
                                         std::uint64_t seed) const {
  check(samples);
  if (value.size() != samples.size())
    throw std::invalid_argument(procedure_.name + ": each sample needs its value");
  if (std::any_of(value.begin(), value.end(), [](double v) { return std::isnan(v); })) {
    throw std::domain_error(procedure_.name + ": the value of a sample is NaN");
  }
  std::vector<double> result(samples.size());
  if (chosen_.empty()) {
    Drawn drawn(procedure_, samples);
    const std::int64_t draws =
        for_each_draw(procedure_, samples_, enumerated_, seed, [&](std::span<const std::size_t> draw) {
          const std::span<const double> probability = drawn.probabilities(draw);
          double expected = 0;
          for (std::size_t k = 0; k < draw.size(); ++k) expected += probability[k] * value[draw[k]];
          for (std::size_t i : draw) result[i] += expected;
        });
    for (double& reward : result) reward *= static_cast<double>(samples_) / static_cast<double>(draws);
    return result;
  }
  if (procedure_.n == 1) return {value.begin(), value.end()};

  // Sorted, 0-based, without ties: R_i = n chosen_i g_i + N [sum over j > i of above_(j-1) g_j + sum over j <
  // i of below_j g_j]. Tied samples take their positions in every order: a member of a group stands at each
  // of its positions equally often, and the others then fill the rest in every order.
  struct Group {
    std::size_t first, last;
    double value = 0;                               // mean
    double chosen = 0;                              // mean weight
    double above = 0, below = 0;                    // sums of weights, for a sample outside the group
    double others = 0;                              // sum for a member, averaged over its positions
    double weighted_above = 0, weighted_below = 0;  // the whole sums over the groups above and below
  };
  std::vector<Group> groups;
  const std::vector<float> reward = ranked_by(samples);
  const Indices order = ascending(reward);
  for_each_tie(order, reward, [&](std::size_t first, std::size_t last) {
    Group group{first, last};
    const auto size = static_cast<double>(last - first);
    for (std::size_t j = first; j < last; ++j) {
      const double above = j > 0 ? above_[j - 1] : 0, below = j + 1 < order.size() ? below_[j] : 0;
      group.above += above;
      group.below += below;
      group.others +=
          (above * static_cast<double>(j - first) + below * static_cast<double>(last - 1 - j)) / size;
      group.chosen += chosen_[j] / size;
      group.value += value[order[j]] / size;
    }
    groups.push_back(group);
  });
  for (std::size_t k = 1; k < groups.size(); ++k) {
    const Group& lower = groups[k - 1];
    groups[k].weighted_below = lower.weighted_below + lower.below * lower.value;
  }
  for (std::size_t k = groups.size() - 1; k-- > 0;) {
    const Group& upper = groups[k + 1];
    groups[k].weighted_above = upper.weighted_above + upper.above * upper.value;
  }
  const auto n = static_cast<double>(samples_), N = static_cast<double>(procedure_.n);
  for (const Group& group : groups) {
    const auto size = static_cast<double>(group.last - group.first);
    for (std::size_t j = group.first; j < group.last; ++j) {
      const double own = value[order[j]];
      const double other = size > 1 ? (size * group.value - own) / (size - 1) : 0;
      result[order[j]] =
          n * group.chosen * own + N * (group.weighted_above + group.weighted_below + group.others * other);
    }
  }
  return result;
}

std::vector<double> LeaveOneOut::answer_probabilities(const Candidates& samples, std::uint64_t seed) const {
  check(samples);
  std::vector<double> result(samples.size());
  if (chosen_.empty()) {
    Drawn drawn(procedure_, samples);
    const std::int64_t draws =
        for_each_draw(procedure_, samples_, enumerated_, seed, [&](std::span<const std::size_t> draw) {
          const std::span<const double> probability = drawn.probabilities(draw);
          for (std::size_t k = 0; k < draw.size(); ++k) result[draw[k]] += probability[k];
        });
    for (double& each : result) each /= static_cast<double>(draws);
    return result;
  }
  const std::vector<float> reward = ranked_by(samples);
  const Indices order = ascending(reward);
  for_each_tie(order, reward, [&](std::size_t first, std::size_t last) {
    double shared = 0;
    for (std::size_t j = first; j < last; ++j) shared += chosen_[j];
    for (std::size_t j = first; j < last; ++j) result[order[j]] = shared / static_cast<double>(last - first);
  });
  return result;
}

std::vector<double> leave_one_out_rewards(const Procedure& procedure, const Candidates& samples,
                                          std::span<const double> value, std::uint64_t seed,
                                          std::int64_t enumerated) {
  return LeaveOneOut(procedure, static_cast<std::int64_t>(samples.size()), enumerated)
      .rewards(samples, value, seed);
}

void unbias_for_leave_one_out_baseline(std::int64_t candidates, std::span<double> reward) {
  const auto samples = static_cast<std::int64_t>(reward.size());
  if (candidates < 1 || samples <= candidates) {
    throw std::invalid_argument("a leave-one-out baseline for " + std::to_string(candidates) +
                                " candidates needs more samples than " + std::to_string(samples));
  }
  const double mean = std::accumulate(reward.begin(), reward.end(), 0.0) / static_cast<double>(samples);
  const double factor = static_cast<double>(samples - 1) / static_cast<double>(samples - candidates);
  for (double& each : reward) each = mean + factor * (each - mean);
}

std::vector<double> answer_probabilities(const Procedure& procedure, const Candidates& samples,
                                         std::uint64_t seed, std::int64_t enumerated) {
  return LeaveOneOut(procedure, static_cast<std::int64_t>(samples.size()), enumerated)
      .answer_probabilities(samples, seed);
}

}  // namespace infalign::alignment
