#include "core/storage/checkpoint_index.h"

#include <cstdio>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/storage/hdf5_file.h"

namespace infalign::storage {
namespace {

CheckpointInfo read_info(const Hdf5Reader& file) {
  const std::filesystem::path& path = file.path();
  file.require_version(kCheckpointVersion, "a checkpoint");
  const Attributes attributes = file.attributes("/");
  if (attribute<std::int64_t>(path, attributes, "complete") != 1) file.refuse("/", "is not marked complete");

  CheckpointInfo info;
  info.step = attribute<std::int64_t>(path, attributes, "step");
  info.world_size = static_cast<int>(attribute<std::int64_t>(path, attributes, "world_size"));
  info.seed = attribute<std::uint64_t>(path, attributes, "seed");
  info.configuration = attribute<std::string>(path, attributes, "configuration");
  info.git_revision = attribute<std::string>(path, attributes, "git_revision");
  static const std::set<std::string> kOwn = {"configuration", "git_revision"};
  for (const auto& [name, value] : attributes) {
    const auto* text = std::get_if<std::string>(&value);
    if (text && !kOwn.contains(name)) info.state[name] = *text;
  }
  return info;
}

std::vector<FlatInterval> read_intervals(const Hdf5Reader& file, int world_size) {
  const auto flat = file.read<std::int64_t>(kShardIntervals);
  if (file.shape(kShardIntervals) != Shape{world_size, 2}) {
    file.refuse(kShardIntervals, "does not have shape [world_size, 2]");
  }
  std::vector<FlatInterval> intervals;
  for (std::size_t i = 0; i < flat.size(); i += 2) intervals.push_back({flat[i], flat[i + 1]});
  return intervals;
}

/// A shard that is absent or shorter than when it was written is told here, before anything is read from it.
void require_shards(const Hdf5Reader& file, const std::filesystem::path& folder, int world_size) {
  const auto bytes = file.read<std::int64_t>(kShardBytes);
  if (static_cast<int>(bytes.size()) != world_size)
    file.refuse(kShardBytes, "does not have shape [world_size]");
  for (int rank = 0; rank < world_size; ++rank) {
    const std::filesystem::path shard = folder / shard_name(rank);
    std::error_code error;
    const auto size = std::filesystem::file_size(shard, error);
    if (error)
      throw InputError(shard.string() + ": this shard of the checkpoint is missing: " + error.message());
    const auto expected = static_cast<std::uintmax_t>(bytes[static_cast<std::size_t>(rank)]);
    if (size != expected) {
      throw InputError(shard.string() + ": has " + std::to_string(size) + " bytes, was written with " +
                       std::to_string(expected) + ": truncated, or of another checkpoint");
    }
  }
}

}  // namespace

std::string shard_name(int rank) {
  char name[32];
  std::snprintf(name, sizeof(name), "shard_%05d.h5", rank);
  return name;
}

CheckpointIndex read_checkpoint_index(const std::filesystem::path& folder) {
  const Hdf5Reader file(folder / kCheckpointFile);
  CheckpointIndex index;
  index.folder = folder;
  index.info = read_info(file);
  index.intervals = read_intervals(file, index.info.world_size);
  require_shards(file, folder, index.info.world_size);
  for (const std::string& path : file.datasets("/")) {
    if (path == kShardIntervals || path == kShardBytes) continue;
    const std::size_t slash = path.rfind('/');
    if (slash == 0) file.refuse(path, "is a tensor outside any group");
    TensorPlace tensor;
    tensor.name = path.substr(slash + 1);
    tensor.shape = file.shape(path);
    tensor.size = element_count(tensor.shape);
    tensor.offset = attribute<std::int64_t>(file.path(), file.attributes(path), "offset");
    index.groups[path.substr(1, slash - 1)].push_back(std::move(tensor));
  }
  return index;
}

}  // namespace infalign::storage
