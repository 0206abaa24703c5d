// Sums of gradients that do not depend on the order or on who adds: float32 values become 64-bit fixed-point
// integers, whose addition is associative. Also the blocked sum of squares behind the gradient norm.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// Fixed point: value = integer / 2^kFractionBits. Resolution 5.7e-14.
inline constexpr int kFractionBits = 44;

/// sum[i] += round(value[i] * 2^44). If a value is not finite or so large that `terms` such values could
/// overflow, sum is left untouched and *refused, of the stream's device, becomes 1; else it stays as it is.
void add_fixed_point(const Stream& on, std::int64_t n, std::int64_t terms, const float* value,
                     std::int64_t* sum, std::uint32_t* refused);

/// sum[i] += value[i], both in fixed point.
void add_sums(const Stream& on, std::int64_t n, const std::int64_t* value, std::int64_t* sum);

/// value[i] = sum[i] / 2^44, rounded to float32.
void from_fixed_point(const Stream& on, std::int64_t n, const std::int64_t* sum, float* value);

/// Elements in a block of `sum_of_squares`. Shards that are to give the same norm begin at multiples of it.
inline constexpr std::int64_t kSumBlock = 1024;

/// partial[b] = sum of value[i]^2 over block b in float64, in a fixed order; partial [ceil(n / kSumBlock)].
void sum_of_squares(const Stream& on, std::int64_t n, const float* value, double* partial);

}  // namespace infalign::kernels
