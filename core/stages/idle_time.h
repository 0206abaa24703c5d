// How evenly the ranks are loaded: prompts differ in length and answers too, so ranks with as many
// micro-batches are done at different times, and the others wait for the last.
#pragma once

#include <chrono>
#include <vector>

#include "core/stages/run.h"

namespace infalign::stages {

/// What this rank works from here on: time, less that in collectives.
class WorkTime {
 public:
  explicit WorkTime(const Run& run);
  double seconds() const;

 private:
  const distributed::Communicator& ranks_;
  std::chrono::steady_clock::time_point start_;
  double in_collectives_;
};

/// Of each rank, the share of the busiest rank's time that it had nothing to do, on all ranks. Collective.
std::vector<double> idle_shares(const Run& run, const WorkTime& work);

}  // namespace infalign::stages
