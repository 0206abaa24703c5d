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
std::string make_header(std::span<const NamedTensor> tensors, DataType type) {
  OrderedJson header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    const auto size = static_cast<std::uint64_t>(element_count(tensor.shape));
    if (size != tensor.values.size()) {
      throw std::invalid_argument("tensor " + tensor.name + " has " + std::to_string(tensor.values.size()) +
                                  " values, its shape has room for " + std::to_string(size));
    }
    if (header.contains(tensor.name)) {
      throw std::invalid_argument("tensor name " + tensor.name + " is taken or not allowed");
    }
    const std::uint64_t end = offset + size * element_size(type);
    header[tensor.name] = {
        {"dtype", element_name(type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Non-finite is never stored: neither given so, nor made so by a format of smaller range.
void require_storable(const std::filesystem::path& file, const NamedTensor& tensor, DataType type) {
  for (std::size_t i = 0; i < tensor.values.size(); ++i) {
    const float value = tensor.values[i];
    float stored = value;
    if (type == DataType::kBFloat16) stored = bfloat16_to_float(float_to_bfloat16(value));
    if (type == DataType::kFloat16) stored = float16_to_float(float_to_float16(value));
    if (std::isfinite(stored)) continue;
    throw std::runtime_error(file.string() + ": not written: element " + std::to_string(i) + " of tensor " +
                             tensor.name + " is " + std::to_string(value) + ", which is not finite as " +
                             element_name(type));
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& file, std::span<const NamedTensor> tensors,
                       DataType type) {
  const std::string header = make_header(tensors, type);
  for (const NamedTensor& tensor : tensors) require_storable(file, tensor, type);

  DurableFile out(file);
  const std::uint64_t header_size = header.size();
  out.append(std::as_bytes(std::span(&header_size, 1)));
  out.append(std::as_bytes(std::span(header)));
  std::vector<std::byte> piece;
  for (const NamedTensor& tensor : tensors) {
    for (std::size_t begin = 0; begin < tensor.values.size(); begin += kPiece) {
      const auto values = tensor.values.subspan(begin, std::min(kPiece, tensor.values.size() - begin));
      piece.resize(values.size() * element_size(type));
      encode(type, values, piece);
      out.append(piece);
    }
  }
  out.commit();
}

}  // namespace infalign::storage
