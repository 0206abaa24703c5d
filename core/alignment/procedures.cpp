#include "core/alignment/procedures.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include "core/alignment/order_statistics.h"
#include "core/alignment/powers.h"

namespace infalign::alignment {
namespace {

using Settings = ProcedureSettings;

void require(bool holds, const std::string& name, const std::string& what) {
  if (!holds) throw std::invalid_argument("procedure " + name + ": " + what);
}

/// Shares `whole` equally among the candidates that `is_in` names; at least one has to be.
template <class IsIn>
void share(std::span<double> probability, double whole, IsIn&& is_in) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) count += is_in(i) ? 1 : 0;
  for (std::size_t i = 0; i < probability.size(); ++i)
    if (is_in(i)) probability[i] += whole / static_cast<double>(count);
}

/// Every candidate by the weight of its rank; equal rewards share the weights of their ranks.
void choose_by_rank(std::span<const double> weights, const Candidates& candidates,
                    std::span<double> probability) {
  const auto rewards = candidates.reward;
  std::vector<std::size_t> order(rewards.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return rewards[a] < rewards[b]; });
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    double shared = 0;
    while (last < order.size() && rewards[order[last]] == rewards[order[first]]) shared += weights[last++];
    for (std::size_t i = first; i < last; ++i)
      probability[order[i]] = shared / static_cast<double>(last - first);
  }
}

/// e_k: the k-th smallest of n for certain.
std::vector<double> certain_rank(std::int64_t n, std::int64_t k) {
  std::vector<double> weights(static_cast<std::size_t>(n));
  weights[static_cast<std::size_t>(k - 1)] = 1;
  return weights;
}

/// The best of N candidates with probability share[N-1]: as weights on the order statistics of all n.
std::vector<double> best_of_random_rank_weights(std::span<const double> share) {
  const auto n = static_cast<std::int64_t>(share.size());
  std::vector<double> weights(share.size());
  for (std::int64_t N = 1; N <= n; ++N) {
    const std::vector<double> best = elevate(certain_rank(N, N), n);
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] += share[static_cast<std::size_t>(N - 1)] * best[i];
  }
  return weights;
}

Procedure standard(const Settings&) { return procedure_from_rank_weights("standard", {1}); }

Procedure best_of_n(const Settings& s) {
  Procedure best = procedure_from_rank_weights("best_of_n", certain_rank(s.n, s.n));
  best.rule = [](const Candidates& c, std::span<double> probability) {
    const float highest = *std::max_element(c.reward.begin(), c.reward.end());
    share(probability, 1, [&](std::size_t i) { return c.reward[i] == highest; });
  };
  best.density = [n = s.n](double q) { return static_cast<double>(n) * whole_power(q, n - 1); };
  best.cumulative = [n = s.n](double q) { return whole_power(q, n); };
  return best;
}

Procedure worst_of_n(const Settings& s) {
  Procedure worst = procedure_from_rank_weights("worst_of_n", certain_rank(s.n, 1));
  worst.rule = [](const Candidates& c, std::span<double> probability) {
    const float lowest = *std::min_element(c.reward.begin(), c.reward.end());
    share(probability, 1, [&](std::size_t i) { return c.reward[i] == lowest; });
  };
  worst.density = [n = s.n](double q) { return static_cast<double>(n) * whole_power(1 - q, n - 1); };
  worst.cumulative = [n = s.n](double q) { return 1 - whole_power(1 - q, n); };
  return worst;
}

Procedure kth_of_n(const Settings& s) {
  require(s.k >= 1 && s.k <= s.n, "kth_of_n", "k must lie between 1 and n");
  return procedure_from_rank_weights("kth_of_n", certain_rank(s.n, s.k));
}

Procedure median_of_n(const Settings& s) {
  std::vector<double> weights(static_cast<std::size_t>(s.n));
  weights[static_cast<std::size_t>((s.n - 1) / 2)] += 0.5;
  weights[static_cast<std::size_t>(s.n / 2)] += 0.5;
  return procedure_from_rank_weights("median_of_n", std::move(weights));
}

/// h = lambda e^(lambda q)/(e^lambda - 1) is the best of N candidates with N drawn from Poisson(lambda) given
/// N >= 1, for e^(lambda q) = sum of (lambda q)^k/k!. That is its sampler and its selection rule; N stops
/// where less than 1e-12 is left.
Procedure soft_best_of_n(const Settings& s) {
  constexpr double kLeft = 1e-12, kStrongest = 500;
  const double lambda = s.strength;
  require(lambda > 0 && lambda <= kStrongest, "soft_best_of_n",
          "strength (lambda) must lie above 0, at most 500");
  std::vector<double> shares;
  double share = lambda / std::expm1(lambda), left = 1;
  while (left > kLeft) {
    shares.push_back(share);
    left -= share;
    const double next = lambda / static_cast<double>(shares.size() + 1);
    share *= next;
    if (next < 0.5 && 2 * share < kLeft)
      break;  // what is left is below 2 * share, whatever `left` has lost to rounding
  }
  const double whole = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& each : shares) each /= whole;
  Procedure soft = procedure_from_rank_weights("soft_best_of_n", best_of_random_rank_weights(shares));
  soft.density = [lambda](double q) { return lambda * std::exp(lambda * (q - 1)) / -std::expm1(-lambda); };
  soft.cumulative = [lambda](double q) {
    return q >= 1 ? 1 : std::exp(lambda * (q - 1)) * std::expm1(-lambda * q) / std::expm1(-lambda);
  };
  return soft;
}

