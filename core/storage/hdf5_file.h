// HDF5 as the rest of this room sees it: a file to write that is complete or absent, and a file to read that
// is checked. The HDF5 API stays behind these two classes, where each call is guarded and named.
//
// HDF5 as distributions ship it must not be entered by two threads at once, and ranks may be threads of one
// process. So there is one recursive lock for the process, and every writer and reader holds it while it
// lives: open late, close early, and never wait for another rank in between.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/storage/shape.h"

namespace infalign::storage {

using Attribute = std::variant<std::int64_t, std::uint64_t, double, std::string>;
using Attributes = std::map<std::string, Attribute>;

/// A piece of a virtual dataset: the elements from `begin` (row-major) on are those of the one-dimensional
/// `dataset`, all of it.
struct VirtualPiece {
  std::string file;  // relative to the virtual dataset's own file
  std::string dataset;
  std::int64_t begin = 0;
  std::int64_t size = 0;
};

/// A new HDF5 file. No time is stored in it: the same calls give the same bytes. Element types are float,
/// double, std::int64_t and std::uint64_t. Errors: std::runtime_error naming the file and the cause;
/// std::invalid_argument for strings with a zero byte, which HDF5 would cut.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::filesystem::path& path);
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  /// Attributes of an existing object, "/" for the file.
  void set_attributes(const std::string& object, const Attributes& attributes);
  /// A dataset at `path`, groups made on the way, in chunks of at most 1 MiB with Fletcher-32.
  template <typename T>
  void write(const std::string& path, const Shape& shape, std::span<const T> values);
  /// UTF-8 strings of variable length, [strings.size()].
  void write_strings(const std::string& path, std::span<const std::string> strings);
  /// A float32 dataset that shows `pieces` of other files in place; NaN where a file is missing.
  void write_virtual(const std::string& path, const Shape& shape, std::span<const VirtualPiece> pieces);

  /// A file with strings or virtual datasets needs a seal (seal.h); one of numbers has HDF5's checksums
  /// everywhere.
  enum class Seal { kNo, kYes };
  /// Closes the file, flushes it to disk and gives it its name. Without commit() there will be no file.
  void commit(Seal seal);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// An HDF5 file that somebody wrote. Errors everywhere: InputError naming the file, the object and what is
/// wrong with it: absent, truncated, of another type or shape, or a checksum that does not fit.
class Hdf5Reader {
 public:
  /// Verifies the seal, if there is one, before anything else.
  explicit Hdf5Reader(const std::filesystem::path& path);
  ~Hdf5Reader();
  Hdf5Reader(const Hdf5Reader&) = delete;
  Hdf5Reader& operator=(const Hdf5Reader&) = delete;

  const std::filesystem::path& path() const;
  /// Is there an object at this path?
  bool has(const std::string& object) const;
  /// Refuses a file that is not `what` ("a checkpoint") of this format_version, or has no seal.
  void require_version(std::int64_t version, const std::string& what) const;
  /// What set_attributes wrote.
  Attributes attributes(const std::string& object) const;
  /// Paths of all datasets below `group`, ascending.
  std::vector<std::string> datasets(const std::string& group) const;
  Shape shape(const std::string& dataset) const;
  template <typename T>
  std::vector<T> read(const std::string& dataset) const;
  /// Elements [begin, begin + out.size()) of a one-dimensional dataset.
  void read_interval(const std::string& dataset, std::int64_t begin, std::span<float> out) const;
  std::vector<std::string> read_strings(const std::string& dataset) const;

  /// Throws InputError "FILE: OBJECT what".
  [[noreturn]] void refuse(const std::string& object, const std::string& what) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One of `attributes`, as T. Errors: InputError "FILE: attribute NAME is missing or of another type".
template <typename T>
const T& attribute(const std::filesystem::path& file, const Attributes& attributes, const std::string& name);

}  // namespace infalign::storage
