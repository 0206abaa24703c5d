// Collectives on the memory of GPUs, queued on a stream like a kernel: gradients are summed on a second
// stream while the backward pass goes on. They stand beside a Communicator, which brings the ranks together
// and keeps doing what is small and lies in the CPU's memory. Every rank queues the same collectives in the
// same order, on whichever streams.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "distributed/communicator.h"
#include "kernels/device.h"

namespace infalign::distributed {

/// All pointers lead to memory of this rank's GPU, all streams are its. The intervals cover the whole one
/// after the other in rank order, as in Communicator.
/// Errors: std::invalid_argument for intervals that do not; std::runtime_error naming NCCL's call and reason.
class DeviceCollectives {
 public:
  virtual ~DeviceCollectives() = default;
  DeviceCollectives(const DeviceCollectives&) = delete;
  DeviceCollectives& operator=(const DeviceCollectives&) = delete;

  /// Element-wise sum over ranks, in place. Integers are exact; the order of float32 additions is the
  /// library's.
  virtual void all_reduce_sum(const kernels::Stream& on, std::int64_t n, float* values) = 0;
  virtual void all_reduce_sum(const kernels::Stream& on, std::int64_t n, std::int64_t* values) = 0;
  virtual void all_reduce_sum(const kernels::Stream& on, std::int64_t n, std::uint64_t* values) = 0;

  /// The sum over ranks, of which this rank keeps its interval in `mine`, which is not part of `values`.
  virtual void reduce_scatter_sum(const kernels::Stream& on, const float* values,
                                  std::span<const Interval> intervals, float* mine) = 0;
  virtual void reduce_scatter_sum(const kernels::Stream& on, const std::int64_t* values,
                                  std::span<const Interval> intervals, std::int64_t* mine) = 0;

  /// Each rank gives its interval of `values`, in float32 or bfloat16; afterwards all have the whole. In
  /// place.
  virtual void all_gather(const kernels::Stream& on, float* values, std::span<const Interval> intervals) = 0;
  virtual void all_gather(const kernels::Stream& on, std::uint16_t* values,
                          std::span<const Interval> intervals) = 0;

  /// Returns when all that was queued on the stream is done. A collective that can no longer end, because a
  /// rank has failed or has not come within `limit`, is given up, and with it these collectives altogether.
  /// Errors: PeerFailed.
  virtual void wait(const kernels::Stream& on, std::chrono::milliseconds limit) = 0;
  /// The same within the limit that these collectives were made with.
  virtual void wait(const kernels::Stream& on) = 0;

 protected:
  DeviceCollectives() = default;
};

/// By NCCL, whose communicator all ranks of `ranks` form together (a collective); the GPU is the one whose
/// stream this thread opened last. Errors: std::runtime_error, and PeerFailed where a rank does not come
/// within `limit`.
std::unique_ptr<DeviceCollectives> make_nccl(Communicator& ranks, std::chrono::milliseconds limit);

}  // namespace infalign::distributed
