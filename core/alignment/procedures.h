// Inference-time procedures T: how answers are drawn in production. Each draws n candidates and keeps one of
// them by a selection rule. Where the rule looks at nothing but the candidates' ranks the procedure is
// *calibrated*: it reweights a response by h of its own rank, T(pi)(y) = pi(y) h(C_pi(y)) (method, section
// 3), and h, H and the estimators' weights follow from the rule. Everything that is known of a procedure
// stands in one row of the registry in procedures.cpp; theory, estimators and generation only ever ask a
// Procedure. docs/adding-a-procedure.md shows how to add one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace infalign::alignment {

/// What a procedure sees of the candidates it chooses among, in the order in which they were drawn.
struct Candidates {
  std::span<const float> reward;  // [m]; selects
  std::span<const std::int64_t> answer =
      {};  // [m]; equal numbers are equal answers (majority_vote); may be empty

  std::size_t size() const { return reward.size(); }
};

/// The selection rule: writes to `probability` [m], all 0 before, the chance that each candidate is the
/// answer. They sum to 1; candidates that the rule cannot tell apart share equally.
using SelectionRule = std::function<void(const Candidates& candidates, std::span<double> probability)>;

/// What an answer is worth: whether it wins against the opponent's, or its own (judged) reward, such as a
/// verifier's 1 or 0.
enum class Value { kWinRate, kReward };

/// For a rule that looks at the order of draws and is simpler on average over all orders: a choice by rank
/// among a coarser view of the rewards, which share where they tie.
struct OrderAverage {
  std::function<float(float reward)> view;
  std::vector<double> rank_weights;  // [n]
};

struct Procedure {
  std::string name;  // "best_of_n"
  std::int64_t n = 1;
  SelectionRule rule;
  bool order_matters = false;  // the rule looks at the order in which candidates were drawn
  bool reads_answers = false;  // ... at Candidates::answer
  bool reads_rewards = true;   // false for one that looks at answers alone
  Value value = Value::kWinRate;

  // Of calibrated procedures; empty for others.
  std::vector<double> rank_weights;          // [n] the chance that the i-th smallest of n is the answer
  std::function<double(double)> density;     // h(q), integral 1 over [0, 1]
  std::function<double(double)> cumulative;  // H(q)
  std::vector<double> breaks;                // where h jumps, inside (0, 1)

  std::optional<OrderAverage> order_average;  // where one is known, leave-one-out takes its closed form

  bool is_calibrated() const { return density != nullptr; }

  /// The chance of each candidate to be the answer, [m]. Errors: std::invalid_argument without candidates,
  /// std::domain_error for NaN.
  std::vector<double> probabilities(const Candidates& candidates) const;
  /// The index of the answer for a uniform random number in [0, 1); with 0 the first that can be it.
  std::size_t select(const Candidates& candidates, double uniform = 0) const;
  std::size_t select(std::span<const float> reward, double uniform = 0) const {
    return select(Candidates{reward}, uniform);
  }

  /// The chance that the i-th smallest of M >= n samples is the answer when n are drawn without replacement,
  /// [M]. Errors: std::invalid_argument for M < n, or for a procedure without rank_weights.
  std::vector<double> order_weights(std::int64_t samples) const;
};

struct ProcedureSettings {
  std::string name = "standard";
  std::int64_t n = 1;
  std::int64_t k = 1;           // kth_of_n: counted from the smallest
  double strength = 0;          // soft_best_of_n: lambda > 0
  std::vector<double> weights;  // best_of_random_n: share of N = 1, 2, ...
  double quantile = 0;          // above_quantile: q0 in [0, 1)
  double threshold = 0;         // retry_until: the selecting reward that is good enough

  bool operator==(const ProcedureSettings&) const = default;
};

/// Errors: std::invalid_argument for an unknown name (listing the known ones) or settings out of range.
Procedure make_procedure(const ProcedureSettings& settings);
/// The procedures that need no more than n ("standard": its n is 1, whatever is asked).
Procedure make_procedure(const std::string& name, std::int64_t n);
const std::vector<std::string>& procedure_names();
/// One line about the procedure of that name, for people.
std::string procedure_meaning(const std::string& name);

/// A procedure from its selection rule alone: leave-one-out rewards, estimators and generation work with it.
Procedure procedure_from_rule(std::string name, std::int64_t n, SelectionRule rule,
                              bool order_matters = false);

/// The same for a rule that looks at ranks alone and not at the order: then theory and the optimal transform
/// work too. Errors: std::invalid_argument if the rule turns out to look at anything else.
Procedure procedure_from_rank_rule(std::string name, std::int64_t n, SelectionRule rule);

/// A calibrated procedure from the chance of each order statistic of its n candidates.
/// Errors: std::invalid_argument unless they are probabilities that sum to 1.
Procedure procedure_from_rank_weights(std::string name, std::vector<double> weights);

}  // namespace infalign::alignment
