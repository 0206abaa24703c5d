// What ranks hold of flat buffers in their GPUs' memory, to be read by all: the GPU's counterpart of
// Published. A rank copies what it needs on a stream of its own straight from the memory of the others, which
// do nothing for that, so that ranks that decode answers of different lengths, or have different numbers of
// micro-batches, never have to agree on what comes next. A collective would need that: a rank that is idle
// would have to take part in gathers for passes of which it cannot know how many there will be. GPUs read
// each other's memory within one machine.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "distributed/communicator.h"
#include "kernels/device.h"
#include "kernels/peer_memory.h"

namespace infalign::distributed {

/// A buffer of which each rank holds an interval, counted in bytes.
class DevicePublished {
 public:
  /// Waits for the copies under way here. The rank's own part is given back later, when no rank has it open.
  ~DevicePublished();
  DevicePublished(const DevicePublished&) = delete;
  DevicePublished& operator=(const DevicePublished&) = delete;

  /// This rank's interval, zero at first. It is written while nobody reads: ranks have met after the last
  /// copies were done, and meet again after the writing is, before the first that are to see it.
  std::span<std::byte> own() const { return own_.bytes(); }
  /// Queues copies of intervals of the whole, one after the other, into `out`, memory of this rank's GPU.
  void fetch(const kernels::Stream& on, std::span<const Interval> wanted, std::byte* out);

 private:
  friend class DevicePublisher;
  DevicePublished() = default;

  std::vector<Interval> intervals_;
  kernels::SharedMemory own_;
  std::vector<kernels::OpenedMemory> of_others_;  // [ranks], empty where it is this one's
  std::size_t rank_ = 0;
  kernels::Event copied_;
  std::shared_ptr<std::vector<kernels::SharedMemory>> given_back_;
};

/// The ranks of a group on one machine, each on a GPU of its own.
class DevicePublisher {
 public:
  /// Both have to outlive this, and what is published goes first.
  DevicePublisher(Communicator& group, const kernels::Stream& on) : group_(group), on_(on) {}
  /// What others may still have open is left to the end of the process.
  ~DevicePublisher();
  DevicePublisher(const DevicePublisher&) = delete;
  DevicePublisher& operator=(const DevicePublisher&) = delete;

  /// Memory for this rank's interval of a whole. What ranks have given back before is free from here on.
  /// Collective. Errors: as SharedMemory and OpenedMemory.
  std::unique_ptr<DevicePublished> publish(std::span<const Interval> intervals);

 private:
  Communicator& group_;
  kernels::Stream on_;
  std::shared_ptr<std::vector<kernels::SharedMemory>> given_back_ =
      std::make_shared<std::vector<kernels::SharedMemory>>();
};

}  // namespace infalign::distributed
