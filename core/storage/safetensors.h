// Model weights in the safetensors format: eight bytes of header length, a JSON header, raw little-endian
// data. Read by memory map, checked whole before any tensor is handed out; nothing in the header is trusted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace infalign::storage {

enum class DataType { kFloat32, kBFloat16, kFloat16 };

/// The weights of a model folder: `model.safetensors`, or the shards of `model.safetensors.index.json`.
class SafetensorsReader {
 public:
  struct Tensor {
    DataType type = DataType::kFloat32;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> data;
  };

  /// Errors: InputError naming file and tensor for anything missing, truncated, overlapping, of unsupported
  /// type, or beyond the file.
  static SafetensorsReader open_folder(const std::filesystem::path& folder);
  static SafetensorsReader open_file(const std::filesystem::path& file);

  SafetensorsReader(SafetensorsReader&&) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) noexcept;
  ~SafetensorsReader();

  const std::map<std::string, Tensor>& tensors() const;
  /// Errors: InputError if a tensor is missing, or not of `shape`.
  void require(const std::string& name, std::span<const std::int64_t> shape) const;
  /// Copies a tensor, converted to float32. Errors: InputError if it is missing, not of `shape`, or holds a
  /// non-finite value.
  void read(const std::string& name, std::span<const std::int64_t> shape, std::span<float> out) const;
  /// The same as bfloat16, rounded to nearest even. Of the file no more than a megabyte is in memory at a
  /// time.
  void read(const std::string& name, std::span<const std::int64_t> shape, std::span<std::uint16_t> out) const;

 private:
  template <class T>
  void read_as(const std::string& name, std::span<const std::int64_t> shape, std::span<T> out) const;
  struct Impl;
  explicit SafetensorsReader(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

struct NamedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const float> values;
};

/// Writes one safetensors file of float32 or (rounded to nearest even) bfloat16/float16 values, durably (see
/// durable.h), with metadata format "pt". Errors: std::runtime_error for a value that is not finite in the
/// file's type; then there is no file.
void write_safetensors(const std::filesystem::path& file, std::span<const NamedTensor> tensors,
                       DataType type = DataType::kFloat32);

/// A tensor whose values come when they are written.
struct TensorToCome {
  std::string name;
  std::vector<std::int64_t> shape;
};
/// The same of tensors that need not all be in memory: values_of(i), asked for one after the other, are those
/// of tensor i, until the next are asked for.
void write_safetensors(const std::filesystem::path& file, std::span<const TensorToCome> tensors,
                       DataType type, const std::function<std::span<const float>(std::size_t i)>& values_of);

}  // namespace infalign::storage