Procedure best_of_random_n(const Settings& s) {
  const double whole = std::accumulate(s.weights.begin(), s.weights.end(), 0.0);
  const bool positive = std::all_of(s.weights.begin(), s.weights.end(), [](double w) { return w >= 0; });
  require(positive && std::isfinite(whole) && whole > 0, "best_of_random_n",
          "weights must be the shares of N = 1, 2, ..., not negative and not all 0");
  std::vector<double> shares = s.weights;
  for (double& each : shares) each /= whole;
  return procedure_from_rank_weights("best_of_random_n", best_of_random_rank_weights(shares));
}

/// With n = 1 the own quantile is known exactly, as after infinitely many candidates: for theory.
Procedure above_quantile(const Settings& s) {
  const double q0 = s.quantile;
  require(q0 >= 0 && q0 < 1, "above_quantile", "quantile must lie in [0, 1)");
  if (s.n == 1) {
    Procedure above;
    above.name = "above_quantile";
    above.density = [q0](double q) { return q < q0 ? 0 : 1 / (1 - q0); };
    above.cumulative = [q0](double q) { return q < q0 ? 0 : (q - q0) / (1 - q0); };
    if (q0 > 0) above.breaks = {q0};
    above.rule = [](const Candidates&, std::span<double>) {
      require(false, "above_quantile", "give n, the number of candidates among which the quantile is taken");
    };
    return above;
  }
  const auto n = static_cast<double>(s.n);
  std::vector<double> weights;
  for (double i = 1; i <= n; ++i) weights.push_back(std::clamp(i - q0 * n, 0.0, 1.0) / (n * (1 - q0)));
  return procedure_from_rank_weights("above_quantile", std::move(weights));
}

Procedure retry_until(const Settings& s) {
  require(!std::isnan(s.threshold), "retry_until", "threshold must be a number");
  Procedure retry = procedure_from_rule(
      "retry_until", s.n,
      [threshold = s.threshold](const Candidates& c, std::span<double> probability) {
        std::size_t i = 0;
        while (i + 1 < c.size() && c.reward[i] < threshold) ++i;
        probability[i] = 1;
      },
      true);
  // In random order any of those that are good enough is the first, and any at all the last: the best of n
  // with rewards 1 and 0.
  retry.order_average = {[threshold = s.threshold](float reward) { return reward < threshold ? 0.f : 1.f; },
                         certain_rank(s.n, s.n)};
  return retry;
}

Procedure majority_vote(const Settings& s) {
  Procedure vote =
      procedure_from_rule("majority_vote", s.n, [](const Candidates& c, std::span<double> probability) {
        require(c.answer.size() == c.size(), "majority_vote",
                "the candidates' answers have not been extracted");
        // The votes of an answer are counted at the first candidate that gives it. That one is near the front
        // where answers are few, and looking for it is faster than any table.
        const auto first = [&](std::size_t i) {
          const auto begin = c.answer.begin(), own = begin + static_cast<std::ptrdiff_t>(i);
          return static_cast<std::size_t>(std::find(begin, own, *own) - begin);
        };
        for (std::size_t i = 0; i < c.size(); ++i) ++probability[first(i)];
        const double most = *std::max_element(probability.begin(), probability.end());
        const auto leading = std::count(probability.begin(), probability.end(), most);
        const double each = 1 / (most * static_cast<double>(leading));
        for (std::size_t i = c.size(); i-- > 0;) probability[i] = probability[first(i)] == most ? each : 0;
      });
  vote.reads_answers = true;
  vote.reads_rewards = false;
  return vote;
}

Procedure pass_at_n(const Settings& s) {
  Procedure pass = best_of_n(s);
  pass.name = "pass_at_n";
  pass.value = Value::kReward;
  return pass;
}

struct ProcedureRow {
  const char* name;
  Procedure (*make)(const Settings&);
  const char* meaning;
};
constexpr ProcedureRow kRegistry[] = {
    {"standard", standard, "one answer, as it comes"},
    {"best_of_n", best_of_n, "the best of n by the selecting reward; with a reranker, by the reranker's"},
    {"worst_of_n", worst_of_n, "the worst of n: an adversary's choice"},
    {"kth_of_n", kth_of_n, "the k-th smallest of n"},
    {"median_of_n", median_of_n, "the median of n; of an even n either of the two in the middle"},
    {"soft_best_of_n", soft_best_of_n,
     "weight e^(strength x own rank): the best of N, N drawn from Poisson(strength) given N >= 1"},
    {"best_of_random_n", best_of_random_n, "the best of N with N = 1, 2, ... in the shares `weights`"},
    {"above_quantile", above_quantile,
     "any of those among n above the quantile; with n 1 above the policy's own"},
    {"retry_until", retry_until, "the first whose selecting reward reaches the threshold, or else the n-th"},
    {"majority_vote", majority_vote, "one of the most frequent extracted answer among n"},
    {"pass_at_n", pass_at_n, "whether any of n passes the verifier (reward 1 or 0)"},
};

