// Sums and maxima over a warp and over a block, as trees of fixed shape: the same bits whenever they are run.
#pragma once

#include "kernels/cuda/language.h"

namespace infalign::kernels::cuda {

inline constexpr unsigned kWarp = 32, kAllLanes = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Maximum {  // passes over NaN unless both are
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || b != b ? a : b;
  }
};

/// join of the value of all lanes, for all lanes; every lane of the warp calls it.
template <class T, class Join>
__device__ T warp_reduce(T value, Join join) {
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2)
    value = join(value, __shfl_xor_sync(kAllLanes, value, other));
  return value;
}

/// join of the value of all threads, for all threads, of a block of whole warps; `none` joins without effect.
/// `partial` is shared memory for 32 values that no other reduction of the kernel uses.
template <class T, class Join>
__device__ T block_reduce(T value, Join join, T none, T* partial) {
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  value = warp_reduce(value, join);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_reduce(lane < blockDim.x / kWarp ? partial[lane] : none, join);
}

}  // namespace infalign::kernels::cuda
