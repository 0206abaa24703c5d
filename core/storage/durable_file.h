// The one way in which this room writes a file: under a temporary name, flushed to disk, then renamed. Text,
// safetensors and HDF5 (through hdf5_driver.h) all pass here, so that "complete or absent" and the message
// for a full disk exist once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace infalign::storage {

/// "FILE: cannot WHAT: No space left on device", for a system call that has just failed with `error`.
std::string system_failure(const std::filesystem::path& path, const std::string& what, int error);

/// A file on its way to becoming `path`. Until commit() nothing is seen under that name but what stood there
/// before; without commit() the temporary goes away with the object.
class DurableFile {
 public:
  /// Creates `path`.tmp. Errors: std::runtime_error naming the file and the cause.
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile() { discard(); }
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Writes at the end. Errors: std::runtime_error naming the file and the cause.
  void append(std::span<const std::byte> bytes);

  /// For HDF5, which cannot go on after a failed write: these never fail. The first cause is remembered,
  /// nothing more is written, and throw_if_failed() or commit() tell it.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) noexcept;
  void resize(std::uint64_t size) noexcept;
  std::uint64_t size() const { return end_; }
  /// Reads back what was written; zero where nothing was.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const noexcept;
  void throw_if_failed() const;

  /// fsync, rename, fsync of the folder. Errors: std::runtime_error naming the file and the cause, then
  /// nothing is changed.
  void commit();

  /// Closes and removes the temporary; harmless after commit().
  void discard() noexcept;

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::uint64_t end_ = 0;
  int failure_ = 0;  // errno of the first failed write
};

}  // namespace infalign::storage
