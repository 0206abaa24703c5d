#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/json/json.h"
#include "core/storage/durable_file.h"
#include "core/storage/element_type.h"
#include "core/storage/safetensors.h"
#include "core/storage/shape.h"

namespace infalign::storage {
namespace {

constexpr std::size_t kPiece = 1 << 18;  // values converted at a time

/// The JSON header, padded with spaces so that the data behind it begin at a multiple of eight bytes.
std::string make_header(std::span<const TensorToCome> tensors, DataType type) {
  OrderedJson header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    if (header.contains(name))
      throw std::invalid_argument("tensor name " + name + " is taken or not allowed");
    const std::uint64_t end = offset + static_cast<std::uint64_t>(element_count(shape)) * element_size(type);
    header[name] = {{"dtype", element_name(type)}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Non-finite is never stored: neither given so, nor made so by a format of smaller range.
void require_storable(const std::filesystem::path& file, const std::string& tensor,
                      std::span<const float> values, DataType type) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = values[i];
    float stored = value;
    if (type == DataType::kBFloat16) stored = bfloat16_to_float(float_to_bfloat16(value));
    if (type == DataType::kFloat16) stored = float16_to_float(float_to_float16(value));
    if (std::isfinite(stored)) continue;
    throw std::runtime_error(file.string() + ": not written: element " + std::to_string(i) + " of tensor " +
                             tensor + " is " + std::to_string(value) + ", which is not finite as " +
                             element_name(type));
  }
}

void require_size(const TensorToCome& tensor, std::size_t size) {
  const std::int64_t room = element_count(tensor.shape);
  if (static_cast<std::size_t>(room) != size)
    throw std::invalid_argument("tensor " + tensor.name + " has " + std::to_string(size) +
                                " values, its shape has room for " + std::to_string(room));
}

}  // namespace

void write_safetensors(const std::filesystem::path& file, std::span<const TensorToCome> tensors,
                       DataType type, const std::function<std::span<const float>(std::size_t i)>& values_of) {
  const std::string header = make_header(tensors, type);
  DurableFile out(file);
  const std::uint64_t header_size = header.size();
  out.append(std::as_bytes(std::span(&header_size, 1)));
  out.append(std::as_bytes(std::span(header)));
  std::vector<std::byte> piece;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::span<const float> all = values_of(i);
    require_size(tensors[i], all.size());
    require_storable(file, tensors[i].name, all, type);
    for (std::size_t begin = 0; begin < all.size(); begin += kPiece) {
      const auto values = all.subspan(begin, std::min(kPiece, all.size() - begin));
      piece.resize(values.size() * element_size(type));
      encode(type, values, piece);
      out.append(piece);
    }
  }
  out.commit();
}

void write_safetensors(const std::filesystem::path& file, std::span<const NamedTensor> tensors,
                       DataType type) {
  std::vector<TensorToCome> to_come;
  for (const auto& [name, shape, values] : tensors) {
    to_come.push_back({name, shape});
    require_size(to_come.back(), values.size());
  }
  write_safetensors(file, to_come, type, [&](std::size_t i) { return tensors[i].values; });
}

}  // namespace infalign::storage
