// Hybrid sharding: ranks in groups, usually those of a host, each of which holds one copy of the parameters,
// divided among its ranks, so that a layer is gathered over fast links only; what a step has for each
// parameter, gradients and moments, is divided among all ranks (the secondary partition of ZeRO++; Wang et
// al. 2023). A rank's own interval, the one that it updates, lies in the part that it holds.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "distributed/communicator.h"

namespace infalign::distributed {

/// Each rank's interval of P parameters: borders at multiples of kernels::kSumBlock.
std::vector<Interval> parameter_shares(std::int64_t parameters, int ranks);

/// What each rank of a group holds of P parameters, in groups of `size` as ShardGroups has them: the shares
/// of as many ranks each as there are groups.
std::vector<Interval> group_shares(std::int64_t parameters, int ranks, int size);

class ShardGroups {
 public:
  /// Groups of `size` ranks that follow one another; 0, or as many as there are or more: one group of all.
  /// `ranks` has to outlive this. Collective. Errors: std::invalid_argument where `size` does not divide the
  /// number of ranks.
  ShardGroups(Communicator& ranks, int size);

  /// The ranks that hold one copy of the parameters among them, this one with them.
  Communicator& group() const { return group_ ? *group_ : *ranks_; }
  /// All ranks, those that hold the same part one after the other: rank r of this order owns the r-th of
  /// parameter_shares().
  Communicator& owners() const { return owners_ ? *owners_ : *ranks_; }
  /// The ranks, one of each group, that hold the same part; null where no other does.
  Communicator* copies() const { return copies_.get(); }

  /// What each rank of group() holds of P parameters.
  std::vector<Interval> shares(std::int64_t parameters) const {
    return group_shares(parameters, ranks_->size(), group().size());
  }

 private:
  Communicator* ranks_;
  std::unique_ptr<Communicator> group_, owners_, copies_;  // null where there is one group
};

}  // namespace infalign::distributed
