// The calibrated reward and the pooled sketch where the rewards are: on the device. core/alignment holds the
// same formulas for a host that has rewards of few prompts; a test holds the two together.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// calibrated[i] = (rewards of its prompt below reward[i] + half of those equal to it) / K. sorted [prompts,
/// K], ascending in each row; prompt, reward, calibrated [n]. NaN for a reward that is NaN.
void calibration_lookup(const Stream& on, std::int64_t n, std::int64_t K, const float* sorted,
                        const std::int32_t* prompt, const float* reward, double* calibrated);

/// Buckets of a sketch: the upper 16 bits of a float's ordered key.
inline constexpr std::int64_t kSketchBuckets = 1 << 16;

/// The bucket of a reward that is not NaN: its key (sign, exponent, mantissa, so turned that integers are in
/// the order of floats) rounded to the upper 16 bits.
constexpr std::uint32_t sketch_bucket(std::uint32_t float_bits) {
  const std::uint32_t key = (float_bits & 0x80000000u) != 0 ? ~float_bits : float_bits | 0x80000000u;
  return (key + 0x8000u) >> 16;  // cannot wrap: the largest key is that of infinity
}

/// counts [kSketchBuckets] += 1 in the bucket of each reward [n]; NaN is not counted.
void sketch_counts(const Stream& on, std::int64_t n, const float* reward, std::uint64_t* counts);

}  // namespace infalign::kernels
