// When a run has to have stopped: the end that a scheduler has set for its job, or that the configuration
// sets, counted from the start of the job rather than of the program, which may have been started late or
// again.
#pragma once

#include <functional>
#include <optional>

#include "core/experiment/experiment.h"

namespace infalign::stages {

/// The end of this process's job in seconds since 1970, if it has one: checkpoint.time_limit after the job's
/// start, or Slurm's own end, whichever comes first. The start is INFALIGN_JOB_START (launch/mpirun sets it),
/// else Slurm's, else `now`. Reads the environment through `variable` (std::getenv, or a test's).
std::optional<double> job_end(const experiment::Checkpoint& settings, double now,
                              const std::function<const char*(const char*)>& variable);

/// Tells when it is time to stop, between two pieces of work. A piece, with a checkpoint behind it, is taken
/// to last at most twice as long as the longest so far.
class TimeLimit {
 public:
  using Clock = std::function<double()>;  // seconds since 1970

  /// Without `end` there is none.
  explicit TimeLimit(std::optional<double> end = std::nullopt, Clock clock = system_clock());

  /// To be asked after each piece: true if another might not be done in time.
  bool reached();

  static Clock system_clock();

 private:
  std::optional<double> end_;
  Clock clock_;
  double last_, reserve_;
  double longest_ = 0;
};

}  // namespace infalign::stages
