#include "core/storage/verify.h"

#include <algorithm>
#include <functional>
#include <span>

#include "core/error.h"
#include "core/storage/calibration_file.h"
#include "core/storage/checkpoint_index.h"
#include "core/storage/hdf5_file.h"
#include "core/storage/inspect.h"
#include "core/storage/safetensors.h"

namespace infalign::storage {
namespace {

namespace fs = std::filesystem;

/// What `read` finds wrong.
std::string damage_found_by(const std::function<void()>& read) {
  try {
    read();
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

/// Every dataset and every attribute of a shard; HDF5 compares the checksum of each chunk that is read.
void read_shard(const fs::path& path) {
  const Hdf5Reader file(path);
  file.attributes("/");
  for (const std::string& dataset : file.datasets("/")) file.read<float>(dataset);
}

/// The index first; then every shard that is there, whatever the index says.
std::vector<VerifiedFile> verify_checkpoint(const fs::path& folder) {
  const fs::path index = folder / kCheckpointFile;
  std::vector<VerifiedFile> files = {{index, damage_found_by([&] { read_checkpoint_index(folder); })}};
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && entry.path() != index) shards.push_back(entry.path());
  std::ranges::sort(shards);
  for (const fs::path& shard : shards) files.push_back({shard, damage_found_by([&] { read_shard(shard); })});
  // The index tells a shard of another length too: that is the shard's damage, not the index's.
  std::string& told = files.front().damage;
  for (VerifiedFile& file : std::span(files).subspan(1)) {
    if (!told.starts_with(file.path.string() + ":")) continue;
    if (file.damage.empty()) file.damage = told;
    told = "";
  }
  return files;
}

std::vector<VerifiedFile> verify_model(const fs::path& path) {
  std::vector<fs::path> weights;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".safetensors") weights.push_back(entry.path());
    std::ranges::sort(weights);
  } else {
    weights.push_back(path);
  }
  std::vector<VerifiedFile> files;
  for (const fs::path& file : weights)
    files.push_back({file, damage_found_by([&] { SafetensorsReader::open_file(file); }), false});
  return files;
}

}  // namespace

std::vector<VerifiedFile> verify(const fs::path& path) {
  switch (kind_of(path)) {
    case Kind::kCheckpoint:
      return verify_checkpoint(fs::is_directory(path) ? path : fs::absolute(path).parent_path());
    case Kind::kCalibration:
      return {{path, damage_found_by([&] { read_calibration(path); })}};
    case Kind::kModel:
      return verify_model(path);
  }
  return {};
}

std::string verify_text(const std::vector<VerifiedFile>& files) {
  std::string text;
  for (const VerifiedFile& file : files) {
    const std::string sound =
        file.path.string() + (file.has_checksums ? ": sound" : ": whole (safetensors have no checksums)");
    text += (file.damage.empty() ? sound : "DAMAGED  " + file.damage) + "\n";
  }
  return text;
}

}  // namespace infalign::storage
