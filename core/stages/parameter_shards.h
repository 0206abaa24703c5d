// Stage 3 of sharding: each rank holds its interval of a model's flat buffer, and passes gather the rest of a
// layer from the ranks that hold it. The buffer is addressed whole and held in part, so that what trains,
// stores and loads it needs no other addresses. All models of a rank compute one after the other, so they
// share the memory into which layers are gathered, and the thread that fetches them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/model/gathered_parameters.h"
#include "core/stages/run.h"
#include "distributed/communicator.h"
#include "distributed/courier.h"
#include "distributed/shard_groups.h"

namespace infalign::stages {

class ParameterShards {
 public:
  /// Among the ranks of each group, which has to outlive this. `time` is added to.
  explicit ParameterShards(const distributed::ShardGroups& groups,
                           std::shared_ptr<FetchTime> time = std::make_shared<FetchTime>());

  /// What this rank holds of a buffer of `parameters` values: what it updates, and what its copies do.
  distributed::Interval held(std::int64_t parameters) const {
    return groups_.shares(parameters)[static_cast<std::size_t>(groups_.group().rank())];
  }

  /// Lets all ranks gather what each holds of a buffer, its own part of it. The buffer stays where it is,
  /// and is changed only between two collectives of all ranks. What is returned, and the buffer, go only
  /// after a collective that follows the last pass of every rank. Collective.
  template <class T>
  model::Gathering publish(std::span<const T> parameters) {
    return publish(std::as_bytes(parameters), sizeof(T));
  }

 private:
  /// Of values of `width` bytes.
  model::Gathering publish(std::span<const std::byte> parameters, std::int64_t width);

  const distributed::ShardGroups& groups_;
  std::shared_ptr<FetchTime> time_;
  std::shared_ptr<model::GatherSpace> space_;
  std::shared_ptr<distributed::Courier> courier_;  // last: ends before what it writes to
};

/// Values [interval) of what was published, into `to`.
template <class T>
void gather(const model::Gathering& from, distributed::Interval interval, std::span<T> to) {
  from.source->begin({{interval.begin, interval.size()}}, std::as_writable_bytes(to));
  from.source->wait();
}

/// What the experiment asks for; null where parameters are not sharded, or there is one rank. Collective.
std::shared_ptr<ParameterShards> make_shards(Run& run);

}  // namespace infalign::stages
