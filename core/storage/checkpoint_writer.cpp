#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <set>
#include <stdexcept>
#include <system_error>

#include "core/storage/checkpoint.h"
#include "core/storage/checkpoint_index.h"
#include "core/storage/durable.h"
#include "core/storage/durable_file.h"
#include "core/storage/hdf5_file.h"

namespace infalign::storage {
namespace {

/// A caller's mistake in the map of the flat buffer would make a checkpoint that cannot be read back.
void require_sound(std::span<const TensorPlace> tensors) {
  std::set<std::string> names;
  for (const TensorPlace& tensor : tensors) {
    const std::string& name = tensor.name;
    if (name.empty() || name == "." || name.find('/') != std::string::npos || !names.insert(name).second) {
      throw std::invalid_argument("a checkpoint cannot hold a tensor of this name, or holds it already: \"" +
                                  name + "\"");
    }
    if (tensor.shape.empty() || element_count(tensor.shape) != tensor.size || tensor.offset < 0) {
      throw std::invalid_argument("tensor " + name + " has size " + std::to_string(tensor.size) +
                                  ", which is not that of its shape " + shape_text(tensor.shape));
    }
  }
}

/// Non-finite is never stored.
void require_finite(const std::filesystem::path& file, const std::string& path,
                    std::span<const float> values) {
  const auto bad =
      std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  if (bad == values.end()) return;
  throw std::runtime_error(file.string() + ": not written: " + path + " holds a value that is not finite (" +
                           std::to_string(*bad) + ")");
}

/// Every element of every tensor is in exactly one interval.
void require_partition(std::span<const TensorPlace> tensors, std::span<const FlatInterval> of_ranks) {
  std::vector<FlatInterval> intervals(of_ranks.begin(), of_ranks.end());
  std::ranges::sort(intervals, {}, [](const FlatInterval& i) { return std::pair(i.begin, i.end); });
  for (const TensorPlace& tensor : tensors) {
    std::int64_t covered = 0;
    for (const FlatInterval& interval : intervals) {
      const FlatInterval part = part_of_tensor(tensor, interval);
      if (part.begin == part.end) continue;
      if (part.begin != covered) break;
      covered = part.end;
    }
    if (covered != tensor.size) {
      throw std::invalid_argument("the ranks' intervals leave a gap or overlap in tensor " + tensor.name);
    }
  }
}

/// The length of each rank's shard, which must hold the interval that is said of it.
std::vector<std::int64_t> measure_shards(const std::filesystem::path& folder,
                                         std::span<const FlatInterval> intervals) {
  std::vector<std::int64_t> bytes;
  for (std::size_t rank = 0; rank < intervals.size(); ++rank) {
    const std::filesystem::path path = folder / shard_name(static_cast<int>(rank));
    const Attributes attributes = Hdf5Reader(path).attributes("/");
    if (attribute<std::int64_t>(path, attributes, "begin") != intervals[rank].begin ||
        attribute<std::int64_t>(path, attributes, "end") != intervals[rank].end) {
      throw std::runtime_error(path.string() + ": holds another interval of the parameters than rank " +
                               std::to_string(rank) + "'s");
    }
    bytes.push_back(static_cast<std::int64_t>(std::filesystem::file_size(path)));
  }
  return bytes;
}

/// Shards and half-written files of an earlier, interrupted attempt on more ranks.
void remove_leftovers(const std::filesystem::path& folder, std::size_t world_size) {
  std::set<std::string> own = {kCheckpointFile};
  for (std::size_t rank = 0; rank < world_size; ++rank) own.insert(shard_name(static_cast<int>(rank)));
  std::vector<std::filesystem::path> leftovers;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!own.contains(entry.path().filename().string())) leftovers.push_back(entry.path());
  }
  for (const auto& leftover : leftovers) std::filesystem::remove(leftover);
}

Attributes attributes_of(const CheckpointInfo& info) {
  Attributes attributes(info.state.begin(), info.state.end());
  const Attributes own = {
      {"format_version", kCheckpointVersion},
      {"complete", std::int64_t{1}},
      {"step", info.step},
      {"world_size", std::int64_t{info.world_size}},
      {"seed", info.seed},
      {"configuration", info.configuration},
      {"git_revision", info.git_revision},
  };
  for (const auto& [name, value] : own) {
    if (!attributes.emplace(name, value).second || info.state.contains("")) {
      throw std::invalid_argument("a checkpoint's state cannot use this name: " + name);
    }
  }
  return attributes;
}

