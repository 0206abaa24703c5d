// What an answer is worth against the opponent: C_{T(pi_ref)}(y), the chance that it beats (ties one half)
// the answer which the opponent's procedure draws from the reference policy. It is the g of leave-one-out
// rewards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

class OpponentValue {
 public:
  /// `rollouts` K: how many rewards of the reference policy there are of a prompt. Errors:
  /// std::invalid_argument for fewer than the opponent draws, or for an opponent that needs more than rewards
  /// (one that reads_answers).
  OpponentValue(const Procedure& opponent, std::int64_t rollouts);

  /// The values of `rewards` against the answer drawn from the reference's `sorted` [K], ascending: unbiased
  /// for any K >= n, because the opponent's n candidates are drawn from the K without replacement.
  std::vector<double> operator()(std::span<const float> sorted, std::span<const float> rewards) const;

 private:
  Procedure opponent_;
  std::int64_t rollouts_;
  std::vector<double>
      below_;  // [K + 1] the chance that the answer is among the i smallest; of rank procedures
};

}  // namespace infalign::alignment
