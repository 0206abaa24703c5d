#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "core/json/json.h"
#include "core/storage/durable_file.h"
#include "core/storage/element_type.h"
#include "core/storage/json_object.h"
#include "core/storage/safetensors.h"
#include "core/storage/shape.h"

namespace infalign::storage {
namespace {

using Tensors = std::map<std::string, SafetensorsReader::Tensor>;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::uint64_t kLargestHeader = 100'000'000;  // the limit of the reference implementation

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw InputError(file.string() + ": " + what);
}

/// A whole file, mapped read-only.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) throw InputError(system_failure(path, "open", errno));
    struct stat status {};
    int failure = fstat(descriptor, &status) == 0 ? 0 : errno;
    if (failure == 0 && !S_ISREG(status.st_mode)) failure = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (failure == 0 && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      address_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (address_ == MAP_FAILED) failure = errno;
    }
    close(descriptor);  // the map keeps the file
    if (failure != 0) {
      address_ = MAP_FAILED;
      throw InputError(system_failure(path, "read", failure));
    }
  }
  ~MappedFile() {
    if (address_ != MAP_FAILED) munmap(address_, size_);
  }
  MappedFile(MappedFile&& other) noexcept
      : address_(std::exchange(other.address_, MAP_FAILED)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const {
    if (size_ == 0) return {};
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  void* address_ = MAP_FAILED;
  std::size_t size_ = 0;
};

/// Gives back the memory of those pages of a mapped file that lie whole in `bytes`; they are there again when
/// read again.
void forget(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::size_t into_page = reinterpret_cast<std::uintptr_t>(bytes.data()) % page;
  const std::size_t skipped = (page - into_page) % page;  // up to the first page that begins here
  if (bytes.size() < skipped + page) return;
  auto* first = const_cast<std::byte*>(bytes.data()) + skipped;
  madvise(first, (bytes.size() - skipped) / page * page, MADV_DONTNEED);
}

/// Of a float, or of the bits of a bfloat16: its exponent is not all ones.
template <class T>
bool is_finite_value(T value) {
  if constexpr (std::is_same_v<T, float>)
    return std::isfinite(value);
  else
    return (value & 0x7f80) != 0x7f80;
}

/// The element type of a tensor's header entry.
DataType parse_type(const std::filesystem::path& file, const std::string& name, const Json& entry) {
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) refuse(file, "tensor " + name + " has no dtype");
  for (const DataType known : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    if (*type == element_name(known)) return known;
  }
  refuse(file, "tensor " + name + " has dtype " + type->get<std::string>() + "; read are F32, BF16 and F16");
}

/// An array of integers from 0 to 2^63 - 1.
std::optional<std::vector<std::int64_t>> parse_sizes(const Json& entry, const char* key) {
  const auto list = entry.find(key);
  if (list == entry.end() || !list->is_array()) return std::nullopt;
  std::vector<std::int64_t> sizes;
  for (const Json& item : *list) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > INT64_MAX) return std::nullopt;
    sizes.push_back(item.get<std::int64_t>());
  }
  return sizes;
}

/// Bytes of a tensor, or nothing when they do not fit 63 bits.
std::optional<std::int64_t> byte_count(DataType type, const std::vector<std::int64_t>& shape) {
  auto bytes = static_cast<std::int64_t>(element_size(type));
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  }
  return bytes;
}

/// The tensors of one file. `bytes` is the whole of it.
Tensors parse(const std::filesystem::path& file, std::span<const std::byte> bytes) {
  std::uint64_t header_size = 0;
  if (bytes.size() < sizeof(header_size)) refuse(file, "is too short to be a safetensors file");
  std::memcpy(&header_size, bytes.data(), sizeof(header_size));
  const auto body = bytes.subspan(sizeof(header_size));
  if (header_size > body.size()) {
    refuse(file, "announces a header of " + std::to_string(header_size) + " bytes but has only " +
                     std::to_string(body.size()) + " left: truncated, or not a safetensors file");
  }
  if (header_size > kLargestHeader) refuse(file, "announces a header of more than 100 MB");

  const char* text = reinterpret_cast<const char*>(body.data());
  const Json header = parse_json({text, header_size});
  if (!header.is_object()) refuse(file, "has a header that is not a JSON object");
  const auto data = body.subspan(header_size);

  Tensors tensors;
  std::vector<std::pair<std::pair<std::int64_t, std::int64_t>, std::string>> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (!entry.is_object()) refuse(file, "tensor " + name + " is not described by a JSON object");
    const DataType type = parse_type(file, name, entry);
    const auto shape = parse_sizes(entry, "shape");
    if (!shape) refuse(file, "tensor " + name + " has no valid shape");
    const auto offsets = parse_sizes(entry, "data_offsets");
    if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
      refuse(file, "tensor " + name + " has no valid data_offsets");
    }
    const std::int64_t begin = (*offsets)[0], end = (*offsets)[1];
    if (static_cast<std::uint64_t>(end) > data.size()) {
      refuse(file, "tensor " + name + " ends at byte " + std::to_string(end) + " of " +
                       std::to_string(data.size()) + " bytes of data: the file is truncated");
    }
    if (byte_count(type, *shape) != end - begin) {
      refuse(file, "tensor " + name + " has " + std::to_string(end - begin) +
                       " bytes, which is not what its shape and dtype need");
    }
    const auto extent = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    tensors[name] = {type, *shape, extent};
    extents.push_back({{begin, end}, name});
  }

  std::sort(extents.begin(), extents.end());
  std::int64_t covered = 0;
  for (const auto& [extent, name] : extents) {
    if (extent.first < covered) refuse(file, "tensor " + name + " overlaps the one before it");
    if (extent.first > covered) refuse(file, "there is a hole in the data before tensor " + name);
    covered = extent.second;
  }
  if (static_cast<std::uint64_t>(covered) != data.size()) {
    refuse(file, std::to_string(data.size() - static_cast<std::uint64_t>(covered)) +
                     " bytes after the last tensor belong to none");
  }
  return tensors;
}

