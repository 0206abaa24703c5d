// Fixed-point sums on a GPU. Bound: memory. 10^9 values on an H100 at 3.0 TB/s: 8.0 ms to add (4 bytes a
// value to check, 20 to add), 8.0 ms to add sums to sums (24), 4.0 ms to convert back (12), 1.3 ms for the
// sums of squares (4). The last keep
// the CPU's order of addition, and so its bits.
#include "kernels/reproducible_sum/reproducible_sum.h"

#include <bit>
#include <cmath>

#include "kernels/cuda/each.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/scratch.h"

namespace infalign::kernels::cuda {
namespace {

constexpr double kOne = static_cast<double>(std::int64_t{1} << kFractionBits);

/// The largest magnitude as its bits, among which infinity and then NaN stand above all numbers. A maximum is
/// the same in any order.
__global__ void __launch_bounds__(kEachThreads)
    largest_magnitude_bits(std::int64_t n, const float* value, unsigned* largest) {
  INFALIGN_SHARED(unsigned, partial, [kWarp]);
  const std::int64_t first = std::int64_t{blockIdx.x} * kEachBlock + threadIdx.x;
  unsigned own = 0;
  for (std::int64_t i = first; i < n && i < first + kEachBlock; i += kEachThreads) {
    const unsigned bits = std::bit_cast<unsigned>(value[i]) & 0x7fffffffu;
    own = bits > own ? bits : own;
  }
  const unsigned of_block = block_reduce(own, Maximum(), 0u, partial);
  if (threadIdx.x == 0) atomicMax(largest, of_block);
}

/// To the nearest integer, even at a tie, as reproducible_sum.cpp does it; nothing where the largest
/// magnitude is not below the limit.
struct AddRounded {
  const float* value;
  const unsigned* largest;  // as bits
  double limit;
  std::int64_t* sum;
  std::uint32_t* refused;
  __device__ void operator()(std::int64_t i) const {
    if (!(static_cast<double>(std::bit_cast<float>(*largest)) < limit)) {  // also for NaN
      if (i == 0) *refused = 1;
      return;
    }
    constexpr double kRounder = 0x1.8p52;
    const double x = static_cast<double>(value[i]) * kOne;
    sum[i] += static_cast<std::int64_t>(fabs(x) < 0x1p51 ? (x + kRounder) - kRounder : x);
  }
};

struct Add {
  const std::int64_t* value;
  std::int64_t* sum;
  __device__ void operator()(std::int64_t i) const { sum[i] += value[i]; }
};

struct Convert {
  const std::int64_t* sum;
  float* value;
  __device__ void operator()(std::int64_t i) const {
    constexpr float kResolution = static_cast<float>(1 / kOne);  // a power of two: no second rounding
    value[i] = static_cast<float>(sum[i]) * kResolution;
  }
};

/// A warp a block of kSumBlock: sixteen interleaved sums by its lower half, joined as a tree.
__global__ void __launch_bounds__(kEachThreads)
    block_sum_of_squares(std::int64_t n, const float* value, double* partial) {
  constexpr std::int64_t kSums = 16;
  const std::int64_t lane = threadIdx.x % kWarp;
  const std::int64_t block = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  const std::int64_t begin = block * kSumBlock;
  if (begin >= n) return;  // the whole warp
  const std::int64_t end = begin + kSumBlock < n ? begin + kSumBlock : n;
  double sum = 0;
  for (std::int64_t i = begin + lane; lane < kSums && i < end; i += kSums) {
    const double x = static_cast<double>(value[i]);
    sum += x * x;
  }
#pragma unroll
  for (unsigned half = kSums / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, half);
  if (lane == 0) partial[block] = sum;
}

}  // namespace

void add_fixed_point(const Stream& on, std::int64_t n, std::int64_t terms, const float* value,
                     std::int64_t* sum, std::uint32_t* refused) {
  const Scratch<unsigned> largest_bits(on, 1);
  kernels::fill_zero(on, 1, largest_bits.data());
  launch(on, largest_magnitude_bits, as_grid(pieces(n, kEachBlock)), kEachThreads, 0, n, value,
         largest_bits.data());
  const double limit = std::ldexp(1.0, 63 - kFractionBits) / static_cast<double>(terms < 1 ? 1 : terms);
  for_each_index(on, n, AddRounded{value, largest_bits.data(), limit, sum, refused});
}

void add_sums(const Stream& on, std::int64_t n, const std::int64_t* value, std::int64_t* sum) {
  for_each_index(on, n, Add{value, sum});
}

void from_fixed_point(const Stream& on, std::int64_t n, const std::int64_t* sum, float* value) {
  for_each_index(on, n, Convert{sum, value});
}

void sum_of_squares(const Stream& on, std::int64_t n, const float* value, double* partial) {
  launch(on, block_sum_of_squares, as_grid(pieces(pieces(n, kSumBlock) * kWarp, kEachThreads)), kEachThreads,
         0, n, value, partial);
}

}  // namespace infalign::kernels::cuda
