#include "core/alignment/opponent.h"

#include <numeric>
#include <stdexcept>

#include "core/alignment/calibration.h"
#include "core/alignment/leave_one_out.h"

namespace infalign::alignment {
namespace {

std::vector<double> running_sums(const std::vector<double>& probability) {
  std::vector<double> below{0};
  for (double each : probability) below.push_back(below.back() + each);
  return below;
}

}  // namespace

OpponentValue::OpponentValue(const Procedure& opponent, std::int64_t rollouts)
    : opponent_(opponent), rollouts_(rollouts) {
  if (!opponent.rank_weights.empty()) {
    below_ = running_sums(opponent.order_weights(rollouts));
  } else if (opponent.reads_answers || rollouts < opponent.n) {
    throw std::invalid_argument("the opponent's " + opponent.name + " cannot be told from " +
                                std::to_string(rollouts) + " rewards of the reference policy");
  }
}

std::vector<double> OpponentValue::operator()(std::span<const float> sorted,
                                              std::span<const float> rewards) const {
  if (static_cast<std::int64_t>(sorted.size()) != rollouts_)
    throw std::invalid_argument("the reference's rewards are not as many as was said");
  const std::vector<double> below =
      below_.empty() ? running_sums(answer_probabilities(opponent_, Candidates{sorted})) : below_;
  std::vector<double> values;
  for (float reward : rewards) {
    const Ranks ranks = ranks_among(sorted, reward);
    values.push_back(0.5 * (below[ranks.below] + below[ranks.below + ranks.ties]));
  }
  return values;
}

}  // namespace infalign::alignment
