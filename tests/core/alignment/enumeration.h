// Exact laws by enumeration, against which estimators are held: policies with a handful of responses, ties
// among their rewards, and every tuple of responses weighted by its probability.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/alignment/deployment.h"

namespace infalign::alignment {

/// A policy over a few responses; `probability` need not sum to 1 where a derivative is taken.
struct SmallPolicy {
  std::vector<double> probability;
  std::vector<float> selecting, judging;
  std::vector<std::int64_t> answer;

  std::size_t size() const { return probability.size(); }
};

/// Random probabilities, none below a tenth of the largest, and rewards among three values each.
inline SmallPolicy random_policy(std::size_t responses, std::mt19937_64& engine) {
  SmallPolicy policy;
  double whole = 0;
  for (std::size_t y = 0; y < responses; ++y) {
    policy.probability.push_back(static_cast<double>(100 + engine() % 900));
    whole += policy.probability.back();
    policy.selecting.push_back(static_cast<float>(engine() % 3) - 0.5f);
    policy.judging.push_back(static_cast<float>(engine() % 3));
    policy.answer.push_back(static_cast<std::int64_t>(engine() % 2));
  }
  for (double& p : policy.probability) p /= whole;
  return policy;
}

/// A tuple of responses drawn from a policy, as the samples that estimators see.
struct Tuple {
  std::vector<std::size_t> response;
  double probability = 1;
  std::vector<float> selecting, judging;
  std::vector<std::int64_t> answer;
};

/// visit(tuple) for each tuple of `samples` responses.
inline void for_each_tuple(const SmallPolicy& policy, std::size_t samples,
                           const std::function<void(const Tuple&)>& visit) {
  Tuple tuple;
  const std::function<void(double)> extend = [&](double probability) {
    if (tuple.response.size() == samples) {
      tuple.probability = probability;
      visit(tuple);
      return;
    }
    for (std::size_t y = 0; y < policy.size(); ++y) {
      tuple.response.push_back(y);
      tuple.selecting.push_back(policy.selecting[y]);
      tuple.judging.push_back(policy.judging[y]);
      tuple.answer.push_back(policy.answer[y]);
      extend(probability * policy.probability[y]);
      tuple.response.pop_back();
      tuple.selecting.pop_back();
      tuple.judging.pop_back();
      tuple.answer.pop_back();
    }
  };
  extend(1);
}

/// T(pi): the chance of each response to be the answer, a polynomial of degree N in the policy's
/// probabilities.
inline std::vector<double> answer_law(const Procedure& procedure, const SmallPolicy& policy) {
  std::vector<double> law(policy.size());
  for_each_tuple(policy, static_cast<std::size_t>(procedure.n), [&](const Tuple& tuple) {
    const auto chosen = procedure.probabilities({tuple.selecting, tuple.answer});
    for (std::size_t k = 0; k < chosen.size(); ++k) law[tuple.response[k]] += tuple.probability * chosen[k];
  });
  return law;
}

/// The chance of each of the policy's responses to win against the opponent's answers, by the judging reward.
inline std::vector<double> chances_to_win(const SmallPolicy& policy, const Procedure& opponent_side,
                                          const SmallPolicy& opponent) {
  const auto law = answer_law(opponent_side, opponent);
  std::vector<double> chance(policy.size());
  for (std::size_t y = 0; y < policy.size(); ++y)
    for (std::size_t z = 0; z < opponent.size(); ++z) {
      const float ours = policy.judging[y], theirs = opponent.judging[z];
      chance[y] += law[z] * (ours > theirs ? 1 : ours == theirs ? 0.5 : 0);
    }
  return chance;
}

inline double expectation(const std::vector<double>& law, const std::vector<double>& value) {
  double sum = 0;
  for (std::size_t y = 0; y < law.size(); ++y) sum += law[y] * value[y];
  return sum;
}

inline double exact_win_rate(const Deployment& deployment, const SmallPolicy& policy,
                             const SmallPolicy& opponent) {
  double rate = 0;
  for (const Matchup& matchup : deployment.matchups()) {
    rate += matchup.share * expectation(answer_law(matchup.policy, policy),
                                        chances_to_win(policy, matchup.opponent, opponent));
  }
  return rate;
}

/// f'(x): exact for polynomials up to degree 4, of order step^4 for others.
inline double derivative(const std::function<double(double)>& f, double x, double step) {
  return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step);
}

/// Settings with which every procedure of the registry can be made and draws at most `n` candidates (soft
/// Best-of-N, whose weights reach much further, apart).
inline ProcedureSettings settings_of(const std::string& name, std::int64_t n) {
  ProcedureSettings settings;
  settings.name = name;
  settings.n = n;
  settings.k = (n + 1) / 2;
  settings.strength = 3;
  settings.weights = {0.2, 0.3};
  settings.weights.resize(static_cast<std::size_t>(n), 0.5);
  settings.quantile = n > 1 ? 0.4 : 0;
  settings.threshold = 1;
  return settings;
}

/// Every procedure of the registry that can be enumerated, and two of a user's.
inline std::vector<Procedure> small_procedures(std::int64_t n) {
  std::vector<Procedure> procedures;
  for (const std::string& name : procedure_names()) {
    if (name == "soft_best_of_n") continue;            // draws dozens
    if (name == "above_quantile" && n == 1) continue;  // theory's alone
    procedures.push_back(make_procedure(settings_of(name, n)));
  }
  // Looks at values: the chance of each is proportional to e^reward.
  procedures.push_back(
      procedure_from_rule("softmax", n, [](const Candidates& c, std::span<double> probability) {
        double whole = 0;
        for (std::size_t i = 0; i < c.size(); ++i) whole += probability[i] = std::exp(c.reward[i]);
        for (double& each : probability) each /= whole;
      }));
  // Looks at the order: the last that is at least as good as the first.
  procedures.push_back(procedure_from_rule(
      "last_as_good", n,
      [](const Candidates& c, std::span<double> probability) {
        std::size_t last = c.size() - 1;
        while (c.reward[last] < c.reward[0]) --last;
        probability[last] = 1;
      },
      true));
  return procedures;
}

}  // namespace infalign::alignment
