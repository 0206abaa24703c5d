#include "core/stages/idle_time.h"

#include <algorithm>

namespace infalign::stages {

WorkTime::WorkTime(const Run& run)
    : ranks_(run.ranks),
      start_(std::chrono::steady_clock::now()),
      in_collectives_(run.ranks.seconds_in_collectives()) {}

double WorkTime::seconds() const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  return std::max(0.0, elapsed.count() - (ranks_.seconds_in_collectives() - in_collectives_));
}

std::vector<double> idle_shares(const Run& run, const WorkTime& work) {
  auto shares = gather(run, std::vector{work.seconds()});
  const double most = std::ranges::max(shares);
  for (double& share : shares) share = most > 0 ? 1 - share / most : 0;
  return shares;
}

}  // namespace infalign::stages
