#include "distributed/shard_groups.h"

#include <stdexcept>
#include <string>

#include "kernels/reproducible_sum/reproducible_sum.h"

namespace infalign::distributed {
namespace {

bool is_one_group(int ranks, int size) { return size == 0 || size >= ranks; }

}  // namespace

std::vector<Interval> parameter_shares(std::int64_t parameters, int ranks) {
  return shares(parameters, ranks, kernels::kSumBlock);
}

std::vector<Interval> group_shares(std::int64_t parameters, int ranks, int size) {
  const auto own = parameter_shares(parameters, ranks);
  const std::size_t copies = is_one_group(ranks, size) ? 1 : own.size() / static_cast<std::size_t>(size);
  std::vector<Interval> held;
  for (std::size_t first = 0; first < own.size(); first += copies)
    held.push_back({own[first].begin, own[first + copies - 1].end});
  return held;
}

ShardGroups::ShardGroups(Communicator& ranks, int size) : ranks_(&ranks) {
  if (is_one_group(ranks.size(), size)) return;
  if (size < 0 || ranks.size() % size != 0)
    throw std::invalid_argument("groups of " + std::to_string(size) + " ranks do not make " +
                                std::to_string(ranks.size()));
  const int number = ranks.rank() / size, place = ranks.rank() % size, groups = ranks.size() / size;
  group_ = ranks.regroup(number, place);
  copies_ = ranks.regroup(place, number);
  owners_ = ranks.regroup(0, place * groups + number);
}

}  // namespace infalign::distributed
