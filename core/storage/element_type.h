// The number formats of weights on disk, and their exact relation to float32. Apart from the file format
// because the rounding is worth testing alone: every one of the 65,536 half-precision values, and the ties
// between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/storage/safetensors.h"

namespace infalign::storage {

std::size_t element_size(DataType type);
/// "F32", "BF16", "F16": the names of the safetensors format.
const char* element_name(DataType type);

float bfloat16_to_float(std::uint16_t bits);
float float16_to_float(std::uint16_t bits);
/// Rounded to nearest, ties to even; beyond the format's range: infinity.
std::uint16_t float_to_bfloat16(float value);
std::uint16_t float_to_float16(float value);

/// Little-endian elements of `type` at any alignment -> float32. bytes.size() = values.size() *
/// element_size(type).
void decode(DataType type, std::span<const std::byte> bytes, std::span<float> values);
/// The same as bfloat16, rounded to nearest even.
void decode(DataType type, std::span<const std::byte> bytes, std::span<std::uint16_t> bfloat16);
/// The inverse, rounding to nearest even.
void encode(DataType type, std::span<const float> values, std::span<std::byte> bytes);

}  // namespace infalign::storage