const ProcedureRow& row_of(const std::string& name) {
  for (const ProcedureRow& row : kRegistry) {
    if (name == row.name) return row;
  }
  std::string known;
  for (const std::string& each : procedure_names()) known += (known.empty() ? "" : ", ") + each;
  throw std::invalid_argument("unknown procedure \"" + name + "\"; known: " + known);
}

}  // namespace

std::vector<double> Procedure::probabilities(const Candidates& candidates) const {
  if (candidates.size() == 0) throw std::invalid_argument("a procedure cannot choose among no candidates");
  for (float reward : candidates.reward) {
    if (std::isnan(reward)) throw std::domain_error("a candidate's reward is NaN");
  }
  std::vector<double> probability(candidates.size());
  rule(candidates, probability);
  return probability;
}

std::size_t Procedure::select(const Candidates& candidates, double uniform) const {
  const std::vector<double> probability = probabilities(candidates);
  std::size_t last = 0;
  double through = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    if (probability[i] <= 0) continue;
    last = i;
    if ((through += probability[i]) > uniform) break;
  }
  return last;
}

std::vector<double> Procedure::order_weights(std::int64_t samples) const {
  require(!rank_weights.empty(), name, "its choice does not follow from ranks");
  return elevate(rank_weights, samples);
}

Procedure make_procedure(const ProcedureSettings& settings) {
  const ProcedureRow& row = row_of(settings.name);
  if (settings.n < 1) {
    throw std::invalid_argument("procedure " + settings.name + ": n must be at least 1, not " +
                                std::to_string(settings.n));
  }
  return row.make(settings);
}

Procedure make_procedure(const std::string& name, std::int64_t n) {
  ProcedureSettings settings;
  settings.name = name;
  settings.n = n;
  return make_procedure(settings);
}

const std::vector<std::string>& procedure_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const ProcedureRow& row : kRegistry) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

std::string procedure_meaning(const std::string& name) { return row_of(name).meaning; }

Procedure procedure_from_rule(std::string name, std::int64_t n, SelectionRule rule, bool order_matters) {
  require(n >= 1, name, "n must be at least 1");
  Procedure procedure;
  procedure.name = std::move(name);
  procedure.n = n;
  procedure.rule = std::move(rule);
  procedure.order_matters = order_matters;
  return procedure;
}

Procedure procedure_from_rank_weights(std::string name, std::vector<double> weights) {
  const double whole = std::accumulate(weights.begin(), weights.end(), 0.0);
  const bool positive = std::all_of(weights.begin(), weights.end(), [](double w) { return w >= 0; });
  require(!weights.empty() && positive && std::abs(whole - 1) < 1e-9, name,
          "the weights of its ranks must be probabilities that sum to 1");
  Procedure procedure =
      procedure_from_rule(std::move(name), static_cast<std::int64_t>(weights.size()),
                          [weights](const Candidates& candidates, std::span<double> probability) {
                            const auto count = static_cast<std::int64_t>(candidates.size());
                            choose_by_rank(elevate(weights, count), candidates, probability);
                          });
  procedure.density = rank_density(weights);
  procedure.cumulative = rank_cumulative(weights);
  procedure.rank_weights = std::move(weights);
  return procedure;
}

Procedure procedure_from_rank_rule(std::string name, std::int64_t n, SelectionRule rule) {
  require(n >= 1, name, "n must be at least 1");
  const auto count = static_cast<std::size_t>(n);
  // Asked of rewards of several shapes in several orders, a rule of ranks gives the i-th smallest the same
  // chance.
  std::vector<double> weights(count);
  std::vector<std::size_t> rank(count);
  std::iota(rank.begin(), rank.end(), std::size_t{0});
  std::mt19937_64 engine(1);
  for (int trial = 0; trial < 6; ++trial) {
    std::vector<float> reward(count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto x = static_cast<float>(rank[i]) / static_cast<float>(count);
      reward[i] = trial % 3 == 0 ? x : trial % 3 == 1 ? -100 + 3 * x * x : std::exp(8 * x);
    }
    std::vector<double> probability(count);
    rule({reward}, probability);
    for (std::size_t i = 0; i < count; ++i) {
      if (trial == 0) weights[rank[i]] = probability[i];
      require(std::abs(weights[rank[i]] - probability[i]) < 1e-12, name,
              "its selection rule does not follow from the candidates' ranks alone");
    }
    for (std::size_t i = count; i > 1; --i) std::swap(rank[i - 1], rank[engine() % i]);
  }
  Procedure procedure = procedure_from_rank_weights(std::move(name), std::move(weights));
  procedure.rule = std::move(rule);
  return procedure;
}

}  // namespace infalign::alignment
