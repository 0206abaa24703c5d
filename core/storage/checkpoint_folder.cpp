#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "core/storage/checkpoint.h"
#include "core/storage/checkpoint_index.h"
#include "core/storage/durable.h"

namespace infalign::storage {
namespace {

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporary = ".tmp";

/// The step that a folder's name tells, if it is a checkpoint's name.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  if (!std::filesystem::is_directory(folder)) return found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory()) found.push_back(entry.path());
  }
  return found;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  char name[40];
  std::snprintf(name, sizeof(name), "step_%06lld", static_cast<long long>(step));
  return name;
}

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder) {
  std::vector<std::pair<std::int64_t, std::filesystem::path>> found;
  for (const auto& path : folders_in(folder)) {
    const auto step = step_of(path.filename().string());
    if (step && std::filesystem::exists(path / kCheckpointFile)) found.emplace_back(*step, path);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::filesystem::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

std::int64_t checkpoint_bytes(std::span<const TensorPlace> tensors, std::size_t groups,
                              std::size_t world_size) {
  constexpr std::int64_t kDataset = 4096;     // HDF5's own for a dataset, its chunks' index included
  constexpr std::int64_t kChunkShare = 1000;  // one more byte in so many: checksums and addresses of chunks
  std::int64_t elements = 0;
  for (const TensorPlace& tensor : tensors) elements += tensor.size;
  const auto of_groups = static_cast<std::int64_t>(groups);
  const std::int64_t data = elements * of_groups * static_cast<std::int64_t>(sizeof(float));
  // A tensor is a dataset of the index and of each shard that holds a part of it.
  const auto datasets = (2 * std::ssize(tensors) + static_cast<std::int64_t>(world_size)) * of_groups;
  return data + data / kChunkShare + datasets * kDataset;
}

std::int64_t free_bytes(const std::filesystem::path& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  if (error || space.available > static_cast<std::uintmax_t>(kMost)) return kMost;
  return static_cast<std::int64_t>(space.available);
}

void prune_checkpoints(const std::filesystem::path& folder, int keep, std::int64_t keep_every) {
  if (keep < 0) throw std::invalid_argument("cannot keep " + std::to_string(keep) + " checkpoints");
  const auto complete = list_checkpoints(folder);
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < complete.size(); ++i) {
    if (keep_every > 0 && *step_of(complete[i].filename().string()) % keep_every == 0) continue;
    // Out of the list in one step: a removal that is interrupted leaves a leftover, not half a checkpoint.
    std::filesystem::path leftover = complete[i];
    leftover += kTemporary;
    std::filesystem::remove_all(leftover);
    rename_durably(complete[i], leftover);
  }
  for (const auto& path : folders_in(folder)) {
    const std::string name = path.filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kTemporary)) std::filesystem::remove_all(path);
  }
}

}  // namespace infalign::storage
