#include "core/alignment/deployment.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace infalign::alignment {

Deployment::Deployment(const Procedure& both_sides) : Deployment(both_sides, both_sides) {}

Deployment::Deployment(const Procedure& policy_side, const Procedure& opponent_side)
    : matchups_{{1, policy_side, opponent_side}} {}

Deployment::Deployment(std::vector<Matchup> matchups) : matchups_(std::move(matchups)) {
  if (matchups_.empty()) throw std::invalid_argument("a deployment needs at least one procedure");
  double whole = 0;
  for (const Matchup& matchup : matchups_) {
    if (!(matchup.share > 0 && std::isfinite(matchup.share))) {
      throw std::invalid_argument("the share of " + describe(matchup.policy) + " must be positive");
    }
    whole += matchup.share;
  }
  for (Matchup& matchup : matchups_) matchup.share /= whole;
}

bool Deployment::is_calibrated() const {
  return std::all_of(matchups_.begin(), matchups_.end(), [](const Matchup& matchup) {
    return matchup.policy.is_calibrated() && matchup.opponent.is_calibrated();
  });
}

std::int64_t Deployment::policy_candidates() const {
  std::int64_t most = 1;
  for (const Matchup& matchup : matchups_) most = std::max(most, matchup.policy.n);
  return most;
}

std::int64_t Deployment::candidates() const {
  std::int64_t most = policy_candidates();
  for (const Matchup& matchup : matchups_) most = std::max(most, matchup.opponent.n);
  return most;
}

std::string Deployment::name() const {
  std::ostringstream text;
  for (const Matchup& matchup : matchups_) {
    if (&matchup != &matchups_.front()) text << " + ";
    if (matchups_.size() > 1) text << matchup.share << ' ';
    const std::string policy = describe(matchup.policy), opponent = describe(matchup.opponent);
    text << policy;
    if (opponent != policy) text << " against " << opponent;
  }
  return text.str();
}

std::string describe(const Procedure& procedure) {
  return procedure.n == 1 ? procedure.name : procedure.name + ' ' + std::to_string(procedure.n);
}

}  // namespace infalign::alignment
