// How the gradients of ranks become one while others are still computed, and parameters are brought together:
// what the optimizer asks of the place where a rank computes. On the CPU a courier's thread does it over the
// Communicator; on a GPU the jobs are queued on a second stream, and the ranks meet in DeviceCollectives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "distributed/communicator.h"
#include "distributed/device_collectives.h"
#include "kernels/device.h"

namespace infalign::distributed {

/// Where a rank computes, and by what it reaches the others from there. On the CPU the Communicator does
/// that; on a GPU `collectives` are needed where there are several ranks, and have to outlive their users.
struct Place {
  kernels::Stream on{};
  DeviceCollectives* collectives = nullptr;
  DeviceCollectives* of_copies = nullptr;  // among the ranks that hold the same parameters, if there are such
};

/// Jobs are done one after the other in the order in which they are given. Memory is that of the place, and
/// intervals are as in Communicator.
class Exchange {
 public:
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  /// On which jobs queue their work.
  virtual const kernels::Stream& stream() const = 0;
  /// Whether jobs go on while the caller computes.
  virtual bool overlaps() const = 0;

  /// To be done after all earlier jobs and after what has been computed so far. After a job that failed no
  /// further one is done.
  virtual void send(std::function<void()> job) = 0;
  /// Returns when at most `most` jobs are left, where memory is what counts; a GPU's jobs are not counted.
  virtual void wait_until(std::size_t most) = 0;
  /// What is computed from here on comes after all jobs. Errors: what a job failed with, once.
  virtual void wait() = 0;
  /// The same, and the CPU may wait for what is computed: jobs that wait for other ranks are done. Errors:
  /// the same, and PeerFailed.
  virtual void finish() = 0;

  /// Of jobs: the sum over ranks of `values`, of which this rank keeps its interval in `mine`.
  virtual void reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                                  std::span<float> mine) = 0;
  virtual void reduce_scatter_sum(std::span<const std::int64_t> values, std::span<const Interval> intervals,
                                  std::span<std::int64_t> mine) = 0;
  /// Between computations, no job being under way: each rank gives its interval of `values`, in float32 or
  /// bfloat16; afterwards all have the whole.
  virtual void all_gather(std::span<float> values, std::span<const Interval> intervals) = 0;
  virtual void all_gather(std::span<std::uint16_t> values, std::span<const Interval> intervals) = 0;

  /// Between computations: what is computed from here on comes after what all ranks have computed so far. On
  /// a GPU the CPU does not wait for that.
  virtual void meet() = 0;

  /// Seconds so far that the caller has waited for jobs and gathers, and that ranks' exchange has taken. Zero
  /// on a GPU, where the caller does not wait for each.
  virtual double exposed_seconds() const = 0;
  virtual double exchange_seconds() const = 0;

 protected:
  Exchange() = default;
};

/// Collective. `overlaps`: whether jobs are to go on beside computing, where that can be had: with several
/// ranks, and on the CPU an MPI library that may be called from several threads.
/// Errors: std::invalid_argument for a GPU's stream without collectives, of several ranks.
std::unique_ptr<Exchange> make_exchange(Communicator& ranks, const Place& place, bool overlaps);

}  // namespace infalign::distributed
