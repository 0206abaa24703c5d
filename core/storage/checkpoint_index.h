// What the parts of a checkpoint are called and where they lie: shared by the side that writes and the side
// that reads.
//
//   step_000120/checkpoint.h5     attributes of the run; /shards/intervals [world, 2] and /shards/bytes
//   [world];
//                                 /<group>/<tensor>: the whole tensor, virtual, with its `offset` in the flat
//                                 buffer
//   step_000120/shard_00003.h5    attributes rank, begin, end; /<group>/<tensor>: the consecutive elements of
//   the tensor
//                                 that fall into rank 3's interval, one-dimensional; none where there are
//                                 none
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/storage/checkpoint.h"

namespace infalign::storage {

inline constexpr std::int64_t kCheckpointVersion = 1;
inline constexpr const char* kCheckpointFile = "checkpoint.h5";
inline constexpr const char* kShardIntervals = "/shards/intervals";
inline constexpr const char* kShardBytes = "/shards/bytes";

/// checkpoint.h5, understood.
struct CheckpointIndex {
  std::filesystem::path folder;
  CheckpointInfo info;
  std::vector<FlatInterval> intervals;                     // [world]
  std::map<std::string, std::vector<TensorPlace>> groups;  // tensors by name, ascending
};

/// Errors: as CheckpointReader's constructor.
CheckpointIndex read_checkpoint_index(const std::filesystem::path& folder);

/// "shard_00003.h5".
std::string shard_name(int rank);

/// "/model/model.norm.weight".
inline std::string dataset_path(const std::string& group, const std::string& tensor) {
  return "/" + group + "/" + tensor;
}

/// The part of a tensor, in elements of the tensor, that an interval of the flat buffer holds; empty: begin =
/// end.
inline FlatInterval part_of_tensor(const TensorPlace& tensor, FlatInterval interval) {
  const std::int64_t begin = std::clamp<std::int64_t>(interval.begin - tensor.offset, 0, tensor.size);
  const std::int64_t end = std::clamp<std::int64_t>(interval.end - tensor.offset, begin, tensor.size);
  return {begin, end};
}

}  // namespace infalign::storage
