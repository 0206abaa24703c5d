// Stage 3 of sharding: each rank holds its interval of a model's flat buffer, and passes gather the rest of a
// layer from the ranks that hold it: on the CPU a thread fetches it, on a GPU a stream beside that of the
// passes copies it from the other GPUs' memory. All models of a rank compute one after the other, so they
// share the memory into which layers are gathered, and what fetches them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/model/gathered_parameters.h"
#include "core/stages/run.h"
#include "distributed/communicator.h"
#include "distributed/courier.h"
#include "distributed/device_published.h"
#include "distributed/machine.h"
#include "distributed/shard_groups.h"

namespace infalign::stages {

class ParameterShards {
 public:
  /// Among the ranks of each group, which has to outlive this. `time` is added to.
  explicit ParameterShards(const distributed::ShardGroups& groups,
                           std::shared_ptr<FetchTime> time = std::make_shared<FetchTime>());
  /// The same on the GPUs of these ranks, of which `publisher` has to outlive what is held.
  ParameterShards(const distributed::ShardGroups& groups, distributed::DevicePublisher& publisher,
                  const kernels::Stream& on);

  /// What this rank holds of a buffer of `parameters` values: what it updates, and what its copies do.
  distributed::Interval held(std::int64_t parameters) const {
    return groups_.shares(parameters)[static_cast<std::size_t>(groups_.group().rank())];
  }

  /// Memory for what this rank holds of a buffer of so many values of T, zero at first, and the way to what
  /// the others hold. It goes only after a collective that follows the last pass of every rank. Collective.
  template <class T>
  model::Gathering hold(std::int64_t parameters) {
    return hold(parameters, sizeof(T));
  }
  /// What ranks hold is written between the last pass of every rank, or hold(), and a meeting. Collective.
  void meet() const;
  /// Of the device that all of it is on.
  const kernels::Stream& stream() const { return on_; }

 private:
  /// Of values of `width` bytes.
  model::Gathering hold(std::int64_t parameters, std::int64_t width);

  const distributed::ShardGroups& groups_;
  kernels::Stream on_{}, beside_{};
  distributed::DevicePublisher* publisher_ = nullptr;  // of GPUs
  std::shared_ptr<FetchTime> time_;
  std::shared_ptr<model::GatherSpace> space_ = std::make_shared<model::GatherSpace>();
  std::shared_ptr<distributed::Courier> courier_;  // last: ends before what it writes to
};

/// Values [interval) of what is held among ranks, into `to`, memory of the device that it is on.
template <class T>
void gather(const model::Gathering& from, distributed::Interval interval, std::span<T> to) {
  from.source->begin({{interval.begin, interval.size()}}, std::as_writable_bytes(to));
  from.source->wait();
}

/// What the experiment asks for; null where parameters are not sharded, or there is one rank. Collective.
std::shared_ptr<ParameterShards> make_shards(Run& run);

/// How ranks hold a model that is never trained: divided among them, or once on each machine; where both are
/// null, each has its own.
struct Holders {
  ParameterShards* shards = nullptr;
  distributed::MachineMemory* machine = nullptr;
};

/// For ranks that compute on CPUs and divide no models; null where they do, or there is one rank. Collective.
distributed::MachineMemory* machine_memory(Run& run);

}  // namespace infalign::stages