/// Puts `temporary` in the place of `final_folder`. If there is one already, the two change names in one
/// step, so that at every moment one complete checkpoint has the name; the older one is removed afterwards.
void put_in_place(const std::filesystem::path& temporary, const std::filesystem::path& final_folder) {
  if (!std::filesystem::exists(final_folder)) return rename_durably(temporary, final_folder);
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, final_folder.c_str(), RENAME_EXCHANGE) == 0) {
    sync_path(std::filesystem::absolute(final_folder).parent_path());
    std::filesystem::remove_all(temporary);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    throw std::runtime_error(system_failure(final_folder, "exchange it with " + temporary.string(), errno));
  }
  // A file system that cannot exchange: for a moment there is none, and the older one is kept until the newer
  // is in place.
  std::filesystem::path older = final_folder;
  older += ".replaced.tmp";
  rename_durably(final_folder, older);
  rename_durably(temporary, final_folder);
  std::filesystem::remove_all(older);
}

}  // namespace

void write_checkpoint_shard(const std::filesystem::path& folder, int rank,
                            std::span<const TensorPlace> tensors, FlatInterval interval,
                            std::span<const FlatShard> shards) {
  require_sound(tensors);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw std::runtime_error(folder.string() + ": cannot create the folder: " + error.message());

  Hdf5Writer file(folder / shard_name(rank));
  file.set_attributes("/", {{"rank", std::int64_t{rank}}, {"begin", interval.begin}, {"end", interval.end}});
  for (const FlatShard& shard : shards) {
    if (static_cast<std::int64_t>(shard.values.size()) != interval.end - interval.begin) {
      throw std::invalid_argument("group " + shard.group + " has " + std::to_string(shard.values.size()) +
                                  " values for an interval of " +
                                  std::to_string(interval.end - interval.begin));
    }
    for (const TensorPlace& tensor : tensors) {
      const FlatInterval part = part_of_tensor(tensor, interval);
      if (part.begin == part.end) continue;
      const auto values =
          shard.values.subspan(static_cast<std::size_t>(tensor.offset + part.begin - interval.begin),
                               static_cast<std::size_t>(part.end - part.begin));
      const std::string path = dataset_path(shard.group, tensor.name);
      require_finite(folder / shard_name(rank), path, values);
      file.write(path, {part.end - part.begin}, values);
    }
  }
  file.commit(Hdf5Writer::Seal::kNo);
}

void finish_checkpoint(const std::filesystem::path& temporary, const std::filesystem::path& final_folder,
                       const CheckpointInfo& info, std::span<const TensorPlace> tensors,
                       std::span<const FlatInterval> intervals, std::span<const std::string> groups) {
  require_sound(tensors);
  require_partition(tensors, intervals);
  if (info.world_size != static_cast<int>(intervals.size())) {
    throw std::invalid_argument("a checkpoint of world size " + std::to_string(info.world_size) + " with " +
                                std::to_string(intervals.size()) + " intervals");
  }
  const auto world = static_cast<std::int64_t>(intervals.size());
  std::vector<std::int64_t> flat_intervals;
  for (const FlatInterval& interval : intervals) {
    flat_intervals.push_back(interval.begin);
    flat_intervals.push_back(interval.end);
  }

  Hdf5Writer file(temporary / kCheckpointFile);
  file.set_attributes("/", attributes_of(info));
  file.write<std::int64_t>(kShardIntervals, {world, 2}, flat_intervals);
  file.write<std::int64_t>(kShardBytes, {world}, measure_shards(temporary, intervals));
  for (const std::string& group : groups) {
    for (const TensorPlace& tensor : tensors) {
      const std::string path = dataset_path(group, tensor.name);
      std::vector<VirtualPiece> pieces;
      for (std::size_t rank = 0; rank < intervals.size(); ++rank) {
        const FlatInterval part = part_of_tensor(tensor, intervals[rank]);
        if (part.begin == part.end) continue;
        pieces.push_back({shard_name(static_cast<int>(rank)), path, part.begin, part.end - part.begin});
      }
      file.write_virtual(path, tensor.shape, pieces);
      file.set_attributes(path, {{"offset", tensor.offset}});
    }
  }
  file.commit(Hdf5Writer::Seal::kYes);
  remove_leftovers(temporary, intervals.size());
  sync_path(temporary);
  put_in_place(temporary, final_folder);
}

}  // namespace infalign::storage
