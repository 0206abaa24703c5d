// Fixed-point sums on the CPU. Values are checked first and added second, so that a refusal leaves the sum as
// it was.
#include "kernels/reproducible_sum/reproducible_sum.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr double kOne = static_cast<double>(std::int64_t{1} << kFractionBits);

/// The largest magnitude as its bits, among which infinity and then NaN stand above all numbers.
INFALIGN_VECTORISE
std::uint32_t largest_magnitude_bits(std::int64_t n, const float* value) {
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

/// To the nearest integer, even at a tie. (A library's rounding followed by a conversion would become one
/// scalar instruction, and the loop around it would not be vectorised.) What is beyond 2^51 comes from a
/// float, is an integer.
[[gnu::always_inline]] static inline std::int64_t rounded(double x) {
  constexpr double kRounder = 0x1.8p52;
  return static_cast<std::int64_t>(std::abs(x) < 0x1p51 ? (x + kRounder) - kRounder : x);
}

INFALIGN_VECTORISE
void add_rounded(std::int64_t n, const float* value, std::int64_t* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) sum[i] += rounded(static_cast<double>(value[i]) * kOne);
}

INFALIGN_VECTORISE
void convert(std::int64_t n, const std::int64_t* sum, float* value) {
  constexpr float kResolution = static_cast<float>(1 / kOne);  // a power of two: no second rounding
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) value[i] = static_cast<float>(sum[i]) * kResolution;
}

/// Sixteen interleaved partial sums, joined as a tree: the same order, hence the same bits, on every
/// processor. (The square of a float32 is exact in float64, so it does not matter whether a fused
/// multiply-add is used.)
INFALIGN_VECTORISE
double block_sum_of_squares(std::int64_t n, const float* value) {
  constexpr std::int64_t kLanes = 16;
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const double x = value[i + lane];
      lanes[lane] += x * x;
    }
  }
  for (std::int64_t lane = 0; i + lane < n; ++lane) {
    const double x = value[i + lane];
    lanes[lane] += x * x;
  }
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

}  // namespace

void add_fixed_point(const Stream& on, std::int64_t n, std::int64_t terms, const float* value,
                     std::int64_t* sum, std::uint32_t* refused) {
  if (on.device() == Device::kCuda) return on_cuda().add_fixed_point(on, n, terms, value, sum, refused);
  std::atomic<std::uint32_t> largest_bits = 0;
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const std::uint32_t bits = largest_magnitude_bits(end - begin, value + begin);
    std::uint32_t seen = largest_bits;
    while (seen < bits && !largest_bits.compare_exchange_weak(seen, bits)) {
    }
  });
  const double largest = std::bit_cast<float>(largest_bits.load());
  const double limit =
      std::ldexp(1.0, 63 - kFractionBits) / static_cast<double>(std::max<std::int64_t>(terms, 1));
  if (!(largest < limit)) {  // also for NaN
    *refused = 1;
    return;
  }
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    add_rounded(end - begin, value + begin, sum + begin);
  });
}

void add_sums(const Stream& on, std::int64_t n, const std::int64_t* value, std::int64_t* sum) {
  if (on.device() == Device::kCuda) return on_cuda().add_sums(on, n, value, sum);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) sum[i] += value[i];
  });
}

void from_fixed_point(const Stream& on, std::int64_t n, const std::int64_t* sum, float* value) {
  if (on.device() == Device::kCuda) return on_cuda().from_fixed_point(on, n, sum, value);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    convert(end - begin, sum + begin, value + begin);
  });
}

void sum_of_squares(const Stream& on, std::int64_t n, const float* value, double* partial) {
  if (on.device() == Device::kCuda) return on_cuda().sum_of_squares(on, n, value, partial);
  const std::int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
  parallel_for(blocks, kGrain / kSumBlock, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kSumBlock;
      partial[block] = block_sum_of_squares(std::min(kSumBlock, n - begin), value + begin);
    }
  });
}

}  // namespace infalign::kernels
