// Files that are complete or absent: written beside their final name, flushed to disk, renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace infalign::storage {

/// Replaces `path` by `content`: temporary file, fsync, rename, fsync of the folder. Errors:
/// std::runtime_error naming path and cause.
void write_file_durably(const std::filesystem::path& path, std::string_view content);

/// fsync of a file or folder that some library has written.
void sync_path(const std::filesystem::path& path);

/// Renames and fsyncs the folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// The whole of a small file. Errors: InputError.
std::string read_file(const std::filesystem::path& path);

/// A 64-bit hash (FNV-1a) as 16 hexadecimal digits: names inputs, is no safeguard against malice.
class Fingerprint {
 public:
  Fingerprint& add(std::string_view bytes);
  Fingerprint& add_file(const std::filesystem::path& path);  // content; InputError if it cannot be read
  std::uint64_t value() const { return state_; }
  std::string hex() const;

 private:
  std::uint64_t state_ = 0xcbf29ce484222325ULL;
};

}  // namespace infalign::storage