/// A shard's name in the index must lead to a file in the folder: a downloaded index is not to be trusted
/// with "..".
bool stays_inside(const std::filesystem::path& name) {
  return !name.empty() && name.is_relative() && name.has_filename() &&
         std::none_of(name.begin(), name.end(), [](const auto& part) { return part == ".."; });
}

/// Tensor -> shard file, from the index.
std::map<std::string, std::string> parse_index(const std::filesystem::path& file) {
  const Json index = read_json_object(file);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) refuse(file, "has no object weight_map");
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : weight_map->items()) {
    if (!shard.is_string()) refuse(file, "weight_map of " + name + " is not a file name");
    if (!stays_inside(shard.get<std::string>())) {
      refuse(file, "weight_map of " + name + " leads outside the folder: " + shard.get<std::string>());
    }
    shard_of[name] = shard.get<std::string>();
  }
  return shard_of;
}

}  // namespace

struct SafetensorsReader::Impl {
  std::filesystem::path source;  // what the person named: the file or folder
  std::vector<MappedFile> files;
  Tensors tensors;
};

SafetensorsReader::SafetensorsReader(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;
SafetensorsReader& SafetensorsReader::operator=(SafetensorsReader&&) noexcept = default;
SafetensorsReader::~SafetensorsReader() = default;

SafetensorsReader SafetensorsReader::open_file(const std::filesystem::path& file) {
  auto impl = std::make_unique<Impl>();
  impl->source = file;
  impl->files.emplace_back(file);
  impl->tensors = parse(file, impl->files.back().bytes());
  return SafetensorsReader(std::move(impl));
}

SafetensorsReader SafetensorsReader::open_folder(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "model.safetensors")) return open_file(folder / "model.safetensors");
  const std::filesystem::path index = folder / kIndexName;
  if (!std::filesystem::exists(index)) {
    refuse(folder, std::string("has neither model.safetensors nor ") + kIndexName);
  }
  const auto shard_of = parse_index(index);
  auto impl = std::make_unique<Impl>();
  impl->source = folder;
  std::map<std::string, Tensors> shards;
  for (const auto& [name, shard] : shard_of) {
    if (shards.contains(shard)) continue;
    impl->files.emplace_back(folder / shard);
    shards[shard] = parse(folder / shard, impl->files.back().bytes());
  }
  // The index is what counts: a tensor that it does not list is not part of the model.
  for (const auto& [name, shard] : shard_of) {
    const auto tensor = shards[shard].find(name);
    if (tensor == shards[shard].end()) {
      refuse(folder / shard, "has no tensor " + name + ", which " + kIndexName + " says is there");
    }
    impl->tensors.insert(*tensor);
  }
  return SafetensorsReader(std::move(impl));
}

const std::map<std::string, SafetensorsReader::Tensor>& SafetensorsReader::tensors() const {
  return impl_->tensors;
}

void SafetensorsReader::read(const std::string& name, std::span<const std::int64_t> shape,
                             std::span<float> out) const {
  read_as(name, shape, out);
}

void SafetensorsReader::read(const std::string& name, std::span<const std::int64_t> shape,
                             std::span<std::uint16_t> out) const {
  read_as(name, shape, out);
}

void SafetensorsReader::require(const std::string& name, std::span<const std::int64_t> shape) const {
  const auto found = impl_->tensors.find(name);
  if (found == impl_->tensors.end()) refuse(impl_->source, "has no tensor " + name);
  const Tensor& tensor = found->second;
  if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
    refuse(impl_->source,
           "tensor " + name + " has shape " + shape_text(tensor.shape) + ", expected " + shape_text(shape));
  }
}

template <class T>
void SafetensorsReader::read_as(const std::string& name, std::span<const std::int64_t> shape,
                                std::span<T> out) const {
  require(name, shape);
  const Tensor& tensor = impl_->tensors.at(name);
  const std::size_t size = element_size(tensor.type);
  if (out.size() * size != tensor.data.size()) {
    throw std::invalid_argument("room for " + std::to_string(out.size()) + " values, but tensor " + name +
                                " has shape " + shape_text(shape));
  }
  constexpr std::size_t kAtATime = 1 << 18;  // values
  for (std::size_t begin = 0; begin < out.size(); begin += kAtATime) {
    const auto part = out.subspan(begin, std::min(kAtATime, out.size() - begin));
    const auto bytes = tensor.data.subspan(begin * size, part.size() * size);
    decode(tensor.type, bytes, part);
    forget(bytes);
    const auto bad = std::find_if_not(part.begin(), part.end(), is_finite_value<T>);
    if (bad != part.end()) {
      refuse(impl_->source, "tensor " + name + " holds a value that is not finite, at element " +
                                std::to_string(begin + static_cast<std::size_t>(bad - part.begin())));
    }
  }
}

}  // namespace infalign::storage
