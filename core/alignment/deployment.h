// How answers meet in production: which procedure draws the policy's, which the opponent's, in which shares.
// Usually one procedure on both sides; a policy can also face a plain opponent, or serve several procedures
// at once. A Procedure by itself is the deployment that has it on both sides, so that most callers never name
// this type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

/// A share of production: the policy's answers by one procedure against the reference's by another.
struct Matchup {
  double share = 1;
  Procedure policy, opponent;
};

/// The objective is the win rate averaged over matchups: sum of share times W.
class Deployment {
 public:
  Deployment(const Procedure& both_sides);  // NOLINT(google-explicit-constructor): see above
  Deployment(const Procedure& policy_side, const Procedure& opponent_side);
  /// Shares are normalised to sum to 1. Errors: std::invalid_argument without matchups, or for a share that
  /// is not positive.
  explicit Deployment(std::vector<Matchup> matchups);

  const std::vector<Matchup>& matchups() const { return matchups_; }
  /// True if every side is calibrated, so that theory and the optimal transform exist.
  bool is_calibrated() const;
  /// The most candidates that the policy's side draws, and that either side draws.
  std::int64_t policy_candidates() const;
  std::int64_t candidates() const;
  /// "best_of_n 4", "best_of_n 8 against standard", "0.5 standard + 0.5 best_of_n 16".
  std::string name() const;

 private:
  std::vector<Matchup> matchups_;
};

/// "best_of_n 4"; "standard".
std::string describe(const Procedure& procedure);

}  // namespace infalign::alignment
