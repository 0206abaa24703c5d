#include "core/storage/element_type.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace infalign::storage {

static_assert(std::endian::native == std::endian::little, "the files of this room are little-endian");

namespace {

template <typename Convert>
void decode_halves(std::span<const std::byte> bytes, std::span<float> values, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    values[i] = convert(bits);
  }
}

template <typename Convert>
void encode_halves(std::span<const float> values, std::span<std::byte> bytes, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = convert(values[i]);
    std::memcpy(bytes.data() + 2 * i, &bits, 2);
  }
}

}  // namespace

std::size_t element_size(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

const char* element_name(DataType type) {
  switch (type) {
    case DataType::kBFloat16:
      return "BF16";
    case DataType::kFloat16:
      return "F16";
    case DataType::kFloat32:
      break;
  }
  return "F32";
}

float bfloat16_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

float float16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent == 0) {  // zero or subnormal: fraction 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide_exponent = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

std::uint16_t float_to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // stays a NaN when cut
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

std::uint16_t float_to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude < 0x1p-14f) {
    // Adding 1/2 puts the last place of a subnormal half (2^-24) at the last place of the float: the
    // processor rounds.
    const float shifted = magnitude + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t positive = bits & 0x7fffffffu;
  const std::uint32_t rounded =
      (positive + 0xfffu + ((positive >> 13) & 1u)) >> 13;  // exponent still biased by 127
  const std::uint32_t half = rounded - ((127 - 15) << 10);
  return static_cast<std::uint16_t>(sign | (half < 0x7c00u ? half : 0x7c00u));
}

void decode(DataType type, std::span<const std::byte> bytes, std::span<float> values) {
  switch (type) {
    case DataType::kFloat32:
      if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size_bytes());
      break;
    case DataType::kBFloat16:
      decode_halves(bytes, values, bfloat16_to_float);
      break;
    case DataType::kFloat16:
      decode_halves(bytes, values, float16_to_float);
      break;
  }
}

void decode(DataType type, std::span<const std::byte> bytes, std::span<std::uint16_t> bfloat16) {
  if (type == DataType::kBFloat16) {
    if (!bfloat16.empty()) std::memcpy(bfloat16.data(), bytes.data(), bfloat16.size_bytes());
    return;
  }
  const std::size_t size = element_size(type);
  for (std::size_t i = 0; i < bfloat16.size(); ++i) {
    float value = 0;
    decode(type, bytes.subspan(i * size, size), std::span(&value, 1));
    bfloat16[i] = float_to_bfloat16(value);
  }
}

void encode(DataType type, std::span<const float> values, std::span<std::byte> bytes) {
  switch (type) {
    case DataType::kFloat32:
      if (!values.empty()) std::memcpy(bytes.data(), values.data(), values.size_bytes());
      break;
    case DataType::kBFloat16:
      encode_halves(values, bytes, float_to_bfloat16);
      break;
    case DataType::kFloat16:
      encode_halves(values, bytes, float_to_float16);
      break;
  }
}

}  // namespace infalign::storage
