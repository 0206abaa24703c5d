#include <algorithm>
#include <optional>
#include <stdexcept>

#include "core/error.h"
#include "core/storage/checkpoint.h"
#include "core/storage/checkpoint_index.h"
#include "core/storage/hdf5_file.h"

namespace infalign::storage {
namespace {

[[noreturn]] void refuse(const CheckpointIndex& index, const std::string& what) {
  throw InputError((index.folder / kCheckpointFile).string() + ": " + what);
}

/// The checkpoint's own places of the wanted tensors, in the wanted order; the two must be the same tensors.
std::vector<TensorPlace> find_tensors(const CheckpointIndex& index, const std::string& group,
                                      std::span<const TensorPlace> wanted) {
  const auto stored = index.groups.find(group);
  if (stored == index.groups.end()) refuse(index, "has no group /" + group);
  std::map<std::string, const TensorPlace*> by_name;
  for (const TensorPlace& tensor : stored->second) by_name[tensor.name] = &tensor;
  std::vector<TensorPlace> found;
  for (const TensorPlace& tensor : wanted) {
    const auto own = by_name.extract(tensor.name);
    const std::string path = dataset_path(group, tensor.name);
    if (own.empty()) refuse(index, path + " is missing");
    if (own.mapped()->shape != tensor.shape) {
      refuse(index, path + " has shape " + shape_text(own.mapped()->shape) + ", expected " +
                        shape_text(tensor.shape));
    }
    found.push_back(*own.mapped());
  }
  if (!by_name.empty()) {
    refuse(index,
           dataset_path(group, by_name.begin()->first) + " is in the checkpoint but not in this model");
  }
  return found;
}

}  // namespace

CheckpointReader::CheckpointReader(const std::filesystem::path& folder)
    : index_(std::make_shared<const CheckpointIndex>(read_checkpoint_index(folder))) {}

const CheckpointInfo& CheckpointReader::info() const { return index_->info; }

void CheckpointReader::read(const std::string& group, std::span<const TensorPlace> tensors,
                            FlatInterval interval, std::span<float> out) const {
  if (static_cast<std::int64_t>(out.size()) != interval.end - interval.begin) {
    throw std::invalid_argument("room for " + std::to_string(out.size()) + " values of an interval of " +
                                std::to_string(interval.end - interval.begin));
  }
  const std::vector<TensorPlace> stored = find_tensors(*index_, group, tensors);
  std::fill(out.begin(), out.end(), 0.0F);
  for (std::size_t rank = 0; rank < index_->intervals.size(); ++rank) {
    std::optional<Hdf5Reader> shard;  // opened when it turns out to hold something wanted
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const FlatInterval wanted = part_of_tensor(tensors[i], interval);
      const FlatInterval held = part_of_tensor(stored[i], index_->intervals[rank]);
      const std::int64_t begin = std::max(wanted.begin, held.begin), end = std::min(wanted.end, held.end);
      if (begin >= end) continue;
      const std::string path = dataset_path(group, tensors[i].name);
      if (!shard) shard.emplace(index_->folder / shard_name(static_cast<int>(rank)));
      if (shard->shape(path) != Shape{held.end - held.begin}) {
        shard->refuse(path, "does not hold the elements that " + std::string(kCheckpointFile) + " says");
      }
      shard->read_interval(path, begin - held.begin,
                           out.subspan(static_cast<std::size_t>(tensors[i].offset + begin - interval.begin),
                                       static_cast<std::size_t>(end - begin)));
    }
  }
}

}  // namespace infalign::storage
