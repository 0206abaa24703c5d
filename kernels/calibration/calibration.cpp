#include "kernels/calibration/calibration.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/operations.h"

namespace infalign::kernels {

void calibration_lookup(const Stream& on, std::int64_t n, std::int64_t K, const float* sorted,
                        const std::int32_t* prompt, const float* reward, double* calibrated) {
  if (on.device() == Device::kCuda)
    return on_cuda().calibration_lookup(on, n, K, sorted, prompt, reward, calibrated);
  for (std::int64_t i = 0; i < n; ++i) {
    const float* row = sorted + prompt[i] * K;
    const auto below = std::lower_bound(row, row + K, reward[i]) - row;
    const auto up_to = std::upper_bound(row, row + K, reward[i]) - row;
    calibrated[i] =
        std::isnan(reward[i]) ? NAN : static_cast<double>(below + up_to) / (2 * static_cast<double>(K));
  }
}

void sketch_counts(const Stream& on, std::int64_t n, const float* reward, std::uint64_t* counts) {
  if (on.device() == Device::kCuda) return on_cuda().sketch_counts(on, n, reward, counts);
  for (std::int64_t i = 0; i < n; ++i)
    if (!std::isnan(reward[i])) ++counts[sketch_bucket(std::bit_cast<std::uint32_t>(reward[i]))];
}

}  // namespace infalign::kernels
