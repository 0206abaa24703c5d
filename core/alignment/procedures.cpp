#include "core/alignment/procedures.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/alignment/powers.h"

namespace infalign::alignment {
namespace {

void require_candidates(std::span<const float> rewards) {
  if (rewards.empty()) throw std::invalid_argument("a procedure cannot choose among no candidates");
  for (float reward : rewards) {
    if (std::isnan(reward)) throw std::domain_error("a candidate's reward is NaN");
  }
}

/// C(i-1, N-1)/C(M, N) for i = 1..M: that the i-th smallest is the largest of N. Downwards from N/M by the
/// ratio C(i-1, N-1)/C(i, N-1) = (i - N + 1)/i, which neither overflows nor cancels.
std::vector<double> weights_of_the_best(std::int64_t samples, std::int64_t n) {
  std::vector<double> weights(static_cast<std::size_t>(samples));
  double weight = static_cast<double>(n) / static_cast<double>(samples);
  for (std::int64_t i = samples; i >= n; --i) {
    weights[static_cast<std::size_t>(i - 1)] = weight;
    weight *= static_cast<double>(i - n) / static_cast<double>(std::max<std::int64_t>(i - 1, 1));
  }
  return weights;
}

Procedure standard(std::int64_t) {
  return {.name = "standard",
          .n = 1,
          .density = [](double) { return 1.0; },
          .cumulative = [](double q) { return q; },
          .select =
              [](std::span<const float> rewards) {
                require_candidates(rewards);
                return std::size_t{0};
              },
          .order_weights = [](std::int64_t samples) { return weights_of_the_best(samples, 1); }};
}

Procedure best_of_n(std::int64_t n) {
  return {.name = "best_of_n",
          .n = n,
          .density = [n](double q) { return static_cast<double>(n) * whole_power(q, n - 1); },
          .cumulative = [n](double q) { return whole_power(q, n); },
          .select =
              [](std::span<const float> rewards) {
                require_candidates(rewards);
                return static_cast<std::size_t>(std::max_element(rewards.begin(), rewards.end()) -
                                                rewards.begin());
              },
          .order_weights = [n](std::int64_t samples) { return weights_of_the_best(samples, n); }};
}

Procedure worst_of_n(std::int64_t n) {
  return {.name = "worst_of_n",
          .n = n,
          .density = [n](double q) { return static_cast<double>(n) * whole_power(1 - q, n - 1); },
          .cumulative = [n](double q) { return 1 - whole_power(1 - q, n); },
          .select =
              [](std::span<const float> rewards) {
                require_candidates(rewards);
                return static_cast<std::size_t>(std::min_element(rewards.begin(), rewards.end()) -
                                                rewards.begin());
              },
          .order_weights =
              [n](std::int64_t samples) {
                std::vector<double> weights = weights_of_the_best(samples, n);
                std::reverse(weights.begin(), weights.end());
                return weights;
              }};
}

struct Row {
  const char* name;
  Procedure (*make)(std::int64_t n);
};
constexpr Row kRegistry[] = {{"standard", standard}, {"best_of_n", best_of_n}, {"worst_of_n", worst_of_n}};

}  // namespace

Procedure make_procedure(const std::string& name, std::int64_t n) {
  if (n < 1)
    throw std::invalid_argument("procedure " + name + ": n must be at least 1, not " + std::to_string(n));
  for (const Row& row : kRegistry) {
    if (name == row.name) return row.make(n);
  }
  std::string known;
  for (const std::string& each : procedure_names()) known += (known.empty() ? "" : ", ") + each;
  throw std::invalid_argument("unknown procedure \"" + name + "\"; known: " + known);
}

const std::vector<std::string>& procedure_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Row& row : kRegistry) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

}  // namespace infalign::alignment
