// Whether what this program wrote is still what it wrote: every checksum of a checkpoint, a calibration file
// or a model folder is read and compared, `infalign inspect --verify PATH`. Reading for use stops at the
// first damage; this names every file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace infalign::storage {

struct VerifiedFile {
  std::filesystem::path path;
  std::string damage;  // what is wrong with it, naming it; "" where every checksum fits
  /// Safetensors have no checksums: only that the file's parts fit each other can be told.
  bool has_checksums = true;
};

/// The files of `path`, a checkpoint folder (or its checkpoint.h5), a calibration file, a model folder or a
/// safetensors file, each read whole. Errors: InputError for anything else.
std::vector<VerifiedFile> verify(const std::filesystem::path& path);

/// For people: a line for each file.
std::string verify_text(const std::vector<VerifiedFile>& files);

}  // namespace infalign::storage
